use core::fmt;

/// What a message is about: the code that a request and its response share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageCode(pub u8);

impl MessageCode {
    /// The platform asks which version the device runs.
    pub const VERSION_QUERY: Self = Self(19);
    /// The platform offers a new version.
    pub const NEW_VERSION: Self = Self(20);
    /// The device asks for a segment of the package.
    pub const SEGMENT_REQUEST: Self = Self(21);
    /// The device says how its download ended.
    pub const DOWNLOAD_REPORT: Self = Self(22);
    /// The platform commands the upgrade.
    pub const EXECUTE: Self = Self(23);
    /// The device says how the upgrade ended.
    pub const UPGRADE_REPORT: Self = Self(24);

    /// The message's name, `None` for a reserved code.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::VERSION_QUERY => "version query",
            Self::NEW_VERSION => "new version notification",
            Self::SEGMENT_REQUEST => "segment request",
            Self::DOWNLOAD_REPORT => "download report",
            Self::EXECUTE => "execute upgrade",
            Self::UPGRADE_REPORT => "upgrade report",
            _ => return None,
        })
    }
}

/// As in `20 (new version notification)`.
impl fmt::Display for MessageCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name().unwrap_or("reserved"))
    }
}

/// The result byte of a response or report. Any byte can arrive, so any byte is representable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResultCode(pub u8);

impl ResultCode {
    /// Done, or allowed.
    pub const SUCCESS: Self = Self(0x00);
    /// The device is busy with its service.
    pub const DEVICE_IN_USE: Self = Self(0x01);
    /// The device finds its signal too weak.
    pub const POOR_SIGNAL: Self = Self(0x02);
    /// The device runs the offered version.
    pub const ALREADY_LATEST: Self = Self(0x03);
    /// The battery is too low.
    pub const LOW_BATTERY: Self = Self(0x04);
    /// The package does not fit into the device's storage.
    pub const NO_STORAGE: Self = Self(0x05);
    /// A segment stayed away for too long.
    pub const DOWNLOAD_TIMED_OUT: Self = Self(0x06);
    /// What arrived is not what was offered.
    pub const CHECK_FAILED: Self = Self(0x07);
    /// The package is for something else.
    pub const TYPE_NOT_SUPPORTED: Self = Self(0x08);
    /// The device's working memory is too small.
    pub const NO_MEMORY: Self = Self(0x09);
    /// The package could not be installed.
    pub const INSTALL_FAILED: Self = Self(0x0A);
    /// Something failed inside the device.
    pub const INTERNAL_ERROR: Self = Self(0x7F);
    /// The platform knows of no such upgrade.
    pub const NO_SUCH_TASK: Self = Self(0x80);
    /// The package has no such segment.
    pub const NO_SUCH_SEGMENT: Self = Self(0x81);

    /// Whether this is [`Self::SUCCESS`].
    pub const fn is_success(self) -> bool {
        self.0 == Self::SUCCESS.0
    }

    /// What the code stands for, `None` for one that the protocol does not define.
    pub const fn meaning(self) -> Option<&'static str> {
        Some(match self {
            Self::SUCCESS => "success",
            Self::DEVICE_IN_USE => "device in use",
            Self::POOR_SIGNAL => "poor signal",
            Self::ALREADY_LATEST => "already the latest version",
            Self::LOW_BATTERY => "low battery",
            Self::NO_STORAGE => "not enough storage space",
            Self::DOWNLOAD_TIMED_OUT => "download timed out",
            Self::CHECK_FAILED => "package check failed",
            Self::TYPE_NOT_SUPPORTED => "package type not supported",
            Self::NO_MEMORY => "not enough memory",
            Self::INSTALL_FAILED => "installing the package failed",
            Self::INTERNAL_ERROR => "internal error",
            Self::NO_SUCH_TASK => "no such upgrade task",
            Self::NO_SUCH_SEGMENT => "no such segment",
            _ => return None,
        })
    }
}

/// As in `0x04 (low battery)`, or `0x42 (unknown)`.
impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "0x{:02X} ({})",
            self.0,
            self.meaning().unwrap_or("unknown")
        )
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn codes_are_shown_with_their_meaning() {
        assert_eq!(ResultCode::LOW_BATTERY.to_string(), "0x04 (low battery)");
        assert_eq!(ResultCode(0x42).to_string(), "0x42 (unknown)");
        assert_eq!(MessageCode::EXECUTE.to_string(), "23 (execute upgrade)");
        assert_eq!(MessageCode(18).to_string(), "18 (reserved)");
    }

    #[test]
    fn only_0x00_is_a_success() {
        let successes = (0..=u8::MAX).filter(|code| ResultCode(*code).is_success());
        assert_eq!(successes.count(), 1);
    }
}
