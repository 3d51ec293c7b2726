//! The server's side: shards, the gate and the committer, and the world around them.

use std::{collections::VecDeque, time::Duration};

use rand_chacha::rand_core::Rng;

use super::{
    Occurrence, World,
    committer::{Transaction, Written, number_of},
    device_at,
    messages::{Between, Done, Way},
    mqtt::ServerSide,
    rollout::Rollout,
};
use crate::{
    clock::{Instant, Now},
    engine::{Command, Engine, Reached, Report, Seq, Setup, ShardId},
    ledger::Lane,
    mqtt::{self, engine::Out},
    session::{Gate, GateAsk},
    shard::{
        Committer, Core, Directory, Emitted, Machine, Outgoing, Post, Surroundings, take_backs,
    },
    simulate::{faults::LONGEST_STORE_OUTAGE, hooks::Hooks},
};

/// How long the server is away after a crash.
const DOWN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

/// A server that runs. A crash drops it.
pub(super) struct Server {
    /// Each is taken out while it does something.
    cores: Vec<Option<Box<Core<Done>>>>,
    pub(super) gate: Gate,
    /// What is said to the gate.
    pub(super) asks: VecDeque<GateAsk>,
    pub(super) committer: Committer,
    pub(super) transaction: Option<Transaction>,
    pub(super) written: Written,
    /// When each change was emitted that the store does not have, ms.
    pub(super) emitted_at_ms: VecDeque<u64>,
    pub(super) store_works: bool,
    pub(super) rollout: Rollout,
    /// What has to do with MQTT, where devices speak that.
    pub(super) mqtt: Option<ServerSide>,
}

impl Server {
    pub(super) fn cores(&self) -> impl Iterator<Item = &Core<Done>> {
        self.cores.iter().flatten().map(Box::as_ref)
    }

    /// When an engine or the gate has something to do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let cores = self.cores().filter_map(Core::poll_timeout);
        let endpoint = self.mqtt.as_ref().and_then(ServerSide::poll_timeout);
        cores.chain(self.gate.poll_timeout()).chain(endpoint).min()
    }

    pub(super) fn handle_timeouts(&mut self, now: Now) {
        for core in self.cores.iter_mut().flatten() {
            core.handle_timeout(now);
        }
        self.gate.keep_time(now);
        self.gate.handle_timeout(now.instant);
        if let Some(side) = &mut self.mqtt {
            side.handle_timeout(now);
        }
    }

    pub(super) fn uncommitted(&self) -> usize {
        let transaction = self.transaction.as_ref().map_or(0, Transaction::len);
        self.committer.waiting() + transaction
    }

    fn engine(&mut self, shard: ShardId) -> Option<&mut Machine> {
        let core = self.cores[shard.index()].as_mut()?;
        Some(core.engine_mut())
    }
}

