//! Heap allocations of the engine for a segment exchange: the pure core in this process, a device played by hand.

#![allow(unsafe_code)] // an allocator that counts is an allocator

use std::{
    alloc::{GlobalAlloc, Layout},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cellwise::{
    clock::{Instant, Now, UtcMillis},
    coap::{Datagram, Peer},
    config::Config,
    engine::{Command, Effect, Engine, Setup},
    ledger::{
        DeviceIds, PackageId, Protocol, RetryPolicy, Served, Standby, TaskId, UpgradeId,
        UpgradeOrder,
    },
    package::{CheckCodeKind, Package, PcpOffer, SegmentFrames, Segmentation},
    session::{Gate, Offers},
};
use mimalloc::MiMalloc;

use super::{
    blocks::{self, Blocks},
    load::{Exchange as _, float},
};
use crate::support::device::{Device, Heard, Stage, TARGET};

const EXCHANGES: u32 = 10_000;
const SEGMENTS: u16 = 2_000;
const ENDPOINT: &str = "urn:imei:860000000000001";
/// Between a device's requests: a segment takes about this long over NB-IoT.
const PAUSE: Duration = Duration::from_secs(1);

/// The program's allocator, which counts while it is told to.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static COUNTED: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    if COUNTS.load(Relaxed) {
        COUNTED.fetch_add(1, Relaxed);
    }
}

// SAFETY: everything is handed on to mimalloc as it came
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

/// The mean over many exchanges of one device, changes and effects included. What the device does is not counted.
pub(crate) fn per_segment() -> f64 {
    let mut bench = Bench::new();
    bench.begin_download();
    COUNTED.store(0, Relaxed);
    for number in 0..EXCHANGES {
        bench.now = bench.now + PAUSE;
        let segment = u16::try_from(number % u32::from(SEGMENTS)).unwrap();
        let request = bench.device.request_segment(segment);
        let heard = bench.exchange(&request);
        assert_eq!(
            heard,
            [Heard::Other, Heard::Segment(segment)],
            "the acknowledgement, the segment"
        );
    }
    float(COUNTED.load(Relaxed)) / f64::from(EXCHANGES)
}

/// The same for a block of a package that a device fetches itself.
pub(crate) fn per_block() -> f64 {
    let mut now = Now {
        instant: Instant::from_millis(1_000_000),
        utc: UtcMillis(1_800_000_000_000),
    };
    let mut engine = blocks::engine(now, 1);
    while engine.poll_effect().is_some() {}
    let peer: Peer = SocketAddr::from(([127, 1, 0, 0], 5_683)).into();
    let mut exchange = Blocks::new(1, true);
    let mut served = 0;
    let mut go = |counts| {
        now = now + PAUSE;
        let mut request = Vec::new();
        exchange.begin(0, |bytes| request = bytes.to_vec());
        COUNTS.store(counts, Relaxed);
        engine.handle_datagram(now, &peer.into(), &request);
        if engine.poll_timeout().is_some_and(|at| at <= now.instant) {
            engine.handle_timeout(now);
        }
        while let Some(effect) = engine.poll_effect() {
            if let Effect::Transmit { datagram, .. } = effect {
                served += u32::from(datagram.len() > 512);
            }
        }
        COUNTS.store(false, Relaxed);
    };
    go(false); // the lease begins
    COUNTED.store(0, Relaxed);
    (0..EXCHANGES).for_each(|_| go(true));
    assert_eq!(served, EXCHANGES + 1, "blocks that were answered");
    float(COUNTED.load(Relaxed)) / f64::from(EXCHANGES)
}

struct Bench {
    engine: Engine,
    gate: Gate,
    now: Now,
    device: Device,
    peer: Peer,
    /// Datagrams to the device.
    sent: Vec<Datagram>,
}

impl Bench {
    fn new() -> Self {
        let now = Now {
            instant: Instant::from_millis(1_000_000),
            utc: UtcMillis(1_800_000_000_000),
        };
        let mut config = Config::default();
        config.upgrade.download_s = 86_400;
        let setup = Setup {
            config: Arc::new(config),
            seed: [7; 32],
            ids: DeviceIds::new([9; 32]),
            engines: 1,
        };
        let mut gate = Gate::new(&setup.config.admission);
        gate.open(true);
        Self {
            gate,
            engine: Engine::new(setup, now),
            now,
            device: Device::new(0),
            peer: SocketAddr::from(([127, 1, 0, 0], 5_683)).into(),
            sent: Vec::with_capacity(16),
        }
    }

