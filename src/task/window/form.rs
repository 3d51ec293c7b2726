//! How windows are written, in the API and in the store.

use std::collections::BTreeSet;

use jiff::civil::{Date, Time};
use serde::{Deserialize, Serialize};

use super::{
    AtEnd, Days, MAX_HOLIDAYS, MAX_WINDOWS, UnknownZone, Window, WindowZone, Windows, days,
    time_zone, zone::name_of,
};

/// The name that stands for each device's own zone.
const DEVICE: &str = "device";
/// The zone of devices that have none, unless another is given.
const FALLBACK: &str = "UTC";
/// So much of a wrong text is repeated.
const QUOTED: usize = 40;

/// What is wrong with windows, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct WindowsError {
    /// The field, as `windows[3].from`.
    pub place: String,
    /// What is wrong with it.
    pub fault: WindowFault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowFault {
    /// There is no window at all.
    #[error("there is no window; give at least one, or leave the windows out")]
    NoWindow,
    /// There are too many.
    #[error("there are {count}; at most {most} are allowed")]
    TooMany {
        /// So many are there.
        count: usize,
        /// So many are allowed.
        most: usize,
    },
    /// It is no day of the week.
    #[error("{0:?} is no day of the week; write one of mon, tue, wed, thu, fri, sat, sun")]
    NoDay(String),
    /// The day stands there already.
    #[error("{0:?} is there already; write each day once")]
    DayTwice(String),
    /// It is no time of day.
    #[error("{0:?} is no time of day; write hours and minutes from 00:00 to 23:59, such as 05:30")]
    NoTime(String),
    /// It is no date.
    #[error("{0:?} is no date; write year, month and day, such as 2027-12-25")]
    NoDate(String),
    /// It is no time zone.
    #[error(transparent)]
    NoZone(#[from] UnknownZone),
    /// A zone for devices without one, where the devices' zones do not count.
    #[error("it has a meaning with \"zone\": \"device\" only; leave it out")]
    NoFallback,
}

impl WindowFault {
    /// The fault stands there.
    #[must_use]
    pub fn at(self, place: impl Into<String>) -> WindowsError {
        WindowsError {
            place: place.into(),
            fault: self,
        }
    }
}

/// [`Windows`] as they are written. `Windows::try_from` says whether they can be had.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowsForm {
    windows: Vec<WindowForm>,
    zone: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallback_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holidays: Vec<String>,
    #[serde(default)]
    at_end: AtEnd,
}

/// [`Window`] as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowForm {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    days: Vec<String>,
    from: String,
    to: String,
}

impl TryFrom<WindowsForm> for Windows {
    type Error = WindowsError;

    fn try_from(form: WindowsForm) -> Result<Self, WindowsError> {
        check_counts(form.windows.len(), form.holidays.len())?;
        let zone = zone(&form.zone, form.fallback_zone.as_deref())?;
        let windows = form.windows.iter().enumerate();
        let windows = windows.map(|(index, form)| {
            Window::parse(&form.days, &form.from, &form.to).map_err(|error| {
                let place = format!("windows[{index}].{}", error.place);
                error.fault.at(place)
            })
        });
        let holidays = form.holidays.iter().enumerate();
        let holidays = holidays.map(|(index, text)| {
            date(text).ok_or_else(|| {
                let place = format!("holidays[{index}]");
                WindowFault::NoDate(quoted(text)).at(place)
            })
        });
        Ok(Self {
            windows: windows.collect::<Result<_, _>>()?,
            zone,
            holidays: holidays.collect::<Result<BTreeSet<_>, _>>()?,
            at_end: form.at_end,
        })
    }
}

