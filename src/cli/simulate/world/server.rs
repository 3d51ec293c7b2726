//! The server's side: the shards' engines and outboxes, and what their threads do with them.

use std::{collections::VecDeque, time::Duration};

use rand_chacha::rand_core::Rng;

use super::{
    Event, World,
    committer::Batch,
    device_at,
    messages::{Message, UnderWay},
    rollout::Rollout,
};
use crate::{
    cli::simulate::{faults::LONGEST_STORE_OUTAGE, hooks::Hooks, invariants::Number},
    clock::{Instant, Now},
    engine::{
        Ask, Change, DeviceIds, DeviceRecord, Directory, Effect, Engine, Gate, Report, Seek, Seq,
        Setup, ShardId,
    },
    runtime::{Outbox, Outgoing, home_of},
    store::BatchId,
};

/// How long the server is away after a crash.
const DOWN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

/// A server that runs. A crash drops it.
pub(super) struct Server {
    pub(super) shards: Vec<Shard>,
    pub(super) directory: Directory,
    pub(super) gate: Gate,
    /// What is said to the gate.
    pub(super) asks: VecDeque<Ask>,
    pub(super) under_way: UnderWay,
    /// Changes that wait for the committer, with the time at which they were emitted, ms.
    pub(super) pending: VecDeque<(Number, u64, Change)>,
    pub(super) batch: Option<Batch>,
    /// The number of the next one.
    pub(super) next_batch: BatchId,
    pub(super) store_works: bool,
    pub(super) rollout: Rollout,
}

/// What a shard's thread has.
pub(super) struct Shard {
    pub(super) engine: Engine,
    pub(super) outbox: Outbox,
    /// The newest change that the engine emitted.
    pub(super) newest: Seq,
    /// It knows that changes up to here are committed.
    pub(super) committed: Seq,
    pub(super) inbox: VecDeque<Message>,
    /// Devices that are to go to other shards when what they wait for is committed.
    pub(super) waiting: VecDeque<(Seq, Box<Seek>, ShardId)>,
}

impl Server {
    /// When an engine or the gate has something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let engines = (self.shards.iter()).filter_map(|shard| shard.engine.poll_timeout());
        engines.chain(self.gate.poll_timeout()).min()
    }

    pub(super) fn handle_timeouts(&mut self, now: Now) {
        for shard in &mut self.shards {
            shard.engine.handle_timeout(now);
        }
        self.gate.handle_timeout(now.instant);
    }

    pub(super) fn uncommitted(&self) -> usize {
        let batch = self.batch.as_ref().map_or(0, Batch::len);
        self.pending.len() + batch
    }

    /// When the oldest change was emitted that the store does not have, ms.
    fn oldest_ms(&self) -> Option<u64> {
        let batch = self.batch.as_ref().and_then(Batch::since_ms);
        batch.or_else(|| self.pending.front().map(|(_, at_ms, _)| *at_ms))
    }

    fn restore_device(&mut self, now: Now, ids: &DeviceIds, device: &DeviceRecord) {
        let id = ids.of(&device.endpoint);
        let shard = home_of(id, device, self.count());
        self.directory.place(id, shard);
        self.shards[shard.index()]
            .engine
            .restore_device(now, device);
    }
}

impl<H: Hooks> World<H> {
    /// Starts a server with what the store holds.
    pub(super) fn start_server(&mut self) -> Result<(), String> {
        let now = self.now();
        let shards = (0..self.shards).map(|_| {
            let mut seed = [0; 32];
            self.rng.fill_bytes(&mut seed);
            let setup = Setup {
                config: self.config.clone(),
                seed,
                ids: self.ids.clone(),
                engines: self.shards,
            };
            Shard {
                engine: Engine::new(setup, now),
                outbox: Outbox::default(),
                newest: 0,
                committed: 0,
                inbox: VecDeque::new(),
                waiting: VecDeque::new(),
            }
        });
        let mut server = Server {
            shards: shards.collect(),
            directory: Directory::default(),
            gate: Gate::new(&self.config.admission),
            asks: VecDeque::new(),
            under_way: UnderWay::default(),
            pending: VecDeque::new(),
            batch: None,
            next_batch: BatchId::first_of(self.epoch.into()),
            store_works: true,
            rollout: Rollout::default(),
        };
        let (mut devices, mut upgrades) = (
            self.store.restore_devices()?,
            self.store.restore_upgrades()?,
        );
        self.hooks.restores(&mut devices, &mut upgrades);
        for device in devices {
            server.restore_device(now, &self.ids, &device);
        }
        for upgrade in upgrades {
            let package = upgrade.order.package;
            let (_, package) = (self.packages.iter())
                .find(|(id, _)| *id == package)
                .ok_or("the store names a package that there is not")?;
            let shard = server.holder(self.ids.of(&upgrade.order.endpoint));
            let engine = &mut server.shards[shard.index()].engine;
            engine.restore_upgrade(now, upgrade, package.clone());
        }
        self.epoch += 1;
        self.server = Some(server);
        self.drain();
        // The gate hears of all slots before it opens.
        while self
            .server
            .as_ref()
            .is_some_and(|server| !server.asks.is_empty())
        {
            self.asked();
        }
        if let Some(server) = &mut self.server {
            server.gate.open(true);
            server.gate.handle_timeout(now.instant);
        }
        self.tell_turns();
        self.look()
    }

