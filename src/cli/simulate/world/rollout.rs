//! Stands in for the rollout's task: which upgrades begin, and when that is looked at.

use std::collections::{BTreeMap, HashSet};

use super::{Event, World, messages::Message, millis};
use crate::{
    cli::simulate::hooks::Hooks,
    engine::{Command, Seq, ShardId},
    runtime::{ROLLOUT_IDLE, ROLLOUT_PAGE, ROLLOUT_SOON},
    task::{UpgradeId, plan},
};

/// Where the rollout stands.
#[derive(Debug, Default)]
pub(super) struct Rollout {
    /// It waits for what it has ordered.
    waits_for: Option<Waits>,
    /// When it looks next, ms.
    looks_at_ms: u64,
    /// It was poked while it looked.
    poked: bool,
    tried: HashSet<UpgradeId>,
}

/// What the rollout has ordered.
#[derive(Debug, Default)]
struct Waits {
    /// Lots of commands that are on their way.
    lots: usize,
    /// All that followed from the others is committed when this is.
    up_to: BTreeMap<ShardId, Seq>,
}

impl<H: Hooks> World<H> {
    /// Looks at the store, and lets begin what may begin: a page, then the next one when that is committed.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let now = self.now();
        self.store.start_due_tasks(now.utc)?;
        loop {
            let Some(server) = &mut self.server else {
                return Ok(());
            };
            let mut commands = Vec::new();
            for (candidate, order) in self.store.startable(now.utc, ROLLOUT_PAGE)? {
                if plan(&candidate, now.utc).is_ok()
                    && server.rollout.tried.insert(order.upgrade)
                    && let Some((_, package)) =
                        self.packages.iter().find(|(id, _)| *id == order.package)
                {
                    let package = package.clone();
                    commands.push(Command::Start { order, package });
                }
            }
            if !commands.is_empty() {
                let mut lots: BTreeMap<ShardId, Vec<Command>> = BTreeMap::new();
                for command in commands {
                    let device = self.ids.of(command.endpoint().unwrap_or_default());
                    lots.entry(server.holder(device)).or_default().push(command);
                }
                server.rollout.waits_for = Some(Waits {
                    lots: lots.len(),
                    ..Waits::default()
                });
                for (shard, commands) in lots {
                    self.post(shard, Message::Commands(commands));
                }
                return Ok(());
            }
            server.rollout.tried.clear();
            if !std::mem::take(&mut server.rollout.poked) {
                break;
            }
        }
        let due = self.store.next_due(now.utc)?;
        let pause = due.map_or(ROLLOUT_IDLE, |at| {
            at.since(now.utc).clamp(ROLLOUT_SOON, ROLLOUT_IDLE)
        });
        let at = self.now_ms + millis(pause);
        if let Some(server) = &mut self.server {
            server.rollout.looks_at_ms = at;
        }
        self.queue.push(at, Event::Look(self.epoch));
        Ok(())
    }

    /// A shard is given commands.
    pub(super) fn commanded(
        &mut self,
        here: ShardId,
        commands: Vec<Command>,
    ) -> Result<(), String> {
        let now = self.now();
        for command in commands {
            let Some(server) = &mut self.server else {
                return Ok(());
            };
            let device = self.ids.of(command.endpoint().unwrap_or_default());
            let engine = &mut server.shards[here.index()].engine;
            let elsewhere = server.directory.where_to(here, device);
            match elsewhere.filter(|_| !engine.has(device)) {
                // It has moved on.
                Some(to) => {
                    if let Some(waits) = &mut server.rollout.waits_for {
                        waits.lots += 1;
                    }
                    self.post(to, Message::Commands(vec![command]));
                }
                None => engine.handle_command(now, command),
            }
        }
        self.drain();
        if let Some(server) = &mut self.server
            && let Some(waits) = &mut server.rollout.waits_for
        {
            waits.lots -= 1;
            waits.up_to.insert(here, server.shards[here.index()].newest);
        }
        self.go_on()
    }

    /// Looks again when all is committed that was ordered.
    fn go_on(&mut self) -> Result<(), String> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let done = (server.rollout.waits_for.as_ref()).is_some_and(|waits| {
            let committed =
                |(shard, seq): (&ShardId, &Seq)| *seq <= server.shards[shard.index()].committed;
            waits.lots == 0 && waits.up_to.iter().all(committed)
        });
        if !done {
            return Ok(());
        }
        server.rollout.waits_for = None;
        self.look()
    }

    /// It is time to look, unless it was done since.
    pub(super) fn look_again(&mut self) -> Result<(), String> {
        let due = self.server.as_ref().is_some_and(|server| {
            server.rollout.waits_for.is_none() && server.rollout.looks_at_ms == self.now_ms
        });
        if due { self.look() } else { Ok(()) }
    }

    /// Changes are committed: the rollout goes on if it waited for them. The end of an attempt pokes it.
    pub(super) fn batch_committed(&mut self, ends: bool) -> Result<(), String> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        if server.rollout.waits_for.is_some() {
            server.rollout.poked |= ends;
            return self.go_on();
        }
        if ends { self.look() } else { Ok(()) }
    }
}
