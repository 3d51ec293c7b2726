//! Which tasks are about to do the same twice.

use std::collections::BTreeMap;

use super::{Doing, SqliteStore, rows::Columns};
use crate::{
    ledger::TaskId,
    store::{Overlap, Overlaps, StoreError},
};

const DOING: &str = "looking for overlaps of a task";

/// Other tasks that are looked at: more with one package are not under way at once.
const MAX_TASKS: i64 = 1_000;

impl SqliteStore {
    /// See [`crate::store::Store::overlaps`].
    ///
    /// As a rule there is no other task with the package, and no upgrade is looked at.
    pub(super) async fn overlaps_of(
        &self,
        task: TaskId,
        limit: u32,
    ) -> Result<Overlaps, StoreError> {
        let mut conn = self.readers.acquire().await.doing(DOING)?;
        let others = sqlx::query(
            "SELECT o.id, o.name FROM tasks t CROSS JOIN tasks o INDEXED BY tasks_by_package \
                 ON o.package_id = t.package_id AND o.state IN ('scheduled', 'running') \
             WHERE t.id = ? AND o.id <> t.id AND o.hidden = 0 LIMIT ?",
        )
        .bind(task.0)
        .bind(MAX_TASKS)
        .fetch_all(&mut *conn)
        .await
        .doing(DOING)?;
        let mut names = BTreeMap::<i64, String>::new();
        for row in &others {
            names.insert(row.int("id")?, row.value("name")?);
        }
        if names.is_empty() {
            return Ok(Overlaps::default());
        }
        let found = sqlx::query(
            "SELECT o.task_id, COUNT(*) AS devices FROM upgrades n INDEXED BY upgrades_by_task \
                 CROSS JOIN upgrades o INDEXED BY upgrades_of_device ON o.endpoint = n.endpoint \
                 CROSS JOIN tasks t ON t.id = o.task_id CROSS JOIN tasks own ON own.id = n.task_id \
             WHERE n.task_id = ? AND n.phase < 2 AND o.phase < 2 AND o.task_id <> n.task_id \
                 AND t.package_id = own.package_id AND t.state IN ('scheduled', 'running') AND t.hidden = 0 \
             GROUP BY o.task_id",
        )
        .bind(task.0)
        .fetch_all(&mut *conn)
        .await
        .doing(DOING)?;
        let mut tasks = Vec::new();
        for row in &found {
            let id = row.int("task_id")?;
            if let Some(name) = names.remove(&id) {
                tasks.push(Overlap {
                    id: TaskId(id),
                    name,
                    devices: row.int("devices")?,
                });
            }
        }
        let devices = match &*tasks {
            [] => 0,
            [only] => only.devices,
            _ => {
                let devices: i64 = sqlx::query_scalar(
                    "SELECT COUNT(*) FROM upgrades n INDEXED BY upgrades_by_task \
                     WHERE n.task_id = ?1 AND n.phase < 2 AND EXISTS ( \
                         SELECT 1 FROM upgrades o INDEXED BY upgrades_of_device CROSS JOIN tasks t ON t.id = o.task_id \
                         WHERE o.endpoint = n.endpoint AND o.phase < 2 AND o.task_id <> ?1 AND t.hidden = 0 \
                             AND t.package_id = (SELECT package_id FROM tasks WHERE id = ?1) \
                             AND t.state IN ('scheduled', 'running'))",
                )
                .bind(task.0)
                .fetch_one(&mut *conn)
                .await
                .doing(DOING)?;
                devices.unsigned_abs()
            }
        };
        tasks.sort_by_key(|task| std::cmp::Reverse(task.id.0));
        tasks.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Overlaps { devices, tasks })
    }
}
