//! Drives the reconciler: asks the store, and gives the shards commands.

use std::time::Duration;

use super::{Occurrence, World, field::Unit, messages::Done, millis};
use crate::{
    clock::Now,
    engine::Command,
    ledger::{Protocol, UpgradeOrder, Via},
    shard::{Query, Reconciler, Reply, Surroundings as _, Want, follow},
    simulate::{
        fleet::protocol,
        hooks::Hooks,
        scenario::product_name,
        store::{Added, Created},
    },
};

/// Where the rollout stands.
#[derive(Debug)]
pub(super) struct Rollout {
    reconciler: Reconciler,
    /// It waits for what it has ordered.
    waits_for: Option<Done>,
    /// When it looks next, ms; `None` while it looks.
    looks_at_ms: Option<u64>,
    /// An attempt has ended while it looked.
    signalled: bool,
}

impl Rollout {
    pub(super) fn new(now: Now) -> Self {
        Self {
            reconciler: Reconciler::new(now, 0, false),
            waits_for: None,
            looks_at_ms: None,
            signalled: false,
        }
    }

    /// The gate knows the rules of cells, and the limits of sites, up to these revisions; so long devices are waited for after their soak.
    pub(super) fn knows_lanes(&mut self, now: Now, known: (i64, i64), soak_wait: Duration) {
        let reconciler = Reconciler::new(now, 0, false).knowing_lanes(known);
        self.reconciler = reconciler.waiting_for_soaks(soak_wait);
    }
}

