//! What survives a crash of the simulated server: a table in memory, or the real database.

mod sqlite;

use clap::ValueEnum;

use crate::{
    clock::UtcMillis,
    ledger::{
        ActiveUpgrade, Change, DeviceRecord, Learnt, PackageId, RetryPolicy, TaskId, UpgradeId,
    },
    store::{BatchId, CommitReport, MemoryStore, UpgradeState},
    task::{Due, TaskHead},
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

/// A task for all devices of one product.
#[derive(Debug, Clone)]
pub(super) struct Order<'a> {
    pub(super) product: &'a str,
    pub(super) endpoints: &'a [&'a str],
    pub(super) package: &'a crate::package::PcpOffer,
    pub(super) created_at: UtcMillis,
    pub(super) start_at: UtcMillis,
    pub(super) retry: RetryPolicy,
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

    /// Adds a product with its devices, its package and a task for all of them. The packages' numbers begin
    /// with 1.
    pub(super) fn create(
        &mut self,
        order: &Order<'_>,
    ) -> Result<(PackageId, Vec<Created>), Failed> {
        match self {
            Self::Memory(store) => {
                for endpoint in order.endpoints {
                    store.add_device(endpoint, order.product);
                }
                let (package, created) =
                    store.create_task(order.endpoints, order.start_at, order.retry);
                let created = (created.into_iter())
                    .map(|(upgrade, endpoint)| Created { upgrade, endpoint })
                    .collect();
                Ok((package, created))
            }
            Self::Sqlite(store) => store.create(order),
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

    pub(super) fn begin_tasks(&mut self, tasks: &[TaskId]) -> Result<(), Failed> {
        match self {
            Self::Memory(store) => {
                store.begin_tasks(tasks);
                Ok(())
            }
            Self::Sqlite(store) => store.begin_tasks(tasks),
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
        tasks: &[TaskId],
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<Due>, Failed> {
        match self {
            Self::Memory(store) => Ok(store.due_upgrades(tasks, now, limit)),
            Self::Sqlite(store) => store.due_upgrades(tasks, now, limit),
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
