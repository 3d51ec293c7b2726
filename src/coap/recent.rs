use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::{Code, Datagram};
use crate::clock::Instant;

/// Messages that are remembered per device. A device has few exchanges under way, so a handful is
/// enough; RFC 7252 §4.5 allows to forget earlier than `EXCHANGE_LIFETIME`.
const CAPACITY: usize = 16;

/// `EXCHANGE_LIFETIME` of RFC 7252 §4.8.2: nothing of an exchange arrives later.
pub const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);

/// `MAX_TRANSMIT_SPAN` of RFC 7252 §4.8.2: no message is sent again later than this. What arrives later with the same
/// message ID is another message, or was kept by the network for long.
pub const MAX_TRANSMIT_SPAN: Duration = Duration::from_secs(45);

/// What a repeated message is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing: the message was Non-confirmable and had no response.
    Silence,
    /// An empty acknowledgement.
    Ack,
    /// An acknowledgement that says no more than this.
    Code(Code),
    /// That it is registered, and where: 2.01 with its location.
    Registered,
    /// The response that was sent before. (In a box, because there are few of these and many of the others.)
    Response(Box<Datagram>),
}

/// The messages that one device sent last (message-ID de-duplication, RFC 7252 §4.5).
///
/// A repeat is the same message ID with the same bytes: a device that restarts counts its message
/// IDs from the same number again, and what it says then must not be taken for a repeat.
#[derive(Debug, Default)]
pub struct Recent {
    /// The oldest first, and no room for more: most devices say one thing, and then nothing for hours.
    entries: Box<[Entry]>,
}

#[derive(Debug)]
struct Entry {
    message_id: u16,
    /// Of the bytes. A device whose message is taken for a repeat by accident sends another.
    digest: u32,
    /// Seconds on the engine's clock.
    at_s: u32,
    reply: Reply,
}

impl Recent {
    /// The reply to the message of this ID and these bytes, if it was received so short a time ago; after
    /// [`EXCHANGE_LIFETIME`] it is forgotten in any case.
    pub fn find(
        &self,
        now: Instant,
        within: Duration,
        message_id: u16,
        datagram: &[u8],
    ) -> Option<&Reply> {
        (self.entries.iter().rev())
            .filter(|entry| entry.message_id == message_id)
            .find_map(|entry| entry.reply_to(now, within, datagram))
    }

    /// As [`find`](Self::find), but only when nothing else was received since.
    pub fn find_last(
        &self,
        now: Instant,
        within: Duration,
        message_id: u16,
        datagram: &[u8],
    ) -> Option<&Reply> {
        let entry = self.entries.last()?;
        (entry.message_id == message_id).then(|| entry.reply_to(now, within, datagram))?
    }

    /// Remembers a message and its reply, forgetting the oldest one when there are too many.
    pub fn remember(&mut self, now: Instant, message_id: u16, datagram: &[u8], reply: Reply) {
        let entry = Entry {
            message_id,
            digest: digest(datagram),
            at_s: seconds(now),
            reply,
        };
        if self.entries.len() < CAPACITY {
            let mut entries = std::mem::take(&mut self.entries).into_vec();
            entries.reserve_exact(1);
            entries.push(entry);
            self.entries = entries.into_boxed_slice();
            return;
        }
        self.entries.rotate_left(1);
        if let Some(last) = self.entries.last_mut() {
            *last = entry;
        }
    }

    /// When everything that is remembered is too old to matter.
    pub fn expires(&self) -> Option<Instant> {
        let last = self.entries.last()?;
        Some(Instant::from_millis(u64::from(last.at_s) * 1_000) + EXCHANGE_LIFETIME)
    }

    /// Forgets everything: the device started anew, or it is too old to matter.
    pub fn clear(&mut self) {
        self.entries = Box::default();
    }
}

impl Entry {
    fn reply_to(&self, now: Instant, within: Duration, datagram: &[u8]) -> Option<&Reply> {
        let age_s = seconds(now).saturating_sub(self.at_s);
        let lasts = u64::from(age_s) < within.min(EXCHANGE_LIFETIME).as_secs();
        (lasts && self.digest == digest(datagram)).then_some(&self.reply)
    }
}

/// Enough until the year 2106 on a clock that began with the wall clock's time.
fn seconds(at: Instant) -> u32 {
    u32::try_from(at.as_millis() / 1_000).unwrap_or(u32::MAX)
}

fn digest(datagram: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    datagram.hash(&mut hasher);
    (hasher.finish() >> 32) as u32 // half of it is enough
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(1_000);

    #[test]
    fn a_repeat_is_the_same_id_with_the_same_bytes() {
        let mut recent = Recent::default();
        recent.remember(NOW, 7, b"one", Reply::Ack);
        let find = |id, bytes| recent.find(NOW, EXCHANGE_LIFETIME, id, bytes);
        assert_eq!(find(7, b"one"), Some(&Reply::Ack));
        assert_eq!(find(7, b"two"), None);
        assert_eq!(find(8, b"one"), None);
    }

    #[test]
    fn forgets_after_the_exchange_lifetime() {
        let mut recent = Recent::default();
        recent.remember(NOW, 7, b"one", Reply::Ack);
        let later = NOW + EXCHANGE_LIFETIME;
        assert_eq!(recent.find(later, Duration::MAX, 7, b"one"), None);
        assert_eq!(recent.expires(), Some(later));
    }

    #[test]
    fn remembers_a_bounded_number() {
        let mut recent = Recent::default();
        for id in 0..100 {
            recent.remember(NOW, id, b"x", Reply::Silence);
        }
        assert_eq!(recent.entries.len(), CAPACITY);
        let find = |id| recent.find(NOW, EXCHANGE_LIFETIME, id, b"x");
        assert!(find(83).is_none());
        assert!(find(84).is_some());
        assert!(find(99).is_some());
    }

    #[test]
    fn only_the_last_one_is_found_as_last() {
        let mut recent = Recent::default();
        recent.remember(NOW, 1, b"register", Reply::Ack);
        let find = |recent: &Recent| {
            let found = recent.find_last(NOW, EXCHANGE_LIFETIME, 1, b"register");
            found.is_some()
        };
        assert!(find(&recent));
        recent.remember(NOW, 2, b"data", Reply::Ack);
        assert!(!find(&recent));
    }

    #[test]
    fn a_message_that_comes_too_late_for_a_repeat_is_another() {
        let mut recent = Recent::default();
        recent.remember(NOW, 1, b"update", Reply::Ack);
        let (soon, late) = (NOW + Duration::from_secs(44), NOW + MAX_TRANSMIT_SPAN);
        let is_repeat = |recent: &Recent, now| {
            let found = recent.find(now, MAX_TRANSMIT_SPAN, 1, b"update").is_some();
            let last = recent.find_last(now, MAX_TRANSMIT_SPAN, 1, b"update");
            assert_eq!(found, last.is_some());
            found
        };
        assert!(is_repeat(&recent, soon));
        assert!(!is_repeat(&recent, late));
        // what it is answered then is what counts from then on
        recent.remember(late, 1, b"update", Reply::Silence);
        assert_eq!(
            recent.find(late, MAX_TRANSMIT_SPAN, 1, b"update"),
            Some(&Reply::Silence)
        );
    }
}
