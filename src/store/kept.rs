//! Webhooks' secrets as they are stored: sealed for their webhook, where the server has a credential key.

use thiserror::Error;

use super::WebhookId;
use crate::vault::{SealError, Vault};

/// Stands before what is sealed for its webhook. What was stored where there is no key has random bytes in its place.
pub(super) const MARK: &[u8] = b"sealed2:";
/// Stands before what was sealed for any webhook, up to migration 39.
const MARK_OF_BEFORE: &[u8] = b"sealed1:";
const PURPOSE_OF_BEFORE: &str = "webhook";

/// Why a stored secret cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the webhook's secret was stored with a credential key that is not set; start the server with that key \
     (dtls.credential_key), or add the webhook anew"
)]
pub struct UnreadableSecret;

/// For what a secret is sealed: who copies it to another webhook's row signs nothing with it.
fn purpose(webhook: WebhookId) -> String {
    format!("webhook {}", webhook.0)
}

/// The form in which a webhook's secret is stored.
pub(super) fn keep_secret(
    webhook: WebhookId,
    secret: &[u8],
    vault: Option<&Vault>,
) -> Result<Vec<u8>, SealError> {
    let Some(vault) = vault else {
        return Ok(secret.to_vec());
    };
    let mut kept = MARK.to_vec();
    kept.extend(vault.seal(&purpose(webhook), secret)?);
    Ok(kept)
}

/// A webhook's secret as it was stored.
///
/// # Errors
/// It was sealed with a key that is not there, or for another webhook.
pub fn webhook_secret(
    webhook: WebhookId,
    stored: &[u8],
    vault: Option<&Vault>,
) -> Result<Vec<u8>, UnreadableSecret> {
    let (sealed, purpose) = if let Some(sealed) = stored.strip_prefix(MARK) {
        (sealed, purpose(webhook))
    } else if let Some(sealed) = stored.strip_prefix(MARK_OF_BEFORE) {
        (sealed, PURPOSE_OF_BEFORE.to_owned())
    } else {
        return Ok(stored.to_vec());
    };
    vault
        .and_then(|vault| vault.open(&purpose, sealed))
        .ok_or(UnreadableSecret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"thirty-two bytes that nobody saw";

    #[test]
    fn a_secret_is_opened_for_its_webhook_alone() {
        let vault = Vault::new([7; 32]);
        let (own, another) = (WebhookId(1), WebhookId(2));
        let kept = keep_secret(own, SECRET, Some(&vault)).unwrap();
        assert!(!kept.windows(8).any(|part| SECRET.starts_with(part)));
        let open = |webhook, vault: Option<&Vault>| webhook_secret(webhook, &kept, vault);
        assert_eq!(open(own, Some(&vault)).unwrap(), SECRET);
        assert_eq!(open(another, Some(&vault)), Err(UnreadableSecret));
        assert_eq!(open(own, None), Err(UnreadableSecret));
        let other_key = Vault::new([8; 32]);
        assert_eq!(open(own, Some(&other_key)), Err(UnreadableSecret));
    }

    #[test]
    fn what_was_stored_before_is_read_still() {
        let vault = Vault::new([7; 32]);
        let plain = keep_secret(WebhookId(1), SECRET, None).unwrap();
        let mut of_before = MARK_OF_BEFORE.to_vec();
        of_before.extend(vault.seal(PURPOSE_OF_BEFORE, SECRET).unwrap());
        for stored in [&plain, &of_before] {
            let opened = webhook_secret(WebhookId(1), stored, Some(&vault));
            assert_eq!(opened.unwrap(), SECRET);
        }
    }
}
