//! What a device has done bears on what it says: a version is a claim, and evidence outranks it.
//!
//! A device library in wide use answers the version query (PCP 19) and reports the upgrade (24) with the version that it
//! was notified of last, whatever it runs. So of each version is kept what the device did since it restarted last: it
//! accepted the version or asked for segments of it, and cannot run it yet; it was notified of it, or told to install it, and
//! may have restarted without a word; it reported a failure, which stands until it restarts.
//!
//! ```text
//!                takes the version          is told to install it      restarts
//! (nothing) ──▶ premature ──────────────▶ unproven ──────────▶ (nothing: a claim is sound)
//!                   │ reports a failure       │
//!                   ▼                         ▼
//!                refuted ◀────────────────────┘
//! ```
//!
//! This belongs to the device, is stored with it, and outlives attempts and tasks.

use crate::{
    clock::UtcMillis,
    ledger::{Evidence, FailedIn, MAX_VERSIONS, ReportedFailure},
    package::Version,
};

/// How a device says that it runs a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It was asked (PCP 19), or calls the version its latest (20 with 0x03).
    Answer,
    /// It reports a successful upgrade by itself (PCP 24).
    Report,
}

/// What a claim to run a version is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credence {
    /// Nothing speaks against it.
    Sound,
    /// It was notified of the version, or took it and was told to install it; that it has restarted since was not seen.
    Unproven,
    /// It took the version and was never told to install it: it does not run it yet.
    Premature,
    /// It reported this failure, and has not restarted since.
    Refuted(ReportedFailure),
}

/// What is known to have happened to a device's copy of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It is notified of it (PCP 20). Whether it has heard that is not known: its answers may be lost.
    Offered,
    /// It asked for a segment, accepted the notification, or reported that it holds everything.
    Takes,
    /// It holds everything, by its report (PCP 22).
    Holds,
    /// It was told to install it (PCP 23).
    Commanded,
    /// It said that it runs it, when it was asked after the command.
    Claims,
    /// It reported a failure.
    Fails(ReportedFailure),
    /// It was found to run it: what was done before is explained.
    Runs,
}

/// The evidence of one device: of at most four versions, the newest last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EvidenceList(Vec<Evidence>);

impl EvidenceList {
    /// What was stored.
    pub fn restored(mut stored: Vec<Evidence>) -> Self {
        stored.truncate(MAX_VERSIONS);
        Self(stored)
    }

    /// What is to be stored.
    pub fn as_slice(&self) -> &[Evidence] {
        &self.0
    }

    /// Whether there is none: the device has restarted, or was never offered anything.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The version that the newest evidence is about.
    pub fn newest(&self) -> Option<&Evidence> {
        self.0.last()
    }

    /// The evidence about a version.
    pub fn of(&self, version: Version) -> Option<&Evidence> {
        self.0.iter().find(|evidence| evidence.version == version)
    }

    /// What a claim to run `version` is worth.
    pub fn credence(&self, version: Version, claim: Claim) -> Credence {
        match self.of(version) {
            None => Credence::Sound,
            // What it reports of a command that it got after the failure is news.
            Some(evidence) if evidence.commanded && claim == Claim::Report => Credence::Unproven,
            Some(Evidence {
                failure: Some(failure),
                ..
            }) => Credence::Refuted(*failure),
            Some(evidence) if evidence.commanded || !evidence.taken => Credence::Unproven,
            Some(_) => Credence::Premature,
        }
    }

    /// Takes note of what happened to a version. Returns whether that is news.
    pub fn note(&mut self, version: Version, sign: Sign, at: UtcMillis) -> bool {
        let known = self.0.iter().position(|it| it.version == version);
        let mut next = match (known, sign) {
            (Some(index), Sign::Runs) => {
                self.0.remove(index);
                return true;
            }
            (None, Sign::Runs | Sign::Commanded | Sign::Claims) | (Some(_), Sign::Offered) => {
                return false;
            }
            (Some(index), _) => self.0[index],
            (None, _) => Evidence {
                version,
                taken: false,
                commanded: false,
                claimed: false,
                failure: None,
                at,
            },
        };
        match sign {
            Sign::Takes => {
                next.taken = true;
                next.commanded = false;
                next.claimed = false;
            }
            Sign::Holds => {
                next.taken = true;
                (next.failure).take_if(|failure| failure.failed_in == FailedIn::Download);
            }
            Sign::Commanded => next.commanded = true,
            Sign::Claims => next.claimed = next.commanded,
            Sign::Fails(failure) => {
                next.commanded = false;
                next.claimed = false;
                next.failure = Some(failure);
            }
            Sign::Offered | Sign::Runs => {}
        }
        match known {
            Some(index) if self.0[index] == next => return false,
            Some(index) => {
                self.0.remove(index);
            }
            None if self.0.len() >= MAX_VERSIONS => {
                self.0.remove(0);
            }
            None => {}
        }
        self.0.push(Evidence { at, ..next });
        true
    }

