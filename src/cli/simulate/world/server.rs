//! The server's side: the engine and its outbox, and what the shard's thread does with them.

use std::{collections::VecDeque, time::Duration};

use rand_chacha::rand_core::Rng;

use super::{Event, World, committer::Batch, device_at, rollout::Rollout};
use crate::{
    cli::simulate::{faults::LONGEST_STORE_OUTAGE, hooks::Hooks},
    engine::{Change, Effect, Engine, Report, Seq, Setup},
    runtime::{Outbox, Outgoing},
};

/// How long the server is away after a crash.
const DOWN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

/// A server that runs. A crash drops it.
pub(super) struct Server {
    pub(super) engine: Engine,
    pub(super) outbox: Outbox,
    /// The newest change that the engine emitted.
    pub(super) newest: Seq,
    /// The shard knows that changes up to here are committed.
    pub(super) committed: Seq,
    /// Changes that wait for the committer, with the time at which they were emitted, ms.
    pub(super) pending: VecDeque<(Seq, u64, Change)>,
    pub(super) batch: Option<Batch>,
    pub(super) store_works: bool,
    pub(super) rollout: Rollout,
}

impl Server {
    pub(super) fn uncommitted(&self) -> usize {
        let batch = self.batch.as_ref().map_or(0, Batch::len);
        self.pending.len() + batch
    }

    /// When the oldest change was emitted that the store does not have, ms.
    fn oldest_ms(&self) -> Option<u64> {
        let batch = self.batch.as_ref().and_then(Batch::since_ms);
        batch.or_else(|| self.pending.front().map(|(_, at_ms, _)| *at_ms))
    }
}

impl<H: Hooks> World<H> {
    /// Starts a server with what the store holds.
    pub(super) fn start_server(&mut self) -> Result<(), String> {
        let now = self.now();
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let setup = Setup {
            config: self.config.clone(),
            seed,
            token_key: self.token_key,
        };
        let mut engine = Engine::new(setup, now);
        let (mut devices, mut upgrades) = (
            self.store.restore_devices()?,
            self.store.restore_upgrades()?,
        );
        self.hooks.restores(&mut devices, &mut upgrades);
        for device in devices {
            engine.restore_device(now, &device);
        }
        for upgrade in upgrades {
            let package = upgrade.order.package;
            let (_, package) = (self.packages.iter())
                .find(|(id, _)| *id == package)
                .ok_or("the store names a package that there is not")?;
            engine.restore_upgrade(now, upgrade, package.clone());
        }
        engine.resume(now);
        self.epoch += 1;
        self.server = Some(Server {
            engine,
            outbox: Outbox::default(),
            newest: 0,
            committed: 0,
            pending: VecDeque::new(),
            batch: None,
            store_works: true,
            rollout: Rollout::default(),
        });
        self.drain();
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

    /// Does what the engine wants done.
    pub(super) fn drain(&mut self) {
        let now = self.now();
        loop {
            let Some(server) = &mut self.server else {
                return;
            };
            match server.engine.poll_effect() {
                None => break,
                Some(Effect::Persist { seq, change }) => {
                    self.checker.emitted(self.now_ms, now.utc, seq, &change);
                    server.newest = seq;
                    server.pending.push_back((seq, self.now_ms, change));
                }
                Some(Effect::Transmit {
                    peer,
                    datagram,
                    mut after,
                }) => {
                    if let Some((device, _)) = device_at(peer.address) {
                        let device = device as usize;
                        let bytes = datagram.to_bytes();
                        (self.checker).sends(self.now_ms, now.utc, device, &bytes, after);
                    }
                    let needs = after;
                    let mut outgoing = Outgoing { peer, datagram };
                    self.hooks.sends(&mut outgoing, &mut after);
                    // One that finds the outbox full is dropped: whoever misses it repeats.
                    match server.outbox.offer(outgoing, after) {
                        Ok(Some(outgoing)) => {
                            (self.checker).left_at_once(self.now_ms, needs, server.committed);
                            self.leave(&outgoing);
                        }
                        Ok(None) => self.checker.waits(needs),
                        Err(_) => {}
                    }
                }
                Some(Effect::Report(report)) => self.reported(&report),
            }
        }
        if let Some(server) = &self.server {
            let engine = &server.engine;
            (self.checker).compare_slots(self.now_ms, |cell| engine.slots_taken(cell));
        }
        self.begin_batch();
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
