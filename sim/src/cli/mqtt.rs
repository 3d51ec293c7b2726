use std::path::PathBuf;

use clap::Args;
use sim::mqtt::{
    Client, Style, Timing,
    fleet::{Authorities, FleetConfig, Secrets, Share, Target},
};

use super::{Arguments, Hidden, millis, with_port};

/// MQTT's ports, as IANA has them.
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

/// Takes a secret that no argument shows.
const VARIABLE: &str = "CELLWISE_SIM_SECRET";

/// What makes devices speak MQTT.
#[derive(Debug, Args)]
pub(super) struct MqttArguments {
    /// Devices speak MQTT with this server, and download over HTTP(S); without a port 1883, or with --tls 8883
    #[arg(long, value_name = "HOST[:PORT]")]
    mqtt: Option<String>,

    /// MQTT over TLS 1.2 or 1.3; --ca says whose certificates are accepted
    #[arg(long, requires = "mqtt", requires = "ca")]
    tls: bool,

    /// Certificates (PEM) of who signs the server's, for MQTT over TLS and downloads over HTTPS
    #[arg(long, requires = "mqtt", value_name = "FILE")]
    ca: Option<PathBuf>,

    /// What MQTT devices understand, in turn: iotda, iotda-v2, thingspanel-0.5, thingspanel-1.x, quecthing
    #[arg(
        long,
        requires = "mqtt",
        default_value = "iotda",
        value_delimiter = ',',
        value_name = "STYLE"
    )]
    style: Vec<Style>,

    /// Kits of IoTDA devices in turn: python, java, c
    #[arg(
        long,
        requires = "mqtt",
        default_value = "python,java,c",
        value_delimiter = ',',
        value_name = "KIT"
    )]
    kit: Vec<Client>,

    /// Device secret (iotda, quecthing) or access token (thingspanel); {endpoint} is replaced by the device's name. Others on
    /// this machine can read arguments; the environment is a better place
    #[arg(
        long,
        requires = "mqtt",
        env = VARIABLE,
        hide_env_values = true,
        default_value = "{endpoint}-secret",
        value_name = "TEMPLATE"
    )]
    secret: Hidden,

    /// Secrets of the devices, lines of `device,secret`
    #[arg(long, requires = "mqtt", value_name = "FILE")]
    secrets: Option<PathBuf>,

    /// Each device is a gateway (iotda) with so many devices behind it, named like it and -00, -01, …; faults go to these
    #[arg(long, requires = "mqtt", default_value_t = 0, value_name = "DEVICES")]
    behind: usize,

    /// A fault of gateways, and how many of them have it; repeatable. drops-in-download: it restarts in mid-download
    #[arg(
        long = "gateway-fault",
        requires = "behind",
        value_name = "FAULT[=N|=N%]"
    )]
    gateway_faults: Vec<String>,

    /// Keep-alive of MQTT connections, seconds
    #[arg(long, requires = "mqtt", default_value_t = 120, value_name = "SECONDS")]
    keep_alive: u16,

    /// MQTT devices restart to run what they have installed
    #[arg(long, requires = "mqtt")]
    restarts: bool,

    /// --mqtt is a broker whose client the server is: IoTDA devices subscribe, ThingsPanel's topics are below the device's name
    #[arg(long, requires = "mqtt")]
    on_broker: bool,
}

