use std::{collections::HashMap, io, net::SocketAddr, num::NonZeroU32, sync::Arc};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::{DatagramSocket, Keys};
use crate::{
    clock::{Instant, Now},
    coap::{Datagram, MAX_DATAGRAM_LEN, Peer},
    dtls::{CloseReason, Dtls, DtlsSetup, Identity, Output, RefuseReason, SendError},
    engine::Speaker,
    strangers::{Refusal, Strangers},
    telemetry::Figures,
};

/// Datagrams of handshakes that one turn goes on with: about a millisecond, so that segments go on being served.
const HANDSHAKES_A_TURN: usize = 16;
/// Log lines a second about handshakes that fail; further ones are counted only.
const LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// The secured port: its socket, its associations, and who is behind them.
pub struct Secured {
    dtls: Dtls,
    port: DatagramSocket,
    keys: Arc<Keys>,
    /// Who is behind each association.
    shown: HashMap<SocketAddr, Shown>,
    /// Where associations have ended while something was sent, for the engine.
    ended: Vec<SocketAddr>,
    pings: u16,
    lines: DefaultDirectRateLimiter,
    strangers: Arc<Strangers>,
    unsent: u64,
}

/// What an engine is told of the secured port, in this order.
pub(super) enum News<'a> {
    /// Somebody has said that.
    Said(Speaker<'a>, &'a [u8]),
    /// Who was there is where the speaker is now.
    Moved {
        from: SocketAddr,
        speaker: Speaker<'a>,
    },
    /// The association with who was there has ended.
    Ended(SocketAddr),
    /// Somebody else has that address now.
    Displaced(SocketAddr),
}

/// Who is behind an association.
struct Shown {
    /// The endpoints that the peer has shown to be.
    endpoints: Box<[Box<str>]>,
    /// When the association began, if that was with a whole handshake.
    handshake_at: Option<Instant>,
    /// The message ID of the CoAP ping that it has not answered.
    pinged: Option<u16>,
}

impl Shown {
    /// Whether that is the answer to a ping: a Reset with its message ID, which is of no concern to the engine.
    fn is_pong(&mut self, bytes: &[u8]) -> bool {
        let pinged = self.pinged.map(u16::to_be_bytes);
        let is_pong = pinged.is_some_and(|[high, low]| bytes == [0x70, 0, high, low]);
        if is_pong {
            self.pinged = None;
        }
        is_pong
    }
}

/// What a secured port is made of.
pub struct SecuredSetup {
    /// The associations.
    pub dtls: Dtls,
    /// Bound and non-blocking.
    pub socket: std::net::UdpSocket,
    /// Who has which key: the same that the associations ask.
    pub keys: Arc<Keys>,
}

impl Secured {
    /// Call it within the runtime that drives the socket.
    pub(super) fn new(setup: SecuredSetup, strangers: Arc<Strangers>) -> io::Result<Self> {
        Ok(Self {
            dtls: setup.dtls,
            port: DatagramSocket::new(setup.socket)?,
            keys: setup.keys,
            shown: HashMap::new(),
            ended: Vec::new(),
            pings: 0,
            lines: RateLimiter::direct(Quota::per_second(LINES_PER_SECOND)),
            strangers,
            unsent: 0,
        })
    }

    /// Handshakes that begin from now on are led with these certificates. Associations last.
    pub(super) fn renew(&mut self, setup: &DtlsSetup) {
        if let Err(error) = self.dtls.renew(setup) {
            tracing::error!(%error, "the certificates cannot be used; those from before stay");
        }
    }

    pub(super) const fn port(&self) -> &DatagramSocket {
        &self.port
    }

