//! What is measured over which link.

use std::time::Duration;

use harness::wan_link::{Direction, Settings, WanLink};

use crate::far::{
    download,
    place::{Contender, End, LONG, Place},
    report::{Outcome, Run},
    small,
};

/// One kind of work over one kind of link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// One download of 64 MiB; 50 ms round trip, 200 Mbit/s
    One,
    /// The same with 0.5 % loss
    OneLossy,
    /// Four downloads at a time with 0.5 % loss
    FourLossy,
    /// Searches on an uplink of 2 Mbit/s, 30 ms round trip, without load and while a download fills it
    SlowUplink,
}

/// The link of all downloads.
const LONG_WAY: (Duration, u64) = (Duration::from_millis(50), 200_000_000);
/// The connection of a small site: round trip, uplink, downlink.
const SMALL_SITE: (Duration, u64, u64) = (Duration::from_millis(30), 2_000_000, 20_000_000);
/// The share of lost packets in each direction.
const LOSS: f64 = 0.005;

impl Scenario {
    /// The contenders.
    pub(crate) fn contenders(self) -> &'static [Contender] {
        match self {
            Self::One | Self::OneLossy | Self::SlowUplink => &[Contender::Ours(1), Contender::Nginx],
            Self::FourLossy => {
                &[Contender::Ours(1), Contender::Ours(2), Contender::Ours(4), Contender::Nginx]
            }
        }
    }

    /// The description in the tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::One => "1 × 64 MiB, 50 ms, 200 Mbit/s",
            Self::OneLossy => "1 × 64 MiB, 50 ms, 200 Mbit/s, 0.5 % loss",
            Self::FourLossy => "4 × 64 MiB, 50 ms, 200 Mbit/s, 0.5 % loss",
            Self::SlowUplink => "searches beside a download, 30 ms, 2 Mbit/s up, 20 Mbit/s down",
        }
    }

    /// The round trip without any load.
    pub(crate) fn round_trip(self) -> Duration {
        match self {
            Self::One | Self::OneLossy | Self::FourLossy => LONG_WAY.0,
            Self::SlowUplink => SMALL_SITE.0,
        }
    }

    /// Does the work once.
    pub(crate) async fn run(self, link: &WanLink, place: &Place, contender: Contender) -> Run {
        let (up, down) = self.settings();
        link.set(Direction::Up, up);
        link.set(Direction::Down, down);
        let end = place.dial(link, contender).await;
        let outcome = match self {
            Self::One | Self::OneLossy => downloads(&end, 1).await,
            Self::FourLossy => downloads(&end, 4).await,
            Self::SlowUplink => Outcome::Small(small::calm_and_beside_a_download(&end).await),
        };
        drop(end);
        // The cancelled download may still be on its way; it must not disturb the next run.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Run { scenario: self, contender, outcome }
    }

    fn settings(self) -> (Settings, Settings) {
        let (round_trip, rate) = LONG_WAY;
        let long = Settings::new(round_trip, rate);
        match self {
            Self::One => (long, long),
            Self::OneLossy | Self::FourLossy => (long.losing(LOSS), long.losing(LOSS)),
            Self::SlowUplink => {
                let (round_trip, up, down) = SMALL_SITE;
                (Settings::new(round_trip, up), Settings::new(round_trip, down))
            }
        }
    }
}

async fn downloads(end: &End, count: usize) -> Outcome {
    let urls: Vec<_> = (0..count).map(|n| end.long(n)).collect();
    let took = download::all(&urls).await;
    Outcome::Download { bytes: LONG * count as u64, took }
}
