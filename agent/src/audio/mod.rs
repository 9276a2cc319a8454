//! Decodes recordings in codecs that browsers do not play to uncompressed WAV.
//!
//! [`layout`] computes what a recording becomes and where each byte comes from, so that sizes and ranges are exact
//! before anything is decoded. [`gsm`] is a decoder; the one for G.711 comes from a library. Only `http::decoding` reads
//! files.

pub mod gsm;
pub mod layout;
pub mod snapshots;
pub mod wav;
