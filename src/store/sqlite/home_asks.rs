//! Upgrades that wait for the word of a home: applications are told of each, after it was written.

use sqlx::SqliteConnection;

use super::{Doing, SqliteStore, bulk::json_list, events::Announcements};
use crate::{clock::UtcMillis, store::StoreError};

const ASKING: &str = "telling applications what waits for the word of a home";

/// Those of which nobody was told yet, task by task. A task that is being created asks nobody before it is whole: it is passed over as one.
const UNTOLD: &str = "WITH RECURSIVE asking (task) AS ( \
         SELECT MIN(task_id) FROM home_asks \
         UNION ALL SELECT (SELECT MIN(task_id) FROM home_asks WHERE task_id > asking.task) FROM asking WHERE asking.task IS NOT NULL) \
     SELECT a.upgrade_id FROM asking CROSS JOIN tasks t ON t.id = asking.task \
         CROSS JOIN home_asks a INDEXED BY home_asks_of_task ON a.task_id = t.id WHERE t.hidden = 0 LIMIT ?";

impl SqliteStore {
    /// Tells of up to so many. Returns how many were looked at.
    pub(super) async fn ask_some_homes(
        &self,
        limit: u32,
        now: UtcMillis,
    ) -> Result<u64, StoreError> {
        let found: Vec<i64> = sqlx::query_scalar(UNTOLD)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .doing(ASKING)?;
        if found.is_empty() {
            return Ok(0);
        }
        let mut tx = self.write(ASKING).await?;
        let untold: Vec<i64> = sqlx::query_scalar(
            "DELETE FROM home_asks WHERE upgrade_id IN (SELECT value FROM json_each(?)) RETURNING upgrade_id",
        )
        .bind(json_list(&found))
        .fetch_all(&mut *tx)
        .await
        .doing(ASKING)?;
        let mut announcements = Announcements::default();
        announcements
            .awaiting(&mut tx, &json_list(&untold), now)
            .await
            .doing(ASKING)?;
        announcements.deliver(&mut tx).await.doing(ASKING)?;
        tx.commit().await.doing(ASKING)?;
        Ok(found.len() as u64)
    }
}

/// These, a JSON list, wait again: the homes of those that are not confirmed are asked again.
pub(super) async fn ask_again(
    conn: &mut SqliteConnection,
    upgrades: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT OR IGNORE INTO home_asks (upgrade_id, task_id) SELECT u.id, u.task_id FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value \
             CROSS JOIN home_devices i ON i.endpoint = u.endpoint WHERE u.unconfirmed = 1",
    )
    .bind(upgrades)
    .execute(conn)
    .await
    .map(|_| ())
}
