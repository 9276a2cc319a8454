//! Who may search for what: search tokens, and the files that hold secrets (`secret_files`).

pub mod secret_files;

use std::{borrow::Cow, fmt};

use audiovault_agent_core::{
    secret::Secret,
    tenants::{MIN_SECRET_LEN, PUBLIC_SECRET, Tenant},
};
use audiovault_common::advice::{Advice, Warning};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Fewest characters of a token. With ten guesses per minute and address, eight random letters are safe; shorter
/// tokens, or ones made up by people, are not. AudioVault's published example has ten.
const MIN_TOKEN_LEN: usize = MIN_SECRET_LEN;
/// A shorter token is accepted with a warning: people make up short tokens, and what they make up is not random.
const ADVISED_TOKEN_LEN: usize = 16;

/// Why the tokens cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No client could search.
    #[error("no search token is set")]
    NoToken,
    /// The master token is the one of the published template.
    #[error("the token is the example of AudioVault's template, which is public")]
    Public,
    /// The master token can be guessed.
    #[error("the token has fewer than {MIN_TOKEN_LEN} characters")]
    Short,
    /// Two tokens are the same.
    #[error("{0} and {1} have the same token")]
    Same(String, String),
}

impl Advice for AccessError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::NoToken => "set one with --token-file, or tenants with valid secrets".into(),
            Self::Public => "choose another".into(),
            Self::Short => "choose a longer one, such as the output of openssl rand -hex 16".into(),
            Self::Same(..) => "give them different tokens".into(),
        })
    }
}

/// Which drivers a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every driver.
    Everything,
    /// Only drivers that separate tenants: a whole directory name of their pattern is `%TE`.
    OneTenant,
}

/// The tokens that are accepted. Only their digests are kept.
#[derive(Clone, Default)]
pub struct Access {
    entries: Vec<Entry>,
    site: Option<String>,
    /// Names of the tokens that are shorter than advised.
    short: Vec<String>,
}

#[derive(Clone)]
struct Entry {
    digest: [u8; 32],
    tenant: Option<String>,
}

/// What a client may find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The tenant to search for.
    pub tenant: Option<String>,
    /// The drivers that may be searched.
    pub scope: Scope,
    /// Identifies the token, for its links. It is not the token, but must not be published either.
    pub(crate) token: [u8; 32],
}

/// The token is wrong or missing, or belongs to another tenant. One error for all cases, so that it reveals nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is missing or wrong; ask the admin of the site for the right one")]
pub struct Denied;

