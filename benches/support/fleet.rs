//! Any number of devices behind one socket: each has an address of its own out of 127.0.0.0/8.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    device::{Device, Heard, Stage},
    kernel,
    mmsg::{BATCH, Port},
    now,
    server::Server,
};

/// 127.1.0.0, the first device's address.
const FIRST_ADDRESS: u32 = 0x7F01_0000;
/// Devices in one request to the API.
const IMPORTED_AT_ONCE: usize = 10_000;
/// Registrations that may be on their way: enough for several transactions of the server's.
const REGISTERING: usize = 4_096;
/// The server's socket holds about 200 KB by default; this leaves room for all that may be sent before the next look.
const QUEUED: u64 = 16 << 10;
/// Without an answer for this long, devices say again what they said.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Fleet {
    pub(crate) devices: Vec<Device>,
    pub(crate) port: Port,
    pub(crate) server: SocketAddrV4,
    per_cell: u32,
    sent: usize,
}

impl Fleet {
    /// Devices that are switched off.
    pub(crate) fn new(server: SocketAddrV4, count: u32, per_cell: u32) -> Self {
        let port = Port::open(Ipv4Addr::UNSPECIFIED).unwrap();
        let wait = Some(Duration::from_millis(1));
        port.receiver.socket.set_read_timeout(wait).unwrap();
        Self {
            devices: (0..count).map(Device::new).collect(),
            port,
            server,
            per_cell,
            sent: 0,
        }
    }

    /// Adds the devices through the API; the product may depend on the device.
    pub(crate) fn import(&self, server: &Server, product: impl Fn(u32) -> &'static str) {
        let indices: Vec<u32> = (0..self.count()).collect();
        for indices in indices.chunks(IMPORTED_AT_ONCE) {
            let device =
                |index: &u32| json!({ "endpoint": endpoint(*index), "product": product(*index) });
            let devices: Vec<_> = indices.iter().map(device).collect();
            server.post(
                "/v1/devices",
                json!({ "devices": devices }).to_string().as_bytes(),
            );
        }
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.devices.len()).unwrap()
    }

    pub(crate) fn cell(&self, index: u32) -> u32 {
        1 + index / self.per_cell
    }

    /// Registers all devices, and returns when each has its answer. `told` hears how many have.
    pub(crate) fn register(&mut self, mut told: impl FnMut(u32)) {
        let (mut next, mut registered) = (0, 0);
        let mut asked: VecDeque<(u32, Instant)> = VecDeque::new();
        while registered < self.count() {
            self.leave_room();
            for _ in 0..BATCH {
                // those that have their answer leave from the front
                while asked
                    .front()
                    .is_some_and(|(index, _)| self.stage(*index) == Stage::Registered)
                {
                    asked.pop_front();
                }
                let again = asked.front().filter(|(_, at)| at.elapsed() > PATIENCE);
                let index = if let Some((index, _)) = again {
                    let index = *index;
                    asked.pop_front();
                    index
                } else if next < self.count() && asked.len() < REGISTERING {
                    next += 1;
                    next - 1
                } else {
                    break;
                };
                let datagram = self.devices[index as usize].register(&endpoint(index));
                self.say(index, &datagram);
                asked.push_back((index, now()));
            }
            let before = registered;
            self.listen(|_, heard| registered += u32::from(heard == Heard::Registered));
            if registered / 10_000 != before / 10_000 {
                told(registered);
            }
        }
    }

    /// Lets the first `count` devices be heard, and answers what the server asks until all of them have taken the
    /// new version, or nothing has happened for a while. Returns how many have.
    pub(crate) fn negotiate(&mut self, count: u32, mut told: impl FnMut(usize)) -> usize {
        let mut updates = 0..count;
        let (mut downloading, mut quiet_since) = (0, now());
        while downloading < count as usize && quiet_since.elapsed() < 10 * PATIENCE {
            self.leave_room();
            for index in updates.by_ref().take(BATCH) {
                let datagram = self.devices[index as usize].update();
                self.say(index, &datagram);
            }
            let before = downloading;
            let mut any = false;
            self.listen(|_, heard| {
                any = true;
                downloading += usize::from(heard == Heard::Offered);
            });
            if any {
                quiet_since = now();
            }
            if downloading / 10_000 != before / 10_000 {
                told(downloading);
            }
        }
        self.settle();
        downloading
    }

    /// Answers the server until it has nothing more to say.
    fn settle(&mut self) {
        let mut quiet_since = now();
        while quiet_since.elapsed() < Duration::from_millis(200) {
            self.leave_room();
            self.listen(|_, _| quiet_since = now());
        }
    }

    /// Takes what has arrived, answers it, and tells what it was.
    pub(crate) fn listen(&mut self, mut told: impl FnMut(u32, Heard)) {
        self.hear(|index, _, heard| told(index, heard));
    }

    /// The same, with the datagrams themselves.
    pub(crate) fn hear(&mut self, mut told: impl FnMut(u32, &[u8], Heard)) {
        self.port.sender.flush();
        self.port.receiver.receive(true).unwrap();
        for datagram in self.port.receiver.datagrams() {
            let Some(index) = index(datagram.to).filter(|i| *i < self.devices.len()) else {
                continue;
            };
            let device = &mut self.devices[index];
            let index = u32::try_from(index).unwrap();
            let cell = 1 + index / self.per_cell;
            let sent = &mut self.sent;
            let sender = &mut self.port.sender;
            let heard = device.take(cell, datagram.bytes, |bytes| {
                *sent += 1;
                sender.send(Some(datagram.to), self.server, bytes);
            });
            told(index, datagram.bytes, heard);
        }
        self.port.sender.flush();
    }

    /// Puts a datagram of a device on its way.
    pub(crate) fn say(&mut self, index: u32, bytes: &[u8]) {
        self.sent += 1;
        (self.port.sender).send(Some(address(index)), self.server, bytes);
    }

    fn stage(&self, index: u32) -> Stage {
        self.devices[index as usize].stage
    }

    /// Waits until the server has read most of what was sent: a socket that is full drops what comes.
    fn leave_room(&mut self) {
        if self.sent < BATCH {
            return;
        }
        self.port.sender.flush();
        let begun = now();
        while kernel::udp_port(self.server.port()).queued > QUEUED {
            assert!(
                begun.elapsed() < Duration::from_mins(2),
                "the server reads nothing"
            );
            std::thread::sleep(Duration::from_micros(50));
        }
        self.sent = 0;
    }
}

pub(crate) fn endpoint(index: u32) -> String {
    format!("urn:imei:86{index:013}")
}

pub(crate) fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_ADDRESS + index)
}

/// Whose address it is.
pub(crate) fn index(address: Ipv4Addr) -> Option<usize> {
    u32::from(address)
        .checked_sub(FIRST_ADDRESS)
        .map(|index| index as usize)
}
