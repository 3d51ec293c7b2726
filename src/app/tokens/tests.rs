use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, http::StatusCode, routing::get};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use openssl::{
    bn::BigNumContext,
    ec::{EcGroup, EcKey},
    ecdsa::EcdsaSig,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::{Padding, Rsa},
    sha::sha256,
    sign::{RsaPssSaltlen, Signer},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, time::timeout};

use std::time::SystemTime;

use super::*;

const NOW: UtcMillis = UtcMillis(1_800_000_000_000);
const NOW_S: i64 = NOW.0 / 1_000;

/// Changes header and claims.
type Change = fn(&mut Value, &mut Value);

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs tokens, and tells the public key.
pub(in crate::app) enum Maker {
    Rsa(PKey<Private>, bool),
    Ec(EcKey<Private>),
    Ed(PKey<Private>),
}

impl Maker {
    fn rsa(bits: u32) -> Self {
        Self::Rsa(PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap(), false)
    }

    pub(in crate::app) fn ec() -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        Self::Ec(EcKey::generate(&group).unwrap())
    }

    pub(in crate::app) fn ed() -> Self {
        Self::Ed(PKey::generate_ed25519().unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_, false) => "RS256",
            Self::Rsa(_, true) => "PS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    pub(in crate::app) fn public(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(key, _) => {
                let rsa = key.rsa().unwrap();
                json!({"kty": "RSA", "kid": kid, "use": "sig", "n": base64(rsa.n().to_vec()), "e": base64(rsa.e().to_vec())})
            }
            Self::Ec(key) => {
                let mut context = BigNumContext::new().unwrap();
                let (mut x, mut y) = (
                    openssl::bn::BigNum::new().unwrap(),
                    openssl::bn::BigNum::new().unwrap(),
                );
                let point = key.public_key();
                (point.affine_coordinates(key.group(), &mut x, &mut y, &mut context)).unwrap();
                let padded = |it: &openssl::bn::BigNum| base64(it.to_vec_padded(32).unwrap());
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": padded(&x), "y": padded(&y)})
            }
            Self::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(key.raw_public_key().unwrap())})
            }
        }
    }

    fn sign(&self, message: &str) -> Vec<u8> {
        let message = message.as_bytes();
        match self {
            Self::Rsa(key, pss) => {
                let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
                if *pss {
                    signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
                    signer
                        .set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)
                        .unwrap();
                }
                signer.sign_oneshot_to_vec(message).unwrap()
            }
            Self::Ec(key) => {
                let signed = EcdsaSig::sign(&sha256(message), key).unwrap();
                let mut bytes = signed.r().to_vec_padded(32).unwrap();
                bytes.extend(signed.s().to_vec_padded(32).unwrap());
                bytes
            }
            Self::Ed(key) => {
                let mut signer = Signer::new_without_digest(key).unwrap();
                signer.sign_oneshot_to_vec(message).unwrap()
            }
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let message = format!(
            "{}.{}",
            base64(header.to_string()),
            base64(claims.to_string())
        );
        format!("{message}.{}", base64(self.sign(&message)))
    }

    /// A token as it should be, but for what is changed.
    pub(in crate::app) fn with(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let mut header = json!({"alg": self.algorithm(), "kid": "k1", "typ": "at+jwt"});
        let mut claims = claims();
        change(&mut header, &mut claims);
        self.token(&header, &claims)
    }
}

/// A JWK Set of these keys.
pub(in crate::app) fn public_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn claims() -> Value {
    json!({
        "iss": "https://login.example.com", "aud": ["other", "cellwise-app"], "sub": "anna", "org": "acme",
        "iat": NOW_S, "exp": NOW_S + 600, "homes": {"h1": "owner", "h2": 2},
    })
}

fn config() -> AppConfig {
    AppConfig {
        enabled: true,
        issuer: "https://login.example.com".to_owned(),
        audience: "cellwise-app".to_owned(),
        tenant_claim: "org".to_owned(),
        homes_claim: "homes".to_owned(),
        ..AppConfig::default()
    }
}

/// An issuer whose keys are in a file.
struct OfFile {
    issuer: Issuer,
    file: tempfile::NamedTempFile,
}

