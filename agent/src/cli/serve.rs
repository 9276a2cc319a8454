//! `serve`: runs the classic AudioVault.

use std::process::ExitCode;

use audiovault_common::systemd;
use audiovault_protocol::identity::signed_link::LinkSecret;

use super::{
    CommandError, announced,
    reload::{CommandLine, Reloads},
    runtime,
};
use crate::{
    config::{args::Command, check, error::ConfigError},
    http::listener::{self, DRAIN, ServeSettings},
};

pub(super) async fn run(command: Command, line: CommandLine) -> Result<ExitCode, CommandError> {
    let run_secret = LinkSecret::from_bytes(rand::random());
    let reloads = Reloads::new(line, &command).map_err(runtime)?;
    let running = listener::start(settings(command, &run_secret)?).await.map_err(runtime)?;
    systemd::ready();
    let apply = |command| -> Result<(), ConfigError> {
        running.renew(settings(command, &run_secret)?);
        Ok(())
    };
    reloads.run(apply, |_| {}).await.map_err(runtime)?;
    systemd::stopping(Some(DRAIN));
    tracing::info!(code = "program.stopping", "shutting down; running downloads can finish");
    running.shutdown(DRAIN).await;
    Ok(ExitCode::SUCCESS)
}

fn settings(command: Command, run_secret: &LinkSecret) -> Result<ServeSettings, ConfigError> {
    let args = command.into_serve().ok_or(ConfigError::OtherCommand)?;
    Ok(announced(check::serve(args, run_secret)?))
}
