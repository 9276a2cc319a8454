//! Relay and agent in one program, connected over a real WebSocket on loopback: one search and one ranged download
//! as a transcript, then links to click on.

mod place;
mod transcript;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{place::Place, transcript::Transcript};

/// Runs a relay and an agent on this machine and shows a recording being found and played through the tunnel.
#[derive(Debug, Parser)]
#[command(name = "demo", max_term_width = 100)]
struct Arguments {
    /// Serve the recordings in this directory instead of generated ones
    #[arg(long, value_name = "DIR")]
    recordings: Option<PathBuf>,

    /// End after the round trip instead of waiting for Ctrl-C
    #[arg(long)]
    once: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    // An error means that a provider is already installed, which is fine.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            transcript::say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Any error in the demo ends it with one line.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

async fn run(arguments: Arguments) -> Result<()> {
    let place = Place::start(arguments.recordings).await?;
    let transcript = Transcript::new(&place);
    transcript.introduce();
    let link = transcript.search().await?;
    transcript.play(&link).await?;
    if !arguments.once {
        transcript.invite(&link);
        tokio::signal::ctrl_c().await?;
    }
    place.stop().await;
    Ok(())
}
