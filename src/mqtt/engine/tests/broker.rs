//! Devices on somebody else's broker: nobody tells when they come and go.

use super::*;
use crate::config::MqttMode;

const ASK_EVERY: Duration = Duration::from_mins(10);

impl World {
    fn on_a_broker(protocol: Protocol) -> Self {
        let mut config = Config::default();
        config.mqtt.mode = MqttMode::Broker;
        Self::with(protocol, config)
    }

    fn hear(&mut self, anew: bool, release: Option<Release>) {
        self.connections += 1;
        let conn = self.conn();
        self.event(Event::Heard {
            device: id(),
            conn,
            anew,
            release,
        });
    }

    fn reached(&mut self) {
        self.engine.broker_reached(self.now);
        self.drain();
        self.after(Duration::from_secs(1));
    }

    fn last(&mut self) -> Vec<String> {
        kinds(&self.published())
    }
}

#[test]
fn a_device_that_says_nothing_is_asked_now_and_then() {
    let mut world = World::on_a_broker(Protocol::Iotda);
    world.start();
    world.after(Duration::from_secs(1));
    assert_eq!(world.last(), ["version_query"], "it may be there");
    world.after(ASK_EVERY / 2);
    assert_eq!(world.last().len(), 0);
    world.after(ASK_EVERY);
    assert_eq!(world.last(), ["version_query"]);
    assert_eq!(world.stage(), Some(Stage::WaitingForDevice));
    // what was sent when the broker could not be reached is lost
    world.reached();
    assert_eq!(world.last(), ["version_query"]);
    world.hear(false, None);
    world.tells("V1");
    let token = world.granted().token;
    assert_eq!(world.last(), ["version_query", "firmware_upgrade"]);
    // one that is there is not reminded
    world.after(ASK_EVERY * 3);
    assert_eq!(world.last().len(), 0);
    // and one that downloads is left alone
    let conn = world.conn();
    world.event(Event::Disconnected {
        device: id(),
        conn,
        why: Ending::KeepAlive,
    });
    world.serve(&token, 300);
    world.after(Duration::from_secs(599));
    assert_eq!(world.last().len(), 0);
    world.after(Duration::from_secs(2));
    assert_eq!(world.last(), ["version_query"]);
    world.hear(false, None);
    world.tells("V1");
    assert_eq!(world.last(), ["version_query", "firmware_upgrade"]);
}

#[test]
fn being_heard_again_shows_nothing_of_what_a_device_runs() {
    let mut world = World::on_a_broker(Protocol::Iotda);
    world.start();
    world.hear(true, None);
    world.tells("V1");
    // it claims the target, and was served nothing
    world.reports(0, 100, "V2");
    assert_eq!(world.stage(), Some(Stage::Executing));
    world.hear(false, None);
    world.tells("V2");
    assert_eq!(world.outcome(), None);
    world.tells("V1");
    assert_eq!(world.outcome(), None, "some kits tell the old one for ever");
    // its own word that it has connected anew counts
    world.hear(true, None);
    world.tells("V2");
    assert_eq!(
        world.outcome(),
        Some(Outcome::Succeeded(Success::Unverified))
    );
}

#[test]
fn the_whole_package_speaks_for_a_device_that_is_heard_again() {
    let mut world = World::on_a_broker(Protocol::Iotda);
    world.start();
    world.hear(false, None);
    world.tells("V1");
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.hear(false, None);
    world.tells("V2");
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
    assert_eq!(
        world.told(),
        [
            "attempt_begun",
            "heard",
            "runs_other_version",
            "fetched",
            "heard"
        ]
    );
}

#[test]
fn a_silent_device_of_thingspanel_is_pushed_to_as_if_it_were_there() {
    let mut world = World::on_a_broker(Protocol::ThingsPanel);
    world.start();
    world.after(Duration::from_mins(2));
    // as each edition hears it: nobody knows which one it is
    let codes: Vec<Value> = (world.published().iter())
        .map(|it| it["code"].clone())
        .collect();
    assert_eq!(codes, [json!(200), json!("200")]);
    // nobody says that it was heard
    assert_eq!(world.told(), ["attempt_begun", "version_unknown"]);
    assert_eq!(world.engine.last_heard(world.now, id()), None);
    world.after(ASK_EVERY);
    assert_eq!(
        world.last(),
        ["push", "push"],
        "once more: it may not have been there"
    );
    world.hear(false, Some(Release::V1));
    let fetches = json!({"step": 10, "desc": "", "module": "default"});
    world.says(Uplink::Progress(Release::V1), &fetches);
    assert_eq!(world.last(), ["push"]);
    // it goes along: nothing is pushed over its head
    let conn = world.conn();
    world.event(Event::Disconnected {
        device: id(),
        conn,
        why: Ending::KeepAlive,
    });
    world.after(ASK_EVERY * 2);
    assert_eq!(world.last().len(), 0);
}

#[test]
fn whoever_wants_to_know_what_an_idle_device_runs_has_it_asked() {
    let mut world = World::on_a_broker(Protocol::Iotda);
    world.command(Command::AskVersion {
        endpoint: DEVICE.into(),
    });
    assert_eq!(world.last(), ["version_query"]);
    // with a server of its own it is asked when it connects
    let mut world = World::of(Protocol::Iotda);
    world.command(Command::AskVersion {
        endpoint: DEVICE.into(),
    });
    assert_eq!(world.last().len(), 0);
    assert_eq!(world.engine.poll_timeout(), None);
}

