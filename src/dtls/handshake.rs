//! One peer's handshake, from the cookie on.
//!
//! OpenSSL leads it. Its records under a key are ours, because they may carry Connection IDs: what comes in is opened here, and
//! handed to the library as an ordinary record if it was the peer's; what the library writes is opened, and sealed anew.
//!
//! OpenSSL repeats a flight when its own clock says so. Time is handed in here, so its timer is
//! stopped, and the flight that waits for an answer is kept and repeated from this side. A repeated `ClientHello`
//! shows that the flight was lost, and has it repeated at once (RFC 6347 §4.2.4); the library would not.

use std::time::Duration;

use openssl::{
    error::ErrorStack,
    ssl::{ErrorCode, SslCipherRef, SslStream},
};

use super::{
    RefuseReason,
    association::{Association, Beginning},
    cid::{Ids, OwnId},
    context::Context,
    cookie::Cookie,
    ffi,
    flight::{Flight, Numbers},
    identity::{Identity, Serial},
    keys::{Keys, Suite},
    notes::{Asked, Notes},
    protect,
    record::{self, ALERT, APPLICATION_DATA, HANDSHAKE, Record},
    setup::Timing,
    transport::Pipe,
    window::Window,
};
use crate::clock::Instant;

/// Datagrams taken in one handshake. Five are enough for a client without losses; each may leave
/// fragments or early records behind in the library until the handshake's end.
const MAX_DATAGRAMS: u32 = 64;
/// Records under a key that are kept before the key is known; and those of data that are kept until the end.
const MAX_EARLY: usize = 8;

/// Where a handshake stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for the peer.
    Waiting,
    /// It is complete.
    Complete,
    /// It has failed; an alert may have to leave.
    Failed,
    /// The datagram was not taken: the peer has sent too many of the next epoch.
    TooMany,
    /// The datagram was not taken: it is not what a peer would send now.
    Unsound,
}

/// What OpenSSL calls a server that has read the peer's `ChangeCipherSpec` and waits for its `Finished`.
const AWAITS_FINISHED: &str = "TRCCS";

/// What has come under a key, or looks so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Nothing,
    Protected,
    /// A message: the peer's `Finished`, or what looks like it.
    Finished,
}

/// A handshake that is not complete.
pub(super) struct Handshake {
    stream: SslStream<Pipe>,
    /// Of the `ClientHello`.
    pub(super) random: [u8; 32],
    /// Longest datagram that is sent, bytes.
    datagram_len: usize,
    pub(super) serial: Serial,
    /// When it is given up.
    expires: Instant,
    /// When it is, once the peer has answered.
    deadline: Instant,
    answered: bool,
    /// What waits for an answer.
    flight: Flight,
    timeout: Duration,
    repeat_at: Option<Instant>,
    datagrams: u32,
    keys: Option<Keys>,
    window: Window,
    numbers: Numbers,
    /// Records under a key that came before the key was known.
    early: Vec<Vec<u8>>,
    /// Records under the key that the library was given: it may keep them all.
    handed: usize,
    /// Application data that came before the end.
    data: Vec<Vec<u8>>,
    /// What has come under a key, or looks so.
    seen: Seen,
    /// What the peer has wrong was told.
    pub(super) fault_told: bool,
}

impl Handshake {
    /// Begins with the `ClientHello` in `datagram`, which shows one of the cookies. `None`: the library
    /// does not take it.
    pub(super) fn begin(
        context: &Context,
        cookies: [Cookie; 2],
        random: [u8; 32],
        now: Instant,
        timing: &Timing,
        datagram: &[u8],
    ) -> Option<Self> {
        drop(ErrorStack::get());
        let serial = context.ledger.advance();
        let ssl = context.ssl(cookies, serial).ok()?;
        let mut stream = SslStream::new(ssl, Pipe::default()).ok()?;
        stream.get_mut().put(datagram);
        if !ffi::listen(&mut stream) {
            return None;
        }
        // Whatever the listening had to say is not for the peer.
        drop(stream.get_mut().take());
        ffi::stop_clock(&mut stream);
        let deadline = now + timing.handshake_deadline;
        let patience = timing.answer_deadline.max(4 * timing.initial_timeout);
        Some(Self {
            stream,
            random,
            datagram_len: context.datagram_len(),
            serial,
            expires: deadline.min(now + patience),
            deadline,
            answered: false,
            flight: Flight::default(),
            timeout: timing.initial_timeout,
            repeat_at: None,
            datagrams: 0,
            keys: None,
            window: Window::default(),
            numbers: Numbers::default(),
            early: Vec::new(),
            handed: 0,
            data: Vec::new(),
            seen: Seen::Nothing,
            fault_told: false,
        })
    }

    /// Takes one from the number of datagrams that the peer may send, repetitions of its `ClientHello`
    /// included. `false`: they are spent.
    pub(super) fn charge(&mut self) -> bool {
        let left = self.datagrams < MAX_DATAGRAMS;
        self.datagrams += u32::from(left);
        left
    }

