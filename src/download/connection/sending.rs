//! How the bytes of a package leave: as fast as the client takes them and the rates allow.

use std::{
    future::poll_fn,
    io,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    super::{
        Allowed, UNSENT_BYTES, UNSENT_BYTES_OF_FAST, flying::Tell, packages::Open, wire::Wire,
    },
    Connection, End,
};
use crate::{config::DownloadConfig, grants::Live};

/// While a response leaves, it is looked what of it was acknowledged after so many bytes of the connection.
const LOOK_AFTER_BYTES: u64 = 128 * 1024;
/// A client that takes as many in this time is a fast one: 1 MiB a second.
const FAST_WITHIN: Duration = Duration::from_millis(125);
/// A download that goes on is told of after so long, however slow it is: so nobody takes it for one that has ended.
const TELL_AFTER: Duration = Duration::from_secs(15);
/// Whoever waits for a change to be stored looks so often whether it is, at first and later.
const LOOK_AT_RECORD: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));
/// Who waits for its rate looks so often whether it may still download.
const LOOK_AT_RIGHT: Duration = Duration::from_secs(10);

impl<W: Wire> Connection<W> {
    /// Sends these bytes of the package, as fast as the client takes them and the rates allow.
    #[expect(clippy::too_many_lines, reason = "one pace after the other")]
    pub(super) async fn send(
        &mut self,
        live: &Arc<Live>,
        open: &Open,
        bytes: Range<u64>,
    ) -> Result<(), End> {
        let grants = self.shared.grants.clone();
        let mut at = bytes.start;
        grants.begins(live);
        self.await_record(live).await?;
        let mut patience = Patience::begin(&self.config().download);
        let mut allowed: Option<Allowed> = None;
        let (mut looked_at, mut told_at) = (self.wire.socket().written(), Instant::now());
        let mut fast_until = told_at + FAST_WITHIN;
        while at < bytes.end {
            self.may_go_on(live)?;
            let turn = if let Some(left) = allowed.take_if(|left| left.bytes > 0) {
                left
            } else {
                let (turn, wait) = self.shared.take(live, W::CHUNK_BYTES.min(bytes.end - at));
                if !wait.is_zero() {
                    self.await_turn(live, wait).await?;
                    patience.waited(wait);
                }
                turn
            };
            let turn = allowed.insert(turn);
            let most = turn.bytes;
            let deadline = patience.deadline(at - bytes.start);
            let wire = &mut self.wire;
            let wire_start = wire.socket().written();
            let sending = poll_fn(|context| wire.poll_send(context, &open.file, at, most));
            let sent = match timeout_at(deadline, sending).await {
                Ok(Ok(sent)) => sent,
                Ok(Err(error)) => {
                    if error.kind() == io::ErrorKind::UnexpectedEof {
                        self.shared
                            .complain(&format!("{error}: package {}", live.grant().package.0));
                    }
                    return Err(self.broke());
                }
                Err(_) => {
                    self.shared.figures.too_slow.fetch_add(1, Ordering::Relaxed);
                    return Err(End::Broken);
                }
            };
            turn.bytes = turn.bytes.saturating_sub(sent);
            let written = self.wire.socket().written();
            self.flying
                .push(live, at..at + sent, &(wire_start..written));
            at += sent;
            grants.sent(live, sent, at >= bytes.end);
            self.shared.figures.bytes.fetch_add(sent, Ordering::Relaxed);
            let now = Instant::now();
            let is_time = now.duration_since(told_at) >= TELL_AFTER;
            if is_time || written - looked_at >= LOOK_AFTER_BYTES {
                looked_at = written;
                self.land(if is_time { Tell::Now } else { Tell::Seldom });
                self.is_fast(now <= fast_until);
                fast_until = now + FAST_WITHIN;
                if is_time {
                    told_at = now;
                }
            }
        }
        self.shared.figures.ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until it is written down that the device fetches the package: a moment, or as long as nothing can be stored.
    async fn await_record(&mut self, live: &Live) -> Result<(), End> {
        let mut pause = LOOK_AT_RECORD.0;
        let deadline = self.idle_until();
        while !live.has_begun() {
            if live.is_revoked() || self.shared.is_ending() || Instant::now() >= deadline {
                return Err(End::Broken);
            }
            let turn = Instant::now() + pause;
            if timeout_at(turn, self.wire.socket().failed()).await.is_ok() {
                return Err(self.broke());
            }
            pause = (pause * 2).min(LOOK_AT_RECORD.1);
        }
        Ok(())
    }

    /// The client takes its bytes fast, or does not any more.
    fn is_fast(&mut self, is: bool) {
        if std::mem::replace(&mut self.fast, is) != is {
            let bytes = if is {
                UNSENT_BYTES_OF_FAST
            } else {
                UNSENT_BYTES
            };
            self.wire.socket().hold_unsent(bytes);
        }
    }

    /// Whether more of the package may leave.
    fn may_go_on(&self, live: &Live) -> Result<(), End> {
        if self.shared.is_ending() {
            Err(End::Broken)
        } else if live.is_revoked() {
            Err(End::Revoked)
        } else {
            Ok(())
        }
    }

    /// The connection did not bear what was to be sent.
    fn broke(&self) -> End {
        self.shared.figures.broken.fetch_add(1, Ordering::Relaxed);
        End::Broken
    }

    /// Waits until more may be sent, unless the client is gone before, or its right is.
    async fn await_turn(&mut self, live: &Live, wait: Duration) -> Result<(), End> {
        let turn = Instant::now() + wait;
        loop {
            let wake_up = turn.min(Instant::now() + LOOK_AT_RIGHT);
            if timeout_at(wake_up, self.wire.socket().failed())
                .await
                .is_ok()
            {
                return Err(self.broke());
            }
            let waits_on = wake_up < turn;
            self.land(if waits_on { Tell::Now } else { Tell::Seldom });
            self.may_go_on(live)?;
            if !waits_on {
                return Ok(());
            }
        }
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
