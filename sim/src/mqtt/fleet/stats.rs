use std::fmt;

use serde::Serialize;

use crate::{
    Expected,
    mqtt::{
        device::{Ending, Report},
        spec::Spec,
        style::Style,
    },
};

/// Where the devices of a fleet stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct FleetStats {
    /// Devices of the fleet.
    pub devices: usize,
    /// Devices that are connected.
    pub connected: usize,
    /// Devices that are downloading.
    pub downloading: usize,
    /// Devices that run the new version.
    pub done: usize,
    /// Devices whose upgrade ended otherwise.
    pub failed: usize,
    /// Devices that nothing more can be expected of.
    pub settled: usize,
    /// Connections that the server accepted.
    pub connections: u64,
    /// Connections that it refused.
    pub refusals: u64,
    /// Connections that were lost without the devices' doing.
    pub losses: u64,
    /// Subscriptions that the server refused.
    pub refused_subscriptions: u64,
    /// Messages that the devices have taken in.
    pub messages_received: u64,
    /// Messages that they did not understand.
    pub malformed: u64,
    /// Messages that they have published.
    pub messages_published: u64,
    /// Messages that were lost, because there was no connection.
    pub messages_lost: u64,
    /// Requests for the package.
    pub downloads: u64,
    /// Bytes of the package that have come.
    pub bytes_downloaded: u64,
    /// Times that a socket reported an error.
    pub socket_errors: u64,
}

impl FleetStats {
    pub(super) fn add(&mut self, report: &Report) {
        let counters = &report.counters;
        self.devices += 1;
        self.connected += usize::from(report.connected);
        self.downloading += usize::from(report.downloading);
        self.done += usize::from(report.ending == Some(Ending::Upgraded));
        self.failed += usize::from(report.ending.is_some_and(|it| it != Ending::Upgraded));
        self.settled += usize::from(report.settled);
        self.downloads += counters.downloads;
    }

    /// What was counted of connections: those behind a gateway have none.
    pub(super) fn add_connections(&mut self, report: &Report) {
        let counters = &report.counters;
        self.connections += counters.connections;
        self.refusals += counters.refusals;
        self.losses += counters.losses;
        self.refused_subscriptions += counters.refused_subscriptions;
        self.messages_received += counters.messages;
        self.malformed += counters.malformed;
        self.messages_published += counters.published;
        self.messages_lost += counters.lost;
    }
}

/// One line, for a progress display.
impl fmt::Display for FleetStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} devices: {} connected, {} downloading, {} done, {} failed; {} KiB",
            self.devices,
            self.connected,
            self.downloading,
            self.done,
            self.failed,
            self.bytes_downloaded / 1_024
        )?;
        if self.refusals > 0 {
            write!(f, "; {} refusals", self.refusals)?;
        }
        if self.socket_errors > 0 {
            write!(f, "; {} socket errors", self.socket_errors)?;
        }
        Ok(())
    }
}

/// The devices of one style with the same fault, or with none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultSummary {
    /// The style.
    pub style: Style,
    /// The fault with its number, `None` for well-behaved devices.
    pub fault: Option<String>,
    /// Devices that have it.
    pub devices: usize,
    /// Devices among them for which a server should record a success.
    pub expected_to_succeed: usize,
    /// Devices that run the new version.
    pub done: usize,
    /// Devices whose upgrade ended otherwise.
    pub failed: usize,
}

/// What became of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetSummary {
    /// How long the fleet ran, in ms.
    pub elapsed_ms: u64,
    /// Where it stood at the end.
    pub stats: FleetStats,
    /// The newest thing that went wrong with a socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The same by style and fault, in order of first appearance.
    pub faults: Vec<FaultSummary>,
}

impl FleetSummary {
    pub(super) const fn new(
        elapsed_ms: u64,
        stats: FleetStats,
        last_error: Option<String>,
    ) -> Self {
        Self {
            elapsed_ms,
            stats,
            last_error,
            faults: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, spec: &Spec, ending: Option<Ending>) {
        let (style, fault) = (spec.style, spec.fault.map(|fault| fault.to_string()));
        let alike = |group: &FaultSummary| group.style == style && group.fault == fault;
        let index = self.faults.iter().position(alike).unwrap_or_else(|| {
            self.faults.push(FaultSummary {
                style,
                fault: fault.clone(),
                devices: 0,
                expected_to_succeed: 0,
                done: 0,
                failed: 0,
            });
            self.faults.len() - 1
        });
        let group = &mut self.faults[index];
        group.devices += 1;
        group.expected_to_succeed += usize::from(spec.expected() == Expected::Succeeded);
        group.done += usize::from(ending == Some(Ending::Upgraded));
        group.failed += usize::from(ending.is_some_and(|it| it != Ending::Upgraded));
    }
}

impl fmt::Display for FleetSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.stats)?;
        writeln!(
            f,
            "\n{:<16} {:<28} {:>7} {:>8} {:>6} {:>6}",
            "style", "fault", "devices", "expected", "done", "failed"
        )?;
        for group in &self.faults {
            writeln!(
                f,
                "{:<16} {:<28} {:>7} {:>8} {:>6} {:>6}",
                group.style.name(),
                group.fault.as_deref().unwrap_or("-"),
                group.devices,
                group.expected_to_succeed,
                group.done,
                group.failed
            )?;
        }
        if let Some(error) = &self.last_error {
            writeln!(f, "\nlast error: {error}")?;
        }
        Ok(())
    }
}
