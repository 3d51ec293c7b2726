//! One device: an LwM2M client with a PCP upgrade client on top, or with one of OMA's objects for upgrades.
//!
//! The device is switched on and registers. The server observes /19/0/0, asks for the version with a
//! write to /19/1/0, and the device answers with a notification. It may read the coverage in /4/0. Then
//! it notifies a new version, and the device asks for segment after segment, reports the download, is
//! told to upgrade, restarts, registers from a new address and reports the result. What happens with objects 5, 9 and
//! 33629 is in `object`; there a device may download from a socket of its own, which is another [`Port`].
//!
//! Nothing here reads a clock or owns a socket. Whoever drives a device calls [`Device::start`] once,
//! hands in datagrams and the passing of time, and after each of these sends what
//! [`Device::poll_transmit`] yields and comes back at [`Device::poll_timeout`]:
//!
//! ```
//! # use sim::{Device, DeviceSpec};
//! let mut device = Device::new(DeviceSpec::new("meter-1", "V1.0".parse()?));
//! device.start(0);
//! let registration = device.poll_transmit().ok_or("a device registers first")?;
//! assert!(registration.windows(10).any(|bytes| bytes == b"ep=meter-1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod awaited;
mod claim;
mod held;
mod install;
mod link;
mod object;
mod port;
mod registration;
mod report;
mod resources;
mod saying;
mod timers;
mod upgrade;

use pcp::Version;

pub use port::{Destination, Port};
pub use report::{Counters, DeviceReport, DeviceState, ImageReport, Outcome};

use crate::{
    coap::{Code, Message, MessageType, Token},
    fault::Fault,
    rng::Rng,
    spec::{DeviceSpec, LifetimeWrites},
};
use link::Link;
use object::Objects;
use registration::Registration;
use timers::{Timer, Timers};
use upgrade::Upgrade;

/// A reading, as a meter sends it: anything but a PCP frame.
const SERVICE_DATA: &[u8] = b"reading=17";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Off,
    On,
    Asleep,
}

/// A simulated device; see the [module](self).
#[derive(Debug, Clone)]
pub struct Device {
    spec: DeviceSpec,
    rng: Rng,
    power: Power,
    timers: Timers,
    link: Link,
    registration: Registration,
    /// Token of the observation of /19/0/0 that holds now.
    observation: Option<Token>,
    /// Of its registration, seconds.
    lifetime_s: u32,
    /// The server is to be told of it.
    lifetime_untold: bool,
    /// Token of the first such observation ever.
    first_token: Option<Token>,
    /// Counts notifications (RFC 7641 §4.4).
    observe_number: u32,
    last_notification_id: Option<u16>,
    restarted: bool,
    address_changed: bool,
    /// What outlasts an installation, if anything does.
    kept: Option<(Registration, Option<Token>)>,
    upgrade: Upgrade,
    /// Where it is upgraded by an object of OMA's.
    object: Option<Box<Objects>>,
    counters: Counters,
}

impl Device {
    /// A device that is switched off.
    pub fn new(spec: DeviceSpec) -> Self {
        let mut rng = Rng::new(spec.seed);
        let [id_high, id_low, ..] = rng.next().to_be_bytes();
        let version = spec.version;
        let lifetime_s = spec.behaviour.lifetime_s;
        let object = Objects::of(&spec).map(Box::new);
        Self {
            spec,
            rng,
            power: Power::Off,
            timers: Timers::new(),
            link: Link::new(u16::from_be_bytes([id_high, id_low])),
            registration: Registration::Absent,
            observation: None,
            lifetime_s,
            lifetime_untold: false,
            first_token: None,
            observe_number: 0,
            last_notification_id: None,
            restarted: false,
            address_changed: false,
            kept: None,
            upgrade: Upgrade::new(version),
            object,
            counters: Counters::default(),
        }
    }

    /// Switches the device on; it registers once its start delay has passed.
    pub fn start(&mut self, now_ms: u64) {
        let delay_ms = self.spec.timing.start_delay_ms;
        self.timers.set(Timer::Boot, now_ms, delay_ms);
        if delay_ms == 0 {
            self.handle_timeout(now_ms);
        }
    }

    /// Takes a datagram from the server, on the socket that the device always has.
    pub fn handle_datagram(&mut self, now_ms: u64, datagram: &[u8]) {
        self.handle_datagram_at(now_ms, Port::Main, datagram);
    }

    /// Takes a datagram from the server, on one of the device's sockets.
    pub fn handle_datagram_at(&mut self, now_ms: u64, port: Port, datagram: &[u8]) {
        if self.power != Power::On {
            self.counters.datagrams_missed += 1;
            return;
        }
        self.counters.datagrams_received += 1;
        let Ok(message) = Message::parse(datagram) else {
            self.counters.malformed += 1;
            return;
        };
        self.stay_awake(now_ms);
        if self.download_takes(now_ms, port, &message) || port != Port::Main {
            self.tell_changes(now_ms);
            return;
        }
        match message.message_type {
            MessageType::Acknowledgement => self.on_acknowledgement(now_ms, &message),
            MessageType::Reset => self.on_reset(now_ms, message.id),
            MessageType::Confirmable | MessageType::NonConfirmable => {
                self.on_message(now_ms, &message);
            }
        }
        self.tell_changes(now_ms);
    }

