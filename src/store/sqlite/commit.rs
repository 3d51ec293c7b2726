use std::collections::BTreeMap;

use sqlx::SqliteConnection;

use super::{Doing, SqliteStore, devices, events::Announcements, task_writes};
use crate::{
    clock::UtcMillis,
    engine::{Change, CoverageReading, QueueMode, Registration, StageChange},
    store::{CommitReport, StoreError},
    task::{TaskId, UpgradeId},
    upgrade::{Outcome, Stage},
};

const DOING: &str = "committing changes";

impl SqliteStore {
    /// See [`crate::store::Store::commit`].
    pub(super) async fn commit_changes(
        &self,
        changes: &[Change],
    ) -> Result<CommitReport, StoreError> {
        if changes.is_empty() {
            return Ok(CommitReport::default());
        }
        let mut tx = self.write(DOING).await?;
        let mut batch = Batch {
            conn: &mut tx,
            report: CommitReport::default(),
            ended: BTreeMap::new(),
            announcements: None,
        };
        for change in changes {
            batch.apply(change).await?;
        }
        let report = batch.finish().await?;
        tx.commit().await.doing(DOING)?;
        Ok(report)
    }
}

/// The changes of one transaction.
struct Batch<'c> {
    conn: &'c mut SqliteConnection,
    report: CommitReport,
    /// Tasks that may have ended with one of their upgrades, and when.
    ended: BTreeMap<TaskId, UtcMillis>,
    /// Begun with the first upgrade that ends.
    announcements: Option<Announcements>,
}