    /// When there is something to do without a datagram.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.dtls.queued() > 0 {
            return Some(now);
        }
        self.dtls.poll_timeout()
    }

    /// Takes a batch of datagrams from the socket, and returns how many. `tell` is called with what follows
    /// from each.
    pub(super) fn receive(&mut self, now: Now, mut tell: impl FnMut(News<'_>)) -> usize {
        let count = self.port.receive();
        for index in 0..count {
            let (address, bytes) = self.port.received(index);
            self.dtls.handle_datagram(now, address, bytes);
            self.follow(now.instant, &mut tell);
        }
        count
    }

    /// Goes on with handshakes, for as long as a turn may take.
    pub(super) fn work(&mut self, now: Now, tell: impl FnMut(News<'_>)) {
        self.dtls.handle_timeout(now);
        self.dtls.work(now, HANDSHAKES_A_TURN);
        self.follow(now.instant, tell);
    }

    /// Sends to somebody with an association. Without one nothing can be said: the device has to begin anew.
    pub(super) fn send(&mut self, now: Instant, address: SocketAddr, datagram: &Datagram) {
        let mut buffer = [0; MAX_DATAGRAM_LEN];
        match self.dtls.send(address, datagram.write_to(&mut buffer)) {
            Ok(()) => {}
            Err(SendError::Unproven) => self.ping(address),
            Err(_) => self.unsent += 1,
        }
        self.follow_quietly(now);
    }

    /// The device has only just moved: by its answer it shows that it is where it seems to be (CoAP ping, RFC 7252 §4.3).
    fn ping(&mut self, address: SocketAddr) {
        let Some(shown) = self.shown.get_mut(&address) else {
            return;
        };
        let id = self.pings;
        let [high, low] = id.to_be_bytes();
        if self.dtls.probe(address, &[0x40, 0, high, low]).is_ok() {
            self.pings = id.wrapping_add(1);
            shown.pinged = Some(id);
        }
    }

    /// The engine is told later where associations have ended.
    fn follow_quietly(&mut self, now: Instant) {
        let mut ended = std::mem::take(&mut self.ended);
        self.follow(now, |news| {
            if let News::Ended(address) = news {
                ended.push(address);
            }
        });
        self.ended = ended;
    }

    /// Where associations have ended while something was sent, since the last call: nothing reaches who was there before it begins another.
    pub(super) fn take_ended(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.ended)
    }

    /// Lets what was gathered leave.
    pub(super) fn flush(&mut self) {
        self.port.flush();
    }

    /// What began with the keys of these identities ends.
    pub(super) fn end_identities(&mut self, now: Now, identities: &[Identity]) {
        self.dtls.end_identities(now, identities);
        self.follow_quietly(now.instant);
    }

    fn follow(&mut self, now: Instant, mut tell: impl FnMut(News<'_>)) {
        while let Some(event) = self.dtls.poll_event() {
            match event {
                Output::Transmit { peer, bytes } => self.port.send(peer, bytes.into()),
                Output::Established {
                    peer,
                    identity,
                    resumed,
                } => {
                    let endpoints = self.keys.endpoints(&identity);
                    tracing::debug!(%peer, %identity, resumed, "a device has shown who it is");
                    let handshake_at = (!resumed).then_some(now);
                    let shown = Shown {
                        endpoints,
                        handshake_at,
                        pinged: None,
                    };
                    self.shown.insert(peer, shown);
                }
                Output::Data { peer, bytes, .. } => {
                    if let Some(shown) = self.shown.get_mut(&peer)
                        && !shown.is_pong(&bytes)
                    {
                        let speaker = Speaker::new(Peer::secured(peer), &shown.endpoints);
                        tell(News::Said(speaker.since(shown.handshake_at), &bytes));
                    }
                }
                Output::Moved {
                    from,
                    peer,
                    identity,
                } => {
                    let shown = self.moved(from, peer, &identity);
                    if let Some(from) = from {
                        let speaker = Speaker::new(Peer::secured(peer), &shown.endpoints);
                        let speaker = speaker.since(shown.handshake_at);
                        tell(News::Moved { from, speaker });
                    }
                }
                Output::Closed {
                    peer,
                    identity,
                    reason,
                } => {
                    if let Some(news) = self.gone(peer, &identity, reason) {
                        tell(news);
                    }
                }
                Output::Refused {
                    peer,
                    claimed,
                    reason,
                } => self.refused(peer, claimed.as_deref(), reason),
            }
        }
    }

    /// An association is not reached at that address any more.
    fn gone(
        &mut self,
        peer: SocketAddr,
        identity: &Identity,
        reason: CloseReason,
    ) -> Option<News<'static>> {
        if reason == CloseReason::Ended {
            tracing::info!(%identity, "the device's key was changed; its association has ended");
        }
        if reason == CloseReason::Replaced {
            return None; // a new one is there already
        }
        self.shown.remove(&peer);
        Some(match reason {
            CloseReason::Displaced => News::Displaced(peer),
            _ => News::Ended(peer),
        })
    }

    /// Who was there before is known at its new address too.
    fn moved(&mut self, from: Option<SocketAddr>, to: SocketAddr, identity: &Identity) -> &Shown {
        let shown = from.and_then(|from| self.shown.remove(&from));
        let shown = shown.unwrap_or_else(|| Shown {
            endpoints: self.keys.endpoints(identity),
            handshake_at: None,
            pinged: None,
        });
        self.shown.entry(to).insert_entry(shown).into_mut()
    }

    fn refused(&self, peer: SocketAddr, claimed: Option<&[u8]>, reason: RefuseReason) {
        let refusal = match reason {
            RefuseReason::UnknownIdentity => Some(Refusal::UnknownIdentity),
            RefuseReason::WrongKey => Some(Refusal::WrongKey),
            RefuseReason::Expired | RefuseReason::Failed | RefuseReason::Ended => None,
        };
        if let (Some(claimed), Some(refusal)) = (claimed, refusal) {
            self.strangers.refused(claimed, refusal, peer);
        }
        let identity = claimed.unwrap_or_default().escape_ascii();
        let told = match reason {
            RefuseReason::UnknownIdentity => "nobody has the identity; give the device its key",
            RefuseReason::WrongKey => "the peer does not have the identity's key",
            RefuseReason::Failed => "the peer and the server do not agree",
            RefuseReason::Expired | RefuseReason::Ended => return,
        };
        if self.lines.check().is_ok() {
            tracing::warn!(target: "cellwise::audit", %peer, %identity, "a handshake was refused: {told}");
        }
    }

    pub(super) fn publish(&mut self, figures: &mut Figures<'_>) {
        for (name, help, value) in self.dtls.counts().each() {
            figures.counter(name, help, value);
        }
        figures.counter(
            "dtls_datagrams_unsent",
            "Datagrams to secured devices without an association, or that the system did not take",
            self.unsent + self.port.unsent(),
        );
        if let Some(dropped) = self.port.dropped() {
            figures.counter(
                "dtls_datagrams_dropped",
                "Datagrams to the secured port that the system dropped because they came faster than they were taken",
                dropped,
            );
        }
        let gauges = [
            (
                "dtls_associations",
                "Established associations",
                self.dtls.associations(),
            ),
            (
                "dtls_half_open",
                "Handshakes under way",
                self.dtls.half_open(),
            ),
        ];
        for (name, help, value) in gauges {
            figures.gauge(name, help, value);
        }
    }
}
