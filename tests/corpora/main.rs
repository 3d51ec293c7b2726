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

macro_rules! replay {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name), fuzz::$name::run);
            }
        )*

        #[test]
        fn every_target_is_replayed_and_has_a_program() {
            let here = [$((stringify!($name))),*];
            let all: Vec<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(here[..], all);
        }
    };
}

replay!(pcp_frame coap_datagram lwm2m_content engine);
