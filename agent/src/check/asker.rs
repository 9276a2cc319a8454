//! The token and the call for the search of a health check.

use crate::{
    auth::{
        secret::Secret,
        tenants::{Tenant, Tenants},
    },
    config::args::AccessArgs,
    storage::sample::Sample,
};

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
    pub(super) fn read(args: &AccessArgs) -> Self {
        let file = |path| Secret::read(path).ok();
        let master = args.token.clone().or_else(|| args.token_file.as_deref().and_then(file));
        let tenants = args.tenants.as_deref().and_then(|path| Tenants::read(path).ok());
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

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::storage::call_id::CallIdRules;

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
    fn the_master_token_asks_for_everybody_and_a_tenant_for_itself() {
        let both = askers(Some("master"), &["acme"]);
        assert_eq!(token(&both, Some("acme")).as_deref(), Some("master"));
        let tenants = askers(None, &["other", "Acme"]);
        assert_eq!(token(&tenants, Some("acme")).as_deref(), Some("of-Acme"));
        assert_eq!((token(&tenants, Some("nobody")), token(&tenants, None)), (None, None));
        assert_eq!(tenants.question(None).unwrap().token.reveal(), "of-other");
    }
}
