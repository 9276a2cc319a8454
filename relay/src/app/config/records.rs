//! Settings of the audit log, alerts and metrics.

use std::{fs, path::PathBuf, time::Duration};

use audiovault_protocol::recording::name::{RecordedNames, UnknownNames};
use url::Url;
use zeroize::Zeroizing;

use super::{ConfigError, duration, invalid, truth};
use crate::{
    admin::auth::SESSION_IDLE,
    app::config::settings::ServeArgs,
    audit::retention::{MIN_KEEP_OPERATOR_EVENTS, Retention},
    monitoring::alerts::{DEFAULT_HOLD, Webhook},
    store::DEFAULT_NAME_REST,
};

/// Checked settings of the audit log, alerts and metrics.
#[derive(Debug, Clone)]
pub struct RecordsConfig {
    /// How long events are kept.
    pub retention: Retention,
    /// How names of recordings are written in the audit log.
    pub names: RecordedNames,
    /// Where alerts are sent; `None` for no alerts.
    pub alerts: Option<AlertConfig>,
    /// Whether each site has metrics of its own.
    pub site_metrics: bool,
    /// How long a session can be idle before it ends.
    pub session_idle: Duration,
    /// How long the names of removed sites and aliases cannot be reused.
    pub name_rest: Duration,
    /// Directory in which audit events wait while the database is unreachable; `None` for memory.
    pub spool_dir: Option<PathBuf>,
}

/// Where and when alerts are sent.
#[derive(Debug, Clone)]
pub struct AlertConfig {
    /// The webhook that receives the alerts.
    pub webhook: Webhook,
    /// How long a state must last before an alert is sent.
    pub hold: Duration,
}

impl Default for RecordsConfig {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            names: RecordedNames::default(),
            alerts: None,
            site_metrics: true,
            session_idle: SESSION_IDLE,
            name_rest: DEFAULT_NAME_REST,
            spool_dir: None,
        }
    }
}

impl RecordsConfig {
    pub(super) fn check(args: &ServeArgs) -> Result<Self, ConfigError> {
        let default = Retention::default();
        let retention = Retention {
            pseudonymise_after: duration(
                "--audit-pseudonymise-after",
                args.audit_pseudonymise_after.as_deref(),
                default.pseudonymise_after,
            )?,
            keep: duration("--audit-keep", args.audit_keep.as_deref(), default.keep)?,
            keep_operator_events: keep_operator_events(args, default.keep_operator_events)?,
        };
        let names = match args.audit_names.as_deref() {
            Some(text) => {
                text.parse().map_err(|error: UnknownNames| invalid("--audit-names", text, &error))?
            }
            None => RecordedNames::default(),
        };
        let site_metrics = truth("--site-metrics", args.site_metrics.as_deref(), true)?;
        let spool_dir = args.spool_dir.clone();
        let name_rest = duration("--name-rest", args.name_rest.as_deref(), DEFAULT_NAME_REST)?;
        let session_idle = duration("--session-idle", args.session_idle.as_deref(), SESSION_IDLE)?;
        let alerts = alerts(args)?;
        Ok(Self { retention, names, alerts, site_metrics, session_idle, name_rest, spool_dir })
    }
}

fn keep_operator_events(args: &ServeArgs, default: Duration) -> Result<Duration, ConfigError> {
    const FLAG: &str = "--operator-events-keep";
    let text = args.operator_events_keep.as_deref();
    let keep = duration(FLAG, text, default)?;
    if keep < MIN_KEEP_OPERATOR_EVENTS {
        return Err(invalid(FLAG, text.unwrap_or_default(), &"expected 90days or more"));
    }
    Ok(keep)
}

fn alerts(args: &ServeArgs) -> Result<Option<AlertConfig>, ConfigError> {
    let hold = duration("--alert-hold", args.alert_hold.as_deref(), DEFAULT_HOLD)?;
    let (url, file) = match (&args.alert_webhook, &args.alert_secret_file) {
        (None, None) => return Ok(None),
        (Some(url), Some(file)) => (url, file),
        (None, _) => return Err(ConfigError::IncompleteAlerts("--alert-webhook")),
        (_, None) => return Err(ConfigError::IncompleteAlerts("--alert-secret-file")),
    };
    let secret = fs::read_to_string(file).map(Zeroizing::new).map_err(|source| ConfigError::Unreadable {
        flag: "--alert-secret-file",
        path: file.clone(),
        source,
    })?;
    // The address may hold a token, so errors must not repeat it.
    let wrong = |reason: &dyn ToString| invalid("--alert-webhook", "(not shown)", reason);
    let url = Url::parse(url.trim()).map_err(|error| wrong(&error))?;
    let webhook = Webhook::new(url, &secret).map_err(|error| wrong(&error))?;
    Ok(Some(AlertConfig { webhook, hold }))
}
