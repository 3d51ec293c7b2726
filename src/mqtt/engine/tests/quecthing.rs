//! Devices with `QuecThing`.

use super::*;
use crate::{
    config::QuecChecksum,
    mqtt::quecthing::{
        frame::{self, Frame},
        ttlv::{self, Field, Value},
    },
    upgrade::transfer::quecthing::{DOWNLOAD_ERRORS, REFUSED},
};

const SUM: QuecChecksum = QuecChecksum::Sum;
const PLAN: u16 = 0x0111;
const PACKAGE: u16 = 0x0113;

fn text(id: u16, text: &str) -> Field {
    Field {
        id,
        value: Value::text(text),
    }
}

fn number(id: u16, number: u64) -> Field {
    Field {
        id,
        value: Value::number(number),
    }
}

fn frame(command: u16, fields: &[Field]) -> Vec<u8> {
    let frame = Frame {
        packet_id: 7,
        command,
        payload: ttlv::write(fields),
    };
    frame.to_bytes(SUM)
}

impl World {
    fn quecthing() -> Self {
        let mut world = Self::of(Protocol::QuecThing);
        world.start();
        world
    }

    fn comes(&mut self) {
        self.connect();
        self.event(Event::Subscribed {
            device: id(),
            downlink: Downlink::Push,
            release: None,
        });
    }

    fn asks_for_its_plan(&mut self, version: &str) {
        self.publishes(Uplink::Frames, frame(0x0115, &[text(25, version)]));
    }

    fn says_status(&mut self, status: u64, more: &[Field]) {
        let fields = [&[number(13, status)], more].concat();
        self.publishes(Uplink::Frames, frame(0x0114, &fields));
    }

    /// Command and fields of what was published to the device since this was asked last.
    fn frames(&mut self) -> Vec<(u16, Vec<Field>)> {
        let payloads = self.published_bytes().into_iter();
        let frames = payloads.flat_map(|payload| frame::read(&payload, SUM).unwrap());
        frames
            .map(|frame| (frame.command, ttlv::read(&frame.payload).unwrap()))
            .collect()
    }

    fn commands(&mut self) -> Vec<u16> {
        self.frames()
            .into_iter()
            .map(|(command, _)| command)
            .collect()
    }
}

fn field(fields: &[Field], id: u16) -> Option<String> {
    let field = fields.iter().find(|field| field.id == id)?;
    Some(match &field.value {
        Value::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => other.as_number().unwrap().to_string(),
    })
}

#[test]
fn a_device_is_upgraded_step_by_step() {
    let mut world = World::quecthing();
    world.comes();
    assert!(world.frames().is_empty());
    world.asks_for_its_plan("V1");
    let token = world.granted().token;
    let frames = world.frames();
    assert_eq!(frames.len(), 1);
    let (command, fields) = &frames[0];
    assert_eq!(*command, PLAN);
    assert_eq!(field(fields, 5).as_deref(), Some("V1"));
    assert_eq!(field(fields, 6).as_deref(), Some("V2"));
    assert_eq!(field(fields, 7).as_deref(), Some("0"));
    world.says_status(1, &[]);
    assert!(world.frames().is_empty());
    world.says_status(2, &[]);
    let frames = world.frames();
    assert_eq!(frames.len(), 1);
    let (command, fields) = &frames[0];
    assert_eq!(*command, PACKAGE);
    assert_eq!(field(fields, 2).as_deref(), Some("1000"));
    assert_eq!(field(fields, 16).as_deref(), Some(SHA256));
    let url = field(fields, 1).unwrap();
    assert!(url.contains(token.as_str()), "{url}");
    for status in [4, 5] {
        world.says_status(status, &[]);
    }
    world.serve(&token, SIZE);
    for status in [8, 9] {
        world.says_status(status, &[]);
    }
    assert_eq!(world.outcome(), None);
    world.says_status(11, &[text(25, "V2")]);
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
    // the next question finds nothing
    world.frames();
    world.asks_for_its_plan("V2");
    let frames = world.frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(field(&frames[0].1, 13).as_deref(), Some("0"));
}

