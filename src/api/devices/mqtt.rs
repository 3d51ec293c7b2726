//! How devices that speak MQTT show who they are: given to the server, and never given back.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use utoipa::ToSchema;

use super::told;
use crate::{
    api::{ApiState, problem::Problem},
    ledger::Protocol,
    lwm2m::check_endpoint,
    runtime::{Connected, SealedMqtt},
    store::{AddedDevice, MqttCredential, NewDevice, StoreError, StoredMqtt},
    vault::Vault,
};

/// Bytes of a secret, a token, or a password.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 8..=128;

/// Which kind of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum MqttStyle {
    /// As of Huawei IoTDA: by a `secret`, or a certificate.
    Iotda,
    /// As of ThingsPanel: by a `token`, or a certificate.
    ThingsPanel,
    /// With QuecThing (Quectel's Acceleronix): by a `secret`, a `token`, or a certificate.
    QuecThing,
}

/// That a device speaks MQTT, and how it shows who it is: one of `secret`, `token`, `certificate` and `gateway`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct MqttBody {
    /// Which kind of device it is.
    style: MqttStyle,
    /// Of `iotda`: its secret, 8 to 128 printable ASCII characters. Its password is the HMAC-SHA256 of it under the hour stamp in
    /// its client ID. Of `quecthing`: the same, and its password is the secret itself.
    #[schema(min_length = 8, max_length = 128, pattern = "^[!-~]{8,128}$")]
    secret: Option<String>,
    /// Of `thingspanel` and `quecthing`: its access token, which is its user name, 8 to 128 characters without `/`, `+` and `#`. No two devices
    /// have the same.
    #[schema(min_length = 8, max_length = 128, pattern = "^[!-~]{8,128}$")]
    token: Option<String>,
    /// Its password beside the token, where it has one.
    #[schema(min_length = 8, max_length = 128, pattern = "^[!-~]{8,128}$")]
    password: Option<String>,
    /// `true`: it shows a certificate of `mqtt.client_ca_file`, of which the common name or an alternative name is its endpoint
    /// name.
    certificate: Option<bool>,
    /// Of `iotda`: `true`: it has no connection of its own, and a gateway speaks for it (`via`).
    gateway: Option<bool>,
}

/// An error does not tell what was found instead: it may be a secret.
impl<'de> Deserialize<'de> for MqttBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Given {
            style: MqttStyle,
            secret: Option<String>,
            token: Option<String>,
            password: Option<String>,
            certificate: Option<bool>,
            gateway: Option<bool>,
        }
        let given = Given::deserialize(deserializer).map_err(|_| {
            D::Error::custom(
                "not an object of style, iotda, thingspanel or quecthing, and one of secret, token with or without password, and \
                 certificate or gateway, which is true",
            )
        })?;
        Ok(Self {
            style: given.style,
            secret: given.secret,
            token: given.token,
            password: given.password,
            certificate: given.certificate,
            gateway: given.gateway,
        })
    }
}

/// Never shows a secret.
impl fmt::Debug for MqttBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttBody")
            .field("style", &self.style)
            .finish_non_exhaustive()
    }
}

/// That a device speaks MQTT, and what it shows. The secret itself is never shown.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct MqttShownBody {
    /// Which kind of device it is.
    style: MqttStyle,
    /// `secret`, `token` or `certificate`; `gateway`: it has no connection of its own, and a gateway speaks for it.
    #[schema(pattern = "^(secret|token|certificate|gateway)$")]
    credential: &'static str,
}

/// How a device is connected over MQTT.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ConnectedBody {
    /// Since when.
    #[schema(format = DateTime)]
    since: String,
    /// From which address and port.
    peer: String,
    /// The version of MQTT that it speaks: 3.1.1 or 5.
    #[schema(pattern = "^(3\\.1\\.1|5)$")]
    version: &'static str,
    /// Its client ID; `null` where it has left that to the server. One that holds its token is not shown.
    #[schema(required)]
    client_id: Option<String>,
}

impl From<Connected> for ConnectedBody {
    fn from(connected: Connected) -> Self {
        Self {
            since: connected.since.to_string(),
            peer: connected.peer.to_string(),
            version: connected.version_name(),
            client_id: Some(connected.client_id.into()).filter(|id: &String| !id.is_empty()),
        }
    }
}

impl MqttShownBody {
    pub(super) fn of(protocol: Protocol, credential: Option<MqttCredential>) -> Option<Self> {
        let style = match protocol {
            Protocol::Lwm2m => return None,
            Protocol::Iotda => MqttStyle::Iotda,
            Protocol::ThingsPanel => MqttStyle::ThingsPanel,
            Protocol::QuecThing => MqttStyle::QuecThing,
        };
        Some(Self {
            style,
            credential: credential?.name(),
        })
    }
}

