use std::{
    array,
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::AsRawFd,
};

use nix::{
    errno::Errno,
    getsockopt_impl, libc, setsockopt_impl,
    sys::socket::{
        AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrStorage, getsockopt,
        recvmmsg, sendmmsg, setsockopt, socket, sockopt,
    },
};
use tokio::{io::Interest, net::UdpSocket};

use super::steering::steer;
use crate::coap::Datagram;

/// Datagrams that one system call takes or gives.
pub const BATCH: usize = 64;
/// Longer than any datagram that is taken: what fills it was cut.
const BUFFER_LEN: usize = 2_048;

/// Bytes that the system is asked to keep for a port, should they come faster than they are taken: those of a few
/// thousand datagrams. It gives less where `net.core.rmem_max` is less.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// How the system treats datagrams that a network on the way may not take whole (`ip(7)`).
#[derive(Debug, Clone, Copy)]
struct MtuDiscovery;

setsockopt_impl!(
    MtuDiscovery,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    usize,
    sockopt::SetUsize
);

/// Datagrams are not to be cut up, and what strangers say about the way is not believed. None of ours is longer than
/// what every network of a phone takes, and those that cannot be cut need no number each from a counter that all share.
const WHOLE: usize = libc::IP_PMTUDISC_PROBE as usize;

/// What the kernel knows of one socket's memory, and how many datagrams it had no room for (`sk_get_meminfo` in
/// `net/core/sock.c`, Linux 4.12). `/proc/net/udp` has this figure too, in a table of all sockets of the machine.
#[derive(Debug, Clone, Copy)]
struct MemoryInfo;

/// As in `asm-generic/socket.h`, which all architectures but SPARC have this one from.
const SO_MEMINFO: libc::c_int = 55;
const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;

getsockopt_impl!(
    MemoryInfo,
    libc::SOL_SOCKET,
    SO_MEMINFO,
    [u32; DROPS + 1],
    sockopt::GetStruct<[u32; DROPS + 1]>
);

/// Sockets for as many [`DatagramSocket`]s, all bound to one address. With several of them the kernel sends each datagram to the
/// [`home`](crate::shard::home) of its sender.
///
/// # Errors
/// The address cannot be bound: in use, not of this machine, or not allowed. Or the kernel cannot share it.
pub fn bind(listen: SocketAddr, count: u8) -> io::Result<Vec<std::net::UdpSocket>> {
    // Among sockets that share, the kernel would let another server's join, and tell nobody.
    let alone = std::net::UdpSocket::bind(listen)?;
    if count <= 1 {
        set_up(&alone, listen)?;
        return Ok(vec![alone]);
    }
    let mut address = alone.local_addr()?;
    drop(alone);
    let mut sockets = Vec::with_capacity(count.into());
    for _ in 0..count {
        let socket = share(address)?;
        set_up(&socket, listen)?;
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    if let Some(first) = sockets.first() {
        steer(first, count)?;
    }
    Ok(sockets)
}

fn share(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket.into())
}

fn set_up(socket: &std::net::UdpSocket, listen: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Where the system does not allow one of these, it is a little slower.
    if listen.is_ipv4() {
        let _ = setsockopt(socket, MtuDiscovery, &WHOLE);
    }
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
    Ok(())
}

/// A UDP socket that is read and written in batches: most of what a datagram costs is the system call for it.
pub struct DatagramSocket {
    socket: UdpSocket,
    inbound: Inbound,
    outbound: Outbound,
    unsent: u64,
    dropped: u64,
}

struct Inbound {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Box<[[u8; BUFFER_LEN]]>,
    /// From whom, and how long.
    received: Vec<(SocketAddr, usize)>,
}

struct Outbound {
    headers: MultiHeaders<SockaddrStorage>,
    waiting: Vec<(SocketAddr, Datagram)>,
}

