//! The commands. Those of an operator go through the admin API, like any other program.

mod admin;
mod client;
mod device;
mod output;
mod package;
mod task;
mod watch;

#[cfg(test)]
mod tests;

pub use admin::AdminCommand;
pub use client::{ApiArgs, Client, CommandError};
pub use output::Format;
