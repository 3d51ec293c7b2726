use openssl::{
    pkey::{Id, PKey, Private},
    sign::{Signer, Verifier},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Hash;

/// How far the log had come at a time, signed (Ed25519, RFC 8032).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Number of the newest row; 0: there was none.
    pub number: u64,
    /// Its hash, 64 hexadecimal digits.
    pub hash: String,
    /// When this was said, RFC 3339.
    pub at: String,
    /// The public key, 64 hexadecimal digits.
    pub key: String,
    /// The signature, 128 hexadecimal digits.
    pub signature: String,
}

/// Why a checkpoint proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// A field is not what it should be.
    #[error("the checkpoint is not one: its {0} is not in hexadecimal digits of the right number")]
    Form(&'static str),
    /// Another key has signed it.
    #[error("another key has signed the checkpoint than the one that is expected")]
    OtherKey,
    /// The signature is wrong.
    #[error("the signature of the checkpoint is wrong: it was altered")]
    Signature,
}

/// The library that signs has failed.
#[derive(Debug, Error)]
#[error("cannot sign: {0}")]
pub struct KeyError(#[from] openssl::error::ErrorStack);

/// What checkpoints are signed with.
#[derive(Debug, Clone)]
pub struct Key {
    private: PKey<Private>,
    public: String,
}

impl Key {
    /// The key of 32 random bytes.
    ///
    /// # Errors
    /// The library has failed.
    pub fn of_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let private = PKey::private_key_from_raw_bytes(seed, Id::ED25519)?;
        let public = hex::encode(private.raw_public_key()?);
        Ok(Self { private, public })
    }

    /// Its public part, 64 hexadecimal digits.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Says that row `number` has this hash.
    ///
    /// # Errors
    /// The library has failed.
    pub fn sign(
        &self,
        (number, hash): (u64, Hash),
        at: &impl ToString,
    ) -> Result<Checkpoint, KeyError> {
        let (hash, at) = (hash.to_string(), at.to_string());
        let text = signed_text(number, &hash, &at);
        let mut signer = Signer::new_without_digest(&self.private)?;
        let signature = hex::encode(signer.sign_oneshot_to_vec(text.as_bytes())?);
        let key = self.public.clone();
        Ok(Checkpoint {
            number,
            hash,
            at,
            key,
            signature,
        })
    }
}

/// What is signed.
fn signed_text(number: u64, hash: &str, at: &str) -> String {
    format!("cellwise audit checkpoint\n{number}\n{hash}\n{at}\n")
}

impl Checkpoint {
    /// Number and hash of its row, when its key, or `key` where one is expected, has signed it.
    ///
    /// # Errors
    /// It proves nothing.
    pub fn check(&self, key: Option<&str>) -> Result<(u64, Hash), CheckpointError> {
        if key.is_some_and(|key| !key.trim().eq_ignore_ascii_case(&self.key)) {
            return Err(CheckpointError::OtherKey);
        }
        let hash = Hash::parse(&self.hash).ok_or(CheckpointError::Form("hash"))?;
        let mut public = [0; 32];
        hex::decode_to_slice(&self.key, &mut public).map_err(|_| CheckpointError::Form("key"))?;
        let mut signature = [0; 64];
        hex::decode_to_slice(&self.signature, &mut signature)
            .map_err(|_| CheckpointError::Form("signature"))?;
        let text = signed_text(self.number, &self.hash, &self.at);
        let verified = PKey::public_key_from_raw_bytes(&public, Id::ED25519).and_then(|public| {
            Verifier::new_without_digest(&public)?.verify_oneshot(&signature, text.as_bytes())
        });
        match verified {
            Ok(true) => Ok((self.number, hash)),
            Ok(false) | Err(_) => Err(CheckpointError::Signature),
        }
    }
}
