//! What the devices of a fleet speak: LwM2M over `CoAP`, and PCP in it, or MQTT. Each style is an entry `[[styles]]` of the fleet file.

use std::collections::BTreeMap;

use serde::Deserialize;
use sim::{
    fleet::Amount,
    mqtt::{
        Client, Fault, Secret, Spec, Style,
        fleet::{FleetConfig, Share},
    },
};

use super::{
    BEFORE, SWITCHED_ON_AFTER_MS,
    gateways::{Behind, Gateway, GatewaysFile},
};
use crate::{ledger::Protocol, simulate::faults::Faults};

/// The slowest and the fastest line that devices are given where nothing is said, bytes a second.
const LINES: (u32, u32) = (400, 40_000);
/// The shortest keep-alive that makes sense, seconds.
const LEAST_KEEP_ALIVE_S: u16 = 5;

/// What devices speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Speaks {
    /// LwM2M over `CoAP`, and PCP in it: what the rest of the file is about.
    Pcp,
    Mqtt(Style),
}

impl TryFrom<String> for Speaks {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match (text.as_str(), text.parse()) {
            ("pcp", _) => Ok(Self::Pcp),
            (_, Ok(style)) => Ok(Self::Mqtt(style)),
            (_, Err(error)) => Err(format!("{error}, and not pcp either")),
        }
    }
}

/// Some of the devices.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Styled {
    /// What they speak: `pcp`, `iotda`, `iotda-v2`, `thingspanel-0.5`, `thingspanel-1.x`, `quecthing`.
    style: Speaks,
    /// Relative to the other shares.
    share: u32,
    /// What devices of IoTDA are built on, dealt out in turn.
    kits: Option<Vec<Client>>,
    /// Seconds.
    keep_alive_s: Option<u16>,
    /// Whether they restart to run what they have installed.
    restarts: Option<bool>,
    /// How fast they download.
    bytes_per_s: Option<u32>,
    /// What they do wrong (names as in `cellwise-sim --list-faults`), in percent of the styled.
    characters: Option<BTreeMap<String, u8>>,
    /// They are behind gateways, so many behind each.
    behind: Option<u32>,
    /// What these gateways are like.
    #[serde(default)]
    gateways: GatewaysFile,
}

/// A device that speaks MQTT, and how it is connected.
#[derive(Debug)]
pub(in super::super) struct MqttMember {
    pub(in super::super) spec: Spec,
    /// The version that it runs.
    pub(in super::super) runs: pcp::Version,
    /// The product that it is of.
    pub(in super::super) product: usize,
    /// How long bytes are on their way to it at least, ms.
    pub(in super::super) latency_ms: u64,
    /// How fast it downloads.
    pub(in super::super) bytes_per_s: u64,
    /// When it is added, where that is while the task runs, ms.
    pub(in super::super) joins_at_ms: Option<u64>,
    /// Its gateway, where it has no connection of its own.
    pub(in super::super) behind: Option<Behind>,
}

impl MqttMember {
    pub(in super::super) const fn protocol(&self) -> Protocol {
        protocol(self.spec.style)
    }
}

/// What devices of a style speak.
pub(in super::super) const fn protocol(style: Style) -> Protocol {
    match style {
        Style::Iotda | Style::IotdaV2 => Protocol::Iotda,
        Style::ThingsPanel05 | Style::ThingsPanel1 => Protocol::ThingsPanel,
        Style::QuecThing => Protocol::QuecThing,
    }
}

impl Styled {
    /// Why there can be no such devices, if that is so.
    pub(super) fn check(&self) -> Result<(), String> {
        let of_mqtt = self.kits.is_some()
            || self.keep_alive_s.is_some()
            || self.restarts.is_some()
            || self.bytes_per_s.is_some()
            || self.characters.is_some();
        let has_gateways = self.behind.is_some() || self.gateways != GatewaysFile::default();
        let iotda = matches!(self.style, Speaks::Mqtt(style) if style.is_iotda());
        if self.share == 0 {
            return Err("share = 0: a share is at least 1; leave the entry out".to_owned());
        }
        if self.style == Speaks::Pcp && of_mqtt {
            return Err(
                "kits, keep_alive_s, restarts, bytes_per_s and characters are for devices that speak MQTT; what those over PCP \
                 are like stands elsewhere in the file"
                    .to_owned(),
            );
        }
        if has_gateways && !iotda {
            return Err("behind, gateways: only devices of IoTDA have gateways".to_owned());
        }
        match self.behind {
            Some(behind) => self.gateways.check(behind)?,
            None if has_gateways => {
                return Err("gateways: say how many devices are behind each (behind)".to_owned());
            }
            None => {}
        }
        if self.kits.is_some() && !iotda {
            return Err("kits: only devices of IoTDA are built on one".to_owned());
        }
        if self.kits.as_ref().is_some_and(Vec::is_empty) {
            return Err("kits: give at least one, or leave it out".to_owned());
        }
        if self.keep_alive_s.is_some_and(|it| it < LEAST_KEEP_ALIVE_S) {
            return Err(format!("keep_alive_s is at least {LEAST_KEEP_ALIVE_S}"));
        }
        if self.bytes_per_s == Some(0) {
            return Err("bytes_per_s is at least 1".to_owned());
        }
        Ok(())
    }

