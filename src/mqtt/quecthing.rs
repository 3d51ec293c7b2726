//! What devices with `QuecThing` say of upgrades, and what they are told: frames on `q/2/d/{id}/ota` and `q/1/d/{id}/ota`.
//!
//! ```text
//! [0115 asks for a plan] ─▶ 0111 plan ─▶ 0114 status 1 ─▶ 2 (or 3: refused) ─▶ 0113 where the package is ─▶ 4, 5 …, 8, 9 ─▶ 11 or 12
//! ```
//!
//! Commands, fields and states are those of the public description of Quectel's Acceleronix Developer Center; the layout is also in
//! `jordankurtz/ha-pecron-local` on GitHub. What the description leaves open stands in docs/quecthing.md.

pub mod frame;
pub mod ttlv;

use crate::{
    config::QuecChecksum,
    ledger::{Conditions, MAX_DESCRIPTION},
    package::Version,
};
use frame::{Frame, FrameError};
use ttlv::{Field, FieldError, Value};

/// Commands.
mod command {
    /// A plan, to the device.
    pub(super) const PLAN: u16 = 0x0111;
    /// Where the package of a confirmed plan is, to the device.
    pub(super) const PACKAGE: u16 = 0x0113;
    /// How an upgrade goes, of the device.
    pub(super) const STATUS: u16 = 0x0114;
    /// The device asks for its plan.
    pub(super) const ASKS: u16 = 0x0115;
}

/// IDs of fields.
mod id {
    pub(super) const URL: u16 = 1;
    pub(super) const SIZE: u16 = 2;
    pub(super) const COMPONENT: u16 = 4;
    pub(super) const SOURCE_VERSION: u16 = 5;
    pub(super) const TARGET_VERSION: u16 = 6;
    pub(super) const KIND: u16 = 7;
    pub(super) const BATTERY: u16 = 8;
    pub(super) const SPACE: u16 = 9;
    pub(super) const SIGNAL: u16 = 10;
    pub(super) const STATUS: u16 = 13;
    pub(super) const MESSAGE: u16 = 14;
    pub(super) const SHA256: u16 = 16;
    pub(super) const MODULE_VERSION: u16 = 25;
    pub(super) const MCU_VERSION: u16 = 26;
}

/// What of a device is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The module's own firmware.
    Module,
    /// What runs on the controller beside it.
    Mcu,
}

/// What a device says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is about.
    pub what: What,
    /// The component that it names, cut to 64 characters.
    pub component: Option<String>,
    /// The version of the module that it tells.
    pub module_version: Option<Version>,
    /// That of the controller.
    pub mcu_version: Option<Version>,
    /// The version that it has, of whatever component it is about.
    pub source_version: Option<Version>,
    /// What it says in words, cut to [`MAX_DESCRIPTION`] characters.
    pub words: Option<String>,
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The device asks for its plan.
    AsksForPlan,
    /// How its upgrade goes.
    Status(Status),
    /// Something else than upgrades, with this command.
    Other(u16),
}

/// How an upgrade goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 0: it has none.
    None,
    /// 1: the plan was received.
    PlanReceived,
    /// 2: it was confirmed: the device waits for the URL.
    Confirmed,
    /// 3: it was refused.
    Refused,
    /// 4: the download begins.
    DownloadBegins,
    /// 5: it goes on.
    Downloading,
    /// 6: it has broken off; the device tries again.
    DownloadError,
    /// 8: the package is there.
    Downloaded,
    /// 9: it is installed.
    Updating,
    /// 11: the upgrade has succeeded.
    Succeeded,
    /// 12: it has failed.
    Failed,
    /// A number that the description does not have.
    Unknown(u64),
}

impl Status {
    const fn of(number: u64) -> Self {
        match number {
            0 => Self::None,
            1 => Self::PlanReceived,
            2 => Self::Confirmed,
            3 => Self::Refused,
            4 => Self::DownloadBegins,
            5 => Self::Downloading,
            6 => Self::DownloadError,
            8 => Self::Downloaded,
            9 => Self::Updating,
            11 => Self::Succeeded,
            12 => Self::Failed,
            other => Self::Unknown(other),
        }
    }
}

