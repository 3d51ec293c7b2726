//! Messages of QuecThing (Quectel's Acceleronix): topics, frames, and the fields in them.
//!
//! Sources: the public description of the Acceleronix Developer Center, and
//! <https://github.com/jordankurtz/ha-pecron-local>, which speaks the same frames to a device.

use super::spec::Spec;

/// Commands of the device.
const ASKS: u16 = 0x0115;
const STATUS: u16 = 0x0114;

/// How an upgrade goes, as it is numbered.
pub(super) mod status {
    pub(in super::super) const PLAN_RECEIVED: u8 = 1;
    pub(in super::super) const CONFIRMED: u8 = 2;
    pub(in super::super) const REFUSED: u8 = 3;
    pub(in super::super) const BEGINS: u8 = 4;
    pub(in super::super) const DOWNLOADING: u8 = 5;
    pub(in super::super) const DOWNLOAD_ERROR: u8 = 6;
    pub(in super::super) const DOWNLOADED: u8 = 8;
    pub(in super::super) const UPDATING: u8 = 9;
    pub(in super::super) const SUCCEEDED: u8 = 11;
    pub(in super::super) const FAILED: u8 = 12;
}

/// Where the device hears of plans.
pub(super) fn topic_down(spec: &Spec) -> String {
    format!("q/1/d/{}/ota", spec.device)
}

/// What it subscribes to.
pub(super) fn filter(spec: &Spec) -> String {
    format!("q/1/d/{}/+", spec.device)
}

/// Where it speaks of upgrades.
pub(super) fn topic_up(spec: &Spec) -> String {
    format!("q/2/d/{}/ota", spec.device)
}

/// What a device is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// There is no plan.
    NoPlan,
    /// A plan.
    Plan,
    /// Where the package of the plan is.
    Package {
        url: String,
        version: String,
        /// Bytes, 0 if it was not told.
        size: u64,
        /// In hexadecimal digits; empty if it was not told.
        sha256: String,
    },
}

/// The question for a plan.
pub(super) fn asks(packet: u16, version: &str) -> Vec<u8> {
    frame(packet, ASKS, &bytes_field(25, version.as_bytes()))
}

/// How the upgrade goes, the version where it is told, and some words.
pub(super) fn reports(packet: u16, status: u8, version: Option<&str>, words: &str) -> Vec<u8> {
    let mut fields = number_field(13, status);
    if let Some(version) = version {
        fields.append(&mut bytes_field(25, version.as_bytes()));
    }
    if !words.is_empty() {
        fields.append(&mut bytes_field(14, words.as_bytes()));
    }
    frame(packet, STATUS, &fields)
}

fn number_field(field: u16, number: u8) -> Vec<u8> {
    let [high, low] = (field * 8 + 2).to_be_bytes();
    vec![high, low, 0, number]
}

fn bytes_field(field: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(0);
    let mut bytes = (field * 8 + 3).to_be_bytes().to_vec();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&content[..length.into()]);
    bytes
}

fn frame(packet: u16, command: u16, fields: &[u8]) -> Vec<u8> {
    let checked = [&packet.to_be_bytes(), &command.to_be_bytes(), fields].concat();
    let sum = checked.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let length = u16::try_from(checked.len() + 1).unwrap_or(u16::MAX);
    let mut plain = length.to_be_bytes().to_vec();
    plain.push(sum.to_le_bytes()[0]);
    plain.extend_from_slice(&checked);
    let mut written = vec![0xAA, 0xAA];
    let mut after_mark = false;
    for byte in plain {
        if after_mark && matches!(byte, 0xAA | 0x55) {
            written.push(0x55);
        }
        written.push(byte);
        after_mark = byte == 0xAA;
    }
    written
}

/// What a device says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It asks for its plan, and runs this version.
    Asks(String),
    /// It has succeeded, and runs this version, where it says that.
    Succeeded(Option<String>),
}

/// Reads what a device says of its version; `None` if it says nothing of it.
pub fn said(payload: &[u8]) -> Option<Said> {
    let (command, fields) = content(payload)?;
    let version = text(&fields, 25);
    match command {
        ASKS => version.map(Said::Asks),
        STATUS if number(&fields, 13) == Some(status::SUCCEEDED.into()) => {
            Some(Said::Succeeded(version))
        }
        _ => None,
    }
}

/// Whether a device is told of a package: a plan, or where that is.
pub fn is_offer(payload: &[u8]) -> bool {
    matches!(read(payload), Some(Told::Plan | Told::Package { .. }))
}

/// Reads what a device is told; `None` if it is nothing that it understands.
pub(super) fn read(payload: &[u8]) -> Option<Told> {
    let (command, fields) = content(payload)?;
    let text = |id| text(&fields, id);
    let number = |id| number(&fields, id);
    match command {
        0x0111 if number(13) == Some(0) => Some(Told::NoPlan),
        0x0111 => text(6).map(|_| Told::Plan),
        0x0113 => Some(Told::Package {
            url: text(1)?,
            version: text(6)?,
            size: number(2).unwrap_or(0),
            sha256: text(16).unwrap_or_default(),
        }),
        _ => None,
    }
}

