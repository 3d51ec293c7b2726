//! Whom a task leaves out of its selection. A part of its devices is asked about at a time, so that this costs what the part
//! costs, and not what the fleet does.

use std::collections::HashSet;

use serde::Serialize;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, PART,
    bulk::json_list,
    filter_sql, groups,
    rows::{self, Columns as _},
};
use crate::{
    clock::UtcMillis,
    filter::Filter,
    ledger::TaskId,
    store::{CreateTaskError, Exclude, GroupId, Members, Narrowed, StoreError, Targets, Within},
};

const DOING: &str = "looking for devices that a task leaves out";
/// Endpoints that an error names.
const NAMED: usize = 5;

/// Who is left out.
#[derive(Debug)]
pub(super) struct Narrowing {
    devices: HashSet<String>,
    /// That of the task, and that of its group.
    filters: Vec<Filter>,
    /// A group that is a list.
    group: Option<GroupId>,
    now: UtcMillis,
}

impl Narrowing {
    /// `None`: nobody is. Nobody belongs to a group that is not there.
    pub(super) async fn of(
        conn: &mut SqliteConnection,
        exclude: &Exclude,
        now: UtcMillis,
    ) -> Result<Option<Self>, StoreError> {
        if exclude.is_empty() {
            return Ok(None);
        }
        let mut filters: Vec<Filter> = exclude.filter.clone().into_iter().collect();
        let mut group = exclude.group;
        if let Some(id) = group
            && let Some(found) = groups::read(conn, id).await?
            && let Members::Matching(filter) = found.members
        {
            filters.push(filter);
            group = None;
        }
        Ok(Some(Self {
            devices: exclude.devices.iter().cloned().collect(),
            filters,
            group,
            now,
        }))
    }

    /// Keeps those of `endpoints` that are not left out. Returns how many are.
    pub(super) async fn keep<T>(
        &self,
        conn: &mut SqliteConnection,
        endpoints: &mut Vec<T>,
    ) -> Result<u64, StoreError>
    where
        T: AsRef<str> + Serialize + Sync,
    {
        let mut out = HashSet::new();
        for part in endpoints.chunks(PART as usize) {
            let list = json_list(part);
            if let Some(group) = self.group {
                out.extend(members(conn, group, &list).await?);
            }
            if !self.filters.is_empty() {
                let mut query = self.matching(&list);
                let found: Vec<String> = (query.build_query_scalar().persistent(false))
                    .fetch_all(&mut *conn)
                    .await
                    .doing(DOING)?;
                out.extend(found);
            }
        }
        let before = endpoints.len();
        endpoints.retain(|endpoint| {
            let endpoint = endpoint.as_ref();
            !self.devices.contains(endpoint) && !out.contains(endpoint)
        });
        Ok((before - endpoints.len()) as u64)
    }

    /// Those of a JSON list whom a filter lets through.
    fn matching(&self, list: &str) -> QueryBuilder<Sqlite> {
        let mut query = QueryBuilder::new("SELECT d.endpoint FROM json_each(");
        query
            .push_bind(list.to_owned())
            .push(") j CROSS JOIN devices d ON d.endpoint = j.value WHERE (");
        for (at, filter) in self.filters.iter().enumerate() {
            query.push(if at == 0 { "" } else { " OR " });
            filter_sql::push(&mut query, filter, self.now);
        }
        query.push(")");
        query
    }
}

/// Those of these endpoints whose device is there and which a filter lets through.
pub(super) async fn let_through(
    conn: &mut SqliteConnection,
    endpoints: &[String],
    filter: &Filter,
    now: UtcMillis,
) -> Result<HashSet<String>, StoreError> {
    let mut through = HashSet::new();
    for part in endpoints.chunks(PART as usize) {
        let mut query = QueryBuilder::new("SELECT d.endpoint FROM json_each(");
        query
            .push_bind(json_list(part))
            .push(") j CROSS JOIN devices d ON d.endpoint = j.value WHERE d.removed = 0 AND ");
        filter_sql::push(&mut query, filter, now);
        let found: Vec<String> = (query.build_query_scalar().persistent(false))
            .fetch_all(&mut *conn)
            .await
            .doing("looking at devices")?;
        through.extend(found);
    }
    Ok(through)
}

/// Whether a device is there within that; without it, whether there is one or not.
pub(super) async fn is_there(
    conn: &mut SqliteConnection,
    endpoint: &str,
    within: Option<&Within>,
) -> Result<bool, StoreError> {
    let Some(Within { filter, now }) = within else {
        return Ok(true);
    };
    let through = let_through(conn, &[endpoint.to_owned()], filter, *now).await?;
    Ok(!through.is_empty())
}

