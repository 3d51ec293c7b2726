use jiff::civil::Weekday;

/// Some days of the week, all of them by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(
    /// A bit for each day from Monday on; never 0.
    u8,
);

/// What they are called, from Monday on.
pub(super) const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Days {
    /// Every day.
    pub const ALL: Self = Self(0x7f);

    /// These days, or every day if there are none.
    pub fn of(days: impl IntoIterator<Item = Weekday>) -> Self {
        let bits = days.into_iter().fold(0, |bits, day| bits | bit(day));
        if bits == 0 { Self::ALL } else { Self(bits) }
    }

    /// Whether it is among them.
    pub fn contains(self, day: Weekday) -> bool {
        self.0 & bit(day) != 0
    }

    /// Their names, from Monday on; none where it is all of them.
    pub(super) fn names(self) -> Vec<&'static str> {
        if self == Self::ALL {
            return Vec::new();
        }
        let named = NAMES.into_iter().enumerate();
        named
            .filter(|(index, _)| self.0 & (1 << index) != 0)
            .map(|(_, name)| name)
            .collect()
    }

    /// The day of that name.
    pub(super) fn named(name: &str) -> Option<Weekday> {
        let index = NAMES.iter().position(|known| *known == name)?;
        Weekday::from_monday_zero_offset(i8::try_from(index).ok()?).ok()
    }
}

impl Default for Days {
    fn default() -> Self {
        Self::ALL
    }
}

fn bit(day: Weekday) -> u8 {
    1 << day.to_monday_zero_offset()
}
