use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openssl::{nid::Nid, ssl::SslRef, x509::X509Ref};
use sha2::{Digest as _, Sha256};

use crate::clock::Instant;

/// Who a peer has shown to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// By a pre-shared key: its identity.
    Psk(Box<[u8]>),
    /// By a certificate of a configured authority.
    Certificate {
        /// The subject's common name.
        common_name: Option<String>,
        /// The subject's alternative names, DNS names and URIs, as in the certificate.
        alternative_names: Vec<String>,
    },
}

impl Identity {
    /// The identity of the session's peer, as far as the session is there.
    pub fn of(ssl: &SslRef) -> Option<Self> {
        if let Some(certificate) = ssl.peer_certificate() {
            return Some(Self::of_certificate(&certificate));
        }
        ssl.psk_identity()
            .map(|identity| Self::Psk(identity.into()))
    }

    fn of_certificate(certificate: &X509Ref) -> Self {
        let common_name = certificate
            .subject_name()
            .entries_by_nid(Nid::COMMONNAME)
            .next()
            .and_then(|entry| entry.data().to_string().ok());
        let alternative_names = certificate
            .subject_alt_names()
            .into_iter()
            .flatten()
            .filter_map(|name| name.dnsname().or_else(|| name.uri()).map(str::to_owned))
            .collect();
        Self::Certificate {
            common_name,
            alternative_names,
        }
    }

    /// Every name of it: the PSK identity if it is text, the common name, the alternative names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (first, rest) = match self {
            Self::Psk(identity) => (std::str::from_utf8(identity).ok(), &[][..]),
            Self::Certificate {
                common_name,
                alternative_names,
            } => (common_name.as_deref(), alternative_names.as_slice()),
        };
        first.into_iter().chain(rest.iter().map(String::as_str))
    }

    pub(super) fn digest(&self) -> IdentityDigest {
        let mut hash = Sha256::new();
        let mut part = |kind: u8, bytes: &[u8]| {
            hash.update([kind]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        match self {
            Self::Psk(identity) => part(0, identity),
            Self::Certificate {
                common_name,
                alternative_names,
            } => {
                if let Some(name) = common_name {
                    part(1, name.as_bytes());
                }
                for name in alternative_names {
                    part(2, name.as_bytes());
                }
            }
        }
        IdentityDigest(hash.finalize().into())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Psk(identity) => write!(f, "{}", identity.escape_ascii()),
            Self::Certificate { .. } => match self.names().next() {
                Some(name) => write!(f, "{}", name.escape_default()),
                None => f.write_str("a certificate without a name"),
            },
        }
    }
}

/// Stands for an identity where its length must not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct IdentityDigest(pub(super) [u8; 32]);

/// A point in the order of handshakes and ends of identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serial(pub(super) u64);

/// Which identities were ended, and when.
///
/// Handshakes and ends are numbered in one order. A ticket carries the number of its handshake: one from
/// before the end of its identity is worth nothing. A counter, unlike a clock, tells apart what happens
/// in the same millisecond.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    newest: AtomicU64,
    ended: Mutex<Ended>,
}

#[derive(Debug, Default)]
struct Ended {
    last: HashMap<IdentityDigest, Serial>,
    /// Every end, the oldest first.
    ends: VecDeque<(Instant, IdentityDigest, Serial)>,
}

impl Ended {
    fn forget_before(&mut self, now: Instant, span: Duration) {
        while let Some((_, identity, serial)) =
            (self.ends).pop_front_if(|(at, ..)| now.since(*at) > span)
        {
            // it may have been ended again
            if self.last.get(&identity) == Some(&serial) {
                self.last.remove(&identity);
            }
        }
    }
}

impl Ledger {
    /// The next number.
    pub(super) fn advance(&self) -> Serial {
        Serial(self.newest.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// From now on, nothing that began before counts for `identity`. What ended longer ago than any
    /// ticket lives is forgotten.
    pub(super) fn end(&self, identity: IdentityDigest, now: Instant, ticket_lifetime: Duration) {
        let serial = self.advance();
        let mut ended = self.ended();
        ended.forget_before(now, ticket_lifetime + SLACK);
        ended.last.insert(identity, serial);
        ended.ends.push_back((now, identity, serial));
    }

    /// Whether `identity` was ended after `serial`.
    pub(super) fn ended_since(&self, identity: &IdentityDigest, serial: Serial) -> bool {
        (self.ended().last.get(identity)).is_some_and(|ended| *ended > serial)
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        // No change to it can stop half-way.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The library tells the age of tickets by the wall clock, which may be set back meanwhile.
const SLACK: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(1_000_000);
    const LIFETIME: Duration = Duration::from_hours(1);

    fn identity(n: u32) -> IdentityDigest {
        Identity::Psk(n.to_be_bytes().into()).digest()
    }

    #[test]
    fn an_end_is_known_for_as_long_as_tickets_live() {
        let ledger = Ledger::default();
        let [first, second] = [identity(1), identity(2)];
        let before = ledger.advance();
        ledger.end(first, NOW, LIFETIME);
        ledger.end(second, NOW, LIFETIME);
        let again = NOW + Duration::from_mins(1);
        ledger.end(second, again, LIFETIME);
        assert!(ledger.ended_since(&first, before));
        assert!(!ledger.ended_since(&first, ledger.advance()));
        let late = NOW + LIFETIME + SLACK + Duration::from_secs(1);
        ledger.end(identity(3), late, LIFETIME);
        assert!(!ledger.ended_since(&first, before));
        assert!(ledger.ended_since(&second, before));
        ledger.end(identity(3), late + Duration::from_mins(1), LIFETIME);
        assert!(!ledger.ended_since(&second, before));
        assert_eq!(ledger.ended().last.len(), 1);
        assert_eq!(ledger.ended().ends.len(), 2);
    }

    /// Takes minutes if each end looks at all before it.
    #[test]
    fn many_ends_cost_no_more_each_than_few() {
        let ledger = Ledger::default();
        for n in 0..200_000 {
            ledger.end(identity(n), NOW, LIFETIME);
        }
        assert_eq!(ledger.ended().last.len(), 200_000);
    }
}
