//! The commands: what stands behind `cellwise …`. Those of an operator go through the admin API, like
//! any other program.

mod admin;
mod app_user;
mod audit;
pub mod backup;
mod cell;
pub mod check_config;
mod client;
pub mod demo;
mod device;
pub mod doctor;
mod evidence;
mod exclusion;
mod forecast;
mod group;
mod home;
mod list;
mod offer;
mod output;
mod package;
pub mod pcp;
mod product;
pub mod serve;
mod similar;
pub mod simulate;
mod site;
mod task;
mod tenant;
mod token;
mod traffic;
mod upgrade;
mod user;
mod watch;
mod webhook;

#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    process::ExitCode,
};

pub use admin::AdminCommand;
pub use client::{ApiArgs, Client, CommandError, Failure, Unusable};
pub use output::Format;

/// Runs an operator's command. Exit codes: 0 done, 1 not, or not all of it.
pub fn admin(command: AdminCommand) -> ExitCode {
    match command.run(&mut io::stdout()) {
        Ok(code) => code,
        Err(error) => print(Err(error.to_string())),
    }
}

/// Prints a result on standard output, or an error on standard error.
fn print(result: Result<String, String>) -> ExitCode {
    let failed = match result {
        Ok(text) => writeln!(io::stdout(), "{}", text.trim_end()).is_err(),
        Err(problem) => {
            // when nobody reads the message, the exit code still tells
            let _ = writeln!(io::stderr(), "{problem}");
            true
        }
    };
    ExitCode::from(u8::from(failed))
}
