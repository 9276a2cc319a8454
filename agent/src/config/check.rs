//! Turns raw arguments into checked settings: every value is checked once, here.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use audiovault_agent_core::{
    call_id::CallIdRules,
    media::Extensions,
    pattern::{Pattern, Placeholder},
    query::{Linked, Query, parse_start},
    secret::Secret,
    tenants::Tenants,
};
use audiovault_common::about::ShownVersion;
use audiovault_common::advice::Warning;
use audiovault_common::tls::CertificateFiles;
use audiovault_protocol::{
    identity::{
        signed_link::{LinkSecret, MAX_LINK_LIFE},
        site::{SiteId, SiteKey},
    },
    recording::name::RecordedNames,
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use sha2::{Digest, Sha256};
use url::{Host, Url};

use super::{
    args::{AccessArgs, AuditNames, CallArgs, Mode, ServeArgs, StorageArgs, TunnelArgs},
    audit_log_args,
    cdr_args::{self, CdrArgs},
    dialect_args::DialectArgs,
    error::ConfigError,
    limits::{LimitArgs, RAISE_THE_LIMIT, max_rate, max_streams},
    network::network,
};
use crate::{
    app::AgentSettings,
    auth::{
        Access,
        secret_files::{permission_warning, read_secret, read_tenants},
    },
    http::{
        ServiceSettings,
        dialect::Dialect,
        links::{LINK_TTL, LinkSettings},
        listener::{Origins, ServeSettings},
    },
    limits::room_for_connections,
    status::state::StateFile,
    storage::{SearchMode, StorageSettings, linked_calls::CdrSettings},
    tunnel::TunnelConfig,
};

/// Longest look-back: a month of hourly directories is 1500 of them; more means a pattern without dates.
const MAX_LOOK_BACK: Duration = Duration::from_secs(31 * 24 * 3600);
/// Longest lifetime of a link.
const MAX_LINK_TTL: Duration = Duration::from_secs(MAX_LINK_LIFE);
/// Fewest characters of a link key that is written by hand: 32 hexadecimal digits are 128 bits.
const MIN_LINK_SECRET_LEN: usize = 32;
/// The site name with which a classic AudioVault, which has no relay, signs its links.
const CLASSIC_SITE: &str = "classic";

/// A configuration that can be used, with warnings for the admin.
#[derive(Debug)]
pub struct Checked<T> {
    /// The settings.
    pub settings: T,
    /// Warnings for the log.
    pub warnings: Vec<Warning>,
}

/// Checks the flags of `tunnel`. Links are signed with `run_secret` unless a file holds another secret.
///
/// # Errors
/// [`ConfigError`] for the first thing that is wrong.
pub fn tunnel(args: TunnelArgs, run_secret: &LinkSecret) -> Result<Checked<AgentSettings>, ConfigError> {
    let mut warnings = Vec::new();
    // Checked first, so that an admin who has set no flag yet is told about the relay first.
    relays(&args.relay, args.allow_plaintext)?;
    let typed = args.site_key.clone();
    let key = one_secret(typed, args.site_key_file.as_deref(), "--site-key", &mut warnings)?;
    let key = key.ok_or(ConfigError::Missing("the site key (--site-key-file)"))?;
    let checked = with_key(args, SiteKey::parse(key.reveal())?, run_secret)?;
    warnings.extend(checked.warnings);
    Ok(Checked { settings: checked.settings, warnings })
}

/// Checks the flags of `tunnel`, except the site key.
///
/// # Errors
/// [`ConfigError`] for the first thing that is wrong.
pub fn with_key(
    args: TunnelArgs,
    site_key: SiteKey,
    run_secret: &LinkSecret,
) -> Result<Checked<AgentSettings>, ConfigError> {
    let mut warnings = Vec::new();
    let relays = relays(&args.relay, args.allow_plaintext)?;
    let links = LinkSettings { site: site_key.site().clone(), secret: run_secret.clone(), ttl: LINK_TTL };
    let mut service =
        service((&args.storage, &args.limits), args.access, links, Some(site_key.site()), &mut warnings)?;
    service.storage.index = args.index.index;
    service.cdr = cdr_args::settings(&args.cdr, &mut warnings)?;
    speak(&args.dialect, &mut service)?;
    audit_log_args::apply(args.audit_log, &mut service, &mut warnings)?;
    let network = network(args.network, |name| std::env::var(name).ok(), &mut warnings)?;
    let connections = args.connections;
    let max_streams = service.max_streams;
    let tunnel = TunnelConfig { relays, connections, site_key, network, max_streams };
    let settings = AgentSettings { service, tunnel, state_file: args.state_file.map(StateFile::new) };
    Ok(Checked { settings, warnings })
}

/// Checks the flags of `serve`. Links are signed with `run_secret` unless a file holds another secret.
///
/// # Errors
/// [`ConfigError`] for the first thing that is wrong.
pub fn serve(args: ServeArgs, run_secret: &LinkSecret) -> Result<Checked<ServeSettings>, ConfigError> {
    let mut warnings = Vec::new();
    let site = SiteId::parse(CLASSIC_SITE)?;
    let links = LinkSettings { site, secret: run_secret.clone(), ttl: LINK_TTL };
    let mut service = service((&args.storage, &args.limits), args.access, links, None, &mut warnings)?;
    service.storage.index = args.index.index;
    service.cdr = cdr_args::settings(&args.cdr, &mut warnings)?;
    speak(&args.dialect, &mut service)?;
    audit_log_args::apply(args.audit_log, &mut service, &mut warnings)?;
    let tls = match (args.certificate, args.certificate_key) {
        (Some(certificate), Some(key)) => {
            warnings.extend(permission_warning(&key));
            Some(CertificateFiles { certificate, key, authority: None })
        }
        (None, None) => None,
        (Some(_), None) => return Err(ConfigError::Missing("--certificate-key")),
        (None, Some(_)) => return Err(ConfigError::Missing("--certificate")),
    };
    let public_url = args.public_url.as_deref().map(public_url).transpose()?;
    if public_url.is_none() {
        warnings.push(Warning::new("links start with the listen address", "set --public-url to change that"));
    }
    let origins = Origins::parse(&args.allow_origin).ok_or(ConfigError::Origin(args.allow_origin))?;
    let bind_to = match args.bind_to.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => args.bind_to,
    };
    let shown_version = if args.hide_version { ShownVersion::Hidden } else { ShownVersion::Shown };
    let ServeArgs { max_connections, max_client_connections, .. } = args;
    let room = room_for_connections(service.max_streams);
    if room < max_connections {
        warnings.push(Warning::new(
            format!(
                "this process can open only {room} connections, but --max-connections is {max_connections}"
            ),
            RAISE_THE_LIMIT,
        ));
    }
    let max_connections = max_connections.min(room);
    let settings = ServeSettings {
        service,
        bind_to,
        public_url,
        tls,
        origins,
        shown_version,
        max_connections,
        max_client_connections,
    };
    Ok(Checked { settings, warnings })
}

