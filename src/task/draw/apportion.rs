//! Whole devices for shares that are none: each stratum's devices are apportioned to phases, so that each of its numbers is one of the
//! two whole ones beside its exact share, and each phase has as many as it is to have. Pure.
//!
//! This is Cox's controlled rounding (L. H. Cox, "A constructive procedure for unbiased controlled rounding", JASA 82, 1987), one
//! stratum after the other. A share that is not whole is an edge between its stratum and its phase. Where edges make a ring, what is
//! taken from every second one is given to the others, until one of them is whole: no sum changes. Without rings fewer strata than
//! phases have edges, so that this needs no memory that grows with the strata. After the last stratum none is left, because all sums
//! are whole.

use super::{mixed, scaled};

/// Phases that can be told apart here.
const MOST_COLUMNS: usize = 64;

/// Apportions strata, one after the other, to columns.
pub(super) struct Apportion<'c, K, D> {
    /// How many each column gets.
    columns: &'c [u64],
    /// All of them together: a share is so many parts of that.
    whole: u64,
    /// Strata that are not whole yet; free places between them.
    rows: Vec<Option<Row<K>>>,
    /// Of each column, the places of the strata with an edge to it.
    rows_of: Vec<u64>,
    /// Counts the lots that were drawn.
    lots: u64,
    done: D,
}

/// A stratum that is not whole yet.
struct Row<K> {
    key: K,
    devices: u64,
    /// What it has of each column beyond whole ones, in parts.
    parts: Vec<u64>,
    /// The columns that it has an edge to.
    open: u64,
    /// The columns in which it gets one more.
    more: u64,
}

impl<'c, K, D: FnMut(K, &[(u32, u64)])> Apportion<'c, K, D> {
    /// To columns of these sizes. `done` is told what each stratum gets: the columns of which it gets any, and how many.
    pub(super) fn new(columns: &'c [u64], seed: u64, done: D) -> Self {
        Self {
            columns,
            whole: columns.iter().sum(),
            rows: Vec::new(),
            rows_of: vec![0; columns.len()],
            lots: seed,
            done,
        }
    }

    /// The next stratum. All together have as many devices as all columns.
    pub(super) fn add(&mut self, key: K, devices: u64) {
        let parts: Vec<u64> = (self.columns.iter())
            .map(|column| self.share(devices, *column).1)
            .collect();
        let open: Vec<usize> = (0..parts.len().min(MOST_COLUMNS))
            .filter(|column| parts[*column] > 0)
            .collect();
        let row = Row {
            key,
            devices,
            parts,
            open: 0,
            more: 0,
        };
        if open.is_empty() {
            return self.finish(row);
        }
        let free = self.rows.iter().position(Option::is_none);
        let place = free.unwrap_or_else(|| {
            self.rows.push(None);
            self.rows.len() - 1
        });
        self.rows[place] = Some(row);
        for column in open {
            self.connect(place, column);
        }
        self.finish_whole(place);
    }

    /// What a column of that size gives to so many devices: whole ones, and parts of another.
    fn share(&self, devices: u64, column: u64) -> (u64, u64) {
        let share = u128::from(devices) * u128::from(column);
        let whole = u128::from(self.whole.max(1));
        // a column is no larger than the whole, so that neither is more than there are devices
        let number = |it: u128| u64::try_from(it).unwrap_or(u64::MAX);
        (number(share / whole), number(share % whole))
    }

    /// Adds an edge. Where that makes a ring, the ring is broken.
    fn connect(&mut self, place: usize, column: usize) {
        let ring = self.way(place, column);
        self.open(place, column);
        let Some(mut ring) = ring else { return };
        ring.insert(0, (place, column));
        let part = |(place, column): &(usize, usize)| {
            let row = self.rows[*place].as_ref();
            row.map_or(0, |row| row.parts[*column])
        };
        let gives = |at: usize| ring.iter().skip(at).step_by(2).map(part).min().unwrap_or(0);
        let takes = |at: usize| {
            let left = |edge| self.whole - part(edge);
            ring.iter().skip(at).step_by(2).map(left).min().unwrap_or(0)
        };
        // how far the even ones can grow, and how far they can shrink
        let grow = takes(0).min(gives(1));
        let shrink = gives(0).min(takes(1));
        self.lots = self.lots.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let even_grow = scaled(mixed(self.lots), grow + shrink) < shrink;
        for (at, edge) in ring.into_iter().enumerate() {
            let grows = (at % 2 == 0) == even_grow;
            let by = if even_grow { grow } else { shrink };
            self.change(edge, grows, by);
            if edge.0 != place {
                self.finish_whole(edge.0); // the one that is added may get further edges
            }
        }
    }

    fn open(&mut self, place: usize, column: usize) {
        if let Some(row) = &mut self.rows[place] {
            row.open |= 1 << column;
            self.rows_of[column] |= 1 << place;
        }
    }

