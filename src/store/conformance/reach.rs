//! Whom a vulnerability concerns, and who was reached.

use std::collections::BTreeMap;

use super::*;
use crate::{
    ledger::{PackageId, Served},
    package::CveId,
    store::{MendedProduct, PapersChange, Reach, Standing, Why},
};

async fn mends(store: &impl Store, package: &PackageRecord, cve: CveId) {
    let change = PapersChange {
        cves_mended: Some(vec![cve]),
        ..PapersChange::default()
    };
    store
        .update_package(package.id, &change, None)
        .await
        .unwrap();
}

fn runs(endpoint: &str, version: &str, at: UtcMillis) -> Change {
    Change::VersionReported {
        endpoint: endpoint.to_owned(),
        version: Version::new(version).unwrap(),
        at,
    }
}

async fn all(store: &impl Store, product: &MendedProduct) -> BTreeMap<String, Reach> {
    let page = store.reach(product, None, 1_000).await.unwrap();
    assert!(!page.more);
    let named = |it: Reach| (it.endpoint.clone(), it);
    page.items.into_iter().map(named).collect()
}

pub(crate) async fn each_device_tells_whether_it_was_reached_and_why_not(store: &impl Store) {
    let cve: CveId = "CVE-2026-1000".parse().unwrap();
    let world = World::new(store);
    let old = world.package("p", "V1.9", 1).await;
    let mending = world.package("p", "V1.10", 2).await;
    assert_eq!(store.mended_products(&cve).await.unwrap(), []);
    // which version of a component a device runs is not known
    let component = NewPackage {
        component: Some("modem".to_owned()),
        pcp: None,
        ..new_package("p", "V1.10", 9)
    };
    let component = store.insert_package(&component).await.unwrap().record;
    mends(store, &component, cve).await;
    assert_eq!(store.mended_products(&cve).await.unwrap(), []);
    mends(store, &mending, cve).await;
    let names = [
        "cancelled",
        "excluded",
        "failed",
        "free",
        "never",
        "older",
        "queued",
        "reached",
        "running",
        "silent",
        "up-already",
    ];
    world.devices("p", &names).await;
    let told = names
        .iter()
        .filter(|name| !["never", "silent"].contains(name))
        .map(|name| {
            runs(
                name,
                if *name == "up-already" {
                    "V1.10"
                } else {
                    "V1.9"
                },
                t(1),
            )
        });
    let told: Vec<Change> = told.collect();
    world.commit(&told).await;
    world.commit(&[registered("silent", t(1))]).await;
    let listed = [
        "cancelled",
        "excluded",
        "failed",
        "older",
        "queued",
        "reached",
        "running",
    ];
    // one that leads to an older version says nothing
    store
        .create_task(&new_task(&old, list(&["free"])))
        .await
        .unwrap();
    let task = store
        .create_task(&new_task(&mending, list(&listed)))
        .await
        .unwrap();
    let ids: BTreeMap<&str, UpgradeId> = listed.into_iter().zip(world.ids(task.id).await).collect();
    let end = |name: &str, outcome, at| ended(ids[name], task.id, 1, outcome, None, at);
    world
        .commit(&[
            stage(ids["running"], 1, Stage::WaitingForDevice, t(10)),
            end("failed", NOT_HEARD, t(11)),
            end("reached", UPGRADED, t(12)),
            runs("reached", "V1.10", t(12)),
            end("older", UPGRADED, t(13)),
            runs("older", "V1.10", t(13)),
            runs("older", "V1.9", t(14)),
        ])
        .await;
    store
        .cancel_upgrade(ids["cancelled"], None, t(15))
        .await
        .unwrap();
    store
        .exclude(&["excluded".to_owned()], "in the lab", None, t(16))
        .await
        .unwrap();
    let products = store.mended_products(&cve).await.unwrap();
    let [product] = &products[..] else {
        panic!("{products:?}");
    };
    assert_eq!(product.product, "p");
    assert_eq!(product.packages, [mending.id]);
    let found = all(store, product).await;
    for (name, standing, why) in [
        ("cancelled", Standing::Affected, Why::Cancelled),
        ("excluded", Standing::Affected, Why::Excluded),
        ("failed", Standing::Affected, Why::Failed),
        ("free", Standing::Affected, Why::NotInTask),
        ("never", Standing::Unknown, Why::NeverHeard),
        ("older", Standing::Affected, Why::OlderAgain),
        ("queued", Standing::Affected, Why::Queued),
        ("reached", Standing::Mended, Why::Reached),
        ("running", Standing::Affected, Why::UnderWay),
        ("silent", Standing::Unknown, Why::VersionUnknown),
        ("up-already", Standing::Mended, Why::RunsIt),
    ] {
        let judged = found[name].judge(&product.mending);
        assert_eq!(judged, (standing, why), "{name}: {:?}", found[name]);
    }
    assert_eq!(found.len(), names.len());
    let reached = found["reached"].reached.as_ref().unwrap();
    assert_eq!(
        (reached.at, reached.task, reached.upgrade),
        (t(12), task.id, ids["reached"])
    );
    assert_eq!(
        (reached.version.as_str(), reached.reason.as_str()),
        ("V1.10", "upgraded")
    );
    let failed = found["failed"].latest.as_ref().unwrap();
    assert_eq!(failed.reason.as_deref(), Some("device_not_heard"));
    assert_eq!(found["excluded"].excluded.as_deref(), Some("in the lab"));
    assert_eq!(found["free"].latest, None);
    // a later task changes what is told of who failed, and not when who was reached
    let again = ["failed", "reached"];
    let later = store
        .create_task(&new_task(&mending, list(&again)))
        .await
        .unwrap();
    let ids = world.ids(later.id).await;
    world
        .commit(&[ended(ids[1], later.id, 1, UPGRADED, None, t(99))])
        .await;
    let found = all(store, product).await;
    assert_eq!(found["failed"].judge(&product.mending).1, Why::Queued);
    assert_eq!(found["reached"].reached.as_ref().unwrap().at, t(12));
    assert_eq!(found["reached"].latest.as_ref().unwrap().task, later.id);
}

