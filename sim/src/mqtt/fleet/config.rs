use std::{collections::HashMap, fmt, fs, io, path::Path, str::FromStr};

use thiserror::Error;

use super::{Fault, FleetError, Style};
use crate::{
    fleet::{Amount, AmountError},
    mqtt::{
        spec::{Secret, Spec, Timing},
        style::Client,
    },
    rng::Rng,
};

/// What is replaced by the device's name.
const DEVICE: &str = "{endpoint}";

/// What a fleet consists of.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// Number of devices.
    pub devices: usize,
    /// Device names are this and six digits from 000000.
    pub prefix: String,
    /// Devices behind each of them, which is a gateway then; 0 for devices that are none. The names of those behind it are the
    /// gateway's, and `-` and two digits or more from 00.
    pub behind: usize,
    /// Styles, dealt out in turn.
    pub styles: Vec<Style>,
    /// Kits of IoTDA's devices, dealt out in turn.
    pub clients: Vec<Client>,
    /// The version that the devices run at first.
    pub version: String,
    /// The version that the server will offer, needed for devices that run it already.
    pub target: Option<String>,
    /// What the devices prove themselves with.
    pub secrets: Secrets,
    /// Faults, and how many devices have each.
    pub faults: Vec<Share>,
    /// Faults of gateways, and how many gateways have each.
    pub gateway_faults: Vec<Share>,
    /// Delays of all devices.
    pub timing: Timing,
    /// The first connections are spread over this time, in ms.
    pub start_spread_ms: u64,
    /// Keep-alive, seconds.
    pub keep_alive_s: u16,
    /// Whether they are connected to a broker that is not the server.
    pub on_broker: bool,
    /// Whether devices restart to run what they have installed.
    pub restarts: bool,
    /// Which device has which fault follows from this number, and so does all that happens by chance.
    pub seed: u64,
}

impl FleetConfig {
    /// Well-behaved devices whose secrets are their names and `-secret`.
    pub fn new(devices: usize, styles: Vec<Style>, version: impl Into<String>) -> Self {
        Self {
            devices,
            prefix: "sim-".to_owned(),
            behind: 0,
            styles,
            clients: Client::ALL.to_vec(),
            version: version.into(),
            target: None,
            secrets: Secrets::same("{endpoint}-secret"),
            faults: Vec::new(),
            gateway_faults: Vec::new(),
            timing: Timing::default(),
            start_spread_ms: 0,
            keep_alive_s: 120,
            on_broker: false,
            restarts: false,
            seed: 0,
        }
    }

    /// The devices. The same configuration gives the same devices.
    pub fn specs(&self) -> Result<Vec<Spec>, FleetError> {
        if self.styles.is_empty() || self.clients.is_empty() {
            return Err(FleetError::NoStyle);
        }
        let mut rng = Rng::new(self.seed);
        let mut specs = Vec::with_capacity(self.devices);
        for index in 0..self.devices {
            let style = self.styles[index % self.styles.len()];
            // each style gets all of the kits
            let client = self.clients[index / self.styles.len() % self.clients.len()];
            let device = format!("{}{index:06}", self.prefix);
            let secret = self.secrets.of(&device)?;
            let mut spec = Spec::new(device, style, self.version.clone());
            spec.client = client;
            spec.secret = secret;
            spec.timing = Timing {
                start_delay_ms: self.timing.start_delay_ms + rng.below(self.start_spread_ms),
                ..self.timing
            };
            spec.keep_alive_s = self.keep_alive_s;
            spec.restarts = self.restarts;
            spec.on_broker = self.on_broker;
            spec.seed = rng.next();
            spec.spells_inform = spec.seed % 4 >= 2;
            specs.push(spec);
        }
        if self.behind == 0 {
            self.deal_faults(&self.faults, Fault::is_for_connected, &mut specs, &mut rng)?;
            return Ok(specs);
        }
        self.put_behind(specs, &mut rng)
    }

