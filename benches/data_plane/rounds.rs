//! Everybody's turn, again and again, so that a busy machine is busy for all.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use serde::Serialize;
use sim::coap::{Code, Message, MessageType, Token, Writer, option};

use super::{
    Arguments,
    blocks::{self, Blocks},
    child::{Kind, Measured, Other, REPRESENTATION, Sizes},
    load::{Done, Echoed, Exchange, Gets, Load, RESOURCE, Segments, float},
};
use crate::support::{
    cores::Cores, device::Heard, fleet::Fleet, kernel, mmsg::Port, rounded, server::Server,
    wait_for,
};

/// Before each measurement, until caches and branches know what comes.
const WARM_UP: Duration = Duration::from_millis(200);

/// What one of those compared costs.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// CPU time of its process: the median of the rounds.
    pub(crate) ns_per_datagram: f64,
    /// From the lowest round to the highest, relative to the median.
    pub(crate) spread: f64,
    /// Exchanges completed per second of the clock on the wall: the median of the rounds.
    pub(crate) per_second: f64,
    /// How often it went to sleep for want of work: the median of the rounds. Who sleeps after every few exchanges pays
    /// for being woken.
    pub(crate) sleeps_per_exchange: f64,
    /// Exchanges that were given up, of all rounds.
    pub(crate) lost: u64,
}

/// What the rounds have brought for one of those compared.
#[derive(Debug, Default)]
struct Series {
    costs: Vec<f64>,
    rates: Vec<f64>,
    sleeps: Vec<f64>,
    lost: u64,
}

impl Series {
    fn add(&mut self, done: Done, spent: f64, slept: u64, datagrams: f64) {
        assert!(done.completed > 0, "nothing was answered: {done:?}");
        let datagrams = float(done.completed) * datagrams;
        self.costs.push(spent * 1e9 / datagrams);
        self.rates.push(done.per_second());
        self.sleeps.push(float(slept) / float(done.completed));
        self.lost += done.lost;
        if done.lost > 0 {
            eprintln!("  {} exchanges were given up", done.lost);
        }
    }

    fn figure(&self) -> Figure {
        let [costs, rates, sleeps] = [&self.costs, &self.rates, &self.sleeps].map(|series| {
            let mut sorted = series.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            sorted
        });
        let (lowest, highest) = (costs[0], costs[costs.len() - 1]);
        let median = costs[costs.len() / 2];
        Figure {
            ns_per_datagram: rounded(median),
            spread: rounded((highest - lowest) / median),
            per_second: rates[rates.len() / 2].round(),
            sleeps_per_exchange: rounded(sleeps[sleeps.len() / 2]),
            lost: self.lost,
        }
    }
}

/// Those compared, and what they have cost so far.
pub(crate) struct Rounds {
    server: u32,
    echo: Other,
    coap: Other,
    libcoap: Other,
    blocks: Other,
    cores: Cores,
    segments: u16,
    window: usize,
    /// Of the server's segments, the echo's, Cellwise's GETs, the echo's, libcoap's; Cellwise's blocks, the echo's, libcoap's.
    series: [Series; 8],
}

impl Rounds {
    /// Starts those that the server is compared with.
    pub(crate) fn start(
        arguments: &Arguments,
        server: &Server,
        fleet: &mut Fleet,
        cores: Cores,
    ) -> Self {
        let coap = Other::start(Kind::Coap, &[], &cores);
        let libcoap = Other::libcoap(&arguments.libcoap, &cores);
        put_representation(&libcoap);
        put_package(&libcoap);
        let blocks = Other::start(Kind::Blocks, &[], &cores);
        let sizes = [
            sizes_of_segments(fleet),
            sizes_of(&coap, Gets::new()),
            sizes_of(&blocks, Blocks::new(1, true)),
        ];
        eprintln!("bytes of a request, its acknowledgement, the answer: {sizes:?}");
        Self {
            server: server.pid(),
            echo: Other::start(Kind::Echo, &sizes, &cores),
            coap,
            libcoap,
            blocks,
            cores,
            segments: arguments.segments,
            window: arguments.window,
            series: Default::default(),
        }
    }

    pub(crate) fn figures(&self) -> [Figure; 8] {
        self.series.each_ref().map(Series::figure)
    }

    /// One round.
    pub(crate) fn go(&mut self, fleet: &mut Fleet, time: Duration) {
        let (server, count) = (fleet.server, self.segments);
        let [
            of_server,
            of_echo,
            of_coap,
            of_echo_gets,
            of_libcoap,
            of_blocks,
            of_echo_blocks,
            of_libcoap_blocks,
        ] = &mut self.series;
        let mut turn = Turn {
            port: &mut fleet.port,
            window: self.window,
            awake: self.cores.are_apart(),
            time,
        };
        // their message IDs and segments go on with the server only
        let mut copies = fleet.devices.clone();
        let exchange = Echoed(Segments::new(&mut copies, count));
        let devices = fleet.devices.len();
        turn.take(of_echo, self.echo.measured(), devices, exchange);
        let exchange = Segments::new(&mut fleet.devices, count);
        let server = Measured {
            pid: self.server,
            address: server,
        };
        turn.take(of_server, server, devices, exchange);
        for (series, other) in [
            (of_echo_gets, &self.echo),
            (of_coap, &self.coap),
            (of_libcoap, &self.libcoap),
        ] {
            // one client for each exchange: libcoap has a session for every client
            turn.take(series, other.measured(), self.window, Gets::new());
        }
        let devices = blocks::DEVICES.min(u32::try_from(self.window).unwrap());
        for (series, other, own) in [
            (of_echo_blocks, &self.echo, true),
            (of_blocks, &self.blocks, true),
            // one package under one name
            (of_libcoap_blocks, &self.libcoap, false),
        ] {
            let exchange = Blocks::new(devices, own);
            turn.take(series, other.measured(), devices as usize, exchange);
        }
    }
}

