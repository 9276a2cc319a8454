//! The results of the `user` and `token` commands, as JSON for programs and as text for people.

use std::io::{self, Write};

use serde::Serialize;

use super::AccountCommandError;
use crate::{
    admin::api::{RightsView, TokenView, UserView},
    model::name::Name,
};

/// The result of one command. It has no `Debug`, since it may hold a secret that is shown only once.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Report {
    Made {
        name: Name,
        token: String,
    },
    User {
        #[serde(skip)]
        done: &'static str,
        #[serde(flatten)]
        user: UserView,
    },
    Removed {
        name: Name,
        removed: bool,
    },
    Users(Vec<UserView>),
    Tokens(Vec<TokenView>),
}

impl Report {
    pub(super) fn print(&self, json: bool, out: &mut dyn Write) -> Result<(), AccountCommandError> {
        if json {
            // This cannot fail: the value holds only texts, flags and lists of them.
            writeln!(out, "{}", serde_json::to_string_pretty(self).unwrap_or_default())?;
        } else {
            self.text(out)?;
        }
        Ok(out.flush()?)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Made { name, token } => {
                writeln!(
                    out,
                    "Created the API token {name}. Copy it now, it cannot be shown again:\n\n{token}"
                )
            }
            Self::User { done, user } => {
                writeln!(out, "{}: {done}\n", user.name)?;
                user_line(user, out)
            }
            Self::Removed { name, .. } => writeln!(out, "Removed {name}."),
            Self::Users(users) if users.is_empty() => writeln!(out, "There are no users."),
            Self::Users(users) => users.iter().try_for_each(|user| user_line(user, out)),
            Self::Tokens(tokens) if tokens.is_empty() => writeln!(out, "There are no API tokens."),
            Self::Tokens(tokens) => tokens.iter().try_for_each(|token| token_line(token, out)),
        }
    }
}

fn user_line(user: &UserView, out: &mut dyn Write) -> io::Result<()> {
    let login = user.last_login.map_or_else(|| "never".to_owned(), |time| format!("{time:.0}"));
    writeln!(out, "{:<24} {}  last login {login}", user.name.as_str(), rights(&user.rights))
}

fn token_line(token: &TokenView, out: &mut dyn Write) -> io::Result<()> {
    let ends = token.expires.map_or_else(|| "never".to_owned(), |time| format!("{time:.0}"));
    let owner = token.owner.as_ref().map_or_else(|| "the command line".to_owned(), ToString::to_string);
    writeln!(out, "{:<24} {}  expires {ends}  owner {owner}", token.name.as_str(), rights(&token.rights))
}

fn rights(rights: &RightsView) -> String {
    let sites = match &rights.sites {
        None => "all sites".to_owned(),
        Some(sites) if sites.is_empty() => "no sites".to_owned(),
        Some(sites) => sites.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let playback = if rights.playback { ", playback" } else { "" };
    format!("{:<8} {sites}{playback}", rights.role.as_str())
}
