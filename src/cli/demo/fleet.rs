use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sim::{
    Character, Image, UpdatesBy,
    fleet::{CoverageClass, DeviceSpec, Fleet, FleetConfig, Timing},
    psk::{Key, Psk},
    spec::QueueMode,
};

use super::{BEFORE, DemoArgs, TARGET};
use crate::config::{ProductConfig, ResourceText};

/// How much faster than in the field the simulated devices install and restart.
const SPEED: u32 = 100;
/// Devices that upgrade one after the other take their time, so that there are only this many.
const MOST_POOR: u32 = 20;
/// What some of the devices do wrong, and one in how many. The second half of them succeeds all the same.
const FAULTS: [(&str, u32); 10] = [
    ("refuse-notification=0x04", 100),
    ("report-upgrade=0x0A", 100),
    ("weak-signal", 100),
    ("no-object-4", 100),
    ("fails-install-silently", 100),
    ("silent-after-one-repeat", 50),
    ("reboots-in-download", 50),
    ("loses-progress", 100),
    ("never-reports-result", 50),
    ("repeats-everything", 50),
];
/// The same of devices without PCP.
const FAULTS_OF_OBJECTS: [(&str, u32); 8] = [
    ("reports-result=0x05", 100),
    ("reports-result=0x02", 100),
    ("claims-success-with-nothing", 100),
    ("ignores-update", 100),
    ("no-object-4", 100),
    ("never-notifies", 50),
    ("repeats-blocks", 50),
    ("asks-out-of-order", 50),
];
/// Those that restart for the installation go wrong in these ways besides.
const FAULTS_OF_FIRMWARE: [(&str, u32); 5] = [
    ("claims-success-with-old-version", 100),
    ("defers", 50),
    ("hides-updating", 50),
    ("result-after-registration", 50),
    ("stale-success", 50),
];
/// Limit of the installation where devices have no PCP, seconds.
pub(super) const EXECUTE_S: u64 = 40;
/// How long devices that sleep are awake, and asleep.
pub(super) const AWAKE_MS: u64 = 5_000;
const ASLEEP_MS: u64 = 35_000;
/// How long they install.
const INSTALL_MS: u64 = 2_000;
/// Their coverage, their cell, and how many may upgrade in it at once.
pub(super) const SLEEPING: [(CoverageClass, u32, u32); 3] = [
    (CoverageClass::Good, 1001, 3),
    (CoverageClass::Medium, 1002, 2),
    (CoverageClass::Poor, 1003, 1),
];
/// The lifetime of registrations where the devices stay when the task has ended: whoever looks hears them each minute.
const KEPT_LIFETIME_S: u32 = 120;
/// Fleets of fewer devices have no faults.
pub(super) const FAULTS_FROM: u32 = 20;

/// The devices: of each twenty, ten have good coverage (cells 1001 to 1003), five medium (1004, 1005), three
/// cannot measure theirs (1006), one is in a cell of poor coverage (1007), and one in a cell (1008) that is
/// good for some and poor for others.
pub(super) fn specs(args: &DemoArgs) -> Result<Vec<DeviceSpec>, String> {
    let (count, seed) = (args.devices, args.seed);
    let version = |text| pcp::Version::new(text).map_err(|e| e.to_string());
    let mut config = FleetConfig::new(count as usize, version(BEFORE)?);
    config.target = Some(version(TARGET)?);
    config.endpoint_prefix = "demo-".into();
    config.seed = seed;
    config.timing = Timing::default().faster(SPEED);
    config.start_spread_ms = 2_000;
    let mut faults: Vec<_> = FAULTS.to_vec();
    if let Some(updates_by) = args.object {
        config.updates_by = updates_by;
        config.characters = characters(updates_by);
        config.component = component(updates_by).map(Into::into);
        config.images = vec![Image::new(version(TARGET)?, &package(args))];
        faults = FAULTS_OF_OBJECTS.to_vec();
        if updates_by != UpdatesBy::Software {
            faults.extend(FAULTS_OF_FIRMWARE);
        }
    }
    config.faults = faults
        .iter()
        .filter(|_| count >= FAULTS_FROM && !args.sleeping)
        .map(|(fault, one_in)| {
            let fault = format!("{fault}={}", count.div_ceil(*one_in));
            fault.parse().map_err(|e| format!("{fault}: {e}"))
        })
        .collect::<Result<_, String>>()?;
    if args.sleeping {
        config.start_spread_ms = AWAKE_MS + ASLEEP_MS;
        config.timing.install_ms = INSTALL_MS;
        config.behaviour.queue_mode = Some(QueueMode {
            awake_ms: AWAKE_MS,
            sleep_ms: ASLEEP_MS,
        });
    }
    if args.keep && !args.sleeping {
        config.behaviour.lifetime_s = KEPT_LIFETIME_S;
    }
    let mut specs = Fleet::specs(&config).map_err(|e| e.to_string())?;
    for (index, spec) in (0..).zip(&mut specs) {
        let format = spec.coverage.format;
        let (class, cell) = if args.sleeping {
            let (class, cell, _) = SLEEPING[index as usize % SLEEPING.len()];
            (class, cell)
        } else {
            place(index)
        };
        // A device without object 4 stays one, in whatever cell.
        spec.coverage = class.coverage(Some(cell));
        spec.coverage.format = format;
        if args.dtls || (args.mixed && index % 2 == 1) {
            spec.psk = Some(psk(&spec.endpoint, seed)?);
        }
    }
    Ok(specs)
}

