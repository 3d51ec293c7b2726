use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::{
    dtls::{HolderDigest, Identity, Psk, PskSource},
    store::StoredPsk,
    vault::Vault,
};

/// The devices' pre-shared keys, as handshakes need them.
#[derive(Debug)]
pub struct Keys {
    vault: Vault,
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_identity: HashMap<Box<[u8]>, (Box<str>, Psk)>,
    identity_of: HashMap<Box<str>, Box<[u8]>>,
}

impl Keys {
    /// No keys yet; they are sealed in `vault`.
    pub fn new(vault: Vault) -> Self {
        Self {
            vault,
            table: RwLock::default(),
        }
    }

    /// The device has this key from now on, or none. Returns the identities of which everything from before is void:
    /// the device's own unless its key is the same as it was, and its new one if that was another device's.
    pub fn set(&self, endpoint: &str, psk: Option<&StoredPsk>) -> Vec<Identity> {
        let new = psk.and_then(|psk| {
            let opened = self.open(endpoint, psk)?;
            Some((Box::<[u8]>::from(psk.identity.as_bytes()), opened))
        });
        let mut void = Vec::new();
        let mut table = self.write();
        if let Some(old) = table.identity_of.remove(endpoint) {
            let before = table.by_identity.remove(&old);
            let unchanged = matches!((&new, before), (Some((identity, key)), Some((_, was)))
                if *identity == old && *key == was);
            if !unchanged {
                void.push(Identity::Psk(old));
            }
        }
        if let Some((identity, key)) = new {
            let holder = (endpoint.into(), key);
            if let Some((other, _)) = table.by_identity.insert(identity.clone(), holder) {
                // It is to lose it, and the news of that comes later.
                table.identity_of.remove(&other);
                void.push(Identity::Psk(identity.clone()));
            }
            table.identity_of.insert(endpoint.into(), identity);
        }
        void
    }

    fn open(&self, endpoint: &str, psk: &StoredPsk) -> Option<Psk> {
        let key = self
            .vault
            .open(&StoredPsk::purpose(&psk.identity), &psk.sealed);
        let key = key.and_then(|key| Psk::new(&key).ok());
        if key.is_none() {
            tracing::error!(
                endpoint,
                "the device's key cannot be decrypted with this credential key; set it anew"
            );
        }
        key
    }

    /// The endpoints that somebody is who has shown this identity.
    pub(super) fn endpoints(&self, identity: &Identity) -> Box<[Box<str>]> {
        match identity {
            Identity::Psk(identity) => {
                let table = self.read();
                let known = table.by_identity.get(identity);
                known
                    .map(|(endpoint, _)| endpoint.clone())
                    .into_iter()
                    .collect()
            }
            Identity::Certificate { .. } => identity.names().map(Box::from).collect(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        // No change to it can stop half-way.
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PskSource for Keys {
    fn psk(&self, identity: &[u8]) -> Option<Psk> {
        let table = self.read();
        table.by_identity.get(identity).map(|(_, key)| key.clone())
    }

    fn holder(&self, identity: &[u8]) -> Option<HolderDigest> {
        let table = self.read();
        let known = table.by_identity.get(identity);
        known.map(|(endpoint, key)| HolderDigest::of(endpoint, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(vault: &Vault, identity: &str, key: &[u8]) -> StoredPsk {
        StoredPsk {
            identity: identity.to_owned(),
            sealed: vault.seal(&StoredPsk::purpose(identity), key).unwrap(),
        }
    }

    fn psk(identity: &str) -> Identity {
        Identity::Psk(identity.as_bytes().into())
    }

    #[test]
    fn the_holder_of_an_identity_is_another_where_device_or_key_is() {
        let vault = Vault::new([7; 32]);
        let keys = Keys::new(vault.clone());
        assert_eq!(keys.holder(b"me"), None);
        keys.set("d0", Some(&stored(&vault, "me", b"first key")));
        let first = keys.holder(b"me");
        keys.set("d0", Some(&stored(&vault, "me", b"first key")));
        assert_eq!(keys.holder(b"me"), first);
        keys.set("d1", Some(&stored(&vault, "me", b"first key")));
        let moved = keys.holder(b"me");
        keys.set("d1", Some(&stored(&vault, "me", b"second key")));
        let changed = keys.holder(b"me");
        assert!(first.is_some() && moved.is_some() && changed.is_some());
        assert!(first != moved && moved != changed);
    }

    #[test]
    fn a_changed_key_voids_what_was_before() {
        let vault = Vault::new([7; 32]);
        let keys = Keys::new(vault.clone());
        let first = stored(&vault, "me", b"first key");
        assert_eq!(keys.set("d0", Some(&first)), []);
        assert_eq!(keys.psk(b"me"), Psk::new(b"first key").ok());
        assert_eq!(*keys.endpoints(&psk("me")), ["d0".into()]);
        let same = stored(&vault, "me", b"first key");
        assert_eq!(keys.set("d0", Some(&same)), [], "sealed anew, the same key");
        let second = stored(&vault, "me", b"second key");
        assert_eq!(keys.set("d0", Some(&second)), [psk("me")]);
        let renamed = stored(&vault, "I", b"second key");
        assert_eq!(keys.set("d0", Some(&renamed)), [psk("me")]);
        assert_eq!(keys.psk(b"me"), None);
        assert_eq!(keys.set("d0", None), [psk("I")]);
        assert_eq!(keys.set("d0", None), []);
        assert_eq!(keys.psk(b"I"), None);
        assert!(keys.endpoints(&psk("I")).is_empty());
    }

    #[test]
    fn an_identity_that_moves_is_the_new_holders_whatever_is_heard_first() {
        let vault = Vault::new([7; 32]);
        let keys = Keys::new(vault.clone());
        let own = stored(&vault, "me", b"first key");
        assert_eq!(keys.set("d0", Some(&own)), []);
        // d1 has it now, and the news that d0 has another comes late
        let taken = stored(&vault, "me", b"other key");
        assert_eq!(keys.set("d1", Some(&taken)), [psk("me")]);
        let instead = stored(&vault, "I", b"third key");
        assert_eq!(keys.set("d0", Some(&instead)), []);
        assert_eq!(keys.psk(b"me"), Psk::new(b"other key").ok());
        assert_eq!(*keys.endpoints(&psk("me")), ["d1".into()]);
        assert_eq!(*keys.endpoints(&psk("I")), ["d0".into()]);
    }

    #[test]
    fn a_key_that_cannot_be_opened_is_none() {
        let keys = Keys::new(Vault::new([7; 32]));
        let other = stored(&Vault::new([8; 32]), "me", b"first key");
        assert_eq!(keys.set("d0", Some(&other)), []);
        assert_eq!(keys.psk(b"me"), None);
    }
}
