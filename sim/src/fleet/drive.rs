//! Connects one device with its sockets and the clock.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    net::{UdpSocket, lookup_host},
    sync::watch,
    time::{Duration, Instant, sleep_until},
};

use super::{
    lock,
    secure::{DtlsTotals, SecureLink},
};
use crate::device::{Destination, Device, Outcome, Port};

/// Enough for everything that fits an NB-IoT device.
const DATAGRAM_LEN: usize = 1500;

/// Something worth telling that happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetEvent<'a> {
    /// The device.
    pub endpoint: &'a str,
    /// What happened.
    pub kind: FleetEventKind,
}

/// What happened to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FleetEventKind {
    /// The server accepted its registration.
    Registered,
    /// Its upgrade ended, as far as the device can tell.
    Ended(Outcome),
}

type OnEvent = Box<dyn Fn(FleetEvent<'_>) + Send + Sync>;

/// What the devices of a fleet have in common.
pub(super) struct Shared {
    server: SocketAddr,
    on_event: OnEvent,
    pub(super) socket_errors: AtomicU64,
    pub(super) dtls: DtlsTotals,
}

impl Shared {
    pub(super) const fn new(server: SocketAddr, on_event: OnEvent) -> Self {
        Self {
            server,
            on_event,
            socket_errors: AtomicU64::new(0),
            dtls: DtlsTotals::new(),
        }
    }

    fn count_error(&self) {
        self.socket_errors.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("server", &self.server)
            .field("socket_errors", &self.socket_errors)
            .finish_non_exhaustive()
    }
}

/// A socket with an address of its own that talks to the server only.
pub(super) async fn bind(server: SocketAddr) -> io::Result<UdpSocket> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    Ok(socket)
}

pub(super) fn elapsed_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A socket of a device's, with its DTLS association if it has one.
struct Wire {
    port: Port,
    socket: UdpSocket,
    secure: Option<SecureLink>,
}

