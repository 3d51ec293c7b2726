//! The store in one SQLite file.
//!
//! One connection writes, so that writers queue here and not at the file's lock; a few read beside it
//! (WAL). Every commit is synced to the disk: a device must never have been told something that a
//! power failure makes the server forget.

mod bulk;
mod cancel;
mod commit;
mod counts;
mod credentials;
mod device_rows;
mod devices;
mod event_rows;
mod events;
mod evidence;
mod housekeeping;
mod overlaps;
mod packages;
mod packed;
mod rollout;
mod rows;
mod task_creation;
mod task_writes;
mod tasks;
mod turns;
mod upgrade_rows;
mod upgrades;

#[cfg(test)]
mod tests;

use std::{
    io,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    AddedDevice, BatchId, CancelUpgradeError, CellRecord, CommitReport, CreateTaskError,
    DeletePackageError, DeleteTaskError, DeletedPackage, DeviceChange, DeviceDetail, DeviceFilter,
    DeviceUpdate, DeviceUpgrade, InsertPackageError, InsertedPackage, NewDevice, NewPackage,
    NewTask, OpenError, Overlaps, PackageRecord, Page, RestoredDevices, StopTaskError, Store,
    StoreError, StoredPsk, TaskRecord, UpdateDeviceError, UpgradeDetail, UpgradeRecord,
    UpgradeState, UpgradeToStop,
};
use crate::{
    clock::UtcMillis,
    ledger::{ActiveUpgrade, Change, DeviceRecord, PackageId, TaskId, UpgradeId},
    package::Version,
    task::{Due, TaskHead},
};

/// Name of the database's file in the data directory.
pub const FILE_NAME: &str = "cellwise.db";

const READERS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an operation waits for a connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Distinct statements per connection: more than there are in this room.
const CACHED_STATEMENTS: usize = 128;
/// What the writer keeps of the file in memory, KiB. A batch of changes touches thousands of pages all over the file; where
/// they do not fit, each is written and read several times before the commit.
const WRITER_CACHE_KIB: u32 = 16 * 1_024;
/// What a reader keeps in memory, KiB.
const READER_CACHE_KIB: u32 = 2 * 1_024;
/// Pages of the log after which they are copied into the file: those that were written many times are copied once.
const CHECKPOINT_PAGES: u32 = 8_000;
/// Rows that a reader may be ahead of who reads them: fewer make two threads wake each other all the time.
const ROWS_AHEAD: usize = 1_000;
/// Upgrades that are created, cancelled or deleted in one transaction, for which all other writers wait.
const PART: u32 = 5_000;

/// A [`Store`] in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Something was written since the log was shortened last.
    written: Arc<AtomicBool>,
}

impl SqliteStore {
    /// Opens the database in `data_dir`, and creates both if they are not there.
    pub async fn open(data_dir: &Path) -> Result<Self, OpenError> {
        tokio::fs::create_dir_all(data_dir)
            .await
            .map_err(|source| OpenError::Directory {
                path: data_dir.to_owned(),
                source,
            })?;
        let path = data_dir.join(FILE_NAME);
        create_private(&path).await?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(CACHED_STATEMENTS)
            .row_buffer_size(ROWS_AHEAD)
            .disable_statement_logging();
        let open_error = |source: sqlx::Error| {
            let path = path.clone();
            match result_code(&source) {
                Some(CORRUPT | NO_DATABASE) => OpenError::Damaged {
                    path,
                    source: Box::new(source),
                },
                _ => OpenError::Open {
                    path,
                    source: Box::new(source),
                },
            }
        };
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(
                options
                    .clone()
                    .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
                    .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
                    .pragma(
                        "journal_size_limit",
                        housekeeping::LOG_KEPT_BYTES.to_string(),
                    ),
            )
            .await
            .map_err(open_error)?;
        sqlx::migrate!("migrations/sqlite")
            .run(&writer)
            .await
            .map_err(|source| OpenError::Migrate {
                path: path.clone(),
                source: Box::new(source),
            })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(
                options
                    .read_only(true)
                    .pragma("cache_size", format!("-{READER_CACHE_KIB}")),
            )
            .await
            .map_err(open_error)?;
        let store = Self {
            writer,
            readers,
            written: Arc::new(AtomicBool::new(true)),
        };
        store
            .end_interrupted()
            .await
            .map_err(|source| OpenError::Open {
                path,
                source: Box::new(source),
            })?;
        tokio::spawn(housekeeping::keep_log_short(store.clone()));
        Ok(store)
    }

