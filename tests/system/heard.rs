//! When a device was heard last, told by the API.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use crate::support::{Server, wait_for};

/// A device that registers and updates, written by hand.
struct Device {
    socket: UdpSocket,
    next_id: u8,
}

impl Device {
    fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let patience = Some(Duration::from_secs(1));
        socket.set_read_timeout(patience).unwrap();
        Self { socket, next_id: 1 }
    }

    /// POSTs to a path of the server, and returns code and options of the acknowledgement. What the server asks of the device
    /// meanwhile is left unanswered.
    fn post(&mut self, server: &Server, options: &[u8]) -> Vec<u8> {
        let id = self.next_id;
        self.next_id += 1;
        let datagram = [&[0x40, 0x02, 0, id], options].concat();
        wait_for(Duration::from_secs(20), "an answer", || {
            self.socket.send_to(&datagram, server.coap).unwrap();
            let mut buffer = [0; 1_500];
            while let Ok(len) = self.socket.recv(&mut buffer) {
                // an acknowledgement of ours
                if buffer[0] & 0xf0 == 0x60 && buffer[3] == id {
                    return Some(buffer[1..len].to_vec());
                }
            }
            None
        })
    }

    /// Returns the location.
    fn register(&mut self, server: &Server) -> Vec<u8> {
        let answer = self.post(server, b"\xb2rd\x44ep=d");
        assert_eq!(answer[0], 0x41, "2.01");
        // after code and message ID: Location-Path "rd", then the location
        let location = &answer[3..];
        assert_eq!(location[..4], *b"\x82rd\x0d");
        let len = 13 + usize::from(location[4]);
        location[5..5 + len].to_vec()
    }

    fn update(&mut self, server: &Server, location: &[u8]) {
        let len = u8::try_from(location.len() - 13).unwrap();
        let answer = self.post(server, &[&b"\xb2rd\x0d"[..], &[len], location].concat());
        assert_eq!(answer[0], 0x44, "2.04");
    }
}

#[test]
fn heard_last_follows_every_message_and_says_what_is_only_stored() {
    let mut server = Server::start();
    server.api.add_device("d", "meter");
    let shown = |server: &Server| {
        let (status, body) = server.api.get("/v1/devices/d");
        assert_eq!(status, 200, "{body}");
        let at = body["last_heard_at"].as_str().map(str::to_owned);
        (at, body["last_heard_is_stored"].as_bool().unwrap())
    };
    assert_eq!(shown(&server), (None, true));
    let mut device = Device::new();
    let location = device.register(&server);
    let (registered, is_stored) = shown(&server);
    assert!(registered.is_some() && !is_stored);
    // an update changes nothing in the store; times are told in milliseconds
    std::thread::sleep(Duration::from_millis(5));
    device.update(&server, &location);
    let (updated, is_stored) = shown(&server);
    assert!(updated > registered && !is_stored, "{updated:?}");
    let (_, list) = server.api.get("/v1/devices");
    let listed = list["items"][0]["last_heard_at"].as_str();
    assert!(listed > registered.as_deref(), "{list}");

    server.kill_and_restart();
    let (stored, is_stored) = shown(&server);
    assert!(stored < updated && is_stored, "{stored:?}");
    device.update(&server, &location);
    let (again, is_stored) = shown(&server);
    assert!(again > updated && !is_stored, "{again:?}");
}
