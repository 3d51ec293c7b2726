//! `cellwise pcp decode`: lines of a modem's log, made readable.

mod line;

use std::{
    io::{self, Read as _},
    process::ExitCode,
};

use ::pcp::{DeviceMessage, Direction, HEADER_LEN, Message, PlatformMessage, ResultCode, Version};
use serde::Serialize;

use super::output::remark;

/// Hexadecimal digits of the longest frame, many times over: a log line may hold much between them.
const MAX_INPUT: u64 = 1024 * 1024;

/// Read PCP frames
#[derive(Debug, clap::Args)]
pub struct PcpArgs {
    #[command(subcommand)]
    command: PcpCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PcpCommand {
    /// Print a frame as JSON, or several as an array
    Decode(DecodeArgs),
}

#[derive(Debug, clap::Args)]
struct DecodeArgs {
    /// Who sent the frame; without it, every reading that fits is printed
    #[arg(long, value_enum)]
    from: Option<Side>,
    /// Frames in hexadecimal, with or without 0x, spaces, colons, or whole lines of a modem's log
    /// (`+NNMI:8,FFFE…`, `AT+QLWULDATA=…`); `-` reads standard input
    #[arg(required = true, value_name = "HEX|LINE")]
    hex: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Device,
    Platform,
}

impl Side {
    const fn direction(self) -> Direction {
        match self {
            Self::Device => Direction::FromDevice,
            Self::Platform => Direction::FromPlatform,
        }
    }
}

/// Prints the frames as JSON: one as an object, several as an array of these. Exit code 0. What is wrong with them is
/// told on standard error (1); one that cannot be read has `error` in the array, and is not printed when it is the only
/// one.
pub fn run(args: &PcpArgs) -> ExitCode {
    let PcpCommand::Decode(args) = &args.command;
    let decoded = match decode(args) {
        Ok(decoded) => decoded,
        Err(problem) => return super::print(Err(problem)),
    };
    for problem in &decoded.problems {
        remark(problem);
    }
    let printed = decoded
        .json
        .is_none_or(|json| super::print(Ok(json)) == ExitCode::SUCCESS);
    ExitCode::from(u8::from(!printed || !decoded.problems.is_empty()))
}

/// What was found in a text.
#[derive(Debug)]
struct Decoded {
    /// What can be shown of it.
    json: Option<String>,
    /// What is wrong with it.
    problems: Vec<String>,
}

fn decode(args: &DecodeArgs) -> Result<Decoded, String> {
    let dumps = line::dumps(&text(&args.hex)?)?;
    let mut items = Vec::new();
    let mut problems = Vec::new();
    for dump in &dumps {
        match &dump.bytes {
            Ok(bytes) => {
                let frames = line::frames(bytes).into_iter();
                items.extend(frames.map(|frame| Item::of(args.from, frame)));
            }
            Err(error) => items.push(Item::Wrong {
                error: error.clone(),
                bytes: None,
            }),
        }
        problems.extend(dump.contradiction.clone());
    }
    let count = items.len();
    for (number, item) in (1..).zip(&items) {
        if let Item::Wrong { error, .. } = item {
            problems.push(match count {
                1 => error.clone(),
                _ => format!("frame {number} of {count}: {error}"),
            });
        }
    }
    let json = match &items[..] {
        [Item::Wrong { .. }] => None,
        [one] => Some(serde_json::to_string_pretty(one)),
        several => Some(serde_json::to_string_pretty(several)),
    };
    let json = json.transpose().map_err(|e| e.to_string())?;
    Ok(Decoded { json, problems })
}

/// A frame as it is shown.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Item {
    /// Of a side that is given.
    One(Reading),
    /// Every reading that fits.
    All(Readings),
    /// None does.
    Wrong {
        error: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<String>,
    },
}

impl Item {
    fn of(from: Option<Side>, frame: &[u8]) -> Self {
        let item = match from {
            Some(side) => read(side, frame).map(Self::One),
            None => read_both(frame).map(Self::All),
        };
        item.unwrap_or_else(|error| Self::Wrong {
            error,
            bytes: Some(hex::encode(frame)),
        })
    }
}

fn text(arguments: &[String]) -> Result<String, String> {
    if arguments != ["-"] {
        return Ok(arguments.join(" "));
    }
    let mut text = String::new();
    io::stdin()
        .take(MAX_INPUT)
        .read_to_string(&mut text)
        .map_err(|e| format!("standard input: {e}"))?;
    Ok(text)
}