#[test]
fn a_controller_beside_the_module_is_upgraded_by_its_own_version() {
    let mut config = Config::default();
    let product = config.products.entry("meters".into()).or_default();
    product.ota = crate::config::OtaKind::Software;
    product.module = Some(arrayvec::ArrayString::from("MCU_1").unwrap());
    let mut world = World::with(Protocol::QuecThing, config);
    world.start();
    world.comes();
    world.publishes(
        Uplink::Frames,
        frame(0x0115, &[text(25, "M7"), text(26, "V1")]),
    );
    let frames = world.frames();
    let fields = &frames[0].1;
    assert_eq!(field(fields, 4).as_deref(), Some("MCU_1"));
    assert_eq!(field(fields, 5).as_deref(), Some("V1"));
    assert_eq!(field(fields, 7).as_deref(), Some("1"));
    // what another component says is not about this upgrade
    world.says_status(12, &[text(4, "MCU_2")]);
    assert_eq!(world.outcome(), None);
    world.says_status(12, &[text(4, "MCU_1")]);
    assert!(world.outcome().is_some());
}

#[test]
fn a_refusal_is_recorded_with_its_words() {
    let mut world = World::quecthing();
    world.comes();
    world.asks_for_its_plan("V1");
    world.says_status(1, &[]);
    world.says_status(3, &[text(14, "battery 12 %")]);
    assert_eq!(
        world.outcome(),
        Some(Outcome::Failed(Failure::Reported(REFUSED)))
    );
    let told = format!("{:?}", world.changes);
    assert!(told.contains("battery 12 %"), "{told}");
}

#[test]
fn a_device_without_an_upgrade_is_told_that_there_is_no_plan_and_not_more_often_than_it_is_worth() {
    let mut world = World::of(Protocol::QuecThing);
    world.comes();
    for _ in 0..50 {
        world.asks_for_its_plan("V1");
    }
    let frames = world.frames();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].0, PLAN);
    assert_eq!(field(&frames[0].1, 13).as_deref(), Some("0"));
    world.after(Duration::from_secs(2));
    world.asks_for_its_plan("V1");
    assert_eq!(world.commands(), [PLAN]);
    // its version is known
    assert!(world.changes.iter().any(|change| matches!(
        change,
        Change::VersionReported { version, .. } if version.as_str() == "V1"
    )));
}

#[test]
fn one_that_asks_again_before_it_has_confirmed_is_told_its_plan_again_and_nothing_is_written_for_it()
 {
    let mut world = World::quecthing();
    world.comes();
    world.asks_for_its_plan("V1");
    world.says_status(1, &[]);
    world.frames();
    world.after(Duration::from_secs(5));
    world.asks_for_its_plan("V1");
    let lines = world.told().len();
    for _ in 0..30 {
        world.after(Duration::from_secs(5));
        world.says_status(1, &[]);
        world.asks_for_its_plan("V1");
    }
    assert_eq!(world.outcome(), None);
    assert_eq!(world.told().len(), lines);
    assert_eq!(world.commands(), [PLAN; 31]);
}

#[test]
fn a_device_that_tells_nothing_of_itself_is_sent_its_plan_after_a_while() {
    let mut world = World::quecthing();
    world.comes();
    world.after(Duration::from_secs(59));
    assert!(world.frames().is_empty());
    world.after(Duration::from_secs(2));
    assert_eq!(world.commands(), [PLAN]);
    // a success without a version is what a whole download says it is
    world.says_status(2, &[]);
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.says_status(11, &[]);
    assert_eq!(
        world.outcome(),
        Some(Outcome::Succeeded(Success::Unverified))
    );
}

#[test]
fn success_at_once_is_believed_when_it_is_told_over_another_connection_and_not_verified_then() {
    let mut world = World::quecthing();
    world.comes();
    world.asks_for_its_plan("V1");
    world.says_status(2, &[]);
    world.says_status(11, &[text(25, "V2")]);
    assert_eq!(world.outcome(), None);
    world.disconnect();
    world.comes();
    world.asks_for_its_plan("V2");
    assert_eq!(
        world.outcome(),
        Some(Outcome::Succeeded(Success::Unverified))
    );
}

