//! The leases that an engine serves from. Serving takes no memory and no lock.

use std::{ops::Range, time::Duration};

use hashbrown::HashTable;

use super::{Fetched, Lease, tally::Tally};
use crate::{
    clock::Instant,
    coap::{Code, ContentRequest, Datagram, Part, Peer, content_response},
    engine::{
        Incoming,
        timers::{AlarmId, Timers},
    },
    ledger::PullToken,
    package::Spans,
};

/// Leases of one engine. As only devices with a slot have one, it is not reached; whoever comes then is not answered.
const MAX_LEASES: usize = 100_000;
/// One that is not used for so long is dropped, and asked for again.
const UNUSED: Duration = Duration::from_mins(15);
/// What was served is told so often while blocks are asked for,
const TOLD_EVERY: Duration = Duration::from_secs(30);
/// or whenever so much of it was answered.
const TOLD_EVERY_BYTES: u64 = 64 * 1024;
/// A device that asks for the end again and again has that told so often.
const END_TOLD_EVERY: Duration = Duration::from_secs(5);

/// The leases that an engine serves from.
#[derive(Debug, Default)]
pub(in crate::engine) struct Leases {
    rows: HashTable<Row>,
    timers: Timers<PullToken>,
}

#[derive(Debug)]
struct Row {
    lease: Lease,
    used_at: Instant,
    /// When a block may be answered again.
    free_at: Instant,
    /// The one answer that waits until then.
    waits: Option<Answer>,
    /// What was served from this lease.
    served: Spans,
    tally: Tally,
    /// The end of the package was served since it was told last.
    ended: bool,
    /// It was told before.
    ended_before: bool,
    told_at: Option<Instant>,
    alarm: Option<AlarmId>,
}

/// An answer, and what is counted when it leaves.
#[derive(Debug)]
struct Answer {
    peer: Peer,
    datagram: Datagram,
    /// The bytes of the package in it.
    bytes: Range<u64>,
    /// Bytes of the request.
    request: usize,
}

/// A block that is served.
pub(super) struct Served {
    /// Whose answer leaves, unless that waits.
    pub(super) leaves: Option<(Peer, Datagram)>,
    /// It is to be told what was served.
    pub(super) tells: bool,
}

impl Leases {
    /// Serves the block that is asked for; or says why not. `None` where there is no such lease.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        token: PullToken,
        request: &ContentRequest<'_>,
        incoming: &Incoming<'_>,
        message_id: impl FnOnce() -> u16,
    ) -> Option<Result<Served, Code>> {
        let row = find(&mut self.rows, token)?;
        let served = row.serve(now, request, incoming, message_id);
        set_alarm(&mut self.timers, now, row);
        Some(served)
    }

    /// Takes a lease, unless there are too many.
    pub(super) fn begin(&mut self, now: Instant, lease: Lease) -> bool {
        let token = lease.token;
        if find(&mut self.rows, token).is_some() {
            return true; // two were asked for at once
        }
        if self.rows.len() >= MAX_LEASES {
            return false;
        }
        let mut row = Row {
            lease,
            used_at: now,
            free_at: now,
            waits: None,
            served: Spans::default(),
            tally: Tally::default(),
            ended: false,
            ended_before: false,
            told_at: None,
            alarm: None,
        };
        set_alarm(&mut self.timers, now, &mut row);
        (self.rows).insert_unique(token.number(), row, |row| row.lease.token.number());
        true
    }

    /// Drops a lease. What was served from it and not told is told now.
    pub(super) fn remove(&mut self, token: PullToken) -> Option<Fetched> {
        let entry = (self.rows).find_entry(token.number(), |row| row.lease.token == token);
        let (mut row, _) = entry.ok()?.remove();
        if let Some(alarm) = row.alarm.take() {
            self.timers.cancel(alarm);
        }
        row.take_fetched(row.used_at)
    }

    /// What was served, if that was not told. It is to be [kept](Self::keep) on.
    pub(super) fn take_fetched(&mut self, now: Instant, token: PullToken) -> Option<Fetched> {
        let row = find(&mut self.rows, token)?;
        let fetched = row.take_fetched(now);
        set_alarm(&mut self.timers, now, row);
        fetched
    }

    /// What was served of it, as was told.
    pub(super) fn keep(&mut self, token: PullToken, served: Spans) {
        if let Some(row) = find(&mut self.rows, token) {
            row.served = served;
        }
    }

    /// When something is due.
    pub(in crate::engine) fn next(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next thing that is due. Leases that were not used for long are dropped.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(PullToken, Served)> {
        while let Some(token) = self.timers.pop_due(now) {
            let Some(row) = find(&mut self.rows, token) else {
                continue;
            };
            row.alarm = None;
            let leaves = row.answer_due(now);
            let tells = !row.tally.is_empty() && row.is_old(now);
            if row.used_at + UNUSED <= now && leaves.is_none() && !tells {
                self.remove(token);
                continue;
            }
            // else it is set when that is told
            if !tells {
                set_alarm(&mut self.timers, now, row);
            }
            if leaves.is_some() || tells {
                return Some((token, Served { leaves, tells }));
            }
        }
        None
    }

    #[cfg(test)]
    pub(in crate::engine) fn len(&self) -> usize {
        self.rows.len()
    }
}

