//! The library of `audiovault-relay`, the public end of the AudioVault Tunnel.

pub mod admin;
pub mod app;
pub mod audit;
pub mod cli;
pub mod cluster;
pub mod limits;
pub mod model;
pub mod monitoring;
pub mod net;
pub mod public;
pub mod routing;
pub mod sites;
pub mod store;
pub mod tunnel;
