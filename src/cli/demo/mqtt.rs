//! Devices that speak MQTT, over TLS, and download over HTTPS.

use std::net::SocketAddr;

use serde_json::{Value, json};
use sim::{
    Expected,
    mqtt::{
        Fleet, Spec, Style, Timing,
        fleet::{Authorities, FleetConfig, Target},
    },
};

use super::{BEFORE, DemoArgs, TARGET, authority::Certificate, fleet::FAULTS_FROM};
use crate::{cli::output::remark, config::Config, server::Server};

/// How much faster than in the field they install, restart and reconnect.
const SPEED: u32 = 20;
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

/// The devices, of the four styles and the three kits in turn.
pub(super) fn specs(args: &DemoArgs, count: u32) -> Result<Vec<Spec>, String> {
    let mut config = FleetConfig::new(count as usize, Style::ALL.to_vec(), BEFORE);
    config.prefix = "demo-mqtt-".into();
    config.target = Some(TARGET.into());
    config.seed = args.seed;
    config.timing = Timing::default().faster(SPEED);
    config.start_spread_ms = 2_000;
    config.faults = FAULTS
        .iter()
        .filter(|_| count >= FAULTS_FROM)
        .map(|(fault, one_in)| format!("{fault}={}", count.div_ceil(*one_in)).parse())
        .collect::<Result<_, String>>()?;
    config.specs().map_err(|error| error.to_string())
}

/// What the server is told of a device.
pub(super) fn entry(spec: &Spec) -> Value {
    let mqtt = if spec.style.is_iotda() {
        json!({ "style": "iotda", "secret": spec.secret.0 })
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
    format!("devices over MQTT: {}", styles.join(", "))
}
