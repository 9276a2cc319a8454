//! The actor of an operators' event.

use std::{fmt, fs, net::IpAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::audit::bounded;

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
    fn the_command_line_names_the_account_and_who_logged_in() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nmaria:x:1000:1000::/home/maria:/bin/sh\n";
        assert_eq!(account(passwd, 1000, Some(1000)), "maria");
        assert_eq!(account(passwd, 0, Some(1000)), "root (logged in as maria)");
        assert_eq!(account(passwd, 0, Some(NO_LOGIN)), "root");
        assert_eq!(account(passwd, 4711, None), "uid 4711");
    }

    #[test]
    fn a_reason_is_bounded_and_a_blank_one_is_none() {
        assert_eq!(Actor::command_line().because("  ").reason, None);
        let long = Actor::command_line().because(&"a\n".repeat(5000)).reason.unwrap();
        assert!(long.len() < 300 && !long.contains('\n'));
    }
}
