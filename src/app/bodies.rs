//! What is answered, and what is asked for.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::api;

/// A home of the user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppHome {
    /// What the integrator calls it.
    #[schema(example = "home-17")]
    pub(super) id: String,
    /// What people call it.
    pub(super) name: String,
    /// 0 owner, 1 administrator, 2 member.
    #[schema(minimum = 0, maximum = 2)]
    pub(super) role: u8,
    /// How many devices are in it.
    pub(super) devices: u32,
    /// Its time zone, an IANA name.
    #[schema(example = "Europe/Berlin")]
    pub(super) time_zone: String,
}

/// The homes of the user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppHomes {
    /// Up to 100.
    pub(super) items: Vec<AppHome>,
}

/// Something that a device can be upgraded to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct AppEntry {
    /// The offer: name it to start.
    pub(super) offer: i64,
    /// Its place among those that lead on from one another, from 1: start them in this order.
    #[schema(minimum = 1, maximum = 8)]
    pub(super) step: u8,
    /// The part of the device: 0 main module, 1 Bluetooth, 2 GPRS, 3 Zigbee, 5 433 MHz, 6 NB-IoT, 9 MCU, 10 to 19 extensions.
    #[schema(minimum = 0, maximum = 19)]
    pub(super) channel: u8,
    /// What the channel is called.
    #[schema(required)]
    pub(super) channel_text: Option<String>,
    /// What is new.
    pub(super) description: String,
    /// The language of the description (BCP 47).
    #[schema(example = "de")]
    pub(super) language: String,
    /// 1 available, 2 upgrading, 5 waiting for the device to wake up; 6 downloaded, 100 preparing.
    #[schema(minimum = 0, maximum = 100)]
    pub(super) status: u8,
    /// The version that the device runs, or will run after the step before; `null`: it is not known.
    #[schema(required)]
    pub(super) current_version: Option<String>,
    /// The version to which it leads.
    pub(super) target_version: String,
    /// 0 ordinary, 1 low-power: it sleeps, and upgrades when it wakes up.
    #[schema(minimum = 0, maximum = 1)]
    pub(super) device_type: u8,
    /// 0 reminder, 2 forced, 3 on request.
    #[schema(minimum = 0, maximum = 3)]
    pub(super) kind: u8,
    /// Where it is downloaded: always `null`. The device downloads by itself.
    #[schema(required)]
    pub(super) url: Option<String>,
    /// Bytes of the package.
    pub(super) size_bytes: u64,
    /// MD5 of the package, hexadecimal; `null`: it is not known.
    #[schema(required)]
    pub(super) md5: Option<String>,
    /// SHA-256 of the package, hexadecimal.
    pub(super) sha256: String,
    /// Whether the device can be controlled meanwhile.
    pub(super) controllable: bool,
    /// What to say while it is waited for the device.
    #[schema(required)]
    pub(super) waiting_text: Option<String>,
    /// What to say while it is upgraded.
    #[schema(required)]
    pub(super) upgrading_text: Option<String>,
    /// 0: it cannot be started now, and `remind` and `error` say why; 1: it can. Left out where the offer asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub(super) can_upgrade: Option<u8>,
    /// Why it cannot be started now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remind: Option<String>,
    /// The same as a code: 5004, 5005, 5013.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 5000, maximum = 5099)]
    pub(super) error: Option<u16>,
    /// 0: one channel is upgraded, 1: the product as a whole.
    #[schema(minimum = 0, maximum = 1)]
    pub(super) mode: u8,
}

