//! Keeps the database's log short in time: what was committed goes into the file within seconds, so that a small disk needs
//! little more room than the data, and a disk that was full is of use again as soon as there is room.

use std::{path::PathBuf, sync::atomic::Ordering, time::Duration};

use super::SqliteStore;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// A log that has grown beyond this, once all of it is in the file, is cut, bytes.
pub(super) const LOG_KEPT_BYTES: u32 = 4 * 1024 * 1024;

/// Until the store is closed.
pub(super) async fn keep_log_short(store: SqliteStore, log: PathBuf) {
    let closed = store.writer.close_event();
    tokio::pin!(closed);
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = &mut closed => return,
        }
        if store.written.swap(false, Ordering::AcqRel)
            && let Err(error) = store.checkpoint(&log).await
        {
            // the next look is another try; a full disk is told by the commits that fail
            tracing::debug!(%error, "the database's log could not be shortened");
            store.written.store(true, Ordering::Release);
        }
    }
}

impl SqliteStore {
    /// Copies the log into the file, and cuts it when it is long. Readers are not waited for.
    async fn checkpoint(&self, log: &std::path::Path) -> Result<(), sqlx::Error> {
        let mut connection = self.writer.acquire().await?;
        let must_be_cut = tokio::fs::metadata(log)
            .await
            .is_ok_and(|found| found.len() > u64::from(LOG_KEPT_BYTES));
        let statement = if must_be_cut {
            "PRAGMA wal_checkpoint(TRUNCATE)"
        } else {
            "PRAGMA wal_checkpoint(PASSIVE)"
        };
        sqlx::query(statement).execute(&mut *connection).await?;
        Ok(())
    }
}
