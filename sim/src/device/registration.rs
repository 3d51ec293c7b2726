//! The registration interface (OMA LwM2M Core 1.2 §6.2): register, update at half the lifetime,
//! register anew when the server does not know the device.

use super::{Device, link::Purpose, timers::Timer};
use crate::{
    coap::{Code, Message, MessageType, Token, Writer, option},
    fault::Fault,
    rng::Rng,
    spec::RegistrationStyle,
};

/// application/link-format.
const LINK_FORMAT: u32 = 40;

const LINKS: &str = r#"</>;rt="oma.lwm2m",</1/0>,</3/0>"#;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Registration {
    Absent,
    Requested,
    /// With the segments of the location's path.
    Held(Vec<Box<[u8]>>),
}

impl Device {
    /// Registers anew, for a reason that the server cannot know: the device restarts its upgrade client as well.
    pub(super) fn register(&mut self, now_ms: u64) {
        self.upgrade.claim = None;
        self.register_as_told(now_ms);
    }

    /// Registers because the server has said that it does not know the registration.
    fn register_as_told(&mut self, now_ms: u64) {
        // Observations end with the registration that they belong to.
        self.observation = None;
        self.registration = Registration::Requested;
        self.timers.stop(Timer::Registration);
        self.counters.registrations += 1;

        self.forget_observations();
        let id = self.link.take_id();
        let token = random_token(&mut self.rng);
        let mut writer = Writer::new(MessageType::Confirmable, Code::POST, id, token)
            .option(option::URI_PATH, b"rd");
        let full = self.spec.behaviour.registration == RegistrationStyle::Full;
        if full {
            writer = writer.uint(option::CONTENT_FORMAT, LINK_FORMAT);
        }
        writer = query(writer, "ep", self.spec.registers_as());
        let datagram = if full {
            let binding = match self.spec.behaviour.queue_mode {
                Some(_) => "UQ",
                None => "U",
            };
            writer = query(writer, "lt", &self.lifetime_s.to_string());
            writer = query(writer, "b", binding);
            writer = query(writer, "lwm2m", "1.0");
            writer.payload(self.links().as_bytes())
        } else {
            writer.finish()
        };
        self.send_confirmable(now_ms, Purpose::Register, id, token, datagram);
    }

    fn links(&self) -> String {
        let mut links = String::from(LINKS);
        if !self.has(Fault::NoObject4) {
            links.push_str(",</4/0>");
        }
        match &self.object {
            None => links.push_str(",</19/0>,</19/1>"),
            Some(objects) => objects.push_links(&mut links),
        }
        links
    }

    pub(super) fn registration_failed(&mut self, now_ms: u64) {
        self.registration = Registration::Absent;
        let retry_ms = self.spec.timing.registration_retry_ms;
        let jitter_ms = self.rng.below(retry_ms / 4 + 1);
        self.timers.set(
            Timer::Registration,
            now_ms,
            retry_ms.saturating_add(jitter_ms),
        );
    }

    pub(super) fn on_registered(&mut self, now_ms: u64, response: &Message<'_>) {
        if response.code != Code::CREATED {
            self.registration_failed(now_ms);
            return;
        }
        let location = response
            .values(option::LOCATION_PATH)
            .map(Box::from)
            .collect();
        self.registration = Registration::Held(location);
        self.schedule_update(now_ms);
        // Everyone else waits for the new observation before going on.
        if self.has(Fault::OldToken) && self.first_token.is_some() {
            self.resume(now_ms);
        }
    }

    pub(super) fn on_updated(&mut self, now_ms: u64, code: Code) {
        if code == Code::CHANGED {
            self.schedule_update(now_ms);
        } else {
            self.register_as_told(now_ms);
        }
    }

    pub(super) fn schedule_update(&mut self, now_ms: u64) {
        let after_ms = self.spec.behaviour.updates.after_ms(self.lifetime_s);
        self.timers.set(Timer::Registration, now_ms, after_ms);
    }

    /// The registration's timer ran out, or the device woke up.
    pub(super) fn registration_due(&mut self, now_ms: u64) {
        let Registration::Held(location) = &self.registration else {
            if !self.link.holds(Purpose::Register) {
                self.register(now_ms);
            }
            return;
        };
        if self.link.holds(Purpose::Update) {
            return;
        }
        let id = self.link.take_id();
        let token = random_token(&mut self.rng);
        let mut writer = location.iter().fold(
            Writer::new(MessageType::Confirmable, Code::POST, id, token),
            |writer, segment| writer.option(option::URI_PATH, segment),
        );
        if self.lifetime_untold {
            self.lifetime_untold = false;
            writer = query(writer, "lt", &self.lifetime_s.to_string());
        }
        self.send_confirmable(now_ms, Purpose::Update, id, token, writer.finish());
    }
}

pub(super) fn random_token(rng: &mut Rng) -> Token {
    Token::new(&rng.next().to_be_bytes()[..4]).unwrap_or_default()
}

fn query(writer: Writer, name: &str, value: &str) -> Writer {
    writer.option(option::URI_QUERY, format!("{name}={value}").as_bytes())
}