    /// An edge's part grows or shrinks; where it is whole then, the edge is gone.
    fn change(&mut self, (place, column): (usize, usize), grows: bool, by: u64) {
        let Some(row) = &mut self.rows[place] else {
            return;
        };
        let part = &mut row.parts[column];
        *part = if grows { *part + by } else { *part - by };
        let is_whole = *part == 0 || *part == self.whole;
        if *part == self.whole {
            row.more |= 1 << column;
        }
        if is_whole {
            row.open &= !(1 << column);
            self.rows_of[column] &= !(1 << place);
        }
    }

    /// The edges that lead from a column back to a stratum, in their order; `None` where they are not connected.
    fn way(&self, place: usize, column: usize) -> Option<Vec<(usize, usize)>> {
        let mut row_before = [usize::MAX; MOST_COLUMNS];
        let mut column_before = [usize::MAX; MOST_COLUMNS];
        let (mut rows_seen, mut columns_seen) = (1_u64 << place, 0_u64);
        let mut to_do = rows_seen;
        while let Some(row) = first(to_do) {
            to_do &= to_do - 1;
            let open = self.rows[row].as_ref().map_or(0, |row| row.open);
            let mut columns = open & !columns_seen;
            columns_seen |= columns;
            while let Some(reached) = first(columns) {
                columns &= columns - 1;
                row_before[reached] = row;
                let mut rows = self.rows_of[reached] & !rows_seen;
                rows_seen |= rows;
                to_do |= rows;
                while let Some(row) = first(rows) {
                    rows &= rows - 1;
                    column_before[row] = reached;
                }
            }
        }
        if columns_seen & (1 << column) == 0 {
            return None;
        }
        let (mut way, mut column) = (Vec::new(), column);
        loop {
            let row = row_before[column];
            way.push((row, column));
            if row == place {
                return Some(way);
            }
            column = column_before[row];
            way.push((row, column));
        }
    }

    /// Says what a stratum gets, if it has no edge any more.
    fn finish_whole(&mut self, place: usize) {
        if let Some(row) = self.rows[place].take_if(|row| row.open == 0) {
            self.finish(row);
        }
    }

    fn finish(&mut self, row: Row<K>) {
        let mut gets = Vec::new();
        for (number, column) in (0_u32..).zip(self.columns) {
            let more = u64::from(row.more.checked_shr(number).unwrap_or(0) & 1 == 1);
            let devices = self.share(row.devices, *column).0 + more;
            if devices > 0 {
                gets.push((number, devices));
            }
        }
        (self.done)(row.key, &gets);
    }
}

/// The number of the first bit that is set.
fn first(bits: u64) -> Option<usize> {
    (bits != 0).then(|| bits.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What each stratum gets of each column.
    fn apportioned(strata: &[u64], columns: &[u64], seed: u64) -> Vec<Vec<u64>> {
        let mut table = vec![vec![0; columns.len()]; strata.len()];
        let mut apportion = Apportion::new(columns, seed, |stratum: usize, gets: &[(u32, u64)]| {
            for (column, devices) in gets {
                table[stratum][*column as usize] = *devices;
            }
        });
        for (stratum, devices) in strata.iter().enumerate() {
            apportion.add(stratum, *devices);
            let open = apportion.rows.iter().flatten().count();
            assert!(
                open < columns.len(),
                "{open} strata of {columns:?} are open"
            );
        }
        assert!(apportion.rows.iter().all(Option::is_none));
        table
    }

    #[test]
    fn a_share_that_is_whole_is_had_exactly() {
        let table = apportioned(&[10, 20, 70], &[10, 90], 1);
        assert_eq!(table, [[1, 9], [2, 18], [7, 63]]);
    }

    #[test]
    fn strata_of_one_device_fill_the_columns() {
        let table = apportioned(&[1; 1_000], &[10, 90, 900], 7);
        let sums = [0, 1, 2].map(|column| table.iter().map(|row| row[column]).sum::<u64>());
        assert_eq!(sums, [10, 90, 900]);
        // not the first ones, nor the last
        let first_half = table.iter().take(500).map(|row| row[1]).sum::<u64>();
        assert!((25..=65).contains(&first_half), "{first_half}");
    }

    proptest! {
        #[test]
        fn each_stratum_is_within_one_device_of_its_share(
            strata in prop::collection::vec(1_u64..40, 1..60),
            cuts in prop::collection::vec(0_u64..1_000, 0..8),
            seed: u64,
        ) {
            let whole: u64 = strata.iter().sum();
            let mut cuts: Vec<u64> = cuts.iter().map(|cut| cut * whole / 1_000).collect();
            cuts.extend([0, whole]);
            cuts.sort_unstable();
            let columns: Vec<u64> = cuts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let table = apportioned(&strata, &columns, seed);
            for (row, devices) in table.iter().zip(&strata) {
                prop_assert_eq!(row.iter().sum::<u64>(), *devices);
                for (got, column) in row.iter().zip(&columns) {
                    // |got - devices * column / whole| < 1
                    let difference = (got * whole).abs_diff(devices * column);
                    prop_assert!(difference < whole, "{got} of {devices} * {column} / {whole}");
                }
            }
            for (number, column) in columns.iter().enumerate() {
                prop_assert_eq!(table.iter().map(|row| row[number]).sum::<u64>(), *column);
            }
        }
    }
}
