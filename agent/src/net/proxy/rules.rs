//! Decides which proxy a connection uses, if any.

use std::{net::IpAddr, sync::Arc};

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use super::Proxy;
use crate::net::Target;

/// The proxies, and the hosts that are reached without them.
#[derive(Debug, Clone, Default)]
pub struct ProxyRules {
    chosen: Chosen,
    except: Option<Arc<Matcher>>,
}

#[derive(Debug, Clone, Default)]
enum Chosen {
    #[default]
    Nobody,
    /// From the configuration of this program: for everything.
    Configured(Box<Proxy>),
    /// From the environment: one for services with TLS, one for those without. Never used for this machine itself,
    /// which a proxy elsewhere cannot reach.
    Environment { secure: Option<Box<Proxy>>, plain: Option<Box<Proxy>> },
}

impl ProxyRules {
    /// No proxy at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// One proxy for everything.
    pub fn configured(proxy: Proxy) -> Self {
        Self { chosen: Chosen::Configured(Box::new(proxy)), except: None }
    }

    /// One proxy for services with TLS, and one for those without; neither is used for loopback addresses.
    pub fn environment(secure: Option<Proxy>, plain: Option<Proxy>) -> Self {
        let secure = secure.map(Box::new);
        let plain = plain.map(Box::new);
        Self { chosen: Chosen::Environment { secure, plain }, except: None }
    }

    /// Hosts that are reached without a proxy, in the format that curl reads from `NO_PROXY`: host names with all
    /// names below them, addresses and networks such as `10.0.0.0/8`, separated by commas or spaces; `*` is every
    /// host.
    #[must_use]
    pub fn except(self, hosts: &str) -> Self {
        let hosts: Vec<&str> = hosts.split([',', ' ', '\t', '\n']).filter(|part| !part.is_empty()).collect();
        // The matcher needs a proxy to have a list. Any proxy will do, since only the list is used.
        let matcher = Matcher::builder().all("http://proxy.invalid").no(hosts.join(",")).build();
        Self { except: Some(Arc::new(matcher)), ..self }
    }

    /// The proxy on the way to `target`.
    pub fn choose(&self, target: &Target) -> Option<&Proxy> {
        if self.excepts(target) {
            return None;
        }
        match &self.chosen {
            Chosen::Nobody => None,
            Chosen::Configured(proxy) => Some(proxy),
            Chosen::Environment { .. } if is_loopback(target.host()) => None,
            Chosen::Environment { secure, plain } => {
                let chosen = if target.tls().is_some() { secure } else { plain };
                chosen.as_deref()
            }
        }
    }

    fn excepts(&self, target: &Target) -> bool {
        let Ok(uri) = format!("http://{target}/").parse::<Uri>() else { return false };
        self.except.as_ref().is_some_and(|matcher| matcher.intercept(&uri).is_none())
    }
}

fn is_loopback(host: &str) -> bool {
    let named = host == "localhost" || host.ends_with(".localhost");
    named || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}
