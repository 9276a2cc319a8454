//! Decodes recordings in codecs that browsers do not play to uncompressed WAV.
//!
//! [`audiovault_agent_core::layout`] computes what a recording becomes and where each byte comes from, so that sizes and
//! ranges are exact before anything is decoded. [`snapshots`] holds decoder states from which later downloads continue.
//! Only `http::decoding` reads files.

pub mod snapshots;