    /// Closes all connections; what was written is in the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// A transaction that may write. It is undone unless it is committed.
    async fn write(&self, doing: &'static str) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.written.store(true, Ordering::Release);
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // SQLite has undone a transaction by itself, as it does when the disk is full, and the
            // connection still counts it: a new connection starts from nothing.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                let stale = self.writer.acquire().await.doing(doing)?;
                stale.close().await.doing(doing)?;
                self.writer.begin_with("BEGIN IMMEDIATE").await.doing(doing)
            }
            begun => begun.doing(doing),
        }
    }
}

/// Creates the file, if it is not there, for its owner alone: it holds the server's secret. The database
/// gives its other files the same mode.
async fn create_private(path: &Path) -> Result<(), OpenError> {
    let created = tokio::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .await;
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(OpenError::Open {
            path: path.to_owned(),
            source: Box::new(error),
        }),
        _ => Ok(()),
    }
}

/// Says what was being done when the database failed.
trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| {
            let code = result_code(&source);
            let source = Box::new(source);
            match code {
                Some(CONSTRAINT | MISMATCH) => StoreError::Refused { doing, source },
                Some(CORRUPT | NO_DATABASE) => StoreError::Damaged { doing, source },
                _ => StoreError::Failed { doing, source },
            }
        })
    }
}

// Result codes of SQLite (sqlite.org/rescode.html).
const CORRUPT: u32 = 11;
const CONSTRAINT: u32 = 19;
const MISMATCH: u32 = 20;
const NO_DATABASE: u32 = 26;

