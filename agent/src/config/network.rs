//! The settings of the network path from the agent to its relay.

use std::{borrow::Cow, convert::Infallible, path::PathBuf};

use audiovault_agent_core::secret::Secret;
use audiovault_common::advice::{Advice, Warning};
use clap::Args;

use crate::{
    auth::secret_files::{SecretError, permission_warning, read_secret},
    net::{Credentials, NetworkSettings, Proxy, ProxyRules, ProxyTextError},
};

/// Environment variables of the proxy for TLS. The first that is set counts; curl reads them in this order.
const SECURE: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// The same without TLS. curl ignores `HTTP_PROXY`, which a client could set in a CGI program; this is not one.
const PLAIN: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
/// Environment variables of the hosts that are reached without a proxy.
const EXCEPT: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Flags of everything that connects to a relay.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Proxy to connect through: http://, https://, socks5:// (the agent resolves names) or socks5h:// (the proxy
    /// resolves names); none for no proxy [default: from HTTPS_PROXY, or HTTP_PROXY for ws://, or ALL_PROXY]
    #[arg(long, value_name = "URL", value_parser = secret, help_heading = "Network")]
    pub proxy: Option<Secret>,
    /// File with USER:PASSWORD for the proxy; safer than in the address, because every user of this machine can see
    /// command lines
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub proxy_credentials_file: Option<PathBuf>,
    /// Hosts to connect to without a proxy: names (with all names below them), addresses, networks such as
    /// 10.0.0.0/8, or *; a comma-separated list [default: from NO_PROXY]
    #[arg(long, value_name = "HOSTS", help_heading = "Network")]
    pub no_proxy: Option<String>,
    /// PEM file with certificate authorities to trust instead of the machine's own
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub cacert: Option<PathBuf>,
}

/// Why the network settings cannot be used. User and password are never part of the text.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A proxy's address is invalid.
    #[error("the proxy address in {0} is invalid")]
    Proxy(&'static str, #[source] ProxyTextError),
    /// The user for the proxy is given twice.
    #[error("the proxy address and --proxy-credentials-file both contain a user")]
    Twice,
    /// The file with the user for the proxy has no colon.
    #[error("{} must contain USER:PASSWORD", .0.display())]
    Credentials(PathBuf),
    /// The file with the user for the proxy cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Advice for NetworkError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Proxy(_, error) => {
                let otherwise = "set another with --proxy, or --proxy none for no proxy";
                error.advice().or(Some(otherwise.into()))
            }
            Self::Twice => Some("set only one of them".into()),
            Self::Credentials(_) | Self::Secret(_) => None,
        }
    }
}

impl NetworkError {
    /// The flags that can set the value.
    pub(super) fn flags(&self) -> &[&'static str] {
        match self {
            Self::Proxy("--proxy", _) => &["proxy"],
            Self::Credentials(_) | Self::Secret(_) => &["proxy-credentials-file"],
            Self::Proxy(..) | Self::Twice => &[],
        }
    }
}

/// Checks the network settings, with the environment variables that all programs share.
pub(super) fn network(
    args: NetworkArgs,
    environment: impl Fn(&str) -> Option<String>,
    warnings: &mut Vec<Warning>,
) -> Result<NetworkSettings, NetworkError> {
    let variable = |names: &[&'static str]| {
        let set =
            |name: &&'static str| Some((*name, environment(name).filter(|text| !text.trim().is_empty())?));
        names.iter().find_map(set)
    };
    let credentials = credentials(args.proxy_credentials_file, warnings)?;
    let proxy = |origin, text: &Secret| {
        let proxy = Proxy::parse(text).map_err(|error| NetworkError::Proxy(origin, error))?;
        match &credentials {
            Some(_) if proxy.has_credentials() => Err(NetworkError::Twice),
            Some(credentials) => Ok(proxy.with(credentials.clone())),
            None => Ok(proxy),
        }
    };
    let proxies = match &args.proxy {
        Some(text) if matches!(text.reveal().trim(), "" | "none") => ProxyRules::none(),
        Some(text) => ProxyRules::configured(proxy("--proxy", text)?),
        None => {
            let of = |names: &[&'static str]| {
                variable(names).map(|(name, text)| proxy(name, &Secret::new(text))).transpose()
            };
            ProxyRules::environment(of(&SECURE)?, of(&PLAIN)?)
        }
    };
    let except = args.no_proxy.or_else(|| variable(&EXCEPT).map(|(_, hosts)| hosts)).unwrap_or_default();
    Ok(NetworkSettings { proxies: proxies.except(&except), cacert: args.cacert })
}

