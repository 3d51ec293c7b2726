//! The fleet of a simulation: its coverage, when its devices wake up, what is peculiar to them. From a file, or
//! a mix as it is found in the field.

mod gateways;
mod groups;
mod styles;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde::Deserialize;
use sim::{
    Character, Image, UpdatesBy,
    fleet::{Amount, CoverageClass, DeviceSpec, FaultShare, Fleet, FleetConfig, Timing},
    radio::Paging,
    spec::{LifetimeWrites, NotificationType, QueueMode, Updates},
};

use super::{
    faults::Faults,
    sites::{self, SiteFile, Sites},
};
use crate::ledger::{Protocol, Via};
use groups::Group;
use styles::{Entry, Setting, Styled};

pub(super) use gateways::{Gateway, Moves};
pub(super) use styles::{MqttMember, protocol};

/// Version of all devices before the upgrade.
pub(super) const BEFORE: &str = "V1.0";
/// The first cell; the others follow it.
pub(super) const FIRST_CELL: u32 = 1001;

/// A fleet file (TOML). Whatever it does not say is as in the fleet without a file.
#[derive(Debug, Clone, PartialEq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FleetFile {
    /// Shares of the coverage classes, as in 6 : 3 : 1.
    coverage: Option<BTreeMap<CoverageClass, u32>>,
    /// What the devices speak, with shares; all of them PCP where nothing is said.
    styles: Option<Vec<Styled>>,
    /// By what devices over LwM2M are upgraded.
    updates_by: Option<UpdatesBy>,
    /// Which clients they are like where that is not PCP, dealt out in turn.
    character: Option<Vec<Character>>,
    /// How devices listen, with shares.
    listening: Option<Vec<Listening>>,
    /// What devices run and are, where they are not all alike.
    groups: Option<Vec<Group>>,
    /// What devices do wrong (names as in `cellwise-sim --help`), in percent of all.
    characters: Option<BTreeMap<String, u8>>,
    /// Lifetime of the registrations, seconds.
    lifetime_s: Option<u32>,
    /// The devices register within this time, seconds; then the task starts.
    start_within_s: Option<u64>,
    /// Percent of the devices whose notifications are not confirmed by CoAP.
    unconfirmed_percent: Option<u8>,
    /// What the devices of a cell share.
    radio: Option<RadioFile>,
    /// Devices that are added while the task runs, and join it.
    joining: Option<JoiningFile>,
    /// Delays of all devices, milliseconds; each key as in `Timing`.
    timing: Option<toml::Table>,
    /// Sites with limits, by their names; all devices are at one of them.
    sites: Option<BTreeMap<String, SiteFile>>,
    /// The task starts when the devices that sleep have woken up again so often.
    #[serde(skip)]
    woken_up: u32,
}

/// What the devices of a cell share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RadioFile {
    /// Bytes a second in each cell, of both directions together.
    shared_capacity_bytes_per_s: u32,
}

/// Devices that are added later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct JoiningFile {
    /// So many percent of all, about.
    percent: u8,
    /// They come within this time after the start of the task, seconds.
    within_s: u32,
}

/// The longest time within which devices join.
const MOST_JOINING_S: u32 = 30 * 86_400;
/// A fleet that has been in service has registered for so long at least, ms.
const SETTLES_MS: u64 = 60_000;
/// So often devices have woken up, where the fleet has been in service for a while.
const WOKEN_UP: u32 = 4;
/// A device is switched on so long after it was added.
const SWITCHED_ON_AFTER_MS: u64 = 10_000;

/// How some of the devices listen.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listening {
    /// Relative to the other shares.
    share: u32,
    /// Power saving mode: asleep for this long, then heard; seconds.
    wake_every_s: Option<u64>,
    /// How long it listens after its last message, seconds.
    #[serde(default = "awake_s")]
    awake_s: u64,
    /// eDRX: reached at intervals only.
    paging: Option<Paging>,
}

const fn awake_s() -> u64 {
    93
}

impl Listening {
    const fn always(share: u32) -> Self {
        Self {
            share,
            wake_every_s: None,
            awake_s: awake_s(),
            paging: None,
        }
    }
}

/// A device, and how it is connected.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) spec: DeviceSpec,
    pub(super) class: CoverageClass,
    pub(super) paging: Option<Paging>,
    /// The product that it is of.
    pub(super) product: usize,
    /// Its hardware, as the operator has given it.
    pub(super) hardware: Option<String>,
    /// When it is added, where that is while the task runs, ms.
    pub(super) joins_at_ms: Option<u64>,
}

