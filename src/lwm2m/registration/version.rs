use std::{fmt, str::FromStr};

/// The version of LwM2M that a device says it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lwm2mVersion {
    /// 1.0
    V1_0,
    /// 1.1
    V1_1,
    /// 1.2
    V1_2,
}

impl Lwm2mVersion {
    const ALL: [Self; 3] = [Self::V1_0, Self::V1_1, Self::V1_2];

    const fn text(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }
}

/// As registrations write it: `1.1`.
impl fmt::Display for Lwm2mVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for Lwm2mVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|version| version.text() == text)
            .ok_or(())
    }
}

/// Whether a text has the form of a version: two numbers with a dot between them.
pub(super) fn is_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (text.split_once('.')).is_some_and(|(major, minor)| number(major) && number(minor))
}
