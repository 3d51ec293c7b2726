//! Stands in for the rollout's task: which upgrades begin, and when that is looked at.

use std::collections::HashSet;

use super::{Event, World, millis};
use crate::{
    cli::simulate::hooks::Hooks,
    engine::{Command, Seq},
    runtime::{ROLLOUT_IDLE, ROLLOUT_PAGE, ROLLOUT_SOON},
    task::{UpgradeId, plan},
};

/// Where the rollout stands.
#[derive(Debug, Default)]
pub(super) struct Rollout {
    /// It waits until the commands it has given are committed up to here.
    waits_for: Option<Seq>,
    /// When it looks next, ms.
    looks_at_ms: u64,
    /// It was poked while it looked.
    poked: bool,
    tried: HashSet<UpgradeId>,
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
                for command in commands {
                    server.engine.handle_command(now, command);
                }
                self.drain();
                if let Some(server) = &mut self.server
                    && server.committed < server.newest
                {
                    server.rollout.waits_for = Some(server.newest);
                    return Ok(());
                }
                continue;
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
        let rollout = &mut server.rollout;
        match rollout.waits_for {
            Some(seq) if seq > server.committed => rollout.poked |= ends,
            Some(_) => {
                rollout.waits_for = None;
                rollout.poked |= ends;
                return self.look();
            }
            None if ends => return self.look(),
            None => {}
        }
        Ok(())
    }
}
