//! Which of the sockets of a port a datagram goes to.
//!
//! The kernel runs a small program for each datagram (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)) that computes the same as
//! [`home`](crate::shard::home()): whoever keeps its address is always heard on the same shard, before a restart and after it, and a device
//! can be put where it will be heard. A record of DTLS with a Connection ID (RFC 9146 §4) goes to the shard that gave the ID, from whatever
//! address it comes.

use std::{io, os::fd::AsFd};

use nix::{
    libc::{self, sock_filter, sock_fprog},
    sys::socket::{SetSockOpt as _, sockopt::AttachReusePortCbpf},
};

use crate::shard::{SHIFT, SPREAD};

/// Has the kernel send each datagram to the socket of its [`home`](crate::shard::home()): `socket` is one of `shards`, which were bound to the
/// address one after the other.
///
/// # Errors
/// The kernel does not know how (Linux before 4.5).
pub(super) fn steer(socket: &impl AsFd, shards: u8) -> io::Result<()> {
    let mut program = program(shards);
    let program = sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(0),
        filter: program.as_mut_ptr(),
    };
    Ok(AttachReusePortCbpf.set(socket, &program)?)
}

/// Where the kernel finds the head of the IP packet.
#[allow(clippy::cast_sign_loss)] // this is how offsets are told from it
const NETWORK: u32 = libc::SKF_NET_OFF as u32;

/// [`home`](crate::shard::home()) for the kernel. It knows IPv4 headers without options and IPv6 headers without extensions; of others it makes
/// something else, but always the same.
fn program(shards: u8) -> Vec<sock_filter> {
    const V4: [u32; 2] = [12, 20];
    const V6: [u32; 5] = [8, 12, 16, 20, 40];
    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_ABS | libc::BPF_B;
    /// The type of such a record, and where the first byte of its ID is: behind type, version, epoch and number.
    const TLS12_CID: u32 = 25;
    const ID_OFFSET: u32 = 11;
    // offsets below NETWORK are into what the datagram carries
    let mut program = vec![
        statement(LOAD_BYTE, 0),
        jump(TLS12_CID, 0, 3),
        statement(LOAD_BYTE, ID_OFFSET),
        alu(libc::BPF_MOD, u32::from(shards.max(1))),
        statement(libc::BPF_RET | libc::BPF_A, 0),
        // the version is in the first four bits
        load(libc::BPF_B, 0),
        alu(libc::BPF_RSH, 4),
    ];
    let v4 = sum(&V4);
    let v6 = sum(&V6);
    // of IPv4 the way leads past what is for IPv6
    program.push(jump(6, 0, u8::try_from(v6.len() + 1).unwrap_or(0)));
    program.extend(v6);
    let past = u32::try_from(v4.len()).unwrap_or(0);
    program.push(statement(libc::BPF_JMP | libc::BPF_JA, past));
    program.extend(v4);
    program.extend([
        alu(libc::BPF_MUL, SPREAD),
        alu(libc::BPF_RSH, SHIFT),
        alu(libc::BPF_MOD, u32::from(shards.max(1))),
        statement(libc::BPF_RET | libc::BPF_A, 0),
    ]);
    program
}

/// Adds up the words of an address, the last offset is that of the port.
fn sum(offsets: &[u32]) -> Vec<sock_filter> {
    let mut program = Vec::new();
    for (index, offset) in offsets.iter().enumerate() {
        let last = index + 1 == offsets.len();
        program.push(load(if last { libc::BPF_H } else { libc::BPF_W }, *offset));
        if index > 0 {
            program.push(statement(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0));
        }
        if !last {
            program.push(statement(libc::BPF_MISC | libc::BPF_TAX, 0));
        }
    }
    program
}

fn load(size: u32, offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_ABS | size, NETWORK + offset)
}

fn alu(operation: u32, operand: u32) -> sock_filter {
    statement(libc::BPF_ALU | libc::BPF_K | operation, operand)
}

/// Leaves out so many where the value is `k`, or is not.
fn jump(k: u32, equal: u8, other: u8) -> sock_filter {
    sock_filter {
        jt: equal,
        jf: other,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k)
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).unwrap_or(0), // codes have 16 bits
        jt: 0,
        jf: 0,
        k,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, UdpSocket},
        time::Duration,
    };

    use crate::{runtime::bind, shard::home};

    /// What arrives at which of the sockets of a port is what `home` says.
    fn arrives_at_home(listen: &str, from: &str) {
        const SHARDS: u8 = 3;
        let sockets = bind(listen.parse().unwrap(), SHARDS).unwrap();
        let mut here = sockets[0].local_addr().unwrap();
        if here.ip().is_unspecified() {
            here.set_ip(from.parse::<SocketAddr>().unwrap().ip());
        }
        let mut seen = [0; SHARDS as usize];
        for _ in 0..50 {
            let device = UdpSocket::bind(from).unwrap();
            device.send_to(b"x", here).unwrap();
            let home = home(device.local_addr().unwrap(), SHARDS);
            let socket = &sockets[home.index()];
            socket.set_nonblocking(false).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let mut buffer = [0; 8];
            let (len, peer) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((len, peer.port()), (1, device.local_addr().unwrap().port()));
            seen[home.index()] += 1;
        }
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }

    #[test]
    fn a_datagram_arrives_at_the_home_of_its_sender() {
        arrives_at_home("127.0.0.1:0", "127.0.0.1:0");
        arrives_at_home("[::1]:0", "[::1]:0");
        arrives_at_home("[::]:0", "127.0.0.1:0");
    }

    #[test]
    fn a_record_with_an_id_arrives_where_the_id_was_given() {
        const SHARDS: u8 = 3;
        let sockets = bind("127.0.0.1:0".parse().unwrap(), SHARDS).unwrap();
        let here = sockets[0].local_addr().unwrap();
        for given in 0..2 * SHARDS {
            for _ in 0..5 {
                let device = UdpSocket::bind("127.0.0.1:0").unwrap();
                let mut record = vec![25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, given];
                record.extend([7; 30]);
                device.send_to(&record, here).unwrap();
                let socket = &sockets[usize::from(given % SHARDS)];
                socket.set_nonblocking(false).unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_secs(10)))
                    .unwrap();
                let mut buffer = [0; 64];
                let (_, peer) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!(peer, device.local_addr().unwrap());
            }
        }
    }
}
