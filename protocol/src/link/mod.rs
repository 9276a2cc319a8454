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

pub use agent::{AgentControl, AgentLink, LinkState, Revocation};
pub use body::{BodyError, TunnelBody};
pub use caller::{CallError, Caller, RelayNotice};
pub use driver::{Close, Ended};
pub use relay::RelayLink;
pub use traffic::{Counted, Traffic};

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::limits::MAX_MESSAGE_LEN;

/// Bytes that may wait below the lanes before a write: two full DATA frames. A search never waits behind more than a
/// few frames, while bulk still fills large writes.
const WRITE_BUFFER_LEN: usize = 64 * 1024;

/// Bytes that are read at a time, and the size of a tunnel's read buffer, which is allocated for every tunnel from the
/// start. The buffer is filled from data that TLS has already decrypted, without a system call, and the rest of a
/// longer message gets its own memory. So bulk is as fast with 4 KiB as with 32 KiB, and thousands of idle tunnels need
/// little memory.
const READ_BUFFER_LEN: usize = 4 * 1024;

/// The limits of the WebSocket, the same on both sides.
pub fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_LEN)
        .write_buffer_size(WRITE_BUFFER_LEN)
        // One message may be added to a full buffer before the socket's refusal is seen, and a pong as well.
        .max_write_buffer_size(WRITE_BUFFER_LEN + 2 * MAX_MESSAGE_LEN)
        .max_message_size(Some(MAX_MESSAGE_LEN))
        .max_frame_size(Some(MAX_MESSAGE_LEN))
}
