//! The sites that this relay serves: their directory, keys, and enrolment codes.

pub mod directory;
pub mod provisioning;
pub mod queuemetrics;
