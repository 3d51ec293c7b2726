use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    ledger::{DeviceId, DeviceIds, Protocol},
    mqtt::broker::Named,
    mqtt::endpoint::{Claim, Credential, Identity, Refusal, Style},
    store::{MqttCredential, StoredMqtt},
    vault::Vault,
};

/// What is sealed of a device's credential.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SealedMqtt {
    /// A secret.
    Secret(String),
    /// A token, and the password beside it.
    Token {
        /// The token.
        token: String,
        /// The password, where there is one.
        password: Option<String>,
    },
}

/// Who may connect over MQTT, and how each shows who it is.
pub struct MqttIdentities {
    vault: Option<Vault>,
    ids: DeviceIds,
    table: RwLock<Table>,
}

#[derive(Default)]
#[expect(clippy::struct_field_names, reason = "each tells by what is looked")]
struct Table {
    by_name: HashMap<Box<str>, Arc<Identity>>,
    /// What they are called by those who do not know their names.
    by_device: HashMap<DeviceId, Arc<Identity>>,
    /// By what devices of `ThingsPanel` have as their user names, hashed: how long it takes to look for one tells nothing of
    /// the others.
    by_token: HashMap<[u8; 32], Arc<Identity>>,
}

fn hashed(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Table {
    /// A token is looked for before a name, unless the client is one of IoTDA by its client ID or by its certificate: a token
    /// that is another device's name does not keep that one out.
    fn of_user(&self, claim: &Claim, user: &str) -> Option<&Arc<Identity>> {
        let by_name = self.by_name.get(user);
        let is_its_name = by_name.filter(|it| match it.credential {
            Credential::Secret(_) => {
                (claim.client_id.strip_prefix(user)).is_some_and(|rest| rest.starts_with("_0_"))
            }
            Credential::Certificate => claim.certified.iter().any(|name| **name == *user),
            Credential::Token { .. } => false,
        });
        is_its_name
            .or_else(|| self.by_token.get(&hashed(user)))
            .or(by_name)
    }
}

impl Table {
    /// One with `QuecThing` and a secret is named by its client ID, whatever its user name is.
    fn of_client(&self, claim: &Claim) -> Option<&Arc<Identity>> {
        let by_name = self.by_name.get(&claim.client_id);
        by_name.filter(|it| {
            it.style == Style::QuecThing && matches!(it.credential, Credential::Secret(_))
        })
    }
}

impl MqttIdentities {
    /// Nobody yet. Without a vault nobody has a secret or a token.
    pub fn new(vault: Option<Vault>, ids: DeviceIds) -> Self {
        Self {
            vault,
            ids,
            table: RwLock::default(),
        }
    }

    /// The device shows who it is like this from now on, or does not speak MQTT. Returns the devices whose connections are
    /// to end: its own unless it has what it had, and the one that had its token before.
    pub fn set(&self, endpoint: &str, mqtt: Option<&StoredMqtt>) -> Vec<DeviceId> {
        let new = mqtt.and_then(|mqtt| self.identity(endpoint, mqtt));
        let mut ended = Vec::new();
        let mut table = self.write();
        if let Some(old) = table.by_name.remove(endpoint) {
            table.by_device.remove(&old.device);
            if let Some(token) = old.token() {
                table.by_token.remove(&hashed(token));
            }
            if new.as_ref() != Some(&*old) {
                ended.push(old.device);
            }
        }
        if let Some(new) = new.map(Arc::new) {
            if let Some(token) = new.token()
                && let Some(other) = table.by_token.insert(hashed(token), new.clone())
            {
                // It is to lose it, and the news of that comes later.
                table.by_name.remove(&other.name);
                table.by_device.remove(&other.device);
                ended.push(other.device);
            }
            table.by_device.insert(new.device, new.clone());
            table.by_name.insert(new.name.clone(), new);
        }
        ended
    }

    fn identity(&self, endpoint: &str, mqtt: &StoredMqtt) -> Option<Identity> {
        let style = match mqtt.protocol {
            Protocol::Iotda => Style::Iotda,
            Protocol::ThingsPanel => Style::ThingsPanel,
            Protocol::QuecThing => Style::QuecThing,
            Protocol::Lwm2m => return None,
        };
        if mqtt.credential == MqttCredential::Gateway {
            return None; // its gateway connects
        }
        let credential = if mqtt.credential == MqttCredential::Certificate {
            Credential::Certificate
        } else {
            let opened = self.open(endpoint, mqtt);
            if opened.is_none() {
                tracing::error!(
                    endpoint,
                    "the device's MQTT credential cannot be decrypted with this credential key; set it anew"
                );
            }
            match opened? {
                SealedMqtt::Secret(secret) => Credential::Secret(secret.into_bytes().into()),
                SealedMqtt::Token { token, password } => Credential::Token {
                    token: token.into(),
                    password: password.map(Into::into),
                },
            }
        };
        Some(Identity {
            device: self.ids.of(endpoint),
            name: endpoint.into(),
            style,
            credential,
        })
    }

    fn open(&self, endpoint: &str, mqtt: &StoredMqtt) -> Option<SealedMqtt> {
        let vault = self.vault.as_ref()?;
        let opened = vault.open(&StoredMqtt::purpose(endpoint), mqtt.sealed.as_deref()?)?;
        serde_json::from_slice(&opened).ok()
    }

    /// The device that somebody claims to be: by a token, by its name, or else by the names in a certificate.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn find(&self, claim: &Claim) -> Result<Arc<Identity>, Refusal> {
        let table = self.read();
        let found = match claim.user.as_deref().filter(|user| !user.is_empty()) {
            Some(user) => table.of_user(claim, user),
            None => (claim.certified.iter()).find_map(|name| table.by_name.get(name)),
        };
        let found = found.or_else(|| table.of_client(claim));
        found.cloned().ok_or(Refusal::UnknownDevice)
    }

    /// The device that a topic names.
    pub(in crate::runtime) fn named(&self, named: Named<'_>) -> Option<Arc<Identity>> {
        let table = self.read();
        let found = match named {
            Named::Device(name) => table.by_name.get(name),
            Named::Token(token) => table.by_token.get(&hashed(token)),
        };
        found.cloned()
    }

    /// The device of that number.
    pub(in crate::runtime) fn of(&self, device: DeviceId) -> Option<Arc<Identity>> {
        self.read().by_device.get(&device).cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().by_name.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        // No change to it can stop half-way.
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(in crate::runtime::mqtt) fn stored(
        vault: &Vault,
        endpoint: &str,
        protocol: Protocol,
        credential: &SealedMqtt,
    ) -> StoredMqtt {
        let plain = serde_json::to_vec(credential).unwrap();
        let sealed = vault.seal(&StoredMqtt::purpose(endpoint), &plain).unwrap();
        StoredMqtt {
            protocol,
            credential: match credential {
                SealedMqtt::Secret(_) => MqttCredential::Secret,
                SealedMqtt::Token { .. } => MqttCredential::Token,
            },
            token_hash: None,
            sealed: Some(sealed),
        }
    }

    fn token(vault: &Vault, endpoint: &str, token: &str) -> StoredMqtt {
        let token = SealedMqtt::Token {
            token: token.to_owned(),
            password: None,
        };
        stored(vault, endpoint, Protocol::ThingsPanel, &token)
    }

    fn found(identities: &MqttIdentities, user: &str) -> Option<String> {
        let claim = Claim {
            user: Some(user.into()),
            ..Claim::default()
        };
        let found = identities.find(&claim).ok();
        found.map(|it| it.name.to_string())
    }

    #[test]
    fn devices_are_found_by_name_or_token_and_end_with_what_they_show() {
        let vault = Vault::new([7; 32]);
        let ids = DeviceIds::new([1; 32]);
        let identities = MqttIdentities::new(Some(vault.clone()), ids.clone());
        let secret = |text: &str| {
            let secret = SealedMqtt::Secret(text.to_owned());
            stored(&vault, "d0", Protocol::Iotda, &secret)
        };
        assert_eq!(identities.set("d0", Some(&secret("one"))), []);
        assert_eq!(
            identities.set("d0", Some(&secret("one"))),
            [],
            "sealed anew"
        );
        assert_eq!(identities.set("d0", Some(&secret("two"))), [ids.of("d0")]);
        assert_eq!(found(&identities, "d0").as_deref(), Some("d0"));
        assert_eq!(found(&identities, "d1"), None);
        assert_eq!(identities.set("d1", Some(&token(&vault, "d1", "t"))), []);
        assert_eq!(found(&identities, "t").as_deref(), Some("d1"));
        // a token that moves is the new holder's, whatever is heard first
        assert_eq!(
            identities.set("d2", Some(&token(&vault, "d2", "t"))),
            [ids.of("d1")]
        );
        assert_eq!(identities.set("d1", None), []);
        assert_eq!(found(&identities, "t").as_deref(), Some("d2"));
        assert_eq!(identities.set("d2", None), [ids.of("d2")]);
        assert_eq!(found(&identities, "t"), None);
        assert_eq!(identities.set("d0", None), [ids.of("d0")]);
        assert!(identities.is_empty());
    }

    #[test]
    fn one_with_quecthing_and_a_secret_is_found_by_its_client_id() {
        let vault = Vault::new([7; 32]);
        let identities = MqttIdentities::new(Some(vault.clone()), DeviceIds::new([1; 32]));
        let secret = SealedMqtt::Secret("one".to_owned());
        for (endpoint, protocol) in [("qd1", Protocol::QuecThing), ("d0", Protocol::Iotda)] {
            let stored = stored(&vault, endpoint, protocol, &secret);
            identities.set(endpoint, Some(&stored));
        }
        identities.set("t1", Some(&token(&vault, "t1", "t")));
        let name = |client_id: &str, user: Option<&str>| {
            let claim = Claim {
                client_id: client_id.into(),
                user: user.map(Box::from),
                ..Claim::default()
            };
            let found = identities.find(&claim).ok();
            found.map(|it| it.name.to_string())
        };
        for user in [None, Some("qd1"), Some("product")] {
            assert_eq!(name("qd1", user).as_deref(), Some("qd1"));
        }
        // a token comes first, and others are not found so
        assert_eq!(name("qd1", Some("t")).as_deref(), Some("t1"));
        assert_eq!(name("d0", Some("product")), None);
        assert_eq!(name("t1", None), None);
    }

    /// Whoever may give a device a token does not keep another one out with it.
    #[test]
    fn a_token_that_is_another_devices_name_does_not_stand_for_that_one() {
        let vault = Vault::new([7; 32]);
        let identities = MqttIdentities::new(Some(vault.clone()), DeviceIds::new([1; 32]));
        let secret = SealedMqtt::Secret("one".to_owned());
        let secret = stored(&vault, "meter-1", Protocol::Iotda, &secret);
        identities.set("meter-1", Some(&secret));
        let certificate = StoredMqtt {
            protocol: Protocol::Iotda,
            credential: MqttCredential::Certificate,
            token_hash: None,
            sealed: None,
        };
        identities.set("meter-2", Some(&certificate));
        identities.set("t1", Some(&token(&vault, "t1", "meter-1")));
        identities.set("t2", Some(&token(&vault, "t2", "meter-2")));
        let name = |client_id: &str, user: &str, certified: &[&str]| {
            let claim = Claim {
                client_id: client_id.into(),
                user: Some(user.into()),
                password: None,
                certified: certified.iter().map(|it| Box::from(*it)).collect(),
            };
            identities.find(&claim).unwrap().name.to_string()
        };
        assert_eq!(name("meter-1_0_0_2026113005", "meter-1", &[]), "meter-1");
        assert_eq!(name("anything", "meter-1", &[]), "t1");
        assert_eq!(name("anything", "meter-2", &["meter-2"]), "meter-2");
        assert_eq!(name("anything", "meter-2", &["meter-1"]), "t2");
    }

    #[test]
    fn a_certificate_needs_no_vault_and_a_secret_its_own() {
        let identities = MqttIdentities::new(None, DeviceIds::new([1; 32]));
        let vault = Vault::new([7; 32]);
        identities.set("d1", Some(&token(&vault, "d1", "t")));
        assert_eq!(found(&identities, "t"), None);
        let certificate = StoredMqtt {
            protocol: Protocol::Iotda,
            credential: MqttCredential::Certificate,
            token_hash: None,
            sealed: None,
        };
        identities.set("d2", Some(&certificate));
        let claim = Claim {
            certified: ["someone".into(), "d2".into()].into(),
            ..Claim::default()
        };
        assert_eq!(*identities.find(&claim).unwrap().name, *"d2");
        // another device's credential cannot be opened for this one
        let identities = MqttIdentities::new(Some(vault.clone()), DeviceIds::new([1; 32]));
        identities.set("d3", Some(&token(&vault, "d1", "t")));
        assert!(identities.is_empty());
    }
}
