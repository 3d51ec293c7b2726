//! What each device downloads: which of the task's packages, one after another; or why none.

use std::collections::{BTreeMap, HashMap};

use super::PackageGiven;
use crate::{
    package::{Fits, Version, choose, is_below},
    task::PackageRules,
};

/// Kinds of devices that are looked up once: more are worked out each time.
const MOST_KNOWN: usize = 10_000;

/// A package of a task.
#[derive(Debug, Clone)]
struct Offer {
    version: Version,
    from: Fits,
    given: PackageGiven,
}

/// What a device downloads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The packages, one after another; none where it has the version already, or is skipped.
    pub steps: Vec<PackageGiven>,
    /// Why it is skipped, as outcomes call that: `no_package` or `downgrade`.
    pub skipped: Option<&'static str>,
}

impl Route {
    /// The device has the version already.
    pub const fn is_current(&self) -> bool {
        self.steps.is_empty() && self.skipped.is_none()
    }
}

/// The number of a route among the [`Routes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RouteId(u16);

/// What devices download, by what they run and are.
#[derive(Debug, Clone)]
pub struct Routes {
    offers: Vec<Offer>,
    steps: bool,
    allow_downgrade: bool,
    /// The first is that of a device of which nothing is known: the first package.
    all: Vec<Route>,
    numbers: BTreeMap<Route, RouteId>,
    known: HashMap<(Version, Option<Box<str>>), RouteId>,
}

impl Routes {
    /// Of a task with these packages: what each leads to, and what is downloaded. They are in the order of the rules' packages, or
    /// one for all devices where the rules name none.
    pub fn new(rules: &PackageRules, packages: &[(Version, PackageGiven)]) -> Self {
        let from = |at: usize| rules.packages.get(at).map(|rule| rule.from.clone());
        let offers = (packages.iter().enumerate()).map(|(at, (version, given))| Offer {
            version: *version,
            from: from(at).unwrap_or_default(),
            given: *given,
        });
        let mut routes = Self {
            offers: offers.collect(),
            steps: rules.steps,
            allow_downgrade: rules.allow_downgrade,
            all: Vec::new(),
            numbers: BTreeMap::new(),
            known: HashMap::new(),
        };
        let first = packages.first().map(|(_, given)| *given);
        routes.add(Route {
            steps: first.into_iter().collect(),
            skipped: None,
        });
        routes
    }

    /// Of a task with one package, of which nothing else matters.
    pub fn one(version: Version, given: PackageGiven) -> Self {
        Self::new(&PackageRules::default(), &[(version, given)])
    }

    /// There are several packages, so that it matters what a device runs.
    pub const fn are_several(&self) -> bool {
        self.offers.len() > 1
    }

    /// The largest package: what a budget has to have room for, whatever the device turns out to run.
    pub fn largest(&self) -> PackageGiven {
        let all = self.offers.iter().map(|it| it.given);
        all.max().unwrap_or_default()
    }

    /// What a device of this hardware downloads that runs this version.
    pub fn of(&mut self, runs: Version, hardware: Option<&str>) -> RouteId {
        let matters = self.offers.iter().any(|it| !it.from.hardware.is_empty());
        let hardware = hardware.filter(|_| matters);
        let key = (runs, hardware.map(Into::into));
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let route = self.walk(runs, hardware);
        let number = self.add(route);
        if self.known.len() < MOST_KNOWN {
            self.known.insert(key, number);
        }
        number
    }

    /// A route by its number.
    pub fn get(&self, number: RouteId) -> &Route {
        &self.all[usize::from(number.0)]
    }

    fn add(&mut self, route: Route) -> RouteId {
        let next = u16::try_from(self.all.len()).map(RouteId);
        let Ok(next) = next else {
            return RouteId::default(); // there are 20 packages, and not so many ways through them that anybody takes
        };
        let number = *self.numbers.entry(route.clone()).or_insert(next);
        if number == next {
            self.all.push(route);
        }
        number
    }

