//! One connection: a request's head is read, answered, and the next one waited for, until one side has enough.
//!
//! What is kept of a connection while it waits is small: no buffer for what may come, none for what is sent. A buffer is there
//! only while a head has come in part.

use std::{
    future::poll_fn,
    io,
    net::IpAddr,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Shared,
    answer::{self, After, Content, Refused},
    bounds::Place,
    head::{self, HeadError, MAX_HEAD_BYTES, Method, Request, Target},
    packages::Open,
    range::Part,
    unsent::unacknowledged,
    wire::Wire,
};
use crate::{
    config::{Config, DownloadConfig},
    grants::{Live, Opened, Refusal},
};

/// Read at once; most heads have less.
const READ_BYTES: usize = 2 * 1024;
/// A check code is computed over no more than this.
const MAX_CRC_BYTES: u64 = 4 * 1024 * 1024;
/// Between two looks at what a device has acknowledged: at first, and at the most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Bytes that a client may still send while its connection is being closed.
const MAX_LINGERING_BYTES: usize = 64 * 1024;

/// Why a connection ends.
enum End {
    /// One side has enough.
    Orderly,
    /// It broke, or took too long.
    Broken,
}

/// What was sent last, until it is known to have arrived.
struct Flying {
    live: Arc<Live>,
    bytes: Range<u64>,
}

pub(super) struct Connection<W> {
    wire: W,
    shared: Arc<Shared>,
    source: IpAddr,
    /// Until a token was shown. A proxy needs none.
    place: Option<Place>,
    /// Of heads that have not come wholly.
    pending: Vec<u8>,
    flying: Option<Flying>,
}

impl<W: Wire> Connection<W> {
    pub(super) fn new(wire: W, shared: Arc<Shared>, source: IpAddr, place: Option<Place>) -> Self {
        Self {
            wire,
            shared,
            source,
            place,
            pending: Vec::new(),
            flying: None,
        }
    }

    /// Answers requests until one side has enough.
    pub(super) async fn converse(mut self) {
        let end = self.answer_all().await;
        if matches!(end, End::Orderly) {
            self.linger().await;
        }
        // what is still flying now is lost
        self.land(true);
    }

    async fn answer_all(&mut self) -> End {
        let mut deadline =
            Instant::now() + Duration::from_secs(self.config().download.head_timeout_s);
        loop {
            let request = match self.read_head(deadline).await {
                Ok(Some(request)) => request,
                Ok(None) => return End::Orderly,
                Err(Failed::Io) => return End::Broken,
                Err(Failed::Refused(refused)) => {
                    self.shared
                        .figures
                        .malformed
                        .fetch_add(1, Ordering::Relaxed);
                    return self
                        .refuse(refused, After::Close, false)
                        .await
                        .err()
                        .unwrap_or(End::Orderly);
                }
            };
            let after = match (
                request.keep_alive && !self.shared.is_stopping(),
                request.http_1_0,
            ) {
                (false, _) => After::Close,
                (true, false) => After::KeepAlive,
                (true, true) => After::KeepAliveSaid,
            };
            if let Err(end) = self.respond(&request, after).await {
                return end;
            }
            if after == After::Close {
                return End::Orderly;
            }
            deadline = Instant::now() + Duration::from_secs(self.config().download.idle_timeout_s);
        }
    }

    fn config(&self) -> Arc<Config> {
        self.shared.settings.get()
    }

