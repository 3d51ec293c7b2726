//! Devices that speak MQTT, over TLS, and download over HTTPS.

use std::net::SocketAddr;

use serde_json::{Value, json};
use sim::{
    Expected,
    mqtt::{
        Fleet, Spec, Style, Timing,
        fleet::{Authorities, FleetConfig, Share, Target},
    },
};

use super::{BEFORE, DemoArgs, TARGET, authority::Certificate, fleet::FAULTS_FROM};
use crate::{cli::output::remark, config::Config, server::Server};

/// How much faster than in the field they install, restart and reconnect.
const SPEED: u32 = 20;
/// Devices behind a gateway.
const BEHIND: u32 = 10;
/// What gateways do wrong, and those behind them, besides.
const FAULTS_BEHIND: [(&str, u32); 2] = [("success-at-once", 20), ("lost-child", 40)];
/// One gateway in so many restarts in the midst of a download.
const RESTARTS_ONE_IN: u32 = 5;
/// From so many devices of all protocols on, a third of those over MQTT is behind gateways.
const MIXED_FROM: u32 = 9;
/// What some of them do wrong: one in so many.
const FAULTS: [(&str, u32); 11] = [
    ("refuses@4", 40),
    ("corrupt-download", 40),
    ("broken-download", 40),
    ("claims-without-download", 40),
    ("old-version-after-success", 40),
    ("cut-download", 20),
    ("drops-in-download", 40),
    ("loses-report", 40),
    ("progress-burst", 40),
    ("reconnect-storm", 40),
    ("already-current", 40),
];
/// Limits of the server's, seconds. Some of the devices fall silent, and nobody wants to wait for a day.
const TRANSFER_S: u64 = 25;
const CLAIM_S: u64 = 10;

/// The devices, of the five styles and the three kits in turn; or gateways, with as many devices behind them; or both.
pub(super) fn specs(args: &DemoArgs, count: u32) -> Result<Vec<Spec>, String> {
    if args.gateway {
        return behind_gateways(args, count, "demo-mqtt-");
    }
    let behind = if args.mixed && count >= MIXED_FROM {
        count / 3
    } else {
        0
    };
    let count = count - behind;
    let mut config = FleetConfig::new(count as usize, Style::ALL.to_vec(), BEFORE);
    config.prefix = "demo-mqtt-".into();
    set_up(&mut config, args);
    config.faults = shares(&FAULTS, count)?;
    let mut specs = config.specs().map_err(|error| error.to_string())?;
    if behind > 0 {
        specs.extend(behind_gateways(args, behind, "demo-gw-")?);
    }
    Ok(specs)
}

/// Gateways, ten devices behind each; the last may have fewer.
fn behind_gateways(args: &DemoArgs, count: u32, prefix: &str) -> Result<Vec<Spec>, String> {
    let gateways = count.div_ceil(BEHIND);
    let mut config = FleetConfig::new(gateways as usize, vec![Style::Iotda], BEFORE);
    config.behind = BEHIND as usize;
    config.prefix = prefix.into();
    set_up(&mut config, args);
    config.faults = shares(&FAULTS, count)?;
    config.faults.extend(shares(&FAULTS_BEHIND, count)?);
    config.gateway_faults = shares(&[("drops-in-download", BEHIND * RESTARTS_ONE_IN)], count)?;
    let mut specs = config.specs().map_err(|error| error.to_string())?;
    let too_many = gateways * BEHIND - count;
    if let Some(last) = specs.last_mut() {
        let left = last.behind.len().saturating_sub(too_many as usize);
        last.behind.truncate(left);
    }
    Ok(specs)
}

fn set_up(config: &mut FleetConfig, args: &DemoArgs) {
    config.target = Some(TARGET.into());
    config.seed = args.seed;
    config.timing = Timing::default().faster(SPEED);
    config.start_spread_ms = 2_000;
}

/// What so many devices do wrong; small fleets do nothing wrong.
fn shares(faults: &[(&str, u32)], count: u32) -> Result<Vec<Share>, String> {
    let share = |(fault, one_in): &(&str, u32)| {
        let share = format!("{fault}={}", count.div_ceil(*one_in));
        share.parse()
    };
    let faults = faults.iter().filter(|_| count >= FAULTS_FROM);
    faults.map(share).collect()
}

/// What of a device is to be upgraded: of a gateway, those behind it.
pub(super) fn upgradable(spec: &Spec) -> impl Iterator<Item = &Spec> {
    let own = spec.behind.is_empty().then_some(spec);
    own.into_iter().chain(&spec.behind)
}

/// What the server is told of a device, and of those behind it.
pub(super) fn entries(spec: &Spec) -> Vec<Value> {
    let mut own = entry(spec);
    if !spec.behind.is_empty() {
        own["product"] = json!("demo-gateway");
    }
    let behind = spec.behind.iter().map(|behind| {
        let mqtt = json!({ "style": "iotda", "gateway": true });
        json!({ "endpoint": behind.device, "product": "demo", "mqtt": mqtt, "via": spec.device })
    });
    [own].into_iter().chain(behind).collect()
}

fn entry(spec: &Spec) -> Value {
    let mqtt = if spec.style.is_iotda() {
        json!({ "style": "iotda", "secret": spec.secret.0 })
    } else if spec.style == Style::QuecThing {
        json!({ "style": "quecthing", "secret": spec.secret.0 })
    } else {
        json!({ "style": "thingspanel", "token": spec.secret.0 })
    };
    json!({ "endpoint": spec.device, "product": "demo", "mqtt": mqtt })
}

/// Whether the device is to succeed. The server offers its packages in the first generation's messages.
pub(super) fn succeeds(spec: &Spec) -> bool {
    let style = match spec.style {
        Style::IotdaV2 => Style::Iotda,
        other => other,
    };
    let expected = spec.fault.map(|fault| fault.expected(style, spec.client));
    expected != Some(Expected::Failed)
}

/// Has the server listen for them, and wait less long for those that fall silent.
pub(super) fn set(config: &mut Config, certificate: &Certificate) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mqtt = &mut config.mqtt;
    (mqtt.tls, mqtt.tls_listen) = (true, any);
    mqtt.tls_certificate.clone_from(&certificate.certificate);
    mqtt.tls_key.clone_from(&certificate.key);
    let download = &mut config.download;
    (download.https, download.https_listen) = (true, any);
    download
        .tls_certificate
        .clone_from(&certificate.certificate);
    download.tls_key.clone_from(&certificate.key);
    config.upgrade.transfer_s = TRANSFER_S;
    config.upgrade.execute_s = CLAIM_S;
}

/// Switches them on.
pub(super) fn switched_on(
    specs: Vec<Spec>,
    server: &Server,
    certificate: &Certificate,
) -> Result<Fleet, String> {
    let authorities = Authorities::read(&certificate.authority);
    let authorities = authorities.map_err(|error| error.to_string())?;
    let address = server
        .mqtts_addr
        .ok_or("the server hears no MQTT devices")?;
    let target = Target::secured(address.ip().to_string(), address.port(), authorities);
    remark(&told(&specs));
    Fleet::start(specs, target).map_err(|error| error.to_string())
}

/// Who takes part, for those who watch.
fn told(specs: &[Spec]) -> String {
    let styles = Style::ALL.map(|style| {
        let count = specs.iter().filter(|spec| spec.style == style).count();
        format!("{count} {style}")
    });
    let behind: usize = specs.iter().map(|spec| spec.behind.len()).sum();
    let behind = match behind {
        0 => String::new(),
        behind => format!("; gateways with {behind} devices behind them"),
    };
    format!("devices over MQTT: {}{behind}", styles.join(", "))
}
