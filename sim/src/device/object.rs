//! Upgrades by an object of OMA's: 5 (Firmware Update), 9 (LWM2M Software Management) and 33629 (Advanced Firmware
//! Update, with a component in each instance).
//!
//! The server reads the version, writes the package to an instance or tells its URI, sees by the state that all of it is
//! there, and executes the update (objects 5 and 33629: OMA LwM2M Core 1.1 §E.6) or installs and activates the software
//! (OMA LWM2M Object Software Management 1.0 §5.1). A device checks a package against those that it expects: what a package
//! is made of says nothing to it.
//!
//! Requests come in through `requests`, packages through `pull` or `push`; `apply` is what happens with them then.

mod apply;
mod observing;
mod pull;
mod push;
mod reading;
mod received;
mod requests;
mod uri;

use std::fmt::Write;

use pcp::Version;

pub(super) use received::Received;

use super::{Device, DeviceState, Outcome};
use crate::{
    device::Destination,
    fault::{Fault, ObjectFault},
    object::UpdatesBy,
    spec::DeviceSpec,
};
use apply::Due;
use observing::Observation;
use pull::Pull;

/// The software that is installed, where the device's spec has no name for it.
const SOFTWARE: &str = "software";
/// The components, where it has none for the second.
const COMPONENTS: [&str; 2] = ["main", "modem"];

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Downloading,
    /// Holds all of a package, and has checked it.
    Downloaded,
    Updating,
    /// Of software alone.
    Installed,
}

/// What an instance tells of how it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Nothing,
    Success,
    /// With this result of object 5, or, from 50 on, of object 9.
    With(u8),
}

/// An instance of the object.
#[derive(Debug, Clone)]
struct Instance {
    /// The component's, or the software's.
    name: String,
    /// What is installed.
    version: Option<Version>,
    phase: Phase,
    ended: Ended,
    uri: String,
    received: Option<Received>,
    /// Whether the package is being pushed.
    pushed: bool,
    /// What the package is that is there.
    offered: Option<Version>,
    /// It has begun to install.
    installing: bool,
    active: bool,
    /// State and result when anybody was told last.
    told: (i64, i64),
}

impl Instance {
    fn new(name: &str, version: Option<Version>, phase: Phase) -> Self {
        Self {
            name: name.to_owned(),
            version,
            phase,
            ended: Ended::Nothing,
            uri: String::new(),
            received: None,
            pushed: false,
            offered: None,
            installing: false,
            active: phase == Phase::Installed,
            told: (0, 0),
        }
    }

    /// State and result, in the object's numbers.
    fn standing(&self, object: UpdatesBy) -> (i64, i64) {
        if object != UpdatesBy::Software {
            let state = match self.phase {
                Phase::Idle => 0,
                Phase::Downloading => 1,
                Phase::Downloaded => 2,
                Phase::Updating | Phase::Installed => 3,
            };
            let result = match self.ended {
                Ended::Nothing => 0,
                Ended::Success => 1,
                Ended::With(result) => result.into(),
            };
            return (state, result);
        }
        let (state, usual) = match self.phase {
            Phase::Idle => (0, 0),
            Phase::Downloading => (1, 1),
            Phase::Downloaded | Phase::Updating => (3, 3),
            Phase::Installed => (4, 2),
        };
        let result = match self.ended {
            Ended::Nothing => usual,
            Ended::Success => 2,
            Ended::With(result) => of_software(result),
        };
        (state, result)
    }

    /// Whether a package can be told of.
    const fn is_free(&self) -> bool {
        matches!(self.phase, Phase::Idle) && !self.installing
    }

    /// What was downloaded is discarded.
    fn discard(&mut self) {
        self.received = None;
        self.offered = None;
        self.pushed = false;
    }
}

/// What stands in object 9 for a result of object 5.
fn of_software(result: u8) -> i64 {
    match result {
        2..=6 => 48 + i64::from(result),
        7 => 56,
        8 => 58,
        9 | 10 => 57,
        result => result.into(),
    }
}

/// The device's objects for upgrades.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    by: UpdatesBy,
    number: u16,
    instances: Vec<Instance>,
    observations: Vec<Observation>,
    pull: Option<Pull>,
    due: Option<Due>,
    /// Sockets that were opened so far.
    connections: u16,
    /// What is observed is told again after this time, s.
    told_every_s: Option<u32>,
    /// The fault that strikes once has struck.
    struck: bool,
    /// Deaf to everything about packages.
    silent: bool,
    /// It has ended, and nobody has been told how.
    untold: bool,
}

