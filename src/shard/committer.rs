//! Writes the shards' changes down, in the order in which they were emitted.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    clock::Instant,
    engine::{Seq, ShardId},
    ledger::{Change, UpgradeId},
    store::{BatchId, CommitReport},
};

/// Changes in one transaction. More wait for the next one, which takes them all again.
pub const COMMIT_BATCH: usize = 1_000;
/// Before the first repeat of a batch that could not be written; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A change that a shard's engine has emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// The shard.
    pub shard: ShardId,
    /// The change's number there.
    pub seq: Seq,
    /// What to remember.
    pub change: Change,
}

/// Changes to be written in one transaction.
#[derive(Debug)]
pub struct Batch {
    /// Its number: the same when it is tried again.
    pub id: BatchId,
    /// In their order.
    pub changes: Vec<Change>,
    /// Whose they are, likewise.
    pub numbers: Vec<(ShardId, Seq)>,
}

/// Why a batch was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotWritten {
    /// A change breaks a rule of the database, a fault of ours: nothing was written.
    Refused,
    /// The database has failed. Whether it was written is not known.
    Failed,
}

/// What the committer has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Whether changes can be stored has changed: to the shards and the gate.
    StoreAvailable(bool),
    /// The store holds another truth about this upgrade: to the shards.
    Abandon(UpgradeId),
    /// Changes of this shard up to this one are committed: to the shard.
    Committed(ShardId, Seq),
    /// An attempt has ended, so that another upgrade may begin.
    AttemptEnded,
    /// Applications are to be told something, though no attempt has ended.
    Announced,
    /// The database does not take this change, which is left out, so that it does not stop the others for ever.
    LeftOut(Box<Change>),
}

/// Gathers changes while a transaction runs, and writes them in the next.
///
/// A batch that cannot be written is tried again for as long as it takes: a change that was dropped would be a device's
/// answer forgotten. It has the same number each time, for it may have been written although that was not heard.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Committer {
    next: BatchId,
    gathered: VecDeque<Emitted>,
    /// Of a batch of which a change was refused: to be written one by one.
    singly: VecDeque<(Change, (ShardId, Seq))>,
    /// What could not be written, and when it is tried again.
    again: Option<(Instant, Batch)>,
    pause: Duration,
    /// The batch that is being written, or was, and is told of when all of it is.
    last: BTreeMap<ShardId, Seq>,
    ends: bool,
    announced: bool,
    refused: Vec<UpgradeId>,
    writing: bool,
    available: bool,
    told: VecDeque<Told>,
}

impl Committer {
    /// Of nothing yet. No other process ever has this number.
    pub const fn new(writer: u64) -> Self {
        Self {
            next: BatchId::first_of(writer),
            gathered: VecDeque::new(),
            singly: VecDeque::new(),
            again: None,
            pause: FIRST_PAUSE,
            last: BTreeMap::new(),
            ends: false,
            announced: false,
            refused: Vec::new(),
            writing: false,
            available: true,
            told: VecDeque::new(),
        }
    }

    /// A change, behind those that were emitted before.
    pub fn emitted(&mut self, emitted: Emitted) {
        self.gathered.push_back(emitted);
    }

    /// What to write now. Nothing more is to be written before [`written`](Self::written) or
    /// [`not_written`](Self::not_written) tells what became of it.
    pub fn poll_batch(&mut self, now: Instant) -> Option<Batch> {
        if self.writing {
            return None;
        }
        let batch = if let Some((_, batch)) = self.again.take_if(|(at, _)| *at <= now) {
            batch
        } else if self.again.is_some() {
            return None;
        } else if let Some((change, number)) = self.singly.pop_front() {
            self.batch(vec![change], vec![number])
        } else if !self.gathered.is_empty() {
            let count = self.gathered.len().min(COMMIT_BATCH);
            let emitted = self.gathered.drain(..count);
            let (changes, numbers): (Vec<_>, Vec<_>) = emitted
                .map(|emitted| (emitted.change, (emitted.shard, emitted.seq)))
                .unzip();
            self.last = numbers.iter().copied().collect();
            self.ends = (changes.iter()).any(|change| matches!(change, Change::Ended { .. }));
            self.batch(changes, numbers)
        } else {
            return None;
        };
        self.writing = true;
        Some(batch)
    }

    fn batch(&mut self, changes: Vec<Change>, numbers: Vec<(ShardId, Seq)>) -> Batch {
        let id = self.next;
        self.next = id.next();
        Batch {
            id,
            changes,
            numbers,
        }
    }

