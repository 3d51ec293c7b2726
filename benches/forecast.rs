//! How long a forecast takes on one core, and how much memory: five courses of a fleet of which some listen and some sleep.
//!
//! ```sh
//! cargo bench --bench forecast -- --devices 100000 --cells 500 --format json
//! ```

use std::{
    error::Error,
    fmt,
    ops::ControlFlow,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use cellwise::{
    clock::UtcMillis,
    config::Config,
    forecast::{Given, Lanes, PackageGiven, Rhythm, Routes, Subject, TaskGiven, forecast},
    package::Version,
    task::TaskRules,
};
use clap::{Parser, ValueEnum};
use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

/// 2027-01-15 08:00 UTC.
const NOW: UtcMillis = UtcMillis(1_800_000_000_000);
const HOUR: u32 = 3_600;

/// What is forecast.
#[derive(Debug, Parser)]
struct Arguments {
    /// Devices
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    devices: u32,
    /// Cells that they are spread over
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    cells: u32,
    /// Of 100 devices, so many sleep for an hour, or for six
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=100))]
    sleeping_percent: u32,
    /// In weak coverage, one at a time in its cell, is one of so many devices
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    weak_one_in: u32,
    /// Size of the package
    #[arg(long, default_value_t = 20)]
    package_kib: u32,
    /// Begin so many a minute
    #[arg(long)]
    per_minute: Option<u32>,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    devices: u32,
    cells: u32,
    sleeping_percent: u32,
    wall_seconds: f64,
    cpu_seconds: f64,
    devices_per_second: f64,
    peak_rss_mib: f64,
    forecast_hours_p50: Option<f64>,
    forecast_hours_p90: Option<f64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let printed = measure(&arguments).and_then(|figures| {
        match arguments.format {
            Format::Text => print!("{figures}"),
            Format::Json => println!("{}", serde_json::to_string(&figures)?),
        }
        Ok(())
    });
    if let Err(error) = printed {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn given(arguments: &Arguments) -> Result<Given, Box<dyn Error>> {
    let config = Config::default();
    let rules = arguments.per_minute.map(|per_minute| {
        serde_json::from_value::<TaskRules>(serde_json::json!({"rate": {"per_minute": per_minute}}))
    });
    let device = |number: u32| {
        // neighbours are in different cells
        let within = number / arguments.cells;
        let sleeps = within * 37 % 100 < arguments.sleeping_percent;
        let period_s = if within.is_multiple_of(2) {
            HOUR
        } else {
            6 * HOUR
        };
        let limit = match within % arguments.weak_one_in {
            0 => config.admission.limit_weak,
            other if other.is_multiple_of(3) => config.admission.limit_fair,
            _ => config.admission.limit_good,
        };
        let heard_s = u64::from(number) * 7_919 % u64::from(period_s);
        Subject {
            endpoint: format!("urn:imei:{number:015}").into(),
            not_before: NOW,
            cell: Some(1_000 + number % arguments.cells),
            limit,
            heard_at: Some(NOW.before(Duration::from_secs(heard_s))),
            rhythm: if sleeps {
                Rhythm::Learnt(period_s)
            } else {
                Rhythm::Listens
            },
            ..Subject::default()
        }
    };
    Ok(Given {
        now: NOW,
        product: "meter".to_owned(),
        learnt: Vec::new(),
        cells: Vec::new(),
        lanes: Lanes::default(),
        task: TaskGiven {
            start_at: NOW,
            rules: Arc::new(rules.transpose()?.unwrap_or_default()),
            ..TaskGiven::default()
        },
        routes: Routes::one(
            Version::new("V2")?,
            PackageGiven {
                bytes: u64::from(arguments.package_kib) * 1_024,
                segments: 41,
            },
        ),
        failures: Vec::new(),
        devices: (0..arguments.devices).map(device).collect(),
        others: Vec::new(),
        joining_per_day: None,
        config: Arc::new(config),
    })
}

#[allow(clippy::disallowed_methods)] // the time that it takes in fact is what is asked for
fn measure(arguments: &Arguments) -> Result<Figures, Box<dyn Error>> {
    let given = given(arguments)?;
    let begun = Instant::now();
    let made = forecast(&given, |_| ControlFlow::Continue(())).ok_or("it was ended")?;
    let wall_seconds = begun.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let cpu_seconds = [usage.user_time(), usage.system_time()]
        .map(|time| {
            float(time.tv_sec().unsigned_abs()) + float(time.tv_usec().unsigned_abs()) / 1e6
        })
        .iter()
        .sum();
    let hours = |at: Option<UtcMillis>| at.map(|at| at.since(NOW).as_secs_f64() / 3_600.0);
    Ok(Figures {
        devices: arguments.devices,
        cells: arguments.cells,
        sleeping_percent: arguments.sleeping_percent,
        wall_seconds,
        cpu_seconds,
        devices_per_second: f64::from(arguments.devices) / wall_seconds,
        peak_rss_mib: float(u64::try_from(usage.max_rss())?) / 1_024.0,
        forecast_hours_p50: hours(made.finish.p50),
        forecast_hours_p90: hours(made.finish.p90),
    })
}

#[allow(clippy::cast_precision_loss)] // the figures are rounded anyway
const fn float(count: u64) -> f64 {
    count as f64
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours =
            |at: Option<f64>| at.map_or_else(|| "never".to_owned(), |at| format!("{at:.1}"));
        writeln!(f, "devices              {:>12}", self.devices)?;
        writeln!(f, "cells                {:>12}", self.cells)?;
        writeln!(f, "asleep, percent      {:>12}", self.sleeping_percent)?;
        writeln!(f, "wall seconds         {:>12.1}", self.wall_seconds)?;
        writeln!(f, "cpu seconds          {:>12.1}", self.cpu_seconds)?;
        writeln!(f, "devices per second   {:>12.0}", self.devices_per_second)?;
        writeln!(f, "peak RSS, MiB        {:>12.1}", self.peak_rss_mib)?;
        writeln!(
            f,
            "forecast hours, P50  {:>12}",
            hours(self.forecast_hours_p50)
        )?;
        writeln!(
            f,
            "forecast hours, P90  {:>12}",
            hours(self.forecast_hours_p90)
        )
    }
}
