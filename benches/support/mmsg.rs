//! Datagrams in batches: `recvmmsg` and `sendmmsg` over IPv4, each datagram with its own address of this machine.
//!
//! One socket stands for any number of devices: 127.0.0.0/8 is this machine's, and `IP_PKTINFO` says which of its
//! addresses a datagram leaves from or came to. Nix's `sendmmsg` has one such address for the whole batch, so that the
//! calls are made here.
#![allow(unsafe_code)]
#![allow(clippy::cast_possible_truncation)] // C's lengths, of batches and of structures

use std::{
    io, mem,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    ptr,
};

use nix::{
    libc,
    sys::socket::{setsockopt, sockopt},
};

/// Datagrams in one call.
pub(crate) const BATCH: usize = 64;
/// Longer than any datagram here.
const LONGEST: usize = 2_048;
/// What a socket of the load may hold unread: more than a server answers at once.
const RECEIVE_BUFFER: usize = 64 << 20;
/// Bytes of a control message with an address, with room to spare.
const CONTROL: usize = 64;

/// A socket, to send and to receive with.
pub(crate) struct Port {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) number: u16,
}

impl Port {
    /// On a port of the system's choosing. On 0.0.0.0 it stands for all addresses of this machine.
    pub(crate) fn open(address: Ipv4Addr) -> io::Result<Self> {
        let socket = UdpSocket::bind((address, 0))?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &address.is_unspecified())?;
        // only root may take more than `net.core.rmem_max`
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER))?;
        Ok(Self {
            number: socket.local_addr()?.port(),
            sender: Sender {
                socket: socket.try_clone()?,
                slots: Slots::new(),
                filled: 0,
            },
            receiver: Receiver {
                socket,
                slots: Slots::new(),
                filled: 0,
            },
        })
    }
}

/// Memory that the kernel reads and writes. The boxes are never exchanged, so that the headers may point into them.
struct Slots {
    buffers: Box<[[u8; LONGEST]]>,
    addresses: Box<[libc::sockaddr_in]>,
    controls: Box<[Control]>,
    _vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

impl Slots {
    fn new() -> Self {
        let mut buffers = vec![[0; LONGEST]; BATCH].into_boxed_slice();
        // SAFETY: all zeros are a valid value of the C structures
        let (address, header): (libc::sockaddr_in, libc::mmsghdr) = unsafe { mem::zeroed() };
        let mut addresses = vec![address; BATCH].into_boxed_slice();
        let mut controls = vec![Control([0; CONTROL]); BATCH].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = (buffers.iter_mut())
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: LONGEST,
            })
            .collect();
        let mut headers = vec![header; BATCH].into_boxed_slice();
        for (at, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_name = ptr::from_mut(&mut addresses[at]).cast();
            header.msg_hdr.msg_iov = &raw mut vectors[at];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = ptr::from_mut(&mut controls[at]).cast();
        }
        Self {
            buffers,
            addresses,
            controls,
            _vectors: vectors,
            headers,
        }
    }
}

/// A datagram that was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram<'a> {
    pub(crate) from: SocketAddrV4,
    /// The address that it was sent to, on a port for all of them.
    pub(crate) to: Ipv4Addr,
    pub(crate) bytes: &'a [u8],
}

/// Receives.
pub(crate) struct Receiver {
    pub(crate) socket: UdpSocket,
    slots: Slots,
    filled: usize,
}

impl Receiver {
    /// Takes what there is, at most [`BATCH`]. Waits for the first one as the socket does, unless told not to.
    pub(crate) fn receive(&mut self, wait: bool) -> io::Result<usize> {
        self.filled = 0;
        for header in &mut self.slots.headers {
            header.msg_hdr.msg_namelen = LEN_OF_ADDRESS;
            header.msg_hdr.msg_controllen = CONTROL;
        }
        let how = if wait {
            libc::MSG_WAITFORONE
        } else {
            libc::MSG_DONTWAIT
        };
        // SAFETY: the headers point at memory that `slots` owns, with the lengths that it has
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                self.slots.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                how,
                ptr::null_mut(),
            )
        };
        match usize::try_from(count) {
            Ok(count) => self.filled = count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => {}
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
        Ok(self.filled)
    }

    /// What was received last.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.filled).map(|at| {
            let header = &self.slots.headers[at];
            Datagram {
                from: address(&self.slots.addresses[at]),
                to: local_address(&header.msg_hdr),
                bytes: &self.slots.buffers[at][..header.msg_len as usize],
            }
        })
    }
}