impl<H: Hooks> World<H> {
    /// Starts a server with what the store holds.
    #[expect(
        clippy::too_many_lines,
        reason = "the parts of a server, in the order in which they start"
    )]
    pub(super) fn start_server(&mut self) -> Result<(), String> {
        let now = self.now();
        let cores = (0..self.shards).map(|number| {
            let mut seed = [0; 32];
            self.rng.fill_bytes(&mut seed);
            let setup = Setup {
                config: self.config.clone(),
                seed,
                ids: self.ids.clone(),
                engines: self.shards,
            };
            let mut engine = Engine::new(setup, now);
            engine.reached_at(Reached {
                coap: Some(Reached::authority("192.0.2.1", 5683)),
                ..Reached::default()
            });
            let core = Core::new(ShardId(number), self.ids.clone(), engine);
            Some(Box::new(core))
        });
        let mut cores: Vec<_> = cores.collect();
        let side =
            (self.mqtt.as_ref()).map(|_| ServerSide::new(&self.config.mqtt, u64::from(self.epoch)));
        if let Some((field, side)) = self.mqtt.as_ref().zip(side.as_ref()) {
            let setup = mqtt::engine::Setup {
                config: self.config.clone(),
                ids: self.ids.clone(),
                token_key: field.token_key,
            };
            let mut engine = mqtt::engine::Engine::new(setup, now);
            if let Some(links) = side.links() {
                engine.serve_at(links);
            }
            let core = Core::new(self.mqtt_shard(), self.ids.clone(), engine);
            cores.push(Some(Box::new(core)));
        }
        self.between = Between::new(self.ids.clone(), self.shards, side.is_some());
        let mut server = Server {
            cores,
            gate: Gate::new(&self.config.admission),
            asks: VecDeque::new(),
            committer: Committer::new(self.epoch.into()),
            transaction: None,
            written: Written::default(),
            emitted_at_ms: VecDeque::new(),
            store_works: true,
            rollout: Rollout::new(now),
            mqtt: side,
        };
        let learnt = self.store.restore_learnt()?;
        for core in server.cores.iter_mut().flatten() {
            core.engine_mut().restore_learnt(&learnt);
        }
        server.gate.restore(&learnt);
        let (mut devices, mut upgrades) = (
            self.store.restore_devices()?,
            self.store.restore_upgrades()?,
        );
        self.checker.gateways_are_read();
        self.hooks.restores(&mut devices, &mut upgrades);
        for device in devices {
            if let Some(shard) = self.between.directory.settle(&device)
                && let Some(engine) = server.engine(shard)
            {
                engine.restore_device(now, &device);
            }
        }
        for upgrade in upgrades {
            let package = upgrade.order.served.package;
            let (_, offers) = (self.packages.iter())
                .find(|(id, _)| *id == package)
                .ok_or("the store names a package that there is not")?;
            let device = self.ids.of(&upgrade.order.endpoint);
            let shard = self.between.directory.holder(device);
            if let Some(engine) = server.engine(shard) {
                engine.restore_upgrade(now, upgrade, offers.clone());
            }
        }
        for (task, rules) in self.store.taking_back()? {
            let running = self.store.running_upgrades(task, None, u32::MAX)?;
            for command in take_backs(&rules, running, now.utc) {
                let device = command.endpoint().map(|endpoint| self.ids.of(endpoint));
                let shard = device.map(|device| self.between.directory.holder(device));
                if let Some(engine) = shard.and_then(|shard| server.engine(shard)) {
                    engine.handle_command(now, command);
                }
            }
        }
        if server.mqtt.is_some()
            && let Some(engine) = server.engine(self.mqtt_shard())
        {
            engine.handle_command(now, Command::Restored);
        }
        self.epoch += 1;
        self.server = Some(server);
        self.restore_rules()?;
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
            self.queue.push(at, Occurrence::Crash);
        }
    }

    pub(super) fn crash(&mut self) {
        let Some(server) = self.server.take() else {
            return;
        };
        self.crashes += 1;
        self.crashed_at_ms = self.now_ms;
        let oldest_ms = server.emitted_at_ms.front();
        let undone_ms = oldest_ms.map_or(0, |at| self.now_ms - at);
        self.checker.crashed(undone_ms);
        self.trace.note(self.now_ms, "crash");
        self.crash_mqtt(&server);
        let at = self.now_ms + self.between(DOWN.0, DOWN.1);
        self.queue.push(at, Occurrence::Restart);
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
            self.queue.push(at, Occurrence::StoreOutage);
        }
    }

    pub(super) fn store_outage(&mut self) {
        let lasts_ms = self.between(Duration::from_millis(50), LONGEST_STORE_OUTAGE);
        self.store_fails_until_ms = self.now_ms + lasts_ms;
        self.checker.store_fails(self.store_fails_until_ms);
        self.plan_store_outage();
    }

    /// Does what the engines want done.
    pub(super) fn drain(&mut self) {
        let now = self.now();
        // What one has done concerns no other before it is told.
        for shard in self.all_shards() {
            self.with_core(shard, |core, world| core.drain(now, world));
        }
        if let Some(server) = &self.server {
            (self.checker).compare_slots(self.now_ms, |cell| {
                let lane = Lane::Cell(cell);
                (self.between.talk.is_quiet(lane)).then(|| server.gate.slots_taken(lane))
            });
            (self.checker).compare_gateways(self.now_ms, |lane| {
                (self.between.talk.is_quiet(lane)).then(|| server.gate.slots_taken(lane))
            });
            if self.between.talk.is_silent() {
                (self.checker).compare_sites(self.now_ms, |lane| server.gate.slots_taken(lane));
            }
        }
        self.begin_batch();
    }

    /// All shards, that of devices over MQTT being the last.
    pub(super) fn all_shards(&self) -> impl Iterator<Item = ShardId> + use<H> {
        (0..self.shards + u8::from(self.mqtt.is_some())).map(ShardId)
    }

    /// Lets a shard do something in this world, while a server runs.
    pub(super) fn with_core<R>(
        &mut self,
        shard: ShardId,
        what: impl FnOnce(&mut Core<Done>, &mut Self) -> R,
    ) -> Option<R> {
        let server = self.server.as_mut()?;
        let mut core = server.cores[shard.index()].take()?;
        let done = what(&mut core, self);
        if let Some(server) = &mut self.server {
            server.cores[shard.index()] = Some(core);
        }
        Some(done)
    }

    /// A datagram leaves.
    fn leave(&mut self, outgoing: &Outgoing) {
        if let Some((device, port)) = device_at(outgoing.peer.address) {
            let bytes = outgoing.datagram.to_bytes();
            (self.checker).leaves(self.now_ms, device as usize, &bytes);
            self.send_down(device, port, &bytes);
        }
    }
}

