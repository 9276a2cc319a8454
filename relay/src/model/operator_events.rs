//! Operators' events: who changed what on this relay, and who read the audit log.
//!
//! An event is written in the same transaction as the change that it records ([`crate::store`]). No command and no
//! page deletes an event; it is deleted only at the end of its retention.

use std::{fmt, fs, net::IpAddr, str::FromStr};

use audiovault_protocol::identity::site::SiteId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr,
        schema::{Schema, Type},
    },
};

use super::{
    account::Rights,
    audit::{UnknownName, bounded},
};

macro_rules! actions {
    ($($(#[$doc:meta])+ $variant:ident => $code:literal),+ $(,)?) => {
        /// What was done. The codes are stable: programs may compare them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Action {
            $($(#[$doc])+ #[serde(rename = $code)] $variant),+
        }

        impl Action {
            /// All actions, in the order in which pages offer them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code in the database, the API and exports.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }
        }
    };
}

actions! {
    /// A site was added
    SiteAdded => "site.added",
    /// A site was removed with its aliases and keys
    SiteRemoved => "site.removed",
    /// A site was disabled
    SiteDisabled => "site.disabled",
    /// A site was enabled
    SiteEnabled => "site.enabled",
    /// An alias was added to a site
    AliasAdded => "site.alias_added",
    /// An alias was removed from a site
    AliasRemoved => "site.alias_removed",
    /// A site got a new key from an operator
    KeyAdded => "site.key_added",
    /// A key of a site was revoked
    KeyRevoked => "site.key_revoked",
    /// An enrolment code was made for a site
    CodeMade => "site.code_made",
    /// An enrolment code was traded for a new key of its site
    KeyEnrolled => "site.key_enrolled",
    /// An agent connected while others of its site were connected
    AgentAdded => "agent.added",
    /// An agent connected from an address that is new to its site
    AgentNewAddress => "agent.new_address",
    /// A user was added
    UserAdded => "user.added",
    /// The rights of a user were changed
    UserChanged => "user.changed",
    /// The password of a user was set
    PasswordSet => "user.password_set",
    /// A user was removed
    UserRemoved => "user.removed",
    /// A user logged in
    LoggedIn => "user.logged_in",
    /// There were too many attempts to log in, and further ones are refused
    LockedOut => "login.locked_out",
    /// An API token was made
    TokenAdded => "token.added",
    /// An API token was removed
    TokenRemoved => "token.removed",
    /// The audit log was read on its page or through the API
    AuditRead => "audit.read",
    /// The audit log was exported as CSV
    AuditExported => "audit.exported",
    /// A call was erased from the audit log
    AuditErased => "audit.erased",
    /// The operators' events were read on their page or through the API
    EventsRead => "operator_events.read",
    /// The operators' events were exported as CSV
    EventsExported => "operator_events.exported",
    /// The database was copied into a file
    BackedUp => "database.backed_up",
    /// Another database was imported into this one
    Imported => "database.imported",
}

impl Action {
    /// The actions after which other agents than before may answer for a site and receive its requests.
    pub const OF_ACCESS: [Self; 4] =
        [Self::KeyAdded, Self::KeyEnrolled, Self::AgentAdded, Self::AgentNewAddress];

    /// The key of the action's name in the text files of the pages. Their keys have no dots.
    pub fn text_key(self) -> String {
        format!("action-{}", self.as_str().replace('.', "-"))
    }
}

// The derive does not see codes that come from a macro.
impl PartialSchema for Action {
    fn schema() -> RefOr<Schema> {
        let codes = Self::ALL.iter().map(|action| action.as_str());
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes)).into()
    }
}

impl ToSchema for Action {}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        Self::ALL.iter().copied().find(|action| action.as_str() == text).ok_or(UnknownName)
    }
}

/// One operators' event: what was done, when, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OperatorEvent {
    /// The number of the event in sixteen hexadecimal digits. Numbers count up without a gap.
    pub id: String,
    /// When it was done.
    pub at: Timestamp,
    /// How the actor proved who they are.
    pub actor_kind: ActorKind,
    /// The user, the API token, or the user of the operating system.
    pub actor: String,
    /// The user who owns the API token that acted.
    pub owner: Option<String>,
    /// Network address of the actor. Empty for the command line.
    pub address: Option<String>,
    /// What was done.
    pub action: Action,
    /// The site that the action concerns.
    #[schema(value_type = Option<String>)]
    pub site: Option<SiteId>,
    /// The user, API token, file or database that the action concerns.
    pub subject: Option<String>,
    /// What was there before, if something was changed. Contains no secret.
    pub before: Option<Value>,
    /// What is there now, or what was requested. Contains no secret.
    pub after: Option<Value>,
    /// The reason that the actor gave.
    pub reason: Option<String>,
}

/// An event after which other agents than before may answer for a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AccessChange {
    /// The site.
    #[serde(skip)]
    pub site: SiteId,
    /// What was done.
    pub action: Action,
    /// When it was done.
    pub at: Timestamp,
    /// The user, API token, or user of the operating system. For an agent, the host name that it reports.
    pub actor: String,
    /// Network address of the actor. Empty for the command line.
    pub address: Option<String>,
}

