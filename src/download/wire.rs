//! A connection's bytes, with or without TLS.

use std::{
    cell::RefCell,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use nix::{libc::c_int, sys::sendfile::sendfile};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_openssl::SslStream;

use super::unsent::unacknowledged;

/// A record of TLS holds so much (RFC 8446 §5.1).
const RECORD_BYTES: usize = 16 * 1024;

thread_local! {
    /// What is read from a file before it is encrypted. A connection that waits holds nothing of it.
    static RECORD: RefCell<Box<[u8; RECORD_BYTES]>> = RefCell::new(Box::new([0; RECORD_BYTES]));
}

/// A socket that counts what it was given, so that what the peer's TCP has acknowledged is known to the byte.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// Bytes that the kernel has taken.
    written: u64,
    /// Whether it was told that no more come. That takes a number of its own among the bytes (RFC 9293 §3.4).
    ended: bool,
}

impl Socket {
    /// A socket to which nothing was written.
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            written: 0,
            ended: false,
        }
    }

    /// Bytes that the kernel has taken so far.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Of these, how many the peer has acknowledged; also once the connection is broken. None of them where the system does not tell:
    /// what is not shown does not count.
    pub(super) fn acknowledged(&self) -> u64 {
        let left = unacknowledged(&self.stream).unwrap_or(u64::MAX);
        self.written
            .saturating_sub(left.saturating_sub(self.ended.into()))
    }

    /// Has the kernel hold so many bytes, about, that have not been sent.
    pub(super) fn hold_unsent(&self, bytes: u32) {
        // an option that is not essential
        let _ = socket2::SockRef::from(&self.stream).set_tcp_notsent_lowat(bytes);
    }

    /// Waits until the connection has failed.
    pub(super) async fn failed(&self) {
        // an error of the call is one of the runtime's end
        let _ = self.stream.ready(Interest::ERROR).await;
    }

    /// Whether the peer has acknowledged everything, and the end too if it was said. True where the system does not tell.
    pub(super) fn is_settled(&self) -> bool {
        unacknowledged(&self.stream).is_none_or(|left| left == 0)
    }

    /// Whether an error has come that nobody has seen yet. It is gone then.
    pub(super) fn take_failed(&self) -> bool {
        self.stream.take_error().is_ok_and(|error| error.is_some())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let len = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.written += len as u64;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        self.ended = true;
        Poll::Ready(Ok(()))
    }
}

/// A connection. Buffers are the caller's, and nothing of a file is kept between two calls.
pub(super) trait Wire: Unpin + Send {
    /// Bytes of a file that go out at once.
    const CHUNK_BYTES: u64;

    /// Whether what is sent is of use as a whole only, as a record of TLS is, and whether an end is said with bytes (RFC 8446 §6.1).
    const IN_RECORDS: bool;

    /// The socket.
    fn socket(&self) -> &Socket;

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
impl Wire for Socket {
    const CHUNK_BYTES: u64 = 256 * 1024;
    const IN_RECORDS: bool = false;

    fn socket(&self) -> &Socket {
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
            ready!(self.stream.poll_write_ready(context))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut offset = i64::try_from(at).map_err(io::Error::other)?;
                Ok(sendfile(&self.stream, file, Some(&mut offset), most)?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(0) => return Poll::Ready(Err(cut_short())),
                Ok(bytes) => {
                    self.written += bytes as u64;
                    return Poll::Ready(Ok(bytes as u64));
                }
            }
        }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), context)
    }
}

/// A record of the file is read and encrypted when the socket can take bytes, so that a slow device has no record waiting.
impl Wire for SslStream<Socket> {
    const CHUNK_BYTES: u64 = RECORD_BYTES as u64;
    const IN_RECORDS: bool = true;

    fn socket(&self) -> &Socket {
        self.get_ref()
    }

    fn poll_read(&mut self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(read(self, context, into));
        // an end that was not announced is one all the same: requests say themselves where they end
        Poll::Ready(match read {
            Err(error) if is_unannounced_end(&error) => Ok(0),
            read => read,
        })
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
        ready!(self.get_ref().stream.poll_write_ready(context))?;
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

/// Whether the peer has closed its side without a `close_notify`, as many small clients do.
fn is_unannounced_end(error: &io::Error) -> bool {
    /// `SSL_R_UNEXPECTED_EOF_WHILE_READING` of OpenSSL 3's `sslerr.h`.
    const UNEXPECTED_EOF: c_int = 294;
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    let stack = error.and_then(openssl::ssl::Error::ssl_error);
    stack.is_some_and(|stack| {
        let mut codes = stack
            .errors()
            .iter()
            .map(openssl::error::Error::reason_code);
        codes.any(|code| code == UNEXPECTED_EOF)
    })
}

fn cut_short() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the package's file is shorter than the package",
    )
}
