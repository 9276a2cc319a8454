//! One connected agent's tunnel, from its upgrade to its end. The tenants that an agent has announced are stored
//! compactly: thousands of strings cost ten times their bytes.

use std::{
    collections::VecDeque,
    future::poll_fn,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
};

use audiovault_common::request_id::new_id;
use audiovault_protocol::{
    flow::credit::{Budgets, WindowBudget},
    http::parameters::token_names,
    identity::site::{KeyDigest, SiteId},
    limits::{DEAD_AFTER, INITIAL_WINDOW, MAX_STREAMS, PING_AFTER, TUNNEL_WINDOW_BUDGET},
    link::{Caller, Close, Counted, Ended, RelayLink, RelayNotice, Role, Socket, Traffic, Transport},
    message::{CloseCode, Goaway, Hello, Status, Welcome},
};
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::Span;

use super::registry::Registry;
use crate::{
    audit::journal::Journal,
    sites::directory::Directory,
    store::{Record, TunnelOpened},
};

/// Most notices of an agent that may wait for the session's task. STATUS comes every 15 s; if an agent sends too many,
/// the surplus is dropped.
const NOTICES: usize = 16;

/// Window, in milliseconds, in which an agent that is asked to leave should dial again: long enough to spread hundreds
/// of agents, short enough that a supervisor who reloads the page hardly notices.
const RECONNECT_AFTER_MS: [u64; 2] = [500, 5_000];

const TAKEN_OVER: &str = "another tunnel of the same agent has taken over";

/// The window in which `sessions` agents should dial again, so that a relay with this accept rate can admit them as
/// they come. Each agent draws its moment evenly from the window, so the window is a quarter longer than the shortest
/// possible time, to leave room for chance.
pub(crate) fn reconnect_window(sessions: usize, accept_rate: u32) -> [u64; 2] {
    let [least, most] = RECONNECT_AFTER_MS;
    let needed = sessions as u64 * 1_250 / u64::from(accept_rate.max(1));
    [least, most.max(least + needed)]
}

/// The field names under which an agent takes the token of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFields {
    /// The agent announced in HELLO that it takes the token under the usual names only.
    Usual,
    /// The agent announced other names in HELLO.
    Own,
    /// The agent did not announce any names; its dialect file may define others.
    NotAnnounced,
}

impl TokenFields {
    fn of(hello: &Hello) -> Self {
        match hello.stated_token_fields() {
            None => Self::NotAnnounced,
            Some(stated) => {
                let usual = token_names(&[]);
                let same = stated.len() == usual.len() && stated.iter().all(|name| usual.contains(name));
                if same { Self::Usual } else { Self::Own }
            }
        }
    }
}

/// The relay's view of one connected agent.
#[derive(Debug)]
pub struct Session {
    /// Identifies the session in the logs of relay and agent.
    pub id: String,
    /// The site that the agent belongs to.
    pub site: SiteId,
    /// The agent's HELLO, cut to its bounds and without the tenants.
    pub hello: Hello,
    /// The tenants that the agent serves.
    pub tenants: TenantNames,
    /// The field names under which the agent takes the token of a search.
    pub token_fields: TokenFields,
    /// When the tunnel was opened.
    pub since: Timestamp,
    /// IP address that the tunnel comes from.
    pub address: IpAddr,
    /// Sends requests through the tunnel.
    pub caller: Caller,
    leaving: AtomicBool,
    /// True once the agent itself has sent GOAWAY.
    goodbye: AtomicBool,
    chosen: AtomicU64,
    status: Mutex<Option<Status>>,
}

impl Session {
    fn new(mut hello: Hello, admission: &Admission, caller: &Caller) -> Self {
        hello.bound();
        let tenants = TenantNames::new(&std::mem::take(&mut hello.tenants));
        Self {
            id: new_id(),
            site: admission.site.clone(),
            token_fields: TokenFields::of(&hello),
            hello,
            tenants,
            since: Timestamp::now(),
            address: admission.address,
            caller: caller.clone(),
            leaving: AtomicBool::new(false),
            goodbye: AtomicBool::new(false),
            chosen: AtomicU64::new(0),
            status: Mutex::new(None),
        }
    }

    /// The database entry for this session, at the relay process with this run id.
    pub fn opened(&self, run: &str) -> TunnelOpened {
        TunnelOpened {
            session: self.id.clone(),
            site: self.site.clone(),
            run: run.to_owned(),
            instance: self.hello.instance.clone(),
            slot: self.hello.slot,
            agent_version: self.hello.agent_version.clone(),
            host: self.hello.host.clone(),
            address: self.address.to_string(),
            link_key: self.hello.link_key_id,
            opened: self.since,
        }
    }

    /// Whether new requests may be sent to this session.
    pub fn takes_requests(&self) -> bool {
        !self.leaving.load(Ordering::Relaxed)
    }

