//! Two engines, which hear half of the addresses each, and what they have in common. Messages between them take no
//! time; those that wait for a commit do.

use std::sync::Arc;

use cellwise::{
    clock::{Instant, Now},
    coap::Peer,
    config::Config,
    engine::{
        Command, DeviceId, DeviceIds, DeviceRecord, Directory, Effect, Engine, Gate, Seek, Seq,
        Setup, ShardId, Sought, Tables, Turn, Whose,
    },
    runtime::{Outbox, Outgoing, home, home_of},
};

const COUNT: u8 = 2;

pub(super) struct Shards {
    rows: Vec<Shard>,
    pub(super) gate: Gate,
    pub(super) directory: Directory,
    ids: DeviceIds,
}

struct Shard {
    engine: Engine,
    outbox: Outbox,
    newest: Seq,
    committed: Seq,
    /// Devices that go when what they wait for is committed.
    waiting: Vec<(Box<Seek>, ShardId)>,
}

impl Shards {
    pub(super) fn new(config: &Arc<Config>, start: u8, now: Now) -> Self {
        let ids = DeviceIds::new([9; 32]);
        let engine = |number| {
            let setup = Setup {
                config: config.clone(),
                seed: [start.wrapping_mul(COUNT).wrapping_add(number); 32],
                ids: ids.clone(),
                engines: COUNT,
            };
            Shard {
                engine: Engine::new(setup, now),
                outbox: Outbox::default(),
                newest: 0,
                committed: 0,
                waiting: Vec::new(),
            }
        };
        Self {
            rows: (0..COUNT).map(engine).collect(),
            gate: Gate::new(&config.admission),
            directory: Directory::default(),
            ids,
        }
    }

    /// Where a device from before a restart will be heard.
    pub(super) fn restore(&mut self, now: Now, record: &DeviceRecord) {
        let id = self.ids.of(&record.endpoint);
        let shard = home_of(id, record, COUNT);
        self.directory.place(id, shard);
        self.engine(shard).restore_device(now, record);
    }

    /// The engine that has the device, or would have it.
    pub(super) fn of(&mut self, endpoint: &str) -> &mut Engine {
        let id = self.ids.of(endpoint);
        let shard = self.directory.find(id);
        self.engine(shard.unwrap_or_else(|| id.among(COUNT)))
    }

    fn engine(&mut self, shard: ShardId) -> &mut Engine {
        &mut self.rows[shard.index()].engine
    }

    pub(super) fn command(&mut self, now: Now, command: Command) {
        match command.endpoint().map(|endpoint| self.ids.of(endpoint)) {
            Some(device) => {
                let shard = self.directory.find(device);
                let shard = shard.unwrap_or_else(|| device.among(COUNT));
                if matches!(command, Command::AddDevice { .. }) {
                    self.directory.place(device, shard);
                }
                self.engine(shard).handle_command(now, command);
            }
            None => {
                for row in &mut self.rows {
                    row.engine.handle_command(now, command.clone());
                }
            }
        }
    }

    pub(super) fn datagram(&mut self, now: Now, peer: Peer, bytes: &[u8]) {
        self.engine(home(peer.address, COUNT))
            .handle_datagram(now, &peer.into(), bytes);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let engines = self.rows.iter().filter_map(|row| row.engine.poll_timeout());
        engines.chain(self.gate.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        for row in &mut self.rows {
            row.engine.handle_timeout(now);
        }
        self.gate.handle_timeout(now.instant);
    }

    /// The next effect that concerns the world around, and whose it is.
    pub(super) fn poll_effect(&mut self, now: Now) -> Option<(ShardId, Effect)> {
        loop {
            let found = (0..COUNT).find_map(|shard| {
                let effect = self.engine(ShardId(shard)).poll_effect()?;
                Some((ShardId(shard), effect))
            });
            match found {
                Some((here, Effect::Seek(seek))) => self.seek(now, seek, here),
                Some((_, Effect::Ask(ask))) => self.gate.handle(ask),
                Some((_, Effect::Left(device))) => self.directory.remove(device),
                Some((here, Effect::Persist { seq, change })) => {
                    let row = &mut self.rows[here.index()];
                    assert_eq!(seq, row.newest + 1, "changes are numbered one by one");
                    row.newest = seq;
                    return Some((here, Effect::Persist { seq, change }));
                }
                Some(other) => return Some(other),
                None => {
                    self.gate.handle_timeout(now.instant);
                    let (device, turn) = self.gate.poll_turn()?;
                    self.turn(now, device, turn);
                }
            }
        }
    }

    fn turn(&mut self, now: Now, device: DeviceId, turn: Turn) {
        let shard = self.directory.find(device);
        let shard = shard.unwrap_or_else(|| device.among(COUNT));
        self.engine(shard)
            .handle_command(now, Command::Turn { device, turn });
    }

    fn seek(&mut self, now: Now, seek: Box<Seek>, asked_by: ShardId) {
        let Some(there) = self.directory.where_to(asked_by, seek.device) else {
            let sought = self.directory.welcome(now.instant, asked_by, &seek);
            self.engine(asked_by).handle_sought(now, &seek, &sought);
            if sought == Sought::Newcomer && !self.engine(asked_by).has(seek.device) {
                self.directory.remove(seek.device);
            }
            return;
        };
        let row = &mut self.rows[there.index()];
        let sought = match row.engine.whose(now, &seek) {
            Whose::NotHere => panic!("the directory is wrong"),
            Whose::NotRegistered => Sought::Nobody,
            Whose::NotTheirs(endpoint) => Sought::NotTheirs(endpoint),
            Whose::Repeated => return row.engine.handle_sought(now, &seek, &Sought::NotYet),
            Whose::Theirs(after) if after > row.committed => {
                return row.waiting.push((seek, asked_by));
            }
            Whose::Theirs(_) => {
                let Some(moved) = row.engine.give_away(now, seek.device) else {
                    return; // it moves too often
                };
                self.directory.place(seek.device, asked_by);
                self.engine(asked_by).take_in(now, moved);
                Sought::NotYet
            }
        };
        self.engine(asked_by).handle_sought(now, &seek, &sought);
    }

    /// The shard's changes up to this one are committed: what may leave now.
    pub(super) fn committed(&mut self, now: Now, shard: ShardId, seq: Seq) -> Vec<Outgoing> {
        let row = &mut self.rows[shard.index()];
        row.committed = seq;
        row.engine.committed(seq);
        let leaves = row.outbox.committed(seq);
        for (seek, asked_by) in std::mem::take(&mut row.waiting) {
            self.seek(now, seek, asked_by);
        }
        leaves
    }

    /// A datagram that leaves now, if it may.
    pub(super) fn offer(
        &mut self,
        shard: ShardId,
        outgoing: Outgoing,
        after: Seq,
    ) -> Option<Outgoing> {
        let row = &mut self.rows[shard.index()];
        assert!(after <= row.newest, "waits for a change that never came");
        row.outbox.offer(outgoing, after).ok()?
    }

    pub(super) fn tables(&self) -> Tables {
        let tables = self.rows.iter().map(|row| row.engine.tables());
        tables.fold(Tables::default(), |all, one| all + one)
    }

    /// Everything that was committed has left.
    pub(super) fn are_empty(&self) -> bool {
        (self.rows.iter()).all(|row| row.outbox.is_empty() && row.waiting.is_empty())
    }
}
