use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::{
    dtls::{Identity, Psk, PskSource},
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

    /// The device has this key from now on, or none. Returns the identity of which everything from before is void:
    /// none when the key is the same as it was.
    pub fn set(&self, endpoint: &str, psk: Option<&StoredPsk>) -> Option<Identity> {
        let new = psk.and_then(|psk| {
            let opened = self.open(endpoint, psk)?;
            Some((Box::<[u8]>::from(psk.identity.as_bytes()), opened))
        });
        let mut table = self.write();
        let old = table.identity_of.remove(endpoint);
        let before = old.as_ref().and_then(|old| table.by_identity.remove(old));
        let unchanged = match (&new, &old, &before) {
            (Some((identity, key)), Some(old), Some((_, was))) => identity == old && key == was,
            _ => false,
        };
        if let Some((identity, key)) = new {
            table.identity_of.insert(endpoint.into(), identity.clone());
            table.by_identity.insert(identity, (endpoint.into(), key));
        }
        old.filter(|_| !unchanged).map(Identity::Psk)
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
    fn a_changed_key_voids_what_was_before() {
        let vault = Vault::new([7; 32]);
        let keys = Keys::new(vault.clone());
        let first = stored(&vault, "me", b"first key");
        assert_eq!(keys.set("d0", Some(&first)), None);
        assert_eq!(keys.psk(b"me"), Psk::new(b"first key").ok());
        assert_eq!(*keys.endpoints(&psk("me")), ["d0".into()]);
        let same = stored(&vault, "me", b"first key");
        assert_eq!(
            keys.set("d0", Some(&same)),
            None,
            "sealed anew, the same key"
        );
        let second = stored(&vault, "me", b"second key");
        assert_eq!(keys.set("d0", Some(&second)), Some(psk("me")));
        let renamed = stored(&vault, "I", b"second key");
        assert_eq!(keys.set("d0", Some(&renamed)), Some(psk("me")));
        assert_eq!(keys.psk(b"me"), None);
        assert_eq!(keys.set("d0", None), Some(psk("I")));
        assert_eq!(keys.set("d0", None), None);
        assert_eq!(keys.psk(b"I"), None);
        assert!(keys.endpoints(&psk("I")).is_empty());
    }

    #[test]
    fn a_key_that_cannot_be_opened_is_none() {
        let keys = Keys::new(Vault::new([7; 32]));
        let other = stored(&Vault::new([8; 32]), "me", b"first key");
        assert_eq!(keys.set("d0", Some(&other)), None);
        assert_eq!(keys.psk(b"me"), None);
    }
}
