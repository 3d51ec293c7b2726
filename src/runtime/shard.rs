mod report;

use std::{io, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{mpsc, oneshot};

use super::{
    Exchange, MqttNews, Outlet,
    datagram_socket::{BATCH, DatagramSocket},
    message::{Done, Live, Message},
    secured::{News, Secured, SecuredSetup},
    until,
};
use crate::{
    clock::{Instant, Now, SystemClock},
    coap::Peer,
    engine::{Report, ShardId},
    health::{Health, Part},
    mqtt::{endpoint::PublishError, engine::Out},
    session::GateAsk,
    shard::{Core, Directory, Emitted, Machine, Outgoing, Post, Surroundings},
    strangers::Strangers,
    telemetry::{Metrics, Share},
};

/// Batches taken from each port in one turn before commands and deadlines have theirs.
const TURN: usize = 4;
/// Messages from others that are taken in one turn.
const MESSAGES_A_TURN: usize = 256;
/// Log lines a second about strangers; further ones are counted only.
const STRANGER_LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// Lines a second about messages that were refused; further ones are counted only.
const AUDIT_LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// One shard with its sockets, on a thread of its own.
pub(super) struct Shard {
    id: ShardId,
    core: Core<Done>,
    around: Around,
    inbox: mpsc::UnboundedReceiver<Message>,
    share: Share,
    /// Time that it has spent on what came, and not on waiting.
    busy: Duration,
    published_at: Instant,
    /// When the figures are published again; `None` while they are as they were published last.
    publish_at: Option<Instant>,
}

/// What is around the shard's core.
struct Around {
    exchange: Arc<Exchange>,
    plain: Option<DatagramSocket>,
    secured: Option<Secured>,
    outlet: Outlet,
    clock: SystemClock,
    changes: mpsc::UnboundedSender<Emitted>,
    unsent: u64,
    stranger_lines: DefaultDirectRateLimiter,
    audit_lines: DefaultDirectRateLimiter,
    health: Arc<Health>,
    strangers: Arc<Strangers>,
    metrics: Arc<Metrics>,
}

/// Dropped when a shard has failed. The others could not do without it: nobody would hear its part of the devices. Whoever
/// looks after the server starts it again, and it goes on where it was.
struct EndsTheServer;

impl Drop for EndsTheServer {
    fn drop(&mut self) {
        tracing::error!("a shard has failed; the server ends, to be started again");
        std::process::abort();
    }
}

/// What a shard is started with.
pub(super) struct ShardSetup {
    /// Which one it is.
    pub id: ShardId,
    /// The engine, with the state of before the restart.
    pub engine: Machine,
    /// Reaches the others.
    pub exchange: Arc<Exchange>,
    /// Where messages arrive.
    pub inbox: mpsc::UnboundedReceiver<Message>,
    /// For devices that do not encrypt: bound and non-blocking.
    pub plain: Option<std::net::UdpSocket>,
    /// For devices that do.
    pub secured: Option<SecuredSetup>,
    /// For devices over MQTT, and for what devices are granted.
    pub outlet: Outlet,
    /// The clock.
    pub clock: SystemClock,
    /// Where changes go, in order.
    pub changes: mpsc::UnboundedSender<Emitted>,
    /// Told whether the shard works.
    pub health: Arc<Health>,
    /// Told who was refused.
    pub strangers: Arc<Strangers>,
    /// Where figures are published.
    pub metrics: Arc<Metrics>,
}

impl Shard {
    /// Starts the shard's thread. Everything that the engine wanted done already is done when this returns. The
    /// receiver is told when the thread has ended.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub(super) fn start(setup: ShardSetup) -> io::Result<oneshot::Receiver<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (ended, has_ended) = oneshot::channel();
        let (started, has_started) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name(format!("shard-{}", setup.id.0))
            .spawn(move || {
                // The ports' buffers are made here: they belong to this thread.
                let context = runtime.enter();
                let shard = Self::new(setup);
                drop(context);
                let mut shard = match shard {
                    Ok(shard) => shard,
                    Err(error) => return started.send(Err(error)).unwrap_or_default(),
                };
                shard.drain();
                let _ = started.send(Ok(())); // it is waited for
                let alive = EndsTheServer;
                runtime.block_on(shard.run());
                std::mem::forget(alive);
                let _ = ended.send(()); // nobody waits for it
            })?;
        has_started
            .recv()
            .map_err(|_| io::Error::other("the device side's thread has ended"))??;
        Ok(has_ended)
    }

    /// Call it within the runtime that drives the sockets.
    fn new(setup: ShardSetup) -> io::Result<Self> {
        let ids = setup.exchange.ids().clone();
        Ok(Self {
            id: setup.id,
            core: Core::new(setup.id, ids, setup.engine),
            around: Around {
                exchange: setup.exchange,
                plain: setup.plain.map(DatagramSocket::new).transpose()?,
                secured: (setup.secured)
                    .map(|secured| Secured::new(secured, setup.strangers.clone()))
                    .transpose()?,
                outlet: setup.outlet,
                clock: setup.clock,
                changes: setup.changes,
                unsent: 0,
                stranger_lines: RateLimiter::direct(Quota::per_second(STRANGER_LINES_PER_SECOND)),
                audit_lines: RateLimiter::direct(Quota::per_second(AUDIT_LINES_PER_SECOND)),
                health: setup.health,
                strangers: setup.strangers,
                metrics: setup.metrics,
            },
            inbox: setup.inbox,
            share: Share::default(),
            busy: Duration::ZERO,
            published_at: Instant::ZERO,
            publish_at: Some(Instant::ZERO),
        })
    }

    async fn run(mut self) {
        let mut messages = Vec::with_capacity(MESSAGES_A_TURN);
        let mut stopping = false;
        self.around.flush();
        // When nobody is left who could commit anything, there is nothing to wait for.
        while !(stopping && (self.core.is_committed() || self.around.changes.is_closed())) {
            let due = self.next_due();
            let next = due.into_iter().chain(self.publish_at).min();
            let mut happened = true;
            let (plain, secured) = (self.around.plain.as_ref(), self.around.secured.as_ref());
            let clock = self.around.clock;
            let woken;
            tokio::select! {
                ready = readable(plain, secured), if !stopping => {
                    woken = clock.now().instant;
                    match ready {
                        Ok(()) => {
                            self.receive();
                            self.receive_secured();
                        }
                        Err(error) => {
                            tracing::error!(%error, "the device socket failed");
                            drop(EndsTheServer);
                        }
                    }
                }
                _ = self.inbox.recv_many(&mut messages, MESSAGES_A_TURN) => {
                    woken = clock.now().instant;
                    for message in messages.drain(..) {
                        match message {
                            Message::Stop => {
                                stopping = true;
                                self.core.stopping(self.around.now());
                            }
                            message => self.take(message),
                        }
                    }
                }
                () = tokio::time::sleep(until(next, clock.now().instant)) => {
                    woken = clock.now().instant;
                    happened = due.is_some_and(|at| at <= woken);
                }
            }
            // what is due is not put off by what never ends to arrive
            self.core.handle_timeout(self.around.now());
            self.work();
            self.drain();
            self.around.flush();
            self.busy += self.around.now().instant.since(woken);
            self.publish_in_time(happened);
        }
        self.publish();
        self.around.health.failed(Part::Shard, "stopped");
    }

    /// When there is something to do without a datagram or a message.
    fn next_due(&self) -> Option<Instant> {
        let now = self.around.now().instant;
        let secured = self.around.secured.as_ref();
        let secured = secured.and_then(|secured| secured.next_due(now));
        let core = self.core.poll_timeout();
        core.into_iter().chain(secured).min()
    }

    fn receive(&mut self) {
        for _ in 0..TURN {
            let Some(port) = &mut self.around.plain else {
                return;
            };
            let count = port.receive();
            let now = self.around.clock.now();
            for index in 0..count {
                let (address, bytes) = port.received(index);
                let speaker = Peer::from(address).into();
                self.core.hear(now, &speaker, bytes);
            }
            self.drain();
            self.around.flush();
            if count < BATCH {
                return;
            }
        }
    }

    fn receive_secured(&mut self) {
        for _ in 0..TURN {
            let Some(secured) = &mut self.around.secured else {
                return;
            };
            let now = self.around.clock.now();
            let core = &mut self.core;
            let count = secured.receive(now, |news| tell(core, now, &news));
            self.drain();
            self.around.flush();
            if count < BATCH {
                return;
            }
        }
    }

    /// Goes on with handshakes.
    fn work(&mut self) {
        if let Some(secured) = &mut self.around.secured {
            let now = self.around.clock.now();
            let core = &mut self.core;
            secured.work(now, |news| tell(core, now, &news));
        }
    }

    fn take(&mut self, message: Message) {
        let now = self.around.now();
        match message {
            Message::Core(message) => self.core.take(now, message, &mut self.around),
            Message::Configure(config) => {
                self.core.configure(now, config);
                self.drain();
            }
            Message::Certificates(setup) => {
                if let Some(secured) = &mut self.around.secured {
                    secured.renew(&setup);
                }
            }
            Message::EndIdentities(identities) => {
                if let Some(secured) = &mut self.around.secured {
                    secured.end_identities(now, &identities);
                }
                self.drain();
            }
            Message::Mqtt(MqttNews::Event(event, _ticket)) => {
                self.core.hear_of(now, event);
                self.drain();
            }
            Message::Mqtt(MqttNews::BrokerReached) => {
                self.core.broker_reached(now);
                self.drain();
            }
            Message::Mqtt(MqttNews::Unsent {
                device,
                downlink,
                error,
            }) => {
                self.around.log_unsent(device, downlink, error);
                // on this connection it would fare no better
                if !matches!(error, PublishError::TooLarge | PublishError::OtherStyle) {
                    self.core.unsent(now, device);
                    self.drain();
                }
            }
            Message::Heard { devices, answer } => {
                let live = devices.into_iter().filter_map(|id| {
                    let live = Live {
                        heard_at: self.core.last_heard(now, id),
                        connected: self.core.connected(now, id),
                    };
                    (live != Live::default()).then_some((id, live))
                });
                let _ = answer.send(live.collect()); // nobody waits any more
            }
            Message::Stop => {}
        }
    }

    /// Does what follows from what was taken.
    fn drain(&mut self) {
        let now = self.around.now();
        if let Some(secured) = &mut self.around.secured {
            for address in secured.take_ended() {
                (self.core).association_ended(now, Peer::secured(address));
            }
        }
        self.core.drain(now, &mut self.around);
    }
}

