//! What a peer's TCP has not acknowledged: one of three islands of unsafe code, beside `dtls/ffi.rs` and `store/files/mapped.rs`.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd as _;

use nix::libc::{TIOCOUTQ, c_int};
use tokio::net::TcpStream;

nix::ioctl_read_bad!(outq, TIOCOUTQ, c_int);

/// Bytes that were written to the socket and that the peer has not acknowledged (`SIOCOUTQ`, tcp(7)); also once the connection is
/// broken. Nothing where the system does not tell.
pub(super) fn unacknowledged(socket: &TcpStream) -> Option<u64> {
    let mut bytes: c_int = 0;
    // SAFETY: the descriptor is the socket's, which is borrowed; the kernel writes one int to a place that has room for one.
    unsafe { outq(socket.as_raw_fd(), &raw mut bytes) }.ok()?;
    u64::try_from(bytes).ok()
}
