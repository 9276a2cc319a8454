//! The tables: every number is the median of the rounds, and every ratio is the median of the ratios of the rounds.

use std::{fmt::Write, thread::available_parallelism};

use harness::median::median;

use crate::shared::{
    LISTENERS, MANY, Pass, RELAYS, Run, SEARCHERS, SITES, Scale,
    database::{Costs, Idle, Written},
    known::{KNOWN, Known},
};

/// A row: its name, its value, and the number of decimals.
type Row<T> = (&'static str, fn(&T) -> f64, usize);

/// An event that causes writes: its name, and how much is written.
type Kind = (&'static str, fn(&Costs) -> Written);

const WAYS: [Row<Pass>; 10] = [
    ("searches per s, one at a time", |pass| pass.one.rate(), 0),
    ("its p50, µs", |pass| pass.one.percentile(50), 0),
    ("its p99, µs", |pass| pass.one.percentile(99), 0),
    ("searches per s, 16 at a time", |pass| pass.many.rate(), 0),
    (
        "CPU of the relays, ms for 1,000 searches",
        |pass| per_thousand(pass, pass.searching.relays.as_secs_f64()),
        0,
    ),
    ("CPU of the agent", |pass| per_thousand(pass, pass.searching.agents.as_secs_f64()), 0),
    ("CPU of the database", |pass| per_thousand(pass, pass.searching.database.as_secs_f64()), 0),
    ("MiB/s, one download of 64 MiB", |pass| pass.single.throughput(), 0),
    ("MiB/s, 8 at a time", |pass| pass.eight.throughput(), 0),
    (
        "CPU of the relays, ms for a MiB",
        |pass| pass.streaming.relays.as_secs_f64() * 1e3 / pass.eight.mebibytes(),
        2,
    ),
];

const SCALES: [Row<Scale>; 5] = [
    ("searches per s", |scale| scale.load.rate(), 0),
    ("p50, ms", |scale| scale.load.percentile(50) / 1e3, 1),
    ("p99, ms", |scale| scale.load.percentile(99) / 1e3, 1),
    ("CPU of the relays, s for 1,000", |scale| scaled(scale, scale.cost.relays.as_secs_f64()), 2),
    ("CPU of everything but the clients", |scale| scaled(scale, scale.cost.all().as_secs_f64()), 2),
];

const WRITTEN: [Kind; 5] = [
    ("search, 16 at a time", |costs| costs.search_busy),
    ("search, one in 50 ms", |costs| costs.search_alone),
    ("delivery of 16 kB, 4 at a time", |costs| costs.delivery),
    ("delivery of 64 MiB, 4 at a time", |costs| costs.long_delivery),
    ("tunnel opened and closed", |costs| costs.tunnel),
];

/// All results, as Markdown.
pub(crate) fn tables(run: &Run, idle: Idle, of_event: f64) -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let mut text =
        format!("All programs and who asks share {cores} cores; medians of {} rounds.\n", run.ways.len());
    ways(&mut text, run);
    scales(&mut text, run, cores);
    database(&mut text, run, idle, of_event);
    text
}

/// The cost of sites that a relay only knows.
pub(crate) fn known(known: Known) -> String {
    format!(
        "\n| each of {KNOWN} sites that a relay knows | |\n|---|--:|\n| resident memory, bytes | {:.0} |\n\
         | CPU in a second, µs | {:.2} |",
        known.resident, known.processor
    )
}

fn ways(text: &mut String, run: &Run) {
    line(text, "\n| | local | forwarded | forwarded/local |\n|---|--:|--:|--:|");
    for (name, show, digits) in WAYS {
        let of = |way: usize| median(run.ways.iter().map(|ways| show(&ways[way])));
        let ratio = median(run.ways.iter().map(|[local, forwarded]| show(forwarded) / show(local)));
        line(text, &format!("| {name} | {:.digits$} | {:.digits$} | {ratio:.2} |", of(0), of(1)));
    }
    for percent in [50, 99] {
        let of = |pass: &Pass| pass.one.percentile(percent);
        let added = median(run.ways.iter().map(|[local, forwarded]| of(forwarded) - of(local)));
        line(text, &format!("| added to p{percent} of one search, µs | | {added:.0} | |"));
    }
    debug_assert_eq!((MANY, LISTENERS), (16, 8), "the names of the rows say so");
}

fn scales(text: &mut String, run: &Run, cores: usize) {
    let head: Vec<String> = RELAYS
        .iter()
        .map(|relays| format!("{relays} relay{} | ratio", if *relays == 1 { "" } else { "s" }))
        .collect();
    line(
        text,
        &format!(
            "\n| {SEARCHERS} clients, {SITES} sites, HAProxy, {cores} cores for all | {} |\n|---|{}",
            head.join(" | "),
            "--:|--:|".repeat(RELAYS.len())
        ),
    );
    for (name, show, digits) in SCALES {
        let cells = (0..RELAYS.len()).map(|at| {
            let figure = median(run.scales.iter().map(|scales| show(&scales[at])));
            let ratio = median(run.scales.iter().map(|scales| show(&scales[at]) / show(&scales[0])));
            format!("{figure:.digits$} | {ratio:.2}")
        });
        line(text, &format!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | ")));
    }
}

fn database(text: &mut String, run: &Run, idle: Idle, of_event: f64) {
    line(text, "\n| what PostgreSQL writes for each | bytes of WAL | writing transactions |\n|---|--:|--:|");
    for (name, of) in WRITTEN {
        let wal = median(run.database.iter().map(|costs| of(costs).wal));
        let transactions = median(run.database.iter().map(|costs| of(costs).transactions));
        line(text, &format!("| {name} | {wal:.0} | {transactions:.2} |"));
    }
    line(
        text,
        &format!(
            "| second of one relay with {SITES} idle tunnels | {:.0} | {:.2}, {:.1} with those that only read |",
            idle.written.wal, idle.written.transactions, idle.all_transactions
        ),
    );
    line(text, &format!("| event of the audit, on disk with its indexes | {of_event:.0} | |"));
}

fn per_thousand(pass: &Pass, seconds: f64) -> f64 {
    seconds * 1e6 / pass.many.times.len() as f64
}

fn scaled(scale: &Scale, seconds: f64) -> f64 {
    seconds * 1e3 / scale.load.times.len() as f64
}

/// Writing to a string does not fail.
fn line(text: &mut String, line: &str) {
    let _ = writeln!(text, "{line}");
}
