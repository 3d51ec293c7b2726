//! One cell: who upgrades in it, who waits, what limits it, and how it went on.

use askama::Template;
use axum::extract::Path;
use serde::Deserialize;

use super::{Detail, tagged};
use crate::console::{
    chart::{self, Line, Svg},
    page::{Paged, page},
    viewer::Viewer,
};

#[derive(Template)]
#[template(path = "fleet/cell.html")]
struct CellPage<'a> {
    at: &'a Viewer,
    id: u32,
    /// `None`: nobody has been there, and it has no rules.
    cell: Option<Detail>,
    points: Vec<Point>,
    chart: Svg,
    limits: Vec<LimitChange>,
}

impl CellPage<'_> {
    fn is_closed(&self) -> bool {
        self.cell
            .as_ref()
            .is_some_and(|cell| cell.cell.closed.is_some())
    }
}

/// How it stood.
#[derive(Debug, Deserialize)]
struct Point {
    at: String,
    active: u32,
    waiting: u32,
    succeeded: u64,
    failed: u64,
}

/// A change of its limit.
#[derive(Debug, Deserialize)]
struct LimitChange {
    at: String,
    limit: Option<u32>,
    detail: String,
}

#[derive(Debug, Deserialize)]
struct Series<T> {
    points: Vec<T>,
}

/// The page.
pub(super) async fn show(viewer: Viewer, Path(id): Path<u32>) -> Paged {
    let cell = tagged(&viewer, id).await?.map(|(cell, _)| cell);
    let (points, limits) = match &cell {
        Some(_) => {
            let series: Series<Point> = viewer.get(&format!("/v1/cells/{id}/series")).await?;
            let limits: Series<LimitChange> = viewer.get(&format!("/v1/cells/{id}/limits")).await?;
            (series.points, limits.points)
        }
        // its devices lead here all the same
        None => (Vec::new(), Vec::new()),
    };
    Ok(page(&CellPage {
        at: &viewer,
        id,
        cell,
        chart: drawn(&points),
        points,
        limits,
    }))
}

fn drawn(points: &[Point]) -> Svg {
    let time = |point: &Point| {
        let at = point.at.parse::<jiff::Timestamp>().ok()?;
        u64::try_from(at.as_second()).ok()
    };
    let times = || points.iter().filter_map(time);
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Svg::default();
    };
    let span = chart::float((last - first).max(1));
    let line = |value: fn(&Point) -> u32| -> Vec<(f64, f64)> {
        let points = points.iter().filter_map(|point| {
            let x = chart::float(time(point)? - first) / span;
            Some((x, f64::from(value(point))))
        });
        points.collect()
    };
    let (active, waiting) = (line(|it| it.active), line(|it| it.waiting));
    chart::lines(&[
        Line {
            class: "busy",
            points: &active,
        },
        Line {
            class: "warn",
            points: &waiting,
        },
    ])
}
