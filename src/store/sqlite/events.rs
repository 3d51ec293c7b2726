//! Events and webhooks. What is written with an outcome is in functions of a transaction's connection.

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    event_rows::{self, DeliveryRow, DueRow, EventRow},
    packed::Packed,
    rows::{self, Columns},
    tenancy,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    home::{HomeId, OfferId},
    ledger::TaskId,
    store::{
        AddWebhookError, AttemptResult, Attempted, BusyWebhook, DeliveryId, DeliveryRecord,
        DeliveryState, DueDelivery, Event, Events, MAX_WEBHOOKS, MAX_WEBHOOKS_ALIKE, NewWebhook,
        Page, StoreError, WeakStart, WebhookId, WebhookRecord, kept::keep_secret,
    },
    task::Hold,
    tenant::TenantId,
    vault::Vault,
};

/// Key in `meta` of the number of the newest event that was deleted.
const FORGOTTEN: &str = "forgotten_event";

/// Events that a transaction writes, and their deliveries.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    /// Their numbers.
    events: Vec<i64>,
}

impl Announcements {
    /// Whether there is nothing to tell.
    pub(super) const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The upgrades, a JSON list, have ended. An outcome that was told is not told again.
    pub(super) async fn upgrades(
        &mut self,
        conn: &mut SqliteConnection,
        upgrades: &str,
    ) -> Result<(), sqlx::Error> {
        let told: Vec<i64> = sqlx::query_scalar(
            "INSERT INTO events (at, kind, task_id, task_name, product, version, upgrade_id, endpoint, attempts, \
                 reason, detail, arguments, cell, started_at, home) \
             SELECT u.ended_at, 'upgrade.' || u.state, t.id, t.name, p.product, p.version, u.id, u.endpoint, \
                 u.attempt, u.outcome_reason, u.outcome_detail, u.outcome_arguments, u.cell, u.started_at, \
                 IIF(EXISTS (SELECT 1 FROM devices d WHERE d.endpoint = u.endpoint AND d.removed = 0), \
                     (SELECT h.home FROM home_devices i CROSS JOIN homes h ON h.id = i.home_id WHERE i.endpoint = u.endpoint), \
                     u.home) \
             FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value CROSS JOIN tasks t ON t.id = u.task_id \
                 CROSS JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
             WHERE u.ended_at IS NOT NULL ORDER BY j.id ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(upgrades)
        .fetch_all(conn)
        .await?;
        self.events.extend(told);
        Ok(())
    }

    /// These have begun, a JSON list of numbers of upgrades and times: told of those whose device is in a home.
    pub(super) async fn begun(
        &mut self,
        conn: &mut SqliteConnection,
        begun: &str,
    ) -> Result<(), sqlx::Error> {
        let told: Vec<i64> = sqlx::query_scalar(
            "INSERT INTO events (at, kind, task_id, task_name, product, version, upgrade_id, endpoint, attempts, \
                 cell, started_at, home, stage) \
             SELECT j.value ->> 1, 'upgrade.started', t.id, t.name, p.product, p.version, u.id, u.endpoint, u.attempt, \
                 u.cell, u.started_at, h.home, IIF(u.phase = 1, u.state, NULL) \
             FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value ->> 0 CROSS JOIN tasks t ON t.id = u.task_id \
                 CROSS JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
                 CROSS JOIN home_devices i ON i.endpoint = u.endpoint CROSS JOIN homes h ON h.id = i.home_id \
             ORDER BY j.id ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(begun)
        .fetch_all(conn)
        .await?;
        self.events.extend(told);
        Ok(())
    }

    /// Of these, a JSON list, those wait for the word of a home that wait for one still.
    pub(super) async fn awaiting(
        &mut self,
        conn: &mut SqliteConnection,
        upgrades: &str,
        now: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        let told: Vec<i64> = sqlx::query_scalar(
            "INSERT INTO events (at, kind, task_id, task_name, product, version, upgrade_id, endpoint, attempts, home) \
             SELECT ?, 'upgrade.awaiting', t.id, t.name, p.product, p.version, u.id, u.endpoint, u.attempt, h.home \
             FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value CROSS JOIN tasks t ON t.id = u.task_id \
                 CROSS JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
                 CROSS JOIN home_devices i ON i.endpoint = u.endpoint CROSS JOIN homes h ON h.id = i.home_id \
             WHERE u.phase = 0 AND u.unconfirmed = 1 ORDER BY j.id ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(now.0)
        .bind(upgrades)
        .fetch_all(conn)
        .await?;
        self.events.extend(told);
        Ok(())
    }

    /// A start on a device in a home waits for the user's word.
    pub(super) async fn waits(
        &mut self,
        conn: &mut SqliteConnection,
        (home, endpoint): (&HomeId, &str),
        waits: &WeakStart,
        now: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        let told: Option<i64> = sqlx::query_scalar(
            "INSERT INTO events (at, kind, task_id, task_name, product, version, endpoint, arguments, home) \
             SELECT ?, 'start.waiting', t.id, t.name, o.product, o.version, ?, ?, ? \
             FROM offers o CROSS JOIN tasks t ON t.id = o.task_id WHERE o.id = ? RETURNING id",
        )
        .bind(now.0)
        .bind(endpoint)
        .bind(rows::json(waits))
        .bind(home.as_str())
        .bind(waits.offer.0)
        .fetch_optional(conn)
        .await?;
        self.events.extend(told);
        Ok(())
    }

    /// An offer has become visible to these homes, a JSON list of pairs: a home, and for how many of its devices the offer is.
    pub(super) async fn visible(
        &mut self,
        conn: &mut SqliteConnection,
        offer: OfferId,
        homes: &str,
        now: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        let told: Vec<i64> = sqlx::query_scalar(
            "INSERT INTO events (at, kind, task_id, task_name, product, version, arguments, home) \
             SELECT ?, 'offer.visible', t.id, t.name, o.product, o.version, \
                 json_object('offer', o.id, 'devices', j.value ->> 1), j.value ->> 0 \
             FROM json_each(?) j CROSS JOIN offers o ON o.id = ? CROSS JOIN tasks t ON t.id = o.task_id RETURNING id",
        )
        .bind(now.0)
        .bind(homes)
        .bind(offer.0)
        .fetch_all(conn)
        .await?;
        self.events.extend(told);
        Ok(())
    }

    /// The task has ended, if it has. Its counts are written.
    pub(super) async fn task(
        &mut self,
        conn: &mut SqliteConnection,
        task: TaskId,
    ) -> Result<(), sqlx::Error> {
        let told: Option<i64> = sqlx::query_scalar(
            "INSERT INTO events (at, kind, task_id, task_name, product, version, arguments, succeeded, failed, cancelled) \
             SELECT t.ended_at, 'task.' || t.state, t.id, t.name, p.product, p.version, IIF(t.state = 'stopped', t.hold, NULL), \
                 COALESCE((SELECT SUM(count) FROM task_counts WHERE task_id = t.id AND state = 'succeeded'), 0), \
                 COALESCE((SELECT SUM(count) FROM task_counts WHERE task_id = t.id AND state = 'failed'), 0), \
                 COALESCE((SELECT SUM(count) FROM task_counts WHERE task_id = t.id AND state = 'cancelled'), 0) \
             FROM tasks t JOIN packages p ON p.id = t.package_id \
             WHERE t.id = ? AND t.ended_at IS NOT NULL ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(task.0)
        .fetch_optional(conn)
        .await?;
        self.events.extend(told);
        Ok(())
    }

    /// The task begins no further upgrade.
    pub(super) async fn held(
        &mut self,
        conn: &mut SqliteConnection,
        task: TaskId,
        hold: &Hold,
    ) -> Result<(), sqlx::Error> {
        let told: Option<i64> = sqlx::query_scalar(
            "INSERT INTO events (at, kind, task_id, task_name, product, version, reason, arguments, \
                 succeeded, failed, cancelled) \
             SELECT ?, 'task.paused', t.id, t.name, p.product, p.version, ?, ?, \
                 COALESCE((SELECT SUM(count) FROM task_counts WHERE task_id = t.id AND state = 'succeeded'), 0), \
                 COALESCE((SELECT SUM(count) FROM task_counts WHERE task_id = t.id AND state = 'failed'), 0), \
                 COALESCE((SELECT SUM(count) FROM task_counts WHERE task_id = t.id AND state = 'cancelled'), 0) \
             FROM tasks t JOIN packages p ON p.id = t.package_id \
             WHERE t.id = ? ON CONFLICT DO NOTHING RETURNING id",
        )
        .bind(hold.at.0)
        .bind(hold.why.code())
        .bind(rows::json(hold))
        .bind(task.0)
        .fetch_optional(conn)
        .await?;
        self.events.extend(told);
        Ok(())
    }

    /// Call it after the transaction's last event: each webhook that is concerned gets its deliveries.
    pub(super) async fn deliver(self, conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if self.events.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO deliveries (webhook_id, event_id, state, next_at) \
             SELECT w.id, e.id, 'pending', e.at FROM json_each(?1) j CROSS JOIN events e ON e.id = j.value \
                 JOIN webhooks w ON w.task_id IS NULL AND (w.tenant IS NULL OR w.tenant = e.tenant) \
             UNION ALL \
             SELECT w.id, e.id, 'pending', e.at FROM json_each(?1) j CROSS JOIN events e ON e.id = j.value \
                 JOIN webhooks w ON w.task_id = e.task_id",
        )
        .bind(json_list(&self.events))
        .execute(conn)
        .await
        .map(|_| ())
    }
}

/// Adds a webhook if there is room.
pub(super) async fn insert_webhook(
    conn: &mut SqliteConnection,
    new: &NewWebhook,
) -> Result<WebhookId, AddWebhookError> {
    let doing = "adding a webhook";
    let task = new.task.map(|task| task.0);
    let mut tenant = new.tenant.as_ref().map(ToString::to_string);
    if let Some(task) = task {
        tenant = sqlx::query_scalar("SELECT tenant FROM tasks WHERE id = ?")
            .bind(task)
            .fetch_optional(&mut *conn)
            .await
            .doing(doing)?;
    } else if let Some(tenant) = &new.tenant {
        tenancy::check(conn, tenant).await?;
    }
    let (count, alike): (u32, u32) = sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM webhooks), (SELECT COUNT(*) FROM webhooks WHERE task_id IS ? AND tenant IS ?)",
    )
    .bind(task)
    .bind(&tenant)
    .fetch_one(&mut *conn)
    .await
    .doing(doing)?;
    if alike >= MAX_WEBHOOKS_ALIKE {
        return Err(AddWebhookError::TooManyAlike(alike));
    }
    if count >= MAX_WEBHOOKS && !make_room(conn).await.doing(doing)? {
        return Err(AddWebhookError::TooMany(count));
    }
    // it is sealed for its number, which is not known before
    let id = sqlx::query_scalar(
        "INSERT INTO webhooks (tenant, task_id, url, secret, created_at) VALUES (?, ?, ?, x'', ?) RETURNING id",
    )
    .bind(tenant)
    .bind(task)
    .bind(&new.url)
    .bind(new.created_at.0)
    .fetch_one(&mut *conn)
    .await
    .doing(doing)?;
    let id = WebhookId(id);
    let kept = keep_secret(id, &new.secret, new.vault.as_ref());
    let kept = kept.map_err(|source| StoreError::Failed {
        doing,
        source: Box::new(source),
    })?;
    sqlx::query("UPDATE webhooks SET secret = ? WHERE id = ?")
        .bind(kept)
        .bind(id.0)
        .execute(conn)
        .await
        .doing(doing)?;
    Ok(id)
}

/// Removes the oldest webhook that has told all it had to. Returns whether there was one.
async fn make_room(conn: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM webhooks WHERE id = (SELECT id FROM webhooks w WHERE w.task_id IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM tasks WHERE id = w.task_id AND ended_at IS NULL) \
             AND w.pending = 0 AND w.failed = 0 \
             ORDER BY w.id LIMIT 1)",
    )
    .execute(conn)
    .await?;
    Ok(removed.rows_affected() > 0)
}

