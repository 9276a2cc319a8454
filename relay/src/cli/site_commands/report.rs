//! The results of the `site` commands, as JSON for programs and as text for people.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use audiovault_protocol::identity::site::SiteId;
use serde::{Serialize, Serializer};

use super::table;
use crate::{
    sites::{
        enrolment::AddedCode,
        provisioning::{AddedKey, AddedSite},
    },
    store::StoredSite,
};

/// The result of one command. It has no `Debug`, since it may hold secrets that are shown only once.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Report {
    Added(AddedSite),
    Rotated {
        #[serde(flatten)]
        key: AddedKey,
        #[serde(flatten)]
        site: SiteReport,
    },
    Code(AddedCode),
    Imported {
        imported: usize,
        /// The file with the keys and search tokens.
        secrets: PathBuf,
    },
    #[serde(serialize_with = "reports")]
    Exported(Vec<StoredSite>),
    Revoked {
        /// Id of the key that is no longer valid.
        revoked: String,
        #[serde(flatten)]
        site: SiteReport,
    },
    Removed {
        site: SiteId,
        removed: bool,
    },
    Site {
        #[serde(skip)]
        done: &'static str,
        #[serde(flatten)]
        site: SiteReport,
    },
    List(Vec<SiteReport>),
}

fn reports<S: Serializer>(sites: &[StoredSite], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(sites.iter().map(SiteReport::of))
}

/// A site without its secrets.
#[derive(Serialize)]
pub(super) struct SiteReport {
    site: SiteId,
    note: String,
    created: String,
    disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_since: Option<String>,
    aliases: Vec<String>,
    keys: Vec<KeyReport>,
}

#[derive(Serialize)]
struct KeyReport {
    id: String,
    created: String,
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
}

impl SiteReport {
    pub(super) fn of(stored: &StoredSite) -> Self {
        let keys = stored.keys.iter().map(|key| KeyReport {
            id: key.digest.short(),
            created: key.created.to_string(),
            valid: key.revoked.is_none(),
            revoked: key.revoked.map(|time| time.to_string()),
        });
        Self {
            site: stored.site.clone(),
            note: stored.note.clone(),
            created: stored.created.to_string(),
            disabled: stored.disabled.is_some(),
            disabled_since: stored.disabled.map(|time| time.to_string()),
            aliases: stored.aliases.iter().map(ToString::to_string).collect(),
            keys: keys.collect(),
        }
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "site      {}", self.site)?;
        if !self.note.is_empty() {
            writeln!(out, "note      {}", self.note)?;
        }
        writeln!(out, "created   {}", self.created)?;
        if let Some(since) = &self.disabled_since {
            writeln!(out, "disabled  {since}")?;
        }
        if !self.aliases.is_empty() {
            writeln!(out, "aliases   {}", self.aliases.join(" "))?;
        }
        for key in &self.keys {
            let state = match &key.revoked {
                Some(time) => format!("revoked {time}"),
                None => "valid".to_owned(),
            };
            writeln!(out, "key       {}  created {}  {state}", key.id, key.created)?;
        }
        if !self.keys.iter().any(|key| key.valid) {
            writeln!(out, "no key is valid: rotate the key, so that agents can connect")?;
        }
        Ok(())
    }

    fn line(&self, out: &mut dyn Write) -> io::Result<()> {
        let state = if self.disabled { "disabled" } else { "enabled" };
        let names = if self.aliases.is_empty() {
            String::new()
        } else {
            format!("  also {}", self.aliases.join(" "))
        };
        let note = if self.note.is_empty() { String::new() } else { format!("  ({})", self.note) };
        writeln!(out, "{:<24} {state:<8}{names}{note}", self.site.as_str())
    }
}

impl Report {
    pub(super) fn json(&self) -> String {
        // This cannot fail: the value holds only texts, flags and lists of them.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    pub(super) fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Added(AddedSite {
                site,
                site_key,
                search_token,
                search_url,
                agent_command,
                queuemetrics,
            }) => {
                writeln!(out, "Added the site {site}. Copy its secrets now, they cannot be shown again:\n")?;
                writeln!(out, "site key      {site_key}")?;
                writeln!(out, "search token  {search_token}")?;
                writeln!(out, "search URL    {search_url}\n")?;
                writeln!(out, "On the machine with the recordings, run as root:\n\n{agent_command}\n")?;
                writeln!(
                    out,
                    "In QueueMetrics, add to configuration.properties:\n\n{}",
                    queuemetrics.trim_end()
                )
            }
            Self::Imported { imported, secrets } => {
                writeln!(
                    out,
                    "Added {imported} sites. Their keys and search tokens are in {}.",
                    secrets.display()
                )?;
                writeln!(out, "The relay cannot show them again: hand them out, then delete the file.")
            }
            Self::Exported(sites) => table::write(sites, out),
            Self::Rotated { key: AddedKey { site_key, agent_command, dropped }, site } => {
                writeln!(out, "Created a new site key. Copy it now, it cannot be shown again:\n")?;
                writeln!(out, "site key      {site_key}\n")?;
                writeln!(out, "On the machine with the recordings, run as root:\n\n{agent_command}\n")?;
                for id in dropped {
                    writeln!(out, "The key {id} is no longer valid.")?;
                }
                writeln!(
                    out,
                    "The previous key stays valid until it is revoked or the key is rotated again.\n"
                )?;
                site.text(out)
            }
            Self::Code(added) => write_code(added, out),
            Self::Revoked { revoked, site } => {
                writeln!(out, "Revoked the key {revoked}.\n")?;
                site.text(out)
            }
            Self::Removed { site, .. } => writeln!(out, "Removed the site {site}."),
            Self::Site { done, site } => {
                if !done.is_empty() {
                    writeln!(out, "{}: {done}\n", site.site)?;
                }
                site.text(out)
            }
            Self::List(sites) if sites.is_empty() => writeln!(out, "There are no sites."),
            Self::List(sites) => sites.iter().try_for_each(|site| site.line(out)),
        }
    }
}

fn write_code(added: &AddedCode, out: &mut dyn Write) -> io::Result<()> {
    let AddedCode { site, code, expires, install_command } = added;
    writeln!(
        out,
        "Created an enrolment code for the site {site}. It works once, and cannot be shown again:\n"
    )?;
    writeln!(out, "code         {code}")?;
    writeln!(out, "valid until  {expires:.0}\n")?;
    writeln!(out, "On the machine with the recordings, run as root:\n\n{install_command}\n")?;
    writeln!(
        out,
        "The agent trades it for a new site key. Earlier codes of this site that were not used no longer work."
    )
}
