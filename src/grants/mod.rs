//! Who may download which package over HTTP, until when, and how much of it was served.
//!
//! Pure but for its locks: whoever asks brings the time. Two sides share one [`Grants`]:
//!
//! * **The upgrades' side** makes a [`Token`] of its own for each attempt, puts a [`Grant`] into force ([`Grants::grant`]), tells
//!   the device where to fetch it ([`Links::url`]), and takes it back ([`Grants::revoke`]). It is told what was served through its
//!   [`Witness`]. After a restart it grants again with the same token, and with what it knows to be served
//!   ([`Grant::already_contiguous`]).
//! * **The listener** (`download`) asks whether a request is one of a live grant ([`Grants::open`]), and says which bytes left
//!   ([`Grants::sent`]) and which arrived ([`Grants::arrived`]).
//!
//! Nothing of it is stored. Tokens are looked up by their SHA-256, so that the time a look-up takes tells nothing about a token
//! that is in force.
//!
//! What counts as served are the bytes of the package that the device's TCP has acknowledged. So what was told is never taken back:
//! what has left and was not acknowledged is in flight, and counts for nothing. Bytes that were served twice count once ([`Spans`]).
//! It is the device's kernel that acknowledges: that its program has read everything is not known. Behind a proxy it is the proxy's.

mod holders;
mod links;
mod pace;

use std::{
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    clock::UtcMillis,
    ledger::{DeviceId, PackageId, TaskId, UpgradeId},
    package::Spans,
};

pub use holders::Holder;
use holders::Holders;
pub use links::{Links, LinksError, safe_file_name};
pub use pace::Pace;

/// The witness is told again when so many more bytes were served.
const TOLD_EVERY_BYTES: u64 = 1024 * 1024;
/// What a device shows to download: 22 to 128 characters out of `A-Z a-z 0-9 - _`, hard to guess. 22 of them in base64 have 132
/// bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Arc<str>);

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a token has 22 to 128 characters out of A-Z a-z 0-9 - _")]
pub struct TokenError;

impl Token {
    /// The token with this text.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if (22..=128).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(TokenError)
        }
    }

    /// Its text. It is a secret of the device's.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Never shows the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

/// Where a device shows its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// In `Authorization: Bearer` (RFC 6750 §2.1).
    Bearer,
    /// In the URL's path.
    Path,
}

/// The right of one device to download one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What the device shows.
    pub token: Token,
    /// Where it shows it.
    pub way: Way,
    /// The device.
    pub device: DeviceId,
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// The task that it belongs to.
    pub task: TaskId,
    /// The package.
    pub package: PackageId,
    /// SHA-256 of its content, 64 lower-case hexadecimal digits: the name of its file.
    pub sha256: String,
    /// Its bytes.
    pub size_bytes: u64,
    /// What the file is called there; characters that are not safe are replaced ([`safe_file_name`]).
    pub file_name: String,
    /// When the right ends. A download that is under way then goes on.
    pub expires_at: UtcMillis,
    /// Bytes from the beginning that were served before, as a [`Served`] of this token said; 0 for a new one.
    pub already_contiguous: u64,
    /// It is written down that the device fetches the package. Before that, no byte of it is to leave: whoever has any is then
    /// known to have begun, whatever becomes of the server.
    pub begun: bool,
}

/// How much of a package was served for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The device.
    pub device: DeviceId,
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// The task that it belongs to.
    pub task: TaskId,
    /// What the device showed.
    pub token: Token,
    /// Bytes from the beginning of the package without a gap.
    pub contiguous_bytes: u64,
    /// Whether that is the whole package.
    pub whole: bool,
    /// Whether bytes of it are on their way to the device, on a connection that is there.
    pub in_flight: bool,
    /// Bytes of the package that were acknowledged since this was told last, those that were served before too: what it cost the
    /// device. They are to be added up.
    pub more_bytes: u64,
    /// The right was taken back before: only what it cost the device is of interest, to whatever its upgrade has come.
    pub over: bool,
}

/// Is told what was served: when a device begins, about every MiB, when all of it was, when a response has left, when nothing is
/// in flight any more, and when a connection is over. Of a right that was taken back it is told what arrived of it besides. A token's bytes never become fewer. It must not block, and must not call the [`Grants`].
pub trait Witness: Send + Sync + 'static {
    /// So much was served so far.
    fn served(&self, served: Served);
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no token where one is needed.
    #[error("a token is needed")]
    NoToken,
    /// No such token is in force.
    #[error("there is no such token")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It is for another package.
    #[error("the token is for another package")]
    OtherPackage,
}

