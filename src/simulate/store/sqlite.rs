use std::{collections::HashMap, fmt::Display, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{Added, Created, Failed, Final, Order};
use crate::{
    clock::UtcMillis,
    ledger::{
        ActiveUpgrade, Attribute, AttributesChange, Change, DeviceRecord, Learnt, PackageId,
        TaskId, UpgradeId, Via,
    },
    simulate::sites::Sites,
    store::{
        Agenda as _, BatchId, Catalog as _, CellUpdate, Cells as _, ChangeTaskError, CommitReport,
        DatabaseFile, DeviceUpdate, Exclude, FILE_NAME, Inventory as _, Journal as _, LaneChanges,
        Ledger as _, MqttCredential, NewDevice, NewPackage, NewTask, Origin, Papers,
        RunningUpgrade, Selection, SiteKey, Sites as _, SoaksDue, SqliteStore, StoredMqtt,
        TaskChange, UpgradeToStop,
    },
    task::{Due, Move, PutOff, RulesUpdate, Source, TaskHead, TaskRules},
    tenant::TenantId,
};

/// Rows that are read at once.
const PAGE: u32 = 10_000;

/// The real database in a temporary directory.
pub(in super::super) struct SqliteBackend {
    store: SqliteStore,
    runtime: Runtime,
    tasks: Vec<TaskId>,
    /// The sites of devices.
    places: HashMap<String, String>,
    directory: TempDir,
}

impl SqliteBackend {
    pub(super) fn open() -> Result<Self, Failed> {
        let directory = tempfile::tempdir().map_err(text)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(text)?;
        let store = runtime
            .block_on(SqliteStore::open(directory.path()))
            .map_err(text)?;
        Ok(Self {
            store,
            runtime,
            tasks: Vec::new(),
            places: HashMap::new(),
            directory,
        })
    }

    pub(super) fn copy(&self) -> Result<Self, Failed> {
        let directory = tempfile::tempdir().map_err(text)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(text)?;
        let store = runtime.block_on(async {
            let mut file = DatabaseFile::open(&self.directory.path().join(FILE_NAME))
                .await
                .map_err(text)?;
            let copied = file.copy_to(&directory.path().join(FILE_NAME)).await;
            file.close().await;
            copied.map_err(text)?;
            SqliteStore::open(directory.path()).await.map_err(text)
        })?;
        Ok(Self {
            store,
            runtime,
            tasks: self.tasks.clone(),
            places: self.places.clone(),
            directory,
        })
    }

    pub(super) fn was_put_back(&self, now: UtcMillis) -> Result<(), Failed> {
        self.runtime
            .block_on(self.store.was_put_back(now))
            .map_err(text)
    }

    pub(super) fn place(
        &mut self,
        sites: &Sites,
        places: HashMap<String, String>,
    ) -> Result<(), Failed> {
        self.places = places;
        for (name, limit) in sites.all() {
            let key = SiteKey {
                tenant: TenantId::default(),
                name: name.to_owned(),
            };
            let set = self.store.set_site(&key, limit, None, None);
            self.runtime.block_on(set).map_err(text)?;
        }
        Ok(())
    }

    pub(super) fn create(
        &mut self,
        order: &Order<'_>,
    ) -> Result<(Vec<PackageId>, Vec<Created>), Failed> {
        self.add_devices(order.devices, order.product, order.created_at)?;
        let store = &self.store;
        let created = self.runtime.block_on(async {
            let mut packages = Vec::new();
            for (number, offer) in (0..).zip(order.offered.over_pcp()) {
                let package = NewPackage {
                    product: order.product.to_owned(),
                    version: offer.version.into(),
                    component: None,
                    // the content is never read from a file
                    sha256: format!("{:032x}{number:032x}", self.tasks.len()),
                    crc: offer.check_code,
                    size_bytes: offer.segmentation.size_bytes(),
                    md5: None,
                    pcp: Some(offer),
                    created_at: order.created_at,
                    papers: Papers::default(),
                };
                let inserted = store.insert_package(&package).await.map_err(text)?;
                packages.push(inserted.record.id);
            }
            let task = NewTask {
                name: "simulation".to_owned(),
                package: *packages.first().ok_or("a task has a package")?,
                packages: order.offered.rules(&packages),
                selection: Selection::All,
                exclude: Exclude::default(),
                start_at: Some(order.start_at),
                retry: order.retry,
                rules: order.rules.clone(),
                webhook: None,
                created_at: order.created_at,
                origin: Origin::default(),
            };
            let task = store.create_task(&task).await.map_err(text)?.id;
            Ok::<_, Failed>((packages, task))
        });
        let (packages, task) = created?;
        self.tasks.push(task);
        let created = self
            .upgrades(task, None)?
            .into_iter()
            .map(|record| Created {
                upgrade: record.id,
                endpoint: record.endpoint,
            })
            .collect();
        Ok((packages, created))
    }

    pub(super) fn add_devices(
        &self,
        devices: &[Added<'_>],
        product: &str,
        now: UtcMillis,
    ) -> Result<(), Failed> {
        let attributes = |endpoint: &str, hardware: Option<&str>| {
            let mut attributes = AttributesChange::default();
            let site = self.places.get(endpoint).cloned();
            let hardware = hardware.map(str::to_owned);
            for (attribute, given) in [(Attribute::Site, site), (Attribute::Hardware, hardware)] {
                if given.is_some() {
                    attributes.set(attribute, given).map_err(text)?;
                }
            }
            Ok::<_, Failed>(attributes)
        };
        let devices = devices.iter().map(|device| {
            Ok(NewDevice {
                attributes: attributes(device.endpoint, device.hardware)?,
                psk: None,
                // who it is the driver knows
                mqtt: device.protocol.is_mqtt().then_some(StoredMqtt {
                    protocol: device.protocol,
                    credential: match device.via {
                        Via::Itself => MqttCredential::Certificate,
                        Via::Gateway(_) => MqttCredential::Gateway,
                    },
                    token_hash: None,
                    sealed: None,
                }),
                endpoint: device.endpoint.to_owned(),
                product: product.to_owned(),
                via: device.via.gateway().map(str::to_owned),
            })
        });
        let devices: Vec<NewDevice> = devices.collect::<Result<_, Failed>>()?;
        let added = self.runtime.block_on(self.store.add_devices(&devices, now));
        added.map(drop).map_err(text)
    }

    pub(super) fn set_gateway(&self, endpoint: &str, gateway: &str) -> Result<(), Failed> {
        let update = DeviceUpdate {
            via: Some(Some(gateway.to_owned())),
            ..DeviceUpdate::default()
        };
        (self.runtime)
            .block_on(self.store.update_device(endpoint, &update))
            .map_err(text)
    }

    pub(super) fn join(
        &self,
        task: TaskId,
        after: Option<&str>,
        now: UtcMillis,
    ) -> Result<(Vec<Created>, Option<String>), Failed> {
        let last = self.upgrades(task, None)?.last().map(|record| record.id);
        let joins = self.store.join(task, after, now);
        let joined = self.runtime.block_on(joins).map_err(text)?;
        let created = match joined.devices {
            0 => Vec::new(),
            _ => (self.upgrades(task, last)?.into_iter())
                .map(|record| Created {
                    upgrade: record.id,
                    endpoint: record.endpoint,
                })
                .collect(),
        };
        Ok((created, joined.next))
    }

    fn upgrades(
        &self,
        task: TaskId,
        from: Option<UpgradeId>,
    ) -> Result<Vec<crate::store::UpgradeRecord>, Failed> {
        let mut all = Vec::new();
        loop {
            let last = all.last().map(|r: &crate::store::UpgradeRecord| r.id);
            let after: Option<UpgradeId> = last.or(from);
            let page = self
                .runtime
                .block_on(self.store.upgrades(task, None, after, PAGE))
                .map_err(text)?;
            all.extend(page.items);
            if !page.more {
                return Ok(all);
            }
        }
    }

    pub(super) fn commit(
        &mut self,
        batch: BatchId,
        changes: &[Change],
    ) -> Result<CommitReport, Failed> {
        self.runtime
            .block_on(self.store.commit(batch, changes))
            .map_err(text)
    }

    pub(super) fn update_cell(
        &mut self,
        cell: u32,
        update: RulesUpdate,
        now: UtcMillis,
    ) -> Result<(), Failed> {
        let update = CellUpdate {
            cell,
            rules: update,
            note: None,
            seen: None,
        };
        self.runtime
            .block_on(self.store.update_cells(&[update], now))
            .map_err(text)
    }

    pub(super) fn lane_changes_since(
        &self,
        (cells, sites): (i64, i64),
        limit: u32,
    ) -> Result<LaneChanges, Failed> {
        let cells = (self.runtime).block_on(self.store.cell_changes_since(cells, limit));
        let sites = (self.runtime).block_on(self.store.lane_limits_since(sites, limit));
        Ok(LaneChanges {
            cells: cells.map_err(text)?,
            limits: sites.map_err(text)?,
        })
    }

    pub(super) fn restore_devices(&self) -> Result<Vec<DeviceRecord>, Failed> {
        let mut all: Vec<DeviceRecord> = Vec::new();
        let mut after = Some(0);
        while let Some(number) = after {
            let page = self
                .runtime
                .block_on(self.store.restore_devices(number, PAGE))
                .map_err(text)?;
            after = page.next;
            all.extend(page.devices);
        }
        // the order of the table in memory
        all.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        Ok(all)
    }

    pub(super) fn restore_learnt(&self) -> Result<Vec<Learnt>, Failed> {
        self.runtime
            .block_on(self.store.restore_learnt())
            .map_err(text)
    }

    pub(super) fn restore_upgrades(&self) -> Result<Vec<ActiveUpgrade>, Failed> {
        let mut all: Vec<ActiveUpgrade> = Vec::new();
        loop {
            let after = all.last().map(|upgrade| upgrade.order.upgrade);
            let page = self
                .runtime
                .block_on(self.store.restore_upgrades(after, PAGE))
                .map_err(text)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    pub(super) fn taking_back(&self) -> Result<Vec<(TaskId, Arc<TaskRules>)>, Failed> {
        self.runtime
            .block_on(self.store.taking_back())
            .map_err(text)
    }

    pub(super) fn running_upgrades(
        &self,
        task: TaskId,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<RunningUpgrade>, Failed> {
        self.runtime
            .block_on(self.store.running_upgrades(task, after, limit))
            .map_err(text)
    }

    pub(super) fn make_moves(&mut self, moves: &[Move], now: UtcMillis) -> Result<(), Failed> {
        self.runtime
            .block_on(self.store.make_moves(moves, now))
            .map_err(text)
    }

    pub(super) fn resume(&mut self, task: TaskId, now: UtcMillis) -> Result<bool, Failed> {
        let resumes = self.store.change_task(task, &TaskChange::Resume, now);
        match self.runtime.block_on(resumes) {
            Ok(_) => Ok(true),
            // it has ended meanwhile
            Err(ChangeTaskError::Ended { .. } | ChangeTaskError::NotHeld(_)) => Ok(false),
            Err(error) => Err(text(error)),
        }
    }

    pub(super) fn upgrades_to_stop(&self, limit: u32) -> Result<Vec<UpgradeToStop>, Failed> {
        self.runtime
            .block_on(self.store.upgrades_to_stop(limit))
            .map_err(text)
    }

    pub(super) fn task_heads(&self, now: UtcMillis) -> Result<Vec<TaskHead>, Failed> {
        self.runtime
            .block_on(self.store.task_heads(now))
            .map_err(text)
    }

    pub(super) fn due_upgrades(
        &self,
        sources: &[Source],
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<Due>, Failed> {
        self.runtime
            .block_on(self.store.due_upgrades(sources, now, limit))
            .map_err(text)
    }

    pub(super) fn put_off(&self, put_off: &[PutOff], now: UtcMillis) -> Result<(), Failed> {
        self.runtime
            .block_on(self.store.put_off(put_off, now))
            .map_err(text)
    }

    pub(super) fn soaks_due(
        &self,
        now: UtcMillis,
        wait: Duration,
        limit: u32,
    ) -> Result<SoaksDue, Failed> {
        self.runtime
            .block_on(self.store.soaks_due(now, wait, limit))
            .map_err(text)
    }

    pub(super) fn next_due(&self, now: UtcMillis) -> Result<Option<UtcMillis>, Failed> {
        self.runtime
            .block_on(self.store.next_due(now))
            .map_err(text)
    }

    pub(super) fn finals(&self) -> Result<Vec<Final>, Failed> {
        let mut finals = Vec::new();
        for task in &self.tasks {
            finals.extend(self.upgrades(*task, None)?.into_iter().map(|record| Final {
                upgrade: record.id,
                attempts: record.attempts,
                state: record.state,
                reason: record.outcome.map(|outcome| outcome.reason),
            }));
        }
        Ok(finals)
    }
}

fn text(error: impl Display) -> Failed {
    error.to_string()
}
