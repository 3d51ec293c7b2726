use thiserror::Error;

use super::{
    cid::Ids,
    context::MAX_PAYLOAD_LEN,
    flight::{Flight, Numbers},
    keys::Keys,
    protect,
    record::{self, ALERT, APPLICATION_DATA, CLIENT_HELLO, FINISHED, HANDSHAKE},
    window::Window,
};

/// Messages of a handshake under the key that are answered yet: repetitions of the peer's last flight, when ours to
/// answer it was lost.
const LATE_MESSAGES: u8 = 16;

const CLOSE_NOTIFY: u8 = 0;
const NO_RENEGOTIATION: u8 = 100;
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// One peer's established association: records in, records out, nothing else.
///
/// It knows neither its peer's address nor its identity.
pub(super) struct Association {
    keys: Box<Keys>,
    ids: Option<Ids>,
    window: Window,
    numbers: Numbers,
    /// The end of a whole handshake, until the peer shows that it has it.
    last: Option<Box<Flight>>,
    late: u8,
    /// Longest datagram of a handshake, bytes.
    datagram_len: u16,
}

/// What a handshake leaves.
pub(super) struct Beginning {
    pub(super) keys: Keys,
    pub(super) ids: Option<Ids>,
    pub(super) window: Window,
    pub(super) numbers: Numbers,
    pub(super) last: Option<Flight>,
    pub(super) datagram_len: usize,
}

/// Whether an association goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It does.
    Open,
    /// The peer has closed it, with the key.
    Closed,
    /// The peer has given it up, with the key.
    Failed,
}

/// What came of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) state: State,
    /// The contents of records of application data.
    pub(super) data: Vec<Vec<u8>>,
    /// The datagrams that are to leave.
    pub(super) answer: Vec<Vec<u8>>,
    /// A record was the peer's.
    pub(super) authentic: bool,
    /// One was the peer's, and newer than all before.
    pub(super) newest: bool,
    /// Records that may have held data and were none of the peer's, or old.
    pub(super) rejected: u64,
}

/// A datagram could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// There is no association with the peer.
    #[error("there is no association with this peer")]
    NoAssociation,
    /// Longer than [`MAX_PAYLOAD_LEN`].
    #[error("longer than {MAX_PAYLOAD_LEN} bytes")]
    TooLong,
    /// The peer has only just been heard from its new address, and might not be there: so much is sent later.
    #[error("more than may be sent before the peer is heard once more from its new address")]
    Unproven,
    /// The record layer does not take it: the association is at its end.
    #[error("the association cannot send any more")]
    Failed,
}

impl Association {
    /// What a finished handshake leaves.
    pub(super) fn new(begin: Beginning) -> Self {
        Self {
            keys: Box::new(begin.keys),
            ids: begin.ids,
            window: begin.window,
            numbers: begin.numbers,
            last: begin.last.map(Box::new),
            late: LATE_MESSAGES,
            datagram_len: u16::try_from(begin.datagram_len).unwrap_or(u16::MAX),
        }
    }

    /// What its records carry, if that was agreed.
    pub(super) fn ids(&self) -> Option<&Ids> {
        self.ids.as_ref()
    }

    /// Opens the records of a datagram. Those that are forged, damaged or repeated are left out without a word
    /// (RFC 6347 §4.1.2.7), and so is what is not under the key.
    pub(super) fn receive(&mut self, datagram: &[u8]) -> Received {
        let mut received = Received {
            state: State::Open,
            data: Vec::new(),
            answer: Vec::new(),
            authentic: false,
            newest: false,
            rejected: 0,
        };
        for record in record::records(datagram).filter(|record| record.epoch > 0) {
            let opened = self.open(&record, &mut received.newest);
            let Some(opened) = opened else {
                received.rejected += u64::from(record.may_hold_data());
                continue;
            };
            received.authentic = true;
            match (opened.kind, &opened.content[..]) {
                (APPLICATION_DATA, _) => {
                    self.last = None; // the peer has it
                    received.data.push(opened.content);
                }
                (ALERT, [_, CLOSE_NOTIFY]) => received.state = State::Closed,
                (ALERT, [FATAL, _]) => received.state = State::Failed,
                (HANDSHAKE, [kind, ..]) => received.answer.extend(self.answer(*kind)),
                _ => {}
            }
            if received.state != State::Open {
                break;
            }
        }
        received
    }

    fn open(&mut self, record: &record::Record<'_>, newest: &mut bool) -> Option<protect::Opened> {
        let own = self.ids.as_ref().map(|ids| ids.own);
        if record.id != own || !self.window.is_fresh(record.number()) {
            return None;
        }
        let opened = protect::open(self.keys.suite, &self.keys.client, record)?;
        *newest |= self.window.take(record.number());
        Some(opened)
    }

    /// What a late message of a handshake is answered.
    fn answer(&mut self, kind: u8) -> Vec<Vec<u8>> {
        let Some(left) = self.late.checked_sub(1) else {
            return Vec::new();
        };
        let answer = match (kind, &self.last) {
            (FINISHED, Some(flight)) => flight.transmit(
                Some(&self.keys),
                self.ids.as_ref(),
                &mut self.numbers,
                self.datagram_len.into(),
            ),
            (CLIENT_HELLO, _) => {
                (self.seal(ALERT, &[WARNING, NO_RENEGOTIATION]).into_iter()).collect()
            }
            _ => return Vec::new(),
        };
        self.late = left;
        answer
    }

    /// Seals `bytes` as one record.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SendError> {
        if bytes.len() > MAX_PAYLOAD_LEN {
            return Err(SendError::TooLong);
        }
        self.seal(APPLICATION_DATA, bytes).ok_or(SendError::Failed)
    }

    /// What tells the peer that it is over.
    pub(super) fn close(&mut self) -> Option<Vec<u8>> {
        self.seal(ALERT, &[WARNING, CLOSE_NOTIFY])
    }

    fn seal(&mut self, kind: u8, content: &[u8]) -> Option<Vec<u8>> {
        let number = self.numbers.take_sealed()?;
        let id = self.ids.as_ref().map_or(&[][..], |ids| &ids.peer);
        protect::seal(
            self.keys.suite,
            &self.keys.server,
            number,
            kind,
            content,
            id,
        )
    }
}