impl Batch<'_> {
    async fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        let Change::Ended {
            upgrade,
            task,
            attempt,
            outcome,
            detail,
            retry_at,
            at,
        } = change
        else {
            return self.go_on(change).await.doing(DOING);
        };
        let end = End {
            upgrade: *upgrade,
            attempt: *attempt,
            outcome,
            detail,
            at: *at,
        };
        if let Some(retry_at) = retry_at
            && self.may_retry(*upgrade).await.doing(DOING)?
        {
            return self.ended_for_now(&end, *retry_at).await.doing(DOING);
        }
        if self.ended_for_good(&end).await.doing(DOING)? {
            self.ended.insert(*task, *at);
            self.announce(*upgrade).await.doing(DOING)?;
            devices::repeat_removal(self.conn, *upgrade).await?;
        }
        Ok(())
    }

    /// Every change but an end.
    async fn go_on(&mut self, change: &Change) -> Result<(), sqlx::Error> {
        match change {
            Change::Registered {
                endpoint,
                registration,
                at,
            } => self.registered(endpoint, registration, *at).await,
            Change::Deregistered { endpoint, .. } => self.deregistered(endpoint).await,
            Change::VersionReported {
                endpoint,
                version,
                at,
            } => self.version(endpoint, version.as_bytes(), *at).await,
            Change::CoverageReported { endpoint, reading } => {
                self.coverage(endpoint, reading).await
            }
            Change::Stage {
                upgrade,
                attempt,
                change,
                note,
                at,
            } => self.stage(*upgrade, *attempt, change, note, *at).await,
            Change::Note {
                upgrade,
                attempt,
                note,
                at,
            } => self.event(*upgrade, *attempt, "note", note, *at).await,
            Change::Progress {
                upgrade,
                segment,
                percent,
                ..
            } => self.progress(*upgrade, *segment, *percent).await,
            Change::Admitted {
                cell,
                limit,
                active,
                at,
            } => self.admitted(*cell, *limit, *active, *at).await,
            Change::Ended { .. } => Ok(()),
        }
    }

    async fn announce(&mut self, upgrade: UpgradeId) -> Result<(), sqlx::Error> {
        let announcements = match self.announcements.take() {
            Some(begun) => begun,
            None => Announcements::begin(self.conn).await?,
        };
        let announcements = self.announcements.insert(announcements);
        announcements.upgrade(self.conn, upgrade).await
    }

    async fn finish(self) -> Result<CommitReport, StoreError> {
        if let Some(announcements) = self.announcements {
            for (task, at) in self.ended {
                task_writes::end_task_if_done(self.conn, task, at, &announcements)
                    .await
                    .doing(DOING)?;
            }
            announcements.deliver(self.conn).await.doing(DOING)?;
        }
        Ok(self.report)
    }

    async fn registered(
        &mut self,
        endpoint: &str,
        registration: &Registration,
        at: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        // A device that the operator removed stays removed until its session has ended.
        sqlx::query(
            "INSERT INTO devices (endpoint, product, created_at, last_heard_at, reg_location, reg_peer, \
                 reg_lifetime_s, reg_expires_at, reg_registered_at, reg_queue_mode, reg_secured) \
             VALUES (?1, 'default', ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (endpoint) DO UPDATE SET last_heard_at = excluded.last_heard_at, \
                 reg_location = excluded.reg_location, reg_peer = excluded.reg_peer, \
                 reg_lifetime_s = excluded.reg_lifetime_s, reg_expires_at = excluded.reg_expires_at, \
                 reg_registered_at = excluded.reg_registered_at, reg_queue_mode = excluded.reg_queue_mode, \
                 reg_secured = excluded.reg_secured \
             WHERE devices.removed = 0",
        )
        .bind(endpoint)
        .bind(at.0)
        .bind(&registration.location)
        .bind(registration.peer.address.to_string())
        .bind(registration.lifetime_s)
        .bind(registration.expires_at.0)
        .bind(registration.registered_at.0)
        .bind(registration.queue_mode == QueueMode::On)
        .bind(registration.peer.secured)
        .execute(&mut *self.conn)
        .await
        .map(|_| ())
    }

    async fn deregistered(&mut self, endpoint: &str) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE devices SET reg_location = NULL, reg_peer = NULL, reg_lifetime_s = NULL, \
                 reg_expires_at = NULL, reg_registered_at = NULL, reg_queue_mode = NULL \
             WHERE endpoint = ?",
        )
        .bind(endpoint)
        .execute(&mut *self.conn)
        .await
        .map(|_| ())
    }

    async fn version(
        &mut self,
        endpoint: &str,
        version: &[u8],
        at: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE devices SET version = ?1, last_heard_at = MAX(COALESCE(last_heard_at, ?2), ?2) \
             WHERE endpoint = ?3",
        )
        .bind(version)
        .bind(at.0)
        .bind(endpoint)
        .execute(&mut *self.conn)
        .await
        .map(|_| ())
    }

    async fn coverage(
        &mut self,
        endpoint: &str,
        reading: &CoverageReading,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE devices SET coverage_cell = ?1, coverage_rsrp_dbm = ?2, coverage_sinr_db = ?3, \
                 coverage_at = ?4, last_heard_at = MAX(COALESCE(last_heard_at, ?4), ?4) \
             WHERE endpoint = ?5",
        )
        .bind(reading.coverage.cell)
        .bind(reading.coverage.rsrp_dbm)
        .bind(reading.coverage.sinr_db)
        .bind(reading.at.0)
        .bind(endpoint)
        .execute(&mut *self.conn)
        .await
        .map(|_| ())
    }

    async fn stage(
        &mut self,
        upgrade: UpgradeId,
        attempt: u32,
        change: &StageChange,
        note: &str,
        at: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        let stored = sqlx::query(
            "UPDATE upgrades SET state = ?3, stage_entered_at = ?4, stage_deadline_at = ?5, queued_at = ?6, \
                 slot_deadline_at = ?7, cell = ?8, cell_limit = ?9, confirmed = ?10, \
                 segment = CASE WHEN attempt = ?2 THEN segment END, \
                 progress_percent = CASE WHEN attempt = ?2 THEN progress_percent ELSE 0 END, \
                 started_at = COALESCE(started_at, ?11), attempt = ?2 \
             WHERE id = ?1 AND (phase = 1 AND attempt <= ?2 OR phase = 0 AND attempt < ?2)",
        )
        .bind(upgrade.0)
        .bind(attempt)
        .bind(change.stage.name())
        .bind(change.entered_at.0)
        .bind(change.deadline_at.0)
        .bind(change.queued_at.map(|at| at.0))
        .bind(change.slot_deadline_at.map(|at| at.0))
        .bind(change.cell)
        .bind(change.cell_limit)
        .bind(change.confirmed)
        .bind(at.0)
        .execute(&mut *self.conn)
        .await?;
        if stored.rows_affected() == 0 {
            return self.refuse_if_over(upgrade).await;
        }
        if let Some(cell) = change.cell
            && (change.stage == Stage::WaitingForSlot || change.stage.holds_slot())
        {
            sqlx::query("INSERT INTO cells (cell) VALUES (?) ON CONFLICT (cell) DO NOTHING")
                .bind(cell)
                .execute(&mut *self.conn)
                .await?;
        }
        self.event(upgrade, attempt, change.stage.name(), note, at)
            .await
    }

    /// A stage of an attempt that the store has seen the end of is merely late; one of an upgrade that has
    /// ended, or is gone, should not go on.
    async fn refuse_if_over(&mut self, upgrade: UpgradeId) -> Result<(), sqlx::Error> {
        let phase: Option<i64> = sqlx::query_scalar("SELECT phase FROM upgrades WHERE id = ?")
            .bind(upgrade.0)
            .fetch_optional(&mut *self.conn)
            .await?;
        if phase.is_none_or(|phase| phase == 2) && !self.report.refused.contains(&upgrade) {
            self.report.refused.push(upgrade);
        }
        Ok(())
    }

    async fn event(
        &mut self,
        upgrade: UpgradeId,
        attempt: u32,
        kind: &str,
        text: &str,
        at: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        if text.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, text) \
             SELECT id, ?2, ?3, ?4, ?5 FROM upgrades WHERE id = ?1",
        )
        .bind(upgrade.0)
        .bind(at.0)
        .bind(attempt)
        .bind(kind)
        .bind(text)
        .execute(&mut *self.conn)
        .await
        .map(|_| ())
    }

    async fn progress(
        &mut self,
        upgrade: UpgradeId,
        segment: u16,
        percent: u8,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE upgrades SET segment = ?2, progress_percent = ?3 WHERE id = ?1 AND phase = 1",
        )
        .bind(upgrade.0)
        .bind(segment)
        .bind(percent.min(100))
        .execute(&mut *self.conn)
        .await
        .map(|_| ())
    }

    async fn admitted(
        &mut self,
        cell: u32,
        limit: u32,
        active: u32,
        at: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO cells (cell, limit_max, concurrent_peak, admitted_total, last_admitted_at) \
             VALUES (?1, ?2, ?3, 1, ?4) \
             ON CONFLICT (cell) DO UPDATE SET limit_max = MAX(limit_max, excluded.limit_max), \
                 concurrent_peak = MAX(concurrent_peak, excluded.concurrent_peak), \
                 admitted_total = admitted_total + 1, last_admitted_at = excluded.last_admitted_at",
        )
        .bind(cell)
        .bind(limit)
        .bind(active)
        .bind(at.0)
        .execute(&mut *self.conn)
        .await
        .map(|_| ())
    }

    /// Whether another attempt still makes sense: neither was the task stopped nor the device removed.
    async fn may_retry(&mut self, upgrade: UpgradeId) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM upgrades u JOIN tasks t ON t.id = u.task_id \
                 JOIN devices d ON d.endpoint = u.endpoint \
                 WHERE u.id = ? AND t.state = 'running' AND d.removed = 0)",
        )
        .bind(upgrade.0)
        .fetch_one(&mut *self.conn)
        .await
    }

    async fn ended_for_now(
        &mut self,
        end: &End<'_>,
        retry_at: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        let stored = sqlx::query(
            "UPDATE upgrades SET state = 'pending', attempt = ?2, outcome_state = ?3, outcome_reason = ?4, \
                 outcome_detail = ?5, outcome_at = ?6, not_before = ?7, stage_entered_at = NULL, \
                 stage_deadline_at = NULL, queued_at = NULL, slot_deadline_at = NULL, cell = NULL, \
                 cell_limit = NULL, confirmed = 0, segment = NULL, progress_percent = 0 \
             WHERE id = ?1 AND (phase = 1 AND attempt <= ?2 OR phase = 0 AND attempt < ?2)",
        )
        .bind(end.upgrade.0)
        .bind(end.attempt)
        .bind(end.outcome.state())
        .bind(end.outcome.reason())
        .bind(end.detail)
        .bind(end.at.0)
        .bind(retry_at.0)
        .execute(&mut *self.conn)
        .await?;
        if stored.rows_affected() == 0 {
            return Ok(());
        }
        let text = format!("{}; the next attempt begins at {retry_at}", end.detail);
        self.event(end.upgrade, end.attempt, end.outcome.state(), &text, end.at)
            .await
    }

    /// Returns whether this was the end.
    async fn ended_for_good(&mut self, end: &End<'_>) -> Result<bool, sqlx::Error> {
        // The cell stays: it tells where the upgrade took place.
        let stored = sqlx::query(
            "UPDATE upgrades SET state = ?3, attempt = ?2, outcome_state = ?3, outcome_reason = ?4, \
                 outcome_detail = ?5, outcome_at = ?6, ended_at = ?6, stage_entered_at = NULL, \
                 stage_deadline_at = NULL, queued_at = NULL, slot_deadline_at = NULL, confirmed = 0, \
                 progress_percent = CASE ?3 WHEN 'succeeded' THEN 100 ELSE progress_percent END \
             WHERE id = ?1 AND (phase = 1 AND attempt <= ?2 OR phase = 0 AND attempt < ?2)",
        )
        .bind(end.upgrade.0)
        .bind(end.attempt)
        .bind(end.outcome.state())
        .bind(end.outcome.reason())
        .bind(end.detail)
        .bind(end.at.0)
        .execute(&mut *self.conn)
        .await?;
        if stored.rows_affected() == 0 {
            return Ok(false);
        }
        self.event(
            end.upgrade,
            end.attempt,
            end.outcome.state(),
            end.detail,
            end.at,
        )
        .await?;
        Ok(true)
    }
}

/// The end of an attempt.
struct End<'c> {
    upgrade: UpgradeId,
    attempt: u32,
    outcome: &'c Outcome,
    detail: &'c str,
    at: UtcMillis,
}
