//! The steps of an installation.

use std::path::{Path, PathBuf};

use super::{
    enrol::Enrolment,
    layout::{Layout, NAME},
    recordings,
    unit::Unit,
};
use crate::auth::secret::Secret;

/// The owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Root.
    Root,
    /// Root; the agent's group may read it.
    AgentsGroup,
    /// The agent.
    Agent,
}

/// The content of a file.
#[derive(Debug)]
pub(super) enum Content {
    /// Text that may be shown.
    Text(String),
    /// Text that must not be shown.
    Secret(Secret),
    /// A site key, for which the enrolment code is traded when this step is performed.
    Enrolled(Box<Enrolment>),
    /// A copy of a program.
    CopyOf(PathBuf),
}

/// One step.
#[derive(Debug)]
pub(super) enum Step {
    /// Create the agent's user and group, if they do not exist.
    User,
    Directory {
        path: PathBuf,
        mode: u32,
        owner: Owner,
    },
    File {
        path: PathBuf,
        mode: u32,
        owner: Owner,
        content: Content,
    },
    /// Run `systemctl` with these arguments.
    Systemctl(&'static [&'static str]),
    /// Remove a file or directory, if it exists.
    Remove(PathBuf),
    /// Remove the agent's user.
    NoUser,
}

/// The steps, and notes for the administrator.
#[derive(Debug)]
pub struct Plan {
    pub(super) layout: Layout,
    pub(super) steps: Vec<Step>,
    /// Sentences for the administrator.
    pub notes: Vec<String>,
}

/// A new configuration. Files have the paths that they will have on the machine.
#[derive(Debug)]
pub struct Fresh {
    /// The content of the configuration file, which names the files below.
    pub config: String,
    /// Secrets and certificates in the same directory: name and content.
    pub files: Vec<(&'static str, Secret)>,
    /// Whether the search token among them was generated just now.
    pub drawn: bool,
    /// The enrolment that gives the site key; without it, the key is among the files.
    pub enrolment: Option<Enrolment>,
}

impl Fresh {
    /// The search token, if there is one.
    pub fn token(&self) -> Option<&Secret> {
        self.files.iter().find(|(name, _)| *name == super::SEARCH_TOKEN).map(|(_, token)| token)
    }
}

/// An installation, or an upgrade of one.
#[derive(Debug)]
pub struct Install {
    /// The paths of the installation.
    pub layout: Layout,
    /// The new configuration; an upgrade keeps the existing one.
    pub fresh: Option<Fresh>,
    /// The program to install.
    pub program: PathBuf,
    /// The directories in which recordings lie.
    pub recordings: Vec<PathBuf>,
    /// The largest number of streams at a time.
    pub max_streams: u32,
    /// Whether to start the agent.
    pub start: bool,
}

impl Install {
    /// The steps of the installation.
    pub fn plan(self) -> Plan {
        let access = recordings::access(&self.recordings);
        let upgrade = self.fresh.is_none();
        let mut steps = vec![Step::User];
        let directory = Layout::directory();
        steps.push(Step::Directory { path: directory.clone(), mode: 0o750, owner: Owner::AgentsGroup });
        steps.push(Step::Directory { path: Layout::logs(), mode: 0o750, owner: Owner::Agent });
        let drawn = self.fresh.as_ref().is_some_and(|fresh| fresh.drawn);
        if let Some(fresh) = self.fresh {
            steps.extend(configuration(fresh, &directory));
        }
        let unit = Unit {
            user: NAME.to_owned(),
            groups: access.groups.into_iter().collect(),
            recordings: self.recordings,
            max_streams: self.max_streams,
        };
        if self.program != Layout::program() {
            steps.push(Step::file(Layout::program(), 0o755, Owner::Root, Content::CopyOf(self.program)));
        }
        steps.push(Step::file(Layout::unit(), 0o644, Owner::Root, Content::Text(unit.text())));
        if self.layout.is_here() {
            steps.push(Step::Systemctl(&["daemon-reload"]));
        }
        steps.push(Step::Systemctl(&["enable", NAME]));
        if self.start && self.layout.is_here() {
            // `restart` also starts an agent that does not run, and waits until it says that it is ready.
            steps.push(Step::Systemctl(&["restart", NAME]));
        }
        let mut notes = access.problems;
        if drawn {
            let token = directory.join(super::SEARCH_TOKEN);
            notes.push(format!(
                "A new search token was generated; QueueMetrics needs it too: sudo cat {}",
                token.display()
            ));
        }
        notes.push(if upgrade {
            format!("The configuration in {} is unchanged.", Layout::config().display())
        } else {
            format!(
                "`{NAME} check` tests everything, `systemctl status {NAME}` shows the state of the agent."
            )
        });
        Plan { layout: self.layout, steps, notes }
    }
}

/// The code is traded before anything else is written. If that fails, it leaves no traces; if a later step fails, the
/// new key is already on disk.
fn configuration(fresh: Fresh, directory: &Path) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(enrolment) = fresh.enrolment {
        let content = Content::Enrolled(Box::new(enrolment));
        steps.push(Step::file(directory.join(super::SITE_KEY), 0o600, Owner::Agent, content));
    }
    for (name, secret) in fresh.files {
        steps.push(Step::file(directory.join(name), 0o600, Owner::Agent, Content::Secret(secret)));
    }
    steps.push(Step::file(Layout::config(), 0o640, Owner::AgentsGroup, Content::Text(fresh.config)));
    steps
}

/// The steps that remove an installation. Configuration, secrets and audit logs stay unless `purge` is set.
pub fn uninstall(layout: Layout, purge: bool) -> Plan {
    let mut steps = Vec::new();
    if layout.is_here() {
        steps.push(Step::Systemctl(&["disable", "--now", NAME]));
    } else {
        steps.push(Step::Systemctl(&["disable", NAME]));
    }
    steps.push(Step::Remove(Layout::unit()));
    steps.push(Step::Remove(Layout::unit().with_extension("service.d")));
    if layout.is_here() {
        steps.push(Step::Systemctl(&["daemon-reload"]));
    }
    steps.push(Step::Remove(Layout::program()));
    let mut notes = Vec::new();
    let kept = ["/etc", "/var/lib", "/var/log"].map(|parent| Path::new(parent).join(NAME));
    if purge {
        steps.extend(kept.map(Step::Remove));
        steps.push(Step::NoUser);
    } else {
        let kept = kept.map(|path| path.display().to_string()).join(", ");
        notes.push(format!("{kept} and the user {NAME} stay; `{NAME} uninstall --purge` removes them too."));
    }
    Plan { layout, steps, notes }
}

impl Step {
    fn file(path: PathBuf, mode: u32, owner: Owner, content: Content) -> Self {
        Self::File { path, mode, owner, content }
    }
}
