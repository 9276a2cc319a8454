//! What one client, one site and all together may have of the relay, so that nobody's greed or mistake is felt by
//! anybody else. Over a limit a request is answered at once: 429 where the client can help it, 503 where not.

mod client_key;
mod held;
mod ramp;
mod requests;
mod slots;
mod throttle;

pub(crate) use self::held::HeldBody;
pub use self::{
    client_key::ClientKey,
    ramp::AcceptRamp,
    requests::{Busy, RequestLimits, SiteSlot},
    slots::{Slot, Slots},
    throttle::{SiteThrottle, Subject, Throttle, ThrottleTotals, Throttled, Trial},
};

use crate::config::LimitsConfig;

/// The limits of the public side of one relay.
#[derive(Debug)]
pub struct Limits {
    /// Requests under way.
    pub requests: RequestLimits,
    /// Wrong search tokens, site keys and enrolment codes.
    pub throttle: Throttle,
    /// New tunnels.
    pub ramp: AcceptRamp,
}

impl Limits {
    /// Limits with nothing under way yet.
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            requests: RequestLimits::new(config.max_client_requests, config.max_site_requests),
            throttle: Throttle::default(),
            ramp: AcceptRamp::new(config.accept_rate),
        }
    }
}