/// A report of success is a claim, also over a connection that was made after the offer: nothing is learnt from it.
#[test]
fn a_claim_without_a_download_is_not_taken_for_the_version_that_the_device_runs() {
    let mut world = World::quecthing();
    world.comes();
    world.asks_for_its_plan("V1");
    world.says_status(2, &[]);
    world.disconnect();
    world.comes();
    world.asks_for_its_plan("V1");
    world.says_status(2, &[]);
    world.says_status(11, &[text(25, "V2")]);
    assert_eq!(world.outcome(), None);
    world.after(Duration::from_hours(1));
    let failed = Outcome::Failed(Failure::NotDownloaded);
    assert_eq!(world.outcome(), Some(failed));
    let runs = |world: &World| world.engine.devices[&id()].version;
    assert_eq!(runs(&world), Some(version("V1")));
    // nor when it says so again, and nobody has asked
    world.disconnect();
    world.comes();
    world.says_status(11, &[text(25, "V2")]);
    assert_eq!(runs(&world), Some(version("V1")));
    // what it asks for its plan with it has told over a connection of its own
    world.asks_for_its_plan("V2");
    assert_eq!(runs(&world), Some(version("V2")));
}

#[test]
fn a_success_with_the_old_version_is_no_claim_to_run_the_target() {
    let mut world = World::quecthing();
    world.comes();
    world.asks_for_its_plan("V1");
    world.says_status(2, &[]);
    let token = world.granted().token;
    world.serve(&token, SIZE);
    world.says_status(11, &[text(25, "V1")]);
    let claimed = |world: &World| {
        let evidence = world.engine.devices[&id()].evidence.of(version("V2"));
        evidence.is_some_and(|it| it.claimed)
    };
    assert!(!claimed(&world));
}

#[test]
fn success_at_once_that_nothing_shows_is_a_failure() {
    let mut world = World::quecthing();
    world.comes();
    world.asks_for_its_plan("V1");
    world.says_status(2, &[]);
    world.says_status(11, &[text(25, "V2")]);
    world.after(Duration::from_hours(1));
    assert_eq!(
        world.outcome(),
        Some(Outcome::Failed(Failure::NotDownloaded))
    );
}

