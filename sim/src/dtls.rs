//! DTLS 1.2 with a pre-shared key (RFC 6347, RFC 4279), the device's side.
//!
//! A [`DtlsLink`] lies between a [`Device`](crate::Device) and its socket and is driven like it: datagrams
//! and the passing of time go in, datagrams and deadlines come out. It shakes hands when there is
//! something to send, and anew when
//!
//! * it is told to [forget](DtlsLink::forget): the device has restarted, or has another address;
//! * the server ends the association with an alert;
//! * nothing was heard for long although the device asked more than once: the server has forgotten the
//!   association, which it cannot tell a client that does not believe unprotected alerts.
//!
//! Handshakes that fail, and associations that end before the server has said anything in them, are
//! followed by pauses that grow.
//!
//! The stack is `dimpl`, which offers `TLS_PSK_WITH_AES_128_CCM_8` (RFC 6655), the suite that RFC 7925 §4.2
//! makes mandatory, and nothing else. It does not resume sessions, so that each handshake is a full one.

mod stack;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Instant};

use thiserror::Error;

use crate::{psk::Psk, rng::Rng, spec::Timing};
use stack::{Progress, Stack};

/// Datagrams that wait for the end of a handshake; the oldest is dropped for a fifth.
const WAITING: usize = 4;

/// A pause does not grow beyond so many times the first one.
const LONGEST_PAUSE: u64 = 16;

/// An association is given up when so many questions went unanswered, and enough time has passed.
const UNANSWERED: u32 = 2;

/// The stack refuses its settings.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("setting up DTLS: {0}")]
pub struct DtlsError(#[from] dimpl::Error);

/// What a device's DTLS has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DtlsCounters {
    /// Handshakes that led to an association.
    pub handshakes: u64,
    /// Handshakes that did not: nobody answered in time, or the server refused.
    pub failed: u64,
    /// Associations given up because the server fell silent.
    pub forgotten: u64,
    /// Associations that the server ended with an alert.
    pub ended: u64,
}

/// A device's side of DTLS; see the [module](self).
#[derive(Debug)]
pub struct DtlsLink {
    stack: Stack,
    timing: Timing,
    rng: Rng,
    state: State,
    waiting: VecDeque<Waiting>,
    out: VecDeque<Vec<u8>>,
    received: VecDeque<Vec<u8>>,
    /// Failures in a row.
    failures: u32,
    unanswered: Option<Unanswered>,
    counters: DtlsCounters,
}

#[derive(Debug)]
enum State {
    /// No association, and nothing to say.
    Absent,
    Handshake {
        client: Box<dimpl::Dtls>,
        deadline_ms: u64,
    },
    Established {
        client: Box<dimpl::Dtls>,
        /// Whether anything has come over this association.
        heard: bool,
    },
    Pause {
        until_ms: u64,
    },
}

#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    datagram: Vec<u8>,
    asks: bool,
}

/// Questions since something was heard last.
#[derive(Debug, Clone, Copy)]
struct Unanswered {
    since_ms: u64,
    count: u32,
}

impl DtlsLink {
    /// A link without an association. `epoch` is the instant at which the caller's milliseconds begin;
    /// the seed decides how much longer than ordered a pause is.
    pub fn new(psk: &Psk, timing: Timing, epoch: Instant, seed: u64) -> Result<Self, DtlsError> {
        Ok(Self {
            stack: Stack::new(psk, &timing, epoch)?,
            timing,
            rng: Rng::new(seed),
            state: State::Absent,
            waiting: VecDeque::new(),
            out: VecDeque::new(),
            received: VecDeque::new(),
            failures: 0,
            unanswered: None,
            counters: DtlsCounters::default(),
        })
    }

    /// Sends a datagram of the device's, now or after the handshake that it calls for. `asks` tells
    /// whether the server has to react to it.
    pub fn send(&mut self, now_ms: u64, datagram: Vec<u8>, asks: bool) {
        if asks && self.is_forgotten(now_ms) {
            self.counters.forgotten += 1;
            self.state = State::Absent;
        }
        match &mut self.state {
            State::Established { client, .. } => {
                if client.send_application_data(&datagram).is_err() {
                    self.lost(now_ms);
                    return;
                }
                if asks {
                    let since_ms = now_ms;
                    let unanswered = self
                        .unanswered
                        .get_or_insert(Unanswered { since_ms, count: 0 });
                    unanswered.count += 1;
                }
                self.pump(now_ms);
            }
            State::Handshake { .. } | State::Pause { .. } => self.wait(datagram, asks),
            State::Absent => {
                self.wait(datagram, asks);
                self.begin(now_ms);
            }
        }
    }

    /// Takes a datagram from the server.
    pub fn handle_datagram(&mut self, now_ms: u64, datagram: &[u8]) {
        let at = self.stack.instant(now_ms);
        match &mut self.state {
            State::Handshake { client, .. } | State::Established { client, .. } => {
                // The stack wants to know the time first.
                let taken = client
                    .handle_timeout(at)
                    .and_then(|()| client.handle_packet(datagram));
                // An alert may have to be answered before the association is gone.
                let ended = self.pump(now_ms) || taken.is_err();
                if ended {
                    self.lost(now_ms);
                }
            }
            State::Absent | State::Pause { .. } => {}
        }
    }

