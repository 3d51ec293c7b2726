use crate::{
    DecodeError, Direction, EncodeError, HEADER_LEN, MessageCode, ResultCode, Version,
    frame::{self, Frame},
};

/// What a device sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceMessage<'a> {
    /// 19: the version that the device runs.
    VersionResponse {
        /// Whether the device could say.
        result: ResultCode,
        /// There when `result` is success; some devices send one with a failure, too.
        version: Option<Version>,
    },
    /// 20: whether the device takes the new version.
    NotificationResponse {
        /// Success means that it will ask for segments.
        result: ResultCode,
    },
    /// 21: asks for one segment.
    SegmentRequest {
        /// The version whose package it is.
        version: Version,
        /// The segment's number, from 0.
        segment: u16,
    },
    /// 22: how the download ended.
    DownloadReport {
        /// Success means that the device holds the whole package.
        status: ResultCode,
    },
    /// 23: whether the device begins to upgrade.
    ExecuteResponse {
        /// Success means that it does.
        result: ResultCode,
    },
    /// 24: how the upgrade ended.
    UpgradeReport {
        /// Whether it succeeded.
        result: ResultCode,
        /// The version that runs now.
        version: Version,
    },
    /// A code that the protocol reserves.
    Unknown {
        /// The code.
        code: MessageCode,
        /// Everything after the header.
        data: &'a [u8],
    },
}

impl<'a> DeviceMessage<'a> {
    /// Reads a frame that a device sent.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let frame = Frame::parse(Direction::FromDevice, bytes)?;
        Ok(match frame.code {
            MessageCode::VERSION_QUERY => version_response(&frame)?,
            MessageCode::NEW_VERSION => {
                let [result] = *frame.exactly("1")?;
                Self::NotificationResponse {
                    result: ResultCode(result),
                }
            }
            MessageCode::SEGMENT_REQUEST => match frame::split_version(frame.data) {
                Some((version, &[high, low])) => Self::SegmentRequest {
                    version,
                    segment: u16::from_be_bytes([high, low]),
                },
                _ => return Err(frame.wrong_length("18")),
            },
            MessageCode::DOWNLOAD_REPORT => {
                let [status] = *frame.exactly("1")?;
                Self::DownloadReport {
                    status: ResultCode(status),
                }
            }
            MessageCode::EXECUTE => {
                let [result] = *frame.exactly("1")?;
                Self::ExecuteResponse {
                    result: ResultCode(result),
                }
            }
            MessageCode::UPGRADE_REPORT => {
                let (result, version) =
                    result_and_version(frame.data).ok_or_else(|| frame.wrong_length("17"))?;
                Self::UpgradeReport { result, version }
            }
            code => Self::Unknown {
                code,
                data: frame.data,
            },
        })
    }

    /// The message's code.
    pub const fn code(&self) -> MessageCode {
        match self {
            Self::VersionResponse { .. } => MessageCode::VERSION_QUERY,
            Self::NotificationResponse { .. } => MessageCode::NEW_VERSION,
            Self::SegmentRequest { .. } => MessageCode::SEGMENT_REQUEST,
            Self::DownloadReport { .. } => MessageCode::DOWNLOAD_REPORT,
            Self::ExecuteResponse { .. } => MessageCode::EXECUTE,
            Self::UpgradeReport { .. } => MessageCode::UPGRADE_REPORT,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Bytes of the frame that [`Self::encode`] writes.
    pub const fn encoded_len(&self) -> usize {
        HEADER_LEN
            + match self {
                Self::VersionResponse {
                    version: Some(_), ..
                }
                | Self::UpgradeReport { .. } => 17,
                Self::VersionResponse { version: None, .. }
                | Self::NotificationResponse { .. }
                | Self::DownloadReport { .. }
                | Self::ExecuteResponse { .. } => 1,
                Self::SegmentRequest { .. } => 18,
                Self::Unknown { data, .. } => data.len(),
            }
    }

    /// Writes the frame to the front of `buf`, and hands that part back.
    pub fn encode<'b>(&self, buf: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        let code = self.code();
        match self {
            Self::VersionResponse {
                result,
                version: Some(version),
            }
            | Self::UpgradeReport { result, version } => {
                frame::write(code, &[&[result.0], version.as_bytes()], buf)
            }
            Self::VersionResponse {
                result,
                version: None,
            } if result.is_success() => Err(EncodeError::MissingVersion),
            Self::SegmentRequest { version, segment } => {
                frame::write(code, &[version.as_bytes(), &segment.to_be_bytes()], buf)
            }
            Self::VersionResponse {
                result,
                version: None,
            }
            | Self::NotificationResponse { result }
            | Self::DownloadReport { status: result }
            | Self::ExecuteResponse { result } => frame::write(code, &[&[result.0]], buf),
            Self::Unknown { code, .. } if code.name().is_some() => {
                Err(EncodeError::KnownCode { code: *code })
            }
            Self::Unknown { code, data } => frame::write(*code, &[data], buf),
        }
    }
}

fn version_response<'a>(frame: &Frame<'a>) -> Result<DeviceMessage<'a>, DecodeError> {
    if let [result] = *frame.data {
        let result = ResultCode(result);
        return if result.is_success() {
            Err(DecodeError::MissingVersion)
        } else {
            Ok(DeviceMessage::VersionResponse {
                result,
                version: None,
            })
        };
    }
    let (result, version) =
        result_and_version(frame.data).ok_or_else(|| frame.wrong_length("1 or 17"))?;
    Ok(DeviceMessage::VersionResponse {
        result,
        version: Some(version),
    })
}

fn result_and_version(data: &[u8]) -> Option<(ResultCode, Version)> {
    let (result, rest) = data.split_first()?;
    match frame::split_version(rest)? {
        (version, []) => Some((ResultCode(*result), version)),
        _ => None,
    }
}
