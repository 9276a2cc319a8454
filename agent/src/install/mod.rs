//! Installs the agent on a machine with systemd: one command, all of it shown beforehand by `--dry-run`.
//!
//! What is to be done is a [`plan::Plan`], made without touching anything; [`perform`] does it or prints it.

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
/// The file with the search token, beside it.
const SEARCH_TOKEN: &str = "search-token";
/// The file that names what is no longer offered, beside it.
const DENY: &str = "deny";
