//! What is sent, and how far that is.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::sleep;

/// Read of a file at once.
const CHUNK: usize = 64 * 1024;

/// How often something happened.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Rc<Cell<u64>>);

impl Progress {
    pub(super) fn step(&self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Ends when nothing has happened for so long, at least.
pub(super) async fn silence(progress: &Progress, span: Duration) {
    let mut seen = None;
    while seen != Some(progress.0.get()) {
        seen = Some(progress.0.get());
        sleep(span).await;
    }
}

/// What is sent.
pub(super) struct Outgoing {
    content: Box<dyn io::Read>,
    left: u64,
    pub(super) progress: Progress,
    /// Why the content could not be read.
    pub(super) unread: Rc<RefCell<Option<io::Error>>>,
}

impl Outgoing {
    /// `len` bytes of `content`.
    pub(super) fn of(content: Box<dyn io::Read>, len: u64) -> Self {
        Self {
            content,
            left: len,
            progress: Progress::default(),
            unread: Rc::default(),
        }
    }

    /// Nothing.
    pub(super) fn nothing() -> Self {
        Self::of(Box::new(io::empty()), 0)
    }

    /// A text.
    pub(super) fn text(text: String) -> Self {
        let len = text.len() as u64;
        Self::of(Box::new(io::Cursor::new(text)), len)
    }

    fn read(&mut self) -> io::Result<Bytes> {
        let most = usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK));
        let mut chunk = vec![0; most];
        let read = self.content.read(&mut chunk)?;
        if read == 0 {
            let shorter = "it became shorter while it was sent";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, shorter));
        }
        chunk.truncate(read);
        self.left -= read as u64;
        Ok(chunk.into())
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    /// Nothing else is to be done meanwhile, so that a file may be read here.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.progress.step();
        Poll::Ready(Some(self.read().map(Frame::data).map_err(|error| {
            let kind = error.kind();
            self.unread.replace(Some(error));
            kind.into()
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