/// Where a device stands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct AppStatus {
    /// The device.
    #[schema(example = "urn:imei:490154203237518")]
    pub(super) device: String,
    /// 0 nothing, 1 an upgrade is available, 2 upgrading, 3 succeeded, 4 failed, 5 waiting for the device to wake up, 6 downloaded to the
    /// device, 7 timed out, 100 preparing.
    #[schema(minimum = 0, maximum = 100)]
    pub(super) status: u8,
    /// The same as a word.
    #[schema(example = "waiting_for_wake_up")]
    pub(super) status_name: &'static str,
    /// What to say of it, of the offer; `null`: an application says it in its own words.
    #[schema(required)]
    pub(super) text: Option<String>,
    /// What is upgraded: the name of the channel.
    #[schema(required)]
    pub(super) title: Option<String>,
    /// 0 to 100; −1: it is not known.
    #[schema(minimum = -1, maximum = 100)]
    pub(super) progress: i8,
    /// The channel; `null`: the upgrade is of no offer.
    #[schema(required)]
    pub(super) channel: Option<u8>,
    /// The mode.
    #[schema(required)]
    pub(super) mode: Option<u8>,
    /// Why it did not succeed: 5000 to 5018, 5099.
    #[schema(required, minimum = 5000, maximum = 5099)]
    pub(super) error: Option<u16>,
    /// The same as a stable word for programs.
    #[schema(required)]
    pub(super) reason: Option<String>,
    /// The upgrade; `null`: there is none.
    #[schema(required)]
    pub(super) upgrade: Option<i64>,
    /// The version to which it leads.
    #[schema(required)]
    pub(super) target_version: Option<String>,
    /// The version that the device has told last.
    #[schema(required)]
    pub(super) current_version: Option<String>,
    /// What waits for `plan/confirm` or `plan/refuse`; `null`: nothing does.
    #[schema(required)]
    pub(super) awaiting: Option<AppAwaiting>,
    /// A start waits for `continue` or `cancel` over a weak signal until then; `null`: none does.
    #[schema(required, format = DateTime)]
    pub(super) continue_until: Option<String>,
}

/// An upgrade of an operator's plan that waits for a word of somebody at home. Of several it is the oldest.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct AppAwaiting {
    /// The upgrade, which `plan/confirm` and `plan/refuse` name.
    pub(super) upgrade: i64,
    /// The version to which it leads.
    pub(super) target_version: String,
}

/// A device that can be upgraded, or is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppDevice {
    /// The device.
    #[schema(example = "urn:imei:490154203237518")]
    pub(super) device: String,
    /// What people call it in this home.
    #[schema(required)]
    pub(super) name: Option<String>,
    /// What shows it in this home.
    #[schema(required)]
    pub(super) icon: Option<String>,
    /// Whether it upgrades by itself.
    pub(super) automatic: bool,
    /// Where it stands.
    pub(super) status: AppStatus,
    /// What it can be upgraded to, by channel and then in the order in which they follow one another.
    pub(super) entries: Vec<AppEntry>,
}

/// Devices of a home.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppDevices {
    /// Those for which there is something, or that are being upgraded.
    pub(super) items: Vec<AppDevice>,
}

/// An upgrade that was.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppPast {
    /// The upgrade.
    pub(super) upgrade: i64,
    /// The version to which it led.
    pub(super) target_version: String,
    /// As of [`AppStatus`].
    #[schema(minimum = 0, maximum = 100)]
    pub(super) status: u8,
    /// The same as a word.
    pub(super) status_name: &'static str,
    /// Why it did not succeed.
    #[schema(required, minimum = 5000, maximum = 5099)]
    pub(super) error: Option<u16>,
    /// The same as a stable word for programs.
    #[schema(required)]
    pub(super) reason: Option<String>,
    /// When it was started.
    #[schema(format = DateTime)]
    pub(super) created_at: String,
    /// When it ended.
    #[schema(required, format = DateTime)]
    pub(super) ended_at: Option<String>,
}

/// Upgrades of a device since it is in this home, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppHistory {
    /// This page.
    pub(super) items: Vec<AppPast>,
    /// Give it as `before` to get the next page; `null` on the last page.
    #[schema(required)]
    pub(super) next_before: Option<i64>,
}