/// Those of a JSON list who belong to a group that is a list.
async fn members(
    conn: &mut SqliteConnection,
    group: GroupId,
    list: &str,
) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT m.endpoint FROM json_each(?) j CROSS JOIN group_members m ON m.group_id = ? AND m.endpoint = j.value",
    )
    .bind(list)
    .bind(group.0)
    .fetch_all(conn)
    .await
    .doing(DOING)
}

/// Refuses devices and a group that are not there: whoever names them means others.
pub(super) async fn check(
    conn: &mut SqliteConnection,
    exclude: &Exclude,
) -> Result<(), CreateTaskError> {
    if let Some(group) = exclude.group
        && groups::read(conn, group).await?.is_none()
    {
        return Err(CreateTaskError::ExcludedGroupNotFound(group));
    }
    if exclude.devices.is_empty() {
        return Ok(());
    }
    let mut unknown: Vec<String> = sqlx::query_scalar(
        "SELECT j.value FROM json_each(?) j WHERE NOT EXISTS ( \
             SELECT 1 FROM devices d WHERE d.endpoint = j.value AND d.removed = 0)",
    )
    .bind(json_list(&exclude.devices))
    .fetch_all(conn)
    .await
    .doing(DOING)?;
    if unknown.is_empty() {
        return Ok(());
    }
    let count = unknown.len() as u64;
    unknown.truncate(NAMED);
    Err(CreateTaskError::UnknownExcluded {
        count,
        first: unknown,
    })
}

/// Remembers by name who is left out of a task.
pub(super) async fn write_devices(
    conn: &mut SqliteConnection,
    task: TaskId,
    exclude: &Exclude,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT OR IGNORE INTO task_excluded (task_id, endpoint) SELECT ?, j.value FROM json_each(?) j",
    )
    .bind(task.0)
    .bind(json_list(&exclude.devices))
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "UPDATE tasks SET exclude_devices = (SELECT COUNT(*) FROM task_excluded x WHERE x.task_id = ?1) WHERE id = ?1",
    )
    .bind(task.0)
    .execute(conn)
    .await
    .map(|_| ())
}

/// Whom a task leaves out.
pub(super) async fn of_task(
    conn: &mut SqliteConnection,
    task: TaskId,
) -> Result<Exclude, StoreError> {
    let row = sqlx::query(
        "SELECT exclude_filter, exclude_group, exclude_devices FROM tasks WHERE id = ?",
    )
    .bind(task.0)
    .fetch_optional(&mut *conn)
    .await
    .doing(DOING)?;
    let narrowed = row.as_ref().map(narrowed).transpose()?.flatten();
    let Some(narrowed) = narrowed else {
        return Ok(Exclude::default());
    };
    let devices = sqlx::query_scalar("SELECT endpoint FROM task_excluded WHERE task_id = ?")
        .bind(task.0)
        .fetch_all(conn)
        .await
        .doing(DOING)?;
    Ok(Exclude {
        devices,
        filter: narrowed.filter,
        group: narrowed.group,
    })
}

/// Of the row of a task.
pub(super) fn narrowed(row: &SqliteRow) -> Result<Option<Narrowed>, StoreError> {
    let filter: Option<String> = row.value("exclude_filter")?;
    let filter = filter.as_deref().map(Filter::parse).transpose();
    let filter = filter.map_err(|error| rows::unreadable("tasks.exclude_filter", error))?;
    let group: Option<i64> = row.value("exclude_group")?;
    let narrowed = Narrowed {
        devices: row.int("exclude_devices")?,
        filter,
        group: group.map(GroupId),
    };
    Ok((narrowed != Narrowed::default()).then_some(narrowed))
}

/// A filter in a column of tasks, where there is one.
pub(super) fn filter(row: &SqliteRow, column: &'static str) -> Result<Option<Filter>, StoreError> {
    let filter: Option<String> = row.value(column)?;
    let filter = filter.as_deref().map(Filter::parse).transpose();
    filter.map_err(|error| rows::unreadable(column, error))
}

/// Whom a task is for, of its row.
pub(super) fn targets(row: &SqliteRow) -> Result<Option<Targets>, StoreError> {
    if !row.value::<bool>("may_join")? {
        return Ok(None);
    }
    let filter: Option<String> = row.value("selected_by")?;
    let filter = filter.as_deref().map(Filter::parse).transpose();
    let group: Option<i64> = row.value("group_id")?;
    Ok(Some(Targets {
        filter: filter.map_err(|error| rows::unreadable("tasks.selected_by", error))?,
        group: group.map(GroupId),
    }))
}
