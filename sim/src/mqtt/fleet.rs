//! Many MQTT devices at once, over TCP and TLS.
//!
//! Every device has a connection and a task of its own on the caller's tokio runtime; a current-thread runtime is
//! enough. [`FleetConfig::specs`] comes first, so that the devices can be provisioned on the server, then
//! [`Fleet::start`].

mod config;
mod download;
mod drive;
mod shared;
mod stats;
mod tls;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use thiserror::Error;
use tokio::{sync::watch, task::JoinSet, time::Instant};

pub use config::{FleetConfig, Secrets, SecretsError, Share};
pub use stats::{FaultSummary, FleetStats, FleetSummary};
pub use tls::{Authorities, AuthoritiesError};

use super::{
    Fault, Style,
    device::{Device, Report},
    spec::Spec,
};
use crate::fleet::FleetError as SocketsError;
use shared::Shared;

/// How often [`Fleet::until_settled`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a fleet cannot be made or started.
#[derive(Debug, Error)]
pub enum FleetError {
    /// The process may not open enough sockets, or there is no device.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// There is no style.
    #[error("a fleet needs at least one style, and one kit")]
    NoStyle,
    /// Each device has one fault at most, and not every style can have every fault.
    #[error(
        "{ordered} devices are to have the fault '{fault}', and {free} are there that can have it"
    )]
    TooManyFaults {
        /// The fault.
        fault: Fault,
        /// Devices that it is ordered for.
        ordered: usize,
        /// Devices without a fault whose style can have it.
        free: usize,
    },
    /// Devices of this style have no gateways.
    #[error("{0} knows no gateways: --behind goes with iotda and iotda-v2")]
    NoGateway(Style),
    /// `already-current` devices have to be given the target version.
    #[error("the fault 'already-current' needs the target version")]
    NoTarget,
    /// A device has no secret, and others have.
    #[error("{device} has no secret: it is not in the file")]
    NoSecret {
        /// The device.
        device: String,
    },
}

/// The server: where its MQTT is, and whom its certificates, there and on downloads, are signed by.
#[derive(Debug, Clone)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether MQTT is spoken over TLS.
    pub tls: bool,
    /// Who signs certificates.
    pub authorities: Authorities,
}

impl Target {
    /// MQTT without TLS. Downloads over HTTPS need a certificate of one of the `authorities`.
    pub fn plain(host: impl Into<String>, port: u16, authorities: Authorities) -> Self {
        let host = host.into();
        Self {
            host,
            port,
            tls: false,
            authorities,
        }
    }

    /// MQTT over TLS.
    pub fn secured(host: impl Into<String>, port: u16, authorities: Authorities) -> Self {
        Self {
            tls: true,
            ..Self::plain(host, port, authorities)
        }
    }

    /// Whoever is in a file of PEM certificates.
    pub fn authorities(file: &Path) -> Result<Authorities, AuthoritiesError> {
        Authorities::read(file)
    }
}

/// A running fleet. Dropping it ends its devices at once; [`Fleet::stop`] also sums up.
#[derive(Debug)]
pub struct Fleet {
    devices: Vec<Arc<Mutex<Device>>>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    started: Instant,
}

impl Fleet {
    /// Switches all devices on. Has to be called within a tokio runtime with I/O and time enabled.
    pub fn start(specs: Vec<Spec>, target: Target) -> Result<Self, FleetError> {
        // a connection, and a download
        crate::fleet::allow_sockets(specs.len(), specs.len() * 2)?;
        let shared = Arc::new(Shared::new(target));
        let (stop, stopped) = watch::channel(false);
        let started = Instant::now();
        let epoch_s = jiff::Timestamp::now().as_second();
        let mut tasks = JoinSet::new();
        let mut devices = Vec::with_capacity(specs.len());
        for mut spec in specs {
            spec.epoch_s = epoch_s;
            for behind in &mut spec.behind {
                behind.epoch_s = epoch_s;
            }
            let twin = Device::twin(&spec).map(|twin| Arc::new(Mutex::new(twin)));
            let device = Arc::new(Mutex::new(Device::new(spec)));
            devices.push(Arc::clone(&device));
            for device in [Some(device), twin].into_iter().flatten() {
                let shared = Arc::clone(&shared);
                tasks.spawn(drive::drive(device, started, stopped.clone(), shared));
            }
        }
        Ok(Self {
            devices,
            shared,
            stop,
            tasks,
            started,
        })
    }

    /// Where all devices stand now.
    pub fn stats(&self) -> FleetStats {
        let mut stats = FleetStats {
            bytes_downloaded: self.shared.bytes.load(Ordering::Relaxed),
            socket_errors: self.shared.socket_errors.load(Ordering::Relaxed),
            ..FleetStats::default()
        };
        for device in &self.devices {
            let device = lock(device);
            stats.add_connections(&device.report());
            device.upgradable().for_each(|it| stats.add(&it.report()));
        }
        stats
    }

    /// Every device with its name, in the order of the specs.
    pub fn reports(&self) -> Vec<(String, Report)> {
        let mut reports = Vec::with_capacity(self.devices.len());
        for device in &self.devices {
            let device = lock(device);
            let named = |it: &Device| (it.spec().device.clone(), it.report());
            reports.extend(device.upgradable().map(named));
        }
        reports
    }

    /// The newest thing that went wrong with a socket, if anything did.
    pub fn last_error(&self) -> Option<String> {
        self.shared.last_error()
    }

    /// Waits until nothing more can be expected of any device; see [`Device::is_settled`].
    pub async fn until_settled(&self) {
        while !self.devices.iter().all(|device| lock(device).is_settled()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Switches all devices off and sums up.
    pub async fn stop(mut self) -> FleetSummary {
        let elapsed_ms = drive::elapsed_ms(self.started);
        let mut summary = FleetSummary::new(elapsed_ms, self.stats(), self.last_error());
        for device in &self.devices {
            let device = lock(device);
            let mut each = device.upgradable();
            each.by_ref()
                .for_each(|it| summary.add(it.spec(), it.ending()));
        }
        // Without receivers all tasks have ended already.
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
        summary
    }
}

/// No device leaves a half-done change behind when its task panics.
fn lock(device: &Mutex<Device>) -> MutexGuard<'_, Device> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}