/// What a member is told of an upgrade.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppCheck {
    /// The channel.
    #[serde(rename = "type")]
    #[schema(minimum = 0, maximum = 19)]
    pub(super) channel: u8,
    /// As of an entry.
    #[schema(minimum = 0, maximum = 100)]
    pub(super) status: u8,
    /// The version to which it leads.
    pub(super) version: String,
    /// What is new.
    pub(super) text: String,
}

/// What there is for a device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppChecks {
    /// By channel.
    pub(super) items: Vec<AppCheck>,
}

/// An entry as the user has seen it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SeenEntry {
    /// The offer.
    #[serde(deserialize_with = "api::whole")]
    #[schema(minimum = 1, value_type = i64)]
    pub(super) offer: i64,
    /// The version to which it led.
    #[schema(min_length = 1, max_length = 64)]
    pub(super) target_version: String,
    /// The version that the device was said to run. Where several are started, that of the first is looked at.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub(super) current_version: Option<String>,
}

/// Upgrades of one device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartDevice {
    /// In the order in which they follow one another: 1 to 8.
    #[schema(min_items = 1, max_items = 8)]
    pub(super) entries: Vec<SeenEntry>,
}

/// Upgrades of one of many devices.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartOne {
    /// The device.
    #[schema(min_length = 1, max_length = 128)]
    pub(super) device: String,
    /// In the order in which they follow one another: 1 to 8.
    #[schema(min_items = 1, max_items = 8)]
    pub(super) entries: Vec<SeenEntry>,
}

/// Upgrades of many devices.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartMany {
    /// 1 to 256.
    #[schema(min_items = 1, max_items = 256)]
    pub(super) devices: Vec<StartOne>,
}

/// An upgrade that was started.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppStarted {
    /// The offer.
    pub(super) offer: i64,
    /// The upgrade.
    pub(super) upgrade: i64,
    /// It was started before, and goes on.
    pub(super) again: bool,
}

/// What was started of a device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppStart {
    /// The device.
    pub(super) device: String,
    /// In the order in which they were named.
    pub(super) started: Vec<AppStarted>,
}

/// What came of one of many.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppStartOne {
    /// The device.
    pub(super) device: String,
    /// What the device alone would have been answered: 202, or that of the problem.
    #[schema(example = 202)]
    pub(super) status: u16,
    /// What was started.
    pub(super) started: Vec<AppStarted>,
    /// Why nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::problem::Problem>)]
    pub(super) problem: Option<Value>,
}

/// What came of many, in the order in which they were named.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppStarts {
    /// Each answered for itself.
    pub(super) items: Vec<AppStartOne>,
}

/// The upgrade of a plan that is confirmed, or refused.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanWord {
    /// As `awaiting` of the status told it.
    #[serde(deserialize_with = "api::whole")]
    #[schema(minimum = 1, value_type = i64)]
    pub(super) upgrade: i64,
}

/// What was cancelled.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppCancelled {
    /// The device.
    pub(super) device: String,
    /// Upgrades that have ended, or end within moments.
    pub(super) upgrades: Vec<i64>,
    /// A start that waited over a weak signal waits no more.
    pub(super) waited: bool,
}

/// Hours in which nothing begins by itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppQuietHours {
    /// From this time of the day.
    #[schema(example = "22:00")]
    pub(super) from: String,
    /// To this one.
    #[schema(example = "06:30")]
    pub(super) to: String,
    /// In this time zone.
    #[schema(example = "Europe/Berlin")]
    pub(super) time_zone: String,
}

/// Whether a device upgrades by itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppAutomatic {
    /// The device.
    pub(super) device: String,
    /// Whether it does.
    pub(super) automatic: bool,
    /// When nothing begins by itself in this home; `null`: that may be at any time.
    #[schema(required)]
    pub(super) quiet_hours: Option<AppQuietHours>,
}

/// Whether a device is to upgrade by itself.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetAutomatic {
    /// Whether it is.
    pub(super) automatic: bool,
}
