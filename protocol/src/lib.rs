//! The parts that an AudioVault Tunnel agent and relay must agree on.
//!
//! The core is pure: it does no input or output, reads no clock and draws no random numbers; callers bring all three.
//! `PROTOCOL.md`, next to this crate, describes the wire format byte by byte. With the feature `link`, a driver runs
//! the pure multiplexer over a WebSocket. With `testing`, a simulated pair runs it without any network.

pub mod admission;
pub mod flow;
pub mod frame;
pub mod http;
pub mod identity;
pub mod limits;
#[cfg(feature = "link")]
pub mod link;
pub mod message;
pub mod mux;
pub mod recording;
#[cfg(feature = "testing")]
pub mod testing;
