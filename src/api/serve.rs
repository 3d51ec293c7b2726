//! Serves the router over HTTP/1.1, with or without TLS, within bounds: connections, the time of a handshake, and that in
//! which a request's head has to arrive.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    future::Future as _,
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use bytes::Bytes;
use governor::{Quota, RateLimiter};
use hyper::{
    Request,
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::Sleep,
};
use tower::Service;

use super::source::bucket;
use crate::{
    config::{Config, Settings},
    tls::Tls,
};

/// For a TLS handshake. Whoever makes one has a place already.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the whole head of a request, also of the next one on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// A body may come as slowly as this after its first [`BODY_GRACE`], bytes per second.
const LEAST_BYTES_PER_SECOND: u64 = 1_024;
/// For the beginning of a body.
const BODY_GRACE: Duration = HEAD_TIMEOUT;
/// Requests under way when the server stops have this long to end.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// Lines a second about connections that cannot be accepted: whoever opens many does not fill the disk.
const ERROR_LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(1).unwrap();
/// The system has no file descriptor, or the like.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// Who may connect to a listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// What listens, for the log.
    pub what: &'static str,
    /// Connections at the same time. Further ones wait to be accepted.
    pub connections: usize,
    /// Connections at the same time of one source: an IPv4 address, an IPv6 /64. A proxy holds as many as it likes.
    pub per_source: usize,
    /// The proxies.
    pub proxies: fn(&Config) -> &[IpNet],
}

impl Bounds {
    /// Of the admin API.
    pub const OPERATORS: Self = Self {
        what: "the admin API",
        connections: 1_024,
        per_source: 128,
        proxies: |config| &config.admin.trusted_proxies,
    };
}

/// Serves until `stop` turns true, and then ends what is under way.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    settings: Settings,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let sources = Sources {
        counts: Arc::default(),
        most: bounds.per_source,
    };
    let lines = RateLimiter::direct(Quota::per_second(ERROR_LINES_PER_SECOND));
    loop {
        let next = async {
            // Never closed, so that there is always a permit to come.
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if lines.check().is_ok() {
                    tracing::warn!(%error, "{} cannot accept a connection", bounds.what);
                }
                tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
                continue;
            }
        };
        let address = peer.ip().to_canonical();
        let config = settings.get();
        let proxies = (bounds.proxies)(&config);
        let place = if proxies.iter().any(|network| network.contains(&address)) {
            None
        } else {
            match sources.place(bucket(address)) {
                Some(place) => Some(place),
                None => continue, // closes it
            }
        };
        let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            // What goes wrong on a connection is its client's business.
            match tls {
                None => converse(stream, peer, router, watcher).await,
                Some(tls) => converse_over_tls(tls, stream, peer, router, watcher, stop).await,
            }
            drop((slot, place));
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(STOP_WITHIN, graceful.shutdown()).await; // the rest is cut off
}

/// The same over TLS, once the handshake is done.
async fn converse_over_tls(
    tls: Tls,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    watcher: Watcher,
    mut stop: watch::Receiver<bool>,
) {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    match accepted {
        Ok(Ok(stream)) => converse(stream, peer, router, watcher).await,
        Ok(Err(error)) => tracing::debug!(%peer, error, "no TLS connection"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

/// Answers the requests of a connection until it ends.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    watcher: Watcher,
) {
    let service =
        service_fn(move |request: Request<Incoming>| answer(router.clone(), peer, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let _ = watcher.watch(connection).await;
}

async fn answer(
    mut router: Router,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<axum::response::Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    // A router is always ready.
    router
        .call(request.map(|body| Body::new(Paced::new(body))))
        .await
}

/// How many connections each source has.
#[derive(Debug, Clone)]
struct Sources {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    /// As many as each may have.
    most: usize,
}

/// One of a source's connections, until it is dropped.
struct Place {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// `None` when the source has as many as it may have.
    fn place(&self, source: IpAddr) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place {
            sources: self.clone(),
            source,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = (self.sources.counts.lock()).unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(self.source) {
            *count.get_mut() -= 1; // this one was counted
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A body that has to arrive at [`LEAST_BYTES_PER_SECOND`], not counting the first [`BODY_GRACE`].
struct Paced {
    body: Incoming,
    received: u64,
    began: tokio::time::Instant,
    deadline: Pin<Box<Sleep>>,
}

impl Paced {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            received: 0,
            began: tokio::time::Instant::now(),
            deadline: Box::pin(tokio::time::sleep(BODY_GRACE)),
        }
    }
}

impl hyper::body::Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                let earned = Duration::from_secs(self.received / LEAST_BYTES_PER_SECOND);
                let deadline = self.began + BODY_GRACE + earned;
                self.deadline.as_mut().reset(deadline);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        self.deadline.as_mut().poll(context).map(|()| {
            let slow = io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it came more slowly than {LEAST_BYTES_PER_SECOND} bytes a second"),
            );
            Some(Err(slow))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
