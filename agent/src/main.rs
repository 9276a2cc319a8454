//! The agent's program: see `audiovault-agent --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    audiovault_agent::cli::run()
}
