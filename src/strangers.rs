//! Who was refused lately: told by the shards, shown at `/v1/devices/unknown`, so that a device that nobody added is found
//! and added in one step.
//!
//! Anybody can have himself listed under any name. So names are bounded and escaped, and so many are kept that those who
//! look for a device they have just switched on find it.

use std::{
    collections::HashSet,
    fmt,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use crate::clock::{SystemClock, UtcMillis};

/// Refused names that are kept, each with why: the newest.
pub const MAX_STRANGERS: NonZeroUsize = NonZeroUsize::new(100).unwrap();
/// Bytes of a name that are looked at. No endpoint name is longer.
pub const MAX_NAME_LEN: usize = 128;

/// Why somebody was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Nobody added the endpoint.
    UnknownEndpoint,
    /// Nobody has the identity of a pre-shared key.
    UnknownIdentity,
    /// Somebody has the identity, with another key.
    WrongKey,
    /// The device has to encrypt, and was heard where nothing is encrypted.
    NotEncrypted,
    /// Whoever acted as the endpoint has shown to be another.
    Impostor,
    /// Over MQTT: nobody added a device of that name, or with that token, that speaks it.
    UnknownMqttDevice,
    /// Over MQTT: the password, the certificate, or the form of the client ID is not the device's.
    WrongMqttCredential,
    /// Over MQTT: the device's clock is more than an hour off.
    StaleMqttStamp,
    /// A gateway spoke for it, and it is not reached through that gateway.
    OthersChild,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::UnknownEndpoint,
        Self::UnknownIdentity,
        Self::WrongKey,
        Self::NotEncrypted,
        Self::Impostor,
        Self::UnknownMqttDevice,
        Self::WrongMqttCredential,
        Self::StaleMqttStamp,
        Self::OthersChild,
    ];

    /// A stable word for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownEndpoint => "unknown_endpoint",
            Self::UnknownIdentity => "unknown_identity",
            Self::WrongKey => "wrong_key",
            Self::NotEncrypted => "not_encrypted",
            Self::Impostor => "impostor",
            Self::UnknownMqttDevice => "unknown_mqtt_device",
            Self::WrongMqttCredential => "wrong_mqtt_credential",
            Self::StaleMqttStamp => "stale_mqtt_stamp",
            Self::OthersChild => "others_child",
        }
    }
}

/// Somebody who was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// The endpoint name or the identity that was given: what is not printable ASCII, and the backslash, as `\xNN`; three
    /// dots follow one that is longer than [`MAX_NAME_LEN`].
    pub name: String,
    /// Why.
    pub refusal: Refusal,
    /// Where it was heard last.
    pub address: SocketAddr,
    /// How often it was refused.
    pub count: u64,
    /// When first, since it is listed.
    pub first_at: UtcMillis,
    /// When last.
    pub last_at: UtcMillis,
}

/// Those who were refused lately. All shards tell it; it is forgotten with the process.
pub struct Strangers {
    clock: SystemClock,
    table: Mutex<LruCache<(String, Refusal), Seen>>,
}

struct Seen {
    address: SocketAddr,
    count: u64,
    first_at: UtcMillis,
    last_at: UtcMillis,
}

impl Strangers {
    /// Nobody yet.
    pub fn new(clock: SystemClock) -> Self {
        Self {
            clock,
            table: Mutex::new(LruCache::new(MAX_STRANGERS)),
        }
    }

    /// `name` was refused. Of so many the one goes whose last refusal is longest ago.
    pub fn refused(&self, name: &[u8], refusal: Refusal, address: SocketAddr) {
        let now = self.clock.now().utc;
        let mut table = self.table();
        let seen = table.get_or_insert_mut((readable(name), refusal), || Seen {
            address,
            count: 0,
            first_at: now,
            last_at: now,
        });
        seen.address = address;
        seen.count = seen.count.saturating_add(1);
        seen.last_at = now;
    }

