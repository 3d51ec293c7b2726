//! Blocks of a package (RFC 7959): a process that serves them with a shard of the server's, and the load that asks for them.

use std::io;

use bytes::Bytes;
use cellwise::{
    clock::{Now, SystemClock},
    coap::Peer,
    config::Config,
    engine::{Command, Engine, PULLS, PullTerms, Report, Setup, ShardId},
    ledger::{DeviceIds, PackageId, Protocol, TaskId, UpgradeId, Via},
    package::Content,
    runtime::DatagramSocket,
    session::GateAsk,
    shard::{Core, Directory, Done, Emitted, Message, Outgoing, Post, Surroundings},
};
use sim::coap::{Code, MessageType, Token, Writer, option};

use super::load::Exchange;

/// Bytes of a block, and the exponent that says so.
const BLOCK: usize = 512;
const SIZE_EXPONENT: u32 = 5;
/// Blocks of the package, of which those are asked for whose option has two bytes: all requests are as long as each other.
const BLOCKS: u32 = 4_096;
const FIRST: u32 = 16;
/// Devices that may fetch it.
pub(crate) const DEVICES: u32 = 1_024;

/// The package.
pub(crate) fn package() -> Vec<u8> {
    vec![0x5A; BLOCK * BLOCKS as usize]
}

fn ids() -> DeviceIds {
    DeviceIds::new([9; 32])
}

fn endpoint(device: u32) -> String {
    format!("blocks-{device}")
}

/// Under which the device fetches the package.
pub(crate) fn token(device: u32) -> String {
    let ids = ids();
    let device = ids.of(&endpoint(device % DEVICES));
    ids.pull_token(device, UpgradeId(1), 1, PackageId(1)).text()
}

/// An engine with devices that may fetch the package.
pub(crate) fn engine(now: Now, devices: u32) -> Engine {
    let content = Content::new(Bytes::from(package()), &"5a".repeat(32)).unwrap();
    let setup = Setup {
        config: Config::default().into(),
        seed: [7; 32],
        ids: ids(),
        engines: 1,
    };
    let mut engine = Engine::new(setup, now);
    for device in 0..devices {
        let endpoint = endpoint(device);
        let add = Command::AddDevice {
            endpoint: endpoint.clone(),
            product: "bench".to_owned(),
            secure: false,
            protocol: Protocol::Lwm2m,
            via: Via::Itself,
        };
        engine.handle_command(now, add);
        let terms = PullTerms {
            content: content.clone(),
            upgrade: UpgradeId(1),
            task: TaskId(1),
            attempt: 1,
            package: PackageId(1),
            block_bytes: 512,
            secured: false,
            bytes_per_second: 0,
            done_bytes: 0,
        };
        let opened = engine.open_pull_of(&endpoint, &terms);
        assert_eq!(opened.map(|it| it.text()), Some(token(device)));
    }
    engine
}

/// Nobody waits for anything.
#[derive(Debug, Clone)]
struct Nobody;

impl Done for Nobody {
    fn committed(self) {}
}

struct NoWay;

impl Post<Nobody> for NoWay {
    fn post(&mut self, _: ShardId, message: Message<Nobody>) {
        panic!("there is one shard only: {message:?}");
    }
}

struct Around {
    directory: Directory,
    port: DatagramSocket,
}

impl Surroundings for Around {
    type Done = Nobody;

    fn route<R>(&mut self, what: impl FnOnce(&mut Directory, &mut dyn Post<Nobody>) -> R) -> R {
        what(&mut self.directory, &mut NoWay)
    }

    fn persist(&mut self, _: Emitted) {}

    fn send(&mut self, outgoing: Outgoing) {
        self.port.send(outgoing.peer.address, outgoing.datagram);
    }

    fn report(&mut self, _: &Report) {}

    fn ask(&mut self, _: GateAsk) {}
}

/// A shard that serves the package, and does nothing else.
pub(crate) async fn serve(port: DatagramSocket) -> io::Result<()> {
    let clock = SystemClock::start();
    let engine = engine(clock.now(), DEVICES);
    let mut core = Core::new(ShardId(0), ids(), engine);
    let mut around = Around {
        directory: Directory::new(ids(), 1),
        port,
    };
    loop {
        around.port.readable().await?;
        let now = clock.now();
        for index in 0..around.port.receive() {
            let (address, bytes) = around.port.received(index);
            core.hear(now, &Peer::from(address).into(), bytes);
        }
        core.handle_timeout(now);
        core.drain(now, &mut around);
        around.port.flush();
    }
}

/// A confirmable GET of a block, answered in its acknowledgement.
pub(crate) struct Blocks {
    tokens: Vec<String>,
    /// The block that each device asked for last.
    asked: Vec<u32>,
    next_id: u16,
}

impl Blocks {
    /// Each device fetches under its own token, or all under that of the first.
    pub(crate) fn new(devices: u32, own: bool) -> Self {
        let own = |device| token(if own { device } else { 0 });
        Self {
            tokens: (0..devices).map(own).collect(),
            asked: vec![FIRST; devices as usize],
            next_id: 0,
        }
    }
}

impl Exchange for Blocks {
    const DATAGRAMS: f64 = 2.0;

    fn begin(&mut self, device: u32, mut say: impl FnMut(&[u8])) {
        self.next_id = self.next_id.wrapping_add(1);
        let device = device as usize;
        let asked = self.asked[device] + 1;
        self.asked[device] = if asked < BLOCKS { asked } else { FIRST };
        let block = block_option(self.asked[device], false, SIZE_EXPONENT);
        let get = request(Code::GET, self.next_id, &self.tokens[device]);
        say(&get.option(option::BLOCK2, &block).finish());
    }

    fn take(&mut self, _: u32, bytes: &[u8], _: impl FnMut(&[u8])) -> bool {
        sim::coap::Message::parse(bytes).unwrap().code == Code::CONTENT
    }
}

/// The beginning of a request.
pub(crate) fn request(code: Code, id: u16, token: &str) -> Writer {
    let tag = Token::new(&[1, 2, 3, 4]).unwrap();
    Writer::new(MessageType::Confirmable, code, id, tag)
        .option(option::URI_PATH, PULLS.as_bytes())
        .option(option::URI_PATH, token.as_bytes())
}

/// The value of a block option, without zeros in front (RFC 7959 §2.2).
pub(crate) fn block_option(number: u32, more: bool, size_exponent: u32) -> Vec<u8> {
    let value = number << 4 | u32::from(more) << 3 | size_exponent;
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}
