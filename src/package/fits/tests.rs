use proptest::prelude::*;

use super::*;

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

/// Of `V1,V2` a list, of `V1..V3`, `..V3` and `V1..` a range, of an empty text any; behind a `/` the hardware.
fn fits(text: &str) -> Fits {
    let (versions, hardware) = text.split_once('/').unwrap_or((text, ""));
    let list = |text: &str| -> Vec<String> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let end = |text: &str| (!text.is_empty()).then(|| version(text));
    let mut fits = Fits {
        hardware: list(hardware),
        ..Fits::default()
    };
    match versions.split_once("..") {
        Some((from, below)) => (fits.version_from, fits.version_below) = (end(from), end(below)),
        None => fits.versions = list(versions).iter().map(|it| version(it)).collect(),
    }
    fits
}

#[test]
fn packages_overlap_where_a_device_may_fit_both() {
    for (a, b, expected) in [
        ("", "", true),
        ("", "V1", true),
        ("V1", "V2", false),
        ("V1,V2", "V2,V3", true),
        ("V1", "..V2", true),
        ("V2", "..V2", false),
        ("V2", "V2..", true),
        ("..V2", "V2..", false),
        ("..V2.1", "V2..", true),
        ("V1..V3", "V2..V4", true),
        ("V1..V2", "V2..V3", false),
        // numbers count as numbers
        ("V9..V10", "V10..V11", false),
        ("V1..V10", "V9", true),
        ("..V2", "..V1", true),
        ("V3..", "V9..", true),
        ("/A", "/B", false),
        ("/A,B", "/B,C", true),
        ("/A", "", true),
        ("V1/A", "V1/B", false),
        ("V1/A", "V2/A", false),
        ("V1/A", "V1", true),
        ("..V2/A", "V1..V3/A,B", true),
        ("..V2/A", "V1..V3/B", false),
    ] {
        assert_eq!(fits(a).overlaps(&fits(b)), expected, "{a} and {b}");
        assert_eq!(fits(b).overlaps(&fits(a)), expected, "{b} and {a}");
    }
}

#[test]
fn the_package_that_fits_comes_before_the_one_whose_version_runs() {
    let packages = [
        (fits("V1"), version("V2")),
        (fits("V2,V2.1/B"), version("V3")),
        (fits("V2,V2.1/C"), version("V4")),
        (fits("V9../B"), version("V8")),
    ];
    let all = || packages.iter().map(|(fits, target)| (fits, *target));
    for (runs, hardware, expected) in [
        ("V1", None, Some(0)),
        ("V1", Some("B"), Some(0)),
        ("V2", Some("B"), Some(1)),
        ("V2", Some("C"), Some(2)),
        // it runs the version of the first, and of what else there is its hardware is not known
        ("V2", None, Some(0)),
        ("V2.1", None, None),
        ("V3", Some("B"), Some(1)),
        ("V3", Some("C"), None),
        ("V0", Some("B"), None),
        ("V10", Some("B"), Some(3)),
    ] {
        assert_eq!(
            choose(all(), version(runs), hardware),
            expected,
            "{runs} {hardware:?}"
        );
    }
}

#[test]
fn steps_that_lead_back_are_found() {
    let circle = |packages: &[(&str, &str)]| {
        let packages: Vec<(Fits, Version)> = (packages.iter())
            .map(|(from, target)| (fits(from), version(target)))
            .collect();
        let packages: Vec<(&Fits, Version)> = packages.iter().map(|(f, v)| (f, *v)).collect();
        leads_in_a_circle(&packages)
    };
    assert!(!circle(&[("..V2", "V2"), ("V2..V3", "V3")]));
    assert!(!circle(&[("V1", "V2"), ("V2", "V3"), ("V3", "V4")]));
    // a package for any version is no step behind itself
    assert!(!circle(&[("", "V2")]));
    assert!(circle(&[("V1", "V2"), ("V2", "V1")]));
    assert!(circle(&[("V1", "V2"), ("V2", "V3"), ("V3", "V1")]));
    assert!(circle(&[("V0", "V1"), ("V1", "V2"), ("V2", "V1")]));
    // nobody has both kinds of hardware
    assert!(!circle(&[("V1/A", "V2"), ("V2/B", "V1")]));
}

fn few_versions() -> impl Strategy<Value = Version> {
    let few = ["V1", "V1.5", "V2", "V9", "V10", "W"];
    proptest::sample::select(few.map(version).to_vec())
}

fn any_fits() -> impl Strategy<Value = Fits> {
    let list = proptest::collection::vec(few_versions(), 0..3);
    let end = || proptest::option::of(few_versions());
    let hardware = proptest::collection::vec(proptest::sample::select(vec!["A", "B"]), 0..2);
    (list, end(), end(), hardware).prop_map(|(versions, version_from, version_below, hardware)| {
        Fits {
            versions,
            version_from,
            version_below,
            hardware: hardware.into_iter().map(str::to_owned).collect(),
        }
    })
}

proptest! {
    #[test]
    fn a_device_fits_one_at_most_of_packages_that_do_not_overlap(
        packages in proptest::collection::vec(any_fits(), 1..5),
        runs in few_versions(),
        hardware in proptest::option::of(proptest::sample::select(vec!["A", "B", "C"])),
    ) {
        let fitting: Vec<usize> = (0..packages.len())
            .filter(|i| packages[*i].fits(runs, hardware))
            .collect();
        for (n, a) in fitting.iter().enumerate() {
            for b in &fitting[n + 1..] {
                prop_assert!(packages[*a].overlaps(&packages[*b]));
            }
        }
        let all = packages.iter().map(|it| (it, version("V5")));
        let chosen = choose(all, runs, hardware);
        prop_assert_eq!(chosen, fitting.first().copied());
    }

    #[test]
    fn what_is_called_an_overlap_has_a_device_where_ends_are_known(a in any_fits(), b in any_fits()) {
        // an end is a version: the highest beginning of two ranges is in both, if any is
        let mut candidates: Vec<Version> = a.versions.iter().chain(&b.versions).copied().collect();
        candidates.extend(a.version_from.into_iter().chain(b.version_from));
        candidates.push(Version::told(b""));
        let hardware = [None, Some("A"), Some("B")];
        let found = candidates.iter().any(|version| {
            hardware.iter().any(|known| a.fits(*version, *known) && b.fits(*version, *known))
        });
        prop_assert_eq!(a.overlaps(&b), found);
    }
}
