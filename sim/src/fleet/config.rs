use std::{fmt, str::FromStr, sync::Arc};

use pcp::Version;
use thiserror::Error;

use super::{FleetError, Psks};
use crate::{
    content::ContentFormat,
    fault::{Fault, FaultError},
    object::{Character, Image, ObjectSpec, UpdatesBy},
    rng::Rng,
    spec::{Behaviour, CoverageClass, DeviceSpec, Timing},
};

/// What a fleet consists of.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// Number of devices.
    pub devices: usize,
    /// Number of cells that they are spread over.
    pub cells: u32,
    /// Cell ID of the first cell; the others follow it.
    pub first_cell_id: u32,
    /// Endpoint names are this and six digits from 000000.
    pub endpoint_prefix: String,
    /// The version that the devices run at first.
    pub version: Version,
    /// The version that the server will offer, needed for devices that run it already.
    pub target: Option<Version>,
    /// By what the devices are upgraded.
    pub updates_by: UpdatesBy,
    /// Which clients they are like where that is not PCP, dealt out in turn.
    pub characters: Vec<Character>,
    /// A component that they have, or their software.
    pub component: Option<Arc<str>>,
    /// The packages that they may be given. Without one whatever comes is taken for the target.
    pub images: Vec<Image>,
    /// Which device gets which coverage and which fault follows from this number, and so does all that
    /// happens by chance.
    pub seed: u64,
    /// Classes of coverage with their shares, as in 6 : 3 : 1.
    pub coverage: Vec<(CoverageClass, u32)>,
    /// Content formats of the answers, dealt out in turn.
    pub formats: Vec<ContentFormat>,
    /// Faults, and how many devices have each.
    pub faults: Vec<FaultShare>,
    /// Habits of all devices.
    pub behaviour: Behaviour,
    /// Delays of all devices.
    pub timing: Timing,
    /// The first registrations are spread over this time, in ms.
    pub start_spread_ms: u64,
    /// Keys, for devices that speak DTLS.
    pub psks: Option<Psks>,
}

impl FleetConfig {
    /// Devices in good coverage in one cell, without faults.
    pub fn new(devices: usize, version: Version) -> Self {
        Self {
            devices,
            cells: 1,
            first_cell_id: 1001,
            endpoint_prefix: "sim-".to_owned(),
            version,
            target: None,
            updates_by: UpdatesBy::default(),
            characters: vec![Character::default()],
            component: None,
            images: Vec::new(),
            seed: 0,
            coverage: vec![(CoverageClass::Good, 1)],
            formats: vec![ContentFormat::Tlv],
            faults: Vec::new(),
            behaviour: Behaviour::default(),
            timing: Timing::default(),
            start_spread_ms: 0,
            psks: None,
        }
    }

    pub(super) fn specs(&self) -> Result<Vec<DeviceSpec>, FleetError> {
        if self.devices == 0 {
            return Err(FleetError::NoDevices);
        }
        if self.cells == 0 {
            return Err(FleetError::NoCells);
        }
        let images = self.expected_images()?;
        let mut rng = Rng::new(self.seed);
        let classes = self.deal_coverage(&mut rng)?;
        let faults = self.deal_faults(&mut rng)?;
        let formats = self.formats.iter().copied().cycle();
        let cells = (0..self.cells).cycle();
        let mut characters = self.characters.iter().copied().cycle();
        let mut specs: Vec<_> = classes
            .into_iter()
            .zip(faults)
            .zip(formats.zip(cells))
            .enumerate()
            .map(|(index, ((class, fault), (format, cell)))| {
                let mut coverage = class.coverage(Some(self.first_cell_id.wrapping_add(cell)));
                coverage.format = format;
                DeviceSpec {
                    endpoint: format!("{}{index:06}", self.endpoint_prefix),
                    psk: None,
                    claims: None,
                    version: match (fault, self.target) {
                        (Some(Fault::AlreadyCurrent), Some(target)) => target,
                        _ => self.version,
                    },
                    updates_by: self.updates_by,
                    object: ObjectSpec {
                        character: characters.next().unwrap_or_default(),
                        component: self.component.clone(),
                        images: Arc::clone(&images),
                    },
                    coverage,
                    fault,
                    behaviour: self.behaviour.clone(),
                    timing: Timing {
                        start_delay_ms: self.timing.start_delay_ms
                            + rng.below(self.start_spread_ms),
                        ..self.timing
                    },
                    seed: rng.next(),
                }
            })
            .collect();
        if specs.is_empty() {
            return Err(FleetError::NoFormat);
        }
        if let Some(psks) = &self.psks {
            for spec in &mut specs {
                spec.psk = Some(psks.of(&spec.endpoint)?);
            }
        }
        claim_others(&mut specs);
        Ok(specs)
    }

    /// What is downloaded says nothing of its version: a device has to be told.
    fn expected_images(&self) -> Result<Arc<[Image]>, FleetError> {
        if self.updates_by == UpdatesBy::Pcp || !self.images.is_empty() {
            return Ok(self.images.as_slice().into());
        }
        let target = self.target.ok_or(FleetError::NoImage)?;
        Ok([Image::any(target)].into())
    }

