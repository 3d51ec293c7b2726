use super::*;
use crate::{
    access::{Grant, Role},
    store::{AuditFilter, AuditLog as _, Identity, IdentityUser, SqliteStore, Users as _},
};

#[tokio::test]
async fn users_of_a_provider_that_is_not_named_any_more_have_no_grants() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    for (issuer, name) in [
        ("https://a.example", "anna"),
        ("https://b.example", "berta"),
    ] {
        let new = IdentityUser {
            identity: Identity {
                issuer: issuer.to_owned(),
                subject: "1".to_owned(),
            },
            name: name.to_owned(),
            grants: vec![Grant::of(Role::Viewer)],
            at: UtcMillis(0),
            share: 1_000,
        };
        store.user_of_identity(&new).await.unwrap();
    }
    let granted = async |name: &str| store.user(name).await.unwrap().unwrap().grants.len();
    let mut config = OidcConfig {
        issuer: "https://a.example".to_owned(),
        ..OidcConfig::default()
    };
    let start = async |config: &OidcConfig| {
        let started = ungrant_others(config, &store, UtcMillis(1)).await;
        started.unwrap();
    };
    start(&config).await;
    assert_eq!((granted("anna").await, granted("berta").await), (1, 0));
    let rows = store
        .audit(&AuditFilter::default(), None, 10)
        .await
        .unwrap();
    let [row] = &rows.items[..] else {
        panic!("{rows:?}");
    };
    for told in [r#""who":"system""#, r#""target":"users/berta""#] {
        assert!(row.text.contains(told), "{}", row.text);
    }
    start(&config).await;
    // the settings name none
    config.issuer = String::new();
    start(&config).await;
    assert_eq!((granted("anna").await, granted("berta").await), (0, 0));
}
