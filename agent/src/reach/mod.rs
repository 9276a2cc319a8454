//! The way out of this machine: name, TCP, TLS. Each stage can be taken by itself, by whoever wants to tell of it;
//! [`Outbound::reach`] takes all of them.

mod certificate;
mod dns;
mod error;
mod eyeballs;
mod target;
mod tls;
mod trust;

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use audiovault_protocol::{
    limits::MAX_DATA_LEN,
    link::{Counted, Traffic},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use self::trust::Trust;
pub use self::{
    certificate::Certificate,
    dns::{DnsError, resolve},
    error::{ReachError, Stage},
    eyeballs::{Attempt, Attempts},
    target::Target,
    tls::TlsFailure,
    trust::TrustError,
};

/// How long each stage may take.
pub const STAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Octets that may wait unsent in the kernel: one DATA frame. What is more waits in the lanes, where a search can
/// overtake it.
const NOTSENT_LOWAT: u32 = MAX_DATA_LEN as u32;

/// Octets both ways: TCP, or TLS over it.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug> Connection for T {}

/// Any connection.
pub type Stream = Box<dyn Connection>;

/// How to get out.
#[derive(Debug, Clone, Default)]
pub struct NetworkSettings {
    /// PEM file of certificate authorities to trust instead of the machine's own.
    pub cacert: Option<PathBuf>,
}

/// The way out, made once.
#[derive(Debug, Clone)]
pub struct Outbound {
    trust: Trust,
}

/// A TCP connection.
#[derive(Debug)]
pub struct Connected {
    /// The connection; its octets are counted.
    pub stream: Stream,
    /// How many octets have gone through.
    pub traffic: Arc<Traffic>,
    /// The address that won.
    pub address: SocketAddr,
    /// The addresses that had failed until then.
    pub failed: Attempts,
}

/// A connection with a service, ready to use.
#[derive(Debug)]
pub struct Reached {
    /// The connection; octets are counted beneath its TLS.
    pub stream: Stream,
    /// How many octets have gone through.
    pub traffic: Arc<Traffic>,
    /// The address that TCP is connected to.
    pub address: SocketAddr,
    /// The certificates that were presented, the server's own first; none without TLS.
    pub certificates: Vec<Certificate>,
}

impl Outbound {
    /// Reads the certificate authorities.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn new(settings: &NetworkSettings) -> Result<Self, TrustError> {
        Ok(Self { trust: Trust::new(settings.cacert.as_deref())? })
    }

    /// Takes all stages to a service, each in [`STAGE_TIMEOUT`].
    ///
    /// # Errors
    /// [`ReachError`] of the stage that failed.
    pub async fn reach(&self, target: &Target) -> Result<Reached, ReachError> {
        let addresses = self.resolve(target).await?;
        let connected = self.connect(target, &addresses).await?;
        self.secure(target, connected).await
    }

    /// Stage [`Stage::Dns`]: the addresses to connect to, asked for anew.
    ///
    /// # Errors
    /// [`ReachError::Dns`], or a time-out.
    pub async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, ReachError> {
        let found = within(Stage::Dns, target, resolve(target.host())).await?;
        let found = found.map_err(|error| ReachError::Dns(target.host().to_owned(), error))?;
        Ok(found.into_iter().map(|address| SocketAddr::new(address, target.port())).collect())
    }

    /// Stage [`Stage::Tcp`]: connects to the address that answers first.
    ///
    /// # Errors
    /// [`ReachError::Tcp`], or a time-out where no address has answered at all.
    pub async fn connect(&self, target: &Target, addresses: &[SocketAddr]) -> Result<Connected, ReachError> {
        let (tcp, address, failed) = match eyeballs::connect(addresses, STAGE_TIMEOUT).await {
            Ok(connected) => connected,
            Err(failed) if failed.all_silent() => return Err(late(Stage::Tcp, target)),
            Err(failed) => return Err(ReachError::Tcp(target.to_string(), failed)),
        };
        tune(&tcp);
        let traffic = Arc::new(Traffic::default());
        let stream = Box::new(Counted::new(tcp, Arc::clone(&traffic)));
        Ok(Connected { stream, traffic, address, failed })
    }

    /// Stage [`Stage::Tls`]: speaks TLS where the target does.
    ///
    /// # Errors
    /// [`ReachError::Tls`], or a time-out.
    pub async fn secure(&self, target: &Target, connected: Connected) -> Result<Reached, ReachError> {
        let Connected { stream, traffic, address, .. } = connected;
        let Some(name) = target.tls() else {
            return Ok(Reached { stream, traffic, address, certificates: Vec::new() });
        };
        let handshake = tls::handshake(&self.trust, name.clone(), stream);
        let (stream, certificates) = within(Stage::Tls, target, handshake)
            .await?
            .map_err(|failure| ReachError::Tls(target.to_string(), failure))?;
        Ok(Reached { stream: Box::new(stream), traffic, address, certificates })
    }
}

async fn within<T>(stage: Stage, target: &Target, work: impl Future<Output = T>) -> Result<T, ReachError> {
    timeout(STAGE_TIMEOUT, work).await.map_err(|_| late(stage, target))
}

fn late(stage: Stage, target: &Target) -> ReachError {
    ReachError::Timeout { stage, host: target.to_string(), limit: STAGE_TIMEOUT }
}

/// Makes the socket answer quickly. A kernel that does not know an option works all the same.
fn tune(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let _ = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(NOTSENT_LOWAT);
}

#[cfg(test)]
mod tests;