/// How everybody is measured.
struct Turn<'a> {
    port: &'a mut Port,
    window: usize,
    awake: bool,
    time: Duration,
}

impl Turn<'_> {
    fn take<E: Exchange>(
        &mut self,
        series: &mut Series,
        measured: Measured,
        devices: usize,
        exchange: E,
    ) {
        let devices = u32::try_from(devices).unwrap();
        let mut load = Load::new(exchange, devices, self.port, measured.address, self.awake);
        load.keep(self.window, WARM_UP);
        let sleeps = kernel::sleeps(measured.pid);
        let before = kernel::cpu(measured.pid);
        let done = load.keep(self.window, self.time);
        let spent = kernel::cpu(measured.pid) - before;
        let slept = kernel::sleeps(measured.pid).saturating_sub(sleeps);
        series.add(done, spent, slept, E::DATAGRAMS);
    }
}

/// What the server says to a segment request, by size.
fn sizes_of_segments(fleet: &mut Fleet) -> Sizes {
    let request = fleet.devices[0].request_segment(1);
    fleet.say(0, &request);
    let mut sizes = Vec::new();
    let mut heard = None;
    wait_for(Duration::from_secs(10), "a segment", || {
        fleet.hear(|_, bytes, told| {
            sizes.push(bytes.len());
            heard = Some(told);
        });
        (heard == Some(Heard::Segment(1))).then_some(())
    });
    let [acknowledgement, answer] = sizes[..] else {
        panic!("an acknowledgement and a segment were to come, not datagrams of {sizes:?} bytes");
    };
    Sizes {
        request: request.len(),
        acknowledgement,
        answer,
    }
}

/// What that server answers to the first request of the exchange, by size.
fn sizes_of(server: &Other, mut exchange: impl Exchange) -> Sizes {
    let mut request = Vec::new();
    exchange.begin(0, |bytes| request = bytes.to_vec());
    let answer = ask(server, &request, Code::CONTENT);
    Sizes {
        request: request.len(),
        acknowledgement: 0,
        answer,
    }
}

/// Makes the resource on libcoap's server, and sees that it is what was put.
fn put_representation(libcoap: &Other) {
    let token = Token::new(&[1, 2, 3, 4]).unwrap();
    let begin = |code, id| {
        Writer::new(MessageType::Confirmable, code, id, token)
            .option(option::URI_PATH, RESOURCE.as_bytes())
    };
    let put = begin(Code::PUT, 0xFFFE).payload(&[0x5A; REPRESENTATION]);
    ask(libcoap, &put, Code::CREATED);
    let len = ask(libcoap, &begin(Code::GET, 0xFFFF).finish(), Code::CONTENT);
    assert!(
        len > REPRESENTATION,
        "the representation is cut: {len} bytes"
    );
}

/// Makes the package a resource on libcoap's server, in blocks (Block1, RFC 7959 §2.1), and sees that it is what was put.
fn put_package(libcoap: &Other) {
    const BLOCK1: u16 = 27;
    const PER_BLOCK: usize = 1_024;
    let package = blocks::package();
    let count = package.len().div_ceil(PER_BLOCK);
    let socket = socket_to(libcoap);
    for (number, part) in package.chunks(PER_BLOCK).enumerate() {
        let more = number + 1 < count;
        let number = u16::try_from(number).unwrap();
        let option = blocks::block_option(number.into(), more, 6);
        let put = blocks::request(Code::PUT, number, &blocks::token(0));
        let put = put.option(BLOCK1, &option).payload(part);
        let code = if more {
            Code::new(2, 31)
        } else {
            Code::CREATED
        };
        ask_from(&socket, &put, code);
    }
    let sizes = sizes_of(libcoap, Blocks::new(1, false));
    assert!(sizes.answer > 512, "a block is cut: {sizes:?}");
}

/// Asks until there is an answer with this code; its length.
fn ask(other: &Other, request: &[u8], code: Code) -> usize {
    ask_from(&socket_to(other), request, code)
}

fn socket_to(other: &Other) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    socket.connect(other.measured().address).unwrap();
    socket
}

/// As [`ask`], from a socket: libcoap puts blocks together that come from one.
fn ask_from(socket: &UdpSocket, request: &[u8], code: Code) -> usize {
    let mut buffer = [0; 2_048];
    let len = wait_for(
        Duration::from_secs(10),
        "an answer to a first request",
        || {
            socket.send(request).ok()?; // fails while nobody listens
            socket.recv(&mut buffer).ok()
        },
    );
    let answer = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(answer.code, code);
    len
}
