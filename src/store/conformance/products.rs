//! Products' keys and rules, and what is kept beside packages.

use std::collections::BTreeMap;

use super::*;
use crate::{
    config::{MOST_PRODUCTS, ProductChange, ProductConfig},
    ledger::{PackageId, TaskState},
    package::{CveId, SbomFormat, SbomKind},
    signing::{Algorithm, PublicKey},
    store::{
        AddKeyError, Again, ChangeTaskError, ChangeUpgradeError, CreateTaskError,
        ImportProductsError, InsertPackageError, MAX_PRODUCT_KEYS, PackageSignature, PapersChange,
        ProductKey, ProductUpdate, ProductUses, SbomRecord, Signatures, UpdatePackageError,
        UpdateProductError,
    },
};

/// A key of its own for each number. Any 32 bytes are an Ed25519 key (RFC 8410 §4).
pub(crate) fn product_key(number: u8) -> ProductKey {
    let mut spki = hex::decode("302a300506032b6570032100").unwrap();
    spki.extend([number; 32]);
    ProductKey {
        key: PublicKey::from_spki(&spki).unwrap(),
        name: format!("key {number}"),
        created_at: T0,
    }
}

fn signature(key: &ProductKey) -> PackageSignature {
    PackageSignature {
        key: key.key.id(),
        algorithm: Algorithm::Ed25519,
        bytes: vec![7; 64],
        verified_at: T0,
        key_removed_at: None,
    }
}

fn signed(content: u8, key: &ProductKey) -> NewPackage {
    let mut new = new_package("p", &format!("V{content}"), content);
    new.papers.signature = Some(signature(key));
    new
}

pub(crate) async fn keys_and_rules_of_products_are_kept(store: &impl Store) {
    let rules = store.product("p").await.unwrap();
    let usual = (Signatures::Optional, 0, 1);
    assert_eq!((rules.signatures, rules.keys, rules.revision), usual);
    let key = product_key(1);
    let (_, new) = store.add_product_key("p", &key).await.unwrap();
    assert!(new);
    let renamed = ProductKey {
        name: "other".to_owned(),
        ..key.clone()
    };
    let (there, new) = store.add_product_key("p", &renamed).await.unwrap();
    assert_eq!((there.name.as_str(), new), ("key 1", false));
    let keys = store.product_keys("p").await.unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].key.spki(), key.key.spki());
    assert_eq!(store.product_keys("q").await.unwrap().len(), 0);
    let update = async |required: Signatures, revision| {
        store.update_product("p", &required.into(), revision).await
    };
    let rules = update(Signatures::Required, Some(1)).await.unwrap();
    assert_eq!(
        (rules.signatures, rules.keys, rules.revision),
        (Signatures::Required, 1, 2)
    );
    let late = update(Signatures::Optional, Some(1)).await;
    let expected = UpdateProductError::Changed {
        product: "p".to_owned(),
        revision: 2,
    };
    assert_eq!(late.unwrap_err().to_string(), expected.to_string());
    // what it is already changes nothing
    assert_eq!(update(Signatures::Required, None).await.unwrap(), rules);
    assert_eq!(store.product("p").await.unwrap(), rules);
    let removed = store.remove_product_key("p", &key.key.id(), t(1)).await;
    assert_eq!(removed.unwrap().unwrap().packages, 0);
    let again = store.remove_product_key("p", &key.key.id(), t(1)).await;
    assert_eq!(again.unwrap(), None);
}

pub(crate) async fn so_many_keys_has_a_product_at_most(store: &impl Store) {
    for number in 0..MAX_PRODUCT_KEYS {
        let key = product_key(u8::try_from(number).unwrap());
        store.add_product_key("p", &key).await.unwrap();
    }
    let refused = store.add_product_key("p", &product_key(200)).await;
    assert!(matches!(refused, Err(AddKeyError::TooMany(_))));
    store.add_product_key("p", &product_key(1)).await.unwrap();
    store.add_product_key("q", &product_key(200)).await.unwrap();
}