/// Checks where and how recordings are searched.
///
/// # Errors
/// [`ConfigError`] for the first thing that is wrong.
pub fn storage(args: &StorageArgs) -> Result<Checked<StorageSettings>, ConfigError> {
    let mut warnings = Vec::new();
    let mut roots = Vec::new();
    for list in &args.path {
        roots.extend(Pattern::parse_list(list)?);
    }
    if roots.is_empty() {
        return Err(ConfigError::Missing("--path"));
    }
    let dated = roots.iter().any(|root| root.granularity().is_some());
    let zone = match &args.timezone {
        Some(name) => TimeZone::get(name).map_err(|_| ConfigError::TimeZone(name.clone()))?,
        None => TimeZone::system(),
    };
    if args.timezone.is_none() && dated && is_utc(&zone) {
        warnings.push(Warning::new(
            "--path has dates and this machine's clock is on UTC",
            "set --timezone if the PBX is not on UTC",
        ));
    }
    let call_ids = args.call_id.as_deref().map(CallIdRules::with_custom).transpose();
    let extensions = match args.extension.as_slice() {
        [] => Extensions::default(),
        chosen => Extensions::only(chosen.iter().map(String::as_str))?,
    };
    if let Some(sentinel) =
        args.sentinel.as_ref().filter(|name| name.is_empty() || name.contains(['/', '\0']))
    {
        return Err(ConfigError::Sentinel(sentinel.clone()));
    }
    let look_back = duration("--look-back", &args.look_back, Duration::ZERO, MAX_LOOK_BACK)?;
    let settings = StorageSettings {
        zone,
        look_back: SignedDuration::try_from(look_back).unwrap_or_default(),
        extensions,
        sentinel: args.sentinel.clone(),
        mode: match args.search {
            Mode::First => SearchMode::First,
            Mode::All => SearchMode::All,
        },
        call_ids: call_ids.map_err(|error| ConfigError::CallIdRegex(Box::new(error)))?.unwrap_or_default(),
        ..StorageSettings::new(roots)
    };
    Ok(Checked { settings, warnings })
}

