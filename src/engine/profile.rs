//! What is set for the devices of each product.

use std::{collections::HashMap, time::Duration};

use slab::Slab;

use crate::{
    clock::Instant,
    coap::Transmission,
    config::{Appointments, Config, Delivery, ProductConfig, RadioUnits, UpdateBy, UriScheme},
    ledger::{Learnt, ProductHabits},
    lwm2m::ResourcePath,
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
    /// By which of their objects they are upgraded.
    pub(super) update_by: UpdateBy,
    /// How a package gets to them.
    pub(super) delivery: Delivery,
    /// Bytes of a package that is written to them at most, where that is set.
    pub(super) push_max_bytes: Option<u64>,
    /// By what they fetch packages, where that is set.
    pub(super) uri_scheme: Option<UriScheme>,
    /// Where they tell the version that they run, where that is set.
    pub(super) version_at: Option<ResourcePath>,
}

/// A product's place among the [`Profiles`] of one engine: another engine calls it otherwise. It has three bytes, because each device has
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ProductId([u8; 3]);

impl ProductId {
    /// That of a place; `None` beyond 16 million.
    fn at(place: usize) -> Option<Self> {
        let [0, bytes @ ..] = u32::try_from(place).ok()?.to_be_bytes() else {
            return None;
        };
        Some(Self(bytes))
    }

    fn place(self) -> usize {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c]) as usize
    }
}

/// The profiles of all products that have settings of their own, worked out once, and the names of those that devices are of.
///
/// Settings may change, and products come and go, while devices have theirs: a device has a number for the name of its product, and the
/// name leads to the profile.
#[derive(Debug)]
pub(super) struct Profiles {
    /// Products with settings of their own, in their order.
    products: Vec<Box<str>>,
    /// That of every other product, then those of `products`.
    settings: Vec<Profile>,
    /// In the same order, what was learnt of their devices, and what is written down of that, since when.
    habits: Vec<Habits>,
    written: Vec<(ProductHabits, Option<Instant>)>,
    /// What devices are of. The first is no name, and is always there.
    names: Slab<Named>,
    by_name: HashMap<Box<str>, ProductId>,
}

/// A product that devices are of.
#[derive(Debug)]
struct Named {
    name: Box<str>,
    /// Where its profile stands.
    row: usize,
    /// How many of them.
    devices: u32,
}

impl Profiles {
    pub(super) fn new(config: &Config) -> Self {
        let settings = settings(config);
        let habits: Vec<Habits> = (settings.iter())
            .map(|profile| Habits::assumed(profile.awake_window))
            .collect();
        let mut names = Slab::new();
        names.insert(Named {
            name: Box::default(),
            row: 0,
            devices: 0,
        });
        Self {
            products: products(config),
            written: (habits.iter())
                .map(|habits| (habits.learnt(), None))
                .collect(),
            habits,
            settings,
            names,
            by_name: HashMap::new(),
        }
    }

    /// Other settings hold from now on. What was learnt of the devices of a product is kept while it has settings of its own.
    pub(super) fn configure(&mut self, config: &Config) {
        let (products, settings) = (products(config), settings(config));
        let (mut habits, mut written) = (Vec::new(), Vec::new());
        let names = std::iter::once(None).chain(products.iter().map(Some));
        for (name, profile) in names.zip(&settings) {
            let before = name.map_or(Some(0), |name| self.own_row(name));
            if let Some(row) = before {
                let mut known = self.habits[row];
                known.listening.assume(profile.awake_window);
                habits.push(known);
                written.push(self.written[row]);
            } else {
                let assumed = Habits::assumed(profile.awake_window);
                habits.push(assumed);
                written.push((assumed.learnt(), None));
            }
        }
        (self.products, self.settings) = (products, settings);
        (self.habits, self.written) = (habits, written);
        let Self {
            names, products, ..
        } = self;
        for (_, named) in names {
            named.row = row(products, &named.name).unwrap_or(0);
        }
    }

    /// Goes on with what was learnt of a product's devices before a restart. Of one that has no settings of its own any more
    /// it is forgotten.
    pub(super) fn restore(&mut self, product: &str, learnt: &ProductHabits) {
        let row = if product.is_empty() {
            Some(0)
        } else {
            self.own_row(product)
        };
        if let Some(row) = row {
            self.habits[row].restore(learnt);
            self.written[row] = (self.habits[row].learnt(), None);
        }
    }

    /// What was learnt of the devices.
    pub(super) fn habits(&self, id: ProductId) -> &Habits {
        &self.habits[self.row(id)]
    }