impl MqttBody {
    /// Whether it has something that is stored encrypted.
    pub(super) const fn has_secret(&self) -> bool {
        self.secret.is_some() || self.token.is_some()
    }

    /// A device for which a gateway speaks: it shows nothing itself.
    fn by_gateway(&self) -> Result<StoredMqtt, String> {
        let shows = self.has_secret() || self.password.is_some() || self.certificate == Some(true);
        if shows || self.style != MqttStyle::Iotda {
            return Err(
                "a device for which a gateway speaks is of style iotda, and has no secret, token, password or certificate"
                    .to_owned(),
            );
        }
        Ok(StoredMqtt {
            protocol: Protocol::Iotda,
            credential: MqttCredential::Gateway,
            token_hash: None,
            sealed: None,
        })
    }

    /// What a row of a list says. A style by itself means a certificate, or the gateway through which the device is reached.
    pub(super) fn of_columns(
        style: &str,
        secret: Option<String>,
        token: Option<String>,
        password: Option<String>,
        by_gateway: bool,
    ) -> Result<Self, String> {
        let style = match style.to_ascii_lowercase().as_str() {
            "iotda" => MqttStyle::Iotda,
            "thingspanel" => MqttStyle::ThingsPanel,
            "quecthing" => MqttStyle::QuecThing,
            _ => return Err("it is none of iotda, thingspanel and quecthing".to_owned()),
        };
        let alone = secret.is_none() && token.is_none() && password.is_none();
        Ok(Self {
            style,
            secret,
            token,
            password,
            certificate: (alone && !by_gateway).then_some(true),
            gateway: (alone && by_gateway).then_some(true),
        })
    }

    /// Its token, where it has one.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Checks it and seals what is secret, for the device named `endpoint`.
    #[expect(clippy::too_many_lines, reason = "one rule after the other")]
    pub(super) fn seal(&self, state: &ApiState, endpoint: &str) -> Result<StoredMqtt, String> {
        if endpoint.contains('+') {
            return Err(
                "a device that speaks MQTT has its name in topics, where + is a wildcard; give it another name"
                    .to_owned(),
            );
        }
        let protocol = match self.style {
            MqttStyle::Iotda => Protocol::Iotda,
            MqttStyle::ThingsPanel => Protocol::ThingsPanel,
            MqttStyle::QuecThing => Protocol::QuecThing,
        };
        for (what, given) in [
            ("a secret", &self.secret),
            ("a token", &self.token),
            ("a password", &self.password),
        ] {
            check_secret(what, given.as_deref())?;
        }
        let certificate = self.certificate == Some(true);
        if self.gateway == Some(true) {
            return self.by_gateway();
        }
        let (credential, plain) = match (self.style, &self.secret, &self.token, certificate) {
            (MqttStyle::Iotda | MqttStyle::QuecThing, Some(secret), None, false)
                if self.password.is_none() =>
            {
                let secret = SealedMqtt::Secret(secret.clone());
                (MqttCredential::Secret, Some(secret))
            }
            (MqttStyle::ThingsPanel | MqttStyle::QuecThing, None, Some(token), false) => {
                if token.contains(['/', '+', '#']) {
                    return Err("a token stands in topics, and has no /, + and #".to_owned());
                }
                let token = SealedMqtt::Token {
                    token: token.clone(),
                    password: self.password.clone(),
                };
                (MqttCredential::Token, Some(token))
            }
            (_, None, None, true) if self.password.is_none() => (MqttCredential::Certificate, None),
            _ => {
                return Err(
                    "give one of secret (iotda, quecthing), token with or without password (thingspanel, quecthing), certificate: true, \
                     and gateway: true (iotda)"
                        .to_owned(),
                );
            }
        };
        let mut stored = StoredMqtt {
            protocol,
            credential,
            token_hash: None,
            sealed: None,
        };
        if let Some(plain) = plain {
            let vault = state.vault.as_ref().ok_or(super::psk::NO_VAULT)?;
            let json = serde_json::to_vec(&plain).map_err(|error| error.to_string())?;
            let sealed = vault.seal(&StoredMqtt::purpose(endpoint), &json);
            stored.sealed = Some(sealed.map_err(|error| error.to_string())?);
            if let SealedMqtt::Token { token, .. } = &plain {
                stored.token_hash = Some(mark(vault, token));
            }
        }
        Ok(stored)
    }
}

/// What is stored of a token so that it is found.
fn mark(vault: &Vault, token: &str) -> Vec<u8> {
    vault.mark("mqtt token", token.as_bytes()).to_vec()
}

