//! Log, metrics, and traces of requests.

mod traces;

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _},
    sync::OnceLock,
};

use metrics::{Counter, Gauge, Label};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;
pub use traces::{RequestSpan, Traced, Traces, TracesError};
use tracing_subscriber::{
    EnvFilter, Registry, filter::ParseError, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use crate::config::{LogConfig, LogFormat};

/// What stands before the fields of entries in the journal, so that none is taken for one of its own.
const JOURNAL_PREFIX: &str = "CELLWISE";

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter.
    #[error("log.filter is not understood: {0}")]
    Filter(#[from] ParseError),
    /// There is no journal.
    #[error("log.format is \"journald\", and the journal of systemd cannot be reached: {0}")]
    Journal(#[source] io::Error),
}

/// Starts the log, on standard error or in systemd's journal. Only the first call in a process has an effect.
///
/// # Errors
/// The filter is not understood, or there is no journal.
pub fn start_log(config: &LogConfig) -> Result<(), LogError> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&config.filter)?);
    let lines = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let log = tracing_subscriber::registry().with(filter);
    let started = match config.format {
        LogFormat::Text => log.with(lines).try_init(),
        LogFormat::Json => log.with(lines.json()).try_init(),
        LogFormat::Journald => {
            let journal = tracing_journald::layer().map_err(LogError::Journal)?;
            let journal = journal.with_field_prefix(Some(JOURNAL_PREFIX.to_owned()));
            let journal = journal.with_syslog_identifier("cellwise".to_owned());
            log.with(journal).try_init()
        }
    };
    // An error means that there is a log already: that of an earlier server in this process.
    if started.is_ok() {
        let _ = FILTER.set(handle); // it is the first
    }
    Ok(())
}

/// Changes the filter of the process's log.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Filters the log otherwise from now on. Without a log nothing happens.
///
/// # Errors
/// The filter is not understood.
pub fn filter_log(filter: &str) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(filter)?;
    if let Some(log) = FILTER.get()
        && let Err(error) = log.reload(filter)
    {
        tracing::error!(%error, "the log's filter stays as it was");
    }
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

    /// Tells how much there is of what these labels name. Whoever tells sees to it that there are few of them.
    #[allow(clippy::cast_precision_loss)] // counts of devices and tasks stay far below 2^52
    pub fn labelled_gauge(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        metrics::with_local_recorder(&self.recorder, || {
            let name = format!("cellwise_{name}");
            metrics::describe_gauge!(name.clone(), help);
            metrics::gauge!(name, named(labels)).set(value as f64);
        });
    }

    /// Counts so many more of what these labels name.
    pub fn labelled_counter(
        &self,
        name: &str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        more: u64,
    ) {
        metrics::with_local_recorder(&self.recorder, || {
            let name = format!("cellwise_{name}_total");
            metrics::describe_counter!(name.clone(), help);
            metrics::counter!(name, named(labels)).increment(more);
        });
    }

    /// Lets a part of the server tell its share.
    pub const fn of<'a>(&'a self, share: &'a mut Share) -> Figures<'a> {
        Figures {
            metrics: self,
            share,
        }
    }
}

fn named(labels: &[(&'static str, &str)]) -> Vec<Label> {
    let label = |(name, value): &(&'static str, &str)| Label::new(*name, (*value).to_owned());
    labels.iter().map(label).collect()
}

/// What a part of the server has told so far: several parts add up to one figure.
#[derive(Debug, Default)]
pub struct Share {
    counters: HashMap<&'static str, (Counter, u64)>,
    shard_counters: HashMap<&'static str, (Counter, u64)>,
    gauges: HashMap<&'static str, (Gauge, usize)>,
}

/// Figures of one part of the server.
pub struct Figures<'a> {
    metrics: &'a Metrics,
    share: &'a mut Share,
}

impl Figures<'_> {
    /// Tells how far the part has counted.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        let recorder = &self.metrics.recorder;
        let (counter, before) = self.share.counters.entry(name).or_insert_with(|| {
            metrics::with_local_recorder(recorder, || {
                let name = format!("cellwise_{name}_total");
                metrics::describe_counter!(name.clone(), help);
                (metrics::counter!(name), 0)
            })
        });
        counter.increment(value.saturating_sub(std::mem::replace(before, value)));
    }

    /// Tells how far one shard has counted, beside the others.
    pub fn shard_counter(&mut self, name: &'static str, help: &'static str, shard: u8, value: u64) {
        let recorder = &self.metrics.recorder;
        let (counter, before) = self.share.shard_counters.entry(name).or_insert_with(|| {
            metrics::with_local_recorder(recorder, || {
                let name = format!("cellwise_shard_{name}_total");
                metrics::describe_counter!(name.clone(), help);
                (metrics::counter!(name, "shard" => shard.to_string()), 0)
            })
        });
        counter.increment(value.saturating_sub(std::mem::replace(before, value)));
    }

    /// Tells how much there is in the part.
    #[allow(clippy::cast_precision_loss)] // counts of devices and datagrams stay far below 2^52
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: usize) {
        let recorder = &self.metrics.recorder;
        let (gauge, before) = self.share.gauges.entry(name).or_insert_with(|| {
            metrics::with_local_recorder(recorder, || {
                let name = format!("cellwise_{name}");
                metrics::describe_gauge!(name.clone(), help);
                (metrics::gauge!(name), 0)
            })
        });
        gauge.increment(value as f64 - std::mem::replace(before, value) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_parts_add_up() {
        let metrics = Metrics::new().unwrap();
        let mut shares = [Share::default(), Share::default()];
        for (counted, there) in [(3, 5), (10, 2)] {
            for share in &mut shares {
                let mut figures = metrics.of(share);
                figures.counter("seen", "Seen.", counted);
                figures.gauge("there", "There.", there);
            }
        }
        let text = metrics.handle().render();
        assert!(text.contains("\ncellwise_seen_total 20\n"), "{text}");
        assert!(text.contains("\ncellwise_there 4\n"), "{text}");
    }

    #[test]
    fn shards_are_told_apart() {
        let metrics = Metrics::new().unwrap();
        for (shard, heard) in [(0, 7), (1, 5)] {
            let mut share = Share::default();
            let mut figures = metrics.of(&mut share);
            figures.counter("heard", "Heard by all.", heard);
            figures.shard_counter("heard", "Heard.", shard, heard - 1);
            figures.shard_counter("heard", "Heard.", shard, heard);
        }
        let text = metrics.handle().render();
        for line in [
            "cellwise_heard_total 12",
            "cellwise_shard_heard_total{shard=\"0\"} 7",
            "cellwise_shard_heard_total{shard=\"1\"} 5",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
