//! What one client, one site and all together may have of the relay, so that nobody's greed or mistake is felt by
//! anybody else. Over a limit a request is answered at once: 429 where the client can help it, 503 where not.

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

pub use audiovault_protocol::{
    slots::{Slot, Slots},
    throttle::ClientKey,
};

use std::time::Instant;

use serde::{Deserialize, Serialize};

use self::settings::LimitsConfig;

/// Asks another relay for what counts here too.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsQuestion {
    /// The number of wrong attempts that is known, once one is.
    attempts: Option<u64>,
    /// That of attempts to log in.
    logins: Option<u64>,
}

/// What counts at all relays, wherever it happens.
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

    /// Tells another relay what counts there too.
    pub fn tell(&self, question: &LimitsQuestion) -> LimitsTold {
        LimitsTold {
            attempts: self.throttle.tell(question.attempts),
            logins: self.logins.tell(question.logins),
            under_way: self.requests.tell(),
        }
    }

    /// Counts attempts that another relay told of; what to ask it for next, and what it has under way. What is told arrives a
    /// second late: so long each relay lets in what it alone would.
    pub fn hear(&self, told: LimitsTold) -> (LimitsQuestion, UnderWay) {
        let LimitsTold { attempts, logins, under_way } = told;
        let question = LimitsQuestion { attempts: Some(attempts.number), logins: Some(logins.number) };
        let now = Instant::now();
        attempts.items.into_iter().for_each(|subject| self.throttle.hear(&subject, now));
        logins.items.iter().for_each(|attempt| self.logins.hear(attempt));
        (question, under_way)
    }

    /// Counts the requests that are under way at all others.
    pub fn hear_under_way<'a>(&self, all: impl Iterator<Item = &'a UnderWay>) {
        self.requests.hear(all);
    }
}
