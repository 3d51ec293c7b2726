//! Whose turn it is on a device: `upgrades.next` says it, so that the rollout need not look past upgrades whose device
//! is busy.

use sqlx::SqliteConnection;

/// Whether it is the turn of `u`, an upgrade that waits.
macro_rules! its_turn {
    () => {
        "(NOT EXISTS (SELECT 1 FROM upgrades r WHERE r.endpoint = u.endpoint AND r.phase = 1) \
         AND NOT EXISTS (SELECT 1 FROM upgrades w WHERE w.endpoint = u.endpoint AND w.phase = 0 \
             AND (w.not_before, w.id) < (u.not_before, u.id)))"
    };
}

/// Says anew whose turn it is on these devices, a JSON list. Call it after upgrades of them began, ended, were added
/// or were deleted.
pub(super) async fn settle(
    conn: &mut SqliteConnection,
    endpoints: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(concat!(
        "UPDATE upgrades AS u INDEXED BY upgrades_waiting_on SET next = NOT u.next \
         WHERE u.phase = 0 AND u.endpoint IN (SELECT value FROM json_each(?)) AND u.next <> ",
        its_turn!()
    ))
    .bind(endpoints)
    .execute(conn)
    .await
    .map(|_| ())
}
