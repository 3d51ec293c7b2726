//! Downloads: with `hyper`, or by hand as IoTDA's C kit does.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use md5::Md5;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::{
    shared::Shared,
    tls::{self, Stream},
};
use crate::mqtt::{
    device::{DownloadFailure, Fetched, Request},
    http,
};

/// A server that is silent for so long has gone.
const SILENCE: Duration = Duration::from_mins(1);
/// Progress is told this often in a download.
const STEPS: u64 = 20;

/// What a device hears of its download.
#[derive(Debug)]
pub(super) enum Told {
    Progress { received: u64, size: u64 },
    Ended(Result<Fetched, DownloadFailure>),
}

/// What is there of a package. Its bytes are not kept.
#[derive(Debug, Clone, Default)]
struct Content {
    received: u64,
    /// Of all of it; 0 if that is not known.
    size: u64,
    sha256: Sha256,
    md5: Md5,
}

/// The same, of one device: what a download leaves to the next that resumes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Partial(Arc<Mutex<Content>>);

impl Partial {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self) -> u64 {
        self.content().received
    }

    fn clear(&self) {
        *self.content() = Content::default();
    }

    /// All of it is so long.
    fn is_of(&self, size: u64) {
        self.content().size = size;
    }

    fn is_whole(&self) -> bool {
        let content = self.content();
        content.size > 0 && content.received == content.size
    }

    fn take(&self, bytes: &[u8]) {
        let mut content = self.content();
        content.received += bytes.len() as u64;
        content.sha256.update(bytes);
        content.md5.update(bytes);
    }

    fn fetched(&self) -> Fetched {
        let content = self.content().clone();
        Fetched {
            bytes: content.received,
            sha256: hex::encode(content.sha256.finalize()),
            md5: hex::encode(content.md5.finalize()),
        }
    }
}

/// One download.
pub(super) struct Download<'s> {
    pub(super) shared: &'s Shared,
    pub(super) request: Request,
    pub(super) partial: Partial,
    pub(super) tell: mpsc::Sender<Told>,
}

