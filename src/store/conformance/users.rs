//! People, and who of them is logged in.

use std::time::Duration;

use super::{Store, T0, t};
use crate::{
    access::{Grant, Role},
    store::{
        AddUserError, Identity, IdentityUser, MAX_SESSIONS, NewSession, NewUser, Proof, UserChange,
        UserId, UserRecord,
    },
};

const IDLE: Duration = Duration::from_secs(100);

fn new(name: &str) -> NewUser {
    NewUser {
        name: name.to_owned(),
        password: format!("$hash of {name}"),
        grants: vec![Grant::of(Role::Viewer)],
        created_by: "admin-token".to_owned(),
        created_at: T0,
        share: 1_000,
    }
}

fn session(user: &UserRecord, byte: u8, at: u64) -> NewSession {
    NewSession {
        hash: [byte; 32],
        user: user.id,
        password: user.password.clone(),
        second_factor: None,
        created_at: t(at),
        expires_at: t(at + 1_000),
    }
}

/// Whose session it is.
async fn who(store: &impl Store, byte: u8, at: u64) -> Option<String> {
    let found = store.find_session(&[byte; 32], t(at), IDLE).await.unwrap();
    found.map(|(user, _)| user.name)
}

pub(crate) async fn users_have_names_of_their_own(store: &impl Store) {
    let anna = store.add_user(&new("anna")).await.unwrap();
    assert_eq!(store.user("anna").await.unwrap(), Some(anna.clone()));
    assert_eq!(store.user("Anna").await.unwrap(), None);
    let taken = store.add_user(&new("anna")).await;
    assert!(matches!(taken, Err(AddUserError::NameTaken(name)) if name == "anna"));
    store.add_user(&new("berta")).await.unwrap();
    let page = store.users(None, 1).await.unwrap();
    assert!(page.more && page.items == [anna.clone()]);
    let page = store.users(Some(anna.id), 1).await.unwrap();
    assert!(!page.more && page.items[0].name == "berta");
    let grants = [Grant::of(Role::Approver), Grant::of(Role::Auditor)];
    let granted = UserChange {
        grants: Some(grants.to_vec()),
        ..UserChange::default()
    };
    assert!(store.update_user("anna", None, &granted).await.unwrap());
    assert!(!store.update_user("clara", None, &granted).await.unwrap());
    assert_eq!(store.user("anna").await.unwrap().unwrap().grants, grants);
    // a user may be the other pair of eyes
    assert!(store.others_approve("default", T0).await.unwrap());
    assert!(store.remove_user("anna", None).await.unwrap());
    assert!(!store.remove_user("anna", None).await.unwrap());
    assert!(!store.others_approve("default", T0).await.unwrap());
    let again = store.add_user(&new("anna")).await.unwrap();
    assert!(again.id.0 > anna.id.0 + 1);
}

pub(crate) async fn grants_and_a_password_are_changed_together(store: &impl Store) {
    let anna = store.add_user(&new("anna")).await.unwrap();
    assert!(store.begin_session(&session(&anna, 1, 0)).await.unwrap());
    let change = |role, password: Option<&str>| UserChange {
        grants: Some(vec![Grant::of(role)]),
        password: password.map(str::to_owned),
        ..UserChange::default()
    };
    let granted = change(Role::Auditor, None);
    assert!(store.update_user("anna", None, &granted).await.unwrap());
    assert_eq!(who(store, 1, 1).await.as_deref(), Some("anna"));
    let both = change(Role::Viewer, Some("another hash"));
    assert!(!store.update_user("clara", None, &both).await.unwrap());
    assert!(store.update_user("anna", None, &both).await.unwrap());
    let grants = [Grant::of(Role::Viewer)];
    let changed = store.user("anna").await.unwrap().unwrap();
    assert_eq!(
        (&*changed.password, &*changed.grants),
        ("another hash", &grants[..])
    );
    assert_eq!(who(store, 1, 1).await, None);
}

pub(crate) async fn a_session_ends_at_its_end_and_when_it_is_not_used(store: &impl Store) {
    let anna = store.add_user(&new("anna")).await.unwrap();
    assert!(store.begin_session(&session(&anna, 1, 0)).await.unwrap());
    assert_eq!(
        store.user("anna").await.unwrap().unwrap().last_login_at,
        Some(t(0))
    );
    assert_eq!(who(store, 1, 99).await.as_deref(), Some("anna"));
    assert_eq!(who(store, 1, 100).await, None);
    assert_eq!(who(store, 2, 1).await, None);
    for at in (50..1_000).step_by(50) {
        store.session_seen(&[1; 32], t(at)).await.unwrap();
    }
    // what is noted late does not shorten it
    store.session_seen(&[1; 32], t(60)).await.unwrap();
    assert_eq!(who(store, 1, 999).await.as_deref(), Some("anna"));
    assert_eq!(who(store, 1, 1_000).await, None);
    assert!(store.begin_session(&session(&anna, 2, 0)).await.unwrap());
    store.end_session(&[2; 32]).await.unwrap();
    store.end_session(&[2; 32]).await.unwrap();
    assert_eq!(who(store, 2, 1).await, None);
    assert_eq!(who(store, 1, 999).await.as_deref(), Some("anna"));
}

