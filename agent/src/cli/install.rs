//! `install` and `uninstall`: change the installation, or show what would change.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use audiovault_protocol::identity::{
    signed_link::LinkSecret,
    site::{SiteId, SiteKey},
};

use super::{CommandError, CommandLine, announced, runtime};
use crate::{
    app::AgentSettings,
    config::{
        args::TunnelArgs,
        check,
        error::ConfigError,
        install::{InstallArgs, UninstallArgs},
        settings,
    },
    install::{Fresh, Install, Layout, Plan, enrol::Enrolment, explain, fresh, perform, uninstall},
    tunnel::TunnelConfig,
};

pub(super) async fn run(args: InstallArgs, line: &CommandLine) -> Result<ExitCode, CommandError> {
    let layout = Layout::new(&args.root);
    let typed = line.typed().map_err(runtime)?;
    let dry_run = args.dry_run;
    let start = !args.no_start;
    let keeps = typed.is_empty() && args.enroll.is_none();
    let (storage, max_streams, fresh) = if !layout.is_installed() {
        let (settings, fresh) = new(args, fresh(typed).map_err(runtime)?)?;
        (settings.service.storage, settings.tunnel.max_streams, Some(fresh))
    } else if keeps {
        let args = installed(&layout)?;
        (announced(check::storage(&args.storage)?), args.limits.max_streams, None)
    } else {
        return Err(ConfigError::Installed(Layout::config()).into());
    };
    let recordings = storage.roots.iter().map(|root| root.root().to_owned()).collect();
    let program = std::env::current_exe().map_err(runtime)?;
    let plan = Install { layout, fresh, program, recordings, max_streams, start }.plan();
    finish(plan, dry_run, "Installed.").await
}

pub(super) async fn remove(args: &UninstallArgs) -> Result<ExitCode, CommandError> {
    finish(uninstall(Layout::new(&args.root), args.purge), args.dry_run, "Removed.").await
}

/// Checks everything but the site key, which may still have to be traded for an enrolment code.
fn new(args: InstallArgs, fresh: Fresh) -> Result<(AgentSettings, Fresh), CommandError> {
    let InstallArgs { enroll, tunnel: mut flags, .. } = args;
    if flags.access.token.is_none() && flags.access.token_file.is_none() && flags.access.tenants.is_none() {
        flags.access.token = fresh.token().cloned();
    }
    let run_secret = LinkSecret::from_bytes(rand::random());
    let Some(code) = enroll else {
        return Ok((announced(check::tunnel(flags, &run_secret)?), fresh));
    };
    if flags.site_key.is_some() || flags.site_key_file.is_some() {
        return Err(ConfigError::CodeAndKey.into());
    }
    let settings = without_key(flags, &run_secret)?;
    let TunnelConfig { relays, network, .. } = &settings.tunnel;
    let relay = relays.first().cloned().ok_or(ConfigError::Missing("--relay"))?;
    let enrolment = Some(Enrolment::new(relay, network.clone(), code));
    Ok((settings, Fresh { enrolment, ..fresh }))
}

/// The settings, with a placeholder for the key that the code will be traded for.
fn without_key(flags: TunnelArgs, run_secret: &LinkSecret) -> Result<AgentSettings, ConfigError> {
    let any = SiteKey::from_secret(SiteId::parse("enrolled")?, rand::random());
    Ok(announced(check::with_key(flags, any, run_secret)?))
}

/// Reads the configuration that is already installed, as the service does.
fn installed(layout: &Layout) -> Result<TunnelArgs, CommandError> {
    let config = layout.at(&Layout::config()).into_os_string();
    let words = ["audiovault-agent", "tunnel", "--config"].map(OsString::from);
    let read =
        settings::read(words.into_iter().chain([config]), |_| None, &Layout::config()).map_err(runtime)?;
    Ok(read.cli.command.into_tunnel().ok_or(ConfigError::OtherCommand)?)
}

async fn finish(plan: Plan, dry_run: bool, done: &str) -> Result<ExitCode, CommandError> {
    let mut out = io::stdout();
    if dry_run {
        let text = format!("This would:\n{}{}\n", explain(&plan), plan.notes.join("\n"));
        out.write_all(text.as_bytes()).map_err(runtime)?;
        return Ok(ExitCode::SUCCESS);
    }
    let say = |line: &str| {
        // Standard output may be closed; the work continues.
        let _ = writeln!(io::stdout(), "{line}");
    };
    let notes = perform(plan, say).await.map_err(runtime)?;
    say(done);
    notes.iter().for_each(|note| say(note));
    Ok(ExitCode::SUCCESS)
}
