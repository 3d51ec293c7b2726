//! Devices behind gateways: through which one each is reached, and how many of each gateway upgrade at once.
//!
//! * No gateway's lane is over its limit: whoever takes a slot of it is one of so many at most, and the gate counts there whom it
//!   lets in;
//! * a device whose gateway has not got the whole package in that attempt never succeeds verified, whatever the gateway says;
//! * what a gateway says of a device that is behind another one is worth nothing: the rules of `over_mqtt` do not see it.

use std::collections::BTreeMap;

use super::{Invariants, Rule};
use crate::{
    clock::UtcMillis,
    ledger::{Lane, Stage, Via},
};

/// A gateway.
#[derive(Debug)]
struct Gateway {
    name: String,
    /// So many of its devices may upgrade at once.
    limit: u32,
    /// So many do.
    at_work: u32,
}

/// How a device is reached.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    /// Through which gateway, as it is stored.
    stored: Option<usize>,
    /// As the server that runs knows.
    known: Option<usize>,
    /// Of which gateway it has a slot.
    holds: Option<usize>,
    /// It has got another gateway in its attempt, which begins anew by that.
    anew: bool,
}

/// Gateways, and who is behind them.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    all: Vec<Gateway>,
    of: BTreeMap<usize, Reached>,
}

impl Gateways {
    fn number(&self, name: Option<&str>) -> Option<usize> {
        let name = name?;
        self.all.iter().position(|gateway| gateway.name == name)
    }

    fn take(&mut self, device: usize, gateway: Option<usize>) {
        let Some(reached) = self.of.get_mut(&device) else {
            return;
        };
        let before = std::mem::replace(&mut reached.holds, gateway);
        if let Some(before) = before.and_then(|number| self.all.get_mut(number)) {
            before.at_work = before.at_work.saturating_sub(1);
        }
        if let Some(its) = gateway.and_then(|number| self.all.get_mut(number)) {
            its.at_work += 1;
        }
    }
}

impl Invariants {
    /// There are these gateways, with the limit of each.
    pub(in super::super) fn gateways_are(&mut self, gateways: impl Iterator<Item = (String, u32)>) {
        let all = gateways.map(|(name, limit)| Gateway {
            name,
            limit,
            at_work: 0,
        });
        self.gateways.all = all.collect();
    }

    /// How many there are.
    pub(super) const fn gateway_count(&self) -> usize {
        self.gateways.all.len()
    }

    /// A device is reached so from now on, as the operator has it stored.
    pub(in super::super) fn is_to_be_reached(&mut self, device: usize, via: &Via) {
        if *via == Via::Itself {
            return;
        }
        let stored = self.gateways.number(via.gateway());
        self.gateways.of.entry(device).or_default().stored = stored;
    }

    /// Whether a device is behind gateways.
    pub(super) fn is_behind(&self, device: usize) -> bool {
        self.gateways.of.contains_key(&device)
    }

    /// Through which gateway a device is reached, as the server that runs knows.
    pub(in super::super) fn gateway_of(&self, device: usize) -> Option<usize> {
        self.gateways.of.get(&device)?.known
    }

    /// Who is reached through a gateway.
    pub(in super::super) fn behind(&self, gateway: usize) -> Vec<usize> {
        let of = self.gateways.of.iter();
        let its = of.filter(|(_, reached)| reached.known == Some(gateway));
        its.map(|(device, _)| *device).collect()
    }

    /// The server that runs hears that a device is reached through that gateway. What it was offered through another one is void.
    pub(in super::super) fn is_reached(
        &mut self,
        now: UtcMillis,
        device: usize,
        via: Option<&str>,
    ) {
        let gateway = self.gateways.number(via);
        let Some(reached) = self.gateways.of.get_mut(&device) else {
            return;
        };
        if std::mem::replace(&mut reached.known, gateway) == gateway {
            return;
        }
        let lost_ms = self.lost_ms;
        // that of devices over MQTT is the last
        let newest = self.shards.last().map_or(0, |shard| shard.newest);
        let subject = &mut self.subjects[device];
        reached.anew = subject.emitted.stage.is_some();
        if reached.anew {
            for view in [&mut subject.emitted, &mut subject.committed] {
                (view.begun_at, view.lost_before_ms) = (now, lost_ms);
            }
            if let Some(over) = subject.over_mqtt.as_deref_mut() {
                over.has_moved(now, newest);
            }
        }
    }

    /// A gateway's word on who is behind it is stored, unless another one came first.
    pub(super) fn via_stored(&mut self, device: usize, before: Option<&str>, via: Option<&str>) {
        let (before, via) = (self.gateways.number(before), self.gateways.number(via));
        if let Some(reached) = self.gateways.of.get_mut(&device)
            && reached.stored == before
        {
            reached.stored = via;
        }
    }

    /// Whether the attempt on a device begins anew, because that has another gateway.
    pub(super) fn begins_anew(&self, device: usize) -> bool {
        (self.gateways.of.get(&device)).is_some_and(|reached| reached.anew)
    }

    /// A device has a slot of its gateway from now on, or has none. There is never one too many.
    pub(super) fn at_gateway(&mut self, now_ms: u64, device: usize, holds: bool) {
        let Some(reached) = self.gateways.of.get_mut(&device) else {
            return;
        };
        reached.anew = false;
        let (had, known) = (reached.holds, reached.known);
        match (had, holds) {
            (None, true) => self.gateways.take(device, known),
            (Some(_), false) => return self.gateways.take(device, None),
            _ => return,
        }
        let its = known.and_then(|number| self.gateways.all.get(number));
        if let Some(its) = its.filter(|its| its.at_work > its.limit) {
            let told = format!(
                "gateway {}: {} of its devices upgrade at once, and {} may",
                its.name, its.at_work, its.limit
            );
            self.violated(now_ms, Rule::GatewayLimit, || told);
        }
    }

    /// Compares what the gate counts for gateways with who holds a slot there; `counted` says nothing while somebody is on the way to
    /// say something.
    pub(in super::super) fn compare_gateways(
        &mut self,
        now_ms: u64,
        counted: impl Fn(Lane) -> Option<u32>,
    ) {
        let wrong = self.gateways.all.iter().filter_map(|its| {
            let counted = counted(Lane::gateway(&its.name))?;
            (counted != its.at_work).then(|| {
                format!(
                    "gateway {}: the gate counts {counted} slots, {} are held",
                    its.name, its.at_work
                )
            })
        });
        for told in wrong.collect::<Vec<_>>() {
            self.violated(now_ms, Rule::GatewayLimit, || told);
        }
    }

    /// A server starts, and knows what is stored.
    pub(in super::super) fn gateways_are_read(&mut self) {
        for gateway in &mut self.gateways.all {
            gateway.at_work = 0;
        }
        for (device, reached) in &mut self.gateways.of {
            let stage = self.subjects[*device].committed.stage;
            let holds = stage.is_some_and(Stage::holds_slot);
            *reached = Reached {
                known: reached.stored,
                holds: reached.stored.filter(|_| holds),
                anew: false,
                ..*reached
            };
            if let Some(its) = reached.holds.and_then(|it| self.gateways.all.get_mut(it)) {
                its.at_work += 1;
            }
        }
    }
}
