//! Decodes recordings in codecs that browsers do not play to uncompressed WAV.
//!
//! [`audiovault_agent_core::layout`] computes what a recording becomes and where each byte comes from, so that sizes and
//! ranges are exact before anything is decoded. [`decoding`] reads the file. It decodes with
//! [`audiovault_agent_core::gsm`], or with a library for G.711. [`snapshots`] holds decoder states from which later
//! downloads continue.

pub mod decoding;
pub mod snapshots;