/// A fleet to simulate. Devices are numbered: those over PCP first.
#[derive(Debug)]
pub(super) struct FleetPlan {
    pub(super) members: Vec<Member>,
    /// Those that speak MQTT.
    pub(super) over_mqtt: Vec<MqttMember>,
    /// The gateways of some of these.
    pub(super) gateways: Vec<Gateway>,
    /// When the task starts, ms.
    pub(super) ready_ms: u64,
    /// Where they are.
    pub(super) sites: Sites,
}

/// What is to be known of a device before it is switched on.
#[derive(Debug, Clone)]
pub(super) struct Planned<'a> {
    pub(super) endpoint: &'a str,
    /// The product that it is of.
    pub(super) product: usize,
    pub(super) protocol: Protocol,
    /// The version that it runs.
    pub(super) runs: pcp::Version,
    /// Its hardware, as the operator has given it.
    pub(super) hardware: Option<&'a str>,
    pub(super) joins_at_ms: Option<u64>,
    /// How it is reached, as the operator says.
    pub(super) via: Via,
}

impl FleetPlan {
    /// What devices without PCP may be given, by product: a package says nothing of its version to them.
    pub(super) fn expect(&mut self, images: &[Arc<[Image]>]) {
        for member in &mut self.members {
            if let Some(images) = images.get(member.product) {
                member.spec.object.images = Arc::clone(images);
            }
        }
    }

    /// All devices, in the order of their numbers.
    pub(super) fn devices(&self) -> impl Iterator<Item = Planned<'_>> {
        let over_pcp = self.members.iter().map(|member| Planned {
            endpoint: &member.spec.endpoint,
            product: member.product,
            protocol: Protocol::Lwm2m,
            runs: member.spec.version,
            hardware: member.hardware.as_deref(),
            joins_at_ms: member.joins_at_ms,
            via: Via::Itself,
        });
        let over_mqtt = self.over_mqtt.iter().map(|member| Planned {
            endpoint: &member.spec.device,
            product: member.product,
            protocol: member.protocol(),
            runs: member.runs,
            hardware: None,
            joins_at_ms: member.joins_at_ms,
            via: self.via(member),
        });
        over_pcp.chain(over_mqtt)
    }

    /// How a device over MQTT is reached, as the operator says before its gateway does.
    fn via(&self, member: &MqttMember) -> Via {
        member.behind.map_or(Via::Itself, |behind| {
            let gateway = self.gateways.get(behind.gateway).filter(|_| behind.told);
            Via::Gateway(gateway.map(|gateway| gateway.spec.device.clone()))
        })
    }
}

impl FleetFile {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the fleet file {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        file.check_shares()?;
        file.check_styles()?;
        file.check_joining()?;
        file.check_updates()?;
        groups::check(file.groups.as_deref())?;
        sites::check(file.sites.as_ref().unwrap_or(&BTreeMap::new()))?;
        if file.shared_capacity() == Some(0) {
            return Err(
                "radio: shared_capacity_bytes_per_s is at least 1; leave it out".to_owned(),
            );
        }
        Ok(file)
    }

    /// A way of listening that nobody has would be a mistake, and where no class has a share there would be no fleet. A class
    /// may be named to say that nobody is in it.
    fn check_shares(&self) -> Result<(), String> {
        for (number, habit) in (1..).zip(self.listening.iter().flatten()) {
            if habit.share == 0 {
                return Err(format!(
                    "listening: share = 0 in entry {number}: a share is at least 1; leave the entry out"
                ));
            }
        }
        if self.listening.as_ref().is_some_and(Vec::is_empty) {
            return Err("listening: give at least one entry, or leave it out".to_owned());
        }
        let nobody = |classes: &BTreeMap<_, u32>| classes.values().all(|share| *share == 0);
        if self.coverage.as_ref().is_some_and(nobody) {
            return Err("coverage: give at least one class a share, or leave it out".to_owned());
        }
        Ok(())
    }

