//! Devices that ask for a package and take nothing of it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    ours::{Ours, token},
    process::memory_bytes,
};

/// Memory of the server for each of so many connections.
pub(crate) fn bytes_per_connection(ours: &Ours, count: u32, tls: bool) -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit); // connecting fails where it is not enough
    // what is there once is there before it is counted
    drop(connect(ours, count, tls));
    let before = memory_bytes(ours.pid());
    let held: Vec<Stream> = (0..count)
        .map(|device| connect(ours, device, tls))
        .collect();
    let grown = memory_bytes(ours.pid()).saturating_sub(before);
    drop(held);
    grown / u64::from(count)
}

/// Is held, and not read from any more.
#[expect(dead_code, reason = "the connection lasts as long as it does")]
enum Stream {
    Plain(TcpStream),
    Tls(SslStream<TcpStream>),
}

/// A connection whose first bytes have come: the rest waits at the server.
fn connect(ours: &Ours, device: u32, tls: bool) -> Stream {
    let address = if tls { ours.https } else { ours.http };
    let stream = TcpStream::connect(address).unwrap();
    let request = format!("GET /t/{}/x HTTP/1.1\r\n\r\n", token(device).as_str());
    let mut first = [0; 64];
    if tls {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        let mut stream = builder.build().connect("localhost", stream).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_exact(&mut first).unwrap();
        return Stream::Tls(stream);
    }
    let mut stream = stream;
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut first).unwrap();
    Stream::Plain(stream)
}