    /// Goes on with what has arrived, and says what is to be sent.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        timing: &Timing,
        datagram: Option<&[u8]>,
    ) -> (Progress, Vec<Vec<u8>>) {
        let mut progress = Progress::Waiting;
        let mut said = Flight::default();
        if let Some(datagram) = datagram {
            if !record::is_sound(datagram) {
                return (Progress::Unsound, Vec::new());
            }
            for record in record::records(datagram) {
                let taken = self.take(&record, &mut said);
                // data may follow the end
                if progress != Progress::Complete && taken != Progress::Waiting {
                    progress = taken;
                }
                if progress == Progress::Failed {
                    break;
                }
            }
            if !matches!(progress, Progress::TooMany | Progress::Unsound) {
                self.answered = true;
                self.expires = self.deadline;
            }
        } else {
            progress = self.step(&mut said);
        }
        let outbound = self.transmit(&said);
        if !said.is_empty() {
            self.flight = said;
            if progress != Progress::Complete {
                self.timeout = timing.initial_timeout;
                self.repeat_at = Some(now + self.timeout);
            }
        } else if progress == Progress::Complete {
            // a resumption ends with the peer's word
            self.flight = Flight::default();
        }
        (progress, outbound)
    }

    fn transmit(&mut self, flight: &Flight) -> Vec<Vec<u8>> {
        let ids = Notes::of(self.stream.ssl()).and_then(|notes| notes.agreed.as_ref());
        let (keys, len) = (self.keys.as_ref(), self.datagram_len);
        flight.transmit(keys, ids, &mut self.numbers, len)
    }

    /// Goes on with one record.
    fn take(&mut self, record: &Record<'_>, said: &mut Flight) -> Progress {
        if record.epoch == 0 {
            if !record.may_be_clear() {
                return Progress::Unsound;
            }
            self.stream.get_mut().put(record.bytes);
            return self.step(said);
        }
        self.seen = self.seen.max(Seen::Protected);
        if self.keys.is_some() {
            self.see(record);
            return self.open(record, said);
        }
        if !record.may_come_early() {
            return Progress::Unsound;
        }
        if self.early.len() >= MAX_EARLY {
            return Progress::TooMany;
        }
        self.see(record);
        self.early.push(record.bytes.to_vec());
        Progress::Waiting
    }

    /// Has the library go on with what it was given, and then with what has waited for the key.
    fn step(&mut self, said: &mut Flight) -> Progress {
        drop(ErrorStack::get());
        let mut progress = match self.stream.accept() {
            Ok(()) => Progress::Complete,
            Err(error) => match error.code() {
                ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => Progress::Waiting,
                _ => Progress::Failed,
            },
        };
        if self.keys.is_none() {
            self.keys = self.derive();
        }
        let written = self.stream.get_mut().take();
        said.gather(&written, self.keys.as_ref(), &mut self.numbers);
        if self.keys.is_some() {
            for bytes in std::mem::take(&mut self.early) {
                for record in record::records(&bytes) {
                    let opened = self.open(&record, said);
                    if progress == Progress::Waiting {
                        progress = opened;
                    }
                }
            }
        }
        progress
    }

    /// The keys, as soon as the library has the secret that they come from: after the `ClientKeyExchange`, or in a
    /// resumption after the `ClientHello`.
    fn derive(&self) -> Option<Keys> {
        let ssl = self.stream.ssl();
        let suite = ffi::pending_suite(ssl).or_else(|| ssl.current_cipher());
        let suite = suite.map(SslCipherRef::name).and_then(Suite::named)?;
        let session = ssl.session()?;
        let (mut master, mut client, mut server) = ([0; 48], [0; 32], [0; 32]);
        let whole = session.master_key_len() == master.len()
            && session.master_key(&mut master) == master.len()
            && ssl.client_random(&mut client) == client.len()
            && ssl.server_random(&mut server) == server.len();
        whole.then(|| Keys::derive(suite, &master, &client, &server))
    }

    /// Opens a record under the key, and hands on what is in it.
    fn open(&mut self, record: &Record<'_>, said: &mut Flight) -> Progress {
        let own = self.ids().map(|ids| ids.own);
        let Some(keys) = &self.keys else {
            return Progress::Waiting;
        };
        if record.id != own || !self.window.is_fresh(record.number()) {
            return Progress::Waiting;
        }
        let Some(opened) = protect::open(keys.suite, &keys.client, record) else {
            return Progress::Waiting;
        };
        self.window.take(record.number());
        match opened.kind {
            HANDSHAKE | ALERT if self.handed >= MAX_EARLY => Progress::TooMany,
            HANDSHAKE | ALERT => {
                self.handed += 1;
                // for the library, which knows no IDs
                let (kind, content) = (opened.kind, &opened.content);
                let number = record.number();
                let sealed = protect::seal(keys.suite, &keys.client, number, kind, content, &[]);
                let Some(sealed) = sealed else {
                    return Progress::Waiting;
                };
                self.stream.get_mut().put(&sealed);
                self.step(said)
            }
            APPLICATION_DATA if self.data.len() < MAX_EARLY => {
                self.data.push(opened.content);
                Progress::Waiting
            }
            _ => Progress::Waiting,
        }
    }

    fn see(&mut self, record: &Record<'_>) {
        if record.may_end_handshake() {
            self.seen = Seen::Finished;
        }
    }

    fn ids(&self) -> Option<&Ids> {
        Notes::of(self.stream.ssl())?.agreed.as_ref()
    }

    /// The Connection ID of the server's that was agreed on.
    pub(super) fn own_id(&self) -> Option<OwnId> {
        self.ids().map(|ids| ids.own)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(super) fn due(&self) -> Instant {
        self.repeat_at
            .map_or(self.expires, |at| at.min(self.expires))
    }

    /// Whether the peer has sent more than its `ClientHello`.
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// Whether it has taken too long.
    pub(super) fn has_expired(&self, now: Instant) -> bool {
        now >= self.expires
    }

    /// The flight once more, if its time has come.
    pub(super) fn handle_timeout(&mut self, now: Instant, timing: &Timing) -> Vec<Vec<u8>> {
        if self.repeat_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.repeat(now, timing)
    }

    /// The flight once more, at once.
    pub(super) fn repeat(&mut self, now: Instant, timing: &Timing) -> Vec<Vec<u8>> {
        self.timeout = (self.timeout * 2).min(timing.max_timeout);
        self.repeat_at = Some(now + self.timeout);
        let flight = std::mem::take(&mut self.flight);
        let datagrams = self.transmit(&flight);
        self.flight = flight;
        datagrams
    }

    /// Whether the peer has claimed an identity, and whether anybody has it.
    pub(super) fn asked(&self) -> &Asked {
        Notes::of(self.stream.ssl()).map_or(&Asked::Nothing, |notes| &notes.asked)
    }

    /// What the peer has wrong, if it goes on in silence because of it.
    pub(super) fn fault(&self) -> Option<RefuseReason> {
        match self.asked() {
            Asked::Unknown(_) => Some(RefuseReason::UnknownIdentity),
            // Only the end of the handshake comes under its keys, and it could not be opened.
            Asked::Known(_) if self.seen > Seen::Nothing && self.window.is_untouched() => {
                Some(RefuseReason::WrongKey)
            }
            Asked::Known(_) | Asked::Nothing => None,
        }
    }

    /// What the peer has wrong, with whom it has claimed to be, once: as soon as it is known. The handshake goes on in
    /// silence, so that the peer does not learn which of the two it is.
    ///
    /// A `Finished` that has come after the `ChangeCipherSpec` and was not the end could not be opened. Before that, the
    /// one may have overtaken the other.
    pub(super) fn take_fault(&mut self) -> Option<(Asked, RefuseReason)> {
        let asked = self.asked();
        let reason = match asked {
            Asked::Unknown(_) => RefuseReason::UnknownIdentity,
            Asked::Known(_)
                if self.seen == Seen::Finished
                    && self.window.is_untouched()
                    && self.stream.ssl().state_string() == AWAITS_FINISHED =>
            {
                RefuseReason::WrongKey
            }
            Asked::Known(_) | Asked::Nothing => return None,
        };
        let asked = asked.clone();
        (!std::mem::replace(&mut self.fault_told, true)).then_some((asked, reason))
    }

    /// Whom a complete handshake has shown, and whether it resumed a session.
    pub(super) fn identity(&self) -> Option<(Identity, bool)> {
        let ssl = self.stream.ssl();
        Identity::of(ssl).map(|identity| (identity, ssl.session_reused()))
    }

    /// Tells the peer of a complete handshake that it was for nothing.
    pub(super) fn close(&mut self) -> Vec<Vec<u8>> {
        drop(ErrorStack::get());
        // The alert is written or it is not: this is the end in any case.
        let _ = self.stream.shutdown();
        let written = self.stream.get_mut().take();
        let mut farewell = Flight::default();
        farewell.gather(&written, self.keys.as_ref(), &mut self.numbers);
        self.transmit(&farewell)
    }

    /// What a complete handshake was for, with the data that came before its end. `None`: the library has not said its keys.
    pub(super) fn into_association(self) -> Option<(Association, Vec<Vec<u8>>)> {
        let begin = Beginning {
            ids: self.ids().cloned(),
            keys: self.keys?,
            window: self.window,
            numbers: self.numbers,
            last: (!self.flight.is_empty()).then_some(self.flight),
            datagram_len: self.datagram_len,
        };
        Some((Association::new(begin), self.data))
    }
}
