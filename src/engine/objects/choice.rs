//! By which of its objects a device is upgraded, and by which instance.

use super::{
    gets::Get,
    route::{Candidates, Route},
};
use crate::{
    config::UpdateBy,
    engine::{Engine, key::DeviceKey},
    ledger::{Happened, UpdateObject, WhyObject},
    lwm2m::ResourcePath,
    package::Package,
    upgrade::Input,
};

/// Instances that are asked for their names where a device does not say which it has.
const MAX_GUESSED: u16 = 4;
/// Instances that are asked for their names.
const MAX_CANDIDATES: usize = 16;

impl Engine {
    /// Chooses by which object the device is upgraded, unless that is done. `false` where it has none for it.
    pub(in crate::engine) fn choose_object(&mut self, key: DeviceKey) -> bool {
        let Some(session) = self.device(key).session.as_ref() else {
            return false;
        };
        let component = session.package.component.is_some();
        let was = session.exchange.chosen.then_some(session.exchange.object);
        let over_pcp = session.package.pcp.is_some();
        let Some((object, why)) = self.object_for(key, component, over_pcp) else {
            self.fire(key, Input::NotSupported);
            return false;
        };
        if was == Some(object) {
            return true;
        }
        let route = self.route(key, object, component);
        // where the package is for one of them, that is found out by their names
        let of_several = !component && self.instances(key, object).len() > 1;
        let instance = of_several.then_some(route.instance);
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.exchange = route;
        }
        if object != UpdateObject::Pcp {
            self.note(
                key,
                Happened::ObjectChosen {
                    object,
                    why,
                    instance,
                }
                .into(),
            );
        }
        true
    }

    /// Whether what it sends over PCP is observed: not where it is upgraded by another object.
    pub(in crate::engine) fn observes_uplink(&self, key: DeviceKey) -> bool {
        let device = self.device(key);
        let others = [
            UpdateObject::Firmware,
            UpdateObject::Software,
            UpdateObject::Components,
        ];
        match self.profile(key).update_by {
            UpdateBy::Pcp => true,
            UpdateBy::Auto => {
                let has = |object: UpdateObject| device.announces(object.number());
                has(UpdateObject::Pcp) != Some(false)
                    || !others.into_iter().any(|object| has(object) == Some(true))
            }
            UpdateBy::Firmware | UpdateBy::Software | UpdateBy::Components => false,
        }
    }

    /// What is chosen for an upgrade that goes on after a restart of the server, as it was before.
    pub(in crate::engine) fn restored_route(&self, key: DeviceKey, package: &Package) -> Route {
        let component = package.component.is_some();
        let Some((object, _)) = self.object_for(key, component, package.pcp.is_some()) else {
            return Route::default();
        };
        self.route(key, object, component)
    }

    /// Where the version is of a device that is asked without an upgrade.
    pub(super) fn version_path(&self, key: DeviceKey) -> ResourcePath {
        match self.object_for(key, false, false) {
            Some((UpdateObject::Pcp, _)) | None => {
                (self.profile(key).version_at).unwrap_or(ResourcePath::FIRMWARE_VERSION)
            }
            Some((object, _)) => self.route(key, object, false).version_at(),
        }
    }

    fn route(&self, key: DeviceKey, object: UpdateObject, component: bool) -> Route {
        let version_at = self.profile(key).version_at;
        let instances = self.instances(key, object);
        Route {
            object,
            chosen: true,
            version_decides: version_at.is_some(),
            version_at,
            instance: instances.first().copied().unwrap_or_default(),
            candidates: component.then_some(Candidates {
                left: instances,
                free: None,
            }),
            ..Route::default()
        }
    }

    /// The object for a package, and why it is that one; `None` where the device has none.
    fn object_for(
        &self,
        key: DeviceKey,
        component: bool,
        over_pcp: bool,
    ) -> Option<(UpdateObject, WhyObject)> {
        use UpdateObject::{Components, Firmware, Pcp, Software};

        let device = self.device(key);
        let has = |object: UpdateObject| device.announces(object.number());
        let set = match self.profile(key).update_by {
            UpdateBy::Auto => None,
            UpdateBy::Pcp => Some(Pcp),
            UpdateBy::Firmware => Some(Firmware),
            UpdateBy::Software => Some(Software),
            UpdateBy::Components => Some(Components),
        };
        if let Some(object) = set {
            // one of PCP that does not have it says so when it is asked
            let may = object == Pcp || has(object) != Some(false);
            return may.then_some((object, WhyObject::Product));
        }
        if has(Pcp).is_none() {
            return Some((Pcp, WhyObject::Unannounced));
        }
        let announced = |object: &UpdateObject| has(*object) == Some(true);
        if component {
            let found = [Components, Software].into_iter().find(announced);
            return found.map(|object| (object, WhyObject::Component));
        }
        let first = if over_pcp {
            [Pcp, Firmware, Components, Software]
        } else {
            [Firmware, Components, Software, Pcp]
        };
        let found = first.into_iter().find(announced);
        // whoever has none of them says so when it is asked over PCP
        Some((found.unwrap_or(Pcp), WhyObject::Announced))
    }

    /// The instances of the object that the device has, as it announces them; where it does not, those that it may have.
    fn instances(&self, key: DeviceKey, object: UpdateObject) -> Vec<u16> {
        if matches!(object, UpdateObject::Pcp | UpdateObject::Firmware) {
            return vec![0];
        }
        let known = self.device(key).known.as_ref();
        let announced = known.map_or(&[][..], |known| &known.instances);
        let of_object = announced
            .iter()
            .filter(|(number, _)| *number == object.number());
        let found: Vec<u16> = of_object
            .map(|(_, instance)| *instance)
            .take(MAX_CANDIDATES)
            .collect();
        if found.is_empty() {
            (0..MAX_GUESSED).collect()
        } else {
            found
        }
    }

    /// Asks for the version that runs, by the object's resource; before it, which instance it is.
    pub(in crate::engine) fn ask_object_version(&mut self, key: DeviceKey) -> Option<Get> {
        let session = self.device(key).session.as_ref()?;
        let next = (session.exchange.candidates.as_ref())
            .map(|candidates| candidates.left.first().copied());
        match next {
            Some(Some(instance)) => {
                self.send_get(key, Get::Name(instance));
                Some(Get::Name(instance))
            }
            Some(None) => {
                self.settle_on_free(key);
                None
            }
            None => {
                let route = &session.exchange;
                // the version of a software that is only delivered does not run
                let get = if route.object == UpdateObject::Software && !route.version_decides {
                    Get::Installed
                } else {
                    Get::Version
                };
                self.send_get(key, get);
                Some(get)
            }
        }
    }

    /// An instance told its name, or has none, or is not there.
    pub(super) fn name_told(&mut self, key: DeviceKey, instance: u16, name: Option<String>) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let wanted = session.package.component.as_deref();
        let Some(candidates) = session.exchange.candidates.as_mut() else {
            return;
        };
        candidates.left.retain(|left| *left != instance);
        if name.is_some() && name.as_deref() == wanted {
            session.exchange.candidates = None;
            session.exchange.instance = instance;
        } else if session.exchange.object == UpdateObject::Software
            && name.is_some_and(|name| name.is_empty())
        {
            return self.send_get(key, Get::Free(instance));
        }
        self.goes_on_with(key);
    }

    /// An instance without a name has told its state: in the first one there is nothing in it. After a restart of the server one in
    /// which something is under way is ours.
    pub(super) fn free_told(&mut self, key: DeviceKey, instance: u16, state: Option<u8>) {
        let transfers = self.is_transferring_by_object(key);
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let route = &mut session.exchange;
        match (state, route.candidates.as_mut()) {
            (Some(0), Some(candidates)) => {
                candidates.free = candidates.free.or(Some(instance));
            }
            (Some(1..=3), Some(_)) if transfers => {
                route.candidates = None;
                route.instance = instance;
            }
            _ => {}
        }
        self.goes_on_with(key);
    }

    /// The instance is known, or the next one is asked.
    fn goes_on_with(&mut self, key: DeviceKey) {
        let found = (self.device(key).session.as_ref())
            .is_some_and(|session| session.exchange.candidates.is_none());
        if found && self.is_transferring_by_object(key) {
            self.look_at_update(key);
        } else {
            self.ask_object_version(key);
        }
    }

    /// No instance has the name: a software goes into one that is free, and there is no such component.
    fn settle_on_free(&mut self, key: DeviceKey) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let route = &mut session.exchange;
        let free = route.candidates.take().and_then(|it| it.free);
        match free.filter(|_| route.object == UpdateObject::Software) {
            Some(instance) => {
                route.instance = instance;
                if self.is_transferring_by_object(key) {
                    self.look_at_update(key);
                } else {
                    self.version_read(key, None);
                }
            }
            None => self.fire(key, Input::NotSupported),
        }
    }
}
