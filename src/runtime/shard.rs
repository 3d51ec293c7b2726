use std::{collections::VecDeque, io, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{mpsc, oneshot};

use super::{
    outbox::{Outbox, Outgoing},
    port::{BATCH, Port},
    secured::{KeyChange, Secured, SecuredSetup, until},
};
use crate::{
    clock::SystemClock,
    coap::Peer,
    engine::{Change, Command, Effect, Engine, Report, Seq},
    health::{Health, Part},
    task::UpgradeId,
    telemetry::Metrics,
};

/// Batches taken from each port in one turn before commands and deadlines have theirs.
const TURN: usize = 4;
/// How often the figures are published.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Log lines a second about strangers; further ones are counted only.
const STRANGER_LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// Lines a second about messages that were refused; further ones are counted only.
const AUDIT_LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// One engine with its sockets, on a thread of its own.
pub struct Shard {
    engine: Engine,
    plain: Option<Port>,
    secured: Option<Secured>,
    clock: SystemClock,
    inbox: mpsc::UnboundedReceiver<Message>,
    changes: mpsc::UnboundedSender<(Seq, Change)>,
    outbox: Outbox,
    /// The newest change that the engine emitted.
    newest: Seq,
    committed: Seq,
    /// Whoever waits until the changes up to a number are committed.
    waiting: VecDeque<(Seq, oneshot::Sender<()>)>,
    unsent: u64,
    stranger_lines: DefaultDirectRateLimiter,
    audit_lines: DefaultDirectRateLimiter,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

enum Message {
    Commands {
        commands: Vec<Command>,
        /// Told when everything that followed from the commands is committed.
        done: oneshot::Sender<()>,
    },
    Committed {
        seq: Seq,
        refused: Vec<UpgradeId>,
    },
    StoreAvailable(bool),
    ChangeKeys(Vec<KeyChange>),
    Stop,
}

/// Reaches a shard from other threads.
#[derive(Clone)]
pub struct ShardHandle {
    inbox: mpsc::UnboundedSender<Message>,
}

/// The shard has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the device side has stopped")]
pub struct ShardGone;

impl ShardHandle {
    /// A handle whose messages nobody takes.
    #[cfg(test)]
    pub(super) fn unattached() -> (Self, mpsc::UnboundedReceiver<impl Sized>) {
        let (inbox, taken) = mpsc::unbounded_channel();
        (Self { inbox }, taken)
    }

    /// Has the engine obey `commands`, and returns when all that follows is committed.
    pub async fn obey(&self, commands: Vec<Command>) -> Result<(), ShardGone> {
        let (done, committed) = oneshot::channel();
        self.inbox
            .send(Message::Commands { commands, done })
            .map_err(|_| ShardGone)?;
        committed.await.map_err(|_| ShardGone)
    }

    /// Gives devices other keys, and ends everything encrypted with those that they had.
    pub fn change_keys(&self, changes: Vec<KeyChange>) -> Result<(), ShardGone> {
        (self.inbox)
            .send(Message::ChangeKeys(changes))
            .map_err(|_| ShardGone)
    }

    /// Stops admitting, and ends the shard's thread once everything emitted is committed and sent.
    pub fn stop(&self) {
        let _ = self.inbox.send(Message::Stop); // it is gone already
    }

    pub(super) fn committed(&self, seq: Seq, refused: Vec<UpgradeId>) {
        let _ = self.inbox.send(Message::Committed { seq, refused }); // it has stopped
    }

    pub(super) fn store_available(&self, available: bool) {
        let _ = self.inbox.send(Message::StoreAvailable(available)); // it has stopped
    }
}

/// What a shard is started with.
pub struct ShardSetup {
    /// The engine, with the state of before the restart.
    pub engine: Engine,
    /// For devices that do not encrypt: bound and non-blocking.
    pub plain: Option<std::net::UdpSocket>,
    /// For devices that do.
    pub secured: Option<SecuredSetup>,
    /// The clock.
    pub clock: SystemClock,
    /// Where changes go, in order.
    pub changes: mpsc::UnboundedSender<(Seq, Change)>,
    /// Told whether the shard works.
    pub health: Arc<Health>,
    /// Where figures are published.
    pub metrics: Arc<Metrics>,
}

impl Shard {
    /// Starts the shard's thread. The receiver is told when it has ended.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub fn start(setup: ShardSetup) -> io::Result<(ShardHandle, oneshot::Receiver<()>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (sender, inbox) = mpsc::unbounded_channel();
        let (ended, has_ended) = oneshot::channel();
        let (started, has_started) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("shard-0".into())
            .spawn(move || {
                // The ports' buffers are made here: they belong to this thread.
                let context = runtime.enter();
                let shard = Self::new(setup, inbox);
                drop(context);
                let shard = match shard {
                    Ok(shard) => shard,
                    Err(error) => return started.send(Err(error)).unwrap_or_default(),
                };
                let _ = started.send(Ok(())); // it is waited for
                runtime.block_on(shard.run());
                let _ = ended.send(()); // nobody waits for it
            })?;
        has_started
            .recv()
            .map_err(|_| io::Error::other("the device side's thread has ended"))??;
        Ok((ShardHandle { inbox: sender }, has_ended))
    }

    /// Call it within the runtime that drives the sockets.
    fn new(setup: ShardSetup, inbox: mpsc::UnboundedReceiver<Message>) -> io::Result<Self> {
        Ok(Self {
            engine: setup.engine,
            plain: setup.plain.map(Port::new).transpose()?,
            secured: setup.secured.map(Secured::new).transpose()?,
            clock: setup.clock,
            inbox,
            changes: setup.changes,
            outbox: Outbox::default(),
            newest: 0,
            committed: 0,
            waiting: VecDeque::new(),
            unsent: 0,
            stranger_lines: RateLimiter::direct(Quota::per_second(STRANGER_LINES_PER_SECOND)),
            audit_lines: RateLimiter::direct(Quota::per_second(AUDIT_LINES_PER_SECOND)),
            health: setup.health,
            metrics: setup.metrics,
        })
    }

    async fn run(mut self) {
        self.health.works(Part::Shard);
        let mut publish = tokio::time::interval(PUBLISH_EVERY);
        publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut stopping = false;
        self.drain();
        while !(stopping && self.committed >= self.newest) {
            let next = self.until_next_deadline();
            tokio::select! {
                ready = readable(self.plain.as_ref(), self.secured.as_ref()), if !stopping => match ready {
                    Ok(()) => {
                        self.receive();
                        self.receive_secured();
                    }
                    Err(error) => {
                        self.health.failed(Part::Shard, format!("the device socket failed: {error}"));
                        tracing::error!(%error, "the device socket failed");
                        break;
                    }
                },
                message = self.inbox.recv() => match message {
                    Some(Message::Stop) => {
                        stopping = true;
                        self.engine.handle_command(self.clock.now(), Command::Admit(false));
                    }
                    Some(message) => self.take(message),
                    // Nobody is left who could commit anything.
                    None => break,
                },
                () = tokio::time::sleep(next) => {}
                _ = publish.tick() => self.publish(),
            }
            // what is due is not put off by what never ends to arrive
            self.engine.handle_timeout(self.clock.now());
            self.work();
            self.drain();
            self.flush();
        }
        self.publish();
        self.health.failed(Part::Shard, "stopped");
    }

    fn until_next_deadline(&self) -> Duration {
        let now = self.clock.now().instant;
        let secured = self.secured.as_ref();
        let secured = secured.and_then(|secured| secured.next_due(now));
        let engine = self.engine.poll_timeout();
        until(engine.into_iter().chain(secured).min(), now)
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
                    self.engine.handle_command(now, command);
                }
                self.drain();
                self.waiting.push_back((self.newest, done));
                self.tell_waiting();
            }
            Message::Committed { seq, refused } => {
                for upgrade in refused {
                    let command = Command::Abandon { upgrade };
                    self.engine.handle_command(now, command);
                }
                self.committed = self.committed.max(seq);
                for outgoing in self.outbox.committed(seq) {
                    self.send(outgoing);
                }
                self.tell_waiting();
            }
            Message::StoreAvailable(available) => {
                let command = Command::StoreAvailable(available);
                self.engine.handle_command(now, command);
            }
            Message::ChangeKeys(changes) => {
                if let Some(secured) = &mut self.secured {
                    secured.change_keys(now, &changes);
                }
            }
            Message::Stop => {}
        }
    }

    fn tell_waiting(&mut self) {
        while let Some((_, done)) = self.waiting.pop_front_if(|(seq, _)| *seq <= self.committed) {
            let _ = done.send(()); // nobody waits any more
        }
    }

    /// Does what the engine wants done.
    fn drain(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Persist { seq, change } => {
                    self.newest = seq;
                    if self.changes.send((seq, change)).is_err() {
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
            }
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        let Outgoing { peer, datagram } = outgoing;
        match (peer.secured, &mut self.plain, &mut self.secured) {
            (false, Some(port), _) => port.send(peer.address, datagram),
            (true, _, Some(secured)) => secured.send(peer.address, &datagram),
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

    fn log(&self, report: &Report) {
        match report {
            Report::Registered { endpoint, peer } => {
                tracing::debug!(endpoint, %peer, "registered");
            }
            Report::UnknownEndpoint { endpoint, peer } => {
                if self.stranger_lines.check().is_ok() {
                    tracing::warn!(
                        endpoint, %peer,
                        "an unknown endpoint was refused; add the device, or set lwm2m.registration = \"open\""
                    );
                }
            }
            Report::Impostor {
                endpoint,
                peer,
                identities,
            } => {
                if self.audit_lines.check().is_ok() {
                    let told = if peer.secured {
                        "somebody acted as another device than it has shown to be, and was refused"
                    } else {
                        "a device that has to encrypt was heard on the plain port, and refused"
                    };
                    tracing::warn!(target: "cellwise::audit", endpoint, %peer, ?identities, "{told}");
                }
            }
            Report::UpgradeEnded {
                endpoint,
                upgrade,
                attempt,
                outcome,
                retried,
            } => {
                tracing::info!(
                    endpoint,
                    upgrade = upgrade.0,
                    attempt,
                    state = outcome.state(),
                    reason = outcome.reason(),
                    retried,
                    "upgrade ended: {outcome}"
                );
            }
        }
    }

    fn publish(&self) {
        for (name, help, value) in self.engine.counters().each() {
            self.metrics.set_counter(name, help, value);
        }
        self.metrics.set_counter(
            "datagrams_unsent",
            "Datagrams that the system did not take, or that waited too long for the store",
            self.unsent + self.plain.as_ref().map_or(0, Port::unsent),
        );
        if let Some(dropped) = self.plain.as_ref().and_then(Port::dropped) {
            self.metrics.set_counter(
                "datagrams_dropped",
                "Datagrams that the system dropped because they came faster than they were taken",
                dropped,
            );
        }
        if let Some(secured) = &self.secured {
            secured.publish(&self.metrics);
        }
        let (devices, upgrading) = self.engine.population();
        let gauges = [
            ("devices", "Devices that may register", devices),
            ("upgrades_active", "Upgrades under way", upgrading),
            (
                "datagrams_held",
                "Datagrams that wait for a commit",
                self.outbox.len(),
            ),
            (
                "changes_uncommitted",
                "Changes that wait for a commit",
                usize::try_from(self.newest - self.committed).unwrap_or(usize::MAX),
            ),
        ];
        for (name, help, value) in gauges {
            self.metrics.set_gauge(name, help, value);
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
