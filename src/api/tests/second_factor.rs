//! The second factor of people, and users that are kept out.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use totp_rs::{Builder, Secret, Totp};

use super::{
    Answer, Api,
    users::{PASSWORD, Session},
};

/// What makes codes.
pub(super) struct Device {
    totp: Totp,
    pub(super) recovery: Vec<String>,
}

impl Device {
    fn of(secret: &str) -> Self {
        let secret = Secret::try_from_base32(secret).unwrap();
        Self {
            totp: Builder::new()
                .with_secret(secret)
                .with_account_name("anna")
                .build()
                .unwrap(),
            recovery: Vec::new(),
        }
    }

    /// The code of so many half minutes after now.
    pub(super) fn code(&self, api: &Api, after: u64) -> String {
        let at = api.state.now() + Duration::from_secs(30 * after);
        let seconds = u64::try_from(at.0 / 1_000).unwrap();
        self.totp.generate(seconds).to_string()
    }
}

impl Api {
    async fn send_by(&self, session: &Session, path: &str, body: &Value) -> Answer {
        self.by(session, Method::POST, path, &body.to_string())
            .await
    }

    /// Sets a second factor up, with the code of now.
    pub(super) async fn set_up(&self, session: &Session) -> Device {
        let password = json!({"password": PASSWORD});
        let begun = self.send_by(session, "/v1/me/totp", &password).await;
        assert_eq!(begun.status, StatusCode::CREATED, "{begun:?}");
        let mut device = Device::of(begun.body["secret"].as_str().unwrap());
        let code = json!({"code": device.code(self, 0)});
        let confirmed = self.send_by(session, "/v1/me/totp/confirm", &code).await;
        assert_eq!(confirmed.status, StatusCode::OK, "{confirmed:?}");
        let codes = confirmed.body["recovery_codes"].as_array().unwrap();
        let codes = codes.iter().map(|code| code.as_str().unwrap().to_owned());
        device.recovery = codes.collect();
        assert_eq!(device.recovery.len(), 10);
        device
    }

    async fn second_factor(&self, session: &Session) -> Value {
        let me = self.by(session, Method::GET, "/v1/me", "").await;
        me.body["second_factor"].clone()
    }
}

#[tokio::test]
async fn a_second_factor_is_set_up_with_a_password_and_a_code() {
    let api = Api::new().await;
    api.user("anna", json!([{"role": "viewer"}])).await;
    let session = api.log_in("anna").await;
    let nothing = json!({"enrolled": false, "required": false, "recovery_codes": 0});
    assert_eq!(api.second_factor(&session).await, nothing);
    let confirm = async |code: &str| {
        let code = json!({"code": code});
        api.send_by(&session, "/v1/me/totp/confirm", &code).await
    };
    assert_eq!(confirm("123456").await.problem(), "no-second-factor");
    let wrong = json!({"password": "wrong horse battery"});
    let wrong = api.send_by(&session, "/v1/me/totp", &wrong).await;
    assert_eq!(wrong.fields(), ["password"]);
    let password = json!({"password": PASSWORD});
    let first = api.send_by(&session, "/v1/me/totp", &password).await;
    let second = api.send_by(&session, "/v1/me/totp", &password).await;
    let uri = second.body["uri"].as_str().unwrap();
    let secret = second.body["secret"].as_str().unwrap();
    assert!(uri.starts_with("otpauth://totp/Cellwise:anna?"), "{uri}");
    assert!(uri.contains(secret) && first.body["secret"] != secret);
    // it is not needed before it is confirmed
    api.log_in("anna").await;
    let before = Device::of(first.body["secret"].as_str().unwrap());
    let code = before.code(&api, 0);
    for wrong in ["12345", "abcdef", &code] {
        assert_eq!(confirm(wrong).await.fields(), ["code"], "{wrong}");
    }
    let device = Device::of(secret);
    let confirmed = confirm(&device.code(&api, 0)).await;
    assert_eq!(confirmed.status, StatusCode::OK, "{confirmed:?}");
    let recovery = confirmed.body["recovery_codes"][0].as_str().unwrap();
    let there = json!({"enrolled": true, "required": false, "recovery_codes": 10});
    assert_eq!(api.second_factor(&session).await, there);
    assert_eq!(api.get("/v1/users/anna").await.body["second_factor"], true);
    let again = api.send_by(&session, "/v1/me/totp", &password).await;
    assert_eq!(again.problem(), "second-factor-there");
    // nothing of it is stored as it is
    let database = std::fs::read(api.dir.path().join("cellwise.db-wal")).unwrap();
    let stored = |bytes: &[u8]| database.windows(bytes.len()).any(|part| part == bytes);
    assert!(!stored(device.totp.secret().as_bytes()) && !stored(secret.as_bytes()));
    assert!(!stored(recovery.as_bytes()));
    assert!(!stored(recovery.replace('-', "").to_uppercase().as_bytes()));
    // a token has none
    for (path, body) in [
        ("/v1/me/totp", &password),
        ("/v1/me/totp/confirm", &json!({"code": "123456"})),
        (
            "/v1/me/totp/remove",
            &json!({"password": PASSWORD, "code": "123456"}),
        ),
    ] {
        assert_eq!(api.post(path, body).await.problem(), "no-session");
    }
}

