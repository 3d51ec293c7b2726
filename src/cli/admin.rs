use std::{io::Write, process::ExitCode};

use clap::Subcommand;

use super::{
    app_user::AppUserCommand,
    audit::AuditCommand,
    cell::CellCommand,
    client::CommandError,
    device::DeviceCommand,
    evidence::EvidenceCommand,
    exclusion::ExclusionCommand,
    group::GroupCommand,
    home::HomeCommand,
    list::ResultArgs,
    offer::OfferCommand,
    package::PackageCommand,
    product::ProductCommand,
    site::SiteCommand,
    task::{
        TaskCommand,
        create::{self, CreateArgs},
    },
    tenant::TenantCommand,
    token::{self, TokenCommand},
    upgrade::UpgradeCommand,
    user::UserCommand,
    webhook::WebhookCommand,
};

/// What an operator does with a running server.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Upload packages and list them.
    #[command(subcommand)]
    Package(PackageCommand),
    /// Say who vouches for a product's packages.
    #[command(subcommand)]
    Product(ProductCommand),
    /// Show whom a vulnerability concerns, who was reached, and who was not and why.
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Add devices and list them.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Exclude devices from upgrades.
    #[command(subcommand)]
    Exclusion(ExclusionCommand),
    /// Keep lists of devices, and filters, under a name.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Create, watch and stop upgrade tasks.
    #[command(subcommand)]
    Task(TaskCommand),
    /// Forecast when a task would be through, without creating it. What is said of it is said as for `cellwise task create`.
    Forecast(Box<CreateArgs>),
    /// Show who upgrades and who waits in a cell.
    #[command(subcommand)]
    Cell(CellCommand),
    /// Limit how many devices of a site upgrade at once.
    #[command(subcommand)]
    Site(SiteCommand),
    /// Keep end users' homes: who is in them, and which devices.
    #[command(subcommand)]
    Home(HomeCommand),
    /// Offer upgrades to end users, who start them at home.
    #[command(subcommand)]
    Offer(OfferCommand),
    /// Show and delete what is kept of an end user, and let tokens in no more.
    #[command(subcommand)]
    AppUser(AppUserCommand),
    /// List upgrades, explain one, or cancel it.
    #[command(subcommand)]
    Upgrade(UpgradeCommand),
    /// Have outcomes posted to applications, and see what became of that.
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// Add tenants, to whom devices, packages, tasks and the like belong.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Add tokens for people and programs, with what they may do, and revoke them.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Add users, who log in with passwords, and say what they may do.
    #[command(subcommand)]
    User(UserCommand),
    /// Tell who the server takes you for, and what you may do.
    Whoami(ResultArgs),
    /// Show who has changed what, and verify that nothing of it was altered.
    #[command(subcommand)]
    Audit(AuditCommand),
}

impl AdminCommand {
    /// Runs the command. Results go to `out`; progress and remarks go to standard error.
    ///
    /// The exit code is 1 when the server did what it was asked, but not all is as wished: devices were
    /// refused, or a watched task did not end with success everywhere.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Package(command) => command.run(out),
            Self::Product(command) => command.run(out),
            Self::Evidence(command) => command.run(out),
            Self::Device(command) => command.run(out),
            Self::Exclusion(command) => command.run(out),
            Self::Group(command) => command.run(out),
            Self::Task(command) => command.run(out),
            Self::Forecast(args) => create::forecast(*args, out),
            Self::Cell(command) => command.run(out),
            Self::Site(command) => command.run(out),
            Self::Home(command) => command.run(out),
            Self::Offer(command) => command.run(out),
            Self::AppUser(command) => command.run(out),
            Self::Upgrade(command) => command.run(out),
            Self::Webhook(command) => command.run(out),
            Self::Tenant(command) => command.run(out),
            Self::Token(command) => command.run(out),
            Self::User(command) => command.run(out),
            Self::Whoami(args) => token::whoami(&args, out),
            Self::Audit(command) => command.run(out),
        }
    }
}
