use std::io::{self, Read, Write};

use super::record;

/// What stands for the network under one peer's `Ssl`: one datagram comes in at a time, and every
/// write is one that goes out.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    inbound: Option<Vec<u8>>,
    outbound: Vec<Vec<u8>>,
    /// The number of the next record in the clear.
    ///
    /// They are numbered here, not by OpenSSL, because flights are repeated here (see `handshake`):
    /// a repeated record needs a new number (RFC 6347 §4.1), and the library must not use it again.
    /// In epoch 0 nothing protects the number.
    next: Option<u64>,
}

impl Pipe {
    /// Lets the next read take `datagram`.
    pub(super) fn put(&mut self, datagram: &[u8]) {
        self.inbound = Some(datagram.to_vec());
    }

    /// What was written since.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.outbound)
    }

    /// Makes a repetition of a datagram that was written before.
    pub(super) fn repeat(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut again = datagram.to_vec();
        record::renumber(&mut again, &mut self.next);
        again
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(datagram) = self.inbound.take() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        // What does not fit is lost, as on a socket.
        let len = datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram[..len]);
        Ok(len)
    }
}

impl Write for Pipe {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        let numbered = self.repeat(datagram);
        self.outbound.push(numbered);
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
