//! Cellwise upgrades NB-IoT fleets over the air, cell by cell.
//!
//! See `ARCHITECTURE.md` for the rooms of this crate and what each may import.

#![cfg_attr(test, allow(clippy::too_many_lines))] // a test is one story

pub mod access;
pub mod api;
pub mod app;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod coap;
pub mod config;
pub mod console;
pub mod download;
pub mod dtls;
pub mod engine;
pub mod filter;
pub mod forecast;
pub mod grants;
pub mod health;
pub mod home;
pub mod ledger;
pub mod lwm2m;
pub mod mqtt;
pub mod notify;
pub mod package;
pub mod runtime;
pub mod server;
pub mod session;
pub mod shard;
pub mod signal;
pub mod signing;
pub mod simulate;
pub mod store;
pub mod strangers;
pub mod task;
pub mod telemetry;
pub mod tenant;
pub mod tls;
pub mod upgrade;
pub mod vault;
pub mod wording;