impl Access {
    /// Accepts the master token, which may search for every tenant, and the tenants' own tokens. `site` is the site's
    /// name, if it has one: a request for the tenant of that name means the site itself.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn new(master: Option<&Secret>, tenants: &[Tenant], site: Option<&str>) -> Result<Self, AccessError> {
        if master.is_some_and(|token| token.reveal() == PUBLIC_SECRET) {
            return Err(AccessError::Public);
        }
        let master = master.filter(|token| !token.reveal().is_empty());
        if master.is_some_and(|token| token.reveal().chars().count() < MIN_TOKEN_LEN) {
            return Err(AccessError::Short);
        }
        let mut access = Self { site: site.map(str::to_owned), ..Self::default() };
        let all = master.map(|token| (token, None)).into_iter();
        for (secret, tenant) in all.chain(tenants.iter().map(|t| (&t.secret, Some(t.name.clone())))) {
            let entry = Entry { digest: Sha256::digest(secret.reveal()).into(), tenant };
            if let Some(other) = access.entries.iter().find(|other| other.digest == entry.digest) {
                return Err(AccessError::Same(other.to_string(), entry.to_string()));
            }
            if secret.reveal().chars().count() < ADVISED_TOKEN_LEN {
                access.short.push(entry.to_string());
            }
            access.entries.push(entry);
        }
        if access.entries.is_empty() {
            return Err(AccessError::NoToken);
        }
        Ok(access)
    }

    /// What a token may find, for a request that names `tenant`. Every entry is compared, in constant time.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check(&self, token: Option<&str>, tenant: Option<&str>) -> Result<Grant, Denied> {
        let digest: [u8; 32] = Sha256::digest(token.unwrap_or_default()).into();
        let mut matched = None;
        for entry in &self.entries {
            if bool::from(entry.digest.ct_eq(&digest)) {
                matched = Some(entry);
            }
        }
        let entry = matched.filter(|_| token.is_some()).ok_or(Denied)?;
        let tenant = tenant.and_then(|tenant| self.spelling(tenant));
        match (&entry.tenant, tenant) {
            (None, tenant) => Ok(Grant { tenant, scope: Scope::Everything, token: digest }),
            (Some(own), asked) if asked.as_ref().is_none_or(|asked| asked == own) => {
                Ok(Grant { tenant: Some(own.clone()), scope: Scope::OneTenant, token: digest })
            }
            (Some(_), _) => Err(Denied),
        }
    }

    /// A warning if tokens are shorter than advised. It names the first of them.
    pub fn warning(&self) -> Option<Warning> {
        let first = self.short.first()?;
        let more = match self.short.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Some(Warning::new(
            format!(
                "the token of {first}{more} has fewer than {ADVISED_TOKEN_LEN} characters and can be guessed"
            ),
            "choose a longer one, such as the output of openssl rand -hex 16",
        ))
    }

    /// Digests of all accepted tokens.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = [u8; 32]> {
        self.entries.iter().map(|entry| entry.digest)
    }

    /// Names of the tenants that have their own token.
    pub fn tenants(&self) -> Vec<String> {
        self.entries.iter().filter_map(|entry| entry.tenant.clone()).collect()
    }

    /// A tenant's name as the tenants file spells it, otherwise as the request does. `None` if it means the site
    /// itself.
    fn spelling(&self, tenant: &str) -> Option<String> {
        let site = self.site.as_ref().is_some_and(|site| site.eq_ignore_ascii_case(tenant));
        let known = self.tenant_named(tenant).map(str::to_owned);
        known.or_else(|| (!site).then(|| tenant.to_owned()))
    }

    /// The tenant of this name that has its own token, spelled as in the tenants file.
    pub(crate) fn tenant_named(&self, name: &str) -> Option<&str> {
        let mut known = self.entries.iter().filter_map(|entry| entry.tenant.as_deref());
        known.find(|known| known.to_lowercase() == name.to_lowercase())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tenant {
            Some(tenant) => write!(f, "the tenant {tenant:?}"),
            None => f.write_str("the site"),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(ToString::to_string)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let tenant =
            |name: &str| Tenant { name: name.to_owned(), secret: Secret::new(format!("secret-of-{name}")) };
        let tenants = [tenant("Acme"), tenant("shop.example")];
        Access::new(Some(&Secret::new("master-token")), &tenants, Some("acme-madrid")).unwrap()
    }

    #[test]
    fn the_master_token_opens_every_tenant() {
        let grant = access().check(Some("master-token"), None).unwrap();
        assert_eq!((grant.tenant, grant.scope), (None, Scope::Everything));
        let tenant = |asked| access().check(Some("master-token"), Some(asked)).unwrap().tenant;
        assert_eq!(tenant("acme").as_deref(), Some("Acme"), "as the tenants file spells it");
        assert_eq!(tenant("other").as_deref(), Some("other"));
        assert_eq!(tenant("acme-madrid"), None, "the site's own name is no tenant");
    }

    #[test]
    fn a_tenant_speaks_for_itself_only() {
        let own = access().check(Some("secret-of-Acme"), None).unwrap();
        assert_eq!((own.tenant.as_deref(), own.scope), (Some("Acme"), Scope::OneTenant));
        assert!(access().check(Some("secret-of-Acme"), Some("ACME")).is_ok());
        assert!(access().check(Some("secret-of-Acme"), Some("acme-madrid")).is_ok());
        assert_eq!(access().check(Some("secret-of-Acme"), Some("shop.example")), Err(Denied));
    }

    #[test]
    fn wrong_and_missing_tokens_are_one_error() {
        for token in [None, Some(""), Some("master-toke"), Some("master-token "), Some("MASTER-TOKEN")] {
            assert_eq!(access().check(token, None), Err(Denied), "{token:?}");
        }
    }

    #[test]
    fn tokens_that_cannot_work_are_refused() {
        let twin = [Tenant { name: "a".to_owned(), secret: Secret::new("master-token") }];
        let same = Access::new(Some(&Secret::new("master-token")), &twin, None).unwrap_err();
        assert!(matches!(same, AccessError::Same(..)));
        assert_eq!(Access::new(None, &[], None).unwrap_err(), AccessError::NoToken);
        assert_eq!(Access::new(Some(&Secret::new("")), &[], None).unwrap_err(), AccessError::NoToken);
        assert_eq!(
            Access::new(Some(&Secret::new(PUBLIC_SECRET)), &[], None).unwrap_err(),
            AccessError::Public
        );
    }

    #[test]
    fn short_tokens_are_refused_and_those_that_people_make_up_are_warned_of() {
        let with = |token: &str| Access::new(Some(&Secret::new(token)), &[], None);
        assert_eq!(with("1234567").unwrap_err(), AccessError::Short);
        assert_eq!(with("é").unwrap_err(), AccessError::Short, "characters count, not bytes");
        assert!(
            with("12345678").unwrap().warning().unwrap().to_string().contains("the site has fewer than 16")
        );
        assert!(with("0123456789").is_ok(), "as long as AudioVault's published example");
        assert_eq!(with("0123456789abcdef").unwrap().warning(), None);
        let warning = access().warning().unwrap().to_string();
        assert!(warning.contains("the site (and 1 more)") && !warning.contains("master"), "{warning}");
    }

    #[test]
    fn debug_never_shows_a_token() {
        let shown = format!("{:?} {:?}", access(), access().check(Some("master-token"), None));
        assert!(!shown.contains("master-token") && !shown.contains("secret-of"));
    }
}
