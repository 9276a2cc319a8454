//! Who may search: search tokens, tenants, and secrets.

pub mod access;
pub mod secret;
pub mod tenants;
