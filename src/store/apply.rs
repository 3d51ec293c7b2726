//! What a change means, for a device and for an upgrade: whoever keeps rows applies it to them, and writes down what came of
//! it. Pure.

use super::UpgradeState;
use crate::{
    clock::UtcMillis,
    ledger::{
        Appointment, Cancellation, Change, CoverageReading, DeviceRecord, Evidence, Facts,
        MAX_VERSIONS, Outcome, Progress, Protocol, Registration, Served, Stage, StageChange, Via,
        WakeUps,
    },
    package::Version,
};

/// What the changes of a device leave of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    registration: Option<Box<Registration>>,
    last_heard_at: Option<UtcMillis>,
    coverage: Option<CoverageReading>,
    version: Option<Version>,
    evidence: Vec<Evidence>,
    wake_ups: Option<WakeUps>,
    appointment: Option<Box<Appointment>>,
    via: Via,
}

impl Device {
    /// An unknown time has passed since the device was so, in which it may have been offered these versions.
    pub fn put_back(&mut self, versions: impl IntoIterator<Item = Version>, now: UtcMillis) {
        for evidence in &mut self.evidence {
            *evidence = evidence.put_back();
        }
        for version in versions {
            let known = self.evidence.iter().any(|it| it.version == version);
            if !known && self.evidence.len() < MAX_VERSIONS {
                self.evidence.push(Evidence::unknown(version, now));
            }
        }
    }

    /// The endpoint name of the gateway through which it is reached, where there is one.
    pub fn gateway(&self) -> Option<&str> {
        self.via.gateway()
    }

    /// The operator says how it is reached.
    pub fn set_via(&mut self, via: Via) {
        self.via = via;
    }

    /// Applies a change of the device; others mean nothing to it.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Registered {
                registration,
                wake_ups,
                at,
                ..
            } => {
                self.wake_ups = *wake_ups;
                let before = self.registration.as_deref();
                let now = registration.clone().after(before);
                self.registration = Some(Box::new(now));
                self.last_heard_at = Some(*at);
            }
            Change::Deregistered { .. } => self.registration = None,
            Change::VersionReported { version, at, .. } => {
                self.version = Some(*version);
                self.heard(*at);
            }
            Change::CoverageReported { reading, .. } => {
                self.coverage = Some(*reading);
                self.heard(reading.at);
            }
            Change::Evidence { evidence, at, .. } => {
                self.evidence.clone_from(evidence);
                self.heard(*at);
            }
            Change::Appointed { appointment, .. } => {
                self.appointment = appointment.map(Box::new);
            }
            Change::Stage { .. }
            | Change::Note { .. }
            | Change::Progress { .. }
            | Change::Serves { .. }
            | Change::KeptAwake { .. }
            | Change::Traffic { .. }
            | Change::Learnt(_)
            | Change::Admitted { .. }
            | Change::LetGo { .. }
            | Change::Ended { .. } => {}
            Change::Via { before, via, .. } => {
                if self.gateway() == before.as_deref() {
                    self.via = Via::Gateway(via.clone());
                }
            }
        }
    }

    fn heard(&mut self, at: UtcMillis) {
        self.last_heard_at = self.last_heard_at.max(Some(at));
    }

    /// As it is given back after a restart.
    pub fn record(&self, endpoint: &str, product: &str, protocol: Protocol) -> DeviceRecord {
        DeviceRecord {
            endpoint: endpoint.to_owned(),
            product: product.to_owned(),
            protocol,
            via: self.via.clone(),
            secure: false,
            registration: self.registration.as_deref().cloned(),
            last_heard_at: self.last_heard_at,
            coverage: self.coverage,
            version: self.version,
            evidence: self.evidence.clone(),
            wake_ups: self.wake_ups,
            appointment: self.appointment.as_deref().copied(),
        }
    }
}

/// The device that a change is about, by its name.
pub fn device_of(change: &Change) -> Option<&str> {
    match change {
        Change::Registered { endpoint, .. }
        | Change::Deregistered { endpoint, .. }
        | Change::VersionReported { endpoint, .. }
        | Change::CoverageReported { endpoint, .. }
        | Change::Evidence { endpoint, .. }
        | Change::Appointed { endpoint, .. }
        | Change::Via { endpoint, .. } => Some(endpoint),
        Change::Stage { .. }
        | Change::Note { .. }
        | Change::Progress { .. }
        | Change::Serves { .. }
        | Change::KeptAwake { .. }
        | Change::Traffic { .. }
        | Change::Learnt(_)
        | Change::Admitted { .. }
        | Change::LetGo { .. }
        | Change::Ended { .. } => None,
    }
}

/// An upgrade as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Where it stands.
    pub state: UpgradeState,
    /// Attempts that have begun.
    pub attempt: u32,
    /// A waiting upgrade begins at this time or later.
    pub not_before: UtcMillis,
    /// The stage that was entered last, in this batch of changes at least.
    pub stage: Option<Box<StageChange>>,
    /// The cell in which it waits for a slot, has one, or had one when it ended.
    pub cell: Option<u32>,
    /// Its limit there.
    pub cell_limit: Option<u32>,
    /// How far this attempt's download is.
    pub progress: Option<Progress>,
    /// What its device is served, where that is another package than the first of its task, or another step.
    pub served: Option<Served>,
    /// When the first attempt began.
    pub started_at: Option<UtcMillis>,
    /// How the last attempt ended.
    pub ending: Option<Box<Ending>>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// How.
    pub outcome: Outcome,
    /// What is known of that, where somebody reads it.
    pub facts: Option<Box<Facts>>,
    /// When.
    pub at: UtcMillis,
}