    /// As a session goes on from step to step (`session/offers.rs`).
    fn walk(&self, mut runs: Version, hardware: Option<&str>) -> Route {
        let mut steps = Vec::new();
        loop {
            let offers = self.offers.iter().map(|it| (&it.from, it.version));
            let offer = choose(offers, runs, hardware).and_then(|at| self.offers.get(at));
            let skipped = match offer {
                None => Some("no_package"),
                Some(offer) => {
                    let readable = Version::new(runs.as_str()).is_ok();
                    let below = readable && is_below(offer.version, runs);
                    Some("downgrade").filter(|_| below && !self.allow_downgrade)
                }
            };
            let goes_on = offer.filter(|it| skipped.is_none() && it.version != runs);
            let Some(offer) = goes_on else {
                return Route {
                    skipped: skipped.filter(|_| steps.is_empty()),
                    steps,
                };
            };
            steps.push(offer.given);
            runs = offer.version;
            if !self.steps || steps.len() >= self.offers.len() {
                return Route {
                    steps,
                    skipped: None,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::new(text).unwrap()
    }

    const fn kib(bytes: u64) -> PackageGiven {
        PackageGiven {
            bytes: bytes * 1_024,
            segments: bytes * 2,
        }
    }

    fn routes(json: &str, packages: &[(&str, u64)]) -> Routes {
        let rules = serde_json::from_str(json).unwrap();
        let packages: Vec<_> = (packages.iter())
            .map(|(text, size)| (version(text), kib(*size)))
            .collect();
        Routes::new(&rules, &packages)
    }

    fn told(
        routes: &mut Routes,
        runs: &str,
        hardware: Option<&str>,
    ) -> (Vec<u64>, Option<&'static str>) {
        let number = routes.of(version(runs), hardware);
        let route = routes.get(number);
        let sizes = route.steps.iter().map(|it| it.bytes / 1_024).collect();
        (sizes, route.skipped)
    }

    #[test]
    fn one_package_is_for_all_that_do_not_have_it() {
        let mut one = Routes::one(version("V2"), kib(20));
        assert_eq!(told(&mut one, "V1", None), (vec![20], None));
        assert_eq!(told(&mut one, "V2", Some("B")), (vec![], None));
        assert_eq!(told(&mut one, "V10", None), (vec![], Some("downgrade")));
        assert!(!one.are_several() && one.known.len() == 3);
        let mut back = routes(r#"{"allow_downgrade": true}"#, &[("V2", 20)]);
        assert_eq!(told(&mut back, "V10", None), (vec![20], None));
    }

    #[test]
    fn several_packages_are_for_whom_they_say() {
        let rules = r#"{"packages": [
            {"package_id": 1, "from": {"version_below": "V2", "hardware": ["B"]}},
            {"package_id": 2, "from": {"versions": ["V1"], "hardware": ["C"]}}]}"#;
        let mut several = routes(rules, &[("V2", 20), ("V3", 30)]);
        assert_eq!(told(&mut several, "V1", Some("B")), (vec![20], None));
        assert_eq!(told(&mut several, "V1", Some("C")), (vec![30], None));
        assert_eq!(told(&mut several, "V3", Some("C")), (vec![], None));
        assert_eq!(
            told(&mut several, "V1", None),
            (vec![], Some("no_package")),
            "its hardware is not known"
        );
        assert_eq!(told(&mut several, "V2.5", Some("C")).1, Some("no_package"));
        assert!(several.are_several());
    }

    #[test]
    fn steps_are_done_one_after_the_other() {
        let rules = r#"{"steps": true, "packages": [
            {"package_id": 1, "from": {"version_below": "V2"}},
            {"package_id": 2, "from": {"version_from": "V2", "version_below": "V3"}}]}"#;
        let mut steps = routes(rules, &[("V2", 20), ("V3", 30)]);
        assert_eq!(told(&mut steps, "V1", None), (vec![20, 30], None));
        assert_eq!(told(&mut steps, "V2", None), (vec![30], None));
        assert_eq!(told(&mut steps, "V3", None), (vec![], None));
        let of_two = steps.of(version("V1"), None);
        assert_eq!(of_two, steps.of(version("V1.5"), None), "the same way");
    }
}