impl DatagramSocket {
    /// A port on a socket that is bound and non-blocking. Call it within the runtime that drives the socket.
    ///
    /// # Errors
    /// The runtime cannot watch the socket.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            inbound: Inbound {
                headers: MultiHeaders::preallocate(BATCH, None),
                buffers: vec![[0; BUFFER_LEN]; BATCH].into(),
                received: Vec::with_capacity(BATCH),
            },
            outbound: Outbound {
                headers: MultiHeaders::preallocate(BATCH, None),
                waiting: Vec::with_capacity(BATCH),
            },
            unsent: 0,
            dropped: 0,
        })
    }

    /// Returns when there is something to receive.
    ///
    /// # Errors
    /// The socket has failed.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes up to [`BATCH`] datagrams. Returns how many; none when no more are there.
    pub fn receive(&mut self) -> usize {
        let Inbound {
            headers,
            buffers,
            received,
        } = &mut self.inbound;
        received.clear();
        let socket = &self.socket;
        // An error leaves nothing received: none is there, or the network has complained about something sent before.
        let _ = socket.try_io(Interest::READABLE, || {
            let mut buffers = buffers.iter_mut();
            let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = array::from_fn(|_| {
                let buffer = buffers.next().map(<[u8; BUFFER_LEN]>::as_mut_slice);
                [IoSliceMut::new(buffer.unwrap_or_default())]
            });
            let messages = recvmmsg(
                socket.as_raw_fd(),
                headers,
                slices.iter_mut(),
                MsgFlags::MSG_DONTWAIT,
                None,
            )?;
            received.extend(messages.map(|message| {
                let address = message.address.and_then(socket_address);
                (address.unwrap_or(NOWHERE), message.bytes)
            }));
            if received.len() < BATCH {
                // There are no more. To say so here saves asking once more before waiting.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        received.len()
    }

    /// One of the datagrams that were taken last, and who sent it.
    pub fn received(&self, index: usize) -> (SocketAddr, &[u8]) {
        let (address, len) = self.inbound.received[index];
        (address, &self.inbound.buffers[index][..len])
    }

    /// Has a datagram sent with the others of its batch.
    pub fn send(&mut self, address: SocketAddr, datagram: Datagram) {
        self.outbound.waiting.push((address, datagram));
        if self.outbound.waiting.len() >= BATCH {
            self.flush();
        }
    }

    /// Sends what waits to be. What the system does not take at once is dropped: CoAP repeats it.
    pub fn flush(&mut self) {
        let Outbound { headers, waiting } = &mut self.outbound;
        let mut rest = waiting.as_slice();
        while !rest.is_empty() {
            let done = match send_batch(&self.socket, headers, rest) {
                Ok(sent) => sent.max(1),
                Err(Errno::EAGAIN) => {
                    self.unsent += rest.len() as u64;
                    break;
                }
                // The first of them cannot be sent: its network is not reachable, say.
                Err(_) => {
                    self.unsent += 1;
                    1
                }
            };
            rest = &rest[done.min(rest.len())..];
        }
        waiting.clear();
    }

    /// Datagrams that the system did not take.
    pub const fn unsent(&self) -> u64 {
        self.unsent
    }

    /// Datagrams that the system dropped because its buffer was full. `None` where it does not tell.
    pub fn dropped(&mut self) -> Option<u64> {
        let counted = getsockopt(&self.socket, MemoryInfo).ok()?[DROPS];
        Some(add_up(&mut self.dropped, counted))
    }
}

/// The kernel's counter has 32 bits, and begins anew behind them.
#[allow(clippy::cast_possible_truncation)] // that is what it is about
fn add_up(total: &mut u64, counted: u32) -> u64 {
    *total += u64::from(counted.wrapping_sub(*total as u32));
    *total
}

fn send_batch(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrStorage>,
    batch: &[(SocketAddr, Datagram)],
) -> nix::Result<usize> {
    let batch = &batch[..batch.len().min(BATCH)];
    let slices: [Slices<'_>; BATCH] = array::from_fn(|index| {
        let parts = batch.get(index).map(|(_, datagram)| datagram.parts());
        Slices(parts.unwrap_or_default().map(IoSlice::new))
    });
    let addresses: [Option<SockaddrStorage>; BATCH] =
        array::from_fn(|index| batch.get(index).map(|(address, _)| (*address).into()));
    let sent = sendmmsg(
        socket.as_raw_fd(),
        headers,
        &slices[..batch.len()],
        &addresses[..batch.len()],
        [],
        MsgFlags::MSG_DONTWAIT,
    )?;
    Ok(sent.count())
}

/// The parts of a datagram.
struct Slices<'a>([IoSlice<'a>; 2]);