/// Gathers datagrams and sends them together.
pub(crate) struct Sender {
    socket: UdpSocket,
    slots: Slots,
    filled: usize,
}

impl Sender {
    /// Puts a datagram behind the others, and sends them all when there is room for no more. `from` is an address
    /// of this machine, on a port for all of them.
    pub(crate) fn send(&mut self, from: Option<Ipv4Addr>, to: SocketAddrV4, bytes: &[u8]) {
        let at = self.filled;
        self.slots.buffers[at][..bytes.len()].copy_from_slice(bytes);
        let address = &mut self.slots.addresses[at];
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = to.port().to_be();
        address.sin_addr.s_addr = u32::from(*to.ip()).to_be();
        let header = &mut self.slots.headers[at].msg_hdr;
        header.msg_namelen = LEN_OF_ADDRESS;
        header.msg_controllen = CONTROL;
        // SAFETY: the header points at its own vector in `slots`
        unsafe { (*header.msg_iov).iov_len = bytes.len() };
        header.msg_controllen = from.map_or(0, |from| write_local_address(header, from));
        self.filled += 1;
        if self.filled == BATCH {
            self.flush();
        }
    }

    /// Sends what has gathered. What the system does not take is lost, as on any network.
    pub(crate) fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.filled {
            let left = &mut self.slots.headers[sent..self.filled];
            // SAFETY: the headers point at memory that `slots` owns, with the lengths written by `send`
            let count = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    left.as_mut_ptr(),
                    left.len() as libc::c_uint,
                    0,
                )
            };
            // an error concerns the first one
            sent += usize::try_from(count).unwrap_or(1).max(1);
        }
        self.filled = 0;
    }
}

const LEN_OF_ADDRESS: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;
const LEN_OF_INFO: libc::c_uint = size_of::<libc::in_pktinfo>() as libc::c_uint;

fn address(raw: &libc::sockaddr_in) -> SocketAddrV4 {
    let ip = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
    SocketAddrV4::new(ip, u16::from_be(raw.sin_port))
}

/// The address that the kernel says a datagram came to.
fn local_address(header: &libc::msghdr) -> Ipv4Addr {
    // SAFETY: the kernel has written whole control messages of `msg_controllen` bytes
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        if control.is_null() || (*control).cmsg_type != libc::IP_PKTINFO {
            return Ipv4Addr::UNSPECIFIED;
        }
        let info: libc::in_pktinfo = ptr::read_unaligned(libc::CMSG_DATA(control).cast());
        Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))
    }
}

/// Says which address a datagram leaves from. Returns the length of that.
fn write_local_address(header: &mut libc::msghdr, from: Ipv4Addr) -> usize {
    // SAFETY: `msg_control` has `CONTROL` bytes, more than a header and an `in_pktinfo` take, and is aligned for both
    unsafe {
        let mut info: libc::in_pktinfo = mem::zeroed();
        info.ipi_spec_dst.s_addr = u32::from(from).to_be();
        let control = libc::CMSG_FIRSTHDR(header);
        (*control).cmsg_level = libc::IPPROTO_IP;
        (*control).cmsg_type = libc::IP_PKTINFO;
        (*control).cmsg_len = libc::CMSG_LEN(LEN_OF_INFO) as usize;
        ptr::write_unaligned(libc::CMSG_DATA(control).cast(), info);
        libc::CMSG_SPACE(LEN_OF_INFO) as usize
    }
}
