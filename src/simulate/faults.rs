use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;
use sim::radio::Conditions;

/// How much goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Faults {
    /// Nothing: every datagram arrives once and in order, every device does as it should.
    None,
    /// An ordinary day: some datagrams are lost, some devices are peculiar or fail.
    #[default]
    Default,
    /// A bad day: much is lost, doubled, reordered and held up, cells fall out, devices restart and change
    /// their address in mid-download, the store fails now and then.
    Harsh,
}

/// What goes wrong besides the radio, as mean times between two such events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mishaps {
    /// A device loses its power for a moment.
    pub(super) power_loss: Option<Duration>,
    /// A network gives a device another address.
    pub(super) new_address: Option<Duration>,
    /// The store fails.
    pub(super) store_outage: Option<Duration>,
    /// The operator gives a cell other rules: it is closed, opened, or has a limit of its own.
    pub(super) rule: Option<Duration>,
    /// The store is put back to an older state, as from a backup; as long a time before, on average, that was copied.
    pub(super) put_back: Option<Duration>,
}

/// What the network does to devices that speak MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lines {
    /// The mean time between two mishaps of a device's connection: it breaks, with or without a word; nothing gets through for a while;
    /// somebody else connects in its name.
    pub(super) mishap: Option<Duration>,
    /// After so many of a thousand pieces of a download its connection breaks.
    pub(super) cut_per_mille: u64,
    /// So many of a thousand downloads find nobody.
    pub(super) unreachable_per_mille: u64,
    /// So many of a hundred connections that a device breaks off, or that the network breaks, are not missed at once by the other side.
    pub(super) unnoticed_percent: u64,
}

/// The longest time for which the store fails.
pub(super) const LONGEST_STORE_OUTAGE: Duration = Duration::from_mins(1);

impl Faults {
    pub(super) const fn conditions(self) -> Conditions {
        match self {
            Self::None => Conditions::CALM,
            Self::Default => Conditions::USUAL,
            Self::Harsh => Conditions::HARSH,
        }
    }

    pub(super) const fn mishaps(self) -> Mishaps {
        match self {
            Self::None => Mishaps {
                power_loss: None,
                new_address: None,
                store_outage: None,
                rule: None,
                put_back: None,
            },
            Self::Default => Mishaps {
                power_loss: Some(Duration::from_hours(100)),
                new_address: Some(Duration::from_hours(50)),
                store_outage: None,
                rule: None,
                put_back: None,
            },
            Self::Harsh => Mishaps {
                power_loss: Some(Duration::from_hours(2)),
                new_address: Some(Duration::from_hours(1)),
                store_outage: Some(Duration::from_mins(20)),
                rule: None,
                put_back: None,
            },
        }
    }

    pub(super) const fn lines(self) -> Lines {
        match self {
            Self::None => Lines {
                mishap: None,
                cut_per_mille: 0,
                unreachable_per_mille: 0,
                unnoticed_percent: 0,
            },
            Self::Default => Lines {
                mishap: Some(Duration::from_hours(4)),
                cut_per_mille: 2,
                unreachable_per_mille: 5,
                unnoticed_percent: 30,
            },
            Self::Harsh => Lines {
                mishap: Some(Duration::from_mins(10)),
                cut_per_mille: 20,
                unreachable_per_mille: 30,
                unnoticed_percent: 60,
            },
        }
    }

