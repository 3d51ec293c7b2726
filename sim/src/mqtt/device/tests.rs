use serde_json::{Value, json};

use super::*;
use crate::mqtt::Style::{Iotda, IotdaV2, ThingsPanel1, ThingsPanel05};
use crate::mqtt::Timing;

const SHA256: &str = "aa11";
const MD5: &str = "bb22";
const SIZE: u64 = 1_000;

/// A device with a server around it that only notes what comes.
struct World {
    device: Device,
    now_ms: u64,
    published: Vec<(String, Value)>,
    request: Option<Request>,
    connects: Vec<Connect>,
    stopped_downloads: usize,
}

impl World {
    fn new(spec: Spec) -> Self {
        let mut device = Device::new(spec);
        device.start(0);
        let mut world = Self {
            device,
            now_ms: 0,
            published: Vec::new(),
            request: None,
            connects: Vec::new(),
            stopped_downloads: 0,
        };
        world.settle();
        world
    }

    /// Carries everything out that the device wants; the server accepts connections and subscriptions.
    fn settle(&mut self) {
        while let Some(output) = self.device.poll_output() {
            match output {
                Output::Connect(connect) => {
                    self.connects.push(connect);
                    self.device.connected(self.now_ms);
                }
                Output::Subscribe { .. } => self.device.subscribed(self.now_ms, true),
                Output::Publish { topic, payload, .. } => {
                    let payload = serde_json::from_slice(&payload).unwrap();
                    self.published.push((topic, payload));
                }
                Output::Download(request) => self.request = Some(request),
                Output::StopDownload => self.stopped_downloads += 1,
                Output::Disconnect { .. } => {}
            }
        }
    }

    fn pass(&mut self) {
        while let Some(at_ms) = self.device.poll_timeout() {
            self.now_ms = at_ms;
            self.device.handle_timeout(at_ms);
            self.settle();
        }
    }

    fn down(&mut self, kind: &str, paras: &Value) {
        let device = self.device.spec().device.clone();
        let event = json!({"object_device_id": device, "services":
            [{"service_id": "$ota", "event_type": kind, "paras": paras}]});
        let topic = format!("$oc/devices/{device}/sys/events/down");
        let payload = event.to_string();
        self.device.message(self.now_ms, &topic, payload.as_bytes());
        self.settle();
    }

    fn offer(&mut self, kind: &str) {
        self.down(
            kind,
            &json!({"url": "http://h:1/p", "version": "V2", "file_size": SIZE, "access_token": "t",
                "expires": 86_400, "sign": SHA256}),
        );
    }

    fn push(&mut self) {
        let topic = crate::mqtt::thingspanel::topic_inform(self.device.spec());
        let push = json!({"id": "1", "code": "200", "params": {"version": "V2", "size": "1000", "url": "http://h:1/p",
            "signMethod": "Md5", "sign": "BB22", "module": "mcu", "extData": {}}});
        let payload = push.to_string();
        self.device.message(self.now_ms, &topic, payload.as_bytes());
        self.settle();
    }

    fn fetched(&mut self, sha256: &str) {
        let fetched = Fetched {
            bytes: SIZE,
            sha256: sha256.to_owned(),
            md5: MD5.to_owned(),
        };
        self.device.downloaded(self.now_ms, &fetched);
        self.settle();
        self.pass();
    }

    fn download_fails(&mut self, failure: &DownloadFailure) {
        self.device.download_failed(self.now_ms, failure);
        self.settle();
    }

    /// Result code, progress and version of every report of progress.
    fn reports(&self) -> Vec<(u64, u64, String)> {
        let services = self
            .published
            .iter()
            .map(|(_, event)| &event["services"][0]);
        services
            .filter(|service| service["event_type"] == "upgrade_progress_report")
            .map(|service| {
                let paras = &service["paras"];
                let number = |name: &str| paras[name].as_u64().unwrap();
                let version = paras["version"].as_str().unwrap().to_owned();
                (number("result_code"), number("progress"), version)
            })
            .collect()
    }

