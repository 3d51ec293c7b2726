use super::{Action, Negotiation, Place, Rules, Step, Transfer, stay};
use crate::{
    clock::{Now, UtcMillis},
    ledger::{Coverage, Deadline, Evidence, Lane, Stage, UpdateObject},
    upgrade::transfer::{
        Resumed,
        object::{ByObject, ResumedByObject},
        pcp::Pcp,
    },
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
    /// Its limit in that cell; the highest number where it is in none.
    pub cell_limit: u32,
    /// The version was accepted (downloading), the command received (executing).
    pub confirmed: bool,
    /// Errors of its download that the device has reported.
    pub download_errors: u8,
    /// The segment asked for last.
    pub segment: Option<u16>,
    /// The device was served the whole package, where it fetches that over HTTP.
    pub whole: bool,
    /// It was served some of it, as far as that was stored before anything left.
    pub begun: bool,
    /// What the device told of its coverage last.
    pub coverage: Coverage,
    /// What it did with the target since it restarted last.
    pub evidence: Option<Evidence>,
}

impl Negotiation {
    /// An upgrade that goes on after a restart: in its stage, under what is left of its limit. `stored` is
    /// what the store held of it, `now` reads both clocks at the same moment.
    #[expect(clippy::too_many_lines, reason = "one match over all stages")]
    pub fn resume(now: Now, stored: &Stored, rules: &Rules<'_>) -> Step {
        let until = now.instant_at(stored.deadline_at);
        // one that is in no cell
        let home = rules.home.filter(|_| stored.queued_at.is_some());
        let place = stored.cell.map(Lane::Cell).or(home).map(|lane| Place {
            lane,
            limit: stored.cell_limit,
            since: stored
                .queued_at
                .map_or(now.instant, |at| now.instant_at(at)),
            until: stored
                .slot_deadline_at
                .map_or(until, |at| now.instant_at(at)),
            slots_returned: 0,
        });
        let claimed = stored.evidence.is_some_and(|it| it.claimed);
        let through = stored.stage == Stage::Executing && (claimed || !stored.whole);
        let over_mqtt = Resumed {
            at: now.instant,
            until,
            confirmed: stored.confirmed,
            whole: stored.whole,
            begun: stored.begun,
            lost: stored.begun && !rules.connections_told,
            through_until: through
                .then(|| now.instant + Deadline::Execution.duration(rules.upgrade)),
            download_errors: stored.download_errors,
        };
        if stored.stage.is_transfer()
            && let Some((transfer, actions)) =
                Transfer::resume_over_mqtt(rules.protocol, &over_mqtt)
        {
            return (Self::Transferring { place, transfer }, actions);
        }
        if stored.stage.is_transfer()
            && rules.object != UpdateObject::Pcp
            && let Some(place) = place
        {
            let by_object = ResumedByObject {
                at: now.instant,
                until,
                installing: stored.stage == Stage::Executing,
                confirmed: stored.confirmed,
                whole: stored.whole,
                // what it did before it restarts is known until it does
                restarted: stored.evidence.is_none(),
            };
            let (transfer, actions) = ByObject::resume(&by_object, rules);
            let (place, transfer) = (Some(place), Transfer::ByObject(transfer));
            return (Self::Transferring { place, transfer }, actions);
        }
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
                let (pcp, actions) = Pcp::resume_download(
                    now.instant,
                    until,
                    stored.confirmed,
                    stored.segment,
                    rules,
                );
                let (place, transfer) = (Some(place), Transfer::Pcp(pcp));
                (Self::Transferring { place, transfer }, actions)
            }
            (Stage::Executing, Some(place)) => {
                let (confirmed, evidence) = (stored.confirmed, stored.evidence.as_ref());
                let pcp = Pcp::resume_execution(now.instant, until, confirmed, evidence, rules);
                let (place, transfer) = (Some(place), Transfer::Pcp(pcp));
                stay(Self::Transferring { place, transfer })
            }
            // A slot without a cell was never stored; beginning anew is what is left.
            (Stage::WaitingForDevice, _) | (_, None) => stay(Self::WaitingForDevice { until }),
        }
    }
}
