mod keys;
mod mqtt;
mod objects;

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use clap::{Parser, ValueEnum};
use pcp::Version;
use sim::{
    content::ContentFormat,
    fleet::{AmountError, Behaviour, CoverageClass, FleetConfig, Timing},
    spec::{NotificationType, QueueMode, RegistrationStyle},
};

use keys::KeyArguments;
use mqtt::MqttArguments;
use objects::ObjectArguments;

/// RFC 7252 §6.1 and §6.2.
const COAP_PORT: u16 = 5683;
const COAPS_PORT: u16 = 5684;

/// Simulates devices that let a server upgrade them: NB-IoT devices that register with it over LwM2M, or with --mqtt
/// devices of Huawei IoTDA and `ThingsPanel`.
#[derive(Debug, Parser)]
#[command(name = "cellwise-sim", version)]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
pub(crate) struct Arguments {
    /// Server; without a port that of CoAP, 5683, or with keys that of CoAP over DTLS, 5684
    #[arg(long, default_value = "127.0.0.1", value_name = "HOST[:PORT]")]
    server: String,

    #[command(flatten)]
    keys: KeyArguments,

    #[command(flatten)]
    mqtt: MqttArguments,

    #[command(flatten)]
    objects: ObjectArguments,

    /// Number of devices
    #[arg(long, visible_alias = "count", default_value_t = 100, value_name = "N")]
    devices: usize,

    /// Number of cells that the devices are spread over
    #[arg(long, default_value_t = 5, value_name = "N")]
    cells: u32,

    /// Cell ID of the first cell
    #[arg(long, default_value_t = 1001, value_name = "ID")]
    first_cell: u32,

    /// Endpoint names are this and six digits from 000000
    #[arg(long, default_value = "sim-", value_name = "TEXT")]
    prefix: String,

    /// Version that the devices run at first
    #[arg(long, default_value = "V1.0", value_name = "VERSION")]
    from: Version,

    /// Version that the server will offer; already-current devices need it, and those that are not upgraded by PCP
    #[arg(long, value_name = "VERSION")]
    target: Option<Version>,

    /// The same seed gives the same fleet
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,

    /// Shares of coverage: good, medium, poor, unmeasurable, implausible, no-cell
    #[arg(
        long,
        default_value = "good=6,medium=3,poor=1",
        value_delimiter = ',',
        value_name = "CLASS=SHARE"
    )]
    coverage: Vec<CoverageShare>,

    /// Formats of the answers in turn: tlv, text, senml-json, senml-cbor
    #[arg(
        long,
        default_value = "tlv",
        value_delimiter = ',',
        value_name = "FORMAT"
    )]
    content_formats: Vec<ContentFormat>,

    /// A fault, and how many devices have it: a number (1 if not given) or a percentage; repeatable
    #[arg(long = "fault", value_name = "FAULT[=N|=N%]")]
    faults: Vec<String>,

    /// Lists all faults and ends
    #[arg(long)]
    pub(crate) list_faults: bool,

    /// How many times as fast as in an NB-IoT network everything goes
    #[arg(long, default_value_t = 10, value_name = "FACTOR", value_parser = clap::value_parser!(u32).range(1..))]
    speed: u32,

    /// The first registrations are spread over this time
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = duration)]
    spread: Duration,

    /// Lifetime of the registrations in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    lifetime: u32,

    /// Devices sleep (binding UQ): how long they listen after a message, and how long they sleep
    #[arg(long, value_name = "AWAKE/SLEEP")]
    queue_mode: Option<QueueTimes>,

    /// Devices register with their endpoint name and nothing else
    #[arg(long)]
    minimal_registration: bool,

    /// Devices notify without asking for an acknowledgement
    #[arg(long)]
    non_confirmable: bool,

    /// Devices acknowledge requests first and respond in a message of its own
    #[arg(long)]
    separate_responses: bool,

    /// Devices act on a repeated request again
    #[arg(long)]
    no_deduplication: bool,

    /// Ends after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) run_for: Option<Duration>,

    /// Ends when nothing more can be expected of any device; with --for, exits with 1 if that time
    /// is up first
    #[arg(long)]
    pub(crate) until_done: bool,

    /// How the summary is printed
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub(crate) format: OutputFormat,

    /// Shows no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

impl Arguments {
    /// Host and port of the server.
    pub(crate) fn server(&self) -> String {
        let port = if self.keys.are_given() {
            COAPS_PORT
        } else {
            COAP_PORT
        };
        with_port(&self.server, port)
    }

