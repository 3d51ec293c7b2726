//! Connects one device with a socket and the clock.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{Duration, Instant, sleep_until},
};

use super::{
    lock,
    secure::{DtlsTotals, SecureLink},
};
use crate::device::{Device, Outcome};

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

pub(super) async fn drive(
    device: Arc<Mutex<Device>>,
    mut socket: UdpSocket,
    mut secure: Option<SecureLink>,
    started: Instant,
    mut stopped: watch::Receiver<bool>,
    shared: Arc<Shared>,
) {
    let mut before = Standing::default();
    lock(&device).start(elapsed_ms(started));
    loop {
        let Turn {
            moves,
            datagrams,
            next_ms,
        } = turn(&device, secure.as_mut(), elapsed_ms(started));
        if moves {
            match bind(shared.server).await {
                Ok(new) => socket = new,
                Err(_) => shared.count_error(),
            }
        }
        for datagram in datagrams {
            // An unreachable server is a silent server to a device.
            if socket.send(&datagram).await.is_err() {
                shared.count_error();
            }
        }
        before = tell(&device, before, &shared);
        if let Some(secure) = &mut secure {
            shared.dtls.add(secure.counted());
        }
        let wake = async {
            match next_ms {
                Some(at_ms) => sleep_until(started + Duration::from_millis(at_ms)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = stopped.changed() => return,
            () = wake => {}
            ready = socket.readable() => {
                if ready.is_ok() {
                    receive(&device, &socket, secure.as_mut(), started, &shared);
                } else {
                    shared.count_error();
                }
            }
        }
    }
}

struct Turn {
    moves: bool,
    datagrams: Vec<Vec<u8>>,
    next_ms: Option<u64>,
}

fn turn(device: &Mutex<Device>, secure: Option<&mut SecureLink>, now_ms: u64) -> Turn {
    let mut device = lock(device);
    device.handle_timeout(now_ms);
    let moves = device.take_address_change();
    let datagrams = std::iter::from_fn(|| device.poll_transmit()).collect();
    let next_ms = device.poll_timeout();
    let Some(secure) = secure else {
        return Turn {
            moves,
            datagrams,
            next_ms,
        };
    };
    if moves {
        secure.forget();
    }
    let datagrams = secure.send_all(now_ms, datagrams);
    if device.is_off() {
        // What the device said last has left it.
        secure.forget();
    }
    Turn {
        moves,
        datagrams,
        next_ms: next_ms.into_iter().chain(secure.poll_timeout()).min(),
    }
}

/// The buffer lives here, on the stack, and not in thousands of sleeping tasks.
fn receive(
    device: &Mutex<Device>,
    socket: &UdpSocket,
    mut secure: Option<&mut SecureLink>,
    started: Instant,
    shared: &Shared,
) {
    let mut buf = [0; DATAGRAM_LEN];
    loop {
        match socket.try_recv(&mut buf) {
            Ok(len) => {
                let (now_ms, mut device) = (elapsed_ms(started), lock(device));
                match &mut secure {
                    Some(secure) => secure.receive(&mut device, now_ms, &buf[..len]),
                    None => device.handle_datagram(now_ms, &buf[..len]),
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
