//! Checks whether the configuration can be used, and warns of settings with surprising effects.

use std::time::Instant;

use audiovault_protocol::identity::signed_link::LinkSecret;

use super::{
    asker::Askers,
    error_text::ErrorText,
    report::{Step, Verdict},
    rows::Rows,
};
use crate::{
    app::AgentSettings,
    config::{args::TunnelArgs, check},
    http::{ServiceSettings, links::LinkSettings},
    tunnel::TunnelConfig,
};

const CHANGE_IT: &str = "correct it in the file, the environment or the flags; --help explains every flag";

/// What the other steps of the check need.
#[derive(Debug)]
pub(super) struct Ready {
    /// The relay addresses and the site key.
    pub(super) tunnel: TunnelConfig,
    /// The settings for a tunnel of the check.
    pub(super) service: ServiceSettings,
    /// The tokens that may search.
    pub(super) askers: Askers,
}

/// Checks the configuration as `tunnel` does, but creates no file.
pub(super) fn examine(mut args: TunnelArgs, rows: &mut Rows<'_>) -> Option<Ready> {
    let begun = Instant::now();
    let askers = Askers::read(&args.access);
    let file = args.common.config.as_ref().map(|path| path.display().to_string());
    let link_secret = args.access.link_secret_file.take_if(|path| !path.exists());
    // Links of a check must not be valid at an agent with the same link key.
    let own = LinkSecret::from_bytes(rand::random());
    let checked = check::tunnel(args, &own);
    let checked = checked.and_then(|checked| {
        checked.settings.tunnel.check()?;
        Ok(checked)
    });
    let checked = match checked {
        Ok(checked) => checked,
        Err(error) => {
            rows.add(Step::Configuration, begun, refused(&error));
            return None;
        }
    };
    let AgentSettings { service, tunnel, .. } = checked.settings;
    rows.add(Step::Configuration, begun, usable(&tunnel, &service, file.as_deref()));
    for warning in &checked.warnings {
        let ErrorText { what, advice } = ErrorText::sentence(warning);
        let advice = advice.unwrap_or_else(|| "change this setting if it is not intended".to_owned());
        rows.add(Step::Configuration, begun, Verdict::warn(what, advice));
    }
    if let Some(path) = link_secret {
        let detail =
            format!("the link secret file {} does not exist yet; the agent creates it", path.display());
        rows.add(Step::Configuration, begun, Verdict::pass(detail));
    }
    let service = served(service, own);
    Some(Ready { tunnel, service, askers })
}

/// The verdict on a configuration that cannot be used.
pub(super) fn refused(error: &(dyn std::error::Error + 'static)) -> Verdict {
    Verdict::failed(ErrorText::of(error), CHANGE_IT)
}

fn usable(tunnel: &TunnelConfig, service: &ServiceSettings, file: Option<&str>) -> Verdict {
    let count =
        |count: usize, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    let from = file.map_or_else(|| "flags and environment".to_owned(), str::to_owned);
    let relays = count(tunnel.relays.len(), "relay");
    let paths = count(service.storage.roots.len(), "path");
    Verdict::pass(format!("site {}, {relays}, {paths}, from {from}", tunnel.site_key.site()))
}

/// The service of a check: with its own link key, and without writing to the audit log of a running agent.
fn served(service: ServiceSettings, secret: LinkSecret) -> ServiceSettings {
    let links = LinkSettings { secret, ..service.links };
    ServiceSettings { links, audit_log: None, ..service }
}
