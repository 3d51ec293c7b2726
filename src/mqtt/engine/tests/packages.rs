//! Which package a device is offered, and one after another.

use super::*;

#[test]
fn a_package_that_is_not_served_over_http_fails_before_anything_is_offered() {
    let start = |world: &mut World| {
        world.command(Command::Start {
            order: order(),
            offers: Arc::new(Offers::only(PackageId(3), Arc::new(package("V2")))),
        });
    };
    let mut world = World::of(Protocol::Iotda);
    start(&mut world);
    world.connect();
    world.tells("V1");
    assert_eq!(world.outcome().unwrap().reason(), "not_served");
    assert_eq!(kinds(&world.published()), ["version_query"]);
    // at once, where it is known to run another version
    world.changes.clear();
    start(&mut world);
    assert_eq!(world.outcome().unwrap().reason(), "not_served");
    assert_eq!(world.stage(), None);
    assert!(world.published().is_empty());
}

#[test]
fn a_package_whose_size_has_ten_digits_is_offered_where_the_product_allows_it() {
    let large = || {
        let http = HttpPackage {
            sha256: SHA256.into(),
        };
        let package = Package::over_http(version("V2"), 1_000_000_000, http);
        Arc::new(Offers::only(PackageId(3), Arc::new(package)))
    };
    for (protocol, allowed, offered) in [
        (Protocol::Iotda, false, false),
        (Protocol::Iotda, true, true),
        (Protocol::ThingsPanel, false, true),
    ] {
        let mut config = Config::default();
        let product = config.products.entry("meters".into()).or_default();
        product.iotda_large_downloads = allowed;
        let mut world = World::with(protocol, config);
        world.command(Command::Start {
            order: order(),
            offers: large(),
        });
        world.connect();
        world.tells("V1");
        let reason = world.outcome().map(|outcome| outcome.reason());
        let expected = (!offered).then_some("not_served");
        assert_eq!(reason, expected, "{protocol:?} {allowed}");
    }
}

/// V1 → V2 → V3, after the first step ended with the device's report.
fn between_two_steps() -> World {
    let offer = |id: i64, from: &str, target: &str| {
        let http = HttpPackage {
            sha256: SHA256.into(),
        };
        Offer {
            id: PackageId(id),
            version: version(target),
            from: Fits {
                versions: vec![from.parse().unwrap()],
                ..Fits::default()
            },
            package: Some(Arc::new(package(target).and_over_http(http))),
        }
    };
    let list = vec![offer(3, "V1", "V2"), offer(4, "V2", "V3")];
    let mut world = World::of(Protocol::Iotda);
    world.command(Command::Start {
        order: order(),
        offers: Arc::new(Offers::new(list, true, false).unwrap()),
    });
    world.connect();
    world.tells("V1");
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.published();
    world.reports(0, 100, "V2");
    assert_eq!(world.outcome(), None);
    assert_eq!(kinds(&world.published()), ["version_query"]);
    // it tells the old version for as long as it runs
    world.tells("V1");
    assert_eq!(world.outcome(), None);
    assert!(world.published().is_empty());
    world
}

#[test]
fn a_step_that_ended_with_a_report_is_not_judged_by_a_version_before_another_connection() {
    let mut world = between_two_steps();
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.tells("V2");
    let token = world.granted().token;
    assert_eq!(kinds(&world.published()), ["firmware_upgrade"]);
    world.serve(&token, SIZE);
    world.reports(0, 100, "V3");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn a_step_whose_device_does_not_connect_anew_is_followed_by_the_next_one_after_a_while() {
    let mut world = between_two_steps();
    world.after(Duration::from_secs(181));
    let published = world.published();
    let offer = published.last().unwrap();
    assert_eq!(offer["services"][0]["paras"]["version"], "V3");
}

#[test]
fn a_step_that_did_not_take_is_known_by_the_version_after_another_connection() {
    let mut world = between_two_steps();
    world.connect();
    world.tells("V1");
    let failure = Failure::WrongVersion(version("V1"));
    assert_eq!(world.outcome(), Some(Outcome::Failed(failure)));
}