    fn check_styles(&self) -> Result<(), String> {
        let Some(styles) = &self.styles else {
            return Ok(());
        };
        if self.speaks_mqtt() && (self.sites.is_some() || self.groups.is_some()) {
            return Err(
                "styles: a fleet with devices that speak MQTT has no sites and no groups; leave them out"
                    .to_owned(),
            );
        }
        if styles.is_empty() {
            return Err("styles: give at least one, or leave them out".to_owned());
        }
        if styles.iter().filter(|styled| styled.is_over_pcp()).count() > 1 {
            return Err("styles: one of them is pcp at most; its share says how many".to_owned());
        }
        for (number, styled) in (1..).zip(styles) {
            (styled.check()).map_err(|error| format!("styles, entry {number}: {error}"))?;
        }
        Ok(())
    }

    /// Whether some devices speak MQTT.
    pub(super) fn speaks_mqtt(&self) -> bool {
        (self.styles.iter().flatten()).any(|styled| !styled.is_over_pcp())
    }

    /// Whether all devices take the second version of IoTDA's messages.
    pub(super) fn takes_v2(&self) -> bool {
        (self.styles.as_ref()).is_some_and(|styles| styles.iter().all(Styled::takes_v2))
    }

    /// Whether some do, beside others: they need a product of their own.
    pub(super) fn takes_v2_beside_others(&self) -> bool {
        !self.takes_v2() && self.styles.iter().flatten().any(Styled::takes_v2)
    }

    /// The products of gateways, and how many devices of each gateway may upgrade at once, where the file says so.
    pub(super) fn gateways(&self) -> impl Iterator<Item = (String, Option<u32>)> {
        let styles = (1..).zip(self.styles.iter().flatten());
        styles.filter_map(|(number, styled)| styled.gateways(number))
    }

    fn check_joining(&self) -> Result<(), String> {
        let Some(joining) = self.joining else {
            return Ok(());
        };
        if !(1..=90).contains(&joining.percent) {
            return Err("joining: percent is 1 to 90; leave it out where nobody joins".to_owned());
        }
        if !(1..=MOST_JOINING_S).contains(&joining.within_s) {
            return Err(format!("joining: within_s is 1 to {MOST_JOINING_S}"));
        }
        Ok(())
    }