    /// Puts devices behind these, which are gateways; faults go to those behind them.
    fn put_behind(&self, mut gateways: Vec<Spec>, rng: &mut Rng) -> Result<Vec<Spec>, FleetError> {
        let mut behind = Vec::with_capacity(gateways.len() * self.behind);
        for gateway in &gateways {
            if !gateway.style.is_iotda() {
                return Err(FleetError::NoGateway(gateway.style));
            }
            for number in 0..self.behind {
                let device = format!("{}-{number:02}", gateway.device);
                let mut spec = Spec::new(device, gateway.style, self.version.clone());
                spec.client = self.clients[number % self.clients.len()];
                spec.timing = Timing {
                    start_delay_ms: 0,
                    ..self.timing
                };
                spec.restarts = self.restarts;
                spec.seed = rng.next();
                behind.push(spec);
            }
        }
        self.deal_faults(&self.faults, Fault::is_for_behind, &mut behind, rng)?;
        let gateway_faults = &self.gateway_faults;
        self.deal_faults(gateway_faults, Fault::is_for_gateways, &mut gateways, rng)?;
        let mut behind = behind.into_iter();
        for gateway in &mut gateways {
            gateway.behind = behind.by_ref().take(self.behind).collect();
        }
        Ok(gateways)
    }

    /// A fault goes to devices that can have it, by what they are and by their style, as evenly among these styles as may be.
    fn deal_faults(
        &self,
        faults: &[Share],
        fits: fn(Fault) -> bool,
        specs: &mut [Spec],
        rng: &mut Rng,
    ) -> Result<(), FleetError> {
        let mut order: Vec<usize> = (0..specs.len()).collect();
        rng.shuffle(&mut order);
        for Share { fault, amount } in faults {
            let ordered = amount.of(specs.len());
            let mut free: HashMap<Style, Vec<usize>> = HashMap::new();
            for index in &order {
                let spec = &specs[*index];
                if spec.fault.is_none() && fits(*fault) && fault.is_for(spec.style) {
                    free.entry(spec.style).or_default().push(*index);
                }
            }
            let mut left = ordered;
            for round in 0.. {
                let turn = Style::ALL
                    .iter()
                    .filter_map(|style| free.get(style)?.get(round));
                let turn: Vec<usize> = turn.take(left).copied().collect();
                if turn.is_empty() {
                    break;
                }
                left -= turn.len();
                for index in turn {
                    self.give(*fault, &mut specs[index])?;
                }
            }
            if left > 0 {
                return Err(FleetError::TooManyFaults {
                    fault: *fault,
                    ordered,
                    free: ordered - left,
                });
            }
        }
        Ok(())
    }

    fn give(&self, fault: Fault, spec: &mut Spec) -> Result<(), FleetError> {
        spec.fault = Some(fault);
        if fault == Fault::AlreadyCurrent {
            let target = self.target.as_ref().ok_or(FleetError::NoTarget)?;
            spec.version.clone_from(target);
        }
        Ok(())
    }
}

/// What the devices of a fleet prove themselves with: a template, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    each: HashMap<String, Secret>,
    others: Option<Secret>,
}

/// Why a file of secrets cannot be used. Secrets are not repeated.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is nothing in it.
    #[error("there is no secret in it")]
    Empty,
    /// Two fields make a line.
    #[error("line {line}: 'device,secret' is needed")]
    Fields {
        /// Counted from 1.
        line: usize,
    },
    /// Which secret is meant?
    #[error("line {line}: {device} has a secret already")]
    Twice {
        /// Counted from 1.
        line: usize,
        /// The device.
        device: String,
    },
}

impl Secrets {
    /// For every device the same text, in which `{endpoint}` stands for the device's name.
    pub fn same(template: impl Into<String>) -> Self {
        Self {
            each: HashMap::new(),
            others: Some(Secret(template.into())),
        }
    }

    /// Reads a file; see [`Self::parse`].
    pub fn read(path: &Path) -> Result<Self, SecretsError> {
        Self::parse(&fs::read_to_string(path)?)
    }