    pub(super) fn is_over_pcp(&self) -> bool {
        self.style == Speaks::Pcp
    }

    /// Whether its devices understand the second version of IoTDA's messages, which a product has or has not.
    pub(super) fn takes_v2(&self) -> bool {
        self.style == Speaks::Mqtt(Style::IotdaV2)
    }

    /// The product of its gateways, and how many devices of each may upgrade at once, where it has some. `number` is the entry's.
    pub(super) fn gateways(&self, number: usize) -> Option<(String, Option<u32>)> {
        self.behind?;
        Some((gateway_product(number), self.gateways.per_gateway))
    }

    /// What its devices do wrong, of which there are so many.
    fn characters(
        &self,
        style: Style,
        devices: usize,
        setting: &Setting<'_>,
    ) -> Result<Vec<Share>, String> {
        let faults = setting.faults;
        let behind = self.behind.is_some();
        let fits = |fault: Fault| fault.is_for(style) && (!behind || fault.is_for_behind());
        let defaults = faults.mqtt_characters().iter();
        let of_gateways: &[_] = if behind {
            faults.behind_characters()
        } else {
            &[]
        };
        let defaults = defaults.chain(of_gateways).copied().collect();
        let who = if behind {
            format!("devices of the style {style} behind gateways")
        } else {
            format!("devices of the style {style}")
        };
        shares(
            self.characters.as_ref(),
            defaults,
            (&fits, &who),
            devices,
            setting.seed,
        )
    }

    /// What its gateways do wrong, of which there are so many.
    fn gateway_characters(
        &self,
        gateways: usize,
        setting: &Setting<'_>,
    ) -> Result<Vec<Share>, String> {
        let defaults = setting.faults.gateway_characters().to_vec();
        let fits = |fault: Fault| fault.is_for_gateways();
        let own = self.gateways.characters.as_ref();
        shares(own, defaults, (&fits, "gateways"), gateways, setting.seed)
    }
}

/// The product of the gateways of an entry.
fn gateway_product(number: usize) -> String {
    format!("gateways-{number}")
}

/// How many of so many devices go wrong in which way: as the file says, or else by `defaults`, as far as they can.
fn shares(
    own: Option<&BTreeMap<String, u8>>,
    defaults: Vec<(&str, u8)>,
    (fits, who): (&dyn Fn(Fault) -> bool, &str),
    devices: usize,
    seed: u64,
) -> Result<Vec<Share>, String> {
    let mut kinds: Vec<(&str, u8)> = match own {
        Some(own) => own
            .iter()
            .map(|(name, percent)| (&**name, *percent))
            .collect(),
        None => defaults,
    };
    let total: u64 = kinds.iter().map(|(_, percent)| u64::from(*percent)).sum();
    if total > 100 {
        return Err(format!("the characters add up to {total} %"));
    }
    // a small number gets others with another seed
    let first = usize::try_from(seed % kinds.len().max(1) as u64).unwrap_or(0);
    kinds.rotate_left(first);
    let (mut percent_so_far, mut devices_so_far) = (0, 0);
    let mut shares = Vec::with_capacity(kinds.len());
    for (name, percent) in kinds {
        let fault: Fault = (name.parse()).map_err(|error| format!("character {name}: {error}"))?;
        percent_so_far += usize::from(percent);
        let count = devices * percent_so_far / 100 - devices_so_far;
        devices_so_far += count;
        if fits(fault) {
            let amount = Amount::Devices(count);
            shares.push(Share { fault, amount });
        } else if own.is_some() {
            return Err(format!("character {name}: {who} cannot have it"));
        }
    }
    Ok(shares)
}

/// What devices are made of.
pub(super) struct Setting<'a> {
    pub(super) seed: u64,
    /// The version that devices run.
    pub(super) before: pcp::Version,
    pub(super) faults: Faults,
    /// Devices switch on within this time, ms.
    pub(super) ready_ms: u64,
    /// The version that each product's devices are upgraded to.
    pub(super) targets: &'a [pcp::Version],
    /// The product whose devices take the second version of IoTDA's messages, where there is one beside others.
    pub(super) v2_product: Option<usize>,
}

/// How many devices each entry has, of so many.
pub(super) fn sizes(styles: &[Styled], devices: usize) -> Vec<usize> {
    let total: u64 = styles.iter().map(|styled| u64::from(styled.share)).sum();
    let (mut shares_so_far, mut devices_so_far) = (0, 0);
    let mut sizes = Vec::with_capacity(styles.len());
    for styled in styles {
        shares_so_far += u64::from(styled.share);
        let upto = devices as u64 * shares_so_far / total.max(1);
        let upto = usize::try_from(upto).unwrap_or(devices);
        sizes.push(upto - devices_so_far);
        devices_so_far = upto;
    }
    sizes
}

/// Where the devices of an entry stand in the fleet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Its number in the file, from 1.
    pub(super) number: usize,
    pub(super) devices: usize,
    /// The number of the first of them, and of the first of its gateways.
    pub(super) first: usize,
    pub(super) first_gateway: usize,
}

