//! A device's registration in the engine's time, what may explain the next one, and whether its address is its own.

use std::time::Duration;

use super::{
    Binding, DeviceId, Lwm2mVersion, QueueMode, Registration, id::Location, told::ObjectSet,
};
use crate::{
    clock::{Instant, Now, UtcMillis},
    coap::Peer,
};

/// Why a device may register anew without having restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excuse {
    /// Its registration had run out.
    Expired,
    /// It was told that its registration is unknown (4.04), or to try later (5.03), or got no answer.
    Refused,
    /// It is heard for the first time since the server was started.
    ServerRestarted,
    /// The server was started so short a time ago that it may have been refused something before, or got no answer.
    ServerYoung,
    /// It is the same message as the registration before, or was sent before it, or before what is known of the device: it got
    /// no answer to that, or the network or a shard has kept it.
    Repeated,
}

/// A registration, in the engine's time.
#[derive(Debug)]
pub(super) struct Registered {
    /// What tells it from the device's other ones, in its location.
    pub(super) nonce: [u8; 3],
    pub(super) peer: Peer,
    /// The message that brought it, where that is known.
    pub(super) message_id: Option<u16>,
    /// Another device is heard from that address: this one has moved without a word, or is gone.
    pub(super) displaced: bool,
    /// Whether what is sent to that address arrives.
    pub(super) validation: Validation,
    pub(super) lifetime_s: u32,
    pub(super) since: UtcMillis,
    pub(super) expires: Instant,
    /// When it ends as far as the store knows.
    pub(super) stored_until: Option<Instant>,
    /// It comes from before a restart, and `expires` is the latest end that it may have.
    pub(super) supposed: bool,
    pub(super) queue_mode: QueueMode,
    pub(super) lwm2m_version: Option<Lwm2mVersion>,
    pub(super) binding: Binding,
    pub(super) objects: ObjectSet,
}

impl Registered {
    /// Whether a message of this ID, received now, was sent before the registration: devices count their messages, and
    /// the network may have kept one. Not so where the counting begins anew with each start, or is none.
    pub(super) fn is_newer_than(&self, message_id: u16, now: UtcMillis) -> bool {
        /// Messages that a device sends at most while the network keeps one.
        const AT_MOST: u16 = 64;
        let Some(own) = self.message_id else {
            return false;
        };
        let lasts = now.0 - self.since.0 < MAX_LATENCY_MS;
        lasts && (1..=AT_MOST).contains(&own.wrapping_sub(message_id))
    }

    /// How much of a registration's renewal may not be known to the store.
    pub(super) fn unwritten_at_most(&self) -> Duration {
        let half = Duration::from_secs(self.lifetime_s.into()) / 2;
        half.min(RENEWALS_UNWRITTEN)
    }

    /// Whether the store has to be told that the registration goes on until `expires`.
    pub(super) fn is_due_to_be_written(&self, expires: Instant) -> bool {
        (self.stored_until).is_none_or(|known| expires.since(known) >= self.unwritten_at_most())
    }

    /// Whether what is sent to that address is known to arrive.
    pub(super) fn is_valid_at(&self, peer: Peer) -> bool {
        self.validation == Validation::Valid && !self.displaced && self.peer == peer
    }

    /// How long it lasts without an update.
    pub(super) fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_s.into())
    }

    /// When it ends, for the store.
    pub(super) fn known_end(&self) -> Instant {
        match self.stored_until {
            Some(known) if self.supposed => known,
            _ => self.expires,
        }
    }

    /// As the store is told of it, when nothing is announced anew.
    pub(super) fn record(&self, now: Now, device: DeviceId) -> Registration {
        let location = Location {
            device,
            registration: self.nonce,
        };
        Registration {
            location: location.to_string(),
            peer: self.peer,
            lifetime_s: self.lifetime_s,
            expires_at: now.utc_at(self.known_end()),
            registered_at: self.since,
            message_id: self.message_id,
            queue_mode: self.queue_mode,
            lwm2m_version: self.lwm2m_version,
            binding: self.binding,
            announced: None,
        }
    }
}

/// Whether somebody has shown to receive what is sent to an address: a sender's own may be false, and then another suffers from
/// what is sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validation {
    /// By an answer, by a token or a location that nobody else knows, or by a handshake.
    Valid,
    /// Not yet. No more is sent than three times what came from there (the rule of RFC 9000 §8.1): so many bytes are left.
    Pending { allowance: u16 },
}

impl Validation {
    /// How long a device is kept that came by itself, when nothing shows that it is where it says.
    pub(super) const LIFETIME: Duration = Duration::from_hours(1);

    /// Of an address from which one datagram came.
    pub(super) fn pending(received: usize) -> Self {
        let mut pending = Self::Pending { allowance: 0 };
        pending.earns(received);
        pending
    }

    /// So much came from there.
    pub(super) fn earns(&mut self, received: usize) {
        if let Self::Pending { allowance } = self {
            let more = u16::try_from(3 * received).unwrap_or(u16::MAX);
            *allowance = allowance.saturating_add(more);
        }
    }

    /// Takes what is to be sent out of the allowance. `false` when it exceeds it.
    pub(super) fn allows(&mut self, len: usize) -> bool {
        let Self::Pending { allowance } = self else {
            return true;
        };
        let left = u16::try_from(len)
            .ok()
            .and_then(|len| allowance.checked_sub(len));
        *allowance = left.unwrap_or(*allowance);
        left.is_some()
    }
}

/// `MAX_LATENCY` of RFC 7252 §4.8.2: no message is longer under way.
const MAX_LATENCY_MS: i64 = 100_000;

/// A renewal that changes nothing but the end of a registration is written when it moves the end that the store knows
/// by so much, or by half a lifetime. After a restart a registration may last that much longer than the device has
/// asked for, and none ends early.
const RENEWALS_UNWRITTEN: Duration = Duration::from_hours(1);
