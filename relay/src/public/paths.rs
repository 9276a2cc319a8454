//! Which route a request takes: from its path and, where the path names no site, from its host name:
//! `https://<site>.<relay>/search` is `https://<relay>/<site>/search`.

use std::{borrow::Cow, sync::Arc};

use audiovault_protocol::identity::{enrolment::ENROLMENT_PATH, site::Alias};
use http::{HeaderMap, Uri};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

use crate::{
    net::{host, public_url::PublicUrl},
    sites::directory::Directory,
};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// The page for people who open the relay's address in a browser.
    LandingPage,
    /// An agent opens a tunnel.
    Tunnel,
    /// An agent trades a code for a site key.
    Enrolment,
    /// A search.
    Search(SearchedSite<'a>),
    /// A recording.
    Recording(RecordingPath<'a>),
    /// No route.
    Nothing,
}

/// The site of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SearchedSite<'a> {
    /// Named by the path or by the host name.
    Named(Cow<'a, str>),
    /// A parameter names the site, or a tenant whose name is an alias of the site.
    ByParameter {
        /// What precedes the relay's own name in the host name under which the search came, if no site has that name.
        /// It counts if no parameter names a site. The search is answered like one at a site that does not exist, so
        /// that unauthenticated clients cannot find out which sites exist.
        otherwise: Option<String>,
    },
}

/// `/{site}/recordings/{token}/{name}`, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordingPath<'a> {
    pub(super) site: Cow<'a, str>,
    pub(super) token: Cow<'a, str>,
    pub(super) name: Cow<'a, str>,
}

impl Route<'_> {
    /// The route in logs and metrics, without what is secret in a path.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::LandingPage => "/",
            Self::Tunnel => "/tunnel",
            Self::Enrolment => ENROLMENT_PATH,
            Self::Search(SearchedSite::Named(_)) => "/{site}/search",
            Self::Search(SearchedSite::ByParameter { .. }) => "/search",
            Self::Recording(_) => "/{site}/recordings/{token}/{name}",
            Self::Nothing => "-",
        }
    }

    /// Whether pages of other origins may read the responses. They may not read a site key that is handed out.
    pub(super) fn is_for_pages(&self) -> bool {
        *self != Self::Enrolment
    }
}

/// Knows the paths of the relay and the host names of the sites.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    /// What follows the site's name in a host name, with its dot; `None` if the relay's public host is an IP address.
    suffix: Option<String>,
    /// The prefix of all paths, without a slash at the end.
    base: String,
    directory: watch::Receiver<Arc<Directory>>,
}

impl Paths {
    pub(super) fn new(public_url: &PublicUrl, directory: watch::Receiver<Arc<Directory>>) -> Self {
        let suffix = public_url.as_url().domain().map(|domain| {
            // The URL parser has made it lower case.
            format!(".{}", domain.trim_end_matches('.'))
        });
        let base = public_url.as_url().path().trim_end_matches('/').to_owned();
        Self { suffix, base, directory }
    }

    /// The route of a request.
    pub(super) fn route<'a>(&self, uri: &'a Uri, headers: &HeaderMap) -> Route<'a> {
        self.route_of(uri, headers).unwrap_or(Route::Nothing)
    }

    fn route_of<'a>(&self, uri: &'a Uri, headers: &HeaderMap) -> Option<Route<'a>> {
        let path = uri.path().strip_prefix(&*self.base)?;
        if path.is_empty() {
            return Some(Route::LandingPage);
        }
        if path == ENROLMENT_PATH {
            return Some(Route::Enrolment);
        }
        let mut segments = path.strip_prefix('/')?.split('/');
        let mut next = || segments.next();
        let first = next()?;
        Some(match (first, next(), next(), next(), next()) {
            ("", None, ..) => Route::LandingPage,
            ("tunnel", None, ..) => Route::Tunnel,
            ("search", None | Some(""), None, ..) => Route::Search(self.searched(uri, headers)),
            (site, Some("search"), None | Some(""), None, _) if !site.is_empty() => {
                Route::Search(SearchedSite::Named(decoded(site)?))
            }
            ("recordings", Some(token), Some(name), None, _) => {
                let site = Cow::Owned(self.label_of_host(uri, headers)?);
                Route::Recording(RecordingPath { site, token: decoded(token)?, name: decoded(name)? })
            }
            (site, Some("recordings"), Some(token), Some(name), None) if !site.is_empty() => {
                let site = decoded(site)?;
                Route::Recording(RecordingPath { site, token: decoded(token)?, name: decoded(name)? })
            }
            _ => return None,
        })
    }

    /// The site of a search whose path names none.
    fn searched(&self, uri: &Uri, headers: &HeaderMap) -> SearchedSite<'static> {
        let Some(label) = self.label_of_host(uri, headers) else {
            return SearchedSite::ByParameter { otherwise: None };
        };
        if self.directory.borrow().find(&label).is_some() {
            return SearchedSite::Named(Cow::Owned(label));
        }
        // It may be a host name of the relay itself, and a parameter names the site.
        let may_be_site = Alias::parse(&label).is_ok();
        SearchedSite::ByParameter { otherwise: Some(label).filter(|_| may_be_site) }
    }

    /// What precedes the relay's own name in the host name.
    fn label_of_host(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let suffix = self.suffix.as_deref()?;
        let mut host = host::of(uri, headers)?;
        let len = host.strip_suffix(suffix)?.len();
        host.truncate(len);
        Some(host)
    }
}