impl Row {
    fn serve(
        &mut self,
        now: Instant,
        request: &ContentRequest<'_>,
        incoming: &Incoming<'_>,
        message_id: impl FnOnce() -> u16,
    ) -> Result<Served, Code> {
        if !self.lease.is_for(&incoming.speaker) {
            return Err(Code::NOT_FOUND);
        }
        let content = &self.lease.content;
        let len = content.bytes().len();
        let part = Part::of(len, request.asked?, self.lease.block_bytes)?;
        let whole = (content.bytes(), content.etag());
        let answer = Answer {
            peer: incoming.peer(),
            datagram: content_response(incoming.message, message_id(), whole, part),
            bytes: part.start as u64..part.end as u64,
            request: incoming.bytes.len(),
        };
        self.used_at = now;
        // One that waits already was asked for again, or was given up.
        self.waits = None;
        if self.free_at > now {
            self.waits = Some(answer);
            return Ok(Served {
                leaves: None,
                tells: false,
            });
        }
        let leaves = Some(self.leave(now, answer));
        let tells = self.is_news(now);
        Ok(Served { leaves, tells })
    }

    /// The answer leaves, and counts.
    fn leave(&mut self, now: Instant, answer: Answer) -> (Peer, Datagram) {
        let Answer {
            peer,
            datagram,
            bytes,
            request,
        } = answer;
        let again = self.served.have(&bytes);
        self.tally.add(request, datagram.len(), again);
        self.ended |= bytes.end == self.lease.len();
        self.free_at = now + self.lease.pause_after(bytes.end - bytes.start);
        self.served.add(bytes);
        (peer, datagram)
    }

    /// Whether what was served is to be told with this block.
    fn is_news(&self, now: Instant) -> bool {
        let Some(told_at) = self.told_at else {
            return true; // it is the first
        };
        // the end is told at once, and again and again only now and then
        let ends = self.ended && (!self.ended_before || now.since(told_at) >= END_TOLD_EVERY);
        self.tally.answered() >= TOLD_EVERY_BYTES || ends || self.is_old(now)
    }

    /// Whether nothing was told for so long.
    fn is_old(&self, now: Instant) -> bool {
        self.told_at.is_none_or(|at| at + TOLD_EVERY <= now)
    }

    /// The answer that waits, if its time has come.
    fn answer_due(&mut self, now: Instant) -> Option<(Peer, Datagram)> {
        let answer = self.waits.take_if(|_| self.free_at <= now)?;
        Some(self.leave(now, answer))
    }

    fn take_fetched(&mut self, now: Instant) -> Option<Fetched> {
        if self.tally.is_empty() {
            return None;
        }
        let since = self.told_at.unwrap_or(self.used_at);
        self.told_at = Some(now);
        self.ended_before |= self.ended;
        Some(Fetched {
            token: self.lease.token,
            upgrade: self.lease.upgrade,
            task: self.lease.task,
            served: std::mem::take(&mut self.served),
            ended: std::mem::take(&mut self.ended),
            secured: self.lease.is_secured(),
            tally: std::mem::take(&mut self.tally),
            since: since.min(self.used_at),
            last_at: self.used_at,
        })
    }

    /// When something is due with it.
    fn due(&self) -> Instant {
        let answer = self.waits.as_ref().map(|_| self.free_at);
        let told = (self.told_at.filter(|_| !self.tally.is_empty())).map(|at| at + TOLD_EVERY);
        let unused = self.used_at + UNUSED;
        answer.into_iter().chain(told).fold(unused, Instant::min)
    }
}

fn find(rows: &mut HashTable<Row>, token: PullToken) -> Option<&mut Row> {
    rows.find_mut(token.number(), |row| row.lease.token == token)
}

/// Sets the lease's alarm to what is due next, unless an earlier one rings anyway.
fn set_alarm(timers: &mut Timers<PullToken>, now: Instant, row: &mut Row) {
    let due = row.due().max(now);
    if let Some(set) = row.alarm {
        if timers.at(set) <= due {
            return;
        }
        timers.cancel(set);
    }
    row.alarm = Some(timers.set(due, row.lease.token));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        engine::PullTerms,
        ledger::{DeviceIds, PackageId, TaskId, UpgradeId},
        package::Content,
    };

    #[test]
    fn there_is_room_for_so_many_leases_and_again_when_they_are_not_used() {
        let ids = DeviceIds::new([7; 32]);
        let device = ids.of("meter-1");
        let content = Content::new(Bytes::from_static(b"content"), &"ab".repeat(32));
        let mut terms = PullTerms {
            content: content.unwrap(),
            upgrade: UpgradeId(0),
            task: TaskId(1),
            attempt: 1,
            package: PackageId(1),
            block_bytes: 512,
            secured: false,
            bytes_per_second: 0,
            done_bytes: 0,
        };
        let mut lease = |upgrade| {
            terms.upgrade = UpgradeId(upgrade);
            let token = ids.pull_token(device, terms.upgrade, 1, terms.package);
            Lease::new(token, "meter-1".into(), None, &terms)
        };
        let mut leases = Leases::default();
        let now = Instant::ZERO;
        let most = i64::try_from(MAX_LEASES).unwrap();
        for upgrade in 0..most {
            assert!(leases.begin(now, lease(upgrade)));
        }
        assert!(!leases.begin(now, lease(most)));
        assert!(leases.begin(now, lease(0)), "it is there");
        assert_eq!(leases.len(), MAX_LEASES);
        let later = now + UNUSED;
        assert!(leases.pop_due(later).is_none());
        assert_eq!((leases.len(), leases.next()), (0, None));
        assert!(leases.begin(later, lease(most)));
    }
}
