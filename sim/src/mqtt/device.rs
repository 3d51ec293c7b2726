//! One device: what it says over MQTT, and what it downloads.
//!
//! Whoever drives a device calls [`Device::start`] once, tells it what happens to its connection and its download, and
//! the time; after each of these it carries out what [`Device::poll_output`] yields and comes back at
//! [`Device::poll_timeout`]. The same seed and the same inputs give the same device.
//!
//! While [`Device::is_blocked`], the driver reads nothing from the connection and lets [`Link`](super::Link) send
//! nothing: such a device downloads on the thread that serves its connection.

mod gateway;
mod iotda;
mod quecthing;
mod report;
mod thingspanel;
mod upgrade;

use std::collections::VecDeque;

use jiff::{Timestamp, tz::TimeZone};

pub use report::{Counters, Ending, Report};

use super::{
    fault::Fault,
    spec::{Secret, Spec},
    style::{Client, Style},
};
use crate::rng::Rng;
use gateway::Behind;
use upgrade::Upgrade;

/// How often the other device with the same client ID kicks this one out.
const KICKS: u32 = 10;
/// After so many refusals nothing more is expected of a device with a wrong secret.
const REFUSALS: u64 = 3;

/// What the device opens a connection with. MQTT 3.1.1, clean session, no will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Client ID.
    pub client_id: String,
    /// User name.
    pub user_name: String,
    /// Password.
    pub password: Option<Secret>,
    /// Keep-alive, seconds.
    pub keep_alive_s: u16,
}

/// A download over HTTP(S).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub url: String,
    /// The access token, for `Authorization`.
    pub bearer: Option<Secret>,
    /// The first byte that is asked for; above 0 it is asked for by a Range, and what was downloaded before is kept.
    pub from: u64,
    /// The connection is broken off once so many bytes have come.
    pub stop_after: Option<u64>,
    /// Whether the request is written by hand, as IoTDA's C kit does.
    pub by_hand: bool,
}

/// A download that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its size.
    pub bytes: u64,
    /// In lower-case hexadecimal digits.
    pub sha256: String,
    /// In lower-case hexadecimal digits.
    pub md5: String,
}

/// A download that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadFailure {
    /// No connection, or not HTTP.
    Unreachable(String),
    /// Another status than 200 or 206.
    Status(u16),
    /// It broke off with so many bytes, those of before included.
    Cut {
        /// Bytes that are there.
        received: u64,
    },
}

/// What the device wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Open a connection; answered by [`Device::connected`], [`Device::refused`] or [`Device::disconnected`].
    Connect(Connect),
    /// End the connection. The device does not wait for anything.
    Disconnect {
        /// What was published is acknowledged first, and a DISCONNECT is sent; otherwise the connection breaks.
        orderly: bool,
    },
    /// Subscribe; answered by [`Device::subscribed`].
    Subscribe {
        /// The filter.
        topic: String,
        /// Quality of service.
        qos: u8,
    },
    /// Publish.
    Publish {
        /// The topic.
        topic: String,
        /// The message.
        payload: Vec<u8>,
        /// Quality of service.
        qos: u8,
    },
    /// Download; answered by [`Device::downloading`], [`Device::downloaded`] and [`Device::download_failed`].
    Download(Request),
    /// Break the download off; it is not answered any more.
    StopDownload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// No connection is wanted, or there will be one later.
    Down,
    Connecting,
    Up,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timer {
    Connect,
    Install,
    Resume,
    /// A gateway says again who is behind it.
    Tell,
}

const TIMERS: [Timer; 4] = [Timer::Connect, Timer::Install, Timer::Resume, Timer::Tell];

/// A simulated device.
#[derive(Debug, Clone)]
pub struct Device {
    spec: Spec,
    rng: Rng,
    line: Line,
    /// When each of [`TIMERS`] rings.
    timers: [Option<u64>; 4],
    outputs: VecDeque<Output>,
    version: String,
    upgrade: Option<Upgrade>,
    /// Those behind it, if it is a gateway.
    behind: Option<Box<Behind>>,
    /// A report that is made once the device is connected again.
    owes_report: bool,
    /// Pushes that were answered with the old version.
    old_versions: u8,
    /// How often it will kick out the device that it shares its client ID with, if it is the second of them.
    twin: Option<u32>,
    message_id: u32,
    ending: Option<Ending>,
    counters: Counters,
}