pub(crate) async fn a_package_is_taken_with_a_signature_where_one_is_required(store: &impl Store) {
    let world = World::new(store);
    world.devices("p", &["d0"]).await;
    let before = world.package("p", "V1", 1).await;
    let key = product_key(1);
    let refused = store.insert_package(&signed(1, &key)).await;
    assert!(matches!(
        refused,
        Err(InsertPackageError::KeyRemoved { .. })
    ));
    store.add_product_key("p", &key).await.unwrap();
    let required = store
        .update_product("p", &Signatures::Required.into(), None)
        .await;
    required.unwrap();
    let refused = store.insert_package(&new_package("p", "V3", 3)).await;
    assert!(matches!(refused, Err(InsertPackageError::Unsigned(_))));
    // what came before is not used either, until it is signed
    let task = new_task(&before, Selection::All);
    let refused = store.create_task(&task).await;
    assert!(matches!(
        refused,
        Err(CreateTaskError::PackageUnsigned { .. })
    ));
    let again = store.insert_package(&signed(1, &key)).await.unwrap();
    assert_eq!((again.record.id, again.created), (before.id, false));
    assert_eq!(again.record.revision, 2);
    let read = store.package(before.id).await.unwrap().unwrap();
    assert_eq!(read, again.record);
    store.create_task(&task).await.unwrap();
    // another product is not concerned
    store
        .insert_package(&new_package("q", "V3", 3))
        .await
        .unwrap();
}

pub(crate) async fn no_new_task_takes_a_package_whose_key_was_removed(store: &impl Store) {
    let world = World::new(store);
    world.devices("p", &["d0"]).await;
    let key = product_key(1);
    store.add_product_key("p", &key).await.unwrap();
    let package = store.insert_package(&signed(1, &key)).await.unwrap().record;
    let task = new_task(&package, Selection::All);
    let running = store.create_task(&task).await.unwrap();
    let removed = store.remove_product_key("p", &key.key.id(), t(5)).await;
    assert_eq!(removed.unwrap().unwrap().packages, 1);
    let refused = store.create_task(&task).await;
    match refused {
        Err(CreateTaskError::PackageKeyRemoved {
            package: id, at, ..
        }) => {
            assert_eq!((id, at), (package.id, t(5)));
        }
        other => panic!("{other:?}"),
    }
    // a task that is there goes on
    let state = store.task(running.id).await.unwrap().unwrap().state;
    assert_eq!(state, running.state);
    let read = store.package(package.id).await.unwrap().unwrap();
    let signature = read.package.papers.signature.unwrap();
    assert_eq!(signature.key_removed_at, Some(t(5)));
    // the key comes back
    store.add_product_key("p", &key).await.unwrap();
    store.create_task(&task).await.unwrap();
    // or another one vouches
    store
        .remove_product_key("p", &key.key.id(), t(6))
        .await
        .unwrap();
    let other = product_key(2);
    store.add_product_key("p", &other).await.unwrap();
    let again = store.insert_package(&signed(1, &other)).await.unwrap();
    assert!(!again.created);
    store.create_task(&task).await.unwrap();
}

fn cves(numbers: &[u32]) -> Vec<CveId> {
    let text = |number: &u32| format!("CVE-2026-{number:04}");
    numbers.iter().map(|it| text(it).parse().unwrap()).collect()
}

fn sbom(content: u8) -> SbomRecord {
    SbomRecord {
        kind: SbomKind {
            format: SbomFormat::CycloneDx,
            spec_version: "1.6".to_owned(),
            components: 3,
        },
        sha256: hex::encode([content; 32]),
        size_bytes: 77,
    }
}

pub(crate) async fn papers_are_changed_by_whoever_has_seen_them(store: &impl Store) {
    let mut new = new_package("p", "V1", 1);
    new.papers.cves_mended = cves(&[1, 2]);
    new.papers.support_ends = Some("2031-12-31".parse().unwrap());
    let package = store.insert_package(&new).await.unwrap().record;
    assert_eq!((&package.package, package.revision), (&new, 1));
    assert_eq!(store.package(package.id).await.unwrap().unwrap(), package);
    let change = PapersChange {
        cves_mended: Some(cves(&[2, 3])),
        support_ends: Some(None),
        release_notes: Some(Some("Mends the clock.\n".to_owned())),
        ..PapersChange::default()
    };
    let update = async |seen| store.update_package(package.id, &change, seen).await;
    let changed = update(Some(1)).await.unwrap().record;
    assert_eq!(changed.revision, 2);
    let papers = &changed.package.papers;
    assert_eq!(papers.cves_mended, cves(&[2, 3]));
    assert_eq!(papers.support_ends, None);
    assert_eq!(store.package(package.id).await.unwrap().unwrap(), changed);
    let late = update(Some(1)).await;
    assert!(matches!(
        late,
        Err(UpdatePackageError::Changed { revision: 2, .. })
    ));
    // nothing changes, and nothing is counted
    assert_eq!(update(None).await.unwrap().record.revision, 2);
    let gone = store.update_package(PackageId(99), &change, None).await;
    assert!(matches!(gone, Err(UpdatePackageError::NotFound(_))));
    // the same package again brings what it has, and leaves what it has not
    let mut again = new_package("p", "V1", 1);
    again.papers.support_ends = Some("2032-01-31".parse().unwrap());
    let again = store.insert_package(&again).await.unwrap().record;
    assert_eq!(again.package.papers.cves_mended, cves(&[2, 3]));
    assert_eq!(again.revision, 3);
}

