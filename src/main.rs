//! The `cellwise` command: arguments in, exit code out.

use std::process::ExitCode;

use cellwise::cli;
use clap::{Parser, Subcommand};

/// Sessions come and go by the hundred thousand, each with a few small buffers that lie cold until they are given back:
/// this allocator finds and frees them faster than the C library's. docs/performance.md has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Upgrades NB-IoT fleets over the air, cell by cell.
#[derive(Debug, Parser)]
#[command(name = "cellwise", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until SIGTERM or SIGINT
    Serve(cli::serve::ServeArgs),
    /// Show an upgrade from end to end with simulated devices
    Demo(cli::demo::DemoArgs),
    Simulate(cli::simulate::SimulateArgs),
    CheckConfig(cli::check_config::CheckConfigArgs),
    Backup(cli::backup::BackupArgs),
    Restore(cli::backup::RestoreArgs),
    Doctor(cli::doctor::DoctorArgs),
    #[command(flatten)]
    Admin(Box<cli::AdminCommand>),
    Pcp(cli::pcp::PcpArgs),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(args) => cli::serve::run(&args),
        Command::Demo(args) => cli::demo::run(&args),
        Command::Simulate(args) => cli::simulate::run(&args),
        Command::Admin(command) => cli::admin(*command),
        Command::CheckConfig(args) => cli::check_config::run(&args),
        Command::Backup(args) => cli::backup::back_up(&args),
        Command::Restore(args) => cli::backup::restore(&args),
        Command::Doctor(args) => cli::doctor::run(&args),
        Command::Pcp(args) => cli::pcp::run(&args),
    }
}
