//! The AudioVault agent: finds call recordings on this machine's disks and serves them.

#[cfg(test)]
mod testing;
pub mod tunnel;
pub mod vault;