impl Objects {
    /// None where the device is upgraded by PCP.
    pub(super) fn of(spec: &DeviceSpec) -> Option<Self> {
        let number = spec.updates_by.object()?;
        let component = spec.object.component.as_deref();
        let version = Some(spec.version);
        let [main, modem] = COMPONENTS;
        let mut instances = match spec.updates_by {
            UpdatesBy::Software => vec![
                Instance::new(component.unwrap_or(SOFTWARE), version, Phase::Installed),
                Instance::new("", None, Phase::Idle),
            ],
            UpdatesBy::Components => vec![
                Instance::new(main, version, Phase::Idle),
                Instance::new(component.unwrap_or(modem), version, Phase::Idle),
            ],
            UpdatesBy::Pcp | UpdatesBy::Firmware => {
                vec![Instance::new("", version, Phase::Idle)]
            }
        };
        let stale = spec.fault == Some(Fault::Object(ObjectFault::StaleSuccess));
        for instance in &mut instances {
            if stale {
                instance.ended = Ended::Success;
            }
            instance.told = instance.standing(spec.updates_by);
        }
        Some(Self {
            by: spec.updates_by,
            number,
            instances,
            observations: Vec::new(),
            pull: None,
            due: None,
            connections: 0,
            told_every_s: None,
            struck: false,
            silent: false,
            untold: false,
        })
    }

    /// Names the instances in a registration.
    pub(super) fn push_links(&self, links: &mut String) {
        for index in 0..self.instances.len() {
            let written = write!(links, ",</{}/{index}>", self.number);
            debug_assert!(written.is_ok(), "writing to a String does not fail");
        }
    }

    pub(super) fn is_installing(&self) -> bool {
        self.instances.iter().any(|instance| instance.installing)
    }

    /// What the device has of a package, if any.
    pub(super) fn image(&self) -> Option<&Received> {
        (self.instances.iter()).find_map(|instance| instance.received.as_ref())
    }

    /// Whether a download or an installation goes on in another instance.
    fn is_busy_beside(&self, index: usize) -> bool {
        (self.instances.iter().enumerate()).any(|(other, instance)| {
            other != index && (instance.phase == Phase::Downloading || instance.installing)
        })
    }
}

impl Device {
    /// Where the device downloads from at present, if it does so from a socket of its own.
    pub fn download(&self) -> Option<(u16, &Destination)> {
        self.object.as_ref()?.pull.as_ref()?.socket()
    }

    pub(super) fn object_fault(&self) -> Option<ObjectFault> {
        match self.spec.fault {
            Some(Fault::Object(fault)) => Some(fault),
            _ => None,
        }
    }

    /// What the object is doing; none where it is doing nothing, or there is none.
    pub(super) fn object_state(&self) -> Option<DeviceState> {
        let objects = self.object.as_ref()?;
        if objects.silent {
            return Some(DeviceState::Silent);
        }
        (objects.instances.iter()).find_map(|instance| match instance.phase {
            _ if instance.installing => Some(DeviceState::Installing),
            Phase::Downloading => Some(DeviceState::Downloading),
            Phase::Downloaded => Some(DeviceState::Downloaded),
            Phase::Updating => Some(DeviceState::Installing),
            Phase::Idle | Phase::Installed => None,
        })
    }

    /// Whether it has yet to tell how it went, or to find out.
    pub(super) fn has_untold_result(&self) -> bool {
        (self.object.as_ref()).is_some_and(|objects| objects.untold || objects.due.is_some())
    }

    /// It is over without the new version; the instance says so from now on.
    fn object_ends(&mut self, index: usize, phase: Phase, ended: Ended) {
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let by = objects.by;
        let instance = &mut objects.instances[index];
        instance.phase = phase;
        instance.ended = ended;
        instance.installing = false;
        if phase != Phase::Downloaded {
            instance.discard();
        }
        let (_, result) = instance.standing(by);
        objects.untold = true;
        self.upgrade.outcome = Some(Outcome::Result(u8::try_from(result).unwrap_or(u8::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_results_are_those_of_the_object() {
        let standing = |by, phase, ended| {
            let mut instance = Instance::new("", None, phase);
            instance.ended = ended;
            instance.standing(by)
        };
        let firmware = |phase, ended| standing(UpdatesBy::Firmware, phase, ended);
        assert_eq!(firmware(Phase::Downloaded, Ended::Nothing), (2, 0));
        assert_eq!(firmware(Phase::Idle, Ended::Success), (0, 1));
        assert_eq!(firmware(Phase::Idle, Ended::With(10)), (0, 10));
        let software = |phase, ended| standing(UpdatesBy::Software, phase, ended);
        assert_eq!(software(Phase::Downloading, Ended::Nothing), (1, 1));
        assert_eq!(software(Phase::Downloaded, Ended::Nothing), (3, 3));
        assert_eq!(software(Phase::Installed, Ended::Nothing), (4, 2));
        let results = (2..=10).map(|result| software(Phase::Idle, Ended::With(result)).1);
        let results: Vec<_> = results.collect();
        assert_eq!(results, [50, 51, 52, 53, 54, 56, 58, 57, 57]);
        assert_eq!(software(Phase::Installed, Ended::With(59)), (4, 59));
    }
}
