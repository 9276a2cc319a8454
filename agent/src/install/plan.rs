//! The steps of an installation: they are planned, described and performed.

use std::{
    borrow::Cow,
    fmt::Write as _,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use audiovault_agent_core::secret::Secret;
use audiovault_common::advice::Advice;

use super::{
    Fresh, Layout, NAME, SEARCH_TOKEN, SITE_KEY,
    enrol::{EnrolError, Enrolment},
    unit::{Unit, access},
};

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

/// The steps, and notes for the administrator.
#[derive(Debug)]
pub struct Plan {
    layout: Layout,
    steps: Vec<Step>,
    /// Sentences for the administrator.
    pub notes: Vec<String>,
}

/// One step.
#[derive(Debug)]
enum Step {
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

impl Step {
    fn file(path: PathBuf, mode: u32, owner: Owner, content: Content) -> Self {
        Self::File { path, mode, owner, content }
    }
}

/// The owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Root.
    Root,
    /// Root; the agent's group may read it.
    AgentsGroup,
    /// The agent.
    Agent,
}

/// The content of a file.
#[derive(Debug)]
enum Content {
    /// Text that may be shown.
    Text(String),
    /// Text that must not be shown.
    Secret(Secret),
    /// A site key, for which the enrolment code is traded when this step is performed.
    Enrolled(Box<Enrolment>),
    /// A copy of a program.
    CopyOf(PathBuf),
}

/// Why an installation stopped. Earlier steps remain done; running it again does no harm.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file cannot be written.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// A file cannot be removed.
    #[error("cannot remove {}", .0.display())]
    Remove(PathBuf, #[source] io::Error),
    /// A system program is missing or failed.
    #[error("{0} failed: {1}")]
    Program(String, String),
    /// The user that was created is not there.
    #[error("there is no user {NAME} in {}", .0.display())]
    NoUser(PathBuf),
    /// The enrolment code was not traded for a key.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
}

impl Advice for InstallError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Write(..) | Self::Remove(..) => Some("run this as root (sudo)".into()),
            Self::Program(..) | Self::NoUser(_) => None,
            Self::Enrol(error) => error.advice(),
        }
    }
}

impl Install {
    /// The steps of the installation.
    pub fn plan(self) -> Plan {
        let access = access(&self.recordings);
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
            let token = directory.join(SEARCH_TOKEN);
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

/// Describes the steps, one line each, without any secret.
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        let line = match step {
            Step::User => format!("create the system user {NAME}, if it does not exist"),
            Step::NoUser => format!("remove the user {NAME}"),
            Step::Directory { path, mode, owner } => {
                format!("create the directory {} ({mode:04o}, {})", path.display(), whose(*owner))
            }
            Step::File { path, mode, owner, content } => {
                let what = match content {
                    Content::Text(_) => "write",
                    Content::Secret(_) => "write a secret to",
                    Content::Enrolled(_) => "trade the enrolment code for a site key, and write it to",
                    Content::CopyOf(_) => "copy this program to",
                };
                format!("{what} {} ({mode:04o}, {})", path.display(), whose(*owner))
            }
            Step::Systemctl(words) => format!("run: {}", shown(&systemctl(&plan.layout, words))),
            Step::Remove(path) => format!("remove {}, if it exists", path.display()),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {line}");
        if let Step::File { content: Content::Text(content), .. } = step {
            for line in content.lines() {
                let _ = writeln!(text, "    | {line}");
            }
        }
    }
    text
}

/// Performs all steps.
///
/// # Errors
/// [`InstallError`] of the first step that fails.
pub async fn perform(plan: Plan, say: impl Fn(&str)) -> Result<Vec<String>, InstallError> {
    let mut notes = plan.notes;
    for step in plan.steps {
        match step {
            Step::User => make_user(&plan.layout)?,
            Step::NoUser => remove_user(&plan.layout)?,
            Step::Directory { path, mode, owner } => {
                let at = plan.layout.at(&path);
                let made = DirBuilder::new().recursive(true).mode(mode).create(&at);
                made.map_err(|error| InstallError::Write(at.clone(), error))?;
                own(&plan.layout, &at, mode, owner)?;
            }
            Step::File { path, mode, owner, content } => {
                let at = plan.layout.at(&path);
                let content = match content {
                    Content::Text(text) => text.into_bytes(),
                    Content::Secret(secret) => line(&secret),
                    Content::Enrolled(enrolment) => {
                        let (site, key) = enrolment.trade().await?;
                        say(&format!("traded the enrolment code for a key of the site {site}"));
                        line(&key)
                    }
                    Content::CopyOf(program) => {
                        fs::read(&program).map_err(|error| InstallError::Write(program, error))?
                    }
                };
                write(&at, &content, mode).map_err(|error| InstallError::Write(at.clone(), error))?;
                own(&plan.layout, &at, mode, owner)?;
                say(&format!("wrote {}", path.display()));
            }
            Step::Systemctl(words) => {
                if let Some(note) = run_systemctl(&plan.layout, words)? {
                    notes.push(note);
                }
            }
            Step::Remove(path) => remove(&plan.layout.at(&path))?,
        }
    }
    Ok(notes)
}

/// The code is traded before anything else is written. If that fails, it leaves no traces; if a later step fails, the
/// new key is already on disk.
fn configuration(fresh: Fresh, directory: &Path) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(enrolment) = fresh.enrolment {
        let content = Content::Enrolled(Box::new(enrolment));
        steps.push(Step::file(directory.join(SITE_KEY), 0o600, Owner::Agent, content));
    }
    for (name, secret) in fresh.files {
        steps.push(Step::file(directory.join(name), 0o600, Owner::Agent, Content::Secret(secret)));
    }
    steps.push(Step::file(Layout::config(), 0o640, Owner::AgentsGroup, Content::Text(fresh.config)));
    steps
}