/// The command of a frame, and its fields.
fn content(payload: &[u8]) -> Option<(u16, Vec<Field>)> {
    let plain = plain(payload.strip_prefix(&[0xAA, 0xAA])?);
    let (length, rest) = plain.split_first_chunk::<2>()?;
    if rest.len() != usize::from(u16::from_be_bytes(*length)) {
        return None;
    }
    let (check, checked) = rest.split_first()?;
    let sum = checked.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    if sum.to_le_bytes()[0] != *check {
        return None;
    }
    let (packet, rest) = checked.split_first_chunk::<2>()?;
    if matches!(u16::from_be_bytes(*packet), 0 | 0xFFFF) {
        return None;
    }
    let (command, fields) = rest.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*command), self::fields(fields)?))
}

fn text(fields: &[Field], id: u16) -> Option<String> {
    let content = fields.iter().find(|field| field.id == id)?;
    String::from_utf8(content.bytes.clone()).ok()
}

fn number(fields: &[Field], id: u16) -> Option<u64> {
    Some(fields.iter().find(|field| field.id == id)?.number)
}

/// Without what was written between.
fn plain(written: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(written.len());
    let mut bytes = written.iter().peekable();
    while let Some(byte) = bytes.next() {
        plain.push(*byte);
        if *byte == 0xAA && bytes.peek() == Some(&&0x55) {
            bytes.next();
        }
    }
    plain
}

struct Field {
    id: u16,
    number: u64,
    bytes: Vec<u8>,
}

/// Fields that are numbers or texts; the server sends no others.
fn fields(mut rest: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (tag, after) = rest.split_first_chunk::<2>()?;
        let tag = u16::from_be_bytes(*tag);
        let (number, bytes, after) = match tag % 8 {
            kind @ (0 | 1) => (u64::from(kind), Vec::new(), after),
            2 => {
                let (meta, after) = after.split_first()?;
                let (digits, after) = after.split_at_checked(usize::from(meta % 8) + 1)?;
                let number = digits
                    .iter()
                    .fold(0, |sum, byte| sum * 256 + u64::from(*byte));
                (number, Vec::new(), after)
            }
            3 => {
                let (length, after) = after.split_first_chunk::<2>()?;
                let length = usize::from(u16::from_be_bytes(*length));
                let (content, after) = after.split_at_checked(length)?;
                (0, content.to_vec(), after)
            }
            _ => return None,
        };
        fields.push(Field {
            id: tag / 8,
            number,
            bytes,
        });
        rest = after;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_says_is_framed_as_it_is_described() {
        let asks = asks(0x0102, "V1");
        let right = "aaaa000b 6d 0102 0115 00cb 0002 5631".replace(' ', "");
        assert_eq!(hex::encode(asks), right);
        // AA before 55 and before AA
        let written = frame(0xAA55, 0x01AA, &[0xAA, 0xAA]);
        let right = "aaaa0007feaa555501aa55aa55aa";
        assert_eq!(hex::encode(written), right);
        assert_eq!(
            plain(&[1, 0xAA, 0x55, 0x55, 0xAA, 0x55, 0xAA]),
            [1, 0xAA, 0x55, 0xAA, 0xAA]
        );
    }

    #[test]
    fn plans_and_packages_are_read() {
        let none = frame(7, 0x0111, &number_field(13, 0));
        assert_eq!(read(&none), Some(Told::NoPlan));
        let plan = frame(7, 0x0111, &bytes_field(6, b"V2"));
        assert_eq!(read(&plan), Some(Told::Plan));
        let fields = [
            bytes_field(1, b"http://h/p"),
            vec![0, 18, 1, 3, 0xE8],
            bytes_field(6, b"V2"),
            bytes_field(16, b"ab"),
        ];
        let package = frame(9, 0x0113, &fields.concat());
        let told = Told::Package {
            url: "http://h/p".into(),
            version: "V2".into(),
            size: 1_000,
            sha256: "ab".into(),
        };
        assert_eq!(read(&package), Some(told));
        assert!(is_offer(&plan) && is_offer(&package) && !is_offer(&none));
        let mut wrong = package;
        wrong[4] ^= 1;
        assert_eq!(read(&wrong), None);
    }

    #[test]
    fn what_a_device_says_of_its_version_is_read_back() {
        let runs = Said::Asks("V1".to_owned());
        assert_eq!(said(&asks(1, "V1")), Some(runs));
        let through = reports(2, status::SUCCEEDED, Some("V2"), "");
        let succeeded = Said::Succeeded(Some("V2".to_owned()));
        assert_eq!(said(&through), Some(succeeded));
        let through = reports(2, status::SUCCEEDED, None, "");
        assert_eq!(said(&through), Some(Said::Succeeded(None)));
        assert_eq!(said(&reports(3, status::DOWNLOADING, None, "")), None);
        assert_eq!(said(b"{}"), None);
    }
}