const WEBHOOKS: &str = "SELECT id, tenant, task_id, url, created_at, pending, failed FROM webhooks \
     WHERE id > ?1 AND (?3 IS NULL OR tenant IN (SELECT j.value FROM json_each(?3) j)) ORDER BY id LIMIT ?2";

#[async_trait]
impl Events for SqliteStore {
    async fn events(
        &self,
        after: i64,
        task: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let query = match task {
            Some(task) => sqlx::query(event_rows::EVENTS_OF_TASK).bind(task.0),
            None => sqlx::query(event_rows::EVENTS),
        };
        Packed::fetch(
            query.bind(after).bind(limit),
            &self.readers,
            "reading events",
        )
        .await?
        .rows()
        .map(|row| row.and_then(EventRow::event))
        .collect()
    }

    async fn event_range(&self) -> Result<(i64, i64), StoreError> {
        let doing = "reading the range of events";
        let mut conn = self.readers.acquire().await.doing(doing)?;
        let forgotten = rows::number(&mut conn, FORGOTTEN).await?;
        let newest = sqlx::query_scalar(
            "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)",
        )
        .fetch_one(&mut *conn)
        .await
        .doing(doing)?;
        Ok((forgotten, newest))
    }

    async fn add_webhook(&self, new: &NewWebhook) -> Result<WebhookRecord, AddWebhookError> {
        let doing = "adding a webhook";
        let mut tx = self.write(doing).await?;
        if let Some(task) = new.task {
            let known: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM tasks WHERE id = ? AND hidden = 0)",
            )
            .bind(task.0)
            .fetch_one(&mut *tx)
            .await
            .doing(doing)?;
            if !known {
                return Err(AddWebhookError::NoTask(task));
            }
        }
        let id = insert_webhook(&mut tx, new).await?;
        let tenant: Option<String> = sqlx::query_scalar("SELECT tenant FROM webhooks WHERE id = ?")
            .bind(id.0)
            .fetch_one(&mut *tx)
            .await
            .doing(doing)?;
        tx.made(Table::Webhooks, id.0);
        tx.commit().await.doing(doing)?;
        Ok(WebhookRecord {
            id,
            tenant: tenant.and_then(|tenant| tenant.parse().ok()),
            task: new.task,
            url: new.url.clone(),
            created_at: new.created_at,
            pending: 0,
            failed: 0,
        })
    }

    async fn webhooks(
        &self,
        tenants: Option<&[TenantId]>,
        after: Option<WebhookId>,
        limit: u32,
    ) -> Result<Page<WebhookRecord>, StoreError> {
        let rows = sqlx::query(WEBHOOKS)
            .bind(after.map_or(0, |id| id.0))
            .bind(rows::one_more(limit))
            .bind(tenants.map(json_list))
            .fetch_all(&self.readers)
            .await
            .doing("listing webhooks")?;
        rows::page(&rows, limit, webhook)
    }

    async fn webhook(&self, id: WebhookId) -> Result<Option<WebhookRecord>, StoreError> {
        let after = WebhookId(id.0.saturating_sub(1));
        let found = self.webhooks(None, Some(after), 1).await?.items.pop();
        Ok(found.filter(|webhook| webhook.id == id))
    }

    async fn webhook_secret(&self, id: WebhookId) -> Result<Option<Vec<u8>>, StoreError> {
        sqlx::query_scalar("SELECT secret FROM webhooks WHERE id = ?")
            .bind(id.0)
            .fetch_optional(&self.readers)
            .await
            .doing("reading a webhook's secret")
    }

    async fn seal_webhook_secrets(&self, vault: &Vault) -> Result<usize, StoreError> {
        self.seal_secrets(vault).await
    }

    async fn remove_webhook(&self, id: WebhookId) -> Result<bool, StoreError> {
        let doing = "removing a webhook";
        let mut tx = self.write(doing).await?;
        tx.watch(Table::Webhooks, id.0).await.doing(doing)?;
        let removed = sqlx::query("DELETE FROM webhooks WHERE id = ?")
            .bind(id.0)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        if removed.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await.doing(doing)?;
        Ok(true)
    }

    async fn busy_webhooks(&self) -> Result<Vec<BusyWebhook>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM (SELECT w.id, w.url, w.secret, w.failing_since, \
                 (SELECT MIN(next_at) FROM deliveries WHERE webhook_id = w.id AND state = 'pending') AS due_at \
                 FROM webhooks w) \
             WHERE due_at IS NOT NULL ORDER BY due_at, id",
        )
        .fetch_all(&self.readers)
        .await
        .doing("looking for webhooks that are due")?;
        rows.iter()
            .map(|row| {
                Ok(BusyWebhook {
                    id: WebhookId(row.int("id")?),
                    url: row.value("url")?,
                    secret: row.value("secret")?,
                    due_at: row.time("due_at")?,
                    failing_since: row.maybe_time("failing_since")?,
                })
            })
            .collect()
    }

    async fn due_deliveries(
        &self,
        webhook: WebhookId,
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let query = sqlx::query(event_rows::DUE)
            .bind(webhook.0)
            .bind(now.0)
            .bind(limit);
        Packed::fetch(query, &self.readers, "looking for deliveries that are due")
            .await?
            .rows()
            .map(|row| row.and_then(DueRow::due))
            .collect()
    }

    async fn last_due(
        &self,
        webhook: WebhookId,
        now: UtcMillis,
    ) -> Result<Option<DueDelivery>, StoreError> {
        let query = sqlx::query(event_rows::LAST_DUE)
            .bind(webhook.0)
            .bind(now.0);
        let doing = "looking for the last delivery that is due";
        Packed::fetch(query, &self.readers, doing)
            .await?
            .rows()
            .next()
            .map(|row| row.and_then(DueRow::due))
            .transpose()
    }

    async fn record_attempts(&self, attempts: &[Attempted]) -> Result<(), StoreError> {
        let doing = "recording deliveries";
        let mut tx = self.write(doing).await?;
        for attempted in attempts {
            let (state, next_at, error) = match &attempted.result {
                AttemptResult::Delivered => (DeliveryState::Delivered, None, None),
                AttemptResult::Again { at, error } => {
                    (DeliveryState::Pending, Some(at.0), Some(error))
                }
                AttemptResult::GivenUp { error } => (DeliveryState::Failed, None, Some(error)),
            };
            sqlx::query(
                "UPDATE deliveries SET state = ?2, attempts = attempts + 1, next_at = COALESCE(?3, next_at), \
                     first_at = COALESCE(first_at, ?4), last_at = ?4, last_error = COALESCE(?5, last_error), \
                     ended_at = CASE ?2 WHEN 'pending' THEN NULL ELSE ?4 END \
                 WHERE id = ?1 AND state = 'pending' AND round = ?6",
            )
            .bind(attempted.delivery.0)
            .bind(state.name())
            .bind(next_at)
            .bind(attempted.at.0)
            .bind(error)
            .bind(attempted.round)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
            sqlx::query(
                "UPDATE webhooks SET failing_since = CASE WHEN ?2 THEN NULL ELSE ?3 END \
                 WHERE id = (SELECT webhook_id FROM deliveries WHERE id = ?1) AND (failing_since IS NULL) <> ?2",
            )
            .bind(attempted.delivery.0)
            .bind(attempted.works)
            .bind(attempted.at.0)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        }
        tx.commit().await.doing(doing)
    }

    async fn give_up(
        &self,
        webhook: WebhookId,
        due_before: UtcMillis,
        now: UtcMillis,
        error: &str,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let doing = "giving deliveries up";
        let mut tx = self.write(doing).await?;
        let given_up = sqlx::query(
            "UPDATE deliveries SET state = 'failed', last_error = ?4, ended_at = ?3 WHERE id IN ( \
                 SELECT id FROM deliveries WHERE webhook_id = ?1 AND state = 'pending' AND next_at < ?2 \
                 ORDER BY next_at, id LIMIT ?5)",
        )
        .bind(webhook.0)
        .bind(due_before.0)
        .bind(now.0)
        .bind(error)
        .bind(limit)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(given_up.rows_affected())
    }

    async fn deliveries(
        &self,
        webhook: WebhookId,
        state: Option<DeliveryState>,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Page<DeliveryRecord>, StoreError> {
        let query = match state {
            None => sqlx::query(event_rows::DELIVERIES),
            Some(_) => sqlx::query(event_rows::DELIVERIES_IN_STATE),
        };
        let mut query = query
            .bind(webhook.0)
            .bind(before.map_or(i64::MAX, |id| id.0))
            .bind(rows::one_more(limit));
        if let Some(state) = state {
            query = query.bind(state.name());
        }
        Packed::fetch(query, &self.readers, "listing deliveries")
            .await?
            .page(limit, DeliveryRow::record)
    }

    async fn replay(
        &self,
        webhook: WebhookId,
        delivery: Option<DeliveryId>,
        now: UtcMillis,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let doing = "replaying deliveries";
        let mut tx = self.write(doing).await?;
        if let Some(delivery) = delivery {
            tx.watch(Table::Deliveries, delivery.0).await.doing(doing)?;
        }
        let replayed = sqlx::query(
            "UPDATE deliveries SET state = 'pending', round = round + 1, attempts = 0, next_at = ?3, first_at = NULL, \
                 ended_at = NULL \
             WHERE id IN (SELECT id FROM deliveries WHERE webhook_id = ?1 \
                 AND (id = ?2 OR ?2 IS NULL AND state = 'failed') ORDER BY id LIMIT ?4)",
        )
        .bind(webhook.0)
        .bind(delivery.map(|delivery| delivery.0))
        .bind(now.0)
        .bind(limit)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        if replayed.rows_affected() == 0 {
            return Ok(0);
        }
        tx.count("replayed", replayed.rows_affected());
        tx.commit().await.doing(doing)?;
        Ok(replayed.rows_affected())
    }

    async fn forget_events(&self, before: UtcMillis, limit: u32) -> Result<u64, StoreError> {
        let doing = "forgetting old events";
        let mut tx = self.write(doing).await?;
        let mut forgotten = 0;
        for statement in [
            "DELETE FROM deliveries WHERE id IN ( \
                 SELECT id FROM deliveries WHERE state <> 'pending' AND ended_at < ?1 ORDER BY ended_at LIMIT ?2)",
            "DELETE FROM webhooks WHERE id IN (SELECT id FROM webhooks w WHERE w.created_at < ?1 \
                 AND w.task_id IS NOT NULL \
                 AND NOT EXISTS (SELECT 1 FROM tasks WHERE id = w.task_id AND ended_at IS NULL) \
                 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE webhook_id = w.id) LIMIT ?2)",
        ] {
            let deleted = sqlx::query(statement)
                .bind(before.0)
                .bind(limit)
                .execute(&mut *tx)
                .await
                .doing(doing)?;
            forgotten += deleted.rows_affected();
        }
        let events: Vec<i64> = sqlx::query_scalar(
            "DELETE FROM events WHERE id IN (SELECT id FROM events e WHERE e.at < ?1 AND NOT EXISTS ( \
                 SELECT 1 FROM deliveries WHERE event_id = e.id) ORDER BY e.at LIMIT ?2) RETURNING id",
        )
        .bind(before.0)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await
        .doing(doing)?;
        if let Some(newest) = events.iter().max() {
            let newest = rows::number(&mut tx, FORGOTTEN).await?.max(*newest);
            rows::set_number(&mut tx, FORGOTTEN, newest)
                .await
                .doing(doing)?;
        }
        tx.commit().await.doing(doing)?;
        Ok(forgotten + events.len() as u64)
    }
}

fn webhook(row: &SqliteRow) -> Result<WebhookRecord, StoreError> {
    Ok(WebhookRecord {
        id: WebhookId(row.int("id")?),
        tenant: tenancy::maybe_id(row, "tenant")?,
        task: row.maybe_int("task_id")?.map(TaskId),
        url: row.value("url")?,
        created_at: row.time("created_at")?,
        pending: row.int("pending")?,
        failed: row.int("failed")?,
    })
}
