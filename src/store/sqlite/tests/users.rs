//! People in the file.

use std::time::Duration;

use super::*;
use crate::{
    access::{Grant, Role},
    store::{NewSession, NewUser, Users as _},
};

#[tokio::test]
async fn a_session_of_a_disabled_user_lets_nobody_in_whoever_has_disabled_it() {
    let (store, _dir) = open().await;
    let new = NewUser {
        name: "anna".to_owned(),
        password: "$hash".to_owned(),
        grants: vec![Grant::of(Role::Viewer)],
        created_by: "admin-token".to_owned(),
        created_at: UtcMillis(0),
        share: 1_000,
    };
    let anna = store.add_user(&new).await.unwrap();
    let session = NewSession {
        hash: [7; 32],
        user: anna.id,
        password: anna.password,
        second_factor: None,
        created_at: UtcMillis(0),
        expires_at: UtcMillis(10_000),
    };
    assert!(store.begin_session(&session).await.unwrap());
    let is_in = async || {
        let found = store.find_session(&[7; 32], UtcMillis(1), Duration::from_secs(5));
        found.await.unwrap().is_some()
    };
    assert!(is_in().await);
    // by a change that has left the session
    sqlx::query("UPDATE users SET disabled = 1")
        .execute(&store.writer)
        .await
        .unwrap();
    assert!(!is_in().await);
}
