//! Devices of IoTDA: what they say, and what is made of it.

use super::*;

#[test]
fn a_device_of_iotda_is_upgraded_from_its_connection_to_its_last_report() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    assert_eq!(world.stage(), Some(Stage::WaitingForDevice));
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.tells("V1");
    let grant = world.granted();
    assert_eq!((grant.upgrade, grant.size_bytes), (UpgradeId(7), SIZE));
    let offer = &world.published()[0]["services"][0];
    assert_eq!(offer["event_type"], "firmware_upgrade");
    let paras = &offer["paras"];
    assert_eq!(paras["version"], "V2");
    assert_eq!(paras["sign"], SHA256);
    assert_eq!(paras["file_size"], SIZE);
    assert_eq!(paras["expires"], 86_400);
    assert_eq!(paras["access_token"], grant.token.as_str());
    assert_eq!(
        paras["url"],
        "https://updates.example.com:443/packages/3/V2.bin"
    );
    world.serve(&grant.token, 0);
    world.serve(&grant.token, 500);
    world.serve(&grant.token, SIZE);
    assert_eq!(world.stage(), Some(Stage::Executing));
    world.reports(0, 100, "V1");
    world.reports(0, 100, "V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
    let revoked = world
        .outs
        .iter()
        .any(|(out, _)| *out == Out::Revoke(grant.token.clone()));
    assert!(revoked);
    assert_eq!(
        world.told(),
        [
            "attempt_begun",
            "connected",
            "runs_other_version",
            "fetches",
            "fetched",
        ]
    );
    assert_eq!(world.engine.tables().sessions, 0);
    // its sample answers the old version for ever: that says nothing of an upgrade that is over
    world.tells("V1");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn a_late_failure_of_another_upgrade_is_none_of_this_one() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.stalled = true;
    world.tells("V1");
    // the offer has not left
    world.reports(7, 0, "V2");
    assert_eq!(world.outcome(), None);
    world.stalled = false;
    world.drain();
    world.reports(7, 0, "V0");
    assert_eq!(world.outcome(), None);
    assert_eq!(world.engine.counters().mqtt_unexpected, 2);
    world.reports(7, 0, "V1");
    assert_eq!(world.outcome().unwrap().reason(), "reported_failure");
}

#[test]
fn a_failure_is_told_in_the_device_s_words_and_a_token_is_void_after_it() {
    let mut world = World::of(Protocol::Iotda);
    world.start();
    world.connect();
    world.tells("V1");
    world.reports(7, 0, "V2");
    let Some(Change::Ended { outcome, facts, .. }) = world.changes.last() else {
        panic!("{:?}", world.changes.last());
    };
    assert_eq!(outcome.reason(), "reported_failure");
    assert_eq!(facts.code, Some(7));
    assert_eq!(facts.description.as_deref(), Some("as it is"));
    // what it fetches afterwards has cost it something, and counts for nothing else
    let token = world.granted().token;
    let changes = world.changes.len();
    world.serve(&token, SIZE);
    assert_eq!(world.changes.len(), changes);
    world.after(Duration::from_mins(1));
    assert!(matches!(world.changes[changes..], [Change::Traffic { .. }]));
    // and is refuted until it has connected anew: what it says before that is not believed
    world.command(Command::Start {
        order: UpgradeOrder {
            attempt: 2,
            ..order()
        },
        offers: offers(),
    });
    world.after(Duration::from_secs(1));
    world.tells("V2");
    assert_eq!(world.stage(), Some(Stage::Downloading));
    assert!(world.told().contains(&"not_believed".to_owned()));
}

#[test]
fn what_is_connected_already_is_asked_and_what_is_not_is_waited_for() {
    let mut world = World::of(Protocol::Iotda);
    world.connect();
    world.tells("V1");
    world.published();
    world.start();
    world.after(Duration::from_secs(1));
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.tells("V1");
    assert_eq!(kinds(&world.published()), ["firmware_upgrade"]);
    world.reports(0, 10, "V1");
    world.disconnect();
    assert!(!world.engine.is_connected(id()));
    world.connect();
    assert_eq!(kinds(&world.published()), ["version_query"]);
    world.tells("V2");
    // it was served nothing of it
    assert_eq!(
        world.outcome(),
        Some(Outcome::Succeeded(Success::Unverified))
    );
}

#[test]
fn settings_of_a_product_choose_events_of_version_2_and_software() {
    let mut config = Config::default();
    let product = config.products.entry("meters".into()).or_default();
    product.ota = crate::config::OtaKind::Software;
    product.ota_events = crate::config::OtaEvents::V2;
    let mut world = World::with(Protocol::Iotda, config);
    world.start();
    world.connect();
    // both versions are told: that of the software counts
    world.says_event(
        "version_report",
        &json!({"fw_version": "V2", "sw_version": "V1"}),
    );
    let token = world.granted().token;
    let published = world.published();
    assert_eq!(kinds(&published), ["version_query", "software_upgrade_v2"]);
    let paras = &published[1]["services"][0]["paras"];
    assert_eq!(paras.get("access_token"), None);
    let url = format!(
        "https://updates.example.com:443/t/{}/V2.bin",
        token.as_str()
    );
    assert_eq!(paras["url"], url);
}
