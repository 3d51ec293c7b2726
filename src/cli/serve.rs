//! `cellwise serve`: runs a server until it is told to stop.

mod service;

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    config::{self, Config},
    server::{Purpose, Server},
    telemetry,
};

/// Runs the server. Stops on SIGTERM and on SIGINT, within 10 s. On SIGHUP it reads its settings anew.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Settings file; `cellwise.toml` in this directory is read when there is one.
    #[arg(long, env = "CELLWISE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Runs the command. Exit codes: 0 stopped as told, 1 could not start, or a part of it has died.
pub fn run(args: &ServeArgs) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => super::print(Err(problem)),
    }
}

fn serve(args: &ServeArgs) -> Result<(), String> {
    let config = load(args)?;
    telemetry::start_log(&config.log).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("the system gives no threads: {e}"))?;
    let served = runtime.block_on(async {
        let mut signals = Signals::new().map_err(|e| format!("no signals: {e}"))?;
        let mut server = Server::start(config, Purpose::Service)
            .await
            .map_err(|e| e.to_string())?;
        let watchdog = service::ready(server.pulse());
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => {
                    tracing::info!("SIGTERM: stopping");
                    break;
                }
                _ = signals.interrupt.recv() => {
                    tracing::info!("SIGINT: stopping");
                    break;
                }
                _ = signals.hangup.recv() => {
                    tracing::info!("SIGHUP: reading the settings anew");
                    service::reloading();
                    match load(args) {
                        Ok(config) => server.reload(&config),
                        Err(problem) => tracing::error!("the settings stay as they were: {problem}"),
                    }
                    service::reloaded();
                }
                part = server.failed() => {
                    return Err(format!(
                        "the server ends because its {part} has failed; the log says why; start it again, and report this"
                    ));
                }
            }
        }
        service::stopping();
        server.stop().await;
        drop(watchdog);
        tracing::info!("stopped");
        Ok(())
    });
    // whatever still hangs on the disk by now is left behind
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

fn load(args: &ServeArgs) -> Result<Config, String> {
    config::load(args.config.as_deref(), config::environment()).map_err(|e| e.to_string())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
