use std::{io, net::UdpSocket, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Exchange, Outlet, SecuredSetup, Supervisor,
    commit::commit_changes,
    exchange::Ends,
    gate::run_gate,
    limits::LimitLog,
    shard::{Shard, ShardSetup},
};
use crate::{
    clock::SystemClock,
    engine::ShardId,
    health::{Health, Part},
    session::Gate,
    shard::{Committer, Machine},
    signal::Signals,
    store::Store,
    strangers::Strangers,
    telemetry::Metrics,
};

/// All shards, and what they have in common: the gate, and the committer.
pub struct Shards {
    exchange: Arc<Exchange>,
    ended: Vec<oneshot::Receiver<()>>,
    supervisor: Supervisor,
    committer: JoinHandle<()>,
}

/// What the shards are started with.
pub struct ShardsSetup {
    /// One for each shard, with the state of before the restart; that of devices over MQTT is the last, where there is one.
    pub engines: Vec<Machine>,
    /// As many of the port for devices that do not encrypt, or none.
    pub plain: Vec<UdpSocket>,
    /// As many of the port for devices that do, or none.
    pub secured: Vec<SecuredSetup>,
    /// How devices over MQTT are reached, and all are granted their packages.
    pub outlet: Outlet,
    /// Reaches them.
    pub exchange: Arc<Exchange>,
    /// Where they are reached.
    pub ends: Ends,
    /// Knows no slot yet.
    pub gate: Gate,
    /// The clock.
    pub clock: SystemClock,
    /// Where changes are committed.
    pub store: Arc<dyn Store>,
    /// Who commits: a number that no other process has had.
    pub writer: u64,
    /// Signalled when upgrades have ended.
    pub signals: Arc<Signals>,
    /// Told whether the device side works.
    pub health: Arc<Health>,
    /// Runs what the shards have in common.
    pub supervisor: Supervisor,
    /// Told who was refused.
    pub strangers: Arc<Strangers>,
    /// Where figures are published.
    pub metrics: Arc<Metrics>,
}

impl Shards {
    /// Starts a thread for each shard, and grants slots once each has told those that it knows of.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub fn start(setup: ShardsSetup) -> io::Result<Self> {
        let exchange = setup.exchange;
        let (changes, emitted) = mpsc::unbounded_channel();
        let mut plain = setup.plain.into_iter();
        let mut secured = setup.secured.into_iter();
        let mut ended = Vec::with_capacity(setup.engines.len());
        for ((number, engine), inbox) in (0..).zip(setup.engines).zip(setup.ends.shards) {
            ended.push(Shard::start(ShardSetup {
                id: ShardId(number),
                outlet: (setup.outlet).of_shard(matches!(engine, Machine::Mqtt(_))),
                engine,
                exchange: exchange.clone(),
                inbox,
                plain: plain.next(),
                secured: secured.next(),
                clock: setup.clock,
                changes: changes.clone(),
                health: setup.health.clone(),
                strangers: setup.strangers.clone(),
                metrics: setup.metrics.clone(),
            })?);
        }
        setup.health.works(Part::Shard);
        setup.health.works(Part::Store); // what was restored was read from it
        exchange.open_gate();
        let gate = run_gate(
            setup.gate,
            setup.clock,
            exchange.clone(),
            LimitLog::kept_in(setup.store.clone()),
            setup.ends.gate,
        );
        let committer = commit_changes(
            Committer::new(setup.writer),
            setup.clock,
            setup.store,
            setup.health,
            exchange.clone(),
            setup.signals,
            emitted,
        );
        let supervisor = setup.supervisor;
        drop(supervisor.run(Part::Gate, gate));
        let committer = supervisor.run(Part::Committer, committer);
        Ok(Self {
            exchange,
            ended,
            supervisor,
            committer,
        })
    }

    /// Reaches them.
    pub const fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// Returns when nothing more is admitted, and everything that was emitted is committed and sent.
    pub async fn stop(self) {
        self.exchange.stop();
        for ended in self.ended {
            let _ = ended.await; // it has ended
        }
        self.supervisor.end(Part::Gate);
        let _ = self.committer.await;
    }
}
