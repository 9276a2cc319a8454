//! The programs of the demo: recordings, a relay with an embedded database, and an agent that dials it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use audiovault_agent::{
    app::{Agent, AgentSettings},
    auth::Access,
    http::{ServiceSettings, dialect::Dialect, links::LinkSettings},
    limits::Schedule,
    net::NetworkSettings,
    storage::StorageSettings,
    tunnel::{DEFAULT_MAX_STREAMS, TunnelConfig},
};
use audiovault_agent_core::{call_id::CallIdRules, pattern::Pattern, secret::Secret};
use audiovault_common::about::ShownVersion;
use audiovault_common::logging::{LogConfig, LogFormat};
use audiovault_protocol::{
    identity::site::{SiteId, SiteKey},
    recording::name::RecordedNames,
};
use audiovault_relay::{
    app::{
        Relay,
        config::{AdminListener, Hsts, RecordsConfig, ServeConfig},
    },
    limits::LimitsConfig,
    model::operator_events::Actor,
    public::AllowOrigin,
    store::{self, DatabaseUrl, IfMissing, NewSite},
};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use samples::{wav, write};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Result;

/// How long the agent may take to connect on loopback.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// All running programs.
pub(crate) struct Place {
    /// The relay's public address.
    pub(crate) url: String,
    /// The directory of the recordings.
    pub(crate) recordings: PathBuf,
    /// The call of the search.
    pub(crate) call: String,
    /// The search token.
    pub(crate) token: String,
    relay: Relay,
    agent: JoinHandle<()>,
    shutdown: CancellationToken,
    _dir: TempDir,
}

impl Place {
    /// Starts the relay, then the agent, and waits until they are connected.
    pub(crate) async fn start(recordings: Option<PathBuf>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let generated = dir.path().join("monitor");
        let (recordings, pattern, call) = match recordings {
            Some(own) => {
                let call = first_call(&own).ok_or("no file in that directory has a call id in its name")?;
                (own.clone(), format!("file:{}", std::path::absolute(own)?.display()), call)
            }
            None => {
                let call = generate(&generated)?;
                let pattern = format!("file:{}/%YY/%MM/%DD", generated.display());
                (generated, pattern, call)
            }
        };
        let address = free_port()?;
        let url = format!("http://{address}");
        let (relay, key) = start_relay(dir.path(), address, &url).await?;
        let token: String = rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let shutdown = CancellationToken::new();
        let agent = start_agent(&url, key, &pattern, &token, shutdown.clone())?;
        let place = Self { url, recordings, call, token, relay, agent, shutdown, _dir: dir };
        place.connected().await?;
        Ok(place)
    }

    /// Lets both programs drain.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let _ = self.agent.await;
        self.relay.drain().await;
    }

    async fn connected(&self) -> Result<()> {
        let search = format!("{}/demo/search", self.url);
        let form = [("token", &self.token), ("callid", &self.call)];
        let asked = async {
            // Without the right token a relay does not say whether an agent is connected.
            while reqwest::Client::new().post(&search).form(&form).send().await?.status() != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<_, reqwest::Error>(())
        };
        tokio::time::timeout(CONNECT_TIMEOUT, asked).await.map_err(|_| "the agent did not connect")??;
        Ok(())
    }
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

async fn start_relay(dir: &Path, address: SocketAddr, url: &str) -> Result<(Relay, SiteKey)> {
    let database = DatabaseUrl::Sqlite(dir.join("relay.db"));
    let key = SiteKey::from_secret(SiteId::parse("demo")?, rand::random());
    let site = NewSite {
        site: key.site().clone(),
        note: "the demo".to_owned(),
        aliases: [].into(),
        key: key.digest(),
    };
    store::open(&database, IfMissing::Create).await?.add_site(&Actor::command_line(), &site).await?;
    let config = ServeConfig {
        plain: Some(address),
        tls: None,
        public_url: url.parse()?,
        database,
        admin: AdminListener::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        trusted_proxies: Vec::new(),
        hsts: Hsts::default(),
        search_by_get: true,
        metrics_public: false,
        shown_version: ShownVersion::Shown,
        allow_origin: AllowOrigin::Any,
        log: LogConfig::new(LogFormat::Text, "info")?,
        drain_timeout: Duration::from_secs(5),
        limits: LimitsConfig::default(),
        cluster: None,
        records: RecordsConfig::default(),
    };
    Ok((Relay::start(config).await?, key))
}

fn start_agent(
    relay: &str,
    key: SiteKey,
    pattern: &str,
    token: &str,
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>> {
    let settings = ServiceSettings {
        storage: StorageSettings {
            zone: TimeZone::system(),
            ..StorageSettings::new(vec![Pattern::parse(pattern)?])
        },
        access: Access::new(Some(&Secret::new(token.to_owned())), &[], Some(key.site().as_str()))?,
        links: LinkSettings::for_this_run(key.site().clone()),
        recorded_names: RecordedNames::Masked,
        max_rate: Schedule::default(),
        max_streams: DEFAULT_MAX_STREAMS,
        audit_log: None,
        deny: None,
        cdr: None,
        dialect: Dialect::default(),
        verbose_search: false,
    };
    let tunnel = TunnelConfig {
        relays: vec![relay.parse()?],
        connections: 1,
        site_key: key,
        network: NetworkSettings::default(),
        max_streams: DEFAULT_MAX_STREAMS,
    };
    let agent = Agent::start(AgentSettings { service: settings, tunnel, state_file: None }, shutdown)?;
    Ok(tokio::spawn(agent.finished()))
}

/// Writes three calls of yesterday in the layout of FreePBX. Returns the id of the one to play.
fn generate(root: &Path) -> Result<String> {
    let yesterday = Timestamp::now().checked_sub(24.hours())?;
    let calls = [("in", "600", 47.0), ("q", "600", 184.0), ("out", "0034600111222", 12.5)];
    let mut chosen = String::new();
    for (number, (kind, to, seconds)) in (1u32..).zip(calls) {
        let start = yesterday.checked_add((i64::from(number) * 7).minutes())?;
        let local = start.to_zoned(TimeZone::system());
        let id = format!("{}.{}", start.as_second(), 100 + number);
        let name = format!("{kind}-{to}-0034915550{number:03}-{}-{id}.wav", local.strftime("%Y%m%d-%H%M%S"));
        write(root, format!("{}/{name}", local.strftime("%Y/%m/%d")), &wav(seconds, number));
        if kind == "q" {
            chosen = id;
        }
    }
    Ok(chosen)
}

/// Finds a call id in the names of a directory tree: of the first file, in order, that has one.
fn first_call(dir: &Path) -> Option<String> {
    let rules = CallIdRules::default();
    let mut entries: Vec<_> = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.into_iter().find_map(|path| {
        if path.is_dir() {
            return first_call(&path);
        }
        let stem = path.file_stem()?.to_str()?;
        let last = stem.rsplit('-').next().unwrap_or(stem);
        let uuid = stem.get(stem.len().saturating_sub(36)..).unwrap_or_default();
        [last, uuid].into_iter().find(|id| rules.parse(id).is_ok()).map(str::to_owned)
    })
}
