//! The flags of the audit log and the deny list, and their checks.

use std::{borrow::Cow, fs::OpenOptions, io, path::PathBuf, sync::Arc};

use audiovault_common::advice::{Advice, Warning};
use bytesize::ByteSize;
use clap::Args;

use crate::{
    audit::{AuditLogSettings, space_warning},
    http::ServiceSettings,
    storage::deny_list::{self, DenyError, DenySettings},
};

/// Smallest file of the audit log: a few lines.
const LEAST_SIZE: u64 = 4096;
/// Largest number of old audit log files that can be kept regardless of their age.
const MOST_KEPT: i64 = 1000;

/// The audit log and the deny list.
#[derive(Debug, Args)]
pub struct AuditLogArgs {
    /// Write every search and delivery to this file, one JSON object per line; this log belongs to the site
    #[arg(long, value_name = "FILE", help_heading = "Audit log and deny list")]
    pub audit_log: Option<PathBuf>,
    /// Size at which the agent begins a new audit log file; 0 leaves rotation to logrotate
    #[arg(long, value_name = "SIZE", default_value = "16MiB", help_heading = "Audit log and deny list")]
    pub audit_log_size: ByteSize,
    /// Number of old audit log files to keep; files younger than --audit-log-min-age are always kept
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=MOST_KEPT), help_heading = "Audit log and deny list")]
    pub audit_log_keep: u32,
    /// Minimum time to keep every line of the audit log, regardless of its size; with 0s only --audit-log-keep counts
    #[arg(long, value_name = "DURATION", default_value = "90d", help_heading = "Audit log and deny list")]
    pub audit_log_min_age: humantime::Duration,
    /// Raise an alarm when the disk of the audit log has less free space than this; 0 for no alarm
    #[arg(long, value_name = "SIZE", default_value = "512MiB", help_heading = "Audit log and deny list")]
    pub audit_log_min_free: ByteSize,
    /// Deny list: a file of call ids and globs, one per line, of recordings that the agent must not serve; changes
    /// take effect at once
    #[arg(long, value_name = "FILE", help_heading = "Audit log and deny list")]
    pub deny: Option<PathBuf>,
}

/// Why the audit log or the deny list cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum AuditLogArgsError {
    /// The files would be too small.
    #[error("--audit-log-size must be 0 or at least {}", ByteSize(LEAST_SIZE))]
    Size,
    /// There is no directory for the file.
    #[error("--audit-log: the directory of {} does not exist", .0.display())]
    Directory(PathBuf),
    /// The path exists but is not a file.
    #[error("--audit-log: {} is not a file", .0.display())]
    NotAFile(PathBuf),
    /// The file exists and cannot be written.
    #[error("--audit-log: cannot write {}", .0.display())]
    Unwritable(PathBuf, #[source] io::Error),
    /// The deny list cannot be used.
    #[error(transparent)]
    Deny(#[from] DenyError),
}

impl Advice for AuditLogArgsError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Directory(_) => Some("create it, and let the agent's user write there".into()),
            Self::Unwritable(..) => Some("check that the agent's user may write it".into()),
            Self::Size | Self::NotAFile(_) => None,
            Self::Deny(error) => error.advice(),
        }
    }
}

impl AuditLogArgsError {
    /// The flags that can set the value.
    pub(super) fn flags(&self) -> &[&'static str] {
        match self {
            Self::Size => &["audit-log-size"],
            Self::Directory(_) | Self::NotAFile(_) | Self::Unwritable(..) => &["audit-log"],
            Self::Deny(_) => &["deny"],
        }
    }
}

/// Checks the settings of the audit log and the deny list, and adds them to those of the service. Nothing is created or
/// locked, because a running agent may be using the files.
///
/// # Errors
/// [`AuditLogArgsError`].
pub(super) fn apply(
    args: AuditLogArgs,
    service: &mut ServiceSettings,
    warnings: &mut Vec<Warning>,
) -> Result<(), AuditLogArgsError> {
    let limit = Some(args.audit_log_size.as_u64()).filter(|size| *size > 0);
    if limit.is_some_and(|limit| limit < LEAST_SIZE) {
        return Err(AuditLogArgsError::Size);
    }
    if let Some(path) = args.deny {
        let call_ids = service.storage.call_ids.clone();
        let rules = Arc::new(deny_list::read(&path, &call_ids)?);
        service.deny = Some(DenySettings { path, call_ids, rules });
    }
    let Some(path) = args.audit_log else { return Ok(()) };
    // A bare file name lies in the current directory.
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    if directory.is_some_and(|directory| !directory.is_dir()) {
        return Err(AuditLogArgsError::Directory(path));
    }
    if path.exists() {
        if !path.is_file() {
            return Err(AuditLogArgsError::NotAFile(path));
        }
        if let Err(error) = OpenOptions::new().read(true).append(true).open(&path) {
            return Err(AuditLogArgsError::Unwritable(path, error));
        }
    }
    let settings = AuditLogSettings {
        path,
        limit,
        keep: args.audit_log_keep,
        min_age: args.audit_log_min_age.into(),
        min_free: args.audit_log_min_free.as_u64(),
    };
    warnings.extend(space_warning(&settings));
    service.audit_log = Some(settings);
    Ok(())
}
