//! The store is put back to an older state, as from a backup, while the devices go on.

use super::{Occurrence, World};
use crate::simulate::{hooks::Hooks, invariants::AsCopied, store::Backend};

/// A store is put back no more often than so: each time undoes what devices were asked meanwhile, within limits that go on.
const MOST: u64 = 3;

/// What was copied.
pub(super) struct Copied {
    store: Backend,
    known: AsCopied,
    at_ms: u64,
}

impl<H: Hooks> World<H> {
    pub(super) fn plan_copy(&mut self) {
        if let Some(mean) = self.mishaps.put_back
            && self.checker.open() > 0
            && self.figures.put_back < MOST
        {
            let at = self.now_ms + self.until_next(mean);
            self.queue.push(at, Occurrence::Copy);
        }
    }

    pub(super) fn copy_store(&mut self) -> Result<(), String> {
        if let Some(mean) = self.mishaps.put_back {
            self.copy = Some(Copied {
                store: self.store.copy()?,
                known: self.checker.as_copied(),
                at_ms: self.now_ms,
            });
            let at = self.now_ms + self.until_next(mean);
            self.queue.push(at, Occurrence::PutBack);
        }
        Ok(())
    }

    pub(super) fn put_back(&mut self) -> Result<(), String> {
        let Some(copied) = self.copy.take().filter(|_| self.checker.open() > 0) else {
            return Ok(()); // all is over
        };
        self.crash(); // it may be down already
        self.store = copied.store;
        let undone_ms = self.crashed_at_ms.saturating_sub(copied.at_ms);
        let now = self.now().utc;
        self.store.was_put_back(now)?;
        self.checker.put_back(now, copied.known, undone_ms);
        self.figures.put_back += 1;
        // what is done anew takes its time again
        self.end_ms += self.now_ms - copied.at_ms;
        self.trace.note(self.now_ms, "put back");
        self.plan_copy();
        Ok(())
    }
}
