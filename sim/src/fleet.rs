//! Many devices at once, over UDP.
//!
//! Every device has a socket of its own, as every device in the field has an address of its own, another while it
//! downloads if it is like that, and a task of its own on the caller's tokio runtime; a current-thread runtime is enough. How many fit into one
//! process depends on the limit of open files, and on the system's range of ports (28,232 on Linux
//! unless set otherwise).
//!
//! [`Fleet::specs`] comes first, so that the endpoints can be provisioned on the server, then
//! [`Fleet::start`].

mod config;
mod drive;
mod psks;
mod secure;
mod stats;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet, time::Instant};

pub use config::{Amount, AmountError, FaultShare, FleetConfig};
pub use drive::{FleetEvent, FleetEventKind};
pub use psks::{PskFileError, Psks};
pub use stats::{DtlsStats, FaultSummary, FleetStats, FleetSummary};

pub use crate::spec::{Behaviour, Coverage, CoverageClass, DeviceSpec, Timing};
use crate::{
    Fault,
    device::{Device, DeviceReport},
    dtls::DtlsError,
    object::UpdatesBy,
    psk::PskError,
};
use drive::Shared;
use secure::SecureLink;

/// Open files besides the sockets: the runtime's, the standard streams, those of a caller that has a
/// server in the same process.
const OTHER_FILES: u64 = 256;

