//! Limits for one client, for one site, and for all clients together.
//!
//! The overload or the mistake of one must not affect the others. A request over a limit gets its response at
//! once: 429 if the client can do something about it, 503 if not.

mod admission;
mod change_log;
mod guarded_response;
mod logins;
mod requests;
pub mod settings;
mod throttle;

pub(crate) use self::guarded_response::hold;
pub use self::{
    admission::Admissions,
    change_log::Changes,
    logins::{LoginAttempt, LoginThrottle},
    requests::{Busy, RequestLimits, SitePermit, UnderWay},
    throttle::{Guess, SiteThrottle, Subject, Throttle, ThrottleTotals, Throttled, Trial},
};

pub use audiovault_protocol::admission::{
    semaphore::{KeyedSemaphore, Permit},
    throttle::ClientKey,
};

use std::time::Instant;

use serde::{Deserialize, Serialize};

use self::settings::LimitsConfig;

/// The question to a peer relay: what has happened there that counts here too?
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsQuestion {
    /// The number of the last wrong attempt that this relay knows of, if it knows one.
    attempts: Option<u64>,
    /// The number of the last attempt to log in that this relay knows of, if it knows one.
    logins: Option<u64>,
}

/// What counts at all relays, regardless of the relay at which it happens.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsReport {
    attempts: Changes<Subject>,
    logins: Changes<LoginAttempt>,
    under_way: UnderWay,
}

/// The limits of one relay.
#[derive(Debug)]
pub struct Limits {
    /// Requests under way.
    pub requests: RequestLimits,
    /// Wrong search tokens, site keys and enrolment codes.
    pub throttle: Throttle,
    /// Attempts to log in.
    pub logins: LoginThrottle,
    /// New tunnels.
    pub admissions: Admissions,
}

impl Limits {
    /// Limits with nothing under way yet.
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            requests: RequestLimits::new(config.max_client_requests, config.max_site_requests),
            throttle: Throttle::default(),
            logins: LoginThrottle::default(),
            admissions: Admissions::new(config.accept_rate),
        }
    }

    /// The answer to a peer relay's question.
    pub fn report(&self, question: &LimitsQuestion) -> LimitsReport {
        LimitsReport {
            attempts: self.throttle.report(question.attempts),
            logins: self.logins.report(question.logins),
            under_way: self.requests.report(),
        }
    }

    /// Counts attempts at a peer relay. Returns the next question to it, and the requests that are under way
    /// there. The answer arrives up to a second late; until then each relay admits what it would admit alone.
    pub fn apply(&self, report: LimitsReport) -> (LimitsQuestion, UnderWay) {
        let LimitsReport { attempts, logins, under_way } = report;
        let question = LimitsQuestion { attempts: Some(attempts.number), logins: Some(logins.number) };
        let now = Instant::now();
        attempts.items.into_iter().for_each(|subject| self.throttle.apply(&subject, now));
        logins.items.iter().for_each(|attempt| self.logins.apply(attempt));
        (question, under_way)
    }

    /// Counts the requests that are under way at all peer relays.
    pub fn apply_under_way<'a>(&self, all: impl Iterator<Item = &'a UnderWay>) {
        self.requests.apply(all);
    }
}
