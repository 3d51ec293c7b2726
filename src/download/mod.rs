//! Serves packages to devices over HTTP and HTTPS, to those that were granted one ([`Grants`]).
//!
//! A listener of its own, on threads of its own. HTTP/1.1 is spoken by our own code over `httparse`, because a library's server
//! tells neither which bytes the peer has acknowledged, nor lets the kernel send a file (sendfile(2)), nor does it let go of its
//! buffers while a slow device is waited for. What is spoken is small: GET and HEAD, single ranges, no content in requests.
//!
//! What is kept of a connection while it waits is its task of about a kilobyte, and what OpenSSL needs. A package's file is open once,
//! however many devices read it. [docs/downloads.md](../../docs/downloads.md) has what devices see.

mod answer;
mod bounds;
mod check_code;
mod connection;
mod flying;
pub mod head;
mod packages;
pub mod range;
mod unsent;
mod wire;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use self::{
    bounds::{Attempts, Place, Sources, bucket},
    check_code::CheckCodes,
    connection::Connection,
    packages::Packages,
    wire::Socket,
};
use crate::{
    clock::{Instant, SystemClock},
    config::Settings,
    grants::{Grants, Live, Pace},
    store::PackageFiles,
    telemetry::{Metrics, Share},
    tls::Tls,
};

/// Requests under way when the server stops have this long to end.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// Lines a second of one kind: whoever opens many connections does not fill the disk.
const LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(1).unwrap();
/// The system has no file descriptor, or the like.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);
/// Between two publications of the figures.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Between two searches for what is over.
const FORGET_EVERY: Duration = Duration::from_mins(1);
/// At most so many threads serve downloads.
const MAX_THREADS: usize = 4;
/// The kernel holds no more bytes of a connection that have not been sent: so a slow device takes little memory. One that has shown to
/// be fast is waited for less often.
const UNSENT_BYTES: u32 = 32 * 1024;
const UNSENT_BYTES_OF_FAST: u32 = 256 * 1024;
/// A rate allows so many chunks a second, so that nobody waits long for his next one.
const CHUNKS_PER_SECOND: u64 = 8;
/// Smaller chunks cost more than they help.
const MIN_CHUNK_BYTES: u64 = 1_024;

/// What downloads need.
pub struct DownloadsSetup {
    /// Those that were bound, each with its certificate where it speaks TLS.
    pub listeners: Vec<(std::net::TcpListener, Option<Tls>)>,
    /// Who may download.
    pub grants: Arc<Grants>,
    /// The packages.
    pub files: PackageFiles,
    /// The settings; those of `download` are looked at anew for each request.
    pub settings: Settings,
    /// The clocks.
    pub clock: SystemClock,
    /// Where the figures go.
    pub metrics: Arc<Metrics>,
    /// Turns true when the server stops.
    pub stop: watch::Receiver<bool>,
}

