//! `tunnel`: runs the agent as a service.

use std::process::ExitCode;

use audiovault_common::systemd;
use audiovault_protocol::identity::signed_link::LinkSecret;
use tokio_util::sync::CancellationToken;

use super::{
    CommandError, announced,
    reload::{CommandLine, Reloads},
    runtime,
};
use crate::{
    app::{Agent, AgentSettings},
    config::{args::Command, check, error::ConfigError},
    tunnel::DRAIN_TIMEOUT,
};

pub(super) async fn run(command: Command, line: CommandLine) -> Result<ExitCode, CommandError> {
    let run_secret = LinkSecret::from_bytes(rand::random());
    let reloads = Reloads::new(line, &command).map_err(runtime)?;
    let shutdown = CancellationToken::new();
    let agent = Agent::start(settings(command, &run_secret)?, shutdown.clone()).map_err(ConfigError::from)?;
    systemd::ready();
    let apply =
        |command| -> Result<(), ConfigError> { Ok(agent.reconfigure(settings(command, &run_secret)?)?) };
    reloads.run(apply, |problem| agent.note_problem(problem)).await.map_err(runtime)?;
    systemd::stopping(Some(DRAIN_TIMEOUT));
    shutdown.cancel();
    agent.finished().await;
    Ok(ExitCode::SUCCESS)
}

fn settings(command: Command, run_secret: &LinkSecret) -> Result<AgentSettings, ConfigError> {
    let args = command.into_tunnel().ok_or(ConfigError::OtherCommand)?;
    Ok(announced(check::tunnel(args, run_secret)?))
}
