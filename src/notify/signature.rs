use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

use crate::clock::UtcMillis;

const PREFIX: &str = "whsec_";
/// Bytes that a secret has at least and at most, as Standard Webhooks recommends.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of a secret that is made here.
const GENERATED: usize = 32;

/// The secret that a webhook and its receiver share. It is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Why a text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a secret is whsec_ followed by the base64 form of {} to {} random bytes", BYTES.start(), BYTES.end())]
pub struct SecretError;

impl Secret {
    /// A secret in its written form, `whsec_` and base64.
    ///
    /// # Errors
    /// The text has another form, or too few or too many bytes.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| SecretError)?;
        if BYTES.contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(SecretError)
        }
    }

    /// A new secret.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = vec![0; GENERATED];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// A secret as it was stored.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The form in which it is stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its written form, to be handed to the receiver.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }

    /// What stands above a signed body, as Standard Webhooks names it.
    pub(super) fn headers(
        &self,
        id: &str,
        at: UtcMillis,
        body: &str,
    ) -> [(&'static str, String); 3] {
        let timestamp = at.0.div_euclid(1_000);
        [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", self.sign(id, timestamp, body)),
        ]
    }

    /// The value of `webhook-signature`: `v1,` and the base64 form of HMAC-SHA256 over ID, time of the attempt
    /// (seconds since 1970) and body, with dots between them.
    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let signed = Hmac::<Sha256>::new_from_slice(&self.0).map(|mut mac| {
            mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
            mac.finalize().into_bytes()
        });
        // HMAC takes a key of any length
        let signed = signed.map(|mac| BASE64_STANDARD.encode(mac));
        format!("v1,{}", signed.unwrap_or_default())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_specification_s_example_does() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = r#"{"test": 2432232314}"#;
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_is_read_as_it_is_written() {
        let secret = Secret::generate().unwrap();
        assert_eq!(Secret::parse(&secret.reveal()), Ok(secret.clone()));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let short = format!("whsec_{}", BASE64_STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", BASE64_STANDARD.encode([1; 65]));
        for text in [
            "",
            "whsec_",
            "secret",
            "whsec_!",
            &short,
            &long,
            &long[..40].replace("whsec", "wsec"),
        ] {
            assert_eq!(Secret::parse(text), Err(SecretError), "{text}");
        }
    }
}
