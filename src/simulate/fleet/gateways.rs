//! Gateways of a fleet, and who is behind them.

use std::collections::BTreeMap;

use serde::Deserialize;
use sim::mqtt::Spec;

/// Devices behind one gateway at most.
const MOST_BEHIND: u32 = 1_000;
/// The longest time within which devices get another gateway.
const MOST_MOVING_S: u32 = 30 * 86_400;
/// The operator says so up to this time before the device is there, or after it.
const TOLD_WITHIN_MS: u64 = 5 * 60 * 1_000;

/// What gateways of an entry are like.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GatewaysFile {
    /// How many devices of each may upgrade at once; as the settings say where it is not given.
    pub(super) per_gateway: Option<u32>,
    /// Whether they say themselves who is behind them, and not the operator.
    pub(super) tell: bool,
    /// What they do wrong themselves (names as in `cellwise-sim --list-faults`), in percent of the gateways.
    pub(super) characters: Option<BTreeMap<String, u8>>,
    /// Devices that get another gateway while the task runs.
    pub(super) moving: Option<MovingFile>,
}

/// Devices that get another gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MovingFile {
    /// So many percent of those behind gateways, about.
    percent: u8,
    /// Within this time after the start of the task, seconds.
    within_s: u32,
}

/// A gateway, and how it is connected.
#[derive(Debug)]
pub(in super::super) struct Gateway {
    /// Without those behind it.
    pub(in super::super) spec: Spec,
    pub(in super::super) product: String,
    /// How long bytes are on their way to it at least, ms.
    pub(in super::super) latency_ms: u64,
    /// How fast it downloads.
    pub(in super::super) bytes_per_s: u64,
}

/// Through which gateway a device is reached.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Behind {
    /// Its number.
    pub(in super::super) gateway: usize,
    /// The operator says so from the beginning.
    pub(in super::super) told: bool,
    pub(in super::super) moves: Option<Moves>,
}

/// When a device gets another gateway.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Moves {
    /// The number of that one.
    pub(in super::super) to: usize,
    /// When it is there, ms.
    pub(in super::super) at_ms: u64,
    /// When the operator says so, where he does, ms.
    pub(in super::super) told_at_ms: Option<u64>,
}

impl GatewaysFile {
    /// Why there can be no such gateways, with so many devices behind each, if that is so.
    pub(super) fn check(&self, behind: u32) -> Result<(), String> {
        if !(1..=MOST_BEHIND).contains(&behind) {
            return Err(format!("behind is 1 to {MOST_BEHIND}"));
        }
        if self.per_gateway == Some(0) {
            return Err("gateways.per_gateway is at least 1".to_owned());
        }
        let Some(moving) = self.moving else {
            return Ok(());
        };
        if !(1..=100).contains(&moving.percent) {
            return Err("gateways.moving: percent is 1 to 100; leave it out where no device gets another gateway".to_owned());
        }
        if !(1..=MOST_MOVING_S).contains(&moving.within_s) {
            return Err(format!("gateways.moving: within_s is 1 to {MOST_MOVING_S}"));
        }
        Ok(())
    }

    /// A device of that seed is behind the gateway `own` of so many, of which `first` is the number of the first one.
    pub(super) fn behind(
        &self,
        dice: u64,
        (first, own, gateways): (usize, usize, usize),
        start_ms: u64,
    ) -> Behind {
        let moving = self
            .moving
            .filter(|moving| gateways > 1 && (dice >> 24) % 100 < u64::from(moving.percent));
        let moves = moving.map(|moving| {
            let at_ms = start_ms + (dice >> 32) % (u64::from(moving.within_s) * 1_000);
            let told_at_ms = (at_ms + (dice >> 12) % (2 * TOLD_WITHIN_MS))
                .saturating_sub(TOLD_WITHIN_MS)
                .max(start_ms);
            Moves {
                to: first + (own + 1) % gateways,
                at_ms,
                told_at_ms: (!self.tell).then_some(told_at_ms),
            }
        });
        Behind {
            gateway: first + own,
            told: !self.tell,
            moves,
        }
    }
}
