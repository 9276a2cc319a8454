//! How this run of the agent introduces itself.

use std::time::{SystemTime, UNIX_EPOCH};

use audiovault_protocol::{limits::MAX_STREAMS, message::Hello};
use data_encoding::HEXLOWER;

use super::TunnelConfig;

/// What stays the same in every HELLO of one run.
#[derive(Debug)]
pub(super) struct Identity(Hello);

impl Identity {
    pub(super) fn new(config: &TunnelConfig) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: HEXLOWER.encode(&rand::random::<[u8; 8]>()),
            slot: 0,
            link_key_id: config.link_key_id,
            host: host_name(),
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            started_at: started.as_secs(),
            tenants: config.tenants.clone(),
            max_streams: u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn hello(&self) -> Hello {
        self.0.clone()
    }
}

/// The machine's name as the kernel knows it, or nothing where it cannot be read.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