/// How often [`Fleet::until_settled`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a fleet cannot be made or started.
#[derive(Debug, Error)]
pub enum FleetError {
    /// Nothing to simulate.
    #[error("a fleet needs at least one device")]
    NoDevices,
    /// Devices with coverage need a cell.
    #[error("a fleet needs at least one cell")]
    NoCells,
    /// The mix of coverage classes is empty.
    #[error("the coverage mix has no class with a share above 0")]
    NoCoverage,
    /// No content format to answer in.
    #[error("the list of content formats is empty")]
    NoFormat,
    /// Each device has one fault at most.
    #[error("{faulty} devices with faults are ordered, but the fleet has {devices} devices")]
    TooManyFaults {
        /// Devices that faults are ordered for.
        faulty: usize,
        /// Devices of the fleet.
        devices: usize,
    },
    /// `already-current` devices have to be given the target version.
    #[error("the fault 'already-current' needs the target version")]
    NoTarget,
    /// Devices that are upgraded by an object have to be told what they are given.
    #[error(
        "devices that are upgraded by an object have to know the package, or at least the target version"
    )]
    NoImage,
    /// No device of this fleet can go wrong so.
    #[error("the fault '{fault}' is none of devices that are upgraded by {updates_by}")]
    FaultDoesNotFit {
        /// The fault.
        fault: Fault,
        /// By what the devices are upgraded.
        updates_by: &'static str,
    },
    /// A device has no key, and another has.
    #[error("{endpoint} has no key: it is not in the file, and there is no key for all")]
    NoPsk {
        /// The device.
        endpoint: String,
    },
    /// A device's key or identity is none.
    #[error("the key of {endpoint}: {source}")]
    Psk {
        /// The device.
        endpoint: String,
        /// What is wrong with it.
        source: PskError,
    },
    /// Faults of an association need one.
    #[error("the fault '{fault}' of {endpoint} needs a pre-shared key")]
    FaultNeedsPsk {
        /// The device.
        endpoint: String,
        /// Its fault.
        fault: Fault,
    },
    /// A device's DTLS refuses its settings.
    #[error("{endpoint}: {source}")]
    Dtls {
        /// The device.
        endpoint: String,
        /// The stack's reason.
        source: DtlsError,
    },
    /// The process may not open enough sockets.
    #[error(
        "{devices} devices need {needed} open files, the limit is {limit}; \
         raise it with `ulimit -n {needed}`, or simulate fewer devices"
    )]
    TooManySockets {
        /// Devices of the fleet.
        devices: usize,
        /// Open files that they need.
        needed: u64,
        /// Open files that the process may have.
        limit: u64,
    },
    /// A device's socket could not be opened.
    #[error("opening the socket of {endpoint}: {source}")]
    Socket {
        /// The device.
        endpoint: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// A running fleet. Dropping it ends its devices at once; [`Fleet::stop`] also sums up.
#[derive(Debug)]
pub struct Fleet {
    devices: Vec<Arc<Mutex<Device>>>,
    shared: Arc<Shared>,
    /// Whether any device speaks DTLS.
    secured: bool,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    started: Instant,
}

impl Fleet {
    /// The devices that a configuration describes. The same configuration gives the same devices.
    pub fn specs(config: &FleetConfig) -> Result<Vec<DeviceSpec>, FleetError> {
        config.specs()
    }

    /// Switches all devices on. Has to be called within a tokio runtime with I/O and time enabled.
    pub async fn start(specs: Vec<DeviceSpec>, server: SocketAddr) -> Result<Self, FleetError> {
        Self::start_with(specs, server, |_| {}).await
    }

    /// Makes the devices of a configuration and switches them on.
    pub async fn run(
        config: &FleetConfig,
        server: SocketAddr,
        on_event: impl Fn(FleetEvent<'_>) + Send + Sync + 'static,
    ) -> Result<Self, FleetError> {
        Self::start_with(config.specs()?, server, on_event).await
    }

    /// Switches all devices on, and tells the caller what happens to them. `on_event` is called from
    /// the devices' tasks and must not block.
    pub async fn start_with(
        specs: Vec<DeviceSpec>,
        server: SocketAddr,
        on_event: impl Fn(FleetEvent<'_>) + Send + Sync + 'static,
    ) -> Result<Self, FleetError> {
        allow_sockets(specs.len(), specs.iter().map(sockets).sum())?;
        let lacks_psk = |spec: &&DeviceSpec| spec.psk.is_none();
        for spec in specs.iter().filter(lacks_psk) {
            if let Some(fault) = spec.fault.filter(|fault| fault.needs_psk()) {
                let endpoint = spec.endpoint.clone();
                return Err(FleetError::FaultNeedsPsk { endpoint, fault });
            }
        }
        let shared = Arc::new(Shared::new(server, Box::new(on_event)));
        let (stop, stopped) = watch::channel(false);
        let mut sockets = Vec::with_capacity(specs.len());
        for spec in &specs {
            let socket = drive::bind(server)
                .await
                .map_err(|source| FleetError::Socket {
                    endpoint: spec.endpoint.clone(),
                    source,
                })?;
            sockets.push(socket);
        }
        let started = Instant::now();
        let links = specs
            .iter()
            .map(|spec| SecureLink::of(spec, started))
            .collect::<Result<Vec<_>, _>>()?;
        let secured = links.iter().any(Option::is_some);
        let mut tasks = JoinSet::new();
        let mut devices = Vec::with_capacity(specs.len());
        for (spec, (socket, secure)) in specs.into_iter().zip(sockets.into_iter().zip(links)) {
            let device = Arc::new(Mutex::new(Device::new(spec)));
            devices.push(Arc::clone(&device));
            tasks.spawn(drive::drive(
                device,
                socket,
                secure,
                started,
                stopped.clone(),
                Arc::clone(&shared),
            ));
        }
        Ok(Self {
            devices,
            shared,
            secured,
            stop,
            tasks,
            started,
        })
    }

    /// Where all devices stand now.
    pub fn stats(&self) -> FleetStats {
        let mut stats = FleetStats {
            socket_errors: self.shared.socket_errors.load(Ordering::Relaxed),
            dtls: self.secured.then(|| self.shared.dtls.read()),
            ..FleetStats::default()
        };
        for device in &self.devices {
            stats.add(&lock(device).report());
        }
        stats
    }

    /// Whether each device listens now, by its endpoint name: one that is off or asleep does not.
    pub fn listening(&self) -> impl Iterator<Item = (String, bool)> {
        self.devices.iter().map(|device| {
            let device = lock(device);
            (device.spec().endpoint.clone(), device.is_listening())
        })
    }

    /// Every device with its endpoint name, in the order of the specs.
    pub fn reports(&self) -> Vec<(String, DeviceReport)> {
        self.devices
            .iter()
            .map(|device| {
                let device = lock(device);
                (device.spec().endpoint.clone(), device.report())
            })
            .collect()
    }

    /// Waits until nothing more can be expected of any device; see [`Device::is_settled`].
    pub async fn until_settled(&self) {
        while !self.devices.iter().all(|device| lock(device).is_settled()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Switches all devices off and sums up.
    pub async fn stop(mut self) -> FleetSummary {
        let summary = self.summary();
        // Without receivers all tasks have ended already.
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
        summary
    }

    fn summary(&self) -> FleetSummary {
        let stats = self.stats();
        let elapsed_ms = drive::elapsed_ms(self.started);
        let mut summary = FleetSummary::new(elapsed_ms, stats);
        for device in &self.devices {
            let device = lock(device);
            summary.add(device.spec(), device.outcome());
        }
        summary
    }
}

/// No device leaves a half-done change behind when its task panics.
fn lock(device: &Mutex<Device>) -> MutexGuard<'_, Device> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sockets that a device has at a time.
fn sockets(spec: &DeviceSpec) -> usize {
    let downloads = spec.updates_by != UpdatesBy::Pcp && spec.object.character.has_own_socket();
    1 + usize::from(downloads)
}

/// Raises the soft limit of open files as far as needed and allowed.
pub(crate) fn allow_sockets(devices: usize, sockets: usize) -> Result<(), FleetError> {
    if devices == 0 {
        return Err(FleetError::NoDevices);
    }
    let needed = sockets as u64 + OTHER_FILES;
    // Where the limit cannot be read, the first socket too many will tell.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(());
    };
    if needed <= soft {
        return Ok(());
    }
    if needed > hard || setrlimit(Resource::RLIMIT_NOFILE, needed, hard).is_err() {
        return Err(FleetError::TooManySockets {
            devices,
            needed,
            limit: soft.max(hard),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_devices_name_the_limit_to_raise() {
        let error = allow_sockets(1_000_000_000, 1_000_000_000)
            .unwrap_err()
            .to_string();
        assert!(error.contains("ulimit -n 1000000256"), "{error}");
        assert!(allow_sockets(1, 1).is_ok());
        assert!(matches!(allow_sockets(0, 0), Err(FleetError::NoDevices)));
    }
}
