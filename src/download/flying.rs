//! What of a package was sent on a connection and has not arrived yet.
//!
//! Pure: whoever looks brings how many bytes of the connection the peer has acknowledged. What was written besides the package (heads,
//! and what TLS says for itself) is among these bytes, and never taken for the package.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use crate::grants::{Grants, Live};

/// Bytes that were written together.
#[derive(Debug)]
struct Piece {
    live: Arc<Live>,
    /// Of the package.
    bytes: Range<u64>,
    /// How many bytes the connection had carried after the last of these.
    wire_end: u64,
}

/// When what has arrived is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// When enough has come together.
    Seldom,
    /// When nothing of this connection is in flight any more.
    WhenAll,
    /// At once.
    Now,
}

/// In the order in which they were written. Without TLS a response is one piece; with TLS each record is one, until it has arrived.
#[derive(Debug, Default)]
pub(super) struct Flying(VecDeque<Piece>);

impl Flying {
    /// Whether all has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Pieces that are kept.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes of packages that have not arrived.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = self.0.iter().map(|it| it.bytes.end - it.bytes.start);
        bytes.sum()
    }

    /// These bytes of the package were written as those bytes of the connection.
    pub(super) fn push(&mut self, live: &Arc<Live>, bytes: Range<u64>, wire: &Range<u64>) {
        let alike = bytes.end - bytes.start == wire.end - wire.start;
        if let Some(last) = self.0.back_mut().filter(|last| {
            alike
                && last.wire_end == wire.start
                && last.bytes.end == bytes.start
                && Arc::ptr_eq(&last.live, live)
        }) {
            last.bytes.end = bytes.end;
            last.wire_end = wire.end;
            return;
        }
        self.0.push_back(Piece {
            live: live.clone(),
            bytes,
            wire_end: wire.end,
        });
    }

    /// The peer has acknowledged so many bytes of the connection. Of a record that has arrived in part nothing can be read.
    pub(super) fn land(
        &mut self,
        grants: &Grants,
        acknowledged: u64,
        in_records: bool,
        tell: Tell,
    ) {
        // what hangs together counts at once
        let mut here: Option<(Arc<Live>, Range<u64>)> = None;
        while let Some(piece) = self.0.front_mut() {
            let left = piece.wire_end.saturating_sub(acknowledged);
            if left > 0 && in_records {
                break;
            }
            let until = piece.bytes.end.saturating_sub(left);
            if until <= piece.bytes.start {
                break;
            }
            let bytes = piece.bytes.start..until;
            piece.bytes.start = until;
            let live = piece.live.clone();
            if left == 0 {
                self.0.pop_front();
            }
            match &mut here {
                Some((same, before)) if Arc::ptr_eq(same, &live) && before.end == bytes.start => {
                    before.end = bytes.end;
                }
                _ => {
                    if let Some((live, bytes)) = here.replace((live, bytes)) {
                        grants.arrived(&live, bytes, tell != Tell::Seldom);
                    }
                }
            }
        }
        let due = tell == Tell::Now || tell == Tell::WhenAll && self.0.is_empty();
        if let Some((live, bytes)) = here {
            grants.arrived(&live, bytes, due);
        } else if let Some(piece) = self.0.front().filter(|_| due) {
            let at = piece.bytes.start;
            grants.arrived(&piece.live, at..at, due);
        }
        if self.0.is_empty() {
            self.0 = VecDeque::new(); // its memory goes with it
        }
    }

    /// The connection is over, and the peer has acknowledged no more than this.
    pub(super) fn lose(&mut self, grants: &Grants, acknowledged: u64, in_records: bool) {
        self.land(grants, acknowledged, in_records, Tell::WhenAll);
        for piece in std::mem::take(&mut self.0) {
            grants.lost(&piece.live, piece.bytes.end - piece.bytes.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::UtcMillis,
        grants::{Grant, Token, Way},
        ledger::{DeviceId, PackageId, TaskId, UpgradeId},
    };

    const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz";
    const SIZE: u64 = 100_000;
    /// What TLS 1.3 adds to a record.
    const MORE: u64 = 22;

    fn live() -> (Grants, Arc<Live>) {
        let grants = Grants::default();
        grants.grant(Grant {
            token: Token::new(TOKEN).unwrap(),
            way: Way::Path,
            device: DeviceId::from_bytes([7; 8]),
            upgrade: UpgradeId(1),
            task: TaskId(1),
            package: PackageId(3),
            sha256: "0".repeat(64),
            size_bytes: SIZE,
            file_name: "a".to_owned(),
            expires_at: UtcMillis(i64::MAX),
            already_contiguous: 0,
            begun: true,
        });
        let opened = grants
            .open(TOKEN, None, 1, &Arc::default(), UtcMillis(0))
            .unwrap();
        let live = opened.live();
        (grants, live)
    }

    /// Written as records of 10,000 bytes, after a head of 300.
    fn as_records(grants: &Grants, live: &Arc<Live>) -> (Flying, u64) {
        let mut flying = Flying::default();
        let mut wire = 300;
        for at in (0..SIZE).step_by(10_000) {
            let end = wire + 10_000 + MORE;
            grants.sent(live, 10_000, false);
            flying.push(live, at..at + 10_000, &(wire..end));
            wire = end;
        }
        (flying, wire)
    }

    #[test]
    fn what_is_acknowledged_stays_whatever_is_written_after_it() {
        let (grants, live) = live();
        let (mut flying, wire) = as_records(&grants, &live);
        // all of the package, and nothing of the words with which TLS ends
        flying.lose(&grants, wire, true);
        assert!(flying.is_empty());
        assert_eq!(live.contiguous_bytes(), SIZE);
    }

    #[test]
    fn of_records_only_whole_ones_arrive() {
        let (grants, live) = live();
        let (mut flying, wire) = as_records(&grants, &live);
        flying.land(&grants, 300 + 3 * (10_000 + MORE), true, Tell::Seldom);
        assert_eq!(flying.len(), 7);
        // all but the last byte of the last record
        flying.lose(&grants, wire - 1, true);
        assert_eq!(live.contiguous_bytes(), SIZE - 10_000);
    }

    #[test]
    fn without_records_each_byte_arrives_by_itself() {
        let (grants, live) = live();
        let mut flying = Flying::default();
        for at in (0..SIZE).step_by(10_000) {
            grants.sent(&live, 10_000, false);
            flying.push(&live, at..at + 10_000, &(300 + at..300 + at + 10_000));
        }
        assert_eq!(flying.len(), 1);
        flying.land(&grants, 300 + 5_000, false, Tell::Seldom);
        assert_eq!((flying.len(), live.contiguous_bytes()), (1, 5_000));
        flying.lose(&grants, 300 + 12_345, false);
        assert_eq!(live.contiguous_bytes(), 12_345);
    }

    #[test]
    fn nothing_counts_before_it_has_arrived() {
        let (grants, live) = live();
        let (flying, _) = as_records(&grants, &live);
        assert_eq!(flying.len(), 10);
        assert_eq!(live.contiguous_bytes(), 0);
        let served = grants.look(&live.grant().token).unwrap();
        assert!(served.in_flight && !served.whole);
    }

    #[test]
    fn nothing_arrives_of_what_was_not_reached() {
        let (grants, live) = live();
        let (mut flying, _) = as_records(&grants, &live);
        flying.lose(&grants, 100, true);
        assert_eq!(live.contiguous_bytes(), 0);
        grants.sent(&live, 10, false);
        flying.push(&live, 0..10, &(300..310));
        flying.lose(&grants, 100, false);
        assert_eq!(live.contiguous_bytes(), 0);
    }
}