pub(super) async fn drive(
    device: Arc<Mutex<Device>>,
    socket: UdpSocket,
    secure: Option<SecureLink>,
    started: Instant,
    mut stopped: watch::Receiver<bool>,
    shared: Arc<Shared>,
) {
    let port = Port::Main;
    let mut main = Wire {
        port,
        socket,
        secure,
    };
    let mut download: Option<Box<Wire>> = None;
    let mut before = Standing::default();
    lock(&device).start(elapsed_ms(started));
    loop {
        let now_ms = elapsed_ms(started);
        let turn = turn(&device, now_ms);
        if turn.moves {
            main.begin_anew(&shared).await;
        }
        main.send(now_ms, &turn.datagrams, &shared).await;
        if turn.is_off {
            // What the device said last has left it.
            main.forget();
        }
        download = follow(download, &turn, &device, started, &shared).await;
        before = tell(&device, before, &shared);
        let deadlines = [main.poll_timeout(), deadline(download.as_deref())];
        let next_ms = turn
            .next_ms
            .into_iter()
            .chain(deadlines.into_iter().flatten());
        let next_ms = next_ms.min();
        let wake = async {
            match next_ms {
                Some(at_ms) => sleep_until(started + Duration::from_millis(at_ms)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = stopped.changed() => return,
            () = wake => {}
            ready = main.socket.readable() => main.receive(&ready, &device, started, &shared),
            ready = readable(download.as_deref()) => {
                if let Some(wire) = &mut download {
                    wire.receive(&ready, &device, started, &shared);
                }
            }
        }
    }
}

struct Turn {
    moves: bool,
    datagrams: Vec<(Port, Vec<u8>)>,
    next_ms: Option<u64>,
    is_off: bool,
    /// Where it downloads from, if through a socket of its own.
    download: Option<(Port, Destination)>,
}

fn turn(device: &Mutex<Device>, now_ms: u64) -> Turn {
    let mut device = lock(device);
    device.handle_timeout(now_ms);
    Turn {
        moves: device.take_address_change(),
        datagrams: std::iter::from_fn(|| device.poll_transmit_from()).collect(),
        next_ms: device.poll_timeout(),
        is_off: device.is_off(),
        download: (device.download()).map(|(number, to)| (Port::Download(number), to.clone())),
    }
}

/// Opens the socket of a download when there is something to send through it, and closes it when the download is over.
async fn follow(
    mut wire: Option<Box<Wire>>,
    turn: &Turn,
    device: &Mutex<Device>,
    started: Instant,
    shared: &Shared,
) -> Option<Box<Wire>> {
    if let Some((port, to)) = &turn.download
        && wire.as_ref().is_none_or(|wire| wire.port != *port)
    {
        wire = None;
        if turn.datagrams.iter().any(|(through, _)| through == port) {
            // on the heap, for the time that it takes
            match Box::pin(Wire::open(*port, to, device, started)).await {
                Ok(opened) => wire = Some(Box::new(opened)),
                // the device asks again
                Err(_) => shared.count_error(),
            }
        }
    }
    if let Some(wire) = &mut wire {
        (wire.send(elapsed_ms(started), &turn.datagrams, shared)).await;
    }
    wire.filter(|_| turn.download.is_some())
}

const fn deadline(wire: Option<&Wire>) -> Option<u64> {
    match wire {
        Some(wire) => wire.poll_timeout(),
        None => None,
    }
}

async fn readable(wire: Option<&Wire>) -> io::Result<()> {
    match wire {
        Some(wire) => wire.socket.readable().await,
        None => std::future::pending().await,
    }
}

impl Wire {
    /// A new socket, and for `coaps` a new association, which shows the same identity.
    async fn open(
        port: Port,
        to: &Destination,
        device: &Mutex<Device>,
        started: Instant,
    ) -> io::Result<Self> {
        let secure = if to.secure {
            SecureLink::of(lock(device).spec(), started).map_err(io::Error::other)?
        } else {
            None
        };
        let mut addresses = lookup_host((&*to.host, to.port)).await?;
        let address = addresses.next().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            port,
            socket: bind(address).await?,
            secure,
        })
    }

    /// From another address.
    async fn begin_anew(&mut self, shared: &Shared) {
        match bind(shared.server).await {
            Ok(new) => self.socket = new,
            Err(_) => shared.count_error(),
        }
        self.forget();
    }

    fn forget(&mut self) {
        if let Some(secure) = &mut self.secure {
            secure.forget();
        }
    }

    const fn poll_timeout(&self) -> Option<u64> {
        match &self.secure {
            Some(secure) => secure.poll_timeout(),
            None => None,
        }
    }

    /// Sends what leaves through this socket.
    async fn send(&mut self, now_ms: u64, datagrams: &[(Port, Vec<u8>)], shared: &Shared) {
        let of_it = |(port, _): &&(Port, Vec<u8>)| *port == self.port;
        let datagrams = datagrams.iter().filter(of_it).map(|(_, bytes)| bytes);
        let Some(secure) = &mut self.secure else {
            for datagram in datagrams {
                send(&self.socket, datagram, shared).await;
            }
            return;
        };
        for datagram in secure.send_all(now_ms, datagrams.cloned()) {
            send(&self.socket, &datagram, shared).await;
        }
        shared.dtls.add(secure.counted());
    }

    /// The buffer lives here, on the stack, and not in thousands of sleeping tasks.
    fn receive(
        &mut self,
        ready: &io::Result<()>,
        device: &Mutex<Device>,
        started: Instant,
        shared: &Shared,
    ) {
        if ready.is_err() {
            return shared.count_error();
        }
        let mut buf = [0; DATAGRAM_LEN];
        loop {
            match self.socket.try_recv(&mut buf) {
                Ok(len) => {
                    let (now_ms, mut device) = (elapsed_ms(started), lock(device));
                    match &mut self.secure {
                        Some(secure) => {
                            secure.receive(&mut device, now_ms, self.port, &buf[..len]);
                        }
                        None => device.handle_datagram_at(now_ms, self.port, &buf[..len]),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A refused datagram is reported once, on the next use of the socket.
                Err(_) => {
                    shared.count_error();
                    return;
                }
            }
        }
    }
}

/// An unreachable server is a silent server to a device.
async fn send(socket: &UdpSocket, datagram: &[u8], shared: &Shared) {
    if socket.send(datagram).await.is_err() {
        shared.count_error();
    }
}

#[derive(Clone, Copy, Default)]
struct Standing {
    registered: bool,
    outcome: Option<Outcome>,
}

fn tell(device: &Mutex<Device>, before: Standing, shared: &Shared) -> Standing {
    let device = lock(device);
    let now = Standing {
        registered: device.is_registered(),
        outcome: device.outcome(),
    };
    let endpoint = &device.spec().endpoint;
    if now.registered && !before.registered {
        let kind = FleetEventKind::Registered;
        (shared.on_event)(FleetEvent { endpoint, kind });
    }
    if let Some(outcome) = now.outcome
        && now.outcome != before.outcome
    {
        let kind = FleetEventKind::Ended(outcome);
        (shared.on_event)(FleetEvent { endpoint, kind });
    }
    now
}
