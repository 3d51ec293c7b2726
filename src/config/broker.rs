use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where devices over MQTT are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MqttMode {
    /// To this server: `mqtt.tcp`, `mqtt.tls`.
    #[default]
    Server,
    /// To somebody else's broker, whose client this server is.
    Broker,
}

/// The version of MQTT that is spoken with the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BrokerVersion {
    /// 3.1.1.
    #[serde(rename = "3.1.1")]
    V311,
    /// 5: the broker is told how large a packet may be, and how many may be on their way.
    #[default]
    #[serde(rename = "5")]
    V5,
}

/// Kinds of devices that are connected to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BrokerStyle {
    /// Huawei IoTDA's.
    Iotda,
    /// `ThingsPanel`'s.
    ThingsPanel,
    /// Those with `QuecThing`.
    QuecThing,
}

/// A broker that is not this server's, and how devices are reached over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerConfig {
    /// `host:port` of the broker, or of each node of it. They are tried in turn.
    pub addresses: Vec<String>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Who signs the broker's certificate, in PEM; empty for the authorities that the system trusts.
    pub ca_file: PathBuf,
    /// The certificate to show, and those up to its root, in PEM; empty to show none.
    pub client_certificate: PathBuf,
    /// Its private key, in PEM (PKCS#8).
    pub client_key: PathBuf,
    /// The client ID. Nobody else may have it.
    pub client_id: String,
    /// The user name; empty for none.
    pub user: String,
    /// A file with the password in its first line; empty for none.
    pub password_file: PathBuf,
    /// The version that is spoken.
    pub version: BrokerVersion,
    /// After so many seconds without a packet the broker is asked whether it is there.
    pub keep_alive_s: u16,
    /// For so long the broker keeps what devices say while this server is away, seconds; 0 for not at all.
    pub session_expiry_s: u32,
    /// The group of a shared subscription; empty for one that is not shared.
    pub share_group: String,
    /// Kinds of devices that are connected there.
    pub styles: Vec<BrokerStyle>,
    /// What the topics of IoTDA's devices begin with.
    pub iotda_root: String,
    /// What stands before the topics of `ThingsPanel`'s devices, which name no device by themselves: levels, of which one is
    /// `{device}` or `{token}`, and `/` at the end.
    pub thingspanel_mount: String,
    /// A device that has said nothing for so long is taken to be away, seconds.
    pub online_s: u64,
    /// A device that has an upgrade and says nothing is asked for its version this often, seconds.
    pub ask_every_s: u64,
    /// Messages of the broker that wait for what follows from them to be stored: further ones are not taken.
    pub receive_maximum: u16,
    /// Messages to the broker that wait for its PUBACK; as many more wait behind them.
    pub send_maximum: u16,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            tls: true,
            ca_file: PathBuf::new(),
            client_certificate: PathBuf::new(),
            client_key: PathBuf::new(),
            client_id: "cellwise".to_owned(),
            user: String::new(),
            password_file: PathBuf::new(),
            version: BrokerVersion::V5,
            keep_alive_s: 60,
            session_expiry_s: 3_600,
            share_group: String::new(),
            styles: vec![BrokerStyle::Iotda, BrokerStyle::ThingsPanel],
            iotda_root: "$oc".to_owned(),
            thingspanel_mount: "{device}/".to_owned(),
            online_s: 180,
            ask_every_s: 600,
            receive_maximum: 256,
            send_maximum: 256,
        }
    }
}

impl BrokerConfig {
    /// What is wrong with it, each with the name of its setting: what must hold where the server is a broker's client.
    #[expect(clippy::too_many_lines, reason = "one rule after the other")]
    pub(super) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        let mut check = |well: bool, setting, problem| {
            if !well {
                problems.push((setting, problem));
            }
        };
        let is_address = |text: &String| {
            text.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        };
        check(
            !self.addresses.is_empty() && self.addresses.iter().all(is_address),
            "addresses",
            "names the broker as \"host:port\", once or several times",
        );
        let file = |path: &PathBuf| !path.as_os_str().is_empty();
        check(
            file(&self.client_certificate) == file(&self.client_key),
            "client_certificate",
            "client_certificate and client_key go together",
        );
        check(
            self.tls || !(file(&self.client_certificate) || file(&self.ca_file)),
            "tls",
            "has to be true where certificates are named",
        );
        check(
            self.user.is_empty() || !self.user.contains('\0'),
            "user",
            "is a text without NUL",
        );
        check(
            !self.user.is_empty() || !file(&self.password_file),
            "password_file",
            "needs a user",
        );
        check(
            !self.client_id.is_empty() && self.client_id.len() <= 128,
            "client_id",
            "has 1 to 128 bytes",
        );
        check(
            !self.share_group.contains(['/', '+', '#', '\0']),
            "share_group",
            "is a name without /, + and #, or empty",
        );
        let plain = |text: &str| !text.is_empty() && !text.contains(['+', '#', '\0']);
        check(!self.styles.is_empty(), "styles", "names one kind at least");
        check(
            plain(&self.iotda_root) && !self.iotda_root.ends_with('/'),
            "iotda_root",
            "is the beginning of a topic without +, # and a / at its end",
        );
        let names = |level: &str| level == "{device}" || level == "{token}";
        let mount = &self.thingspanel_mount;
        check(
            plain(mount)
                && mount.ends_with('/')
                && mount.split('/').filter(|level| names(level)).count() == 1
                && (mount.split('/')).all(|level| names(level) || !level.contains(['{', '}'])),
            "thingspanel_mount",
            "has levels without +, #, { and }, besides one that is {device} or {token}, and / at its end",
        );
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_names_the_device_in_one_whole_level() {
        let problems = |mount: &str| {
            let config = BrokerConfig {
                addresses: vec!["broker.example.com:8883".to_owned()],
                thingspanel_mount: mount.to_owned(),
                ..BrokerConfig::default()
            };
            config.problems()
        };
        for mount in ["{device}/", "{token}/", "tp/{token}/up/"] {
            assert_eq!(problems(mount), [], "{mount}");
        }
        for mount in [
            "{device}",
            "tp/",
            "{device}/{token}/",
            "x{token}/{device}/",
            "{device}/{token/",
            "+/{device}/",
        ] {
            let problems = problems(mount);
            assert!(
                matches!(problems[..], [("thingspanel_mount", _)]),
                "{mount}: {problems:?}"
            );
        }
    }
}