    fn versions(&self) -> Vec<&str> {
        self.published
            .iter()
            .filter_map(|(_, message)| {
                message["services"][0]["paras"]["fw_version"]
                    .as_str()
                    .or_else(|| message["params"]["version"].as_str())
            })
            .collect()
    }

    fn steps(&self) -> Vec<i64> {
        self.published
            .iter()
            .filter_map(|(_, message)| {
                let step = &message["step"];
                step.as_i64().or_else(|| step.as_str()?.parse().ok())
            })
            .collect()
    }
}

fn iotda(client: Client, fault: Option<Fault>) -> World {
    let mut spec = Spec::new("d1", IotdaV2, "V1");
    (spec.client, spec.fault) = (client, fault);
    World::new(spec)
}

fn thingspanel(style: Style, fault: Option<Fault>) -> World {
    let mut spec = Spec::new("n1", style, "V1");
    spec.fault = fault;
    World::new(spec)
}

fn report(code: u64, progress: u64, version: &str) -> (u64, u64, String) {
    (code, progress, version.to_owned())
}

#[test]
fn an_iotda_device_connects_with_the_hour_and_subscribes_to_nothing() {
    let mut spec = Spec::new("d1", Iotda, "V1");
    spec.epoch_s = 1_796_014_800; // 2026-11-30T05:00:00Z
    spec.secret = Secret("secret".into());
    let mut device = Device::new(spec);
    device.start(0);
    let Some(Output::Connect(connect)) = device.poll_output() else {
        panic!("a device connects first");
    };
    assert_eq!(connect.client_id, "d1_0_1_2026113005");
    assert_eq!(connect.user_name, "d1");
    let password = crate::mqtt::iotda::password("secret", "2026113005");
    assert_eq!(connect.password, Some(Secret(password)));
    device.connected(0);
    let Some(Output::Publish {
        topic,
        payload,
        qos,
    }) = device.poll_output()
    else {
        panic!("the Python kit logs that it is connected");
    };
    assert_eq!((topic.as_str(), qos), ("$oc/devices/d1/sys/events/up", 1));
    let log: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(log["services"][0]["service_id"], "$log");
    assert_eq!(log["services"][0]["event_time"], "20261130T050000Z");
    assert_eq!(device.poll_output(), None);
}

#[test]
fn each_kit_downloads_and_reports_in_its_own_way() {
    let old_then_new = vec![report(0, 100, "V1"), report(0, 100, "V2")];
    for (client, reports) in [
        (Client::Python, vec![report(0, 100, "V2")]),
        (Client::Java, old_then_new),
        (Client::C, vec![report(0, 100, "V2")]),
    ] {
        let mut world = iotda(client, None);
        world.down("version_query", &json!({}));
        world.offer("firmware_upgrade");
        let request = world.request.clone().unwrap();
        assert_eq!(request.bearer, Some(Secret("t".into())));
        assert_eq!((request.from, request.stop_after), (0, None));
        assert_eq!(request.by_hand, client == Client::C);
        assert_eq!(world.device.is_blocked(), client == Client::Python);
        world.fetched(SHA256);
        assert!(!world.device.is_blocked());
        world.down("version_query", &json!({}));
        assert_eq!(world.reports(), reports, "{client}");
        assert_eq!(world.versions(), ["V1", "V2"], "{client}");
        assert_eq!(world.device.ending(), Some(Ending::Upgraded));
        assert!(world.device.is_settled());
    }
}

#[test]
fn the_second_generation_has_no_token_and_old_devices_do_not_know_it() {
    let mut new = iotda(Client::C, None);
    new.offer("software_upgrade_v2");
    assert_eq!(new.request.unwrap().bearer, None);
    let mut old = World::new(Spec::new("d1", Iotda, "V1"));
    old.offer("firmware_upgrade_v2");
    assert_eq!(old.request, None);
    assert_eq!(old.device.report().counters.offers_ignored, 1);
    old.offer("firmware_upgrade");
    assert!(old.request.is_some());
}

