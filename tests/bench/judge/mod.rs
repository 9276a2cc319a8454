//! Judges one guess at a secret a thousand times, so that another program can count the instructions. If they are the
//! same for every wrong guess, the time of a response reveals nothing about the secret.

#![expect(clippy::unwrap_used, reason = "a measurement that fails has no result")]

use std::{fs, hint::black_box, path::PathBuf};

use audiovault_agent::auth::Access;
use audiovault_agent_core::secret::Secret;
use audiovault_protocol::identity::site::SiteKey;
use clap::{Args, ValueEnum};

const TIMES: usize = 1_000;

/// Arguments of this measurement.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which code judges
    judge: Judge,
    /// File with the secret in its first line and the guess in its second
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Judge {
    /// The agent, for a search token
    SearchToken,
    /// The relay, for a site key
    SiteKey,
    /// No code of ours: compares bytes until one differs
    Naive,
}

pub(crate) fn run(arguments: Arguments) {
    let text = fs::read_to_string(arguments.file).unwrap();
    let (secret, guess) = text.trim_end().split_once('\n').unwrap();
    match arguments.judge {
        Judge::SearchToken => {
            let access = Access::new(Some(&Secret::new(secret)), &[], None).unwrap();
            repeat(|| access.check(Some(black_box(guess)), None).is_ok());
        }
        Judge::SiteKey => {
            let kept = SiteKey::parse(secret).unwrap().digest();
            let guess = SiteKey::parse(guess).unwrap();
            repeat(|| kept.matches(&black_box(&guess).digest()));
        }
        Judge::Naive => repeat(|| secret.bytes().zip(black_box(guess).bytes()).all(|(a, b)| a == b)),
    }
}

fn repeat(judge: impl Fn() -> bool) {
    for _ in 0..TIMES {
        black_box(judge());
    }
}