pub(crate) async fn devices_are_looked_at_in_pages_product_by_product(store: &impl Store) {
    let cve: CveId = "CVE-2026-1000".parse().unwrap();
    let world = World::new(store);
    for (product, version) in [("q", "V3"), ("p", "V2"), ("p", "V1.5"), ("r", "V2")] {
        let content = version.len() + product.len();
        let package = world
            .package(product, version, u8::try_from(content).unwrap())
            .await;
        if product != "r" {
            mends(store, &package, cve).await;
        }
    }
    world.package("p", "V2.1", 77).await;
    world.devices("p", &["a", "b", "c"]).await;
    world.devices("q", &["d"]).await;
    world.devices("r", &["e"]).await;
    store.remove_device("b", None, None, t(1)).await.unwrap();
    let products = store.mended_products(&cve).await.unwrap();
    let names: Vec<&str> = products.iter().map(|it| it.product.as_str()).collect();
    assert_eq!(names, ["p", "q"]);
    let versions: Vec<&str> = (products[0].mending.versions().iter())
        .map(Version::as_str)
        .collect();
    assert_eq!(versions, ["V1.5", "V2"]);
    // what is above the highest mends as well
    assert_eq!(products[0].packages.len(), 3);
    let first = store.reach(&products[0], None, 1).await.unwrap();
    assert_eq!((first.items[0].endpoint.as_str(), first.more), ("a", true));
    let rest = store.reach(&products[0], Some("a"), 1).await.unwrap();
    assert_eq!((rest.items[0].endpoint.as_str(), rest.more), ("c", false));
    assert_eq!(all(store, &products[1]).await.len(), 1);
}

/// A task for these devices that leads V1 → `first` → `second`, or, not in steps, other versions to `second`.
async fn of_two(
    store: &impl Store,
    [first, second]: [&PackageRecord; 2],
    names: &[&str],
    steps: bool,
) -> TaskId {
    let rules = serde_json::json!({
        "packages": [
            {"package_id": first.id, "from": {"versions": ["V1"]}},
            {"package_id": second.id, "from": {"versions": [first.package.version]}},
        ],
        "steps": steps,
    });
    let new = NewTask {
        packages: serde_json::from_value(rules).unwrap(),
        ..new_task(first, list(names))
    };
    store.create_task(&new).await.unwrap().id
}

pub(crate) async fn a_task_with_a_mending_package_among_several_counts_before_it_is_served(
    store: &impl Store,
) {
    let cve: CveId = "CVE-2026-1000".parse().unwrap();
    let world = World::new(store);
    let first = world.package("p", "V2", 1).await;
    let second = world.package("p", "V3", 2).await;
    mends(store, &second, cve).await;
    let stepwise = ["cancelled", "failed", "reached", "running", "waiting"];
    let choosing = ["chooses", "other", "other-failed", "waits"];
    world.devices("p", &stepwise).await;
    world.devices("p", &choosing).await;
    let names: Vec<&str> = stepwise.into_iter().chain(choosing).collect();
    let told: Vec<Change> = names.iter().map(|name| runs(name, "V1", t(1))).collect();
    world.commit(&told).await;
    let packages = [&first, &second];
    let (chain, choice) = (
        of_two(store, packages, &stepwise, true).await,
        of_two(store, packages, &choosing, false).await,
    );
    let mut ids = world.ids(chain).await;
    ids.extend(world.ids(choice).await);
    let ids: BTreeMap<&str, UpgradeId> = names.iter().copied().zip(ids).collect();
    let serves = |name: &str, package: PackageId, step| Change::Serves {
        upgrade: ids[name],
        attempt: 1,
        served: Served { package, step },
    };
    let begins = |name: &str| stage(ids[name], 1, Stage::QueryingVersion, t(2));
    let end = |name: &str, task, outcome| ended(ids[name], task, 1, outcome, None, t(3));
    let mut changes: Vec<Change> = ["failed", "reached", "running", "chooses", "other"]
        .map(begins)
        .into();
    changes.extend([
        begins("other-failed"),
        serves("reached", second.id, 2),
        serves("other", first.id, 2),
        serves("other-failed", first.id, 2),
        end("failed", chain, NOT_HEARD),
        end("reached", chain, UPGRADED),
        end("other-failed", choice, NOT_HEARD),
        runs("reached", "V3", t(3)),
    ]);
    world.commit(&changes).await;
    store
        .cancel_upgrade(ids["cancelled"], None, t(4))
        .await
        .unwrap();
    let products = store.mended_products(&cve).await.unwrap();
    assert_eq!(products[0].packages, [second.id]);
    let found = all(store, &products[0]).await;
    for (name, why) in [
        ("cancelled", Why::Cancelled),
        ("failed", Why::Failed),
        ("reached", Why::Reached),
        ("running", Why::UnderWay),
        ("waiting", Why::Queued),
        ("chooses", Why::UnderWay),
        // what it is given does not mend, and nothing follows
        ("other", Why::NotInTask),
        ("other-failed", Why::NotInTask),
        ("waits", Why::Queued),
    ] {
        let judged = found[name].judge(&products[0].mending);
        assert_eq!(judged.1, why, "{name}: {:?}", found[name]);
    }
    let latest = found["running"].latest.as_ref().unwrap();
    assert_eq!((latest.upgrade, latest.task), (ids["running"], chain));
    assert_eq!(found["failed"].reached, None);
}
