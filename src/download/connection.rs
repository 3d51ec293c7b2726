//! One connection: a request's head is read, answered, and the next one waited for, until one side has enough.
//!
//! What is kept of a connection while it waits is small: no buffer for what may come, none for what is sent. A buffer is there
//! only while a head has come in part.

mod sending;

use std::{
    future::poll_fn,
    io,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Shared,
    answer::{self, After, Content, Refused},
    bounds::Place,
    flying::{Flying, Tell},
    head::{self, HeadError, MAX_HEAD_BYTES, Method, Request, Target},
    range::Part,
    wire::Wire,
};
use crate::{
    config::Config,
    grants::{Holder, Live, Opened, Refusal},
};

/// Read at once; most heads have less.
const READ_BYTES: usize = 2 * 1024;
/// A check code is computed over no more than this.
const MAX_CRC_BYTES: u64 = 4 * 1024 * 1024;
/// Between two looks at what a device has acknowledged: at first, and at the most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(2));
/// Pieces that may be on their way to a client before another of its requests is answered. Who asks for small parts, many at once, has
/// to take some first.
const MAX_FLYING: usize = 512;
/// Bytes that a client may still send while its connection is being closed.
const MAX_LINGERING_BYTES: usize = 64 * 1024;

/// Why a connection ends.
enum End {
    /// One side has enough.
    Orderly,
    /// It broke, or took too long.
    Broken,
    /// The right that it has shown was taken back in the middle of an answer.
    Revoked,
}

pub(super) struct Connection<W: Wire> {
    wire: W,
    shared: Arc<Shared>,
    /// Whose bounds apply; none where it is a proxy that is trusted.
    source: Option<IpAddr>,
    /// Among those of its address that have shown no token, and then among those that have. A proxy needs none.
    place: Option<Place>,
    /// The right that it has shown: it counts among the connections of that token for as long as it lasts.
    opened: Option<Opened>,
    /// What the connection is told by that another one of the same token has taken its place.
    holder: Arc<Holder>,
    /// Of heads that have not come wholly.
    pending: Vec<u8>,
    /// What was sent, until it is known to have arrived.
    flying: Flying,
    /// How many bytes of the connection were acknowledged when it was looked last.
    acknowledged: u64,
    /// Whether the client takes its bytes fast.
    fast: bool,
    /// Whether the client has said that it sends no more. It may read all the same.
    ended: bool,
}

impl<W: Wire> Connection<W> {
    /// A connection of a source, which has a place for it, or of a proxy that is trusted.
    pub(super) fn new(wire: W, shared: Arc<Shared>, place: Option<Place>) -> Self {
        Self {
            wire,
            shared,
            source: place.as_ref().map(Place::source),
            place,
            opened: None,
            holder: Arc::default(),
            pending: Vec::new(),
            flying: Flying::default(),
            acknowledged: 0,
            fast: false,
            ended: false,
        }
    }

