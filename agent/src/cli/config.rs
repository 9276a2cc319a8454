//! `config`: shows how to write a configuration, and checks whether one can be used.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{CommandError, check, runtime};
use crate::{
    check::Extent,
    config::{ask_args::ConfigCommand, settings},
};

pub(super) async fn run(command: ConfigCommand) -> Result<ExitCode, CommandError> {
    let text = match command {
        ConfigCommand::Check(args) => return check::run(*args, Extent::Configuration).await,
        ConfigCommand::Example => settings::example(),
        ConfigCommand::Reference => settings::reference(),
    };
    io::stdout().write_all(text.as_bytes()).map_err(runtime)?;
    Ok(ExitCode::SUCCESS)
}
