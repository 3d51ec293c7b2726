//! Cellwise upgrades NB-IoT fleets over the air, cell by cell.
//!
//! See `ARCHITECTURE.md` for the rooms of this crate and what each may import.

pub mod cli;
pub mod clock;
pub mod coap;
pub mod config;
pub mod engine;
pub mod lwm2m;
pub mod package;
pub mod task;
pub mod upgrade;