/// What of a grant is in force.
#[derive(Debug)]
pub struct Live {
    grant: Grant,
    revoked: AtomicBool,
    /// It is written down that it is fetched.
    begun: AtomicBool,
    holders: Holders,
    /// The device's pace.
    pub pace: Mutex<Pace>,
    /// The pace at which check codes are computed for it.
    pub check_code_pace: Mutex<Pace>,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// What the device's TCP has acknowledged.
    arrived: Spans,
    /// Bytes that were sent and are neither acknowledged nor lost.
    in_flight: u64,
    /// Bytes that were acknowledged since the witness was told, repeats included.
    more_bytes: u64,
    expires_at: UtcMillis,
    /// What the witness was told last: bytes without a gap, and whether some were in flight.
    told: Option<(u64, bool)>,
}

impl Live {
    /// What was granted.
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whether it was taken back: a download that is under way has to end.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    /// Whether bytes of the package may leave: it is written down that the device fetches it.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Bytes from the beginning that were served without a gap.
    pub fn contiguous_bytes(&self) -> u64 {
        held(&self.progress).arrived.contiguous()
    }
}

/// A connection's hold on a grant. Dropping it ends that.
#[derive(Debug)]
pub struct Opened {
    live: Arc<Live>,
    holder: Arc<Holder>,
}

impl Opened {
    /// The grant, without a hold on it.
    pub fn live(&self) -> Arc<Live> {
        self.live.clone()
    }
}

impl std::ops::Deref for Opened {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.live
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.live.holders.remove(&self.holder);
    }
}

/// Grants in force. Share it in an `Arc`.
#[derive(Default)]
pub struct Grants {
    live: Mutex<HashMap<[u8; 32], Arc<Live>>>,
    witness: OnceLock<Arc<dyn Witness>>,
    links: OnceLock<Links>,
}

impl Grants {
    /// Has this witness told from now on. The first one stays.
    pub fn watch(&self, witness: Arc<dyn Witness>) {
        let _ = self.witness.set(witness); // the first stays
    }

    /// Where devices fetch packages; set once, when the listener is there. The first stays.
    pub fn set_links(&self, links: Links) {
        let _ = self.links.set(links); // the first stays
    }

    /// Where devices fetch packages; `None` where no package is served over HTTP.
    pub fn links(&self) -> Option<&Links> {
        self.links.get()
    }

    /// Puts a grant into force. The same token again changes the time at which it ends, and loses nothing of what was served; with
    /// another package, device or upgrade it begins anew.
    pub fn grant(&self, grant: Grant) {
        let key = key(grant.token.as_str());
        let mut live = held(&self.live);
        if let Some(same) = live.get(&key).filter(|live| live.grant.is_alike(&grant)) {
            let mut progress = held(&same.progress);
            progress.expires_at = grant.expires_at;
            progress.served_before(&grant);
            if grant.begun {
                same.begun.store(true, Ordering::Relaxed);
            }
            return;
        }
        let mut progress = Progress {
            arrived: Spans::default(),
            in_flight: 0,
            more_bytes: 0,
            expires_at: grant.expires_at,
            told: None,
        };
        progress.served_before(&grant);
        let file_name = safe_file_name(&grant.file_name);
        let begun = grant.begun;
        let new = Arc::new(Live {
            grant: Grant { file_name, ..grant },
            revoked: AtomicBool::new(false),
            begun: AtomicBool::new(begun),
            holders: Holders::default(),
            pace: Mutex::default(),
            check_code_pace: Mutex::default(),
            progress: Mutex::new(progress),
        });
        if let Some(old) = live.insert(key, new) {
            old.revoked.store(true, Ordering::Relaxed);
        }
    }

    /// Takes a grant back, and ends downloads that are under way. It is no error when there is none.
    pub fn revoke(&self, token: &Token) {
        if let Some(live) = held(&self.live).remove(&key(token.as_str())) {
            live.revoked.store(true, Ordering::Relaxed);
        }
    }

    /// How much was served for a token; `None` when it is not in force.
    pub fn look(&self, token: &Token) -> Option<Served> {
        let live = held(&self.live).get(&key(token.as_str())).cloned()?;
        let progress = held(&live.progress);
        Some(progress.served(&live))
    }

    /// Grants in force, also expired ones.
    pub fn count(&self) -> usize {
        held(&self.live).len()
    }

    /// Removes grants that expired before `now`, except those that are being served. Returns how many. What is not revoked by its
    /// upgrade is gone some time later all the same.
    pub fn remove_expired(&self, now: UtcMillis) -> usize {
        let mut live = held(&self.live);
        let before = live.len();
        live.retain(|_, live| !live.holders.is_empty() || held(&live.progress).expires_at > now);
        before - live.len()
    }