fn tell(core: &mut Core<Done>, now: Now, news: &News<'_>) {
    match news {
        News::Said(speaker, bytes) => core.hear(now, speaker, bytes),
        News::Moved { from, speaker } => {
            core.association_moved(now, Peer::secured(*from), speaker);
        }
        News::Ended(address) => core.association_ended(now, Peer::secured(*address)),
        News::Displaced(address) => core.association_displaced(now, Peer::secured(*address)),
    }
}

impl Around {
    fn now(&self) -> Now {
        self.clock.now()
    }

    /// Lets what was gathered leave.
    fn flush(&mut self) {
        if let Some(port) = &mut self.plain {
            port.flush();
        }
        if let Some(secured) = &mut self.secured {
            secured.flush();
        }
    }
}

impl Surroundings for Around {
    type Done = Done;

    fn route<R>(&mut self, what: impl FnOnce(&mut Directory, &mut dyn Post<Done>) -> R) -> R {
        self.exchange.route(what)
    }

    fn persist(&mut self, emitted: Emitted) {
        if self.changes.send(emitted).is_err() {
            self.health.failed(Part::Store, "the committer has stopped");
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        let Outgoing { peer, datagram } = outgoing;
        match (peer.secured, &mut self.plain, &mut self.secured) {
            (false, Some(port), _) => port.send(peer.address, datagram),
            (true, _, Some(secured)) => {
                let now = self.clock.now().instant;
                secured.send(now, peer.address, &datagram);
            }
            _ => self.unsent += 1,
        }
    }

    fn let_out(&mut self, out: Out) {
        self.outlet.let_out(out);
    }

    fn report(&mut self, report: &Report) {
        self.log(report);
    }

    fn ask(&mut self, ask: GateAsk) {
        self.exchange.ask(ask);
    }
}

/// Returns when one of the sockets has something.
async fn readable(plain: Option<&DatagramSocket>, secured: Option<&Secured>) -> io::Result<()> {
    async fn one(port: Option<&DatagramSocket>) -> io::Result<()> {
        match port {
            Some(port) => port.readable().await,
            None => std::future::pending().await,
        }
    }
    tokio::select! {
        ready = one(plain) => ready,
        ready = one(secured.map(Secured::port)) => ready,
    }
}