/// Checks where the call records are, if any are configured.
///
/// # Errors
/// [`ConfigError`] for the first thing that is wrong.
pub fn cdr(args: &CdrArgs) -> Result<Option<CdrSettings>, ConfigError> {
    Ok(cdr_args::settings(args, &mut Vec::new())?)
}

/// Checks the flags that name a call.
///
/// # Errors
/// [`ConfigError`] for an invalid id or start.
pub fn query(args: &CallArgs, settings: &StorageSettings) -> Result<Query, ConfigError> {
    let call_id = settings.call_ids.parse(&args.id);
    Ok(Query {
        call_id: call_id.map_err(|source| ConfigError::CallId { text: args.id.clone(), source })?,
        start: args.start.as_deref().map(|start| parse_start(start, &settings.zone)).transpose()?,
        tenant: args.tenant.clone(),
        server: args.server.clone(),
        queue: args.queue.clone(),
        agent: args.agent.clone(),
        linked: Linked::default(),
    })
}

fn service(
    (vault_args, limits): (&StorageArgs, &LimitArgs),
    args: AccessArgs,
    mut links: LinkSettings,
    site: Option<&SiteId>,
    warnings: &mut Vec<Warning>,
) -> Result<ServiceSettings, ConfigError> {
    let storage = storage(vault_args)?;
    warnings.extend(storage.warnings);
    let token = one_secret(args.token, args.token_file.as_deref(), "--token", warnings)?;
    let tenants = match &args.tenants {
        Some(path) => {
            warnings.extend(permission_warning(path));
            read_tenants(path)?
        }
        None => Tenants::default(),
    };
    warnings.extend(tenants.warnings.into_iter().map(Warning::only));
    let mixed = |root: &&Pattern| root.mentions(Placeholder::Tenant) && !root.separates_tenants();
    if let Some(root) = storage.settings.roots.iter().find(mixed).filter(|_| args.tenants.is_some()) {
        return Err(ConfigError::MixedTenants(root.to_string()));
    }
    if args.tenants.is_some()
        && let Some((outer, inner)) = nested(&storage.settings.roots)
    {
        return Err(ConfigError::NestedTenants { outer: outer.to_string(), inner: inner.to_string() });
    }
    let apart = storage.settings.roots.iter().any(|root| root.mentions(Placeholder::Tenant));
    if !tenants.usable.is_empty() && !apart {
        warnings
            .push(Warning::only("no --path has %TE, so searches with a tenant's own secret find nothing"));
    }
    let access = Access::new(token.as_ref(), &tenants.usable, site.map(SiteId::as_str))?;
    warnings.extend(access.warning());
    links.ttl = duration("--link-ttl", &args.link_ttl, Duration::from_secs(1), MAX_LINK_TTL)?;
    if let Some(path) = &args.link_secret_file {
        links.secret = link_secret(path)?;
        warnings.extend(permission_warning(path));
    }
    let recorded_names = match args.audit_names {
        AuditNames::Masked => RecordedNames::Masked,
        AuditNames::Full => RecordedNames::Full,
    };
    let max_rate = max_rate(limits, &storage.settings.zone)?;
    let max_streams = max_streams(limits, warnings);
    Ok(ServiceSettings {
        storage: storage.settings,
        access,
        links,
        recorded_names,
        max_rate,
        max_streams,
        audit_log: None,
        deny: None,
        cdr: None,
        dialect: Dialect::default(),
        verbose_search: false,
    })
}

