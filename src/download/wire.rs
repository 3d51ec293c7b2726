//! A connection's bytes, with or without TLS.

use std::{
    cell::RefCell,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use nix::sys::sendfile::sendfile;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_openssl::SslStream;

/// A record of TLS holds so much (RFC 8446 §5.1).
const RECORD_BYTES: usize = 16 * 1024;

thread_local! {
    /// What is read from a file before it is encrypted. A connection that waits holds nothing of it.
    static RECORD: RefCell<Box<[u8; RECORD_BYTES]>> = RefCell::new(Box::new([0; RECORD_BYTES]));
}

/// A connection. Buffers are the caller's, and nothing of a file is kept between two calls.
pub(super) trait Wire: Unpin + Send {
    /// Bytes of a file that go out at once.
    const CHUNK_BYTES: u64;

    /// The socket.
    fn socket(&self) -> &TcpStream;

    /// Reads what is there; 0 at the end.
    fn poll_read(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes bytes.
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Writes up to `most` bytes of the file from `at` on, and says how many. A call that is repeated because the last one was
    /// pending has to have the same arguments.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        file: &File,
        at: u64,
        most: u64,
    ) -> Poll<io::Result<u64>>;

    /// Says that no more bytes come.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// The kernel moves the file's pages to the socket: sendfile(2).
impl Wire for TcpStream {
    const CHUNK_BYTES: u64 = 256 * 1024;

    fn socket(&self) -> &TcpStream {
        self
    }

    fn poll_read(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        read(self, context, into)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(self), context, bytes)
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        file: &File,
        at: u64,
        most: u64,
    ) -> Poll<io::Result<u64>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        loop {
            ready!(self.poll_write_ready(context))?;
            let sent = self.try_io(Interest::WRITABLE, || {
                let mut offset = i64::try_from(at).map_err(io::Error::other)?;
                Ok(sendfile(&*self, file, Some(&mut offset), most)?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(cut_short())),
                sent => return Poll::Ready(sent.map(|bytes| bytes as u64)),
            }
        }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), context)
    }
}

/// A record of the file is read and encrypted when the socket can take bytes, so that a slow device has no record waiting.
impl Wire for SslStream<TcpStream> {
    const CHUNK_BYTES: u64 = RECORD_BYTES as u64;

    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }

    fn poll_read(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        read(self, context, into)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(self), context, bytes)
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        file: &File,
        at: u64,
        most: u64,
    ) -> Poll<io::Result<u64>> {
        ready!(self.get_ref().poll_write_ready(context))?;
        RECORD.with_borrow_mut(|record| {
            let len = RECORD_BYTES.min(usize::try_from(most).unwrap_or(RECORD_BYTES));
            let record = record.get_mut(..len).unwrap_or_default();
            // What is encrypted and has not left is sent on a repeated call; OpenSSL wants the same bytes then, and the
            // file never changes.
            if let Err(error) = file.read_exact_at(record, at) {
                let error = match error.kind() {
                    io::ErrorKind::UnexpectedEof => cut_short(),
                    _ => error,
                };
                return Poll::Ready(Err(error));
            }
            let sent = ready!(AsyncWrite::poll_write(Pin::new(self), context, record))?;
            Poll::Ready(Ok(sent as u64))
        })
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), context)
    }
}

fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(into);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

fn cut_short() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the package's file is shorter than the package",
    )
}
