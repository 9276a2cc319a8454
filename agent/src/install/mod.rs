//! Installs the agent on a machine with systemd, with one command; `--dry-run` shows all of its steps beforehand.
//!
//! The steps are a [`plan::Plan`], which is made without changing anything; [`perform`] performs or prints it.

pub mod enrol;
mod layout;
mod perform;
mod plan;
mod recordings;
mod unit;
mod written;

pub use self::{
    layout::Layout,
    perform::{InstallError, explain, perform},
    plan::{Fresh, Install, Plan, uninstall},
    written::{Unreadable, fresh},
};

/// The file with the site key, in the directory of the configuration.
const SITE_KEY: &str = "site-key";
/// The file with the search token, in the same directory.
const SEARCH_TOKEN: &str = "search-token";
/// The deny list, in the same directory.
const DENY: &str = "deny";
