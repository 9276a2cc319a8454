//! Tests of the pure multiplexers: a pair with simulated time, and one side against a broken peer.

#![expect(clippy::unwrap_used, reason = "a failed assumption of a test is a failed test")]

mod bounds;
mod pair;
mod progress;
mod sides;
mod violations;