/// The devices of an entry, and their gateways.
pub(super) fn members(
    styled: &Styled,
    entry: Entry,
    setting: &Setting<'_>,
    joins_at_ms: impl Fn(u64) -> Option<u64>,
) -> Result<(Vec<MqttMember>, Vec<Gateway>), String> {
    let Speaks::Mqtt(style) = styled.style else {
        return Ok((Vec::new(), Vec::new()));
    };
    let Entry { devices, first, .. } = entry;
    let behind = styled.behind.map_or(0, |behind| behind as usize);
    let (connected, made) = match behind {
        0 => (devices, devices),
        // those that are too many are left out
        _ => (devices.div_ceil(behind), devices.next_multiple_of(behind)),
    };
    let mut config = FleetConfig::new(connected, vec![style], BEFORE);
    config.behind = behind;
    config.target = setting.targets.first().map(ToString::to_string);
    config.seed = setting.seed ^ (first as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    config.start_spread_ms = setting.ready_ms;
    config.faults = styled.characters(style, made, setting)?;
    if behind > 0 {
        config.gateway_faults = styled.gateway_characters(connected, setting)?;
    }
    if let Some(kits) = &styled.kits {
        config.clients.clone_from(kits);
    }
    if let Some(keep_alive_s) = styled.keep_alive_s {
        config.keep_alive_s = keep_alive_s;
    }
    config.restarts = styled.restarts.unwrap_or(false);
    let specs = config.specs().map_err(|error| error.to_string())?;
    if behind > 0 {
        return Ok(behind_gateways(styled, entry, setting, specs));
    }
    let members = specs.into_iter().zip(first..).map(|(spec, number)| {
        let joins_at_ms = joins_at_ms(spec.seed);
        member(styled, setting, spec, number, joins_at_ms, None)
    });
    Ok((members.collect(), Vec::new()))
}

fn member(
    styled: &Styled,
    setting: &Setting<'_>,
    mut spec: Spec,
    number: usize,
    joins_at_ms: Option<u64>,
    behind: Option<Behind>,
) -> MqttMember {
    spec.device = format!("sim-{number:06}");
    spec.secret = Secret(format!("{}-secret", spec.device));
    let products = setting.v2_product.unwrap_or(setting.targets.len());
    let product = match setting.v2_product {
        Some(extra) if styled.takes_v2() => extra,
        _ => number % products.max(1),
    };
    let mut runs = setting.before;
    if spec.fault == Some(Fault::AlreadyCurrent)
        && let Some(target) = setting.targets.get(product)
    {
        spec.version = target.to_string();
        runs = *target;
    }
    if let Some(at) = joins_at_ms {
        spec.timing.start_delay_ms = at + SWITCHED_ON_AFTER_MS;
    }
    let (latency_ms, bytes_per_s) = connection(styled, spec.seed);
    MqttMember {
        spec,
        runs,
        product,
        latency_ms,
        bytes_per_s,
        joins_at_ms,
        behind,
    }
}

/// How long bytes are on their way to a device of that seed, and how fast it downloads.
fn connection(styled: &Styled, dice: u64) -> (u64, u64) {
    let bytes_per_s = styled.bytes_per_s.map_or_else(|| line(dice), u64::from);
    (20 + (dice >> 16) % 400, bytes_per_s)
}

/// The devices behind these gateways: as many as the entry has. They are there from the beginning.
fn behind_gateways(
    styled: &Styled,
    entry: Entry,
    setting: &Setting<'_>,
    specs: Vec<Spec>,
) -> (Vec<MqttMember>, Vec<Gateway>) {
    let mut members = Vec::with_capacity(entry.devices);
    let mut gateways = Vec::with_capacity(specs.len());
    let count = specs.len();
    for (own, mut spec) in specs.into_iter().enumerate() {
        let number = entry.first + members.len();
        for child in std::mem::take(&mut spec.behind) {
            let number = entry.first + members.len();
            if members.len() < entry.devices {
                let place = (entry.first_gateway, own, count);
                let behind = styled.gateways.behind(child.seed, place, setting.ready_ms);
                members.push(member(styled, setting, child, number, None, Some(behind)));
            }
        }
        // no number stands behind a hyphen: it is none of the devices
        spec.device = format!("sim-gateway{number:06}");
        spec.secret = Secret(format!("{}-secret", spec.device));
        spec.tells_who_is_behind = styled.gateways.tell;
        let (latency_ms, bytes_per_s) = connection(styled, spec.seed);
        gateways.push(Gateway {
            spec,
            product: gateway_product(entry.number),
            latency_ms,
            bytes_per_s,
        });
    }
    (members, gateways)
}

/// One of the lines of [`LINES`]: as many are within each doubling.
fn line(dice: u64) -> u64 {
    let (slowest, fastest) = (u64::from(LINES.0), u64::from(LINES.1));
    let doublings = u64::from((fastest / slowest).ilog2()) + 1;
    let at_least = slowest << ((dice >> 8) % doublings);
    (at_least + (dice >> 40) % at_least).min(fastest)
}
