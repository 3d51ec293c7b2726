//! All cells: how each is loaded, limited, and how often upgrades fail there.

use askama::Template;
use axum::extract::RawQuery;

use super::Cell;
use crate::console::{
    fields::encode,
    listed::{Listed, Pager, ROWS},
    page::{Paged, page},
    viewer::Viewer,
};

/// Cells of a map.
const OF_A_MAP: u32 = 500;

/// What the map shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Load,
    Limit,
    Failures,
    /// Only those that are closed.
    Closed,
    /// It is no map.
    List,
}

impl By {
    const ALL: [Self; 5] = [
        Self::Load,
        Self::Limit,
        Self::Failures,
        Self::Closed,
        Self::List,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Limit => "limit",
            Self::Failures => "failures",
            Self::Closed => "closed",
            Self::List => "list",
        }
    }

    fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|by| by.name() == name);
        found.unwrap_or(Self::Load)
    }
}

#[derive(Template)]
#[template(path = "fleet/cells.html")]
struct CellsPage<'a> {
    at: &'a Viewer,
    by: By,
    cells: Vec<Tile>,
    pager: Pager,
}

impl CellsPage<'_> {
    const HEATS: [&'static str; 4] = ["heat-0", "heat-1", "heat-2", "heat-3"];

    fn is_list(&self) -> bool {
        self.by == By::List
    }

    fn is_by(&self, name: &str) -> bool {
        self.by.name() == name
    }
}

/// A cell of the map.
struct Tile {
    cell: Cell,
    /// The class of its colour.
    class: &'static str,
    /// What it shows.
    told: String,
}

/// The page.
pub(super) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = super::super::given(given);
    let by = By::named(given.get("by"));
    let limit = if by == By::List { ROWS } else { OF_A_MAP };
    let cursor = given
        .some("cursor")
        .map(|it| format!("&cursor={}", encode(it)));
    let closed = if by == By::Closed { "&closed=true" } else { "" };
    let cursor = cursor.unwrap_or_default();
    let path = format!("/v1/cells?limit={limit}{closed}{cursor}");
    let found: Listed<Cell> = viewer.get(&path).await?;
    let cells = found.items.into_iter().map(|cell| Tile {
        class: heat(by, &cell),
        told: told(&viewer, by, &cell),
        cell,
    });
    let cells = cells.collect();
    let pager = Pager::of(&viewer, "/cells", &given, found.next_cursor.as_deref());
    Ok(page(&CellsPage {
        at: &viewer,
        by,
        cells,
        pager,
    }))
}

/// How much it is, of four.
fn heat(by: By, cell: &Cell) -> &'static str {
    let percent = match by {
        By::Load | By::Limit if cell.closed.is_some() => 100,
        By::Load if cell.waiting > 0 => 100,
        By::Load => share(cell.active, most(cell).max(cell.active)),
        // the fewer are let in the hotter
        By::Limit => match most(cell) {
            0 => 0,
            1..=2 => 100,
            3..=5 => 60,
            _ => 20,
        },
        By::Failures => share(cell.failed, cell.failed.saturating_add(cell.succeeded)) * 4,
        By::Closed => 100,
        By::List => 0,
    };
    match percent {
        0 => "heat-0",
        1..50 => "heat-1",
        50..100 => "heat-2",
        _ => "heat-3",
    }
}

/// How many may upgrade at once: by its own limit, or as coverage has allowed.
fn most(cell: &Cell) -> u64 {
    cell.limit.map_or(cell.limit_max, u64::from)
}

/// A part of a whole, in percent; a part that is there is one at least.
fn share(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    (part.saturating_mul(100) / whole).max(u64::from(part > 0))
}

fn told(at: &Viewer, by: By, cell: &Cell) -> String {
    if let Some(closed) = &cell.closed
        && by != By::Failures
    {
        return at.t1("cell-is-closed", "reason", &closed.reason);
    }
    match by {
        By::Load => at.t2(
            "cell-load-is",
            "active",
            cell.active,
            "waiting",
            cell.waiting,
        ),
        By::Limit if most(cell) == 0 => at.t("cell-limit-unknown"),
        By::Limit => at.t1("cell-limit-is", "limit", most(cell)),
        By::Failures => at.t2(
            "cell-failures-are",
            "percent",
            share(cell.failed, cell.failed.saturating_add(cell.succeeded)),
            "count",
            cell.failed,
        ),
        By::Closed | By::List => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_hotter_where_more_is() {
        let cell = |active, waiting, limit_max, succeeded, failed| Cell {
            id: 1,
            active,
            waiting,
            limit_max,
            concurrent_peak: 0,
            admitted_total: 0,
            last_admitted_at: None,
            succeeded,
            failed,
            limit: None,
            closed: None,
        };
        for (by, cell, class) in [
            (By::Load, cell(0, 0, 0, 0, 0), "heat-0"),
            (By::Load, cell(1, 0, 1_000, 0, 0), "heat-1"),
            (By::Load, cell(5, 0, 10, 0, 0), "heat-2"),
            (By::Load, cell(10, 0, 10, 0, 0), "heat-3"),
            (By::Load, cell(1, 1, 10, 0, 0), "heat-3"),
            (By::Limit, cell(0, 0, 0, 0, 0), "heat-0"),
            (By::Limit, cell(0, 0, 1, 0, 0), "heat-3"),
            (By::Limit, cell(0, 0, 10, 0, 0), "heat-1"),
            (By::Failures, cell(0, 0, 0, 0, 0), "heat-0"),
            (By::Failures, cell(0, 0, 0, 1_000, 1), "heat-1"),
            (By::Failures, cell(0, 0, 0, 8, 2), "heat-2"),
            (By::Failures, cell(0, 0, 0, 3, 1), "heat-3"),
        ] {
            assert_eq!(heat(by, &cell), class, "{by:?} {cell:?}");
        }
    }
}
