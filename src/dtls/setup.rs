use std::{fmt, sync::Arc, time::Duration};

use openssl::error::ErrorStack;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// What the DTLS side of a server is made of.
#[derive(Clone)]
pub struct DtlsSetup {
    /// Finds the pre-shared keys.
    pub keys: Arc<dyn PskSource>,
    /// Lets devices in by certificates too.
    pub certificates: Option<Certificates>,
    /// Random, and another one at each start of the server: cookies and the keys of tickets follow from
    /// it. Two servers of the same seed take each other's tickets, but do not tell each other which
    /// identities were ended; those of [`Dtls::several`](super::Dtls::several) do.
    pub seed: [u8; 32],
    /// When to repeat and when to give up.
    pub timing: Timing,
    /// How much strangers and sleepers may cost.
    pub limits: Limits,
}

impl DtlsSetup {
    /// Finds what could never work.
    pub(super) fn check(&self) -> Result<(), SetupError> {
        let timing = &self.timing;
        let limits = &self.limits;
        let rules = [
            (
                timing.initial_timeout >= Duration::from_millis(1)
                    && timing.max_timeout >= timing.initial_timeout,
                "the repetition of flights must begin after a millisecond or more, and not end before",
            ),
            (
                timing.handshake_deadline >= timing.initial_timeout
                    && timing.handshake_deadline <= Duration::from_hours(1),
                "a handshake must be given a repetition at least, and an hour at most",
            ),
            (
                timing.cookie_period >= Duration::from_secs(1),
                "a cookie must be good for a second at least",
            ),
            (
                limits.associations > 0
                    && limits.per_identity > 0
                    && limits.half_open > 0
                    && limits.half_open_per_source > 0
                    && limits.queue_len > 0,
                "a limit of zero lets nobody in",
            ),
            (
                (256..=16_384).contains(&limits.handshake_datagram_len),
                "datagrams of handshakes have 256 to 16384 bytes",
            ),
        ];
        match rules.into_iter().find(|(fine, _)| !fine) {
            Some((_, problem)) => Err(SetupError::OutOfRange(problem)),
            None => Ok(()),
        }
    }
}

/// Pre-shared keys by identity.
pub trait PskSource: Send + Sync {
    /// The key of `identity`, `None` when nobody is known by it. Asked once in each full handshake and
    /// each resumption, on the thread that drives [`Dtls`](super::Dtls).
    ///
    /// An identity is cut at a zero byte, for OpenSSL hands it over as a C string.
    fn psk(&self, identity: &[u8]) -> Option<Psk>;

    /// Who has `identity` with which key, as a digest: another one where the identity has gone to somebody else, or its key was
    /// changed. A ticket is good for the one it was made for. Asked once for each ticket and each resumption.
    fn holder(&self, identity: &[u8]) -> Option<HolderDigest> {
        self.psk(identity).map(|key| HolderDigest::of("", &key))
    }
}

/// See [`PskSource::holder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HolderDigest(pub(super) [u8; 32]);

impl HolderDigest {
    /// Of a holder's name and its key.
    pub fn of(name: &str, key: &Psk) -> Self {
        let digest = Sha256::new()
            .chain_update((name.len() as u64).to_be_bytes())
            .chain_update(name)
            .chain_update(key.as_bytes());
        Self(digest.finalize().into())
    }
}

/// A pre-shared key of 1 to 256 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Psk(Box<[u8]>);

/// A pre-shared key is empty or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a pre-shared key has 1 to {} bytes", Psk::MAX_LEN)]
pub struct PskLength;

impl Psk {
    /// Longest key, bytes. RFC 4279 §5.3 asks for 64 at least.
    pub const MAX_LEN: usize = 256;

