//! A forecast, as far as it is.

use std::{collections::BTreeMap, time::Duration};

use askama::Template;
use serde::Deserialize;
use tokio::time::sleep;

use super::{
    super::{page::Failure, viewer::Viewer},
    series::Section,
};
use crate::api::Problem;

/// Looks at a forecast that is being made, and what is between two.
const LOOKS: u32 = 12;
const PAUSE: Duration = Duration::from_millis(250);
/// Cells that are named.
const CELLS: usize = 5;

/// The forecast of a task, there or to be created.
#[derive(Debug, Deserialize)]
pub(super) struct Forecast {
    pub(super) id: i64,
    pub(super) state: String,
    progress: f64,
    error: Option<String>,
    result: Option<Foreseen>,
}

#[derive(Debug, Deserialize)]
struct Foreseen {
    made_at: String,
    devices: u64,
    finish: Span,
    shares: Vec<Share>,
    succeeded: Quantiles,
    failed: BTreeMap<String, Quantiles>,
    skipped: BTreeMap<String, Quantiles>,
    expired: Quantiles,
    unfinished: Quantiles,
    bytes: Quantiles,
    phases: Vec<OfPhase>,
    cells: Vec<OfCell>,
    holds: Vec<Hold>,
    assumed: Assumed,
}

#[derive(Debug, Deserialize)]
struct Span {
    p50: Option<String>,
    p90: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Share {
    percent: u64,
    #[serde(flatten)]
    at: Span,
}

#[derive(Debug, Deserialize)]
struct Quantiles {
    p50: u64,
    p90: u64,
}

#[derive(Debug, Deserialize)]
struct OfPhase {
    phase: u64,
    devices: u64,
    begins: Span,
    ends: Span,
}

#[derive(Debug, Deserialize)]
struct OfCell {
    cell: Option<u32>,
    devices: u64,
    ends: Span,
    held_by: String,
}

#[derive(Debug, Deserialize)]
struct Hold {
    code: String,
    first: Span,
}

#[derive(Debug, Deserialize)]
struct Assumed {
    cells_drawn: u64,
    away: u64,
    never_heard: u64,
    current: u64,
}

impl Span {
    /// The likely time; nothing where it is never, or has been.
    fn likely(&self, at: &Viewer) -> String {
        told(self.p50.as_ref(), at)
    }

    fn latest(&self, at: &Viewer) -> String {
        told(self.p90.as_ref(), at)
    }
}

fn told(time: Option<&String>, at: &Viewer) -> String {
    time.map_or_else(|| at.t("forecast-no-time"), |time| at.time(time))
}

impl Foreseen {
    fn cells(&self) -> &[OfCell] {
        &self.cells[..self.cells.len().min(CELLS)]
    }
}

#[derive(Template)]
#[template(path = "tasks/forecast.html")]
struct Shown<'a> {
    at: &'a Viewer,
    forecast: &'a Forecast,
}

impl Forecast {
    fn is_under_way(&self) -> bool {
        matches!(&*self.state, "queued" | "running")
    }

    /// Percent of it that are made.
    fn percent(&self) -> String {
        format!("{:.0}", self.progress.clamp(0.0, 1.0) * 100.0)
    }

    /// The part of a page that shows it.
    pub(super) fn shown(&self, at: &Viewer) -> Section {
        let shown = Shown { at, forecast: self };
        // a string takes everything
        Section(shown.render().unwrap_or_default())
    }

    /// A forecast that was asked for: it is waited for a moment.
    pub(super) async fn wait(viewer: &Viewer, id: i64) -> Result<Self, Problem> {
        let path = format!("/v1/forecasts/{id}");
        let look = || async {
            viewer
                .get(&path)
                .await
                .map_err(|failure: Failure| failure.0)
        };
        let mut forecast: Self = look().await?;
        for _ in 0..LOOKS {
            if !forecast.is_under_way() {
                break;
            }
            sleep(PAUSE).await;
            forecast = look().await?;
        }
        Ok(forecast)
    }
}