impl Arguments {
    /// The server, if the devices speak MQTT.
    pub(crate) fn mqtt_target(&self) -> Result<Option<Target>, String> {
        let own = &self.mqtt;
        let Some(server) = &own.mqtt else {
            return Ok(None);
        };
        let server = with_port(server, if own.tls { TLS_PORT } else { PORT });
        let (host, port) = server
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)))
            .ok_or_else(|| format!("--mqtt: '{server}' has no port from 0 to 65535"))?;
        let authorities = match &own.ca {
            Some(file) => Authorities::read(file)
                .map_err(|error| format!("the certificates in {}: {error}", file.display()))?,
            None => Authorities::none().map_err(|error| error.to_string())?,
        };
        Ok(Some(if own.tls {
            Target::secured(host, port, authorities)
        } else {
            Target::plain(host, port, authorities)
        }))
    }

    /// The fleet, if the devices speak MQTT.
    pub(crate) fn mqtt_config(&self) -> Result<FleetConfig, String> {
        let own = &self.mqtt;
        let text = |version: pcp::Version| version.to_string();
        let mut config = FleetConfig::new(self.devices, own.style.clone(), text(self.from));
        config.clients.clone_from(&own.kit);
        config.prefix.clone_from(&self.prefix);
        config.target = self.target.map(text);
        config.seed = self.seed;
        config.secrets = match &own.secrets {
            Some(file) => Secrets::read(file)
                .map_err(|error| format!("the secrets in {}: {error}", file.display()))?,
            None => Secrets::same(own.secret.0.clone()),
        };
        let shares = |texts: &[String]| -> Result<Vec<Share>, String> {
            texts.iter().map(|text| text.parse()).collect()
        };
        config.faults = shares(&self.faults)?;
        config.gateway_faults = shares(&own.gateway_faults)?;
        config.timing = Timing::default().faster(self.speed);
        config.start_spread_ms = millis(self.spread);
        config.keep_alive_s = own.keep_alive;
        config.behind = own.behind;
        config.restarts = own.restarts;
        config.on_broker = own.on_broker;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use sim::mqtt::{Fault, Style};

    use super::*;

    fn parse(arguments: &[&str]) -> Arguments {
        Arguments::parse_from([&["cellwise-sim"], arguments].concat())
    }

    #[test]
    fn an_mqtt_server_makes_the_devices_speak_mqtt() {
        assert!(parse(&[]).mqtt_target().unwrap().is_none());
        let arguments = parse(&[
            "--mqtt=[::1]",
            "--style=iotda-v2,thingspanel-1.x",
            "--count=4",
            "--secret=s-{endpoint}",
            "--fault=refuses@6=75%",
        ]);
        let target = arguments.mqtt_target().unwrap().unwrap();
        assert_eq!((target.port, target.tls), (1883, false));
        assert!(!format!("{arguments:?}").contains("s-{"));
        let config = arguments.mqtt_config().unwrap();
        assert_eq!(config.styles, [Style::IotdaV2, Style::ThingsPanel1]);
        let error = config.specs().unwrap_err().to_string();
        // no step of ThingsPanel is -6
        assert!(error.starts_with("3 devices are to have"), "{error}");
        assert_eq!(config.faults[0].fault, Fault::Refuses(6));
    }

    #[test]
    fn gateways_have_faults_of_their_own() {
        let fleet = [
            "--mqtt=[::1]",
            "--count=3",
            "--behind=4",
            "--fault=lost-child=2",
        ];
        let with = |fault: &str| {
            let arguments = parse(&[&fleet[..], &[fault]].concat());
            arguments.mqtt_config().unwrap().specs()
        };
        let gateways = with("--gateway-fault=drops-in-download=1").unwrap();
        let of = |fault| move |spec: &&sim::mqtt::Spec| spec.fault == Some(fault);
        let restart = gateways.iter().filter(of(Fault::DropsInDownload));
        assert_eq!(restart.count(), 1);
        let behind = gateways.iter().flat_map(|gateway| &gateway.behind);
        assert_eq!(behind.filter(of(Fault::LostChild)).count(), 2);
        let refused = with("--gateway-fault=refuses@4").unwrap_err().to_string();
        assert!(refused.contains("0 are there"), "{refused}");
    }

    #[test]
    fn tls_needs_to_know_whom_to_accept() {
        let without = Arguments::try_parse_from(["cellwise-sim", "--mqtt=localhost", "--tls"]);
        assert!(without.is_err());
        let none = parse(&["--mqtt=localhost", "--tls", "--ca=/nonexistent/ca.pem"]);
        let error = none.mqtt_target().unwrap_err();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    }
}
