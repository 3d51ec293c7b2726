//! The sites and gateways for which devices compete besides their cells, and how many may upgrade at once there. Each pair is kept once: a
//! device has its number.

use std::collections::{BTreeMap, HashMap};

use crate::ledger::{Further, Lane};

/// The number of a site and a gateway among the [`Lanes`]. The first is that of a device that competes in its cell alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LanesId(u32);

/// The sites that have a limit and the gateways of devices.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// What the operator says of single sites and gateways.
    own: HashMap<Lane, u32>,
    all: Vec<Further>,
    numbers: HashMap<[Option<Lane>; 2], LanesId>,
    /// What their products say of gateways.
    products: HashMap<Lane, u32>,
    /// What those are called in which devices compete.
    names: BTreeMap<Lane, Box<str>>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self::new([])
    }
}

impl Lanes {
    /// So many devices may upgrade at once in these sites, and for these gateways, as the operator says of each alone.
    pub fn new(own: impl IntoIterator<Item = (Lane, u32)>) -> Self {
        Self {
            own: own.into_iter().collect(),
            all: vec![Further::NONE],
            numbers: HashMap::from([([None, None], LanesId::default())]),
            products: HashMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// Those of a device that is at that site of a tenant, and behind that gateway. A site without a limit is no matter of admission.
    pub fn of(&mut self, site: Option<(&str, &str)>, gateway: Option<&str>) -> LanesId {
        let site = site.filter(|_| !self.own.is_empty());
        let site = site.map(|(tenant, name)| (Lane::site(tenant, name), name));
        let site = site.filter(|(lane, _)| self.own.contains_key(lane));
        let gateway = gateway.map(|name| (Lane::gateway(name), name));
        let key = [site, gateway].map(|it| it.map(|(lane, _)| lane));
        if let Some(known) = self.numbers.get(&key) {
            return *known;
        }
        for (lane, name) in site.into_iter().chain(gateway) {
            self.names.entry(lane).or_insert_with(|| name.into());
        }
        let [site, gateway] = key;
        // of a million devices at the most
        let id = LanesId(u32::try_from(self.all.len()).unwrap_or(0));
        self.all.push(Further::of(site, gateway));
        self.numbers.insert(key, id);
        id
    }

    /// The gateways by their names.
    pub fn gateways(&self) -> impl Iterator<Item = (Lane, &str)> {
        let all = self.names.iter().map(|(lane, name)| (*lane, &**name));
        all.filter(|(lane, _)| matches!(lane, Lane::Gateway(_)))
    }

    /// The products of these gateways say that so many devices of each may upgrade at once.
    pub fn products_say(&mut self, limits: HashMap<Lane, u32>) {
        for further in &mut self.all {
            let limit = further.lanes().find_map(|lane| limits.get(&lane).copied());
            *further = further.with_limit(limit);
        }
        self.products = limits;
    }

    /// In which a device competes.
    pub(super) fn get(&self, id: LanesId) -> Further {
        self.all.get(id.0 as usize).copied().unwrap_or_default()
    }

    /// What the operator says of those in which devices compete.
    pub(super) fn limits(&self) -> impl Iterator<Item = (Lane, u32)> {
        let used = self.names.keys();
        used.filter_map(|lane| Some((*lane, *self.own.get(lane)?)))
    }

    /// What a site or gateway is called.
    pub(super) fn name(&self, lane: Lane) -> Option<&str> {
        self.names.get(&lane).map(|name| &**name)
    }

    /// How many devices may upgrade at once there, where `usual` of any gateway may.
    pub(super) fn limit(&self, lane: Lane, usual: u32) -> u32 {
        let said = self.own.get(&lane).or_else(|| self.products.get(&lane));
        said.copied().unwrap_or(usual)
    }

    /// Whether anybody competes for anything besides its cell.
    pub(super) fn is_empty(&self) -> bool {
        self.all.len() == 1
    }
}
