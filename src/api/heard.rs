//! When devices were heard last, and how they are connected: as the device side knows it, or else as it is stored.

use super::ApiState;
use crate::{
    clock::UtcMillis,
    runtime::{self, Connected},
    store::DeviceDetail,
};

/// When a device was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastHeard {
    /// By any message; `None` when it never was.
    pub(super) at: Option<UtcMillis>,
    /// Nobody knows more than what was stored, which may be hours old.
    pub(super) is_stored: bool,
}

/// What is known of a device at the moment.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) heard: LastHeard,
    /// How it is connected over MQTT; `None` where it is not.
    pub(super) connected: Option<Connected>,
}

impl LastHeard {
    fn new(stored: Option<UtcMillis>, live: Option<UtcMillis>) -> Self {
        Self {
            at: live.max(stored),
            is_stored: live.is_none(),
        }
    }

    /// Asks for one device.
    pub(super) async fn of(state: &ApiState, device: &DeviceDetail) -> Self {
        Live::of(state, device).await.heard
    }
}

impl Live {
    fn new(stored: Option<UtcMillis>, live: runtime::Live) -> Self {
        Self {
            heard: LastHeard::new(stored, live.heard_at),
            connected: live.connected,
        }
    }

    /// Asks for one device.
    pub(super) async fn of(state: &ApiState, device: &DeviceDetail) -> Self {
        let device = &device.device;
        let live = state.heard.live(&[&device.endpoint]).await;
        let live = live.into_iter().next().unwrap_or_default();
        Self::new(device.last_heard_at, live)
    }

    /// Asks for a page of devices; the answers are in their order.
    pub(super) async fn of_page(state: &ApiState, devices: &[DeviceDetail]) -> Vec<Self> {
        let devices = devices.iter().map(|detail| &detail.device);
        let names: Vec<&str> = devices.clone().map(|device| &*device.endpoint).collect();
        let live = state.heard.live(&names).await.into_iter();
        let live = live.chain(std::iter::repeat_with(runtime::Live::default));
        devices
            .zip(live)
            .map(|(device, live)| Self::new(device.last_heard_at, live))
            .collect()
    }
}
