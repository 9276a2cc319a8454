//! The tables: the results of every contender, a comparison of this project with its aims, and one of its builds.

use harness::{median::median, usage::Processes};

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

/// A figure of a workload, with its name in a table.
struct Figure {
    name: &'static str,
    workload: Workload,
    value: fn(&Run) -> f64,
    /// The number of decimals.
    digits: usize,
}

const fn figure(name: &'static str, workload: Workload, value: fn(&Run) -> f64, digits: usize) -> Figure {
    Figure { name, workload, value, digits }
}

// Figures of more than one table.
const BULK_ONE: Figure = figure("1 × 1 GiB, MB/s", Workload::BulkOne, Run::megabytes, 0);
const BULK_MANY: Figure = figure("16 × 64 MiB, MB/s", Workload::BulkMany, Run::megabytes, 0);
const RECORDINGS: Figure = figure("500 kB, c=16, per s", Workload::Recordings, Run::rate, 0);
const SMALL: Figure = figure("1 kB kept, c=32, per s", Workload::Small, Run::rate, 0);
const SINGLE: Figure = figure("1 kB, c=1, p50 ms", Workload::Single, |run| run.percentile(50), 3);
const ANEW: Figure = figure("1 kB anew, c=8, per s", Workload::Anew, Run::rate, 0);
const BESIDE_BULK: Figure = figure("beside bulk", Workload::BesideBulk, |run| run.percentile(99), 2);
const BESIDE_PAUSED: Figure = figure("beside 20 paused", Workload::BesidePaused, |run| run.percentile(99), 2);
const SEARCHES: Figure = figure("searches, c=32, per s", Workload::Search, Run::rate, 0);

/// The columns of the table of contenders.
const COLUMNS: [Figure; 19] = [
    BULK_ONE,
    figure("CPU s/GiB", Workload::BulkOne, |run| run.per_gibibyte().tunnel(), 2),
    figure("its origin's", Workload::BulkOne, |run| run.per_gibibyte().origin, 2),
    BULK_MANY,
    RECORDINGS,
    SMALL,
    figure("CPU µs, server side", Workload::Small, |run| run.per_request().server, 1),
    figure("client side", Workload::Small, |run| run.per_request().client, 1),
    figure("its origin's", Workload::Small, |run| run.per_request().origin, 1),
    SINGLE,
    ANEW,
    figure("c=4 p99 ms, calm", Workload::BesideBulk, |run| run.calm(99), 2),
    BESIDE_BULK,
    figure("c=4 p99 ms, calm", Workload::BesidePaused, |run| run.calm(99), 2),
    BESIDE_PAUSED,
    SEARCHES,
    figure("CPU µs, server side", Workload::Search, |run| run.per_request().server, 1),
    figure("client side", Workload::Search, |run| run.per_request().client, 1),
    figure("its origin's", Workload::Search, |run| run.per_request().origin, 1),
];

/// The rows of a comparison of builds.
const ROWS: [Figure; 26] = [
    BULK_ONE,
    figure("its CPU s/GiB, relay", Workload::BulkOne, |run| run.per_gibibyte().server, 2),
    figure("agent", Workload::BulkOne, |run| run.per_gibibyte().client, 2),
    BULK_MANY,
    figure("its CPU s/GiB, relay", Workload::BulkMany, |run| run.per_gibibyte().server, 2),
    figure("agent", Workload::BulkMany, |run| run.per_gibibyte().client, 2),
    RECORDINGS,
    figure("its CPU µs, relay", Workload::Recordings, |run| run.per_request().server, 0),
    figure("agent", Workload::Recordings, |run| run.per_request().client, 0),
    SMALL,
    figure("its CPU µs, relay", Workload::Small, |run| run.per_request().server, 1),
    figure("agent", Workload::Small, |run| run.per_request().client, 1),
    SINGLE,
    figure("its CPU µs, relay", Workload::Single, |run| run.per_request().server, 1),
    figure("agent", Workload::Single, |run| run.per_request().client, 1),
    ANEW,
    figure("its CPU µs, relay", Workload::Anew, |run| run.per_request().server, 1),
    figure("agent", Workload::Anew, |run| run.per_request().client, 1),
    figure("1 kB, c=4, p99 ms, calm", Workload::BesideBulk, |run| run.calm(99), 2),
    BESIDE_BULK,
    figure("1 kB, c=4, p99 ms, calm", Workload::BesidePaused, |run| run.calm(99), 2),
    BESIDE_PAUSED,
    SEARCHES,
    figure("their p50 ms", Workload::Search, |run| run.percentile(50), 3),
    figure("their CPU µs, relay", Workload::Search, |run| run.per_request().server, 1),
    figure("agent", Workload::Search, |run| run.per_request().client, 1),
];