#[test]
fn a_wrong_checksum_is_met_by_each_kit_in_its_own_way() {
    let wrong = |client, kind| {
        let mut world = iotda(client, None);
        world.offer(kind);
        world.fetched("cc33");
        (world.reports(), world.device.ending().unwrap())
    };
    let v1 = "firmware_upgrade";
    assert_eq!(wrong(Client::Python, v1), (vec![], Ending::Silent));
    let unchecked = (vec![report(0, 100, "V2")], Ending::Upgraded);
    assert_eq!(wrong(Client::Python, "firmware_upgrade_v2"), unchecked);
    let java = (vec![report(7, 0, "V1")], Ending::Failed);
    assert_eq!(wrong(Client::Java, v1), java);
    let target = (vec![report(1, 0, "V2")], Ending::Failed);
    assert_eq!(wrong(Client::C, v1), target);
    let upper = |client| {
        let mut world = iotda(client, None);
        world.down(
            v1,
            &json!({"url": "http://h:1/p", "version": "V2", "file_size": SIZE, "sign": "AA11"}),
        );
        world.fetched(SHA256);
        world.device.ending()
    };
    assert_eq!(upper(Client::Java), Some(Ending::Upgraded));
    assert_eq!(upper(Client::Python), Some(Ending::Silent));
}

#[test]
fn a_failed_download_is_met_by_each_kit_in_its_own_way() {
    for (client, reports) in [
        (Client::Python, vec![]),
        (Client::Java, vec![report(6, 0, "V1")]),
        (Client::C, vec![report(1, 0, "V2")]),
    ] {
        let mut world = iotda(client, None);
        world.offer("firmware_upgrade");
        world.download_fails(&DownloadFailure::Status(404));
        world.pass();
        assert_eq!(world.reports(), reports, "{client}");
    }
}

#[test]
fn a_device_that_fails_takes_the_next_offer() {
    let mut world = iotda(Client::Python, None);
    world.offer("firmware_upgrade");
    world.offer("firmware_upgrade");
    assert_eq!(world.device.report().counters.offers_ignored, 1);
    world.download_fails(&DownloadFailure::Cut { received: 7 });
    world.request = None;
    world.offer("firmware_upgrade");
    assert_eq!(world.request.as_ref().unwrap().from, 0);
    world.fetched(SHA256);
    assert_eq!(world.device.ending(), Some(Ending::Upgraded));
}

#[test]
fn a_cut_download_is_resumed_where_it_was() {
    let mut world = iotda(Client::Java, Some(Fault::CutDownload));
    world.offer("firmware_upgrade");
    assert_eq!(world.request.take().unwrap().stop_after, Some(SIZE / 2));
    world.download_fails(&DownloadFailure::Cut { received: 512 });
    world.pass();
    let again = world.request.clone().unwrap();
    assert_eq!((again.from, again.stop_after), (512, None));
    world.fetched(SHA256);
    assert_eq!(world.device.ending(), Some(Ending::Upgraded));

    let mut broken = iotda(Client::Java, Some(Fault::BrokenDownload));
    broken.offer("firmware_upgrade");
    broken.download_fails(&DownloadFailure::Cut { received: 512 });
    broken.pass();
    assert_eq!(broken.reports(), [report(6, 0, "V1")]);
}

#[test]
fn whoever_loses_the_network_comes_back_and_goes_on() {
    let mut world = iotda(Client::C, Some(Fault::DropsInDownload));
    world.offer("firmware_upgrade");
    world.device.downloading(world.now_ms, 400, SIZE);
    assert_eq!(world.stopped_downloads, 0);
    world.device.downloading(world.now_ms, 600, SIZE);
    world.request = None;
    world.settle();
    world.pass();
    assert_eq!((world.stopped_downloads, world.connects.len()), (1, 2));
    assert_eq!(world.request.as_ref().unwrap().from, 600);
    world.fetched(SHA256);
    assert_eq!(world.device.ending(), Some(Ending::Upgraded));
}

