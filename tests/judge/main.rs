//! Judges one guess at a secret a thousand times, for whoever counts the instructions that it takes: where they are the
//! same for every wrong guess, the time that an answer takes tells nothing of the secret.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has nothing to say")]

use std::{fs, hint::black_box, path::PathBuf};

use audiovault_agent::auth::{access::Access, secret::Secret};
use audiovault_protocol::identity::site::SiteKey;
use clap::{Parser, ValueEnum};

const TIMES: usize = 1_000;

/// Judges one guess at a secret a thousand times.
#[derive(Debug, Parser)]
struct Arguments {
    /// Who judges
    judge: Judge,
    /// File whose first line is the secret, and whose second the guess
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Judge {
    /// The agent, of a search token
    SearchToken,
    /// The relay, of a site key
    SiteKey,
    /// Nobody of ours: byte for byte until one differs
    Naive,
}

fn main() {
    let arguments = Arguments::parse();
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
