//! The source of listening sockets: inherited from the program that started this relay (socket activation,
//! `sd_listen_fds(3)`), so that a relay and its successor accept from one queue and no client is refused during a
//! restart; otherwise opened here. And the limit of open files: every connection needs one.

use std::net::{SocketAddr, TcpListener as StdListener};

use listenfd::ListenFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use super::ListenError;

/// The sockets that were inherited and are not yet in use.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(SocketAddr, StdListener)>);

impl Sockets {
    /// The inherited sockets. Call this once: the sockets have one owner.
    pub fn inherited() -> Self {
        let mut inherited = ListenFd::from_env();
        let sockets = (0..inherited.len()).filter_map(|number| {
            // Any other inherited file does not belong to this program, and is left alone.
            let listener = inherited.take_tcp_listener(number).ok().flatten()?;
            Some((listener.local_addr().ok()?, listener))
        });
        Self(sockets.collect())
    }

    /// The socket that listens at an address: the inherited one, if there is one.
    ///
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn open(&mut self, addr: SocketAddr) -> Result<TcpListener, ListenError> {
        let failed = |source| ListenError::Bind { addr, source };
        let Some(at) = self.0.iter().position(|(bound, _)| *bound == addr) else {
            return TcpListener::bind(addr).await.map_err(failed);
        };
        let (_, listener) = self.0.swap_remove(at);
        listener.set_nonblocking(true).map_err(failed)?;
        tracing::info!(%addr, code = "listener.socket_inherited", "using an inherited listening socket");
        TcpListener::from_std(listener).map_err(failed)
    }

    /// Logs the sockets that are not used: clients that connect to them would wait in vain.
    pub fn check_all_used(&self) {
        for (addr, _) in &self.0 {
            tracing::warn!(
                %addr,
                code = "listener.socket_unused",
                "an inherited socket is not used: no listener is configured for this address"
            );
        }
    }
}

/// Files that are not connections of clients: the database, the log, listeners, the admin's connections, and what the
/// runtime needs.
const RESERVED_FILES: u64 = 256;

/// Raises this process's limit of open files as far as allowed, and returns how many connections fit into it, at most
/// `wanted`. Logs a warning if there are fewer.
///
/// Without a free file no connection can be accepted, so a relay that reached this limit would serve no client at all.
pub fn room_for(wanted: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // The soft limit is for programs that cannot handle high file numbers; this one can.
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let Some(files) = current else { return wanted };
    let room = u32::try_from(files.saturating_sub(RESERVED_FILES).max(RESERVED_FILES)).unwrap_or(u32::MAX);
    // Connections over the limit need files too, until they have got their response.
    let room = room - room / 8;
    if room < wanted {
        tracing::warn!(
            files,
            connections = room,
            wanted,
            code = "listener.open_files_low",
            "the limit of open files is too low for --max-connections: raise it (ulimit -n, LimitNOFILE)"
        );
    }
    room.min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_inherited_socket_is_used_once_and_only_at_its_address() {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut sockets = Sockets(vec![(addr, listener)]);
        let other = sockets.open("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_ne!(other.local_addr().unwrap(), addr);
        let inherited = sockets.open(addr).await.unwrap();
        assert_eq!(inherited.local_addr().unwrap(), addr);
        let taken = sockets.open(addr).await.unwrap_err();
        assert!(matches!(taken, ListenError::Bind { .. }), "{taken}");
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_that_names_it() {
        let listening = StdListener::bind("127.0.0.1:0").unwrap();
        let used = listening.local_addr().unwrap();
        let error = Sockets::default().open(used).await.unwrap_err();
        assert!(error.to_string().contains(&used.to_string()), "{error}");
    }

    #[test]
    fn there_is_room_for_some_and_never_for_more_than_wanted() {
        assert_eq!(room_for(10), 10);
        assert!(room_for(u32::MAX) >= 200);
    }
}
