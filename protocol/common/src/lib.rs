//! What the agent and the relay do alike as programs. What they must agree on is in `audiovault-protocol`.

pub mod about;
pub mod advice;
pub mod error_chain;
pub mod file_watch;
pub mod http_error;
pub mod listener;
pub mod logging;
pub mod observed_body;
pub mod process;
pub mod request_body;
pub mod request_id;
pub mod settings;
pub mod systemd;
pub mod tls;
