use std::io::{self, Read, Write};

/// What stands for the network under one peer's `Ssl`: one datagram comes in at a time, and every
/// write is one that goes out.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    inbound: Option<Vec<u8>>,
    outbound: Vec<Vec<u8>>,
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
        self.outbound.push(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
