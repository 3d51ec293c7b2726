use std::{collections::VecDeque, io, net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
};

use super::outbox::{Datagram, Outbox};
use crate::{
    clock::SystemClock,
    coap::MAX_DATAGRAM_LEN,
    engine::{Change, Command, Effect, Engine, Report, Seq},
    health::{Health, Part},
    task::UpgradeId,
    telemetry::Metrics,
};

/// Datagrams taken in one turn before commands and deadlines have theirs.
const TURN: usize = 64;
/// How often the figures are published.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Log lines a second about strangers; further ones are counted only.
const STRANGER_LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// One engine with its socket, on a thread of its own.
pub struct Shard {
    engine: Engine,
    socket: UdpSocket,
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
    /// Bound and non-blocking.
    pub socket: std::net::UdpSocket,
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
        let handle = ShardHandle { inbox: sender };
        let socket = {
            let _context = runtime.enter();
            UdpSocket::from_std(setup.socket)?
        };
        let shard = Self {
            engine: setup.engine,
            socket,
            clock: setup.clock,
            inbox,
            changes: setup.changes,
            outbox: Outbox::default(),
            newest: 0,
            committed: 0,
            waiting: VecDeque::new(),
            unsent: 0,
            stranger_lines: RateLimiter::direct(Quota::per_second(STRANGER_LINES_PER_SECOND)),
            health: setup.health,
            metrics: setup.metrics,
        };
        let (ended, has_ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("shard-0".into())
            .spawn(move || {
                runtime.block_on(shard.run());
                let _ = ended.send(()); // nobody waits for it
            })?;
        Ok((handle, has_ended))
    }

    async fn run(mut self) {
        self.health.works(Part::Shard);
        let mut publish = tokio::time::interval(PUBLISH_EVERY);
        publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut buffer = vec![0; MAX_DATAGRAM_LEN + 1];
        let mut stopping = false;
        self.drain();
        while !(stopping && self.committed >= self.newest) {
            let next = self.until_next_deadline();
            tokio::select! {
                ready = self.socket.readable(), if !stopping => match ready {
                    Ok(()) => self.receive(&mut buffer),
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
                () = tokio::time::sleep(next) => self.engine.handle_timeout(self.clock.now()),
                _ = publish.tick() => self.publish(),
            }
            self.drain();
        }
        self.publish();
        self.health.failed(Part::Shard, "stopped");
    }

    fn until_next_deadline(&self) -> Duration {
        const IDLE: Duration = Duration::from_mins(1);
        let now = self.clock.now().instant;
        self.engine.poll_timeout().map_or(IDLE, |at| at.since(now))
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        for _ in 0..TURN {
            match self.socket.try_recv_from(buffer) {
                Ok((len, peer)) => {
                    let now = self.clock.now();
                    self.engine.handle_datagram(now, peer, &buffer[..len]);
                    self.drain();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error for something sent before, such as a device's port that is closed.
                Err(_) => {}
            }
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
                for datagram in self.outbox.committed(seq) {
                    self.send(&datagram);
                }
                self.tell_waiting();
            }
            Message::StoreAvailable(available) => {
                let command = Command::StoreAvailable(available);
                self.engine.handle_command(now, command);
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
                    let datagram = Datagram {
                        peer,
                        bytes: datagram,
                    };
                    match self.outbox.offer(datagram, after) {
                        Ok(Some(datagram)) => self.send(&datagram),
                        Ok(None) => {}
                        Err(_) => self.unsent += 1,
                    }
                }
                Effect::Report(report) => self.log(&report),
            }
        }
    }

    /// What the system does not take at once is dropped: CoAP repeats it.
    fn send(&mut self, datagram: &Datagram) {
        if self
            .socket
            .try_send_to(&datagram.bytes, datagram.peer)
            .is_err()
        {
            self.unsent += 1;
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
            self.unsent,
        );
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

/// The address that the shard's socket is bound to.
///
/// # Errors
/// The address cannot be bound: in use, not of this machine, or not allowed.
pub fn bind(listen: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(listen)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
