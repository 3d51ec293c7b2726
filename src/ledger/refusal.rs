/// A condition for which a device, or its gateway for it, refuses an upgrade. It may pass, so that trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is in use.
    InUse,
    /// Its signal is too poor.
    Signal,
    /// Its battery is too low.
    Battery,
    /// It has too little space left for the package.
    Space,
    /// It has too little memory left.
    Memory,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::InUse,
        Self::Signal,
        Self::Battery,
        Self::Space,
        Self::Memory,
    ];

    /// The reason of an outcome that has it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::InUse => "refused_in_use",
            Self::Signal => "refused_signal",
            Self::Battery => "refused_battery",
            Self::Space => "refused_space",
            Self::Memory => "refused_memory",
        }
    }

    /// The one of that reason.
    pub fn named(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.reason() == reason)
    }
}