    /// The value of the choice counter when this session was last chosen for a request; 0 if never.
    pub fn last_chosen(&self) -> u64 {
        self.chosen.load(Ordering::Relaxed)
    }

    /// Notes that this session was chosen for a request, at this value of the choice counter.
    pub fn choose(&self, at: u64) {
        self.chosen.store(at, Ordering::Relaxed);
    }

    /// The latest STATUS of the agent.
    pub fn status(&self) -> Option<Status> {
        self.status.lock().clone()
    }

    /// Asks the agent to dial again within a window of milliseconds. Open requests finish on this tunnel.
    pub fn leave(&self, reason: &str, reconnect_after_ms: [u64; 2]) {
        if !self.leaving.swap(true, Ordering::Relaxed) {
            let reason = reason.to_owned();
            self.caller.go_away(Goaway { reason, reconnect_after_ms });
        }
    }

    /// Makes room for a tunnel that replaces this one. If the successor's HELLO says that the agent drains the old
    /// tunnel, open requests finish here. Otherwise this tunnel is closed, and they are retried on another tunnel at
    /// once.
    pub fn give_way(&self, successor: &Hello) {
        if successor.drains || !self.takes_requests() {
            return self.leave(TAKEN_OVER, RECONNECT_AFTER_MS);
        }
        self.leaving.store(true, Ordering::Relaxed);
        self.caller.close(Close::new(CloseCode::Replaced, TAKEN_OVER));
    }

    /// Whether the agent should dial again in a moment after its tunnel has ended like this.
    fn is_back_soon(&self, ended: &Ended) -> bool {
        let revoked = matches!(ended, Ended::ByUs(close) if close.code == CloseCode::Revoked);
        !revoked && !self.goodbye.load(Ordering::Relaxed)
    }

    /// Whether this is the same connection slot of the same run of the same agent.
    pub fn is_same_agent(&self, other: &Self) -> bool {
        self.hello.instance == other.hello.instance && self.hello.slot == other.hello.slot
    }
}

/// What is known of a tunnel before its agent has sent anything.
#[derive(Debug)]
pub struct Admission {
    /// The site whose key was presented.
    pub site: SiteId,
    /// The key that was presented. The tunnel is closed when the key is no longer valid.
    pub key: KeyDigest,
    /// Where the tunnel comes from.
    pub address: IpAddr,
    /// Base address of the links that the agent makes.
    pub base_url: String,
}

/// Runs one tunnel from its upgrade to its end, over a connection on which `early` was received behind the request.
pub async fn run(
    connection: Box<dyn Transport + Send>,
    early: Bytes,
    admission: Admission,
    registry: Arc<Registry>,
    journal: Journal,
    mut directory: watch::Receiver<Arc<Directory>>,
) {
    let traffic = Arc::new(Traffic::default());
    let counted = Counted::new(connection, Arc::clone(&traffic));
    let socket = Socket::new(counted, Role::Server, early);
    let tunnel_budget = WindowBudget::new(TUNNEL_WINDOW_BUDGET);
    let budgets = Budgets { tunnel: tunnel_budget, process: registry.window_budget() };
    let notices = Arc::new(Notices::default());
    let received = Arc::clone(&notices);
    let (link, caller) = RelayLink::new(budgets, Arc::clone(&traffic), move |notice| received.add(notice));
    let mut link = std::pin::pin!(link.run(socket, traffic));
    let mut session = None;
    let ended = loop {
        tokio::select! {
            biased;
            // Checked first: an agent whose key was revoked must not keep its tunnel by keeping it busy.
            Ok(()) = directory.changed() => {
                let standing = directory.borrow_and_update().standing(&admission.site, &admission.key);
                if let Err(refused) = standing {
                    caller.close(Close::new(CloseCode::Revoked, refused.to_string()));
                }
            }
            // The link adds notices while it is polled; they are handled right after it.
            ended = &mut link => break ended,
            notice = notices.next() => {
                let greeted = session.is_some();
                on_notice(notice, &admission, &caller, &registry, &mut session);
                if let Some(session) = session.as_ref().filter(|_| !greeted) {
                    journal.record(Record::TunnelOpened(Box::new(session.opened(journal.run()))));
                }
            }
        }
    };
    log_end(&admission, session.as_deref(), &ended);
    if let Some(session) = session {
        let back_soon = session.is_back_soon(&ended);
        registry.remove(&session, back_soon);
        journal.record(Record::TunnelClosed {
            session: session.id.clone(),
            site: session.site.clone(),
            back_soon,
            closed: Timestamp::now(),
            reason: ended.to_string(),
        });
    }
}

/// Notices that the link has added and the session has not handled yet. Both run in one task, so no wake-up is needed.
/// A tokio channel would take a twelfth of the memory of an idle tunnel.
#[derive(Default)]
struct Notices(Mutex<VecDeque<RelayNotice>>);

impl Notices {
    fn add(&self, notice: RelayNotice) {
        let mut waiting = self.0.lock();
        if waiting.len() < NOTICES {
            waiting.push_back(notice);
        }
    }

