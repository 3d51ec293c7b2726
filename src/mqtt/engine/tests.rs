mod broker;
mod downloads;
mod gateways;
mod hostile;
mod iotda;
mod leaving;
mod packages;
mod quecthing;
mod restart;
mod slots;
mod thingspanel;

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    engine::Command,
    grants::Served as ServedBytes,
    ledger::{
        ActiveUpgrade, DeviceRecord, Evidence, Failure, Further, Happened, Lane, Outcome,
        PackageId, Progress, Protocol, RetryPolicy, Served, Stage, StageChange, Standby,
        StopReason, Success, TaskId, UpgradeOrder,
    },
    mqtt::endpoint::{Ending, Event, Style, Uplink, Version as MqttVersion},
    package::{
        CheckCodeKind, Fits, HttpPackage, Package, PcpOffer, SegmentFrames, Segmentation, Version,
    },
    session::{GateOrder, GateRequest, Offer, Offers, Presence},
};

const DEVICE: &str = "meter-1";
const SIZE: u64 = 1_000;
const SHA256: &str = "cd2eb0837c9b4c962c22d2ff8b5441b7b45805887f051d39bf133b583baf6860";

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn package(text: &str) -> Package {
    let content = vec![7; 1_000];
    let segmentation = Segmentation::choose(SIZE, Some(100), false).unwrap();
    Package::over_pcp(
        PcpOffer {
            version: pcp::Version::new(text).unwrap(),
            check_code: CheckCodeKind::Crc.apply(pcp::checksum(&content)),
            segmentation,
        },
        SegmentFrames::build(&content, segmentation).unwrap(),
    )
}

fn offers() -> Arc<Offers> {
    let http = HttpPackage {
        sha256: SHA256.into(),
    };
    let package = package("V2").and_over_http(http);
    Arc::new(Offers::only(PackageId(3), Arc::new(package)))
}

fn order() -> UpgradeOrder {
    UpgradeOrder {
        upgrade: UpgradeId(7),
        task: TaskId(5),
        endpoint: DEVICE.into(),
        served: Served::first(PackageId(3)),
        hardware: None,
        attempt: 1,
        retry: RetryPolicy::default(),
        kept_awake: Standby::default(),
        begun_at: None,
        back: None,
        further: crate::ledger::Further::NONE,
    }
}

fn ids() -> DeviceIds {
    DeviceIds::new([9; 32])
}

fn id() -> DeviceId {
    ids().of(DEVICE)
}

/// An engine, and everything that came out of it.
struct World {
    engine: Engine,
    now: Now,
    changes: Vec<Change>,
    outs: Vec<(Out, Seq)>,
    newest: Seq,
    /// The store commits nothing.
    stalled: bool,
    connections: u32,
    protocol: Protocol,
    /// What `serve` has said last.
    served_bytes: u64,
    /// What the gate was told.
    asks: Vec<GateRequest>,
}

impl World {
    fn of(protocol: Protocol) -> Self {
        Self::with(protocol, Config::default())
    }

    fn with(protocol: Protocol, config: Config) -> Self {
        let now = Now {
            instant: Instant::from_millis(1_000_000_000),
            utc: UtcMillis(1_800_000_000_000),
        };
        let mut world = Self::begun(protocol, config, now);
        world.command(Command::AddDevice {
            endpoint: DEVICE.into(),
            product: "meters".into(),
            secure: false,
            protocol,
            via: crate::ledger::Via::Itself,
        });
        world
    }

