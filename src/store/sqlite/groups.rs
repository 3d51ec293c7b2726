//! Groups of devices.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, PART, SqliteStore,
    bulk::json_list,
    rows::{self, Columns as _},
    tenancy,
    watched::Table,
};
use crate::{
    filter::Filter,
    ledger::TaskId,
    store::{
        GroupError, GroupId, GroupRecord, GroupUpdate, Groups, MAX_GROUPS, Members, NewGroup,
        NewMembers, Page, StoreError,
    },
    tenant::TenantId,
};

const READING: &str = "reading a group";
const CHANGING: &str = "changing a group";
const REMOVING: &str = "removing a group";

/// Endpoints that an error names.
const NAMED: usize = 5;
/// Tasks that an error names.
const NAMED_TASKS: u32 = 10;

#[async_trait]
impl Groups for SqliteStore {
    async fn add_group(&self, new: &NewGroup) -> Result<GroupRecord, GroupError> {
        let doing = "adding a group";
        let mut tx = self.write(doing).await?;
        tenancy::check(&mut tx, &new.tenant).await?;
        check_name(&mut tx, &new.tenant, &new.name, None).await?;
        let groups: u32 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM device_groups WHERE tenant = ? AND removed = 0",
        )
        .bind(new.tenant.as_str())
        .fetch_one(&mut *tx)
        .await
        .doing(doing)?;
        if groups >= MAX_GROUPS {
            return Err(GroupError::TooMany);
        }
        let filter = match &new.members {
            NewMembers::Matching(filter) => Some(filter.to_string()),
            NewMembers::Listed(_) => None,
        };
        let id = sqlx::query_scalar(
            "INSERT INTO device_groups (tenant, name, filter, created_at) VALUES (?, ?, ?, ?) RETURNING id",
        )
        .bind(new.tenant.as_str())
        .bind(&new.name)
        .bind(filter)
        .bind(new.created_at.0)
        .fetch_one(&mut *tx)
        .await
        .map(GroupId)
        .doing(doing)?;
        if let NewMembers::Listed(endpoints) = &new.members {
            add_members(&mut tx, id, &new.tenant, endpoints).await?;
        }
        let group = read(&mut tx, id).await?.ok_or(GroupError::NotFound(id))?;
        tx.made(Table::Groups, id.0);
        tx.commit().await.doing(doing)?;
        Ok(group)
    }

    async fn group(&self, id: GroupId) -> Result<Option<GroupRecord>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        read(&mut reader, id).await
    }

    async fn groups(
        &self,
        tenants: Option<&[TenantId]>,
        before: Option<GroupId>,
        limit: u32,
    ) -> Result<Page<GroupRecord>, StoreError> {
        let doing = "listing groups";
        if let Some(tenants) = tenants {
            let mut found = Vec::new();
            for tenant in tenants {
                let rows = sqlx::query(
                    "SELECT * FROM device_groups WHERE tenant = ? AND removed = 0 AND id < ? ORDER BY id DESC LIMIT ?",
                )
                .bind(tenant.as_str())
                .bind(before.map_or(i64::MAX, |before| before.0))
                .bind(rows::one_more(limit))
                .fetch_all(&self.readers)
                .await
                .doing(doing)?;
                found.extend(rows.iter().map(record).collect::<Result<Vec<_>, _>>()?);
            }
            return Ok(tenancy::newest(found, |group| group.id.0, limit));
        }
        let found = sqlx::query(
            "SELECT * FROM device_groups WHERE removed = 0 AND id < ? ORDER BY id DESC LIMIT ?",
        )
        .bind(before.map_or(i64::MAX, |before| before.0))
        .bind(rows::one_more(limit))
        .fetch_all(&self.readers)
        .await
        .doing(doing)?;
        rows::page(&found, limit, record)
    }

    async fn update_group(
        &self,
        id: GroupId,
        update: &GroupUpdate,
    ) -> Result<GroupRecord, GroupError> {
        let mut tx = self.write(CHANGING).await?;
        tx.watch(Table::Groups, id.0).await.doing(CHANGING)?;
        let group = read(&mut tx, id).await?.ok_or(GroupError::NotFound(id))?;
        check_seen(&group, update.seen)?;
        let lists = !update.add.is_empty() || !update.remove.is_empty();
        match &group.members {
            Members::Listed(_) if update.filter.is_some() => return Err(GroupError::IsList(id)),
            Members::Matching(_) if lists => return Err(GroupError::IsFilter(id)),
            _ => {}
        }
        if let Some(name) = &update.name {
            check_name(&mut tx, &group.tenant, name, Some(id)).await?;
        }
        sqlx::query(
            "UPDATE device_groups SET name = COALESCE(?, name), filter = COALESCE(?, filter), revision = revision + 1 WHERE id = ?",
        )
        .bind(&update.name)
        .bind(update.filter.as_ref().map(Filter::to_string))
        .bind(id.0)
        .execute(&mut *tx)
        .await
        .doing(CHANGING)?;
        tx.count("members_to_add", update.add.len() as u64);
        tx.count("members_to_remove", update.remove.len() as u64);
        add_members(&mut tx, id, &group.tenant, &update.add).await?;
        sqlx::query(
            "DELETE FROM group_members WHERE group_id = ? AND endpoint IN (SELECT j.value FROM json_each(?) j)",
        )
        .bind(id.0)
        .bind(json_list(&update.remove))
        .execute(&mut *tx)
        .await
        .doing(CHANGING)?;
        let group = read(&mut tx, id).await?.ok_or(GroupError::NotFound(id))?;
        tx.commit().await.doing(CHANGING)?;
        Ok(group)
    }

    async fn remove_group(&self, id: GroupId, seen: Option<i64>) -> Result<(), GroupError> {
        let mut tx = self.write(REMOVING).await?;
        if let Some(group) = read(&mut tx, id).await? {
            check_seen(&group, seen)?;
        }
        tx.watch(Table::Groups, id.0).await.doing(REMOVING)?;
        check_unused(&mut tx, id).await?;
        let removed =
            sqlx::query("UPDATE device_groups SET removed = 1 WHERE id = ? AND removed = 0")
                .bind(id.0)
                .execute(&mut *tx)
                .await
                .doing(REMOVING)?;
        if removed.rows_affected() == 0 {
            return Err(GroupError::NotFound(id));
        }
        tx.commit_part().await.doing(REMOVING)?;
        Ok(self.purge_group(id).await?)
    }
}

