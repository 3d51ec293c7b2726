//! What shards and the gate say to each other: in their order, and each a little later.

use std::{collections::HashMap, time::Duration};

use super::{Event, World, device_at, server::Server};
use crate::{
    cli::simulate::hooks::Hooks,
    engine::{Ask, Command, DeviceId, Row, Seek, ShardId, Sought, Turn, Whose},
};

/// What is said to a shard.
#[derive(Debug)]
pub(super) enum Message {
    /// From the rollout, which waits until all that follows is committed.
    Commands(Vec<Command>),
    Turn(DeviceId, Turn),
    Seek(Box<Seek>, ShardId),
    Sought(Box<Seek>, Sought),
    Arrived(Row, Box<Seek>),
}

/// Messages to the gate that are on their way, and answers of it that are not acted upon, of each cell.
#[derive(Debug, Default)]
pub(super) struct UnderWay(HashMap<u32, usize>);

impl UnderWay {
    pub(super) fn begins(&mut self, cell: u32) {
        *self.0.entry(cell).or_default() += 1;
    }

    fn ends(&mut self, cell: u32) {
        if let Some(count) = self.0.get_mut(&cell) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&cell);
            }
        }
    }

    /// Whether nothing is said about the cell.
    pub(super) fn is_quiet(&self, cell: u32) -> bool {
        !self.0.contains_key(&cell)
    }
}

/// The cell whose slots it is about.
const fn granted(turn: &Turn) -> Option<u32> {
    match turn {
        Turn::Admit { cell, .. } => Some(*cell),
        _ => None,
    }
}

impl<H: Hooks> World<H> {
    pub(super) fn post(&mut self, to: ShardId, message: Message) {
        let at = self.now_ms + self.between(Duration::ZERO, self.hooks.on_its_way());
        if let Some(server) = &mut self.server {
            server.shards[to.index()].inbox.push_back(message);
            self.queue.push(at, Event::Hears(self.epoch, to));
        }
    }

    pub(super) fn post_ask(&mut self, ask: Ask) {
        let at = self.now_ms + self.between(Duration::ZERO, self.hooks.on_its_way());
        if let Some(server) = &mut self.server {
            server.under_way.begins(ask.cell);
            server.asks.push_back(ask);
            self.queue.push(at, Event::Asked(self.epoch));
        }
    }

    /// The gate hears the next thing that was said to it.
    pub(super) fn asked(&mut self) {
        let now = self.now().instant;
        if let Some(server) = &mut self.server
            && let Some(ask) = server.asks.pop_front()
        {
            server.gate.handle(ask);
            server.gate.handle_timeout(now);
            server.under_way.ends(ask.cell);
            self.tell_turns();
        }
    }

    /// What the gate says goes to whoever has the device.
    pub(super) fn tell_turns(&mut self) {
        while let Some(server) = &mut self.server
            && let Some((device, turn)) = server.gate.poll_turn()
        {
            if let Some(cell) = granted(&turn) {
                server.under_way.begins(cell);
            }
            let to = server.directory.find(device);
            let to = to.unwrap_or_else(|| device.among(server.count()));
            self.post(to, Message::Turn(device, turn));
        }
    }

    /// A shard hears the next thing that was said to it.
    pub(super) fn hears(&mut self, shard: ShardId) -> Result<(), String> {
        let now = self.now();
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let Some(message) = server.shards[shard.index()].inbox.pop_front() else {
            return Ok(());
        };
        match message {
            Message::Commands(commands) => return self.commanded(shard, commands),
            Message::Turn(device, turn) => {
                let engine = &mut server.shards[shard.index()].engine;
                if !engine.has(device)
                    && let Some(to) = server.directory.where_to(shard, device)
                {
                    self.post(to, Message::Turn(device, turn));
                    return Ok(());
                }
                engine.handle_command(now, Command::Turn { device, turn });
                self.drain();
                // what the engine made of it is under way by now
                if let (Some(server), Some(cell)) = (&mut self.server, granted(&turn)) {
                    server.under_way.ends(cell);
                }
                return Ok(());
            }
            Message::Seek(seek, asked_by) => self.sought(shard, seek, asked_by),
            Message::Sought(seek, sought) => self.handle_sought(shard, &seek, &sought),
            Message::Arrived(row, seek) => {
                server.shards[shard.index()].engine.take_in(now, row);
                server.directory.place(seek.device, shard);
                self.handle_sought(shard, &seek, &Sought::NotYet);
            }
        }
        self.drain();
        Ok(())
    }

    pub(super) fn handle_sought(&mut self, shard: ShardId, seek: &Seek, sought: &Sought) {
        let now = self.now();
        let Some(server) = &mut self.server else {
            return;
        };
        let engine = &mut server.shards[shard.index()].engine;
        let before = engine.counters().segments_served;
        engine.handle_sought(now, seek, sought);
        if engine.counters().segments_served > before
            && let Some((device, _)) = device_at(seek.peer().address)
        {
            self.checker.served(now.utc, device as usize);
        }
        if *sought == Sought::Newcomer && !engine.has(seek.device) {
            server.directory.remove(seek.device);
        }
    }

    /// Another shard has heard a device that should be here.
    pub(super) fn sought(&mut self, here: ShardId, seek: Box<Seek>, asked_by: ShardId) {
        let now = self.now();
        if asked_by == here {
            // The device was on its way here.
            return self.handle_sought(here, &seek, &Sought::NotYet);
        }
        let Some(server) = &mut self.server else {
            return;
        };
        let shard = &mut server.shards[here.index()];
        match shard.engine.whose(now, &seek) {
            Whose::NotHere => match server.directory.where_to(here, seek.device) {
                Some(to) if to == asked_by => {
                    self.post(asked_by, Message::Sought(seek, Sought::NotYet));
                }
                Some(to) => self.post(to, Message::Seek(seek, asked_by)),
                None => self.post(asked_by, Message::Sought(seek, Sought::Nobody)),
            },
            Whose::NotRegistered => self.post(asked_by, Message::Sought(seek, Sought::Nobody)),
            Whose::NotTheirs(endpoint) => {
                self.post(asked_by, Message::Sought(seek, Sought::NotTheirs(endpoint)));
            }
            Whose::Repeated => self.handle_sought(here, &seek, &Sought::NotYet),
            Whose::Theirs(after) if after > shard.committed => {
                shard.waiting.push_back((shard.newest, seek, asked_by));
            }
            Whose::Theirs(_) => {
                if let Some(row) = shard.engine.give_away(now, seek.device) {
                    server.directory.send(seek.device, asked_by);
                    self.figures.moves += 1;
                    self.post(asked_by, Message::Arrived(row, seek));
                }
            }
        }
    }

    /// What has waited for a commit.
    pub(super) fn look_at_waiting(&mut self, shard: ShardId) {
        while let Some(row) = self
            .server
            .as_mut()
            .map(|server| &mut server.shards[shard.index()])
            && let Some((_, seek, asked_by)) = {
                let committed = row.committed;
                row.waiting.pop_front_if(|(seq, ..)| *seq <= committed)
            }
        {
            self.sought(shard, seek, asked_by);
        }
    }
}

impl Server {
    /// Who has a device that may have been added just now.
    pub(super) fn holder(&self, device: DeviceId) -> ShardId {
        let known = self.directory.find(device);
        known.unwrap_or_else(|| device.among(self.count()))
    }

    pub(super) fn count(&self) -> u8 {
        u8::try_from(self.shards.len()).unwrap_or(u8::MAX)
    }
}