#[tokio::test]
async fn a_log_in_needs_a_code_that_was_not_used() {
    let api = Api::new().await;
    api.user("anna", json!([{"role": "viewer"}])).await;
    let session = api.log_in("anna").await;
    let device = api.set_up(&session).await;
    let log_in = async |password: &str, code: &str| {
        let answer = api.try_log_in_with("anna", password, Some(code)).await;
        match answer.status {
            StatusCode::CREATED => "in".to_owned(),
            _ => answer.problem().to_owned(),
        }
    };
    let (now, next) = (device.code(&api, 0), device.code(&api, 1));
    let none = api.try_log_in("anna", PASSWORD).await;
    assert_eq!(none.status, StatusCode::UNAUTHORIZED);
    assert_eq!(none.problem(), "code-needed");
    assert_eq!(log_in("wrong horse battery", &next).await, "unauthorized");
    assert_eq!(log_in(PASSWORD, "").await, "code-wrong");
    assert_eq!(
        log_in(PASSWORD, &now).await,
        "code-wrong",
        "it has confirmed"
    );
    assert_eq!(log_in(PASSWORD, &next).await, "in");
    // one code was wrong, and the one that was right has taken nothing
    let instant = api.state.clock.now().instant;
    for _ in 0..9 {
        assert!(api.state.passwords.ration_code(1, instant).is_ok());
    }
    assert!(api.state.passwords.ration_code(1, instant).is_err());
    for _ in 0..10 {
        api.state.passwords.code_was_right(1, instant);
    }
    assert_eq!(log_in(PASSWORD, &next).await, "code-wrong");
    let recovery = &device.recovery[3];
    assert_eq!(log_in(PASSWORD, &recovery.to_uppercase()).await, "in");
    assert_eq!(log_in(PASSWORD, recovery).await, "code-wrong");
    assert_eq!(api.second_factor(&session).await["recovery_codes"], 9);
}

#[tokio::test]
async fn codes_are_rationed_as_passwords_are() {
    let api = Api::new().await;
    api.user("anna", json!([{"role": "viewer"}])).await;
    let session = api.log_in("anna").await;
    let device = api.set_up(&session).await;
    let mut refused = 0;
    for _ in 0..12 {
        let answer = api.try_log_in_with("anna", PASSWORD, Some("000000")).await;
        refused += u32::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused >= 2, "{refused}");
    // those of the session take from its own
    let remove = json!({"password": PASSWORD, "code": "000000"});
    let mut refused = 0;
    for _ in 0..12 {
        let answer = api.send_by(&session, "/v1/me/totp/remove", &remove).await;
        refused += u32::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused >= 2, "{refused}");
    drop(device);
}