impl SqliteStore {
    /// Deletes a group that was removed, and its members, in parts.
    async fn purge_group(&self, id: GroupId) -> Result<(), StoreError> {
        loop {
            let mut tx = self.write(REMOVING).await?;
            let deleted = sqlx::query(
                "DELETE FROM group_members WHERE group_id = ?1 AND endpoint IN ( \
                     SELECT endpoint FROM group_members WHERE group_id = ?1 LIMIT ?2)",
            )
            .bind(id.0)
            .bind(PART)
            .execute(&mut *tx)
            .await
            .doing(REMOVING)?;
            let more = deleted.rows_affected() == u64::from(PART);
            if !more {
                sqlx::query("DELETE FROM device_groups WHERE id = ?")
                    .bind(id.0)
                    .execute(&mut *tx)
                    .await
                    .doing(REMOVING)?;
            }
            if !more {
                return tx.commit().await.doing(REMOVING);
            }
            tx.commit_part().await.doing(REMOVING)?;
        }
    }

    /// Deletes what a crash has left of groups that were removed.
    pub(super) async fn purge_groups(&self) -> Result<(), StoreError> {
        let removed: Vec<i64> =
            sqlx::query_scalar("SELECT id FROM device_groups WHERE removed = 1")
                .fetch_all(&self.readers)
                .await
                .doing(REMOVING)?;
        for group in removed {
            self.purge_group(GroupId(group)).await?;
        }
        Ok(())
    }
}

/// A group, by the connection of a transaction or of a reader.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    id: GroupId,
) -> Result<Option<GroupRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM device_groups WHERE id = ? AND removed = 0")
        .bind(id.0)
        .fetch_optional(conn)
        .await
        .doing(READING)?;
    row.as_ref().map(record).transpose()
}

