//! Recordings in codecs that browsers refuse, as uncompressed WAV.
//!
//! [`layout`] knows what a recording becomes and how each octet of that follows from the file, so that sizes and ranges
//! are exact before anything is decoded. [`gsm`] is a decoder; that of G.711 is a library's. Only [`decoding`] reads.

pub mod decoding;
pub mod gsm;
pub mod layout;
pub mod snapshots;
