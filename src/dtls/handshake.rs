//! One peer's handshake, from the cookie on.
//!
//! OpenSSL repeats a flight when its own clock says so. Time is handed in here, so its timer is
//! stopped, and the flight that waits for an answer is kept and repeated from this side: the same
//! records under new numbers, which is what the library itself would send. A repeated `ClientHello`
//! shows that the flight was lost, and has it repeated at once (RFC 6347 §4.2.4); the library would not.
//!
//! Records under a key cannot be numbered anew. The only flight that has one and waits for an answer is
//! that of a resumption. Of that the library is told to make a few repetitions in advance, by a timer
//! that runs out at once; they are kept until their time comes.

use std::{collections::VecDeque, time::Duration};

use openssl::{
    error::ErrorStack,
    ssl::{ErrorCode, SslStream},
};

use super::{
    RefuseReason,
    association::Association,
    context::{Context, shortest_sealed},
    cookie::Cookie,
    ffi,
    identity::{Identity, Serial},
    notes::{Asked, Notes},
    record,
    setup::Timing,
    transport::Pipe,
};
use crate::clock::Instant;

/// Datagrams taken in one handshake. Five are enough for a client without losses; each may leave
/// fragments or early records behind in the library until the handshake's end.
const MAX_DATAGRAMS: u32 = 64;
/// Of these, those that may begin with records of the next epoch, which are kept whole.
const MAX_EARLY: u32 = 8;

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
    /// The datagrams that wait for an answer.
    flight: Vec<Vec<u8>>,
    /// Its repetitions, as far as they were made in advance.
    spares: VecDeque<Vec<Vec<u8>>>,
    timeout: Duration,
    repeat_at: Option<Instant>,
    datagrams: u32,
    /// Datagrams with something under a key.
    early: u32,
    /// Those that begin so and are kept, until the peer changes to its keys, or somebody in its name.
    kept: Option<u32>,
    /// A message under a key has come: the peer's `Finished`, or what looks like it.
    finished: bool,
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
            flight: Vec::new(),
            spares: VecDeque::new(),
            timeout: timing.initial_timeout,
            repeat_at: None,
            datagrams: 0,
            early: 0,
            kept: Some(0),
            finished: false,
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
        if let Some(datagram) = datagram {
            // The rest of a ClientHello that came in fragments may name DTLS 1.0.
            let shortest = shortest_sealed(self.stream.ssl());
            if !record::is_sound(datagram, shortest, false) {
                return (Progress::Unsound, Vec::new());
            }
            // What comes after the change is opened at once, or left out for good. What could not be real is not kept, so
            // that nobody can use up what may come early.
            let protected = record::has_protected(datagram);
            let begins_protected = protected && !record::begins_in_the_clear(datagram);
            if begins_protected && let Some(kept) = &mut self.kept {
                if !record::may_come_early(datagram) {
                    return (Progress::Unsound, Vec::new());
                }
                if *kept >= MAX_EARLY {
                    return (Progress::TooMany, Vec::new());
                }
                *kept += 1;
            }
            if record::changes_cipher(datagram) {
                self.kept = None;
            }
            self.early += u32::from(protected); // at most MAX_DATAGRAMS
            self.finished |= record::has_protected_handshake(datagram);
            self.answered = true;
            self.expires = self.deadline;
            self.stream.get_mut().put(datagram);
        }
        drop(ErrorStack::get());
        let progress = match self.stream.accept() {
            Ok(()) => Progress::Complete,
            Err(error) => match error.code() {
                ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => Progress::Waiting,
                _ => Progress::Failed,
            },
        };
        let mut outbound = self.stream.get_mut().take();
        if progress == Progress::Waiting && !outbound.is_empty() {
            self.spares.clear();
            while let Some(last) = outbound
                .iter()
                .rposition(|bytes| record::begins_flight(bytes))
                && last > 0
            {
                self.spares
                    .push_front(joined(outbound.split_off(last), self.datagram_len));
            }
            self.flight.clone_from(&outbound);
            self.timeout = timing.initial_timeout;
            self.repeat_at = Some(now + self.timeout);
        }
        (progress, outbound)
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
        if let Some(spare) = self.spares.pop_front() {
            return spare;
        }
        let pipe = self.stream.get_mut();
        self.flight
            .iter()
            .map(|datagram| pipe.repeat(datagram))
            .collect()
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
            Asked::Known(_) if self.early > 0 => Some(RefuseReason::WrongKey),
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
                if self.finished && self.stream.ssl().state_string() == AWAITS_FINISHED =>
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
        self.stream.get_mut().take()
    }

    /// What a complete handshake was for.
    pub(super) fn into_association(self) -> Association {
        Association::new(self.stream)
    }
}

/// The same records in as few datagrams as they fit into. OpenSSL repeats each message on its own.
fn joined(datagrams: Vec<Vec<u8>>, max_len: usize) -> Vec<Vec<u8>> {
    let mut joined: Vec<Vec<u8>> = Vec::new();
    for datagram in datagrams {
        match joined.last_mut() {
            Some(last) if last.len() + datagram.len() <= max_len => last.extend(datagram),
            _ => joined.push(datagram),
        }
    }
    joined
}
