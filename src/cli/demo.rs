//! `cellwise demo`: a server on free ports in a temporary directory, and a fleet of simulated devices that
//! it upgrades over real sockets.

mod authority;
mod canary;
mod console;
mod devices;
mod fleet;
mod gateways;
mod homes;
mod idle;
mod lanes;
mod mqtt;
mod report;
mod watch;

use std::{
    fs::Permissions, io::Cursor, net::SocketAddr, os::unix::fs::PermissionsExt as _,
    process::ExitCode, sync::Arc, time::Duration,
};

use serde_json::{Value, json};
use sim::{DeviceSpec, UpdatesBy, fleet::Fleet};

use super::{
    Format,
    client::{ApiArgs, Client},
};
use crate::{
    api::TOKEN_FILE,
    config::{Config, LogConfig},
    server::{Purpose, Server},
    telemetry,
};
use authority::Certificate;
use canary::Canary;
use devices::Devices;
use report::Report;
use watch::{Until, Watch};

/// Shows an upgrade from end to end: starts a server and simulated devices of mixed coverage in several
/// cells, uploads a package, runs a task, and says how every device ended. Exit code 0 only if each ended as
/// it should and no cell went over its limit.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct DemoArgs {
    /// Simulated devices; with --gateway 200, with --homes 30 when not given.
    #[arg(long, default_value_t = 60, default_value_if("gateway", "true", "200"), default_value_if("homes", "true", "30"), value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub devices: u32,
    /// Size of the package.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub package_kib: u32,
    /// The devices encrypt: CoAP over DTLS, each with a key of its own, and the plain port is closed.
    #[arg(long)]
    pub dtls: bool,
    /// The devices speak MQTT over TLS and download over HTTPS: those of Huawei IoTDA, built on three kits, and of both releases
    /// of `ThingsPanel`, and with `QuecThing`.
    #[arg(long, conflicts_with_all = ["dtls", "sleeping", "phases"])]
    pub mqtt: bool,
    /// The devices have no connection of their own, and are upgraded through gateways over MQTT, ten behind each: half of them silently,
    /// half once their owner has confirmed it. The demo plays the owner, who refuses some.
    #[arg(long, conflicts_with_all = ["dtls", "sleeping", "phases", "mqtt", "mixed"])]
    pub gateway: bool,
    /// The devices are in homes, three in each. The demo plays the applications of those who live there: of each home one device is started,
    /// one has a plan that is confirmed or refused, and one upgrades by itself, within a minute or two.
    #[arg(long, conflicts_with_all = ["dtls", "sleeping", "phases", "mqtt", "gateway", "mixed"])]
    pub homes: bool,
    /// The devices have no PCP: they are upgraded by Firmware Update (5), Software Management (9) or Advanced Firmware Update (33629), as clients
    /// in the field are: most fetch the package in blocks from a socket of their own, to some it is written.
    #[arg(long, value_name = "5|9|33629", value_parser = object_of, conflicts_with_all = ["sleeping", "phases", "mqtt", "gateway", "homes", "mixed"])]
    pub object: Option<UpdatesBy>,
    /// All of them in one task: a third of the devices speaks `CoAP`, a third `CoAP` over DTLS, a third MQTT.
    #[arg(long, conflicts_with_all = ["dtls", "sleeping", "phases", "mqtt"])]
    pub mixed: bool,
    /// The devices sleep: they are awake for 5 s every 40 s, in three cells where one, two and three may upgrade at once.
    /// Measures how much of the slots' time is idle while a device is awake that could have it.
    #[arg(long)]
    pub sleeping: bool,
    /// The task has three phases, and some devices of the first have low batteries: the task pauses by itself, these devices
    /// are tried again with new batteries, and the next phases follow. Takes 10 devices at least.
    #[arg(long, conflicts_with = "sleeping")]
    pub phases: bool,
    /// Chooses the devices' characters and their timing.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Give up after this many seconds.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub timeout_s: u64,
    /// Stay when the task has ended, with the server and its devices, until Ctrl-C (SIGINT or SIGTERM): to look around in the console.
    #[arg(long)]
    pub keep: bool,
    /// What is printed on standard output; progress goes to standard error.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// By what devices are upgraded that have this object.
