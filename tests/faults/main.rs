//! Tests of faults: each test causes a real fault, states what is promised and measures the result. `tests/run`
//! prints the matrix.

#![expect(clippy::unwrap_used, reason = "a failed assumption of a test is a failed test")]

mod admission;
mod classic;
mod clock;
mod cluster;
mod cluster_database;
mod cluster_limits;
mod cluster_proofs;
mod cluster_tls;
mod download;
mod hostile_agent;
mod hostile_relay;
mod line;
mod load;
mod names;
mod operators_door;
mod paths;
mod programs;
mod proxy;
mod recordings;
mod restart;
mod setting;
mod stalled;
mod store;
mod storm;
mod trust;
mod versions;
mod wire;
