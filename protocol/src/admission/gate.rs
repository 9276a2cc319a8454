//! Counts open connections, of each client and in total, and limits them.
//!
//! Pure. A listener asks it about every new connection and holds the permit that it returns as long as the connection is
//! open.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crate::admission::{
    semaphore::{KeyedSemaphore, Permit},
    throttle::ClientKey,
};

/// Connections above a limit that still get an answer, as a share of the limit (one eighth). Clients that made a
/// mistake learn of the limit; clients that flood cost no more than the opening of a connection.
const ANSWERED_SHARE: u32 = 8;

/// Admits connections, for all listeners that share it.
#[derive(Debug)]
pub struct Gate {
    most: u32,
    open: Arc<AtomicU32>,
    per_client: u32,
    /// Also counts the connections above the limit that still get an answer.
    clients: KeyedSemaphore<ClientKey>,
    refused: AtomicU32,
}

/// The decision about a new connection.
#[derive(Debug)]
pub enum Admission {
    /// The connection is within all limits.
    Admitted(ConnectionPermit),
    /// The connection is above a limit and gets an answer that says so.
    Answered(ConnectionPermit, Exceeded),
    /// The connection is so far above a limit that it gets no answer.
    Refused,
}

/// Which limit a connection exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// The limit of its client.
    Client,
    /// The limit of all clients together.
    All,
}

/// Permits one connection. Dropping it releases the permit.
#[derive(Debug)]
pub struct ConnectionPermit {
    open: Arc<AtomicU32>,
    _client: Option<Permit<ClientKey>>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    /// A gate that admits at most `most` connections in total and `per_client` of each client.
    pub fn new(most: u32, per_client: u32) -> Self {
        Self {
            most,
            open: Arc::default(),
            per_client,
            clients: KeyedSemaphore::new(beyond(per_client)),
            refused: AtomicU32::new(0),
        }
    }

    /// Connections open now.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that were refused since the start, with or without an answer.
    pub fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Decides about a connection. A connection from a proxy that serves many clients has no client, and counts only
    /// for the total.
    pub fn admit(&self, client: Option<ClientKey>) -> Admission {
        // The permit is taken first and given back on drop, so that two connections cannot both take the last one.
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let mut permit = ConnectionPermit { open: Arc::clone(&self.open), _client: None };
        if open > beyond(self.most) {
            return self.refuse();
        }
        let mut exceeded = (open > self.most).then_some(Exceeded::All);
        if let Some(client) = client {
            let Some(of_client) = self.clients.take(client) else {
                return self.refuse();
            };
            permit._client = Some(of_client);
            if self.clients.taken(&client) > self.per_client {
                exceeded = Some(Exceeded::Client);
            }
        }
        match exceeded {
            None => Admission::Admitted(permit),
            Some(exceeded) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Admission::Answered(permit, exceeded)
            }
        }
    }

    fn refuse(&self) -> Admission {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Admission::Refused
    }
}

fn beyond(limit: u32) -> u32 {
    limit.saturating_add(limit.div_ceil(ANSWERED_SHARE))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const PROXY: Option<ClientKey> = None;

    fn client(last: u8) -> Option<ClientKey> {
        Some(ClientKey::from(IpAddr::from([192, 0, 2, last])))
    }

    /// Opens connections until one is refused. Returns how many were welcome and how many got an answer.
    fn fill(
        gate: &Gate,
        client: Option<ClientKey>,
        kept: &mut Vec<Admission>,
    ) -> (u32, u32, Option<Exceeded>) {
        let mut welcome = 0;
        let mut answered = 0;
        let mut why = None;
        loop {
            let admit = gate.admit(client);
            match &admit {
                Admission::Admitted(_) => welcome += 1,
                Admission::Answered(_, exceeded) => {
                    answered += 1;
                    why = Some(*exceeded);
                }
                Admission::Refused => return (welcome, answered, why),
            }
            kept.push(admit);
        }
    }

    #[test]
    fn a_client_over_its_limit_gets_a_refusal_and_later_no_response() {
        let gate = Gate::new(100, 16);
        let mut kept = Vec::new();
        assert_eq!(fill(&gate, client(1), &mut kept), (16, 2, Some(Exceeded::Client)));
        assert!(matches!(gate.admit(client(2)), Admission::Admitted(_)), "another one does not suffer");
        assert!(matches!(gate.admit(PROXY), Admission::Admitted(_)), "nor does a proxy");
        assert_eq!((gate.open(), gate.refused()), (18, 3));
        kept.clear();
        assert_eq!(gate.open(), 0);
        assert!(matches!(gate.admit(client(1)), Admission::Admitted(_)));
    }

    #[test]
    fn all_together_have_a_limit_too() {
        let gate = Gate::new(24, 16);
        let mut kept = Vec::new();
        fill(&gate, client(1), &mut kept);
        assert_eq!(fill(&gate, PROXY, &mut kept), (6, 3, Some(Exceeded::All)));
        assert!(matches!(gate.admit(client(2)), Admission::Refused));
        assert_eq!(gate.open(), 27);
    }
}
