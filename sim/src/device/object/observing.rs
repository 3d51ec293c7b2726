//! Observations of the objects' resources (RFC 7641), and what is told of them.

use super::Objects;
use crate::{
    coap::{Code, Message, MessageType, Token, Writer, option},
    device::{
        Device,
        link::Purpose,
        resources::{Path, Reply},
        timers::Timer,
    },
    fault::ObjectFault,
    object::UpdatesBy,
    spec::NotificationType,
};

/// A device has memory for so many.
const MOST: usize = 16;

/// Somebody wants to be told of what is at a path.
#[derive(Debug, Clone)]
pub(super) struct Observation {
    path: Path,
    token: Token,
    /// Of the last notification.
    id: Option<u16>,
}

impl Device {
    /// A GET, with or without Observe.
    pub(super) fn read_or_observe(
        &mut self,
        now_ms: u64,
        request: &Message<'_>,
        path: Path,
    ) -> Reply {
        let observe = request.uint(option::OBSERVE);
        if observe == Some(0) && self.object_fault() == Some(ObjectFault::RefusesObservation) {
            return Reply::code(Code::METHOD_NOT_ALLOWED);
        }
        let mut reply = self.read(path);
        if reply.code != Code::CONTENT {
            return reply;
        }
        let Some(objects) = self.object.as_deref_mut() else {
            return reply;
        };
        if observe.is_some() {
            (objects.observations).retain(|observation| observation.path != path);
        }
        if observe == Some(0) && objects.observations.len() < MOST {
            let token = request.token;
            let id = None;
            objects.observations.push(Observation { path, token, id });
            reply.observe = Some(self.next_observe_number());
            self.tell_again_later(now_ms);
        }
        reply
    }

    /// Tells those who observe it what has changed.
    pub(in crate::device) fn tell_changes(&mut self, now_ms: u64) {
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let mut paths = Vec::new();
        for (index, instance) in (0..).zip(&mut objects.instances) {
            let now = instance.standing(objects.by);
            if now == instance.told {
                continue;
            }
            let (state, result) = Objects::standing_resources(objects.by);
            let is_told = |path: &Path| {
                let of_it = path[0] == Some(objects.number) && path[1] == Some(index);
                of_it
                    && match path[2] {
                        None => true,
                        Some(id) if id == state => now.0 != instance.told.0,
                        Some(id) if id == result => now.1 != instance.told.1,
                        Some(_) => false,
                    }
            };
            let observed = objects.observations.iter().map(|it| it.path);
            paths.extend(observed.filter(is_told));
            instance.told = now;
        }
        for path in paths {
            self.tell(now_ms, path);
        }
    }

    /// Nothing has changed for as long as the server wants to be told of nothing.
    pub(in crate::device) fn unchanged_for_long(&mut self, now_ms: u64) {
        let Some(objects) = self.object.as_deref() else {
            return;
        };
        let paths: Vec<_> = objects.observations.iter().map(|it| it.path).collect();
        for path in paths {
            self.tell(now_ms, path);
        }
    }

    /// The server has said how often it wants to be told at least.
    pub(super) fn tell_every(&mut self, now_ms: u64, seconds: Option<u32>) {
        if let Some(objects) = self.object.as_deref_mut() {
            objects.told_every_s = seconds;
        }
        self.timers.stop(Timer::Unchanged);
        self.tell_again_later(now_ms);
    }

    fn tell_again_later(&mut self, now_ms: u64) {
        let Some(objects) = self.object.as_deref() else {
            return;
        };
        let observed = !objects.observations.is_empty();
        if let Some(seconds) = objects.told_every_s.filter(|_| observed) {
            (self.timers).set(Timer::Unchanged, now_ms, u64::from(seconds) * 1_000);
        }
    }

    fn tell(&mut self, now_ms: u64, path: Path) {
        if self.object_fault() == Some(ObjectFault::NeverNotifies) {
            return;
        }
        let reply = self.read(path);
        let id = self.link.take_id();
        let number = self.next_observe_number();
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let by_path = |observation: &&mut Observation| observation.path == path;
        let Some(observation) = objects.observations.iter_mut().find(by_path) else {
            return;
        };
        observation.id = Some(id);
        let token = observation.token;
        let message_type = match self.spec.behaviour.notifications {
            NotificationType::Confirmable => MessageType::Confirmable,
            NotificationType::NonConfirmable => MessageType::NonConfirmable,
        };
        let mut writer =
            Writer::new(message_type, reply.code, id, token).uint(option::OBSERVE, number);
        if let Some(format) = reply.content_format {
            writer = writer.uint(option::CONTENT_FORMAT, format);
        }
        let datagram = writer.payload(&reply.payload);
        if message_type == MessageType::Confirmable {
            self.send_confirmable(now_ms, Purpose::Notification, id, token, datagram);
        } else {
            self.transmit(now_ms, datagram);
        }
        self.counters.results_reported += 1;
        self.tell_again_later(now_ms);
    }

    /// The server does not know the observation whose notification this was.
    pub(in crate::device) fn forget_observation(&mut self, id: u16) {
        if let Some(objects) = self.object.as_deref_mut() {
            (objects.observations).retain(|observation| observation.id != Some(id));
        }
    }

    /// They end with the registration that they belong to.
    pub(in crate::device) fn forget_observations(&mut self) {
        if let Some(objects) = self.object.as_deref_mut() {
            objects.observations = Vec::new();
        }
        self.timers.stop(Timer::Unchanged);
    }
}

impl Objects {
    /// The numbers of the resources State and Result.
    const fn standing_resources(by: UpdatesBy) -> (u16, u16) {
        match by {
            UpdatesBy::Software => (7, 9),
            _ => (3, 5),
        }
    }
}
