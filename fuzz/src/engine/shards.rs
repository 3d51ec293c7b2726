//! Two shards, which hear half of the addresses each, and what they have in common. Messages between them take no time;
//! what waits for a commit does.

use std::{collections::VecDeque, sync::Arc};

use cellwise::{
    clock::{Instant, Now},
    coap::Peer,
    config::Config,
    engine::{Command, Engine, Report, Seq, Setup, ShardId, Tables},
    ledger::{DeviceIds, DeviceRecord},
    session::{Gate, GateAsk},
    shard::{Core, Directory, Done, Emitted, Machine, Message, Outgoing, Post, Surroundings, home},
};

const COUNT: u8 = 2;

/// Nobody waits for what follows from a command.
#[derive(Debug, Clone)]
pub(super) struct NobodyWaits;

impl Done for NobodyWaits {
    fn committed(self) {}
}

/// What concerns the world around.
#[derive(Debug)]
pub(super) enum Output {
    Emitted(Emitted),
    /// It is to be sent, sooner or later.
    Transmits(Outgoing),
    /// It leaves.
    Leaves(Outgoing),
}

pub(super) struct Shards {
    cores: Vec<Core<NobodyWaits>>,
    around: Around,
}

struct Around {
    directory: Directory,
    way: Way,
    gate: Gate,
    now: Instant,
    newest: [Seq; COUNT as usize],
    outputs: VecDeque<Output>,
}

#[derive(Default)]
struct Way(VecDeque<(ShardId, Message<NobodyWaits>)>);

impl Post<NobodyWaits> for Way {
    fn post(&mut self, to: ShardId, message: Message<NobodyWaits>) {
        self.0.push_back((to, message));
    }
}

impl Surroundings for Around {
    type Done = NobodyWaits;

    fn route<R>(
        &mut self,
        what: impl FnOnce(&mut Directory, &mut dyn Post<NobodyWaits>) -> R,
    ) -> R {
        what(&mut self.directory, &mut self.way)
    }

    fn persist(&mut self, emitted: Emitted) {
        let newest = &mut self.newest[emitted.shard.index()];
        *newest += 1;
        assert_eq!(emitted.seq, *newest, "changes are numbered one by one");
        self.outputs.push_back(Output::Emitted(emitted));
    }

    fn send(&mut self, outgoing: Outgoing) {
        self.outputs.push_back(Output::Leaves(outgoing));
    }

    fn report(&mut self, _report: &Report) {}

    fn ask(&mut self, ask: GateAsk) {
        self.gate.handle(self.now, ask);
    }

    fn transmits(&mut self, from: ShardId, outgoing: &mut Outgoing, after: &mut Seq) {
        let newest = self.newest[from.index()];
        assert!(*after <= newest, "waits for a change that never came");
        self.outputs.push_back(Output::Transmits(outgoing.clone()));
    }
}

impl Shards {
    pub(super) fn new(config: &Arc<Config>, start: u8, now: Now) -> Self {
        let ids = DeviceIds::new([9; 32]);
        let core = |number| {
            let setup = Setup {
                config: config.clone(),
                seed: [start.wrapping_mul(COUNT).wrapping_add(number); 32],
                ids: ids.clone(),
                engines: COUNT,
            };
            Core::new(ShardId(number), ids.clone(), Engine::new(setup, now))
        };
        Self {
            cores: (0..COUNT).map(core).collect(),
            around: Around {
                directory: Directory::new(ids.clone(), COUNT),
                way: Way::default(),
                gate: Gate::new(&config.admission),
                now: now.instant,
                newest: [0; COUNT as usize],
                outputs: VecDeque::new(),
            },
        }
    }

    /// Where a device from before a restart will be heard.
    pub(super) fn restore(&mut self, now: Now, record: &DeviceRecord) {
        if let Some(shard) = self.around.directory.settle(record) {
            self.cores[shard.index()]
                .engine_mut()
                .restore_device(now, record);
        }
    }

    /// The engine that has the device, or would have it.
    pub(super) fn of(&mut self, endpoint: &str) -> &mut Machine {
        let id = self.around.directory.ids().of(endpoint);
        let shard = self.around.directory.holder(id);
        self.cores[shard.index()].engine_mut()
    }

    pub(super) const fn gate(&mut self) -> &mut Gate {
        &mut self.around.gate
    }

    pub(super) fn command(&mut self, command: Command) {
        let Around { directory, way, .. } = &mut self.around;
        if command.endpoint().is_some() {
            return directory.obey(vec![command], &NobodyWaits, way);
        }
        for shard in (0..COUNT).map(ShardId) {
            way.post(shard, Message::Obey(command.clone()));
        }
    }

    pub(super) fn datagram(&mut self, now: Now, peer: Peer, bytes: &[u8]) {
        let shard = home(peer.address, COUNT);
        self.cores[shard.index()].hear(now, &peer.into(), bytes);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let cores = self.cores.iter().filter_map(Core::poll_timeout);
        cores.chain(self.around.gate.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        for core in &mut self.cores {
            core.handle_timeout(now);
        }
        self.around.gate.handle_timeout(now.instant);
    }

    /// The next thing that concerns the world around.
    pub(super) fn poll_output(&mut self, now: Now) -> Option<Output> {
        self.around.now = now.instant;
        loop {
            if let Some(output) = self.around.outputs.pop_front() {
                return Some(output);
            }
            for core in &mut self.cores {
                core.drain(now, &mut self.around);
            }
            if let Some((to, message)) = self.around.way.0.pop_front() {
                self.cores[to.index()].take(now, message, &mut self.around);
            } else if self.around.outputs.is_empty() {
                let Around {
                    directory,
                    way,
                    gate,
                    ..
                } = &mut self.around;
                gate.handle_timeout(now.instant);
                let (device, order) = gate.poll_order()?;
                directory.tell(device, order, way);
            }
        }
    }

    /// The shard's changes up to this one are committed: the next outputs tell what follows.
    pub(super) fn committed(&mut self, now: Now, shard: ShardId, seq: Seq) {
        self.cores[shard.index()].take(now, Message::Committed(seq), &mut self.around);
    }

    pub(super) fn tables(&self) -> Tables {
        let tables = self.cores.iter().map(Core::tables);
        tables.fold(Tables::default(), |all, one| all + one)
    }

    pub(super) fn cell_count(&self) -> usize {
        self.around.gate.lane_count()
    }

    pub(super) fn devices(&self) -> usize {
        self.around.directory.len()
    }

    /// Everything that was committed has left.
    pub(super) fn are_empty(&self) -> bool {
        (self.cores.iter()).all(|core| core.held() == 0 && !core.waits_for_commits())
    }
}