    /// Exactly in the ordered shares, as far as they go into the number of devices; in random order, so
    /// that every cell gets some of each.
    fn deal_coverage(&self, rng: &mut Rng) -> Result<Vec<CoverageClass>, FleetError> {
        let total: u64 = self
            .coverage
            .iter()
            .map(|(_, share)| u64::from(*share))
            .sum();
        if total == 0 {
            return Err(FleetError::NoCoverage);
        }
        let mut dealt = Vec::with_capacity(self.devices);
        let mut share_so_far = 0;
        for (class, share) in &self.coverage {
            share_so_far += u64::from(*share);
            let end = self.devices as u128 * u128::from(share_so_far) / u128::from(total);
            dealt.resize(usize::try_from(end).unwrap_or(self.devices), *class);
        }
        rng.shuffle(&mut dealt);
        Ok(dealt)
    }

    fn deal_faults(&self, rng: &mut Rng) -> Result<Vec<Option<Fault>>, FleetError> {
        let mut dealt = Vec::with_capacity(self.devices);
        for FaultShare { fault, amount } in &self.faults {
            if *fault == Fault::AlreadyCurrent && self.target.is_none() {
                return Err(FleetError::NoTarget);
            }
            if !fault.fits(self.updates_by) {
                return Err(FleetError::FaultDoesNotFit {
                    fault: *fault,
                    updates_by: self.updates_by.name(),
                });
            }
            let count = amount.of(self.devices);
            let faulty = dealt.len().saturating_add(count);
            if faulty > self.devices {
                return Err(FleetError::TooManyFaults {
                    faulty,
                    devices: self.devices,
                });
            }
            dealt.resize(faulty, Some(*fault));
        }
        dealt.resize(self.devices, None);
        rng.shuffle(&mut dealt);
        Ok(dealt)
    }
}

/// Whoever claims to be another device claims to be the next one that does not.
fn claim_others(specs: &mut [DeviceSpec]) {
    let claims = |spec: &DeviceSpec| spec.fault == Some(Fault::ClaimsOtherEndpoint);
    for index in 0..specs.len() {
        if !claims(&specs[index]) {
            continue;
        }
        let (before, after) = specs.split_at(index);
        let other = after.iter().chain(before).find(|spec| !claims(spec));
        let name = match other {
            Some(other) => other.endpoint.clone(),
            None => format!("{}-other", specs[index].endpoint),
        };
        specs[index].claims = Some(name);
    }
}

/// A part of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many devices.
    Devices(usize),
    /// So much of the fleet, 0 to 100, rounded down, but one device at least.
    Percent(u8),
}

impl Amount {
    pub(crate) fn of(self, devices: usize) -> usize {
        match self {
            Self::Devices(count) => count,
            Self::Percent(0) => 0,
            Self::Percent(percent) => {
                let count = devices as u128 * u128::from(percent) / 100;
                usize::try_from(count).unwrap_or(devices).max(1)
            }
        }
    }
}

/// A fault, and how many devices have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultShare {
    /// The fault.
    pub fault: Fault,
    /// How many devices.
    pub amount: Amount,
}

/// Why a text is no [`FaultShare`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AmountError {
    /// Not a fault.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// More than everything.
    #[error("{0} % of the fleet is more than all of it")]
    Percent(u64),
    /// Neither a number nor a percentage.
    #[error("'{0}' is neither a number of devices nor a percentage")]
    Amount(String),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Devices(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// `20` for twenty devices, `5%` for a share.
impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let none = || AmountError::Amount(text.to_owned());
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Devices).map_err(|_| none());
        };
        let percent = percent.parse::<u64>().map_err(|_| none())?;
        match u8::try_from(percent) {
            Ok(percent @ 0..=100) => Ok(Self::Percent(percent)),
            _ => Err(AmountError::Percent(percent)),
        }
    }
}

impl fmt::Display for FaultShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.fault, self.amount)
    }
}

/// `FAULT` for one device, `FAULT=20` for twenty, `FAULT=5%` for a share. Result codes are told from
/// numbers of devices by their `0x`.
impl FromStr for FaultShare {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // what follows the sign may be a result code, which belongs to the fault
        let amount = |text: &str| match text.parse() {
            Err(AmountError::Amount(_)) => None,
            amount => Some(amount),
        };
        let split = text
            .rsplit_once('=')
            .and_then(|(fault, rest)| Some((fault, amount(rest)?)));
        let (fault, amount) = match split {
            Some((fault, amount)) => (fault, amount?),
            None => (text, Amount::Devices(1)),
        };
        Ok(Self {
            fault: fault.parse()?,
            amount,
        })
    }
}

#[cfg(test)]
mod tests {
    use pcp::ResultCode;

    use super::*;

    fn config(devices: usize) -> FleetConfig {
        FleetConfig::new(devices, Version::new("V1").unwrap())
    }

    fn count(specs: &[DeviceSpec], accept: impl Fn(&DeviceSpec) -> bool) -> usize {
        specs.iter().filter(|spec| accept(spec)).count()
    }

