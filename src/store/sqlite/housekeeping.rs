//! Keeps the database's log short in time: what was committed goes into the file within seconds, so that a small disk needs
//! little more room than the data, and a disk that was full is of use again as soon as there is room.

use std::{sync::atomic::Ordering, time::Duration};

use super::SqliteStore;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// A log that has grown beyond this is cut when it begins anew (`journal_size_limit`), bytes.
pub(super) const LOG_KEPT_BYTES: u32 = 4 * 1024 * 1024;

/// Until the store is closed.
pub(super) async fn keep_log_short(store: SqliteStore) {
    let closed = store.writer.close_event();
    tokio::pin!(closed);
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = &mut closed => return,
        }
        if store.written.swap(false, Ordering::AcqRel)
            && let Err(error) = store.checkpoint().await
        {
            // the next look is another try; a full disk is told by the commits that fail
            tracing::debug!(%error, "the database's log could not be shortened");
            store.written.store(true, Ordering::Release);
        }
    }
}

impl SqliteStore {
    /// Copies the log into the file, as far as no reader needs what stands there. What is written next begins the log anew,
    /// and cuts it.
    async fn checkpoint(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.writer.acquire().await?;
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
            .execute(&mut *connection)
            .await?;
        Ok(())
    }
}