impl<H: Hooks> World<H> {
    /// Does what the reconciler wants, as far as that takes no time.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let now = self.now();
        while let Some(server) = &mut self.server
            && server.rollout.waits_for.is_none()
        {
            match server.rollout.reconciler.want(now) {
                Want::Ask(query) => {
                    let reply = self.answer(&query)?;
                    if let Some(server) = &mut self.server {
                        server.rollout.reconciler.reply(now, reply);
                    }
                }
                Want::Rule(changes) => {
                    self.rule(&changes);
                    if let Some(server) = &mut self.server {
                        server.rollout.reconciler.obeyed();
                        server.gate.handle_timeout(now.instant);
                    }
                    self.tell_turns();
                }
                Want::Share(shares) => {
                    for (task, share) in shares {
                        server.gate.share(task, share);
                    }
                    server.rollout.reconciler.obeyed();
                    server.gate.handle_timeout(now.instant);
                    self.tell_turns();
                }
                Want::Follow(changes) => self.order(follow(changes)),
                Want::Obey(commands) => self.order(commands),
                Want::Start(orders) => {
                    let commands = orders.into_iter().filter_map(|order| self.start(order));
                    let commands = commands.collect();
                    self.order(commands);
                }
                Want::Wait(_) if std::mem::take(&mut server.rollout.signalled) => {
                    server.rollout.reconciler.look();
                }
                Want::Wait(pause) => {
                    let at = self.now_ms + millis(pause);
                    server.rollout.looks_at_ms = Some(at);
                    self.queue.push(at, Occurrence::Look(self.epoch));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, query: &Query) -> Result<Reply, String> {
        Ok(match query {
            // the operator changes no devices in the midst of a task, and tells the shards whom he adds
            Query::RemoveNewcomers { .. } => Reply::NewcomersRemoved(0),
            Query::LaneChanges { after, limit } => {
                Reply::Lanes(self.store.lane_changes_since(*after, *limit)?)
            }
            Query::DeviceChanges { .. } => Reply::Devices(Vec::new()),
            Query::Join { task, after } => {
                let now = self.now().utc;
                let (joined, next) = self.store.join(*task, after.as_deref(), now)?;
                for Created { upgrade, endpoint } in joined {
                    let line = format!(
                        "{endpoint} joins task {} with upgrade {}",
                        task.0, upgrade.0
                    );
                    self.trace.note(self.now_ms, &line);
                    self.checker.joins(self.now_ms, *task, upgrade, &endpoint);
                }
                Reply::Joined(next)
            }
            Query::Running { task, after, limit } => {
                Reply::Running(self.store.running_upgrades(*task, *after, *limit)?)
            }
            Query::ToStop(limit) => Reply::ToStop(self.store.upgrades_to_stop(*limit)?),
            Query::ForgetRemoved(_) => Reply::Done,
            Query::Soaks { now, wait, limit } => {
                Reply::Soaks(self.store.soaks_due(*now, *wait, *limit)?)
            }
            Query::Heads(now) => {
                let mut heads = self.store.task_heads(*now)?;
                for head in &heads {
                    self.checker.counts_each_once(self.now_ms, head);
                }
                self.hooks.plans(&mut heads);
                Reply::Heads(heads)
            }
            Query::Move(moves) => {
                let now = self.now().utc;
                self.store.make_moves(moves, now)?;
                self.moved(moves)?;
                Reply::Done
            }
            Query::Due {
                sources,
                now,
                limit,
            } => {
                let mut due = self.store.due_upgrades(sources, *now, *limit)?;
                self.hooks.dues(&mut due);
                Reply::Due(due)
            }
            Query::PutOff(put_off) => {
                let now = self.now().utc;
                self.store.put_off(put_off, now)?;
                Reply::Done
            }
            Query::NextTime(now) => Reply::NextTime(self.store.next_due(*now)?),
        })
    }

    /// The operator adds a device: it may register, and joins its task when that is looked at next.
    pub(super) fn joins(&mut self, device: u32) -> Result<(), String> {
        let product = product_name(self.checker.product_of(device as usize));
        let over_mqtt = self.mqtt.as_ref().and_then(|field| field.device(device));
        let (endpoint, protocol) = match over_mqtt {
            Some(device) => {
                let spec = device.spec();
                (spec.device.as_str(), protocol(spec.style))
            }
            None => (self.units[device as usize].endpoint(), Protocol::Lwm2m),
        };
        let endpoint = endpoint.to_owned();
        let now = self.now().utc;
        let hardware = (self.units.get(device as usize)).and_then(Unit::hardware);
        let new = Added {
            endpoint: &endpoint,
            protocol,
            hardware,
            via: &Via::Itself,
        };
        self.store.add_device(new, &product, now)?;
        if self.server.is_some() {
            let command = Command::AddDevice {
                endpoint,
                product,
                secure: false,
                protocol,
                via: Via::Itself,
            };
            let done = Done::default();
            self.route(|directory, post| directory.obey(vec![command], &done, post));
        }
        Ok(())
    }

    fn start(&self, order: UpgradeOrder) -> Option<Command> {
        let served = order.served.package;
        let offers = self.packages.iter().find(|(id, _)| *id == served);
        offers.map(|(_, offers)| Command::Start {
            order,
            offers: offers.clone(),
        })
    }

    /// Gives commands, and waits until all is committed that follows.
    fn order(&mut self, commands: Vec<Command>) {
        let done = Done::default();
        if let Some(server) = &mut self.server {
            server.rollout.waits_for = Some(done.clone());
        }
        self.route(|directory, post| directory.obey(commands, &done, post));
    }

    /// Goes on when all is committed that was ordered.
    pub(super) fn go_on(&mut self) -> Result<(), String> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let rollout = &mut server.rollout;
        if !(rollout.waits_for.as_ref()).is_some_and(Done::is_alone) {
            return Ok(());
        }
        rollout.waits_for = None;
        rollout.reconciler.obeyed();
        self.look()
    }

    /// It is time to look, unless it was done since.
    pub(super) fn look_again(&mut self) -> Result<(), String> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let rollout = &mut server.rollout;
        if rollout.waits_for.is_some() || rollout.looks_at_ms != Some(self.now_ms) {
            return Ok(());
        }
        rollout.looks_at_ms = None;
        rollout.reconciler.look();
        self.look()
    }

    /// An attempt has ended, so that another upgrade may begin.
    pub(super) fn signal(&mut self) -> Result<(), String> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        server.rollout.signalled = true;
        self.look()
    }
}
