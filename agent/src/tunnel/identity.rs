//! The identity of this run of the agent, as it is sent in HELLO.

use std::time::{SystemTime, UNIX_EPOCH};

use audiovault_protocol::message::Hello;
use data_encoding::HEXLOWER;

use super::TunnelConfig;
use crate::http::AgentService;

/// The fields that are the same in every HELLO of one run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    instance: String,
    host: String,
    started_at: u64,
}

impl Run {
    pub(crate) fn begin() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            instance: HEXLOWER.encode(&rand::random::<[u8; 8]>()),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            started_at: started.as_secs(),
        }
    }

    pub(crate) fn hello(&self, slot: u16, config: &TunnelConfig, service: &AgentService) -> Hello {
        Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance.clone(),
            slot,
            link_key_id: service.link_key_id(),
            host: self.host.clone(),
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            started_at: self.started_at,
            tenants: service.tenants(),
            max_streams: config.streams_each(),
            drains: false,
            token_fields: service.token_fields(),
        }
    }
}
