//! A device fetches its package from several shards.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    coap::Block,
    engine::{PULLS, PullTerms},
    ledger::PullToken,
    package::Content,
};

const SHARDS: u8 = 3;
const LEN: usize = 1_000;

/// What is on its way to shards.
type Mail = Rc<RefCell<VecDeque<(ShardId, Message<Nobody>)>>>;

struct Way(Mail);

impl Post<Nobody> for Way {
    fn post(&mut self, to: ShardId, message: Message<Nobody>) {
        self.0.borrow_mut().push_back((to, message));
    }
}

struct Among {
    directory: Directory,
    way: Way,
    emitted: Vec<Emitted>,
    sent: Vec<Outgoing>,
}

impl Surroundings for Among {
    type Done = Nobody;

    fn route<R>(&mut self, what: impl FnOnce(&mut Directory, &mut dyn Post<Nobody>) -> R) -> R {
        what(&mut self.directory, &mut self.way)
    }

    fn persist(&mut self, emitted: Emitted) {
        self.emitted.push(emitted);
    }

    fn send(&mut self, outgoing: Outgoing) {
        self.sent.push(outgoing);
    }

    fn report(&mut self, _: &Report) {}

    fn ask(&mut self, _: GateAsk) {}
}

struct Shards {
    cores: Vec<Core<Nobody>>,
    around: Among,
    mail: Mail,
    now: Now,
    token: PullToken,
}

fn package() -> Vec<u8> {
    (0..=250).cycle().take(LEN).collect()
}

impl Shards {
    /// Shards of which the first has a device that may fetch its package.
    fn new() -> Self {
        let ids = DeviceIds::new([9; 32]);
        let mut config = Config::default();
        config.upgrade.query_version_s = 86_400; // which it never answers
        let config = Arc::new(config);
        let core = |number| {
            let setup = Setup {
                config: config.clone(),
                seed: [number; 32],
                ids: ids.clone(),
                engines: SHARDS,
            };
            Core::new(ShardId(number), ids.clone(), Engine::new(setup, NOW))
        };
        let mail = Mail::default();
        let mut shards = Self {
            cores: (0..SHARDS).map(core).collect(),
            around: Among {
                directory: Directory::new(ids.clone(), SHARDS),
                way: Way(mail.clone()),
                emitted: Vec::new(),
                sent: Vec::new(),
            },
            mail,
            now: NOW,
            token: ids.pull_token(ids.of("d0"), UpgradeId(1), 1, PackageId(1)),
        };
        shards.around.directory.place(ids.of("d0"), ShardId(0));
        let core = &mut shards.cores[0];
        core.engine_mut().restore_device(NOW, &device());
        core.take(NOW, super::start(LEN), &mut shards.around);
        let terms = PullTerms {
            content: Content::new(Bytes::from(package()), &"ab".repeat(32)).unwrap(),
            upgrade: UpgradeId(1),
            task: TaskId(1),
            attempt: 1,
            package: PackageId(1),
            block_bytes: 512,
            secured: false,
            bytes_per_second: 0,
            done_bytes: 0,
        };
        let Machine::Coap(engine) = core.engine_mut() else {
            panic!("it is for devices over CoAP");
        };
        assert_eq!(engine.open_pull_of("d0", &terms), Some(shards.token));
        shards.commit();
        shards.around.sent.clear();
        shards
    }

    fn close(&mut self) {
        let owner = self.owner();
        let core = &mut self.cores[owner.index()];
        let Machine::Coap(engine) = core.engine_mut() else {
            panic!("it is for devices over CoAP");
        };
        engine.close_pull_of("d0");
        core.drain(self.now, &mut self.around);
    }

    fn owner(&self) -> ShardId {
        let id = DeviceIds::new([9; 32]).of("d0");
        self.around.directory.find(id).unwrap()
    }

    fn say(&mut self, shard: u8, from: Peer, bytes: &[u8]) {
        let core = &mut self.cores[usize::from(shard)];
        core.hear(self.now, &from.into(), bytes);
        core.drain(self.now, &mut self.around);
        self.commit();
    }

    fn get(&mut self, shard: u8, id: u16, block: Block) {
        let from = Peer::from(SocketAddr::from(([192, 0, 2, 7], 1_000 + u16::from(shard))));
        let token = Token::new(&id.to_be_bytes());
        let get = MessageBuilder::new(Kind::Confirmable, Code::GET, id, token);
        let get = get.path(PULLS).path(&self.token.text());
        self.say(shard, from, &get.block2(block.encode()).build());
    }

    /// It has restarted, and registers at another shard.
    fn register(&mut self, shard: u8, id: u16) {
        let from = Peer::from(SocketAddr::from(([192, 0, 2, 8], 1_000 + u16::from(shard))));
        let registers = MessageBuilder::new(Kind::Confirmable, Code::POST, id, Token::new(b"r"));
        let registers = registers.path("rd").query("ep=d0").query("lt=86400");
        self.say(shard, from, &registers.build());
    }

    /// Everything is committed that was emitted.
    fn commit(&mut self) {
        for at in 0..self.cores.len() {
            let newest = self.cores[at].newest;
            self.cores[at].take(self.now, Message::Committed(newest), &mut self.around);
        }
    }