/// Which contenders this project is compared with.
#[derive(Clone, Copy)]
enum Others {
    Peers,
    EncryptedPeers,
    ServeBehindEncryptedPeers,
}

impl Others {
    fn include(self, role: Role) -> bool {
        match role {
            Role::Peer { encrypted } => match self {
                Self::Peers => true,
                Self::EncryptedPeers => encrypted,
                Self::ServeBehindEncryptedPeers => false,
            },
            Role::ServeBehind { encrypted } => matches!(self, Self::ServeBehindEncryptedPeers) && encrypted,
            Role::Ours | Role::OtherBuild | Role::DefaultLog | Role::Reference => false,
        }
    }
}

/// What counts as good.
#[derive(Clone, Copy)]
enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Aim {
    /// The last cells of its row.
    fn judge(self, value: f64) -> String {
        let (sign, wanted, is_reached) = match self {
            Self::AtLeast(wanted) => ("≥", wanted, value >= wanted),
            Self::AtMost(wanted) => ("≤", wanted, value <= wanted),
        };
        format!("{sign} {wanted} | {}", if is_reached { "reached" } else { "missed" })
    }

    fn better(self) -> fn(f64, f64) -> f64 {
        match self {
            Self::AtLeast(_) => f64::max,
            Self::AtMost(_) => f64::min,
        }
    }
}

/// An aim that is a ratio to the best of some others.
struct Ratio {
    figure: Figure,
    others: Others,
    aim: Aim,
}

const fn ratio(figure: Figure, others: Others, aim: Aim) -> Ratio {
    Ratio { figure, others, aim }
}

const RATIOS: [Ratio; 9] = [
    ratio(BULK_ONE, Others::EncryptedPeers, Aim::AtLeast(1.2)),
    ratio(BULK_MANY, Others::EncryptedPeers, Aim::AtLeast(1.2)),
    ratio(
        figure("CPU s/GiB, with the origin's", Workload::BulkOne, |run| run.per_gibibyte().total(), 2),
        Others::EncryptedPeers,
        Aim::AtMost(0.8),
    ),
    ratio(RECORDINGS, Others::EncryptedPeers, Aim::AtLeast(1.3)),
    ratio(RECORDINGS, Others::ServeBehindEncryptedPeers, Aim::AtLeast(1.3)),
    ratio(SMALL, Others::EncryptedPeers, Aim::AtLeast(1.0)),
    ratio(SMALL, Others::ServeBehindEncryptedPeers, Aim::AtLeast(2.0)),
    ratio(SINGLE, Others::Peers, Aim::AtMost(1.2)),
    ratio(ANEW, Others::Peers, Aim::AtLeast(1.3)),
];

/// Aims for this project's own figures, whatever others have.
const ABSOLUTE: [(Figure, f64); 5] = [
    (
        figure(
            "CPU s/GiB, relay and agent (where the best encrypted peer takes 1.5)",
            Workload::BulkOne,
            |run| run.per_gibibyte().tunnel(),
            2,
        ),
        1.1,
    ),
    (figure("CPU µs per 1 kB, relay", Workload::Small, |run| run.per_request().server, 1), 30.0),
    (figure("CPU µs per 1 kB, agent", Workload::Small, |run| run.per_request().client, 1), 20.0),
    (figure("CPU µs per search, relay", Workload::Search, |run| run.per_request().server, 1), 30.0),
    (figure("CPU µs per search, agent", Workload::Search, |run| run.per_request().client, 1), 40.0),
];

