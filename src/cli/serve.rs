//! `cellwise serve`: runs a server until it is told to stop.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config,
    server::{Purpose, Server},
    telemetry,
};

/// Runs the server. Stops on SIGTERM and on SIGINT, within 10 s.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Settings file; `cellwise.toml` in this directory is read when there is one.
    #[arg(long, env = "CELLWISE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command. Exit codes: 0 stopped as told, 1 could not start.
pub fn run(args: &ServeArgs) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => super::print(Err(problem)),
    }
}

fn serve(args: &ServeArgs) -> Result<(), String> {
    let config =
        config::load(args.config.as_deref(), std::env::vars()).map_err(|e| e.to_string())?;
    telemetry::start_log(&config.log).map_err(|e| format!("log.filter is not understood: {e}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("the system gives no threads: {e}"))?;
    let served = runtime.block_on(async {
        let mut terminate =
            signal(SignalKind::terminate()).map_err(|e| format!("no signals: {e}"))?;
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(|e| format!("no signals: {e}"))?;
        let server = Server::start(config, Purpose::Service)
            .await
            .map_err(|e| e.to_string())?;
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        server.stop().await;
        tracing::info!("stopped");
        Ok(())
    });
    // whatever still hangs on the disk by now is left behind
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}
