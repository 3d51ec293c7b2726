//! `cellwise-sim`: lets a fleet of simulated devices loose on a server.
//!
//! Exits with 0 when the fleet ran as ordered, with 1 when it could not, or when with `--until-done` it was
//! ended before.

mod cli;

use std::{
    fmt::Display,
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use serde::Serialize;
use sim::{
    fault::Fault,
    fleet::Fleet,
    mqtt::{self, fleet::Target},
};
use tokio::{
    net::lookup_host,
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep},
};

use cli::{Arguments, OutputFormat};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if arguments.list_faults {
        list_faults().map(|()| ExitCode::SUCCESS)
    } else {
        simulate(&arguments)
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

type BoxError = Box<dyn std::error::Error>;

fn list_faults() -> Result<(), BoxError> {
    let mut out = std::io::stdout().lock();
    for (fault, description) in Fault::catalogue() {
        writeln!(out, "{:<32} {description}", fault.to_string())?;
    }
    writeln!(out, "\nof MQTT devices:")?;
    for (fault, description) in mqtt::Fault::catalogue() {
        writeln!(out, "{:<32} {description}", fault.to_string())?;
    }
    writeln!(
        out,
        "\nA result code (=0xNN) can be any but 0x00, with reports-result 0x02 to 0x0A. Faults in mid-download take a segment: loses-progress@40."
    )?;
    Ok(())
}

/// Why the simulation ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Settled,
    TimeIsUp,
    Interrupted,
}

fn simulate(arguments: &Arguments) -> Result<ExitCode, BoxError> {
    let target = arguments.mqtt_target()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match target {
            Some(target) => over_mqtt(arguments, target).await,
            None => over_coap(arguments).await,
        }
    })
}

async fn over_coap(arguments: &Arguments) -> Result<ExitCode, BoxError> {
    let config = arguments.fleet_config()?;
    let address = arguments.server();
    let server = lookup_host(&address)
        .await
        .map_err(|error| format!("looking up the server {address}: {error}"))?
        .next()
        .ok_or_else(|| format!("the server {address} has no address"))?;
    let fleet = Fleet::start(Fleet::specs(&config)?, server).await?;
    let ending = tokio::select! {
        ending = wait(fleet.until_settled(), arguments) => ending,
        never = show_progress(|| fleet.stats(), arguments) => match never {},
    };
    let summary = fleet.stop().await;
    print(&summary, arguments.format)?;
    let stats = summary.stats;
    verdict(arguments, ending, (stats.devices, stats.settled))
}

async fn over_mqtt(arguments: &Arguments, target: Target) -> Result<ExitCode, BoxError> {
    let config = arguments.mqtt_config()?;
    let fleet = mqtt::Fleet::start(config.specs()?, target)?;
    let ending = tokio::select! {
        ending = wait(fleet.until_settled(), arguments) => ending,
        never = show_progress(|| fleet.stats(), arguments) => match never {},
    };
    let summary = fleet.stop().await;
    print(&summary, arguments.format)?;
    let stats = summary.stats;
    verdict(arguments, ending, (stats.devices, stats.settled))
}

/// What is told of so many devices, of which so many are done.
fn verdict(
    arguments: &Arguments,
    ending: Ending,
    (devices, settled): (usize, usize),
) -> Result<ExitCode, BoxError> {
    let why = match ending {
        _ if !arguments.until_done => return Ok(ExitCode::SUCCESS),
        Ending::Settled => return Ok(ExitCode::SUCCESS),
        Ending::TimeIsUp => "the time is up",
        Ending::Interrupted => "interrupted",
    };
    let unsettled = devices - settled;
    Err(format!("{why}, and {unsettled} of {devices} devices are not done").into())
}

async fn wait(until_settled: impl Future<Output = ()>, arguments: &Arguments) -> Ending {
    let time_is_up = async {
        match arguments.run_for {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let settled = async {
        if arguments.until_done {
            until_settled.await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = settled => Ending::Settled,
        () = time_is_up => Ending::TimeIsUp,
        () = interrupted() => Ending::Interrupted,
    }
}

/// Waits for an interrupt or a request to terminate. Where these cannot be listened for, they end the
/// process without a summary.
async fn interrupted() {
    let listen = |kind| signal(kind).ok();
    let (Some(mut interrupt), Some(mut terminate)) = (
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// One line that renews itself on a terminal; elsewhere a line now and then.
async fn show_progress<S: Display>(
    stats: impl Fn() -> S,
    arguments: &Arguments,
) -> std::convert::Infallible {
    if arguments.quiet {
        return std::future::pending().await;
    }
    let terminal = std::io::stderr().is_terminal();
    let mut ticks = interval(Duration::from_millis(if terminal { 500 } else { 5_000 }));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let stats = stats();
        let mut err = std::io::stderr().lock();
        // Progress that cannot be shown is no reason to stop.
        let _ = if terminal {
            write!(err, "\r\x1b[2K{stats}").and_then(|()| err.flush())
        } else {
            writeln!(err, "{stats}")
        };
    }
}

fn print(summary: &(impl Display + Serialize), format: OutputFormat) -> Result<(), BoxError> {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K");
    }
    let mut out = std::io::stdout().lock();
    match format {
        OutputFormat::Text => write!(out, "{summary}")?,
        OutputFormat::Json => {
            serde_json::to_writer_pretty(&mut out, summary)?;
            writeln!(out)?;
        }
    }
    Ok(())
}
