//! Limits for one client, for one site, and for all clients together.
//!
//! The overload or the mistake of one must not affect the others. A request over a limit gets its response at
//! once: 429 if the client can do something about it, 503 if not.

mod admission;
mod held;
mod logins;
mod news;
mod requests;
pub mod settings;
mod throttle;

pub(crate) use self::held::hold;
pub use self::{
    admission::Admissions,
    logins::{LoginAttempt, LoginThrottle},
    news::News,
    requests::{Busy, RequestLimits, SiteSlot, UnderWay},
    throttle::{Guess, SiteThrottle, Subject, Throttle, ThrottleTotals, Throttled, Trial},
};

pub use audiovault_protocol::admission::{
    slots::{Slot, Slots},
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
pub struct LimitsTold {
    attempts: News<Subject>,
    logins: News<LoginAttempt>,
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
    pub fn tell(&self, question: &LimitsQuestion) -> LimitsTold {
        LimitsTold {
            attempts: self.throttle.tell(question.attempts),
            logins: self.logins.tell(question.logins),
            under_way: self.requests.tell(),
        }
    }

    /// Counts attempts at a peer relay. Returns the next question to it, and the requests that are under way
    /// there. The answer arrives up to a second late; until then each relay admits what it would admit alone.
    pub fn hear(&self, told: LimitsTold) -> (LimitsQuestion, UnderWay) {
        let LimitsTold { attempts, logins, under_way } = told;
        let question = LimitsQuestion { attempts: Some(attempts.number), logins: Some(logins.number) };
        let now = Instant::now();
        attempts.items.into_iter().for_each(|subject| self.throttle.hear(&subject, now));
        logins.items.iter().for_each(|attempt| self.logins.hear(attempt));
        (question, under_way)
    }

    /// Counts the requests that are under way at all peer relays.
    pub fn hear_under_way<'a>(&self, all: impl Iterator<Item = &'a UnderWay>) {
        self.requests.hear(all);
    }
}
