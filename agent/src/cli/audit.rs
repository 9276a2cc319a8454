//! `audit`: commands that change the audit log from outside the agent.

use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
};

use audiovault_agent_core::call_id::CallIdRules;
use audiovault_protocol::recording::call::NamedCall;

use super::{CommandError, runtime, say};
use crate::{
    audit::{self, Erased, Erasure},
    config::{
        audit_args::{AuditCommand, EraseArgs},
        check,
        error::ConfigError,
    },
    storage::linked_calls::Cdr,
};

pub(super) async fn run(command: AuditCommand) -> Result<ExitCode, CommandError> {
    match command {
        AuditCommand::Erase(args) => erase(*args).await,
    }
}

async fn erase(args: EraseArgs) -> Result<ExitCode, CommandError> {
    let path = args.audit_log.clone().ok_or(ConfigError::Missing("--audit-log"))?;
    let ids = legs(&args).await?;
    let calls = ids.iter().map(|id| NamedCall::new(id)).collect();
    let erasure = Erasure { calls, by: user(), reason: args.reason };
    let work = tokio::task::spawn_blocking(move || audit::erase(&path, &erasure));
    let erased = work.await.map_err(runtime)?.map_err(runtime)?;
    io::stdout().write_all(to_text(&erased, &ids).as_bytes()).map_err(runtime)?;
    for path in &erased.left_alone {
        say(
            &mut io::stderr(),
            &format!(
                "{} is not an audit log file and was not searched; unpack it, or erase the call from it yourself",
                path.display()
            ),
        );
    }
    Ok(if erased.left_alone.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The ids of the calls and, from the call records, of the other legs of their conversations.
async fn legs(args: &EraseArgs) -> Result<Vec<String>, CommandError> {
    let mut ids = args.call_ids.clone();
    let Some(settings) = check::cdr(&args.cdr)? else { return Ok(ids) };
    let cdr = Cdr::new(&settings).map_err(runtime)?;
    let rules = CallIdRules::default();
    for id in &args.call_ids {
        // An id in the admin's own form is not a unique id of Asterisk, by which call records are searched.
        let Ok(call) = rules.parse(id) else { continue };
        let linked = cdr.linked(&call, &rules).await.map_err(runtime)?;
        ids.extend(linked.ids.iter().map(|id| id.as_str().to_owned()));
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}

fn to_text(erased: &Erased, ids: &[String]) -> String {
    let count =
        |count: u64, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    let lines = count(erased.lines, "line");
    let files = count(erased.files as u64, "file");
    let mut text = format!("erased {lines} from {files}\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "run at the relay: audiovault-relay audit erase {}", ids.join(" "));
    text
}

/// The user of this machine who runs the command, and the user before `sudo`.
fn user() -> String {
    let uid = rustix::process::getuid().as_raw();
    match std::env::var("SUDO_USER") {
        Ok(before) if !before.is_empty() => format!("uid {uid} ({before} by sudo)"),
        Ok(_) | Err(_) => format!("uid {uid}"),
    }
}