fn object_of(number: &str) -> Result<UpdatesBy, String> {
    let number: Option<u16> = number.parse().ok();
    (UpdatesBy::ALL.into_iter())
        .find(|it| it.object().is_some() && it.object() == number)
        .ok_or_else(|| "5, 9 and 33629 are known".to_owned())
}

/// Version of the simulated devices before the upgrade, and of the package.
const BEFORE: &str = "V1.0";
const TARGET: &str = "V2.0";

/// Runs the command. Exit codes: 0 all as expected, 1 not.
pub fn run(args: &DemoArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return super::print(Err(format!("the system gives no threads: {error}"))),
    };
    match runtime.block_on(demo(args)) {
        Ok(code) => code,
        Err(problem) => super::print(Err(problem)),
    }
}

/// Prints the report. Exit codes: as above.
fn tell(args: &DemoArgs, report: &Report) -> ExitCode {
    let text = match args.format {
        Format::Text => Ok(report.to_string()),
        Format::Json => report.to_json().map_err(|e| e.to_string()),
    };
    let printed = super::print(text);
    if report.is_as_expected() {
        printed
    } else {
        report.complain();
        ExitCode::FAILURE
    }
}

/// Looks at what the command line has no form for.
fn check(args: &DemoArgs) -> Result<(), String> {
    if args.phases && args.devices < canary::LEAST_DEVICES {
        let least = canary::LEAST_DEVICES;
        return Err(format!(
            "--phases needs at least {least} devices (--devices)"
        ));
    }
    if args.mixed && args.devices < 3 {
        return Err("--mixed needs at least 3 devices (--devices)".to_owned());
    }
    if args.homes && args.devices < 3 {
        return Err("--homes needs at least 3 devices (--devices)".to_owned());
    }
    Ok(())
}

/// What the demo has shown, with devices that are switched on still.
type Shown = (Report, Devices);

async fn demo(args: &DemoArgs) -> Result<ExitCode, String> {
    check(args)?;
    let own = Permissions::from_mode(0o700);
    let dir = tempfile::Builder::new().permissions(own).tempdir();
    let dir = dir.map_err(|e| format!("no temporary directory: {e}"))?;
    let mut config = settings(dir.path(), args);
    let secured = args.mqtt || args.mixed || args.gateway;
    let certificate = secured.then(|| authority::make(dir.path()));
    let certificate = certificate.transpose()?;
    if let Some(certificate) = &certificate {
        mqtt::set(&mut config, certificate);
    }
    telemetry::start_log(&config.log).map_err(|e| e.to_string())?;
    let mut server = Server::start(config, Purpose::Demo)
        .await
        .map_err(|e| e.to_string())?;
    let token_file = dir.path().join(TOKEN_FILE);
    let client = Client::new(&ApiArgs {
        api: Some(format!("http://{}", server.admin_addr)),
        token_file: Some(token_file.clone()),
        ..ApiArgs::default()
    });
    let client = Arc::new(client.map_err(|e| e.to_string())?);
    let opened = client.clone();
    let address =
        blocking(move || console::open(&opened).map_err(|error| error.to_string())).await?;
    let shown = show_and_tell(args, &server, &client, certificate.as_ref()).await;
    let ended = match shown {
        Ok((code, devices)) => {
            let kept = if args.keep {
                console::keep(&mut server, &client, (address, &token_file)).await
            } else {
                Ok(())
            };
            devices.stop().await;
            kept.map(|()| code)
        }
        Err(problem) => Err(problem),
    };
    // It has a runtime of its own, which may not end in this one.
    tokio::task::spawn_blocking(move || drop(client))
        .await
        .map_err(|error| error.to_string())?;
    server.stop().await;
    ended
}

