//! The standing task of an offer: it has no device until somebody at home starts an upgrade, and stands until it is stopped.

use sqlx::SqliteConnection;

use super::{
    Doing, events, rows,
    task_creation::{CREATING, insert_hidden},
    task_packages, tasks,
};
use crate::{
    ledger::{TaskId, TaskState},
    store::{CreateTaskError, Exclude, NewTask, NewWebhook, Selection, TaskRecord},
    task::Membership,
};

/// Creates one. Nobody joins it by himself, as it is for a list of devices: an empty one.
pub(super) async fn create(
    conn: &mut SqliteConnection,
    wanted: &NewTask,
) -> Result<TaskRecord, CreateTaskError> {
    let mut new = NewTask {
        selection: Selection::Devices(Vec::new()),
        exclude: Exclude::default(),
        ..wanted.clone()
    };
    new.rules.membership = Membership::Joining;
    task_packages::usable(conn, &new).await?;
    let start_at = new.start_at.unwrap_or(new.created_at).max(new.created_at);
    let task = insert_hidden(conn, &new, start_at).await.doing(CREATING)?;
    task_packages::link(conn, task, &new)
        .await
        .doing(CREATING)?;
    let state = if start_at > new.created_at {
        TaskState::Scheduled
    } else {
        TaskState::Running
    };
    sqlx::query("UPDATE tasks SET hidden = 0, state = ? WHERE id = ?")
        .bind(state.name())
        .bind(task.0)
        .execute(&mut *conn)
        .await
        .doing(CREATING)?;
    if let Some(webhook) = &new.webhook {
        let webhook = NewWebhook {
            task: Some(task),
            ..webhook.clone()
        };
        events::insert_webhook(conn, &webhook).await?;
    }
    read(conn, task).await
}

async fn read(conn: &mut SqliteConnection, task: TaskId) -> Result<TaskRecord, CreateTaskError> {
    let record = tasks::read(conn, task).await?;
    Ok(record.ok_or_else(|| rows::unreadable("tasks.id", task.0))?)
}