/// What all connections have in common.
struct Shared {
    grants: Arc<Grants>,
    packages: Packages,
    check_codes: CheckCodes,
    settings: Settings,
    clock: SystemClock,
    /// What public URLs have before the paths of this server.
    base_path: String,
    cached: bool,
    total: Mutex<Pace>,
    /// Connections that have shown no token, and those that have.
    sources: Sources,
    holders: Sources,
    attempts: Attempts,
    figures: Counted,
    lines: DefaultDirectRateLimiter,
    stopping: watch::Receiver<bool>,
    ending: AtomicBool,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Counted {
    /// Connections that are open.
    open: AtomicU64,
    bytes: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    broken: AtomicU64,
    too_slow: AtomicU64,
    refused: AtomicU64,
    rationed: AtomicU64,
    malformed: AtomicU64,
    unreadable: AtomicU64,
    turned_away: AtomicU64,
    replaced: AtomicU64,
    handshakes_failed: AtomicU64,
}

/// The threads on which downloads are served. Dropping it does not wait for what is under way.
pub struct Downloads(Option<Runtime>);

impl Downloads {
    /// Begins to serve. The future ends when the server is told to stop and what was under way has ended, or had its time.
    ///
    /// # Errors
    /// The system gives no threads, or a listener cannot be used.
    pub fn start(
        setup: DownloadsSetup,
    ) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.min(MAX_THREADS))
            .thread_name("download")
            .enable_all()
            .build()?;
        let links = setup.grants.links();
        let shared = Arc::new(Shared {
            base_path: links.map_or("", |links| links.path()).to_owned(),
            cached: links.is_some_and(|links| !links.counted),
            grants: setup.grants,
            packages: Packages::new(setup.files),
            check_codes: CheckCodes::default(),
            settings: setup.settings,
            clock: setup.clock,
            total: Mutex::default(),
            sources: Sources::default(),
            holders: Sources::default(),
            attempts: Attempts::default(),
            figures: Counted::default(),
            lines: RateLimiter::direct(Quota::per_second(LINES_PER_SECOND)),
            stopping: setup.stop.clone(),
            ending: AtomicBool::new(false),
        });
        let most = shared.settings.get().download.max_connections as usize;
        let slots = Arc::new(Semaphore::new(room_for(most)));
        let mut work = JoinSet::new();
        let inside = runtime.enter();
        for (listener, tls) in setup.listeners {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            work.spawn(serve(listener, tls, shared.clone(), slots.clone()));
        }
        work.spawn(keep_house(shared.clone(), setup.metrics));
        drop(inside);
        let run = async move {
            // none ends before it is told to; one that does ends the part
            let _ = work.join_next().await;
            if *shared.stopping.borrow() {
                while work.join_next().await.is_some() {}
            }
            shared.ending.store(true, Ordering::Relaxed);
        };
        Ok((Self(Some(runtime)), run))
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// As many connections as are set, or as the process has descriptors for. The limit is raised as far as the system lets it.
fn room_for(connections: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// Devices' sockets, the database, packages.
    const OTHERS: u64 = 512;
    let wanted = connections as u64 + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let raised = Rlimit {
            current: Some(current),
            ..limit
        };
        let _ = setrlimit(Resource::Nofile, raised); // what there is is looked at next
    }
    let Some(current) = getrlimit(Resource::Nofile).current else {
        return connections;
    };
    let room =
        usize::try_from(current.saturating_sub(OTHERS).max(current / 2)).unwrap_or(usize::MAX);
    if room < connections {
        tracing::warn!(
            connections,
            room,
            "the process may not open as many files as download.max_connections needs; raise LimitNOFILE, or downloads wait"
        );
    }
    room.min(connections)
}

