//! The collectors of metrics: of the sites, the tunnels, and the writing of audit log and history, read from the
//! board's snapshot; of the process, under the names that every exporter uses; of public connections and of refused
//! credentials.

use std::fmt;

use audiovault_protocol::identity::site::SiteId;
use procfs::{WithCurrentSystemInfo, boot_time_secs, process::Process};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::Sources;
use crate::{
    monitoring::board::{Row, SiteState, Snapshot, Totals},
    store::Traffic,
};

const LABEL: &str = "site";

#[derive(Debug)]
pub(super) struct SitesCollector(pub(super) Sources);

impl Collector for SitesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.0.snapshots.borrow().clone();
        states(&mut encoder, &snapshot)?;
        let counters = self.0.sessions.all_counters().into_iter();
        let totals: Vec<_> = counters.map(|(site, counters)| (site, counters.totals())).collect();
        self.sums(&mut encoder, &totals)?;
        self.health(&mut encoder, &snapshot)?;
        if !self.0.per_site {
            return Ok(());
        }
        each_state(&mut encoder, &snapshot)?;
        each_counter(&mut encoder, &totals)
    }
}

fn states(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    let totals = Totals::of(snapshot.rows.iter().map(|row| &row.view));
    let states = [
        (SiteState::Up, totals.up),
        (SiteState::Degraded, totals.degraded),
        (SiteState::Down, totals.down),
        (SiteState::NeverSeen, totals.never_seen),
        (SiteState::Disabled, totals.disabled),
    ];
    let values = states.iter().map(|(state, count)| (state.as_str(), gauge(*count as f64)));
    each(encoder, Descriptor::new("sites", "Sites by state", None), "state", values)
}

impl SitesCollector {
    fn sums(&self, encoder: &mut DescriptorEncoder<'_>, totals: &[(SiteId, Traffic)]) -> fmt::Result {
        let sum = |of: fn(&Traffic) -> u64| totals.iter().map(|(_, traffic)| of(traffic)).sum::<u64>();
        let searches = sum(|traffic| traffic.searches);
        let errors = sum(|traffic| traffic.errors);
        let bytes = sum(|traffic| traffic.bytes);
        // Of this relay only, even if several share a database: the sum over all relays is the total.
        let tunnels = gauge(self.0.sessions.count() as f64);
        one(encoder, Descriptor::new("tunnels", "Connected tunnels", None), &tunnels)?;
        one(encoder, Descriptor::new("searches", "Searches", None), &counter(searches))?;
        let help = "Requests that ended in a server error";
        one(encoder, Descriptor::new("errors", help, None), &counter(errors))?;
        let help = "Bytes of recordings delivered";
        one(encoder, Descriptor::new("delivered", help, Some(Unit::Bytes)), &counter(bytes))
    }

    fn health(&self, encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
        let health = self.0.journal.health();
        let yes = |yes: bool| gauge(f64::from(u8::from(yes)));
        let help = "Whether the database answers";
        one(encoder, Descriptor::new("database_up", help, None), &yes(snapshot.relay.database))?;
        let help = "Whether the audit log and history can be written";
        one(encoder, Descriptor::new("journal_up", help, None), &yes(health.is_well()))?;
        let help = "Entries of the audit log and history that wait to be written";
        one(encoder, Descriptor::new("journal_waiting", help, None), &gauge(health.waiting as f64))?;
        let help = "Entries of the audit log and history that were lost";
        one(encoder, Descriptor::new("journal_lost", help, None), &counter(health.lost))
    }
}

