//! What is offered to end users: a package for a product on a channel, and on which terms.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{HomeKey, OfferId, Texts};
use crate::{
    clock::{UtcMillis, rfc3339},
    package::Version,
};

/// Versions that an offer starts from at most.
pub const MAX_FROM: usize = 50;
/// Stages of an offer at most.
pub const MAX_STAGES: usize = 10;
/// What an NB-IoT modem can measure, dBm.
const RSRP_DBM: std::ops::RangeInclusive<i32> = -156..=-44;

/// Which part of a device is upgraded, by its number: 0 main module (Wi-Fi or Bluetooth), 1 Bluetooth, 2 GPRS, 3 Zigbee, 5 433 MHz,
/// 6 NB-IoT, 9 MCU, 10 to 19 extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Channel(u8);

/// How much an application urges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeKind {
    /// 0: the user is reminded.
    #[default]
    Reminder,
    /// 2: the device is not to be used without.
    Forced,
    /// 3: it is shown to who asks.
    OnRequest,
}

/// What is upgraded at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferMode {
    /// 0: one channel.
    #[default]
    PerChannel,
    /// 1: the product as a whole.
    PerProduct,
}

/// What has to be true of a device before it is upgraded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// It runs one of these versions; any where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Version>,
    /// Its battery has so many percent, 1 to 100, as its tag `battery` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery_percent: Option<u8>,
    /// Its signal was so strong when it was measured last, dBm, −156 to −44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsrp_dbm: Option<i32>,
}

/// What is told of an offer, by language.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfferTexts {
    /// What the channel is called.
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub channel: Texts,
    /// What is new. There is at least one.
    pub description: Texts,
    /// While it is waited for the device.
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub waiting: Texts,
    /// While it is upgraded.
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub upgrading: Texts,
    /// Why it cannot be upgraded now, where a condition is not met.
    #[serde(skip_serializing_if = "Texts::is_empty")]
    pub remind: Texts,
}

/// From when on more homes see an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferStage {
    /// From then on.
    #[serde(with = "rfc3339")]
    pub from: UtcMillis,
    /// To how many of a hundred homes it is visible.
    pub percent: u8,
}

/// On which terms something is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferTerms {
    /// Which part of the device is upgraded.
    pub channel: Channel,
    /// How much an application urges.
    #[serde(default)]
    pub kind: UpgradeKind,
    /// What is upgraded at once.
    #[serde(default)]
    pub mode: OfferMode,
    /// Whether the device can be controlled meanwhile.
    #[serde(default)]
    pub controllable: bool,
    /// To how many of a hundred homes it is visible, 1 to 100, until the first of its stages.
    pub percent: u8,
    /// What comes after that: each later than the one before, and for more homes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<OfferStage>,
    /// What has to be true of a device.
    #[serde(default)]
    pub conditions: Conditions,
    /// What is told of it.
    pub texts: OfferTexts,
}

/// Why something cannot be offered on such terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OfferError {
    /// There is no such channel.
    #[error("there is no such channel; there are 0, 1, 2, 3, 5, 6, 9 and 10 to 19")]
    Channel,
    /// Nobody is told what is new.
    #[error("write what is new in one language at least")]
    NoDescription,
    /// No home or more than all of them.
    #[error("1 to 100 are possible")]
    Percent,
    /// They do not follow each other, or there are too many.
    #[error(
        "{MAX_STAGES} stages at most; each is later than the one before and has more percent, the first more than percent, 100 at most"
    )]
    Stages,
    /// Too many versions.
    #[error("{MAX_FROM} versions at most")]
    From,
    /// No charge of a battery.
    #[error("1 to 100 are possible")]
    Battery,
    /// No signal.
    #[error("-156 to -44 are possible")]
    Signal,
}

impl OfferError {
    /// The field that it is about.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::NoDescription => "texts.description",
            Self::Percent => "percent",
            Self::Stages => "stages",
            Self::From => "conditions.from",
            Self::Battery => "conditions.battery_percent",
            Self::Signal => "conditions.rsrp_dbm",
        }
    }
}

impl Channel {
    /// The one of NB-IoT modules.
    pub const NB_IOT: Self = Self(6);

