//! `cellwise pcp decode`: a line of a modem's log, made readable.

use std::{
    io::{self, Read as _},
    process::ExitCode,
};

use ::pcp::{DeviceMessage, Direction, HEADER_LEN, Message, PlatformMessage, ResultCode, Version};
use serde::Serialize;

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
    /// Print a frame as JSON
    Decode(DecodeArgs),
}

#[derive(Debug, clap::Args)]
struct DecodeArgs {
    /// Who sent the frame; without it, every reading that fits is printed
    #[arg(long, value_enum)]
    from: Option<Side>,
    /// The frame in hexadecimal, with or without 0x, spaces, colons; `-` reads standard input
    #[arg(required = true, value_name = "HEX")]
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

/// Prints the frame as JSON (exit code 0), or what is wrong with it on standard error (1).
pub fn run(args: &PcpArgs) -> ExitCode {
    let PcpCommand::Decode(args) = &args.command;
    super::print(decode(args))
}

fn decode(args: &DecodeArgs) -> Result<String, String> {
    let frame = bytes(&text(&args.hex)?)?;
    let json = match args.from {
        Some(side) => serde_json::to_string_pretty(&read(side, &frame)?),
        None => serde_json::to_string_pretty(&read_both(&frame)?),
    };
    json.map_err(|e| e.to_string())
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

/// The bytes of a hex dump: pairs of digits, with whatever is usual between them.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut digits = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || ":,-".contains(c)) {
        let word = word
            .strip_prefix("0x")
            .or_else(|| word.strip_prefix("0X"))
            .unwrap_or(word);
        if let Some(other) = word.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(format!("not hexadecimal: {other:?}"));
        }
        digits.push_str(word);
    }
    if digits.is_empty() {
        return Err("no hexadecimal digits".into());
    }
    hex::decode(&digits)
        .map_err(|_| format!("{} hexadecimal digits make no whole bytes", digits.len()))
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

/// A frame as it is shown.
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
