//! `cellwise check-config`: are these settings fit to start with, and what are they in the end?

use std::{path::PathBuf, process::ExitCode};

use crate::{config, server};

/// Show the settings in effect, or what is wrong with them
#[derive(Debug, clap::Args)]
pub struct CheckConfigArgs {
    /// Settings file; without it `cellwise.toml`, if there is one
    #[arg(long, value_name = "FILE", env = "CELLWISE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Prints the settings as TOML (exit code 0), or one line per problem on standard error (1).
pub fn run(args: &CheckConfigArgs) -> ExitCode {
    let shown = shown(args);
    super::print(shown)
}

fn shown(args: &CheckConfigArgs) -> Result<String, String> {
    let (config, problems) = config::look(args.config.as_deref(), config::environment())
        .map_err(|error| error.to_string())?;
    let mut lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    if let Some(config) = &config {
        lines.extend(server::unfit(config).iter().map(ToString::to_string));
    }
    match config {
        Some(config) if lines.is_empty() => {
            toml::to_string_pretty(&config).map_err(|error| error.to_string())
        }
        _ => Err(lines.join("\n")),
    }
}
