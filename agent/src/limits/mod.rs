//! The agent's limits on the resources of its machine: the PBX on the same machine comes first.

mod pacer;
pub mod process;
mod rate;
mod schedule;
pub mod throttle;

pub use self::{
    pacer::{Paced, Pacer},
    rate::{Rate, RateError},
    schedule::{Schedule, ScheduleError},
};