#[test]
fn success_may_be_claimed_or_never_told() {
    let mut claims = iotda(Client::Python, Some(Fault::ClaimsWithoutDownload));
    claims.offer("firmware_upgrade");
    claims.pass();
    assert_eq!(claims.request, None);
    assert_eq!(claims.reports(), [report(0, 100, "V2")]);
    assert_eq!(claims.device.ending(), Some(Ending::Claimed));
    assert_eq!(claims.device.version(), "V1");

    let mut old = iotda(Client::Python, Some(Fault::OldVersionAfterSuccess));
    old.offer("firmware_upgrade");
    old.fetched(SHA256);
    old.down("version_query", &json!({}));
    assert_eq!(old.reports(), [report(0, 100, "V2")]);
    assert_eq!(old.versions(), ["V1"]);

    let mut loses = iotda(Client::Python, Some(Fault::LosesReport));
    loses.offer("firmware_upgrade");
    loses.fetched(SHA256);
    assert_eq!((loses.reports(), loses.connects.len()), (vec![], 2));
    loses.down("version_query", &json!({}));
    assert_eq!(loses.versions(), ["V2"]);
}

#[test]
fn a_python_device_whose_connection_ends_meanwhile_loses_its_report() {
    let mut world = iotda(Client::Python, None);
    world.offer("firmware_upgrade");
    let fetched = Fetched {
        bytes: SIZE,
        sha256: SHA256.into(),
        md5: MD5.into(),
    };
    world.device.downloaded(world.now_ms, &fetched);
    world.device.disconnected(world.now_ms);
    // the installation ends before the next connection
    let at_ms = world.now_ms + Timing::default().install_ms;
    world.device.handle_timeout(at_ms);
    assert_eq!(world.reports(), []);
    assert_eq!(world.device.report().counters.lost, 1);
    world.pass();
    world.down("version_query", &json!({}));
    assert_eq!(world.versions(), ["V2"]);
}

#[test]
fn a_storm_is_over_in_the_end() {
    let mut world = iotda(Client::Java, Some(Fault::ReconnectStorm));
    world.offer("firmware_upgrade");
    assert_eq!(world.request, None);
    world.pass();
    assert_eq!(world.connects.len(), 1 + 20);
    world.fetched(SHA256);
    assert_eq!(world.device.ending(), Some(Ending::Upgraded));
}

#[test]
fn the_second_of_two_gives_up() {
    let mut spec = Spec::new("d1", Iotda, "V1");
    assert!(Device::twin(&spec).is_none());
    spec.fault = Some(Fault::SharesClientId);
    let mut twin = Device::twin(&spec).unwrap();
    twin.start(0);
    let mut connections = 0;
    let mut now_ms = 0;
    loop {
        while let Some(output) = twin.poll_output() {
            if matches!(output, Output::Connect(_)) {
                connections += 1;
                twin.connected(now_ms);
                twin.disconnected(now_ms);
            }
        }
        let Some(at_ms) = twin.poll_timeout() else {
            break;
        };
        now_ms = at_ms;
        twin.handle_timeout(now_ms);
    }
    assert_eq!((connections, twin.is_settled()), (10, true));
}

