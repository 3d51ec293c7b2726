//! The server side of DTLS 1.2 as LwM2M uses it (Core 1.1 §5.2; RFC 7925): pre-shared keys and
//! certificates. Datagrams in, datagrams and application data out; no socket, no clock.
//!
//! A stranger costs nothing until it has shown that it receives what is sent to its address
//! (`cookie`). From then on its datagrams wait for [`Dtls::work`], so that handshakes take no more of a
//! turn than the caller lets them, while records of established associations are opened at once.
//! Handshakes are bounded in number, per source, in time and in datagrams (`half_open`, `handshake`);
//! associations are bounded in number, the least recently used first out (`kept`), because a device
//! that sleeps for a day is cheaper to keep than to greet again.
//!
//! A `ClientHello` from an address that has an association begins a second one beside it: only when its
//! handshake is complete does it take the place of the first. Nothing that anybody could forge ends an
//! association.
//!
//! OpenSSL leads the handshakes. Of the machine it uses the source of randomness and,
//! for the age of tickets, the wall clock; its timers are not used (`handshake`). Records are sealed and opened here
//! (`keys`, `protect`, `cbc`, `window`), because OpenSSL has no Connection IDs (RFC 9146): with one, a device is known
//! whatever its address (`cid`, `kept`).

mod association;
mod associations;
mod cbc;
mod cid;
mod context;
mod cookie;
mod counts;
mod ffi;
mod flight;
mod half_open;
mod handshake;
mod identity;
mod kept;
mod keys;
mod limits;
mod notes;
mod protect;
mod queue;
mod record;
mod setup;
mod tickets;
mod transport;
mod window;

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

pub use association::SendError;
pub use context::MAX_PAYLOAD_LEN;
pub use context::check_certificates;
pub use counts::Counts;
pub use identity::Identity;
pub use setup::{
    Certificates, DtlsSetup, HolderDigest, Limits, Psk, PskLength, PskSource, SetupError, Timing,
};

use crate::clock::Now;
use context::Context;
use cookie::{Cookies, hello_verify_request, is_expected, mac};
use half_open::{Full, HalfOpen};
use handshake::{Handshake, Progress};
use identity::Ledger;
use kept::{Entry, Kept};
use limits::Ration;
use notes::Asked;
use queue::Queue;
use record::{ClientHello, Datagram};

/// The DTLS associations of one socket.
pub struct Dtls {
    context: Context,
    cookies: Cookies,
    cookie_ration: Ration,
    handshake_ration: Ration,
    timing: Timing,
    limits: Limits,
    kept: Kept,
    half_open: HalfOpen,
    queue: Queue,
    events: VecDeque<Output>,
    counts: Counts,
    shard: u8,
}

/// What came of datagrams and deadlines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A datagram is to be sent.
    Transmit {
        /// To whom.
        peer: SocketAddr,
        /// Sealed.
        bytes: Vec<u8>,
    },
    /// A handshake is complete.
    Established {
        /// With whom, by address.
        peer: SocketAddr,
        /// With whom, as shown.
        identity: Arc<Identity>,
        /// Whether a ticket resumed an earlier session.
        resumed: bool,
    },
    /// A peer is heard from another address, and is reached there. Its data follow.
    Moved {
        /// Where it was; `None` where somebody else has that address meanwhile.
        from: Option<SocketAddr>,
        /// Where it is.
        peer: SocketAddr,
        /// Who it is.
        identity: Arc<Identity>,
    },
    /// Application data have arrived.
    Data {
        /// From which address.
        peer: SocketAddr,
        /// From whom.
        identity: Arc<Identity>,
        /// One record's content.
        bytes: Vec<u8>,
    },
    /// An association is over.
    Closed {
        /// With whom, by address.
        peer: SocketAddr,
        /// With whom.
        identity: Arc<Identity>,
        /// Why.
        reason: CloseReason,
    },
    /// A handshake has come to nothing, or will: what the peer has wrong is told as soon as it is known, once. The
    /// handshake goes on in silence then.
    Refused {
        /// With whom.
        peer: SocketAddr,
        /// Whom the peer has claimed to be, by a PSK identity.
        claimed: Option<Box<[u8]>>,
        /// Why.
        reason: RefuseReason,
    },
}

/// Why an association is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer has closed it.
    Peer,
    /// The record layer has given it up.
    Failed,
    /// It was not used for longer than the others, and there were too many.
    Evicted,
    /// The peer has made a new one from the same address.
    Replaced,
    /// Somebody else has the address now. One with a Connection ID goes on as soon as it is heard from another.
    Displaced,
    /// Its identity was ended.
    Ended,
}