    /// The next request; `None` where there is no other.
    async fn read_head(&mut self, deadline: Instant) -> Result<Option<Request>, Failed> {
        let mut look_again = LOOK_AGAIN.0;
        let mut whole_line = true;
        loop {
            if whole_line && !self.pending.is_empty() {
                match head::parse(&self.pending, &self.shared.base_path) {
                    Ok(Some((request, len))) => {
                        // its memory goes with it, unless more has come
                        self.pending = self.pending.split_off(len);
                        return Ok(Some(request));
                    }
                    Ok(None) => {}
                    Err(HeadError::TooLarge) => return Err(Refused::HeadTooLarge.into()),
                    Err(HeadError::Malformed | HeadError::Body) => {
                        return Err(Refused::BadRequest.into());
                    }
                }
            }
            if self.pending.len() >= MAX_HEAD_BYTES {
                return Err(Refused::HeadTooLarge.into());
            }
            let wake_up = match self.flying {
                Some(_) => deadline.min(Instant::now() + look_again),
                None => deadline,
            };
            let before = self.pending.len();
            match timeout_at(wake_up, self.read_some()).await {
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(_)) => {
                    whole_line = self
                        .pending
                        .get(before..)
                        .is_some_and(|new| new.contains(&b'\n'));
                }
                Ok(Err(_)) => return Err(Failed::Io),
                Err(_) if wake_up < deadline => {
                    look_again = (look_again * 2).min(LOOK_AGAIN.1);
                    whole_line = false;
                }
                Err(_) if self.pending.is_empty() => return Ok(None),
                Err(_) => return Err(Refused::Timeout.into()),
            }
            self.land(false);
        }
    }

    async fn read_some(&mut self) -> io::Result<usize> {
        let (wire, pending) = (&mut self.wire, &mut self.pending);
        poll_fn(|context| {
            let mut bytes = [0; READ_BYTES];
            let read = wire.poll_read(context, &mut bytes);
            read.map_ok(|len| {
                pending.extend_from_slice(bytes.get(..len).unwrap_or_default());
                len
            })
        })
        .await
    }

    /// Looks what of the last response has arrived. With `broken` the rest never will.
    fn land(&mut self, broken: bool) {
        let Some(flying) = &self.flying else { return };
        let flying_bytes = unacknowledged(self.wire.socket());
        if flying_bytes == Some(0) {
            self.shared
                .grants
                .arrived(&flying.live, flying.bytes.clone());
        } else if broken {
            let bytes = &flying.bytes;
            // where the system does not tell, nothing is taken off; over TLS there are more bytes on the way than of the package
            let lost_from = bytes
                .end
                .saturating_sub(flying_bytes.unwrap_or(0))
                .max(bytes.start);
            self.shared
                .grants
                .arrived(&flying.live, bytes.start..lost_from);
            self.shared
                .grants
                .lost(&flying.live, &(lost_from..bytes.end));
        } else {
            return;
        }
        self.flying = None;
    }

    /// Says that nothing more comes, and waits until the client has what was sent: closing at once could take it away from it.
    async fn linger(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(self.config().download.idle_timeout_s);
        let wire = &mut self.wire;
        if !matches!(
            timeout_at(deadline, poll_fn(|context| wire.poll_end(context))).await,
            Ok(Ok(()))
        ) {
            return;
        }
        let mut look_again = LOOK_AGAIN.0;
        let mut ended = false;
        let mut read_bytes = 0;
        while Instant::now() < deadline && read_bytes < MAX_LINGERING_BYTES {
            self.land(false);
            let arrived = || unacknowledged(self.wire.socket()).is_none_or(|bytes| bytes == 0);
            if self.flying.is_none() && (ended || arrived()) {
                return;
            }
            let wake_up = deadline.min(Instant::now() + look_again);
            look_again = (look_again * 2).min(LOOK_AGAIN.1);
            self.pending.clear();
            if ended {
                tokio::time::sleep_until(wake_up).await;
                if self
                    .wire
                    .socket()
                    .take_error()
                    .is_ok_and(|error| error.is_some())
                {
                    return;
                }
                continue;
            }
            match timeout_at(wake_up, self.read_some()).await {
                Ok(Ok(0)) => ended = true,
                Ok(Ok(len)) => read_bytes += len,
                Ok(Err(_)) => return,
                Err(_) => {}
            }
        }
    }

    async fn respond(&mut self, request: &Request, after: After) -> Result<(), End> {
        let head_only = request.method == Method::Head;
        let opened = match self.admit(request) {
            Ok(opened) => opened,
            Err(refused) => {
                let after = if refused.ends_connection() {
                    After::Close
                } else {
                    after
                };
                return self.refuse(refused, after, head_only).await;
            }
        };
        self.place = None;
        let grant = opened.grant();
        let open = match self
            .shared
            .packages
            .open(&grant.sha256, grant.size_bytes)
            .await
        {
            Ok(open) => open,
            Err(error) => {
                self.shared
                    .figures
                    .unreadable
                    .fetch_add(1, Ordering::Relaxed);
                self.shared.complain(&format!(
                    "package {} cannot be served: {error}",
                    grant.package.0
                ));
                return self.refuse(Refused::NoFile, after, head_only).await;
            }
        };
        // RFC 9110 §13.1.5: another content is sent whole
        let same = request
            .if_range
            .as_deref()
            .is_none_or(|validator| validator == open.etag || validator == open.last_modified);
        let part = if same {
            request.wanted.of(grant.size_bytes)
        } else {
            Part::Whole
        };
        let (bytes, is_part) = match part {
            Part::Whole => (0..grant.size_bytes, false),
            Part::Bytes(bytes) => (bytes, true),
            Part::Unsatisfiable => {
                let size_bytes = grant.size_bytes;
                return self
                    .refuse(Refused::Range { size_bytes }, after, head_only)
                    .await;
            }
        };
        let crc = match request.crc {
            Some(kind) if bytes.end - bytes.start <= MAX_CRC_BYTES => {
                self.shared.crc_of(&open, bytes.clone(), kind).await
            }
            _ => None,
        };
        let now = self.shared.clock.now().utc;
        let head = answer::head(
            &Content {
                bytes: bytes.clone(),
                size_bytes: grant.size_bytes,
                part: is_part,
                etag: &open.etag,
                last_modified: &open.last_modified,
                file_name: &grant.file_name,
                crc,
                cached: self.shared.cached,
            },
            after,
            now,
        );
        self.write(head.as_bytes()).await?;
        drop(head);
        if head_only {
            return Ok(());
        }
        self.shared.figures.begun.fetch_add(1, Ordering::Relaxed);
        self.send(&opened, &open, bytes).await
    }

    /// Whether the request is one that is served. Tokens that are none are counted, and rationed.
    fn admit(&self, request: &Request) -> Result<Opened, Refused> {
        if request.method == Method::Other {
            return Err(Refused::Method);
        }
        let grants = &self.shared.grants;
        let now = self.shared.clock.now();
        let in_header = matches!(request.target, Target::Package(..));
        let opened = match &request.target {
            Target::Package(package, Some(token)) => grants.open(token, Some(*package), now.utc),
            Target::Package(_, None) => Err(Refusal::NoToken),
            Target::Token(token) => grants.open(token, None, now.utc),
            Target::Nothing => Err(Refusal::Unknown),
        };
        let refusal = match opened {
            Ok(opened) => return Ok(opened),
            Err(refusal) => refusal,
        };
        self.shared.figures.refused.fetch_add(1, Ordering::Relaxed);
        if refusal == Refusal::Busy {
            return Err(Refused::TooMany);
        }
        if self.shared.failed(self.source, now.instant) {
            self.shared.figures.rationed.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::TooMany);
        }
        Err(match refusal {
            Refusal::OtherPackage => Refused::Forbidden("the token is for another package\n"),
            Refusal::NoToken => Refused::Unauthorized,
            // RFC 6750 §3.1
            _ if in_header => Refused::Unauthorized,
            Refusal::Expired => Refused::Forbidden("the address has expired\n"),
            _ => Refused::NotFound,
        })
    }

    async fn refuse(&mut self, refused: Refused, after: After, head_only: bool) -> Result<(), End> {
        let now = self.shared.clock.now().utc;
        let response = refused.response(after, now, head_only);
        self.write(response.as_bytes()).await?;
        if after == After::Close {
            Err(End::Orderly)
        } else {
            Ok(())
        }
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        let deadline = Instant::now() + Duration::from_secs(self.config().download.idle_timeout_s);
        let wire = &mut self.wire;
        while !bytes.is_empty() {
            let written = timeout_at(deadline, poll_fn(|context| wire.poll_write(context, bytes)));
            match written.await {
                Ok(Ok(len)) if len > 0 => bytes = bytes.get(len..).unwrap_or_default(),
                _ => return Err(End::Broken),
            }
        }
        Ok(())
    }

    /// Sends these bytes of the package, as fast as the client takes them and the rates allow.
    async fn send(&mut self, opened: &Opened, open: &Open, bytes: Range<u64>) -> Result<(), End> {
        self.land(false);
        let grants = self.shared.grants.clone();
        let mut at = bytes.start;
        self.flying = Some(Flying {
            live: opened.live(),
            bytes: at..at,
        });
        grants.served(opened, at..at, false);
        let mut patience = Patience::begin(&self.config().download);
        let mut allowed = 0;
        while at < bytes.end {
            if opened.is_revoked() || self.shared.is_ending() {
                return Err(End::Broken);
            }
            if allowed == 0 {
                let wait;
                (allowed, wait) = self.shared.take(opened, W::CHUNK_BYTES.min(bytes.end - at));
                if !wait.is_zero() {
                    sleep(wait).await;
                    patience.waited(wait);
                    continue; // it may have been revoked meanwhile
                }
            }
            let deadline = patience.deadline(at - bytes.start);
            let wire = &mut self.wire;
            let sending = poll_fn(|context| wire.poll_send(context, &open.file, at, allowed));
            let sent = match timeout_at(deadline, sending).await {
                Ok(Ok(sent)) => sent,
                Ok(Err(error)) => {
                    if error.kind() == io::ErrorKind::UnexpectedEof {
                        self.shared
                            .complain(&format!("{error}: package {}", opened.grant().package.0));
                    }
                    self.shared.figures.broken.fetch_add(1, Ordering::Relaxed);
                    return Err(End::Broken);
                }
                Err(_) => {
                    self.shared.figures.too_slow.fetch_add(1, Ordering::Relaxed);
                    return Err(End::Broken);
                }
            };
            allowed = allowed.saturating_sub(sent);
            grants.served(opened, at..at + sent, at + sent >= bytes.end);
            at += sent;
            if let Some(flying) = &mut self.flying {
                flying.bytes.end = at;
            }
            self.shared.figures.bytes.fetch_add(sent, Ordering::Relaxed);
        }
        self.shared.figures.ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// How long a client may take.
struct Patience {
    began: Instant,
    idle: Duration,
    least_bytes_per_second: u64,
    /// Not the client's fault.
    waited: Duration,
}

impl Patience {
    fn begin(config: &DownloadConfig) -> Self {
        Self {
            began: Instant::now(),
            idle: Duration::from_secs(config.idle_timeout_s),
            least_bytes_per_second: config.least_bytes_per_second,
            waited: Duration::ZERO,
        }
    }

    fn waited(&mut self, wait: Duration) {
        self.waited += wait;
    }

    /// When the next bytes have to be taken.
    fn deadline(&self, sent_bytes: u64) -> Instant {
        let idle = Instant::now() + self.idle;
        match sent_bytes.checked_div(self.least_bytes_per_second) {
            None => idle,
            Some(earned_s) => {
                idle.min(self.began + self.idle + self.waited + Duration::from_secs(earned_s))
            }
        }
    }
}

/// Why no request was read.
enum Failed {
    Io,
    Refused(Refused),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}
