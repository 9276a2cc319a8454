//! Drives a multiplexer over a WebSocket.
//!
//! One task per tunnel polls socket, timer and commands around the pure core, so that reading never waits for writing,
//! nor for the consumer of any stream.

mod agent;
mod body;
mod caller;
mod driver;
mod mailbox;
mod relay;
mod traffic;
mod transport;
mod websocket;

pub use agent::{AgentAnswer, AgentControl, AgentLink, LinkState, Respond, Revocation};
pub use body::{BodyError, TunnelBody};
pub use caller::{Answered, CallError, Caller, RelayNotice};
pub use driver::{Close, Ended};
pub use relay::RelayLink;
pub use traffic::{Counted, Traffic};
pub use transport::{Buffered, Received, Transport, with_scratch};
pub use websocket::{Role, Socket};
