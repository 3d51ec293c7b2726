//! How long devices will hold their slots, by what those before them took.

use std::{collections::HashMap, time::Duration};

use super::adaptive::Sample;
use crate::{
    clock::Instant,
    config::AdmissionConfig,
    ledger::{DownloadPace, Lane, Mean},
};

/// What an upgrade has before it when it gets a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Bytes that are to be downloaded.
    pub bytes: u64,
    /// How long the installation takes.
    pub install: Duration,
}

/// Milliseconds for a KiB where nothing was measured yet, in good, fair and weak coverage: two round trips with segments of 512
/// bytes, which take one to two, two to five, and five to twelve seconds in NB-IoT.
const UNMEASURED_MS: [u64; 3] = [3_000, 8_000, 20_000];
/// Lanes of which measurements are kept: a carrier's cells in which anything was upgraded lately.
const MOST: usize = 100_000;
/// What was learnt of one of them is written down once in this time at most.
const WRITTEN_EVERY: Duration = Duration::from_mins(1);

/// How long a KiB takes in each lane, and to devices of each limit.
#[derive(Debug)]
pub(super) struct Estimates {
    /// From these limits on coverage is good, and fair.
    limits_of_classes: [u32; 2],
    lanes: HashMap<(Lane, u32), Pace>,
    limits: HashMap<u32, Pace>,
}

/// How long a KiB takes, and what is written down of that.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    mean: Mean,
    written: Mean,
    written_at: Option<Instant>,
}

impl Pace {
    fn restored(mean: Mean) -> Self {
        Self {
            mean,
            written: mean,
            written_at: None,
        }
    }

    /// Adds what was measured. Gives what is to be written down, if it is to be now.
    fn add(&mut self, now: Instant, sample: u64) -> Option<Mean> {
        self.mean.add(sample);
        let lately = (self.written_at).is_some_and(|at| now.since(at) < WRITTEN_EVERY);
        if lately || !self.mean.has_moved_from(self.written) {
            return None;
        }
        (self.written, self.written_at) = (self.mean, Some(now));
        Some(self.mean)
    }
}

impl Estimates {
    pub(super) fn new(config: &AdmissionConfig) -> Self {
        Self {
            limits_of_classes: [config.limit_good, config.limit_fair],
            lanes: HashMap::new(),
            limits: HashMap::new(),
        }
    }

    /// How long a device of that limit will hold its slot.
    pub(super) fn service(&self, lane: Lane, limit: u32, work: Work) -> Duration {
        let here = self.lanes.get(&(lane, limit));
        let ms_per_kib = here.or_else(|| self.limits.get(&limit));
        let ms_per_kib = ms_per_kib
            .and_then(|pace| pace.mean.value())
            .unwrap_or_else(|| self.unmeasured(limit));
        let download_ms = ms_per_kib.saturating_mul(work.bytes) / 1_024;
        work.install + Duration::from_millis(download_ms)
    }

    /// How long a KiB takes to devices of that limit where nothing was measured, ms.
    pub(super) fn unmeasured(&self, limit: u32) -> u64 {
        let class = self
            .limits_of_classes
            .iter()
            .filter(|least| limit < **least);
        UNMEASURED_MS[class.count()]
    }

    /// How long a KiB takes in a lane, on average of the limits of which that was measured.
    pub(super) fn per_kib(&self, lane: Lane) -> Option<Duration> {
        let here = self.limits.keys();
        let here = here.filter_map(|limit| self.lanes.get(&(lane, *limit))?.mean.value());
        let (sum, count) = here.fold((0_u64, 0), |(sum, count), ms| {
            (sum.saturating_add(ms), count + 1)
        });
        sum.checked_div(count).map(Duration::from_millis)
    }

    /// Goes on with what was learnt before a restart.
    pub(super) fn restore(&mut self, pace: &DownloadPace) {
        let restored = Pace::restored(pace.ms_per_kib);
        match pace.lane {
            Some(lane) if self.lanes.len() < MOST => {
                self.lanes.insert((lane, pace.limit), restored);
            }
            Some(_) => {}
            None => {
                self.limits.insert(pace.limit, restored);
            }
        }
    }

    /// The download of whoever has that slot is done. Gives what is to be written down of what that shows.
    pub(super) fn downloaded(&mut self, now: Instant, slot: &mut Slot) -> Vec<DownloadPace> {
        let (all, mark) = (slot.bytes, slot.mark);
        let took_ms = u64::try_from(now.since(slot.granted_at).as_millis()).unwrap_or(u64::MAX);
        (slot.bytes, slot.mark) = (0, None); // what is downloaded again is no measure
        // Nor is the rest of a download, or one of which nothing was asked for.
        let Some((_, bytes)) = mark.filter(|(_, bytes)| *bytes > all / 2) else {
            return Vec::new();
        };
        let sample = took_ms.saturating_mul(1_024) / bytes;
        if self.lanes.len() >= MOST {
            self.lanes.clear(); // what was measured for the limit stays
        }
        let (lane, limit) = (slot.lane, slot.limit);
        if !matches!(lane, Lane::Cell(_)) {
            return Vec::new(); // what is downloaded by HTTP is no measure of the air
        }
        let everywhere = self.limits.entry(limit).or_default().add(now, sample);
        let here = self
            .lanes
            .entry((lane, limit))
            .or_default()
            .add(now, sample);
        [(None, everywhere), (Some(lane), here)]
            .into_iter()
            .filter_map(|(lane, mean)| {
                mean.map(|ms_per_kib| DownloadPace {
                    lane,
                    limit,
                    ms_per_kib,
                })
            })
            .collect()
    }
}

/// A slot in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) lane: Lane,
    pub(super) limit: u32,
    pub(super) granted_at: Instant,
    /// Whether what its download shows tells how crowded the lane is, where its product says so.
    pub(super) adaptive: Option<bool>,
    /// Bytes that were to be downloaded then; 0 where that is not known.
    pub(super) bytes: u64,
    /// When the first segment was asked for, and how many bytes were left then.
    pub(super) mark: Option<(Instant, u64)>,
    /// The same of the last time that it was told.
    part: Option<(Instant, u64)>,
}

impl Slot {
    pub(super) fn new(lane: Lane, limit: u32, granted_at: Instant, work: Work) -> Self {
        Self {
            lane,
            limit,
            granted_at,
            adaptive: None,
            bytes: work.bytes,
            mark: None,
            part: None,
        }
    }

    /// The download is so far. What the part of it shows that was done since the last time.
    pub(super) fn part(&mut self, now: Instant, left: u64) -> Option<Sample> {
        let (began_at, before) = self.part.replace((now, left))?;
        let bytes = before.checked_sub(left).filter(|bytes| *bytes > 0)?;
        let took_ms = u64::try_from(now.since(began_at).as_millis()).ok()?;
        Some(Sample {
            lane: self.lane,
            limit: self.limit,
            began_at,
            ms_per_kib: took_ms.saturating_mul(1_024) / bytes,
        })
    }

    /// The download goes on. When the slot comes back, if it does so as fast as since it began; `None` where it has only begun.
    pub(super) fn goes_on(&mut self, now: Instant, work: Work) -> Option<Instant> {
        let (began_at, all) = *self.mark.get_or_insert((now, work.bytes));
        let done = all.checked_sub(work.bytes).filter(|done| *done > 0)?;
        let took_ms = u64::try_from(now.since(began_at).as_millis()).ok()?;
        let left_ms = took_ms.saturating_mul(work.bytes) / done;
        Some(now + Duration::from_millis(left_ms) + work.install)
    }
}