/// Which clients they are like.
fn characters(updates_by: UpdatesBy) -> Vec<Character> {
    let able = [
        Character::Anjay,
        Character::Zephyr,
        Character::Nrf,
        Character::Leshan,
        Character::PushOnly,
    ];
    // nothing tells that a software is to be written to its device
    let pulls = |it: &Character| updates_by != UpdatesBy::Software || *it != Character::PushOnly;
    able.into_iter().filter(pulls).collect()
}

/// What the package is for, where it is not for the whole device.
pub(super) const fn component(updates_by: UpdatesBy) -> Option<&'static str> {
    match updates_by {
        UpdatesBy::Pcp | UpdatesBy::Firmware => None,
        UpdatesBy::Software => Some("software"),
        UpdatesBy::Components => Some("modem"),
    }
}

/// What is set for the devices: some say that they were upgraded, and were not, which their version tells.
pub(super) fn product(args: &DemoArgs) -> ProductConfig {
    let path = match args.object {
        Some(UpdatesBy::Firmware) => ResourceText::from("/3/0/3").ok(),
        Some(UpdatesBy::Components) => ResourceText::from("/33629/1/15").ok(),
        _ => None,
    };
    ProductConfig {
        version_resource: path,
        ..ProductConfig::default()
    }
}

/// The package.
pub(super) fn package(args: &DemoArgs) -> Vec<u8> {
    content(args.package_kib as usize * 1024, args.seed)
}

/// A device's key, which follows from its name.
fn psk(endpoint: &str, seed: u64) -> Result<Psk, String> {
    let digest = Sha256::digest(format!("demo {seed} {endpoint}"));
    Key::new(&digest[..16])
        .and_then(|key| Psk::new(endpoint, key))
        .map_err(|error| error.to_string())
}

/// What the server is told of a device, which is at this site.
pub(super) fn entry(spec: &DeviceSpec, site: Option<&str>) -> Value {
    let mut entry = json!({ "endpoint": spec.endpoint, "product": "demo" });
    if let Some(site) = site {
        entry["site"] = site.into();
    }
    if let Some(psk) = &spec.psk {
        entry["psk"] = json!({ "identity": psk.identity, "key": hex::encode(psk.key.bytes()) });
    }
    entry
}

fn place(index: u32) -> (CoverageClass, u32) {
    let round = index / 20;
    let poor = round < MOST_POOR / 2;
    match index % 20 {
        k @ 0..=8 => (CoverageClass::Good, 1001 + k % 3),
        9 => (CoverageClass::Good, 1008),
        k @ 10..=14 => (CoverageClass::Medium, 1004 + k % 2),
        15 | 16 => (CoverageClass::Unmeasurable, 1006),
        17 => (CoverageClass::Implausible, 1006),
        18 if poor => (CoverageClass::Poor, 1007),
        19 if poor => (CoverageClass::Poor, 1008),
        _ => (CoverageClass::Good, 1003),
    }
}

/// What is to come of the devices.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Whether each endpoint is to succeed.
    pub(super) succeeds: BTreeMap<String, bool>,
    /// Devices in each cell.
    pub(super) cells: BTreeMap<u32, u64>,
    /// The cell of each endpoint.
    pub(super) cell_of: BTreeMap<String, u32>,
    /// How many may upgrade at once in each cell of devices that sleep.
    pub(super) limits: BTreeMap<u32, u64>,
}

impl Plan {
    pub(super) fn of(specs: &[DeviceSpec]) -> Self {
        let mut plan = Self {
            succeeds: BTreeMap::new(),
            cells: BTreeMap::new(),
            cell_of: BTreeMap::new(),
            limits: (SLEEPING.iter())
                .map(|(_, cell, limit)| (*cell, u64::from(*limit)))
                .collect(),
        };
        for spec in specs {
            let succeeds = spec.expected() == sim::Expected::Succeeded;
            plan.succeeds.insert(spec.endpoint.clone(), succeeds);
            if let Some(cell) = spec.coverage.cell_id {
                *plan.cells.entry(cell).or_default() += 1;
                plan.cell_of.insert(spec.endpoint.clone(), cell);
            }
        }
        plan
    }

    pub(super) fn expected_failures(&self) -> usize {
        self.succeeds
            .values()
            .filter(|succeeds| !**succeeds)
            .count()
    }
}

/// Bytes that look like nothing, the same for the same seed.
pub(super) fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        // Knuth's MMIX generator
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(len)
    .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        demo: DemoArgs,
    }

    #[test]
    fn devices_that_stay_are_heard_each_minute() {
        let lifetimes = |line: &str| {
            let args = Line::try_parse_from(line.split(' ')).unwrap().demo;
            let specs = specs(&args).unwrap();
            specs.into_iter().map(|spec| spec.behaviour.lifetime_s)
        };
        assert!(lifetimes("demo --devices 9 --keep").all(|it| it == 120));
        assert!(lifetimes("demo --devices 9").all(|it| it > 120));
        // those that sleep are heard when they wake up
        assert!(lifetimes("demo --devices 9 --keep --sleeping").all(|it| it > 120));
    }
}
