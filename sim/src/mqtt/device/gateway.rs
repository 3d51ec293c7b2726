//! A gateway: a device with others behind it, which have no connection of their own.
//!
//! Each of these is a [`Device`] itself. What it would connect for is there as long as the gateway is connected; what it
//! publishes leaves on the gateway's topic; what it downloads the gateway fetches, for one after the other.

use std::collections::VecDeque;

use super::{Device, DownloadFailure, Fetched, Line, Output, Request, Timer};
use crate::mqtt::{fault::Fault, iotda, spec::Spec};

/// The devices behind a gateway.
#[derive(Debug, Clone)]
pub(super) struct Behind {
    devices: Vec<Device>,
    /// Downloads that wait for their turn.
    waiting: VecDeque<(usize, Request)>,
    /// Whose download is under way.
    current: Option<usize>,
    /// Of whose package a part may be there.
    partial_of: Option<usize>,
    /// The gateway's own fault has struck.
    struck: bool,
    /// Those that are behind it no more: it says so until that is answered.
    gone: Vec<String>,
}

/// Devices that are named in one message at most.
const MOST_NAMED: usize = 50;

impl Behind {
    /// Those of a gateway; `None` for any other device.
    pub(super) fn of(spec: &Spec) -> Option<Box<Self>> {
        (!spec.behind.is_empty()).then(|| {
            Box::new(Self {
                devices: spec.behind.iter().cloned().map(Device::new).collect(),
                waiting: VecDeque::new(),
                current: None,
                partial_of: None,
                struck: false,
                gone: Vec::new(),
            })
        })
    }
}

impl Device {
    /// The device, or if it is a gateway those behind it: what there is to upgrade.
    pub fn upgradable(&self) -> impl Iterator<Item = &Self> {
        let own = self.behind.is_none().then_some(self);
        let behind = self.behind.iter().flat_map(|behind| &behind.devices);
        own.into_iter().chain(behind)
    }

    /// Whether others are behind it.
    pub const fn is_gateway(&self) -> bool {
        self.behind.is_some()
    }

    /// When one of those behind it has something to do.
    pub(super) fn behind_due(&self) -> Option<u64> {
        let behind = self.behind.iter().flat_map(|behind| &behind.devices);
        behind.filter_map(Self::poll_timeout).min()
    }

    /// Something happens to each of those behind it.
    pub(super) fn each_behind(&mut self, now_ms: u64, mut what: impl FnMut(&mut Self)) {
        let Some(behind) = &mut self.behind else {
            return;
        };
        behind.devices.iter_mut().for_each(&mut what);
        self.serve_behind(now_ms);
    }

    /// The gateway is connected: it asks which devices it has, and says which are there.
    pub(super) fn gateway_connected(&mut self, now_ms: u64) {
        if !self.is_gateway() {
            return;
        }
        let time = self.event_time(now_ms);
        let asks = iotda::sync_request(&self.spec.device, &time);
        self.event(asks);
        self.tell_who_is_behind(now_ms);
        let behind = self.behind.iter().flat_map(|behind| &behind.devices);
        let there = behind.filter(|it| it.line == Line::Connecting);
        let there: Vec<(String, bool)> = there.map(|it| (it.spec.device.clone(), true)).collect();
        self.tell_status(now_ms, &there);
        self.each_behind(now_ms, |it| {
            if it.line == Line::Connecting {
                it.connected(now_ms);
            }
        });
    }

    /// The gateway has lost its connection, or has ended it.
    pub(super) fn gateway_lost(&mut self, now_ms: u64) {
        self.each_behind(now_ms, |it| {
            if it.line == Line::Up {
                it.disconnected(now_ms);
            }
        });
    }

    /// Takes one of those behind it away, as when it is wired to another gateway. What it was downloading is lost with the gateway;
    /// what it is installing goes on.
    pub fn take_from_behind(&mut self, now_ms: u64, name: &str) -> Option<Self> {
        let behind = self.behind.as_deref_mut()?;
        let index = (behind.devices.iter()).position(|it| it.spec.device == name)?;
        let mut device = behind.devices.remove(index);
        let shifted = |of: usize| of - usize::from(of > index);
        behind.waiting.retain(|(of, _)| *of != index);
        for (of, _) in &mut behind.waiting {
            *of = shifted(*of);
        }
        let partial = behind.partial_of.filter(|of| *of != index);
        behind.partial_of = partial.map(shifted);
        behind.gone.push(name.to_owned());
        let stops = behind.current == Some(index);
        let current = behind.current.filter(|of| *of != index);
        behind.current = current.map(shifted);
        if stops {
            self.outputs.push_back(Output::StopDownload);
        }
        device.loses_gateway(now_ms);
        if self.line == Line::Up {
            self.tell_status(now_ms, &[(name.to_owned(), false)]);
            self.tell_who_is_behind(now_ms);
        }
        self.serve_behind(now_ms);
        Some(device)
    }

