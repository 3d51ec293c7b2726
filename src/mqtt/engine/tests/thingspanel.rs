//! Devices of `ThingsPanel`, of both releases.

use super::*;

#[test]
fn a_device_of_release_0_5_is_pushed_to_when_it_has_told_its_version() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V05);
    assert!(world.published().is_empty());
    let inform =
        |version: &str| json!({"id": "1", "params": {"version": version, "module": "default"}});
    world.says(Uplink::Inform(Release::V05), &inform("V1"));
    let token = world.granted().token;
    let push = &world.published()[0];
    assert_eq!(push["code"], 200);
    assert_eq!(push["params"]["version"], "V2");
    assert_eq!(push["params"]["size"], SIZE);
    assert_eq!(push["params"]["signMethod"], "SHA256");
    world.serve(&token, SIZE);
    let step = |step: &str| json!({"step": step, "desc": "", "module": "default"});
    world.says(Uplink::Progress(Release::V05), &step("30"));
    world.says(Uplink::Progress(Release::V05), &step("100"));
    assert_eq!(world.outcome(), None);
    // what is about another part of it is not about this upgrade
    let mcu = json!({"id": "2", "params": {"version": "V2", "module": "MCU"}});
    world.says(Uplink::Inform(Release::V05), &mcu);
    assert_eq!(world.outcome(), None);
    world.says(Uplink::Inform(Release::V05), &inform("V2"));
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn a_device_of_release_0_5_whose_link_breaks_in_its_download_is_pushed_to_as_long_as_it_gets_further()
 {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    let inform = json!({"params": {"version": "V1", "module": "default"}});
    world.connect();
    world.subscribe(Release::V05);
    world.says(Uplink::Inform(Release::V05), &inform);
    let token = world.granted().token;
    world.published();
    let mut again = |bytes: u64| {
        world.serve(&token, bytes);
        world.disconnect();
        world.connect();
        world.subscribe(Release::V05);
        world.says(Uplink::Inform(Release::V05), &inform);
        assert!(world.outcome().is_some() || kinds(&world.published()) == ["push"]);
        world.outcome()
    };
    for part in 1..=8 {
        assert_eq!(again(part * 100), None, "{part}");
    }
    // it begins at the beginning from now on, and never comes as far
    for part in 1..=3 {
        assert_eq!(again(800), None, "{part}");
    }
    let failure = Failure::WrongVersion(version("V1"));
    assert_eq!(again(800), Some(Outcome::Failed(failure)));
}

#[test]
fn a_device_of_release_1_is_pushed_to_when_it_has_subscribed_and_step_100_is_its_last_word() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    assert!(world.published().is_empty());
    world.subscribe(Release::V1);
    let token = world.granted().token;
    let push = &world.published()[0];
    assert_eq!(push["code"], "200");
    assert_eq!(push["params"]["size"], "1000");
    world.serve(&token, 0);
    world.serve(&token, SIZE);
    world.says(Uplink::Progress(Release::V1), &json!({"step": 100}));
    assert_eq!(
        world.outcome(),
        Some(Outcome::Succeeded(Success::Unverified))
    );
}

#[test]
fn a_device_that_tells_nothing_of_itself_is_pushed_to_after_a_while() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.after(Duration::from_secs(59));
    assert!(world.published().is_empty());
    world.after(Duration::from_secs(2));
    assert_eq!(kinds(&world.published()), ["push"]);
    assert!(world.told().contains(&"version_unknown".to_owned()));
}

#[test]
fn a_push_leaves_again_when_the_device_has_subscribed_anew() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V1);
    assert_eq!(kinds(&world.published()), ["push"]);
    world.disconnect();
    world.connect();
    assert!(world.published().is_empty());
    world.subscribe(Release::V1);
    assert_eq!(kinds(&world.published()), ["push"]);
    // one that never subscribes is told some seconds after its connection
    world.connect();
    world.after(Duration::from_secs(6));
    assert_eq!(kinds(&world.published()), ["push"]);
}

#[test]
fn one_that_subscribes_after_it_was_told_is_told_where_it_listens() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.after(Duration::from_secs(61));
    assert_eq!(kinds(&world.published()), ["push"]);
    world.subscribe(Release::V05);
    assert_eq!(kinds(&world.published()), ["push"]);
    // once
    world.subscribe(Release::V05);
    assert!(world.published().is_empty());
}