fn line(secret: &Secret) -> Vec<u8> {
    format!("{}\n", secret.reveal()).into_bytes()
}

fn whose(owner: Owner) -> &'static str {
    match owner {
        Owner::Root => "owned by root",
        Owner::AgentsGroup => "owned by root, readable by the agent",
        Owner::Agent => "owned by the agent",
    }
}

/// Writes a file whole or not at all, by renaming; a running program can be replaced this way.
fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(draft, path)
}

/// Sets mode and owner: the umask may have removed bits, and an existing file had its own.
fn own(layout: &Layout, path: &Path, mode: u32, owner: Owner) -> Result<(), InstallError> {
    let failed = |error| InstallError::Write(path.to_owned(), error);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    if owner == Owner::Root {
        return Ok(());
    }
    let (user, group) = ids(layout)?;
    let user = if owner == Owner::Agent { user } else { 0 };
    chown(path, Some(user), Some(group)).map_err(failed)
}

/// The agent's user and group (passwd(5)), read without the C library: a static program has no name service switch.
fn ids(layout: &Layout) -> Result<(u32, u32), InstallError> {
    let passwd = layout.at(Path::new("/etc/passwd"));
    let text = fs::read_to_string(&passwd).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        (name == NAME).then_some((user, group))
    });
    found.ok_or(InstallError::NoUser(passwd))
}

fn make_user(layout: &Layout) -> Result<(), InstallError> {
    if ids(layout).is_ok() {
        return Ok(());
    }
    let flags = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"];
    let mut words: Vec<String> = ["useradd"].iter().chain(&flags).map(ToString::to_string).collect();
    words.extend(["--shell".to_owned(), "/usr/sbin/nologin".to_owned()]);
    words.extend(prefix(layout));
    words.push(NAME.to_owned());
    run(&words)
}

fn remove_user(layout: &Layout) -> Result<(), InstallError> {
    // Whether the group is removed with its user is a setting of the machine (`USERGROUPS_ENAB` in login.defs(5)).
    for (accounts, program) in [("/etc/passwd", "userdel"), ("/etc/group", "groupdel")] {
        let text = fs::read_to_string(layout.at(Path::new(accounts))).unwrap_or_default();
        if text.lines().any(|line| line.split(':').next() == Some(NAME)) {
            let words = [program.to_owned()].into_iter().chain(prefix(layout)).chain([NAME.to_owned()]);
            run(&words.collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

fn prefix(layout: &Layout) -> Option<String> {
    (!layout.is_here()).then(|| format!("--prefix={}", layout.root().display()))
}

fn systemctl(layout: &Layout, words: &[&str]) -> Vec<String> {
    let root = (!layout.is_here()).then(|| format!("--root={}", layout.root().display()));
    let words = words.iter().map(ToString::to_string);
    ["systemctl".to_owned()].into_iter().chain(root).chain(words).collect()
}

/// If systemd does not run (a container, another init), the unit is installed but the agent must be started otherwise.
fn run_systemctl(layout: &Layout, words: &[&str]) -> Result<Option<String>, InstallError> {
    let command = systemctl(layout, words);
    if layout.is_here() && !Path::new("/run/systemd/system").is_dir() {
        return Ok(Some(format!("systemd does not run here, so this was not run: {}", shown(&command))));
    }
    run(&command).map(|()| None)
}

fn shown(words: &[String]) -> String {
    words.join(" ")
}

fn run(words: &[String]) -> Result<(), InstallError> {
    let failed = |why: String| InstallError::Program(shown(words), why);
    let Some((program, rest)) = words.split_first() else { return Ok(()) };
    let output = Command::new(program).args(rest).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.split_whitespace().collect::<Vec<_>>().join(" ")))
}

fn remove(path: &Path) -> Result<(), InstallError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|error| InstallError::Remove(path.to_owned(), error))
}