/// A segment of a path without its percent-encoding (RFC 3986, section 2.1). `None` if it is empty or is not text.
fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(segment).decode_utf8().ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use audiovault_protocol::identity::site::SiteId;
    use http::{HeaderValue, header};

    use super::*;
    use crate::store::{LoadedSites, StoredSite};

    fn paths(public_url: &str) -> Paths {
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
        Paths::new(&public_url.parse().unwrap(), directory)
    }

    /// The route in words.
    fn route(paths: &Paths, host: &str, target: &str) -> String {
        let uri: Uri = target.parse().unwrap();
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
        match paths.route(&uri, &headers) {
            Route::Search(SearchedSite::Named(site)) => format!("search at {site}"),
            Route::Search(SearchedSite::ByParameter { otherwise: Some(site) }) => {
                format!("search, otherwise at {site}")
            }
            Route::Search(SearchedSite::ByParameter { otherwise: None }) => "search".to_owned(),
            Route::Recording(RecordingPath { site, token, name }) => {
                format!("{name} of {site} for {token}")
            }
            other @ (Route::LandingPage | Route::Tunnel | Route::Enrolment | Route::Nothing) => {
                other.label().to_owned()
            }
        }
    }

    #[test]
    fn the_path_names_the_route() {
        let paths = paths("https://192.0.2.1");
        for (path, expected) in [
            ("/", "/"),
            ("/tunnel", "/tunnel"),
            ("/tunnel/", "-"),
            ("/enroll", "/enroll"),
            ("/search", "search"),
            ("/search/?callid=1.2", "search"),
            ("/acme/search", "search at acme"),
            ("/acme/search/", "search at acme"),
            ("/search/search", "search at search"),
            ("/a%20b/search", "search at a b"),
            ("/%ff/search", "-"),
            ("/acme/%73earch", "-"),
            ("//search", "-"),
            ("/acme/search/more", "-"),
            ("/acme/search//", "-"),
            ("/acme/recordings/t/n.wav", "n.wav of acme for t"),
            ("/acme/recordings/t%2Fu/a%C3%B1o.wav", "año.wav of acme for t/u"),
            ("/acme/recordings//n.wav", "-"),
            ("/acme/recordings/t/n.wav/more", "-"),
            ("/acme/recordings/t/%ff", "-"),
            ("/recordings/t/n.wav", "-"),
            ("/acme", "-"),
            ("/acme/", "-"),
        ] {
            assert_eq!(route(&paths, "192.0.2.1", path), expected, "{path}");
        }
    }

    #[test]
    fn the_host_names_the_site_where_the_path_does_not() {
        let paths = paths("https://relay.example.com");
        for (host, target, expected) in [
            ("acme.relay.example.com", "/search", "search at acme"),
            ("Madrid.Relay.Example.com.:443", "/search/?callid=1.2", "search at madrid"),
            ("acme.relay.example.com", "/recordings/t/n.wav", "n.wav of acme for t"),
            ("acme.relay.example.com", "/other/search", "search at other"),
            ("acme.relay.example.com", "/other/recordings/t/n.wav", "n.wav of other for t"),
            ("acme.relay.example.com", "/tunnel", "/tunnel"),
            ("acme.relay.example.com", "/", "/"),
            ("nobody.relay.example.com", "/search", "search, otherwise at nobody"),
            ("nobody.relay.example.com", "/recordings/t/n.wav", "n.wav of nobody for t"),
            ("www.relay.example.com", "/search", "search"),
            ("a.acme.relay.example.com", "/search", "search, otherwise at a.acme"),
            ("acme-relay.example.com", "/search", "search"),
            ("relay.example.com", "/search", "search"),
            ("relay.example.com", "/recordings/t/n.wav", "-"),
            ("192.0.2.1", "/search", "search"),
        ] {
            assert_eq!(route(&paths, host, target), expected, "{host} {target}");
        }
        let h2 = "https://acme.relay.example.com/search?a=b";
        assert_eq!(route(&paths, "other", h2), "search at acme");
    }

    #[test]
    fn all_paths_begin_with_that_of_the_public_url() {
        let below = paths("https://relay.example.com/audio/");
        for (target, expected) in [
            ("/audio/search", "search at acme"),
            ("/audio/other/search", "search at other"),
            ("/audio", "/"),
            ("/audio/", "/"),
            ("/audio/enroll", "/enroll"),
            ("/audio/recordings/t/n.wav", "n.wav of acme for t"),
            ("/search", "-"),
            ("/audiosearch", "-"),
            ("/enroll", "-"),
        ] {
            assert_eq!(route(&below, "acme.relay.example.com", target), expected, "{target}");
        }
    }

    #[test]
    fn an_address_has_no_sites_below_it() {
        let paths = paths("https://192.0.2.1");
        assert_eq!(route(&paths, "acme.192.0.2.1", "/search"), "search");
    }
}