    /// Answers requests until one side has enough, or a newer connection of the same token takes the place of this one.
    pub(super) async fn converse(mut self) {
        let (holder, shared) = (self.holder.clone(), self.shared.clone());
        let replaced = poll_fn(|context| holder.poll_replaced(context));
        let conversation = async {
            match self.answer_all().await {
                End::Orderly => self.linger().await,
                // what the system has already will reach it: what that costs it is counted
                End::Revoked => {
                    let mut left_bytes = MAX_LINGERING_BYTES;
                    let deadline = self.idle_until();
                    // however steadily a little of it arrives
                    let _ = timeout_at(deadline, self.settle(false, &mut left_bytes)).await;
                }
                End::Broken => {}
            }
        };
        tokio::select! {
            () = conversation => {}
            () = replaced => {
                shared.figures.replaced.fetch_add(1, Ordering::Relaxed);
            }
        }
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
            deadline = self.idle_until();
        }
    }

    fn config(&self) -> Arc<Config> {
        self.shared.settings.get()
    }

    /// The next request; `None` where there is no other.
    async fn read_head(&mut self, mut deadline: Instant) -> Result<Option<Request>, Failed> {
        let arrives_until = self.arrives_until();
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
            let wake_up = if self.flying.is_empty() {
                deadline
            } else {
                deadline.min(Instant::now() + look_again)
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
            // one that is still taking in what it was sent is not idle
            if self.land(Tell::WhenAll) && self.pending.is_empty() {
                deadline = deadline.max(self.idle_until().min(arrives_until));
            }
        }
    }

    /// When a client has been idle for too long, from now on.
    fn idle_until(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.config().download.idle_timeout_s)
    }

    /// When what is in flight has to have arrived, however steadily a little of it does.
    fn arrives_until(&self) -> Instant {
        let least = self.config().download.least_bytes_per_second;
        let takes_s = self.flying.bytes().checked_div(least);
        // where there is no least rate, about thirty years
        self.idle_until() + Duration::from_secs(takes_s.unwrap_or(1_000_000_000))
    }

    async fn read_some(&mut self) -> io::Result<usize> {
        let (wire, pending) = (&mut self.wire, &mut self.pending);
        let read = poll_fn(|context| {
            let mut bytes = [0; READ_BYTES];
            let read = wire.poll_read(context, &mut bytes);
            read.map_ok(|len| {
                pending.extend_from_slice(bytes.get(..len).unwrap_or_default());
                len
            })
        })
        .await;
        self.ended |= matches!(read, Ok(0));
        read
    }

    /// Looks what has arrived of what was sent. Tells whether it is more than before.
    fn land(&mut self, tell: Tell) -> bool {
        if self.flying.is_empty() {
            return false;
        }
        let acknowledged = self.wire.socket().acknowledged();
        let grants = &self.shared.grants;
        self.flying.land(grants, acknowledged, W::IN_RECORDS, tell);
        let before = std::mem::replace(&mut self.acknowledged, acknowledged);
        acknowledged > before
    }

    /// Says that nothing more comes, and waits until the client has what was sent: closing at once could take it away from it.
    async fn linger(&mut self) {
        let mut left_bytes = MAX_LINGERING_BYTES;
        // A client that has what it wants may close without reading how TLS ends. That resets the connection, and its TCP acknowledges
        // nothing any more: so the end is said once the rest is known to have arrived.
        if W::IN_RECORDS && !self.settle(false, &mut left_bytes).await {
            return;
        }
        let deadline = self.idle_until();
        let wire = &mut self.wire;
        let said = timeout_at(deadline, poll_fn(|context| wire.poll_end(context))).await;
        if matches!(said, Ok(Ok(()))) {
            self.settle(true, &mut left_bytes).await;
        }
    }

    /// Waits until the client has acknowledged what was sent of the package, or with `all` everything. Tells whether it has: it has
    /// not when the connection breaks, or takes too long. What the client sends meanwhile is not looked at, and bounded.
    async fn settle(&mut self, all: bool, left_bytes: &mut usize) -> bool {
        let arrives_until = self.arrives_until();
        let mut deadline = self.idle_until();
        let mut look_again = LOOK_AGAIN.0;
        loop {
            if self.land(Tell::WhenAll) {
                deadline = deadline.max(self.idle_until().min(arrives_until));
            }
            let socket = self.wire.socket();
            if self.flying.is_empty() && (!all || self.ended || socket.is_settled()) {
                return true;
            }
            let now = Instant::now();
            if now >= deadline || *left_bytes == 0 {
                return false;
            }
            let wake_up = deadline.min(now + look_again);
            look_again = (look_again * 2).min(LOOK_AGAIN.1);
            if self.ended {
                tokio::time::sleep_until(wake_up).await;
                if self.wire.socket().take_failed() {
                    return false;
                }
                continue;
            }
            self.pending = Vec::new();
            match timeout_at(wake_up, self.read_some()).await {
                Ok(Ok(len)) => *left_bytes = left_bytes.saturating_sub(len),
                Ok(Err(_)) => return false,
                Err(_) => {}
            }
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "the steps of an answer, one after the other"
    )]
    async fn respond(&mut self, request: &Request, after: After) -> Result<(), End> {
        let head_only = request.method == Method::Head;
        let live = match self.admit(request) {
            Ok(live) => live,
            Err(refused) => {
                let after = if refused.ends_connection() {
                    After::Close
                } else {
                    after
                };
                return self.refuse(refused, after, head_only).await;
            }
        };
        if self.flying.len() >= MAX_FLYING {
            self.await_room().await?;
        }
        let grant = live.grant();
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
        // RFC 9110 §14.2: a range means something to GET alone
        let part = if same && !head_only {
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
                self.shared.crc_of(&live, &open, &bytes, kind).await
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
        self.send(&live, &open, bytes).await
    }

    /// Waits until something of what was sent has arrived.
    async fn await_room(&mut self) -> Result<(), End> {
        let mut deadline = self.idle_until();
        let mut look_again = LOOK_AGAIN.0;
        loop {
            if self.land(Tell::Seldom) {
                deadline = self.idle_until();
            }
            if self.flying.len() < MAX_FLYING {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(End::Broken);
            }
            if timeout(look_again, self.wire.socket().failed())
                .await
                .is_ok()
            {
                return Err(End::Broken);
            }
            look_again = (look_again * 2).min(LOOK_AGAIN.1);
        }
    }

    /// Whether the request is one that is served. Tokens that are none are counted, and rationed.
    fn admit(&mut self, request: &Request) -> Result<Arc<Live>, Refused> {
        if request.method == Method::Other {
            return Err(Refused::Method);
        }
        let grants = &self.shared.grants;
        let now = self.shared.clock.now();
        let most = self.config().download.max_connections_per_token;
        let open = |token: &str, package| grants.open(token, package, most, &self.holder, now.utc);
        let in_header = matches!(request.target, Target::Package(..));
        let opened = match &request.target {
            Target::Package(package, Some(token)) => open(token, Some(*package)),
            Target::Package(_, None) => Err(Refusal::NoToken),
            Target::Token(token) => open(token, None),
            Target::Nothing => Err(Refusal::Unknown),
        };
        let refusal = match opened {
            Ok(opened) => return self.hold(opened).ok_or(Refused::TooMany),
            Err(refusal) => refusal,
        };
        self.shared.figures.refused.fetch_add(1, Ordering::Relaxed);
        let failed = |source| self.shared.failed(source, now.instant);
        if self.source.is_some_and(failed) {
            self.shared.figures.rationed.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::TooMany);
        }
        Err(match refusal {
            Refusal::OtherPackage => Refused::Forbidden("the token is for another package\n"),
            Refusal::NoToken => Refused::Unauthorized,
            // RFC 6750 §3.1
            _ if in_header => Refused::Unauthorized,
            Refusal::Expired => Refused::Forbidden("the address has expired\n"),
            Refusal::Unknown => Refused::NotFound,
        })
    }

    /// The connection has shown this right, and takes a place among those of its address that have shown one. `None` where there is none.
    fn hold(&mut self, opened: Opened) -> Option<Arc<Live>> {
        if self.opened.is_none()
            && let Some(source) = self.source
        {
            let Some(place) = self.shared.place_with_token(source) else {
                let turned_away = &self.shared.figures.turned_away;
                turned_away.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            self.place = Some(place);
        }
        let live = opened.live();
        self.opened = Some(opened);
        Some(live)
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
        let deadline = self.idle_until();
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
}

/// However it ends, also because the server stops: what has not arrived never will, and what has is told.
impl<W: Wire> Drop for Connection<W> {
    fn drop(&mut self) {
        let acknowledged = self.wire.socket().acknowledged();
        let grants = &self.shared.grants;
        self.flying.lose(grants, acknowledged, W::IN_RECORDS);
        if let Some(opened) = &self.opened {
            grants.ends(opened);
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
