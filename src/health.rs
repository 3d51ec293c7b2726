//! What works and what does not: told by the parts that do the work, shown at `/readyz`.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A part of the server that may fail and recover while the rest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The database.
    Store,
    /// The device side.
    Shard,
    /// What starts and stops upgrades.
    Rollout,
    /// What grants slots.
    Gate,
    /// What writes down what the device side emits.
    Committer,
    /// What posts to webhooks.
    Webhooks,
    /// The admin API.
    Api,
    /// What serves packages over HTTP.
    Downloads,
    /// What serves end users' applications.
    App,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Store,
        Self::Shard,
        Self::Rollout,
        Self::Gate,
        Self::Committer,
        Self::Webhooks,
        Self::Api,
        Self::Downloads,
        Self::App,
    ];

    const fn index(self) -> usize {
        match self {
            Self::Store => 0,
            Self::Shard => 1,
            Self::Rollout => 2,
            Self::Gate => 3,
            Self::Committer => 4,
            Self::Webhooks => 5,
            Self::Api => 6,
            Self::Downloads => 7,
            Self::App => 8,
        }
    }

    /// The name shown at `/readyz`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Shard => "shard",
            Self::Rollout => "rollout",
            Self::Gate => "gate",
            Self::Committer => "committer",
            Self::Webhooks => "webhooks",
            Self::Api => "api",
            Self::Downloads => "downloads",
            Self::App => "app",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Debug, Default)]
struct Status {
    ok: AtomicBool,
    reason: Mutex<String>,
}

/// What works now. Shared by all parts; asking costs one atomic load.
#[derive(Debug)]
pub struct Health {
    parts: [Status; 9],
}

impl Health {
    /// Nothing has started yet.
    pub fn starting() -> Self {
        let health = Self {
            parts: Default::default(),
        };
        for part in Part::ALL {
            health.failed(part, "starting");
        }
        health
    }

    /// `part` works.
    pub fn works(&self, part: Part) {
        if let Some(status) = self.parts.get(part.index()) {
            status.ok.store(true, Ordering::Release);
        }
    }

    /// `part` does not work, and why.
    pub fn failed(&self, part: Part, reason: impl Into<String>) {
        if let Some(status) = self.parts.get(part.index()) {
            *status.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason.into();
            status.ok.store(false, Ordering::Release);
        }
    }

    /// Whether `part` works.
    pub fn is_ok(&self, part: Part) -> bool {
        self.parts
            .get(part.index())
            .is_some_and(|status| status.ok.load(Ordering::Acquire))
    }

    /// The parts that do not work, and why.
    pub fn problems(&self) -> Vec<(Part, String)> {
        Part::ALL
            .into_iter()
            .zip(&self.parts)
            .filter(|(_, status)| !status.ok.load(Ordering::Acquire))
            .map(|(part, status)| {
                let reason = status.reason.lock().unwrap_or_else(PoisonError::into_inner);
                (part, reason.clone())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_does_not_work_until_it_does() {
        let health = Health::starting();
        assert_eq!(health.problems().len(), Part::ALL.len());
        for part in Part::ALL {
            health.works(part);
        }
        assert_eq!(health.problems(), []);
        health.failed(Part::Store, "the disk is full");
        assert!(!health.is_ok(Part::Store) && health.is_ok(Part::Shard));
        assert_eq!(
            health.problems(),
            [(Part::Store, "the disk is full".to_owned())]
        );
    }
}
