//! How a task went on, beside what was forecast.

use askama::Template;
use jiff::Timestamp;
use serde::Deserialize;

use super::super::{
    chart::{self, Line, Svg, float},
    page::Failure,
    viewer::Viewer,
};

/// Rows of the table: as many of the newest points.
const ROWS: usize = 50;
const HOUR: i64 = 3_600_000;

/// The course of a task.
pub(super) struct Course {
    points: Vec<Point>,
    total: u64,
}

#[derive(Debug, Deserialize)]
struct Series {
    points: Vec<Point>,
}

#[derive(Debug, Clone, Deserialize)]
struct Point {
    at: String,
    waiting: u64,
    running: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    expected: Option<u64>,
}

impl Point {
    /// Since 1970, milliseconds.
    fn time(&self) -> i64 {
        let at = self.at.parse::<Timestamp>();
        at.map_or(0, Timestamp::as_millisecond)
    }

    fn ended(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }
}

#[derive(Template)]
#[template(path = "tasks/course.html")]
struct Shown<'a> {
    at: &'a Viewer,
    svg: Svg,
    /// The newest first.
    rows: Vec<&'a Point>,
    expects: bool,
    speed: Option<u64>,
    behind: Option<(u64, u64)>,
}

impl Course {
    /// The course of a task of so many upgrades; `None`: nothing is known of it yet.
    pub(super) async fn of(viewer: &Viewer, id: i64, total: u64) -> Result<Option<Self>, Failure> {
        if !viewer.may("get_task_series") {
            return Ok(None);
        }
        let path = format!("/v1/tasks/{id}/series");
        let series: Option<Series> = viewer.look(&path).await?;
        let points = series.map(|series| series.points).unwrap_or_default();
        Ok((points.len() > 1).then_some(Self { points, total }))
    }

    /// Upgrades that have ended in the last hour of it.
    fn speed(&self) -> Option<u64> {
        let last = self.points.last()?;
        let hour_ago = last.time() - HOUR;
        let before = self.points.iter().rev();
        let before = before.skip_while(|point| point.time() > hour_ago);
        let before = before.map(Point::ended).next();
        // one that is younger begins with nothing
        Some(last.ended().saturating_sub(before.unwrap_or_default()))
    }

    /// How many have ended, and how many were to have.
    fn behind(&self) -> Option<(u64, u64)> {
        let last = self.points.last()?;
        Some((last.ended(), last.expected?))
    }

    fn svg(&self) -> Svg {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return Svg::default();
        };
        let first = first.time();
        let whole = last.time().saturating_sub(first).unsigned_abs();
        let x = |point: &Point| {
            let since = point.time().saturating_sub(first);
            float(since.unsigned_abs()) / float(whole.max(1))
        };
        let line = |value: fn(&Point) -> Option<u64>| -> Vec<(f64, f64)> {
            (self.points.iter())
                .filter_map(|point| Some((x(point), float(value(point)?))))
                .collect()
        };
        let succeeded = line(|point| Some(point.succeeded));
        let failed = line(|point| Some(point.failed));
        let running = line(|point| Some(point.running));
        let expected = line(|point| point.expected);
        // the whole is at the top
        let top = [(0.0, float(self.total))];
        chart::lines(&[
            Line {
                class: "rest",
                points: &expected,
            },
            Line {
                class: "busy",
                points: &running,
            },
            Line {
                class: "bad",
                points: &failed,
            },
            Line {
                class: "good",
                points: &succeeded,
            },
            Line {
                class: "rest",
                points: &top,
            },
        ])
    }

    /// The section of a page that shows it.
    pub(super) fn shown(&self, at: &Viewer) -> Section {
        let shown = Shown {
            at,
            svg: self.svg(),
            rows: self.points.iter().rev().take(ROWS).collect(),
            expects: self.points.iter().any(|point| point.expected.is_some()),
            speed: self.speed(),
            behind: self.behind(),
        };
        // a string takes everything
        Section(shown.render().unwrap_or_default())
    }
}

/// A part of a page that is made already.
pub(super) struct Section(pub(super) String);

impl askama::filters::HtmlSafe for Section {}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(points: &[(u32, u64)]) -> Course {
        let point = |(minute, succeeded): &(u32, u64)| Point {
            at: format!("2027-01-15T0{}:{:02}:00Z", minute / 60, minute % 60),
            waiting: 100 - succeeded,
            running: 0,
            succeeded: *succeeded,
            failed: 0,
            cancelled: 0,
            expected: Some(80),
        };
        Course {
            points: points.iter().map(point).collect(),
            total: 100,
        }
    }

    #[test]
    fn what_ended_in_the_last_hour_is_the_speed() {
        let long = course(&[(0, 0), (30, 10), (60, 25), (90, 60)]);
        assert_eq!(long.speed(), Some(50));
        assert_eq!(long.behind(), Some((60, 80)));
        // one that is younger than an hour
        assert_eq!(course(&[(0, 3), (30, 10)]).speed(), Some(10));
        assert_eq!(course(&[]).speed(), None);
    }

    #[test]
    fn a_chart_goes_from_the_first_point_to_the_last() {
        let svg = course(&[(0, 0), (90, 50)]).svg().to_string();
        // half of the whole, which is at the top, at the right end
        assert!(
            svg.contains(r#"class="good" points="0.0,160.0 600.0,82.0 ""#),
            "{svg}"
        );
    }
}