    /// Repeats what has gone unanswered, and begins what was put off.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        let at = self.stack.instant(now_ms);
        match &mut self.state {
            State::Handshake {
                client,
                deadline_ms,
            } if *deadline_ms <= now_ms => {
                let in_time = client.handle_timeout(at).is_ok();
                if self.pump(now_ms) || !in_time {
                    self.lost(now_ms);
                }
            }
            State::Pause { until_ms } if *until_ms <= now_ms => self.begin(now_ms),
            _ => {}
        }
    }

    /// The next datagram for the socket.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// The next datagram for the device.
    pub fn poll_received(&mut self) -> Option<Vec<u8>> {
        self.received.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do, in the same milliseconds as `now_ms`.
    pub const fn poll_timeout(&self) -> Option<u64> {
        match &self.state {
            State::Handshake { deadline_ms, .. } => Some(*deadline_ms),
            State::Pause { until_ms } => Some(*until_ms),
            // An association has no timers of its own: its last flight is repeated when asked for.
            State::Absent | State::Established { .. } => None,
        }
    }

    /// The device has restarted, or has another address: what there was is gone, without a word.
    pub fn forget(&mut self) {
        self.state = State::Absent;
        self.waiting.clear();
        self.out.clear();
        self.received.clear();
        self.failures = 0;
        self.unanswered = None;
    }

    /// Whether datagrams can be exchanged now.
    pub const fn is_established(&self) -> bool {
        matches!(self.state, State::Established { .. })
    }

    /// What was counted so far.
    pub const fn counters(&self) -> DtlsCounters {
        self.counters
    }

    /// Whether the server must have forgotten the association.
    fn is_forgotten(&self, now_ms: u64) -> bool {
        self.is_established()
            && self.unanswered.is_some_and(|unanswered| {
                unanswered.count >= UNANSWERED
                    && now_ms.saturating_sub(unanswered.since_ms) >= self.timing.silence_ms
            })
    }

    /// A repeated CoAP message has the same bytes: there is no need to send it twice at once.
    fn wait(&mut self, datagram: Vec<u8>, asks: bool) {
        let waiting = Waiting { datagram, asks };
        if self.waiting.contains(&waiting) {
            return;
        }
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(waiting);
    }

    fn begin(&mut self, now_ms: u64) {
        self.unanswered = None;
        let Ok(client) = self.stack.client(now_ms) else {
            self.state = State::Absent;
            self.lost(now_ms);
            return;
        };
        self.state = State::Handshake {
            client: Box::new(client),
            deadline_ms: now_ms,
        };
        self.pump(now_ms);
    }

    /// Carries out what the stack has to say. Returns whether the association has ended.
    fn pump(&mut self, now_ms: u64) -> bool {
        let (State::Handshake { client, .. } | State::Established { client, .. }) = &mut self.state
        else {
            return false;
        };
        let Progress {
            connected,
            heard,
            ended,
            deadline_ms,
        } = self
            .stack
            .drain(client, &mut self.out, &mut self.received, now_ms);
        if connected {
            self.counters.handshakes += 1;
            if let State::Handshake { client, .. } =
                std::mem::replace(&mut self.state, State::Absent)
            {
                let heard = false;
                self.state = State::Established { client, heard };
            }
        }
        match &mut self.state {
            State::Handshake {
                deadline_ms: at, ..
            } => *at = deadline_ms,
            State::Established { heard: ever, .. } if heard => {
                *ever = true;
                self.failures = 0;
                self.unanswered = None;
            }
            _ => {}
        }
        if connected && !ended {
            for Waiting { datagram, asks } in std::mem::take(&mut self.waiting) {
                self.send(now_ms, datagram, asks);
            }
        }
        ended
    }

    /// The handshake has failed, or the association has ended.
    fn lost(&mut self, now_ms: u64) {
        match &self.state {
            State::Established { heard, .. } => {
                self.counters.ended += 1;
                if *heard {
                    self.begin(now_ms);
                    return;
                }
            }
            State::Handshake { .. } | State::Absent => self.counters.failed += 1,
            State::Pause { .. } => return,
        }
        self.failures = self.failures.saturating_add(1);
        // What waited is lost as a datagram on the air is; whoever needs an answer asks again.
        self.waiting.clear();
        let grown = 1_u64
            .checked_shl(self.failures - 1)
            .map_or(LONGEST_PAUSE, |factor| factor.min(LONGEST_PAUSE));
        let pause_ms = self.timing.handshake_retry_ms.saturating_mul(grown);
        let jitter_ms = self.rng.below(pause_ms / 4 + 1);
        let until_ms = now_ms.saturating_add(pause_ms).saturating_add(jitter_ms);
        self.state = State::Pause { until_ms };
    }
}