/// Has the server upgrade devices, and prints what came of it.
async fn show_and_tell(
    args: &DemoArgs,
    server: &Server,
    client: &Arc<Client>,
    certificate: Option<&Certificate>,
) -> Result<(ExitCode, Devices), String> {
    let (report, devices) = match certificate {
        Some(certificate) if args.gateway => {
            gateways::show(args, server, client, certificate).await
        }
        _ if args.homes => homes::show(args, server, client).await,
        _ => show(args, server, client, certificate).await,
    }?;
    Ok((tell(args, &report), devices))
}

/// Has the server upgrade simulated devices.
#[expect(clippy::too_many_lines, reason = "one step after the other")]
async fn show(
    args: &DemoArgs,
    server: &Server,
    client: &Arc<Client>,
    certificate: Option<&Certificate>,
) -> Result<Shown, String> {
    let (of_coap, of_mqtt) = shares(args);
    let mut specs = match of_coap {
        0 => Vec::new(),
        devices => fleet::specs(&DemoArgs {
            devices,
            ..args.clone()
        })?,
    };
    let others = match of_mqtt {
        0 => Vec::new(),
        devices => mqtt::specs(args, devices)?,
    };
    let mut plan = fleet::Plan::of(&specs);
    for spec in others.iter().flat_map(mqtt::upgradable) {
        let succeeds = mqtt::succeeds(spec);
        plan.succeeds.insert(spec.device.clone(), succeeds);
    }
    let canary = args.phases.then(|| Canary::choose(&specs));
    let entry = |spec: &DeviceSpec| {
        let site = canary.as_ref().and_then(|it| it.place(&spec.endpoint));
        fleet::entry(spec, site)
    };
    let inventory = specs.iter().map(entry);
    let inventory: Vec<_> = inventory
        .chain(others.iter().flat_map(mqtt::entries))
        .collect();
    let content = fleet::package(args);
    let component = args.object.and_then(fleet::component);
    let prepared = client.clone();
    let mut task = json!({ "name": "demo", "all": true });
    if canary.is_some() {
        task["phases"] = Canary::phases();
    }
    let tasks =
        blocking(move || prepare(&prepared, &inventory, (content, component), vec![task])).await?;
    let task = *tasks.first().ok_or("the server has no task")?;

    let address = server.dtls_addr.or(server.coap_addr);
    let address = address.ok_or("the server hears no devices")?;
    let weak = canary.as_ref().map(|canary| canary.take_weak(&mut specs));
    let weak = weak.transpose()?;
    let unsecured: Vec<_> = if args.mixed {
        specs.extract_if(.., |spec| spec.psk.is_none()).collect()
    } else {
        Vec::new()
    };
    let mut devices = Devices::default();
    for (specs, address) in [
        (specs, address),
        (unsecured, server.coap_addr.unwrap_or(address)),
    ] {
        if !specs.is_empty() {
            devices.add(switched_on(specs, address).await?);
        }
    }
    if let Some(certificate) = certificate {
        devices.over_mqtt = Some(mqtt::switched_on(others, server, certificate)?);
    }
    let watch = Watch::begin(Duration::from_secs(args.timeout_s));
    let mut pause = None;
    if let (Some(canary), Some(weak)) = (&canary, weak) {
        let weak = switched_on(weak, address).await?;
        let of = (task, &plan);
        let (paused, again) = canary.play(client, of, watch, weak, address).await?;
        pause = Some(paused);
        devices.add(again);
    }
    let watched = {
        let plan = plan.clone();
        let client = client.clone();
        blocking(move || {
            let ended = watch.until(&client, task, &plan, Until::Over);
            ended.map_err(|e| e.to_string())
        })
    };
    let (watched, idle) = match devices.over_coap.first() {
        Some(fleet) if args.sleeping => {
            let mut idle = idle::Idle::default();
            let watched = idle.look_until(watched, fleet, client, task, &plan).await;
            (watched, Some(idle.share()))
        }
        _ => (watched.await, None),
    };
    let ended = watched?;
    if let Some(pause) = &mut pause {
        pause.ended(&ended.record);
    }
    let traffic = (segments_served(server), devices.downloaded_bytes());
    let report = Report::new(&plan, ended, traffic, idle, pause);
    Ok((report, devices))
}