fn each_state(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    let seconds = Some(Unit::Seconds);
    let of = |value: fn(&Row) -> Option<f64>| {
        snapshot.rows.iter().filter_map(move |row| Some((row.view.site.as_str(), gauge(value(row)?))))
    };
    let help = "Whether an agent of the site is connected";
    let value = |row: &Row| Some(f64::from(u8::from(!row.view.agents.is_empty())));
    each(encoder, Descriptor::new("site_up", help, None), LABEL, of(value))?;
    let help = "Whether all storage roots of the site can be read";
    let value = |row: &Row| row.view.recordings.as_ref().map(|found| f64::from(u8::from(found.readable)));
    each(encoder, Descriptor::new("site_recordings_readable", help, None), LABEL, of(value))?;
    let help = "Time of the last write to the newest recording of the site, since the Unix epoch";
    let value = |row: &Row| Some(row.view.recordings.as_ref()?.newest?.as_second() as f64);
    let descriptor = Descriptor::new("site_newest_recording_timestamp", help, seconds.clone());
    each(encoder, descriptor, LABEL, of(value))?;
    let help = "Latest round-trip time to the site's agent";
    let value = |row: &Row| row.view.rtt_ms.map(|ms| ms / 1000.0);
    each(encoder, Descriptor::new("site_round_trip", help, seconds), LABEL, of(value))?;
    let help = "Requests that the site is processing now";
    let value = |row: &Row| Some(row.view.open_streams as f64);
    each(encoder, Descriptor::new("site_open_streams", help, None), LABEL, of(value))
}

fn each_counter(encoder: &mut DescriptorEncoder<'_>, totals: &[(SiteId, Traffic)]) -> fmt::Result {
    let searches = totals.iter().map(|(site, totals)| (site.as_str(), counter(totals.searches)));
    each(encoder, Descriptor::new("site_searches", "Searches of the site", None), LABEL, searches)?;
    let errors = totals.iter().map(|(site, totals)| (site.as_str(), counter(totals.errors)));
    let help = "Requests to the site that ended in a server error";
    each(encoder, Descriptor::new("site_errors", help, None), LABEL, errors)?;
    let bytes = totals.iter().map(|(site, totals)| (site.as_str(), counter(totals.bytes)));
    let help = "Bytes of the site's recordings delivered";
    each(encoder, Descriptor::new("site_delivered", help, Some(Unit::Bytes)), LABEL, bytes)
}

/// The name, help text and unit of a metric.
struct Descriptor {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
}

impl Descriptor {
    fn new(name: &'static str, help: &'static str, unit: Option<Unit>) -> Self {
        Self { name, help, unit }
    }
}

fn gauge(value: f64) -> ConstGauge<f64> {
    ConstGauge::new(value)
}

fn counter(value: u64) -> ConstCounter<u64> {
    ConstCounter::new(value)
}

/// Encodes a metric with a single value.
fn one(
    encoder: &mut DescriptorEncoder<'_>,
    descriptor: Descriptor,
    value: &impl EncodeMetric,
) -> fmt::Result {
    let Descriptor { name, help, unit } = descriptor;
    value.encode(encoder.encode_descriptor(name, help, unit.as_ref(), value.metric_type())?)
}

/// Encodes a metric with a value for each value of a label.
fn each<'l, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    descriptor: Descriptor,
    label: &str,
    values: impl Iterator<Item = (&'l str, M)>,
) -> fmt::Result {
    let mut values = values.peekable();
    let Some((_, first)) = values.peek() else { return Ok(()) };
    let kind = first.metric_type();
    let Descriptor { name, help, unit } = descriptor;
    let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
    for (of, value) in values {
        value.encode(metric.encode_family(&[(label, of)])?)?;
    }
    Ok(())
}

#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // If the kernel does not give the figures, they are left out.
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let resident = stat.rss_bytes().get() as f64;
            let descriptor = Descriptor::new("process_resident_memory", "Resident memory", Some(Unit::Bytes));
            one(&mut encoder, descriptor, &gauge(resident))?;
            let seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
            let descriptor = Descriptor::new("process_cpu", "Processor time", Some(Unit::Seconds));
            one(&mut encoder, descriptor, &ConstCounter::new(seconds))?;
            if let Ok(booted) = boot_time_secs() {
                let started = booted as f64 + stat.starttime as f64 / procfs::ticks_per_second() as f64;
                let descriptor = Descriptor::new(
                    "process_start_time",
                    "Start time since the Unix epoch",
                    Some(Unit::Seconds),
                );
                one(&mut encoder, descriptor, &gauge(started))?;
            }
        }
        if let Ok(open) = process.fd_count() {
            one(
                &mut encoder,
                Descriptor::new("process_open_fds", "Open file descriptors", None),
                &gauge(open as f64),
            )?;
        }
        if let Ok(limits) = process.limits()
            && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            one(
                &mut encoder,
                Descriptor::new("process_max_fds", "Maximum open file descriptors", None),
                &gauge(most as f64),
            )?;
        }
        Ok(())
    }
}

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
