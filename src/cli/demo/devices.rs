//! The simulated devices that are switched on.

use sim::{fleet::Fleet, mqtt};

/// Fleets. Dropping them ends their devices at once.
#[derive(Debug, Default)]
pub(super) struct Devices {
    pub(super) over_coap: Vec<Fleet>,
    pub(super) over_mqtt: Option<mqtt::Fleet>,
}

impl Devices {
    pub(super) fn add(&mut self, fleet: Fleet) {
        self.over_coap.push(fleet);
    }

    /// What was downloaded over HTTPS, where there are such devices.
    pub(super) fn downloaded_bytes(&self) -> Option<u64> {
        let fleet = self.over_mqtt.as_ref()?;
        Some(fleet.stats().bytes_downloaded)
    }

    /// Switches them off.
    pub(super) async fn stop(self) {
        for fleet in self.over_coap {
            fleet.stop().await;
        }
        if let Some(fleet) = self.over_mqtt {
            fleet.stop().await;
        }
    }
}

impl From<Fleet> for Devices {
    fn from(fleet: Fleet) -> Self {
        Self {
            over_coap: vec![fleet],
            over_mqtt: None,
        }
    }
}

impl From<mqtt::Fleet> for Devices {
    fn from(fleet: mqtt::Fleet) -> Self {
        Self {
            over_coap: Vec::new(),
            over_mqtt: Some(fleet),
        }
    }
}
