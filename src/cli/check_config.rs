//! `cellwise check-config`: are these settings fit to start with, and what are they in the end?

use std::{path::PathBuf, process::ExitCode};

use super::output;
use crate::{
    config::{self, Config, not_obeyed},
    server,
};

/// Show the settings in effect, or what is wrong with them
///
/// Products are shown as the database has them, once a server was started with it.
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
            let config = with_stored_products(config)?;
            toml::to_string_pretty(&config).map_err(|error| error.to_string())
        }
        _ => Err(lines.join("\n")),
    }
}

/// The products that are in the database count. What the settings say otherwise is told.
fn with_stored_products(config: Config) -> Result<Config, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let stored = runtime.block_on(server::stored_products(&config.data_dir));
    let Some(products) = stored.map_err(|error| error.to_string())? else {
        return Ok(config);
    };
    for sentence in not_obeyed(&config.products, &products) {
        output::remark(&sentence);
    }
    Ok(Config { products, ..config })
}
