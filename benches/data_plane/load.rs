//! The load: exchanges of many devices, a bounded number of them at a time, or at a rate whatever comes back.

use std::{collections::VecDeque, net::SocketAddrV4, time::Duration};

use sim::coap::{Code, Message, MessageType, Token, Writer, option};

use crate::support::{
    device::{Device, Heard},
    fleet,
    mmsg::{BATCH, Port},
    now,
};

/// Without an answer to anything for this long, what is on its way is taken for lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Batches received at most before it is the turn of sending, at a rate.
const BATCHES: usize = 4;

/// What devices do with a server, over and over.
pub(crate) trait Exchange {
    /// Datagrams of one exchange, both directions.
    const DATAGRAMS: f64;

    /// Says the first thing of the device's next exchange.
    fn begin(&mut self, device: u32, say: impl FnMut(&[u8]));

    /// Takes a datagram for the device. Returns whether that ends its exchange.
    fn take(&mut self, device: u32, bytes: &[u8], say: impl FnMut(&[u8])) -> bool;
}

/// A device asks for a segment in a confirmable notification (PCP 21), the server acknowledges and writes the segment
/// to the device, the device acknowledges.
pub(crate) struct Segments<'a> {
    devices: &'a mut [Device],
    /// For each device the segment that it asked for last, and the one it got last.
    asked: Vec<u16>,
    got: Vec<Option<u16>>,
    count: u16,
}

impl<'a> Segments<'a> {
    /// Of a package of so many segments.
    pub(crate) fn new(devices: &'a mut [Device], count: u16) -> Self {
        Self {
            asked: vec![0; devices.len()],
            got: vec![None; devices.len()],
            devices,
            count,
        }
    }
}

impl Exchange for Segments<'_> {
    const DATAGRAMS: f64 = 4.0;

    fn begin(&mut self, device: u32, mut say: impl FnMut(&[u8])) {
        let device = device as usize;
        let next = (self.asked[device] + 1) % self.count;
        self.asked[device] = next;
        say(&self.devices[device].request_segment(next));
    }

    fn take(&mut self, device: u32, bytes: &[u8], say: impl FnMut(&[u8])) -> bool {
        let device = device as usize;
        match self.devices[device].take(1, bytes, say) {
            Heard::Segment(segment) => self.got[device].replace(segment) != Some(segment),
            _ => false,
        }
    }
}

/// The same against [`crate::child::echo`], which knows one segment only.
pub(crate) struct Echoed<'a>(pub(crate) Segments<'a>);

impl Exchange for Echoed<'_> {
    const DATAGRAMS: f64 = Segments::DATAGRAMS;

    fn begin(&mut self, device: u32, say: impl FnMut(&[u8])) {
        self.0.begin(device, say);
    }

    fn take(&mut self, device: u32, bytes: &[u8], say: impl FnMut(&[u8])) -> bool {
        matches!(
            self.0.devices[device as usize].take(1, bytes, say),
            Heard::Segment(_)
        )
    }
}

/// A confirmable GET, answered in its acknowledgement.
pub(crate) struct Gets {
    next_id: u16,
}

/// What is read.
pub(crate) const RESOURCE: &str = "bench";

impl Gets {
    pub(crate) const fn new() -> Self {
        Self { next_id: 0 }
    }
}

impl Exchange for Gets {
    const DATAGRAMS: f64 = 2.0;

    fn begin(&mut self, _: u32, mut say: impl FnMut(&[u8])) {
        self.next_id = self.next_id.wrapping_add(1);
        let token = Token::new(&[1, 2, 3, 4]).unwrap();
        let get = Writer::new(MessageType::Confirmable, Code::GET, self.next_id, token);
        say(&get.option(option::URI_PATH, RESOURCE.as_bytes()).finish());
    }

    fn take(&mut self, _: u32, bytes: &[u8], _: impl FnMut(&[u8])) -> bool {
        Message::parse(bytes).unwrap().code == Code::CONTENT
    }
}

/// What came of a load.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    /// Exchanges that were begun.
    pub(crate) begun: u64,
    /// Exchanges that were completed.
    pub(crate) completed: u64,
    /// Exchanges that were given up, while [`Load::keep`] waited for them.
    pub(crate) lost: u64,
    pub(crate) seconds: f64,
}

impl Done {
    fn within(self, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        Self { seconds, ..self }
    }

    pub(crate) fn per_second(&self) -> f64 {
        float(self.completed) / self.seconds
    }

