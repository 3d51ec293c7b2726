use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    events::{self, Announcements},
    packages,
    rows::{self, Columns},
    tasks,
};
use crate::{
    clock::UtcMillis,
    store::{
        CreateTaskError, DeleteTaskError, NewTask, NewWebhook, PackageRecord, Selection,
        StopTaskError, StoreError, TaskRecord,
    },
    task::{TaskId, TaskState},
    upgrade::Outcome,
};

/// Endpoints that an error names.
const NAMED: usize = 5;

impl SqliteStore {
    /// See [`crate::store::Store::create_task`].
    pub(super) async fn insert_task(&self, new: &NewTask) -> Result<TaskRecord, CreateTaskError> {
        let doing = "creating a task";
        let mut tx = self.write(doing).await?;
        let package = usable_package(&mut tx, new).await?;
        let product = &package.package.product;
        if let Selection::Product(named) = &new.selection
            && named != product
        {
            return Err(CreateTaskError::OtherProduct {
                package: product.clone(),
                task: named.clone(),
            });
        }
        let endpoints = match &new.selection {
            Selection::Devices(endpoints) => Some(json_list(endpoints)),
            Selection::Product(_) | Selection::All => None,
        };
        if let Some(endpoints) = &endpoints {
            check_devices(&mut tx, endpoints, product).await?;
        }
        let start_at = new.start_at.unwrap_or(new.created_at).max(new.created_at);
        let state = if start_at > new.created_at {
            TaskState::Scheduled
        } else {
            TaskState::Running
        };
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO tasks (name, package_id, state, start_at, retry_attempts, retry_interval_s, \
                 created_at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        )
        .bind(&new.name)
        .bind(new.package.0)
        .bind(state.name())
        .bind(start_at.0)
        .bind(new.retry.attempts)
        .bind(new.retry.interval_s)
        .bind(new.created_at.0)
        .fetch_one(&mut *tx)
        .await
        .doing(doing)?;
        // without a list every device of the product is selected
        let created = sqlx::query(
            "INSERT INTO upgrades (task_id, endpoint, state, not_before, created_at) \
             SELECT ?1, endpoint, 'pending', ?2, ?3 FROM devices \
             WHERE removed = 0 AND product = ?4 \
                 AND (?5 IS NULL OR endpoint IN (SELECT value FROM json_each(?5))) \
             ORDER BY endpoint",
        )
        .bind(id)
        .bind(start_at.0)
        .bind(new.created_at.0)
        .bind(product)
        .bind(endpoints)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        if created.rows_affected() == 0 {
            return Err(CreateTaskError::NoDevices {
                product: product.clone(),
            });
        }
        if let Some(webhook) = &new.webhook {
            let webhook = NewWebhook {
                task: Some(TaskId(id)),
                ..webhook.clone()
            };
            events::insert_webhook(&mut tx, &webhook).await?;
        }
        let record = tasks::read(&mut tx, TaskId(id)).await?;
        tx.commit().await.doing(doing)?;
        record.ok_or_else(|| rows::unreadable("tasks.id", id).into())
    }

    /// See [`crate::store::Store::stop_task`].
    pub(super) async fn stop(
        &self,
        id: TaskId,
        now: UtcMillis,
    ) -> Result<TaskRecord, StopTaskError> {
        let doing = "stopping a task";
        let mut tx = self.write(doing).await?;
        match state(&mut tx, id).await? {
            None => return Err(StopTaskError::NotFound(id)),
            Some(TaskState::Finished) => return Err(StopTaskError::Finished(id)),
            Some(TaskState::Scheduled | TaskState::Running) => {
                let announcements = Announcements::begin(&mut tx).await.doing(doing)?;
                cancel_waiting(&mut tx, id, now).await.doing(doing)?;
                announcements.cancelled(&mut tx, id).await.doing(doing)?;
                sqlx::query("UPDATE tasks SET state = 'stopping', stopped_at = ? WHERE id = ?")
                    .bind(now.0)
                    .bind(id.0)
                    .execute(&mut *tx)
                    .await
                    .doing(doing)?;
                end_task_if_done(&mut tx, id, now, &announcements)
                    .await
                    .doing(doing)?;
                announcements.deliver(&mut tx).await.doing(doing)?;
            }
            Some(TaskState::Stopping | TaskState::Stopped) => {}
        }
        let record = tasks::read(&mut tx, id).await?;
        tx.commit().await.doing(doing)?;
        record.ok_or(StopTaskError::NotFound(id))
    }

    /// See [`crate::store::Store::delete_task`].
    pub(super) async fn drop_task(&self, id: TaskId) -> Result<(), DeleteTaskError> {
        let doing = "deleting a task";
        let mut tx = self.write(doing).await?;
        match state(&mut tx, id).await? {
            None => return Err(DeleteTaskError::NotFound(id)),
            Some(state) if state.is_running() => {
                return Err(DeleteTaskError::Running { id, state });
            }
            Some(_) => {}
        }
        sqlx::query("DELETE FROM tasks WHERE id = ?")
            .bind(id.0)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        // A deleted package was kept for the tasks that name it.
        sqlx::query(
            "DELETE FROM packages WHERE deleted_at IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM tasks WHERE package_id = packages.id)",
        )
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(())
    }
}