    /// Puts a device behind it that was taken from another gateway.
    pub fn put_behind(&mut self, now_ms: u64, device: Self) {
        if let Some(behind) = &mut self.behind {
            behind.gone.retain(|name| *name != device.spec.device);
            behind.devices.push(device);
        }
        if self.line == Line::Up {
            self.tell_who_is_behind(now_ms);
        }
        self.serve_behind(now_ms);
    }

    /// Says who is behind it, and who is not any more, where it is for the gateway to say that.
    pub(super) fn tell_who_is_behind(&mut self, now_ms: u64) {
        if !self.spec.tells_who_is_behind {
            return;
        }
        let Some(behind) = &mut self.behind else {
            return;
        };
        let gone = behind.gone.clone();
        let names = behind.devices.iter().map(|it| it.spec.device.clone());
        let there: Vec<String> = names.collect();
        let time = self.event_time(now_ms);
        for gone in gone.chunks(MOST_NAMED) {
            self.event(iotda::deletes(&self.spec.device, &time, gone));
        }
        for there in there.chunks(MOST_NAMED) {
            self.event(iotda::adds(&self.spec.device, &time, there));
        }
    }

    fn tell_status(&mut self, now_ms: u64, told: &[(String, bool)]) {
        if !told.is_empty() {
            let time = self.event_time(now_ms);
            let status = iotda::status(&self.spec.device, &time, told);
            self.event(status);
        }
    }

    /// Whether the message is for one behind it, which has it then.
    pub(super) fn behind_message(&mut self, now_ms: u64, topic: &str, payload: &[u8]) -> bool {
        if topic != iotda::topic_down(&self.spec.device) {
            return false;
        }
        if self.spec.tells_who_is_behind && iotda::refuses_to_add(payload) {
            // another gateway may not have said yet that it is behind that no more
            self.set(Timer::Tell, now_ms, self.spec.timing.outage_ms);
            return true;
        }
        if let Some((done, again)) = iotda::deleted(payload) {
            if let Some(behind) = &mut self.behind {
                behind.gone.retain(|name| !done.contains(name));
            }
            if again {
                self.set(Timer::Tell, now_ms, self.spec.timing.outage_ms);
            }
            return true;
        }
        let Some(about) = iotda::object(payload) else {
            return false;
        };
        let Some(behind) = &mut self.behind else {
            return false;
        };
        let mut devices = behind.devices.iter_mut();
        let Some(device) = devices.find(|it| it.spec.device == about) else {
            return false;
        };
        device.message(now_ms, &iotda::topic_down(&about), payload);
        self.serve_behind(now_ms);
        true
    }

    /// So much of the package of one behind it is there.
    pub(super) fn behind_downloading(&mut self, now_ms: u64, received: u64, size: u64) {
        let strikes = self.spec.fault == Some(Fault::DropsInDownload);
        let Some(behind) = &mut self.behind else {
            return;
        };
        let Some(device) = behind.current.and_then(|it| behind.devices.get_mut(it)) else {
            return;
        };
        if strikes && !behind.struck && received >= size / 2 {
            // it restarts, and begins the download anew when it is back
            behind.struck = true;
            device.begin_download_anew();
            (behind.current, behind.partial_of) = (None, None);
            self.outputs.push_back(Output::StopDownload);
            return self.leave(now_ms, self.spec.timing.restart_ms, false);
        }
        device.downloading(now_ms, received, size);
        self.serve_behind(now_ms);
    }

    /// The download for one behind it has ended.
    pub(super) fn behind_downloaded(
        &mut self,
        now_ms: u64,
        result: Result<&Fetched, &DownloadFailure>,
    ) {
        let Some(behind) = &mut self.behind else {
            return;
        };
        let current = behind.current.take();
        if let Some(device) = current.and_then(|it| behind.devices.get_mut(it)) {
            match result {
                Ok(fetched) => device.downloaded(now_ms, fetched),
                Err(failure) => device.download_failed(now_ms, failure),
            }
        }
        self.serve_behind(now_ms);
    }

