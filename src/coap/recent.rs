use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::clock::Instant;

/// Messages that are remembered per device. A device has few exchanges under way, so a handful is
/// enough; RFC 7252 §4.5 allows to forget earlier than `EXCHANGE_LIFETIME`.
const CAPACITY: usize = 16;

/// `EXCHANGE_LIFETIME` of RFC 7252 §4.8.2.
const LIFETIME: Duration = Duration::from_secs(247);

/// What a repeated message is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing: the message was Non-confirmable and had no response.
    Silence,
    /// An empty acknowledgement.
    Ack,
    /// The response that was sent before.
    Response(Box<[u8]>),
}

/// The messages that one device sent last (message-ID de-duplication, RFC 7252 §4.5).
///
/// A repeat is the same message ID with the same bytes: a device that restarts counts its message
/// IDs from the same number again, and what it says then must not be taken for a repeat.
#[derive(Debug, Default)]
pub struct Recent {
    /// The message IDs of `entries`: most messages are new, and then these few bytes are all that is looked at.
    ids: [u16; CAPACITY],
    /// A ring, once it is full.
    entries: Vec<Entry>,
    /// Where the next one goes.
    next: usize,
}

#[derive(Debug)]
struct Entry {
    digest: u64,
    at: Instant,
    reply: Reply,
}

impl Recent {
    /// The reply to the message of this ID and these bytes, if it was received before.
    pub fn find(&self, now: Instant, message_id: u16, datagram: &[u8]) -> Option<&Reply> {
        let count = self.entries.len();
        (1..=count)
            .map(|back| (self.next + count - back) % count)
            .filter(|index| self.ids[*index] == message_id)
            .find_map(|index| self.entries[index].reply_to(now, datagram))
    }

    /// As [`find`](Self::find), but only when nothing else was received since.
    pub fn find_last(&self, now: Instant, message_id: u16, datagram: &[u8]) -> Option<&Reply> {
        let count = self.entries.len();
        let last = (self.next + count).checked_sub(1)? % count;
        let entry = self.entries.get(last)?;
        (self.ids[last] == message_id).then(|| entry.reply_to(now, datagram))?
    }

    /// Remembers a message and its reply, forgetting the oldest one when there are too many.
    pub fn remember(&mut self, now: Instant, message_id: u16, datagram: &[u8], reply: Reply) {
        let entry = Entry {
            digest: digest(datagram),
            at: now,
            reply,
        };
        self.ids[self.next] = message_id;
        match self.entries.get_mut(self.next) {
            Some(oldest) => *oldest = entry,
            None => self.entries.push(entry),
        }
        self.next = (self.next + 1) % CAPACITY;
    }

    /// Forgets everything: the device started anew.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.next = 0;
    }
}

impl Entry {
    fn reply_to(&self, now: Instant, datagram: &[u8]) -> Option<&Reply> {
        let same = self.digest == digest(datagram) && now.since(self.at) < LIFETIME;
        same.then_some(&self.reply)
    }
}

fn digest(datagram: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    datagram.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(1_000);

    #[test]
    fn a_repeat_is_the_same_id_with_the_same_bytes() {
        let mut recent = Recent::default();
        recent.remember(NOW, 7, b"one", Reply::Ack);
        assert_eq!(recent.find(NOW, 7, b"one"), Some(&Reply::Ack));
        assert_eq!(recent.find(NOW, 7, b"two"), None);
        assert_eq!(recent.find(NOW, 8, b"one"), None);
    }

    #[test]
    fn forgets_after_the_exchange_lifetime() {
        let mut recent = Recent::default();
        recent.remember(NOW, 7, b"one", Reply::Ack);
        assert_eq!(recent.find(NOW + LIFETIME, 7, b"one"), None);
    }

    #[test]
    fn remembers_a_bounded_number() {
        let mut recent = Recent::default();
        for id in 0..100 {
            recent.remember(NOW, id, b"x", Reply::Silence);
        }
        assert_eq!(recent.entries.len(), CAPACITY);
        assert!(recent.find(NOW, 83, b"x").is_none());
        assert!(recent.find(NOW, 84, b"x").is_some());
    }

    #[test]
    fn only_the_last_one_is_found_as_last() {
        let mut recent = Recent::default();
        recent.remember(NOW, 1, b"register", Reply::Ack);
        assert!(recent.find_last(NOW, 1, b"register").is_some());
        recent.remember(NOW, 2, b"data", Reply::Ack);
        assert!(recent.find_last(NOW, 1, b"register").is_none());
    }
}
