use std::{net::UdpSocket, time::Duration};

use super::Server;

/// A device that is nothing but a socket: what it sends is written by the test, byte by byte if need be.
#[derive(Debug)]
pub(crate) struct Wire(UdpSocket);

/// A CoAP message as it was received (RFC 7252 §3).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    /// 0 Confirmable, 1 Non-confirmable, 2 acknowledgement, 3 Reset.
    pub(crate) kind: u8,
    /// Such as 2.04 in `204`, GET in `1`.
    pub(crate) code: u16,
    pub(crate) id: u16,
    pub(crate) token: Vec<u8>,
    /// Numbers and values, as they stand there.
    pub(crate) options: Vec<(usize, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
}

impl Wire {
    pub(crate) fn to(server: &Server) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.coap).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Self(socket)
    }

    pub(crate) fn send(&self, datagram: &[u8]) {
        self.0.send(datagram).unwrap();
    }

    /// The next message.
    pub(crate) fn receive(&self) -> Received {
        let mut buffer = [0; 2_048];
        let len = self.0.recv(&mut buffer).expect("a message within 10 s");
        read(&buffer[..len])
    }

    /// The next message of which that is true.
    pub(crate) fn receive_until(&self, which: impl Fn(&Received) -> bool) -> Received {
        (0..100)
            .map(|_| self.receive())
            .find(which)
            .expect("a message of that kind among a hundred")
    }

    /// The response to a Confirmable request, and what came before it is left alone.
    pub(crate) fn ask(&self, datagram: &[u8]) -> Received {
        self.send(datagram);
        let id = u16::from_be_bytes([datagram[2], datagram[3]]);
        self.receive_until(|message| message.kind == 2 && message.id == id)
    }

    /// Answers a request with that code on its acknowledgement.
    pub(crate) fn answer(&self, request: &Received, code: u16) {
        let code = u8::try_from(code / 100 * 32 + code % 100).unwrap();
        let token = &request.token;
        let mut datagram = vec![0x60 | u8::try_from(token.len()).unwrap(), code];
        datagram.extend(request.id.to_be_bytes());
        datagram.extend(token);
        // 2.05 confirms an observation with the option of the same name (RFC 7641 §2)
        if code == 0x45 && !request.values(6).is_empty() {
            datagram.extend([0x61, 1]);
        }
        self.send(&datagram);
    }

    /// Registers with these parameters; gives the location.
    pub(crate) fn register(&self, id: u16, queries: &[&str], links: &[u8]) -> Vec<u8> {
        let mut options: Vec<(usize, &[u8])> = vec![(11, b"rd")];
        if !links.is_empty() {
            options.push((12, &[40]));
        }
        options.extend(queries.iter().map(|query| (15, query.as_bytes())));
        let created = self.ask(&coap(0, 2, id, &options, links));
        assert_eq!(created.code, 201, "{created:?}");
        created.values(8).pop().expect("a location")
    }
}

impl Received {
    /// The values of an option.
    pub(crate) fn values(&self, option: usize) -> Vec<Vec<u8>> {
        let found = self.options.iter().filter(|(number, _)| *number == option);
        found.map(|(_, value)| value.clone()).collect()
    }

    /// Uri-Path and Uri-Query: `/19/0/0?pmin=0`.
    pub(crate) fn target(&self) -> String {
        let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        let path: Vec<_> = self.values(11).iter().map(text).collect();
        let query: Vec<_> = self.values(15).iter().map(text).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/{}{mark}{}", path.join("/"), query.join("&"))
    }
}

fn read(bytes: &[u8]) -> Received {
    let token_len = usize::from(bytes[0] & 0x0F);
    let mut message = Received {
        kind: bytes[0] >> 4 & 3,
        code: u16::from(bytes[1] >> 5) * 100 + u16::from(bytes[1] & 31),
        id: u16::from_be_bytes([bytes[2], bytes[3]]),
        token: bytes[4..4 + token_len].to_vec(),
        options: Vec::new(),
        payload: Vec::new(),
    };
    let (mut rest, mut number) = (&bytes[4 + token_len..], 0);
    while let Some((first, behind)) = rest.split_first() {
        if *first == 0xFF {
            message.payload = behind.to_vec();
            break;
        }
        let (delta, behind) = extended(first >> 4, behind);
        let (len, behind) = extended(first & 15, behind);
        number += delta;
        message.options.push((number, behind[..len].to_vec()));
        rest = &behind[len..];
    }
    message
}

fn extended(nibble: u8, bytes: &[u8]) -> (usize, &[u8]) {
    match nibble {
        13 => (usize::from(bytes[0]) + 13, &bytes[1..]),
        14 => (
            usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) + 269,
            &bytes[2..],
        ),
        small => (small.into(), bytes),
    }
}

/// A CoAP message (RFC 7252 §3) without token; options in ascending order of their numbers.
pub(crate) fn coap(
    kind: u8,
    code: u8,
    id: u16,
    options: &[(usize, &[u8])],
    payload: &[u8],
) -> Vec<u8> {
    let mut out = vec![0x40 | kind << 4, code];
    out.extend(id.to_be_bytes());
    let mut number = 0;
    for (option, value) in options {
        let (delta, more_delta) = nibble(option - number);
        let (len, more_len) = nibble(value.len());
        out.push(delta << 4 | len);
        out.extend(more_delta);
        out.extend(more_len);
        out.extend_from_slice(value);
        number = *option;
    }
    if !payload.is_empty() {
        out.push(0xFF);
        out.extend(payload);
    }
    out
}

/// RFC 7252 §3.1: up to 12 in the nibble, else in one or two bytes behind it.
fn nibble(value: usize) -> (u8, Vec<u8>) {
    match u16::try_from(value).unwrap() {
        small @ 0..=12 => (small.to_be_bytes()[1], vec![]),
        medium @ 13..=268 => (13, vec![(medium - 13).to_be_bytes()[1]]),
        large => (14, (large - 269).to_be_bytes().to_vec()),
    }
}