fn credentials(
    file: Option<PathBuf>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Credentials>, NetworkError> {
    let Some(path) = file else { return Ok(None) };
    warnings.extend(permission_warning(&path));
    let text = read_secret(&path)?;
    Credentials::parse(&text).map(Some).ok_or(NetworkError::Credentials(path))
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that clap asks of a value parser")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use audiovault_common::advice::with_advice;
    use url::Url;

    use super::*;
    use crate::net::Target;

    const NOTHING: NetworkArgs =
        NetworkArgs { proxy: None, proxy_credentials_file: None, no_proxy: None, cacert: None };

    fn checked(args: NetworkArgs, environment: &[(&str, &str)]) -> Result<NetworkSettings, NetworkError> {
        let find = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        network(args, find, &mut Vec::new())
    }

    fn chosen(args: NetworkArgs, environment: &[(&str, &str)], relay: &str) -> String {
        let target = Target::of(&Url::parse(relay).unwrap()).unwrap();
        let settings = checked(args, environment).unwrap();
        settings.proxies.choose(&target).map_or_else(|| "none".to_owned(), ToString::to_string)
    }

    #[test]
    fn the_environment_names_a_proxy_as_for_curl() {
        let all = [
            ("ALL_PROXY", "socks5h://all"),
            ("HTTP_PROXY", "plain.example:3128"),
            ("HTTPS_PROXY", "http://upper:1"),
            ("https_proxy", "https://lower"),
        ];
        let chosen = |environment: &[(&str, &str)], relay| chosen(NOTHING, environment, relay);
        assert_eq!(chosen(&all, "wss://relay.example"), "https://lower:443");
        assert_eq!(chosen(&all[..3], "wss://relay.example"), "http://upper:1");
        assert_eq!(chosen(&all, "ws://relay.example"), "http://plain.example:3128");
        assert_eq!(chosen(&all[..1], "ws://relay.example"), "socks5h://all:1080");
        assert_eq!(chosen(&[("HTTPS_PROXY", ""), all[0]], "wss://relay.example"), "socks5h://all:1080");
        assert_eq!(chosen(&[], "wss://relay.example"), "none");
        for near in ["wss://localhost", "wss://relay.localhost:1", "wss://127.3.2.1", "wss://[::1]"] {
            assert_eq!(chosen(&all, near), "none", "{near}");
        }
    }

    #[test]
    fn a_proxy_that_was_configured_outranks_the_environment_or_switches_it_off() {
        let environment = [("HTTPS_PROXY", "http://environment")];
        let chosen = |proxy: &str, relay| {
            let args = NetworkArgs { proxy: Some(Secret::new(proxy)), ..NOTHING };
            chosen(args, &environment, relay)
        };
        assert_eq!(chosen("socks5://flag:9", "wss://relay.example"), "socks5://flag:9");
        assert_eq!(chosen("flag", "ws://relay.example"), "http://flag:80");
        assert_eq!(chosen("flag", "wss://127.0.0.1"), "http://flag:80", "who writes it down means it");
        assert_eq!(chosen("none", "wss://relay.example"), "none");
        assert_eq!(chosen(" ", "wss://relay.example"), "none");
    }

    #[test]
    fn exceptions_are_names_with_all_below_addresses_networks_or_everything() {
        let excepted = |list: &str, relay: &str| {
            let args = NetworkArgs { proxy: Some(Secret::new("p")), ..NOTHING };
            chosen(args, &[("NO_PROXY", list)], relay) == "none"
        };
        for (list, host) in [
            ("example.com", "example.com"),
            ("a, example.com", "relay.example.com"),
            ("a example.com", "relay.example.com"),
            (".example.com", "RELAY.example.com:8443"),
            ("192.0.2.7", "192.0.2.7:1"),
            ("192.0.2.0/24", "192.0.2.9"),
            ("2001:db8::/32", "[2001:db8::1]:9"),
            ("*", "anything"),
        ] {
            assert!(excepted(list, &format!("wss://{host}")), "{list} excepts {host}");
        }
        for (list, host) in [
            ("", "example.com"),
            ("example.com", "notexample.com"),
            ("relay.example.com", "example.com"),
            ("192.0.2.0/24", "192.0.3.9"),
        ] {
            assert!(!excepted(list, &format!("wss://{host}")), "{list} does not except {host}");
        }
        let args = NetworkArgs { proxy: Some(Secret::new("p")), no_proxy: Some(String::new()), ..NOTHING };
        assert_eq!(
            chosen(args, &[("NO_PROXY", "*")], "wss://a"),
            "http://p:80",
            "the flag outranks the variable"
        );
    }

    #[test]
    fn credentials_come_from_one_place_and_are_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("proxy");
        std::fs::write(&file, "maria:p@ss:word\n").unwrap();
        let with = |proxy: &str| NetworkArgs {
            proxy: Some(Secret::new(proxy)),
            proxy_credentials_file: Some(file.clone()),
            ..NOTHING
        };
        for settings in [
            checked(with("http://p"), &[]).unwrap(),
            checked(NOTHING, &[("HTTPS_PROXY", "socks5://maria:p%40ss%3Aword@p")]).unwrap(),
        ] {
            let shown = format!("{settings:?}");
            assert!(!shown.contains("ss:word") && !shown.contains("maria"), "{shown}");
        }
        let twice = checked(with("http://maria:s3cr3t@p"), &[]).unwrap_err();
        assert!(matches!(twice, NetworkError::Twice));
        std::fs::write(&file, "no colon").unwrap();
        assert!(matches!(checked(with("http://p"), &[]), Err(NetworkError::Credentials(_))));
    }

    #[test]
    fn what_is_no_proxy_is_named_without_its_password() {
        for bad in [
            "ftp://maria:s3cr3t@p",
            "http://maria:s3cr3t@:1",
            "socks4://maria:s3cr3t@p",
            "http://maria:s3cr3t@p:x",
        ] {
            let error = checked(NOTHING, &[("ALL_PROXY", bad)]).unwrap_err();
            let text = format!("{} {error:?}", with_advice(&error));
            assert!(text.contains("; use http, ") || text.contains("; write http://"), "{text}");
            assert!(text.contains("ALL_PROXY") && !text.contains("s3cr3t"), "{text}");
        }
    }
}