    /// Reads lines `device,secret`: a device secret of IoTDA, an access token of `ThingsPanel`. Empty lines, and what
    /// begins with `#`, are comments.
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        let mut each = HashMap::new();
        for (index, text) in text.lines().enumerate() {
            let (line, text) = (index + 1, text.trim());
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let fields = text.split_once(',');
            let fields = fields.map(|(device, secret)| (device.trim(), secret.trim()));
            let Some((device, secret)) =
                fields.filter(|(device, secret)| !device.is_empty() && !secret.is_empty())
            else {
                return Err(SecretsError::Fields { line });
            };
            let secret = Secret(secret.to_owned());
            if each.insert(device.to_owned(), secret).is_some() {
                let device = device.to_owned();
                return Err(SecretsError::Twice { line, device });
            }
        }
        if each.is_empty() {
            return Err(SecretsError::Empty);
        }
        Ok(Self { each, others: None })
    }

    fn of(&self, device: &str) -> Result<Secret, FleetError> {
        if let Some(secret) = self.each.get(device) {
            return Ok(secret.clone());
        }
        match &self.others {
            Some(template) => Ok(Secret(template.0.replace(DEVICE, device))),
            None => Err(FleetError::NoSecret {
                device: device.to_owned(),
            }),
        }
    }
}

/// A fault, and how many devices have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The fault.
    pub fault: Fault,
    /// How many devices.
    pub amount: Amount,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.fault, self.amount)
    }
}

/// `FAULT` for one device, `FAULT=20` for twenty, `FAULT=5%` for a share.
impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (fault, amount) = match text.split_once('=') {
            Some((fault, amount)) => {
                let amount = amount
                    .parse()
                    .map_err(|error: AmountError| error.to_string())?;
                (fault, amount)
            }
            None => (text, Amount::Devices(1)),
        };
        let fault = fault.parse::<Fault>().map_err(|error| error.to_string())?;
        Ok(Self { fault, amount })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(devices: usize) -> FleetConfig {
        FleetConfig::new(devices, Style::ALL.to_vec(), "V1")
    }

    #[test]
    fn faults_go_to_styles_that_can_have_them() {
        let mut config = config(40);
        config.target = Some("V2".to_owned());
        config.faults = ["no-version=4", "already-current=3", "cut-download=10%"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let specs = config.specs().unwrap();
        let with = |fault| specs.iter().filter(move |spec| spec.fault == Some(fault));
        assert_eq!(with(Fault::NoVersion).count(), 4);
        assert!(with(Fault::NoVersion).all(|spec| spec.style.is_iotda()));
        assert!(with(Fault::AlreadyCurrent).all(|spec| spec.version == "V2"));
        // one of each style
        let styles: std::collections::BTreeSet<_> =
            with(Fault::CutDownload).map(|spec| spec.style).collect();
        assert_eq!(styles.len(), 4);
        config.faults = vec!["no-version=21".parse().unwrap()];
        let error = config.specs().unwrap_err().to_string();
        assert_eq!(
            error,
            "21 devices are to have the fault 'no-version', and 16 are there that can have it"
        );
    }

    #[test]
    fn one_seed_gives_one_fleet() {
        let fleet = |seed| {
            let mut config = config(20);
            (config.seed, config.start_spread_ms) = (seed, 10_000);
            config.faults = vec!["reconnect-storm=5".parse().unwrap()];
            format!("{:?}", config.specs().unwrap())
        };
        assert_eq!(fleet(1), fleet(1));
        assert_ne!(fleet(1), fleet(2));
    }

    #[test]
    fn secrets_are_read_and_not_shown() {
        let secrets = Secrets::parse("# of two\n\na, one\nb,two,three\n").unwrap();
        assert_eq!(secrets.of("a").unwrap(), Secret("one".into()));
        assert_eq!(secrets.of("b").unwrap(), Secret("two,three".into()));
        assert!(!format!("{secrets:?}").contains("three"));
        let error = secrets.of("c").unwrap_err().to_string();
        assert_eq!(error, "c has no secret: it is not in the file");
        let error = |text| Secrets::parse(text).unwrap_err().to_string();
        assert_eq!(error("a,"), "line 1: 'device,secret' is needed");
        assert_eq!(error("a,1\na,2"), "line 2: a has a secret already");
        assert_eq!(error("#"), "there is no secret in it");
        let same = Secrets::same("s-{endpoint}").of("x").unwrap();
        assert_eq!(same, Secret("s-x".into()));
    }
}
