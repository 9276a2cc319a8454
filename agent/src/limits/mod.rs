//! What the agent takes of its machine at most: the PBX beside it comes first.

mod pacer;
pub mod process;
mod rate;
mod schedule;

pub use self::{
    pacer::{Paced, Pacer},
    rate::{Rate, RateError},
    schedule::{Schedule, ScheduleError},
};
