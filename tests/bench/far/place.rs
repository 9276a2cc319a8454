//! Both ends of the link: the relay with its clients on one side, agents and nginx with the files on the other.

use std::{cell::Cell, fs, net::SocketAddr, path::PathBuf};

use harness::process::has_code;
use harness::{
    agent::{Agent, AgentOptions, CONNECTED},
    client::{client_at, first_link, search},
    nginx::Nginx,
    recordings::{noise, wav, write},
    relay::{Certificate, Relay, Site},
    wan_link::{RELAY, SITE, WanLink},
};
use tempfile::TempDir;

/// Bytes of each long file.
pub(crate) const LONG: u64 = 64 << 20;
/// Bytes of the short file: about the size of a search response.
pub(crate) const SHORT: u64 = 1_024;

/// The number of long files.
const FILES: usize = 4;

/// The call of the short file, which the searches ask for.
pub(crate) const SHORT_CALL: &str = "1711441902.99";

/// The contenders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Contender {
    /// nginx at the site; clients connect over the link.
    Nginx,
    /// Relay and agent, with this many tunnels between them.
    Ours(usize),
}

impl Contender {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Nginx => "nginx direct".to_owned(),
            Self::Ours(1) => "AudioVault Tunnel".to_owned(),
            Self::Ours(tunnels) => format!("AudioVault Tunnel, {tunnels} connections"),
        }
    }
}

/// The programs that run all the time.
pub(crate) struct Place {
    relay: Relay,
    /// The relay's address for agents.
    tls: SocketAddr,
    authority: String,
    files: PathBuf,
    nginx: Nginx,
    runs: Cell<usize>,
    _dir: TempDir,
}

/// The address of a contender.
pub(crate) struct End {
    long: Vec<String>,
    /// The address for a search, or of the short file.
    pub(crate) short: Short,
    _agent: Option<Agent>,
}

/// A small request.
pub(crate) enum Short {
    Search(Site),
    File(String),
}

impl Place {
    /// Starts everything.
    pub(crate) async fn make(link: &WanLink) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("recordings");
        for n in 0..FILES {
            write(&files, long(n), &noise(usize::try_from(LONG).unwrap(), n as u64));
        }
        let short = wav(1.0, 1);
        write(&files, format!("in-{SHORT_CALL}.wav"), &short[..usize::try_from(SHORT).unwrap()]);

        let certificate = Certificate::make(dir.path(), &[&RELAY.to_string()]);
        let [cert, key, authority] = [&certificate.certificate, &certificate.key, &certificate.authority]
            .map(|path| path.display().to_string());
        let tls = SocketAddr::new(RELAY, 443);
        let more = ["--tls-bind", &tls.to_string(), "--tls-cert", &cert, "--tls-key", &key];
        let relay = Relay::start_with(&more, false).await;
        let nginx = start_nginx(link, &files.display().to_string()).await;
        fs::read_dir(&files).unwrap().for_each(|entry| drop(fs::read(entry.unwrap().path()).unwrap()));
        Self { relay, tls, authority, files, nginx, runs: Cell::new(0), _dir: dir }
    }

    /// Prepares a contender, with connections that know only the present settings of the link.
    pub(crate) async fn dial(&self, link: &WanLink, contender: Contender) -> End {
        match contender {
            Contender::Nginx => {
                let at = |name: String| format!("http://{}/{name}", self.nginx.address);
                let short = Short::File(at(format!("in-{SHORT_CALL}.wav")));
                End { long: (0..FILES).map(|n| at(long(n))).collect(), short, _agent: None }
            }
            Contender::Ours(tunnels) => self.dial_tunnels(link, tunnels).await,
        }
    }

    async fn dial_tunnels(&self, link: &WanLink, tunnels: usize) -> End {
        self.runs.set(self.runs.get() + 1);
        let site = self.relay.add_site(&format!("run-{}", self.runs.get()), &[]).await;
        let options = AgentOptions::new(&self.files)
            .through(format!("wss://{}", self.tls))
            .inside(link.site())
            .with(&["--cacert", &self.authority, "--connections", &tunnels.to_string()]);
        let agent = Agent::start(&self.relay, &site, options).await;
        let mut mark = 0;
        for _ in 0..tunnels {
            agent.process.wait_for_code_after(mark, CONNECTED).await;
            let log = agent.process.log();
            mark += log.iter().skip(mark).position(|line| has_code(line, CONNECTED)).unwrap() + 1;
        }
        End { long: links(&self.relay, &site).await, short: Short::Search(site), _agent: Some(agent) }
    }
}

impl End {
    /// The address of a long file.
    pub(crate) fn long(&self, n: usize) -> &str {
        &self.long[n % FILES]
    }
}

/// Makes TCP on both sides start every connection without cached knowledge of the link, which had other settings
/// before. Returns the name of the congestion control.
pub(crate) fn prepare_tcp(link: &WanLink, congestion: Option<&str>) -> String {
    let set = |name: &str, value: &str| {
        let line = format!(
            "for side in $relay $site; do ip netns exec $side sh -c 'echo {value} > /proc/sys/net/ipv4/{name}'; done"
        );
        link.sh(&line)
    };
    set("tcp_no_metrics_save", "1");
    if let Some(congestion) = congestion {
        set("tcp_congestion_control", congestion);
    }
    let name = link.sh("ip netns exec $site cat /proc/sys/net/ipv4/tcp_congestion_control");
    name.trim().to_owned()
}

fn long(n: usize) -> String {
    format!("in-{}.wav", call(n))
}

fn call(n: usize) -> String {
    format!("1711441902.{n}")
}

async fn links(relay: &Relay, site: &Site) -> Vec<String> {
    let (client, mut links) = (client_at(2), Vec::new());
    for n in 0..FILES {
        let link = first_link(&search(&client, site, &call(n), &[]).await);
        assert!(link.starts_with(&relay.url()), "{link}");
        links.push(link);
    }
    links
}

async fn start_nginx(link: &WanLink, files: &str) -> Nginx {
    let site = link.site();
    let starter = ["ip", "netns", "exec", &site];
    let http = "sendfile on; tcp_nopush on; tcp_nodelay on; types { audio/wav wav; }";
    let nginx = Nginx::start_at(SocketAddr::new(SITE, 80), &starter, &format!("root {files};"), http).await;
    nginx.expect("nginx, which the comparison needs")
}