impl<H: Hooks> Surroundings for World<H> {
    type Done = Done;

    fn route<R>(&mut self, what: impl FnOnce(&mut Directory, &mut dyn Post<Done>) -> R) -> R {
        let takes = self.hooks.on_its_way();
        let Between {
            directory,
            inboxes,
            talk,
        } = &mut self.between;
        let mut way = Way {
            inboxes,
            talk,
            queue: &mut self.queue,
            rng: &mut self.rng,
            now_ms: self.now_ms,
            epoch: self.epoch,
            takes,
            moves: &mut self.figures.moves,
        };
        what(directory, &mut way)
    }

    fn persist(&mut self, emitted: Emitted) {
        let now = self.now().utc;
        let number = number_of((emitted.shard, emitted.seq));
        (self.checker).emitted(self.now_ms, now, number, &emitted.change);
        if let Some(server) = &mut self.server {
            server.emitted_at_ms.push_back(self.now_ms);
            server.committer.emitted(emitted);
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        self.leave(&outgoing);
    }

    fn let_out(&mut self, out: Out) {
        self.goes_out(out);
    }

    fn lets_out(&mut self, from: ShardId, out: &Out, after: &mut Seq) {
        self.holds_out(from, out, after);
    }

    fn report(&mut self, report: &Report) {
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

    fn ask(&mut self, ask: GateAsk) {
        self.post_ask(ask);
    }

    fn transmits(&mut self, from: ShardId, outgoing: &mut Outgoing, after: &mut Seq) {
        if let Some((device, _)) = device_at(outgoing.peer.address) {
            let now = self.now().utc;
            let bytes = outgoing.datagram.to_bytes();
            let needs = number_of((from, *after));
            (self.checker).sends(self.now_ms, now, device as usize, &bytes, needs);
        }
        self.hooks.sends(outgoing, after);
    }

    fn offered(&mut self, from: ShardId, after: Seq, committed: Seq, held: bool) {
        if held {
            self.checker.waits(number_of((from, after)));
        } else {
            self.checker.left_at_once(self.now_ms, after, committed);
        }
    }

    fn dropped(&mut self, from: ShardId, after: Seq) {
        self.checker.dropped(from, after);
    }

    fn released(&mut self, from: ShardId, seq: Seq, count: usize) {
        self.checker.released(self.now_ms, from, seq, count);
    }
}