/// A payload that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no frame.
    #[error("it is no frame: {0}")]
    Frame(#[from] FrameError),
    /// A frame about upgrades holds no fields.
    #[error("a frame holds no fields: {0}")]
    Fields(#[from] FieldError),
    /// A report has no status.
    #[error("a report has no status")]
    NoStatus,
}

/// What a device publishes on `q/2/d/{id}/ota`: one message, or several.
///
/// # Errors
/// The payload cannot be read.
pub fn read(payload: &[u8], checksum: QuecChecksum) -> Result<Vec<Message>, Unreadable> {
    let frames = frame::read(payload, checksum)?;
    frames.iter().map(message).collect()
}

fn message(frame: &Frame) -> Result<Message, Unreadable> {
    let mut message = Message {
        what: What::Other(frame.command),
        component: None,
        module_version: None,
        mcu_version: None,
        source_version: None,
        words: None,
    };
    if !matches!(frame.command, command::ASKS | command::STATUS) {
        return Ok(message);
    }
    let fields = ttlv::read(&frame.payload)?;
    message.component = text(&fields, id::COMPONENT, 64);
    message.module_version = version(&fields, id::MODULE_VERSION);
    message.mcu_version = version(&fields, id::MCU_VERSION);
    message.source_version = version(&fields, id::SOURCE_VERSION);
    message.words = text(&fields, id::MESSAGE, MAX_DESCRIPTION);
    message.what = if frame.command == command::ASKS {
        What::AsksForPlan
    } else {
        let status = field(&fields, id::STATUS).and_then(Value::as_number);
        What::Status(Status::of(status.ok_or(Unreadable::NoStatus)?))
    };
    Ok(message)
}

/// The field of that ID, where it is told: beside the others, or in a struct.
fn field(fields: &[Field], id: u16) -> Option<&Value> {
    let own = fields.iter().find(|field| field.id == id);
    own.map(|field| &field.value).or_else(|| {
        fields.iter().find_map(|field| match &field.value {
            Value::Struct(within) => self::field(within, id),
            Value::Bool(_) | Value::Number { .. } | Value::Bytes(_) => None,
        })
    })
}

fn bytes(fields: &[Field], id: u16) -> Option<&[u8]> {
    match field(fields, id)? {
        Value::Bytes(bytes) if !bytes.is_empty() => Some(bytes),
        _ => None,
    }
}

fn text(fields: &[Field], id: u16, most: usize) -> Option<String> {
    let text = String::from_utf8_lossy(bytes(fields, id)?);
    Some(text.chars().take(most).collect())
}

fn version(fields: &[Field], id: u16) -> Option<Version> {
    Some(Version::told(bytes(fields, id)?))
}

impl Message {
    /// The version that it tells of that part.
    pub fn version_of(&self, part: Part) -> Option<Version> {
        let own = match part {
            Part::Module => self.module_version,
            Part::Mcu => self.mcu_version,
        };
        own.or(self.source_version)
    }
}

/// What a device is offered.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Which part of it.
    pub part: Part,
    /// The component, where the product says which.
    pub component: Option<&'a str>,
    /// The version that it is known to run.
    pub from: Option<&'a str>,
    /// The version of the package.
    pub to: &'a str,
    /// What has to hold at the device: its charge, its space, its signal.
    pub conditions: Conditions,
}

/// Where a package is.
#[derive(Debug, Clone, Copy)]
pub struct Package<'a> {
    /// The component, where the product says which.
    pub component: Option<&'a str>,
    /// Its version.
    pub version: &'a str,
    /// Where it is fetched.
    pub url: &'a str,
    /// Its bytes.
    pub size_bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal digits.
    pub sha256: &'a str,
}

fn field_of(id: u16, text: Option<&str>) -> Option<Field> {
    let value = Value::text(text?);
    Some(Field { id, value })
}

const fn number_of(id: u16, number: u64) -> Field {
    let value = Value::number(number);
    Field { id, value }
}

fn framed<const N: usize>(
    command: u16,
    number: u64,
    fields: [Option<Field>; N],
    checksum: QuecChecksum,
) -> Vec<u8> {
    let fields: Vec<Field> = fields.into_iter().flatten().collect();
    // neither 0 nor 0xFFFF
    let packet_id = u16::try_from(number % 0xFFFE + 1).unwrap_or(1);
    let frame = Frame {
        packet_id,
        command,
        payload: ttlv::write(&fields),
    };
    frame.to_bytes(checksum)
}

impl Plan<'_> {
    /// The plan (0x0111). `number` tells it from other messages to the device.
    pub fn to_bytes(self, number: u64, checksum: QuecChecksum) -> Vec<u8> {
        let kind = match self.part {
            Part::Module => 0,
            Part::Mcu => 1,
        };
        let Conditions {
            battery_percent,
            space_kib,
            signal_dbm,
        } = self.conditions;
        let fields = [
            field_of(id::COMPONENT, self.component),
            field_of(id::SOURCE_VERSION, self.from),
            field_of(id::TARGET_VERSION, Some(self.to)),
            Some(number_of(id::KIND, kind)),
            (battery_percent).map(|percent| number_of(id::BATTERY, u64::from(percent))),
            space_kib.map(|kib| number_of(id::SPACE, u64::from(kib))),
            signal_dbm.map(|dbm| Field {
                id: id::SIGNAL,
                value: Value::Number {
                    negative: dbm < 0,
                    decimals: 0,
                    magnitude: u64::from(dbm.unsigned_abs()),
                },
            }),
        ];
        framed(command::PLAN, number, fields, checksum)
    }
}

/// That there is no plan (0x0111 with status 0).
pub fn no_plan(number: u64, checksum: QuecChecksum) -> Vec<u8> {
    framed(
        command::PLAN,
        number,
        [Some(number_of(id::STATUS, 0))],
        checksum,
    )
}

impl Package<'_> {
    /// Where it is (0x0113).
    pub fn to_bytes(self, number: u64, checksum: QuecChecksum) -> Vec<u8> {
        let fields = [
            field_of(id::COMPONENT, self.component),
            field_of(id::TARGET_VERSION, Some(self.version)),
            field_of(id::URL, Some(self.url)),
            Some(number_of(id::SIZE, self.size_bytes)),
            field_of(id::SHA256, Some(self.sha256)),
        ];
        framed(command::PACKAGE, number, fields, checksum)
    }
}

#[cfg(test)]
mod tests;