    /// Does for those behind it what they want done.
    fn serve_behind(&mut self, now_ms: u64) {
        let Some(mut behind) = self.behind.take() else {
            return;
        };
        for (index, device) in behind.devices.iter_mut().enumerate() {
            while let Some(output) = device.poll_output() {
                match output {
                    Output::Connect(_) if self.line == Line::Up => {
                        let there = [(device.spec.device.clone(), true)];
                        self.tell_status(now_ms, &there);
                        device.connected(now_ms);
                    }
                    // when the gateway is connected, or never
                    Output::Connect(_) | Output::Subscribe { .. } => {}
                    Output::Disconnect { .. } => {
                        let gone = [(device.spec.device.clone(), false)];
                        if self.line == Line::Up {
                            self.tell_status(now_ms, &gone);
                        }
                    }
                    Output::Publish { payload, .. } => self.event(payload),
                    Output::Download(request) => behind.waiting.push_back((index, request)),
                    Output::StopDownload => {
                        behind.waiting.retain(|(of, _)| *of != index);
                        if behind.current == Some(index) {
                            behind.current = None;
                            self.outputs.push_back(Output::StopDownload);
                        }
                    }
                }
            }
        }
        // one that is restarting downloads nothing
        if behind.current.is_none()
            && self.line == Line::Up
            && let Some((index, mut request)) = behind.waiting.pop_front()
        {
            if behind.partial_of.replace(index) != Some(index) {
                request.from = 0;
            }
            behind.current = Some(index);
            self.outputs.push_back(Output::Download(request));
        }
        self.behind = Some(behind);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mqtt::Style;

    fn gateway(fault: Option<Fault>) -> Device {
        gateway_of(fault, None)
    }

    /// With the devices `a`, which has this fault, and `b`.
    fn gateway_of(fault: Option<Fault>, of_a: Option<Fault>) -> Device {
        let mut spec = Spec::new("gw", Style::Iotda, "V1");
        spec.fault = fault;
        spec.behind = ["a", "b"]
            .map(|name| Spec::new(name, Style::Iotda, "V1"))
            .to_vec();
        spec.behind[0].fault = of_a;
        let mut gateway = Device::new(spec);
        gateway.start(0);
        assert!(matches!(outputs(&mut gateway)[..], [Output::Connect(_)]));
        gateway.connected(1);
        gateway
    }

    fn outputs(gateway: &mut Device) -> Vec<Output> {
        std::iter::from_fn(|| gateway.poll_output()).collect()
    }

    /// What was published: of whom, and which event.
    fn told(outputs: &[Output]) -> Vec<(String, String)> {
        let told = outputs.iter().filter_map(|output| match output {
            Output::Publish { topic, payload, .. } => {
                assert_eq!(topic, "$oc/devices/gw/sys/events/up");
                let it: Value = serde_json::from_slice(payload).unwrap();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let kind = text(&it["services"][0]["event_type"]);
                Some((text(&it["object_device_id"]), kind))
            }
            _ => None,
        });
        told.collect()
    }

    /// Which devices are said to be behind it no more.
    fn gone(outputs: &[Output]) -> Vec<String> {
        let deletes = outputs.iter().filter_map(|output| {
            let Output::Publish { payload, .. } = output else {
                return None;
            };
            let it: Value = serde_json::from_slice(payload).unwrap();
            let service = &it["services"][0];
            (service["event_type"] == "delete_sub_device_request")
                .then(|| service["paras"]["devices"].as_array().unwrap().clone())
        });
        let names = deletes.flatten();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }

    fn is_sent(gateway: &mut Device, at_ms: u64, object: &str, kind: &str, paras: &Value) {
        let event =
            json!({"service_id": "$ota", "event_type": kind, "event_time": "", "paras": paras});
        let message = json!({"object_device_id": object, "services": [event]});
        let payload = message.to_string().into_bytes();
        gateway.message(at_ms, "$oc/devices/gw/sys/events/down", &payload);
    }

    fn offer() -> Value {
        json!({"url": "http://h:1/p", "version": "V2", "file_size": 100, "access_token": "t", "sign": ""})
    }

    fn whole() -> Fetched {
        Fetched {
            bytes: 100,
            sha256: String::new(),
            md5: String::new(),
        }
    }

    #[test]
    fn it_asks_for_its_devices_and_answers_for_each_but_not_for_itself() {
        let mut gateway = gateway(None);
        let first = told(&outputs(&mut gateway));
        for kind in ["sub_device_sync_request", "sub_device_update_status"] {
            assert!(
                first.contains(&("gw".to_owned(), kind.to_owned())),
                "{first:?}"
            );
        }
        is_sent(&mut gateway, 2, "b", "version_query", &json!({}));
        let answers = told(&outputs(&mut gateway));
        assert_eq!(answers, [("b".to_owned(), "version_report".to_owned())]);
        is_sent(&mut gateway, 2, "gw", "version_query", &json!({}));
        is_sent(&mut gateway, 2, "c", "version_query", &json!({}));
        assert_eq!(outputs(&mut gateway), []);
    }

    #[test]
    fn it_downloads_for_one_after_the_other_and_reports_for_each() {
        let mut gateway = gateway(None);
        outputs(&mut gateway);
        is_sent(&mut gateway, 2, "a", "firmware_upgrade", &offer());
        is_sent(&mut gateway, 2, "b", "firmware_upgrade", &offer());
        assert!(matches!(outputs(&mut gateway)[..], [Output::Download(_)]));
        gateway.downloaded(3, &whole());
        assert!(matches!(outputs(&mut gateway)[..], [Output::Download(_)]));
        gateway.downloaded(4, &whole());
        assert!(!gateway.is_settled());
        gateway.handle_timeout(10_000);
        let reports = told(&outputs(&mut gateway));
        for name in ["a", "b"] {
            let report = (name.to_owned(), "upgrade_progress_report".to_owned());
            assert!(reports.contains(&report), "{reports:?}");
        }
        assert!(gateway.is_settled());
        assert!(gateway.upgradable().all(|it| it.version() == "V2"));
    }

    #[test]
    fn one_that_restarts_in_a_download_begins_it_anew() {
        let mut gateway = gateway(Some(Fault::DropsInDownload));
        outputs(&mut gateway);
        is_sent(&mut gateway, 2, "a", "firmware_upgrade", &offer());
        is_sent(&mut gateway, 2, "b", "firmware_upgrade", &offer());
        outputs(&mut gateway);
        gateway.downloading(3, 60, 100);
        let broken = outputs(&mut gateway);
        assert!(broken.contains(&Output::StopDownload), "{broken:?}");
        assert!(broken.contains(&Output::Disconnect { orderly: false }));
        // nor does it download for the other one meanwhile
        let downloads = |it: &Output| matches!(it, Output::Download(_));
        assert!(!broken.iter().any(downloads), "{broken:?}");
        gateway.handle_timeout(30_000);
        gateway.connected(30_001);
        let again = outputs(&mut gateway);
        let anew = |it: &Output| matches!(it, Output::Download(request) if request.from == 0);
        assert!(again.iter().any(anew), "{again:?}");
    }

    #[test]
    fn one_that_has_the_package_reports_success_at_once_and_says_that_the_device_restarts() {
        let mut gateway = gateway_of(None, Some(Fault::SuccessAtOnce));
        outputs(&mut gateway);
        is_sent(&mut gateway, 2, "a", "firmware_upgrade", &offer());
        let at_once = outputs(&mut gateway);
        let is_download = |it: &Output| matches!(it, Output::Download(_));
        assert!(!at_once.iter().any(is_download), "{at_once:?}");
        let status = ("gw".to_owned(), "sub_device_update_status".to_owned());
        let report = ("a".to_owned(), "upgrade_progress_report".to_owned());
        assert_eq!(told(&at_once), [report, status.clone()]);
        gateway.handle_timeout(10_000);
        let back = told(&outputs(&mut gateway));
        assert!(back.contains(&status), "{back:?}");
        is_sent(&mut gateway, 10_001, "a", "version_query", &json!({}));
        let answer = outputs(&mut gateway);
        let payload = |it: &Output| match it {
            Output::Publish { payload, .. } => String::from_utf8(payload.clone()).unwrap(),
            other => panic!("no message: {other:?}"),
        };
        assert!(payload(&answer[0]).contains("V2"));
    }

    #[test]
    fn a_device_that_moves_loses_its_download_and_is_served_by_its_new_gateway() {
        let (mut old, mut new) = (gateway(None), gateway(None));
        new.take_from_behind(2, "a");
        outputs(&mut old);
        outputs(&mut new);
        is_sent(&mut old, 3, "a", "firmware_upgrade", &offer());
        is_sent(&mut old, 3, "b", "firmware_upgrade", &offer());
        outputs(&mut old);
        let moved = old.take_from_behind(4, "a").unwrap();
        let left = outputs(&mut old);
        assert!(left.contains(&Output::StopDownload), "{left:?}");
        // that of the other one begins
        assert!(matches!(left.last(), Some(Output::Download(_))), "{left:?}");
        old.downloaded(5, &whole());
        new.put_behind(5, moved);
        new.handle_timeout(60_000);
        let status = ("gw".to_owned(), "sub_device_update_status".to_owned());
        assert!(told(&outputs(&mut new)).contains(&status));
        is_sent(&mut new, 60_001, "a", "firmware_upgrade", &offer());
        assert!(matches!(outputs(&mut new)[..], [Output::Download(_)]));
        old.handle_timeout(60_000);
        let versions = |it: &Device| {
            it.upgradable()
                .map(|it| it.version().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(versions(&old), ["V2"]);
        assert_eq!(versions(&new), ["V1", "V1"]);
    }

    #[test]
    fn one_that_says_who_is_behind_it_says_so_again_where_that_was_refused() {
        let mut spec = Spec::new("gw", Style::Iotda, "V1");
        spec.behind = vec![Spec::new("a", Style::Iotda, "V1")];
        spec.tells_who_is_behind = true;
        let mut gateway = Device::new(spec);
        gateway.start(0);
        outputs(&mut gateway);
        gateway.connected(1);
        let adds = ("gw".to_owned(), "add_sub_device_request".to_owned());
        assert!(told(&outputs(&mut gateway)).contains(&adds));
        let refusal = json!({"object_device_id": "gw", "services": [{
            "service_id": "$sub_device_manager", "event_type": "add_sub_device_response", "event_time": "",
            "paras": {"successful_devices": [], "failed_devices": [{"device_id": "a", "error_code": "OTHERS_CHILD"}]},
        }]});
        let topic = "$oc/devices/gw/sys/events/down";
        gateway.message(2, topic, refusal.to_string().as_bytes());
        assert_eq!(outputs(&mut gateway), []);
        gateway.handle_timeout(60_000);
        assert!(told(&outputs(&mut gateway)).contains(&adds));
        gateway.take_from_behind(60_001, "a").unwrap();
        let deletes = ("gw".to_owned(), "delete_sub_device_request".to_owned());
        assert!(told(&outputs(&mut gateway)).contains(&deletes));
    }

    #[test]
    fn one_that_says_who_is_gone_says_so_until_that_is_answered() {
        let mut spec = Spec::new("gw", Style::Iotda, "V1");
        spec.behind = ["a", "b", "c"]
            .map(|name| Spec::new(name, Style::Iotda, "V1"))
            .to_vec();
        spec.tells_who_is_behind = true;
        let mut gateway = Device::new(spec);
        gateway.start(0);
        gateway.connected(1);
        outputs(&mut gateway);
        gateway.take_from_behind(2, "a").unwrap();
        gateway.take_from_behind(2, "b").unwrap();
        outputs(&mut gateway); // lost with the connection
        gateway.disconnected(3);
        gateway.handle_timeout(60_000);
        gateway.connected(60_000);
        assert_eq!(gone(&outputs(&mut gateway)), ["a", "b"]);
        let answer = |done: &[&str], refused: &[(&str, &str)]| {
            let refused: Vec<Value> = (refused.iter())
                .map(|(name, code)| json!({"device_id": name, "error_code": code}))
                .collect();
            let service = json!({
                "service_id": "$sub_device_manager", "event_type": "delete_sub_device_response", "event_time": "",
                "paras": {"successful_devices": done, "failed_devices": refused},
            });
            let payload = json!({"object_device_id": "gw", "services": [service]});
            payload.to_string().into_bytes()
        };
        let topic = "$oc/devices/gw/sys/events/down";
        gateway.message(60_001, topic, &answer(&["a"], &[("b", "TRY_LATER")]));
        assert_eq!(outputs(&mut gateway), []);
        gateway.handle_timeout(120_000);
        assert_eq!(gone(&outputs(&mut gateway)), ["b"]);
        // it is another gateway's by now
        gateway.message(120_001, topic, &answer(&[], &[("b", "UNKNOWN_DEVICE")]));
        gateway.take_from_behind(120_002, "c").unwrap();
        assert_eq!(gone(&outputs(&mut gateway)), ["c"]);
    }

    #[test]
    fn a_device_that_its_gateway_has_lost_is_not_heard_of_again() {
        let mut gateway = gateway_of(None, Some(Fault::LostChild));
        outputs(&mut gateway);
        is_sent(&mut gateway, 2, "a", "version_query", &json!({}));
        assert_eq!(told(&outputs(&mut gateway)).len(), 1);
        is_sent(&mut gateway, 3, "a", "firmware_upgrade", &offer());
        is_sent(&mut gateway, 4, "a", "version_query", &json!({}));
        gateway.handle_timeout(60_000);
        assert_eq!(outputs(&mut gateway), []);
        gateway.disconnected(60_001);
        gateway.handle_timeout(90_000);
        gateway.connected(90_001);
        let status = outputs(&mut gateway);
        let of_a = status.iter().any(|it| {
            matches!(it, Output::Publish { payload, .. } if payload.windows(3).any(|it| it == b"\"a\""))
        });
        assert!(!of_a, "{status:?}");
    }
}
