use axum::http::{Method, StatusCode, header};
use serde_json::json;

use super::{App, key};
use crate::{
    app::tokens::tests::{Maker, public_set},
    home::{Role, UserKey},
    tenant::TenantId,
};

/// An issuer whose keys are in a file, and what makes its tokens.
fn issuer(config: &mut crate::config::Config, file: &std::path::Path, maker: &Maker) {
    std::fs::write(file, public_set(&[maker.public("k1")])).unwrap();
    config.app.issuer = "https://login.example.com".to_owned();
    config.app.audience = "cellwise-app".to_owned();
    config.app.homes_claim = "homes".to_owned();
    config.app.jwks_file = file.to_owned();
}

#[tokio::test]
async fn a_signed_token_names_the_homes_and_roles_or_leaves_them_to_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (file, maker) = (dir.path().join("keys.json"), Maker::ec());
    let app = App::with(|config| issuer(config, &file, &maker)).await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    let now_s = app.now().0 / 1_000;
    let token = |user: &str, homes: serde_json::Value| {
        maker.with(|_, claims| {
            claims["sub"] = json!(user);
            claims["iat"] = json!(now_s);
            claims["exp"] = json!(now_s + 600);
            claims["homes"] = homes;
            if claims["homes"].is_null() {
                claims.as_object_mut().unwrap().remove("homes");
            }
        })
    };
    let homes = async |token: &str| app.get(token, "/app/v1/homes").await.body["items"].clone();
    // kept: the owner is one, whoever is not known has none
    let kept = homes(&token("owner", json!(null))).await;
    assert_eq!(kept[0]["id"], "ours");
    assert_eq!(kept[0]["role"], 0);
    assert_eq!(kept[0]["devices"], 1);
    assert_eq!(homes(&token("anna", json!(null))).await, json!([]));
    // told: as the token says, as far as the home is there, and nothing else
    let told = homes(&token("anna", json!({"ours": "member", "gone": 0}))).await;
    assert_eq!(told.as_array().unwrap().len(), 1);
    assert_eq!(told[0]["role"], 2);
    assert_eq!(homes(&token("owner", json!({}))).await, json!([]));
    let member = token("anna", json!([{"id": "ours", "role": 2}]));
    let path = "/app/v1/homes/ours/devices/d1/cancel";
    let answer = app.call(Method::POST, path, Some(&member), None).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    // what is no home, no role, no user
    for token in [
        token("anna", json!({"a b": 0})),
        token("anna", json!({"ours": 3})),
        token("anna", json!({"ours": "boss"})),
        token("anna b", json!(null)),
    ] {
        let answer = app.get(&token, "/app/v1/homes").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
        assert!(
            answer.body["detail"]
                .as_str()
                .unwrap()
                .contains("not valid")
        );
    }
}