/// Segments of packages that were sent, and blocks that were fetched.
fn segments_served(server: &Server) -> u64 {
    let metrics = server.metrics().render();
    let names = [
        "cellwise_segments_served_total ",
        "cellwise_blocks_served_total ",
    ];
    let values = metrics.lines().filter_map(|line| {
        let value = names.iter().find_map(|name| line.strip_prefix(name))?;
        value.parse::<u64>().ok()
    });
    values.sum()
}

/// How many devices speak `CoAP`, and how many MQTT.
const fn shares(args: &DemoArgs) -> (u32, u32) {
    if args.mqtt {
        (0, args.devices)
    } else if args.mixed {
        (args.devices - args.devices / 3, args.devices / 3)
    } else {
        (args.devices, 0)
    }
}

async fn switched_on(specs: Vec<DeviceSpec>, server: SocketAddr) -> Result<Fleet, String> {
    let fleet = Fleet::start(specs, server).await;
    fleet.map_err(|error| error.to_string())
}

/// Provisions the devices, uploads the package, creates the tasks; returns their numbers.
fn prepare(
    client: &Client,
    devices: &[Value],
    (content, component): (Vec<u8>, Option<&str>),
    tasks: Vec<Value>,
) -> Result<Vec<i64>, String> {
    client
        .post("/v1/devices", &json!({ "devices": devices }))
        .map_err(|e| e.to_string())?;
    let mut query = vec![("product", "demo".into()), ("version", TARGET.into())];
    query.extend(component.map(|name| ("component", name.into())));
    let len = content.len() as u64;
    let (package, _) = client
        .upload("/v1/packages", &query, len, Cursor::new(content))
        .map_err(|e| e.to_string())?;
    let create = |mut task: Value| {
        task["package_id"] = package["id"].clone();
        let task = client.post("/v1/tasks", &task).map_err(|e| e.to_string())?;
        let id = task["id"].as_i64();
        id.ok_or_else(|| "the server named no task".to_owned())
    };
    tasks.into_iter().map(create).collect()
}

/// The defaults, but for times: simulated devices restart in a second, and nobody wants to wait.
fn settings(dir: &std::path::Path, args: &DemoArgs) -> Config {
    let mut config = Config {
        data_dir: dir.to_owned(),
        log: LogConfig {
            filter: "warn".into(),
            ..LogConfig::default()
        },
        ..Config::default()
    };
    config.coap.listen = ([127, 0, 0, 1], 0).into();
    config.admin.listen = ([127, 0, 0, 1], 0).into();
    config.app.enabled = args.homes;
    config.app.listen = ([127, 0, 0, 1], 0).into();
    config.coap.enabled = !args.dtls;
    config.dtls.enabled = args.dtls || args.mixed;
    config.dtls.listen = ([127, 0, 0, 1], 0).into();
    config.dtls.repeat_flight_ms = 1_000;
    config.coap.ack_timeout_ms = 2_000;
    config.upgrade.repeat_question_s = 5;
    config.upgrade.nudge_after_s = 3;
    config.upgrade.result_grace_s = 2;
    config.upgrade.progress_interval_s = 1;
    config.admission.overtake_s = 3;
    if args.object.is_some() {
        // some take the command, and nothing happens
        config.upgrade.execute_s = fleet::EXECUTE_S;
        config.products.insert("demo".into(), fleet::product(args));
    }
    if args.sleeping {
        config.lwm2m.awake_window_s = fleet::AWAKE_MS / 1_000;
        config.admission.limit_good = fleet::SLEEPING[0].2;
        config.admission.limit_fair = fleet::SLEEPING[1].2;
    }
    config
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| format!("a thread of the demo failed: {e}"))?
}
