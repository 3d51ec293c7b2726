//! The columns of a list, and what its rows say of a device.

use std::collections::BTreeSet;

use crate::{
    api::{
        ApiState,
        devices::{
            mqtt::MqttBody,
            psk::{self, PskBody},
        },
        packages::default_product,
    },
    config::check_product_name,
    ledger::{Attribute, AttributeColumn, AttributesChange},
    lwm2m::check_endpoint,
    store::NewDevice,
};

/// What a column is.
#[derive(Debug, PartialEq, Eq)]
enum Column {
    Endpoint,
    Product,
    Identity,
    Key,
    Via,
    Style,
    Secret,
    Token,
    Password,
    Attribute(AttributeColumn),
}

/// The columns of a list, in their order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns(Vec<Column>);

/// Why a row is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The column that it is about.
    pub(super) column: Option<String>,
    pub(super) detail: String,
}

impl Refused {
    /// It is about the whole row.
    pub(super) fn row(detail: String) -> Self {
        Self {
            column: None,
            detail,
        }
    }
}

impl Column {
    fn named(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "endpoint" => return Ok(Self::Endpoint),
            "product" => return Ok(Self::Product),
            "identity" => return Ok(Self::Identity),
            "key" => return Ok(Self::Key),
            "via" => return Ok(Self::Via),
            "style" => return Ok(Self::Style),
            "secret" => return Ok(Self::Secret),
            "token" => return Ok(Self::Token),
            "password" => return Ok(Self::Password),
            _ => {}
        }
        match AttributeColumn::named(name) {
            Ok(Some(column)) => Ok(Self::Attribute(column)),
            Ok(None) => {
                let attributes = Attribute::ALL.map(Attribute::name).join(", ");
                Err(format!(
                    "there is no column {:?}; there are endpoint, product, identity, key, style, secret, token, password, via, \
                     {attributes}, and tag.KEY",
                    name.chars().take(80).collect::<String>()
                ))
            }
            Err(error) => Err(format!("column tag.…: {error}")),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Endpoint => "endpoint".to_owned(),
            Self::Product => "product".to_owned(),
            Self::Identity => "identity".to_owned(),
            Self::Key => "key".to_owned(),
            Self::Via => "via".to_owned(),
            Self::Style => "style".to_owned(),
            Self::Secret => "secret".to_owned(),
            Self::Token => "token".to_owned(),
            Self::Password => "password".to_owned(),
            Self::Attribute(AttributeColumn::Attribute(attribute)) => attribute.name().to_owned(),
            Self::Attribute(AttributeColumn::Tag(key)) => format!("tag.{key}"),
        }
    }
}

impl Columns {
    /// The columns that the fields of the first row name.
    pub(super) fn named<'f>(fields: impl Iterator<Item = &'f [u8]>) -> Result<Self, String> {
        let mut columns = Vec::new();
        let mut seen = BTreeSet::new();
        for field in fields {
            let name =
                str::from_utf8(field).map_err(|_| "the first line is not UTF-8".to_owned())?;
            let column = Column::named(name.trim())?;
            if !seen.insert(column.name()) {
                return Err(format!("column {} is there twice", column.name()));
            }
            columns.push(column);
        }
        if !seen.contains("endpoint") {
            return Err("there is no column endpoint; the first line names the columns".to_owned());
        }
        if seen.contains("identity") && !seen.contains("key") {
            return Err("there is a column identity, and none that is called key".to_owned());
        }
        for secret in ["secret", "token", "password"] {
            if seen.contains(secret) && !seen.contains("style") {
                return Err(format!(
                    "there is a column {secret}, and none that is called style"
                ));
            }
        }
        Ok(Self(columns))
    }

    /// Whether there are keys, secrets or tokens in the list.
    pub(super) fn have_keys(&self) -> bool {
        let sealed = [Column::Key, Column::Secret, Column::Token];
        sealed.iter().any(|column| self.0.contains(column))
    }

    /// What the fields of a row say, and the token that the device is given. An empty field says nothing. A style by itself means
    /// a certificate.
    #[expect(clippy::too_many_lines, reason = "one column after the other")]
    pub(super) fn device<'f>(
        &self,
        fields: impl ExactSizeIterator<Item = &'f [u8]>,
        state: &ApiState,
    ) -> Result<(NewDevice, Option<String>), Refused> {
        let (count, expected) = (fields.len(), self.0.len());
        if count != expected {
            let detail = format!("it has {count} fields, and the first line {expected}");
            return Err(Refused::row(detail));
        }
        let mut device = NewDevice {
            endpoint: String::new(),
            product: default_product(),
            psk: None,
            mqtt: None,
            attributes: AttributesChange::default(),
            via: None,
        };
        let (mut identity, mut key) = (None, None);
        let (mut style, mut secret, mut token, mut password) = (None, None, None, None);
        for (column, field) in self.0.iter().zip(fields) {
            if field.is_empty() {
                continue;
            }
            // the value is not told: it may be the key
            let wrong = |detail: String| Refused {
                column: Some(column.name()),
                detail,
            };
            let value = str::from_utf8(field).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
            let value = value.to_owned();
            match column {
                Column::Endpoint => device.endpoint = value,
                Column::Product => {
                    check_product_name(&value).map_err(|error| wrong(error.to_owned()))?;
                    device.product = value;
                }
                Column::Identity => identity = Some(value),
                Column::Key => key = Some(value),
                Column::Via => {
                    check_endpoint(value.as_bytes()).map_err(|error| wrong(error.to_string()))?;
                    device.via = Some(value);
                }
                Column::Style => style = Some(value),
                Column::Secret => secret = Some(value),
                Column::Token => token = Some(value),
                Column::Password => password = Some(value),
                Column::Attribute(column) => (device.attributes)
                    .set_column(column, value)
                    .map_err(|error| wrong(error.to_string()))?,
            }
        }
        let wrong = |column: &Column, detail: String| Refused {
            column: Some(column.name()),
            detail,
        };
        check_endpoint(device.endpoint.as_bytes())
            .map_err(|error| wrong(&Column::Endpoint, error.to_string()))?;
        device.psk = match (identity, key) {
            (_, None) => None,
            (identity, Some(key)) => {
                let psk = PskBody { identity, key }.seal(state, &device.endpoint);
                Some(psk.map_err(|detail| wrong(&Column::Key, detail))?)
            }
        };
        if let Some(style) = style {
            if device.psk.is_some() {
                return Err(wrong(&Column::Style, psk::OR_MQTT.to_owned()));
            }
            let mqtt = MqttBody::of_columns(
                &style,
                secret,
                token.clone(),
                password,
                device.via.is_some(),
            )
            .and_then(|mqtt| mqtt.seal(state, &device.endpoint));
            device.mqtt = Some(mqtt.map_err(|detail| wrong(&Column::Style, detail))?);
        } else if secret.is_some() || token.is_some() || password.is_some() {
            let detail = "it has a secret, a token or a password, and no style: iotda, thingspanel or quecthing";
            return Err(wrong(&Column::Style, detail.to_owned()));
        }
        Ok((device, token))
    }
}
