//! The tables: the results of every contender, and a comparison of this project with its aims.

use harness::median::median;

use crate::compare::{
    contender::{Contender, Role},
    figures::Run,
    workload::Workload,
};

/// All runs, with their contenders.
pub(crate) struct Report<'a> {
    pub(crate) contenders: &'a [&'a Contender],
    pub(crate) runs: &'a [Run],
}

/// A column: its head, its workload, its value, and the number of decimals.
type Column = (&'static str, Workload, fn(&Run) -> f64, usize);

const COLUMNS: [Column; 14] = [
    ("1 × 1 GiB, MB/s", Workload::BulkOne, Run::megabytes, 0),
    ("CPU s/GiB", Workload::BulkOne, |run| run.per_gibibyte()[0], 2),
    ("its origin's", Workload::BulkOne, |run| run.per_gibibyte()[1], 2),
    ("16 × 64 MiB, MB/s", Workload::BulkMany, Run::megabytes, 0),
    ("500 kB, c=16, per s", Workload::Recordings, Run::rate, 0),
    ("1 kB kept, c=32, per s", Workload::Small, Run::rate, 0),
    ("CPU ms/1,000", Workload::Small, |run| run.per_thousand()[0], 0),
    ("its origin's", Workload::Small, |run| run.per_thousand()[1], 0),
    ("1 kB, c=1, p50 ms", Workload::Single, |run| run.percentile(50), 3),
    ("1 kB anew, c=8, per s", Workload::Anew, Run::rate, 0),
    ("c=4 p99 ms, calm", Workload::BesideBulk, |run| run.calm(99), 2),
    ("beside bulk", Workload::BesideBulk, |run| run.percentile(99), 2),
    ("c=4 p99 ms, calm", Workload::BesidePaused, |run| run.calm(99), 2),
    ("beside 20 paused", Workload::BesidePaused, |run| run.percentile(99), 2),
];

impl Report<'_> {
    /// The median of a value in the runs of a contender.
    fn median(&self, contender: &str, workload: Workload, show: fn(&Run) -> f64) -> f64 {
        let own = |run: &&Run| run.contender == contender && run.workload == workload;
        median(self.runs.iter().filter(own).map(show))
    }

    /// The table as Markdown.
    pub(crate) fn table(&self) -> String {
        let shown: Vec<&Column> = COLUMNS.iter().filter(|column| self.was_run(column.1)).collect();
        let mut rows = vec![
            format!(
                "| | {} | resident MiB |",
                shown.iter().map(|column| column.0).collect::<Vec<_>>().join(" | ")
            ),
            format!("|---|{}---|", "---|".repeat(shown.len())),
        ];
        for contender in self.contenders {
            let cells = shown.iter().map(|(_, workload, show, digits)| {
                let value = self.median(contender.name, *workload, *show);
                if value.is_nan() { "–".to_owned() } else { format!("{value:.digits$}") }
            });
            let resident = contender.programs.resident() as f64 / f64::from(1 << 20);
            rows.push(format!(
                "| {} | {} | {resident:.0} |",
                contender.name,
                cells.collect::<Vec<_>>().join(" | ")
            ));
        }
        rows.join("\n")
    }

    fn was_run(&self, workload: Workload) -> bool {
        self.runs.iter().any(|run| run.workload == workload)
    }

    /// Ratios of this project to the best peer of the same runs, with the aims.
    pub(crate) fn aims(&self) -> String {
        let mut rows = vec!["| | ratio | aim | |".to_owned(), "|---|---|---|---|".to_owned()];
        let mut aim = |name: &str, ratio: f64, wanted: f64, at_least: bool| {
            if !ratio.is_nan() {
                let reached = if at_least { ratio >= wanted } else { ratio <= wanted };
                let (sign, mark) =
                    (if at_least { "≥" } else { "≤" }, if reached { "reached" } else { "missed" });
                rows.push(format!("| {name} | {ratio:.2} | {sign} {wanted} | {mark} |"));
            }
        };
        for (name, workload, show, encrypted, wanted) in [
            (
                "1 × 1 GiB, to the best encrypted peer",
                Workload::BulkOne,
                Run::megabytes as fn(&Run) -> f64,
                true,
                1.2,
            ),
            ("16 × 64 MiB, to the best encrypted peer", Workload::BulkMany, Run::megabytes, true, 1.2),
            ("500 kB, c=16, to the best encrypted peer", Workload::Recordings, Run::rate, true, 1.5),
            ("1 kB kept, c=32, to the best peer", Workload::Small, Run::rate, false, 1.2),
            ("1 kB anew, c=8, to the best peer", Workload::Anew, Run::rate, false, 2.0),
        ] {
            aim(name, self.to_best(workload, show, encrypted, f64::max), wanted, true);
        }
        let processor = |run: &Run| run.per_gibibyte().iter().sum();
        aim(
            "CPU per GiB with the origin's, to the best peer",
            self.to_best(Workload::BulkOne, processor, false, f64::min),
            1.0,
            false,
        );
        let p50 = |run: &Run| run.percentile(50);
        aim(
            "1 kB, c=1, p50, to the best peer",
            self.to_best(Workload::Single, p50, false, f64::min),
            1.0,
            false,
        );
        for (name, workload, percent, wanted) in [
            ("1 kB, c=4, p99 beside bulk, to its own calm", Workload::BesideBulk, 99, 2.0),
            ("1 kB, c=4, p50 beside 20 paused, to its own calm", Workload::BesidePaused, 50, 1.1),
            ("1 kB, c=4, p99 beside 20 paused, to its own calm", Workload::BesidePaused, 99, 1.4),
        ] {
            aim(name, self.to_calm(workload, percent), wanted, false);
        }
        rows.join("\n")
    }

    fn ours(&self) -> &str {
        self.contenders.iter().find(|contender| contender.role == Role::Ours).map_or("", |ours| ours.name)
    }

    fn to_best(
        &self,
        workload: Workload,
        show: fn(&Run) -> f64,
        encrypted_only: bool,
        better: fn(f64, f64) -> f64,
    ) -> f64 {
        let peers = self.contenders.iter().filter(|contender| match contender.role {
            Role::Peer { encrypted } => encrypted || !encrypted_only,
            Role::Ours | Role::Reference => false,
        });
        let best = peers.map(|peer| self.median(peer.name, workload, show)).reduce(better);
        self.median(self.ours(), workload, show) / best.unwrap_or(f64::NAN)
    }

    /// The median of the ratios of each round; the runs of a round follow each other.
    fn to_calm(&self, workload: Workload, percent: usize) -> f64 {
        let ours = self.ours();
        let own = self.runs.iter().filter(|run| run.contender == ours && run.workload == workload);
        median(own.map(|run| run.percentile(percent) / run.calm(percent)))
    }
}