    /// The one of that number, if it is one.
    pub const fn new(number: u8) -> Option<Self> {
        if matches!(number, 0..=3 | 5 | 6 | 9 | 10..=19) {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Channel {
    type Error = OfferError;

    fn try_from(number: u8) -> Result<Self, OfferError> {
        Self::new(number).ok_or(OfferError::Channel)
    }
}

impl From<Channel> for u8 {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl UpgradeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Reminder, Self::Forced, Self::OnRequest];

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Reminder => 0,
            Self::Forced => 2,
            Self::OnRequest => 3,
        }
    }

    /// The one of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl OfferMode {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::PerChannel, Self::PerProduct];

    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::PerChannel => 0,
            Self::PerProduct => 1,
        }
    }

    /// The one of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.number() == number)
    }
}

impl Conditions {
    /// Whether there is anything besides the version that has to be true.
    pub const fn asks_more(&self) -> bool {
        self.battery_percent.is_some() || self.rsrp_dbm.is_some()
    }
}

impl OfferTerms {
    /// What is wrong with them.
    pub fn check(&self) -> Vec<OfferError> {
        let conditions = &self.conditions;
        let percent = |value: u8| (1..=100).contains(&value);
        let wrong = [
            (self.texts.description.is_empty(), OfferError::NoDescription),
            (!percent(self.percent), OfferError::Percent),
            (!self.stages_follow(), OfferError::Stages),
            (conditions.from.len() > MAX_FROM, OfferError::From),
            (
                !conditions.battery_percent.is_none_or(percent),
                OfferError::Battery,
            ),
            (
                !conditions
                    .rsrp_dbm
                    .is_none_or(|dbm| RSRP_DBM.contains(&dbm)),
                OfferError::Signal,
            ),
        ];
        let wrong = wrong.into_iter().filter(|(wrong, _)| *wrong);
        wrong.map(|(_, error)| error).collect()
    }

    /// Whether each stage is later than the one before, and for more homes: whoever sees an offer goes on seeing it.
    fn stages_follow(&self) -> bool {
        let mut before = (None, self.percent);
        self.stages.len() <= MAX_STAGES
            && self.stages.iter().all(|stage| {
                let (at, percent) =
                    std::mem::replace(&mut before, (Some(stage.from), stage.percent));
                at < Some(stage.from) && percent < stage.percent && stage.percent <= 100
            })
    }

    /// Whether a home sees it at `now`: so many of a hundred do, always the same, and other ones of another offer. Who sees it with a share
    /// sees it with a larger one too.
    pub fn is_visible_to(&self, home: &HomeKey, offer: OfferId, now: UtcMillis) -> bool {
        let place = place(home, offer);
        place < u64::from(self.percent) || self.stage_of(place).is_some_and(|from| from <= now)
    }

    /// Since when a home sees what was published then, or from when on it will; `None`: it never does.
    pub fn visible_since(
        &self,
        home: &HomeKey,
        offer: OfferId,
        published_at: UtcMillis,
    ) -> Option<UtcMillis> {
        let place = place(home, offer);
        if place < u64::from(self.percent) {
            return Some(published_at);
        }
        self.stage_of(place).map(|from| from.max(published_at))
    }

    /// To how many of a hundred homes it is visible at `now`: to those at places below.
    pub fn percent_at(&self, now: UtcMillis) -> u8 {
        let begun = self.stages.iter().take_while(|stage| stage.from <= now);
        begun.last().map_or(self.percent, |stage| stage.percent)
    }

    /// From when on more than so many of a hundred homes see it, if they ever do.
    pub fn sees_more_at(&self, percent: u8, now: UtcMillis) -> Option<UtcMillis> {
        if self.percent_at(now) > percent {
            return Some(now);
        }
        let mut stages = self.stages.iter();
        let first = stages.find(|stage| stage.percent > percent);
        first.map(|stage| stage.from)
    }

    /// When the stage begins that is the first for a home at that place.
    fn stage_of(&self, place: u64) -> Option<UtcMillis> {
        let mut stages = self.stages.iter();
        let first = stages.find(|stage| place < u64::from(stage.percent));
        first.map(|stage| stage.from)
    }
}

/// Where a home stands among a hundred, for an offer: 0 to 99. It sees the offer where that is visible to more.
pub fn place(home: &HomeKey, offer: OfferId) -> u64 {
    let digest = Sha256::digest(format!("{} {}", offer.0, home.text()));
    let bytes = digest.iter().take(8);
    let number = bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    number % 100
}
