//! What the handlers work with.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use super::{listeners::Listeners, tokens::Issuer};
use crate::{
    clock::{SystemClock, UtcMillis},
    config::Settings,
    runtime::Heard,
    signal::Signals,
    store::Store,
    telemetry::Metrics,
};

/// Looks of streams at the store at once, of all together.
const LOOKS_AT_ONCE: usize = 4;

/// What the handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// Where everything is read and started.
    pub store: Arc<dyn Store>,
    /// The settings.
    pub config: Settings,
    /// The clock.
    pub clock: SystemClock,
    /// Signalled after every write, for the rollout to look at once.
    pub signals: Arc<Signals>,
    /// Knows when devices were heard last.
    pub heard: Arc<dyn Heard>,
    /// Makes tokens, if the settings name one.
    pub issuer: Option<Arc<Issuer>>,
    /// What is told of applications.
    pub metrics: Arc<Metrics>,
    /// The streams of events that are open.
    pub listeners: Arc<Listeners>,
    /// Places for looks of streams at the store.
    pub looks: Arc<Semaphore>,
    /// Turns true when the server stops.
    pub stop: watch::Receiver<bool>,
}

impl AppState {
    /// Places for looks of streams at the store: few, so that requests are served while thousands listen.
    pub fn looks() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(LOOKS_AT_ONCE))
    }

    /// The time.
    pub(super) fn now(&self) -> UtcMillis {
        self.clock.now().utc
    }
}
