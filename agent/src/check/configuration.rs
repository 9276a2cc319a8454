//! Checks whether the configuration can be used, and warns of settings with surprising effects. Takes from it the token
//! for the search of the check.

use std::time::Instant;

use audiovault_agent_core::{secret::Secret, tenants::Tenant};
use audiovault_common::{advice::Advice, settings::Origins};
use audiovault_protocol::{frame::one_line, identity::signed_link::LinkSecret};

use super::report::{Rows, Step, Verdict};
use crate::{
    app::AgentSettings,
    auth::secret_files::{read_secret, read_tenants},
    config::{
        args::{AccessArgs, TunnelArgs},
        check,
    },
    http::{ServiceSettings, links::LinkSettings},
    storage::sample::Sample,
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

/// The tokens of the configuration, in plain text.
#[derive(Debug, Default)]
pub(super) struct Askers {
    master: Option<Secret>,
    tenants: Vec<Tenant>,
}

/// A search that the check makes.
#[derive(Debug)]
pub(super) struct Question {
    /// The token.
    pub(super) token: Secret,
    /// The tenant, if any.
    pub(super) tenant: Option<String>,
    /// The call; without one there is nothing to search for.
    pub(super) sample: Option<Sample>,
}

impl Askers {
    /// Reads the tokens. Files that cannot be read are reported by the check of the configuration.
    fn read(args: &AccessArgs) -> Self {
        let file = |path| read_secret(path).ok();
        let master = args.token.clone().or_else(|| args.token_file.as_deref().and_then(file));
        let tenants = args.tenants.as_deref().and_then(|path| read_tenants(path).ok());
        Self { master, tenants: tenants.map(|tenants| tenants.usable).unwrap_or_default() }
    }

    /// The search for a call: with the master token if there is one, otherwise with the token of the call's tenant.
    /// `None` if no token may search for it.
    pub(super) fn question(&self, sample: Option<Sample>) -> Option<Question> {
        let tenant = sample.as_ref().and_then(|sample| sample.tenant.clone());
        if let Some(token) = &self.master {
            return Some(Question { token: token.clone(), tenant, sample });
        }
        let own = match (&sample, &tenant) {
            (None, _) => self.tenants.first(),
            (Some(_), Some(name)) => {
                self.tenants.iter().find(|own| own.name.to_lowercase() == name.to_lowercase())
            }
            // Without tenants in the paths, a tenant's token finds nothing.
            (Some(_), None) => None,
        };
        own.map(|own| Question { token: own.secret.clone(), tenant, sample })
    }
}

/// Checks the configuration as `tunnel` does, but creates no file.
pub(super) fn examine(mut args: TunnelArgs, origins: &Origins, rows: &mut Rows<'_>) -> Option<Ready> {
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
            rows.add(Step::Configuration, begun, refused(&origins.locate(error)));
            return None;
        }
    };
    let AgentSettings { service, tunnel, .. } = checked.settings;
    rows.add(Step::Configuration, begun, usable(&tunnel, &service, file.as_deref()));
    for warning in &checked.warnings {
        let advice = warning.advice.as_deref().unwrap_or("change this setting if it is not intended");
        rows.add(Step::Configuration, begun, Verdict::warn(one_line(&warning.problem), one_line(advice)));
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
pub(super) fn refused(error: &dyn Advice) -> Verdict {
    Verdict::failed(error, CHANGE_IT)
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

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use audiovault_agent_core::call_id::CallIdRules;

    use super::*;

    fn askers(master: Option<&str>, tenants: &[&str]) -> Askers {
        let tenant =
            |name: &&str| Tenant { name: (*name).to_owned(), secret: Secret::new(format!("of-{name}")) };
        Askers { master: master.map(Secret::new), tenants: tenants.iter().map(tenant).collect() }
    }

    fn token(askers: &Askers, tenant: Option<&str>) -> Option<String> {
        let sample = Sample {
            path: "a.wav".into(),
            modified: UNIX_EPOCH,
            call_id: CallIdRules::default().parse("1711444502.17").unwrap(),
            tenant: tenant.map(str::to_owned),
        };
        askers.question(Some(sample)).map(|question| question.token.reveal().to_owned())
    }

    #[test]
    fn the_master_token_asks_for_all_tenants_and_a_tenant_for_itself() {
        let both = askers(Some("master"), &["acme"]);
        assert_eq!(token(&both, Some("acme")).as_deref(), Some("master"));
        let tenants = askers(None, &["other", "Acme"]);
        assert_eq!(token(&tenants, Some("acme")).as_deref(), Some("of-Acme"));
        assert_eq!((token(&tenants, Some("nobody")), token(&tenants, None)), (None, None));
        assert_eq!(tenants.question(None).unwrap().token.reveal(), "of-other");
    }
}
