//! The flags that limit what the agent takes of its machine and its uplink.

use audiovault_common::advice::Warning;
use clap::Args;
use jiff::tz::TimeZone;

use crate::{
    limits::{Schedule, ScheduleError, room_for_streams},
    tunnel::DEFAULT_MAX_STREAMS,
};

/// Default niceness: other programs that want the processor get it nine times out of ten.
const DEFAULT_NICE: i32 = 10;

/// Flags that keep the agent from being in the way.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Maximum number of searches and downloads served at the same time, over all tunnels; each takes up to 1 MiB of
    /// memory
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_STREAMS, value_parser = clap::value_parser!(u32).range(1..=4096), help_heading = "Limits")]
    pub max_streams: u32,
    /// Maximum rate of all downloads together, such as 2Mbit, or with times, 1Mbit@Mon-Fri@08:00-18:00. Can be
    /// repeated: the first one that applies now is used [default: no limit]
    #[arg(long, value_name = "RATE[@DAYS][@HOURS]", help_heading = "Limits")]
    pub max_rate: Vec<String>,
    /// Niceness of the process, so that calls have priority; 0 is normal priority
    #[arg(long, value_name = "N", default_value_t = DEFAULT_NICE, value_parser = clap::value_parser!(i32).range(0..=19), help_heading = "Limits")]
    pub nice: i32,
}

/// What to do if this process may open too few files.
pub(super) const RAISE_THE_LIMIT: &str = "raise LimitNOFILE in its unit, or ulimit -n";

/// The schedule of rates, in the time zone of the site.
pub(super) fn max_rate(args: &LimitArgs, zone: &TimeZone) -> Result<Schedule, ScheduleError> {
    Schedule::parse(args.max_rate.iter().map(String::as_str), zone.clone())
}

/// The largest number of streams: as configured, but no more than this process may open files for.
pub(super) fn max_streams(args: &LimitArgs, warnings: &mut Vec<Warning>) -> u32 {
    let room = room_for_streams();
    if room < args.max_streams {
        warnings.push(Warning::new(
            format!(
                "this process can open enough files for only {room} streams, but --max-streams is {}",
                args.max_streams
            ),
            RAISE_THE_LIMIT,
        ));
    }
    args.max_streams.min(room)
}
