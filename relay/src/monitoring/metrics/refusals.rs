//! Metrics of public connections and of refused credentials.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{
    Sources,
    sites::{Descriptor, counter, each, gauge, one},
};

#[derive(Debug)]
pub(super) struct RefusalsCollector(pub(super) Sources);

impl Collector for RefusalsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let open = self.0.gate.open();
        let refused = self.0.gate.refused();
        one(encoder, Descriptor::new("connections", "Open public connections", None), &gauge(open.into()))?;
        let help = "Public connections refused because of a limit";
        one(encoder, Descriptor::new("connections_refused", help, None), &counter(refused.into()))?;
        let totals = self.0.limits.throttle.totals();
        let reasons = [
            ("wrong_token", totals.wrong_tokens),
            ("wrong_key", totals.wrong_keys),
            ("wrong_code", totals.wrong_codes),
            ("forged_link", totals.wrong_links),
            ("unknown_site", totals.unknown_sites),
            ("throttled", totals.throttled),
        ];
        let help = "Searches, tunnels and enrolments refused because of their credentials";
        let values = reasons.into_iter().map(|(reason, count)| (reason, counter(count)));
        each(encoder, Descriptor::new("refused_credentials", help, None), "reason", values)
    }
}
