//! What an operator rules for a cell: how many may upgrade in it at once, and when nobody may begin.
//!
//! A device is admitted only if its coverage allows it as well: the smaller of both holds.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    AtEnd, Window, WindowFault, WindowState, WindowZone, Windows, WindowsError, time_zone,
};
use crate::clock::UtcMillis;

/// The highest limit that a cell may have of its own.
pub const MAX_CELL_LIMIT: u32 = 1_000;
/// Most busy hours of a cell.
pub const MAX_BUSY_HOURS: usize = 20;
/// Longest reason for a closing, characters.
pub const MAX_REASON: usize = 200;

/// The rules of a cell. Without any, coverage alone counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CellRules {
    /// How many may upgrade in it at once, 1 to [`MAX_CELL_LIMIT`].
    pub limit: Option<u32>,
    /// By the operator: the newest, also when it is over.
    pub closing: Option<Closing>,
    /// By the carrier's network management: the newest, also when it is over.
    pub outage: Option<Closing>,
    /// When fewer may.
    pub busy_hours: Vec<BusyHours>,
    /// Whether its limit follows how crowded it is; as for all cells where it is `None`.
    pub adaptive: Option<bool>,
}

/// A time in which nobody is admitted. Downloads that run go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Since when.
    pub from: UtcMillis,
    /// Until when; without end where it is `None`.
    pub until: Option<UtcMillis>,
    /// Why, 1 to [`MAX_REASON`] characters.
    pub reason: String,
}

/// Hours of the week in which fewer may upgrade.
///
/// As JSON: `{"days":["mon"],"from":"17:00","to":"20:00","zone":"Europe/Berlin","limit":2}`; without days on every day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BusyHoursForm", into = "BusyHoursForm")]
pub struct BusyHours {
    /// One window, in a named zone.
    hours: Windows,
    limit: u32,
}

/// How many may upgrade in a cell at a time, whatever their coverage allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitNow {
    /// So many; nobody is admitted where it is 0, and coverage alone counts where it is `None`.
    pub most: Option<u32>,
    /// What says so.
    pub by: LimitedBy,
    /// When that may be another, as far as is known.
    pub changes_at: Option<UtcMillis>,
}

/// What says how many may upgrade in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitedBy {
    /// The devices' coverage alone.
    Coverage,
    /// The cell's own limit.
    OwnLimit,
    /// Busy hours.
    BusyHours,
    /// The operator has closed it.
    Closing,
    /// The network is out of order.
    Outage,
}

impl LimitedBy {
    /// The name used in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coverage => "coverage",
            Self::OwnLimit => "own_limit",
            Self::BusyHours => "busy_hours",
            Self::Closing => "closed",
            Self::Outage => "outage",
        }
    }
}

/// What is to become of a cell's rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RulesUpdate {
    /// Another limit, or none.
    pub limit: Option<Option<u32>>,
    /// Whether it is closed.
    pub closing: ClosingUpdate,
    /// Other busy hours, or none.
    pub busy_hours: Option<Vec<BusyHours>>,
    /// Whether its limit follows how crowded it is, or as for all cells.
    pub adaptive: Option<Option<bool>>,
}

/// What is to become of a cell's closing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClosingUpdate {
    /// As it is.
    #[default]
    Keep,
    /// The operator opens it, whoever has closed it.
    Open,
    /// The operator closes it.
    Close {
        /// Until when; without end where it is `None`.
        until: Option<UtcMillis>,
        /// Why; as before where it is `None`.
        reason: Option<String>,
    },
    /// It stays closed for another reason.
    Reason(String),
    /// The network is out of order.
    Outage {
        /// Until when; without end where it is `None`.
        until: Option<UtcMillis>,
        /// Why.
        reason: String,
    },
    /// It works again. What the operator has closed stays closed.
    OutageOver,
}

/// Why a cell's rules stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RulesError {
    /// It is closed without a reason.
    #[error("give a reason (1 to 200 characters) for closing the cell: those who wait are told")]
    NoReason,
    /// A reason is given for what is not so.
    #[error("the cell is not closed by an operator; give closed_until as well to close it")]
    NotClosed,
}

impl Closing {
    /// Whether nobody is admitted at `now` for its sake.
    pub fn holds(&self, now: UtcMillis) -> bool {
        self.from <= now && self.until.is_none_or(|until| now < until)
    }

    fn end(closing: &mut Option<Self>, now: UtcMillis) {
        if let Some(closing) = closing.as_mut().filter(|closing| closing.holds(now)) {
            closing.until = Some(now);
        }
    }

    /// One that holds goes on under the same beginning.
    fn begin(
        closing: &mut Option<Self>,
        now: UtcMillis,
        until: Option<UtcMillis>,
        reason: Option<String>,
    ) -> Result<(), RulesError> {
        let before = closing.take().filter(|closing| closing.holds(now));
        let from = before.as_ref().map_or(now, |before| before.from);
        match reason.or_else(|| before.map(|before| before.reason)) {
            Some(reason) => {
                *closing = Some(Self {
                    from,
                    until,
                    reason,
                });
                Ok(())
            }
            None => Err(RulesError::NoReason),
        }
    }
}