fn read(side: Side, frame: &[u8]) -> Result<Reading, String> {
    match ::pcp::decode(side.direction(), frame) {
        Ok(message) => Ok(Reading::new(side, frame, &message)),
        Err(e) => Err(format!("no valid frame: {e}")),
    }
}

fn read_both(frame: &[u8]) -> Result<Readings, String> {
    match (read(Side::Device, frame), read(Side::Platform, frame)) {
        (Err(device), Err(platform)) if device == platform => Err(device),
        (Err(device), Err(platform)) => Err(format!(
            "from a device, {device}; from a platform, {platform}"
        )),
        (device, platform) => Ok(Readings {
            readings: [device, platform].into_iter().flatten().collect(),
        }),
    }
}

#[derive(Debug, Serialize)]
struct Readings {
    readings: Vec<Reading>,
}

/// What a frame says.
#[derive(Debug, Serialize)]
struct Reading {
    from: Side,
    code: u8,
    message: &'static str,
    #[serde(flatten)]
    fields: Fields,
    check_code: String,
    data_length: usize,
    data: String,
}

/// What a message says: none has all of it.
#[derive(Debug, Default, Serialize)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ResultShown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_size: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_count: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_check_code: Option<String>,
}

#[derive(Debug, Serialize)]
struct ResultShown {
    code: u8,
    meaning: &'static str,
}

impl Reading {
    fn new(side: Side, frame: &[u8], message: &Message) -> Self {
        let (code, fields) = match message {
            Message::Device(message) => (message.code(), device(message)),
            Message::Platform(message) => (message.code(), platform(message)),
        };
        // a frame that was decoded has its header
        let (header, data) = frame.split_at(HEADER_LEN);
        Self {
            from: side,
            code: code.0,
            message: code.name().unwrap_or("reserved"),
            fields,
            check_code: hex16(u16::from_be_bytes([header[4], header[5]])),
            data_length: data.len(),
            data: hex::encode(data),
        }
    }
}

const REQUEST: Option<&str> = Some("request");
const RESPONSE: Option<&str> = Some("response");

fn device(message: &DeviceMessage) -> Fields {
    let fields = Fields::default();
    match *message {
        DeviceMessage::VersionResponse { result, version } => Fields {
            kind: RESPONSE,
            result: Some(shown(result)),
            version: version.as_ref().map(Version::to_string),
            ..fields
        },
        DeviceMessage::NotificationResponse { result }
        | DeviceMessage::ExecuteResponse { result } => Fields {
            kind: RESPONSE,
            result: Some(shown(result)),
            ..fields
        },
        DeviceMessage::SegmentRequest { version, segment } => Fields {
            kind: REQUEST,
            version: Some(version.to_string()),
            segment: Some(segment),
            ..fields
        },
        DeviceMessage::DownloadReport { status } => Fields {
            kind: REQUEST,
            result: Some(shown(status)),
            ..fields
        },
        DeviceMessage::UpgradeReport { result, version } => Fields {
            kind: REQUEST,
            result: Some(shown(result)),
            version: Some(version.to_string()),
            ..fields
        },
        DeviceMessage::Unknown { .. } => fields,
    }
}

fn platform(message: &PlatformMessage) -> Fields {
    let fields = Fields::default();
    match *message {
        PlatformMessage::VersionQuery | PlatformMessage::Execute => Fields {
            kind: REQUEST,
            ..fields
        },
        PlatformMessage::NewVersion {
            version,
            segment_size,
            segment_count,
            check_code,
        } => Fields {
            kind: REQUEST,
            version: Some(version.to_string()),
            segment_size: Some(segment_size),
            segment_count: Some(segment_count),
            version_check_code: Some(hex16(check_code)),
            ..fields
        },
        PlatformMessage::SegmentResponse {
            result,
            segment,
            data,
        } => Fields {
            kind: RESPONSE,
            result: Some(shown(result)),
            segment,
            segment_length: Some(data.len()).filter(|len| *len > 0),
            ..fields
        },
        PlatformMessage::DownloadReportResponse { result }
        | PlatformMessage::UpgradeReportResponse { result } => Fields {
            kind: RESPONSE,
            result: Some(shown(result)),
            ..fields
        },
        PlatformMessage::Unknown { .. } => fields,
    }
}

fn shown(result: ResultCode) -> ResultShown {
    ResultShown {
        code: result.0,
        meaning: result.meaning().unwrap_or("unknown"),
    }
}

fn hex16(value: u16) -> String {
    format!("0x{value:04X}")
}

#[cfg(test)]
mod tests;