/// Why a handshake has come to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefuseReason {
    /// Nobody has the identity.
    UnknownIdentity,
    /// The peer does not have the identity's key.
    WrongKey,
    /// The peer fell silent.
    Expired,
    /// No common suite, no good certificate, malformed messages, or the peer gave up.
    Failed,
    /// The identity was ended meanwhile.
    Ended,
}

impl Dtls {
    /// Nobody is associated yet.
    ///
    /// # Errors
    /// A key, a certificate, a time or a limit in `setup` cannot be used.
    pub fn new(setup: &DtlsSetup) -> Result<Self, SetupError> {
        Self::with(setup, Arc::default(), 0)
    }

    /// So many, each with its part of what `setup` allows, and all of `per_identity`. They take each other's tickets, and an
    /// identity has to be ended in each: a handshake that falls in between may have to be repeated. The Connection IDs that each
    /// gives begin with its place among them.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn several(setup: &DtlsSetup, count: u8) -> Result<Vec<Self>, SetupError> {
        let ledger = Arc::<Ledger>::default();
        let mut setup = setup.clone();
        setup.limits = setup.limits.shared_by(count);
        (0..count)
            .map(|shard| Self::with(&setup, ledger.clone(), shard))
            .collect()
    }

    fn with(setup: &DtlsSetup, ledger: Arc<Ledger>, shard: u8) -> Result<Self, SetupError> {
        setup.check()?;
        Ok(Self {
            context: Context::new(setup, ledger, shard)?,
            cookies: Cookies::new(mac(&setup.seed, &[b"cookie"]), setup.timing.cookie_period),
            cookie_ration: Ration::new(
                setup.limits.cookies_per_network_per_second,
                setup.limits.cookies_per_second,
            ),
            handshake_ration: Ration::new(
                setup.limits.handshakes_per_network_per_second,
                setup.limits.handshakes_per_second,
            ),
            timing: setup.timing,
            limits: setup.limits,
            kept: Kept::default(),
            half_open: HalfOpen::default(),
            queue: Queue::new(setup.limits.queue_len),
            events: VecDeque::new(),
            counts: Counts::default(),
            shard,
        })
    }

    /// Handshakes that begin from now on use the keys and certificates of `setup`, whose seed is to be that of before.
    /// Associations and handshakes under way are left alone.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub fn renew(&mut self, setup: &DtlsSetup) -> Result<(), SetupError> {
        let mut setup = setup.clone();
        setup.limits = self.limits;
        self.context = Context::new(&setup, self.context.ledger.clone(), self.shard)?;
        Ok(())
    }

    /// A datagram has arrived. Records of an association are opened at once; what belongs to a handshake
    /// waits for [`work`](Self::work).
    pub fn handle_datagram(&mut self, now: Now, peer: SocketAddr, bytes: &[u8]) {
        self.counts.dtls_datagrams_received += 1;
        match Datagram::read(bytes) {
            None => self.counts.dtls_datagrams_malformed += 1,
            Some(_) if record::longest_announced(bytes) > self.context.max_message_len => {
                self.counts.dtls_datagrams_superfluous += 1;
            }
            Some(Datagram::Hello(hello)) => self.greet(now, peer, &hello, bytes),
            Some(Datagram::Protected) => self.open(peer, bytes),
            Some(Datagram::ClearAlert) if self.half_open.contains(&peer) => {
                self.enqueue_charged(peer, bytes);
            }
            Some(Datagram::ClearAlert) => self.counts.dtls_datagrams_superfluous += 1,
            Some(Datagram::Handshake | Datagram::ProtectedHandshake) => {
                self.expect_handshake(peer, bytes);
            }
        }
    }

    /// Goes on with handshakes: with `budget` of the datagrams that wait at most. A full handshake takes
    /// two or three of them and about 60 µs altogether. Returns how many still wait.
    pub fn work(&mut self, now: Now, budget: usize) -> usize {
        for _ in 0..budget {
            let Some((peer, bytes)) = self.queue.pop() else {
                break;
            };
            match Datagram::read(&bytes) {
                Some(Datagram::Hello(hello)) => self.hear_hello(now, peer, &hello, &bytes),
                _ if self.half_open.contains(&peer) => self.advance(now, peer, Some(&bytes)),
                // its handshake has ended meanwhile
                _ => self.open(peer, &bytes),
            }
        }
        self.queue.len()
    }

    /// The next event. Call until there is none after every other call.
    pub fn poll_event(&mut self) -> Option<Output> {
        self.events.pop_front()
    }

    /// Seals `bytes` for the peer; the datagram follows as an event. What is too long for a peer that has only just moved is kept,
    /// the newest alone, and follows when the peer is heard from there once more: [`probe`](Self::probe) makes it answer.
    ///
    /// # Errors
    /// There is no association with the peer, or `bytes` are too many, or are kept for now.
    pub fn send(&mut self, peer: SocketAddr, bytes: &[u8]) -> Result<(), SendError> {
        let sent = self.probe(peer, bytes);
        if sent == Err(SendError::Unproven)
            && let Some(key) = self.kept.at(&peer)
            && let Some(entry) = self.kept.peek_mut(key)
        {
            entry.held = Some(bytes.into());
        }
        sent
    }

    /// As [`send`](Self::send), and nothing is kept.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn probe(&mut self, peer: SocketAddr, bytes: &[u8]) -> Result<(), SendError> {
        let found = (self.kept.at(&peer)).and_then(|key| Some((key, self.kept.peek_mut(key)?)));
        let (key, entry) = found.ok_or(SendError::NoAssociation)?;
        if let Some(left) = &mut entry.unproven {
            // a record's head, ID, nonce and tag come to less
            let Some(rest) = left.checked_sub(bytes.len() + 80) else {
                self.counts.dtls_records_unproven += 1;
                return Err(SendError::Unproven);
            };
            *left = rest;
        }
        match entry.association.send(bytes) {
            Ok(bytes) => {
                self.events.push_back(Output::Transmit { peer, bytes });
                self.kept.touch(key);
                self.counts.dtls_records_sealed += 1;
                Ok(())
            }
            Err(error) => {
                if error == SendError::Failed {
                    self.close(key, CloseReason::Failed);
                }
                Err(error)
            }
        }
    }

    /// Who is at that address, if there is an association.
    pub fn identity(&self, peer: SocketAddr) -> Option<&Arc<Identity>> {
        let key = self.kept.at(&peer)?;
        self.kept.peek(key).map(|entry| &entry.identity)
    }

    /// Ends everything of these identities, because their keys or certificates are no longer good: their
    /// associations, their handshakes under way, and the tickets given to them.
    ///
    /// The keys' source has to know of the change before.
    pub fn end_identities(&mut self, now: Now, identities: &[Identity]) {
        let lifetime = self.timing.ticket_lifetime;
        for identity in identities {
            (self.context.ledger).end(identity.digest(), now.instant, lifetime);
            for key in self.kept.of(identity).to_vec() {
                self.close(key, CloseReason::Ended);
            }
        }
        let keys: HashSet<&[u8]> = (identities.iter())
            .filter_map(|identity| match identity {
                Identity::Psk(identity) => Some(&**identity),
                Identity::Certificate { .. } => None,
            })
            .collect();
        let claims =
            |asked: &Asked| matches!(asked, Asked::Known(claimed) if keys.contains(&**claimed));
        let claiming: Vec<SocketAddr> = (self.half_open.peers())
            .filter(|(_, handshake)| claims(handshake.asked()))
            .map(|(peer, _)| peer)
            .collect();
        for peer in claiming {
            self.refuse(peer, RefuseReason::Ended);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<crate::clock::Instant> {
        self.half_open.next_due().map(|(at, _)| at)
    }

    /// Repeats flights and gives handshakes up, as far as their time has come.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((at, peer)) = self.half_open.next_due()
            && at <= now.instant
        {
            let timing = self.timing;
            let repeated = self.half_open.with(peer, |handshake| {
                (!handshake.has_expired(now.instant))
                    .then(|| handshake.handle_timeout(now.instant, &timing))
            });
            if let Some(Some(flight)) = repeated {
                self.counts.dtls_flights_repeated += 1;
                transmit(&mut self.events, peer, flight);
            } else {
                let fault = self.half_open.get(&peer).and_then(Handshake::fault);
                self.refuse(peer, fault.unwrap_or(RefuseReason::Expired));
            }
        }
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Established associations.
    pub fn associations(&self) -> usize {
        self.kept.len()
    }

    /// Handshakes under way.
    pub fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// Handshake datagrams that wait for [`work`](Self::work).
    pub fn queued(&self) -> usize {
        self.queue.len()
    }
}

/// Handshakes.
impl Dtls {
    /// Whoever begins shows a cookie or gets one; nothing is remembered before.
    fn greet(&mut self, now: Now, peer: SocketAddr, hello: &ClientHello<'_>, bytes: &[u8]) {
        let expected = self.cookies.expected(now.instant, peer, hello);
        if is_expected(&expected, hello.cookie) {
            if self.is_under_way(peer, hello) {
                self.enqueue_charged(peer, bytes);
            } else {
                self.enqueue(peer, bytes);
            }
        } else if self.cookie_ration.take(now.instant, peer) {
            self.counts.dtls_cookies_sent += 1;
            let bytes = hello_verify_request(hello, expected[0]);
            self.events.push_back(Output::Transmit { peer, bytes });
        } else {
            self.counts.dtls_cookies_refused += 1;
        }
    }

    fn enqueue(&mut self, peer: SocketAddr, bytes: &[u8]) {
        if !self.queue.push(peer, bytes) {
            self.counts.dtls_queue_full += 1;
        }
    }

    /// Takes from what the peer may send in its handshake, before it takes a place in the queue.
    fn enqueue_charged(&mut self, peer: SocketAddr, bytes: &[u8]) {
        if self.half_open.with(peer, Handshake::charge) == Some(true) {
            self.enqueue(peer, bytes);
        } else {
            self.counts.dtls_datagrams_superfluous += 1;
        }
    }

    /// Whether the hello is that of the handshake under way.
    fn is_under_way(&self, peer: SocketAddr, hello: &ClientHello<'_>) -> bool {
        (self.half_open.get(&peer)).is_some_and(|handshake| handshake.random == hello.random)
    }

    /// A datagram of a handshake is taken where one is under way, or was of late: a peer repeats its last flight when ours was
    /// lost.
    fn expect_handshake(&mut self, peer: SocketAddr, bytes: &[u8]) {
        if self.half_open.contains(&peer) {
            self.enqueue_charged(peer, bytes);
        } else if let Some(key) = self.kept.at(&peer) {
            if !self.receive(key, peer, bytes) {
                self.counts.dtls_datagrams_superfluous += 1;
            }
        } else {
            self.counts.dtls_datagrams_unassociated += 1;
        }
    }

    /// The hello was seen to have a good cookie when it arrived.
    fn hear_hello(&mut self, now: Now, peer: SocketAddr, hello: &ClientHello<'_>, bytes: &[u8]) {
        if self.is_under_way(peer, hello) {
            let timing = self.timing;
            let flight = self
                .half_open
                .with(peer, |handshake| handshake.repeat(now.instant, &timing));
            self.counts.dtls_flights_repeated += 1;
            transmit(&mut self.events, peer, flight.unwrap_or_default());
            return;
        }
        // A copy that was long on its way: its handshake is over. A device without randomness that starts
        // again says the same, so this does not hold for ever.
        let here = self.kept.at(&peer).and_then(|key| self.kept.peek(key));
        if here.is_some_and(|entry| {
            entry.random == hello.random
                && now.instant.since(entry.established) < self.timing.handshake_deadline
        }) {
            self.counts.dtls_datagrams_superfluous += 1;
            return;
        }
        if !self.handshake_ration.take(now.instant, peer) {
            self.counts.dtls_handshakes_refused += 1;
            return;
        }
        // Good for the period in which it is verified again, which is this one.
        let expected = self.cookies.expected(now.instant, peer, hello);
        let begun = Handshake::begin(
            &self.context,
            expected,
            hello.random,
            now.instant,
            &self.timing,
            bytes,
        );
        let Some(handshake) = begun else {
            self.counts.dtls_handshakes_failed += 1;
            return;
        };
        if let Some((full, other, displaced)) = self.half_open.make_room(peer, &self.limits) {
            match (displaced.fault(), full) {
                (Some(reason), _) => self.report(other, &displaced, reason),
                (None, Full::Total) => self.counts.dtls_handshakes_displaced_total += 1,
                (None, Full::Source) => self.counts.dtls_handshakes_displaced_source += 1,
            }
        }
        self.counts.dtls_handshakes_started += 1;
        if let Some(replaced) = self.half_open.insert(now.instant, peer, handshake) {
            match replaced.fault() {
                Some(reason) => self.report(peer, &replaced, reason),
                None => self.counts.dtls_handshakes_replaced += 1,
            }
        }
        self.advance(now, peer, None);
    }

    fn advance(&mut self, now: Now, peer: SocketAddr, datagram: Option<&[u8]>) {
        let timing = self.timing;
        let advanced = self.half_open.with(peer, |handshake| {
            handshake.advance(now.instant, &timing, datagram)
        });
        let Some((progress, outbound)) = advanced else {
            return;
        };
        transmit(&mut self.events, peer, outbound);
        match progress {
            Progress::Waiting => {
                let fault = self.half_open.with(peer, Handshake::take_fault);
                if let Some((asked, reason)) = fault.flatten() {
                    self.tell(peer, &asked, reason);
                }
            }
            Progress::TooMany | Progress::Unsound => self.counts.dtls_datagrams_superfluous += 1,
            Progress::Failed => self.refuse(peer, RefuseReason::Failed),
            Progress::Complete => self.establish(now, peer),
        }
    }

    fn establish(&mut self, now: Now, peer: SocketAddr) {
        let Some(handshake) = self.half_open.get(&peer) else {
            return;
        };
        let (Some((identity, resumed)), Asked::Nothing | Asked::Known(_)) =
            (handshake.identity(), handshake.asked())
        else {
            return self.refuse(peer, RefuseReason::Failed);
        };
        let ledger = &self.context.ledger;
        if ledger.ended_since(&identity.digest(), handshake.serial) {
            let farewell = self.half_open.with(peer, Handshake::close);
            transmit(&mut self.events, peer, farewell.unwrap_or_default());
            return self.refuse(peer, RefuseReason::Ended);
        }
        let Some(handshake) = self.half_open.remove(&peer) else {
            return;
        };
        let random = handshake.random;
        let taken = (handshake.own_id()).is_some_and(|id| self.kept.with_id(id).is_some());
        let Some((association, data)) = handshake.into_association().filter(|_| !taken) else {
            return self.tell(peer, &Asked::Nothing, RefuseReason::Failed);
        };
        if resumed {
            self.counts.dtls_handshakes_resumed += 1;
        } else {
            self.counts.dtls_handshakes_full += 1;
        }
        self.make_room(peer, &identity);
        let identity = Arc::new(identity);
        let entry = Entry::new(
            association,
            Arc::clone(&identity),
            random,
            now.instant,
            peer,
        );
        self.kept.insert(entry);
        self.events.push_back(Output::Established {
            peer,
            identity: Arc::clone(&identity),
            resumed,
        });
        // They came before the end of the handshake.
        self.counts.dtls_records_opened += data.len() as u64;
        self.events
            .extend(data.into_iter().map(|bytes| Output::Data {
                peer,
                identity: Arc::clone(&identity),
                bytes,
            }));
    }

    /// For one association more, of `identity` at that address.
    fn make_room(&mut self, peer: SocketAddr, identity: &Identity) {
        if let Some(before) = self.kept.at(&peer) {
            self.displace(before, identity);
        }
        let of_identity = self.kept.of(identity);
        if of_identity.len() >= self.limits.per_identity
            && let Some(oldest) = of_identity.first().copied()
        {
            self.close(oldest, CloseReason::Evicted);
        }
        while self.kept.len() >= self.limits.associations
            && let Some(least_used) = self.kept.least_used()
        {
            self.close(least_used, CloseReason::Evicted);
        }
    }

    fn refuse(&mut self, peer: SocketAddr, reason: RefuseReason) {
        if let Some(handshake) = self.half_open.remove(&peer) {
            self.report(peer, &handshake, reason);
        }
    }

    /// Counts and tells why a handshake has come to nothing, unless that was told when it was known.
    fn report(&mut self, peer: SocketAddr, handshake: &Handshake, reason: RefuseReason) {
        if !handshake.fault_told {
            self.tell(peer, handshake.asked(), reason);
        }
    }

    fn tell(&mut self, peer: SocketAddr, asked: &Asked, reason: RefuseReason) {
        // It may have lost patience before we have.
        let reason = match (asked, reason) {
            (Asked::Unknown(_), RefuseReason::Failed) => RefuseReason::UnknownIdentity,
            _ => reason,
        };
        let count = match reason {
            RefuseReason::UnknownIdentity => &mut self.counts.dtls_handshakes_unknown_identity,
            RefuseReason::WrongKey => &mut self.counts.dtls_handshakes_wrong_key,
            RefuseReason::Expired => &mut self.counts.dtls_handshakes_expired,
            RefuseReason::Failed => &mut self.counts.dtls_handshakes_failed,
            RefuseReason::Ended => &mut self.counts.dtls_handshakes_ended,
        };
        *count += 1;
        let claimed = match asked {
            Asked::Nothing => None,
            Asked::Known(identity) | Asked::Unknown(identity) => Some(identity.clone()),
        };
        self.events.push_back(Output::Refused {
            peer,
            claimed,
            reason,
        });
    }
}

fn transmit(
    events: &mut VecDeque<Output>,
    peer: SocketAddr,
    datagrams: impl IntoIterator<Item = Vec<u8>>,
) {
    events.extend(
        datagrams
            .into_iter()
            .map(|bytes| Output::Transmit { peer, bytes }),
    );
}

#[cfg(test)]
mod tests;