    pub(crate) fn fleet_config(&self) -> Result<FleetConfig, String> {
        let mut config = FleetConfig::new(self.devices, self.from);
        config.cells = self.cells;
        config.first_cell_id = self.first_cell;
        config.endpoint_prefix.clone_from(&self.prefix);
        config.target = self.target;
        config.seed = self.seed;
        config.coverage = self
            .coverage
            .iter()
            .map(|CoverageShare { class, share }| (*class, *share))
            .collect();
        config.formats.clone_from(&self.content_formats);
        config.faults = self
            .faults
            .iter()
            .map(|text| text.parse().map_err(|error: AmountError| error.to_string()))
            .collect::<Result<_, String>>()?;
        config.timing = Timing::default().faster(self.speed);
        config.start_spread_ms = millis(self.spread);
        config.behaviour = Behaviour {
            lifetime_s: self.lifetime,
            registration: if self.minimal_registration {
                RegistrationStyle::Minimal
            } else {
                RegistrationStyle::Full
            },
            notifications: if self.non_confirmable {
                NotificationType::NonConfirmable
            } else {
                NotificationType::Confirmable
            },
            queue_mode: self.queue_mode.map(|times| times.0),
            deduplicates: !self.no_deduplication,
            separate_responses: self.separate_responses,
            keep_image: false,
            ..Behaviour::default()
        };
        config.psks = self.keys.psks()?;
        self.objects.apply_to(&mut config)?;
        Ok(config)
    }
}

/// `[::1]` and `::1` are addresses without a port, as `localhost` is.
fn with_port(server: &str, port: u16) -> String {
    let colons = server.matches(':').count();
    match (server.starts_with('['), colons) {
        (false, 2..) => format!("[{server}]:{port}"),
        (true, _) if server.ends_with(']') => format!("{server}:{port}"),
        (false, 0) => format!("{server}:{port}"),
        _ => server.to_owned(),
    }
}

#[derive(Debug, Clone, Copy)]
struct CoverageShare {
    class: CoverageClass,
    share: u32,
}

/// `good=6`, or `good` for 1.
impl FromStr for CoverageShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (class, share) = text.split_once('=').unwrap_or((text, "1"));
        Ok(Self {
            class: class
                .parse()
                .map_err(|error: sim::spec::UnknownCoverage| error.to_string())?,
            share: share
                .parse()
                .map_err(|_| format!("'{share}' is no share (a whole number)"))?,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct QueueTimes(QueueMode);

impl FromStr for QueueTimes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (awake, sleep) = text
            .split_once('/')
            .ok_or("two times are needed, as in 10s/2m")?;
        Ok(Self(QueueMode {
            awake_ms: millis(duration(awake)?),
            sleep_ms: millis(duration(sleep)?),
        }))
    }
}

/// A text that nobody needs to see.
#[derive(Clone)]
struct Hidden(String);

impl FromStr for Hidden {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

/// `500ms`, `90s`, `5m`, `2h`; a number alone is in seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("unknown unit '{unit}': ms, s, m and h are known")),
    };
    number
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(unit_ms))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is no time, as 90s or 5m are"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn reads_a_whole_fleet_from_the_command_line() {
        let arguments = Arguments::parse_from([
            "cellwise-sim",
            "--devices=20",
            "--coverage=good=6,poor",
            "--fault=stops-mid-download=2",
            "--fault=refuse-notification=0x04=10%",
            "--queue-mode=500ms/2m",
            "--for=5m",
        ]);
        let config = arguments.fleet_config().unwrap();
        assert!(config.psks.is_none());
        assert_eq!(
            config.coverage,
            [(CoverageClass::Good, 6), (CoverageClass::Poor, 1)]
        );
        assert_eq!(config.faults.len(), 2);
        assert_eq!(
            config.behaviour.queue_mode,
            Some(QueueMode {
                awake_ms: 500,
                sleep_ms: 120_000
            })
        );
        assert_eq!(arguments.run_for, Some(Duration::from_mins(5)));
    }

    fn parse(arguments: &[&str]) -> Arguments {
        Arguments::parse_from([&["cellwise-sim"], arguments].concat())
    }

    #[test]
    fn the_port_may_be_left_out() {
        for (server, expected) in [
            ("localhost", "localhost:5683"),
            ("localhost:1", "localhost:1"),
            ("::1", "[::1]:5683"),
            ("[::1]", "[::1]:5683"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(parse(&["--server", server]).server(), expected);
        }
    }

    #[test]
    fn times_that_are_none_are_refused() {
        for text in ["", "m", "5d", "-1s", "1.5s", "99999999999999999999"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
    }
}
