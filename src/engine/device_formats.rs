//! What is known of a device's content formats.

use crate::lwm2m::{Container, Lwm2mVersion, Wrapping};

/// What is known of a device's content formats, in two bytes. It is not stored: after a restart a device is asked as
/// if for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Formats {
    bits: u8,
    /// What it wraps its own frames in.
    pub(super) own: Option<Container>,
}

impl Formats {
    /// The observation of /19/0/0 asks for no format.
    pub(super) const OBSERVES_ANY: u8 = 1;
    /// Reads of object 4 ask for no format.
    pub(super) const READS_ANY: u8 = 2;
    /// It tells the instances of its resource.
    pub(super) const TELLS_INSTANCES: u8 = 4;
    /// Frames are written to it wrapped.
    pub(super) const TAKES_WRAPPED: u8 = 8;
    /// Frames are written to it as instances of its resource.
    pub(super) const TAKES_INSTANCES: u8 = 16;

    pub(super) const fn has(self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    pub(super) const fn set(&mut self, bit: u8, on: bool) {
        if on {
            self.bits |= bit;
        } else {
            self.bits &= !bit;
        }
    }

    /// Takes up what the device wraps its frames in.
    pub(super) const fn learn(&mut self, wrapping: Wrapping) {
        self.own = Some(wrapping.container);
        self.set(Self::TELLS_INSTANCES, wrapping.multiple);
    }

    /// What its frames are wrapped in that it is written, if they are not to be bare: in its own format, or else in
    /// what its version of LwM2M has for everything.
    pub(super) fn wrapping(self, version: Option<Lwm2mVersion>) -> Wrapping {
        let senml = version.is_some_and(|version| version >= Lwm2mVersion::V1_1);
        let usual = if senml {
            Container::SenmlCbor
        } else {
            Container::Tlv
        };
        let wrapping = Wrapping {
            container: self.own.unwrap_or(usual),
            multiple: false,
        };
        let instances = self.has(Self::TELLS_INSTANCES) || self.has(Self::TAKES_INSTANCES);
        (wrapping.of_instance().filter(|_| instances)).unwrap_or(wrapping)
    }
}
