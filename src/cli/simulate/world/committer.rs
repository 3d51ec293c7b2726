//! Stands in for the committer's task: batches, their time, their failures.

use std::time::Duration;

use super::{Event, World, millis};
use crate::{
    cli::simulate::hooks::Hooks,
    engine::{Change, Command, Seq},
    runtime::{COMMIT_BATCH, FIRST_PAUSE, LONGEST_PAUSE},
    task::UpgradeId,
};

/// How long a transaction takes to its write.
const WRITE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(45));
/// And from there until the shard hears of it.
const TELL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(5));

/// Changes in one transaction.
#[derive(Debug)]
pub(super) struct Batch {
    /// Empty once they are written.
    changes: Vec<Change>,
    /// Their numbers.
    numbers: Vec<Seq>,
    last: Seq,
    /// When the oldest of them was emitted, ms.
    since_ms: u64,
    pause: Duration,
    refused: Vec<UpgradeId>,
    ends: bool,
    written: bool,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// When the oldest change was emitted that is not written, ms.
    pub(super) fn since_ms(&self) -> Option<u64> {
        (!self.written).then_some(self.since_ms)
    }
}

impl<H: Hooks> World<H> {
    /// Takes what has gathered, when the store is at leisure.
    pub(super) fn begin_batch(&mut self) {
        let Some(server) = &mut self.server else {
            return;
        };
        if server.batch.is_some() || server.pending.is_empty() {
            return;
        }
        let count = server.pending.len().min(COMMIT_BATCH);
        let since_ms = server.pending.front().map_or(0, |(_, at_ms, _)| *at_ms);
        let mut changes = Vec::with_capacity(count);
        let mut last = 0;
        for (seq, _, mut change) in server.pending.drain(..count) {
            last = seq;
            if self.hooks.commits(&mut change) {
                changes.push((seq, change));
            }
        }
        self.hooks.batches(&mut changes);
        let (numbers, changes): (Vec<Seq>, Vec<Change>) = changes.into_iter().unzip();
        let ends = changes
            .iter()
            .any(|change| matches!(change, Change::Ended { .. }));
        server.batch = Some(Batch {
            changes,
            numbers,
            last,
            since_ms,
            pause: FIRST_PAUSE,
            refused: Vec::new(),
            ends,
            written: false,
        });
        let at = self.now_ms + self.between(WRITE.0, WRITE.1);
        self.queue.push(at, Event::Write(self.epoch));
    }

    /// The transaction is committed, or fails and is tried again.
    pub(super) fn write(&mut self) -> Result<(), String> {
        let now = self.now();
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let Some(batch) = &mut server.batch else {
            return Ok(());
        };
        if self.now_ms < self.store_fails_until_ms {
            let at = self.now_ms + millis(batch.pause);
            batch.pause = (batch.pause * 2).min(LONGEST_PAUSE);
            self.queue.push(at, Event::Write(self.epoch));
            if std::mem::take(&mut server.store_works) {
                (server.engine).handle_command(now, Command::StoreAvailable(false));
                self.drain();
            }
            return Ok(());
        }
        batch.refused = self.store.commit(&batch.changes)?.refused;
        batch.written = true;
        self.figures.changes += batch.changes.len() as u64;
        for (seq, change) in batch.numbers.iter().zip(&batch.changes) {
            self.checker.committed(self.now_ms, *seq, change);
        }
        let changes = std::mem::take(&mut batch.changes);
        self.trace.committed(self.now_ms, changes);
        let at = self.now_ms + self.between(TELL.0, TELL.1);
        self.queue.push(at, Event::Written(self.epoch));
        Ok(())
    }

    /// The shard hears of it.
    pub(super) fn written(&mut self) -> Result<(), String> {
        let now = self.now();
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let Some(batch) = server.batch.take() else {
            return Ok(());
        };
        if !server.store_works {
            server.store_works = true;
            (server.engine).handle_command(now, Command::StoreAvailable(true));
        }
        for upgrade in batch.refused {
            (server.engine).handle_command(now, Command::Abandon { upgrade });
        }
        server.committed = batch.last;
        let released = server.outbox.committed(batch.last);
        (self.checker).released(self.now_ms, batch.last, released.len());
        for datagram in released {
            self.leave(&datagram);
        }
        self.drain();
        self.batch_committed(batch.ends)
    }
}
