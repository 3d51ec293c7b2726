//! A transaction that writes, and what it leaves in the audit log.
//!
//! What is written on somebody's behalf ([`Acting`]) leaves a row, whether its writer says something of it or not. A writer may say
//! which rows of tables to look at before and after ([`Writing::watch`]), and how many of what were changed.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::{audit, watched::Table};
use crate::{
    audit::MAX_REASON,
    store::audit::{Act, Acting, Watched},
};

/// A transaction that may write. It is undone unless it is committed.
pub(super) struct Writing {
    tx: Transaction<'static, Sqlite>,
    acting: Option<(Arc<Acting>, Act)>,
}

impl Writing {
    pub(super) fn new(tx: Transaction<'static, Sqlite>) -> Self {
        let acting = Acting::current().map(|acting| {
            let act = acting.act().clone();
            (acting, act)
        });
        Self { tx, acting }
    }

    /// Shows in the audit log how a row of a table is before and after. Call it before the row is changed.
    pub(super) async fn watch(
        &mut self,
        table: Table,
        key: impl ToString,
    ) -> Result<(), sqlx::Error> {
        let Some((_, act)) = &mut self.acting else {
            return Ok(());
        };
        let (table, key) = (table.number(), key.to_string());
        let known = |watched: &Watched| watched.table == table && watched.key == key;
        if !act.watched.iter().any(known) {
            let (before, tenant) = Table::of(table).read(&mut self.tx, &key).await?;
            act.belongs_to(tenant);
            act.watched.push(Watched { table, key, before });
        }
        Ok(())
    }

    /// The same, of a row that was not there before.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "most callers have no further use for it"
    )]
    pub(super) fn made(&mut self, table: Table, key: impl ToString) {
        if let Some((_, act)) = &mut self.acting {
            act.watched.push(Watched {
                table: table.number(),
                key: key.to_string(),
                before: None,
            });
        }
    }

    /// Says in the audit log how many of what were changed.
    pub(super) fn count(&mut self, what: &str, count: u64) {
        if let Some((_, act)) = &mut self.acting
            && count > 0
        {
            let counted = act.entry.counts.entry(what.to_owned()).or_default();
            *counted = counted.saturating_add(count);
        }
    }

    /// Says in the audit log why it is done, where its caller has said that with what is done.
    pub(super) fn because(&mut self, why: &str) {
        if let Some((_, act)) = &mut self.acting {
            act.entry
                .why
                .get_or_insert_with(|| why.chars().take(MAX_REASON).collect());
        }
    }

    /// Whether it is a part of something whose end its caller tells.
    pub(super) fn in_parts(&self) -> bool {
        (self.acting.as_ref()).is_some_and(|(_, act)| act.in_parts)
    }

    /// Commits what is whole now.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        let whole = !self.in_parts();
        self.end(whole).await
    }

    /// Commits a part of something. More is to follow.
    pub(super) async fn commit_part(self) -> Result<(), sqlx::Error> {
        self.end(false).await
    }

    async fn end(mut self, whole: bool) -> Result<(), sqlx::Error> {
        let Some((acting, mut act)) = self.acting.take() else {
            return self.tx.commit().await;
        };
        if whole {
            audit::close(&mut self.tx, &mut act).await?;
        } else {
            audit::keep_open(&mut self.tx, &mut act).await?;
        }
        self.tx.commit().await?;
        *acting.act() = act;
        Ok(())
    }

    /// Undoes it.
    pub(super) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.tx.rollback().await
    }
}

impl Deref for Writing {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.tx
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }
}
