//! Reads a password for a command.

use std::{
    fs,
    io::{self, BufRead, IsTerminal},
    path::Path,
};

use zeroize::Zeroizing;

use super::AccountCommandError;
use crate::{admin::auth::Password, cli::PasswordArgs, model::name::Name};

/// Reads a new password: from the file in the arguments, else from standard input if it is not a terminal, else from
/// the terminal, which asks twice and does not show it.
pub(super) fn read_password(args: PasswordArgs, name: &Name) -> Result<Password, AccountCommandError> {
    let failed = |from: &str| {
        let from = from.to_owned();
        move |source| AccountCommandError::NoPassword { from, source }
    };
    let text = match args.password_file {
        Some(path) if path != Path::new("-") => {
            let text =
                Zeroizing::new(fs::read_to_string(&path).map_err(failed(&path.display().to_string()))?);
            text.lines().next().unwrap_or_default().to_owned()
        }
        None if io::stdin().is_terminal() => {
            let ask = |prompt| rpassword::prompt_password(prompt).map_err(failed("the terminal"));
            let first = ask("Password: ")?;
            if *Zeroizing::new(ask("Repeat the password: ")?) != first {
                return Err(AccountCommandError::Differ);
            }
            first
        }
        _ => {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).map_err(failed("standard input"))?;
            let line = Zeroizing::new(line);
            line.trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    Ok(Password::new(text, name.as_str())?)
}