/// Finds two paths where a tenant's directory of the first may contain other tenants' directories of the second.
fn nested(roots: &[Pattern]) -> Option<(&Pattern, &Pattern)> {
    roots.iter().find_map(|outer| Some((outer, roots.iter().find(|inner| outer.holds_tenants_of(inner))?)))
}

fn speak(args: &DialectArgs, service: &mut ServiceSettings) -> Result<(), ConfigError> {
    service.dialect = args.dialect.as_deref().map(Dialect::read).transpose()?.unwrap_or_default();
    service.verbose_search = args.verbose_search;
    Ok(())
}

fn one_secret(
    typed: Option<Secret>,
    file: Option<&Path>,
    flag: &'static str,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Secret>, ConfigError> {
    match (typed, file) {
        (Some(_), Some(_)) => Err(ConfigError::Twice(flag)),
        (Some(secret), None) => Ok(Some(secret)),
        (None, None) => Ok(None),
        (None, Some(path)) => {
            warnings.extend(permission_warning(path));
            Ok(Some(read_secret(path)?))
        }
    }
}

/// Reads the link key. If the file does not exist, generates a key and stores it for the next run.
fn link_secret(path: &Path) -> Result<LinkSecret, ConfigError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let drawn = Secret::new(data_encoding::HEXLOWER.encode(&rand::random::<[u8; 32]>()));
            writeln!(file, "{}", drawn.reveal())
                .map_err(|error| ConfigError::LinkSecret(path.to_owned(), error))?;
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(ConfigError::LinkSecret(path.to_owned(), error)),
    }
    let secret = read_secret(path)?;
    if secret.reveal().len() < MIN_LINK_SECRET_LEN {
        return Err(ConfigError::ShortLinkSecret(path.to_owned()));
    }
    Ok(LinkSecret::from_bytes(Sha256::digest(secret.reveal()).into()))
}

fn relays(texts: &[String], allow_plaintext: bool) -> Result<Vec<Url>, ConfigError> {
    let mut relays = Vec::new();
    for text in texts.iter().flat_map(|list| list.split(',')).map(str::trim) {
        let relay = relay(text, allow_plaintext)?;
        if relays.contains(&relay) {
            return Err(ConfigError::SameRelay(text.to_owned()));
        }
        relays.push(relay);
    }
    if relays.is_empty() { Err(ConfigError::Missing("--relay")) } else { Ok(relays) }
}

fn relay(text: &str, allow_plaintext: bool) -> Result<Url, ConfigError> {
    let wrong = || ConfigError::Relay(text.to_owned());
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !url.username().is_empty() || url.password().is_some() {
        // The text may hold a password, so it is not repeated.
        return Err(ConfigError::RelayCredentials);
    }
    let plain = match url.scheme() {
        "wss" | "https" => false,
        "ws" | "http" => true,
        _ => return Err(wrong()),
    };
    let near = match url.host().ok_or_else(wrong)? {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => IpAddr::V4(address).is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(address).is_loopback(),
    };
    if plain && !near && !allow_plaintext {
        return Err(ConfigError::Plaintext(text.to_owned()));
    }
    Ok(url)
}

fn public_url(text: &str) -> Result<String, ConfigError> {
    let wrong = || ConfigError::PublicUrl(text.to_owned());
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !plain {
        return Err(wrong());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn duration(
    flag: &'static str,
    text: &str,
    least: Duration,
    most: Duration,
) -> Result<Duration, ConfigError> {
    let read = humantime::parse_duration(text).ok().filter(|read| (least..=most).contains(read));
    read.ok_or_else(|| ConfigError::Duration { flag, text: text.to_owned(), least, most })
}

/// Whether a zone has the offset of UTC, in winter and in summer.
fn is_utc(zone: &TimeZone) -> bool {
    [1_704_067_200, 1_719_792_000].iter().all(|second| {
        let at = Timestamp::from_second(*second).unwrap_or(Timestamp::UNIX_EPOCH);
        zone.to_offset(at).seconds() == 0
    })
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
