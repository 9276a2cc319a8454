//! The errors of a configuration.

use std::{borrow::Cow, path::PathBuf, slice, time::Duration};

use audiovault_agent_core::{
    call_id::CallIdError, media::ExtensionError, pattern::PatternError, query::StartError,
};
use audiovault_common::{advice::Advice, settings::OfSetting};
use audiovault_protocol::identity::site::SiteError;

use super::{audit_log_args::AuditLogArgsError, cdr_args::CdrArgsError, network::NetworkError};
use crate::{
    auth::{
        AccessError,
        secret_files::{SecretError, TenantsFileError},
    },
    http::dialect::DialectError,
    limits::ScheduleError,
    tunnel::TunnelError,
};

/// Why a configuration cannot be used; the admin has to change it. Secrets are never part of the text.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A required setting is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A secret was given in two ways at once.
    #[error("{0} and {0}-file are both set")]
    Twice(&'static str),
    /// The relay's address is invalid.
    #[error("--relay {0:?} is not the address of a relay")]
    Relay(String),
    /// A relay is named twice.
    #[error("--relay {0:?} is set twice")]
    SameRelay(String),
    /// The relay's address holds a user or password.
    #[error("--relay must not contain a user or password")]
    RelayCredentials,
    /// The site key would be sent unencrypted.
    #[error("--relay {0:?} is unencrypted")]
    Plaintext(String),
    /// The public address is invalid.
    #[error("--public-url {0:?} is not a valid address")]
    PublicUrl(String),
    /// An origin is invalid.
    #[error("--allow-origin {0:?} must be * or a list of origins such as https://queuemetrics.example.com")]
    Origin(String),
    /// The site key is invalid.
    #[error("the site key is invalid")]
    SiteKey(#[from] SiteError),
    /// A path pattern is invalid.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// One tenant's directories cannot be distinguished from another's.
    #[error(
        "--path {0:?} has %TE inside a directory name, so with --tenants one tenant can find another's \
         recordings"
    )]
    MixedTenants(String),
    /// A tenant's directory may contain those of others.
    #[error(
        "--path: with --tenants, the directory of one tenant must not be inside the directory of another, \
         but {inner} can be inside {outer}"
    )]
    NestedTenants {
        /// The path whose directories are higher.
        outer: String,
        /// The path whose directories may lie inside those.
        inner: String,
    },
    /// The time zone is not in the database.
    #[error("--timezone {0:?} is not in the time zone database")]
    TimeZone(String),
    /// A duration is invalid or out of bounds.
    #[error(
        "{flag} {text:?} must be a duration from {} to {}, such as 4h or 90m",
        in_days(*least),
        in_days(*most)
    )]
    Duration {
        /// The flag.
        flag: &'static str,
        /// The text that was given.
        text: String,
        /// The shortest duration.
        least: Duration,
        /// The longest duration.
        most: Duration,
    },
    /// The admin's rule for call ids is not a regular expression.
    #[error("--call-id is not a regular expression")]
    CallIdRegex(#[source] Box<regex::Error>),
    /// A file name extension is invalid.
    #[error(transparent)]
    Extension(#[from] ExtensionError),
    /// The name of a sentinel is invalid.
    #[error("--sentinel {0:?} must be a file name, without directories")]
    Sentinel(String),
    /// A file with a secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The file of the link key can neither be read nor created.
    #[error("cannot read or create the link secret file {}", .0.display())]
    LinkSecret(PathBuf, #[source] std::io::Error),
    /// The link key is so short that it could be guessed.
    #[error("the link secret in {} is too short", .0.display())]
    ShortLinkSecret(PathBuf),
    /// The network settings cannot be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The settings of the audit log or the deny list cannot be used.
    #[error(transparent)]
    Record(#[from] AuditLogArgsError),
    /// The tenants file cannot be used.
    #[error(transparent)]
    Tenants(#[from] TenantsFileError),
    /// The tokens cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The call id is invalid.
    #[error("CALL-ID {text:?} is not a valid call id")]
    CallId {
        /// The text that was given.
        text: String,
        /// Why it is invalid.
        source: CallIdError,
    },
    /// The start of the call is invalid.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The settings of the tunnel cannot be used.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The command line is for another command than the one that runs.
    #[error("internal error: the command line belongs to another command")]
    OtherCommand,
    /// The settings of the call records cannot be used.
    #[error(transparent)]
    Cdr(#[from] CdrArgsError),
    /// The dialect file cannot be used.
    #[error(transparent)]
    Dialect(#[from] DialectError),
    /// An agent is already installed.
    #[error("{} exists already", .0.display())]
    Installed(PathBuf),
    /// An enrolment code was given together with the key that it would be traded for.
    #[error("--enroll and a site key are both set")]
    CodeAndKey,
    /// A rate or its times are invalid.
    #[error("--max-rate is invalid")]
    MaxRate(#[from] ScheduleError),
    /// The log level is invalid.
    #[error("--log-level {0:?} is invalid")]
    LogLevel(String),
}

impl Advice for ConfigError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Missing(_) => {
                Some("set it by flag, environment variable, or in the file of --config".into())
            }
            Self::Twice(_) | Self::CodeAndKey => Some("set only one of them".into()),
            Self::Relay(_) => Some("write wss://HOST".into()),
            Self::SameRelay(_) => Some("use --connections for several tunnels to one relay".into()),
            Self::RelayCredentials => Some("the agent authenticates with the site key".into()),
            Self::Plaintext(_) => {
                Some("use wss://, or --allow-plaintext if you trust the whole network".into())
            }
            Self::PublicUrl(_) => Some("write https://HOST[/PATH]".into()),
            Self::MixedTenants(_) => Some("make %TE the whole name of a directory, such as /%TE/%QU".into()),
            Self::NestedTenants { .. } => {
                Some("keep the two paths apart, or put %TE at the same depth in both".into())
            }
            Self::TimeZone(_) => Some("use a name such as Europe/Madrid".into()),
            Self::ShortLinkSecret(_) => Some("delete the file, and the agent creates a new one".into()),
            Self::Installed(_) => {
                Some("edit it, or run `install` without flags to upgrade only the program".into())
            }
            Self::LogLevel(_) => Some(
                "use error, warn, info, debug or trace, or a list such as info,audiovault_agent=debug".into(),
            ),
            Self::Pattern(error) => error.advice().map(Cow::from),
            Self::Tenants(error) => error.advice(),
            Self::Network(error) => error.advice(),
            Self::Record(error) => error.advice(),
            Self::Access(error) => error.advice(),
            Self::Tunnel(error) => error.advice(),
            Self::Cdr(error) => error.advice(),
            Self::Dialect(error) => error.advice(),
            Self::MaxRate(error) => error.advice(),
            Self::Origin(_)
            | Self::SiteKey(_)
            | Self::Duration { .. }
            | Self::CallIdRegex(_)
            | Self::Extension(_)
            | Self::Sentinel(_)
            | Self::Secret(_)
            | Self::LinkSecret(..)
            | Self::CallId { .. }
            | Self::Start(_)
            | Self::OtherCommand => None,
        }
    }
}

/// The duration as one would write it: whole days as days, not as months and hours.
fn in_days(duration: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    match duration.as_secs() {
        seconds if seconds >= DAY && seconds.is_multiple_of(DAY) => format!("{}d", seconds / DAY),
        _ => humantime::format_duration(duration).to_string(),
    }
}

impl OfSetting for ConfigError {
    fn flags(&self) -> &[&'static str] {
        match self {
            Self::Relay(_) | Self::SameRelay(_) | Self::RelayCredentials | Self::Plaintext(_) => &["relay"],
            Self::PublicUrl(_) => &["public-url"],
            Self::Origin(_) => &["allow-origin"],
            Self::SiteKey(_) => &["site-key", "site-key-file"],
            Self::Pattern(_) | Self::MixedTenants(_) | Self::NestedTenants { .. } => &["path"],
            Self::TimeZone(_) => &["timezone"],
            Self::Duration { flag, .. } => slice::from_ref(flag),
            Self::CallIdRegex(_) => &["call-id"],
            Self::Extension(_) => &["extension"],
            Self::Sentinel(_) => &["sentinel"],
            Self::LinkSecret(..) | Self::ShortLinkSecret(_) => &["link-secret-file"],
            Self::Network(error) => error.flags(),
            Self::Record(error) => error.flags(),
            Self::Tenants(_) => &["tenants"],
            Self::Access(_) => &["token", "token-file"],
            Self::Cdr(error) => error.flags(),
            Self::Dialect(_) => &["dialect"],
            Self::MaxRate(_) => &["max-rate"],
            Self::LogLevel(_) => &["log-level"],
            Self::Missing(_)
            | Self::Twice(_)
            | Self::Secret(_)
            | Self::CallId { .. }
            | Self::Start(_)
            | Self::Tunnel(_)
            | Self::OtherCommand
            | Self::Installed(_)
            | Self::CodeAndKey => &[],
        }
    }
}
