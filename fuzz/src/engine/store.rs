//! What a store would hold: the changes that were committed, as the engine is given them back.

use std::collections::{BTreeMap, BTreeSet};

use cellwise::{
    clock::UtcMillis,
    ledger::{ActiveUpgrade, Change, DeviceRecord, Protocol, UpgradeId, UpgradeOrder},
    store::apply::{self, Ending},
};

#[derive(Debug, Default)]
pub(super) struct Store {
    /// With their products.
    devices: BTreeMap<String, (String, apply::Device)>,
    upgrades: BTreeMap<UpgradeId, (UpgradeOrder, apply::Upgrade)>,
    /// Upgrades about which the store knows better than the engine.
    abandoned: BTreeSet<UpgradeId>,
    /// Unknown endpoints may register.
    open: bool,
}

impl Store {
    pub(super) fn new(open: bool) -> Self {
        Self {
            open,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, endpoint: &str, product: &str) {
        let device = || (product.to_owned(), apply::Device::default());
        (self.devices.entry(endpoint.to_owned())).or_insert_with(device);
    }

    pub(super) fn remove(&mut self, endpoint: &str) {
        self.devices.remove(endpoint);
    }

    pub(super) fn order(&mut self, order: &UpgradeOrder) {
        let waits = apply::Upgrade::waiting(UtcMillis(0));
        (self.upgrades.entry(order.upgrade)).or_insert_with(|| (order.clone(), waits));
    }

    pub(super) fn abandon(&mut self, upgrade: UpgradeId) {
        self.upgrades.remove(&upgrade);
        self.abandoned.insert(upgrade);
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = DeviceRecord> {
        let devices = self.devices.iter();
        devices
            .map(|(endpoint, (product, device))| device.record(endpoint, product, Protocol::Lwm2m))
    }

    /// Upgrades that run.
    pub(super) fn active(&self) -> impl Iterator<Item = ActiveUpgrade> {
        self.upgrades.values().filter_map(|(order, upgrade)| {
            Some(ActiveUpgrade {
                order: order.clone(),
                stage: upgrade.stage.as_deref()?.clone(),
                progress: upgrade.progress,
            })
        })
    }

    pub(super) fn commit(&mut self, change: &Change) {
        match change {
            Change::Stage {
                upgrade,
                attempt,
                change,
                at,
                ..
            } => {
                if let Some((_, row)) = self.upgrades.get_mut(upgrade) {
                    let taken = row.stage(*attempt, change, *at);
                    assert!(taken.is_ok(), "goes on after its end");
                }
            }
            Change::Progress {
                upgrade, progress, ..
            } => {
                if let Some((_, row)) = self.upgrades.get_mut(upgrade) {
                    row.progress(*progress);
                }
            }
            Change::Ended {
                upgrade,
                attempt,
                outcome,
                at,
                ..
            } => {
                if let Some((_, row)) = self.upgrades.get_mut(upgrade) {
                    let ending = Ending {
                        outcome: outcome.clone(),
                        facts: None,
                        at: *at,
                    };
                    row.ended(*attempt, ending, None);
                }
            }
            // there is one package
            Change::Note { .. }
            | Change::Serves { .. }
            | Change::Admitted { .. }
            | Change::KeptAwake { .. }
            | Change::Traffic { .. }
            | Change::Learnt(_) => {}
            change => {
                let Some(endpoint) = apply::device_of(change) else {
                    return;
                };
                if self.open && matches!(change, Change::Registered { .. }) {
                    self.add(endpoint, "default");
                }
                if let Some((_, device)) = self.devices.get_mut(endpoint) {
                    device.apply(change);
                }
            }
        }
    }
}