pub(crate) async fn a_new_password_ends_sessions(store: &impl Store) {
    let anna = store.add_user(&new("anna")).await.unwrap();
    let berta = store.add_user(&new("berta")).await.unwrap();
    store.begin_session(&session(&anna, 1, 0)).await.unwrap();
    store.begin_session(&session(&berta, 2, 0)).await.unwrap();
    let set = async |from: Option<&str>| store.set_password("anna", from, "$new").await.unwrap();
    assert!(!set(Some("$another")).await);
    assert!(who(store, 1, 1).await.is_some());
    assert!(set(Some(&anna.password)).await);
    assert_eq!(who(store, 1, 1).await, None);
    assert!(who(store, 2, 1).await.is_some());
    // whoever has shown the old one comes too late
    assert!(!store.begin_session(&session(&anna, 3, 0)).await.unwrap());
    assert_eq!(who(store, 3, 1).await, None);
    let anna = store.user("anna").await.unwrap().unwrap();
    assert!(store.begin_session(&session(&anna, 3, 0)).await.unwrap());
    assert!(store.set_password("anna", None, "$newer").await.unwrap());
    assert!(!store.set_password("clara", None, "$newer").await.unwrap());
    assert_eq!(who(store, 3, 1).await, None);
    store.remove_user("berta", None).await.unwrap();
    assert_eq!(who(store, 2, 1).await, None);
}

pub(crate) async fn a_user_has_so_many_sessions_at_most(store: &impl Store) {
    let anna = store.add_user(&new("anna")).await.unwrap();
    let berta = store.add_user(&new("berta")).await.unwrap();
    store.begin_session(&session(&berta, 0, 0)).await.unwrap();
    let most = u8::try_from(MAX_SESSIONS).unwrap();
    for number in 1..=most + 2 {
        let new = session(&anna, number, u64::from(number));
        assert!(store.begin_session(&new).await.unwrap());
    }
    for number in 1..=most + 2 {
        let there = who(store, number, 30).await.is_some();
        assert_eq!(there, number > 2, "{number}");
    }
    assert_eq!(who(store, 0, 30).await.as_deref(), Some("berta"));
}

/// A change of what is not told by its name.
fn keep_out(disabled: bool) -> UserChange {
    UserChange {
        disabled: Some(disabled),
        ..UserChange::default()
    }
}

pub(crate) async fn a_disabled_user_is_kept_out(store: &impl Store) {
    let mut new = new("anna");
    new.grants = vec![Grant::of(Role::Approver)];
    let anna = store.add_user(&new).await.unwrap();
    assert!(!anna.disabled && store.others_approve("default", T0).await.unwrap());
    store.begin_session(&session(&anna, 1, 0)).await.unwrap();
    assert!(
        store
            .update_user("anna", None, &keep_out(true))
            .await
            .unwrap()
    );
    assert_eq!(who(store, 1, 1).await, None);
    assert!(store.user("anna").await.unwrap().unwrap().disabled);
    assert!(!store.others_approve("default", T0).await.unwrap());
    assert!(!store.begin_session(&session(&anna, 2, 1)).await.unwrap());
    assert!(
        store
            .update_user("anna", None, &keep_out(false))
            .await
            .unwrap()
    );
    assert!(store.begin_session(&session(&anna, 2, 1)).await.unwrap());
    // what is not given stays
    let anna = store.user("anna").await.unwrap().unwrap();
    assert_eq!(anna.grants, [Grant::of(Role::Approver)]);
    assert!(!anna.second_factor_required);
}

