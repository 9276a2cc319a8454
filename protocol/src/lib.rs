//! The parts that an AudioVault Tunnel agent and relay must agree on.
//!
//! The core is pure: it does no input or output, reads no clock and draws no random numbers; callers bring all three.
//! `PROTOCOL.md`, next to this crate, describes the wire format byte by byte. With the feature `link`, a driver runs
//! the pure multiplexer over a WebSocket. With `testing`, a simulated pair runs it without any network.

pub mod about;
pub mod call;
#[cfg(feature = "link")]
pub mod connection;
pub mod context;
pub mod credit;
pub mod disposition;
pub mod enrolment;
pub mod frame;
pub mod gate;
pub mod headers;
mod keepalive;
mod lanes;
pub mod limits;
#[cfg(feature = "link")]
pub mod link;
mod link_target;
pub mod media;
pub mod message;
pub mod mux;
mod pace;
pub mod parameters;
pub mod problem;
pub mod recording_name;
pub mod search_answer;
pub mod signed_link;
pub mod site;
pub mod slots;
pub mod strangers;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
pub mod throttle;