impl Device {
    /// A device that is switched off.
    pub fn new(spec: Spec) -> Self {
        Self {
            rng: Rng::new(spec.seed),
            version: spec.version.clone(),
            behind: Behind::of(&spec),
            spec,
            line: Line::Down,
            timers: [None; 4],
            outputs: VecDeque::new(),
            upgrade: None,
            owes_report: false,
            old_versions: 0,
            twin: None,
            message_id: 0,
            ending: None,
            counters: Counters::default(),
        }
    }

    /// The other device with the client ID of a device with [`Fault::SharesClientId`]: it takes no upgrade, and gives
    /// up after some time.
    pub fn twin(spec: &Spec) -> Option<Self> {
        let shares = spec.fault == Some(Fault::SharesClientId);
        shares.then(|| Self::double(spec, KICKS))
    }

    /// Somebody who connects in the name of that device, takes no upgrade, and gives up once it has lost its connection so
    /// often.
    pub fn double(spec: &Spec, kicks: u32) -> Self {
        Self {
            twin: Some(kicks),
            ..Self::new(spec.clone())
        }
    }

    /// Switches the device on; it connects once its start delay has passed.
    pub fn start(&mut self, now_ms: u64) {
        self.set(Timer::Connect, now_ms, self.spec.timing.start_delay_ms);
        self.handle_timeout(now_ms);
        self.each_behind(now_ms, |it| it.start(now_ms));
    }

    /// The server has accepted the connection.
    pub fn connected(&mut self, now_ms: u64) {
        self.line = Line::Up;
        self.counters.connections += 1;
        if self.spec.style == Style::QuecThing {
            self.quecthing_subscribe();
        } else if !self.spec.style.is_iotda() {
            self.subscribe();
        } else if self.spec.on_broker {
            self.iotda_subscribe();
        } else {
            self.iotda_connected(now_ms);
            self.settled_in(now_ms);
            self.gateway_connected(now_ms);
        }
    }

    /// The server has refused the connection, with this code of its CONNACK, and closed it.
    pub fn refused(&mut self, now_ms: u64, _code: u8) {
        self.counters.refusals += 1;
        self.lost(now_ms);
    }

    /// The connection is gone, or could not be opened.
    pub fn disconnected(&mut self, now_ms: u64) {
        if self.line == Line::Down {
            return;
        }
        match self.line {
            Line::Up => self.counters.losses += 1,
            _ => self.counters.unanswered += 1,
        }
        self.lost(now_ms);
    }

    /// The subscription is there, or was refused.
    pub fn subscribed(&mut self, now_ms: u64, accepted: bool) {
        if accepted && self.spec.style.is_iotda() {
            self.iotda_connected(now_ms);
        } else if accepted && self.spec.style == Style::QuecThing {
            self.quecthing_subscribed();
        } else if accepted {
            self.thingspanel_subscribed();
        } else {
            self.counters.refused_subscriptions += 1;
        }
        self.settled_in(now_ms);
    }

    /// A message has come.
    pub fn message(&mut self, now_ms: u64, topic: &str, payload: &[u8]) {
        if self.is_lost() {
            return;
        }
        self.counters.messages += 1;
        if self.behind_message(now_ms, topic, payload) {
            return;
        }
        let understood = if self.spec.style.is_iotda() {
            self.iotda_message(now_ms, topic, payload)
        } else if self.spec.style == Style::QuecThing {
            self.quecthing_message(now_ms, topic, payload)
        } else {
            self.thingspanel_message(now_ms, topic, payload)
        };
        self.counters.malformed += u64::from(!understood);
    }

