//! When devices were heard last: as the device side knows it, or else as it is stored.

use super::ApiState;
use crate::{clock::UtcMillis, store::DeviceDetail};

/// When a device was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastHeard {
    /// By any message; `None` when it never was.
    pub(super) at: Option<UtcMillis>,
    /// Nobody knows more than what was stored, which may be hours old.
    pub(super) is_stored: bool,
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
        let device = &device.device;
        let live = state.heard.last_heard(&[&device.endpoint]).await;
        Self::new(device.last_heard_at, live.into_iter().next().flatten())
    }

    /// Asks for a page of devices; the answers are in their order.
    pub(super) async fn of_page(state: &ApiState, devices: &[DeviceDetail]) -> Vec<Self> {
        let devices = devices.iter().map(|detail| &detail.device);
        let names: Vec<&str> = devices.clone().map(|device| &*device.endpoint).collect();
        let live = state.heard.last_heard(&names).await;
        let live = live.into_iter().chain(std::iter::repeat(None));
        devices
            .zip(live)
            .map(|(device, live)| Self::new(device.last_heard_at, live))
            .collect()
    }
}
