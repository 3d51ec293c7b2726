//! Servers to compare with, each in a process of its own: this program, started again with a hidden argument.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddrV4},
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use cellwise::{
    coap::{Code, Datagram, Message, put_downlink, short_response},
    runtime,
};
use clap::ValueEnum;
use pcp::{PlatformMessage, ResultCode};

use super::{blocks, load::RESOURCE};
use crate::support::{cores::Cores, mmsg::Port};

/// Bytes of the representation that is read.
pub(crate) const REPRESENTATION: usize = 512;

/// Which server a child is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    /// Answers datagrams by their sizes, and looks at nothing else of them.
    Echo,
    /// No server at all: computes for ever, so that others on its core get half of it.
    Burn,
    /// A CoAP server of Cellwise's port and CoAP layer, with one resource.
    Coap,
    /// A shard of Cellwise's that serves a package in blocks.
    Blocks,
}

/// The sizes of datagrams: what comes in, and what goes out for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) request: usize,
    /// 0 where there is none.
    pub(crate) acknowledgement: usize,
    pub(crate) answer: usize,
}

/// Runs the server, until it is killed.
pub(crate) fn run(kind: Kind, sizes: &[usize]) -> io::Result<()> {
    match kind {
        Kind::Echo => {
            let sizes: Vec<Sizes> = (sizes.chunks_exact(3))
                .map(|sizes| Sizes {
                    request: sizes[0],
                    acknowledgement: sizes[1],
                    answer: sizes[2],
                })
                .collect();
            let port = Port::open(Ipv4Addr::LOCALHOST)?;
            listens_on(port.number)?;
            echo(port, &sizes)
        }
        Kind::Burn => {
            listens_on(0)?;
            loop {
                std::hint::spin_loop();
            }
        }
        Kind::Coap | Kind::Blocks => {
            let mut sockets = runtime::bind((Ipv4Addr::LOCALHOST, 0).into(), 1)?;
            let socket = sockets.remove(0); // one was asked for
            listens_on(socket.local_addr()?.port())?;
            let tokio = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            tokio.block_on(async {
                let port = runtime::DatagramSocket::new(socket)?;
                match kind {
                    Kind::Blocks => blocks::serve(port).await,
                    _ => coap(port).await,
                }
            })
        }
    }
}

/// Tells whoever has started this process.
fn listens_on(port: u16) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{port}")?;
    stdout.flush()
}

/// A loop around `recvmmsg` and `sendmmsg`: whoever serves datagrams on a socket does at least this.
fn echo(mut port: Port, sizes: &[Sizes]) -> io::Result<()> {
    let acknowledgement = [0x60, 0, 0, 0];
    let answers: Vec<Vec<u8>> = sizes.iter().map(|sizes| answer(*sizes)).collect();
    loop {
        port.receiver.receive(true)?;
        for datagram in port.receiver.datagrams() {
            let len = datagram.bytes.len();
            let Some(at) = sizes.iter().position(|sizes| sizes.request == len) else {
                continue; // an acknowledgement
            };
            if sizes[at].acknowledgement > 0 {
                port.sender.send(None, datagram.from, &acknowledgement);
            }
            port.sender.send(None, datagram.from, &answers[at]);
        }
        port.sender.flush();
    }
}

/// Something of the right size that the load takes for what the server would say.
fn answer(sizes: Sizes) -> Vec<u8> {
    let bytes = if sizes.acknowledgement > 0 {
        let mut frame = [0; 1_024];
        let message = PlatformMessage::SegmentResponse {
            result: ResultCode::SUCCESS,
            segment: Some(1),
            data: &[0x5A; 500],
        };
        let frame = message.encode(&mut frame).unwrap();
        let frame = Bytes::copy_from_slice(frame);
        let put = put_downlink(1, cellwise::coap::Token::new(&[1, 2, 3, 4]), frame);
        put.to_bytes().into_owned()
    } else {
        // an acknowledgement with 2.05, a token of four bytes and a payload
        let mut bytes = vec![0x64, Code::CONTENT.0, 0, 1, 1, 2, 3, 4, 0xFF];
        bytes.resize(sizes.answer, 0x5A);
        bytes
    };
    assert_eq!(
        bytes.len(),
        sizes.answer,
        "the server's answers have another form than this"
    );
    bytes
}

/// What the product's own port and CoAP layer make of a GET.
async fn coap(mut port: runtime::DatagramSocket) -> io::Result<()> {
    let representation = Bytes::from_owner(vec![0x5A; REPRESENTATION]);
    loop {
        port.readable().await?;
        for index in 0..port.receive() {
            let (from, bytes) = port.received(index);
            if let Ok(request) = Message::parse(bytes) {
                let response = respond(&request, &representation);
                port.send(from, response);
            }
        }
        port.flush();
    }
}

fn respond(request: &Message<'_>, representation: &Bytes) -> Datagram {
    let (code, payload) = if request.unknown_critical_option().is_some() {
        (Code::BAD_OPTION, Bytes::new())
    } else if request.path() != [RESOURCE.as_bytes()] {
        (Code::NOT_FOUND, Bytes::new())
    } else if request.code() != Code::GET {
        (Code::METHOD_NOT_ALLOWED, Bytes::new())
    } else {
        (Code::CONTENT, representation.clone())
    };
    short_response(request, code, 0, payload)
}

/// A process that is measured, and where it listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) pid: u32,
    pub(crate) address: SocketAddrV4,
}

/// A server that is not Cellwise itself, until it is dropped.
pub(crate) struct Other {
    child: Child,
    address: SocketAddrV4,
}

impl Other {
    /// This program as a server of that kind.
    pub(crate) fn start(kind: Kind, sizes: &[Sizes], cores: &Cores) -> Self {
        let name = kind.to_possible_value().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--child", name.get_name()]);
        for sizes in sizes {
            for size in [sizes.request, sizes.acknowledgement, sizes.answer] {
                command.args(["--sizes", &size.to_string()]);
            }
        }
        command.stdout(Stdio::piped());
        let mut child = cores.on_the_measured(|| command.spawn()).unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        Self {
            child,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, line.trim().parse().unwrap()),
        }
    }

    /// libcoap's example server, which lets clients make resources (`-d`).
    pub(crate) fn libcoap(program: &str, cores: &Cores) -> Self {
        // a port that was free just now
        let address = Port::open(Ipv4Addr::LOCALHOST).unwrap().number;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, address);
        let mut command = Command::new(program);
        command
            .args(["-A", &address.ip().to_string()])
            .args(["-p", &address.port().to_string()])
            .args(["-d", "10"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = cores.on_the_measured(|| command.spawn());
        let child = child.unwrap_or_else(|error| {
            panic!("{program}: {error}; it is in Debian's libcoap3-bin, which tests/packages tests installs")
        });
        Self { child, address }
    }

    pub(crate) fn measured(&self) -> Measured {
        Measured {
            pid: self.child.id(),
            address: self.address,
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill(); // fails when it has ended by itself
        let _ = self.child.wait();
    }
}
