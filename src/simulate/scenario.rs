use std::{sync::Arc, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use sha2::{Digest as _, Sha256};

use super::{
    faults::Faults,
    fleet::{FleetFile, FleetPlan},
    offered::{Offered, PackagesFile, over_pcp},
    store::StoreKind,
};
use crate::{
    config::{Config, OtaEvents},
    ledger::RetryPolicy,
    package::{
        CheckCodeKind, Content, HttpPackage, Package, PcpOffer, SegmentFrames, Segmentation,
    },
    task::{Share, TaskRules},
};

/// Everything that a simulation follows from. The same scenario gives the same run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// The server's settings.
    pub(crate) config: Arc<Config>,
    pub(crate) fleet: FleetFile,
    pub(crate) devices: usize,
    pub(crate) cells: u32,
    pub(crate) package_bytes: usize,
    /// Products in the fleet; each has a package and a task of its own.
    pub(crate) products: usize,
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    /// Time between two crashes of the server, on average.
    pub(crate) crash_every: Option<Duration>,
    pub(crate) retry: RetryPolicy,
    /// How each task is run.
    pub(crate) rules: TaskRules,
    /// The packages of each task, where there are several.
    pub(crate) packages: PackagesFile,
    /// What each task has of slots beside the others, whatever the rules say; those behind the last as the rules say.
    pub(crate) shares: Vec<Share>,
    pub(crate) store: StoreKind,
    /// Whether it is forecast at its beginning and while it goes on.
    pub(crate) forecast: bool,
    /// And so long after its start.
    pub(crate) forecast_after: Vec<Duration>,
    /// Another course of what happens to the same fleet.
    pub(crate) another: bool,
}

impl Scenario {
    /// A small fleet on a good day.
    pub(crate) fn new(devices: usize, cells: u32, seed: u64) -> Self {
        Self {
            config: Arc::new(Config::default()),
            fleet: FleetFile::default(),
            devices,
            cells,
            package_bytes: 20 * 1024,
            products: 1,
            seed,
            faults: Faults::None,
            crash_every: None,
            retry: RetryPolicy {
                attempts: 2,
                interval_s: 300,
                ..RetryPolicy::default()
            },
            rules: TaskRules::default(),
            packages: PackagesFile::default(),
            shares: Vec::new(),
            store: StoreKind::Memory,
            forecast: false,
            forecast_after: Vec::new(),
            another: false,
        }
    }

    /// Randomness for one purpose.
    pub(super) fn rng(&self, purpose: u64) -> ChaCha8Rng {
        let course = if self.another { 1 << 63 } else { 0 };
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ course);
        rng.set_stream(purpose);
        rng
    }

    /// How the task of a product is run.
    pub(super) fn rules_of(&self, product: usize) -> TaskRules {
        let mut rules = self.rules.clone();
        if let Some(share) = self.shares.get(product) {
            (rules.priority, rules.weight) = (Some(share.priority), Some(share.weight));
        }
        rules
    }

    /// Products: some devices need one of their own.
    pub(crate) fn product_count(&self) -> usize {
        self.products + usize::from(self.fleet.takes_v2_beside_others())
    }

    /// The settings of the server, which know which product takes which messages.
    pub(super) fn server_config(&self) -> Config {
        let mut config = (*self.config).clone();
        let takes_v2 = match (self.fleet.takes_v2(), self.fleet.takes_v2_beside_others()) {
            (true, _) => 0..self.product_count(),
            (false, true) => self.products..self.product_count(),
            (false, false) => 0..0,
        };
        for product in takes_v2 {
            let product = config.products.entry(product_name(product)).or_default();
            product.ota_events = OtaEvents::V2;
        }
        for (product, per_gateway) in self.fleet.gateways() {
            config.products.entry(product).or_default().per_gateway = per_gateway;
        }
        config
    }

    /// What the task of each product has for its devices.
    pub(super) fn offered(&self) -> Result<Vec<Arc<Offered>>, String> {
        let mut rng = self.rng(1);
        (0..self.product_count())
            .map(|product| self.offered_to(product, &mut rng).map(Arc::new))
            .collect()
    }

    fn offered_to(&self, product: usize, rng: &mut ChaCha8Rng) -> Result<Offered, String> {
        let file = &self.packages;
        if file.packages.is_empty() {
            let version = format!("V2.{product}");
            let package = self.package(product, (&version, self.package_bytes), rng)?;
            return Ok(Offered::new(vec![Arc::new(package)], file.clone()));
        }
        let packages = file.packages.iter().map(|package| {
            let bytes = package.size_kib.map(|kib| kib as usize * 1_024);
            let bytes = bytes.unwrap_or(self.package_bytes);
            let package = self.package(product, (package.version.as_str(), bytes), rng)?;
            Ok::<_, String>(Arc::new(package))
        });
        let packages = packages.collect::<Result<Vec<_>, _>>()?;
        Ok(Offered::new(packages, file.clone()))
    }

    fn package(
        &self,
        product: usize,
        (version, bytes): (&str, usize),
        rng: &mut ChaCha8Rng,
    ) -> Result<Package, String> {
        let settings = self.config.products.get(&product_name(product));
        let settings = settings.copied().unwrap_or_default();
        let mut content = vec![0; bytes];
        rng.fill_bytes(&mut content);
        let segmentation = Segmentation::choose(bytes as u64, None, settings.pad_last_segment)
            .map_err(|error| error.to_string())?;
        let frames = SegmentFrames::build(&content, segmentation)
            .ok_or_else(|| "the package cannot be cut".to_owned())?;
        let check_code: CheckCodeKind = settings.check_code;
        let sha256 = hex::encode(Sha256::digest(&content));
        let package = Package::over_pcp(
            PcpOffer {
                version: pcp::Version::new(version).map_err(|error| error.to_string())?,
                check_code: check_code.apply(pcp::checksum(&content)),
                segmentation,
            },
            frames,
        );
        let content = Content::new(content.into(), &sha256);
        let package = package.and_over_http(HttpPackage { sha256 });
        Ok(match content.filter(|_| self.fleet.has_objects()) {
            Some(content) => package.and_in_blocks(content),
            None => package,
        })
    }

    pub(super) fn fleet(&self, offered: &[Arc<Offered>]) -> Result<FleetPlan, String> {
        let targets: Vec<pcp::Version> = (offered.iter())
            .map(|offered| over_pcp(offered.last()).offer.version)
            .collect();
        let (devices, cells) = (self.devices, self.cells);
        let mut plan = (self.fleet).plan(devices, cells, self.seed, self.faults, &targets)?;
        if self.fleet.has_objects() {
            let images: Vec<Arc<[sim::Image]>> = (offered.iter())
                .map(|offered| {
                    offered
                        .packages()
                        .iter()
                        .filter_map(|it| image(it))
                        .collect()
                })
                .collect();
            plan.expect(&images);
        }
        Ok(plan)
    }
}

/// What a device is told to expect of a package that it can be served in blocks.
fn image(package: &Package) -> Option<sim::Image> {
    let content = package.content.as_ref()?;
    let version = over_pcp(package).offer.version;
    Some(sim::Image::new(version, content.bytes()))
}

/// The name of a product of the fleet.
pub(super) fn product_name(product: usize) -> String {
    format!("product-{product}")
}