    /// These endpoints or identities were added or changed: how they were refused before says nothing any more.
    pub fn forget<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut table = self.table();
        if table.is_empty() {
            return;
        }
        let names: HashSet<String> = (names.into_iter())
            .map(|name| readable(name.as_bytes()))
            .collect();
        let gone: Vec<_> = (table.iter())
            .filter(|((name, _), _)| names.contains(name))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            table.pop(&key);
        }
    }

    /// All that are listed, the one that was refused last first.
    pub fn newest_first(&self) -> Vec<Stranger> {
        let table = self.table();
        (table.iter())
            .map(|((name, refusal), seen)| Stranger {
                name: name.clone(),
                refusal: *refusal,
                address: seen.address,
                count: seen.count,
                first_at: seen.first_at,
                last_at: seen.last_at,
            })
            .collect()
    }

    fn table(&self) -> MutexGuard<'_, LruCache<(String, Refusal), Seen>> {
        // No change to it can stop half-way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Strangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.newest_first()).finish()
    }
}

/// A name as text that does no harm on a terminal.
fn readable(name: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(name.len().min(MAX_NAME_LEN));
    for byte in name.iter().take(MAX_NAME_LEN) {
        match byte {
            b' '..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
            byte => {
                let _ = write!(text, "\\x{byte:02x}"); // writing to a String does not fail
            }
        }
    }
    if name.len() > MAX_NAME_LEN {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn names(strangers: &Strangers) -> Vec<String> {
        let listed = strangers.newest_first();
        listed.into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn refusals_are_counted_and_the_last_comes_first() {
        let strangers = Strangers::new(SystemClock::start());
        for (port, name) in [(1, "a"), (2, "b"), (3, "a")] {
            strangers.refused(name.as_bytes(), Refusal::UnknownEndpoint, address(port));
        }
        strangers.refused(b"b", Refusal::WrongKey, address(4));
        let listed = strangers.newest_first();
        let seen: Vec<_> = listed
            .iter()
            .map(|it| (it.name.as_str(), it.refusal, it.address.port(), it.count))
            .collect();
        let expected = [
            ("b", Refusal::WrongKey, 4, 1),
            ("a", Refusal::UnknownEndpoint, 3, 2),
            ("b", Refusal::UnknownEndpoint, 2, 1),
        ];
        assert_eq!(seen, expected);
        assert!(listed.iter().all(|it| it.first_at <= it.last_at));
        strangers.forget(["b", "c"]);
        assert_eq!(names(&strangers), ["a"]);
    }

    #[test]
    fn a_flood_leaves_the_newest() {
        let strangers = Strangers::new(SystemClock::start());
        for number in 0..10_000 {
            let name = format!("flood-{number}");
            strangers.refused(name.as_bytes(), Refusal::UnknownEndpoint, address(1));
            if number % 50 == 0 {
                strangers.refused(b"mine", Refusal::UnknownEndpoint, address(2));
            }
        }
        let listed = names(&strangers);
        assert_eq!(listed.len(), MAX_STRANGERS.get());
        assert_eq!(listed[0], "flood-9999");
        // whoever goes on trying is not pushed out
        let mine = strangers
            .newest_first()
            .into_iter()
            .find(|it| it.name == "mine");
        assert_eq!(mine.unwrap().count, 200);
    }

    #[test]
    fn a_name_is_bounded_and_does_no_harm() {
        assert_eq!(readable(b"urn:imei:1 x"), "urn:imei:1 x");
        assert_eq!(readable(b"\x1b[2J\\\n\xff"), "\\x1b[2J\\x5c\\x0a\\xff");
        assert_eq!(readable("\u{202e}".as_bytes()), "\\xe2\\x80\\xae");
        assert_eq!(readable(&[b'a'; 128]), "a".repeat(128));
        assert_eq!(readable(&[b'a'; 5_000]), "a".repeat(128) + "...");
    }
}
