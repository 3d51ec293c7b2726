//! Attributes and tags as options of a command.

use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};

/// A tag: `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    key: String,
    value: String,
}

impl FromStr for Tag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("it is not KEY=VALUE")?;
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// What the operator says of devices.
#[derive(Debug, Default, Args)]
pub(super) struct Described {
    /// What is sold, up to 64 characters.
    #[arg(long)]
    pub(super) model: Option<String>,
    /// The revision of the hardware, up to 64 characters.
    #[arg(long)]
    pub(super) hardware: Option<String>,
    /// Where it is, up to 128 characters.
    #[arg(long)]
    pub(super) site: Option<String>,
    /// The time zone there, an IANA name such as Europe/Berlin.
    #[arg(long, value_name = "ZONE")]
    pub(super) time_zone: Option<String>,
    /// A tag; may be given several times. A key has up to 64 of A-Z a-z 0-9 . _ -, a value up to 256 characters.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(super) tags: Vec<Tag>,
}

impl Described {
    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.attributes().iter().all(|(_, value)| value.is_none()) && self.tags.is_empty()
    }

    /// The attributes by the names of their fields.
    pub(super) fn attributes(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("model", self.model.as_deref()),
            ("hardware", self.hardware.as_deref()),
            ("site", self.site.as_deref()),
            ("time_zone", self.time_zone.as_deref()),
        ]
    }

    /// Adds what is said to a device.
    pub(super) fn add_to(&self, device: &mut Value) {
        for (name, value) in self.attributes() {
            if let Some(value) = value {
                device[name] = json!(value);
            }
        }
        for tag in &self.tags {
            device["tags"][&tag.key] = json!(tag.value);
        }
    }
}
