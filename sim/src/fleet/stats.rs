use std::fmt;

use serde::Serialize;

use crate::{
    device::{DeviceReport, DeviceState, Outcome},
    fault::Expected,
    spec::DeviceSpec,
};

/// Where the devices of a fleet stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct FleetStats {
    /// Devices of the fleet.
    pub devices: usize,
    /// Devices whose registration the server has accepted.
    pub registered: usize,
    /// Devices that are downloading, or wait to be notified again.
    pub downloading: usize,
    /// Devices that run the new version.
    pub done: usize,
    /// Devices whose upgrade ended otherwise.
    pub failed: usize,
    /// Devices that nothing more can be expected of.
    pub settled: usize,
    /// Segments that the devices have taken.
    pub segments_received: u64,
    /// Datagrams that the devices have sent.
    pub datagrams_sent: u64,
    /// Datagrams that the devices have taken in.
    pub datagrams_received: u64,
    /// Unacknowledged CoAP messages that they have repeated.
    pub retransmissions: u64,
    /// Times that a socket reported an error; the usual one is that no server listens.
    pub socket_errors: u64,
    /// What DTLS has counted, if any device speaks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtls: Option<DtlsStats>,
}

/// What the devices of a fleet have counted of DTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DtlsStats {
    /// Handshakes that led to an association, all of them full ones.
    pub handshakes: u64,
    /// Handshakes that did not.
    pub failed: u64,
    /// Associations that devices gave up because the server fell silent.
    pub forgotten: u64,
    /// Associations that the server ended.
    pub ended: u64,
}

impl FleetStats {
    pub(super) fn add(&mut self, report: &DeviceReport) {
        let success = report.outcome.map(Outcome::is_success);
        self.devices += 1;
        self.registered += usize::from(report.registered);
        self.downloading += usize::from(report.state == DeviceState::Downloading);
        self.done += usize::from(success == Some(true));
        self.failed += usize::from(success == Some(false));
        self.settled += usize::from(report.settled);
        self.segments_received += report.counters.segments_received;
        self.datagrams_sent += report.counters.datagrams_sent;
        self.datagrams_received += report.counters.datagrams_received;
        self.retransmissions += report.counters.retransmissions;
    }
}

/// One line, for a progress display.
impl fmt::Display for FleetStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} devices: {} registered, {} downloading, {} done, {} failed; {} segments",
            self.devices,
            self.registered,
            self.downloading,
            self.done,
            self.failed,
            self.segments_received
        )?;
        if let Some(dtls) = &self.dtls {
            write!(
                f,
                "; {} DTLS handshakes ({} failed)",
                dtls.handshakes, dtls.failed
            )?;
        }
        if self.socket_errors > 0 {
            write!(f, "; {} socket errors", self.socket_errors)?;
        }
        Ok(())
    }
}

/// The devices with the same fault, or with none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultSummary {
    /// The fault with its parameters, `None` for well-behaved devices.
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
    /// The same by fault, in order of first appearance.
    pub faults: Vec<FaultSummary>,
}

impl FleetSummary {
    pub(super) const fn new(elapsed_ms: u64, stats: FleetStats) -> Self {
        Self {
            elapsed_ms,
            stats,
            faults: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, spec: &DeviceSpec, outcome: Option<Outcome>) {
        let fault = spec.fault.map(String::from);
        let known = self.faults.iter().position(|group| group.fault == fault);
        let index = known.unwrap_or_else(|| {
            self.faults.push(FaultSummary {
                fault,
                devices: 0,
                expected_to_succeed: 0,
                done: 0,
                failed: 0,
            });
            self.faults.len() - 1
        });
        let group = &mut self.faults[index];
        let success = outcome.map(Outcome::is_success);
        group.devices += 1;
        group.expected_to_succeed += usize::from(spec.expected() == Expected::Succeeded);
        group.done += usize::from(success == Some(true));
        group.failed += usize::from(success == Some(false));
    }
}

impl fmt::Display for FleetSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FleetStats {
            datagrams_sent,
            datagrams_received,
            retransmissions,
            ..
        } = self.stats;
        writeln!(f, "{}", self.stats)?;
        writeln!(
            f,
            "{} datagrams sent ({} repeats), {} received, in {}.{:03} s",
            datagrams_sent,
            retransmissions,
            datagrams_received,
            self.elapsed_ms / 1000,
            self.elapsed_ms % 1000
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<32} {:>8} {:>8} {:>8} {:>17}",
            "fault", "devices", "done", "failed", "should succeed"
        )?;
        for group in &self.faults {
            writeln!(
                f,
                "{:<32} {:>8} {:>8} {:>8} {:>17}",
                group.fault.as_deref().unwrap_or("none"),
                group.devices,
                group.done,
                group.failed,
                group.expected_to_succeed
            )?;
        }
        Ok(())
    }
}