pub(crate) async fn a_file_of_papers_is_unused_when_nobody_refers_to_it(store: &impl Store) {
    let world = World::new(store);
    let one = world.package("p", "V1", 1).await;
    let two = world.package("p", "V2", 2).await;
    let set = async |id, sbom: Option<SbomRecord>| {
        let change = PapersChange {
            sbom: Some(sbom),
            ..PapersChange::default()
        };
        store
            .update_package(id, &change, None)
            .await
            .unwrap()
            .unused
    };
    let file = |content| Some(hex::encode([content; 32]));
    assert_eq!(set(one.id, Some(sbom(9))).await, None);
    assert_eq!(set(two.id, Some(sbom(9))).await, None);
    assert!(store.content_in_use(&file(9).unwrap()).await.unwrap());
    assert_eq!(set(one.id, Some(sbom(8))).await, None);
    assert_eq!(set(two.id, None).await, file(9));
    assert!(!store.content_in_use(&file(9).unwrap()).await.unwrap());
    // the content of a package is one as well
    assert_eq!(set(two.id, Some(sbom(1))).await, None);
    assert_eq!(set(two.id, None).await, None);
    let deleted = store.delete_package(one.id, t(1)).await.unwrap();
    assert_eq!(deleted.unused_sbom, file(8));
    assert!(!deleted.content_in_use);
}

pub(crate) async fn a_finished_task_serves_nothing_again_that_nobody_vouches_for(
    store: &impl Store,
) {
    let world = World::new(store);
    world.devices("p", &["d0", "d1"]).await;
    let key = product_key(1);
    store.add_product_key("p", &key).await.unwrap();
    let first = world.package("p", "V8", 8).await;
    let second = store.insert_package(&signed(9, &key)).await.unwrap().record;
    let rules = serde_json::json!({"packages": [
        {"package_id": first.id, "from": {"versions": ["V1"]}},
        {"package_id": second.id, "from": {"versions": ["V2"]}},
    ]});
    let new = NewTask {
        packages: serde_json::from_value(rules).unwrap(),
        ..new_task(&first, Selection::All)
    };
    let task = store.create_task(&new).await.unwrap().id;
    let ids = world.ids(task).await;
    let fail = |id| ended(id, task, 1, NOT_HEARD, None, t(2));
    let state = async || store.task(task).await.unwrap().unwrap().state;
    world.commit(&[fail(ids[0])]).await;
    let removed = store.remove_product_key("p", &key.key.id(), t(3)).await;
    removed.unwrap();
    // a task that has not ended goes on with what it has
    store.retry_upgrade(ids[0], None, t(4)).await.unwrap();
    let again = ended(ids[0], task, 2, NOT_HEARD, None, t(5));
    world.commit(&[again, fail(ids[1])]).await;
    assert_eq!(state().await, TaskState::Finished);
    // of several packages the one that comes second counts, too
    let key_removed = |error: &ChangeTaskError| {
        let ChangeTaskError::NotVouched(error) = error else {
            panic!("{error:?}");
        };
        assert!(
            matches!(&**error, CreateTaskError::PackageKeyRemoved { package, .. } if *package == second.id)
        );
    };
    let all = async || store.take_up_again(task, &Again::default(), t(6)).await;
    key_removed(&all().await.unwrap_err());
    match store.retry_upgrade(ids[1], None, t(6)).await {
        Err(ChangeUpgradeError::Task(error)) => key_removed(&error),
        other => panic!("{other:?}"),
    }
    assert_eq!(state().await, TaskState::Finished);
    store.add_product_key("p", &key).await.unwrap();
    let required = store
        .update_product("p", &Signatures::Required.into(), None)
        .await;
    required.unwrap();
    match all().await {
        Err(ChangeTaskError::NotVouched(error)) => assert!(matches!(
            *error,
            CreateTaskError::PackageUnsigned { package, .. } if package == first.id
        )),
        other => panic!("{other:?}"),
    }
    let optional = store
        .update_product("p", &Signatures::Optional.into(), None)
        .await;
    optional.unwrap();
    assert_eq!(all().await.unwrap().1, 2);
    assert_eq!(state().await, TaskState::Running);
}