impl From<Windows> for WindowsForm {
    fn from(windows: Windows) -> Self {
        let (zone, fallback_zone) = match &windows.zone {
            WindowZone::Named(zone) => (name_of(zone).to_owned(), None),
            WindowZone::Device { fallback } => {
                (DEVICE.to_owned(), Some(name_of(fallback).to_owned()))
            }
        };
        let forms = windows.windows.iter().map(|window| WindowForm {
            days: window.day_names().map(str::to_owned).collect(),
            from: window.from_text(),
            to: window.to_text(),
        });
        Self {
            windows: forms.collect(),
            zone,
            fallback_zone,
            holidays: windows.holidays.iter().map(Date::to_string).collect(),
            at_end: windows.at_end,
        }
    }
}

impl Window {
    /// A window of its texts: days as `mon` (none of them for all), times of day as `22:00`.
    ///
    /// # Errors
    ///
    /// One of them is none; the place is `days[0]`, `from` or `to`.
    pub fn parse<S: AsRef<str>>(days: &[S], from: &str, to: &str) -> Result<Self, WindowsError> {
        Ok(Self {
            days: parse_days(days)?,
            from: time(from).ok_or_else(|| WindowFault::NoTime(quoted(from)).at("from"))?,
            to: time(to).ok_or_else(|| WindowFault::NoTime(quoted(to)).at("to"))?,
        })
    }

    /// The names of its days, as `mon`; none where it is every day.
    pub fn day_names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.days.names().into_iter()
    }

    /// When it begins, as `22:00`.
    pub fn from_text(&self) -> String {
        time_text(self.from)
    }

    /// When it ends, as `05:00`.
    pub fn to_text(&self) -> String {
        time_text(self.to)
    }
}

pub(super) fn check_counts(windows: usize, holidays: usize) -> Result<(), WindowsError> {
    if windows == 0 {
        return Err(WindowFault::NoWindow.at("windows"));
    }
    let counted = [
        ("windows", windows, MAX_WINDOWS),
        ("holidays", holidays, MAX_HOLIDAYS),
    ];
    for (place, count, most) in counted {
        if count > most {
            return Err(WindowFault::TooMany { count, most }.at(place));
        }
    }
    Ok(())
}

fn zone(name: &str, fallback: Option<&str>) -> Result<WindowZone, WindowsError> {
    if name != DEVICE {
        if fallback.is_some() {
            return Err(WindowFault::NoFallback.at("fallback_zone"));
        }
        let zone = time_zone(name).map_err(|unknown| WindowFault::from(unknown).at("zone"))?;
        return Ok(WindowZone::Named(zone));
    }
    let fallback = time_zone(fallback.unwrap_or(FALLBACK));
    let fallback = fallback.map_err(|unknown| WindowFault::from(unknown).at("fallback_zone"))?;
    Ok(WindowZone::Device { fallback })
}

fn parse_days<S: AsRef<str>>(names: &[S]) -> Result<Days, WindowsError> {
    let mut found = Vec::with_capacity(days::NAMES.len());
    for (index, name) in names.iter().enumerate() {
        let name = name.as_ref();
        let fault = match Days::named(name) {
            None => WindowFault::NoDay(quoted(name)),
            Some(day) if found.contains(&day) => WindowFault::DayTwice(quoted(name)),
            Some(day) => {
                found.push(day);
                continue;
            }
        };
        return Err(fault.at(format!("days[{index}]")));
    }
    Ok(Days::of(found))
}

/// `HH:MM` and nothing else.
fn time(text: &str) -> Option<Time> {
    let [h1, h2, b':', m1, m2] = text.as_bytes() else {
        return None;
    };
    let two = |tens: &u8, ones: &u8| {
        let both = tens.is_ascii_digit() && ones.is_ascii_digit();
        both.then(|| (tens - b'0') * 10 + (ones - b'0'))
            .and_then(|number| i8::try_from(number).ok())
    };
    Time::new(two(h1, h2)?, two(m1, m2)?, 0, 0).ok()
}

fn time_text(time: Time) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}

/// `YYYY-MM-DD` and nothing else.
fn date(text: &str) -> Option<Date> {
    let date: Date = text.parse().ok()?;
    (date.to_string() == text).then_some(date)
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}
