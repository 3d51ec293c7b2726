//! What survives a crash of the simulated server: a table in memory, or the real database.

mod sqlite;

use std::{sync::Arc, time::Duration};

use clap::ValueEnum;

use super::offered::Offered;
use super::sites::Sites;
use crate::{
    clock::UtcMillis,
    ledger::{
        ActiveUpgrade, Change, DeviceRecord, Learnt, PackageId, Protocol, RetryPolicy, TaskId,
        UpgradeId, Via,
    },
    package::Version,
    store::{
        BatchId, CommitReport, LaneChanges, MemoryStore, RunningUpgrade, SoaksDue, UpgradeState,
        UpgradeToStop,
    },
    task::{Due, Move, PutOff, RulesUpdate, Source, TaskHead, TaskRules},
};
use sqlite::SqliteBackend;

/// Which store the simulated server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum StoreKind {
    /// A table in memory that does what the database does.
    #[default]
    Memory,
    /// The real database, in a temporary directory.
    Sqlite,
}

/// An upgrade that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Created {
    pub(super) upgrade: UpgradeId,
    pub(super) endpoint: String,
}

/// Where an upgrade stands at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Final {
    pub(super) upgrade: UpgradeId,
    pub(super) attempts: u32,
    pub(super) state: UpgradeState,
    /// The stable word for how the last attempt ended.
    pub(super) reason: Option<String>,
}

/// A device that is added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added<'a> {
    pub(super) endpoint: &'a str,
    pub(super) protocol: Protocol,
    /// Its hardware, as the operator has given it.
    pub(super) hardware: Option<&'a str>,
    /// How it is reached, as the operator says.
    pub(super) via: &'a Via,
}

/// A task for all devices of one product.
#[derive(Debug, Clone)]
pub(super) struct Order<'a> {
    pub(super) product: &'a str,
    pub(super) devices: &'a [Added<'a>],
    pub(super) offered: &'a Offered,
    pub(super) created_at: UtcMillis,
    pub(super) start_at: UtcMillis,
    pub(super) retry: RetryPolicy,
    pub(super) rules: &'a TaskRules,
}

/// The simulated server's store.
pub(super) enum Backend {
    Memory(Box<MemoryStore>),
    Sqlite(Box<SqliteBackend>),
}

/// The database failed, which no simulation orders.
pub(super) type Failed = String;

impl Backend {
    pub(super) fn open(kind: StoreKind) -> Result<Self, Failed> {
        Ok(match kind {
            StoreKind::Memory => Self::Memory(Box::default()),
            StoreKind::Sqlite => Self::Sqlite(Box::new(SqliteBackend::open()?)),
        })
    }

    /// A copy, as a backup makes one beside a running server.
    pub(super) fn copy(&self) -> Result<Self, Failed> {
        Ok(match self {
            Self::Memory(store) => Self::Memory(store.clone()),
            Self::Sqlite(store) => Self::Sqlite(Box::new(store.copy()?)),
        })
    }

    /// It takes the place of a newer one, of which it is a copy.
    pub(super) fn was_put_back(&mut self, now: UtcMillis) -> Result<(), Failed> {
        match self {
            Self::Memory(store) => {
                store.was_put_back(now);
                Ok(())
            }
            Self::Sqlite(store) => store.was_put_back(now),
        }
    }