#[test]
fn one_of_release_1_that_lost_its_power_in_the_download_is_pushed_to_again() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V1);
    let token = world.granted().token;
    world.published();
    world.serve(&token, 400);
    world.disconnect();
    world.after(Duration::from_mins(3));
    world.connect();
    world.subscribe(Release::V1);
    // it may be through already, and about to say so
    assert!(world.published().is_empty());
    world.after(Duration::from_secs(61));
    assert_eq!(kinds(&world.published()), ["push"]);
    // it has not told that it runs it: another task for the same version is no matter of course
    world.serve(&token, SIZE);
    world.says(Uplink::Progress(Release::V1), &json!({"step": 100}));
    let unverified = Some(Outcome::Succeeded(Success::Unverified));
    assert_eq!(world.outcome(), unverified);
    world.start();
    world.after(Duration::from_secs(1));
    world.subscribe(Release::V1);
    assert_eq!(kinds(&world.published()), ["push"]);
}

#[test]
fn one_of_release_0_5_that_never_tells_its_version_is_through_when_it_has_said_so() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V05);
    world.after(Duration::from_secs(61));
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.says(Uplink::Progress(Release::V05), &json!({"step": 100}));
    let unverified = Some(Outcome::Succeeded(Success::Unverified));
    assert_eq!(world.outcome(), unverified);
}

#[test]
fn negative_steps_fail_with_the_device_s_words() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.start();
    world.connect();
    world.subscribe(Release::V1);
    let failed = json!({"step": "-3", "desc": "md5 differs"});
    world.says(Uplink::Progress(Release::V1), &failed);
    let Some(Change::Ended { facts, .. }) = world.changes.last() else {
        panic!("{:?}", world.changes.last());
    };
    assert_eq!(facts.code, Some(-3));
    assert_eq!(facts.description.as_deref(), Some("md5 differs"));
}

#[test]
fn one_that_has_unsubscribed_is_pushed_to_when_it_has_subscribed_again() {
    let mut world = World::of(Protocol::ThingsPanel);
    world.connect();
    world.subscribe(Release::V1);
    world.event(Event::Unsubscribed {
        device: id(),
        downlink: Downlink::Push,
    });
    world.start();
    world.after(Duration::from_mins(10));
    assert!(world.published().is_empty());
    world.subscribe(Release::V1);
    assert_eq!(kinds(&world.published()), ["push"]);
}

/// What a soak asks.
#[test]
fn one_that_cannot_be_asked_holds_what_it_told_when_it_is_connected_for_a_while() {
    let told = |world: &World| {
        let told = world.changes.iter().filter_map(|change| match change {
            Change::VersionReported { version, at, .. } => Some((*version, *at)),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    let ask = Command::AskVersion {
        endpoint: DEVICE.into(),
    };
    let mut world = World::of(Protocol::ThingsPanel);
    world.connect();
    world.says(Uplink::Inform(Release::V05), &json!({"version": "V1"}));
    world.after(Duration::from_hours(1));
    world.disconnect();
    world.changes.clear();
    world.command(ask.clone());
    world.after(Duration::from_hours(1));
    assert_eq!(told(&world), [], "it is not there");
    world.connect();
    world.after(Duration::from_secs(59));
    assert_eq!(told(&world), [], "it has time to tell another one");
    world.after(Duration::from_secs(2));
    assert_eq!(told(&world).len(), 1);
    assert_eq!(told(&world)[0].0, version("V1"));
    world.after(Duration::from_hours(1));
    assert_eq!(told(&world).len(), 1, "it was asked once");
    // at once, where it is connected for long
    world.command(ask.clone());
    world.after(Duration::ZERO);
    assert_eq!(told(&world).len(), 2);
    // one that has gone back tells that by itself
    world.command(ask);
    world.connect();
    world.says(Uplink::Inform(Release::V05), &json!({"version": "V0"}));
    world.after(Duration::from_hours(1));
    assert_eq!(told(&world).len(), 3);
    assert_eq!(told(&world)[2].0, version("V0"));
}
