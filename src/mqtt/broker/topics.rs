//! Which topics of a broker belong to which device.
//!
//! The topics are those that devices have at this server (`endpoint::topic`), on the broker's paths: those of Huawei IoTDA begin with a
//! root of the operator's choosing instead of `$oc`, because some brokers keep `$` for themselves. Those of `QuecThing` are as they are.
//! Those of `ThingsPanel` name no device. They are mounted below a path that does, as brokers do that mount clients (EMQX: `mountpoint`).

use super::super::endpoint::{Downlink, Identity, MAX_TOPIC_LEN, Spelling, Style};
use crate::config::{BrokerConfig, BrokerStyle};

const DEVICE: &str = "{device}";
const TOKEN: &str = "{token}";
/// As the endpoint knows it.
const ROOT: &str = "$oc";
/// What a device with `QuecThing` publishes about upgrades stands between these.
const QUECTHING: (&str, &str) = ("q/2/d/", "/ota");

/// Where devices are on a broker.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    group: Option<Box<str>>,
    root: Option<Box<str>>,
    mount: Option<Mount>,
    quecthing: bool,
}

#[derive(Debug, Clone)]
struct Mount {
    before: Box<str>,
    after: Box<str>,
    by_token: bool,
}

/// Whom a topic names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A device by its endpoint name.
    Device(&'a str),
    /// A device by its token.
    Token(&'a str),
}

/// A topic of a device.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Topic<'a> {
    pub(super) named: Named<'a>,
    pub(super) style: Style,
    /// As the device would publish on it at this server.
    pub(super) own: String,
}

impl Topics {
    pub(super) fn of(config: &BrokerConfig) -> Self {
        let has = |style| config.styles.contains(&style);
        let mut levels = config.thingspanel_mount.split('/');
        let by_token = levels.any(|level| level == TOKEN);
        let placeholder = if by_token { TOKEN } else { DEVICE };
        let mount = config.thingspanel_mount.split_once(placeholder);
        let mount = mount.map(|(before, after)| Mount {
            before: before.into(),
            after: after.into(),
            by_token,
        });
        let group = Some(&*config.share_group).filter(|group| !group.is_empty());
        Self {
            group: group.map(Into::into),
            root: has(BrokerStyle::Iotda).then(|| config.iotda_root.as_str().into()),
            mount: mount.filter(|_| has(BrokerStyle::ThingsPanel)),
            quecthing: has(BrokerStyle::QuecThing),
        }
    }

    /// What is subscribed to.
    pub(super) fn filters(&self) -> Vec<String> {
        let mut filters = Vec::new();
        if let Some(root) = &self.root {
            filters.push(format!("{root}/devices/+/sys/events/up"));
            filters.push(format!("{root}/bridges/+/devices/+/sys/events/up"));
        }
        if let Some(Mount { before, after, .. }) = &self.mount {
            for own in [
                "ota/device/inform",
                "ota/device/progress",
                "ota/devices/progress",
            ] {
                filters.push(format!("{before}+{after}{own}"));
            }
        }
        if self.quecthing {
            let (before, after) = QUECTHING;
            filters.push(format!("{before}+{after}"));
        }
        if let Some(group) = &self.group {
            for filter in &mut filters {
                *filter = format!("$share/{group}/{filter}");
            }
        }
        filters
    }

    /// Whose topic it is. `None` where it is nobody's.
    pub(super) fn read<'a>(&self, topic: &'a str) -> Option<Topic<'a>> {
        if topic.len() > MAX_TOPIC_LEN || topic.contains(['\0', '+', '#']) {
            return None;
        }
        (self.iotda(topic))
            .or_else(|| self.quecthing(topic))
            .or_else(|| self.thingspanel(topic))
    }

    fn quecthing<'a>(&self, topic: &'a str) -> Option<Topic<'a>> {
        let (before, after) = QUECTHING;
        let name = topic.strip_prefix(before)?.strip_suffix(after)?;
        let is_one = self.quecthing && !name.is_empty() && !name.contains('/');
        is_one.then(|| Topic {
            named: Named::Device(name),
            style: Style::QuecThing,
            own: topic.to_owned(),
        })
    }

    fn iotda<'a>(&self, topic: &'a str) -> Option<Topic<'a>> {
        let path = topic.strip_prefix(&**self.root.as_ref()?)?;
        let rest = path.strip_prefix('/')?;
        let rest = match rest.strip_prefix("bridges/") {
            Some(bridged) => bridged.split_once('/')?.1,
            None => rest,
        };
        let (name, _) = rest.strip_prefix("devices/")?.split_once('/')?;
        Some(Topic {
            named: Named::Device(name),
            style: Style::Iotda,
            own: format!("{ROOT}{path}"),
        })
    }

    fn thingspanel<'a>(&self, topic: &'a str) -> Option<Topic<'a>> {
        let mount = self.mount.as_ref()?;
        let rest = topic.strip_prefix(&*mount.before)?;
        let end = rest.find('/')?;
        let (name, rest) = rest.split_at_checked(end)?;
        let own = rest.strip_prefix(&*mount.after)?;
        let named = if mount.by_token {
            Named::Token(name)
        } else {
            Named::Device(name)
        };
        Some(Topic {
            named,
            style: Style::ThingsPanel,
            own: own.to_owned(),
        })
    }

    /// Where a device is written to: on one topic, or on both spellings of one where it is not known to which of them it has
    /// subscribed. Nowhere where devices of its kind are not on this broker.
    pub(super) fn down(&self, identity: &Identity, downlink: Downlink) -> Vec<String> {
        let spellings: &[Spelling] = match downlink {
            Downlink::Events => &[Spelling::EventsDown],
            Downlink::Push if identity.style == Style::QuecThing => &[Spelling::QuecOta],
            Downlink::PushV05 => &[Spelling::InformToken],
            Downlink::Push => &[Spelling::Infrom, Spelling::Inform],
        };
        let own = spellings.iter().filter_map(|it| it.topic(identity));
        own.filter_map(|own| self.mounted(identity, &own)).collect()
    }

    fn mounted(&self, identity: &Identity, own: &str) -> Option<String> {
        match identity.style {
            Style::QuecThing => self.quecthing.then(|| own.to_owned()),
            Style::Iotda => {
                let root = self.root.as_ref()?;
                Some(format!("{root}{}", own.strip_prefix(ROOT)?))
            }
            Style::ThingsPanel => {
                let Mount {
                    before,
                    after,
                    by_token,
                } = self.mount.as_ref()?;
                let level = if *by_token {
                    identity.token()?
                } else {
                    &identity.name
                };
                // a token may hold what stands for several levels, or for any
                let plain = !level.contains(['/', '+', '#', '\0']);
                plain.then(|| format!("{before}{level}{after}{own}"))
            }
        }
    }
}
