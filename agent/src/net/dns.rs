//! Resolves names to addresses, by the system's configuration but without its C library: `/etc/hosts`, then the name
//! servers of `/etc/resolv.conf`. Both files are read each time, and nothing is cached, so a name with a new address
//! is found at the next attempt.

use std::{borrow::Cow, io, net::IpAddr, path::Path, time::Duration};

use audiovault_common::advice::Advice;
use hickory_resolver::{
    Hosts, TokioResolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts},
    lookup_ip::LookupIp,
    net::{DnsError as Answer, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf::parse_resolv_conf,
};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The name server if `/etc/resolv.conf` names none, or does not exist: this machine (resolv.conf(5)).
const NAME_SERVER: &str = "nameserver 127.0.0.1\n";
/// How long to wait for the answers for both address families before asking for IPv4 alone: some old name servers
/// never answer a question for AAAA. RFC 8305 (section 3) waits 50 ms for the second family. Here an address that
/// comes later is not used at all, so the wait covers a slow but honest answer.
const BOTH_FAMILIES: Duration = Duration::from_secs(1);

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The name servers know no such name, or no address for it.
    #[error("no such name, or no address for it")]
    Unknown(#[source] NetError),
    /// The name servers do not answer in time.
    #[error("the name servers in /etc/resolv.conf do not answer")]
    Silent,
    /// The name servers answer with an error (RFC 1035, section 4.1.1), such as `Query Refused`.
    #[error("the name servers in /etc/resolv.conf return an error, {0:?}")]
    Refused(String),
    /// The name servers cannot be asked, or their answer is not valid.
    #[error("the name servers in /etc/resolv.conf give no answer")]
    NoAnswer(#[source] NetError),
    /// `/etc/resolv.conf` cannot be used.
    #[error("/etc/resolv.conf cannot be used")]
    Configuration(#[source] NetError),
    /// `/etc/resolv.conf` exists but cannot be read.
    #[error("/etc/resolv.conf cannot be read")]
    Unreadable(#[source] io::Error),
}

impl Advice for DnsError {
    fn advice(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Unknown(_) => Some("check the spelling, and the DNS records of the name".into()),
            Self::Silent | Self::NoAnswer(_) => Some("check them, and the network to them".into()),
            Self::Refused(_) => Some("check that they work, and that they serve this machine".into()),
            Self::Configuration(_) | Self::Unreadable(_) => None,
        }
    }
}

/// The addresses of a name, IPv6 before IPv4, or `host` itself if it is an address. Never empty. It may take as long
/// as `/etc/resolv.conf` allows (10 s unless it says otherwise): the calling code sets the limit.
///
/// # Errors
/// [`DnsError`].
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, DnsError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if let Some(known) = in_hosts_file(host).await {
        return Ok(known);
    }
    let (config, options) = system_configuration().await?;
    ask(host, &config, &options).await
}

async fn ask(host: &str, config: &ResolverConfig, options: &ResolverOpts) -> Result<Vec<IpAddr>, DnsError> {
    let both = resolver(config, options, LookupIpStrategy::Ipv6AndIpv4)?;
    let one = resolver(config, options, LookupIpStrategy::Ipv4Only)?;
    let both = both.lookup_ip(host);
    tokio::pin!(both);
    let found = tokio::select! {
        found = &mut both => found,
        Some(found) = late(&one, host) => Ok(found),
    };
    let addresses: Vec<IpAddr> = found.map_err(classify)?.iter().collect();
    if addresses.is_empty() {
        return Err(DnsError::Unknown(NetError::Message("the answer has no address")));
    }
    Ok(addresses)
}

/// The IPv4 addresses alone, looked up after [`BOTH_FAMILIES`].
async fn late(resolver: &TokioResolver, host: &str) -> Option<LookupIp> {
    tokio::time::sleep(BOTH_FAMILIES).await;
    resolver.lookup_ip(host).await.ok().filter(|found| found.iter().next().is_some())
}

/// The addresses in `/etc/hosts`. A name that is in this file is not looked up elsewhere, for either family, as
/// nsswitch.conf(5) specifies for `files dns`; the resolver would look up the other family.
async fn in_hosts_file(host: &str) -> Option<Vec<IpAddr>> {
    let name = Name::from_str_relaxed(host.to_ascii_lowercase()).ok()?;
    // A local file is read quickly, but reading it still blocks.
    let hosts = tokio::task::spawn_blocking(Hosts::from_system).await.ok()?.ok()?;
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [RecordType::AAAA, RecordType::A].into_iter().filter_map(of);
    let addresses: Vec<IpAddr> = found.flat_map(LookupIp::from).collect();
    (!addresses.is_empty()).then_some(addresses)
}

async fn system_configuration() -> Result<(ResolverConfig, ResolverOpts), DnsError> {
    let text = match tokio::fs::read_to_string(Path::new(RESOLV_CONF)).await {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(DnsError::Unreadable(error)),
    };
    configuration(text).map_err(DnsError::Configuration)
}

fn resolver(
    config: &ResolverConfig,
    options: &ResolverOpts,
    strategy: LookupIpStrategy,
) -> Result<TokioResolver, DnsError> {
    let mut options = options.clone();
    options.ip_strategy = strategy;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    let builder = TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
    builder.with_options(options).build().map_err(DnsError::Configuration)
}

fn configuration(mut text: String) -> Result<(ResolverConfig, ResolverOpts), NetError> {
    if !text.lines().any(|line| line.trim_start().starts_with("nameserver")) {
        text.push('\n');
        text.push_str(NAME_SERVER);
    }
    let (config, options) = parse_resolv_conf(text)?;
    // The machine's own domain is searched only if the file has no search list.
    let domain = if config.search().is_empty() { config.domain().cloned() } else { None };
    let servers = config.name_servers().to_vec();
    Ok((ResolverConfig::from_parts(domain, config.search().to_vec(), servers), options))
}

fn classify(error: NetError) -> DnsError {
    if error.is_nx_domain() || error.is_no_records_found() {
        DnsError::Unknown(error)
    } else if matches!(error, NetError::Timeout) {
        DnsError::Silent
    } else if let NetError::Dns(Answer::ResponseCode(code)) = &error {
        DnsError::Refused(code.to_string())
    } else {
        DnsError::NoAnswer(error)
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::{
        config::{ConnectionConfig, NameServerConfig},
        proto::{
            op::{Message, ResponseCode},
            rr::{RData, Record},
        },
    };
    use tokio::{net::UdpSocket, time::Instant};

    use super::*;

    /// A name server that answers only questions for some record types: with 192.0.2.7, or with an error. It stops at
    /// the end of the test.
    async fn name_server(answers: &'static [RecordType], code: ResponseCode) -> ResolverConfig {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut connection = ConnectionConfig::udp();
        let address = socket.local_addr().unwrap();
        connection.port = address.port();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..len]).unwrap();
                let query = question.queries[0].clone();
                if !answers.contains(&query.query_type()) {
                    continue;
                }
                let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
                answer.metadata.response_code = code;
                if code == ResponseCode::NoError {
                    let here = RData::from(IpAddr::from([192, 0, 2, 7]));
                    answer.add_answer(Record::from_rdata(query.name().clone(), 3600, here));
                }
                answer.add_query(query);
                socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        let mut server = NameServerConfig::udp(address.ip());
        server.connections = vec![connection];
        ResolverConfig::from_parts(None, Vec::new(), vec![server])
    }

    #[tokio::test]
    async fn name_servers_that_swallow_questions_for_ipv6_cost_a_second() {
        let config = name_server(&[RecordType::A], ResponseCode::NoError).await;
        let begun = Instant::now();
        let found = ask("relay.example", &config, &ResolverOpts::default()).await.unwrap();
        assert_eq!(found, [IpAddr::from([192, 0, 2, 7])]);
        assert!((BOTH_FAMILIES..BOTH_FAMILIES * 3).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn no_such_name_an_error_and_no_answer_are_different_errors() {
        let both = &[RecordType::A, RecordType::AAAA];
        let config = name_server(both, ResponseCode::NXDomain).await;
        let unknown = ask("relay.example", &config, &ResolverOpts::default()).await.unwrap_err();
        assert!(matches!(unknown, DnsError::Unknown(_)), "{unknown:?}");
        let config = name_server(both, ResponseCode::Refused).await;
        let refused = ask("relay.example", &config, &ResolverOpts::default()).await.unwrap_err();
        assert!(matches!(&refused, DnsError::Refused(said) if said == "Query Refused"), "{refused:?}");
        let config = name_server(&[], ResponseCode::NoError).await;
        let mut impatient = ResolverOpts::default();
        (impatient.timeout, impatient.attempts) = (Duration::from_millis(200), 1);
        let silent = ask("relay.example", &config, &impatient).await.unwrap_err();
        assert!(matches!(silent, DnsError::Silent), "{silent:?}");
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer_and_localhost_is_here() {
        assert_eq!(resolve("192.0.2.7").await.unwrap(), [IpAddr::from([192, 0, 2, 7])]);
        assert_eq!(resolve("2001:db8::7").await.unwrap(), ["2001:db8::7".parse::<IpAddr>().unwrap()]);
        let here = resolve("LocalHost").await.unwrap();
        assert!(!here.is_empty() && here.iter().all(IpAddr::is_loopback), "{here:?}");
    }

    #[test]
    fn a_machine_without_name_servers_asks_itself() {
        for text in ["", "# nothing\nsearch example.com\n", "options ndots:2"] {
            let (config, _) = configuration(text.to_owned()).unwrap();
            let [server] = config.name_servers() else { panic!("{config:?}") };
            assert_eq!(server.ip, IpAddr::from([127, 0, 0, 1]));
        }
    }

    #[test]
    fn servers_search_list_and_limits_come_from_the_file() {
        let text = "search a.example b.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n\
                    options timeout:1 attempts:3 ndots:2 trust-ad\n";
        let (config, options) = configuration(text.to_owned()).unwrap();
        let servers: Vec<_> = config.name_servers().iter().map(|server| server.ip.to_string()).collect();
        assert_eq!(servers, ["192.0.2.1", "2001:db8::1"]);
        assert_eq!(config.search().len(), 2);
        assert_eq!((options.timeout, options.attempts, options.ndots), (Duration::from_secs(1), 3, 2));
    }
}