fn record(row: &SqliteRow) -> Result<GroupRecord, StoreError> {
    let filter: Option<String> = row.value("filter")?;
    Ok(GroupRecord {
        id: GroupId(row.int("id")?),
        tenant: tenancy::id(row, "tenant")?,
        name: row.value("name")?,
        members: match filter {
            None => Members::Listed(row.int("members")?),
            Some(text) => Members::Matching(
                Filter::parse(&text)
                    .map_err(|error| rows::unreadable("device_groups.filter", error))?,
            ),
        },
        created_at: row.time("created_at")?,
        revision: row.int("revision")?,
    })
}

/// Refuses a change of a group that has another revision than was seen.
fn check_seen(group: &GroupRecord, seen: Option<i64>) -> Result<(), GroupError> {
    if seen.is_none_or(|seen| seen == group.revision) {
        return Ok(());
    }
    Err(GroupError::Changed {
        group: group.id,
        revision: group.revision,
    })
}

/// Refuses a name that another group of the tenant has than `own`.
async fn check_name(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    name: &str,
    own: Option<GroupId>,
) -> Result<(), GroupError> {
    let holder: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM device_groups WHERE tenant = ? AND name = ? AND removed = 0",
    )
    .bind(tenant.as_str())
    .bind(name)
    .fetch_optional(conn)
    .await
    .doing(CHANGING)?;
    match holder.map(GroupId).filter(|holder| Some(*holder) != own) {
        Some(group) => Err(GroupError::NameTaken {
            name: name.to_owned(),
            group,
        }),
        None => Ok(()),
    }
}

/// Refuses devices that the tenant does not have.
async fn add_members(
    conn: &mut SqliteConnection,
    id: GroupId,
    tenant: &TenantId,
    endpoints: &[String],
) -> Result<(), GroupError> {
    let endpoints = json_list(endpoints);
    let mut unknown: Vec<String> = sqlx::query_scalar(
        "SELECT j.value FROM json_each(?) j WHERE NOT EXISTS ( \
             SELECT 1 FROM devices d WHERE d.endpoint = j.value AND d.removed = 0 AND d.tenant = ?)",
    )
    .bind(&endpoints)
    .bind(tenant.as_str())
    .fetch_all(&mut *conn)
    .await
    .doing(CHANGING)?;
    if !unknown.is_empty() {
        let count = unknown.len() as u64;
        unknown.truncate(NAMED);
        return Err(GroupError::UnknownDevices {
            count,
            first: unknown,
        });
    }
    sqlx::query(
        "INSERT OR IGNORE INTO group_members (group_id, endpoint) SELECT ?, j.value FROM json_each(?) j",
    )
    .bind(id.0)
    .bind(&endpoints)
    .execute(conn)
    .await
    .doing(CHANGING)?;
    Ok(())
}

/// Refuses to remove a group that a task was created for or leaves out, or is being, and that has not ended.
async fn check_unused(conn: &mut SqliteConnection, group: GroupId) -> Result<(), GroupError> {
    const FOR_IT: &str = "SELECT id, name FROM tasks WHERE group_id = ? \
             AND (hidden = 1 OR state IN ('scheduled', 'running', 'stopping')) ORDER BY id LIMIT ?";
    const WITHOUT_IT: &str = "SELECT id, name FROM tasks WHERE exclude_group = ? \
             AND (hidden = 1 OR state IN ('scheduled', 'running', 'stopping')) ORDER BY id LIMIT ?";
    let mut used: BTreeMap<i64, String> = BTreeMap::new();
    for statement in [FOR_IT, WITHOUT_IT] {
        let found: Vec<(i64, String)> = sqlx::query_as(statement)
            .bind(group.0)
            .bind(rows::one_more(NAMED_TASKS))
            .fetch_all(&mut *conn)
            .await
            .doing(REMOVING)?;
        used.extend(found);
    }
    if used.is_empty() {
        return Ok(());
    }
    let mut tasks: Vec<_> = (used.into_iter())
        .map(|(id, name)| (TaskId(id), name))
        .collect();
    let more = tasks.len() > NAMED_TASKS as usize;
    tasks.truncate(NAMED_TASKS as usize);
    Err(GroupError::InUse { group, tasks, more })
}
