use crate::{
    DecodeError, Direction, EncodeError, HEADER_LEN, MessageCode, ResultCode, Version,
    frame::{self, Frame},
};

/// What a platform sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformMessage<'a> {
    /// 19: asks which version the device runs.
    VersionQuery,
    /// 20: offers a new version.
    NewVersion {
        /// The version that the device is to run.
        version: Version,
        /// Bytes of a segment, 32 to 500.
        segment_size: u16,
        /// Segments of the package, at least 1.
        segment_count: u16,
        /// Tells a device whether segments that it holds belong to this package.
        check_code: u16,
    },
    /// 21: a segment, or why there is none.
    ///
    /// On the wire a segment is the result, its number and its bytes. A refusal is the result alone
    /// or the result and the number; of these, deployed devices understand [`ResultCode::NO_SUCH_TASK`]
    /// alone and [`ResultCode::NO_SUCH_SEGMENT`] with the number.
    SegmentResponse {
        /// Success, or why there is no segment.
        result: ResultCode,
        /// The segment's number, from 0.
        segment: Option<u16>,
        /// The segment's bytes, none in a refusal. At most 500 are safe.
        data: &'a [u8],
    },
    /// 22: the download's report has arrived.
    DownloadReportResponse {
        /// Success, or [`ResultCode::NO_SUCH_TASK`].
        result: ResultCode,
    },
    /// 23: commands the upgrade.
    Execute,
    /// 24: the upgrade's report has arrived.
    UpgradeReportResponse {
        /// Success, or [`ResultCode::NO_SUCH_TASK`].
        result: ResultCode,
    },
    /// A code that the protocol reserves.
    Unknown {
        /// The code.
        code: MessageCode,
        /// Everything after the header.
        data: &'a [u8],
    },
}

impl<'a> PlatformMessage<'a> {
    /// Reads a frame that a platform sent.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let frame = Frame::parse(Direction::FromPlatform, bytes)?;
        Ok(match frame.code {
            MessageCode::VERSION_QUERY => {
                let [] = *frame.exactly("0")?;
                Self::VersionQuery
            }
            MessageCode::NEW_VERSION => match frame::split_version(frame.data) {
                Some((version, &[size_1, size_0, count_1, count_0, check_1, check_0])) => {
                    Self::NewVersion {
                        version,
                        segment_size: u16::from_be_bytes([size_1, size_0]),
                        segment_count: u16::from_be_bytes([count_1, count_0]),
                        check_code: u16::from_be_bytes([check_1, check_0]),
                    }
                }
                _ => return Err(frame.wrong_length("22")),
            },
            MessageCode::SEGMENT_REQUEST => segment_response(&frame)?,
            MessageCode::DOWNLOAD_REPORT => {
                let [result] = *frame.exactly("1")?;
                Self::DownloadReportResponse {
                    result: ResultCode(result),
                }
            }
            MessageCode::EXECUTE => {
                let [] = *frame.exactly("0")?;
                Self::Execute
            }
            MessageCode::UPGRADE_REPORT => {
                let [result] = *frame.exactly("1")?;
                Self::UpgradeReportResponse {
                    result: ResultCode(result),
                }
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
            Self::VersionQuery => MessageCode::VERSION_QUERY,
            Self::NewVersion { .. } => MessageCode::NEW_VERSION,
            Self::SegmentResponse { .. } => MessageCode::SEGMENT_REQUEST,
            Self::DownloadReportResponse { .. } => MessageCode::DOWNLOAD_REPORT,
            Self::Execute => MessageCode::EXECUTE,
            Self::UpgradeReportResponse { .. } => MessageCode::UPGRADE_REPORT,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// Bytes of the frame that [`Self::encode`] writes.
    pub const fn encoded_len(&self) -> usize {
        HEADER_LEN
            + match self {
                Self::VersionQuery | Self::Execute => 0,
                Self::NewVersion { .. } => 22,
                Self::SegmentResponse { segment: None, .. }
                | Self::DownloadReportResponse { .. }
                | Self::UpgradeReportResponse { .. } => 1,
                Self::SegmentResponse {
                    segment: Some(_),
                    data,
                    ..
                } => 3 + data.len(),
                Self::Unknown { data, .. } => data.len(),
            }
    }

    /// Writes the frame to the front of `buf`, and hands that part back.
    pub fn encode<'b>(&self, buf: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        let code = self.code();
        match self {
            Self::VersionQuery | Self::Execute => frame::write(code, &[], buf),
            Self::NewVersion {
                version,
                segment_size,
                segment_count,
                check_code,
            } => frame::write(
                code,
                &[
                    version.as_bytes(),
                    &segment_size.to_be_bytes(),
                    &segment_count.to_be_bytes(),
                    &check_code.to_be_bytes(),
                ],
                buf,
            ),
            Self::SegmentResponse {
                result,
                segment,
                data,
            } => match segment {
                _ if result.is_success() == data.is_empty() => {
                    Err(EncodeError::InconsistentSegment)
                }
                Some(number) => {
                    frame::write(code, &[&[result.0], &number.to_be_bytes(), data], buf)
                }
                None if result.is_success() => Err(EncodeError::InconsistentSegment),
                None => frame::write(code, &[&[result.0]], buf),
            },
            Self::DownloadReportResponse { result } | Self::UpgradeReportResponse { result } => {
                frame::write(code, &[&[result.0]], buf)
            }
            Self::Unknown { code, .. } if code.name().is_some() => {
                Err(EncodeError::KnownCode { code: *code })
            }
            Self::Unknown { code, data } => frame::write(*code, &[data], buf),
        }
    }
}

fn segment_response<'a>(frame: &Frame<'a>) -> Result<PlatformMessage<'a>, DecodeError> {
    let (result, segment, data) = match frame.data {
        [result] => (*result, None, &[][..]),
        [result, high, low, data @ ..] => (*result, Some(u16::from_be_bytes([*high, *low])), data),
        _ => return Err(frame.wrong_length("1, 3 or more")),
    };
    let result = ResultCode(result);
    if result.is_success() && data.is_empty() {
        return Err(frame.wrong_length("4 or more"));
    }
    if !result.is_success() && !data.is_empty() {
        return Err(frame.wrong_length("1 or 3"));
    }
    Ok(PlatformMessage::SegmentResponse {
        result,
        segment,
        data,
    })
}
