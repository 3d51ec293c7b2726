//! `cellwise forecast` and `cellwise task forecast`.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::{
    client::{Client, CommandError},
    list::ResultArgs,
    output::{self, Format, counted, or_dash},
};

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// Cells, sites and gateways that are shown.
const LANES: usize = 10;
/// Devices that are named.
const NAMED: usize = 10;

/// `cellwise task forecast`.
#[derive(Debug, Args)]
pub struct ForecastArgs {
    /// Number of the task.
    id: i64,
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(Debug, Deserialize)]
struct ForecastView {
    id: i64,
    state: String,
    progress: f64,
    error: Option<String>,
    result: Option<ResultView>,
}

#[derive(Debug, Deserialize)]
struct ResultView {
    devices: u64,
    finish: SpanView,
    shares: Vec<ShareView>,
    succeeded: CountView,
    failed: BTreeMap<String, CountView>,
    skipped: BTreeMap<String, CountView>,
    expired: CountView,
    stopped: CountView,
    unfinished: CountView,
    missed: Vec<String>,
    phases: Vec<PhaseView>,
    cells_total: u64,
    cells: Vec<CellView>,
    sites_total: u64,
    sites: Vec<SiteView>,
    gateways_total: u64,
    gateways: Vec<GatewayView>,
    holds: Vec<HoldView>,
    assumed: AssumedView,
}

#[derive(Debug, Deserialize)]
struct SpanView {
    p50: Option<String>,
    p90: Option<String>,
}

#[derive(Debug, Deserialize)]
struct CountView {
    p50: u64,
    p90: u64,
}

#[derive(Debug, Deserialize)]
struct ShareView {
    percent: u8,
    #[serde(flatten)]
    at: SpanView,
}

#[derive(Debug, Deserialize)]
struct PhaseView {
    phase: u32,
    devices: u64,
    begins: SpanView,
    ends: SpanView,
}

#[derive(Debug, Deserialize)]
struct CellView {
    cell: Option<u32>,
    #[serde(flatten)]
    lane: LaneView,
}

#[derive(Debug, Deserialize)]
struct SiteView {
    site: String,
    #[serde(flatten)]
    lane: LaneView,
}

#[derive(Debug, Deserialize)]
struct GatewayView {
    gateway: String,
    #[serde(flatten)]
    lane: LaneView,
}

#[derive(Debug, Deserialize)]
struct LaneView {
    devices: u64,
    sleeping: u64,
    ends: SpanView,
    lower_bound_seconds: u64,
    held_by: String,
}

#[derive(Debug, Deserialize)]
struct HoldView {
    code: String,
    courses: u64,
    first: SpanView,
}

#[derive(Debug, Deserialize)]
struct AssumedView {
    courses: u64,
    other_devices: u64,
    cells_drawn: u64,
    rhythms_drawn: u64,
    away: u64,
    never_heard: u64,
    current: u64,
    packages_drawn: u64,
    joining_per_day: Option<f64>,
    downloads: Vec<DownloadView>,
    install_seconds: f64,
    failing_percent: f64,
}

#[derive(Debug, Deserialize)]
struct DownloadView {
    limit: u32,
    seconds_per_kib: f64,
    measured: bool,
}

impl ForecastArgs {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        let client = Client::new(&self.result.api)?;
        let asked = client.get(&format!("/v1/tasks/{}/forecast", self.id), &[])?;
        follow(&client, asked, self.result.format, out)
    }
}

/// Waits until a forecast that was asked for has ended, and shows it. The exit code is 0 if there is one, else 1.
pub(super) fn follow(
    client: &Client,
    asked: Value,
    format: Format,
    out: &mut dyn Write,
) -> Result<ExitCode, CommandError> {
    let shown = format == Format::Text && io::stderr().is_terminal();
    let mut answer = asked;
    loop {
        let view: ForecastView = client.view(&answer)?;
        if !matches!(&*view.state, "queued" | "running") {
            if shown {
                eprint!("\r                          \r");
            }
            match format {
                Format::Json => output::json(out, &answer)?,
                Format::Text => print(&view, out)?,
            }
            return Ok(ExitCode::from(u8::from(view.result.is_none())));
        }
        if shown {
            eprint!("\rforecast {}: {:.0} % ", view.state, view.progress * 100.0);
        }
        thread::sleep(INTERVAL);
        answer = client.get(&format!("/v1/forecasts/{}", view.id), &[])?;
    }
}

fn print(view: &ForecastView, out: &mut dyn Write) -> Result<(), CommandError> {
    let Some(result) = &view.result else {
        let why = view
            .error
            .as_deref()
            .map_or_else(String::new, |error| format!(": {error}"));
        writeln!(out, "forecast {} {}{why}", view.id, view.state)?;
        return Ok(());
    };
    writeln!(
        out,
        "{}: through at {} (P50), {} (P90)",
        counted(result.devices, "device"),
        never(result.finish.p50.as_ref()),
        never(result.finish.p90.as_ref())
    )?;
    for share in &result.shares {
        writeln!(
            out,
            "  {:>3} % at {} (P50), {} (P90)",
            share.percent,
            never(share.at.p50.as_ref()),
            never(share.at.p90.as_ref())
        )?;
    }
    outcomes(result, out)?;
    phases(result, out)?;
    for hold in &result.holds {
        writeln!(
            out,
            "held ({}) in {} of {} courses, first at {}, and resumed an hour later",
            hold.code.replace('_', " "),
            hold.courses,
            result.assumed.courses,
            or_dash(hold.first.p50.as_ref())
        )?;
    }
    lanes(result, out)?;
    assumed(&result.assumed, out)?;
    Ok(())
}