fn listening(awake_window_s: u64) -> ProductConfig {
    ProductConfig {
        awake_window_s: Some(awake_window_s),
        ..ProductConfig::default()
    }
}

fn to_listen(awake_window_s: Option<u64>) -> ProductUpdate {
    ProductUpdate {
        settings: ProductChange {
            awake_window_s: Some(awake_window_s),
            ..ProductChange::default()
        },
        signatures: None,
        share: None,
    }
}

pub(crate) async fn products_are_taken_in_once(store: &impl Store) {
    let of = |list: &[(&str, u64)]| -> BTreeMap<String, ProductConfig> {
        let list = list.iter();
        list.map(|(name, seconds)| ((*name).to_owned(), listening(*seconds)))
            .collect()
    };
    // it was ruled before that its packages have to be signed
    let required = Signatures::Required.into();
    let ruled = store.update_product("b", &required, None).await.unwrap();
    let first = of(&[("a", 1), ("b", 2)]);
    assert!(store.import_products(&first).await.unwrap());
    assert_eq!(store.product_settings().await.unwrap(), first);
    let known = store.product("b").await.unwrap();
    assert_eq!(known.signatures, Signatures::Required);
    assert!(known.revision > ruled.revision, "{known:?}");
    // from now on they are the store's, also when there is none any more
    assert!(!store.import_products(&of(&[("c", 3)])).await.unwrap());
    assert_eq!(store.product_settings().await.unwrap(), first);
    store.remove_product("a", None).await.unwrap();
    store.remove_product("b", None).await.unwrap();
    assert!(!store.import_products(&first).await.unwrap());
    assert_eq!(store.product_settings().await.unwrap(), of(&[]));
}

pub(crate) async fn nothing_is_taken_in_after_a_start_without_products(store: &impl Store) {
    assert!(store.import_products(&BTreeMap::new()).await.unwrap());
    let late = BTreeMap::from([("a".to_owned(), listening(1))]);
    assert!(!store.import_products(&late).await.unwrap());
    assert!(store.product_settings().await.unwrap().is_empty());
}

pub(crate) async fn settings_of_products_are_changed_by_whoever_has_seen_them(store: &impl Store) {
    let nobody = store.product("p").await.unwrap();
    assert_eq!(
        (nobody.created, nobody.settings),
        (false, ProductConfig::default())
    );
    let new = ProductUpdate {
        signatures: Some(Signatures::Required),
        ..to_listen(Some(10))
    };
    let created = store.create_product("p", &new).await.unwrap();
    assert_eq!(
        (created.created, created.settings, created.signatures),
        (true, listening(10), Signatures::Required)
    );
    assert!(created.revision > nobody.revision);
    assert_eq!(store.product("p").await.unwrap(), created);
    let again = store.create_product("p", &new).await;
    assert!(matches!(again, Err(UpdateProductError::Exists(name)) if name == "p"));
    // what is not given stays
    let tenths = ProductUpdate {
        settings: ProductChange {
            pmin_zero: Some(true),
            ..ProductChange::default()
        },
        signatures: None,
        share: None,
    };
    let seen = Some(created.revision);
    let changed = store.update_product("p", &tenths, seen).await.unwrap();
    let expected = ProductConfig {
        pmin_zero: true,
        ..listening(10)
    };
    assert_eq!(
        (changed.settings, changed.signatures),
        (expected, Signatures::Required)
    );
    let late = store.update_product("p", &to_listen(None), seen).await;
    assert!(
        matches!(late, Err(UpdateProductError::Changed { revision, .. }) if revision == changed.revision)
    );
    let late = store.remove_product("p", seen).await;
    assert!(matches!(late, Err(UpdateProductError::Changed { .. })));
    assert_eq!(store.product("p").await.unwrap(), changed);
    // what it is already changes nothing; nor is a product created by that
    let same = store.update_product("p", &tenths, None).await.unwrap();
    assert_eq!(same, changed);
    let usual = store.update_product("q", &to_listen(None), None).await;
    assert!(!usual.unwrap().created);
    // one that nobody has created is
    let other = store
        .update_product("q", &to_listen(Some(5)), Some(1))
        .await;
    assert_eq!(other.unwrap().settings, listening(5));
    let settings = store.product_settings().await.unwrap();
    let settings: Vec<_> = settings.into_iter().collect();
    let expected = [("p".to_owned(), expected), ("q".to_owned(), listening(5))];
    assert_eq!(settings, expected);
}