    /// All of the negotiation.
    fn begin_download(&mut self) {
        self.command(Command::AddDevice {
            endpoint: ENDPOINT.into(),
            product: "meter".into(),
            secure: false,
            protocol: Protocol::Lwm2m,
            via: cellwise::ledger::Via::Itself,
        });
        let register = self.device.register(ENDPOINT);
        self.exchange(&register);
        let order = UpgradeOrder {
            upgrade: UpgradeId(1),
            task: TaskId(1),
            endpoint: ENDPOINT.into(),
            served: Served::first(PackageId(1)),
            hardware: None,
            attempt: 1,
            retry: RetryPolicy::default(),
            kept_awake: Standby::default(),
            begun_at: None,
            back: None,
            further: cellwise::ledger::Further::NONE,
        };
        let offers = Offers::only(PackageId(1), Arc::new(package()));
        self.command(Command::Start {
            order,
            offers: Arc::new(offers),
        });
        for _ in 0..100 {
            if self.device.stage == Stage::Downloading {
                return;
            }
            self.now = self.now + Duration::from_millis(100);
            self.engine.handle_timeout(self.now);
            self.drain();
            self.hear();
        }
        panic!("the device is not offered its new version");
    }

    fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
        self.drain();
    }

    /// Hands a datagram to the engine, and goes on until neither side has anything to say.
    fn exchange(&mut self, datagram: &[u8]) -> Vec<Heard> {
        self.say(datagram);
        self.hear()
    }

    fn say(&mut self, datagram: &[u8]) {
        COUNTS.store(true, Relaxed);
        self.engine
            .handle_datagram(self.now, &self.peer.into(), datagram);
        if self
            .engine
            .poll_timeout()
            .is_some_and(|at| at <= self.now.instant)
        {
            self.engine.handle_timeout(self.now);
        }
        self.drain();
        COUNTS.store(false, Relaxed);
    }

    /// Lets the device answer what it was sent.
    fn hear(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        while !self.sent.is_empty() {
            for datagram in std::mem::take(&mut self.sent) {
                let mut answers = Vec::new();
                heard.push((self.device).take(1, &datagram.to_bytes(), |bytes| {
                    answers.push(bytes.to_vec());
                }));
                for answer in answers {
                    self.say(&answer);
                }
            }
            self.sent.reserve(16); // not the engine's
        }
        heard
    }

    /// Does what the engine wants done, as a shard would whose store is always fast enough.
    fn drain(&mut self) {
        loop {
            while let Some(effect) = self.engine.poll_effect() {
                match effect {
                    Effect::Transmit { datagram, .. } => self.sent.push(datagram),
                    Effect::Ask(ask) => self.gate.handle(self.now.instant, ask),
                    Effect::Seek(seek) => panic!("{seek:?} is sought"),
                    Effect::Fetched(_) | Effect::Recall(_) => panic!("there is one engine only"),
                    Effect::Persist { .. }
                    | Effect::Grant { .. }
                    | Effect::Revoke { .. }
                    | Effect::Report(_)
                    | Effect::Left(_) => {}
                }
            }
            self.gate.handle_timeout(self.now.instant);
            let Some((device, order)) = self.gate.poll_order() else {
                return;
            };
            let command = Command::Gate { device, order };
            self.engine.handle_command(self.now, command);
        }
    }
}

fn package() -> Package {
    let content = vec![0x5A; usize::from(SEGMENTS) * 500];
    let segmentation = Segmentation::choose(content.len() as u64, None, false).unwrap();
    assert_eq!(segmentation.segment_count(), SEGMENTS);
    Package::over_pcp(
        PcpOffer {
            version: pcp::Version::new(TARGET).unwrap(),
            check_code: CheckCodeKind::Crc.apply(pcp::checksum(&content)),
            segmentation,
        },
        SegmentFrames::build(&content, segmentation).unwrap(),
    )
}
