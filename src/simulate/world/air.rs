//! What the devices of a cell share: one datagram is on the air at a time.

use crate::simulate::fleet::FIRST_CELL;

/// A datagram for which the air is free so much later is lost, ms: the queues of base stations are no longer.
const LONGEST_QUEUE_MS: u64 = 20_000;
/// Bytes of each datagram beside what it carries: IP and UDP, and what the radio adds.
const OVERHEAD: u64 = 40;

/// The air of all cells.
#[derive(Debug)]
pub(super) struct Air {
    /// Bytes a second in each cell; without end where there is none.
    capacity: Option<u64>,
    /// When the air of each cell is free, microseconds.
    free_at_us: Vec<u64>,
}

impl Air {
    pub(super) fn new(capacity: Option<u32>, cells: u32) -> Self {
        let cells = if capacity.is_some() {
            cells as usize
        } else {
            0
        };
        Self {
            capacity: capacity.map(u64::from),
            free_at_us: vec![0; cells],
        }
    }

    /// How much later a datagram arrives than it would alone, ms; never, where too many are before it.
    pub(super) fn late_ms(&mut self, now_ms: u64, cell: Option<u32>, bytes: usize) -> Option<u64> {
        let cell = cell.and_then(|cell| cell.checked_sub(FIRST_CELL));
        let free_at = cell.and_then(|cell| self.free_at_us.get_mut(cell as usize));
        let (Some(free_at_us), Some(capacity)) = (free_at, self.capacity) else {
            return Some(0);
        };
        let sent_us = now_ms * 1_000;
        let begins_us = sent_us.max(*free_at_us);
        if begins_us - sent_us > LONGEST_QUEUE_MS * 1_000 {
            return None;
        }
        *free_at_us = begins_us + (bytes as u64 + OVERHEAD) * 1_000_000 / capacity.max(1);
        Some((*free_at_us - sent_us) / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_of_a_cell_go_one_after_the_other_and_those_of_others_beside() {
        let mut air = Air::new(Some(1_000), 2);
        let (here, there) = (Some(FIRST_CELL), Some(FIRST_CELL + 1));
        assert_eq!(air.late_ms(5_000, here, 60), Some(100));
        assert_eq!(air.late_ms(5_050, here, 160), Some(250));
        assert_eq!(air.late_ms(5_050, there, 60), Some(100));
        assert_eq!(air.late_ms(9_000, here, 60), Some(100));
        for _ in 0..200 {
            air.late_ms(9_000, here, 60);
        }
        assert_eq!(air.late_ms(9_000, here, 60), None, "the queue is full");
        assert_eq!(air.late_ms(40_000, here, 60), Some(100));
        assert_eq!(air.late_ms(40_000, None, 60), Some(0));
    }

    #[test]
    fn without_a_capacity_nothing_is_late() {
        let mut air = Air::new(None, 2);
        for _ in 0..1_000 {
            assert_eq!(air.late_ms(0, Some(FIRST_CELL), 1_000), Some(0));
        }
    }
}
