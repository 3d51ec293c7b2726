//! `cellwise doctor`: what is wrong with a server or its machine, and what to do.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use serde_json::json;

use super::output::{self, Format};
use crate::{
    config,
    server::doctor::{self, Finding, Level, Thoroughness},
};

/// Look a server over, whether it runs or not: settings, ports, disk, clock, kernel, certificates, database, packages
///
/// Changes nothing. Exit code 1 where something is wrong.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// The server's settings file; without it `cellwise.toml`, if there is one
    #[arg(long, value_name = "FILE", env = "CELLWISE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Check the database as a whole, also whether its indexes have what its tables have: minutes for a large one
    #[arg(long)]
    pub whole: bool,
    /// Form of the result
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Runs the command. Exit codes: 0 no errors, 1 some.
pub fn run(args: &DoctorArgs) -> ExitCode {
    match try_run(args) {
        Ok(well) => ExitCode::from(u8::from(!well)),
        Err(problem) => super::print(Err(problem)),
    }
}

fn try_run(args: &DoctorArgs) -> Result<bool, String> {
    let (config, problems) = config::look(args.config.as_deref(), config::environment())
        .map_err(|error| error.to_string())?;
    let mut findings: Vec<Finding> = problems
        .iter()
        .map(|problem| Finding {
            check: "settings",
            level: Level::Error,
            told: problem.to_string(),
            advice: Some("change it; docs/cellwise.toml shows all settings".to_owned()),
        })
        .collect();
    if let Some(config) = config {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let thoroughness = Thoroughness { whole: args.whole };
        findings.extend(runtime.block_on(doctor::look(&config, thoroughness)));
    }
    let count = |level| findings.iter().filter(|it| it.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let mut out = io::stdout();
    let told = match args.format {
        Format::Json => output::json(
            &mut out,
            &json!({"findings": findings, "errors": errors, "warnings": warnings}),
        ),
        Format::Text => text(&mut out, &findings, errors, warnings),
    };
    told.map_err(|error| error.to_string())?;
    Ok(errors == 0)
}

fn text(
    out: &mut dyn Write,
    findings: &[Finding],
    errors: usize,
    warnings: usize,
) -> io::Result<()> {
    for it in findings {
        let level = match it.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "ERROR",
        };
        writeln!(out, "{level:<8} {}: {}", it.check, it.told)?;
        if let Some(advice) = &it.advice {
            writeln!(out, "{:<8} -> {advice}", "")?;
        }
    }
    writeln!(out, "{errors} errors, {warnings} warnings")
}
