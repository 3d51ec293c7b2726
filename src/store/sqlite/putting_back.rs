//! What the store holds after it was put back to an older state, as from a backup: what happened since is not known to it.

use super::{Doing as _, SqliteStore};
use crate::store::StoreError;

/// By so much the numbers are raised of which some may have been given since. They stay below 2^53 for longer than anybody restores
/// backups.
const SKIPPED: i64 = 10_000_000;

/// Tables whose numbers others know: applications, operators, and their scripts.
const NUMBERED: &str = "('api_tokens', 'deliveries', 'device_groups', 'events', 'packages', 'tasks', 'upgrades', 'users', 'webhooks')";

/// As [`Evidence::put_back`](crate::ledger::Evidence::put_back) has it.
const EVIDENCE: &str = "UPDATE devices SET evidence = (SELECT json_group_array(json_set(value, \
     '$.commanded', json('true'), '$.claimed', json('false'), '$.failed_in', NULL, '$.code', NULL) ORDER BY key) \
     FROM json_each(devices.evidence)) WHERE evidence IS NOT NULL";

impl SqliteStore {
    /// The store was put back to an older state. What devices had done by then no longer outranks what they say, and no number is
    /// given that may have been given since to something else. To do it twice does no harm.
    ///
    /// # Errors
    /// The database does not take it: nothing was changed.
    pub async fn was_put_back(&self) -> Result<(), StoreError> {
        let doing = "taking note of a restored backup";
        let mut transaction = self.write_unaudited(doing).await?;
        // a table has its row from its first insertion on
        let first = format!(
            "INSERT INTO sqlite_sequence (name, seq) SELECT name, 0 FROM sqlite_schema WHERE type = 'table' AND name IN {NUMBERED} \
             AND name NOT IN (SELECT name FROM sqlite_sequence)"
        );
        let raise = format!("UPDATE sqlite_sequence SET seq = seq + {SKIPPED} WHERE name IN {NUMBERED}");
        for statement in [EVIDENCE.to_owned(), first, raise] {
            sqlx::query(sqlx::AssertSqlSafe(statement))
                .execute(&mut *transaction)
                .await
                .doing(doing)?;
        }
        transaction.commit().await.doing(doing)
    }
}
