//! Checks the settings of the limits.

use std::fmt::Display;

use bytesize::ByteSize;

use super::{ConfigError, invalid};
use crate::{
    app::config::settings::ServeArgs,
    limits::settings::{LimitsConfig, SiteMaximum},
};

/// The smallest memory budget for running downloads: that of one tunnel.
const MIN_MEMORY_BUDGET: u64 = audiovault_protocol::limits::TUNNEL_WINDOW_BUDGET;

pub(super) fn check(args: &ServeArgs) -> Result<LimitsConfig, ConfigError> {
    let default = LimitsConfig::default();
    Ok(LimitsConfig {
        max_connections: count("--max-connections", &args.max_connections, default.max_connections)?,
        max_client_connections: count(
            "--max-client-connections",
            &args.max_client_connections,
            default.max_client_connections,
        )?,
        max_client_requests: count(
            "--max-client-requests",
            &args.max_client_requests,
            default.max_client_requests,
        )?,
        max_site_requests: count("--max-site-requests", &args.max_site_requests, default.max_site_requests)?,
        site_maximum: SiteMaximum {
            tunnels: count("--max-site-tunnels", &args.max_site_tunnels, default.site_maximum.tunnels)?,
            agents: count("--max-site-agents", &args.max_site_agents, default.site_maximum.agents)?,
        },
        memory_budget: memory(&args.memory_budget, default.memory_budget)?,
        accept_rate: count("--accept-rate", &args.accept_rate, default.accept_rate)?,
    })
}

fn count(flag: &'static str, given: &Option<String>, default: u32) -> Result<u32, ConfigError> {
    let Some(text) = given else { return Ok(default) };
    let wrong = |reason: &dyn Display| invalid(flag, text, &format!("expected a number from 1: {reason}"));
    match text.trim().parse() {
        Ok(0) => Err(wrong(&"0 would refuse everything")),
        Ok(number) => Ok(number),
        Err(error) => Err(wrong(&error)),
    }
}

fn memory(given: &Option<String>, default: u64) -> Result<u64, ConfigError> {
    let Some(text) = given else { return Ok(default) };
    let wrong = |reason: &str| {
        invalid("--memory-budget", text, &format!("expected a size such as 512MiB or 2GiB: {reason}"))
    };
    let ByteSize(bytes) = text.trim().parse().map_err(|error: String| wrong(&error))?;
    if bytes < MIN_MEMORY_BUDGET {
        return Err(wrong(&format!("one tunnel alone needs {}", ByteSize(MIN_MEMORY_BUDGET))));
    }
    Ok(bytes)
}