#[tokio::test]
async fn tokens_of_before_a_revocation_are_none_of_either_kind() {
    let dir = tempfile::tempdir().unwrap();
    let (file, maker) = (dir.path().join("keys.json"), Maker::ed());
    let app = App::with(|config| issuer(config, &file, &maker)).await;
    let now_s = app.now().0 / 1_000;
    let signed = maker.with(|_, claims| {
        claims["iat"] = json!(now_s - 10);
        claims["exp"] = json!(now_s + 600);
        claims["sub"] = json!("anna");
        claims.as_object_mut().unwrap().remove("homes");
    });
    let issued = app.token("anna").await;
    let other = app.token("bert").await;
    for token in [&signed, &issued, &other] {
        assert_eq!(app.get(token, "/app/v1/homes").await.status, StatusCode::OK);
    }
    let anna = UserKey {
        tenant: TenantId::default(),
        id: "anna".parse().unwrap(),
    };
    let soon = app.now() + std::time::Duration::from_millis(1);
    app.state
        .store
        .revoke_user(&anna, soon, soon)
        .await
        .unwrap();
    for token in [&signed, &issued] {
        let answer = app.get(token, "/app/v1/homes").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(
        app.get(&other, "/app/v1/homes").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_token_of_a_clock_that_is_ahead_does_not_outlive_a_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let (file, maker) = (dir.path().join("keys.json"), Maker::ed());
    let app = App::with(|config| issuer(config, &file, &maker)).await;
    let now = app.now();
    let token = |ahead_s: i64| {
        maker.with(|_, claims| {
            claims["iat"] = json!(now.0 / 1_000 + ahead_s);
            claims["exp"] = json!(now.0 / 1_000 + 600);
            claims["sub"] = json!("anna");
            claims.as_object_mut().unwrap().remove("homes");
        })
    };
    let anna = UserKey {
        tenant: TenantId::default(),
        id: "anna".parse().unwrap(),
    };
    // leeway_s is 60
    let before = now.before(std::time::Duration::from_secs(100));
    app.state
        .store
        .revoke_user(&anna, before, now)
        .await
        .unwrap();
    for (ahead_s, status) in [
        (-101, StatusCode::UNAUTHORIZED),
        (-50, StatusCode::UNAUTHORIZED),
        (-38, StatusCode::OK),
        (0, StatusCode::OK),
    ] {
        let answer = app.get(&token(ahead_s), "/app/v1/homes").await;
        assert_eq!(answer.status, status, "{ahead_s}");
    }
    app.state.store.revoke_user(&anna, now, now).await.unwrap();
    let answer = app.get(&token(50), "/app/v1/homes").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    // tokens of this server's own clock are told apart to the millisecond
    let issued = app.token("anna").await;
    let answer = app.get(&issued, "/app/v1/homes").await;
    assert_eq!(answer.status, StatusCode::OK);
}

/// Asks until it is too often; the answer to that.
async fn too_often(app: &App, token: &str, path: &str) -> super::Answer {
    for _ in 0..1_000 {
        let answer = app.get(token, path).await;
        if answer.status != StatusCode::OK {
            return answer;
        }
    }
    panic!("{path} may be asked for as often as anybody likes");
}

#[tokio::test]
async fn a_user_who_asks_too_often_waits_and_others_do_not() {
    let app = App::with(|config| config.app.requests_per_user_per_second = 1).await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    let path = "/app/v1/homes/ours/upgrades";
    let answer = too_often(&app, &app.token("owner").await, path).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.problem(), "too-many-requests");
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("this user")
    );
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
    let member = app.token("member").await;
    assert_eq!(app.get(&member, path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_home_is_not_asked_for_too_often_by_all_who_are_in_it() {
    let app = App::with(|config| config.app.requests_per_home_per_second = 1).await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    let path = "/app/v1/homes/ours/upgrades";
    let (owner, stranger) = (app.token("owner").await, app.token("stranger").await);
    // who is not in it uses nothing of it up, and is told nothing of it
    for _ in 0..5 {
        assert_eq!(app.get(&stranger, path).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(app.get(&owner, path).await.status, StatusCode::OK);
    let answer = too_often(&app, &owner, path).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("this home")
    );
    assert_eq!(app.get(&stranger, path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn wrong_tokens_are_rationed_by_address() {
    let app = App::with(|config| config.app.failed_attempts_per_minute = 2).await;
    for _ in 0..2 {
        let answer = app.get("wrong", "/app/v1/homes").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let answer = app.get("wrong", "/app/v1/homes").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    // a right one is let in all the same
    let token = app.token("anna").await;
    assert_eq!(
        app.get(&token, "/app/v1/homes").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_a_user_did_is_in_the_audit_log_under_a_pseudonym() {
    let app = App::new().await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    let owner = app.token(Role::Owner.name()).await;
    let path = "/app/v1/homes/ours/devices/d1/automatic";
    let on = json!({"automatic": true});
    let answer = app.call(Method::PUT, path, Some(&owner), Some(&on)).await;
    assert_eq!(answer.body["automatic"], true, "{answer:?}");
    assert_eq!(answer.body["quiet_hours"]["from"], "22:00");
    assert_eq!(answer.body["quiet_hours"]["time_zone"], "Europe/Berlin");
    let rows = app.admin_get("/v1/audit?limit=50").await.body["items"].clone();
    let rows = rows.as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| row["operation"] == "set_device_automatic");
    let row = row.unwrap_or_else(|| panic!("{rows:?}"));
    let user = UserKey {
        tenant: TenantId::default(),
        id: "owner".parse().unwrap(),
    };
    let pseudonym = app.state.store.pseudonym(&user).await.unwrap();
    assert_eq!(row["who"], format!("app-user:{pseudonym}"));
    assert!(!row.to_string().contains("owner"), "{row}");
    assert!(app.state.store.home(&key("ours")).await.unwrap().is_some());
}