    /// Lets everything happen whose time has come.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        for (index, timer) in TIMERS.into_iter().enumerate() {
            if self.timers[index].is_none_or(|at_ms| at_ms > now_ms) {
                continue;
            }
            self.timers[index] = None;
            match timer {
                Timer::Connect => self.connect(now_ms),
                Timer::Install => self.installed(now_ms),
                Timer::Resume => self.download(),
                Timer::Tell if self.line == Line::Up => self.tell_who_is_behind(now_ms),
                Timer::Tell => {} // it does when it has connected
            }
        }
        self.each_behind(now_ms, |it| it.handle_timeout(now_ms));
    }

    /// What the device wants done next, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do, in the same milliseconds as `now_ms`.
    pub fn poll_timeout(&self) -> Option<u64> {
        let own = self.timers.iter().flatten().copied().min();
        own.into_iter().chain(self.behind_due()).min()
    }

    /// Whether nothing of the connection is served now.
    pub fn is_blocked(&self) -> bool {
        if self.is_gateway() {
            return false; // it downloads on threads of their own
        }
        let habit = self.spec.style.is_iotda() && self.spec.client == Client::Python;
        (habit || self.has(Fault::BlockedDownload)) && self.is_downloading()
    }

    /// What the device is like.
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The version that the device tells.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What became of the newest upgrade, as far as the device can tell.
    pub const fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Where the device stands.
    pub fn report(&self) -> Report {
        Report {
            connected: self.line == Line::Up,
            downloading: self.is_downloading(),
            ending: self.ending,
            settled: self.is_settled(),
            counters: self.counters,
        }
    }

    /// Whether nothing more can be expected of the device, unless it is offered another upgrade.
    pub fn is_settled(&self) -> bool {
        if self.twin.is_some() {
            return self.twin == Some(0);
        }
        if self.is_gateway() {
            return self.upgradable().all(Self::is_settled);
        }
        let waits = self.has(Fault::WrongSecret)
            && self.counters.refusals + self.counters.unanswered >= REFUSALS;
        let silent = self.has(Fault::NoVersion) && self.counters.questions > 0;
        let current = self.has(Fault::AlreadyCurrent) && self.counters.versions_told > 0;
        let ended = self.ending.is_some()
            && self.upgrade.is_none()
            && !self.owes_report
            && self.line == Line::Up;
        ended || self.is_lost() || waits || silent || current
    }

    /// Whether its gateway does not serve it any more.
    fn is_lost(&self) -> bool {
        self.has(Fault::LostChild) && self.ending.is_some()
    }

    fn has(&self, fault: Fault) -> bool {
        self.spec.fault == Some(fault)
    }

    fn set(&mut self, timer: Timer, now_ms: u64, in_ms: u64) {
        self.timers[timer as usize] = Some(now_ms.saturating_add(in_ms));
    }

    fn connect(&mut self, now_ms: u64) {
        self.line = Line::Connecting;
        let connect = if self.spec.style.is_iotda() {
            self.iotda_connect(now_ms)
        } else if self.spec.style == Style::QuecThing {
            self.quecthing_connect()
        } else {
            self.thingspanel_connect()
        };
        self.outputs.push_back(Output::Connect(connect));
    }

    /// The secret that it proves itself with.
    fn secret(&self) -> String {
        let secret = &self.spec.secret.0;
        if self.has(Fault::WrongSecret) {
            format!("not {secret}")
        } else {
            secret.clone()
        }
    }

    /// Whoever lost its connection tries again, a little later than the others.
    fn lost(&mut self, now_ms: u64) {
        self.line = Line::Down;
        if let Some(kicks) = &mut self.twin {
            *kicks = kicks.saturating_sub(1);
            if *kicks == 0 {
                return;
            }
        }
        let retry_ms = self.spec.timing.retry_ms;
        let jitter_ms = self.rng.below(retry_ms / 4 + 1);
        self.set(Timer::Connect, now_ms, retry_ms + jitter_ms);
        self.gateway_lost(now_ms);
    }

    /// Ends its own connection, and comes back after a time.
    fn leave(&mut self, now_ms: u64, for_ms: u64, orderly: bool) {
        self.line = Line::Down;
        self.outputs.push_back(Output::Disconnect { orderly });
        self.set(Timer::Connect, now_ms, for_ms);
        self.gateway_lost(now_ms);
    }

    /// Connected, and subscribed where that is needed: what was put off is done.
    fn settled_in(&mut self, now_ms: u64) {
        if std::mem::take(&mut self.owes_report) {
            self.report_success(now_ms);
        }
        self.go_on(now_ms);
    }

    /// What cannot be sent is lost: the sessions are clean, and the kits keep nothing.
    fn publish(&mut self, topic: String, payload: Vec<u8>) {
        if self.line != Line::Up {
            self.counters.lost += 1;
            return;
        }
        self.counters.published += 1;
        let qos = u8::from(self.spec.style != Style::ThingsPanel05);
        self.outputs.push_back(Output::Publish {
            topic,
            payload,
            qos,
        });
    }

    /// The device's clock, in a format of `strftime`.
    fn clock(&self, now_ms: u64, format: &str) -> String {
        let since_s = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
        let at = Timestamp::from_second(self.spec.epoch_s.saturating_add(since_s));
        at.unwrap_or_default()
            .to_zoned(TimeZone::UTC)
            .strftime(format)
            .to_string()
    }
}

#[cfg(test)]
mod tests;
