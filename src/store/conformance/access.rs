//! Who is let in.

use super::{Store, T0, World, new_task, t};
use crate::{
    access::{Grant, Part, Role, Tenants},
    filter::Filter,
    ledger::TaskId,
    store::{AddTokenError, NewTask, NewToken, Origin, Selection, TokenId, TokenRecord},
    tenant::TenantId,
};

fn new(name: &str, grants: Vec<Grant>) -> NewToken {
    let byte = u8::try_from(name.len()).unwrap();
    let mut hash = [byte; 32];
    hash[..name.len()].copy_from_slice(name.as_bytes());
    NewToken {
        name: name.to_owned(),
        hash,
        grants,
        created_by: "admin-token".to_owned(),
        created_at: T0,
        expires_at: None,
        share: 1_000,
    }
}

fn north() -> Grant {
    Grant {
        filter: Some(Filter::parse("site==north*;tag.k!=a").unwrap()),
        ..Grant::of(Role::Approver)
    }
}

pub(crate) async fn a_token_is_found_by_its_hash_until_it_is_revoked(store: &impl Store) {
    let first = new("first", vec![north(), Grant::of(Role::Viewer)]);
    let added = store.add_token(&first).await.unwrap();
    assert_eq!(
        added,
        TokenRecord {
            id: added.id,
            name: first.name.clone(),
            grants: first.grants.clone(),
            created_by: first.created_by.clone(),
            created_at: T0,
            expires_at: None,
            last_used_at: None,
        }
    );
    let find = async |hash: &[u8; 32]| store.find_token(hash, t(1)).await.unwrap();
    assert_eq!(find(&first.hash).await, Some(added.clone()));
    assert_eq!(find(&[0; 32]).await, None);
    let second = store
        .add_token(&new("second", vec![north()]))
        .await
        .unwrap();
    assert!(store.revoke_token(added.id).await.unwrap());
    assert!(!store.revoke_token(added.id).await.unwrap());
    assert_eq!(find(&first.hash).await, None);
    assert_eq!(store.token(added.id).await.unwrap(), None);
    assert!(store.token(second.id).await.unwrap().is_some());
    // the name is free again, the number is not
    store.revoke_token(second.id).await.unwrap();
    let again = store.add_token(&first).await.unwrap();
    assert!(again.id.0 > second.id.0);
}

pub(crate) async fn a_token_ends_at_its_time(store: &impl Store) {
    let ending = NewToken {
        expires_at: Some(t(10)),
        ..new("ending", vec![Grant::of(Role::Approver)])
    };
    let token = store.add_token(&ending).await.unwrap();
    let found = async |at| store.find_token(&ending.hash, t(at)).await.unwrap();
    assert_eq!(found(9).await, Some(token.clone()));
    assert_eq!(found(10).await, None);
    // it can be looked at still
    assert_eq!(store.token(token.id).await.unwrap(), Some(token));
    assert!(store.others_approve("default", t(9)).await.unwrap());
    assert!(!store.others_approve("default", t(10)).await.unwrap());
}

pub(crate) async fn tokens_have_names_of_their_own_and_are_listed_in_pages(store: &impl Store) {
    let mut ids = Vec::new();
    for name in ["a", "bb", "ccc"] {
        let token = new(name, vec![Grant::of(Role::Viewer)]);
        ids.push(store.add_token(&token).await.unwrap().id);
    }
    let taken = store.add_token(&new("bb", vec![north()])).await;
    assert!(
        matches!(taken, Err(AddTokenError::NameTaken { token, .. }) if token == ids[1]),
        "{taken:?}"
    );
    let page = store.tokens(None, 2).await.unwrap();
    let listed: Vec<TokenId> = page.items.iter().map(|token| token.id).collect();
    assert!(page.more && listed == ids[..2]);
    let rest = store.tokens(Some(ids[1]), 2).await.unwrap();
    assert!(!rest.more && rest.items.len() == 1 && rest.items[0].name == "ccc");
}

pub(crate) async fn the_use_of_a_token_is_noted(store: &impl Store) {
    let token = store.add_token(&new("used", vec![north()])).await.unwrap();
    let last = async || store.token(token.id).await.unwrap().unwrap().last_used_at;
    store.token_used(token.id, t(9)).await.unwrap();
    assert_eq!(last().await, Some(t(9)));
    // what comes late does not count
    store.token_used(token.id, t(8)).await.unwrap();
    assert_eq!(last().await, Some(t(9)));
    store.token_used(TokenId(99), t(8)).await.unwrap();
}