pub(crate) async fn a_product_goes_when_nothing_names_it_and_its_keys_go_with_it(
    store: &impl Store,
) {
    let world = World::new(store);
    let gone = store.remove_product("p", None).await;
    assert!(matches!(gone, Err(UpdateProductError::NotFound(_))));
    let before = store.create_product("p", &to_listen(Some(10))).await;
    let before = before.unwrap();
    world.devices("p", &["d0", "d1"]).await;
    world.devices("q", &["d2"]).await;
    let package = world.package("p", "V1", 1).await;
    let task = store.create_task(&new_task(&package, Selection::All)).await;
    let task = task.unwrap().id;
    let in_use = async |devices, packages, tasks| {
        let expected = ProductUses {
            devices,
            packages,
            tasks,
        };
        match store.remove_product("p", None).await {
            Err(UpdateProductError::InUse { uses, .. }) => assert_eq!(uses, expected),
            other => panic!("{other:?}"),
        }
        assert_eq!(store.product_uses("p").await.unwrap(), expected);
    };
    in_use(2, 1, 1).await;
    store.stop_task(task, t(1), false).await.unwrap();
    in_use(2, 1, 0).await;
    for endpoint in ["d0", "d1"] {
        assert!(
            store
                .remove_device(endpoint, None, None, t(2))
                .await
                .unwrap()
        );
    }
    in_use(0, 1, 0).await;
    store.delete_package(package.id, t(3)).await.unwrap();
    let key = product_key(1);
    store.add_product_key("p", &key).await.unwrap();
    store.remove_product("p", None).await.unwrap();
    let after = store.product("p").await.unwrap();
    assert_eq!(
        (after.created, after.settings, after.keys),
        (false, ProductConfig::default(), 0)
    );
    // whoever has seen the one that was removed does not change the one that comes after it
    let anew = store.create_product("p", &to_listen(Some(10))).await;
    let anew = anew.unwrap();
    assert!(anew.revision > before.revision, "{anew:?}");
    let late = store
        .update_product("p", &to_listen(None), Some(before.revision))
        .await;
    assert!(matches!(late, Err(UpdateProductError::Changed { .. })));
}

pub(crate) async fn products_are_listed_by_their_names(store: &impl Store) {
    for name in ["b", "a", "c-2", "c.1"] {
        let created = store.create_product(name, &ProductUpdate::default()).await;
        created.unwrap();
    }
    store.add_product_key("b", &product_key(1)).await.unwrap();
    store.add_product_key("z", &product_key(2)).await.unwrap();
    let names = async |after, limit| {
        let page = store.products(None, after, limit).await.unwrap();
        let names: Vec<(String, u32)> = (page.items.into_iter())
            .map(|(name, record)| (name, record.keys))
            .collect();
        (names, page.more)
    };
    let listed = |list: &[(&str, u32)]| -> Vec<(String, u32)> {
        (list.iter())
            .map(|(name, keys)| ((*name).to_owned(), *keys))
            .collect()
    };
    assert_eq!(names(None, 2).await, (listed(&[("a", 0), ("b", 1)]), true));
    let rest = listed(&[("c-2", 0), ("c.1", 0)]);
    assert_eq!(names(Some("b"), 2).await, (rest, false));
}

pub(crate) async fn so_many_products_are_there_at_most(store: &impl Store) {
    let products = (0..MOST_PRODUCTS).map(|i| (format!("p-{i}"), listening(1)));
    let products: BTreeMap<_, _> = products.collect();
    // those that are ruled of count, too
    let required = Signatures::Required.into();
    store.update_product("q", &required, None).await.unwrap();
    let too_many = store.import_products(&products).await;
    assert!(matches!(
        too_many,
        Err(ImportProductsError::TooMany { all }) if all == MOST_PRODUCTS + 1
    ));
    let none = store.product_settings().await.unwrap();
    assert_eq!(none.keys().collect::<Vec<_>>(), ["q"]);
    store.remove_product("q", None).await.unwrap();
    assert!(store.import_products(&products).await.unwrap());
    let one_more = store.create_product("q", &ProductUpdate::default()).await;
    assert!(matches!(one_more, Err(UpdateProductError::TooMany)));
    let changed = store.update_product("q", &to_listen(Some(2)), None).await;
    assert!(matches!(changed, Err(UpdateProductError::TooMany)));
    let known = store.update_product("p-7", &to_listen(Some(2)), None).await;
    assert_eq!(known.unwrap().settings, listening(2));
    store.remove_product("p-7", None).await.unwrap();
    let room = store.create_product("q", &ProductUpdate::default()).await;
    assert!(room.unwrap().created);
}
