//! The right of a device to download its package over HTTP or HTTPS, and what it was served of it.

use super::{Change, Effect, Engine, device::Granted, key::DeviceKey};
use crate::{
    clock::Now,
    grants::{Grant, Served},
    ledger::{DeviceId, TaskId, Traffic, UpgradeId},
    upgrade::{Input, Sign, transfer::object::ObjectInput},
};

impl Engine {
    /// Grants a device its package, once what it depends on is committed. Another right that it had is taken back. With the same
    /// token again nothing that was served is lost.
    pub fn grant(&mut self, grant: Grant) {
        let Some(key) = self.devices.by_id(grant.device) else {
            return;
        };
        let device = self.device_mut(key);
        let after = device.pending;
        let known = device.known.get_or_insert_default();
        let before = known.granted.take_if(|it| it.token != grant.token);
        match &mut known.granted {
            Some(same) => {
                same.contiguous_bytes = same.contiguous_bytes.max(grant.already_contiguous);
            }
            none => {
                *none = Some(Box::new(Granted {
                    token: grant.token.clone(),
                    upgrade: grant.upgrade,
                    contiguous_bytes: grant.already_contiguous,
                }));
            }
        }
        if let Some(before) = before {
            let token = before.token;
            self.effects.push_back(Effect::Revoke { token, after });
        }
        let grant = Box::new(grant);
        self.effects.push_back(Effect::Grant { grant, after });
    }

    /// Takes back what a device may download, if it may anything, once what that depends on is committed.
    pub fn revoke(&mut self, device: DeviceId) {
        let Some(key) = self.devices.by_id(device) else {
            return;
        };
        let device = self.device_mut(key);
        let after = device.pending;
        let known = device.known.as_mut();
        if let Some(granted) = known.and_then(|known| known.granted.take()) {
            let token = granted.token;
            self.effects.push_back(Effect::Revoke { token, after });
        }
    }

    /// So much of a package was served to a device.
    pub fn served(&mut self, now: Now, served: &Served) {
        self.now = now;
        self.heard_at = now.instant;
        let Some(key) = self.devices.by_id(served.device) else {
            return;
        };
        let device = self.device_mut(key);
        let session = device.session.as_mut();
        let Some(session) = session.filter(|it| it.order.upgrade == served.upgrade) else {
            let traffic = Traffic {
                bytes_down: served.more_bytes,
                ..Traffic::default()
            };
            return self.has_cost(key, (served.upgrade, served.task), traffic);
        };
        session.meter.fetched(served.more_bytes);
        let version = session.package.version;
        let known = device.known.as_mut();
        let granted = known.and_then(|known| known.granted.as_mut());
        // an earlier attempt of the same upgrade had a token of its own
        let Some(granted) = granted
            .filter(|it| !served.over && it.token == served.token && it.upgrade == served.upgrade)
        else {
            return;
        };
        let further = served.contiguous_bytes > granted.contiguous_bytes;
        granted.contiguous_bytes = granted.contiguous_bytes.max(served.contiguous_bytes);
        self.takes(key, version);
        if further || served.whole {
            self.store_progress(key, served.contiguous_bytes, !served.whole);
        }
        let input = if served.whole {
            self.note_sign(key, version, Sign::Holds);
            ObjectInput::FetchedAll
        } else {
            ObjectInput::Fetched { further }
        };
        self.fire(key, Input::Object(input));
        self.settle(key);
    }

    /// A device has fetched some more once its upgrade was over: it counts to that. What comes in a flood is not written down: a
    /// device has no more than one write a second.
    pub(super) fn has_cost(
        &mut self,
        key: DeviceKey,
        (upgrade, task): (UpgradeId, TaskId),
        traffic: Traffic,
    ) {
        if traffic.is_none() || self.is_pressed() {
            return;
        }
        let now = self.now;
        let device = self.device_mut(key);
        if !device.may_write(now.instant) {
            return self.counters.requests_ignored += 1;
        }
        let change = Change::Traffic {
            upgrade,
            task,
            endpoint: device.endpoint.to_string(),
            cell: None, // it may have gone elsewhere
            traffic,
            at: now.utc,
        };
        self.persist_lazily(change);
    }
}
