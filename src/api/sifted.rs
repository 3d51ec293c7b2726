//! Pages of lists in which others' things are in between: no page ends where one of these is, as long as it can be helped.

use crate::{access::Scope, store::Page};

/// Rows that are read at once for a caller that does not see everything.
const AT_ONCE: u32 = 1_000;
/// Reads for one page at most: it may have fewer items than asked for, or none, behind this many times [`AT_ONCE`] rows.
const READS: u32 = 10;

/// A page that is being gathered.
pub(super) struct Sifted<R> {
    found: Vec<R>,
    limit: usize,
    reads: u32,
    /// Key of the last row that was read, if others follow it.
    behind: Option<String>,
}

impl<R> Sifted<R> {
    /// Nothing yet of a page of so many items at most.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            found: Vec::new(),
            limit: limit as usize,
            reads: 0,
            behind: None,
        }
    }

    /// How many rows to read next.
    pub(super) fn at_once(&self, scope: &Scope) -> u32 {
        match scope {
            Scope::Whole => u32::try_from(self.limit).unwrap_or(AT_ONCE),
            Scope::Within(_) => AT_ONCE,
        }
    }

    /// Takes what is there of a page of rows. Returns whether the rows behind it are to be read.
    pub(super) fn take(
        &mut self,
        page: Page<R>,
        key: impl Fn(&R) -> String,
        is_there: impl Fn(&R) -> bool,
    ) -> bool {
        self.reads += 1;
        self.behind = page.items.last().filter(|_| page.more).map(key);
        self.found.extend(page.items.into_iter().filter(is_there));
        self.behind.is_some() && self.found.len() < self.limit && self.reads < READS
    }

    /// The page, and the key behind which the next one begins: the last item's, unless the page was given up before it was full.
    pub(super) fn page(mut self, key: impl Fn(&R) -> String) -> (Vec<R>, Option<String>) {
        if self.found.len() < self.limit {
            return (self.found, self.behind);
        }
        let more = self.found.len() > self.limit || self.behind.is_some();
        self.found.truncate(self.limit);
        let next = self.found.last().filter(|_| more).map(key);
        (self.found, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads numbers up to `last` of which those are there that `is_there` says: the pages, and rows read for the first one.
    fn pages(last: u32, limit: u32, is_there: impl Fn(u32) -> bool) -> (Vec<Vec<u32>>, u32) {
        let scope = Scope::Within(Vec::new());
        let (mut pages, mut after, mut first) = (Vec::new(), 0, 0);
        loop {
            let mut sifted = Sifted::new(limit);
            let mut at = after;
            loop {
                let end = last.min(at + sifted.at_once(&scope));
                let page = Page {
                    items: (at + 1..=end).collect(),
                    more: end < last,
                };
                at = end;
                if !sifted.take(page, u32::to_string, |it| is_there(*it)) {
                    break;
                }
            }
            first = if pages.is_empty() { at } else { first };
            let (page, next) = sifted.page(u32::to_string);
            pages.push(page);
            let Some(next) = next else {
                return (pages, first);
            };
            after = next.parse().unwrap();
        }
    }

    #[test]
    fn others_things_end_no_page() {
        let own = [3, 1_500, 1_501, 4_000];
        let is_own = |it| own.contains(&it);
        assert_eq!(
            pages(4_000, 2, is_own).0,
            [vec![3, 1_500], vec![1_501, 4_000]]
        );
        assert_eq!(pages(4_000, 9, is_own).0, [own.to_vec()]);
        assert_eq!(pages(0, 2, is_own).0, [Vec::<u32>::new()]);
        assert_eq!(pages(5, 2, |_| true).0, [vec![1, 2], vec![3, 4], vec![5]]);
    }

    #[test]
    fn a_page_is_given_up_behind_so_many_rows() {
        let (found, first) = pages(25_000, 2, |it| it == 24_999);
        assert_eq!((found, first), (vec![vec![], vec![], vec![24_999]], 10_000));
    }
}
