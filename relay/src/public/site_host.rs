//! Sites by host name: `https://<site>.<relay>/search` is `https://<relay>/<site>/search`.

use std::sync::Arc;

use audiovault_protocol::identity::site::Alias;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{Uri, uri::PathAndQuery};
use tokio::sync::watch;

use crate::{
    net::{host, public_url::PublicUrl},
    sites::directory::Directory,
};

/// Knows the host names of the sites.
#[derive(Debug, Clone)]
pub(super) struct SiteHosts {
    /// What follows the site's name, with its dot; `None` if the relay's public host is an IP address.
    suffix: Option<String>,
    /// The prefix of all paths, without a slash at the end.
    base: String,
    directory: watch::Receiver<Arc<Directory>>,
}

impl SiteHosts {
    pub(super) fn new(public_url: &PublicUrl, directory: watch::Receiver<Arc<Directory>>) -> Self {
        let suffix = public_url.as_url().domain().map(|domain| {
            // The URL parser has made it lower case.
            format!(".{}", domain.trim_end_matches('.'))
        });
        let base = public_url.as_url().path().trim_end_matches('/').to_owned();
        Self { suffix, base, directory }
    }

    /// The site that the host name names, if the path needs a site and does not name one.
    fn named(&self, request: &Request) -> Option<Named> {
        let host = host::of(request.uri(), request.headers())?;
        let name = host.strip_suffix(self.suffix.as_deref()?)?;
        let rest = request.uri().path().strip_prefix(&self.base)?;
        let is_search = matches!(rest, "/search" | "/search/");
        if !is_search && !rest.starts_with("/recordings/") {
            return None;
        }
        let exists = self.directory.borrow().find(name).is_some();
        if is_search && !exists {
            // It may be a host name of the relay itself, and a parameter names the site.
            return Alias::parse(name).is_ok().then(|| Named::InCase(HostOfNoSite(name.to_owned())));
        }
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}/{name}{rest}{query}", self.base).parse().ok().map(Named::InPath)
    }
}

/// What a host name says about the site.
#[derive(Debug)]
enum Named {
    /// The path with its site.
    InPath(PathAndQuery),
    /// A name for a search that names no site in another way.
    InCase(HostOfNoSite),
}

/// An extension of a search: what precedes the relay's own name in the host name under which it came, if no site has
/// that name. The search is answered like one at a site that does not exist, so that unauthenticated clients cannot
/// find out which sites exist.
#[derive(Debug, Clone)]
pub(super) struct HostOfNoSite(pub(super) String);

/// Puts the site of the host name into the path, before the routes are matched.
pub(super) async fn into_path(State(hosts): State<SiteHosts>, mut request: Request, next: Next) -> Response {
    match hosts.named(&request) {
        Some(Named::InPath(path)) => {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(path);
            // The parts come from a valid URI, and still make one.
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
        Some(Named::InCase(host)) => drop(request.extensions_mut().insert(host)),
        None => {}
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use audiovault_protocol::identity::site::SiteId;
    use axum::body::Body;

    use super::*;
    use crate::store::{LoadedSites, StoredSite};

    fn hosts(public_url: &str) -> SiteHosts {
        let site = StoredSite {
            site: SiteId::parse("acme").unwrap(),
            note: String::new(),
            created: jiff::Timestamp::UNIX_EPOCH,
            disabled: None,
            aliases: vec![Alias::parse("madrid").unwrap()],
            keys: Vec::new(),
        };
        let (_, directory) =
            watch::channel(Arc::new(Directory::new(LoadedSites { generation: 1, sites: vec![site] })));
        SiteHosts::new(&public_url.parse().unwrap(), directory)
    }

    fn path(hosts: &SiteHosts, host: &str, target: &str) -> Option<String> {
        let request = Request::builder().uri(target).header("host", host).body(Body::empty()).unwrap();
        match hosts.named(&request)? {
            Named::InPath(path) => Some(path.to_string()),
            Named::InCase(host) => Some(format!("in case: {}", host.0)),
        }
    }

    #[test]
    fn the_host_names_the_site_where_the_path_does_not() {
        let hosts = hosts("https://relay.example.com");
        for (host, target, expected) in [
            ("acme.relay.example.com", "/search", Some("/acme/search")),
            ("Madrid.Relay.Example.com.:443", "/search/?callid=1.2", Some("/madrid/search/?callid=1.2")),
            ("acme.relay.example.com", "/recordings/t/n.wav", Some("/acme/recordings/t/n.wav")),
            ("acme.relay.example.com", "/other/search", None),
            ("acme.relay.example.com", "/other/recordings/t/n.wav", None),
            ("acme.relay.example.com", "/tunnel", None),
            ("acme.relay.example.com", "/", None),
            ("nobody.relay.example.com", "/search", Some("in case: nobody")),
            ("nobody.relay.example.com", "/recordings/t/n.wav", Some("/nobody/recordings/t/n.wav")),
            ("www.relay.example.com", "/search", None),
            ("a.acme.relay.example.com", "/search", Some("in case: a.acme")),
            ("acme-relay.example.com", "/search", None),
            ("relay.example.com", "/search", None),
            ("192.0.2.1", "/search", None),
        ] {
            assert_eq!(path(&hosts, host, target).as_deref(), expected, "{host} {target}");
        }
        let h2 = "https://acme.relay.example.com/search?a=b";
        assert_eq!(path(&hosts, "other", h2).as_deref(), Some("/acme/search?a=b"));
    }

    #[test]
    fn a_path_before_all_others_stays_and_an_address_has_no_sites_below_it() {
        let below = hosts("https://relay.example.com/audio/");
        assert_eq!(
            path(&below, "acme.relay.example.com", "/audio/search").as_deref(),
            Some("/audio/acme/search")
        );
        assert_eq!(path(&below, "acme.relay.example.com", "/search"), None);
        assert_eq!(path(&hosts("https://192.0.2.1"), "acme.192.0.2.1", "/search"), None);
    }
}