#[tokio::test]
async fn a_second_factor_is_taken_away_by_its_user_or_by_an_administrator() {
    let api = Api::new().await;
    api.user("anna", json!([{"role": "viewer"}])).await;
    let session = api.log_in("anna").await;
    let device = api.set_up(&session).await;
    let remove = async |password: &str, code: &str| {
        let body = json!({"password": password, "code": code});
        api.send_by(&session, "/v1/me/totp/remove", &body).await
    };
    let next = device.code(&api, 1);
    assert_eq!(
        remove("wrong horse battery", &next).await.fields(),
        ["password"]
    );
    let used = device.code(&api, 0);
    assert_eq!(remove(PASSWORD, &used).await.fields(), ["code"]);
    assert_eq!(remove(PASSWORD, &next).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        remove(PASSWORD, &device.recovery[0]).await.problem(),
        "no-second-factor"
    );
    api.log_in("anna").await;
    // the secret of before is good for nothing
    let device = api.set_up(&session).await;
    let path = "/v1/users/anna/totp";
    assert_eq!(api.delete(path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.delete(path).await.problem(), "not-found");
    let nobody = api.delete("/v1/users/berta/totp").await;
    assert_eq!(nobody.problem(), "not-found");
    api.log_in("anna").await;
    assert_eq!(api.get("/v1/users/anna").await.body["second_factor"], false);
    drop(device);
    // what people do with it leaves rows without secrets
    let rows = json!(api.get("/v1/audit?limit=1000").await.body["items"]).to_string();
    for operation in [
        "enrol_totp",
        "confirm_totp",
        "remove_totp",
        "remove_user_totp",
    ] {
        assert!(rows.contains(&format!("\"{operation}\"")), "{operation}");
    }
    assert!(rows.contains("\"totp_sealed\":\"(changed)\""), "{rows}");
    assert!(!rows.contains("totp_step"), "{rows}");
}

#[tokio::test]
async fn who_has_to_have_a_second_factor_sets_it_up_before_anything_else() {
    let api = Api::with(|config| {
        config.admin.totp_required_roles = vec!["approver".to_owned()];
    })
    .await;
    api.user("anna", json!([{"role": "approver"}, {"role": "viewer"}]))
        .await;
    api.user("berta", json!([{"role": "viewer"}])).await;
    let (anna, berta) = (api.log_in("anna").await, api.log_in("berta").await);
    let read = async |session: &Session| api.by(session, Method::GET, "/v1/tasks", "").await;
    assert_eq!(read(&anna).await.problem(), "second-factor-required");
    assert_eq!(api.second_factor(&anna).await["required"], true);
    assert_eq!(read(&berta).await.status, StatusCode::OK);
    api.set_up(&anna).await;
    assert_eq!(read(&anna).await.status, StatusCode::OK);
    // of one user
    let require = json!({"second_factor_required": true}).to_string();
    let required = api.json(Method::PATCH, "/v1/users/berta", &require).await;
    assert_eq!(required.body["second_factor_required"], true);
    assert_eq!(read(&berta).await.problem(), "second-factor-required");
    let out = api.by(&berta, Method::DELETE, "/v1/session", "").await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn without_a_credential_key_there_is_no_second_factor() {
    let mut api = Api::new().await;
    api.user("anna", json!([{"role": "viewer"}])).await;
    let session = api.log_in("anna").await;
    let device = api.set_up(&session).await;
    api.state.vault = None;
    api.change_settings(|_| ());
    let next = device.code(&api, 1);
    let refused = api.try_log_in_with("anna", PASSWORD, Some(&next)).await;
    assert_eq!(refused.problem(), "no-credential-key");
    // a recovery code needs none
    let recovery = &device.recovery[0];
    let recovered = api.try_log_in_with("anna", PASSWORD, Some(recovery)).await;
    assert_eq!(recovered.status, StatusCode::CREATED);
    api.user("berta", json!([{"role": "viewer"}])).await;
    let berta = api.log_in("berta").await;
    let password = json!({"password": PASSWORD});
    let refused = api.send_by(&berta, "/v1/me/totp", &password).await;
    assert_eq!(refused.problem(), "no-credential-key");
}

#[tokio::test]
async fn a_disabled_user_is_kept_out_until_it_is_enabled() {
    let api = Api::new().await;
    api.user("anna", json!([{"role": "viewer"}])).await;
    let session = api.log_in("anna").await;
    let set = async |disabled: bool| {
        let body = json!({"disabled": disabled}).to_string();
        let user = api.json(Method::PATCH, "/v1/users/anna", &body).await;
        assert_eq!(user.body["disabled"], disabled, "{user:?}");
    };
    set(true).await;
    let gone = api.by(&session, Method::GET, "/v1/me", "").await;
    assert_eq!(gone.problem(), "unauthorized");
    let refused = api.try_log_in("anna", PASSWORD).await;
    assert_eq!(
        (refused.status, refused.problem()),
        (StatusCode::FORBIDDEN, "user-disabled")
    );
    // who does not know the password does not learn it
    let wrong = api.try_log_in("anna", "wrong horse battery").await;
    assert_eq!(wrong.problem(), "unauthorized");
    set(false).await;
    api.log_in("anna").await;
}

#[test]
fn the_settings_name_the_roles_that_there_are() {
    let roles = crate::access::Role::ALL.map(crate::access::Role::name);
    assert_eq!(roles, crate::config::ROLES);
}
