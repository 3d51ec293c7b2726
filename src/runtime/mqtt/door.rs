//! TLS handshakes, on a thread of their own: a handshake costs about a millisecond, and a fleet that comes back begins
//! thousands.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mio::{Events, Interest, Poll, Token, Waker, net::TcpListener, net::TcpStream};
use openssl::ssl::{ErrorCode, SslStream};

use super::{
    EndsTheServer, IDLE, Message, MqttServer,
    socket::{self, TlsBegin},
};
use crate::{
    clock::{Instant, SystemClock},
    dtls::Identity,
    mqtt::endpoint::{Limits, Ration, Source},
};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// Connections that are accepted before others get their turn.
const ACCEPTED_A_TURN: usize = 16;

/// A connection whose handshake is complete.
pub(super) struct Greeted {
    pub(super) stream: SslStream<TcpStream>,
    pub(super) peer: SocketAddr,
    /// The names in its certificate.
    pub(super) certified: Box<[Box<str>]>,
}

/// What the thread has counted.
#[derive(Default)]
pub(super) struct DoorCounts {
    pub(super) begun: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) complete: AtomicU64,
}

/// Reaches the thread.
pub(super) struct Door {
    waker: Waker,
    stopping: Arc<AtomicBool>,
    pub(super) counts: Arc<DoorCounts>,
}

impl Door {
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _ = self.waker.wake(); // an event queue that is there can be woken
    }
}

/// A handshake under way.
struct Handshake {
    stream: SslStream<TcpStream>,
    peer: SocketAddr,
    until: Instant,
}

struct DoorThread {
    poll: Poll,
    listener: TcpListener,
    begin: TlsBegin,
    limits: Limits,
    per_address: Ration,
    in_all: Ration,
    clock: SystemClock,
    handshakes: HashMap<Token, Handshake>,
    by_source: HashMap<Source, usize>,
    next: usize,
    /// More connections may wait than were accepted.
    accepting: bool,
    looked_at: Instant,
    stopping: Arc<AtomicBool>,
    counts: Arc<DoorCounts>,
    server: MqttServer,
}

/// Starts the thread. `server` is made once the door can be reached.
pub(super) fn prepare(
    listener: std::net::TcpListener,
    begin: TlsBegin,
) -> io::Result<(Door, Prepared)> {
    socket::prepare(&listener)?;
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let mut listener = TcpListener::from_std(listener);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let stopping = Arc::<AtomicBool>::default();
    let counts = Arc::<DoorCounts>::default();
    let door = Door {
        waker,
        stopping: stopping.clone(),
        counts: counts.clone(),
    };
    let prepared = Prepared {
        poll,
        listener,
        begin,
        stopping,
        counts,
    };
    Ok((door, prepared))
}

/// A door that is not open yet.
pub(super) struct Prepared {
    poll: Poll,
    listener: TcpListener,
    begin: TlsBegin,
    stopping: Arc<AtomicBool>,
    counts: Arc<DoorCounts>,
}

impl Prepared {
    pub(super) fn open(
        self,
        limits: Limits,
        seed: u64,
        clock: SystemClock,
        server: MqttServer,
    ) -> io::Result<()> {
        let second = Duration::from_secs(1);
        let mut thread = DoorThread {
            poll: self.poll,
            listener: self.listener,
            begin: self.begin,
            per_address: Ration::new(seed, limits.connects_per_address_per_second, second),
            in_all: Ration::new(seed, limits.connects_per_second, second),
            limits,
            clock,
            handshakes: HashMap::new(),
            by_source: HashMap::new(),
            next: 0,
            accepting: true,
            looked_at: Instant::ZERO,
            stopping: self.stopping,
            counts: self.counts,
            server,
        };
        std::thread::Builder::new()
            .name("mqtt-tls".to_owned())
            .spawn(move || {
                let alive = EndsTheServer;
                thread.run();
                std::mem::forget(alive);
            })?;
        Ok(())
    }
}