/// The low byte of the result code.
fn result_code(error: &sqlx::Error) -> Option<u32> {
    let code = (error.as_database_error()).and_then(sqlx::error::DatabaseError::code)?;
    Some(code.parse::<u32>().ok()? & 0xFF)
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, batch: BatchId, changes: &[Change]) -> Result<CommitReport, StoreError> {
        self.commit_changes(batch, changes).await
    }

    async fn restore_busy_devices(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DeviceRecord>, StoreError> {
        self.busy_devices_to_restore(after, limit).await
    }

    async fn restore_devices(&self, after: i64, limit: u32) -> Result<RestoredDevices, StoreError> {
        self.devices_to_restore(after, limit).await
    }

    async fn restore_upgrades(
        &self,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<ActiveUpgrade>, StoreError> {
        self.upgrades_to_restore(after, limit).await
    }

    async fn restore_revision(&self) -> Result<i64, StoreError> {
        self.revision_to_restore().await
    }

    async fn newest_time(&self) -> Result<Option<UtcMillis>, StoreError> {
        let newest: i64 = sqlx::query_scalar(
            "SELECT MAX(\
                COALESCE((SELECT at FROM upgrade_events WHERE id = (SELECT MAX(id) FROM upgrade_events)), 0), \
                COALESCE((SELECT at FROM events WHERE id = (SELECT MAX(id) FROM events)), 0), \
                COALESCE((SELECT created_at FROM tasks WHERE id = (SELECT MAX(id) FROM tasks)), 0))",
        )
        .fetch_one(&self.readers)
        .await
        .doing("reading the newest time")?;
        Ok((newest > 0).then_some(UtcMillis(newest)))
    }

    async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        sqlx::query_scalar("SELECT value FROM meta WHERE key = ?")
            .bind(key)
            .fetch_optional(&self.readers)
            .await
            .doing("reading a stored value")
    }

    async fn set_meta(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let doing = "storing a value";
        let mut tx = self.write(doing).await?;
        rows::set_meta(&mut tx, key, value).await.doing(doing)?;
        tx.commit().await.doing(doing)
    }

    async fn device_changes_since(
        &self,
        revision: i64,
        limit: u32,
    ) -> Result<Vec<DeviceChange>, StoreError> {
        self.changed_devices(revision, limit).await
    }

    async fn forget_removed(&self, endpoint: &str) -> Result<bool, StoreError> {
        self.forget(endpoint).await
    }

    async fn remove_newcomers(
        &self,
        ended: Range<UtcMillis>,
        limit: u32,
    ) -> Result<u64, StoreError> {
        self.tombstone_newcomers(ended, limit).await
    }

    async fn task_heads(&self, now: UtcMillis) -> Result<Vec<TaskHead>, StoreError> {
        self.heads(now).await
    }

    async fn begin_tasks(&self, tasks: &[TaskId]) -> Result<u64, StoreError> {
        self.begin(tasks).await
    }

    async fn due_upgrades(
        &self,
        tasks: &[TaskId],
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        self.due_in(tasks, now, limit).await
    }

    async fn next_due(&self, now: UtcMillis) -> Result<Option<UtcMillis>, StoreError> {
        self.next_due_time(now).await
    }

    async fn upgrades_to_stop(&self, limit: u32) -> Result<Vec<UpgradeToStop>, StoreError> {
        self.running_in_vain(limit).await
    }

    async fn package(&self, id: PackageId) -> Result<Option<PackageRecord>, StoreError> {
        self.package_by_id(id).await
    }

    async fn insert_package(
        &self,
        new: &NewPackage,
    ) -> Result<InsertedPackage, InsertPackageError> {
        self.add_package(new).await
    }

    async fn packages(
        &self,
        before: Option<PackageId>,
        limit: u32,
    ) -> Result<Page<PackageRecord>, StoreError> {
        self.list_packages(before, limit).await
    }

    async fn find_package(
        &self,
        product: &str,
        version: Version,
    ) -> Result<Option<PackageRecord>, StoreError> {
        self.current_package(product, version).await
    }

    async fn package_before(
        &self,
        product: &str,
        before: PackageId,
    ) -> Result<Option<PackageRecord>, StoreError> {
        self.newest_package_before(product, before).await
    }

    async fn delete_package(
        &self,
        id: PackageId,
        now: UtcMillis,
    ) -> Result<DeletedPackage, DeletePackageError> {
        self.drop_package(id, now).await
    }

    async fn content_in_use(&self, sha256: &str) -> Result<bool, StoreError> {
        self.is_content_in_use(sha256).await
    }

    async fn add_devices(
        &self,
        devices: &[NewDevice],
        now: UtcMillis,
    ) -> Result<Vec<AddedDevice>, StoreError> {
        self.insert_devices(devices, now).await
    }

    async fn device(&self, endpoint: &str) -> Result<Option<DeviceDetail>, StoreError> {
        self.device_by_endpoint(endpoint).await
    }

    async fn devices(
        &self,
        filter: &DeviceFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<DeviceDetail>, StoreError> {
        self.list_devices(filter, after, limit).await
    }

    async fn update_device(
        &self,
        endpoint: &str,
        update: &DeviceUpdate,
    ) -> Result<(), UpdateDeviceError> {
        self.change_device(endpoint, update).await
    }

    async fn restore_keys(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, StoredPsk)>, StoreError> {
        self.keys_to_restore(after, limit).await
    }

    async fn remove_device(&self, endpoint: &str, now: UtcMillis) -> Result<bool, StoreError> {
        self.tombstone_device(endpoint, now).await
    }

    async fn create_task(&self, new: &NewTask) -> Result<TaskRecord, CreateTaskError> {
        self.insert_task(new).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        self.task_by_id(id).await
    }

    async fn tasks(
        &self,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<TaskRecord>, StoreError> {
        self.list_tasks(before, limit).await
    }

    async fn stop_task(&self, id: TaskId, now: UtcMillis) -> Result<TaskRecord, StopTaskError> {
        self.stop(id, now).await
    }

    async fn delete_task(&self, id: TaskId) -> Result<(), DeleteTaskError> {
        self.drop_task(id).await
    }

    async fn overlaps(&self, task: TaskId, limit: u32) -> Result<Overlaps, StoreError> {
        self.overlaps_of(task, limit).await
    }

    async fn newest_upgrades(
        &self,
        cell: Option<u32>,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<DeviceUpgrade>, StoreError> {
        self.list_newest_upgrades(cell, before, limit).await
    }

    async fn upgrades(
        &self,
        task: TaskId,
        state: Option<UpgradeState>,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<UpgradeRecord>, StoreError> {
        self.list_upgrades(task, state, after, limit).await
    }

    async fn device_upgrades(
        &self,
        endpoint: &str,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<DeviceUpgrade>, StoreError> {
        self.list_upgrades_of(endpoint, before, limit).await
    }

    async fn upgrade(&self, id: UpgradeId) -> Result<Option<UpgradeDetail>, StoreError> {
        self.upgrade_detail(id).await
    }

    async fn cancel_upgrade(
        &self,
        id: UpgradeId,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, CancelUpgradeError> {
        self.cancel(id, now).await
    }

    async fn cells(&self, after: Option<u32>, limit: u32) -> Result<Page<CellRecord>, StoreError> {
        self.list_cells(after, limit).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        let doing = "checking that it can be written";
        let tx = self.write(doing).await?;
        tx.rollback().await.doing(doing)
    }
}
