//! The AudioVault agent: finds call recordings on this machine's disks and serves them.

pub mod tunnel;