/// Adds devices, each with the token that it is given; but none whose token is another device's name, and none that speaks MQTT and
/// whose name is another device's token: whoever connects with that would be taken for one or the other. Whose it is, is not told.
pub(super) async fn add(
    state: &ApiState,
    devices: &[NewDevice],
    tokens: &[Option<String>],
) -> Result<Vec<AddedDevice>, StoreError> {
    let given = || devices.iter().zip(tokens);
    let pairs = given().filter_map(|(device, token)| Some((&*device.endpoint, token.as_deref()?)));
    let pairs: Vec<(&str, &str)> = pairs.collect();
    let over_mqtt = devices.iter().filter(|device| device.mqtt.is_some());
    let held = held(state, over_mqtt.map(|device| &*device.endpoint)).await?;
    if pairs.is_empty() && held.is_empty() {
        return state.store.add_devices(devices, state.now()).await;
    }
    let mut names = names(state, pairs.iter().map(|(_, token)| *token)).await?;
    names.extend(devices.iter().map(|device| device.endpoint.clone()));
    let is_free = |(device, token): &(&NewDevice, &Option<String>)| {
        if device.mqtt.is_some() && held.contains(&device.endpoint) {
            return false;
        }
        let token = token.as_ref().filter(|token| **token != device.endpoint);
        token.is_none_or(|token| !names.contains(token))
    };
    let free: Vec<NewDevice> = given()
        .filter(is_free)
        .map(|(device, _)| device.clone())
        .collect();
    let mut added = (state.store.add_devices(&free, state.now()).await?).into_iter();
    let answers = given().map(|pair| {
        let taken = AddedDevice::TokenTaken(String::new());
        let added = is_free(&pair).then(|| added.next()).flatten();
        added.unwrap_or(taken)
    });
    Ok(answers.collect())
}

/// Fails where the token that a device is to have is another device's name.
pub(super) async fn check_token(
    state: &ApiState,
    endpoint: &str,
    token: &str,
) -> Result<(), Problem> {
    if token != endpoint && names(state, [token].into_iter()).await?.contains(token) {
        return Err(Problem::identity_taken(told::token_taken("")));
    }
    Ok(())
}

/// Fails where the name of a device that is to speak MQTT is another one's token.
pub(super) async fn check_name(state: &ApiState, endpoint: &str) -> Result<(), Problem> {
    if held(state, [endpoint].into_iter()).await?.is_empty() {
        return Ok(());
    }
    Err(Problem::identity_taken(told::token_taken("")))
}

/// Those of these names that are tokens of other devices. Without a vault nobody has a token.
async fn held<'n>(
    state: &ApiState,
    names: impl Iterator<Item = &'n str>,
) -> Result<HashSet<String>, StoreError> {
    let Some(vault) = state.vault.as_ref() else {
        return Ok(HashSet::new());
    };
    let names: HashMap<Vec<u8>, &str> = names.map(|name| (mark(vault, name), name)).collect();
    if names.is_empty() {
        return Ok(HashSet::new());
    }
    let marks: Vec<Vec<u8>> = names.keys().cloned().collect();
    let holders = state.store.token_holders(&marks).await?;
    let held = holders.into_iter().filter_map(|(mark, holder)| {
        let name = *names.get(&mark)?;
        (holder != name).then(|| name.to_owned())
    });
    Ok(held.collect())
}

/// Those of these tokens that are names of devices.
async fn names<'t>(
    state: &ApiState,
    tokens: impl Iterator<Item = &'t str>,
) -> Result<HashSet<String>, StoreError> {
    const AT_ONCE: usize = 5_000;
    let tokens = tokens.filter(|token| check_endpoint(token.as_bytes()).is_ok());
    let tokens: Vec<String> = tokens.map(str::to_owned).collect();
    let mut names = HashSet::new();
    for part in tokens.chunks(AT_ONCE) {
        let found = state.store.devices_named(part).await?;
        names.extend(found.into_iter().map(|it| it.device.endpoint));
    }
    Ok(names)
}

fn check_secret(what: &str, given: Option<&str>) -> Result<(), String> {
    let fits = given.is_none_or(|given| {
        SECRET_BYTES.contains(&given.len()) && given.bytes().all(|byte| byte.is_ascii_graphic())
    });
    if fits {
        Ok(())
    } else {
        let (least, most) = SECRET_BYTES.into_inner();
        Err(format!(
            "{what} has {least} to {most} printable ASCII characters without spaces"
        ))
    }
}

/// What becomes of how a device shows who it is.
#[derive(Debug, Default)]
pub(super) enum MqttUpdate {
    /// It was not given.
    #[default]
    Keep,
    /// It was `null`: the device speaks LwM2M.
    Remove,
    Set(Box<MqttBody>),
}

impl<'de> Deserialize<'de> for MqttUpdate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Option::deserialize(deserializer)?;
        Ok(given.map_or(Self::Remove, |given| Self::Set(Box::new(given))))
    }
}
