//! What is set for the devices of each product.

use std::time::Duration;

use crate::{
    clock::Instant,
    coap::Transmission,
    config::{Appointments, Config, ProductConfig, RadioUnits},
    ledger::{Learnt, ProductHabits},
    session::{Habits, has_moved},
};

/// What was learnt of a product is written down once in this time at most.
const WRITTEN_EVERY: Duration = Duration::from_mins(1);

/// What is set for a product's devices; what the product leaves open is as for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Profile {
    /// How requests to them are repeated.
    pub(super) transmission: Transmission,
    /// How long they are assumed to listen after their last message.
    pub(super) awake_window: Duration,
    /// pmin = 0 is written before the uplink is observed.
    pub(super) pmin_zero: bool,
    /// What they tell of their radio.
    pub(super) units: RadioUnits,
    /// Whether they are made to come when there is a slot.
    pub(super) appointments: Appointments,
    /// Whether the limit of a crowded cell follows that for them, where it is said.
    pub(super) adaptive: Option<bool>,
}

/// A product's place among the [`Profiles`], which is the same in every engine of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ProfileId(u16);

/// The profiles of all products that have settings of their own, worked out once.
#[derive(Debug)]
pub(super) struct Profiles {
    /// In their order.
    products: Vec<Box<str>>,
    /// That of every other product, then those of `products`.
    settings: Vec<Profile>,
    /// In the same order, what was learnt of their devices, and what is written down of that, since when.
    habits: Vec<Habits>,
    written: Vec<(ProductHabits, Option<Instant>)>,
}

impl Profiles {
    pub(super) fn new(config: &Config) -> Self {
        let others = ProductConfig::default();
        let settings = std::iter::once(&others).chain(config.products.values());
        let settings: Vec<Profile> = settings
            .map(|product| Profile::new(config, product))
            .collect();
        let habits: Vec<Habits> = (settings.iter())
            .map(|profile| Habits::assumed(profile.awake_window))
            .collect();
        Self {
            products: config
                .products
                .keys()
                .map(|name| &**name)
                .map(Into::into)
                .collect(),
            written: habits
                .iter()
                .map(|habits| (habits.learnt(), None))
                .collect(),
            habits,
            settings,
        }
    }

    /// Goes on with what was learnt of a product's devices before a restart. Of one that has no settings of its own any more
    /// it is forgotten.
    pub(super) fn restore(&mut self, product: &str, learnt: &ProductHabits) {
        let id = self.of(product);
        if id == ProfileId::default() && !product.is_empty() {
            return;
        }
        let habits = &mut self.habits[usize::from(id.0)];
        habits.restore(learnt);
        self.written[usize::from(id.0)] = (habits.learnt(), None);
    }

    /// What was learnt of the devices.
    pub(super) fn habits(&self, id: ProfileId) -> &Habits {
        &self.habits[usize::from(id.0)]
    }

    /// Something shows what the devices do. Gives what is to be written down, if it is to be now.
    pub(super) fn learn(
        &mut self,
        id: ProfileId,
        now: Instant,
        what: impl FnOnce(&mut Habits),
    ) -> Option<Learnt> {
        let row = usize::from(id.0);
        what(&mut self.habits[row]);
        let learnt = self.habits[row].learnt();
        let (written, written_at) = self.written[row];
        let lately = written_at.is_some_and(|at| now.since(at) < WRITTEN_EVERY);
        if lately || !has_moved(&learnt, &written) {
            return None;
        }
        self.written[row] = (learnt, Some(now));
        let product = row.checked_sub(1).and_then(|row| self.products.get(row));
        Some(Learnt::Product {
            product: product.cloned().unwrap_or_default(),
            habits: learnt,
        })
    }

    /// A number that tells a product from others: FNV-1a, 32 bits.
    pub(super) fn tag(product: &str) -> u32 {
        (product.bytes()).fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
    }

    /// The profile of a product's devices.
    pub(super) fn of(&self, product: &str) -> ProfileId {
        let found = self.products.binary_search_by(|name| (**name).cmp(product));
        // There are a thousand at most.
        let id = found.ok().and_then(|at| u16::try_from(at + 1).ok());
        ProfileId(id.unwrap_or_default())
    }
}

impl std::ops::Index<ProfileId> for Profiles {
    type Output = Profile;

    fn index(&self, id: ProfileId) -> &Profile {
        // An engine's numbers are its own, or another's with the same settings.
        &self.settings[usize::from(id.0)]
    }
}

impl Profile {
    fn new(config: &Config, product: &ProductConfig) -> Self {
        let for_all = Transmission::from(&config.coap);
        let ack_timeout = product.ack_timeout_ms.map(Duration::from_millis);
        let window_s = product
            .awake_window_s
            .unwrap_or(config.lwm2m.awake_window_s);
        Self {
            transmission: Transmission {
                ack_timeout: ack_timeout.unwrap_or(for_all.ack_timeout),
                max_retransmit: product.max_retransmit.unwrap_or(for_all.max_retransmit),
                ..for_all
            },
            awake_window: Duration::from_secs(window_s),
            pmin_zero: product.pmin_zero,
            units: product.into(),
            appointments: product.appointments,
            adaptive: product.adaptive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_has_what_is_set_for_it_and_what_is_set_for_all() {
        let mut config = Config::default();
        let meter = ProductConfig {
            awake_window_s: Some(1),
            max_retransmit: Some(7),
            pmin_zero: true,
            ..ProductConfig::default()
        };
        let valve = ProductConfig {
            ack_timeout_ms: Some(2_000),
            ..ProductConfig::default()
        };
        config.products.insert("valve".into(), valve);
        config.products.insert("meter".into(), meter);
        let profiles = Profiles::new(&config);
        let for_all = Profile::new(&config, &ProductConfig::default());
        assert_eq!(for_all.transmission, Transmission::from(&config.coap));
        assert_eq!(for_all.awake_window, Duration::from_secs(93));
        for other in ["", "default", "Meter", "met", "meters", "zzz"] {
            assert_eq!(profiles[profiles.of(other)], for_all, "{other}");
        }
        let meter = profiles[profiles.of("meter")];
        assert_eq!(meter.awake_window, Duration::from_secs(1));
        assert_eq!(meter.transmission.max_retransmit, 7);
        assert_eq!(
            meter.transmission.ack_timeout,
            for_all.transmission.ack_timeout
        );
        assert!(meter.pmin_zero);
        let valve = profiles[profiles.of("valve")];
        assert_eq!(valve.transmission.ack_timeout, Duration::from_secs(2));
        assert_eq!(valve.awake_window, for_all.awake_window);
        assert!(!valve.pmin_zero);
    }
}
