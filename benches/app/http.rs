//! A client of HTTP/1.1 that costs little, and streams that are only counted.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// A line of an event of a device.
const STATUS: &[u8] = b"event: status";

/// A connection that is used again and again.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Asks, and gives the status and the body of the answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: &str,
    ) -> (u16, &[u8]) {
        let content = if body.is_empty() {
            String::new()
        } else {
            let bytes = body.len();
            format!("Content-Type: application/json\r\nContent-Length: {bytes}\r\n")
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{content}\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).unwrap();
        self.buffer.clear();
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.read();
        };
        let text = std::str::from_utf8(&self.buffer[..head]).unwrap();
        let status = text[9..12].parse().unwrap();
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.parse::<usize>().unwrap())
        });
        let end = head + length.expect("an answer has a length");
        while self.buffer.len() < end {
            self.read();
        }
        (status, &self.buffer[head..end])
    }

    fn read(&mut self) {
        let mut part = [0; 16_384];
        let len = self.stream.read(&mut part).unwrap();
        assert_ne!(len, 0, "the server has closed the connection");
        self.buffer.extend_from_slice(&part[..len]);
    }
}

/// A stream of a home, of which the events are counted.
pub(crate) struct Listener {
    stream: TcpStream,
    /// The end of what was read: an event may come in two parts.
    rest: Vec<u8>,
    statuses: usize,
}

impl Listener {
    pub(crate) fn open(address: SocketAddr, home: &str, token: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET /app/v1/homes/{home}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        Self {
            stream,
            rest: Vec::new(),
            statuses: 0,
        }
    }

    /// Reads until it was told of so many devices in all.
    pub(crate) fn until(&mut self, statuses: usize) {
        let mut part = [0; 8_192];
        while self.statuses < statuses {
            let len = self.stream.read(&mut part).unwrap();
            assert_ne!(len, 0, "the server has closed a stream");
            self.rest.extend_from_slice(&part[..len]);
            while let Some(at) = find(&self.rest, STATUS) {
                self.statuses += 1;
                self.rest.drain(..at + STATUS.len());
            }
            let done = self.rest.len().saturating_sub(STATUS.len());
            self.rest.drain(..done);
        }
    }

    pub(crate) const fn told(&self) -> usize {
        self.statuses
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|it| it == what)
}
