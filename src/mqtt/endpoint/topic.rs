//! The topics of all kinds of devices: what a device may publish and subscribe to, and what that means.
//!
//! Huawei IoTDA ("MQTT device access", topic definition): `$oc/devices/{device_id}/sys/…`, a gateway's bridge
//! `$oc/bridges/{bridge}/devices/{device_id}/sys/…`. A query part after `?` may say `encoding=gzip`.
//!
//! ThingsPanel release 0.5: `ota/device/inform`, `ota/device/progress`, pushes on `ota/device/inform/{token}`. Release 1.x:
//! `ota/devices/progress`, pushes on `ota/devices/infrom/{device_number}` (its spelling) or `ota/devices/inform/{device_number}`.
//! The device number is the device's endpoint name here.
//!
//! QuecThing (the public description of Quectel's Acceleronix Developer Center): a device publishes on `q/2/d/{id}/{sys|bus|ota}`, and
//! subscribes to `q/1/d/{id}/+`. Its ID is its client ID, and its endpoint name here.

use super::identity::{Identity, Style};
use crate::mqtt::{
    iotda, quecthing,
    thingspanel::{self, Release},
};

/// The longest topic or filter that is looked at, in bytes.
pub const MAX_TOPIC_LEN: usize = 512;

/// What a device publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Uplink {
    /// `sys/events/up`: an envelope of services (IoTDA).
    Events {
        /// The topic says that the payload is compressed.
        gzip: bool,
    },
    /// A version, as it is reported at start-up (ThingsPanel).
    Inform(Release),
    /// How far an upgrade is (ThingsPanel).
    Progress(Release),
    /// Frames about upgrades (QuecThing).
    Frames,
    /// Something of the device's own that has nothing to do with upgrades: properties, telemetry, answers to commands.
    Other,
}

impl Uplink {
    /// The longest payload that anybody reads, in bytes.
    pub(in crate::mqtt) const fn most_bytes(self) -> usize {
        match self {
            Self::Events { .. } => iotda::MAX_ENVELOPE,
            Self::Inform(_) | Self::Progress(_) => thingspanel::MAX_REPORT,
            Self::Frames => quecthing::frame::MAX_BYTES,
            Self::Other => usize::MAX,
        }
    }
}

/// Where a device is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Downlink {
    /// `sys/events/down` (IoTDA). It needs no subscription: its devices make none.
    Events,
    /// The push of an upgrade (ThingsPanel), on the topic that the device has subscribed to; with no subscription on that
    /// of release 1.x. The frames about it (QuecThing).
    Push,
    /// The same as release 0.5 hears it. That is another topic where nobody knows to which one the device has subscribed.
    PushV05,
}

/// A topic that is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::mqtt) enum Spelling {
    /// `$oc/devices/{id}/sys/events/down`.
    EventsDown,
    /// `ota/device/inform/{token}`.
    InformToken,
    /// `ota/devices/infrom/{number}`.
    Infrom,
    /// `ota/devices/inform/{number}`.
    Inform,
    /// `q/1/d/{id}/ota`.
    QuecOta,
}

impl Spelling {
    pub(super) const ALL: [Self; 5] = [
        Self::EventsDown,
        Self::InformToken,
        Self::Infrom,
        Self::Inform,
        Self::QuecOta,
    ];

    /// Its bit in a set.
    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The bits of those on which pushes leave.
    pub(super) const PUSHES: u8 =
        Self::InformToken.bit() | Self::Infrom.bit() | Self::Inform.bit() | Self::QuecOta.bit();

    pub(super) const fn downlink(self) -> Downlink {
        match self {
            Self::EventsDown => Downlink::Events,
            Self::InformToken | Self::Infrom | Self::Inform | Self::QuecOta => Downlink::Push,
        }
    }

    pub(super) const fn release(self) -> Option<Release> {
        match self {
            Self::EventsDown | Self::QuecOta => None,
            Self::InformToken => Some(Release::V05),
            Self::Infrom | Self::Inform => Some(Release::V1),
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::EventsDown => Style::Iotda,
            Self::InformToken | Self::Infrom | Self::Inform => Style::ThingsPanel,
            Self::QuecOta => Style::QuecThing,
        }
    }

    /// The topic's name for that device; `None` where it has none.
    pub(in crate::mqtt) fn topic(self, identity: &Identity) -> Option<String> {
        if self.style() != identity.style {
            return None;
        }
        let name = &identity.name;
        match self {
            Self::EventsDown => Some(format!("$oc/devices/{name}/sys/events/down")),
            Self::InformToken => Some(format!("ota/device/inform/{}", identity.token()?)),
            Self::Infrom => Some(format!("ota/devices/infrom/{name}")),
            Self::Inform => Some(format!("ota/devices/inform/{name}")),
            Self::QuecOta => Some(format!("q/1/d/{name}/ota")),
        }
    }
}

