//! What a store would hold: the changes that were committed, as the engine is given them back.

use std::collections::{BTreeMap, BTreeSet};

use cellwise::ledger::{ActiveUpgrade, Change, DeviceRecord, UpgradeId, UpgradeOrder};

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) devices: BTreeMap<String, DeviceRecord>,
    pub(super) active: BTreeMap<UpgradeId, ActiveUpgrade>,
    pub(super) orders: BTreeMap<UpgradeId, UpgradeOrder>,
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

    pub(super) fn add(&mut self, endpoint: &str, product: &str) -> &mut DeviceRecord {
        self.devices
            .entry(endpoint.to_owned())
            .or_insert_with(|| DeviceRecord {
                secure: false,
                endpoint: endpoint.to_owned(),
                product: product.to_owned(),
                registration: None,
                last_heard_at: None,
                coverage: None,
                version: None,
                evidence: Vec::new(),
            })
    }

    pub(super) fn abandon(&mut self, upgrade: UpgradeId) {
        self.active.remove(&upgrade);
        self.abandoned.insert(upgrade);
    }

    pub(super) fn commit(&mut self, change: Change) {
        match change {
            Change::Registered {
                endpoint,
                registration,
                at,
            } => {
                if self.open || self.devices.contains_key(&endpoint) {
                    let record = self.add(&endpoint, "default");
                    let before = record.registration.take();
                    record.registration = Some(registration.after(before.as_ref()));
                    record.last_heard_at = Some(at);
                }
            }
            Change::Deregistered { endpoint, .. } => {
                if let Some(record) = self.devices.get_mut(&endpoint) {
                    record.registration = None;
                }
            }
            Change::VersionReported {
                endpoint, version, ..
            } => {
                if let Some(record) = self.devices.get_mut(&endpoint) {
                    record.version = Some(version);
                }
            }
            Change::CoverageReported {
                endpoint, reading, ..
            } => {
                if let Some(record) = self.devices.get_mut(&endpoint) {
                    record.coverage = Some(reading);
                }
            }
            Change::Evidence {
                endpoint,
                evidence,
                at,
            } => {
                if let Some(record) = self.devices.get_mut(&endpoint) {
                    record.evidence = evidence;
                    record.last_heard_at = record.last_heard_at.max(Some(at));
                }
            }
            Change::Stage {
                upgrade, change, ..
            } => {
                if self.abandoned.contains(&upgrade) {
                    return;
                }
                if let Some(active) = self.active.get_mut(&upgrade) {
                    active.stage = change;
                } else {
                    let active = ActiveUpgrade {
                        order: self.orders[&upgrade].clone(),
                        stage: change,
                        progress: None,
                    };
                    self.active.insert(upgrade, active);
                }
            }
            Change::Progress {
                upgrade, progress, ..
            } => {
                if let Some(active) = self.active.get_mut(&upgrade) {
                    active.progress = Some(progress);
                }
            }
            Change::Ended { upgrade, .. } => {
                self.active.remove(&upgrade);
            }
            Change::Note { .. } | Change::Admitted { .. } => {}
        }
    }
}
