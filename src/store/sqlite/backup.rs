//! Copies of the database, while it is used, and what they are worth.
//!
//! All of it works on files and not on a [`SqliteStore`](super::SqliteStore): the server that has the database open is another
//! process. A reader never keeps a writer waiting (sqlite.org/wal.html).

use std::{collections::BTreeMap, path::Path};

use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions,
};

use super::{BUSY_TIMEOUT, OpenError, filter_sql, open_error, products};
use crate::{config::ProductConfig, package::natural_cmp, store::StoreError};

/// Problems that a check names at most.
const MAX_PROBLEMS: u32 = 20;

/// A package's content, or its bill of materials, that a database refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptContent {
    /// SHA-256, 64 lower-case hexadecimal digits: the name of its file.
    pub sha256: String,
    /// Its length.
    pub size_bytes: u64,
    /// PCP's check code over a content; a bill of materials has none.
    pub crc: Option<u16>,
}

/// How thoroughly a database is looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every page (`quick_check`).
    Quick,
    /// Every page, whether indexes have what tables have (`integrity_check`), and whether what rows refer to is there
    /// (`foreign_key_check`).
    Whole,
}

/// The newest step of the database's form that this program knows.
pub fn newest_known_step() -> i64 {
    let steps = super::migrator();
    steps.iter().map(|step| step.version).max().unwrap_or(0)
}

/// A database's file, read only.
pub struct DatabaseFile {
    connection: SqliteConnection,
    path: std::path::PathBuf,
}