impl Download<'_> {
    /// Downloads, tells of the progress, and at last how it ended.
    pub(super) async fn run(mut self) {
        if self.request.from == 0 {
            self.partial.clear();
        }
        // the last bytes may have come after the device was told
        self.request.from = self.partial.received();
        // nothing is left to ask for
        let result = if self.partial.is_whole() {
            Ok(self.partial.fetched())
        } else {
            self.fetch().await
        };
        // Who is told has been switched off otherwise.
        let _ = self.tell.send(Told::Ended(result)).await;
    }

    async fn fetch(&self) -> Result<Fetched, DownloadFailure> {
        let unreachable = |error: &dyn std::fmt::Display| {
            DownloadFailure::Unreachable(format!("{}: {error}", self.request.url))
        };
        let uri: Uri = self.request.url.parse().map_err(|e| unreachable(&e))?;
        let tls = match uri.scheme_str() {
            Some("https") => Some(&self.shared.target.authorities),
            Some("http") => None,
            _ => return Err(unreachable(&"neither http nor https")),
        };
        let host = uri.host().unwrap_or_default();
        let port = uri
            .port_u16()
            .unwrap_or(if tls.is_some() { 443 } else { 80 });
        let opened = timeout(SILENCE, tls::connect(host, port, tls)).await;
        let stream = opened
            .map_err(|e| unreachable(&e))?
            .map_err(|e| unreachable(&e))?;
        if self.request.by_hand {
            self.by_hand(stream, &uri).await
        } else {
            self.by_library(stream, &uri).await
        }
    }

    async fn by_library(
        &self,
        stream: Box<dyn Stream>,
        uri: &Uri,
    ) -> Result<Fetched, DownloadFailure> {
        let unreachable =
            |error: hyper::Error| DownloadFailure::Unreachable(format!("{uri}: {error}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(unreachable)?;
        let mut background = JoinSet::new();
        background.spawn(connection);
        let answer = timeout(SILENCE, sender.send_request(self.request(uri)?)).await;
        let answer = answer
            .map_err(|_| DownloadFailure::Unreachable(format!("{uri}: no answer")))?
            .map_err(unreachable)?;
        let length = answer.headers().get(header::CONTENT_LENGTH);
        let length = length
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let size = self.begin(answer.status().as_u16(), length)?;
        let mut body = answer.into_body();
        loop {
            match timeout(SILENCE, body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.take(bytes, size).await?;
                    }
                }
                Ok(None) => return self.finish(size),
                Ok(Some(Err(_))) | Err(_) => return Err(self.cut()),
            }
        }
    }

    fn request(&self, uri: &Uri) -> Result<hyper::Request<Empty<Bytes>>, DownloadFailure> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let mut request = hyper::Request::get(path)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, "cellwise-sim")
            .header(header::ACCEPT, "*/*");
        if let Some(token) = &self.request.bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.0));
        }
        if self.request.from > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", self.request.from));
        }
        request
            .body(Empty::new())
            .map_err(|error| DownloadFailure::Unreachable(format!("{uri}: {error}")))
    }

    async fn by_hand(
        &self,
        mut stream: Box<dyn Stream>,
        uri: &Uri,
    ) -> Result<Fetched, DownloadFailure> {
        let unreachable =
            |error: &dyn std::fmt::Display| DownloadFailure::Unreachable(format!("{uri}: {error}"));
        let request = http::request(&self.request, uri);
        stream
            .write_all(&request)
            .await
            .map_err(|e| unreachable(&e))?;
        let mut piece = vec![0; http::PIECE];
        let len = read(&mut stream, &mut piece).await;
        let len = len.map_err(|e| unreachable(&e))?;
        let head = http::head(&piece[..len]).map_err(|e| unreachable(&e))?;
        let size = self.begin(head.status, head.length)?;
        self.take(&piece[head.body_at..len], size).await?;
        while self.partial.received() < size {
            match read(&mut stream, &mut piece).await {
                Ok(0) | Err(_) => return Err(self.cut()),
                Ok(len) => self.take(&piece[..len], size).await?,
            }
        }
        self.finish(size)
    }

    /// How large the package is, if the answer is one. Whoever asked for a part and gets all begins anew.
    fn begin(&self, status: u16, length: u64) -> Result<u64, DownloadFailure> {
        match status {
            200 => self.partial.clear(),
            206 if self.request.from > 0 => {}
            _ => return Err(DownloadFailure::Status(status)),
        }
        let size = self.partial.received() + length;
        self.partial.is_of(size);
        Ok(size)
    }

    /// Takes bytes step by step, as they would come over a slow line: whoever is told may stop in between.
    async fn take(&self, bytes: &[u8], size: u64) -> Result<(), DownloadFailure> {
        let step = usize::try_from(size / STEPS).unwrap_or(usize::MAX).max(1);
        let most = self.request.stop_after.unwrap_or(u64::MAX);
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let before = self.partial.received();
            let left = usize::try_from(most.saturating_sub(before)).unwrap_or(usize::MAX);
            let (piece, rest) = bytes.split_at(step.min(left).min(bytes.len()));
            bytes = rest;
            self.partial.take(piece);
            self.shared.count_bytes(piece.len());
            let received = self.partial.received();
            let told = |bytes: u64| bytes * STEPS / size.max(1);
            if told(received) > told(before) {
                // Who is told has been switched off otherwise.
                let _ = self.tell.send(Told::Progress { received, size }).await;
            }
            if received >= most {
                return Err(self.cut());
            }
        }
        Ok(())
    }

    fn finish(&self, size: u64) -> Result<Fetched, DownloadFailure> {
        if self.partial.received() == size {
            Ok(self.partial.fetched())
        } else {
            Err(self.cut())
        }
    }

    fn cut(&self) -> DownloadFailure {
        let received = self.partial.received();
        DownloadFailure::Cut { received }
    }
}

async fn read(stream: &mut Box<dyn Stream>, piece: &mut [u8]) -> io::Result<usize> {
    timeout(SILENCE, stream.read(piece)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_whole_is_known_to_be_until_it_is_begun_anew() {
        let partial = Partial::default();
        assert!(!partial.is_whole(), "its size is not known");
        partial.is_of(3);
        partial.take(b"ab");
        assert!(!partial.is_whole());
        partial.take(b"c");
        assert!(partial.is_whole());
        partial.clear();
        assert!(!partial.is_whole());
    }
}
