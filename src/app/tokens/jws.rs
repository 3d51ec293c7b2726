//! A signed token taken apart (RFC 7515, compact), and its signature.
//!
//! The algorithm is one of a list, and each goes with one kind of key: a token cannot choose that it is not signed, nor that a public key
//! is a shared secret (RFC 8725 §3.1).

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use openidconnect::{
    JsonWebKey as _,
    core::{CoreJsonWebKey, CoreJwsSigningAlgorithm},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::told::Refused;

/// Longest token that is looked at, bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// Keys of RSA have so many bytes at the least (RFC 7518 §3.3).
const LEAST_RSA_BYTES: usize = 256;
/// Keys of a set that are looked at.
const MAX_KEYS: usize = 100;
/// What a token may say that it is: an access token (RFC 9068), or just a token.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// What stands before the claims.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// A token whose signature is still to be checked.
#[derive(Debug)]
pub(super) struct Signed<'t> {
    algorithm: CoreJwsSigningAlgorithm,
    key: Option<String>,
    message: &'t str,
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

fn algorithm(name: &str) -> Option<CoreJwsSigningAlgorithm> {
    match name {
        "RS256" => Some(CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256),
        "PS256" => Some(CoreJwsSigningAlgorithm::RsaSsaPssSha256),
        "ES256" => Some(CoreJwsSigningAlgorithm::EcdsaP256Sha256),
        "EdDSA" => Some(CoreJwsSigningAlgorithm::EdDsa),
        _ => None,
    }
}

/// Whether a text has the form of a signed token.
pub(super) fn is_compact(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'t> Signed<'t> {
    pub(super) fn parse(token: &'t str) -> Result<Self, Refused> {
        const NONE: Refused = Refused::new("it is no signed token (JWT)");
        if token.len() > MAX_TOKEN {
            return Err(Refused::new("it is longer than 8 KiB"));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(NONE)?;
        let (header, claims) = message.split_once('.').ok_or(NONE)?;
        let bytes = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| NONE);
        let header: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| NONE)?;
        let algorithm = algorithm(&header.alg).ok_or(Refused::new(
            "its algorithm is none of RS256, PS256, ES256 and EdDSA",
        ))?;
        if header.crit.is_some() {
            return Err(Refused::new("it asks for an extension (crit)"));
        }
        let typ = header.typ.map(|typ| typ.to_ascii_lowercase());
        if let Some(typ) = typ
            && !TYPES.contains(&typ.strip_prefix("application/").unwrap_or(&typ))
        {
            return Err(Refused::new("its type (typ) is neither JWT nor at+jwt"));
        }
        Ok(Self {
            algorithm,
            key: header.kid,
            message,
            signature: bytes(signature)?,
            claims: serde_json::from_slice(&bytes(claims)?).map_err(|_| NONE)?,
        })
    }

    /// The claims, if one of the keys has signed them.
    pub(super) fn verified(&self, keys: &KeySet) -> Result<&Map<String, Value>, Unsigned> {
        let mut tried = false;
        for key in keys.0.iter().filter(|key| self.names(key)) {
            tried = true;
            let signed =
                key.verify_signature(&self.algorithm, self.message.as_bytes(), &self.signature);
            if signed.is_ok() {
                return Ok(&self.claims);
            }
        }
        Err(if tried {
            Unsigned::Wrong
        } else {
            Unsigned::NoKey
        })
    }

    fn names(&self, key: &CoreJsonWebKey) -> bool {
        let named = self.key.as_deref();
        named.is_none_or(|named| key.key_id().is_some_and(|id| id.as_str() == named))
    }
}

/// Why a token is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsigned {
    /// The set has not the key that it names.
    NoKey,
    /// No key of the set has signed it.
    Wrong,
}

/// Public keys of an issuer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct KeySet(Vec<CoreJsonWebKey>);

impl KeySet {
    /// Those of a JWK Set (RFC 7517 §5) that can sign tokens. Others in it are passed over.
    ///
    /// # Errors
    /// It is no set, or none of its keys can be used.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| format!("it is no JWK Set (RFC 7517): {error}"))?;
        let keys = document.keys.into_iter().take(MAX_KEYS);
        let keys: Vec<_> = keys.filter_map(usable).collect();
        if keys.is_empty() {
            let what = "it holds no public key that could be used: RSA of 2048 bits or more, P-256 or Ed25519, to sign with";
            return Err(what.to_owned());
        }
        Ok(Self(keys))
    }
}

/// A key that can be used for one of the algorithms.
fn usable(key: Value) -> Option<CoreJsonWebKey> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let fits = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let modulus = BASE64_URL_SAFE_NO_PAD.decode(text("n")?).ok()?;
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            modulus.len() - zeros >= LEAST_RSA_BYTES
        }
        ("EC", Some("P-256")) | ("OKP", Some("Ed25519")) => true,
        _ => false,
    };
    let signs = text("use").is_none_or(|it| it == "sig");
    if !(fits && signs) {
        return None;
    }
    serde_json::from_value(key).ok()
}
