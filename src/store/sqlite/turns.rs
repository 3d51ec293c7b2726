//! Whose device is free: `upgrades.free` says it of each upgrade that waits, so that nobody looks past upgrades whose device is
//! busy or excluded, whose owner has not confirmed it, or that follow one that has not succeeded.

use sqlx::SqliteConnection;

/// Says anew whose devices are free, of these, a JSON list. Call it after upgrades or exclusions of them began
/// or ended.
pub(super) async fn settle(
    conn: &mut SqliteConnection,
    endpoints: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE upgrades AS u INDEXED BY upgrades_waiting_on SET free = NOT u.free \
         WHERE u.phase = 0 AND u.endpoint IN (SELECT value FROM json_each(?)) \
             AND u.free = (EXISTS (SELECT 1 FROM upgrades r WHERE r.endpoint = u.endpoint AND r.phase = 1) \
                 OR EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = u.endpoint) OR u.unconfirmed = 1 \
                 OR EXISTS (SELECT 1 FROM upgrades b WHERE b.id = u.after_id AND b.state <> 'succeeded'))",
    )
    .bind(endpoints)
    .execute(conn)
    .await
    .map(|_| ())
}