    /// When [`poll_batch`](Self::poll_batch) has something to write again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.again.as_ref().map(|(at, _)| *at)
    }

    /// It was written.
    pub fn written(&mut self, report: CommitReport) {
        self.writing = false;
        self.pause = FIRST_PAUSE;
        self.refused.extend(report.refused);
        self.announced |= report.announced;
        if !self.singly.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.available, true) {
            self.told.push_back(Told::StoreAvailable(true));
        }
        let refused = self.refused.drain(..).map(Told::Abandon);
        self.told.extend(refused);
        let last = std::mem::take(&mut self.last);
        let committed = (last.into_iter()).map(|(shard, seq)| Told::Committed(shard, seq));
        self.told.extend(committed);
        let announced = std::mem::take(&mut self.announced);
        if std::mem::take(&mut self.ends) {
            self.told.push_back(Told::AttemptEnded);
        } else if announced {
            self.told.push_back(Told::Announced);
        }
    }

    /// It was not, as far as is known.
    pub fn not_written(&mut self, now: Instant, batch: Batch, why: NotWritten) {
        self.writing = false;
        match why {
            NotWritten::Refused if batch.changes.len() > 1 => {
                self.singly = batch.changes.into_iter().zip(batch.numbers).collect();
            }
            NotWritten::Refused => {
                let left_out = batch.changes.into_iter().map(Box::new).map(Told::LeftOut);
                self.told.extend(left_out);
                self.writing = true;
                self.written(CommitReport::default());
            }
            NotWritten::Failed => {
                self.again = Some((now + self.pause, batch));
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                if std::mem::replace(&mut self.available, false) {
                    self.told.push_back(Told::StoreAvailable(false));
                }
            }
        }
    }

    /// The next thing to tell.
    pub fn poll_told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// Changes that are not committed, as far as is known, apart from those that are being written.
    pub fn waiting(&self) -> usize {
        let again = self
            .again
            .as_ref()
            .map_or(0, |(_, batch)| batch.changes.len());
        self.gathered.len() + self.singly.len() + again
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UtcMillis;

    const NOW: Instant = Instant::from_millis(1_000);

    fn emitted(shard: u8, seq: Seq, change: Change) -> Emitted {
        Emitted {
            shard: ShardId(shard),
            seq,
            change,
        }
    }

    fn progress(segment: u16) -> Change {
        Change::Progress {
            upgrade: UpgradeId(1),
            progress: crate::ledger::Progress {
                done_bytes: segment.into(),
                total_bytes: 1_200,
            },
            at: UtcMillis(0),
        }
    }

    fn told(committer: &mut Committer) -> Vec<Told> {
        std::iter::from_fn(|| committer.poll_told()).collect()
    }

    #[test]
    fn what_gathers_while_a_transaction_runs_goes_into_the_next() {
        let mut committer = Committer::new(7);
        committer.emitted(emitted(0, 1, progress(1)));
        let first = committer.poll_batch(NOW).unwrap();
        committer.emitted(emitted(1, 1, progress(2)));
        committer.emitted(emitted(0, 2, progress(3)));
        assert!(committer.poll_batch(NOW).is_none(), "one at a time");
        committer.written(CommitReport::default());
        assert_eq!(told(&mut committer), [Told::Committed(ShardId(0), 1)]);
        let second = committer.poll_batch(NOW).unwrap();
        assert_eq!(second.id, first.id.next());
        assert_eq!(second.changes, [progress(2), progress(3)]);
        committer.written(CommitReport {
            refused: vec![UpgradeId(5)],
            announced: true,
        });
        let expected = [
            Told::Abandon(UpgradeId(5)),
            Told::Committed(ShardId(0), 2),
            Told::Committed(ShardId(1), 1),
            Told::Announced,
        ];
        assert_eq!(told(&mut committer), expected);
        assert!(committer.poll_batch(NOW).is_none());
    }

    #[test]
    fn what_failed_is_tried_again_under_its_number_after_longer_and_longer_pauses() {
        let mut committer = Committer::new(7);
        committer.emitted(emitted(0, 1, progress(1)));
        let (mut now, mut pauses) = (NOW, Vec::new());
        let first = committer.poll_batch(now).unwrap();
        let id = first.id;
        committer.not_written(now, first, NotWritten::Failed);
        assert_eq!(told(&mut committer), [Told::StoreAvailable(false)]);
        committer.emitted(emitted(0, 2, progress(2)));
        for _ in 0..8 {
            assert!(committer.poll_batch(now).is_none(), "it is not time yet");
            let at = committer.poll_timeout().unwrap();
            pauses.push(at.since(now).as_millis());
            now = at;
            let again = committer.poll_batch(now).unwrap();
            assert_eq!((again.id, &again.changes[..]), (id, &[progress(1)][..]));
            committer.not_written(now, again, NotWritten::Failed);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        now = committer.poll_timeout().unwrap();
        committer.poll_batch(now).unwrap();
        committer.written(CommitReport::default());
        let expected = [Told::StoreAvailable(true), Told::Committed(ShardId(0), 1)];
        assert_eq!(told(&mut committer), expected);
        assert_eq!(committer.poll_batch(now).unwrap().changes, [progress(2)]);
    }

    #[test]
    fn a_change_that_is_refused_is_left_out_and_the_others_are_written_one_by_one() {
        let mut committer = Committer::new(7);
        for segment in 1..=3 {
            committer.emitted(emitted(0, segment.into(), progress(segment)));
        }
        let all = committer.poll_batch(NOW).unwrap();
        committer.not_written(NOW, all, NotWritten::Refused);
        let mut numbers = Vec::new();
        for segment in 1..=3 {
            let one = committer.poll_batch(NOW).unwrap();
            assert_eq!(one.changes, [progress(segment)]);
            numbers.push(one.id);
            assert!(told(&mut committer).is_empty(), "all of it, or nothing");
            if segment == 2 {
                committer.not_written(NOW, one, NotWritten::Refused);
                let left_out = Told::LeftOut(Box::new(progress(2)));
                assert_eq!(told(&mut committer), [left_out]);
            } else {
                committer.written(CommitReport::default());
            }
        }
        assert_eq!(told(&mut committer), [Told::Committed(ShardId(0), 3)]);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].next()));
    }
}
