//! Stories told over real sockets: the real relay and the real agent as processes, on loopback.

#![expect(clippy::unwrap_used, reason = "a failed assumption of a test is a failed test")]

mod acme;
mod agent_status;
mod alerts;
mod api;
mod availability;
mod cluster_pages;
mod command_line;
mod completeness;
mod coverage;
mod dashboard;
mod deny;
mod dialect;
mod downloads;
mod enrolment;
mod host_names;
mod http_contract;
mod index;
mod install;
mod layouts;
mod limits;
mod linked_calls;
mod links;
mod load;
mod login;
mod many_sites;
mod network;
mod openapi;
mod operator_events;
mod operators;
mod outbound;
mod own_record;
mod pitfalls;
mod postgres;
mod preflight;
mod preflight_network;
mod proxy;
mod records;
mod reload;
mod shutdown;
mod sound;
mod static_binary;
mod store_trouble;
mod wan_link;
mod without_scripts;