    /// What is known of a version has happened again.
    pub fn renew(&mut self, version: Version, at: UtcMillis) {
        if let Some(index) = self.0.iter().position(|it| it.version == version) {
            let known = self.0.remove(index);
            self.0.push(Evidence { at, ..known });
        }
    }

    /// The device has restarted, so that what it says counts again. Returns whether there was anything to forget.
    pub fn restarted(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }

    /// What happened until `at` is no sign of a restart.
    pub fn not_before(&mut self, at: UtcMillis) {
        for evidence in &mut self.0 {
            evidence.at = evidence.at.max(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use pcp::ResultCode;

    use super::*;

    const AT: UtcMillis = UtcMillis(1_000);

    fn version(text: &str) -> Version {
        Version::new(text).unwrap()
    }

    fn failure(failed_in: FailedIn) -> ReportedFailure {
        ReportedFailure {
            failed_in,
            code: ResultCode::INSTALL_FAILED,
        }
    }

    fn after(signs: &[Sign]) -> EvidenceList {
        let mut list = EvidenceList::default();
        for sign in signs {
            list.note(version("V2"), *sign, AT);
        }
        list
    }

    #[test]
    fn what_a_claim_is_worth_follows_from_what_was_done() {
        let failed = failure(FailedIn::Installation);
        let fails = Sign::Fails(failed);
        let (takes, holds, commanded) = (Sign::Takes, Sign::Holds, Sign::Commanded);
        let refuted = Credence::Refuted(failed);
        let offered = Sign::Offered;
        let cases: [(&[Sign], Credence, Credence); 12] = [
            (&[], Credence::Sound, Credence::Sound),
            (&[offered], Credence::Unproven, Credence::Unproven),
            (&[offered, takes], Credence::Premature, Credence::Premature),
            // to notify it again takes nothing back
            (
                &[offered, takes, commanded, offered],
                Credence::Unproven,
                Credence::Unproven,
            ),
            (&[takes], Credence::Premature, Credence::Premature),
            (&[holds], Credence::Premature, Credence::Premature),
            (&[takes, commanded], Credence::Unproven, Credence::Unproven),
            (
                &[takes, commanded, takes],
                Credence::Premature,
                Credence::Premature,
            ),
            (&[takes, commanded, fails], refuted, refuted),
            (&[takes, commanded, fails, takes, holds], refuted, refuted),
            // what it reports of the second command is news, what it answers is not
            (
                &[takes, commanded, fails, commanded],
                refuted,
                Credence::Unproven,
            ),
            (
                &[takes, commanded, Sign::Runs],
                Credence::Sound,
                Credence::Sound,
            ),
        ];
        for (signs, answered, reported) in cases {
            let list = after(signs);
            let credence = |claim| list.credence(version("V2"), claim);
            assert_eq!(credence(Claim::Answer), answered, "{signs:?}");
            assert_eq!(credence(Claim::Report), reported, "{signs:?}");
            assert_eq!(list.credence(version("V3"), Claim::Answer), Credence::Sound);
        }
    }

    #[test]
    fn a_download_that_is_whole_after_all_has_not_failed() {
        let failed = Sign::Fails(failure(FailedIn::Download));
        let list = after(&[Sign::Takes, failed, Sign::Takes, Sign::Holds]);
        assert_eq!(
            list.credence(version("V2"), Claim::Answer),
            Credence::Premature
        );
    }

    #[test]
    fn a_restart_makes_every_claim_sound() {
        let failed = Sign::Fails(failure(FailedIn::Installation));
        let mut list = after(&[Sign::Takes, failed]);
        assert!(list.restarted());
        assert!(!list.restarted());
        assert_eq!(list.credence(version("V2"), Claim::Answer), Credence::Sound);
    }

    #[test]
    fn only_news_is_to_be_stored_and_the_newest_versions_are_kept() {
        let mut list = EvidenceList::default();
        assert!(!list.note(version("V0"), Sign::Commanded, AT));
        assert!(!list.note(version("V0"), Sign::Runs, AT));
        for n in 0..10 {
            let version = version(&format!("V{n}"));
            assert!(list.note(version, Sign::Takes, AT));
            assert!(!list.note(version, Sign::Takes, UtcMillis(2_000)));
            assert!(list.as_slice().len() <= MAX_VERSIONS);
        }
        assert_eq!(list.newest().unwrap().version, version("V9"));
        assert_eq!(list.of(version("V5")), None);
    }
}
