//! The audit log.

use async_trait::async_trait;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    rows::{self, Columns as _},
    tenancy,
    watched::{self, Table},
};
use crate::{
    audit::{self, Checkpoint, Entry, EntryResult, Hash, Row},
    clock::UtcMillis,
    store::{
        Page, StoreError,
        audit::{Act, Acting, AuditFilter, AuditHead, AuditLog},
    },
    tenant::TenantId,
};

const ADDING: &str = "adding to the audit log";
const READING: &str = "reading the audit log";
const PRUNING: &str = "removing old rows of the audit log";

/// Adds a row to the chain.
async fn append(conn: &mut SqliteConnection, entry: &Entry) -> Result<(), sqlx::Error> {
    let (number, hash, last_at): (i64, Vec<u8>, i64) =
        sqlx::query_as("SELECT number, hash, at FROM audit_head WHERE id = 1")
            .fetch_one(&mut *conn)
            .await?;
    let hash = <[u8; 32]>::try_from(hash).map_err(|hash| unreadable("audit_head.hash", &hash))?;
    // the clock may have been set back; the log does not go back
    let at = entry.at.max(UtcMillis(last_at));
    let row = audit::link(entry, (number.unsigned_abs(), Hash(hash)), at);
    sqlx::query(
        "INSERT INTO audit (number, row, hash, at, who, operation, target, result, tenant) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(row.number.cast_signed())
    .bind(&row.text)
    .bind(&row.hash.0[..])
    .bind(at.0)
    .bind(&entry.who)
    .bind(&entry.operation)
    .bind(&entry.target)
    .bind(entry.result.name())
    .bind(&entry.tenant)
    .execute(&mut *conn)
    .await?;
    sqlx::query("UPDATE audit_head SET number = ?, hash = ?, at = ? WHERE id = 1")
        .bind(row.number.cast_signed())
        .bind(&row.hash.0[..])
        .bind(at.0)
        .execute(conn)
        .await?;
    Ok(())
}

fn unreadable(what: &str, value: &[u8]) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(rows::unreadable(what, hex::encode(value))))
}

/// It is whole: it becomes a row.
pub(super) async fn close(conn: &mut SqliteConnection, act: &mut Act) -> Result<(), sqlx::Error> {
    if let Some(open) = act.open.take() {
        sqlx::query("DELETE FROM audit_open WHERE id = ?")
            .bind(open)
            .execute(&mut *conn)
            .await?;
    }
    look(conn, act).await?;
    append(conn, &act.entry).await?;
    // what is written next says how many of what it was
    act.entry.counts.clear();
    (act.entry.before, act.entry.after) = (None, None);
    act.rows += 1;
    Ok(())
}

/// More is to follow: what was done so far is kept in any case.
pub(super) async fn keep_open(
    conn: &mut SqliteConnection,
    act: &mut Act,
) -> Result<(), sqlx::Error> {
    name_target(act);
    let id = sqlx::query_scalar(
        "INSERT INTO audit_open (id, entry, at) VALUES (?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET entry = excluded.entry RETURNING id",
    )
    .bind(act.open)
    .bind(rows::json(&act.entry))
    .bind(act.entry.at.0)
    .fetch_one(conn)
    .await?;
    act.open = Some(id);
    Ok(())
}

/// Compares what is watched with what it was.
async fn look(conn: &mut SqliteConnection, act: &mut Act) -> Result<(), sqlx::Error> {
    name_target(act);
    // of several the counts tell
    if let [watched] = &mut act.watched[..] {
        let (after, tenant) = Table::of(watched.table).read(conn, &watched.key).await?;
        let (before, after) = watched::difference(watched.before.take(), after);
        act.entry.before = before.map(audit::cut);
        act.entry.after = after.map(audit::cut);
        act.belongs_to(tenant);
    }
    act.watched.clear();
    Ok(())
}

fn name_target(act: &mut Act) {
    if let [watched] = &act.watched[..] {
        let table = Table::of(watched.table).name();
        act.entry.target = Some(format!("{table}/{}", watched.key));
    }
}

