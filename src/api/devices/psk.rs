//! Pre-shared keys: given to the server, and never given back.

use std::fmt;

use serde::{Deserialize, Deserializer, de::Error as _};
use utoipa::ToSchema;

use crate::{
    api::{ApiState, problem::Problem},
    store::StoredPsk,
};

/// Bytes of an identity (RFC 4279 §5.3 asks for 128 at least).
const MAX_IDENTITY: usize = 128;
/// Bytes of a key. RFC 4279 §5.3 asks for 64 at least; one that is shorter than this is no secret.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 8..=64;

/// A device's pre-shared key.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct PskBody {
    /// What the device calls itself in the handshake, 1 to 128 bytes without control characters; its endpoint name
    /// when not given. No two devices have the same.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = "^[ -~]{1,128}$",
        example = "urn:imei:867723032612345"
    )]
    pub(super) identity: Option<String>,
    /// The key, 8 to 64 bytes in hexadecimal.
    #[schema(
        min_length = 16,
        max_length = 128,
        pattern = "^([0-9A-Fa-f]{2}){8,64}$",
        example = "000102030405060708090a0b0c0d0e0f"
    )]
    pub(super) key: String,
}

/// An error does not tell what was found instead: it may be the key.
impl<'de> Deserialize<'de> for PskBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            identity: Option<String>,
            key: String,
        }
        Fields::deserialize(deserializer)
            .map(|Fields { identity, key }| Self { identity, key })
            .map_err(|_| {
                D::Error::custom("not an object of key, a text in hexadecimal digits, and identity")
            })
    }
}

/// Never shows the key.
impl fmt::Debug for PskBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PskBody")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl PskBody {
    /// Checks it and seals the key, for the device named `endpoint`.
    pub(super) fn seal(&self, state: &ApiState, endpoint: &str) -> Result<StoredPsk, String> {
        let identity = self.identity.as_deref().unwrap_or(endpoint);
        if !(1..=MAX_IDENTITY).contains(&identity.len()) || identity.chars().any(char::is_control) {
            return Err(format!(
                "an identity has 1 to {MAX_IDENTITY} bytes and no control characters"
            ));
        }
        let key = hex::decode(&self.key)
            .ok()
            .filter(|key| KEY_BYTES.contains(&key.len()))
            .ok_or_else(|| {
                let (least, most) = KEY_BYTES.into_inner();
                format!("a key has {least} to {most} bytes, in hexadecimal")
            })?;
        let vault = state.vault.as_ref().ok_or(NO_VAULT)?;
        let sealed = vault
            .seal(&StoredPsk::purpose(identity), &key)
            .map_err(|error| error.to_string())?;
        Ok(StoredPsk {
            identity: identity.to_owned(),
            sealed,
        })
    }
}

/// A device speaks one or the other.
pub(super) const OR_MQTT: &str =
    "a device that speaks MQTT has no pre-shared key; give psk or mqtt";
pub(super) const NO_VAULT: &str =
    "keys are not taken before dtls.credential_key is set: they are stored encrypted with it";

/// Whether keys can be taken at all.
pub(super) fn check_vault(state: &ApiState) -> Result<(), Problem> {
    match state.vault {
        Some(_) => Ok(()),
        None => Err(Problem::conflict(
            "no-credential-key",
            "The server has no key to store secrets with",
            NO_VAULT,
        )),
    }
}

/// What becomes of a device's key.
#[derive(Debug, Default)]
pub(super) enum PskUpdate {
    /// It was not given.
    #[default]
    Keep,
    /// It was `null`.
    Remove,
    Set(PskBody),
}

impl<'de> Deserialize<'de> for PskUpdate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Option::deserialize(deserializer)?;
        Ok(given.map_or(Self::Remove, Self::Set))
    }
}
