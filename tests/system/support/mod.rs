//! What the tests stand on: the server's process, its API, other people's clients.

mod api;
mod coap;
mod device;
mod process;
mod server;

pub(crate) use api::{Api, identity};
pub(crate) use coap::{Received, Wire, coap};
pub(crate) use device::{Device, Lively};
pub(crate) use process::{Finished, Running, cellwise, clean, run, tool};
pub(crate) use server::Server;

use std::{thread, time::Duration};

use cellwise::clock::SystemClock;

/// Asks until there is an answer, at most for so long.
pub(crate) fn wait_for<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::start();
    let began = clock.now().instant;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            clock.now().instant.since(began) < limit,
            "{what} did not come within {limit:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes of which no two stretches are alike, the same in every run.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.byte()).collect()
}

/// Marsaglia's xorshift: good enough to make garbage of.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit
    }
}