    /// Lets everything happen whose time has come.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        while let Some(timer) = self.timers.take_due(now_ms) {
            match timer {
                Timer::Boot => self.boot(now_ms),
                Timer::Exchange => self.exchange_due(now_ms),
                Timer::Registration => self.registration_due(now_ms),
                Timer::Sleep => self.fall_asleep(now_ms),
                Timer::Wake => {
                    self.stay_awake(now_ms);
                    self.registration_due(now_ms);
                }
                Timer::Later => self.later_due(now_ms),
                Timer::Repeat => self.repeat_due(now_ms),
                Timer::Download => self.download_due(now_ms),
                Timer::Object => self.object_due(now_ms),
                Timer::Unchanged => self.unchanged_for_long(now_ms),
                Timer::Network => {
                    self.power = Power::On;
                    self.stay_awake(now_ms);
                    self.registration_due(now_ms);
                }
            }
            self.tell_changes(now_ms);
        }
    }

    /// The next datagram to send, in order, with the socket that it leaves through. Where that is a new one, it talks to
    /// [`Self::download`] alone; those before it are closed.
    pub fn poll_transmit_from(&mut self) -> Option<(Port, Vec<u8>)> {
        self.link.take_out()
    }

    /// The next datagram of a device that needs one socket only, as one with PCP does: what leaves through another is lost.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        while let Some((port, datagram)) = self.link.take_out() {
            if port == Port::Main {
                return Some(datagram);
            }
        }
        None
    }

    /// When [`Self::handle_timeout`] has something to do, in the same milliseconds as `now_ms`.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timers.next()
    }

    /// Whether the device has restarted and has to send from another address from now on. Asked before
    /// [`Self::poll_transmit`]; true once per restart.
    pub const fn take_address_change(&mut self) -> bool {
        let changed = self.address_changed;
        self.address_changed = false;
        changed
    }

    /// The device's power fails for `off_ms`: it restarts without having been told to. What it holds in
    /// flash memory stays. Returns whether it was on; an installation is left alone.
    pub fn lose_power(&mut self, now_ms: u64, off_ms: u64) -> bool {
        if self.power == Power::Off || self.is_installing() {
            return false;
        }
        self.forget_what_was_put_off();
        self.restart(now_ms, off_ms);
        true
    }

    /// What the device is like.
    pub const fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    /// The version that the device runs now.
    pub const fn version(&self) -> Version {
        self.upgrade.version
    }

    /// The lifetime of its registration, seconds.
    pub const fn lifetime_s(&self) -> u32 {
        self.lifetime_s
    }

    /// Whether the device hears what comes: it is neither off nor asleep.
    pub fn is_listening(&self) -> bool {
        self.power == Power::On
    }

    /// Whether the device is off, and remembers nothing but what is in flash memory.
    pub(crate) fn is_off(&self) -> bool {
        self.power == Power::Off
    }

    fn has(&self, fault: Fault) -> bool {
        self.spec.fault == Some(fault)
    }

    fn boot(&mut self, now_ms: u64) {
        self.power = Power::On;
        let kept = self.kept.take();
        if self.restarted {
            self.restarted = false;
            self.address_changed = kept.is_none();
            self.on_restarted(now_ms);
        }
        let Some((registration, observation)) = kept else {
            return self.register(now_ms);
        };
        self.registration = registration;
        self.observation = observation;
        self.schedule_update(now_ms);
        self.notify(now_ms, SERVICE_DATA);
    }

    /// Switches off and on again: everything that is not in flash memory is lost.
    fn restart(&mut self, now_ms: u64, off_ms: u64) {
        self.power = Power::Off;
        self.restarted = true;
        self.forget_observations();
        self.timers = Timers::new();
        self.timers.set(Timer::Boot, now_ms, off_ms);
        self.link.reset();
        let registration = std::mem::replace(&mut self.registration, Registration::Absent);
        let observation = self.observation.take();
        if self.has(Fault::OnlyServiceData) && self.is_installing() {
            self.kept = Some((registration, observation));
        }
        if self.spec.behaviour.lifetime == LifetimeWrites::Lost {
            self.lifetime_s = self.spec.behaviour.lifetime_s;
        }
        self.lifetime_untold = false;
        self.last_notification_id = None;
        self.counters.restarts += 1;
    }

    /// Its application restarts, and the network is gone for a while. The registration and the observation stay.
    fn lose_network(&mut self, now_ms: u64) {
        self.power = Power::Asleep;
        self.timers = Timers::new();
        self.timers
            .set(Timer::Network, now_ms, self.spec.timing.outage_ms);
        self.link.reset();
    }

    /// In queue mode the device listens for a while after every message.
    fn stay_awake(&mut self, now_ms: u64) {
        let Some(queue_mode) = self.spec.behaviour.queue_mode else {
            return;
        };
        if self.power == Power::Off {
            return;
        }
        self.power = Power::On;
        self.timers.stop(Timer::Wake);
        self.timers.set(Timer::Sleep, now_ms, queue_mode.awake_ms);
    }

    fn fall_asleep(&mut self, now_ms: u64) {
        let Some(queue_mode) = self.spec.behaviour.queue_mode else {
            return;
        };
        if self.link.outstanding().is_some() {
            self.stay_awake(now_ms);
            return;
        }
        self.power = Power::Asleep;
        self.timers.set(Timer::Wake, now_ms, queue_mode.sleep_ms);
    }

    fn on_message(&mut self, now_ms: u64, message: &Message<'_>) {
        let confirmable = message.message_type == MessageType::Confirmable;
        if message.code.is_request() {
            self.on_request(now_ms, message);
        } else if message.code == Code::EMPTY {
            // "CoAP ping" (RFC 7252 §4.3).
            if confirmable {
                self.send_empty(now_ms, MessageType::Reset, message.id);
            }
        } else {
            let known = self.on_response(now_ms, message);
            if confirmable {
                let reply = if known {
                    MessageType::Acknowledgement
                } else {
                    MessageType::Reset
                };
                self.send_empty(now_ms, reply, message.id);
            }
        }
    }
}