#[test]
fn a_device_that_restarts_in_its_download_gets_its_plan_and_its_url_again() {
    let mut world = World::quecthing();
    world.comes();
    world.asks_for_its_plan("V1");
    world.says_status(2, &[]);
    let token = world.granted().token;
    for part in 1..=6 {
        world.serve(&token, part * 100);
        world.disconnect();
        world.frames();
        world.comes();
        world.asks_for_its_plan("V1");
        assert_eq!(world.commands(), [PLAN], "{part}");
        world.says_status(2, &[]);
        assert_eq!(world.commands(), [PACKAGE], "{part}");
    }
    world.serve(&token, SIZE);
    world.says_status(11, &[text(25, "V2")]);
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn the_sixth_error_of_a_download_ends_it() {
    let mut world = World::quecthing();
    world.comes();
    world.asks_for_its_plan("V1");
    world.says_status(2, &[]);
    for _ in 0..5 {
        world.says_status(6, &[]);
        assert_eq!(world.outcome(), None);
    }
    world.says_status(6, &[]);
    assert_eq!(
        world.outcome(),
        Some(Outcome::Failed(Failure::Reported(DOWNLOAD_ERRORS)))
    );
}

#[test]
fn errors_of_a_download_are_counted_on_after_a_restart_of_the_server() {
    let mut before = World::quecthing();
    before.comes();
    before.asks_for_its_plan("V1");
    before.says_status(2, &[]);
    for _ in 0..4 {
        before.says_status(6, &[]);
    }
    let stage = before.changes.iter().rev().find_map(|change| match change {
        Change::Stage { change, .. } => Some(change.clone()),
        _ => None,
    });
    let stage = stage.unwrap();
    assert_eq!(stage.download_errors, 4);
    let mut world = super::restart::resumed((Protocol::QuecThing, before.now), stage, Vec::new());
    world.comes();
    world.says_status(6, &[]);
    assert_eq!(world.outcome(), None);
    world.says_status(6, &[]);
    assert_eq!(
        world.outcome(),
        Some(Outcome::Failed(Failure::Reported(DOWNLOAD_ERRORS)))
    );
}

#[test]
fn on_somebody_elses_broker_a_silent_device_is_sent_its_plan_and_is_upgraded() {
    let mut config = Config::default();
    config.mqtt.mode = crate::config::MqttMode::Broker;
    let mut world = World::with(Protocol::QuecThing, config);
    world.start();
    world.after(Duration::from_mins(2));
    assert_eq!(world.commands(), [PLAN]);
    world.after(Duration::from_mins(10));
    assert_eq!(world.commands(), [PLAN], "it may not have been there");
    world.connections += 1;
    let conn = world.conn();
    world.event(Event::Heard {
        device: id(),
        conn,
        anew: false,
        release: None,
    });
    world.asks_for_its_plan("V1");
    world.commands();
    world.says_status(2, &[]);
    let token = world.granted().token;
    assert_eq!(world.commands(), [PACKAGE]);
    world.serve(&token, SIZE);
    world.says_status(11, &[text(25, "V2")]);
    assert_eq!(world.outcome(), Some(Outcome::Succeeded(Success::Upgraded)));
}

#[test]
fn on_somebody_elses_broker_one_that_asks_again_is_told_its_plan_again() {
    let mut config = Config::default();
    config.mqtt.mode = crate::config::MqttMode::Broker;
    let mut world = World::with(Protocol::QuecThing, config);
    world.start();
    world.connections += 1;
    let conn = world.conn();
    world.event(Event::Heard {
        device: id(),
        conn,
        anew: false,
        release: None,
    });
    world.asks_for_its_plan("V1");
    assert_eq!(world.commands(), [PLAN]);
    // at once: that is on its way
    world.asks_for_its_plan("V1");
    assert!(world.commands().is_empty());
    // nobody tells whether it has come
    world.after(Duration::from_secs(10));
    world.asks_for_its_plan("V1");
    assert_eq!(world.commands(), [PLAN]);
    // after a silence it is offered it by being heard, and not twice
    world.connections += 1;
    let conn = world.conn();
    world.event(Event::Heard {
        device: id(),
        conn,
        anew: false,
        release: None,
    });
    world.asks_for_its_plan("V1");
    assert_eq!(world.commands(), [PLAN]);
}

#[test]
fn nothing_leaves_before_the_offer_is_committed_and_what_is_reported_before_is_not_about_it() {
    let mut world = World::quecthing();
    world.comes();
    world.stalled = true;
    world.asks_for_its_plan("V1");
    world.says_status(12, &[]);
    world.says_status(3, &[]);
    assert_eq!(world.outcome(), None);
    let waits = (world.outs.iter())
        .filter(|(out, _)| matches!(out, Out::Publish { .. }))
        .all(|(_, after)| *after > 0);
    assert!(waits);
}

#[test]
fn whatever_a_device_sends_is_counted_and_leads_to_nothing() {
    let mut world = World::quecthing();
    world.comes();
    for payload in [
        Vec::new(),
        b"{}".to_vec(),
        vec![0xAA; 40],
        frame(0x0114, &[]),
        frame(0x0114, &[text(13, "x")]),
    ] {
        world.publishes(Uplink::Frames, payload);
    }
    assert_eq!(world.engine.counters().mqtt_unreadable, 5);
    world.publishes(Uplink::Frames, frame(0x0012, &[]));
    assert_eq!(world.engine.counters().mqtt_others, 1);
    world.says_status(11, &[]);
    assert_eq!(world.engine.counters().mqtt_unexpected, 1);
    assert_eq!(world.outcome(), None);
}
