//! The ends of tasks. Both take parts of a task at a time, each in a transaction of its own, so that others get their
//! turn at the writer meanwhile. A crash in between leaves a task that is stopping, or hidden: the next start goes on.

use std::{future::Future, sync::Arc, time::Duration};

use sqlx::SqliteConnection;

use super::{
    Doing, PART, SqliteStore,
    cancel::cancel_waiting,
    counts,
    events::Announcements,
    rows::{self, Columns as _},
    task_packages, tasks,
    watched::Table,
};
use crate::{
    audit::{Entry, EntryResult},
    clock::UtcMillis,
    ledger::{Cancellation, TaskId, TaskState},
    store::{Acting, AuditLog as _, StopTaskError, StoreError, TaskRecord},
};

pub(super) const STOPPING: &str = "stopping a task";
pub(super) const DELETING: &str = "deleting a task";

impl SqliteStore {
    pub(super) async fn stop_in_parts(
        &self,
        id: TaskId,
        now: UtcMillis,
        by: StoppedBy,
    ) -> Result<TaskRecord, StopTaskError> {
        loop {
            let mut tx = self.write(STOPPING).await?;
            tx.watch(Table::Tasks, id.0).await.doing(STOPPING)?;
            let more = match state(&mut tx, id).await? {
                None => return Err(StopTaskError::NotFound(id)),
                Some(TaskState::Finished) => return Err(StopTaskError::Finished(id)),
                Some(TaskState::Scheduled | TaskState::Running | TaskState::Stopping) => {
                    stop_part(&mut tx, id, now, by).await?
                }
                Some(TaskState::Stopped) => false,
            };
            let record = if more {
                None
            } else {
                let record = tasks::read(&mut tx, id).await?;
                Some(record.ok_or(StopTaskError::NotFound(id))?)
            };
            if let Some(record) = record {
                tx.commit().await.doing(STOPPING)?;
                return Ok(record);
            }
            tx.commit_part().await.doing(STOPPING)?;
        }
    }

    /// Removes a hidden task now, or as soon as the database lets it.
    pub(super) async fn purge_for_sure(&self, id: TaskId) {
        const AFTER_ERROR: Duration = Duration::from_secs(5);
        let Err(error) = self.purge(id).await else {
            return;
        };
        tracing::warn!(%error, task = id.0, "a task cannot be removed from the database; trying again");
        let store = self.clone();
        tokio::spawn(async move {
            while !store.writer.is_closed() {
                tokio::time::sleep(AFTER_ERROR).await;
                if store.purge(id).await.is_ok() {
                    return;
                }
            }
        });
    }

    /// Removes a hidden task.
    pub(super) async fn purge(&self, id: TaskId) -> Result<(), StoreError> {
        loop {
            let mut tx = self.write(DELETING).await?;
            let more = purge_part(&mut tx, id).await.doing(DELETING)?;
            if !more {
                return tx.commit().await.doing(DELETING);
            }
            tx.commit_part().await.doing(DELETING)?;
        }
    }

    /// Runs something to its end, also when nobody waits for the answer any more: half of it would stay until the
    /// next start.
    pub(super) async fn to_the_end<T, E>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let carried = match Acting::current() {
            Some(acting) => tokio::spawn(self.clone().carry(acting, work)),
            None => tokio::spawn(work),
        };
        carried.await.unwrap_or_else(|error| {
            Err(E::from(StoreError::Failed {
                doing,
                source: Box::new(error),
            }))
        })
    }
}

impl SqliteStore {
    /// Runs something in a task of its own, on somebody's behalf. If nobody waits for it at its end, it is ended here.
    fn carry<T>(
        self,
        acting: Arc<Acting>,
        work: impl Future<Output = T>,
    ) -> impl Future<Output = T> {
        acting.carry();
        async move {
            let done = acting.scope(work).await;
            if acting.carried() {
                let entry = Entry {
                    result: EntryResult::Interrupted,
                    ..acting.entry()
                };
                if let Err(error) = self.end_act(&acting, &entry).await {
                    tracing::warn!(%error, "what was interrupted is not in the audit log before the next start");
                }
            }
            done
        }
    }
}