#[test]
fn a_burst_is_all_at_the_end() {
    let mut world = iotda(Client::Python, Some(Fault::ProgressBurst));
    world.offer("firmware_upgrade");
    world.device.downloading(0, 500, SIZE);
    world.settle();
    assert_eq!(world.reports(), []);
    world.fetched(SHA256);
    let percents: Vec<_> = world.reports().into_iter().map(|report| report.1).collect();
    assert_eq!(percents, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
}

#[test]
fn release_0_5_reports_its_version_at_the_start_and_after_success() {
    let mut world = thingspanel(ThingsPanel05, None);
    assert_eq!(world.connects[0].user_name, "n1-secret");
    assert_eq!(world.versions(), ["V1"]);
    world.push();
    world.device.downloading(0, 300, SIZE);
    world.settle();
    world.fetched("-");
    assert_eq!(world.steps(), [27, 100]);
    assert_eq!(world.versions(), ["V1", "V2"]);
    let (topic, progress) = &world.published[1];
    assert_eq!(topic, "ota/device/progress");
    assert_eq!(progress["module"], "mcu");
}

#[test]
fn release_1_never_tells_a_version() {
    let mut world = thingspanel(ThingsPanel1, None);
    world.push();
    world.fetched("-");
    assert_eq!(world.steps(), [100]);
    assert!(world.versions().is_empty());
    assert_eq!(world.published[0].0, "ota/devices/progress");
    assert_eq!(world.device.ending(), Some(Ending::Upgraded));
}

#[test]
fn failures_of_thingspanel_are_steps_below_zero() {
    let ends = |fault| {
        let mut world = thingspanel(ThingsPanel1, Some(fault));
        world.push();
        match fault {
            Fault::BrokenDownload => world.download_fails(&DownloadFailure::Cut { received: 1 }),
            Fault::CorruptDownload => world.fetched("-"),
            _ => {}
        }
        world.steps()
    };
    assert_eq!(ends(Fault::BrokenDownload), [-2]);
    assert_eq!(ends(Fault::CorruptDownload), [-3]);
    assert_eq!(ends(Fault::Refuses(4)), [-4]);
    // without a fault it resumes
    let mut world = thingspanel(ThingsPanel1, None);
    world.push();
    world.download_fails(&DownloadFailure::Cut { received: 9 });
    world.pass();
    assert_eq!(world.request.unwrap().from, 9);
}

#[test]
fn a_push_may_take_only_when_it_is_repeated() {
    let mut world = thingspanel(ThingsPanel05, Some(Fault::OldVersionFirst(2)));
    for _ in 0..2 {
        world.push();
        assert_eq!(world.request, None);
    }
    assert_eq!(world.versions(), ["V1", "V1", "V1"]);
    world.push();
    world.fetched("-");
    assert_eq!(world.versions().last(), Some(&"V2"));
}

#[test]
fn a_device_that_restarts_reports_as_its_kit_does() {
    let mut spec = Spec::new("d1", IotdaV2, "V1");
    (spec.client, spec.restarts) = (Client::Java, true);
    let mut java = World::new(spec);
    java.offer("firmware_upgrade");
    java.fetched(SHA256);
    assert_eq!(java.connects.len(), 2);
    assert_eq!(java.reports(), [report(0, 100, "V1"), report(0, 100, "V2")]);

    let mut spec = Spec::new("n1", ThingsPanel05, "V1");
    spec.restarts = true;
    let mut panel = World::new(spec);
    panel.push();
    panel.fetched("-");
    assert_eq!((panel.connects.len(), panel.steps()), (2, vec![100]));
    assert_eq!(panel.versions(), ["V1", "V2"]);
}

#[test]
fn whoever_is_not_let_in_tries_again() {
    let mut spec = Spec::new("d1", Iotda, "V1");
    spec.fault = Some(Fault::WrongSecret);
    let mut device = Device::new(spec);
    device.start(0);
    for attempt in 0..3 {
        assert!(!device.is_settled(), "{attempt}");
        let Some(Output::Connect(connect)) = device.poll_output() else {
            panic!("it connects");
        };
        let right = crate::mqtt::iotda::password("d1-secret", "1970010100");
        assert_ne!(connect.password, Some(Secret(right)));
        let at_ms = device.poll_timeout().unwrap_or(0);
        device.refused(at_ms, 5);
        let next_ms = device.poll_timeout().unwrap();
        assert!(next_ms >= at_ms + 3_000, "{next_ms}");
        device.handle_timeout(next_ms);
    }
    assert!(device.is_settled());
}

#[test]
fn nonsense_changes_nothing() {
    let mut world = iotda(Client::Python, None);
    let before = world.published.len();
    let topic = "$oc/devices/d1/sys/events/down";
    for (topic, payload) in [
        (topic, &b"\xff\xfe"[..]),
        (topic, b"{}"),
        (topic, b"[1,2]"),
        ("$oc/devices/other/sys/events/down", b"{\"services\":[]}"),
        ("", b""),
    ] {
        world.device.message(0, topic, payload);
    }
    world.settle();
    assert_eq!(world.published.len(), before);
    // an event without services is one
    assert_eq!(world.device.report().counters.malformed, 4);
}