    /// A key of these bytes.
    ///
    /// # Errors
    /// It is empty or longer than [`MAX_LEN`](Self::MAX_LEN).
    pub fn new(bytes: &[u8]) -> Result<Self, PskLength> {
        if bytes.is_empty() || bytes.len() > Self::MAX_LEN {
            return Err(PskLength);
        }
        Ok(Self(bytes.into()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Never shows the key.
impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Psk({} bytes)", self.0.len())
    }
}

/// Certificates in PEM. Only ECDSA keys serve: the suites are ECDHE-ECDSA.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The server's certificate, and those between it and its root.
    pub chain_pem: Vec<u8>,
    /// The server's private key.
    pub key_pem: Vec<u8>,
    /// The authorities whose client certificates are accepted.
    pub client_ca_pem: Vec<u8>,
}

/// When to repeat and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A flight that stays unanswered is repeated after this, then after twice as long, and so on.
    /// RFC 6347 §4.2.4.1 names 1 s; a round trip over NB-IoT takes up to 10 s, and RFC 7925 §11 asks for
    /// 9 s and more where that is so.
    pub initial_timeout: Duration,
    /// The pause between two repetitions grows no longer than this.
    pub max_timeout: Duration,
    /// A handshake that has taken this long is given up. At most an hour.
    pub handshake_deadline: Duration,
    /// A handshake whose peer has not answered the server's first flight is given up after this, or after
    /// four times `initial_timeout` if that is longer, so that it has been repeated twice.
    pub answer_deadline: Duration,
    /// A cookie is good for one to two of these.
    pub cookie_period: Duration,
    /// A ticket resumes a session for this long after its full handshake, on OpenSSL's own clock.
    pub ticket_lifetime: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            initial_timeout: Duration::from_secs(9),
            max_timeout: Duration::from_mins(1),
            handshake_deadline: Duration::from_mins(2),
            answer_deadline: Duration::from_secs(40),
            cookie_period: Duration::from_mins(1),
            ticket_lifetime: Duration::from_hours(48),
        }
    }
}

/// How much strangers and sleepers may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Associations that are kept; the one that was not used for longest goes first. See
    /// [`within_memory`](Self::within_memory).
    pub associations: usize,
    /// Associations of one identity: a device whose address changes leaves old ones behind.
    pub per_identity: usize,
    /// Handshakes under way. Each takes up to 100 KiB.
    pub half_open: usize,
    /// Handshakes under way with one source: an IPv4 address, which a whole network may hide behind,
    /// or an IPv6 /48.
    pub half_open_per_source: usize,
    /// Datagrams of handshakes that wait for [`work`](super::Dtls::work); those of one source take an
    /// eighth at most.
    pub queue_len: usize,
    /// Cookies handed out per second, with bursts of as many.
    pub cookies_per_second: u32,
    /// Cookies handed out per second to one network, an IPv4 /24 or an IPv6 /48.
    pub cookies_per_network_per_second: u32,
    /// Handshakes begun per second, with bursts of as many.
    pub handshakes_per_second: u32,
    /// Handshakes begun per second with one network. More than its cookies, for a cookie may have been
    /// fetched earlier.
    pub handshakes_per_network_per_second: u32,
    /// Longest datagram of a handshake, bytes, without the headers of UDP and IP.
    pub handshake_datagram_len: u32,
}

impl Limits {
    /// What an idle association takes at most, bytes.
    pub const ASSOCIATION_BYTES: usize = 45 * 1024;

    /// As many associations as `bytes` of memory hold.
    #[must_use]
    pub const fn within_memory(mut self, bytes: usize) -> Self {
        self.associations = bytes / Self::ASSOCIATION_BYTES;
        self
    }

    /// What each of so many has that share these limits. One source has addresses with all of them.
    #[must_use]
    pub(super) fn shared_by(self, count: u8) -> Self {
        let share = |limit: usize| limit.div_ceil(usize::from(count.max(1)));
        let rate = |limit: u32| limit.div_ceil(u32::from(count.max(1)));
        Self {
            associations: share(self.associations),
            per_identity: self.per_identity,
            half_open: share(self.half_open),
            half_open_per_source: share(self.half_open_per_source),
            queue_len: share(self.queue_len),
            cookies_per_second: rate(self.cookies_per_second),
            cookies_per_network_per_second: rate(self.cookies_per_network_per_second),
            handshakes_per_second: rate(self.handshakes_per_second),
            handshakes_per_network_per_second: rate(self.handshakes_per_network_per_second),
            handshake_datagram_len: self.handshake_datagram_len,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            associations: 0,
            per_identity: 4,
            half_open: 1024,
            half_open_per_source: 256,
            queue_len: 4096,
            cookies_per_second: 20_000,
            cookies_per_network_per_second: 1_000,
            handshakes_per_second: 20_000,
            handshakes_per_network_per_second: 2_000,
            handshake_datagram_len: 1200,
        }
        .within_memory(1 << 30)
    }
}

/// The setup cannot be used.
#[derive(Debug, Error)]
pub enum SetupError {
    /// OpenSSL does not take a part of it.
    #[error("OpenSSL does not take {part}: {source}")]
    Refused {
        /// The part.
        part: &'static str,
        /// Why.
        source: ErrorStack,
    },
    /// A limit or a time that nothing could work with.
    #[error("{0}")]
    OutOfRange(&'static str),
}
