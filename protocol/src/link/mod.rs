//! Drives a multiplexer over a WebSocket: one task per tunnel polls socket, timer and commands around the pure
//! core, so that reading never waits for writing nor for anybody's consumer.

mod agent;
mod body;
mod caller;
mod driver;
mod gauges;
mod mailbox;
mod outlet;
mod relay;
mod revocation;
mod traffic;

pub use agent::{AgentControl, AgentLink, LinkState};
pub use body::{BodyError, TunnelBody};
pub use caller::{CallError, Caller, RelayNotice};
pub use driver::{Close, Ended};
pub use relay::RelayLink;
pub use revocation::Revocation;
pub use traffic::{Counted, Traffic};

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::limits::MAX_MESSAGE_LEN;

/// Octets that may wait below the lanes before a write: two full DATA frames, so that a search never waits behind
/// more than a few frames, while bulk still fills large writes.
const WRITE_BUFFER_LEN: usize = 64 * 1024;

/// Octets that are read at a time, and of a tunnel's read buffer, allocated for every tunnel from the start. It is
/// filled from what TLS has decrypted, without a call of the system, and the rest of a longer message gets room of its
/// own; so bulk is as fast with 4 KiB as with 32, and thousands of idle tunnels are small.
const READ_BUFFER_LEN: usize = 4 * 1024;

/// The WebSocket's limits, the same on both sides.
pub fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_LEN)
        .write_buffer_size(WRITE_BUFFER_LEN)
        // One message may be added to a full buffer before the socket's refusal is seen, and a pong beside it.
        .max_write_buffer_size(WRITE_BUFFER_LEN + 2 * MAX_MESSAGE_LEN)
        .max_message_size(Some(MAX_MESSAGE_LEN))
        .max_frame_size(Some(MAX_MESSAGE_LEN))
}
