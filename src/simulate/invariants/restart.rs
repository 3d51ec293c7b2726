use super::Invariants;
use crate::clock::UtcMillis;

impl Invariants {
    /// The server is gone, and with it all that was not committed. `undone_ms` is the age of the oldest change
    /// among it.
    pub(in super::super) fn crashed(&mut self, undone_ms: u64) {
        self.lost_ms += i64::try_from(undone_ms).unwrap_or(0);
        self.new_locations.clear();
        self.outs.clear();
        self.rollout.crashed();
        for shard in &mut self.shards {
            *shard = super::Shard::default();
        }
        for cell in &mut self.cells {
            cell.holders = 0;
        }
        self.at_site.fill(0);
        for (device, subject) in self.subjects.iter_mut().enumerate() {
            subject.emitted = subject.committed;
            subject.told_emitted = subject.told_committed;
            subject.claims.crashed();
            if let Some(over) = &mut subject.over_mqtt {
                over.crashed();
            }
            subject.newest = None;
            subject.held.crashed(subject.committed.slot_in());
            if let Some(cell) = subject.committed.slot_in()
                && let Some(row) = cell.checked_sub(self.first_cell)
                && let Some(cell) = self.cells.get_mut(row as usize)
            {
                cell.holders += 1;
            }
            let site = self.sites.number_of(device);
            let there = site.and_then(|number| self.at_site.get_mut(number));
            if let (Some(_), Some(there)) = (subject.committed.slot_in(), there) {
                *there += 1;
            }
        }
        self.touched = (self.first_cell..).take(self.cells.len()).collect();
    }

    /// The server is back.
    pub(in super::super) fn restarted(&mut self, now: UtcMillis, down_ms: u64) {
        self.started_at = now;
        self.lost_ms += i64::try_from(down_ms).unwrap_or(0);
    }

    /// How late something is that was due at `due`, ms: what was due while the server was down is due when it is
    /// back.
    pub(super) fn late_ms(&self, now: UtcMillis, due: UtcMillis) -> i64 {
        now.0 - due.0.max(self.started_at.0)
    }
}