impl CellRules {
    /// Whether there is no rule, and none was lately.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The closing that holds at `now`, and who has closed it: that which holds longest.
    pub fn closed(&self, now: UtcMillis) -> Option<(&Closing, LimitedBy)> {
        let closings = [
            (&self.outage, LimitedBy::Outage),
            (&self.closing, LimitedBy::Closing),
        ];
        (closings.into_iter())
            .filter_map(|(closing, by)| Some((closing.as_ref()?, by)))
            .filter(|(closing, _)| closing.holds(now))
            .max_by_key(|(closing, _)| (closing.until.is_none(), closing.until))
    }

    /// How many may upgrade at `now`.
    pub fn limit_at(&self, now: UtcMillis) -> LimitNow {
        if let Some((closing, by)) = self.closed(now) {
            return LimitNow {
                most: Some(0),
                by,
                changes_at: closing.until,
            };
        }
        let mut limit = LimitNow {
            most: self.limit,
            by: self
                .limit
                .map_or(LimitedBy::Coverage, |_| LimitedBy::OwnLimit),
            changes_at: None,
        };
        for busy in &self.busy_hours {
            let state = busy.state(now);
            if state.is_open() && limit.most.is_none_or(|most| busy.limit < most) {
                (limit.most, limit.by) = (Some(busy.limit), LimitedBy::BusyHours);
            }
            let changes_at = [limit.changes_at, state.changes_at()];
            limit.changes_at = changes_at.into_iter().flatten().min();
        }
        limit
    }

    /// Makes them others.
    ///
    /// # Errors
    ///
    /// A reason is missing, or has no meaning. They are as before then.
    pub fn update(&mut self, update: RulesUpdate, now: UtcMillis) -> Result<(), RulesError> {
        let mut next = self.clone();
        match update.closing {
            ClosingUpdate::Keep => {}
            ClosingUpdate::Open => {
                Closing::end(&mut next.closing, now);
                Closing::end(&mut next.outage, now);
            }
            ClosingUpdate::Close { until, reason } => {
                Closing::begin(&mut next.closing, now, until, reason)?;
            }
            ClosingUpdate::Reason(reason) => {
                let closing = next.closing.as_mut().filter(|closing| closing.holds(now));
                closing.ok_or(RulesError::NotClosed)?.reason = reason;
            }
            ClosingUpdate::Outage { until, reason } => {
                Closing::begin(&mut next.outage, now, until, Some(reason))?;
            }
            ClosingUpdate::OutageOver => Closing::end(&mut next.outage, now),
        }
        next.limit = update.limit.unwrap_or(next.limit);
        next.busy_hours = update.busy_hours.unwrap_or(next.busy_hours);
        next.adaptive = update.adaptive.unwrap_or(next.adaptive);
        *self = next;
        Ok(())
    }
}

impl BusyHours {
    /// How many may upgrade.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    fn state(&self, now: UtcMillis) -> WindowState {
        self.hours.open(now, self.hours.zone_for(None))
    }
}

/// [`BusyHours`] as they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BusyHoursForm {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    days: Vec<String>,
    from: String,
    to: String,
    zone: String,
    limit: u32,
}

/// What is wrong with busy hours.
#[derive(Debug, Error)]
enum BusyHoursError {
    #[error(transparent)]
    Window(#[from] WindowsError),
    #[error(
        "limit: {0} is out of range: 1 to {MAX_CELL_LIMIT} are possible; close the cell to admit nobody"
    )]
    Limit(u32),
}

impl TryFrom<BusyHoursForm> for BusyHours {
    type Error = BusyHoursError;

    fn try_from(form: BusyHoursForm) -> Result<Self, BusyHoursError> {
        let window = Window::parse(&form.days, &form.from, &form.to)?;
        let zone =
            time_zone(&form.zone).map_err(|unknown| WindowFault::from(unknown).at("zone"))?;
        if !(1..=MAX_CELL_LIMIT).contains(&form.limit) {
            return Err(BusyHoursError::Limit(form.limit));
        }
        let zone = WindowZone::Named(zone);
        let hours = Windows::new(vec![window], zone, BTreeSet::new(), AtEnd::default())?;
        Ok(Self {
            hours,
            limit: form.limit,
        })
    }
}

impl From<BusyHours> for BusyHoursForm {
    fn from(busy: BusyHours) -> Self {
        let window = busy.hours.windows().first();
        let zone = busy.hours.zone_for(None).iana_name();
        Self {
            days: (window.into_iter().flat_map(Window::day_names))
                .map(str::to_owned)
                .collect(),
            from: window.map_or_else(String::new, Window::from_text),
            to: window.map_or_else(String::new, Window::to_text),
            zone: zone.unwrap_or("UTC").to_owned(),
            limit: busy.limit,
        }
    }
}

#[cfg(test)]
mod tests;