    /// Something shows what the devices do. Gives what is to be written down, if it is to be now.
    pub(super) fn learn(
        &mut self,
        id: ProductId,
        now: Instant,
        what: impl FnOnce(&mut Habits),
    ) -> Option<Learnt> {
        let row = self.row(id);
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

    /// A device is of that product from now on.
    pub(super) fn enter(&mut self, product: &str) -> ProductId {
        if product.is_empty() {
            return ProductId::default();
        }
        if let Some(id) = self.by_name.get(product).copied() {
            self.names[id.place()].devices += 1;
            return id;
        }
        // So many products in one engine are none that anybody has settings for.
        let Some(id) = ProductId::at(self.names.vacant_key()) else {
            return ProductId::default();
        };
        self.names.insert(Named {
            name: product.into(),
            row: self.own_row(product).unwrap_or(0),
            devices: 1,
        });
        self.by_name.insert(product.into(), id);
        id
    }

    /// A device is not of that product any more, or not here. Returns the name.
    pub(super) fn leave(&mut self, id: ProductId) -> Box<str> {
        if id == ProductId::default() {
            return Box::default();
        }
        let named = &mut self.names[id.place()];
        named.devices -= 1;
        if named.devices > 0 {
            return named.name.clone();
        }
        let Named { name, .. } = self.names.remove(id.place());
        self.by_name.remove(&name);
        name
    }

    /// What the product is called.
    pub(super) fn name(&self, id: ProductId) -> &str {
        &self.names[id.place()].name
    }

    /// Products that devices are of.
    #[cfg(test)]
    pub(super) fn named(&self) -> usize {
        self.by_name.len()
    }

    fn row(&self, id: ProductId) -> usize {
        // A device has its number while it is here, and the name stays as long.
        self.names[id.place()].row
    }

    /// Where the profile of a product stands that has settings of its own.
    fn own_row(&self, product: &str) -> Option<usize> {
        row(&self.products, product)
    }
}

fn row(products: &[Box<str>], product: &str) -> Option<usize> {
    let found = products.binary_search_by(|name| (**name).cmp(product));
    found.ok().map(|at| at + 1)
}

fn products(config: &Config) -> Vec<Box<str>> {
    config.products.keys().map(|name| (**name).into()).collect()
}

fn settings(config: &Config) -> Vec<Profile> {
    let others = ProductConfig::default();
    (std::iter::once(&others).chain(config.products.values()))
        .map(|product| Profile::new(config, product))
        .collect()
}

impl std::ops::Index<ProductId> for Profiles {
    type Output = Profile;

    fn index(&self, id: ProductId) -> &Profile {
        &self.settings[self.row(id)]
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
            update_by: product.update_by,
            delivery: product.delivery,
            push_max_bytes: product.push_max_bytes,
            uri_scheme: product.uri_scheme,
            version_at: (product.version_resource).and_then(|path| path.parse().ok()),
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
        let mut profiles = Profiles::new(&config);
        let for_all = Profile::new(&config, &ProductConfig::default());
        assert_eq!(for_all.transmission, Transmission::from(&config.coap));
        assert_eq!(for_all.awake_window, Duration::from_secs(93));
        for other in ["", "default", "Meter", "met", "meters", "zzz"] {
            let id = profiles.enter(other);
            assert_eq!(profiles[id], for_all, "{other}");
        }
        let meter = profiles.enter("meter");
        let meter = profiles[meter];
        assert_eq!(meter.awake_window, Duration::from_secs(1));
        assert_eq!(meter.transmission.max_retransmit, 7);
        assert_eq!(
            meter.transmission.ack_timeout,
            for_all.transmission.ack_timeout
        );
        assert!(meter.pmin_zero);
        let valve = profiles.enter("valve");
        let valve = profiles[valve];
        assert_eq!(valve.transmission.ack_timeout, Duration::from_secs(2));
        assert_eq!(valve.awake_window, for_all.awake_window);
        assert!(!valve.pmin_zero);
    }
    #[test]
    fn settings_change_for_devices_that_are_there_and_what_was_learnt_stays() {
        let mut config = Config::default();
        let set = |config: &mut Config, name: &str, awake_window_s| {
            let product = ProductConfig {
                awake_window_s,
                ..ProductConfig::default()
            };
            config.products.insert(name.into(), product);
        };
        set(&mut config, "meter", Some(10));
        let mut profiles = Profiles::new(&config);
        let (meter, valve) = (profiles.enter("meter"), profiles.enter("valve"));
        let now = Instant::ZERO;
        let took = Duration::from_secs(7);
        profiles.learn(meter, now, |habits| habits.installed(took));
        let window = |profiles: &Profiles, id| {
            let window = profiles.habits(id).listening.window();
            assert_eq!(profiles[id].awake_window, window);
            window.as_secs()
        };
        // one comes before it, and it has another window
        set(&mut config, "alarm", Some(3));
        set(&mut config, "meter", Some(20));
        profiles.configure(&config);
        assert_eq!(
            (window(&profiles, meter), window(&profiles, valve)),
            (20, 93)
        );
        assert_eq!(profiles.habits(meter).install(), took);
        set(&mut config, "valve", Some(4));
        config.products.remove("meter");
        profiles.configure(&config);
        assert_eq!(
            (window(&profiles, meter), window(&profiles, valve)),
            (93, 4)
        );
        assert_ne!(profiles.habits(meter).install(), took);
        // what is written down of a product is said of that one
        let learnt = profiles.learn(valve, now, |habits| habits.installed(took));
        assert!(matches!(learnt, Some(Learnt::Product { product, .. }) if &*product == "valve"));
    }

    #[test]
    fn a_name_is_kept_while_a_device_has_it() {
        let mut profiles = Profiles::new(&Config::default());
        let one = profiles.enter("meter");
        assert_eq!(profiles.enter("meter"), one);
        assert_eq!(&*profiles.leave(one), "meter");
        assert_eq!((profiles.name(one), profiles.named()), ("meter", 1));
        assert_eq!(&*profiles.leave(one), "meter");
        assert_eq!(profiles.named(), 0);
        let none = profiles.enter("");
        assert_eq!((&*profiles.leave(none), profiles.name(none)), ("", ""));
    }
}