impl OfFile {
    fn new(keys: &[Value]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), json!({ "keys": keys }).to_string()).unwrap();
        let config = AppConfig {
            jwks_file: file.path().to_owned(),
            ..config()
        };
        let issuer = Issuer::of(&config).unwrap().unwrap();
        Self { issuer, file }
    }

    async fn told(&self, token: &str) -> Result<Told, NotTaken> {
        self.issuer.told(token, NOW).await
    }

    async fn refuses(&self, token: &str, why: &str) {
        match self.told(token).await {
            Err(NotTaken::Refused(refused)) => {
                assert!(refused.to_string().contains(why), "{refused}, not {why}");
            }
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_token_of_each_algorithm_names_its_user_tenant_and_homes() {
    let mut pss = Maker::rsa(2_048);
    if let Maker::Rsa(_, is_pss) = &mut pss {
        *is_pss = true;
    }
    for maker in [Maker::rsa(2_048), pss, Maker::ec(), Maker::ed()] {
        let issuer = OfFile::new(&[Maker::ed().public("k0"), maker.public("k1")]);
        let told = issuer.told(&maker.with(|_, _| ())).await.unwrap();
        assert_eq!(told.user, "anna", "{}", maker.algorithm());
        assert_eq!(told.tenant.as_deref(), Some("acme"));
        let homes = vec![
            ("h1".to_owned(), json!("owner")),
            ("h2".to_owned(), json!(2)),
        ];
        assert_eq!(told.homes, Some(homes));
        // with the leeway
        assert_eq!(told.issued_at, UtcMillis((NOW_S - 60) * 1_000));
        assert_eq!(told.ends_at, UtcMillis((NOW_S + 660) * 1_000));
    }
}

#[tokio::test]
async fn no_token_chooses_how_it_is_checked() {
    let maker = Maker::rsa(2_048);
    let public = maker.public("k1");
    let issuer = OfFile::new(std::slice::from_ref(&public));
    let none = |header: Value| {
        format!(
            "{}.{}.",
            base64(header.to_string()),
            base64(claims().to_string())
        )
    };
    for alg in ["none", "None", "NONE", "HS256", "RS512", "ES384", ""] {
        let token = none(json!({"alg": alg, "kid": "k1"}));
        issuer.refuses(&token, "its algorithm is none of").await;
    }
    // a public key as a shared secret (RFC 8725 §2.1)
    let message = format!(
        "{}.{}",
        base64(json!({"alg": "HS256", "kid": "k1"}).to_string()),
        base64(claims().to_string())
    );
    let secret = PKey::hmac(public.to_string().as_bytes()).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &secret).unwrap();
    let signature = signer.sign_oneshot_to_vec(message.as_bytes()).unwrap();
    let token = format!("{message}.{}", base64(signature));
    issuer.refuses(&token, "its algorithm is none of").await;
    // another kind of key than the algorithm's
    let other = Maker::ec().with(|_, _| ());
    issuer.refuses(&other, "signature does not hold").await;
    // a signature of nobody, and one of somebody else
    issuer
        .refuses(&none(json!({"alg": "RS256", "kid": "k1"})), "signature")
        .await;
    let stranger = Maker::rsa(2_048).with(|_, _| ());
    issuer.refuses(&stranger, "signature does not hold").await;
    // claims of another token
    let good = maker.with(|_, _| ());
    let mut parts: Vec<&str> = good.split('.').collect();
    let other = base64(json!({"sub": "eve"}).to_string());
    parts[1] = &other;
    issuer
        .refuses(&parts.join("."), "signature does not hold")
        .await;
}

#[tokio::test]
async fn what_a_token_has_to_say_is_told_one_by_one() {
    let maker = Maker::ec();
    let issuer = OfFile::new(&[maker.public("k1")]);
    let cases: [(Change, &str); 22] = [
        (
            |_, claims| claims["iss"] = json!("https://evil.example.com"),
            "another issuer",
        ),
        (
            |_, claims| claims["iss"] = json!(["https://login.example.com"]),
            "another issuer",
        ),
        (|_, claims| claims["aud"] = json!("other"), "somebody else"),
        (|_, claims| claims["aud"] = json!(null), "somebody else"),
        (
            |_, claims| claims["exp"] = json!(NOW_S - 61),
            "it has ended",
        ),
        (|_, claims| claims["exp"] = json!(null), "claim exp"),
        (|_, claims| claims["exp"] = json!("soon"), "claim exp"),
        (|_, claims| claims["exp"] = json!(1e300), "claim exp"),
        (
            |_, claims| claims["exp"] = json!(NOW_S + 3_601),
            "lasts for longer than 3600 s",
        ),
        (|_, claims| claims["iat"] = json!(null), "claim iat"),
        (
            |_, claims| claims["iat"] = json!(NOW_S + 61),
            "made in the future",
        ),
        (
            |_, claims| claims["nbf"] = json!(NOW_S + 61),
            "not valid yet",
        ),
        (|_, claims| claims["nbf"] = json!(null), "claim nbf"),
        (|_, claims| claims["sub"] = json!(""), "claim sub"),
        (|_, claims| claims["sub"] = json!(7), "claim sub"),
        (|_, claims| claims["org"] = json!(null), "claim org"),
        (
            |_, claims| claims["homes"] = json!("h1"),
            "claim with the homes",
        ),
        (
            |_, claims| claims["homes"] = json!([{"id": "h1"}]),
            "claim with the homes",
        ),
        (
            |_, claims| claims["homes"] = json!(vec![json!({"id": "h", "role": 0}); 65]),
            "more than 64 homes",
        ),
        (|header, _| header["crit"] = json!(["b64"]), "extension"),
        (|header, _| header["typ"] = json!("logout+jwt"), "its type"),
        (
            |header, _| header["kid"] = json!("k9"),
            "does not publish the key",
        ),
    ];
    for (change, why) in cases {
        issuer.refuses(&maker.with(change), why).await;
    }
    let fine: [Change; 6] = [
        |_, claims| claims["aud"] = json!("cellwise-app"),
        |_, claims| claims["exp"] = json!(NOW_S - 59),
        |_, claims| claims["nbf"] = json!(NOW_S + 59),
        |_, claims| claims["homes"] = json!([{"id": "h1", "role": "owner"}]),
        |header, _| header["typ"] = json!("JWT"),
        |header, _| {
            header.as_object_mut().unwrap().remove("kid");
        },
    ];
    for change in fine {
        issuer
            .told(&maker.with(|header, claims| {
                claims["iat"] = json!(NOW_S - 600);
                change(header, claims);
            }))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn garbage_is_no_token() {
    let issuer = OfFile::new(&[Maker::ec().public("k1")]);
    let long = format!("{}.a.b", "a".repeat(9_000));
    for token in [
        "..",
        "a.b.c",
        "e30.e30.",
        "e30.e30.e30",
        "ä.b.c",
        " . . ",
        &long,
    ] {
        let told = issuer.told(token).await;
        assert!(
            matches!(told, Err(NotTaken::Refused(_))),
            "{token}: {told:?}"
        );
    }
    assert!(is_signed("a.b.c") && !is_signed("cwa_a.b") && !is_signed("a.b.c.d.e"));
}

#[test]
fn keys_that_are_weak_or_for_something_else_are_none() {
    let set = |keys: Value| jws::KeySet::parse(json!({ "keys": keys }).to_string().as_bytes());
    let mut encrypts = Maker::ec().public("k");
    encrypts["use"] = json!("enc");
    for keys in [
        json!([]),
        json!([Maker::rsa(1_024).public("k")]),
        json!([{"kty": "oct", "k": "c2VjcmV0"}]),
        json!([encrypts]),
        json!([{"kty": "EC", "crv": "P-521"}]),
        json!(["x", 7]),
        json!({}),
    ] {
        assert!(set(keys.clone()).is_err(), "{keys}");
    }
    assert!(set(json!([{"kty": "oct", "k": "c2VjcmV0"}, Maker::ec().public("k")])).is_ok());
    assert!(jws::KeySet::parse(b"").is_err());
}

#[tokio::test]
async fn a_file_with_other_keys_is_read_and_one_without_any_is_not_taken() {
    let (old, new) = (Maker::ec(), Maker::ed());
    let issuer = OfFile::new(&[old.public("k1")]);
    let token = new.with(|header, _| header["kid"] = json!("k2"));
    issuer.refuses(&token, "does not publish the key").await;
    let write = |text: String, age: u64| {
        fs::write(issuer.file.path(), text).unwrap();
        let file = fs::File::options()
            .write(true)
            .open(issuer.file.path())
            .unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + age);
        file.set_modified(at).unwrap();
    };
    write(json!({"keys": [new.public("k2")]}).to_string(), 1);
    let later = NOW + Duration::from_secs(6);
    assert_eq!(
        issuer.issuer.told(&token, later).await.unwrap().user,
        "anna"
    );
    // an unfinished file takes nothing away
    write("{".to_owned(), 2);
    let later = later + Duration::from_mins(1);
    assert_eq!(
        issuer.issuer.told(&token, later).await.unwrap().user,
        "anna"
    );
}

#[tokio::test]
async fn published_keys_are_kept_and_asked_for_at_a_bounded_pace() {
    let (old, new) = (Maker::ec(), Maker::ed());
    let asked = Arc::new(AtomicUsize::new(0));
    let answers = Arc::new(std::sync::Mutex::new((
        StatusCode::OK,
        json!({"keys": [old.public("k1")]}).to_string(),
    )));
    let (count, answer) = (asked.clone(), answers.clone());
    let router = Router::new().route(
        "/keys",
        get(move || {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = answer.lock().unwrap().clone();
            async move { answer }
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    let config = AppConfig {
        jwks_url: url,
        ..config()
    };
    let issuer = Issuer::of(&config).unwrap().unwrap();
    let asked = || asked.load(Ordering::SeqCst);
    assert_eq!(asked(), 0);
    let token = |maker: &Maker, kid: &str| {
        maker.with(|header, claims| {
            header["kid"] = json!(kid);
            claims["exp"] = json!(NOW_S + 3_000);
        })
    };
    let (first, second) = (token(&old, "k1"), token(&new, "k2"));
    for _ in 0..3 {
        issuer.told(&first, NOW).await.unwrap();
    }
    assert_eq!(asked(), 1);
    // made-up names have it asked once a minute
    for seconds in 1..50 {
        let at = NOW + Duration::from_secs(seconds);
        assert!(issuer.told(&second, at).await.is_err());
    }
    assert_eq!(asked(), 1);
    *answers.lock().unwrap() = (
        StatusCode::OK,
        json!({"keys": [new.public("k2")]}).to_string(),
    );
    let later = NOW + Duration::from_secs(61);
    issuer.told(&second, later).await.unwrap();
    assert_eq!(asked(), 2);
    assert!(issuer.told(&first, later).await.is_err());
    // a failure leaves those of before
    *answers.lock().unwrap() = (StatusCode::BAD_GATEWAY, String::new());
    let at = later + Duration::from_secs(61);
    assert!(issuer.told(&first, at).await.is_err());
    issuer.told(&second, at).await.unwrap();
    assert_eq!(asked(), 3);
}

#[tokio::test]
async fn while_the_issuer_hangs_tokens_are_checked_by_the_keys_that_are_known() {
    let maker = Maker::ec();
    let asked = Arc::new(AtomicUsize::new(0));
    let (hung, answers) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let set = public_set(&[maker.public("k1")]);
    let (count, hangs, until) = (asked.clone(), hung.clone(), answers.clone());
    let router = Router::new().route(
        "/keys",
        get(async move || {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                return (StatusCode::OK, set);
            }
            hangs.notify_one();
            until.notified().await;
            (StatusCode::BAD_GATEWAY, String::new())
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    let config = AppConfig {
        jwks_url: url,
        ..config()
    };
    let issuer = Issuer::of(&config).unwrap().unwrap();
    let token = maker.with(|_, claims| {
        claims["iat"] = json!(NOW_S + 3_600);
        claims["exp"] = json!(NOW_S + 7_200);
    });
    let first = maker.with(|_, _| ());
    issuer.told(&first, NOW).await.unwrap();
    let later = NOW + Duration::from_secs(3_700);
    // long before the issuer is given up, of whom the first asks, and the others do not
    for _ in 0..3 {
        let told = timeout(Duration::from_secs(5), issuer.told(&token, later));
        told.await.expect("an answer by the old keys").unwrap();
    }
    hung.notified().await;
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    // it is left alone for five seconds from when that failed, and not from when it was asked
    let took = Duration::from_millis(20);
    tokio::time::sleep(took).await;
    answers.notify_one();
    let failed_at = timeout(Duration::from_mins(1), async {
        loop {
            if let Some(at) = issuer.keys.failed_at() {
                return at;
            }
            tokio::task::yield_now().await;
        }
    });
    let failed_at = failed_at.await.unwrap();
    assert!(failed_at >= later + took, "{failed_at}");
    let soon = failed_at + Duration::from_millis(4_999);
    issuer.told(&token, soon).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    answers.notify_one();
    let then = failed_at + Duration::from_secs(5);
    issuer.told(&token, then).await.unwrap();
    hung.notified().await;
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}
