//! Who vouches for a package that is uploaded.

use axum::http::StatusCode;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use tokio::task::spawn_blocking;

use crate::{
    api::{ApiState, problem::Problem},
    signing::MAX_SIGNATURE_BYTES,
    store::{PackageSignature, ProductKey, SealedUpload, Signatures},
    tenant,
};

/// Padding may be left out.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A signature in base64 (RFC 4648 §4 or §5).
pub(super) fn parse(text: &str) -> Result<Vec<u8>, String> {
    // 4 characters for 3 bytes
    let fits = text.len() <= MAX_SIGNATURE_BYTES.div_ceil(3) * 4;
    let bytes = (STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text))).ok();
    bytes
        .filter(|bytes| fits && (1..=MAX_SIGNATURE_BYTES).contains(&bytes.len()))
        .ok_or_else(|| {
            format!("give the signature in base64: 1 to {MAX_SIGNATURE_BYTES} bytes; in a query a + is written as %2B")
        })
}

/// The keys that may vouch for an upload; refuses one that comes without a signature where the product requires one.
pub(super) async fn keys(
    state: &ApiState,
    product: &str,
    signed: bool,
) -> Result<Vec<ProductKey>, Problem> {
    let name = tenant::product_name(product);
    if !signed {
        let rules = state.store.product(product).await?;
        return match rules.signatures {
            Signatures::Optional => Ok(Vec::new()),
            Signatures::Required => Err(Problem::unsigned(format!(
                "product {name} takes signed packages only; upload it with a signature over the file by one of the product's \
                 {} keys",
                rules.keys
            ))),
        };
    }
    let keys = state.store.product_keys(product).await?;
    if keys.is_empty() {
        let detail = format!(
            "product {name} has no key by which a signature could be verified; add one (POST /v1/products/{name}/keys)"
        );
        return Err(Problem::field("signature", detail));
    }
    Ok(keys)
}

/// The key of these that verifies the signature over the exact bytes of the file.
pub(super) async fn verified(
    state: &ApiState,
    product: &str,
    keys: Vec<ProductKey>,
    bytes: Vec<u8>,
    sealed: &SealedUpload,
) -> Result<PackageSignature, Problem> {
    let name = tenant::product_name(product);
    let content = sealed.map().await?;
    let tried = keys.len();
    let (key, bytes) = spawn_blocking(move || {
        let mut keys = keys.into_iter();
        let key = keys.find(|key| key.key.verifies(&content, &bytes));
        (key, bytes)
    })
    .await
    .map_err(|error| Problem::internal(&error))?;
    let Some(key) = key else {
        let (sha256, size) = (&sealed.content().sha256, sealed.content().size_bytes);
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad-signature",
            "The signature is not one of the product's keys over this file",
            format!(
                "none of the {tried} keys of product {name} verifies the signature over the {size} bytes that came (SHA-256 {sha256}); \
                 sign exactly the file that is uploaded (docs/evidence.md)"
            ),
        )
        .about("signature"));
    };
    Ok(PackageSignature {
        key: key.key.id(),
        algorithm: key.key.algorithm(),
        bytes,
        verified_at: state.now(),
        key_removed_at: None,
    })
}