    #[test]
    fn shares_are_kept_exactly() {
        let mut config = config(100);
        config.cells = 5;
        config.coverage = vec![
            (CoverageClass::Good, 6),
            (CoverageClass::Medium, 3),
            (CoverageClass::Poor, 1),
        ];
        config.faults = vec![
            "old-token=7".parse().unwrap(),
            "late-report=10%".parse().unwrap(),
        ];
        let specs = config.specs().unwrap();
        assert_eq!(count(&specs, |s| s.coverage.rsrp_dbm == Some(-90)), 60);
        assert_eq!(count(&specs, |s| s.coverage.rsrp_dbm == Some(-112)), 10);
        assert_eq!(count(&specs, |s| s.coverage.cell_id == Some(1003)), 20);
        assert_eq!(count(&specs, |s| s.fault == Some(Fault::OldToken)), 7);
        assert_eq!(count(&specs, |s| s.fault == Some(Fault::LateReport)), 10);
        assert_eq!(specs[42].endpoint, "sim-000042");
    }

    #[test]
    fn one_seed_gives_one_fleet() {
        let fleet = |seed| {
            let mut config = config(50);
            config.seed = seed;
            config.start_spread_ms = 10_000;
            config.faults = vec!["old-token=20".parse().unwrap()];
            format!("{:?}", config.specs().unwrap())
        };
        assert_eq!(fleet(1), fleet(1));
        assert_ne!(fleet(1), fleet(2));
    }

    #[test]
    fn devices_that_are_current_run_the_target() {
        let mut config = config(2);
        config.faults = vec!["already-current".parse().unwrap()];
        assert!(matches!(config.specs(), Err(FleetError::NoTarget)));
        let target = Version::new("V2").unwrap();
        config.target = Some(target);
        let specs = config.specs().unwrap();
        assert_eq!(count(&specs, |spec| spec.version == target), 1);
    }

    #[test]
    fn devices_with_an_object_have_to_know_the_package() {
        let mut config = config(4);
        config.updates_by = UpdatesBy::Firmware;
        config.characters = vec![Character::Anjay, Character::Nrf];
        assert!(matches!(config.specs(), Err(FleetError::NoImage)));
        let target = Version::new("V2").unwrap();
        config.target = Some(target);
        config.faults = vec!["defers=2".parse().unwrap()];
        let specs = config.specs().unwrap();
        assert_eq!(*specs[0].object.images, [Image::any(target)]);
        let nrf = |spec: &DeviceSpec| spec.object.character == Character::Nrf;
        assert_eq!(count(&specs, nrf), 2);
        config.images = vec![Image::new(target, b"package")];
        let specs = config.specs().unwrap();
        assert_eq!(*specs[3].object.images, config.images[..]);

        config.faults = vec!["old-token".parse().unwrap()];
        let error = config.specs().unwrap_err().to_string();
        assert!(error.contains("'old-token' is none of devices"), "{error}");
        config.updates_by = UpdatesBy::Pcp;
        config.faults = vec!["defers".parse().unwrap()];
        assert!(matches!(
            config.specs(),
            Err(FleetError::FaultDoesNotFit { .. })
        ));
    }

    #[test]
    fn impossible_fleets_are_refused() {
        let mut no_cells = config(1);
        no_cells.cells = 0;
        assert!(matches!(no_cells.specs(), Err(FleetError::NoCells)));
        let mut no_coverage = config(1);
        no_coverage.coverage = vec![(CoverageClass::Good, 0)];
        assert!(matches!(no_coverage.specs(), Err(FleetError::NoCoverage)));
        let mut no_format = config(1);
        no_format.formats.clear();
        assert!(matches!(no_format.specs(), Err(FleetError::NoFormat)));
        let mut faulty = config(10);
        faulty.faults = vec![
            "old-token=8".parse().unwrap(),
            "late-report=3".parse().unwrap(),
        ];
        assert!(matches!(
            faulty.specs(),
            Err(FleetError::TooManyFaults {
                faulty: 11,
                devices: 10
            })
        ));
        assert!(matches!(config(0).specs(), Err(FleetError::NoDevices)));
    }

    #[test]
    fn amounts_are_told_from_result_codes() {
        let low_battery = Fault::RefuseNotification(ResultCode::LOW_BATTERY);
        let cases = [
            ("refuse-notification=0x04", low_battery, Amount::Devices(1)),
            (
                "refuse-notification=0x04=12",
                low_battery,
                Amount::Devices(12),
            ),
            ("old-token=5%", Fault::OldToken, Amount::Percent(5)),
            (
                "stops-mid-download@7=2",
                Fault::StopsMidDownload(Some(7)),
                Amount::Devices(2),
            ),
        ];
        for (text, fault, amount) in cases {
            assert_eq!(text.parse(), Ok(FaultShare { fault, amount }), "{text}");
        }
        assert_eq!(
            "old-token=101%".parse::<FaultShare>(),
            Err(AmountError::Percent(101))
        );
        assert_eq!(Amount::Percent(1).of(10), 1);
    }
}