async fn usable_package(
    conn: &mut SqliteConnection,
    new: &NewTask,
) -> Result<PackageRecord, CreateTaskError> {
    let row = sqlx::query("SELECT * FROM packages WHERE id = ? AND deleted_at IS NULL")
        .bind(new.package.0)
        .fetch_optional(conn)
        .await
        .doing("reading a task's package")?
        .ok_or(CreateTaskError::PackageNotFound(new.package))?;
    let package = packages::record(&row)?;
    match package.superseded_at {
        Some(at) => Err(CreateTaskError::PackageSuperseded {
            package: new.package,
            at,
        }),
        None => Ok(package),
    }
}

/// Refuses a list that names a device that is not there or has another product.
async fn check_devices(
    conn: &mut SqliteConnection,
    endpoints: &str,
    product: &str,
) -> Result<(), CreateTaskError> {
    let wrong = sqlx::query(
        "SELECT DISTINCT j.value AS endpoint, d.product IS NULL AS unknown \
         FROM json_each(?) j LEFT JOIN devices d ON d.endpoint = j.value AND d.removed = 0 \
         WHERE d.product IS NULL OR d.product <> ? ORDER BY j.key",
    )
    .bind(endpoints)
    .bind(product)
    .fetch_all(conn)
    .await
    .doing("checking a task's devices")?;
    let mut unknown = Vec::new();
    let mut other_product = Vec::new();
    for row in &wrong {
        let endpoint: String = row.value("endpoint")?;
        if row.value("unknown")? {
            unknown.push(endpoint);
        } else {
            other_product.push(endpoint);
        }
    }
    let first_of = |mut endpoints: Vec<String>| {
        let count = endpoints.len() as u64;
        endpoints.truncate(NAMED);
        (count, endpoints)
    };
    if !unknown.is_empty() {
        let (count, first) = first_of(unknown);
        return Err(CreateTaskError::UnknownDevices { count, first });
    }
    if !other_product.is_empty() {
        let (count, first) = first_of(other_product);
        return Err(CreateTaskError::DevicesOfOtherProduct {
            product: product.to_owned(),
            count,
            first,
        });
    }
    Ok(())
}

async fn state(conn: &mut SqliteConnection, id: TaskId) -> Result<Option<TaskState>, StoreError> {
    sqlx::query("SELECT state FROM tasks WHERE id = ?")
        .bind(id.0)
        .fetch_optional(conn)
        .await
        .doing("reading a task's state")?
        .map(|row| rows::task_state(&row, "state"))
        .transpose()
}

async fn cancel_waiting(
    conn: &mut SqliteConnection,
    id: TaskId,
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    let outcome = Outcome::Cancelled;
    sqlx::query(
        "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, text) \
         SELECT id, ?, attempt, ?, ? FROM upgrades WHERE task_id = ? AND state = 'pending'",
    )
    .bind(now.0)
    .bind(outcome.state())
    .bind(outcome.to_string())
    .bind(id.0)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "UPDATE upgrades SET state = ?1, outcome_state = ?1, outcome_reason = ?2, outcome_detail = ?3, \
             outcome_at = ?4, ended_at = ?4 \
         WHERE task_id = ?5 AND state = 'pending'",
    )
    .bind(outcome.state())
    .bind(outcome.reason())
    .bind(outcome.to_string())
    .bind(now.0)
    .bind(id.0)
    .execute(&mut *conn)
    .await
    .map(|_| ())
}

/// The form in which a statement takes a list as one parameter.
fn json_list(endpoints: &[String]) -> String {
    serde_json::Value::from(endpoints).to_string()
}

/// Ends a task that has no upgrade left that waits or runs, and announces it.
pub(super) async fn end_task_if_done(
    conn: &mut SqliteConnection,
    task: TaskId,
    at: UtcMillis,
    announcements: &Announcements,
) -> Result<(), sqlx::Error> {
    let ended = sqlx::query(
        "UPDATE tasks SET state = CASE state WHEN 'stopping' THEN 'stopped' ELSE 'finished' END, ended_at = ?1 \
         WHERE id = ?2 AND state IN ('scheduled', 'running', 'stopping') AND NOT EXISTS ( \
             SELECT 1 FROM upgrades WHERE task_id = ?2 AND state IN ( \
                 'pending', 'waiting_for_device', 'querying_version', 'querying_coverage', \
                 'querying_cell', 'waiting_for_slot', 'downloading', 'executing'))",
    )
    .bind(at.0)
    .bind(task.0)
    .execute(&mut *conn)
    .await?;
    if ended.rows_affected() > 0 {
        announcements.task(conn, task).await?;
    }
    Ok(())
}