    pub(super) fn plan_crash(&mut self) {
        if let Some(mean) = self.crash_every
            && self.checker.open() > 0
        {
            let at = self.now_ms + self.between(mean / 2, mean * 3 / 2);
            self.queue.push(at, Event::Crash);
        }
    }

    pub(super) fn crash(&mut self) {
        let Some(server) = self.server.take() else {
            return;
        };
        self.crashes += 1;
        self.crashed_at_ms = self.now_ms;
        let undone_ms = server.oldest_ms().map_or(0, |at| self.now_ms - at);
        self.checker.crashed(undone_ms);
        self.trace.note(self.now_ms, "crash");
        let at = self.now_ms + self.between(DOWN.0, DOWN.1);
        self.queue.push(at, Event::Restart);
    }

    pub(super) fn restart(&mut self) -> Result<(), String> {
        let now = self.now().utc;
        (self.checker).restarted(now, self.now_ms - self.crashed_at_ms);
        self.start_server()?;
        self.plan_crash();
        Ok(())
    }

    pub(super) fn plan_store_outage(&mut self) {
        if let Some(mean) = self.mishaps.store_outage
            && self.checker.open() > 0
        {
            let at = self.now_ms + self.until_next(mean);
            self.queue.push(at, Event::StoreOutage);
        }
    }

    pub(super) fn store_outage(&mut self) {
        let lasts_ms = self.between(Duration::from_millis(50), LONGEST_STORE_OUTAGE);
        self.store_fails_until_ms = self.now_ms + lasts_ms;
        self.plan_store_outage();
    }

    /// Does what the engines want done.
    pub(super) fn drain(&mut self) {
        let count = self.server.as_ref().map_or(0, Server::count);
        // What one has done concerns no other before it is told.
        for shard in (0..count).map(ShardId) {
            while let Some(effect) = self.next_effect(shard) {
                self.take_effect(shard, effect);
            }
        }
        if let Some(server) = &self.server {
            (self.checker).compare_slots(self.now_ms, |cell| {
                (server.under_way.is_quiet(cell)).then(|| server.gate.slots_taken(cell))
            });
        }
        self.begin_batch();
    }

    fn next_effect(&mut self, shard: ShardId) -> Option<Effect> {
        let server = self.server.as_mut()?;
        server.shards[shard.index()].engine.poll_effect()
    }

    fn take_effect(&mut self, here: ShardId, effect: Effect) {
        let now = self.now();
        let Some(server) = &mut self.server else {
            return;
        };
        let shard = &mut server.shards[here.index()];
        match effect {
            Effect::Persist { seq, change } => {
                let number = Number { shard: here, seq };
                (self.checker).emitted(self.now_ms, now.utc, number, &change);
                shard.newest = seq;
                server.pending.push_back((number, self.now_ms, change));
            }
            Effect::Transmit {
                peer,
                datagram,
                mut after,
            } => {
                let needs = Number {
                    shard: here,
                    seq: after,
                };
                if let Some((device, _)) = device_at(peer.address) {
                    let device = device as usize;
                    let bytes = datagram.to_bytes();
                    (self.checker).sends(self.now_ms, now.utc, device, &bytes, needs);
                }
                let mut outgoing = Outgoing { peer, datagram };
                self.hooks.sends(&mut outgoing, &mut after);
                // One that finds the outbox full is dropped: whoever misses it repeats.
                match shard.outbox.offer(outgoing, after) {
                    Ok(Some(outgoing)) => {
                        (self.checker).left_at_once(self.now_ms, needs.seq, shard.committed);
                        self.leave(&outgoing);
                    }
                    Ok(None) => self.checker.waits(needs),
                    Err(_) => {}
                }
            }
            Effect::Report(report) => self.reported(&report),
            Effect::Ask(ask) => self.post_ask(ask),
            Effect::Seek(seek) => {
                if let Some(to) = server.directory.where_to(here, seek.device) {
                    return self.post(to, Message::Seek(seek, here));
                }
                let sought = server.directory.welcome(now.instant, here, &seek);
                self.handle_sought(here, &seek, &sought);
            }
            Effect::Left(device) => server.directory.remove(device),
        }
    }

    /// A datagram leaves.
    pub(super) fn leave(&mut self, outgoing: &Outgoing) {
        if let Some((device, port)) = device_at(outgoing.peer.address) {
            let bytes = outgoing.datagram.to_bytes();
            (self.checker).leaves(self.now_ms, device as usize, &bytes);
            self.send_down(device, port, &bytes);
        }
    }

    fn reported(&mut self, report: &Report) {
        if let Report::UpgradeEnded {
            endpoint,
            attempt,
            outcome,
            ..
        } = report
        {
            let line = format!(
                "{endpoint} {attempt} {} {}",
                outcome.state(),
                outcome.reason()
            );
            self.trace.note(self.now_ms, &line);
        }
    }
}
