//! Stands in for the committer's task: batches, their time, their failures.

use std::{collections::BTreeMap, time::Duration};

use rand_chacha::rand_core::Rng as _;

use super::{Event, World, millis};
use crate::{
    cli::simulate::{hooks::Hooks, invariants::Number},
    engine::{Change, Command, Seq, ShardId},
    runtime::{COMMIT_BATCH, FIRST_PAUSE, LONGEST_PAUSE},
    store::BatchId,
    task::UpgradeId,
};

/// How long a transaction takes to its write.
const WRITE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(45));
/// And from there until the shard hears of it.
const TELL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(5));

/// Changes in one transaction.
#[derive(Debug)]
pub(super) struct Batch {
    id: BatchId,
    /// Empty once they are written.
    changes: Vec<Change>,
    /// Their numbers.
    numbers: Vec<Number>,
    /// The newest of each shard.
    last: BTreeMap<ShardId, Seq>,
    /// When the oldest of them was emitted, ms.
    since_ms: u64,
    pause: Duration,
    refused: Vec<UpgradeId>,
    ends: bool,
    written: bool,
    /// It is in the store, although that was not heard.
    in_doubt: bool,
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
        let mut last = BTreeMap::new();
        for (number, _, mut change) in server.pending.drain(..count) {
            last.insert(number.shard, number.seq);
            if self.hooks.commits(&mut change) {
                changes.push((number, change));
            }
        }
        self.hooks.batches(&mut changes);
        let (numbers, changes): (Vec<Number>, Vec<Change>) = changes.into_iter().unzip();
        let ends = changes
            .iter()
            .any(|change| matches!(change, Change::Ended { .. }));
        let id = server.next_batch;
        server.next_batch = id.next();
        server.batch = Some(Batch {
            id,
            changes,
            numbers,
            last,
            since_ms,
            pause: FIRST_PAUSE,
            refused: Vec::new(),
            ends,
            written: false,
            in_doubt: false,
        });
        let at = self.now_ms + self.between(WRITE.0, WRITE.1);
        self.queue.push(at, Event::Write(self.epoch));
    }

    /// The transaction is committed, or fails and is tried again.
    pub(super) fn write(&mut self) -> Result<(), String> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let Some(batch) = &mut server.batch else {
            return Ok(());
        };
        if self.now_ms < self.store_fails_until_ms {
            // Its first failure may be one of which only the answer was lost.
            let first = batch.pause == FIRST_PAUSE;
            let at = self.now_ms + millis(batch.pause);
            batch.pause = (batch.pause * 2).min(LONGEST_PAUSE);
            self.queue.push(at, Event::Write(self.epoch));
            if first && self.rng.next_u64().is_multiple_of(2) {
                self.commit_batch(false)?;
            }
            self.lose_the_store();
            return Ok(());
        }
        self.commit_batch(true)?;
        if let Some(batch) = self
            .server
            .as_mut()
            .and_then(|server| server.batch.as_mut())
        {
            batch.written = true;
        }
        let at = self.now_ms + self.between(TELL.0, TELL.1);
        self.queue.push(at, Event::Written(self.epoch));
        Ok(())
    }

    /// Has the store take the batch, again if need be. It is `told` of to whoever wants to know, or taken for a failure.
    fn commit_batch(&mut self, told: bool) -> Result<(), String> {
        let batch = self
            .server
            .as_mut()
            .and_then(|server| server.batch.as_mut());
        let Some(batch) = batch else {
            return Ok(());
        };
        batch.refused = self.store.commit(batch.id, &batch.changes)?.refused;
        if !std::mem::replace(&mut batch.in_doubt, true) {
            self.figures.changes += batch.changes.len() as u64;
            for (number, change) in batch.numbers.iter().zip(&batch.changes) {
                self.checker.committed(self.now_ms, *number, change);
            }
            let changes = if told {
                std::mem::take(&mut batch.changes)
            } else {
                batch.changes.clone()
            };
            self.trace.committed(self.now_ms, changes);
        }
        if told {
            batch.changes.clear();
        }
        Ok(())
    }

    fn lose_the_store(&mut self) {
        let server = self.server.as_mut();
        if server.is_some_and(|server| std::mem::take(&mut server.store_works)) {
            self.tell_store_available(false);
        }
    }

    /// The shards hear of it.
    pub(super) fn written(&mut self) -> Result<(), String> {
        let now = self.now();
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let Some(batch) = server.batch.take() else {
            return Ok(());
        };
        for shard in &mut server.shards {
            for upgrade in &batch.refused {
                let upgrade = *upgrade;
                (shard.engine).handle_command(now, Command::Abandon { upgrade });
            }
        }
        if !std::mem::replace(&mut server.store_works, true) {
            self.tell_store_available(true);
        }
        for (shard, seq) in batch.last {
            let Some(server) = &mut self.server else {
                return Ok(());
            };
            let row = &mut server.shards[shard.index()];
            row.committed = seq;
            row.engine.committed(seq);
            let released = row.outbox.committed(seq);
            (self.checker).released(self.now_ms, shard, seq, released.len());
            for datagram in released {
                self.leave(&datagram);
            }
            self.look_at_waiting(shard);
        }
        self.drain();
        self.batch_committed(batch.ends)
    }

    fn tell_store_available(&mut self, available: bool) {
        let now = self.now();
        if let Some(server) = &mut self.server {
            server.gate.store_available(available);
            server.gate.handle_timeout(now.instant);
            for shard in &mut server.shards {
                (shard.engine).handle_command(now, Command::StoreAvailable(available));
            }
        }
        self.tell_turns();
        self.drain();
    }
}
