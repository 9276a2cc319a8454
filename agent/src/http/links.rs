//! The agent's signed links: made for one client, valid until they expire for any client that has them.

use std::{
    collections::HashMap,
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use audiovault_agent_core::pattern::Pattern;
use audiovault_protocol::identity::{
    signed_link::{Fingerprint, LinkError, LinkKeyId, LinkSecret, LinkSigner, LinkTarget},
    site::SiteId,
};

use crate::{
    auth::{Access, Grant},
    storage::root_id::RootId,
};

/// The default lifetime of a link.
pub const LINK_TTL: Duration = Duration::from_secs(2 * 3600);

/// How links are made.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// The site that the links are for. A classic AudioVault is not known to a relay, so any name can be used.
    pub site: SiteId,
    /// The link key, from which all other keys are derived.
    pub secret: LinkSecret,
    /// The lifetime of a link.
    pub ttl: Duration,
}

impl LinkSettings {
    /// Links that are valid for [`LINK_TTL`] and only while this process runs.
    pub fn for_this_run(site: SiteId) -> Self {
        Self { site, secret: LinkSecret::from_bytes(rand::random()), ttl: LINK_TTL }
    }
}

/// Why a link cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenLinkError {
    /// The link itself is invalid.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The token that it was made for is no longer accepted.
    #[error("the search token of this link is no longer valid; search again")]
    Withdrawn,
    /// The root to which it leads is no longer configured.
    #[error("the storage of this recording is no longer served; search again")]
    UnknownRoot,
}

/// The content of a valid link.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The root in which the recording lies.
    pub root: RootId,
    /// The path of the recording, relative to its root.
    pub path: PathBuf,
    /// The call that was searched for.
    pub call_id: String,
    /// The tenant of the search.
    pub tenant: Option<String>,
    /// The user of QueueMetrics who searched.
    pub user: Option<String>,
}

/// The search for which a link is made.
#[derive(Debug, Clone, Copy)]
pub struct LinkedRequest<'a> {
    /// The rights of the token.
    pub grant: &'a Grant,
    /// The call that was searched for.
    pub call_id: &'a str,
    /// The user of QueueMetrics, if the request names one.
    pub user: Option<&'a str>,
}

/// Makes and opens links.
#[derive(Debug)]
pub struct Links {
    site: SiteId,
    ttl: Duration,
    signer: LinkSigner,
    roots: Vec<Fingerprint>,
    root_ids: HashMap<Fingerprint, RootId>,
    tokens: Vec<Fingerprint>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path holds telephone numbers.
        f.write_str("Opened(…)")
    }
}

impl Links {
    /// Creates the maker of links for these roots and tokens.
    pub fn new(settings: LinkSettings, roots: &[Pattern], access: &Access) -> Self {
        let signer = LinkSigner::new(&settings.secret);
        let roots: Vec<Fingerprint> =
            roots.iter().map(|root| signer.fingerprint(format!("root {root}").as_bytes())).collect();
        let mut root_ids = HashMap::new();
        for (id, root) in RootId::number(&roots) {
            // If a pattern is configured twice, its links lead to the first root.
            root_ids.entry(*root).or_insert(id);
        }
        let tokens = access.tokens().map(|token| signer.fingerprint(&named(&token))).collect();
        Self { site: settings.site, ttl: settings.ttl, signer, roots, root_ids, tokens }
    }

    /// The id of the link key, for HELLO.
    pub fn key_id(&self) -> LinkKeyId {
        self.signer.key_id()
    }

    /// Makes a link's token. Returns it with its expiry time in seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`LinkError::TooLong`] if the recording's path does not fit.
    pub fn mint(
        &self,
        asked: LinkedRequest<'_>,
        root: RootId,
        path: &Path,
    ) -> Result<(String, u64), LinkError> {
        let target = LinkTarget {
            root: root.of(&self.roots).copied().unwrap_or_default(),
            search_token: self.signer.fingerprint(&named(&asked.grant.token)),
            path: path.as_os_str().as_bytes().to_vec(),
            call_id: asked.call_id.to_owned(),
            tenant: asked.grant.tenant.clone().unwrap_or_default(),
            user: asked.user.unwrap_or_default().to_owned(),
        };
        let expires = now().saturating_add(self.ttl.as_secs());
        Ok((self.signer.mint(&self.site, &target, expires, rand::random())?, expires))
    }

    /// Opens a link's token and checks that it is still valid.
    ///
    /// # Errors
    /// [`OpenLinkError`].
    pub fn open(&self, token: &str) -> Result<Opened, OpenLinkError> {
        let target = self.signer.open(&self.site, token, now())?;
        if !self.tokens.contains(&target.search_token) {
            return Err(OpenLinkError::Withdrawn);
        }
        let root = *self.root_ids.get(&target.root).ok_or(OpenLinkError::UnknownRoot)?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(target.path));
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        let tenant = named(target.tenant);
        let user = named(target.user);
        Ok(Opened { root, path, call_id: target.call_id, tenant, user })
    }
}

/// Separates the fingerprints of tokens from those of roots.
fn named(token: &[u8; 32]) -> Vec<u8> {
    [b"token ".as_slice(), token].concat()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use audiovault_agent_core::secret::Secret;

    use super::*;

    fn access(token: &str) -> Access {
        Access::new(Some(&Secret::new(token)), &[], None).unwrap()
    }

    fn links(roots: &[&str], token: &str, ttl: Duration) -> Links {
        let roots: Vec<Pattern> = roots.iter().map(|root| Pattern::parse(root).unwrap()).collect();
        let site = SiteId::parse("acme").unwrap();
        let secret = LinkSecret::from_bytes([7; 32]);
        Links::new(LinkSettings { site, secret, ttl }, &roots, &access(token))
    }

    fn mint(links: &Links, token: &str) -> String {
        let grant = access(token).check(Some(token), None).unwrap();
        let asked = LinkedRequest { grant: &grant, call_id: "1711444502.17", user: Some("robin") };
        links.mint(asked, RootId::at(1), Path::new("a/b.wav")).unwrap().0
    }

    #[test]
    fn a_link_finds_its_root_at_another_position() {
        let before = links(&["/a", "/b"], "first-token", LINK_TTL);
        let link = mint(&before, "first-token");
        let opened = before.open(&link).unwrap();
        assert_eq!((opened.root, opened.path.as_path()), (RootId::at(1), Path::new("a/b.wav")));
        assert_eq!((opened.call_id.as_str(), opened.tenant), ("1711444502.17", None));
        assert_eq!(opened.user.as_deref(), Some("robin"));
        assert_eq!(links(&["/b", "/a"], "first-token", LINK_TTL).open(&link).unwrap().root, RootId::FIRST);
        let gone = links(&["/a"], "first-token", LINK_TTL).open(&link);
        assert_eq!(gone.err(), Some(OpenLinkError::UnknownRoot));
    }

    #[test]
    fn a_link_ends_with_its_time_and_with_its_token() {
        let link = mint(&links(&["/a", "/b"], "first-token", Duration::ZERO), "first-token");
        let ended = links(&["/a", "/b"], "first-token", LINK_TTL).open(&link);
        assert_eq!(ended.err(), Some(OpenLinkError::Link(LinkError::Expired)));
        let link = mint(&links(&["/a", "/b"], "first-token", LINK_TTL), "first-token");
        let withdrawn = links(&["/a", "/b"], "second-token", LINK_TTL).open(&link);
        assert_eq!(withdrawn.err(), Some(OpenLinkError::Withdrawn));
    }
}
