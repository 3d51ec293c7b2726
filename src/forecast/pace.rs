//! How long devices take: by what was learnt, as the gate expects it.

use std::{collections::HashMap, time::Duration};

use super::Given;
use crate::{
    ledger::{Lane, Learnt, Mean},
    session::{Gate, Habits, Work},
};

/// Nobody knows better than by so large a part how long downloads take on another day.
const LEAST_DOUBT: f64 = 0.03;
/// Where nothing was measured, the mean is off by so large a part.
const DOUBT: f64 = 0.3;
/// The downloads of single devices lie so far around the mean of those of their cell and coverage.
pub(super) const AROUND: f64 = 0.3;
/// A round trip, at the least and at the most.
const ROUND_TRIP: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(15)];

/// What was measured in a cell leans towards what was in all as if so many samples had been as there: the slowest of many cells of
/// which little is known would decide otherwise, and be slow by chance.
const LEANS: u32 = 4;

/// How long devices take.
#[derive(Debug)]
pub(super) struct Pace {
    /// Knows what is usual where nothing was measured, and is asked for nothing else.
    gate: Gate,
    /// What was learnt of the product.
    pub(super) habits: Habits,
    /// Of each limit, what was measured in all cells, and in each.
    everywhere: HashMap<u32, Mean>,
    lanes: HashMap<(Lane, u32), Mean>,
}

impl Pace {
    pub(super) fn new(given: &Given) -> Self {
        let config = &given.config;
        let told = config.products.get(&given.product);
        let window_s =
            (told.and_then(|told| told.awake_window_s)).unwrap_or(config.lwm2m.awake_window_s);
        let mut habits = Habits::assumed(Duration::from_secs(window_s));
        // products without settings of their own are one in what is learnt
        let name = told.map_or("", |_| given.product.as_str());
        let (mut everywhere, mut lanes) = (HashMap::new(), HashMap::new());
        for learnt in &given.learnt {
            match learnt {
                Learnt::Product {
                    product,
                    habits: it,
                } if **product == *name => {
                    habits.restore(it);
                }
                Learnt::Download(pace) => {
                    let mean = pace.ms_per_kib.over_long();
                    match pace.lane {
                        Some(lane) => lanes.insert((lane, pace.limit), mean),
                        None => everywhere.insert(pace.limit, mean),
                    };
                }
                Learnt::Product { .. } => {}
            }
        }
        Self {
            gate: Gate::new(&config.admission),
            habits,
            everywhere,
            lanes,
        }
    }

    /// How long the download of so many bytes takes on average.
    pub(super) fn download(&self, lane: Lane, limit: u32, bytes: u64) -> Duration {
        let everywhere = self.everywhere.get(&limit).and_then(Mean::value);
        let usual = everywhere.unwrap_or_else(|| {
            let work = Work {
                bytes: 1_024,
                install: Duration::ZERO,
            };
            let takes = self.gate.service(lane, limit, work);
            u64::try_from(takes.as_millis()).unwrap_or(u64::MAX)
        });
        let here = self.lanes.get(&(lane, limit));
        let here = here.and_then(|mean| mean.leaning(usual, LEANS).value());
        let ms_per_kib = here.unwrap_or(usual);
        Duration::from_millis(ms_per_kib.saturating_mul(bytes) / 1_024)
    }

    /// A request and its answer: two of them are a KiB.
    pub(super) fn round_trip(&self, lane: Lane, limit: u32) -> Duration {
        let [least, most] = ROUND_TRIP;
        (self.download(lane, limit, 1_024) / 2).clamp(least, most)
    }

    /// How far the mean of the downloads may be off: as the standard deviation of its logarithm.
    pub(super) fn doubt(&self, limit: u32) -> f64 {
        let samples = self.everywhere.get(&limit).map_or(0, Mean::samples);
        LEAST_DOUBT + DOUBT / f64::from(samples + 1).sqrt()
    }

    /// Whether downloads of that limit were measured anywhere.
    pub(super) fn is_measured(&self, limit: u32) -> bool {
        (self.everywhere.get(&limit)).is_some_and(|mean| mean.samples() > 0)
    }
}