    /// What devices that speak MQTT do wrong unless the fleet file says it, in percent of those of a style.
    pub(super) const fn mqtt_characters(self) -> &'static [(&'static str, u8)] {
        match self {
            Self::None => &[],
            Self::Default => &[
                ("corrupt-download", 2),
                ("cut-download", 3),
                ("drops-in-download", 3),
                ("blocked-download", 3),
                ("loses-report", 2),
                ("reconnect-storm", 1),
                ("shares-client-id", 1),
                ("claims-without-download", 1),
                ("old-version-after-success", 1),
            ],
            Self::Harsh => &[
                ("refuses@1", 3),
                ("refuses@3", 3),
                ("corrupt-download", 6),
                ("broken-download", 4),
                ("cut-download", 8),
                ("drops-in-download", 8),
                ("blocked-download", 8),
                ("old-version-after-success", 6),
                ("claims-without-download", 8),
                ("loses-report", 8),
                ("progress-burst", 4),
                ("reconnect-storm", 6),
                ("shares-client-id", 6),
                ("no-version", 2),
                ("old-version-first@2", 4),
                ("old-version-first@4", 3),
                ("already-current", 4),
                ("wrong-secret", 2),
            ],
        }
    }

    /// What devices behind gateways do wrong besides.
    pub(super) const fn behind_characters(self) -> &'static [(&'static str, u8)] {
        match self {
            Self::None => &[],
            Self::Default => &[("success-at-once", 2), ("lost-child", 1), ("refuses@4", 1)],
            Self::Harsh => &[("success-at-once", 3), ("lost-child", 2), ("refuses@4", 2)],
        }
    }

    /// What gateways do wrong themselves, in percent of them.
    pub(super) const fn gateway_characters(self) -> &'static [(&'static str, u8)] {
        match self {
            Self::None => &[],
            Self::Default => &[("drops-in-download", 10)],
            Self::Harsh => &[("drops-in-download", 30)],
        }
    }

    /// What devices with an object for upgrades do wrong unless a fleet file says it, in percent of all, as far as they can.
    pub(super) const fn object_characters(self) -> &'static [(&'static str, u8)] {
        match self {
            Self::None => &[],
            Self::Default => &[
                ("reboots-in-download", 2),
                ("loses-progress", 2),
                ("defers", 2),
                ("hides-updating", 2),
                ("never-notifies", 2),
                ("refuses-observation", 2),
                ("result-after-registration", 1),
                ("stale-success", 1),
                ("never-reports-result", 1),
                ("repeats-blocks", 1),
                ("asks-out-of-order", 1),
                ("reports-result=0x05", 1),
                ("reports-result=0x08", 1),
                ("stops-mid-download", 1),
            ],
            Self::Harsh => &[
                ("reboots-in-download", 5),
                ("loses-progress", 4),
                ("defers", 3),
                ("hides-updating", 3),
                ("never-notifies", 3),
                ("refuses-observation", 3),
                ("result-after-registration", 3),
                ("never-reports-result", 2),
                ("fails-install-silently", 2),
                ("repeats-blocks", 3),
                ("asks-out-of-order", 3),
                ("repeats-everything", 2),
                ("reports-result=0x02", 1),
                ("reports-result=0x04", 1),
                ("reports-result=0x05", 1),
                ("reports-result=0x07", 1),
                ("reports-result=0x08", 1),
                ("claims-success-with-old-version", 2),
                ("claims-success-with-nothing", 2),
                ("ignores-update", 2),
                ("refuses-uri", 1),
                ("install-fails", 2),
                ("uninstall-fails", 2),
                ("stops-mid-download", 2),
                ("no-object-4", 1),
                ("already-current", 1),
            ],
        }
    }

    /// What devices do wrong unless a fleet file says it, in percent of all: those that are peculiar or fail, and
    /// those that lie.
    pub(super) const fn characters(self) -> [&'static [(&'static str, u8)]; 2] {
        [self.failing(), self.lying()]
    }

    const fn lying(self) -> &'static [(&'static str, u8)] {
        match self {
            Self::None => &[],
            Self::Default => &[
                ("claims-target", 1),
                ("claims-target-fails", 1),
                ("reports-before-restart", 1),
                ("dirty-version", 1),
            ],
            Self::Harsh => &[
                ("claims-target", 3),
                ("claims-target-fails", 3),
                ("claims-target-restarts-old", 2),
                ("claims-target-late-success", 2),
                ("claims-current-mid-download", 3),
                ("reports-before-restart", 3),
                ("dirty-version", 4),
                ("deaf-download", 2),
            ],
        }
    }

    const fn failing(self) -> &'static [(&'static str, u8)] {
        match self {
            Self::None => &[],
            Self::Default => &[
                ("silent-after-one-repeat", 2),
                ("reboots-in-download", 2),
                ("loses-progress", 1),
                ("never-answers-notification", 1),
                ("never-answers-execute", 1),
                ("never-reports-result", 1),
                ("repeats-everything", 1),
                ("execute-timeout-noise", 1),
                ("late-report", 1),
                ("old-token", 1),
                ("small-buffer", 1),
                ("already-current", 1),
                ("refuse-notification=0x04", 1),
                ("fails-install-silently", 1),
                ("no-object-4", 1),
            ],
            Self::Harsh => &[
                ("silent-after-one-repeat", 4),
                ("reboots-in-download", 4),
                ("loses-progress", 3),
                ("never-answers-notification", 3),
                ("never-answers-execute", 3),
                ("never-reports-result", 3),
                ("repeats-everything", 3),
                ("execute-timeout-noise", 3),
                ("late-report", 3),
                ("old-token", 3),
                ("small-buffer", 3),
                ("already-current", 2),
                ("refuse-version-query=0x7F", 1),
                ("refuse-notification=0x04", 1),
                ("weak-signal", 1),
                ("refuse-execute=0x01", 1),
                ("report-download=0x07", 1),
                ("report-upgrade=0x0A", 2),
                ("stops-mid-download", 1),
                ("fails-install-silently", 2),
                ("no-object-4", 1),
                ("full-segments", 1),
            ],
        }
    }

    /// Products in the fleet, each with a package of its own.
    pub(crate) const fn products(self) -> usize {
        match self {
            Self::None | Self::Default => 1,
            Self::Harsh => 3,
        }
    }
}
