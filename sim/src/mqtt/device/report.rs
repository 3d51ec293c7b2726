use serde::Serialize;

/// How an upgrade ended, as far as the device can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It runs the new version.
    Upgraded,
    /// It says so, and it does not, or goes on telling the old version.
    Claimed,
    /// It has reported a failure.
    Failed,
    /// It has failed, and says nothing.
    Silent,
}

/// What a device has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Connections that the server accepted.
    pub connections: u64,
    /// Connections that it refused.
    pub refusals: u64,
    /// Connections that could not be opened, or ended before the server answered.
    pub unanswered: u64,
    /// Connections that were lost without the device's doing.
    pub losses: u64,
    /// Subscriptions that the server refused.
    pub refused_subscriptions: u64,
    /// Messages that came.
    pub messages: u64,
    /// Messages that were not understood.
    pub malformed: u64,
    /// Times that the version was asked.
    pub questions: u64,
    /// Times that the version was told.
    pub versions_told: u64,
    /// Upgrades that were offered.
    pub offers: u64,
    /// Those of them that came while another was under way, or that the device does not understand.
    pub offers_ignored: u64,
    /// Messages that were published.
    pub published: u64,
    /// Messages that were lost, because there was no connection.
    pub lost: u64,
    /// Requests for the package.
    pub downloads: u64,
    /// Packages that were downloaded whole.
    pub whole: u64,
    /// Restarts.
    pub restarts: u64,
}

/// Where a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Whether it is connected.
    pub connected: bool,
    /// Whether it is downloading.
    pub downloading: bool,
    /// What became of its upgrade.
    pub ending: Option<Ending>,
    /// Whether nothing more can be expected of it.
    pub settled: bool,
    /// What it has counted.
    pub counters: Counters,
}
