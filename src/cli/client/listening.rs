use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connection that is listened to although the other side takes nothing more: it may have said why.
#[derive(Debug)]
pub(super) struct Listening {
    tcp: TcpStream,
    is_deaf: bool,
}

impl Listening {
    /// From now on.
    pub(super) const fn to(tcp: TcpStream) -> Self {
        Self {
            tcp,
            is_deaf: false,
        }
    }

    /// What cannot be written counts as written.
    fn or_deaf<T>(&mut self, done: Poll<io::Result<T>>, as_if: T) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(Err(_)) => {
                self.is_deaf = true;
                Poll::Ready(Ok(as_if))
            }
            done => done,
        }
    }
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.or_deaf(written, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.tcp).poll_flush(cx);
        self.or_deaf(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.tcp).poll_shutdown(cx);
        self.or_deaf(shut, ())
    }
}
