use std::{
    io::{self, Read, Write},
    net::TcpListener,
    sync::Arc,
};

use mio::net::TcpStream;
use openssl::{
    error::ErrorStack,
    ssl::{ErrorCode, Ssl, SslStream},
};

/// Begins a TLS connection with the certificate of now.
pub type TlsBegin = Arc<dyn Fn() -> Result<Ssl, ErrorStack> + Send + Sync>;

/// A connection to read from and write to, which never waits.
pub(super) enum Socket {
    Plain(TcpStream),
    Secured(Box<SslStream<TcpStream>>),
}

impl Socket {
    pub(super) fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secured(stream) => stream.get_mut(),
        }
    }

    /// Whether a read that did not fill its buffer has taken all that was there.
    pub(super) const fn reads_all(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            // a record at a time
            Self::Secured(_) => false,
        }
    }

    /// As of [`Read`], with [`io::ErrorKind::WouldBlock`] where there is nothing.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Secured(stream) => match stream.ssl_read(buffer) {
                Ok(read) => Ok(read),
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => Ok(0),
                Err(error) => Err(blocked(error)),
            },
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Secured(stream) => stream.ssl_write(bytes).map_err(blocked),
        }
    }

    /// Says good-bye as far as that is possible at once. The system sends what it has taken, and closes.
    pub(super) fn close(mut self) {
        if let Self::Secured(stream) = &mut self {
            let _ = stream.shutdown(); // it is over anyhow
        }
    }
}

/// Has nobody wait for the listener, and sets what holds for each connection that is accepted there: Linux has it inherit that (tcp(7)), so that a connection costs no system
/// call for it.
///
/// Small packets that answer each other leave at once. The system asks whether the peer is there, where nothing was heard for an hour:
/// three hours later it is over. Devices that sleep in between are not to be taken for gone (eDRX of NB-IoT: up to 10,485.76 s, 3GPP
/// TS 24.008 table 10.5.5.32); without it one that is gone is not missed while its keep-alive is not enforced.
pub(super) fn prepare(listener: &TcpListener) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    const SILENT_S: u32 = 3_600;
    const BETWEEN_S: u32 = 900;
    const PROBES: u32 = 12;
    listener.set_nonblocking(true)?;
    setsockopt(listener, sockopt::TcpNoDelay, &true)?;
    setsockopt(listener, sockopt::KeepAlive, &true)?;
    setsockopt(listener, sockopt::TcpKeepIdle, &SILENT_S)?;
    setsockopt(listener, sockopt::TcpKeepInterval, &BETWEEN_S)?;
    setsockopt(listener, sockopt::TcpKeepCount, &PROBES)?;
    Ok(())
}

fn blocked(error: openssl::ssl::Error) -> io::Error {
    match error.code() {
        ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => io::ErrorKind::WouldBlock.into(),
        _ => (error.into_io_error()).unwrap_or_else(|error| io::Error::other(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{getsockopt, sockopt};

    use super::*;

    #[test]
    fn a_peer_that_is_gone_is_missed_within_hours() {
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        prepare(&listener).unwrap();
        let _peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(getsockopt(&stream, sockopt::TcpNoDelay).unwrap());
        assert!(getsockopt(&stream, sockopt::KeepAlive).unwrap());
        let idle = getsockopt(&stream, sockopt::TcpKeepIdle).unwrap();
        let between = getsockopt(&stream, sockopt::TcpKeepInterval).unwrap();
        let probes = getsockopt(&stream, sockopt::TcpKeepCount).unwrap();
        assert_eq!(idle + between * probes, 4 * 3_600);
    }
}
