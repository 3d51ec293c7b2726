use std::{collections::HashMap, time::Duration};

use super::{Entry, EntryResult};
use crate::clock::UtcMillis;

/// What is the same in this time is one row.
const FOLDED: Duration = Duration::from_mins(1);
/// What is told apart at once.
const MAX_FOLDS: usize = 1_000;
/// Rows that may be written at once.
const BURST: u64 = 300;
/// Rows that may be written in a minute after that. What is more is one row together.
const PER_MINUTE: u64 = 20;
/// What [`Entry::who`] and [`Entry::operation`] say of many.
const SEVERAL: &str = "several";

/// What is told apart: who, from where, what, and why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Alike {
    who: String,
    network: Option<String>,
    operation: String,
    status: Option<u16>,
    problem: Option<String>,
}

#[derive(Debug)]
struct Fold {
    entry: Entry,
    times: u64,
    last_at: UtcMillis,
    /// One of them was told already.
    told: bool,
    until: UtcMillis,
}

/// Folds what was refused: the first of a kind is a row soon, the others within a minute are one more. Rows are rationed, whoever is
/// refused and however often.
#[derive(Debug)]
pub struct Refused {
    folds: HashMap<Alike, Fold>,
    rows_left: u64,
    refilled_at: UtcMillis,
}

impl Default for Refused {
    fn default() -> Self {
        Self {
            folds: HashMap::new(),
            rows_left: BURST,
            refilled_at: UtcMillis(0),
        }
    }
}

impl Refused {
    /// Something was refused just now to somebody in this network.
    pub fn note(&mut self, entry: Entry, network: Option<String>) {
        let alike = Alike {
            who: entry.who.clone(),
            network,
            operation: entry.operation.clone(),
            status: entry.status,
            problem: entry.problem.clone(),
        };
        let until = entry.at + FOLDED;
        if self.folds.len() >= MAX_FOLDS && !self.folds.contains_key(&alike) {
            self.fold_into_several(&entry, 1, until);
        } else {
            self.fold(alike, entry, 1, until);
        }
    }

    fn fold(&mut self, alike: Alike, entry: Entry, times: u64, until: UtcMillis) {
        let at = entry.at;
        if let Some(fold) = self.folds.get_mut(&alike) {
            if fold.times == 0 {
                fold.entry = entry;
            } else if fold.entry.target != entry.target {
                fold.entry.target = None;
            }
            fold.times += times;
            fold.last_at = fold.last_at.max(at);
            return;
        }
        let fold = Fold {
            entry,
            times,
            last_at: at,
            told: false,
            until,
        };
        self.folds.insert(alike, fold);
    }

    fn fold_into_several(&mut self, entry: &Entry, times: u64, until: UtcMillis) {
        let entry = Entry {
            at: entry.at,
            who: SEVERAL.to_owned(),
            operation: SEVERAL.to_owned(),
            result: EntryResult::Refused,
            ..Entry::default()
        };
        let alike = Alike {
            who: SEVERAL.to_owned(),
            network: None,
            operation: SEVERAL.to_owned(),
            status: None,
            problem: None,
        };
        self.fold(alike, entry, times, until);
    }

    /// What is to be written now.
    pub fn due(&mut self, now: UtcMillis) -> Vec<Entry> {
        let minutes = now.since(self.refilled_at).as_secs() / 60;
        if minutes > 0 {
            let more = minutes.saturating_mul(PER_MINUTE);
            self.rows_left = self.rows_left.saturating_add(more).min(BURST);
            self.refilled_at = now;
        }
        let (mut due, mut too_many) = (Vec::new(), Vec::new());
        for (alike, fold) in &mut self.folds {
            let over = now >= fold.until;
            let several = alike.operation == SEVERAL;
            if fold.times > 0 && (over || !(fold.told || several)) {
                let entry = fold.take();
                if several {
                    due.push(entry);
                } else if self.rows_left > 0 {
                    self.rows_left -= 1;
                    due.push(entry);
                } else {
                    too_many.push(entry);
                }
            }
        }
        // the clock may have been set back
        self.folds.retain(|_, fold| {
            fold.times > 0 || now < fold.until && fold.until.since(now) <= FOLDED
        });
        for entry in too_many {
            let times = entry.times.unwrap_or(1);
            self.fold_into_several(&entry, times, now + FOLDED);
        }
        due.sort_by_key(|entry| entry.at);
        due
    }

    /// Everything that is not written yet: the server stops.
    pub fn all(&mut self) -> Vec<Entry> {
        let folds = self.folds.values_mut();
        let mut all: Vec<Entry> = folds
            .filter(|fold| fold.times > 0)
            .map(Fold::take)
            .collect();
        self.folds.clear();
        all.sort_by_key(|entry| entry.at);
        let most = usize::try_from(BURST).unwrap_or(usize::MAX);
        for entry in all.split_off(all.len().min(most)) {
            let times = entry.times.unwrap_or(1);
            let until = entry.at;
            self.fold_into_several(&entry, times, until);
        }
        all.extend(self.folds.drain().map(|(_, mut fold)| fold.take()));
        all
    }
}

impl Fold {
    /// The row, of what has come since the one before.
    fn take(&mut self) -> Entry {
        let mut entry = self.entry.clone();
        if self.times > 1 {
            entry.times = Some(self.times);
            entry.last_at = Some(self.last_at.to_string());
        }
        self.times = 0;
        self.told = true;
        entry
    }
}
