//! How fast a fleet is simulated, and how much memory it takes: runs `cellwise simulate` and measures it.
//!
//! ```sh
//! cargo bench --bench simulate -- --devices 100000 --cells 500 --format json
//! ```
//!
//! The program is run as it is shipped, with its own allocator and in a process of its own, so that nothing of the
//! measurement is measured.

use std::{
    error::Error,
    fmt,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use clap::{Parser, ValueEnum};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// What is simulated. What is not said here is as `cellwise simulate` has it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Simulated devices
    #[arg(long, default_value_t = 100_000)]
    devices: u32,
    /// Cells that they are spread over
    #[arg(long, default_value_t = 500)]
    cells: u32,
    /// Size of the package
    #[arg(long, default_value_t = 20)]
    package_kib: u32,
    /// How much goes wrong: none, default, harsh
    #[arg(long, default_value = "default")]
    faults: String,
    /// Everything that happens by chance follows from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
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

/// What the measurement takes from the program's result.
#[derive(Debug, Deserialize)]
struct Simulated {
    virtual_seconds: f64,
    segments: u64,
    events: u64,
    violations_total: u64,
    trace_sha256: String,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    devices: u32,
    cells: u32,
    wall_seconds: f64,
    /// Of all threads.
    cpu_seconds: f64,
    virtual_seconds: f64,
    devices_per_second: f64,
    events_per_second: f64,
    /// Segments that reached a device.
    segments_per_second: f64,
    peak_rss_mib: f64,
    bytes_per_device: f64,
    violations_total: u64,
    trace_sha256: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let printed = measure(&arguments).and_then(|figures| {
        match arguments.format {
            Format::Text => print!("{figures}"),
            Format::Json => println!("{}", serde_json::to_string(&figures)?),
        }
        Ok(figures.violations_total == 0)
    });
    match printed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::disallowed_methods)] // the time that it takes in fact is what is asked for
fn measure(arguments: &Arguments) -> Result<Figures, Box<dyn Error>> {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_cellwise"))
        .args(["simulate", "--format", "json"])
        .args(["--devices", &arguments.devices.to_string()])
        .args(["--cells", &arguments.cells.to_string()])
        .args(["--package-kib", &arguments.package_kib.to_string()])
        .args(["--faults", &arguments.faults])
        .args(["--seed", &arguments.seed.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    let wall_seconds = begun.elapsed().as_secs_f64();
    if output.stdout.is_empty() {
        return Err(format!("the simulation ended with {}", output.status).into());
    }
    let simulated: Simulated = serde_json::from_slice(&output.stdout)?;
    // the simulation is the only child that there was
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let peak_bytes = float(u64::try_from(usage.max_rss())?) * 1_024.0;
    let cpu_seconds = [usage.user_time(), usage.system_time()]
        .map(|time| {
            float(time.tv_sec().unsigned_abs()) + float(time.tv_usec().unsigned_abs()) / 1e6
        })
        .iter()
        .sum();
    Ok(Figures {
        devices: arguments.devices,
        cells: arguments.cells,
        wall_seconds,
        cpu_seconds,
        virtual_seconds: simulated.virtual_seconds,
        devices_per_second: f64::from(arguments.devices) / wall_seconds,
        events_per_second: float(simulated.events) / wall_seconds,
        segments_per_second: float(simulated.segments) / wall_seconds,
        peak_rss_mib: peak_bytes / 1_024.0 / 1_024.0,
        bytes_per_device: peak_bytes / f64::from(arguments.devices),
        violations_total: simulated.violations_total,
        trace_sha256: simulated.trace_sha256,
    })
}

#[allow(clippy::cast_precision_loss)] // the figures are rounded anyway
const fn float(count: u64) -> f64 {
    count as f64
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "devices              {:>12}", self.devices)?;
        writeln!(f, "cells                {:>12}", self.cells)?;
        writeln!(f, "wall seconds         {:>12.1}", self.wall_seconds)?;
        writeln!(f, "cpu seconds          {:>12.1}", self.cpu_seconds)?;
        writeln!(f, "virtual seconds      {:>12.0}", self.virtual_seconds)?;
        writeln!(f, "devices per second   {:>12.0}", self.devices_per_second)?;
        writeln!(f, "events per second    {:>12.0}", self.events_per_second)?;
        writeln!(f, "segments per second  {:>12.0}", self.segments_per_second)?;
        writeln!(f, "peak RSS, MiB        {:>12.1}", self.peak_rss_mib)?;
        writeln!(f, "bytes per device     {:>12.0}", self.bytes_per_device)?;
        writeln!(f, "violations           {:>12}", self.violations_total)?;
        writeln!(f, "trace {}", self.trace_sha256)
    }
}
