//! Lists of tasks, the newest first.

use super::{Doing, SqliteStore, rows, tasks, tenancy};
use crate::{
    access::Part,
    ledger::TaskId,
    store::{Page, StoreError, TaskRecord},
    tenant::TenantId,
};

const LISTING: &str = "listing tasks";

pub(super) const ALL: &str = "SELECT t.*, p.product, p.version FROM tasks t JOIN packages p ON p.id = t.package_id \
     WHERE t.id < ? AND t.hidden = 0 ORDER BY t.id DESC LIMIT ?";
pub(super) const UNFINISHED: &str = "SELECT t.*, p.product, p.version FROM tasks t INDEXED BY tasks_unfinished \
         JOIN packages p ON p.id = t.package_id \
     WHERE t.state IN ('scheduled', 'running', 'stopping') AND t.id < ? AND t.hidden = 0 ORDER BY t.id DESC LIMIT ?";

pub(super) const OF_TENANT: &str = "SELECT t.*, p.product, p.version FROM tasks t INDEXED BY tasks_of_tenant \
         JOIN packages p ON p.id = t.package_id \
     WHERE t.tenant = ? AND t.id < ? AND t.hidden = 0 ORDER BY t.id DESC LIMIT ?";
pub(super) const UNFINISHED_OF_TENANT: &str = "SELECT t.*, p.product, p.version FROM tasks t INDEXED BY tasks_unfinished_of_tenant \
         JOIN packages p ON p.id = t.package_id \
     WHERE t.state IN ('scheduled', 'running', 'stopping') AND t.tenant = ? AND t.id < ? AND t.hidden = 0 \
     ORDER BY t.id DESC LIMIT ?";

/// Within a filter, of one tenant or of all.
pub(super) const WITHIN: &str = "SELECT t.*, p.product, p.version FROM tasks t INDEXED BY tasks_by_scope \
         JOIN packages p ON p.id = t.package_id \
     WHERE t.scope = ?1 AND t.id < ?2 AND t.hidden = 0 AND t.tenant = COALESCE(?4, t.tenant) ORDER BY t.id DESC LIMIT ?3";
pub(super) const UNFINISHED_WITHIN: &str = "SELECT t.*, p.product, p.version FROM tasks t INDEXED BY tasks_unfinished_by_scope \
         JOIN packages p ON p.id = t.package_id \
     WHERE t.state IN ('scheduled', 'running', 'stopping') AND t.scope = ?1 AND t.id < ?2 AND t.hidden = 0 \
         AND t.tenant = COALESCE(?4, t.tenant) ORDER BY t.id DESC LIMIT ?3";

impl SqliteStore {
    pub(super) async fn list_tasks(
        &self,
        unfinished: bool,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<TaskRecord>, StoreError> {
        let mut conn = self.readers.acquire().await.doing(LISTING)?;
        let rows = sqlx::query(if unfinished { UNFINISHED } else { ALL })
            .bind(before.map_or(i64::MAX, |id| id.0))
            .bind(rows::one_more(limit))
            .fetch_all(&mut *conn)
            .await
            .doing(LISTING)?;
        let mut page = rows::page(&rows, limit, tasks::record)?;
        tasks::add_counts(&mut conn, &mut page.items).await?;
        Ok(page)
    }

    pub(super) async fn list_tasks_within(
        &self,
        parts: &[Part],
        unfinished: bool,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<TaskRecord>, StoreError> {
        let (of_tenant, within) = if unfinished {
            (UNFINISHED_OF_TENANT, UNFINISHED_WITHIN)
        } else {
            (OF_TENANT, WITHIN)
        };
        let mut conn = self.readers.acquire().await.doing(LISTING)?;
        let mut found = Vec::new();
        for part in parts {
            let tenant = part.tenant.as_ref().map(TenantId::as_str);
            let query = match (&part.filter, tenant) {
                (None, Some(tenant)) => sqlx::query(of_tenant).bind(tenant.to_owned()),
                (None, None) => return self.list_tasks(unfinished, before, limit).await,
                (Some(filter), _) => sqlx::query(within).bind(filter.to_string()),
            };
            let mut query = query
                .bind(before.map_or(i64::MAX, |id| id.0))
                .bind(rows::one_more(limit));
            if part.filter.is_some() {
                query = query.bind(tenant);
            }
            let rows = query.fetch_all(&mut *conn).await.doing(LISTING)?;
            for row in &rows {
                found.push(tasks::record(row)?);
            }
        }
        let mut page = tenancy::newest(found, |task: &TaskRecord| task.id.0, limit);
        tasks::add_counts(&mut conn, &mut page.items).await?;
        Ok(page)
    }
}
