//! `cellwise check-config`: are these settings fit to start with, and what are they in the end?

use std::{path::PathBuf, process::ExitCode};

use crate::config;

/// Show the settings in effect, or what is wrong with them
#[derive(Debug, clap::Args)]
pub struct CheckConfigArgs {
    /// Settings file; without it `cellwise.toml`, if there is one
    #[arg(long, value_name = "FILE", env = "CELLWISE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Prints the settings as TOML (exit code 0), or one line per problem on standard error (1).
pub fn run(args: &CheckConfigArgs) -> ExitCode {
    let shown = config::load(args.config.as_deref(), config::environment())
        .map_err(|e| e.to_string())
        .and_then(|config| toml::to_string_pretty(&config).map_err(|e| e.to_string()));
    super::print(shown)
}
