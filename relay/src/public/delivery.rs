//! What is noted about the body of a response on its way from the tunnel to the client.

use std::sync::{Arc, atomic::Ordering};

use audiovault_common::observed_body::BodyObserver;
use audiovault_protocol::link::BodyError;

use crate::{
    audit::journal::{Delivery, DeliveryEnd},
    tunnel::registry::SiteCounters,
};

/// Counts the bytes of a delivery, and tells the audit log how it ends.
#[derive(Debug)]
pub(super) struct DeliveryProgress {
    /// The site, for the log.
    pub(super) site: String,
    /// Where the bytes are counted.
    pub(super) counters: Arc<SiteCounters>,
    /// The delivery in the audit log; `None` if the response is not a recording.
    pub(super) delivery: Option<Delivery>,
}

impl DeliveryProgress {
    fn ended(&self, end: DeliveryEnd) {
        if let Some(delivery) = &self.delivery {
            delivery.ended(end);
        }
    }
}

impl BodyObserver<BodyError> for DeliveryProgress {
    fn passed(&mut self, bytes: u64) {
        let Some(delivery) = &self.delivery else { return };
        self.counters.bytes_delivered.fetch_add(bytes, Ordering::Relaxed);
        delivery.handed_over(bytes);
    }

    fn completed(&mut self) {
        self.ended(DeliveryEnd::Complete);
    }

    fn failed(&mut self, error: &BodyError) {
        tracing::warn!(
            site = self.site,
            %error,
            code = "download.cut",
            "a response body was cut"
        );
        self.ended(DeliveryEnd::Cut);
    }
}