impl DatabaseFile {
    /// Opens a database that a server may have open.
    ///
    /// # Errors
    /// It is not there, is damaged, or was written by a newer program.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        Self::with(path, false).await
    }

    /// Opens a database that nobody has open, and makes no file beside it.
    ///
    /// # Errors
    /// As [`DatabaseFile::open`].
    pub async fn open_unused(path: &Path) -> Result<Self, OpenError> {
        Self::with(path, true).await
    }

    async fn with(path: &Path, unused: bool) -> Result<Self, OpenError> {
        let failed = |source| open_error(path, source);
        let connection = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .immutable(unused)
            .collation(filter_sql::NATURAL, natural_cmp)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(failed)?;
        let mut file = Self {
            connection,
            path: path.to_owned(),
        };
        let (step, known) = (file.step().await?, newest_known_step());
        if step > known {
            return Err(OpenError::Newer {
                path: path.to_owned(),
                step,
                known,
            });
        }
        Ok(file)
    }

    /// The newest step of the database's form that was made; 0 where there is none.
    ///
    /// # Errors
    /// The file is damaged.
    pub async fn step(&mut self) -> Result<i64, OpenError> {
        let there: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations')",
        )
        .fetch_one(&mut self.connection)
        .await
        .map_err(|source| open_error(&self.path, source))?;
        if !there {
            return Ok(0);
        }
        sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| open_error(&self.path, source))
    }

    /// The length of a copy, about, in bytes.
    ///
    /// # Errors
    /// The file is damaged.
    pub async fn size_bytes(&mut self) -> Result<u64, OpenError> {
        let size: i64 = sqlx::query_scalar(
            "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        )
        .fetch_one(&mut self.connection)
        .await
        .map_err(|source| open_error(&self.path, source))?;
        Ok(u64::try_from(size).unwrap_or(0))
    }

    /// Writes all that is committed by now to a new file, which must not be there yet. What is committed meanwhile is not
    /// in it.
    ///
    /// # Errors
    /// The database is damaged, or the disk is full.
    pub async fn copy_to(&mut self, copy: &Path) -> Result<(), OpenError> {
        sqlx::query("VACUUM INTO ?")
            .bind(copy.display().to_string())
            .execute(&mut self.connection)
            .await
            .map(drop)
            .map_err(|source| open_error(&self.path, source))
    }

    /// The contents of packages that are not deleted, and their bills of materials, in the order of their names.
    ///
    /// # Errors
    /// The file is damaged.
    pub async fn contents(&mut self) -> Result<Vec<KeptContent>, OpenError> {
        let failed = |source| open_error(&self.path, source);
        // a database of before has none
        let has_sboms: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pragma_table_info('packages') WHERE name = 'sbom_sha256')",
        )
        .fetch_one(&mut self.connection)
        .await
        .map_err(failed)?;
        let statement = if has_sboms {
            "SELECT DISTINCT sha256, size_bytes, crc FROM packages WHERE deleted_at IS NULL \
             UNION SELECT sbom_sha256, sbom_size_bytes, NULL FROM packages \
             WHERE deleted_at IS NULL AND sbom_sha256 IS NOT NULL ORDER BY 1"
        } else {
            "SELECT DISTINCT sha256, size_bytes, crc FROM packages WHERE deleted_at IS NULL ORDER BY sha256"
        };
        let rows = sqlx::query(statement)
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        let content = |row: &sqlx::sqlite::SqliteRow| {
            Ok(KeptContent {
                sha256: row.try_get("sha256")?,
                size_bytes: u64::try_from(row.try_get::<i64, _>("size_bytes")?).unwrap_or(0),
                crc: (row.try_get::<Option<i64>, _>("crc")?)
                    .map(|crc| u16::try_from(crc).unwrap_or(0)),
            })
        };
        rows.iter()
            .map(content)
            .collect::<Result<_, _>>()
            .map_err(failed)
    }

    /// What is wrong with the database; nothing where it is sound.
    ///
    /// # Errors
    /// It cannot be read at all.
    pub async fn problems(&mut self, depth: Depth) -> Result<Vec<String>, OpenError> {
        let failed = |source| open_error(&self.path, source);
        let check = match depth {
            Depth::Quick => format!("PRAGMA quick_check({MAX_PROBLEMS})"),
            Depth::Whole => format!("PRAGMA integrity_check({MAX_PROBLEMS})"),
        };
        let mut problems: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(check))
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
        problems.retain(|problem| problem != "ok");
        if depth == Depth::Whole {
            let dangling: Vec<String> = sqlx::query_scalar(
                "SELECT 'a row of ' || \"table\" || ' refers to one of ' || parent || ' that is not there' \
                 FROM pragma_foreign_key_check() LIMIT ?",
            )
            .bind(MAX_PROBLEMS)
            .fetch_all(&mut self.connection)
            .await
            .map_err(failed)?;
            problems.extend(dangling);
        }
        Ok(problems)
    }

    /// The settings of all products; `None` where those of a settings file were not taken in yet.
    ///
    /// # Errors
    /// The file is damaged.
    pub async fn products(&mut self) -> Result<Option<BTreeMap<String, ProductConfig>>, OpenError> {
        let failed = |source| open_error(&self.path, source);
        let has_products: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'products')",
        )
        .fetch_one(&mut self.connection)
        .await
        .map_err(failed)?;
        if !has_products
            || !products::were_imported(&mut self.connection)
                .await
                .map_err(failed)?
        {
            return Ok(None);
        }
        let stored = products::all_settings(&mut self.connection).await;
        let parsed = products::parsed(stored.map_err(failed)?);
        parsed
            .map(Some)
            .map_err(|error: StoreError| OpenError::Open {
                path: self.path.clone(),
                source: Box::new(error),
            })
    }

    /// How many webhooks' secrets are stored as they are, because there was no credential key.
    ///
    /// # Errors
    /// The file is damaged.
    pub async fn open_secrets(&mut self) -> Result<u64, OpenError> {
        let found: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM webhooks WHERE substr(secret, 1, 6) <> CAST('sealed' AS BLOB)",
        )
        .fetch_one(&mut self.connection)
        .await
        .map_err(|source| open_error(&self.path, source))?;
        Ok(u64::try_from(found).unwrap_or(0))
    }

    /// The newest time that was stored, milliseconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// The file is damaged.
    pub async fn newest_time_ms(&mut self) -> Result<Option<i64>, OpenError> {
        let newest: i64 = sqlx::query_scalar(super::ledger::NEWEST_TIME)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| open_error(&self.path, source))?;
        Ok((newest > 0).then_some(newest))
    }

    /// Closes the file.
    pub async fn close(self) {
        let _ = self.connection.close().await; // nothing was written
    }
}
