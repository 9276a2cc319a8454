//! The AudioVault relay.
