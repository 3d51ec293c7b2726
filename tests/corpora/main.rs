//! Replays what the fuzzers have found worth keeping, through the very functions that they call.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says so by ending

#[path = "../../fuzz/src/lib.rs"]
pub mod fuzz;

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Replays the corpus and the regressions of a target; tells which files fail.
fn replay(name: &str, run: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let corpus = files(&fuzz.join("corpus").join(name));
    assert!(!corpus.is_empty(), "there is no corpus of {name}");
    let regressions = files(&fuzz.join("regressions").join(name));
    let failing: Vec<PathBuf> = (corpus.into_iter().chain(regressions))
        .filter(|file| {
            let input = fs::read(file).unwrap();
            panic::catch_unwind(AssertUnwindSafe(|| run(&input))).is_err()
        })
        .collect();
    assert!(failing.is_empty(), "{name} fails with {failing:#?}");
}

#[test]
fn pcp_frame() {
    replay("pcp_frame", fuzz::pcp_frame::run);
}

#[test]
fn coap_datagram() {
    replay("coap_datagram", fuzz::coap_datagram::run);
}

#[test]
fn download_head() {
    replay("download_head", fuzz::download_head::run);
}

#[test]
fn lwm2m_content() {
    replay("lwm2m_content", fuzz::lwm2m_content::run);
}

#[test]
fn quecthing_frame() {
    replay("quecthing_frame", fuzz::quecthing_frame::run);
}

#[test]
fn mqtt_endpoint() {
    replay("mqtt_endpoint", fuzz::mqtt_endpoint::run);
}

#[test]
fn engine() {
    replay("engine", fuzz::engine::run);
}

/// The names of all that is in a directory, without what comes after a dot.
fn names(directory: &str) -> Vec<String> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    files(&fuzz.join(directory)).into_iter().map(stem).collect()
}

#[test]
fn every_program_has_its_corpus_and_every_corpus_its_program() {
    let replayed = [
        "coap_datagram",
        "download_head",
        "engine",
        "lwm2m_content",
        "mqtt_endpoint",
        "pcp_frame",
        "quecthing_frame",
    ];
    assert_eq!(names("fuzz_targets"), replayed);
    assert_eq!(names("corpus"), replayed);
    for name in names("regressions") {
        assert!(replayed.contains(&name.as_str()), "regressions of {name}");
    }
}
