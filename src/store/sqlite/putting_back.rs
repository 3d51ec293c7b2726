//! What the store holds after it was put back to an older state, as from a backup: what happened since is not known to it.

use super::{Doing as _, SqliteStore};
use crate::{clock::UtcMillis, ledger::MAX_VERSIONS, store::StoreError};

/// By so much the numbers are raised of which some may have been given since. They stay below 2^53 for longer than anybody restores
/// backups.
const SKIPPED: i64 = 10_000_000;

/// Tables whose numbers others know: applications, operators, and their scripts.
const NUMBERED: &str = "('api_tokens', 'deliveries', 'device_groups', 'events', 'packages', 'tasks', 'upgrades', 'users', 'webhooks')";

/// Evidence becomes what [`Evidence::put_back`](crate::ledger::Evidence::put_back) makes of it. What else a device may have been offered,
/// a version of a task that has not ended for it, is unknown from then on, as far as there is room.
const EVIDENCE: &str = "WITH offers (endpoint, version, number) AS ( \
         SELECT u.endpoint, p.version, MIN(p.id) FROM upgrades u JOIN tasks t ON t.id = u.task_id \
         JOIN packages p ON p.id = t.package_id \
             OR p.id IN (SELECT k.package_id FROM task_packages k WHERE k.task_id = t.id) \
         WHERE u.phase < 2 GROUP BY 1, 2), \
     lines (endpoint, part, number, line) AS ( \
         SELECT d.endpoint, 0, e.key, json_set(e.value, '$.commanded', json('true'), '$.claimed', json('false'), \
             '$.failed_in', NULL, '$.code', NULL) FROM devices d, json_each(d.evidence) e WHERE d.evidence IS NOT NULL \
         UNION ALL \
         SELECT o.endpoint, 1, o.number, json_object('version', o.version, 'taken', json('false'), 'commanded', json('true'), \
             'claimed', json('false'), 'failed_in', NULL, 'code', NULL, 'at', ?) FROM offers o JOIN devices d ON d.endpoint = o.endpoint \
         WHERE o.version NOT IN (SELECT e.value ->> '$.version' FROM json_each(COALESCE(d.evidence, '[]')) e)), \
     ranked AS (SELECT *, ROW_NUMBER() OVER (PARTITION BY endpoint ORDER BY part, number) AS rank FROM lines), \
     v (endpoint, evidence) AS ( \
         SELECT endpoint, json_group_array(json(line) ORDER BY part DESC, rank) FROM ranked WHERE rank <= ? GROUP BY endpoint) \
     UPDATE devices SET evidence = v.evidence FROM v WHERE devices.endpoint = v.endpoint";

impl SqliteStore {
    /// The store was put back to an older state. What devices had done by then no longer outranks what they say, nor do they say what
    /// they run as if nothing had been done since; and no number is given that may have been given since to something else. To do
    /// it twice does no harm.
    ///
    /// # Errors
    /// The database does not take it: nothing was changed.
    pub async fn was_put_back(&self, now: UtcMillis) -> Result<(), StoreError> {
        let doing = "taking note of a restored backup";
        let mut transaction = self.write_unaudited(doing).await?;
        sqlx::query(EVIDENCE)
            .bind(now.0)
            .bind(i64::try_from(MAX_VERSIONS).unwrap_or(i64::MAX))
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        // a table has its row from its first insertion on
        let first = format!(
            "INSERT INTO sqlite_sequence (name, seq) SELECT name, 0 FROM sqlite_schema WHERE type = 'table' AND name IN {NUMBERED} \
             AND name NOT IN (SELECT name FROM sqlite_sequence)"
        );
        let raise =
            format!("UPDATE sqlite_sequence SET seq = seq + {SKIPPED} WHERE name IN {NUMBERED}");
        for statement in [first, raise] {
            sqlx::query(sqlx::AssertSqlSafe(statement))
                .execute(&mut *transaction)
                .await
                .doing(doing)?;
        }
        transaction.commit().await.doing(doing)
    }
}
