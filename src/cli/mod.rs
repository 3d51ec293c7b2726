//! The commands: what stands behind `cellwise …`.

pub mod check_config;
pub mod pcp;
pub mod serve;

use std::{
    io::{self, Write},
    process::ExitCode,
};

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