fn never(at: Option<&String>) -> &str {
    at.map_or("never", String::as_str)
}

fn outcomes(result: &ResultView, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} succeed", counted(result.succeeded.p50, "device"))?;
    for (reason, count) in &result.failed {
        let reason = reason.replace('_', " ");
        writeln!(out, "{} fail: {reason} (P90: {})", count.p50, count.p90)?;
    }
    for (reason, count) in &result.skipped {
        let reason = reason.replace('_', " ");
        writeln!(
            out,
            "{} are skipped: {reason} (P90: {})",
            count.p50, count.p90
        )?;
    }
    for (count, what) in [
        (&result.expired, "will not have begun by not_after"),
        (
            &result.stopped,
            "are cancelled, as the task stops by itself",
        ),
        (&result.unfinished, "have no outcome within 400 days"),
    ] {
        if count.p90 > 0 {
            writeln!(out, "{} {what} (P90: {})", count.p50, count.p90)?;
        }
    }
    if !result.missed.is_empty() {
        let named: Vec<&str> = result
            .missed
            .iter()
            .take(NAMED)
            .map(String::as_str)
            .collect();
        writeln!(out, "  such as {}", named.join(", "))?;
    }
    Ok(())
}

fn phases(result: &ResultView, out: &mut dyn Write) -> io::Result<()> {
    if result.phases.len() < 2 {
        return Ok(());
    }
    let rows: Vec<[String; 5]> = (result.phases.iter())
        .map(|phase| {
            [
                phase.phase.to_string(),
                phase.devices.to_string(),
                or_dash(phase.begins.p50.as_ref()),
                never(phase.ends.p50.as_ref()).to_owned(),
                never(phase.ends.p90.as_ref()).to_owned(),
            ]
        })
        .collect();
    writeln!(out)?;
    output::table(
        out,
        ["PHASE", "DEVICES", "BEGINS", "THROUGH P50", "THROUGH P90"],
        &rows,
    )
}

/// The cells that are through last, and the sites and gateways, where there are any.
fn lanes(result: &ResultView, out: &mut dyn Write) -> io::Result<()> {
    let cells = result.cells.iter().map(|it| {
        let name = it.cell.map(|cell| cell.to_string());
        (name.unwrap_or_else(|| "unknown".to_owned()), &it.lane)
    });
    bottlenecks(("cell", "CELL"), result.cells_total, cells, out)?;
    if result.sites_total > 0 {
        let sites = result.sites.iter().map(|it| (it.site.clone(), &it.lane));
        bottlenecks(("site", "SITE"), result.sites_total, sites, out)?;
    }
    if result.gateways_total > 0 {
        let gateways = (result.gateways.iter()).map(|it| (it.gateway.clone(), &it.lane));
        bottlenecks(("gateway", "GATEWAY"), result.gateways_total, gateways, out)?;
    }
    Ok(())
}

fn bottlenecks<'v>(
    (what, title): (&str, &str),
    total: u64,
    lanes: impl Iterator<Item = (String, &'v LaneView)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let rows: Vec<[String; 7]> = (lanes.take(LANES))
        .map(|(name, lane)| {
            [
                name,
                lane.devices.to_string(),
                lane.sleeping.to_string(),
                never(lane.ends.p50.as_ref()).to_owned(),
                never(lane.ends.p90.as_ref()).to_owned(),
                format!(
                    "{:.1} h",
                    Duration::from_secs(lane.lower_bound_seconds).as_secs_f64() / 3_600.0
                ),
                lane.held_by.clone(),
            ]
        })
        .collect();
    let total = counted(total, what);
    writeln!(out, "\nof {total}, these are through last:")?;
    output::table(
        out,
        [
            title,
            "DEVICES",
            "SLEEPING",
            "THROUGH P50",
            "THROUGH P90",
            "AT LEAST",
            "HELD BY",
        ],
        &rows,
    )
}

fn assumed(assumed: &AssumedView, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nassumed:")?;
    for download in &assumed.downloads {
        writeln!(
            out,
            "  {:.1} s for a KiB to devices of limit {}, {}",
            download.seconds_per_kib,
            download.limit,
            if download.measured {
                "as measured"
            } else {
                "which was not measured yet"
            }
        )?;
    }
    writeln!(
        out,
        "  {:.0} s to install; {:.1} % of the devices fail",
        assumed.install_seconds, assumed.failing_percent
    )?;
    if let Some(per_day) = assumed.joining_per_day {
        writeln!(
            out,
            "  {per_day:.1} devices a day join the task; they want slots too, and are not counted"
        )?;
    }
    for (count, what) in [
        (assumed.away, "not registered any more, and not heard again"),
        (
            assumed.never_heard,
            "not heard yet, taken to come as the others do",
        ),
        (
            assumed.cells_drawn,
            "in unknown cells, spread as the others are",
        ),
        (assumed.rhythms_drawn, "asleep, with an unknown rhythm"),
        (assumed.current, "up to date already"),
        (
            assumed.packages_drawn,
            "of unknown versions, whose packages are as the others'",
        ),
        (assumed.other_devices, "of other tasks, in the same queues"),
    ] {
        if count > 0 {
            writeln!(out, "  {} {what}", counted(count, "device"))?;
        }
    }
    Ok(())
}