/// A broker's acknowledgement says nothing of the device: what was sent does not wait for one.
#[test]
fn what_is_sent_over_a_broker_does_not_fill_up() {
    let mut world = World::on_a_broker(Protocol::Iotda);
    world.start();
    world.after(Duration::from_secs(1));
    assert_eq!(world.last(), ["version_query"]);
    for _ in 0..40 {
        world.after(ASK_EVERY);
        assert_eq!(world.last(), ["version_query"]);
    }
    let device = &world.engine.devices[&id()];
    assert!(device.unacknowledged.is_empty());
}

#[test]
fn a_broker_that_comes_and_goes_puts_nobody_off() {
    let mut world = World::on_a_broker(Protocol::Iotda);
    let per_second = u64::from(Config::default().admission.per_second);
    let count = per_second.min(50);
    for n in 0..count {
        let endpoint = format!("d{n}");
        world.command(Command::AddDevice {
            endpoint: endpoint.clone(),
            product: "meters".into(),
            secure: false,
            protocol: Protocol::Iotda,
            via: crate::ledger::Via::Itself,
        });
        let order = UpgradeOrder {
            upgrade: UpgradeId(100 + i64::try_from(n).unwrap()),
            endpoint,
            ..order()
        };
        let offers = offers();
        world.command(Command::Start { order, offers });
    }
    for _ in 0..1_000 {
        world.engine.broker_reached(world.now);
    }
    world.after(Duration::from_secs(3));
    assert_eq!(world.last().len() as u64, count);
    // and those that were asked are asked again
    world.engine.broker_reached(world.now);
    world.after(Duration::from_secs(3));
    assert_eq!(world.last().len() as u64, count);
}

/// The device, as the store knows it.
fn known(evidence: Vec<Evidence>) -> DeviceRecord {
    DeviceRecord {
        endpoint: DEVICE.into(),
        product: "meters".into(),
        secure: false,
        protocol: Protocol::Iotda,
        via: crate::ledger::Via::Itself,
        registration: None,
        last_heard_at: None,
        coverage: None,
        version: Some(version("V1")),
        evidence,
        wake_ups: None,
        appointment: None,
    }
}

/// It has fetched some of the target.
fn fetched(at: UtcMillis) -> Vec<Evidence> {
    let version = version("V2");
    vec![Evidence {
        version,
        taken: true,
        commanded: false,
        claimed: false,
        failure: None,
        at,
    }]
}

/// The attempt that is stored after it began, with that evidence, on a broker after a restart of the server.
fn resumed(before: &World, stage: StageChange, evidence: Vec<Evidence>) -> World {
    let now = before.now + Duration::from_mins(1);
    let mut config = Config::default();
    config.mqtt.mode = MqttMode::Broker;
    let mut world = World::begun(Protocol::Iotda, config, now);
    world.engine.restore_device(now, &known(evidence));
    let upgrade = ActiveUpgrade {
        order: order(),
        stage,
        progress: None,
    };
    world.engine.restore_upgrade(now, upgrade, offers());
    world.drain();
    world
}

#[test]
fn after_a_restart_what_was_fetched_in_an_earlier_attempt_speaks_for_no_claim() {
    let mut before = World::on_a_broker(Protocol::Iotda);
    before.start();
    before.hear(false, None);
    before.tells("V1");
    let stage = before.changes.iter().rev().find_map(|change| match change {
        Change::Stage { change, .. } => Some(change.clone()),
        _ => None,
    });
    let stage = stage.unwrap();
    assert_eq!(stage.stage, Stage::Downloading);
    let claims = |fetched_at: UtcMillis| {
        let mut world = resumed(&before, stage.clone(), fetched(fetched_at));
        world.hear(false, None);
        world.reports(0, 100, "V2");
        world.after(Duration::from_mins(1));
        world.tells("V2");
        world.after(Duration::from_hours(2));
        world.outcome()
    };
    let early = claims(stage.entered_at.before(Duration::from_secs(1)));
    assert_eq!(early, Some(Outcome::Failed(Failure::NotDownloaded)));
    let since = claims(stage.entered_at);
    assert_eq!(since, Some(Outcome::Succeeded(Success::Unverified)));
}

#[test]
fn that_a_device_fetches_is_written_down_in_each_attempt_before_bytes_leave() {
    let now = Now {
        instant: Instant::from_millis(1_000_000_000),
        utc: UtcMillis(1_800_000_000_000),
    };
    let mut world = World::begun(Protocol::Iotda, Config::default(), now);
    world
        .engine
        .restore_device(now, &known(fetched(UtcMillis(1_000))));
    world.start();
    world.connect();
    world.tells("V1");
    let grant = world.granted();
    assert!(!grant.begun);
    world.outs.clear();
    world.serve(&grant.token, 0);
    let written = world.changes.iter().rev().find_map(|change| match change {
        Change::Evidence { evidence, .. } => Some(evidence[0]),
        _ => None,
    });
    assert_eq!(
        written.map(|it| (it.taken, it.at)),
        Some((true, world.now.utc))
    );
    assert!(world.granted().begun);
}