impl Ending {
    /// Of what an operator has ended while nobody had it.
    pub fn unwanted(at: UtcMillis) -> Self {
        let outcome = Outcome::Cancelled(Cancellation::Upgrade);
        let facts = Some(Box::new(outcome.facts()));
        Self { outcome, facts, at }
    }
}

/// What of an upgrade changed; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changed {
    /// Nothing: the change comes too late.
    Nothing,
    /// How far the download is; it is none yet of what the device is served now.
    Progress,
    /// The stage.
    Stage,
    /// It has begun, or ended for now or for good.
    Phase,
}

/// The upgrade has ended: the engine that goes on with it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradeOver;

impl Upgrade {
    /// One that waits for its first attempt.
    pub const fn waiting(not_before: UtcMillis) -> Self {
        Self {
            state: UpgradeState::Pending,
            attempt: 0,
            not_before,
            stage: None,
            cell: None,
            cell_limit: None,
            progress: None,
            served: None,
            started_at: None,
            ending: None,
        }
    }

    /// Whether a change of that attempt is still to be taken: not of one that has ended.
    const fn takes(&self, attempt: u32) -> bool {
        match self.state {
            UpgradeState::Active(_) => self.attempt <= attempt,
            UpgradeState::Pending => self.attempt < attempt,
            UpgradeState::Succeeded | UpgradeState::Failed | UpgradeState::Cancelled => false,
        }
    }

    /// [`Change::Stage`].
    ///
    /// # Errors
    /// The upgrade has ended. A stage of an attempt whose end is known is merely late.
    pub fn stage(
        &mut self,
        attempt: u32,
        change: &StageChange,
        at: UtcMillis,
    ) -> Result<Changed, UpgradeOver> {
        if !self.takes(attempt) {
            return if self.state.is_final() {
                Err(UpgradeOver)
            } else {
                Ok(Changed::Nothing)
            };
        }
        let follows = matches!(self.state, UpgradeState::Active(_));
        if self.attempt != attempt {
            self.attempt = attempt;
            self.progress = None;
            // what it was served last is not known to fit; it begins anew
            self.served = self.served.map(|served| Served::first(served.package));
        }
        self.state = UpgradeState::Active(change.stage);
        self.cell = change.cell;
        self.cell_limit = change.cell_limit;
        self.started_at = self.started_at.or(Some(at));
        match &mut self.stage {
            Some(stage) => **stage = change.clone(),
            None => self.stage = Some(Box::new(change.clone())),
        }
        Ok(if follows {
            Changed::Stage
        } else {
            Changed::Phase
        })
    }

    /// [`Change::Serves`].
    pub fn serves(&mut self, attempt: u32, served: Served) -> Changed {
        let runs = matches!(self.state, UpgradeState::Active(_)) && self.attempt == attempt;
        if !runs {
            return Changed::Nothing;
        }
        self.served = Some(served);
        self.progress = None;
        Changed::Progress
    }

    /// [`Change::Progress`].
    pub const fn progress(&mut self, progress: Progress) -> Changed {
        if !matches!(self.state, UpgradeState::Active(_)) {
            return Changed::Nothing;
        }
        self.progress = Some(progress);
        Changed::Progress
    }

    /// [`Change::Ended`]. With `retry_at` the upgrade waits for its next attempt; whether that still makes sense is for the
    /// caller to know. One that was taken back keeps its turn: the windows of its task tell when it begins again.
    pub fn ended(&mut self, attempt: u32, ending: Ending, retry_at: Option<UtcMillis>) -> Changed {
        if !self.takes(attempt) {
            return Changed::Nothing;
        }
        self.attempt = attempt;
        self.stage = None;
        if let Some(retry_at) = retry_at {
            self.state = UpgradeState::Pending;
            if !ending.outcome.is_taken_back() {
                self.not_before = retry_at;
            }
            self.cell = None;
            self.cell_limit = None;
            self.progress = None;
        } else {
            // The cell stays: it tells where the upgrade took place.
            self.state = match ending.outcome {
                Outcome::Succeeded(_) => UpgradeState::Succeeded,
                Outcome::Failed(_) => UpgradeState::Failed,
                Outcome::Cancelled(_) => UpgradeState::Cancelled,
            };
        }
        self.ending = Some(Box::new(ending));
        Changed::Phase
    }

    /// Whether that attempt runs.
    pub fn runs(&self, attempt: u32) -> bool {
        matches!(self.state, UpgradeState::Active(_)) && self.attempt == attempt
    }

    /// [`Change::LetGo`]. It keeps its turn. Whether another attempt still makes sense is for the caller to know.
    pub fn let_go(&mut self, attempt: u32) -> Changed {
        if !self.runs(attempt) {
            return Changed::Nothing;
        }
        self.state = UpgradeState::Pending;
        self.stage = None;
        self.cell = None;
        self.cell_limit = None;
        self.progress = None;
        Changed::Phase
    }

    /// The cell in which it waits for a slot, or holds one.
    pub fn in_cell(state: UpgradeState, cell: Option<u32>) -> Option<(u32, InCell)> {
        match state {
            UpgradeState::Active(Stage::WaitingForSlot) => Some((cell?, InCell::Waits)),
            UpgradeState::Active(held) if held.holds_slot() => Some((cell?, InCell::Holds)),
            _ => None,
        }
    }
}

/// How an upgrade is in its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InCell {
    /// It waits for a slot.
    Waits,
    /// It holds a slot.
    Holds,
}