    /// The next message arrives.
    fn deliver(&mut self) -> bool {
        let next = self.mail.borrow_mut().pop_front();
        let Some((to, message)) = next else {
            return false;
        };
        self.cores[to.index()].take(self.now, message, &mut self.around);
        self.commit();
        true
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        for core in &mut self.cores {
            core.handle_timeout(self.now);
            core.drain(self.now, &mut self.around);
        }
        self.commit();
    }

    /// From where to where in the package the answers reached that were sent since, each checked.
    fn take_answers(&mut self) -> Vec<(usize, usize)> {
        let package = package();
        let mut parts = Vec::new();
        for outgoing in self.around.sent.drain(..) {
            let bytes = outgoing.datagram.to_bytes();
            let answer = coap::Message::parse(&bytes).unwrap();
            let Some(Ok(block)) = answer.block2().map(Block::decode) else {
                continue;
            };
            let start = block.number as usize * block.size();
            let end = start + answer.payload().len();
            assert_eq!(answer.payload(), &package[start..end]);
            parts.push((start, end));
        }
        parts
    }

    /// Whether the store was told that all of it was served.
    fn is_whole(&self) -> bool {
        self.around.emitted.iter().any(|it| match &it.change {
            Change::Progress { progress, .. } => progress.done_bytes == LEN as u64,
            _ => false,
        })
    }

    fn blocks(&self) -> (u64, u64) {
        let counters = self.cores.iter().map(|core| *core.counters());
        counters.fold((0, 0), |(served, refused), it| {
            (served + it.blocks_served, refused + it.blocks_refused)
        })
    }
}

const fn block(number: u32, szx: u8) -> Block {
    Block {
        number,
        more: false,
        szx,
    }
}

#[test]
fn a_shard_asks_once_and_serves_by_itself_until_it_is_recalled() {
    let mut shards = Shards::new();
    shards.get(1, 1, block(0, 5));
    assert!(shards.take_answers().is_empty());
    while shards.deliver() {}
    assert_eq!(shards.take_answers(), [(0, 512)]);
    shards.get(1, 2, block(1, 5));
    assert_eq!(shards.take_answers(), [(512, 1_000)]);
    assert!(!shards.is_whole());
    while shards.deliver() {}
    assert!(shards.is_whole());
    assert_eq!(shards.owner(), ShardId(0));
    shards.close();
    while shards.deliver() {}
    shards.get(1, 3, block(0, 5));
    while shards.deliver() {}
    assert!(shards.take_answers().is_empty());
    assert_eq!(shards.blocks(), (2, 1));
}

#[test]
fn a_token_of_nobody_is_answered_at_once() {
    let mut shards = Shards::new();
    let ids = DeviceIds::new([9; 32]);
    shards.token = ids.pull_token(ids.of("nobody"), UpgradeId(1), 1, PackageId(1));
    shards.get(2, 1, block(0, 5));
    assert!(shards.mail.borrow().is_empty());
    assert_eq!(shards.blocks(), (0, 1));
}

#[derive(Debug, Clone)]
enum Step {
    Get(u8, Block),
    /// The same datagram once more.
    Again(u8),
    Deliver(u8),
    Register(u8),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SHARDS, 0u8..=6, 0u32..70)
            .prop_map(|(shard, szx, number)| {
                let count = u32::try_from(LEN.div_ceil(16 << szx)).unwrap();
                Step::Get(shard, block(number % count, szx))
            }),
        1 => (0..SHARDS).prop_map(Step::Again),
        6 => (1u8..6).prop_map(Step::Deliver),
        1 => (0..SHARDS).prop_map(Step::Register),
        2 => (0u64..40).prop_map(Step::Pass),
    ]
}

proptest! {
    /// However the device asks, and wherever it is meanwhile: it is told that all was served when all was, and not before.
    #[test]
    fn all_is_told_when_every_byte_was_served(
        steps in prop::collection::vec(step(), 1..80),
        completes in any::<bool>(),
    ) {
        let mut shards = Shards::new();
        let mut served = [false; LEN];
        let mut last = block(0, 6);
        let mut id = 1;
        let ends = (0..2).filter(|_| completes).map(|number| Step::Get(number, block(number.into(), 5)));
        for step in steps.into_iter().chain(ends).chain([Step::Deliver(255)]) {
            id += 1;
            match step {
                Step::Get(shard, block) => {
                    last = block;
                    shards.get(shard, id, block);
                }
                Step::Again(shard) => shards.get(shard, id - 1, last),
                Step::Deliver(count) => {
                    for _ in 0..count {
                        shards.deliver();
                    }
                }
                Step::Register(shard) => shards.register(shard, id),
                Step::Pass(seconds) => shards.pass(Duration::from_secs(seconds)),
            }
            for (start, end) in shards.take_answers() {
                served[start..end].fill(true);
            }
            prop_assert!(!shards.is_whole() || served.iter().all(|it| *it));
        }
        shards.pass(Duration::from_secs(31));
        while shards.deliver() {}
        for (start, end) in shards.take_answers() {
            served[start..end].fill(true);
        }
        shards.pass(Duration::from_secs(31));
        while shards.deliver() {}
        prop_assert_eq!(shards.is_whole(), served.iter().all(|it| *it));
        prop_assert!(!completes || shards.is_whole());
    }
}
