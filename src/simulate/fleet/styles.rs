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

use super::{BEFORE, SWITCHED_ON_AFTER_MS};
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
    /// What they speak: `pcp`, `iotda`, `iotda-v2`, `thingspanel-0.5`, `thingspanel-1.x`.
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
}

impl MqttMember {
    pub(in super::super) const fn protocol(&self) -> Protocol {
        if self.spec.style.is_iotda() {
            Protocol::Iotda
        } else {
            Protocol::ThingsPanel
        }
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
        if self.style == Speaks::Mqtt(Style::QuecThing) {
            return Err(
                "style: devices with QuecThing are not played in simulations; cellwise-sim and cellwise demo have them"
                    .to_owned(),
            );
        }
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

    fn shares(
        &self,
        style: Style,
        devices: usize,
        seed: u64,
        faults: Faults,
    ) -> Result<Vec<Share>, String> {
        let mut kinds: Vec<(&str, u8)> = match &self.characters {
            Some(own) => own
                .iter()
                .map(|(name, percent)| (&**name, *percent))
                .collect(),
            None => faults.mqtt_characters().to_vec(),
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
            let fault: Fault =
                (name.parse()).map_err(|error| format!("character {name}: {error}"))?;
            percent_so_far += usize::from(percent);
            let count = devices * percent_so_far / 100 - devices_so_far;
            devices_so_far += count;
            if fault.is_for(style) {
                let amount = Amount::Devices(count);
                shares.push(Share { fault, amount });
            } else if self.characters.is_some() {
                return Err(format!(
                    "character {name}: devices of the style {style} cannot have it"
                ));
            }
        }
        Ok(shares)
    }
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

/// The devices of an entry, the first of which has that number in the fleet.
pub(super) fn members(
    styled: &Styled,
    devices: usize,
    first: usize,
    setting: &Setting<'_>,
    joins_at_ms: impl Fn(u64) -> Option<u64>,
) -> Result<Vec<MqttMember>, String> {
    let Speaks::Mqtt(style) = styled.style else {
        return Ok(Vec::new());
    };
    let seed = setting.seed ^ (first as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut config = FleetConfig::new(devices, vec![style], BEFORE);
    config.target = setting.targets.first().map(ToString::to_string);
    config.seed = seed;
    config.start_spread_ms = setting.ready_ms;
    config.faults = styled.shares(style, devices, setting.seed, setting.faults)?;
    if let Some(kits) = &styled.kits {
        config.clients.clone_from(kits);
    }
    if let Some(keep_alive_s) = styled.keep_alive_s {
        config.keep_alive_s = keep_alive_s;
    }
    config.restarts = styled.restarts.unwrap_or(false);
    let specs = config.specs().map_err(|error| error.to_string())?;
    let products = setting.v2_product.unwrap_or(setting.targets.len());
    let members = specs.into_iter().zip(first..).map(|(mut spec, number)| {
        let dice = spec.seed;
        spec.device = format!("sim-{number:06}");
        spec.secret = Secret(format!("{}-secret", spec.device));
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
        let joins_at_ms = joins_at_ms(dice);
        if let Some(at) = joins_at_ms {
            spec.timing.start_delay_ms = at + SWITCHED_ON_AFTER_MS;
        }
        MqttMember {
            spec,
            runs,
            product,
            latency_ms: 20 + (dice >> 16) % 400,
            bytes_per_s: styled.bytes_per_s.map_or_else(|| line(dice), u64::from),
            joins_at_ms,
        }
    });
    Ok(members.collect())
}

/// One of the lines of [`LINES`]: as many are within each doubling.
fn line(dice: u64) -> u64 {
    let (slowest, fastest) = (u64::from(LINES.0), u64::from(LINES.1));
    let doublings = u64::from((fastest / slowest).ilog2()) + 1;
    let at_least = slowest << ((dice >> 8) % doublings);
    (at_least + (dice >> 40) % at_least).min(fastest)
}