    /// The oldest notice. Only the task that drives the link may await this.
    async fn next(&self) -> RelayNotice {
        let oldest = || self.0.lock().pop_front();
        poll_fn(|_| oldest().map_or(Poll::Pending, Poll::Ready)).await
    }
}

fn on_notice(
    notice: RelayNotice,
    admission: &Admission,
    caller: &Caller,
    registry: &Registry,
    session: &mut Option<Arc<Session>>,
) {
    match notice {
        RelayNotice::Hello(hello) => {
            let greeted = Arc::new(Session::new(*hello, admission, caller));
            match registry.add(Arc::clone(&greeted), |session| welcome(session, admission)) {
                Ok(()) => {
                    Span::current().record("session", greeted.id.as_str());
                    log_beginning(&greeted);
                    *session = Some(greeted);
                }
                Err(refused) => {
                    let site = &admission.site;
                    let address = &admission.address;
                    tracing::warn!(
                        %site,
                        %address,
                        code = "tunnel.refused",
                        "a tunnel was refused: {refused} ({})",
                        refused.flag()
                    );
                    caller.close(Close::new(CloseCode::TooManyTunnels, refused.to_string()));
                }
            }
        }
        RelayNotice::Status(mut status) => {
            if let Some(session) = session {
                status.bound();
                *session.status.lock() = Some(status);
            }
        }
        RelayNotice::Goaway(goaway) => {
            tracing::info!(
                site = %admission.site,
                reason = goaway.reason,
                code = "agent.leaving",
                "an agent is leaving"
            );
            if let Some(session) = session {
                session.goodbye.store(true, Ordering::Relaxed);
                session.leaving.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn log_beginning(session: &Session) {
    let hello = &session.hello;
    tracing::info!(
        site = %session.site,
        session = session.id,
        agent = hello.agent_version,
        host = hello.host,
        instance = hello.instance,
        address = %session.address,
        code = "agent.connected",
        "an agent is connected"
    );
}

fn welcome(session: &Session, admission: &Admission) {
    session.caller.welcome(Welcome {
        relay_version: env!("CARGO_PKG_VERSION").to_owned(),
        session: session.id.clone(),
        base_url: admission.base_url.clone(),
        initial_window: INITIAL_WINDOW,
        max_streams: u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX),
        ping_after_ms: u64::try_from(PING_AFTER.as_millis()).unwrap_or(u64::MAX),
        dead_after_ms: u64::try_from(DEAD_AFTER.as_millis()).unwrap_or(u64::MAX),
    });
}

fn log_end(admission: &Admission, session: Option<&Session>, ended: &Ended) {
    let session = session.map_or("", |session| session.id.as_str());
    match ended {
        Ended::Violation(violation) => {
            tracing::warn!(
                site = %admission.site,
                session,
                address = %admission.address,
                %violation,
                code = "tunnel.violation",
                "a tunnel was closed because of a protocol violation"
            );
        }
        Ended::Broken(error) => {
            tracing::info!(site = %admission.site, session, %error, code = "tunnel.broken", "a tunnel broke");
        }
        Ended::ByPeer(_) | Ended::ByUs(_) => {
            tracing::info!(
                site = %admission.site,
                session,
                how = ?ended.to_string(),
                code = "tunnel.closed",
                "a tunnel was closed"
            );
        }
    }
}

/// Names of tenants, in the order in which the agent announced them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantNames(Box<str>);

/// Separates the names, so no name may contain it.
const TENANT_SEPARATOR: char = '\n';

impl TenantNames {
    /// Stores the names. Leaves out those that contain the separator.
    pub fn new(names: &[String]) -> Self {
        let kept: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| !name.contains(TENANT_SEPARATOR)).collect();
        Self(kept.join("\n").into())
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(TENANT_SEPARATOR).filter(|name| !name.is_empty())
    }

    /// Whether a tenant is among the names.
    pub fn contains(&self, tenant: &str) -> bool {
        self.iter().any(|name| name == tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_with_the_number_of_agents_so_that_the_rate_is_kept() {
        assert_eq!(reconnect_window(1, 100), RECONNECT_AFTER_MS);
        assert_eq!(reconnect_window(300, 100), RECONNECT_AFTER_MS);
        let [least, most] = reconnect_window(2_000, 100);
        assert_eq!((least, most), (500, 25_500));
        assert!(2_000 * 1000 / (most - least) < 100, "fewer a second than are admitted");
    }

    #[test]
    fn names_come_out_as_they_went_in() {
        let names = ["acme", "beta", "two\nlines", ""].map(str::to_owned);
        let tenants = TenantNames::new(&names);
        assert_eq!(tenants.iter().collect::<Vec<_>>(), ["acme", "beta"]);
        assert!(tenants.contains("beta") && !tenants.contains("bet") && !tenants.contains(""));
        assert_eq!(TenantNames::new(&[]).iter().count(), 0);
    }
}
