//! Log and metrics.

use std::io::IsTerminal as _;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::config::{LogConfig, LogFormat};

/// Starts the log on standard error. Only the first call in a process has an effect.
///
/// # Errors
/// The filter is not understood.
pub fn start_log(config: &LogConfig) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(&config.filter)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // An error means that there is a log already: that of an earlier server in this process.
    let _ = match config.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    Ok(())
}

/// Metrics of one server, and the handle that renders them.
///
/// The recorder belongs to the server, not to the process: several servers in one process, as in
/// tests, keep their figures apart.
pub struct Metrics {
    recorder: metrics_exporter_prometheus::PrometheusRecorder,
}

impl Metrics {
    /// No figures yet.
    ///
    /// # Errors
    /// None that depends on input.
    pub fn new() -> Result<Self, BuildError> {
        Ok(Self {
            recorder: PrometheusBuilder::new().build_recorder(),
        })
    }

    /// Renders the figures in Prometheus' text format.
    pub fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }

    /// Sets a counter that somebody else counts.
    pub fn set_counter(&self, name: &str, help: &'static str, value: u64) {
        metrics::with_local_recorder(&self.recorder, || {
            let name = format!("cellwise_{name}_total");
            metrics::describe_counter!(name.clone(), help);
            metrics::counter!(name).absolute(value);
        });
    }

    /// Sets a gauge.
    #[allow(clippy::cast_precision_loss)] // counts of devices and datagrams stay far below 2^52
    pub fn set_gauge(&self, name: &str, help: &'static str, value: usize) {
        metrics::with_local_recorder(&self.recorder, || {
            let name = format!("cellwise_{name}");
            metrics::describe_gauge!(name.clone(), help);
            metrics::gauge!(name).set(value as f64);
        });
    }
}