    fn begun(protocol: Protocol, config: Config, now: Now) -> Self {
        let setup = Setup {
            config: Arc::new(config),
            ids: ids(),
            token_key: [3; 32],
        };
        let mut engine = Engine::new(setup, now);
        engine.serve_at(Links::new("https://updates.example.com", true).unwrap());
        Self {
            engine,
            now,
            changes: Vec::new(),
            outs: Vec::new(),
            newest: 0,
            stalled: false,
            connections: 0,
            protocol,
            served_bytes: 0,
            asks: Vec::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Persist { seq, change } => {
                    assert_eq!(seq, self.newest + 1);
                    self.newest = seq;
                    self.changes.push(change);
                }
                Effect::Out { out, after } => {
                    assert!(after <= self.newest);
                    self.outs.push((out, after));
                }
                Effect::Report(_) | Effect::Left(_) => {}
                Effect::Ask(ask) => self.asks.push(ask.request),
            }
        }
        if !self.stalled {
            self.engine.committed(self.newest);
        }
    }

    fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
        self.drain();
    }

    fn start(&mut self) {
        self.command(Command::Start {
            order: order(),
            offers: offers(),
        });
    }

    fn after(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= until.instant) {
            self.now = self.now + at.since(self.now.instant);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn event(&mut self, event: Event) {
        self.engine.handle_event(self.now, event);
        self.drain();
    }

    fn conn(&self) -> ConnId {
        ConnId {
            slot: 0,
            generation: self.connections,
        }
    }

    fn connect(&mut self) {
        self.connections += 1;
        let conn = self.conn();
        let style = match self.protocol {
            Protocol::ThingsPanel => Style::ThingsPanel,
            Protocol::QuecThing => Style::QuecThing,
            _ => Style::Iotda,
        };
        self.event(Event::Connected {
            device: id(),
            conn,
            style,
            version: MqttVersion::V311,
            peer: SocketAddr::from(([10, 0, 0, 1], 4_000)),
            client_id: "meter".into(),
            took_over: false,
        });
    }

    fn disconnect(&mut self) {
        let conn = self.conn();
        self.event(Event::Disconnected {
            device: id(),
            conn,
            why: Ending::Lost,
        });
    }

    fn subscribe(&mut self, release: Release) {
        self.event(Event::Subscribed {
            device: id(),
            downlink: Downlink::Push,
            release: Some(release),
        });
    }

    fn says(&mut self, uplink: Uplink, payload: &Value) {
        self.event(Event::Message {
            device: id(),
            uplink,
            payload: payload.to_string().into(),
            ack: None,
        });
    }

    fn says_event(&mut self, event_type: &str, paras: &Value) {
        let payload = json!({
            "object_device_id": DEVICE,
            "services": [{"service_id": "$ota", "event_type": event_type, "event_time": "", "paras": paras}],
        });
        self.says(Uplink::Events { gzip: false }, &payload);
    }

    fn tells(&mut self, version: &str) {
        let paras = json!({"fw_version": version, "sw_version": version});
        self.says_event("version_report", &paras);
    }

    fn reports(&mut self, code: i32, progress: u8, version: &str) {
        let paras = json!({
            "result_code": code, "progress": progress, "version": version, "description": "as it is",
        });
        self.says_event("upgrade_progress_report", &paras);
    }

    fn publishes(&mut self, uplink: Uplink, payload: Vec<u8>) {
        self.event(Event::Message {
            device: id(),
            uplink,
            payload: payload.into(),
            ack: None,
        });
    }

    /// The same, as it was sent.
    fn published_bytes(&mut self) -> Vec<Bytes> {
        let outs = std::mem::take(&mut self.outs);
        let payloads = outs.into_iter().filter_map(|(out, _)| match out {
            Out::Publish { payload, .. } => Some(payload),
            _ => None,
        });
        payloads.collect()
    }

    /// What was published to the device since this was asked last.
    fn published(&mut self) -> Vec<Value> {
        let outs = std::mem::take(&mut self.outs);
        let payloads = outs.into_iter().filter_map(|(out, _)| match out {
            Out::Publish { payload, .. } => Some(serde_json::from_slice(&payload).unwrap()),
            _ => None,
        });
        payloads.collect()
    }

    fn granted(&self) -> Grant {
        let mut grants = self.outs.iter().filter_map(|(out, _)| match out {
            Out::Grant(grant) => Some((**grant).clone()),
            _ => None,
        });
        grants.next().expect("something was granted")
    }

    /// The device has acknowledged so much of the package, all in all.
    fn serve(&mut self, token: &Token, bytes: u64) {
        self.serve_with(token, bytes, false);
    }

    /// The same; the rest may be on its way.
    fn serve_with(&mut self, token: &Token, bytes: u64, in_flight: bool) {
        let more_bytes = bytes.saturating_sub(std::mem::replace(&mut self.served_bytes, bytes));
        let served = ServedBytes {
            device: id(),
            upgrade: UpgradeId(7),
            task: TaskId(5),
            token: token.clone(),
            contiguous_bytes: bytes,
            whole: bytes == SIZE,
            in_flight,
            more_bytes,
            over: false,
        };
        self.engine.served(self.now, &served);
        self.drain();
    }

    fn stage(&self) -> Option<Stage> {
        self.engine.stage(id())
    }

    fn outcome(&self) -> Option<Outcome> {
        self.changes.iter().rev().find_map(|change| match change {
            Change::Ended { outcome, .. } => Some(outcome.clone()),
            _ => None,
        })
    }

    fn told(&self) -> Vec<String> {
        let lines = self.changes.iter().filter_map(|change| match change {
            Change::Stage {
                line: Some(line), ..
            }
            | Change::Note { line, .. } => Some(line.parts().0),
            _ => None,
        });
        lines.collect()
    }
}

fn kinds(published: &[Value]) -> Vec<String> {
    let kinds = published.iter().map(|it| {
        let kind = it["services"][0]["event_type"].as_str().unwrap_or("push");
        kind.to_owned()
    });
    kinds.collect()
}