impl DoorThread {
    fn run(&mut self) {
        let mut events = Events::with_capacity(256);
        while !self.stopping.load(Ordering::Acquire) {
            let wait = if self.accepting { Duration::ZERO } else { IDLE };
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the event queue of MQTT's TLS port failed");
                drop(EndsTheServer);
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accepting = true,
                    WAKER => {}
                    token => self.go_on(token),
                }
            }
            if self.accepting {
                self.accept();
            }
            self.end_slow();
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTED_A_TURN {
            match self.listener.accept() {
                Ok((stream, peer)) => self.begin(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accepting = false;
                    return;
                }
                // the one connection is over, or there is no handle left: it is tried again within a second
                Err(error) => {
                    tracing::warn!(%error, "a connection to MQTT's TLS port was not accepted");
                    self.accepting = false;
                    return;
                }
            }
        }
    }

    fn begin(&mut self, mut stream: TcpStream, peer: SocketAddr) {
        let now = self.clock.now().instant;
        let source = Source::of(peer);
        let has = self.by_source.get(&source).copied().unwrap_or(0);
        let most = self.limits.unknown_connections;
        let may = self.handshakes.len() < most
            && has < most.div_ceil(2)
            && self.per_address.take(now, &source)
            && self.in_all.take(now, &());
        if !may {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.next = (self.next + 1) % (usize::MAX / 2);
        let token = Token(self.next);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = (self.poll.registry()).register(&mut stream, token, interest);
        let begun = registered
            .map_err(|error| error.to_string())
            .and_then(|()| {
                let ssl = (self.begin)().map_err(|error| error.to_string())?;
                SslStream::new(ssl, stream).map_err(|error| error.to_string())
            });
        match begun {
            Ok(stream) => {
                self.counts.begun.fetch_add(1, Ordering::Relaxed);
                let until = now + self.limits.connect_within;
                *self.by_source.entry(source).or_default() += 1;
                self.handshakes.insert(
                    token,
                    Handshake {
                        stream,
                        peer,
                        until,
                    },
                );
                self.go_on(token);
            }
            Err(error) => tracing::error!(error, "a TLS connection could not be begun"),
        }
    }

    fn go_on(&mut self, token: Token) {
        let Some(handshake) = self.handshakes.get_mut(&token) else {
            return;
        };
        match handshake.stream.accept() {
            Ok(()) => {
                self.counts.complete.fetch_add(1, Ordering::Relaxed);
                if let Some(mut handshake) = self.forget(token) {
                    // what cannot be taken from here cannot be given to the other thread either
                    if (self.poll.registry())
                        .deregister(handshake.stream.get_mut())
                        .is_err()
                    {
                        return;
                    }
                    let identity = Identity::of(handshake.stream.ssl());
                    let certified = identity.iter().flat_map(Identity::names);
                    self.server.tell(Message::Greeted(Box::new(Greeted {
                        certified: certified.map(Box::from).collect(),
                        peer: handshake.peer,
                        stream: handshake.stream,
                    })));
                }
            }
            Err(error) if matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE) => {}
            Err(error) => {
                tracing::debug!(%error, peer = %handshake.peer, "a TLS handshake failed");
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.forget(token);
            }
        }
    }

    fn forget(&mut self, token: Token) -> Option<Handshake> {
        let handshake = self.handshakes.remove(&token)?;
        let source = Source::of(handshake.peer);
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
        Some(handshake)
    }

    /// Looks once a second for those that take too long.
    fn end_slow(&mut self) {
        let now = self.clock.now().instant;
        if now.since(self.looked_at) < IDLE {
            return;
        }
        self.looked_at = now;
        self.accepting = true;
        let slow: Vec<Token> = (self.handshakes.iter())
            .filter(|(_, it)| it.until <= now)
            .map(|(token, _)| *token)
            .collect();
        self.counts
            .failed
            .fetch_add(slow.len() as u64, Ordering::Relaxed);
        for token in slow {
            self.forget(token);
        }
    }
}
