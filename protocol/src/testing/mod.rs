//! For tests: strategies that make frames, a simulated pair with its own clock, and a simulation of faults.

mod any_mux;
pub mod frames;
pub mod pair;
pub mod simulation;

pub use any_mux::AnyMux;

use std::{sync::OnceLock, time::Instant};

/// A fixed moment from which simulated clocks count.
pub fn start_of_time() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other origin; what counts are differences"
    )]
    *START.get_or_init(Instant::now)
}
