//! The commands: what stands behind `cellwise …`. Those of an operator go through the admin API, like
//! any other program.

mod admin;
pub mod check_config;
mod client;
mod device;
mod output;
mod package;
pub mod pcp;
pub mod serve;
mod task;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    process::ExitCode,
};

pub use admin::AdminCommand;
pub use client::{ApiArgs, Client, CommandError};
pub use output::Format;

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