/// Who stops a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoppedBy {
    /// A threshold of its failures, which holds it already.
    Failures,
    /// An operator.
    Somebody {
        /// What holds a slot goes on to its end.
        soft: bool,
    },
}

/// Stops a task that is not stopped yet, and cancels some of the upgrades that wait. Returns whether more may wait. One that was
/// stopped `soft` may be stopped once more, but not the other way round. Why it stopped by itself stays with it; why it was
/// paused does not.
pub(super) async fn stop_part(
    conn: &mut SqliteConnection,
    id: TaskId,
    now: UtcMillis,
    by: StoppedBy,
) -> Result<bool, StoreError> {
    let stopped_at = sqlx::query_scalar(
        "UPDATE tasks SET soft_stop = ?1 AND (soft_stop OR state <> 'stopping'), state = 'stopping', \
             stopped_at = COALESCE(stopped_at, ?2), hold = IIF(?4 AND state <> 'stopping', NULL, hold) \
         WHERE id = ?3 RETURNING stopped_at",
    )
    .bind(by == StoppedBy::Somebody { soft: true })
    .bind(now.0)
    .bind(id.0)
    .bind(by != StoppedBy::Failures)
    .fetch_one(&mut *conn)
    .await
    .map(UtcMillis)
    .doing(STOPPING)?;
    let mut announcements = Announcements::default();
    let cancelled = cancel_part(conn, id, stopped_at, &mut announcements)
        .await
        .doing(STOPPING)?;
    let more = cancelled == PART as usize;
    if !more {
        counts::end_task_if_done(conn, id, stopped_at, &mut announcements)
            .await
            .doing(STOPPING)?;
    }
    announcements.deliver(conn).await.doing(STOPPING)?;
    Ok(more)
}

/// Cancels some upgrades that wait. Returns how many.
async fn cancel_part(
    conn: &mut SqliteConnection,
    task: TaskId,
    at: UtcMillis,
    announcements: &mut Announcements,
) -> Result<usize, sqlx::Error> {
    let waiting: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM upgrades WHERE task_id = ? AND state = 'pending' ORDER BY id LIMIT ?",
    )
    .bind(task.0)
    .bind(PART)
    .fetch_all(&mut *conn)
    .await?;
    let why = Cancellation::TaskStopped;
    cancel_waiting(conn, task, &waiting, why, at, announcements).await?;
    Ok(waiting.len())
}

/// Deletes some of a hidden task's upgrades with their timelines, and the task after the last. Returns whether more
/// follow.
pub(super) async fn purge_part(
    conn: &mut SqliteConnection,
    task: TaskId,
) -> Result<bool, sqlx::Error> {
    // The commit that showed it may have worked although it was said to have failed.
    let hidden: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tasks WHERE id = ? AND hidden = 1)")
            .bind(task.0)
            .fetch_one(&mut *conn)
            .await?;
    if !hidden {
        return Ok(false);
    }
    let deleted = sqlx::query(
        "DELETE FROM upgrades WHERE id IN (SELECT id FROM upgrades WHERE task_id = ? LIMIT ?)",
    )
    .bind(task.0)
    .bind(PART)
    .execute(&mut *conn)
    .await?;
    if deleted.rows_affected() == u64::from(PART) {
        return Ok(true);
    }
    task_packages::delete_task(conn, task).await?;
    Ok(false)
}

/// Where a task that is not hidden stands.
pub(super) async fn state(
    conn: &mut SqliteConnection,
    id: TaskId,
) -> Result<Option<TaskState>, StoreError> {
    sqlx::query("SELECT state FROM tasks WHERE id = ? AND hidden = 0")
        .bind(id.0)
        .fetch_optional(conn)
        .await
        .doing("reading a task's state")?
        .map(|row| rows::task_state(row.value("state")?))
        .transpose()
}