pub(crate) async fn an_approver_of_some_devices_does_not_answer_for_all(store: &impl Store) {
    assert!(!store.others_approve("default", T0).await.unwrap());
    for (name, grant) in [("some", north()), ("operator", Grant::of(Role::Operator))] {
        store.add_token(&new(name, vec![grant])).await.unwrap();
        assert!(
            !store.others_approve("default", T0).await.unwrap(),
            "{name}"
        );
    }
    // nor one of another tenant
    let of_acme = Grant {
        tenant: Tenants::One("acme".parse().unwrap()),
        ..Grant::of(Role::Approver)
    };
    store.add_token(&new("acme", vec![of_acme])).await.unwrap();
    assert!(!store.others_approve("default", T0).await.unwrap());
    assert!(store.others_approve("acme", T0).await.unwrap());
    let grants = vec![Grant::of(Role::Viewer), Grant::of(Role::Approver)];
    let token = store.add_token(&new("approver", grants)).await.unwrap();
    assert!(store.others_approve("default", T0).await.unwrap());
    store.revoke_token(token.id).await.unwrap();
    assert!(!store.others_approve("default", T0).await.unwrap());
}

pub(crate) async fn there_are_so_many_tokens_at_most(store: &impl Store) {
    for number in 0..crate::store::MAX_TOKENS {
        let token = new(&number.to_string(), vec![Grant::of(Role::Viewer)]);
        store.add_token(&token).await.unwrap();
    }
    let full = store.add_token(&new("more", vec![north()])).await;
    assert!(matches!(full, Err(AddTokenError::TooMany)), "{full:?}");
}

pub(crate) async fn some_devices_are_let_through(store: &impl Store) {
    let (world, _) = World::with_devices(store, 4).await;
    world.devices("q", &["z"]).await;
    store.remove_device("d3", None, None, T0).await.unwrap();
    let names = ["d0", "d1", "d3", "z", "nobody"].map(str::to_owned);
    let through = async |text: &str| {
        let filter = Filter::parse(text).unwrap();
        let found = store.let_through(&names, &filter, T0).await.unwrap();
        let mut found: Vec<String> = found.into_iter().collect();
        found.sort();
        found.join(" ")
    };
    assert_eq!(through("endpoint==*").await, "d0 d1 z");
    assert_eq!(through("product==p").await, "d0 d1");
    // an alternative stands for itself
    assert_eq!(
        through("endpoint==d0,endpoint==d3,product==q").await,
        "d0 z"
    );
    assert_eq!(through("endpoint==d2").await, "");
}

pub(crate) async fn tasks_are_listed_by_the_devices_they_were_made_for(store: &impl Store) {
    let (_, package) = World::with_devices(store, 2).await;
    let filter = |text: &str| Filter::parse(text).unwrap();
    let mut made = Vec::new();
    for scope in [
        None,
        Some("site==a"),
        Some("site==b"),
        Some("site==a"),
        Some("site==c"),
    ] {
        let task = NewTask {
            origin: Origin {
                by: "token:7:import".to_owned(),
                scope: scope.map(filter),
            },
            ..new_task(&package, Selection::All)
        };
        let task = store.create_task(&task).await.unwrap();
        assert_eq!(task.origin.by, "token:7:import");
        assert_eq!(task.origin.scope, scope.map(filter));
        made.push(task.id);
    }
    let list = async |scopes: &[&str], before: Option<TaskId>, limit: u32| {
        let part = |text: &&str| Part {
            tenant: None,
            filter: Some(filter(text)),
        };
        let parts: Vec<Part> = scopes.iter().map(part).collect();
        let page = store
            .tasks_within(&parts, false, before, limit)
            .await
            .unwrap();
        assert!(page.items.iter().all(|task| task.total() == 2));
        let ids: Vec<TaskId> = page.items.iter().map(|task| task.id).collect();
        (ids, page.more)
    };
    let both = ["site==a", "site==b"];
    assert_eq!(
        list(&both, None, 9).await,
        (vec![made[3], made[2], made[1]], false)
    );
    assert_eq!(list(&both, None, 2).await, (vec![made[3], made[2]], true));
    assert_eq!(list(&both, Some(made[2]), 2).await, (vec![made[1]], false));
    assert_eq!(list(&["site==d"], None, 2).await, (vec![], false));
    assert_eq!(list(&[], None, 2).await, (vec![], false));
    // one that has ended is not among those that have not
    store.stop_task(made[1], t(9), false).await.unwrap();
    for tenant in [None, Some(TenantId::default())] {
        let parts = both.map(|text| Part {
            tenant: tenant.clone(),
            filter: Some(filter(text)),
        });
        let open = store.tasks_within(&parts, true, None, 9).await.unwrap();
        let ids: Vec<TaskId> = open.items.iter().map(|task| task.id).collect();
        assert_eq!(ids, [made[3], made[2]]);
    }
}
