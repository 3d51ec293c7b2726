//! Seals secrets, so that who reads the database does not have them, and keeps those that have a file of their own.

mod file;

use std::fmt;

pub use file::{SecretFileError, create_secret, read_secret};

use openssl::{
    error::ErrorStack,
    symm::{Cipher, decrypt_aead, encrypt_aead},
};
use thiserror::Error;

/// Bytes of the key: AES-256.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Why a secret was not sealed.
#[derive(Debug, Error)]
pub enum SealError {
    /// No randomness.
    #[error("the system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
    /// The library.
    #[error("the secret cannot be encrypted: {0}")]
    Library(#[from] ErrorStack),
}

/// The key with which secrets are sealed: AES-256-GCM (NIST SP 800-38D), a random nonce each.
#[derive(Clone, PartialEq, Eq)]
pub struct Vault {
    key: [u8; KEY_BYTES],
}

impl Vault {
    /// A vault with this key.
    pub const fn new(key: [u8; KEY_BYTES]) -> Self {
        Self { key }
    }

    /// Seals `secret` for `purpose`, under which alone it can be opened.
    ///
    /// # Errors
    /// The system gives no randomness, or the library fails.
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut sealed = vec![0; NONCE_BYTES];
        getrandom::fill(&mut sealed)?;
        let mut tag = [0; TAG_BYTES];
        let cipher = Cipher::aes_256_gcm();
        let nonce = Some(&sealed[..]);
        let hidden = encrypt_aead(
            cipher,
            &self.key,
            nonce,
            purpose.as_bytes(),
            secret,
            &mut tag,
        )?;
        sealed.extend(hidden);
        sealed.extend(tag);
        Ok(sealed)
    }

    /// What was sealed for `purpose`; `None` when it was sealed with another key, for something else, or was
    /// changed.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_BYTES)?;
        let (hidden, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
        let cipher = Cipher::aes_256_gcm();
        decrypt_aead(
            cipher,
            &self.key,
            Some(nonce),
            purpose.as_bytes(),
            hidden,
            tag,
        )
        .ok()
    }
}

/// Never shows the key.
impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_for_its_purpose_only() {
        let vault = Vault::new([7; KEY_BYTES]);
        let sealed = vault.seal("psk of d0", b"secret").unwrap();
        assert_eq!(vault.open("psk of d0", &sealed).unwrap(), b"secret");
        assert_eq!(vault.open("psk of d1", &sealed), None);
        assert_eq!(Vault::new([8; KEY_BYTES]).open("psk of d0", &sealed), None);
        assert_ne!(vault.seal("psk of d0", b"secret").unwrap(), sealed);
        for cut in 0..sealed.len() {
            assert_eq!(vault.open("psk of d0", &sealed[..cut]), None);
            let mut changed = sealed.clone();
            changed[cut] ^= 1;
            assert_eq!(vault.open("psk of d0", &changed), None);
        }
        assert_eq!(vault.open("", &vault.seal("", b"").unwrap()).unwrap(), b"");
    }
}
