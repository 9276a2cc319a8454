//! Limits on the texts and lists that an agent sends about itself, as a relay keeps them.
//!
//! A frame limits their sum ([`crate::limits::MAX_HEAD_LEN`]), but thousands of short texts cost far more memory than
//! their bytes, and one long text is written to a database and shown on pages.
//!
//! A longer text or list is cut and kept, not refused: a newer agent may have more to say.

use super::{Hello, Status};

/// Longest version of an agent in bytes: a semantic version with build metadata.
pub const MAX_VERSION_LEN: usize = 64;
/// Longest `instance` in bytes: the 16 digits of this version, and as many again for a later one.
pub const MAX_INSTANCE_LEN: usize = 32;
/// Longest host name in bytes: a DNS name in text form (RFC 1035, section 2.3.4: 255, less the two bytes of the wire
/// format).
pub const MAX_HOST_LEN: usize = 253;
/// Longest description of an operating system in bytes: its name, version and architecture.
pub const MAX_OS_LEN: usize = 64;
/// Longest name of a tenant in bytes: twice the longest DNS label, because FusionPBX uses DNS names for tenants.
pub const MAX_TENANT_LEN: usize = 128;
/// Most bytes of all tenant names together, with one more for each: five hundred domains.
pub const MAX_TENANTS_LEN: usize = 16 * 1024;
/// Most storage drivers: a site has a handful. Unreadable ones are kept first.
pub const MAX_DRIVERS: usize = 32;
/// Longest pattern of a storage driver in bytes: two lines of a page.
pub const MAX_PATTERN_LEN: usize = 256;
/// Longest description of a storage driver's problem in bytes: two lines of a page.
pub const MAX_PROBLEM_LEN: usize = 256;

impl Hello {
    /// Cuts texts and lists to their limits, and releases the memory of the rest.
    pub fn bound(&mut self) {
        cut(&mut self.agent_version, MAX_VERSION_LEN);
        cut(&mut self.instance, MAX_INSTANCE_LEN);
        cut(&mut self.host, MAX_HOST_LEN);
        cut(&mut self.os, MAX_OS_LEN);
        // A name that is cut would be the name of another tenant, so a long one is dropped.
        self.tenants.retain(|tenant| (1..=MAX_TENANT_LEN).contains(&tenant.len()));
        let mut left = MAX_TENANTS_LEN;
        let kept = self.tenants.iter().take_while(|tenant| {
            let fits = tenant.len() < left;
            left = left.saturating_sub(tenant.len() + 1);
            fits
        });
        let kept = kept.count();
        self.tenants.truncate(kept);
        self.tenants.shrink_to_fit();
        if self.stated_token_fields().is_none() {
            self.token_fields = Vec::new();
        }
    }
}

impl Status {
    /// Cuts texts and lists to their limits, and releases the memory of the rest.
    pub fn bound(&mut self) {
        if self.drivers.len() > MAX_DRIVERS {
            // The sort is stable, so that the others stay in the order of search.
            self.drivers.sort_by_key(|driver| driver.readable);
            self.drivers.truncate(MAX_DRIVERS);
        }
        for driver in &mut self.drivers {
            cut(&mut driver.pattern, MAX_PATTERN_LEN);
            if let Some(problem) = &mut driver.problem {
                cut(problem, MAX_PROBLEM_LEN);
            }
        }
        self.drivers.shrink_to_fit();
        self.problems.truncate(super::MAX_STATUS_PROBLEMS);
        for problem in &mut self.problems {
            cut(problem, super::MAX_STATUS_PROBLEM_LEN);
        }
        self.problems.shrink_to_fit();
    }
}

/// Cuts a text to at most this many bytes, at a character boundary.
fn cut(text: &mut String, len: usize) {
    text.truncate(text.floor_char_boundary(len));
    text.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{identity::signed_link::LinkKeyId, message::DriverStatus};

    fn hello() -> Hello {
        Hello {
            agent_version: "1.2.3".to_owned(),
            instance: "00112233445566aa".to_owned(),
            slot: 0,
            link_key_id: LinkKeyId::try_from("00112233445566aa".to_owned()).unwrap(),
            host: "pbx.example.com".to_owned(),
            os: "linux x86_64".to_owned(),
            started_at: 0,
            tenants: vec!["acme".to_owned(), "beta".to_owned()],
            max_streams: 256,
            drains: false,
            token_fields: vec!["token".to_owned()],
        }
    }

    #[test]
    fn what_an_honest_agent_says_stays_as_it_is() {
        let mut bounded = hello();
        bounded.bound();
        assert_eq!(bounded, hello());
    }

    #[test]
    fn no_text_and_no_list_is_longer_than_its_bound() {
        let long = "ñ".repeat(10_000);
        let mut bounded = Hello {
            agent_version: long.clone(),
            instance: long.clone(),
            host: long.clone(),
            os: long.clone(),
            tenants: vec![long.clone(), String::new(), "acme".to_owned()],
            token_fields: vec![long],
            ..hello()
        };
        bounded.bound();
        assert_eq!(
            (bounded.agent_version.len(), bounded.instance.len()),
            (MAX_VERSION_LEN, MAX_INSTANCE_LEN)
        );
        assert_eq!(
            (bounded.host.len(), bounded.os.len()),
            (MAX_HOST_LEN - 1, MAX_OS_LEN),
            "no half of a character"
        );
        assert_eq!(bounded.tenants, ["acme"]);
        assert!(bounded.token_fields.is_empty());
        let mut many = Hello { tenants: (0..10_000).map(|n| n.to_string()).collect(), ..hello() };
        many.bound();
        let len: usize = many.tenants.iter().map(|tenant| tenant.len() + 1).sum();
        assert!((MAX_TENANTS_LEN - 16..=MAX_TENANTS_LEN).contains(&len), "{len}");
    }

    #[test]
    fn of_many_drivers_those_with_problems_are_kept() {
        let long = "x".repeat(10_000);
        let driver = |readable| DriverStatus {
            pattern: long.clone(),
            readable,
            problem: (!readable).then(|| long.clone()),
            ..DriverStatus::default()
        };
        let mut drivers = vec![driver(true); 100];
        drivers.push(driver(false));
        let mut status = Status { drivers, problems: vec![long.clone(); 10] };
        status.bound();
        assert_eq!((status.drivers.len(), status.drivers[0].readable), (MAX_DRIVERS, false));
        let lens = status
            .drivers
            .iter()
            .map(|driver| driver.pattern.len().max(driver.problem.as_ref().map_or(0, String::len)));
        assert_eq!(lens.max(), Some(MAX_PATTERN_LEN.max(MAX_PROBLEM_LEN)));
        assert_eq!(status.problems.len(), crate::message::MAX_STATUS_PROBLEMS);
    }
}