pub(crate) async fn a_second_factor_counts_once_it_is_confirmed(store: &impl Store) {
    let anna = store.add_user(&new("anna")).await.unwrap();
    let recovery = [[1; 32], [2; 32]];
    let confirm = async |pending: &[u8], step| {
        let confirmed = store.confirm_second_factor(anna.id, pending, step, &recovery);
        confirmed.await.unwrap()
    };
    assert!(!confirm(b"first", 5).await);
    assert!(store.enrol(anna.id, b"first").await.unwrap());
    // it is not asked for yet
    assert!(store.begin_session(&session(&anna, 1, 0)).await.unwrap());
    assert!(store.enrol(anna.id, b"second").await.unwrap());
    assert!(!confirm(b"first", 5).await);
    assert!(confirm(b"second", 5).await);
    assert!(!confirm(b"second", 5).await);
    assert!(!store.enrol(anna.id, b"third").await.unwrap());
    let anna = store.user("anna").await.unwrap().unwrap();
    assert_eq!(anna.totp.as_deref(), Some(&b"second"[..]));
    assert_eq!(anna.totp_pending, None);
    assert_eq!(store.recovery_codes(anna.id).await.unwrap(), 2);
    assert_eq!(who(store, 1, 1).await.as_deref(), Some("anna"));
    let nobody = crate::store::UserId(anna.id.0 + 1);
    assert!(!store.enrol(nobody, b"first").await.unwrap());
    // a new password takes away what a session of before has begun
    let berta = store.add_user(&new("berta")).await.unwrap();
    for own in [true, false] {
        assert!(store.enrol(berta.id, b"first").await.unwrap());
        let changed = if own {
            store.set_password("berta", None, "$another hash").await
        } else {
            let change = UserChange {
                password: Some("$a third hash".to_owned()),
                ..UserChange::default()
            };
            store.update_user("berta", None, &change).await
        };
        assert!(changed.unwrap());
        let confirmed = store.confirm_second_factor(berta.id, b"first", 5, &recovery);
        assert!(!confirmed.await.unwrap());
    }
}

pub(crate) async fn what_is_shown_as_the_second_factor_is_good_once(store: &impl Store) {
    let anna = store.add_user(&new("anna")).await.unwrap();
    store.enrol(anna.id, b"secret").await.unwrap();
    let recovery = [[1; 32], [2; 32]];
    let confirmed = store.confirm_second_factor(anna.id, b"secret", 5, &recovery);
    assert!(confirmed.await.unwrap());
    let begin = async |second_factor: Option<Proof>| {
        let new = NewSession {
            second_factor,
            ..session(&anna, 9, 0)
        };
        let begun = store.begin_session(&new).await.unwrap();
        store.end_session(&[9; 32]).await.unwrap();
        begun
    };
    let code = |sealed: &[u8], step| {
        let sealed = sealed.to_vec();
        Some(Proof::Code { sealed, step })
    };
    assert!(!begin(None).await, "the password alone is not enough");
    assert!(!begin(code(b"secret", 5)).await, "it has confirmed it");
    assert!(begin(code(b"secret", 6)).await);
    assert!(!begin(code(b"secret", 6)).await);
    assert!(!begin(code(b"secret", 4)).await);
    assert!(!begin(code(b"another", 9)).await);
    assert!(begin(code(b"secret", 8)).await);
    assert!(begin(Some(Proof::Recovery([1; 32]))).await);
    assert!(!begin(Some(Proof::Recovery([1; 32]))).await);
    assert!(!begin(Some(Proof::Recovery([3; 32]))).await);
    assert_eq!(store.recovery_codes(anna.id).await.unwrap(), 1);
    // by oneself
    let remove = async |proof: Option<Proof>| {
        let removed = store.remove_second_factor("anna", None, proof.as_ref());
        removed.await.unwrap()
    };
    assert!(!remove(code(b"secret", 8)).await);
    assert!(remove(code(b"secret", 9)).await);
    assert!(!remove(None).await);
    assert_eq!(store.recovery_codes(anna.id).await.unwrap(), 0);
    assert!(!begin(code(b"secret", 10)).await);
    assert!(begin(None).await);
    // by an administrator
    store.enrol(anna.id, b"secret").await.unwrap();
    let other = UserRecord {
        id: UserId(anna.id.0 + 1),
        ..anna.clone()
    };
    let others = store.remove_second_factor("anna", Some(&other), None);
    assert!(!others.await.unwrap());
    assert!(remove(None).await);
    let anna = store.user("anna").await.unwrap().unwrap();
    assert_eq!((anna.totp, anna.totp_pending), (None, None));
}

