//! What shards and the gate say to each other: in their order, and each a little later.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rand_chacha::ChaCha8Rng;

use super::{Occurrence, World, between, device_at, utc};
use crate::{
    engine::{Command, ShardId},
    ledger::{DeviceIds, Lane},
    session::{GateAsk, GateOrder},
    shard::{self, Directory, Post, Surroundings as _},
    simulate::{hooks::Hooks, queue::Queue},
};

/// What is said to a shard.
pub(super) type Message = shard::Message<Done>;

/// Whoever gave commands looks how many of it there are.
#[derive(Debug, Clone, Default)]
#[allow(unreachable_pub)] // a type of a public trait
pub struct Done(Arc<()>);

impl Done {
    /// Whether all clones are gone: everything is committed.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl shard::Done for Done {
    fn committed(self) {}
}

/// Messages to the gate that are on their way, and answers of it that are not acted upon, of each lane.
#[derive(Debug, Default)]
pub(super) struct Talk(HashMap<Lane, usize>);

impl Talk {
    pub(super) fn begins(&mut self, lane: Lane) {
        *self.0.entry(lane).or_default() += 1;
    }

    fn ends(&mut self, lane: Lane) {
        if let Some(count) = self.0.get_mut(&lane) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&lane);
            }
        }
    }

    /// Whether nothing is said about any lane.
    pub(super) fn is_silent(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether nothing is said about the lane.
    pub(super) fn is_quiet(&self, lane: Lane) -> bool {
        !self.0.contains_key(&lane)
    }
}

/// What shards have in common, and what is on its way between them.
#[derive(Debug)]
pub(super) struct Between {
    pub(super) directory: Directory,
    pub(super) inboxes: Vec<VecDeque<Message>>,
    pub(super) talk: Talk,
}

impl Between {
    /// Of a server that starts.
    pub(super) fn new(ids: DeviceIds, shards: u8, with_mqtt: bool) -> Self {
        let directory = Directory::new(ids, shards);
        Self {
            directory: if with_mqtt {
                directory.with_mqtt()
            } else {
                directory
            },
            inboxes: (0..shards + u8::from(with_mqtt))
                .map(|_| VecDeque::new())
                .collect(),
            talk: Talk::default(),
        }
    }
}

/// The lane whose slots a message is about.
const fn granted(message: &Message) -> Option<Lane> {
    match message {
        Message::Obey(Command::Gate {
            order: GateOrder::Admit { lane, .. },
            ..
        }) => Some(*lane),
        _ => None,
    }
}

/// The way to the shards.
pub(super) struct Way<'w> {
    pub(super) inboxes: &'w mut [VecDeque<Message>],
    pub(super) talk: &'w mut Talk,
    pub(super) queue: &'w mut Queue<Occurrence>,
    pub(super) rng: &'w mut ChaCha8Rng,
    pub(super) now_ms: u64,
    pub(super) epoch: u32,
    /// How long a message is on its way at most.
    pub(super) takes: Duration,
    /// Devices that have moved.
    pub(super) moves: &'w mut u64,
}

impl Post<Done> for Way<'_> {
    fn post(&mut self, to: ShardId, message: Message) {
        let at = self.now_ms + between(self.rng, Duration::ZERO, self.takes);
        if let Some(lane) = granted(&message) {
            self.talk.begins(lane);
        }
        *self.moves += u64::from(matches!(message, Message::Arrived(..)));
        self.inboxes[to.index()].push_back(message);
        self.queue.push(at, Occurrence::Hears(self.epoch, to));
    }
}

impl<H: Hooks> World<H> {
    pub(super) fn post(&mut self, to: ShardId, message: Message) {
        self.route(|_, post| post.post(to, message));
    }

    pub(super) fn tell_all(&mut self, message: impl Fn() -> Message) {
        for shard in self.all_shards() {
            self.post(shard, message());
        }
    }

    pub(super) fn post_ask(&mut self, ask: GateAsk) {
        let at = self.now_ms + self.between(Duration::ZERO, self.hooks.on_its_way());
        if let Some(server) = &mut self.server {
            self.between.talk.begins(ask.lane);
            server.asks.push_back(ask);
            self.queue.push(at, Occurrence::Asked(self.epoch));
        }
    }

    /// The gate hears the next thing that was said to it.
    pub(super) fn asked(&mut self) {
        let now = self.now();
        if let Some(server) = &mut self.server
            && let Some(ask) = server.asks.pop_front()
        {
            server.gate.handle(now.instant, ask);
            server.gate.keep_time(now);
            server.gate.handle_timeout(now.instant);
            self.between.talk.ends(ask.lane);
            self.tell_turns();
        }
    }

    /// What the gate says goes to whoever has the device.
    pub(super) fn tell_turns(&mut self) {
        while let Some(server) = &mut self.server
            && let Some(adapted) = server.gate.poll_adapted()
        {
            let Lane::Cell(cell) = adapted.lane else {
                continue; // no other lane is followed
            };
            let (percent, most) = (adapted.percent, adapted.most);
            let line = format!("cell {cell}: {most:?} at once, at {percent} percent");
            self.trace.note(self.now_ms, &line);
        }
        while let Some(server) = &mut self.server
            && let Some((device, order)) = server.gate.poll_order()
        {
            if let GateOrder::Admit {
                lane: Lane::Cell(cell),
                active,
            } = order
            {
                (self.checker).keeps_rules(self.now_ms, utc(self.now_ms), cell, active);
            }
            self.route(|directory, post| directory.tell(device, order, post));
        }
    }

    /// A shard hears the next thing that was said to it.
    pub(super) fn hears(&mut self, shard: ShardId) -> Result<(), String> {
        let now = self.now();
        let Some(message) = self.between.inboxes[shard.index()].pop_front() else {
            return Ok(());
        };
        self.tells_gateways(&message);
        let lane = granted(&message);
        let from = match &message {
            Message::Seek(errand) | Message::Sought(errand, _) | Message::Arrived(_, errand) => {
                Some(errand.seek().peer().address)
            }
            Message::Commands { .. }
            | Message::Obey(_)
            | Message::Committed(_)
            | Message::Fetched(_)
            | Message::Recall(_)
            | Message::Served(_) => None,
        };
        let answered = self.with_core(shard, |core, world| {
            let before = core.counters().segments_served;
            core.take(now, message, world);
            core.counters().segments_served > before
        });
        if answered == Some(true)
            && let Some((device, _)) = from.and_then(device_at)
        {
            self.checker.served(now.utc, device as usize);
        }
        // what the engine made of it is under way by now
        if let Some(lane) = lane {
            self.between.talk.ends(lane);
        }
        self.drain();
        self.go_on()
    }
}