#[async_trait]
impl AuditLog for SqliteStore {
    async fn add_to_audit(&self, entries: &[Entry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut tx = self.write_unaudited(ADDING).await?;
        for entry in entries {
            append(&mut tx, entry).await.doing(ADDING)?;
        }
        tx.commit().await.doing(ADDING)
    }

    async fn end_act(&self, acting: &Acting, result: &Entry) -> Result<(), StoreError> {
        // nobody else writes from here on
        let mut tx = self.write_unaudited(ADDING).await?;
        let mut act = acting.act().clone();
        let Some(open) = act.open else {
            return Ok(());
        };
        // it may be a row already, if whoever has made it one did not wait for the answer
        let there: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM audit_open WHERE id = ? AND entry = ?)",
        )
        .bind(open)
        .bind(rows::json(&act.entry))
        .fetch_one(&mut *tx)
        .await
        .doing(ADDING)?;
        if !there {
            return Ok(());
        }
        act.entry.result = result.result;
        act.entry.status = result.status;
        act.entry.problem.clone_from(&result.problem);
        close(&mut tx, &mut act).await.doing(ADDING)?;
        tx.commit().await.doing(ADDING)?;
        *acting.act() = act;
        Ok(())
    }

    async fn end_interrupted_acts(&self) -> Result<u64, StoreError> {
        let mut tx = self.write_unaudited(ADDING).await?;
        let open = sqlx::query("SELECT id, entry, at FROM audit_open ORDER BY id")
            .fetch_all(&mut *tx)
            .await
            .doing(ADDING)?;
        for row in &open {
            let entry: Option<Entry> = rows::from_json(row, "entry")?;
            let entry = Entry {
                at: row.time("at")?,
                result: EntryResult::Interrupted,
                ..entry.unwrap_or_default()
            };
            append(&mut tx, &entry).await.doing(ADDING)?;
        }
        sqlx::query("DELETE FROM audit_open")
            .execute(&mut *tx)
            .await
            .doing(ADDING)?;
        tx.commit().await.doing(ADDING)?;
        Ok(open.len() as u64)
    }

    async fn audit(
        &self,
        filter: &AuditFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Page<Row>, StoreError> {
        let Some(tenants) = &filter.tenants else {
            let mut found = list(filter, None, before, limit);
            let found = found.build().fetch_all(&self.readers).await;
            return rows::page(&found.doing(READING)?, limit, record);
        };
        let mut rows = Vec::new();
        for tenant in tenants {
            let mut found = list(filter, Some(tenant), before, limit);
            let found = found.build().fetch_all(&self.readers).await;
            let found = found.doing(READING)?;
            rows.extend(found.iter().map(record).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(tenancy::newest(rows, |row: &Row| signed(row.number), limit))
    }

    async fn audit_after(&self, after: u64, limit: u32) -> Result<Vec<Row>, StoreError> {
        let found = sqlx::query(
            "SELECT number, row, hash FROM audit WHERE number > ? ORDER BY number LIMIT ?",
        )
        .bind(signed(after))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing(READING)?;
        found.iter().map(record).collect()
    }

    async fn audit_before(&self, at: UtcMillis) -> Result<u64, StoreError> {
        let number: Option<i64> = sqlx::query_scalar(
            "SELECT number FROM audit INDEXED BY audit_by_time WHERE at < ? ORDER BY at DESC, number DESC LIMIT 1",
        )
        .bind(at.0)
        .fetch_optional(&self.readers)
        .await
        .doing(READING)?;
        Ok(number.unwrap_or(0).unsigned_abs())
    }

    async fn audit_row(&self, number: u64) -> Result<Option<Row>, StoreError> {
        let row = sqlx::query("SELECT number, row, hash FROM audit WHERE number = ?")
            .bind(signed(number))
            .fetch_optional(&self.readers)
            .await
            .doing(READING)?;
        row.as_ref().map(record).transpose()
    }

    async fn audit_head(&self) -> Result<AuditHead, StoreError> {
        let row = sqlx::query("SELECT number, hash, at FROM audit_head WHERE id = 1")
            .fetch_one(&self.readers)
            .await
            .doing(READING)?;
        Ok(AuditHead {
            number: row.int("number")?,
            hash: hash(&row)?,
            at: row.time("at")?,
        })
    }

    async fn audit_beginning(&self) -> Result<Option<Checkpoint>, StoreError> {
        let row =
            sqlx::query("SELECT checkpoint FROM audit_checkpoints ORDER BY number DESC LIMIT 1")
                .fetch_optional(&self.readers)
                .await
                .doing(READING)?;
        match row {
            Some(row) => rows::from_json(&row, "checkpoint"),
            None => Ok(None),
        }
    }

    async fn begin_audit_behind(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut tx = self.write_unaudited(PRUNING).await?;
        // one is enough: it stands for all that was before it
        sqlx::query("DELETE FROM audit_checkpoints WHERE number <= ?")
            .bind(signed(checkpoint.number))
            .execute(&mut *tx)
            .await
            .doing(PRUNING)?;
        sqlx::query("INSERT OR IGNORE INTO audit_checkpoints (number, checkpoint) VALUES (?, ?)")
            .bind(signed(checkpoint.number))
            .bind(rows::json(checkpoint))
            .execute(&mut *tx)
            .await
            .doing(PRUNING)?;
        tx.commit().await.doing(PRUNING)
    }

    async fn prune_audit(&self, limit: u32, told: Option<&Entry>) -> Result<u64, StoreError> {
        let mut tx = self.write_unaudited(PRUNING).await?;
        if let Some(told) = told {
            tell_of_pruning(&mut tx, told).await.doing(PRUNING)?;
        }
        let pruned = sqlx::query(
            "DELETE FROM audit WHERE number IN (SELECT number FROM audit \
             WHERE number <= (SELECT MAX(number) FROM audit_checkpoints) ORDER BY number LIMIT ?)",
        )
        .bind(limit)
        .execute(&mut *tx)
        .await
        .doing(PRUNING)?;
        tx.commit().await.doing(PRUNING)?;
        Ok(pruned.rows_affected())
    }
}

/// Says how many rows go.
async fn tell_of_pruning(conn: &mut SqliteConnection, told: &Entry) -> Result<(), sqlx::Error> {
    let going: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM audit WHERE number <= (SELECT MAX(number) FROM audit_checkpoints)",
    )
    .fetch_one(&mut *conn)
    .await?;
    if going == 0 {
        return Ok(());
    }
    let mut entry = told.clone();
    let counts = &mut entry.counts;
    counts.insert("rows".to_owned(), going.unsigned_abs());
    append(conn, &entry).await
}

/// The statement that lists rows: along the index that is likely to pass over the fewest.
pub(super) fn list(
    filter: &AuditFilter,
    tenant: Option<&TenantId>,
    before: Option<u64>,
    limit: u32,
) -> QueryBuilder<Sqlite> {
    let index = match filter {
        filter if filter.target.as_deref().is_some_and(|it| it.contains('/')) => {
            "FROM audit INDEXED BY audit_by_target"
        }
        _ if tenant.is_some() => "FROM audit INDEXED BY audit_by_tenant",
        AuditFilter { who: Some(_), .. } => "FROM audit INDEXED BY audit_by_who",
        AuditFilter {
            operation: Some(_), ..
        } => "FROM audit INDEXED BY audit_by_operation",
        AuditFilter {
            result: Some(_), ..
        } => "FROM audit INDEXED BY audit_by_result",
        _ => "FROM audit NOT INDEXED",
    };
    let mut query = QueryBuilder::new("SELECT number, row, hash ");
    query.push(index).push(" WHERE number < ");
    query.push_bind(before.map_or(i64::MAX, signed));
    let words = [
        ("tenant", tenant.map(ToString::to_string)),
        ("who", filter.who.clone()),
        ("operation", filter.operation.clone()),
        (
            "result",
            filter.result.map(|result| result.name().to_owned()),
        ),
    ];
    for (column, value) in words {
        if let Some(value) = value {
            query.push(format!(" AND {column} = ")).push_bind(value);
        }
    }
    match &filter.target {
        Some(target) if target.contains('/') => {
            query.push(" AND target = ").push_bind(target.clone());
        }
        Some(kind) => {
            query.push(" AND (target = ").push_bind(kind.clone());
            query.push(" OR target >= ").push_bind(format!("{kind}/"));
            query.push(" AND target < ").push_bind(format!("{kind}0"));
            query.push(")");
        }
        None => {}
    }
    // times do not go back in the log, so that numbers say where to begin and to end
    for (at, compared) in [(filter.since, ">="), (filter.until, "<")] {
        if let Some(at) = at {
            query.push(format!(
                " AND number {compared} COALESCE((SELECT number FROM audit INDEXED BY audit_by_time WHERE at >= "
            ));
            query.push_bind(at.0);
            query.push(" ORDER BY at, number LIMIT 1), 9223372036854775807)");
        }
    }
    query.push(" ORDER BY number DESC LIMIT ");
    query.push_bind(rows::one_more(limit));
    query
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn record(row: &SqliteRow) -> Result<Row, StoreError> {
    Ok(Row {
        number: row.int("number")?,
        text: row.value("row")?,
        hash: hash(row)?,
    })
}

fn hash(row: &SqliteRow) -> Result<Hash, StoreError> {
    let bytes: Vec<u8> = row.value("hash")?;
    let hash = <[u8; 32]>::try_from(bytes);
    hash.map(Hash)
        .map_err(|bytes| rows::unreadable("audit.hash", hex::encode(bytes)))
}
