//! Drives the committer: the time of transactions, and their failures.

use std::time::Duration;

use rand_chacha::rand_core::Rng as _;

use super::{Occurrence, World, millis_of};
use crate::{
    engine::{Command, ShardId},
    shard::{Batch, Message, NotWritten, Told},
    simulate::{hooks::Hooks, invariants::Number},
    store::{BatchId, CommitReport},
};

/// How long a transaction takes to its write.
const WRITE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(45));

/// The transaction that runs.
#[derive(Debug)]
pub(super) struct Transaction {
    batch: Batch,
    /// How many changes the committer has put into it.
    count: usize,
}

/// What was done with the batches so far.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The last one that went through the hooks, and how many changes it had before.
    hooked: Option<(BatchId, usize)>,
    /// The one that is in the store, although that may not have been heard.
    stored: Option<BatchId>,
}

impl Transaction {
    pub(super) fn len(&self) -> usize {
        self.batch.changes.len()
    }
}

impl<H: Hooks> World<H> {
    /// Takes what has gathered, when the store is at leisure.
    pub(super) fn begin_batch(&mut self) {
        let now = self.now().instant;
        let Some(server) = &mut self.server else {
            return;
        };
        if server.transaction.is_some() {
            return;
        }
        let Some(mut batch) = server.committer.poll_batch(now) else {
            return;
        };
        let count = match server.written.hooked {
            Some((id, count)) if id == batch.id => count,
            _ => batch.changes.len(),
        };
        if server.written.hooked.map(|(id, _)| id) != Some(batch.id) {
            server.written.hooked = Some((batch.id, count));
            break_on_purpose(&mut self.hooks, &mut batch);
        }
        server.transaction = Some(Transaction { batch, count });
        let at = self.now_ms + self.between(WRITE.0, WRITE.1);
        self.queue.push(at, Occurrence::Write(self.epoch));
    }

    /// The transaction is committed, or fails and is tried again.
    pub(super) fn write(&mut self) -> Result<(), String> {
        let now = self.now().instant;
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let Some(transaction) = server.transaction.take() else {
            // it is time to try again
            self.begin_batch();
            return Ok(());
        };
        if self.now_ms >= self.store_fails_until_ms {
            let (report, new) = self.store(&transaction)?;
            if let Some(server) = &mut self.server {
                server.committer.written(report);
            }
            if new {
                (self.trace).committed(self.now_ms, transaction.batch.changes);
            }
        } else {
            // Of the first failure of some batches only the answer was lost.
            let works = server.store_works;
            if works && self.rng.next_u64().is_multiple_of(2) {
                self.store(&transaction)?;
                (self.trace).committed(self.now_ms, transaction.batch.changes.clone());
            }
            if let Some(server) = &mut self.server {
                let batch = transaction.batch;
                server.committer.not_written(now, batch, NotWritten::Failed);
                if let Some(at) = server.committer.poll_timeout() {
                    let at = millis_of(at);
                    self.queue.push(at, Occurrence::Write(self.epoch));
                }
            }
        }
        self.tell_what_was_written()
    }

    /// Has the store take the batch, again if need be. Returns whether it did not have it.
    fn store(&mut self, transaction: &Transaction) -> Result<(CommitReport, bool), String> {
        let batch = &transaction.batch;
        let report = self.store.commit(batch.id, &batch.changes)?;
        let Some(server) = &mut self.server else {
            return Ok((report, false));
        };
        let new = server.written.stored.replace(batch.id) != Some(batch.id);
        if new {
            server.emitted_at_ms.drain(..transaction.count);
            self.figures.changes += batch.changes.len() as u64;
            for (number, change) in batch.numbers.iter().zip(&batch.changes) {
                (self.checker).committed(self.now_ms, number_of(*number), change);
            }
        }
        Ok((report, new))
    }

    fn tell_what_was_written(&mut self) -> Result<(), String> {
        let now = self.now().instant;
        let mut ended = false;
        while let Some(server) = &mut self.server
            && let Some(told) = server.committer.poll_told()
        {
            match told {
                Told::StoreAvailable(available) => {
                    server.store_works = available;
                    server.gate.store_available(available);
                    server.gate.handle_timeout(now);
                    self.tell_all(|| Message::Obey(Command::StoreAvailable(available)));
                    self.tell_turns();
                }
                Told::Abandon(upgrade) => {
                    self.tell_all(|| Message::Obey(Command::Abandon { upgrade }));
                }
                Told::Committed(shard, seq) => self.post(shard, Message::Committed(seq)),
                Told::AttemptEnded => ended = true,
                Told::Announced => {} // no application listens
                Told::LeftOut(change) => return Err(format!("the store refuses {change:?}")),
            }
        }
        self.drain();
        if ended { self.signal() } else { Ok(()) }
    }
}

pub(super) const fn number_of((shard, seq): (ShardId, u64)) -> Number {
    Number { shard, seq }
}

fn break_on_purpose(hooks: &mut impl Hooks, batch: &mut Batch) {
    let numbers = std::mem::take(&mut batch.numbers);
    let changes = std::mem::take(&mut batch.changes);
    let mut both = Vec::with_capacity(changes.len());
    for (number, mut change) in numbers.into_iter().zip(changes) {
        if hooks.commits(&mut change) {
            both.push((number_of(number), change));
        }
    }
    hooks.batches(&mut both);
    for (number, change) in both {
        batch.numbers.push((number.shard, number.seq));
        batch.changes.push(change);
    }
}
