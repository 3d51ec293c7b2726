//! An identity provider that signs what a test wants.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    sign::Signer,
};
use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What the provider does, which tests change.
pub(super) struct Provider {
    pub(super) issuer: String,
    pub(super) key: PKey<Private>,
    /// The name of the key.
    pub(super) kid: String,
    /// Claims in place of the usual ones; `null` leaves one out.
    pub(super) claims: Value,
    /// What `/userinfo` tells.
    pub(super) userinfo: Option<Value>,
    /// How tokens are signed.
    pub(super) algorithm: &'static str,
    /// Challenge and nonce of each code, which is taken once.
    pub(super) codes: HashMap<String, (String, String)>,
    /// How often what it publishes was fetched.
    pub(super) fetched: u32,
    /// It answers nothing but this.
    pub(super) broken: Option<(StatusCode, String)>,
    /// This code is never answered.
    pub(super) hangs: Option<&'static str>,
    /// How often it was asked for.
    pub(super) hanging: u32,
}

pub(super) type Shared = Arc<Mutex<Provider>>;

pub(super) fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn new_key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap()
}

impl Provider {
    fn token(&self, nonce: &str) -> String {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({
            "iss": self.issuer, "aud": "cellwise", "sub": "248289761001", "nonce": nonce, "iat": now, "exp": now + 60,
            "preferred_username": "anna", "groups": ["readers", "others"],
        });
        for (name, value) in self.claims.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        let head = json!({"alg": self.algorithm, "kid": self.kid, "typ": "JWT"});
        let content = format!(
            "{}.{}",
            base64(head.to_string()),
            base64(claims.to_string())
        );
        let signature = match self.algorithm {
            "RS256" => {
                let mut signer = Signer::new(MessageDigest::sha256(), &self.key).unwrap();
                signer.sign_oneshot_to_vec(content.as_bytes()).unwrap()
            }
            "HS256" => {
                let key = PKey::hmac(b"the secret of the client").unwrap();
                let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
                signer.sign_oneshot_to_vec(content.as_bytes()).unwrap()
            }
            _ => Vec::new(),
        };
        format!("{content}.{}", base64(signature))
    }

    pub(super) fn keys(&self) -> Value {
        let rsa = self.key.rsa().unwrap();
        let (n, e) = (base64(rsa.n().to_vec()), base64(rsa.e().to_vec()));
        json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": n, "e": e}]})
    }
}

pub(super) async fn configuration(State(provider): State<Shared>) -> Response {
    let mut provider = provider.lock().unwrap();
    provider.fetched += 1;
    let issuer = &provider.issuer;
    let mut metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
    });
    if provider.userinfo.is_some() {
        metadata["userinfo_endpoint"] = json!(format!("{issuer}/userinfo"));
    }
    Json(metadata).into_response()
}

pub(super) async fn token(State(provider): State<Shared>, form: String) -> Response {
    // it is written as the query of a URL is
    let form = Url::parse(&format!("http://form/?{form}")).unwrap();
    let form: HashMap<String, String> = form.query_pairs().into_owned().collect();
    let hangs = {
        let mut provider = provider.lock().unwrap();
        let hangs = provider.hangs.is_some_and(|code| form["code"] == code);
        provider.hanging += u32::from(hangs);
        hangs
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    let mut provider = provider.lock().unwrap();
    let Some((challenge, nonce)) = provider.codes.remove(&form["code"]) else {
        let error = json!({"error": "invalid_grant", "error_description": "unknown code"});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    };
    // RFC 7636 §4.6
    assert_eq!(base64(Sha256::digest(&form["code_verifier"])), challenge);
    assert_eq!(
        form["redirect_uri"],
        "https://cellwise.example.com/v1/session/oidc/callback"
    );
    let token = provider.token(&nonce);
    Json(json!({"access_token": "abc", "token_type": "Bearer", "id_token": token})).into_response()
}

pub(super) async fn userinfo(State(provider): State<Shared>, request: Request) -> Response {
    assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer abc");
    Json(provider.lock().unwrap().userinfo.clone()).into_response()
}

pub(super) async fn broken(
    State(provider): State<Shared>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let broken = provider.lock().unwrap().broken.clone();
    match broken {
        Some(answer) => answer.into_response(),
        None => next.run(request).await,
    }
}
