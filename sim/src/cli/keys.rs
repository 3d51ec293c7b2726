use std::path::PathBuf;

use clap::Args;
use sim::{Key, fleet::Psks};

use super::Hidden;

/// Takes a key that no argument shows.
const VARIABLE: &str = "CELLWISE_SIM_PSK";

/// What makes devices speak DTLS.
#[derive(Debug, Args)]
pub(super) struct KeyArguments {
    /// Devices speak DTLS 1.2 with this pre-shared key, 1 to 64 bytes in hexadecimal digits. Others on
    /// this machine can read arguments; the environment is a better place
    #[arg(
        long,
        env = VARIABLE,
        hide_env_values = true,
        value_name = "KEY"
    )]
    psk: Option<Hidden>,

    /// Identity of the devices with --psk; {endpoint} is replaced by the endpoint name
    #[arg(long, default_value = "{endpoint}", value_name = "TEMPLATE")]
    psk_identity: String,

    /// Devices speak DTLS 1.2 with the keys in this file, lines of `endpoint,identity,key`; devices that
    /// are not in it have --psk, if that is given
    #[arg(long, value_name = "FILE")]
    psk_file: Option<PathBuf>,
}

impl KeyArguments {
    pub(super) const fn are_given(&self) -> bool {
        self.psk.is_some() || self.psk_file.is_some()
    }

    /// The keys as they were ordered, if any were.
    pub(super) fn psks(&self) -> Result<Option<Psks>, String> {
        let file = match &self.psk_file {
            Some(path) => {
                let psks = Psks::read(path);
                Some(psks.map_err(|error| format!("the keys in {}: {error}", path.display()))?)
            }
            None => None,
        };
        let Some(Hidden(key)) = &self.psk else {
            return Ok(file);
        };
        let key = Key::from_hex(key).map_err(|error| format!("--psk or {VARIABLE}: {error}"))?;
        let identity = &*self.psk_identity;
        Ok(Some(match file {
            Some(psks) => psks.or_same(identity, key),
            None => Psks::same(identity, key),
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use sim::fleet::Fleet;

    use super::super::Arguments;

    fn parse(arguments: &[&str]) -> Arguments {
        Arguments::parse_from([&["cellwise-sim"], arguments].concat())
    }

    #[test]
    fn a_key_makes_the_devices_speak_dtls() {
        let arguments = parse(&[
            "--psk=c0ffee",
            "--psk-identity=id-{endpoint}",
            "--devices=2",
        ]);
        assert_eq!(arguments.server(), "127.0.0.1:5684");
        assert!(!format!("{arguments:?}").contains("c0ffee"));
        let specs = Fleet::specs(&arguments.fleet_config().unwrap()).unwrap();
        let psk = specs[1].psk.as_ref().unwrap();
        assert_eq!(psk.identity, "id-sim-000001");
        assert_eq!(psk.key.bytes(), [0xC0, 0xFF, 0xEE]);
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_not_repeated() {
        let error = |text: &str| parse(&["--psk", text]).fleet_config().unwrap_err();
        assert_eq!(
            error("c0ffe"),
            "--psk or CELLWISE_SIM_PSK: a key is written in pairs of hexadecimal digits, and 5 digits are not"
        );
        assert_eq!(
            error(""),
            "--psk or CELLWISE_SIM_PSK: a key has 1 to 64 bytes, not 0"
        );
        let error = parse(&["--psk-file=/nonexistent/keys"]).fleet_config();
        let error = error.unwrap_err();
        assert!(
            error.starts_with("the keys in /nonexistent/keys: "),
            "{error}"
        );
    }
}