    /// The grant of a token that a request shows, for the package that it asks for where its path names one. A token is served on
    /// `most` connections at once: the one that has asked least lately is told to end where `holder` would be one more. A device on a
    /// bad link leaves connections behind that are dead, and nobody knows.
    ///
    /// # Errors
    /// [`Refusal`] when it is not to be served.
    pub fn open(
        &self,
        token: &str,
        package: Option<PackageId>,
        most: u32,
        holder: &Arc<Holder>,
        now: UtcMillis,
    ) -> Result<Opened, Refusal> {
        let all = held(&self.live);
        let live = all.get(&key(token)).cloned().ok_or(Refusal::Unknown)?;
        if held(&live.progress).expires_at <= now {
            return Err(Refusal::Expired);
        }
        if package.is_some_and(|package| package != live.grant.package) {
            return Err(Refusal::OtherPackage);
        }
        live.holders.add(holder, most);
        Ok(Opened {
            live,
            holder: holder.clone(),
        })
    }

    /// The package, or a part of it, begins to be served.
    pub fn begins(&self, live: &Live) {
        self.look_whether_to_tell(live, &mut held(&live.progress), false);
    }

    /// So many bytes of the package have left: they are in flight. With `end` they are the last ones of a response.
    pub fn sent(&self, live: &Live, bytes: u64, end: bool) {
        let mut progress = held(&live.progress);
        progress.in_flight += bytes;
        self.look_whether_to_tell(live, &mut progress, end);
    }

    /// The device's TCP has acknowledged these bytes, which were in flight. With `due` the witness is told at once, otherwise when
    /// enough has come together.
    pub fn arrived(&self, live: &Live, bytes: Range<u64>, due: bool) {
        let bytes = bytes.start..bytes.end.min(live.grant.size_bytes);
        let count = bytes.end.saturating_sub(bytes.start);
        let mut progress = held(&live.progress);
        progress.in_flight = progress.in_flight.saturating_sub(count);
        progress.more_bytes += count;
        progress.arrived.add(bytes);
        self.look_whether_to_tell(live, &mut progress, due);
    }

    /// The connection was over before so many bytes that were in flight were acknowledged.
    pub fn lost(&self, live: &Live, bytes: u64) {
        let mut progress = held(&live.progress);
        progress.in_flight = progress.in_flight.saturating_sub(bytes);
        let due = progress.in_flight == 0;
        self.look_whether_to_tell(live, &mut progress, due);
    }

    /// A connection is over on which the package was served.
    pub fn ends(&self, live: &Live) {
        let mut progress = held(&live.progress);
        if progress.in_flight == 0 && progress.more_bytes > 0 {
            self.look_whether_to_tell(live, &mut progress, true);
        }
    }

    /// Tells the witness what is new, where that is due. The lock is held meanwhile, so that what is told last is what holds.
    fn look_whether_to_tell(&self, live: &Live, progress: &mut Progress, due: bool) {
        let contiguous = progress.arrived.contiguous();
        let now = (contiguous, progress.in_flight > 0);
        let tells = match progress.told {
            _ if live.is_revoked() => {
                let rest = progress.in_flight == 0 && progress.more_bytes > 0;
                rest || progress.more_bytes >= TOLD_EVERY_BYTES
            }
            None => true,
            Some((told, _)) if contiguous >= told + TOLD_EVERY_BYTES => true,
            Some((told, _)) if contiguous > told && contiguous >= live.grant.size_bytes => true,
            Some(told) => due && (told != now || progress.more_bytes > 0),
        };
        if !tells {
            return;
        }
        progress.told = Some(now);
        let served = progress.served(live);
        progress.more_bytes = 0;
        if let Some(witness) = self.witness.get() {
            witness.served(served);
        }
    }
}

impl Progress {
    fn served_before(&mut self, grant: &Grant) {
        self.arrived
            .add(0..grant.already_contiguous.min(grant.size_bytes));
    }

    fn served(&self, live: &Live) -> Served {
        let grant = &live.grant;
        let contiguous_bytes = self.arrived.contiguous();
        Served {
            device: grant.device,
            upgrade: grant.upgrade,
            task: grant.task,
            token: grant.token.clone(),
            contiguous_bytes,
            whole: contiguous_bytes >= grant.size_bytes,
            in_flight: self.in_flight > 0,
            more_bytes: self.more_bytes,
            over: live.is_revoked(),
        }
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

impl Grant {
    fn is_alike(&self, other: &Self) -> bool {
        self.device == other.device
            && self.upgrade == other.upgrade
            && self.package == other.package
            && self.sha256 == other.sha256
            && self.size_bytes == other.size_bytes
    }
}

fn key(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