    pub(crate) fn begun_per_second(&self) -> f64 {
        float(self.begun) / self.seconds
    }
}

#[allow(clippy::cast_precision_loss)] // the figures are rounded anyway
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

/// Devices that load a server with exchanges.
pub(crate) struct Load<'a, E> {
    exchange: E,
    port: &'a mut Port,
    server: SocketAddrV4,
    /// The load has a core of its own and need not sleep: then nobody has to wake it either.
    awake: bool,
    /// Whose turn it is, in order.
    idle: VecDeque<u32>,
    busy: Vec<bool>,
}

impl<'a, E: Exchange> Load<'a, E> {
    pub(crate) fn new(
        exchange: E,
        devices: u32,
        port: &'a mut Port,
        server: SocketAddrV4,
        awake: bool,
    ) -> Self {
        Self {
            exchange,
            port,
            server,
            awake,
            idle: (0..devices).collect(),
            busy: vec![false; devices as usize],
        }
    }

    /// Keeps about `window` exchanges going, which are begun in bursts: acknowledgements go along with the next
    /// requests. Who answers faster than they come would otherwise be woken for every datagram, and that would be
    /// measured.
    pub(crate) fn keep(&mut self, window: usize, time: Duration) -> Done {
        let mut done = Done::default();
        let started = now();
        let mut heard_at = started;
        let all = self.busy.len();
        let window = window.min(all);
        let burst = (BATCH / 2).min(window);
        loop {
            let under_way = all - self.idle.len();
            if under_way + burst <= window {
                for device in self.idle.drain(..window - under_way).collect::<Vec<_>>() {
                    self.busy[device as usize] = true;
                    self.begin(device);
                    done.begun += 1;
                }
                self.port.sender.flush();
            }
            let wait = !self.awake;
            let (received, completed) = self.listen(wait);
            done.completed += completed;
            let at = now();
            if received > 0 {
                heard_at = at;
            } else if at - heard_at > PATIENCE {
                done.lost += (all - self.idle.len()) as u64;
                self.forget();
                heard_at = at;
            }
            if at - started >= time {
                self.port.sender.flush();
                return done.within(at - started);
            }
        }
    }

    /// Begins exchanges at this rate, of one device after the other, whether they are answered or not.
    pub(crate) fn push(&mut self, per_second: f64, time: Duration) -> Done {
        let mut done = Done::default();
        let mut devices = (0..self.busy.len()).cycle();
        self.busy.fill(true);
        let started = now();
        loop {
            let passed = started.elapsed();
            if passed >= time {
                self.forget();
                return done.within(passed);
            }
            let due = passed.as_secs_f64() * per_second;
            for device in devices.by_ref().take(BATCH) {
                if float(done.begun) >= due {
                    break;
                }
                self.begin(u32::try_from(device).unwrap());
                done.begun += 1;
            }
            self.port.sender.flush();
            for _ in 0..BATCHES {
                let (received, completed) = self.listen(false);
                done.completed += completed;
                // whoever is answered goes on as if it were not
                self.busy.fill(true);
                if received < BATCH {
                    break;
                }
            }
        }
    }

    fn begin(&mut self, device: u32) {
        let (sender, server) = (&mut self.port.sender, self.server);
        let from = Some(fleet::address(device));
        self.exchange
            .begin(device, |bytes| sender.send(from, server, bytes));
    }

    /// Takes one batch. Returns how many datagrams that were, and how many exchanges they completed.
    fn listen(&mut self, wait: bool) -> (usize, u64) {
        let received = self.port.receiver.receive(wait).unwrap();
        let mut completed = 0;
        for datagram in self.port.receiver.datagrams() {
            let Some(index) = fleet::index(datagram.to).filter(|i| *i < self.busy.len()) else {
                continue;
            };
            let (sender, server) = (&mut self.port.sender, self.server);
            let device = u32::try_from(index).unwrap();
            let say = |bytes: &[u8]| sender.send(Some(datagram.to), server, bytes);
            let ends = self.exchange.take(device, datagram.bytes, say);
            if ends && std::mem::take(&mut self.busy[index]) {
                completed += 1;
                self.idle.push_back(device);
            }
        }
        (received, completed)
    }

    /// Nothing is awaited any more.
    fn forget(&mut self) {
        self.busy.fill(false);
        self.idle = (0..).take(self.busy.len()).collect();
    }
}
