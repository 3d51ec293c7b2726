use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::{self, ApiArgs, Client, CommandError, SeenArgs},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, or_dash},
};

/// `cellwise home`.
#[derive(Debug, Subcommand)]
pub enum HomeCommand {
    /// List homes, newest first.
    List(ListArgs<100>),
    /// Show a home, who is in it, and which devices.
    Show(ShowArgs),
    /// Add a home, or change what it is called and where it is. Who and what is in it stays.
    Set(SetArgs),
    /// Delete a home. Upgrades that were started go on.
    Delete(DeleteArgs),
    /// Put many homes from a file, as `POST /v1/homes` takes them.
    Import(ImportArgs),
    /// Have a user be in a home.
    AddMember(AddMemberArgs),
    /// Have a user be in a home no more.
    RemoveMember(MemberArgs),
    /// Have a device be in a home.
    AddDevice(AddDeviceArgs),
    /// Take a device out of a home.
    RemoveDevice(DeviceArgs),
}

/// `cellwise home show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// What the integrator calls it.
    home: String,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise home set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// What the integrator calls it.
    home: String,
    /// What people call it.
    #[arg(long)]
    name: String,
    /// Its time zone, an IANA name.
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// When no upgrade begins by itself there, as 22:00-06:30. Without it, at no time.
    #[arg(long, value_name = "FROM-TO", value_parser = quiet)]
    quiet: Option<(String, String)>,
    #[command(flatten)]
    seen: SeenArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise home delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// What the integrator calls it.
    home: String,
    #[command(flatten)]
    seen: SeenArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise home import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A file with JSON: {"homes": [{"home": …, "name": …, "people": […], "things": […]}]}, 10000 homes at most.
    file: PathBuf,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise home add-member`.
#[derive(Debug, Args)]
pub struct AddMemberArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// What the user is there.
    #[arg(long, value_enum, default_value_t = RoleArg::Member)]
    role: RoleArg,
}

/// A user in a home.
#[derive(Debug, Args)]
pub struct MemberArgs {
    /// What the integrator calls the home.
    home: String,
    /// What the integrator calls the user.
    user: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// `cellwise home add-device`.
#[derive(Debug, Args)]
pub struct AddDeviceArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// What people call it there.
    #[arg(long)]
    name: Option<String>,
    /// What shows it there.
    #[arg(long)]
    icon: Option<String>,
}

/// A device in a home.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// What the integrator calls the home.
    home: String,
    /// The endpoint name.
    endpoint: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// What somebody is in a home.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Whose home it is.
    Owner,
    /// Who may do there what the owner may.
    Administrator,
    /// Who looks.
    Member,
}

#[derive(Debug, Deserialize)]
struct HomeView {
    home: String,
    tenant: Option<String>,
    name: String,
    zone: String,
    quiet: Option<QuietView>,
    members: u32,
    devices: u32,
}

#[derive(Debug, Deserialize)]
struct QuietView {
    from: String,
    to: String,
}

#[derive(Debug, Deserialize)]
struct HomeDetailView {
    #[serde(flatten)]
    home: HomeView,
    people: Vec<MemberView>,
    things: Vec<DeviceView>,
}

#[derive(Debug, Deserialize)]
struct MemberView {
    user: String,
    role: String,
}

#[derive(Debug, Deserialize)]
struct DeviceView {
    endpoint: String,
    name: Option<String>,
    automatic: bool,
}

impl HomeDetailView {
    fn tell(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let home = &self.home;
        writeln!(out, "home {}: {} ({})", home.home, home.name, home.zone)?;
        if let Some(QuietView { from, to }) = &home.quiet {
            writeln!(out, "quiet from {from} to {to}")?;
        }
        for member in &self.people {
            writeln!(out, "{} {}", member.role, member.user)?;
        }
        for device in &self.things {
            let name = (device.name.as_ref()).map_or(String::new(), |name| format!(" ({name})"));
            let automatic = if device.automatic {
                ", upgrades by itself"
            } else {
                ""
            };
            writeln!(out, "device {}{name}{automatic}", device.endpoint)?;
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
struct ImportedView {
    added: u64,
    changed: u64,
    unchanged: u64,
    refused: Vec<RefusedView>,
    refused_count: u64,
}

#[derive(Debug, Deserialize)]
struct RefusedView {
    home: String,
    detail: String,
}

impl HomeCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Import(args) => return import(&args, out),
            Self::List(args) => list(&args, out),
            Self::Show(args) => show(&args, out),
            Self::Set(args) => set(&args, out),
            Self::Delete(args) => delete(&args, out),
            Self::AddMember(args) => add_member(&args, out),
            Self::RemoveMember(args) => remove_member(&args, out),
            Self::AddDevice(args) => add_device(&args, out),
            Self::RemoveDevice(args) => remove_device(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn quiet(text: &str) -> Result<(String, String), String> {
    let (from, to) = (text.split_once('-')).ok_or("write two times of the day, as 22:00-06:30")?;
    Ok((from.to_owned(), to.to_owned()))
}

fn path(home: &str) -> String {
    format!("/v1/homes/{}", client::segment(home))
}

impl MemberArgs {
    fn path(&self) -> String {
        format!(
            "{}/members/{}",
            path(&self.home),
            client::segment(&self.user)
        )
    }
}

impl DeviceArgs {
    fn path(&self) -> String {
        let endpoint = client::segment(&self.endpoint);
        format!("{}/devices/{endpoint}", path(&self.home))
    }
}

/// A JSON document in a file.
pub(super) fn read_json(path: &Path) -> Result<Value, CommandError> {
    let text = fs::read_to_string(path).map_err(|source| CommandError::File {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text)
        .map_err(|error| CommandError::Arguments(format!("{}: {error}", path.display())))
}

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: ["HOME", "TENANT", "NAME", "ZONE", "MEMBERS", "DEVICES"],
        row: |view: HomeView| {
            [
                view.home,
                or_dash(view.tenant),
                view.name,
                view.zone,
                view.members.to_string(),
                view.devices.to_string(),
            ]
        },
    };
    table.list(args, ("/v1/homes", &[]), &client, out)?;
    Ok(())
}

fn tell(
    client: &Client,
    home: &Value,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    match format {
        Format::Json => output::json(out, home)?,
        Format::Text => client.view::<HomeDetailView>(home)?.tell(out)?,
    }
    Ok(())
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let home = client.get(&path(&args.home), &[])?;
    tell(&client, &home, args.result.format, out)
}

fn set(args: &SetArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let mut body = json!({"name": args.name, "zone": args.zone});
    if let Some((from, to)) = &args.quiet {
        body["quiet"] = json!({"from": from, "to": to});
    }
    let home = client.put_seen(&path(&args.home), &body, args.seen)?;
    tell(&client, &home, args.result.format, out)
}

fn delete(args: &DeleteArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    client.delete_seen(&path(&args.home), args.seen)?;
    writeln!(out, "home {} deleted", args.home)?;
    Ok(())
}

fn import(args: &ImportArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let answer = client.post("/v1/homes", &read_json(&args.file)?)?;
    let view: ImportedView = client.view(&answer)?;
    match args.result.format {
        Format::Json => output::json(out, &answer)?,
        Format::Text => {
            let ImportedView {
                added,
                changed,
                unchanged,
                refused_count,
                ..
            } = &view;
            writeln!(
                out,
                "homes: {added} added, {changed} changed, {unchanged} unchanged, {refused_count} refused"
            )?;
            for home in &view.refused {
                writeln!(out, "{}: {}", home.home, home.detail)?;
            }
        }
    }
    Ok(ExitCode::from(u8::from(view.refused_count > 0)))
}

fn add_member(args: &AddMemberArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let AddMemberArgs { member, role } = args;
    let role = match role {
        RoleArg::Owner => "owner",
        RoleArg::Administrator => "administrator",
        RoleArg::Member => "member",
    };
    let client = Client::new(&member.api)?;
    client.put_seen(&member.path(), &json!({"role": role}), SeenArgs::default())?;
    writeln!(out, "{} is {role} of home {}", member.user, member.home)?;
    Ok(())
}

fn remove_member(args: &MemberArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    Client::new(&args.api)?.delete(&args.path())?;
    writeln!(out, "{} is in home {} no more", args.user, args.home)?;
    Ok(())
}

fn add_device(args: &AddDeviceArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let AddDeviceArgs { device, name, icon } = args;
    let client = Client::new(&device.api)?;
    let body = json!({"name": name, "icon": icon});
    client.put_seen(&device.path(), &body, SeenArgs::default())?;
    writeln!(out, "device {} is in home {}", device.endpoint, device.home)?;
    Ok(())
}

fn remove_device(args: &DeviceArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    Client::new(&args.api)?.delete(&args.path())?;
    writeln!(
        out,
        "device {} is in home {} no more",
        args.endpoint, args.home
    )?;
    Ok(())
}
