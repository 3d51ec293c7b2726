//! Signatures over files: which keys there are, what they verify, and what the carrier signs. OpenSSL, no file, no clock.
//!
//! Three algorithms, each with one form of its signature: Ed25519 (RFC 8032, 64 bytes), ECDSA on P-256 with SHA-256 (FIPS 186-5, DER
//! as in RFC 3279 §2.2.3), and RSASSA-PSS with SHA-256 and MGF1 with SHA-256 (RFC 8017 §8.1, a salt of any length).

use std::fmt;

use openssl::{
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{HasPublic, Id, PKey, Private, Public},
    rsa::Padding,
    sign::{RsaPssSaltlen, Signer, Verifier},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Longest key in PEM, bytes: RSA with 8,192 bits needs some 1,500.
pub const MAX_PEM_BYTES: usize = 8 * 1_024;
/// Longest signature, bytes: RSA with 8,192 bits.
pub const MAX_SIGNATURE_BYTES: usize = 1_024;
/// Bits of an RSA key: fewer are not safe, more take too long.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2_048..=8_192;
/// Hexadecimal digits of a key's id: 128 bits of SHA-256.
pub const KEY_ID_DIGITS: usize = 32;

const BEGIN_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----";

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519.
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
    /// RSASSA-PSS with SHA-256.
    RsaPss,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ed25519, Self::EcdsaP256, Self::RsaPss];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-p256",
            Self::RsaPss => "rsa-pss",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// What a key is known by: the first 32 hexadecimal digits of the SHA-256 of its `SubjectPublicKeyInfo` in DER.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The id that is written so; `None` when no key has such a one.
    pub fn new(text: &str) -> Option<Self> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let ok = text.len() == KEY_ID_DIGITS && text.bytes().all(digit);
        ok.then(|| Self(text.to_owned()))
    }

    fn of(spki: &[u8]) -> Self {
        let mut digits = hex::encode(Sha256::digest(spki));
        digits.truncate(KEY_ID_DIGITS);
        Self(digits)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.0)
    }
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Longer than any key.
    #[error("a key in PEM has at most {MAX_PEM_BYTES} bytes")]
    TooLong,
    /// It was to be public.
    #[error(
        "this is a private key, which nobody else is to have; give the public one: openssl pkey -in KEY.pem -pubout"
    )]
    Private,
    /// Not one key in PEM.
    #[error("it is not one public key in PEM (-----BEGIN PUBLIC KEY-----, RFC 7468 §13)")]
    NotPublic,
    /// Not a private key in PEM.
    #[error("it is no private key in PEM without a password (-----BEGIN PRIVATE KEY-----)")]
    NotPrivate,
    /// Another algorithm.
    #[error("keys are Ed25519, ECDSA on the curve P-256, or RSA; this one is not")]
    Unsupported,
    /// Another algorithm than the carrier's may be.
    #[error("the key is to be Ed25519 or ECDSA on the curve P-256")]
    UnsupportedForSigning,
    /// An RSA key that is too short or too long.
    #[error("an RSA key has {low} to {high} bits, this one has {0}", low = RSA_BITS.start(), high = RSA_BITS.end())]
    RsaBits(u32),
    /// It is damaged.
    #[error("the key is not valid: its numbers do not belong together")]
    Damaged,
}

/// A key that verifies.
#[derive(Clone)]
pub struct PublicKey {
    algorithm: Algorithm,
    key: PKey<Public>,
    spki: Vec<u8>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.algorithm.name(), self.id())
    }
}

