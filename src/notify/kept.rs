//! Webhooks' secrets as they are stored: sealed, where the server has a credential key.

use thiserror::Error;

use super::Secret;
use crate::{
    store::{Events, StoreError},
    vault::{SealError, Vault},
};

/// Stands before what is sealed. What was stored before there was a key has random bytes in its place, and as few as no seal.
const MARK: &[u8] = b"sealed1:";
const PURPOSE: &str = "webhook";

/// Why a stored secret cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the webhook's secret was stored with a credential key that is not set; start the server with that key \
     (dtls.credential_key), or add the webhook anew"
)]
pub struct Unreadable;

/// Why secrets were not sealed.
#[derive(Debug, Error)]
pub enum KeepError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness, or the library.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Secret {
    /// The form in which it is stored.
    ///
    /// # Errors
    /// The system gives no randomness, or the library fails.
    pub fn keep(&self, vault: Option<&Vault>) -> Result<Vec<u8>, SealError> {
        let Some(vault) = vault else {
            return Ok(self.as_bytes().to_vec());
        };
        let mut kept = MARK.to_vec();
        kept.extend(vault.seal(PURPOSE, self.as_bytes())?);
        Ok(kept)
    }

    /// A secret as it was stored.
    ///
    /// # Errors
    /// It was sealed with a key that is not there.
    pub fn kept(stored: Vec<u8>, vault: Option<&Vault>) -> Result<Self, Unreadable> {
        match stored.strip_prefix(MARK) {
            Some(sealed) => {
                let opened = vault.and_then(|vault| vault.open(PURPOSE, sealed));
                opened.map(Self::from_bytes).ok_or(Unreadable)
            }
            None => Ok(Self::from_bytes(stored)),
        }
    }
}

/// Seals the secrets that were stored before there was a key. Returns how many.
///
/// # Errors
/// The database, or no randomness. What is sealed by then stays so.
pub async fn seal_secrets(store: &dyn Events, vault: &Vault) -> Result<usize, KeepError> {
    let mut sealed = 0;
    for (webhook, secret) in store.webhook_secrets().await? {
        if !secret.starts_with(MARK) {
            let kept = Secret::from_bytes(secret).keep(Some(vault))?;
            store.set_webhook_secret(webhook, &kept).await?;
            sealed += 1;
        }
    }
    Ok(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::UtcMillis,
        store::{NewWebhook, SqliteStore},
    };

    #[tokio::test]
    async fn secrets_are_sealed_where_there_is_a_key_also_those_of_before() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path()).await.unwrap();
        let vault = Vault::new([7; 32]);
        let secret = Secret::generate().unwrap();
        let add = async |kept: Vec<u8>| {
            let new = NewWebhook {
                tenant: None,
                task: None,
                url: "https://hooks.example.com/".to_owned(),
                secret: kept,
                created_at: UtcMillis(0),
            };
            store.add_webhook(&new).await.unwrap().id
        };
        let before = add(secret.keep(None).unwrap()).await;
        let after = add(secret.keep(Some(&vault)).unwrap()).await;
        assert_eq!(seal_secrets(&store, &vault).await.unwrap(), 1);
        assert_eq!(seal_secrets(&store, &vault).await.unwrap(), 0);
        for id in [before, after] {
            let stored = store.webhook_secret(id).await.unwrap().unwrap();
            let shown = (stored.windows(8)).any(|part| secret.as_bytes().starts_with(part));
            assert!(!shown, "the secret is not in the database");
            let opened = Secret::kept(stored.clone(), Some(&vault)).unwrap();
            assert_eq!(opened.as_bytes(), secret.as_bytes());
            for other in [None, Some(&Vault::new([8; 32]))] {
                assert_eq!(Secret::kept(stored.clone(), other).err(), Some(Unreadable));
            }
        }
    }
}
