use super::{Action, Asked, Command, Place, Rules, Sota, Step, stay};
use crate::{
    clock::{Now, UtcMillis},
    ledger::{Coverage, Deadline, Evidence, FailedIn, Stage},
};

/// What is stored of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The stage.
    pub stage: Stage,
    /// When its limit runs out.
    pub deadline_at: UtcMillis,
    /// When the device began to wait for a slot.
    pub queued_at: Option<UtcMillis>,
    /// When the limit of that wait runs out.
    pub slot_deadline_at: Option<UtcMillis>,
    /// The cell that it waits for or holds a slot of.
    pub cell: Option<u32>,
    /// Its limit in that cell.
    pub cell_limit: u32,
    /// The version was accepted (downloading), the command received (executing).
    pub confirmed: bool,
    /// The segment asked for last.
    pub segment: Option<u16>,
    /// What the device told of its coverage last.
    pub coverage: Coverage,
    /// What it did with the target since it restarted last.
    pub evidence: Option<Evidence>,
}

impl Sota {
    /// An upgrade that goes on after a restart: in its stage, under what is left of its limit. `stored` is
    /// what the store held of it, `now` reads both clocks at the same moment.
    pub fn resume(now: Now, stored: &Stored, rules: &Rules<'_>) -> Step {
        let until = now.instant_at(stored.deadline_at);
        let soon = now.instant + Deadline::ResultGrace.duration(rules.upgrade);
        let place = stored.cell.map(|cell| Place {
            cell,
            limit: stored.cell_limit,
            since: stored
                .queued_at
                .map_or(now.instant, |at| now.instant_at(at)),
            until: stored
                .slot_deadline_at
                .map_or(until, |at| now.instant_at(at)),
            slots_returned: 0,
        });
        match (stored.stage, place) {
            (Stage::QueryingVersion, _) => (
                Self::QueryingVersion {
                    until,
                    repeat_at: now.instant + Deadline::RepeatQuestion.duration(rules.upgrade),
                },
                vec![Action::AskVersion],
            ),
            (Stage::QueryingCoverage, place) => (
                Self::QueryingCoverage { until, place },
                vec![Action::ReadCoverage],
            ),
            (Stage::QueryingCell, place) => {
                let state = Self::QueryingCell {
                    until,
                    // told before the cell was asked for alone
                    coverage: match stored.coverage.cell {
                        None => stored.coverage,
                        Some(_) => Coverage::default(),
                    },
                    place,
                };
                (state, vec![Action::ReadCell])
            }
            (Stage::WaitingForSlot, Some(place)) => stay(Self::WaitingForSlot { place }),
            (Stage::Downloading, Some(place)) => {
                let state = Self::Downloading {
                    until,
                    place,
                    accepted: stored.confirmed,
                    segment: stored.segment,
                    nudge_at: now.instant + Deadline::Nudge.duration(rules.upgrade),
                    pause: Deadline::Nudge.duration(rules.upgrade),
                    nudges: 0,
                    doubted: false,
                };
                // The notification may not have left before the restart.
                let again = (!stored.confirmed).then_some(Action::Notify);
                (state, again.into_iter().collect())
            }
            (Stage::Executing, Some(place)) => stay(Self::Executing {
                until,
                place,
                command: Command {
                    sent: 1,
                    sent_at: None,
                    delivered: stored.confirmed,
                    accepted: false,
                },
                // The command may not have left, or the result may have been missed.
                ask_at: soon,
                asked: match stored.evidence {
                    None => Asked::Perhaps,
                    Some(_) => Asked::No,
                },
                // Evidence of the download ends with the device's restart.
                restarted: stored.evidence.is_none(),
                doubted: false,
                claimed: (stored.evidence).is_some_and(|evidence| evidence.claimed),
                reported_early: false,
                failed: (stored.evidence)
                    .and_then(|evidence| evidence.failure.filter(|_| !evidence.commanded))
                    .filter(|failure| failure.failed_in == FailedIn::Installation),
            }),
            // A slot without a cell was never stored; beginning anew is what is left.
            (Stage::WaitingForDevice, _) | (_, None) => stay(Self::WaitingForDevice { until }),
        }
    }
}