impl<'a> AsRef<[IoSlice<'a>]> for Slices<'a> {
    /// Without an empty second part, which would cost as much as one that is not.
    fn as_ref(&self) -> &[IoSlice<'a>] {
        match &self.0 {
            [first, second] if second.is_empty() => std::slice::from_ref(first),
            both => both,
        }
    }
}

/// Stands for the address that a datagram without one would have. The system gives each its sender's.
const NOWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

fn socket_address(address: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddr::V6((*v6).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(address: &str) -> std::net::UdpSocket {
        bind(address.parse().unwrap(), 1).unwrap().remove(0)
    }

    async fn exchange(address: &str) {
        let mut port = DatagramSocket::new(bound(address)).unwrap();
        let here = port.socket.local_addr().unwrap();
        let other = UdpSocket::from_std(bound(address)).unwrap();
        assert_eq!(port.receive(), 0);
        for number in 0..=64u8 {
            other.send_to(&[number; 3], here).await.unwrap();
        }
        let mut seen = Vec::new();
        while seen.len() <= BATCH {
            port.readable().await.unwrap();
            for index in 0..port.receive() {
                let (from, bytes) = port.received(index);
                assert_eq!(from, other.local_addr().unwrap());
                seen.push(bytes.to_vec());
            }
        }
        let sent: Vec<Vec<u8>> = (0..=64u8).map(|number| vec![number; 3]).collect();
        assert_eq!(seen, sent);
        for number in 0..200u8 {
            let body = vec![number; usize::from(number)].into();
            port.send(
                other.local_addr().unwrap(),
                Datagram::with_body(&[1, 2], body),
            );
        }
        port.flush();
        for number in 0..200u8 {
            let mut buffer = [0; 500];
            let len = other.recv(&mut buffer).await.unwrap();
            assert_eq!(buffer[..2], [1, 2]);
            assert_eq!(buffer[2..len], vec![number; usize::from(number)]);
        }
        assert_eq!(port.unsent(), 0);
    }

    #[tokio::test]
    async fn every_datagram_arrives_as_it_was_sent_and_from_whom() {
        exchange("127.0.0.1:0").await;
        exchange("[::1]:0").await;
    }

    #[test]
    fn a_counter_that_begins_anew_goes_on() {
        let mut total = 0;
        let counted = [5, 5, u32::MAX, 2, 3];
        let totals = counted.map(|counted| add_up(&mut total, counted));
        assert_eq!(totals, [5, 5, 0xFFFF_FFFF, 0x1_0000_0002, 0x1_0000_0003]);
    }

    #[tokio::test]
    async fn what_comes_too_fast_is_counted() {
        let mut port = DatagramSocket::new(bound("127.0.0.1:0")).unwrap();
        assert_eq!(port.dropped(), Some(0));
        let here = port.socket.local_addr().unwrap();
        let other = bound("127.0.0.1:0");
        let mut sent = 0;
        while port.dropped() == Some(0) {
            for _ in 0..1_000 {
                sent += u64::from(other.send_to(&[0; 1_000], here).is_ok());
            }
        }
        port.readable().await.unwrap();
        let mut taken = 0;
        loop {
            match port.receive() {
                0 => break,
                count => taken += count as u64,
            }
        }
        assert_eq!(taken + port.dropped().unwrap(), sent);
        assert!(taken > 500, "{taken}");
    }

    #[tokio::test]
    async fn one_that_cannot_be_sent_does_not_hold_up_the_others() {
        let mut port = DatagramSocket::new(bound("127.0.0.1:0")).unwrap();
        let other = UdpSocket::from_std(bound("127.0.0.1:0")).unwrap();
        port.send("[::1]:9".parse().unwrap(), [1].into());
        port.send(other.local_addr().unwrap(), [2].into());
        port.flush();
        let mut buffer = [0; 10];
        assert_eq!(other.recv(&mut buffer).await.unwrap(), 1);
        assert_eq!((buffer[0], port.unsent()), (2, 1));
    }
}