    /// Devices are at these sites: to be said before they are added.
    pub(super) fn place<'e>(
        &mut self,
        sites: &Sites,
        endpoints: impl Iterator<Item = &'e str>,
    ) -> Result<(), Failed> {
        let places = endpoints.enumerate().filter_map(|(device, endpoint)| {
            let name = sites.name_of(device)?;
            Some((endpoint.to_owned(), name.to_owned()))
        });
        match self {
            Self::Memory(store) => {
                store.set_sites(sites.all().map(|(name, limit)| (Sites::lane(name), limit)));
                for (endpoint, name) in places {
                    store.set_site_of(&endpoint, Sites::lane(&name));
                }
                Ok(())
            }
            Self::Sqlite(store) => store.place(sites, places.collect()),
        }
    }

    /// Adds a product with its devices, its packages and a task for all of them. The packages' numbers begin
    /// with 1.
    pub(super) fn create(
        &mut self,
        order: &Order<'_>,
    ) -> Result<(Vec<PackageId>, Vec<Created>), Failed> {
        match self {
            Self::Memory(store) => {
                for device in order.devices {
                    add_to(store, *device, order.product);
                }
                let endpoints: Vec<&str> = order.devices.iter().map(|it| it.endpoint).collect();
                let packages = order.offered.packages();
                let targets: Vec<Version> = packages.iter().map(|it| it.version).collect();
                let times = (order.created_at, order.start_at);
                let created =
                    store.create_task(&endpoints, &targets, times, order.retry, order.rules);
                let task = created.map_err(|error| error.to_string())?;
                let (size_bytes, segments) = order.offered.largest();
                store.package_is(task.task, size_bytes, segments);
                let created = (task.upgrades.into_iter())
                    .map(|(upgrade, endpoint)| Created { upgrade, endpoint })
                    .collect();
                let numbers = (task.package.0..).map(PackageId).take(packages.len());
                Ok((numbers.collect(), created))
            }
            Self::Sqlite(store) => store.create(order),
        }
    }

    /// Adds a device of a product.
    pub(super) fn add_device(
        &mut self,
        device: Added<'_>,
        product: &str,
        now: UtcMillis,
    ) -> Result<(), Failed> {
        match self {
            Self::Memory(store) => {
                add_to(store, device, product);
                Ok(())
            }
            Self::Sqlite(store) => store.add_devices(&[device], product, now),
        }
    }

    /// The operator gives a device another gateway.
    pub(super) fn set_gateway(&mut self, endpoint: &str, gateway: &str) -> Result<(), Failed> {
        match self {
            Self::Memory(store) => {
                store.set_via(endpoint, &Via::Gateway(Some(gateway.to_owned())));
                Ok(())
            }
            Self::Sqlite(store) => store.set_gateway(endpoint, gateway),
        }
    }

    /// Has devices join a task that were added since, those behind `after`. Gives their upgrades, and where the sweep goes on.
    pub(super) fn join(
        &mut self,
        task: TaskId,
        after: Option<&str>,
        now: UtcMillis,
    ) -> Result<(Vec<Created>, Option<String>), Failed> {
        match self {
            Self::Memory(store) => {
                let created = (store.join(task, now).into_iter())
                    .map(|(upgrade, endpoint)| Created { upgrade, endpoint })
                    .collect();
                Ok((created, None))
            }
            Self::Sqlite(store) => store.join(task, after, now),
        }
    }

    pub(super) fn commit(
        &mut self,
        batch: BatchId,
        changes: &[Change],
    ) -> Result<CommitReport, Failed> {
        match self {
            Self::Memory(store) => Ok(store.commit(batch, changes)),
            Self::Sqlite(store) => store.commit(batch, changes),
        }
    }

    pub(super) fn update_cell(
        &mut self,
        cell: u32,
        update: RulesUpdate,
        now: UtcMillis,
    ) -> Result<(), Failed> {
        match self {
            Self::Memory(store) => {
                (store.update_cell(cell, update, now)).map_err(|error| error.to_string())
            }
            Self::Sqlite(store) => store.update_cell(cell, update, now),
        }
    }

    pub(super) fn lane_changes_since(
        &self,
        (cells, sites): (i64, i64),
        limit: u32,
    ) -> Result<LaneChanges, Failed> {
        match self {
            Self::Memory(store) => Ok(LaneChanges {
                cells: store.cell_changes_since(cells, limit),
                limits: store.lane_limits_since(sites, limit),
            }),
            Self::Sqlite(store) => store.lane_changes_since((cells, sites), limit),
        }
    }

    pub(super) fn restore_devices(&self) -> Result<Vec<DeviceRecord>, Failed> {
        match self {
            Self::Memory(store) => Ok(store.restore_devices()),
            Self::Sqlite(store) => store.restore_devices(),
        }
    }

    pub(super) fn restore_learnt(&self) -> Result<Vec<Learnt>, Failed> {
        match self {
            Self::Memory(store) => Ok(store.restore_learnt()),
            Self::Sqlite(store) => store.restore_learnt(),
        }
    }

    pub(super) fn restore_upgrades(&self) -> Result<Vec<ActiveUpgrade>, Failed> {
        match self {
            Self::Memory(store) => Ok(store.restore_upgrades()),
            Self::Sqlite(store) => store.restore_upgrades(),
        }
    }

    pub(super) fn make_moves(&mut self, moves: &[Move], now: UtcMillis) -> Result<(), Failed> {
        match self {
            Self::Memory(store) => {
                store.make_moves(moves, now);
                Ok(())
            }
            Self::Sqlite(store) => store.make_moves(moves, now),
        }
    }

    /// Has a task go on that is held. Returns whether it was.
    pub(super) fn resume(&mut self, task: TaskId, now: UtcMillis) -> Result<bool, Failed> {
        match self {
            Self::Memory(store) => Ok(store.resume(task)),
            Self::Sqlite(store) => store.resume(task, now),
        }
    }

    pub(super) fn taking_back(&self) -> Result<Vec<(TaskId, Arc<TaskRules>)>, Failed> {
        match self {
            Self::Memory(store) => Ok(store.taking_back()),
            Self::Sqlite(store) => store.taking_back(),
        }
    }

    pub(super) fn running_upgrades(
        &self,
        task: TaskId,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<RunningUpgrade>, Failed> {
        match self {
            Self::Memory(store) => Ok(store.running_upgrades(task, after, limit)),
            Self::Sqlite(store) => store.running_upgrades(task, after, limit),
        }
    }

    pub(super) fn upgrades_to_stop(&self, limit: u32) -> Result<Vec<UpgradeToStop>, Failed> {
        match self {
            Self::Memory(store) => Ok(store.upgrades_to_stop(limit)),
            Self::Sqlite(store) => store.upgrades_to_stop(limit),
        }
    }

    pub(super) fn task_heads(&self, now: UtcMillis) -> Result<Vec<TaskHead>, Failed> {
        match self {
            Self::Memory(store) => Ok(store.task_heads(now)),
            Self::Sqlite(store) => store.task_heads(now),
        }
    }

    pub(super) fn due_upgrades(
        &self,
        sources: &[Source],
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<Due>, Failed> {
        match self {
            Self::Memory(store) => Ok(store.due_upgrades(sources, now, limit)),
            Self::Sqlite(store) => store.due_upgrades(sources, now, limit),
        }
    }

    pub(super) fn put_off(&mut self, put_off: &[PutOff], now: UtcMillis) -> Result<(), Failed> {
        match self {
            Self::Memory(store) => {
                store.put_off(put_off);
                Ok(())
            }
            Self::Sqlite(store) => store.put_off(put_off, now),
        }
    }

    pub(super) fn soaks_due(
        &mut self,
        now: UtcMillis,
        wait: Duration,
        limit: u32,
    ) -> Result<SoaksDue, Failed> {
        match self {
            Self::Memory(store) => Ok(store.soaks_due(now, wait, limit)),
            Self::Sqlite(store) => store.soaks_due(now, wait, limit),
        }
    }

    pub(super) fn next_due(&self, now: UtcMillis) -> Result<Option<UtcMillis>, Failed> {
        match self {
            Self::Memory(store) => Ok(store.next_due(now)),
            Self::Sqlite(store) => store.next_due(now),
        }
    }

    pub(super) fn finals(&self) -> Result<Vec<Final>, Failed> {
        match self {
            Self::Memory(store) => Ok(store
                .upgrades()
                .map(|(upgrade, attempts, state, outcome)| Final {
                    upgrade,
                    attempts,
                    state,
                    reason: outcome.map(|outcome| outcome.reason().to_owned()),
                })
                .collect()),
            Self::Sqlite(store) => store.finals(),
        }
    }
}

/// Adds a device of a product to a table in memory.
fn add_to(store: &mut MemoryStore, device: Added<'_>, product: &str) {
    store.add_device(device.endpoint, product, device.protocol);
    store.set_hardware(device.endpoint, device.hardware);
    if *device.via != Via::Itself {
        store.set_via(device.endpoint, device.via);
    }
}