pub(crate) async fn who_comes_by_an_identity_is_one_user(store: &impl Store) {
    store.add_user(&new("anna")).await.unwrap();
    let someone = |issuer: &str, subject: &str, role: Role| IdentityUser {
        identity: Identity {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        },
        name: "anna".to_owned(),
        grants: vec![Grant::of(role)],
        at: T0,
        share: 1_000,
    };
    let first = someone("https://a.example", "1", Role::Viewer);
    let user = store.user_of_identity(&first).await.unwrap();
    assert!(user.name.starts_with("anna-"), "{}", user.name);
    assert_eq!(user.identity, Some(first.identity.clone()));
    assert_eq!(user.password, "");
    let later = someone("https://a.example", "1", Role::Operator);
    let same = store.user_of_identity(&later).await.unwrap();
    assert_eq!((same.id, &same.name), (user.id, &user.name));
    assert_eq!(same.grants, later.grants);
    assert_eq!(store.user(&user.name).await.unwrap(), Some(same.clone()));
    for other in [
        someone("https://a.example", "2", Role::Viewer),
        someone("https://b.example", "1", Role::Viewer),
    ] {
        let other = store.user_of_identity(&other).await.unwrap();
        assert!(other.id != user.id && other.name != user.name);
    }
    assert!(store.begin_session(&session(&same, 7, 0)).await.unwrap());
    assert_eq!(who(store, 7, 1).await, Some(user.name.clone()));
    // who is kept out gets nothing new
    assert!(
        store
            .update_user(&user.name, None, &keep_out(true))
            .await
            .unwrap()
    );
    let kept_out = store.user_of_identity(&first).await.unwrap();
    assert!(kept_out.disabled && kept_out.grants == later.grants);
    assert!(
        !store
            .begin_session(&session(&kept_out, 8, 0))
            .await
            .unwrap()
    );
}

pub(crate) async fn what_an_identity_is_granted_is_taken_away(store: &impl Store) {
    let someone = async |issuer: &str, subject: &str| {
        let new = IdentityUser {
            identity: Identity {
                issuer: issuer.to_owned(),
                subject: subject.to_owned(),
            },
            name: subject.to_owned(),
            grants: vec![Grant::of(Role::Approver)],
            at: T0,
            share: 1_000,
        };
        store.user_of_identity(&new).await.unwrap()
    };
    let identity = |user: &UserRecord| user.identity.clone().unwrap();
    let anna = someone("https://a.example", "anna").await;
    let berta = someone("https://a.example", "berta").await;
    let clara = someone("https://b.example", "clara").await;
    store.add_user(&new("local")).await.unwrap();
    for (user, byte) in [(&anna, 1), (&berta, 2), (&clara, 3)] {
        assert!(store.begin_session(&session(user, byte, 0)).await.unwrap());
    }
    let taken = store.ungrant(&identity(&anna)).await.unwrap();
    assert_eq!(taken.as_deref(), Some("anna"));
    assert_eq!(store.user("anna").await.unwrap().unwrap().grants, []);
    assert_eq!(who(store, 1, 1).await, None);
    assert_eq!(who(store, 2, 1).await.as_deref(), Some("berta"));
    // nothing is left to take away
    assert_eq!(store.ungrant(&identity(&anna)).await.unwrap(), None);
    let nobody = Identity {
        issuer: "https://b.example".to_owned(),
        subject: "anna".to_owned(),
    };
    assert_eq!(store.ungrant(&nobody).await.unwrap(), None);
    let others = async |issuer: &str| store.granted_by_others(issuer).await.unwrap();
    assert_eq!(others("https://a.example").await, [identity(&clara)]);
    assert_eq!(others("https://b.example").await, [identity(&berta)]);
    let all = [identity(&berta), identity(&clara)];
    assert_eq!(others("").await, all);
    assert!(store.others_approve("default", T0).await.unwrap());
    for user in &all {
        assert!(store.ungrant(user).await.unwrap().is_some());
    }
    assert!(!store.others_approve("default", T0).await.unwrap());
    // a log-in grants anew
    let anna = someone("https://a.example", "anna").await;
    assert_eq!(anna.grants, [Grant::of(Role::Approver)]);
}

pub(crate) async fn a_user_is_changed_as_it_was_seen_or_not_at_all(store: &impl Store) {
    let seen = store.add_user(&new("anna")).await.unwrap();
    let update = async |seen: &UserRecord, change: &UserChange| {
        let updated = store.update_user("anna", Some(seen), change);
        updated.await.unwrap()
    };
    let password = UserChange {
        password: Some("another".to_owned()),
        ..UserChange::default()
    };
    assert!(update(&seen, &password).await);
    // she is promoted meanwhile
    let promoted = UserChange {
        grants: Some(vec![Grant::of(Role::Administrator)]),
        ..UserChange::default()
    };
    store.update_user("anna", None, &promoted).await.unwrap();
    assert!(!update(&seen, &password).await);
    assert!(!store.remove_user("anna", Some(&seen)).await.unwrap());
    // or is somebody else
    let before = store.user("anna").await.unwrap().unwrap();
    assert!(store.remove_user("anna", Some(&before)).await.unwrap());
    let again = store.add_user(&new("anna")).await.unwrap();
    assert_eq!(again.grants, seen.grants);
    assert!(!update(&seen, &password).await);
    assert!(!store.remove_user("anna", Some(&seen)).await.unwrap());
    assert!(update(&again, &password).await);
}
