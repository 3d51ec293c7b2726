//! The packages of tasks.

use std::collections::BTreeSet;

use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    papers, products,
    rows::{self, Columns as _},
};
use crate::{
    ledger::{PackageId, TaskId, TaskState},
    package::Version,
    store::{ChangeTaskError, CreateTaskError, NewTask, PackageRecord, StoreError, TaskPackages},
};

const CHECKING: &str = "reading a task's packages";

impl SqliteStore {
    pub(super) async fn read_task_packages(
        &self,
        task: TaskId,
    ) -> Result<Option<TaskPackages>, StoreError> {
        let row = sqlx::query("SELECT package_id, packages FROM tasks WHERE id = ?")
            .bind(task.0)
            .fetch_optional(&self.readers)
            .await
            .doing(CHECKING)?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(TaskPackages {
            first: PackageId(row.int("package_id")?),
            rules: rows::from_json(&row, "packages")?.unwrap_or_default(),
        }))
    }
}

/// The package of a task that is to be created, or its first one, if all can be used together.
pub(super) async fn usable(
    conn: &mut SqliteConnection,
    new: &NewTask,
) -> Result<PackageRecord, CreateTaskError> {
    let first = usable_one(conn, new.package).await?;
    let mut versions: Vec<Version> = Vec::with_capacity(new.packages.packages.len());
    for (i, rule) in new.packages.packages.iter().enumerate() {
        let package = usable_one(conn, rule.package_id).await?.package;
        if package.product != first.package.product {
            return Err(CreateTaskError::PackagesOfOtherProducts {
                index: i,
                product: package.product,
                first: first.package.product,
            });
        }
        versions.push(package.version);
    }
    (new.packages.check_steps(&versions)).map_err(CreateTaskError::Packages)?;
    Ok(first)
}

async fn usable_one(
    conn: &mut SqliteConnection,
    id: PackageId,
) -> Result<PackageRecord, CreateTaskError> {
    let row = sqlx::query("SELECT * FROM packages WHERE id = ? AND deleted_at IS NULL")
        .bind(id.0)
        .fetch_optional(&mut *conn)
        .await
        .doing(CHECKING)?
        .ok_or(CreateTaskError::PackageNotFound(id))?;
    let package = papers::record(&row)?;
    match package.superseded_at {
        Some(at) => Err(CreateTaskError::PackageSuperseded { package: id, at }),
        None => vouched_for(conn, package).await,
    }
}

/// Whether a task may take upgrades up again: all of its packages are there, and if it has finished, they are vouched for as those
/// of a new task are. A task that has not goes on with what it has.
///
/// # Errors
/// One was deleted, is not signed though its product asks for that, or its key was removed.
pub(super) async fn may_serve_again(
    conn: &mut SqliteConnection,
    task: TaskId,
    state: Option<TaskState>,
) -> Result<(), ChangeTaskError> {
    if is_gone(conn, task).await.doing(CHECKING)? {
        return Err(ChangeTaskError::PackageDeleted(task));
    }
    if state != Some(TaskState::Finished) {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT p.* FROM tasks t CROSS JOIN packages p ON p.id = t.package_id WHERE t.id = ?1 \
         UNION ALL \
         SELECT p.* FROM task_packages u CROSS JOIN packages p ON p.id = u.package_id WHERE u.task_id = ?1",
    )
    .bind(task.0)
    .fetch_all(&mut *conn)
    .await
    .doing(CHECKING)?;
    for row in &rows {
        let vouched = vouched_for(conn, papers::record(row)?).await;
        vouched.map_err(|error| match error {
            CreateTaskError::Store(error) => error.into(),
            error => ChangeTaskError::NotVouched(Box::new(error)),
        })?;
    }
    Ok(())
}

/// A package that somebody still vouches for, or for which nobody has to.
async fn vouched_for(
    conn: &mut SqliteConnection,
    package: PackageRecord,
) -> Result<PackageRecord, CreateTaskError> {
    let product = products::read(conn, &package.package.product).await?;
    product.signatures.vouched(package)
}

/// Has the packages stay that a new task names besides the first.
pub(super) async fn link(
    conn: &mut SqliteConnection,
    task: TaskId,
    new: &NewTask,
) -> Result<(), sqlx::Error> {
    let packages = new.packages.packages.iter().map(|rule| rule.package_id.0);
    let packages: BTreeSet<i64> = packages.collect();
    sqlx::query(
        "INSERT INTO task_packages (package_id, task_id) SELECT j.value, ? FROM json_each(?) j",
    )
    .bind(task.0)
    .bind(json_list(packages))
    .execute(conn)
    .await
    .map(drop)
}

/// Deletes a hidden task, and the deleted packages that were kept for it alone.
pub(super) async fn delete_task(
    conn: &mut SqliteConnection,
    task: TaskId,
) -> Result<(), sqlx::Error> {
    let mut packages: Vec<i64> =
        sqlx::query_scalar("SELECT package_id FROM task_packages WHERE task_id = ?")
            .bind(task.0)
            .fetch_all(&mut *conn)
            .await?;
    let first: Option<i64> =
        sqlx::query_scalar("DELETE FROM tasks WHERE id = ? RETURNING package_id")
            .bind(task.0)
            .fetch_optional(&mut *conn)
            .await?;
    packages.extend(first);
    sqlx::query(
        "DELETE FROM packages WHERE id IN (SELECT j.value FROM json_each(?) j) AND deleted_at IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM tasks WHERE package_id = packages.id) \
         AND NOT EXISTS (SELECT 1 FROM task_packages u WHERE u.package_id = packages.id)",
    )
    .bind(json_list(packages))
    .execute(conn)
    .await
    .map(drop)
}

/// Whether a package of the task was deleted: it stays for the tasks that refer to it, but its content does not.
async fn is_gone(conn: &mut SqliteConnection, task: TaskId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM tasks t JOIN packages p ON p.id = t.package_id \
             WHERE t.id = ?1 AND p.deleted_at IS NOT NULL) \
         OR EXISTS (SELECT 1 FROM task_packages u CROSS JOIN packages p ON p.id = u.package_id \
             WHERE u.task_id = ?1 AND p.deleted_at IS NOT NULL)",
    )
    .bind(task.0)
    .fetch_one(conn)
    .await
}