/// What is wrong with a topic name or filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// MQTT 5 §4.7: it has no characters, a NUL, a wildcard in a name, or one that is no level of its own in a filter.
    #[error("it is no topic")]
    Malformed,
    /// `$share/…`, which is not offered.
    #[error("shared subscriptions are not offered")]
    Shared,
    /// It is not the device's.
    #[error("it belongs to another device")]
    Foreign,
}

/// What a device means by publishing on that topic.
///
/// # Errors
/// [`TopicError::Malformed`] is the protocol's matter, [`TopicError::Foreign`] the device's.
pub fn uplink(identity: &Identity, topic: &str) -> Result<Uplink, TopicError> {
    if topic.is_empty() || topic.contains(['\0', '+', '#']) {
        return Err(TopicError::Malformed);
    }
    if topic.len() > MAX_TOPIC_LEN {
        return Err(TopicError::Foreign);
    }
    match identity.style {
        Style::Iotda => {
            let (path, query) = topic.split_once('?').unwrap_or((topic, ""));
            match own_iotda(identity, path).ok_or(TopicError::Foreign)? {
                "sys/events/up" => Ok(Uplink::Events {
                    gzip: query.split('&').any(|it| it == "encoding=gzip"),
                }),
                _ => Ok(Uplink::Other),
            }
        }
        Style::ThingsPanel => match topic {
            "ota/device/inform" => Ok(Uplink::Inform(Release::V05)),
            "ota/device/progress" => Ok(Uplink::Progress(Release::V05)),
            "ota/devices/progress" => Ok(Uplink::Progress(Release::V1)),
            _ if topic.starts_with("ota/") => Err(TopicError::Foreign),
            // what they publish names no device: it is that of the connection
            _ if names_thingspanel(topic) => Ok(Uplink::Other),
            _ => Err(TopicError::Foreign),
        },
        Style::QuecThing => match own_quecthing(identity, topic, "q/2/d/") {
            Some("ota") => Ok(Uplink::Frames),
            Some(_) => Ok(Uplink::Other),
            None => Err(TopicError::Foreign),
        },
    }
}

/// What follows the device's own prefix. A wildcard stands for nobody.
fn own_iotda<'a>(identity: &Identity, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix("$oc/")?;
    let rest = match rest.strip_prefix("bridges/") {
        Some(bridged) => {
            let (bridge, rest) = bridged.split_once('/')?;
            if bridge.is_empty() || bridge.contains(['+', '#']) {
                return None;
            }
            rest
        }
        None => rest,
    };
    let own = rest.strip_prefix("devices/")?;
    own.strip_prefix(&*identity.name)?.strip_prefix('/')
}

/// What follows the device's own ID behind that prefix.
fn own_quecthing<'a>(identity: &Identity, path: &'a str, prefix: &str) -> Option<&'a str> {
    let own = path.strip_prefix(prefix)?;
    own.strip_prefix(&*identity.name)?.strip_prefix('/')
}

fn names_thingspanel(topic: &str) -> bool {
    ["device/", "devices/", "gateway/"]
        .iter()
        .any(|prefix| topic.starts_with(prefix))
}

/// Which of the topics that are written to a device's filter covers, as a set of [`Spelling`]s. It may cover none of them and be
/// the device's own all the same.
pub(super) fn subscription(identity: &Identity, filter: &str) -> Result<u8, TopicError> {
    check_filter(filter)?;
    if filter.starts_with("$share/") {
        return Err(TopicError::Shared);
    }
    if filter.len() > MAX_TOPIC_LEN {
        return Err(TopicError::Foreign);
    }
    let own = match identity.style {
        Style::Iotda => own_iotda(identity, filter).is_some(),
        Style::QuecThing => own_quecthing(identity, filter, "q/1/d/").is_some(),
        Style::ThingsPanel => {
            (filter.starts_with("ota/") || names_thingspanel(filter))
                && names_itself(identity, filter)
        }
    };
    if !own {
        return Err(TopicError::Foreign);
    }
    let covered = Spelling::ALL
        .into_iter()
        .filter(|spelling| (spelling.topic(identity)).is_some_and(|topic| matches(filter, &topic)));
    Ok(covered.fold(0, |set, spelling| set | spelling.bit()))
}

/// Whether a level is the device's token or number, with no wildcard before it.
fn names_itself(identity: &Identity, filter: &str) -> bool {
    filter
        .split('/')
        .take_while(|level| !matches!(*level, "+" | "#"))
        .any(|level| level == &*identity.name || Some(level) == identity.token())
}

/// MQTT 5 §4.7.1: `#` is the last level, and a wildcard takes a whole level.
fn check_filter(filter: &str) -> Result<(), TopicError> {
    if filter.is_empty() || filter.contains('\0') {
        return Err(TopicError::Malformed);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let well = match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            level => !level.contains(['+', '#']),
        };
        if !well {
            return Err(TopicError::Malformed);
        }
    }
    Ok(())
}

/// MQTT 5 §4.7: whether a well-formed filter covers a topic. `$` at the beginning is not covered by a wildcard.
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests;