impl PublicKey {
    /// One key in PEM: `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7), 8 KiB at most.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(KeyError::TooLong);
        }
        if pem.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let text = pem.trim();
        if !text.starts_with(BEGIN_PUBLIC) || text.matches("-----BEGIN ").count() != 1 {
            return Err(KeyError::NotPublic);
        }
        let key = PKey::public_key_from_pem(text.as_bytes()).map_err(|_| KeyError::NotPublic)?;
        Self::checked(key)
    }

    /// The same in DER.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let key = PKey::public_key_from_der(der).map_err(|_| KeyError::NotPublic)?;
        Self::checked(key)
    }

    fn checked(key: PKey<Public>) -> Result<Self, KeyError> {
        let algorithm = algorithm(&key)?;
        let spki = key.public_key_to_der().map_err(|_| KeyError::Damaged)?;
        Ok(Self {
            algorithm,
            key,
            spki,
        })
    }

    /// What it verifies.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What it is known by.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.spki)
    }

    /// `SubjectPublicKeyInfo` in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The same in PEM.
    pub fn to_pem(&self) -> String {
        let pem = self.key.public_key_to_pem().unwrap_or_default();
        String::from_utf8(pem).unwrap_or_default()
    }

    /// Whether `signature` is one by this key over exactly these bytes. What is no signature at all is none by this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let fits = match self.algorithm {
            Algorithm::Ed25519 => signature.len() == 64,
            Algorithm::EcdsaP256 => (8..=72).contains(&signature.len()),
            Algorithm::RsaPss => signature.len() == self.key.size(),
        };
        fits && self.ask(message, signature).unwrap_or(false)
    }

    fn ask(&self, message: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
        if self.algorithm == Algorithm::Ed25519 {
            return Verifier::new_without_digest(&self.key)?.verify_oneshot(signature, message);
        }
        let mut verifier = Verifier::new(MessageDigest::sha256(), &self.key)?;
        if self.algorithm == Algorithm::RsaPss {
            verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
            verifier.set_rsa_mgf1_md(MessageDigest::sha256())?;
            // to whoever verifies, this says that the signature tells how long its salt is
            verifier.set_rsa_pss_saltlen(RsaPssSaltlen::MAXIMUM_LENGTH)?;
        }
        verifier.verify_oneshot(signature, message)
    }
}

fn algorithm<T: HasPublic>(key: &PKey<T>) -> Result<Algorithm, KeyError> {
    match key.id() {
        Id::ED25519 => Ok(Algorithm::Ed25519),
        Id::EC => {
            let ec = key.ec_key().map_err(|_| KeyError::Damaged)?;
            if ec.group().curve_name() != Some(Nid::X9_62_PRIME256V1) {
                return Err(KeyError::Unsupported);
            }
            ec.check_key().map_err(|_| KeyError::Damaged)?;
            Ok(Algorithm::EcdsaP256)
        }
        Id::RSA | Id::RSA_PSS => {
            let bits = key.bits();
            let ok = RSA_BITS.contains(&bits);
            ok.then_some(Algorithm::RsaPss)
                .ok_or(KeyError::RsaBits(bits))
        }
        _ => Err(KeyError::Unsupported),
    }
}

/// A key with which the carrier signs what it gives out: Ed25519, or ECDSA on P-256.
#[derive(Clone)]
pub struct SigningKey {
    key: PKey<Private>,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.public)
    }
}

impl SigningKey {
    /// A private key in PEM, without a password.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(KeyError::TooLong);
        }
        // the library would ask a terminal for the password
        let no_password = |_: &mut [u8]| Ok(0);
        let key = PKey::private_key_from_pem_callback(pem, no_password)
            .map_err(|_| KeyError::NotPrivate)?;
        if !matches!(
            algorithm(&key),
            Ok(Algorithm::Ed25519 | Algorithm::EcdsaP256)
        ) {
            return Err(KeyError::UnsupportedForSigning);
        }
        let spki = key.public_key_to_der().map_err(|_| KeyError::Damaged)?;
        let public = PublicKey::from_spki(&spki)?;
        Ok(Self { key, public })
    }

    /// What verifies its signatures.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// A signature over a message.
    ///
    /// # Errors
    /// The library fails, or has no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        if self.public.algorithm == Algorithm::Ed25519 {
            return Signer::new_without_digest(&self.key)?.sign_oneshot_to_vec(message);
        }
        Signer::new(MessageDigest::sha256(), &self.key)?.sign_oneshot_to_vec(message)
    }
}

#[cfg(test)]
pub(crate) mod tests;
