mod report;

use std::{
    collections::{HashMap, VecDeque},
    io,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{mpsc, oneshot};

use super::{
    Exchange,
    commit::Emitted,
    exchange::{Done, Errand, Found},
    heard::HeardAnswer,
    outbox::{Outbox, Outgoing},
    port::{BATCH, Port},
    secured::{Secured, SecuredSetup},
    until,
};
use crate::{
    clock::{Instant, SystemClock},
    coap::Peer,
    config::Config,
    dtls::{DtlsSetup, Identity},
    engine::{Command, DeviceId, Effect, Engine, Row, Seq, ShardId, Sought, Whose},
    health::{Health, Part},
    strangers::Strangers,
    telemetry::{Metrics, Share},
};

/// Batches taken from each port in one turn before commands and deadlines have theirs.
const TURN: usize = 4;
/// Messages from others that are taken in one turn.
const MESSAGES_A_TURN: usize = 256;
/// What a device has said longer ago than this does not tell where it is.
const WORTH_A_MOVE: Duration = Duration::from_secs(10);
/// Log lines a second about strangers; further ones are counted only.
const STRANGER_LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// Lines a second about messages that were refused; further ones are counted only.
const AUDIT_LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// One engine with its sockets, on a thread of its own.
pub(super) struct Shard {
    id: ShardId,
    engine: Engine,
    exchange: Arc<Exchange>,
    plain: Option<Port>,
    secured: Option<Secured>,
    clock: SystemClock,
    inbox: mpsc::UnboundedReceiver<Message>,
    changes: mpsc::UnboundedSender<Emitted>,
    outbox: Outbox,
    /// The newest change that the engine emitted.
    newest: Seq,
    committed: Seq,
    /// What waits until the changes up to a number are committed.
    waiting: VecDeque<(Seq, Waiting)>,
    /// What brings each of the devices among it elsewhere, and since when that waits.
    going: HashMap<DeviceId, (Instant, Errand)>,
    unsent: u64,
    unsought: u64,
    stranger_lines: DefaultDirectRateLimiter,
    audit_lines: DefaultDirectRateLimiter,
    health: Arc<Health>,
    strangers: Arc<Strangers>,
    metrics: Arc<Metrics>,
    share: Share,
    published_at: Instant,
    /// When the figures are published again; `None` while they are as they were published last.
    publish_at: Option<Instant>,
}

/// What waits for a commit, besides datagrams.
enum Waiting {
    Command(Done),
    /// The device goes to whoever has asked for it.
    Device(DeviceId),
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

/// What is said to a shard.
pub(super) enum Message {
    Commands {
        commands: Vec<Command>,
        /// Told when everything that followed from the commands is committed.
        done: Done,
    },
    /// For which nobody waits.
    Obey(Command),
    Committed(Seq),
    /// Another shard has heard a device that should be here.
    Seek(Errand),
    /// What came of a device that was sought.
    Sought(Errand, Sought),
    /// It is here now.
    Arrived(Row, Errand),
    EndIdentities(Arc<[Identity]>),
    Configure(Arc<Config>),
    /// Handshakes go on with these certificates.
    Certificates(Arc<DtlsSetup>),
    /// When these devices were heard last is asked for. Those that are not here, or not heard, are left out of the answer.
    Heard {
        devices: Vec<DeviceId>,
        answer: mpsc::UnboundedSender<HeardAnswer>,
    },
    Stop,
}

/// What a shard is started with.
pub(super) struct ShardSetup {
    /// Which one it is.
    pub id: ShardId,
    /// The engine, with the state of before the restart.
    pub engine: Engine,
    /// Reaches the others.
    pub exchange: Arc<Exchange>,
    /// Where messages arrive.
    pub inbox: mpsc::UnboundedReceiver<Message>,
    /// For devices that do not encrypt: bound and non-blocking.
    pub plain: Option<std::net::UdpSocket>,
    /// For devices that do.
    pub secured: Option<SecuredSetup>,
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
        Ok(Self {
            id: setup.id,
            engine: setup.engine,
            exchange: setup.exchange,
            plain: setup.plain.map(Port::new).transpose()?,
            secured: (setup.secured)
                .map(|secured| Secured::new(secured, setup.strangers.clone()))
                .transpose()?,
            clock: setup.clock,
            inbox: setup.inbox,
            changes: setup.changes,
            outbox: Outbox::default(),
            newest: 0,
            committed: 0,
            waiting: VecDeque::new(),
            going: HashMap::new(),
            unsent: 0,
            unsought: 0,
            stranger_lines: RateLimiter::direct(Quota::per_second(STRANGER_LINES_PER_SECOND)),
            audit_lines: RateLimiter::direct(Quota::per_second(AUDIT_LINES_PER_SECOND)),
            health: setup.health,
            strangers: setup.strangers,
            metrics: setup.metrics,
            share: Share::default(),
            published_at: Instant::ZERO,
            publish_at: Some(Instant::ZERO),
        })
    }

    async fn run(mut self) {
        let mut messages = Vec::with_capacity(MESSAGES_A_TURN);
        let mut stopping = false;
        self.flush();
        // When nobody is left who could commit anything, there is nothing to wait for.
        while !(stopping && (self.committed >= self.newest || self.changes.is_closed())) {
            let due = self.next_due();
            let next = due.into_iter().chain(self.publish_at).min();
            let mut happened = true;
            tokio::select! {
                ready = readable(self.plain.as_ref(), self.secured.as_ref()), if !stopping => match ready {
                    Ok(()) => {
                        self.receive();
                        self.receive_secured();
                    }
                    Err(error) => {
                        tracing::error!(%error, "the device socket failed");
                        drop(EndsTheServer);
                    }
                },
                _ = self.inbox.recv_many(&mut messages, MESSAGES_A_TURN) => {
                    for message in messages.drain(..) {
                        match message {
                            Message::Stop => stopping = true,
                            message => self.take(message),
                        }
                        self.drain();
                    }
                }
                () = tokio::time::sleep(until(next, self.clock.now().instant)) => {
                    happened = due.is_some_and(|at| at <= self.clock.now().instant);
                }
            }
            // what is due is not put off by what never ends to arrive
            self.engine.handle_timeout(self.clock.now());
            self.work();
            self.drain();
            self.flush();
            self.publish_in_time(happened);
        }
        self.publish();
        self.health.failed(Part::Shard, "stopped");
    }

    /// When there is something to do without a datagram or a message.
    fn next_due(&self) -> Option<Instant> {
        let now = self.clock.now().instant;
        let secured = self.secured.as_ref();
        let secured = secured.and_then(|secured| secured.next_due(now));
        let engine = self.engine.poll_timeout();
        engine.into_iter().chain(secured).min()
    }

    fn receive(&mut self) {
        for _ in 0..TURN {
            let Some(port) = &mut self.plain else { return };
            let count = port.receive();
            let now = self.clock.now();
            for index in 0..count {
                let (address, bytes) = port.received(index);
                let speaker = Peer::from(address).into();
                self.engine.handle_datagram(now, &speaker, bytes);
            }
            self.drain();
            self.flush();
            if count < BATCH {
                return;
            }
        }
    }

    fn receive_secured(&mut self) {
        for _ in 0..TURN {
            let Some(secured) = &mut self.secured else {
                return;
            };
            let now = self.clock.now();
            let engine = &mut self.engine;
            let count = secured.receive(now, |speaker, bytes| {
                engine.handle_datagram(now, speaker, bytes);
            });
            self.drain();
            self.flush();
            if count < BATCH {
                return;
            }
        }
    }

    /// Goes on with handshakes.
    fn work(&mut self) {
        if let Some(secured) = &mut self.secured {
            let now = self.clock.now();
            let engine = &mut self.engine;
            secured.work(now, |speaker, bytes| {
                engine.handle_datagram(now, speaker, bytes);
            });
        }
    }

    fn take(&mut self, message: Message) {
        let now = self.clock.now();
        match message {
            Message::Commands { commands, done } => {
                for command in commands {
                    self.obey(command, Some(&done));
                }
                self.drain();
                let waiting = Waiting::Command(done);
                self.waiting.push_back((self.newest, waiting));
                self.look_at_waiting();
            }
            Message::Obey(command) => self.obey(command, None),
            Message::Configure(config) => self.engine.configure(now, config),
            Message::Certificates(setup) => {
                if let Some(secured) = &mut self.secured {
                    secured.renew(&setup);
                }
            }
            Message::Committed(seq) => {
                self.committed = self.committed.max(seq);
                self.engine.committed(self.committed);
                for outgoing in self.outbox.committed(seq) {
                    self.send(outgoing);
                }
                self.look_at_waiting();
            }
            Message::Seek(errand) => self.sought(errand),
            Message::Sought(errand, sought) => {
                self.engine.handle_sought(now, &errand.seek, &sought);
            }
            Message::Arrived(row, errand) => {
                self.engine.take_in(now, row);
                self.exchange.place(errand.seek.device, self.id);
                self.engine
                    .handle_sought(now, &errand.seek, &Sought::NotYet);
            }
            Message::EndIdentities(identities) => {
                if let Some(secured) = &mut self.secured {
                    secured.end_identities(now, &identities);
                }
            }
            Message::Heard { devices, answer } => {
                let heard = |id| Some((id, self.engine.last_heard(now, id)?));
                let heard = devices.into_iter().filter_map(heard).collect();
                let _ = answer.send(heard); // nobody waits any more
            }
            Message::Stop => {}
        }
    }

    /// Obeys a command, unless it is about a device that has moved on.
    fn obey(&mut self, command: Command, done: Option<&Done>) {
        let device = match &command {
            Command::Turn { device, .. } => Some(*device),
            command => (command.endpoint()).map(|name| self.exchange.ids().of(name)),
        };
        let elsewhere = device.filter(|device| !self.engine.has(*device));
        let command = match elsewhere {
            Some(device) => self.exchange.pass_on(self.id, device, command, done),
            None => Some(command),
        };
        if let Some(command) = command {
            self.engine.handle_command(self.clock.now(), command);
        }
    }

    /// Another shard has heard a device that should be here. It goes there once what it waits for is committed: nothing
    /// is said to it before, whoever says it.
    fn sought(&mut self, errand: Errand) {
        let now = self.clock.now();
        let exchange = &self.exchange;
        if errand.for_shard == self.id {
            // The device was on its way here.
            return self
                .engine
                .handle_sought(now, &errand.seek, &Sought::NotYet);
        }
        match self.engine.whose(now, &errand.seek) {
            Whose::NotHere => exchange.seek_on(self.id, errand),
            Whose::NotRegistered => exchange.answer(errand, Sought::Nobody),
            Whose::NotTheirs(endpoint) => exchange.answer(errand, Sought::NotTheirs(endpoint)),
            Whose::Repeated => {
                self.engine
                    .handle_sought(now, &errand.seek, &Sought::NotYet);
            }
            Whose::Theirs(after) if after > self.committed => {
                let device = errand.seek.device;
                // It is where it was heard last.
                if (self.going.insert(device, (now.instant, errand))).is_none() {
                    let waiting = Waiting::Device(device);
                    self.waiting.push_back((self.newest, waiting));
                }
            }
            Whose::Theirs(_) => {
                if let Some(row) = self.engine.give_away(now, errand.seek.device) {
                    exchange.hand_over(row, errand);
                }
            }
        }
    }

    fn look_at_waiting(&mut self) {
        let now = self.clock.now().instant;
        // What goes back has waited for a change that was emitted later, and is looked at when that is committed.
        while let Some((_, waiting)) = self.waiting.pop_front_if(|(seq, _)| *seq <= self.committed)
        {
            match waiting {
                Waiting::Command(done) => done.committed(),
                Waiting::Device(device) => {
                    if let Some((since, errand)) = self.going.remove(&device)
                        && now.since(since) < WORTH_A_MOVE
                    {
                        self.sought(errand);
                    }
                }
            }
        }
    }

    /// Does what the engine wants done.
    fn drain(&mut self) {
        if let Some(secured) = &mut self.secured {
            for address in secured.take_ended() {
                let now = self.clock.now();
                self.engine.association_ended(now, Peer::secured(address));
            }
        }
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Persist { seq, change } => {
                    self.newest = seq;
                    let shard = self.id;
                    if (self.changes.send(Emitted { shard, seq, change })).is_err() {
                        self.health.failed(Part::Store, "the committer has stopped");
                    }
                }
                Effect::Transmit {
                    peer,
                    datagram,
                    after,
                } => {
                    let outgoing = Outgoing { peer, datagram };
                    match self.outbox.offer(outgoing, after) {
                        Ok(Some(outgoing)) => self.send(outgoing),
                        Ok(None) => {}
                        Err(_) => self.unsent += 1,
                    }
                }
                Effect::Report(report) => self.log(&report),
                Effect::Ask(ask) => self.exchange.ask(ask),
                Effect::Seek(seek) => {
                    let now = self.clock.now();
                    match self.exchange.seek(now.instant, self.id, seek) {
                        Found::Now(seek, sought) => {
                            self.engine.handle_sought(now, &seek, &sought);
                            if sought == Sought::Newcomer && !self.engine.has(seek.device) {
                                self.exchange.forget(seek.device);
                            }
                        }
                        Found::Later => {}
                        Found::Never => self.unsought += 1,
                    }
                }
                Effect::Left(device) => self.exchange.forget(device),
            }
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

/// Returns when one of the sockets has something.
async fn readable(plain: Option<&Port>, secured: Option<&Secured>) -> io::Result<()> {
    async fn one(port: Option<&Port>) -> io::Result<()> {
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