/// An event that will be written, without its actor and its time.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) action: Action,
    pub(crate) site: Option<SiteId>,
    pub(crate) subject: Option<String>,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

impl Entry {
    pub(crate) fn new(action: Action) -> Self {
        Self { action, site: None, subject: None, before: None, after: None }
    }

    pub(crate) fn of_site(action: Action, site: &SiteId) -> Self {
        Self { site: Some(site.clone()), ..Self::new(action) }
    }

    pub(crate) fn of(action: Action, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..Self::new(action) }
    }

    pub(crate) fn before(self, before: Value) -> Self {
        Self { before: Some(before), ..self }
    }

    pub(crate) fn after(self, after: Value) -> Self {
        Self { after: Some(after), ..self }
    }
}

/// Rights in the form in which events show them.
pub(crate) fn rights(rights: &Rights) -> Value {
    serde_json::json!({ "role": rights.role, "sites": rights.scope.sites(), "playback": rights.playback })
}

pub(crate) fn without_nulls(value: &Value) -> Value {
    let fields = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// How the actor proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A user in a browser
    User,
    /// A program with an API token
    Token,
    /// A user of the operating system at the command line
    CommandLine,
    /// A person with the link that creates the first user
    SetupLink,
    /// An agent, or a program that acts as one
    Agent,
    /// An unauthenticated client
    Unknown,
}

crate::model::audit::named!(ActorKind {
    User => "user", Token => "token", CommandLine => "command_line", SetupLink => "setup_link", Agent => "agent",
    Unknown => "unknown",
});

/// Who makes a change. Every method of the store that changes something for an operator takes an actor.
#[derive(Debug, Clone)]
pub struct Actor {
    /// How the actor proved who they are.
    pub kind: ActorKind,
    /// The user, the API token, or the user of the operating system.
    pub name: String,
    /// The user who owns the API token.
    pub owner: Option<String>,
    /// The network address of the actor. `None` for the command line.
    pub address: Option<IpAddr>,
    /// The reason of the actor, if they were asked for one.
    pub reason: Option<String>,
}

/// The content of `/proc/self/loginuid` for a process without a login (proc_pid_loginuid(5)): `(uid_t) -1`.
const NO_LOGIN: u32 = u32::MAX;

impl Actor {
    /// An actor at a network address.
    pub fn at(kind: ActorKind, name: impl Into<String>, address: IpAddr) -> Self {
        Self { kind, name: name.into(), owner: None, address: Some(address), reason: None }
    }

    /// The user of the operating system who runs this process. After `su` or `sudo` the name includes the user
    /// who logged in, if the kernel knows it (`CONFIG_AUDIT`).
    pub fn command_line() -> Self {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let uid = rustix::process::getuid().as_raw();
        let login = fs::read_to_string("/proc/self/loginuid").ok();
        let login = login.and_then(|text| text.trim().parse().ok());
        Self {
            kind: ActorKind::CommandLine,
            name: account(&passwd, uid, login),
            owner: None,
            address: None,
            reason: None,
        }
    }

    /// The same actor with the reason that they gave. A blank reason is ignored.
    #[must_use]
    pub fn because(self, reason: &str) -> Self {
        let reason = Some(bounded(reason.trim())).filter(|reason| !reason.is_empty());
        Self { reason, ..self }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn account(passwd: &str, uid: u32, login: Option<u32>) -> String {
    let name = user_name(passwd, uid);
    match login {
        Some(login) if login != NO_LOGIN && login != uid => {
            format!("{name} (logged in as {})", user_name(passwd, login))
        }
        _ => name,
    }
}

/// The name of a user in `passwd(5)`. If it is not in that file but in another name service, the number.
fn user_name(passwd: &str, uid: u32) -> String {
    let number = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&number));
    let name = line.and_then(|line| line.split(':').next());
    name.map_or_else(|| format!("uid {uid}"), bounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_way_to_the_database_and_back() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
        }
        assert_eq!("site.eaten".parse::<Action>(), Err(UnknownName));
    }

    #[test]
    fn the_command_line_names_the_account_and_who_logged_in() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nmaria:x:1000:1000::/home/maria:/bin/sh\n";
        assert_eq!(account(passwd, 1000, Some(1000)), "maria");
        assert_eq!(account(passwd, 0, Some(1000)), "root (logged in as maria)");
        assert_eq!(account(passwd, 0, Some(NO_LOGIN)), "root");
        assert_eq!(account(passwd, 4711, None), "uid 4711");
    }

    #[test]
    fn a_reason_is_bounded_and_a_blank_one_is_dropped() {
        assert_eq!(Actor::command_line().because("  ").reason, None);
        let long = Actor::command_line().because(&"a\n".repeat(5000)).reason.unwrap();
        assert!(long.len() < 300 && !long.contains('\n'));
    }
}