impl Report<'_> {
    /// The median of a figure in the runs of a contender; NaN if it was not run.
    fn median(&self, contender: &str, figure: &Figure) -> f64 {
        median(self.values(contender, figure))
    }

    /// A figure in each round of a contender.
    fn values(&self, contender: &str, figure: &Figure) -> Vec<f64> {
        let own = |run: &&Run| run.contender == contender && run.workload == figure.workload;
        self.runs.iter().filter(own).map(figure.value).collect()
    }

    /// The ratios of one contender to another in each round. The runs of a round follow each other.
    fn rounds(&self, contender: &str, other: &str, figure: &Figure) -> Vec<f64> {
        let others = self.values(other, figure);
        self.values(contender, figure).into_iter().zip(others).map(|(value, other)| value / other).collect()
    }

    /// The table as Markdown.
    pub(crate) fn table(&self) -> String {
        let was_run = |figure: &&Figure| self.runs.iter().any(|run| run.workload == figure.workload);
        let shown: Vec<&Figure> = COLUMNS.iter().filter(was_run).collect();
        let mut rows = vec![
            format!(
                "| | {} | resident MiB |",
                shown.iter().map(|column| column.name).collect::<Vec<_>>().join(" | ")
            ),
            format!("|---|{}---|", "---|".repeat(shown.len())),
        ];
        for contender in self.contenders {
            let cells = shown.iter().map(|column| {
                let value = self.median(&contender.name, column);
                if value.is_nan() { "–".to_owned() } else { format!("{value:.*}", column.digits) }
            });
            let resident = contender.programs.each(Processes::resident);
            let mebibytes = (resident.server + resident.client) as f64 / f64::from(1 << 20);
            rows.push(format!(
                "| {} | {} | {mebibytes:.0} |",
                contender.name,
                cells.collect::<Vec<_>>().join(" | ")
            ));
        }
        rows.join("\n")
    }

    /// This project beside the best of the others, with the aims.
    pub(crate) fn aims(&self) -> String {
        let ours = self.with_role(Role::Ours).unwrap_or_default();
        let mut rows = vec![
            "| | this project | best of the others | | ratio | aim | |".to_owned(),
            "|---|---|---|---|---|---|---|".to_owned(),
        ];
        for Ratio { figure, others, aim } in &RATIOS {
            let better = aim.better();
            let others = self.contenders.iter().filter(|contender| others.include(contender.role));
            let values = others.map(|other| (other.name.as_str(), self.median(&other.name, figure)));
            let best = values
                .filter(|(_, value)| !value.is_nan())
                .reduce(|one, other| if better(one.1, other.1) == one.1 { one } else { other });
            let value = self.median(ours, figure);
            if let Some((name, best)) = best {
                let ratio = value / best;
                rows.push(format!(
                    "| {} | {value:.digits$} | {best:.digits$} | {name} | {ratio:.2} | {} |",
                    figure.name,
                    aim.judge(ratio),
                    digits = figure.digits
                ));
            }
        }
        for (figure, wanted) in &ABSOLUTE {
            let value = self.median(ours, figure);
            if !value.is_nan() {
                let judged = Aim::AtMost(*wanted).judge(value);
                rows.push(format!("| {} | {value:.*} | | | | {judged} |", figure.name, figure.digits));
            }
        }
        self.to_itself(ours, &mut rows);
        rows.join("\n")
    }

    /// Adds the aims that compare this project with itself: the medians of the ratios of each round.
    fn to_itself(&self, ours: &str, rows: &mut Vec<String>) {
        let mut add = |name: &str, ratio: f64, aim: Aim| {
            if !ratio.is_nan() {
                rows.push(format!("| {name} | | | itself | {ratio:.2} | {} |", aim.judge(ratio)));
            }
        };
        let to_calm = |workload, value| median(self.values(ours, &figure("", workload, value, 2)));
        let p50: fn(&Run) -> f64 = |run| run.percentile(50) / run.calm(50);
        let p99: fn(&Run) -> f64 = |run| run.percentile(99) / run.calm(99);
        add("1 kB, c=4, p99 beside bulk, to calm", to_calm(Workload::BesideBulk, p99), Aim::AtMost(2.0));
        add(
            "1 kB, c=4, p50 beside 20 paused, to calm",
            to_calm(Workload::BesidePaused, p50),
            Aim::AtMost(1.1),
        );
        add(
            "1 kB, c=4, p99 beside 20 paused, to calm",
            to_calm(Workload::BesidePaused, p99),
            Aim::AtMost(1.4),
        );
        if let Some(logging) = self.with_role(Role::DefaultLog) {
            let small = SMALL;
            let ratio = median(self.rounds(logging, ours, &small));
            add("1 kB kept, c=32, per s, default log to warnings only", ratio, Aim::AtLeast(0.95));
        }
    }

    /// For each other build of this project, a table that compares the last build with it.
    pub(crate) fn builds(&self) -> Vec<String> {
        let ours = self.with_role(Role::Ours).unwrap_or_default();
        let others = self.contenders.iter().filter(|contender| contender.role == Role::OtherBuild);
        others.map(|other| self.beside(ours, &other.name)).collect()
    }

    /// Medians of two builds, and the median of the ratios of each round with the lowest and the highest.
    fn beside(&self, ours: &str, other: &str) -> String {
        let mut rows = vec![
            format!("| | A: {other} | B: {ours} | B/A | lowest and highest |"),
            "|---|--:|--:|--:|--:|".to_owned(),
        ];
        for row in &ROWS {
            let mut ratios = self.rounds(ours, other, row);
            ratios.sort_unstable_by(f64::total_cmp);
            let Some([lowest, highest]) = ratios.first().zip(ratios.last()).map(|(low, high)| [low, high])
            else {
                continue;
            };
            rows.push(format!(
                "| {} | {:.digits$} | {:.digits$} | {:.3} | {lowest:.3} to {highest:.3} |",
                row.name,
                self.median(other, row),
                self.median(ours, row),
                median(ratios.iter().copied()),
                digits = row.digits
            ));
        }
        rows.join("\n")
    }

    fn with_role(&self, role: Role) -> Option<&str> {
        self.contenders.iter().find(|contender| contender.role == role).map(|found| found.name.as_str())
    }
}
