//! What the server reads: the resources of the instances, and of object 3.

use pcp::Version;

use super::{Instance, Objects};
use crate::{
    coap::Code,
    content::{ContentFormat, Value},
    device::{
        Device,
        resources::{Path, Reply},
    },
    object::{Character, UpdatesBy},
};

/// Protocols of object 5's resource 8: CoAP, and CoAP over DTLS.
const PROTOCOLS: [i64; 2] = [0, 1];

type Resources<'a> = Vec<(u16, Value<'a>)>;

impl Device {
    /// An answer with what is at a path, a resource or all that an instance has.
    pub(super) fn read(&mut self, path: Path) -> Reply {
        let resource = path[2];
        let Some((object, instance, mut found)) = self.resources(path) else {
            return Reply::code(Code::NOT_FOUND);
        };
        found.retain(|(id, _)| resource.is_none_or(|wanted| wanted == *id));
        if found.is_empty() {
            return Reply::code(Code::NOT_FOUND);
        }
        let format = self.spec.coverage.format;
        // who writes text writes TLV where text cannot say it
        let encoded = (format.encode(object, instance, &found)).map(|payload| (format, payload));
        let tlv = ContentFormat::Tlv;
        let encoded = encoded.or_else(|| Some((tlv, tlv.encode(object, instance, &found)?)));
        let Some((format, payload)) = encoded else {
            return Reply::code(Code::NOT_ACCEPTABLE);
        };
        self.was_told(path);
        Reply {
            content_format: Some(format.number()),
            payload,
            ..Reply::code(Code::CONTENT)
        }
    }

    /// All that is in an instance.
    fn resources(&self, path: Path) -> Option<(u16, u16, Resources<'_>)> {
        let objects = self.object.as_deref()?;
        let [object, Some(instance), _] = path else {
            return None;
        };
        if object == Some(3) && instance == 0 {
            return Some((3, 0, self.about_the_device(objects)));
        }
        let found = objects.instances.get(usize::from(instance))?;
        let resources = match objects.by {
            _ if object != Some(objects.number) => return None,
            UpdatesBy::Software => of_software(found, objects.by),
            by => self.of_firmware(found, by),
        };
        Some((objects.number, instance, resources))
    }

    /// Object 3, as far as these devices have it.
    fn about_the_device(&self, objects: &Objects) -> Resources<'_> {
        let version = match objects.by {
            UpdatesBy::Firmware => &self.upgrade.version,
            _ => &self.spec.version,
        };
        vec![
            (0, Value::Text("Cellwise")),
            (1, Value::Text(self.spec.object.character.name())),
            (2, Value::Text(&self.spec.endpoint)),
            (3, Value::Text(text(version))),
        ]
    }

    /// Objects 5 and 33629, which has more.
    fn of_firmware<'a>(&self, instance: &'a Instance, by: UpdatesBy) -> Resources<'a> {
        let (state, result) = instance.standing(by);
        let protocols = if self.spec.psk.is_some() { 2 } else { 1 };
        let delivery = self.spec.object.character.delivery_method();
        let mut resources = vec![
            (1, Value::Text(&instance.uri)),
            (3, Value::Integer(state)),
            (5, Value::Integer(result)),
        ];
        // the package's version, not the one that runs
        if let Some(version) = &instance.offered {
            resources.push((6, Value::Text("package")));
            resources.push((7, Value::Text(text(version))));
        }
        if self.spec.object.character != Character::PushOnly {
            resources.push((8, Value::Integers(&PROTOCOLS[..protocols])));
        }
        resources.push((9, Value::Integer(delivery)));
        if by == UpdatesBy::Components {
            resources.push((14, Value::Text(&instance.name)));
            let version = instance.version.as_ref().map_or("", text);
            resources.push((15, Value::Text(version)));
            resources.push((16, Value::Links(&[])));
            resources.push((17, Value::Links(&[])));
        }
        resources
    }

    /// Somebody was told what is at a path.
    pub(super) fn was_told(&mut self, path: Path) {
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let resource = path[2];
        let (standing, version): (&[u16], u16) = match (path[0], objects.by) {
            (Some(3), _) => (&[], 3),
            (_, UpdatesBy::Software) => (&[7, 9, 12], 1),
            (_, UpdatesBy::Components) => (&[3, 5], 15),
            _ => (&[3, 5], 7),
        };
        let tells = |id| resource.is_none_or(|wanted| wanted == id);
        if tells(version) {
            self.counters.version_queries += 1;
        }
        let told = tells(version) || standing.iter().any(|id| tells(*id));
        objects.untold &= !told;
    }
}

/// Object 9.
fn of_software(instance: &Instance, by: UpdatesBy) -> Resources<'_> {
    let (state, result) = instance.standing(by);
    vec![
        (0, Value::Text(&instance.name)),
        (1, Value::Text(instance.version.as_ref().map_or("", text))),
        (7, Value::Integer(state)),
        (9, Value::Integer(result)),
        (12, Value::Flag(instance.active)),
    ]
}

/// Versions of a device are what its operator writes: text.
fn text(version: &Version) -> &str {
    std::str::from_utf8(version.significant()).unwrap_or_default()
}