    fn check_updates(&self) -> Result<(), String> {
        match &self.character {
            Some(_) if !self.has_objects() => Err(
                "character: devices with PCP are like no client; say by what they are upgraded (updates_by)"
                    .to_owned(),
            ),
            Some(characters) if characters.is_empty() => {
                Err("character: give at least one, or leave it out".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether devices over LwM2M are upgraded by an object of their own instead of PCP.
    pub(super) fn has_objects(&self) -> bool {
        self.updates_by.is_some_and(|by| by != UpdatesBy::Pcp)
    }

    /// Whether devices are added while the task runs.
    pub(super) const fn joins(&self) -> bool {
        self.joining.is_some()
    }

    /// When a device of that seed is added, if it joins, ms.
    fn joins_at_ms(&self, dice: u64) -> Option<u64> {
        let joining = self.joining?;
        let within_ms = u64::from(joining.within_s) * 1_000;
        let joins = (dice >> 24) % 100 < u64::from(joining.percent);
        joins.then(|| self.ready_ms() + (dice >> 32) % within_ms)
    }

    /// The devices, each product's target version among `targets`; device `i` is of product `i` modulo their
    /// number. Where some take the second version of IoTDA's messages beside others, they are of the last product, and only they.
    pub(super) fn plan(
        &self,
        devices: usize,
        cells: u32,
        seed: u64,
        faults: Faults,
        targets: &[pcp::Version],
    ) -> Result<FleetPlan, String> {
        let Some(styles) = &self.styles else {
            let (members, sites) = self.over_pcp(devices, cells, seed, faults, targets)?;
            return Ok(FleetPlan {
                members,
                over_mqtt: Vec::new(),
                gateways: Vec::new(),
                ready_ms: self.ready_ms(),
                sites,
            });
        };
        let last = targets.len().saturating_sub(1);
        let v2_product = self.takes_v2_beside_others().then_some(last);
        let others = &targets[..v2_product.unwrap_or(targets.len())];
        let counts = styles::sizes(styles, devices);
        let over_pcp = styles.iter().position(Styled::is_over_pcp);
        let (members, sites) = match over_pcp.map(|styled| counts[styled]) {
            None | Some(0) => Default::default(),
            Some(size) => self.over_pcp(size, cells, seed, faults, others)?,
        };
        let setting = Setting {
            seed,
            before: version(BEFORE)?,
            faults,
            ready_ms: self.ready_ms(),
            targets,
            v2_product,
        };
        let mut over_mqtt = Vec::with_capacity(devices - members.len());
        let mut gateways = Vec::new();
        for (number, (styled, devices)) in (1..).zip(styles.iter().zip(counts)) {
            let entry = Entry {
                number,
                devices,
                first: members.len() + over_mqtt.len(),
                first_gateway: gateways.len(),
            };
            let joins = |dice| self.joins_at_ms(dice);
            let of_style = styles::members(styled, entry, &setting, joins);
            let (its, their_gateways) =
                of_style.map_err(|error| format!("styles, entry {number}: {error}"))?;
            over_mqtt.extend(its);
            gateways.extend(their_gateways);
        }
        Ok(FleetPlan {
            members,
            over_mqtt,
            gateways,
            ready_ms: self.ready_ms(),
            sites,
        })
    }

    fn over_pcp(
        &self,
        devices: usize,
        cells: u32,
        seed: u64,
        faults: Faults,
        targets: &[pcp::Version],
    ) -> Result<(Vec<Member>, Sites), String> {
        let listening = self.listening();
        let mut config = FleetConfig::new(devices, version(BEFORE)?);
        config.cells = cells;
        config.first_cell_id = FIRST_CELL;
        config.target = targets.first().copied();
        config.seed = seed;
        config.coverage = self.coverage();
        config.formats = [
            sim::content::ContentFormat::Tlv,
            sim::content::ContentFormat::SenmlCbor,
            sim::content::ContentFormat::SenmlJson,
            sim::content::ContentFormat::Text,
        ]
        .into();
        config.updates_by = self.updates_by.unwrap_or_default();
        if let Some(characters) = &self.character {
            config.characters.clone_from(characters);
        }
        config.faults = self.characters(devices, seed, faults)?;
        config.timing = self.timing()?;
        config.start_spread_ms = self.registered_ms();
        if let Some(lifetime_s) = self.lifetime_s {
            config.behaviour.lifetime_s = lifetime_s;
        }
        let specs = Fleet::specs(&config).map_err(|error| error.to_string())?;
        let sites = self.sites.as_ref().map(|sites| {
            let seeds = specs.iter().map(|spec| spec.seed);
            Sites::deal(sites, seeds)
        });
        let unconfirmed = u64::from(self.unconfirmed_percent.unwrap_or(10));
        let total: u64 = listening.iter().map(|l| u64::from(l.share)).sum();
        let members = specs
            .into_iter()
            .zip(targets.iter().enumerate().cycle())
            .map(|(mut spec, (product, target))| {
                // the seed's bits are as good as any
                let dice = spec.seed;
                let habit = pick(&listening, total, dice);
                let group = groups::of(self.groups.as_deref(), dice);
                if let Some(runs) = group.and_then(Group::version) {
                    spec.version = version(runs)?;
                }
                if spec.fault == Some(sim::Fault::AlreadyCurrent) {
                    spec.version = *target;
                }
                habits(&mut spec, habit, unconfirmed);
                let joins_at_ms = self.joins_at_ms(dice);
                if let Some(at) = joins_at_ms {
                    spec.timing.start_delay_ms = at + SWITCHED_ON_AFTER_MS;
                }
                Ok(Member {
                    class: spec.coverage.class(),
                    paging: habit.paging,
                    product,
                    hardware: group.and_then(Group::hardware),
                    joins_at_ms,
                    spec,
                })
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok((members, sites.unwrap_or_default()))
    }

    /// Bytes a second that the devices of a cell share; without end where nothing is said.
    pub(super) fn shared_capacity(&self) -> Option<u32> {
        self.radio.map(|radio| radio.shared_capacity_bytes_per_s)
    }

    /// The same fleet, which has been in service for a while when its task starts.
    pub(super) const fn in_service(mut self) -> Self {
        self.woken_up = WOKEN_UP;
        self
    }

    /// When their task starts, ms.
    pub(super) fn ready_ms(&self) -> u64 {
        let registered_ms = self.registered_ms();
        if self.woken_up == 0 {
            return registered_ms;
        }
        // the last one is in the store too
        registered_ms + SETTLES_MS + u64::from(self.woken_up) * self.longest_sleep_s() * 1_000
    }

    /// When all devices have registered, ms.
    fn registered_ms(&self) -> u64 {
        let least_s = self.longest_sleep_s().max(600);
        self.start_within_s.unwrap_or(least_s) * 1_000
    }

    fn longest_sleep_s(&self) -> u64 {
        let over_pcp = (self.styles.as_ref()).is_none_or(|it| it.iter().any(Styled::is_over_pcp));
        let sleeps = self.listening().into_iter().filter_map(|l| l.wake_every_s);
        sleeps.max().filter(|_| over_pcp).unwrap_or(0)
    }

    fn coverage(&self) -> Vec<(CoverageClass, u32)> {
        match &self.coverage {
            Some(shares) => shares
                .iter()
                .map(|(class, share)| (*class, *share))
                .collect(),
            None => vec![
                (CoverageClass::Good, 60),
                (CoverageClass::Medium, 25),
                (CoverageClass::Poor, 5),
                (CoverageClass::Unmeasurable, 7),
                (CoverageClass::Implausible, 3),
            ],
        }
    }

    fn listening(&self) -> Vec<Listening> {
        self.listening.clone().unwrap_or_else(|| {
            vec![
                Listening::always(6),
                Listening {
                    wake_every_s: Some(3_600),
                    ..Listening::always(3)
                },
                Listening {
                    paging: Some(Paging {
                        cycle_ms: 20_480,
                        connected_ms: 20_000,
                    }),
                    ..Listening::always(1)
                },
            ]
        })
    }

    /// Characters in their shares, as far as these go into the number of devices. Which ones of each kind a small fleet
    /// gets follows from the seed.
    fn characters(
        &self,
        devices: usize,
        seed: u64,
        faults: Faults,
    ) -> Result<Vec<FaultShare>, String> {
        let own: Vec<(&str, u8)> = (self.characters.iter().flatten())
            .map(|(name, percent)| (&**name, *percent))
            .collect();
        let kinds = match &self.characters {
            Some(_) => [&own[..], &[]],
            None if self.has_objects() => [faults.object_characters(), &[]],
            None => faults.characters(),
        };
        let mut shares = Vec::new();
        for kind in kinds {
            let first = usize::try_from(seed % kind.len().max(1) as u64).unwrap_or(0);
            let (before, from) = kind.split_at(first);
            shares.extend([from, before].concat());
        }
        let total: u64 = shares.iter().map(|(_, percent)| u64::from(*percent)).sum();
        if total > 100 {
            return Err(format!("the characters add up to {total} %"));
        }
        let (mut percent_so_far, mut devices_so_far) = (0, 0);
        shares
            .into_iter()
            .map(|(name, percent)| {
                percent_so_far += usize::from(percent);
                let count = devices * percent_so_far / 100 - devices_so_far;
                devices_so_far += count;
                let fault: sim::Fault =
                    (name.parse()).map_err(|error| format!("character {name}: {error}"))?;
                let by = self.updates_by.unwrap_or_default();
                if !fault.fits(by) && self.characters.is_none() {
                    return Ok(None); // its share is of those that do no wrong
                }
                if fault.needs_psk() {
                    return Err(format!("character {name}: a simulation has no DTLS"));
                }
                Ok(Some(FaultShare {
                    fault,
                    amount: Amount::Devices(count),
                }))
            })
            .filter_map(Result::transpose)
            .collect()
    }

    fn timing(&self) -> Result<Timing, String> {
        let Some(own) = &self.timing else {
            return Ok(Timing::default());
        };
        let mut all =
            toml::Table::try_from(Timing::default()).map_err(|error| error.to_string())?;
        for (key, value) in own {
            if all.insert(key.clone(), value.clone()).is_none() {
                return Err(format!("timing.{key}: there is no such delay"));
            }
        }
        all.try_into()
            .map_err(|error: toml::de::Error| format!("timing: {error}"))
    }
}

/// What is peculiar to a device without being wrong.
fn habits(spec: &mut DeviceSpec, listening: &Listening, unconfirmed: u64) {
    let dice = spec.seed;
    let behaviour = &mut spec.behaviour;
    if (dice >> 40) % 100 < unconfirmed {
        behaviour.notifications = NotificationType::NonConfirmable;
    }
    // One that listens all the time is to be heard twice a day at least.
    let often = listening.wake_every_s.is_none() || (dice >> 12).is_multiple_of(2);
    behaviour.updates = if often {
        Updates::AtHalf
    } else {
        Updates::BeforeEnd
    };
    behaviour.lifetime = match (dice >> 50) % 20 {
        0 => LifetimeWrites::Refused,
        1 | 2 => LifetimeWrites::AsTlv,
        3..8 => LifetimeWrites::Lost,
        _ => LifetimeWrites::Kept,
    };
    behaviour.deduplicates = !(dice >> 30).is_multiple_of(4);
    behaviour.separate_responses = (dice >> 20).is_multiple_of(10);
    behaviour.queue_mode = listening.wake_every_s.map(|wake_s| QueueMode {
        awake_ms: listening.awake_s * 1_000,
        sleep_ms: wake_s * 1_000,
    });
}

fn pick(habits: &[Listening], total: u64, dice: u64) -> &Listening {
    let mut rest = dice % total.max(1);
    for habit in habits {
        let share = u64::from(habit.share);
        if rest < share {
            return habit;
        }
        rest -= share;
    }
    &habits[habits.len() - 1]
}

fn version(text: &str) -> Result<pcp::Version, String> {
    pcp::Version::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_an_association_are_refused() {
        let file = FleetFile::parse("[characters]\nwrong-psk = 1").unwrap();
        let target = version("V2.0").unwrap();
        let error = file
            .plan(200, 4, 1, Faults::Default, &[target])
            .unwrap_err();
        assert_eq!(error, "character wrong-psk: a simulation has no DTLS");
    }

    #[test]
    fn devices_without_pcp_are_what_the_file_says() {
        let text = "updates_by = \"software\"\ncharacter = [\"anjay\", \"nrf\"]";
        let file = FleetFile::parse(text).unwrap();
        let target = version("V2.0").unwrap();
        let plan = file.plan(400, 4, 1, Faults::Harsh, &[target]).unwrap();
        let specs = plan.members.iter().map(|member| &member.spec);
        let (mut faulty, mut anjay) = (0, 0);
        for spec in specs {
            assert_eq!(spec.updates_by, UpdatesBy::Software);
            assert!(
                spec.fault
                    .is_none_or(|fault| fault.fits(UpdatesBy::Software))
            );
            faulty += u32::from(spec.fault.is_some());
            anjay += u32::from(spec.object.character == Character::Anjay);
        }
        assert_eq!(anjay, 200);
        assert!(faulty > 40, "{faulty}");
        let unfit = "updates_by = \"firmware\"\n[characters]\nold-token = 5";
        let file = FleetFile::parse(unfit).unwrap();
        let error = file.plan(200, 4, 1, Faults::None, &[target]).unwrap_err();
        assert!(error.contains("old-token"), "{error}");
        for text in [
            "character = [\"nrf\"]",
            "updates_by = \"firmware\"\ncharacter = []",
        ] {
            let error = FleetFile::parse(text).unwrap_err();
            assert!(error.starts_with("character: "), "{error}");
        }
    }

    #[test]
    fn the_example_is_a_fleet() {
        let file = FleetFile::parse(include_str!("../../docs/fleet.toml")).unwrap();
        let target = version("V2.0").unwrap();
        let plan = file.plan(200, 4, 1, Faults::Default, &[target]).unwrap();
        assert_eq!(plan.members.len(), 200);
        assert!(plan.members.iter().any(|member| member.paging.is_some()));
        let queued = |member: &&Member| member.spec.behaviour.queue_mode.is_some();
        assert!(plan.members.iter().filter(queued).count() > 20);
    }

    #[test]
    fn a_share_of_nothing_is_refused() {
        for (text, expected) in [
            (
                "[[listening]]\nshare = 1\n[[listening]]\nshare = 0",
                "listening: share = 0 in entry 2",
            ),
            ("listening = []", "listening: give at least one entry"),
            (
                "[coverage]\ngood = 0\npoor = 0",
                "coverage: give at least one class a share",
            ),
            ("coverage = {}", "coverage: give at least one class a share"),
            (
                "[joining]\npercent = 0\nwithin_s = 60",
                "joining: percent is 1 to 90",
            ),
            (
                "[joining]\npercent = 5\nwithin_s = 0",
                "joining: within_s is 1 to",
            ),
        ] {
            let error = FleetFile::parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_a_fleet_file_does_not_know_is_refused() {
        for text in [
            "coverrage = {}",
            "[coverage]\nsplendid = 1",
            "[[listening]]\nwake_every_s = 1",
        ] {
            assert!(FleetFile::parse(text).is_err(), "{text}");
        }
    }
}
