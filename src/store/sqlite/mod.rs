//! The store in one SQLite file.
//!
//! One connection writes, so that writers queue here and not at the file's lock; a few read beside it
//! (WAL). Every commit is synced to the disk: a device must never have been told something that a
//! power failure makes the server forget.

mod access;
mod adding;
mod agenda;
mod answers;
mod app_users;
mod attributes;
mod audit;
mod automatic;
mod backup;
mod bulk;
mod cancel;
mod cells;
mod commit;
mod confirming;
mod counts;
mod credentials;
mod device_rows;
mod device_writes;
mod devices;
mod event_rows;
mod events;
mod evidence;
mod exclusions;
mod filter_sql;
mod gateways;
mod groups;
mod habits;
mod heads;
mod home_asks;
mod home_rows;
mod home_writes;
mod homes;
mod housekeeping;
mod joining;
mod ledger;
mod marker;
mod narrowing;
mod offer_news;
mod offers;
mod one_upgrade;
mod open_upgrades;
mod packages;
mod packed;
mod papers;
mod products;
mod putting_back;
mod queue;
mod reach;
mod results;
mod rhythm;
mod rows;
mod sealing;
mod second_factors;
mod series;
mod sites;
mod soaks;
mod standing;
mod start_plan;
mod starts;
mod task_changes;
mod task_creation;
mod task_devices;
mod task_lists;
mod task_packages;
mod task_writes;
mod tasks;
mod tenancy;
mod tenant_counts;
mod traffic;
mod turns;
mod upgrade_rows;
mod upgrades;
mod user_rows;
mod users;
mod walk;
mod watched;
mod writing;

#[cfg(test)]
mod tests;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions, Sqlite, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use self::writing::Writing;
pub use backup::{DatabaseFile, Depth, KeptContent, newest_known_step};

use super::{OpenError, StoreError};
use crate::package::natural_cmp;

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

/// A [`Store`](super::Store) in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Something was written since the log was shortened last.
    written: Arc<AtomicBool>,
    rules: Arc<heads::KnownRules>,
    /// Idempotency keys that were taken since the start.
    keys_taken: Arc<AtomicU32>,
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
            .collation(filter_sql::NATURAL, natural_cmp)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(CACHED_STATEMENTS)
            .row_buffer_size(ROWS_AHEAD)
            .disable_statement_logging();
        let open_error = |source| open_error(&path, source);
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
        migrator()
            .run(&writer)
            .await
            .map_err(|source| not_migrated(&path, source))?;
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
            rules: Arc::default(),
            keys_taken: Arc::default(),
        };
        tokio::spawn(housekeeping::keep_log_short(store.clone()));
        Ok(store)
    }

    /// Closes all connections; what was written is in the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// A transaction that may write. It is undone unless it is committed. What is written on somebody's behalf leaves a row in the
    /// audit log.
    async fn write(&self, doing: &'static str) -> Result<Writing, StoreError> {
        self.write_unaudited(doing).await.map(Writing::new)
    }

    /// The same, of what is a matter of the audit log itself.
    async fn write_unaudited(
        &self,
        doing: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, StoreError> {
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

/// The steps that bring a database to this program's form.
fn migrator() -> Migrator {
    sqlx::migrate!("migrations/sqlite")
}

fn not_migrated(path: &Path, source: MigrateError) -> OpenError {
    let path = path.to_owned();
    match source {
        MigrateError::VersionMissing(step) => OpenError::Newer {
            path,
            step,
            known: newest_known_step(),
        },
        source => OpenError::Migrate {
            path,
            source: Box::new(source),
        },
    }
}

/// Why a database cannot be opened, or read as a whole.
fn open_error(path: &Path, source: sqlx::Error) -> OpenError {
    let path = path.to_owned();
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
