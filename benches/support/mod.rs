//! What the benchmarks against a whole server stand on: its process, what the kernel tells of it, and devices that
//! cost little.
//!
//! Everything here speaks to the server as devices and operators do, and knows nothing of its inside.
#![allow(dead_code)] // each benchmark uses a part of it

pub(crate) mod cores;
pub(crate) mod device;
pub(crate) mod fleet;
pub(crate) mod kernel;
pub(crate) mod mmsg;
pub(crate) mod server;

use std::time::{Duration, Instant};

/// The time of the clock on the wall: what the benchmarks measure happens in it.
#[allow(clippy::disallowed_methods)] // the time that it takes in fact is what is asked for
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks until there is an answer; ends the benchmark when there is none for so long.
pub(crate) fn wait_for<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            begun.elapsed() < limit,
            "{what} did not come within {limit:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Rounded for people: three digits behind the point are more than any machine repeats.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