async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
) {
    let mut stop = shared.stopping.clone();
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // Never closed, so that there is always a permit to come.
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
            // so that those that have ended take no memory
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.complain(&format!(
                    "a connection for downloads cannot be accepted: {error}"
                ));
                tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
                continue;
            }
        };
        let Ok(place) = shared.place(peer) else {
            shared.figures.turned_away.fetch_add(1, Ordering::Relaxed);
            continue; // closes it
        };
        prepare(&stream);
        let (shared, tls) = (shared.clone(), tls.clone());
        let open = Open::new(shared.clone());
        connections.spawn(async move {
            let stream = Socket::new(stream);
            match tls {
                None => Connection::new(stream, shared, place).converse().await,
                Some(tls) => {
                    let within = shared.settings.get().download.head_timeout_s;
                    let handshake = Box::pin(tls.accept(stream));
                    let within = Duration::from_secs(within);
                    if let Ok(Ok(stream)) = tokio::time::timeout(within, handshake).await {
                        Connection::new(stream, shared, place).converse().await;
                    } else {
                        shared
                            .figures
                            .handshakes_failed
                            .fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            drop((slot, open));
        });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_WITHIN, ended).await;
    // The rest is cut off; when this returns, what had arrived of it is told.
    connections.shutdown().await;
}

/// Options that are not essential: without them it works all the same.
fn prepare(stream: &TcpStream) {
    // a head is not held back until the one before it is acknowledged
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
}

/// A connection that is open, for the figures.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.figures.open.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.figures.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn keep_house(shared: Arc<Shared>, metrics: Arc<Metrics>) {
    let mut stop = shared.stopping.clone();
    let mut share = Share::default();
    let mut forgot_at = shared.clock.now().instant;
    let mut told = false;
    loop {
        let now = shared.clock.now();
        if now.instant.since(forgot_at) >= FORGET_EVERY {
            forgot_at = now.instant;
            shared.attempts.forget(now.instant);
            shared.grants.remove_expired(now.utc);
        }
        shared.publish(&metrics, &mut share);
        if told {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(TELL_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => told = true,
        }
    }
}

/// Bytes that may leave. What of them has not left when this is dropped is given back, so that who asks and goes away puts nobody off.
struct Allowed {
    shared: Arc<Shared>,
    live: Arc<Live>,
    /// Of the device, and of all, when they were taken.
    rates: [u64; 2],
    bytes: u64,
}

impl Drop for Allowed {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        for (pace, rate) in [&self.live.pace, &self.shared.total]
            .into_iter()
            .zip(self.rates)
        {
            let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.give_back(self.bytes, rate);
        }
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// A place for a new connection; none is needed by a proxy, and there is none for a source that has enough.
    fn place(&self, peer: SocketAddr) -> Result<Option<Place>, ()> {
        let settings = self.settings.get();
        let config = &settings.download;
        let address = peer.ip().to_canonical();
        if config
            .trusted_proxies
            .iter()
            .any(|network| network.contains(&address))
        {
            return Ok(None);
        }
        let place = self
            .sources
            .place(bucket(address), config.max_connections_per_address);
        place.map(Some).ok_or(())
    }

    /// A place for a connection that has shown a token; there is none for a source that has enough.
    fn place_with_token(&self, source: IpAddr) -> Option<Place> {
        let most = self.settings.get().download.max_downloads_per_address;
        let place = self.holders.place(source, most);
        if place.is_none() {
            self.complain(&format!(
                "{source} has {most} connections for downloads, as many as download.max_downloads_per_address allows"
            ));
        }
        place
    }

    /// Counts a token that is none. Tells whether there were too many of this source.
    fn failed(&self, source: IpAddr, now: Instant) -> bool {
        let settings = self.settings.get();
        let most = NonZeroU32::new(settings.download.failed_attempts_per_minute)
            .unwrap_or(NonZeroU32::MIN);
        self.attempts.failed(source, most, now)
    }

    /// Bytes that may be sent, up to so many, and after which time.
    fn take(self: &Arc<Self>, live: &Arc<Live>, most: u64) -> (Allowed, Duration) {
        let settings = self.settings.get();
        let config = &settings.download;
        let rates = [config.bytes_per_second_per_device, config.bytes_per_second];
        let chunk = rates
            .into_iter()
            .filter(|rate| *rate > 0)
            .fold(most, |chunk, rate| {
                chunk.min((rate / CHUNKS_PER_SECOND).max(MIN_CHUNK_BYTES))
            });
        let now = self.clock.now().instant;
        let paces = [&live.pace, &self.total];
        let waits = paces.into_iter().zip(rates).map(|(pace, rate)| {
            if rate == 0 {
                return Duration::ZERO;
            }
            let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.take(chunk, rate, now)
        });
        let wait = waits.max().unwrap_or_default();
        let allowed = Allowed {
            shared: self.clone(),
            live: live.clone(),
            rates,
            bytes: chunk,
        };
        (allowed, wait)
    }

    /// Writes a line, but not many.
    fn complain(&self, what: &str) {
        if self.lines.check().is_ok() {
            tracing::warn!("{what}");
        }
    }

    #[expect(clippy::too_many_lines, reason = "one figure after the other")]
    fn publish(&self, metrics: &Metrics, share: &mut Share) {
        let mut figures = metrics.of(share);
        let counted = &self.figures;
        for (name, help, counter) in [
            (
                "download_bytes",
                "Bytes of packages that were sent over HTTP.",
                &counted.bytes,
            ),
            (
                "downloads_begun",
                "Responses with content of a package that were begun.",
                &counted.begun,
            ),
            (
                "downloads_ended",
                "Responses with content of a package that were sent wholly.",
                &counted.ended,
            ),
            (
                "downloads_broken",
                "Responses that broke off because the connection did.",
                &counted.broken,
            ),
            (
                "downloads_too_slow",
                "Responses that were ended because the device took too little.",
                &counted.too_slow,
            ),
            (
                "download_requests_refused",
                "Requests without a token that is in force for what they ask.",
                &counted.refused,
            ),
            (
                "download_requests_rationed",
                "Requests that were answered 429: too many attempts of an address.",
                &counted.rationed,
            ),
            (
                "download_requests_malformed",
                "Requests that are none, or did not come in time.",
                &counted.malformed,
            ),
            (
                "download_packages_unreadable",
                "Requests for packages whose files cannot be read.",
                &counted.unreadable,
            ),
            (
                "download_connections_turned_away",
                "Connections that were not accepted or not served, because their address had too many.",
                &counted.turned_away,
            ),
            (
                "download_connections_replaced",
                "Connections that were ended because newer ones of the same token took their places.",
                &counted.replaced,
            ),
            (
                "download_handshakes_failed",
                "TLS handshakes for downloads that failed.",
                &counted.handshakes_failed,
            ),
        ] {
            figures.counter(name, help, counter.load(Ordering::Relaxed));
        }
        figures.gauge(
            "download_connections",
            "Connections for downloads.",
            usize::try_from(counted.open.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
        );
        figures.gauge(
            "download_grants",
            "Rights to download that are in force.",
            self.grants.count(),
        );
    }
}

#[cfg(test)]
mod tests;
