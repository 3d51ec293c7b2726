//! `cellwise device show`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{
    client::{self, Client, CommandError},
    list::ResultArgs,
    output::{self, Format, or_dash},
};

/// `cellwise device show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The endpoint name.
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    /// Show at most so many of its upgrades, the newest.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(Debug, Deserialize)]
struct DeviceView {
    endpoint: String,
    product: String,
    secure: bool,
    psk_identity: Option<String>,
    mqtt: Option<MqttView>,
    via: Option<String>,
    children: Option<ChildrenView>,
    gateway_limit: Option<u32>,
    connected: Option<ConnectedView>,
    registration: Option<RegistrationView>,
    last_heard_at: Option<String>,
    last_heard_is_stored: bool,
    wake_ups: Option<WakeUpsView>,
    appointment: Option<AppointmentView>,
    version: Option<String>,
    coverage: Option<CoverageView>,
    model: Option<String>,
    hardware: Option<String>,
    site: Option<String>,
    time_zone: Option<String>,
    tags: BTreeMap<String, String>,
    month: Option<MonthView>,
    exclusion_reason: Option<String>,
    created_at: String,
}

#[derive(Debug, Deserialize)]
struct ChildrenView {
    total: u64,
    first: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct MqttView {
    style: String,
    credential: String,
}

/// How it is connected over MQTT.
#[derive(Debug, Deserialize)]
struct ConnectedView {
    since: String,
    peer: String,
    version: String,
    client_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct MonthView {
    begins_at: String,
    ends_at: String,
    bytes: u64,
    airtime_estimated_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct WakeUpsView {
    last_at: String,
    period_seconds: u32,
}

#[derive(Debug, Deserialize)]
struct AppointmentView {
    expected_at: Option<String>,
    lifetime_seconds: u32,
    usual_lifetime_seconds: u32,
}

#[derive(Debug, Deserialize)]
struct RegistrationView {
    peer: String,
    secured: bool,
    lifetime_seconds: u32,
    registered_at: String,
    expires_at: String,
    queue_mode: bool,
    lwm2m_version: Option<String>,
    binding: String,
    objects: Option<String>,
    root_path: String,
}

#[derive(Debug, Deserialize)]
struct CoverageView {
    cell_id: Option<u32>,
    rsrp_dbm: Option<i32>,
    sinr_db: Option<i32>,
    measured_at: String,
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct UpgradeView {
    id: i64,
    task_id: i64,
    task_name: String,
    version: String,
    state: String,
    attempts: u32,
    progress_percent: u8,
    outcome: Option<OutcomeView>,
    ended_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OutcomeView {
    detail: String,
}

pub(super) fn run(args: &ShowArgs, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
    let client = Client::new(&args.result.api)?;
    let path = client::device_path(&args.endpoint);
    let device = client.get(&path, &[])?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (upgrades, more) = client.list(&format!("{path}/upgrades"), &[], limit)?;
    if args.result.format == Format::Json {
        let all = json!({"device": device, "upgrades": {"items": upgrades, "more": more}});
        output::json(out, &all)?;
        return Ok(ExitCode::SUCCESS);
    }
    facts(out, client.view(&device)?)?;
    writeln!(out)?;
    if upgrades.is_empty() {
        writeln!(out, "It was never to be upgraded.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = upgrades
        .iter()
        .map(|upgrade| row(&client, upgrade))
        .collect::<Result<Vec<_>, _>>()?;
    let headings = [
        "UPGRADE", "TASK", "TO", "STATE", "ATTEMPTS", "ENDED", "OUTCOME",
    ];
    output::table(out, headings, &rows)?;
    if more {
        output::remark("there are more upgrades; give --limit");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known of the device, a line for each thing.
#[expect(clippy::too_many_lines, reason = "a line for each thing")]
fn facts(out: &mut dyn Write, device: DeviceView) -> io::Result<()> {
    let mut line = |name: &str, text: String| writeln!(out, "{name:<13} {text}");
    line("endpoint", device.endpoint)?;
    line("product", device.product)?;
    line("added", device.created_at)?;
    for (name, value) in [
        ("model", device.model),
        ("hardware", device.hardware),
        ("site", device.site),
        ("time zone", device.time_zone),
    ] {
        if let Some(value) = value {
            line(name, value)?;
        }
    }
    for (key, value) in device.tags {
        line("tag", format!("{key}={value}"))?;
    }
    if let Some(reason) = device.exclusion_reason {
        line("excluded", format!("from upgrades: {reason}"))?;
    }
    if let Some(MqttView { style, credential }) = device.mqtt {
        let how = if credential == "gateway" {
            format!("MQTT as of {style}, through a gateway")
        } else {
            format!("MQTT as of {style}, and shows a {credential}")
        };
        line("speaks", how)?;
        if credential != "gateway" {
            line("connected", connected(device.connected))?;
        }
    }
    if let Some(gateway) = device.via {
        line("reached", format!("through gateway {gateway}"))?;
    }
    if let Some(ChildrenView { total, first }) = device.children {
        let more = if first.len() as u64 == total {
            ""
        } else {
            ", …"
        };
        line("gateway of", format!("{total}: {}{more}", first.join(", ")))?;
    }
    if let Some(limit) = device.gateway_limit {
        line("gateway for", format!("{limit} upgrades at once"))?;
    }
    match (device.psk_identity, device.secure) {
        (Some(identity), true) => line("key", format!("of {identity:?}, heard only encrypted"))?,
        (Some(identity), false) => line("key", format!("of {identity:?}"))?,
        (None, true) => line("key", "none; heard only encrypted".to_owned())?,
        (None, false) => {}
    }
    match device.registration {
        None => line("registered", "no".to_owned())?,
        Some(registration) => registered(&mut line, registration)?,
    }
    let heard = device.last_heard_at.map_or_else(
        || "never".to_owned(),
        |at| super::heard(Some(at), device.last_heard_is_stored),
    );
    line("heard last", heard)?;
    if let Some(wake_ups) = device.wake_ups {
        let minutes = wake_ups.period_seconds.div_ceil(60);
        let text = format!("every {minutes} min, at {} last", wake_ups.last_at);
        line("wakes up", text)?;
    }
    if let Some(appointment) = device.appointment {
        line("expected", expected(appointment))?;
    }
    line("version", or_dash(device.version))?;
    line(
        "coverage",
        device
            .coverage
            .map_or_else(|| "not known".to_owned(), coverage),
    )?;
    if let Some(month) = device.month {
        line("this month", spent(&month))?;
    }
    Ok(())
}

fn connected(connected: Option<ConnectedView>) -> String {
    let Some(connected) = connected else {
        return "no".to_owned();
    };
    let ConnectedView {
        since,
        peer,
        version,
        client_id,
    } = connected;
    let client_id = client_id.map(|id| format!(", as {id:?}"));
    format!(
        "since {since} from {peer} over MQTT {version}{}",
        client_id.unwrap_or_default()
    )
}

fn spent(month: &MonthView) -> String {
    let MonthView {
        begins_at,
        ends_at,
        bytes,
        airtime_estimated_seconds: airtime,
    } = month;
    format!(
        "{bytes} bytes of upgrades, {airtime} s on the air (estimated), from {begins_at} to {ends_at}"
    )
}

fn expected(appointment: AppointmentView) -> String {
    let AppointmentView {
        expected_at,
        lifetime_seconds,
        usual_lifetime_seconds,
    } = appointment;
    let given =
        format!("its lifetime is {lifetime_seconds} s instead of {usual_lifetime_seconds} s");
    match expected_at {
        Some(at) => format!("at {at} by appointment ({given} until its upgrade is over)"),
        None => format!("its own lifetime is written back when it is heard ({given})"),
    }
}

fn registered(
    line: &mut dyn FnMut(&str, String) -> io::Result<()>,
    registration: RegistrationView,
) -> io::Result<()> {
    let secured = if registration.secured { ", DTLS" } else { "" };
    line(
        "registered",
        format!("since {}", registration.registered_at),
    )?;
    line("address", format!("{}{secured}", registration.peer))?;
    let sleeps = if registration.queue_mode {
        "sleeps between its messages"
    } else {
        "does not sleep"
    };
    let version = (registration.lwm2m_version).unwrap_or_else(|| "of an untold version".to_owned());
    line(
        "LwM2M",
        format!("{version}, binding {}, {sleeps}", registration.binding),
    )?;
    let ends = registration.expires_at;
    let lifetime_s = registration.lifetime_seconds;
    line("lifetime", format!("{lifetime_s} s, ends {ends}"))?;
    let objects = registration.objects.unwrap_or_else(|| "untold".to_owned());
    line("objects", objects.replace(",<", " <"))?;
    match registration.root_path.as_str() {
        "/" | "" => Ok(()),
        root => line("below", root.to_owned()),
    }
}

fn coverage(coverage: CoverageView) -> String {
    let or_unknown = |what: &str, value: Option<i32>, unit: &str| {
        value.map_or_else(
            || format!("{what} not told"),
            |value| format!("{what} {value} {unit}"),
        )
    };
    let cell = coverage
        .cell_id
        .map_or_else(|| "cell not told".to_owned(), |cell| format!("cell {cell}"));
    let rsrp = or_unknown("RSRP", coverage.rsrp_dbm, "dBm");
    let sinr = or_unknown("SINR", coverage.sinr_db, "dB");
    let at = coverage.measured_at;
    let how = match coverage.source.as_deref() {
        Some("object") => ", by a read of /4/0",
        Some("resources") => ", by reads of /4/0/2 and /4/0/11",
        Some("cell") => ", the cell by a read of /4/0/8 alone",
        Some("send") => ", sent by itself",
        _ => "",
    };
    format!("{cell}, {rsrp}, {sinr}, at {at}{how}")
}

fn row(client: &Client, upgrade: &Value) -> Result<[String; 7], CommandError> {
    let view: UpgradeView = client.view(upgrade)?;
    let state = match view.state.as_str() {
        "downloading" => format!("downloading, {} %", view.progress_percent),
        state => state.replace('_', " "),
    };
    Ok([
        view.id.to_string(),
        format!("{} ({})", view.task_id, view.task_name),
        view.version,
        state,
        view.attempts.to_string(),
        or_dash(view.ended_at),
        or_dash(view.outcome.map(|outcome| outcome.detail)),
    ])
}
