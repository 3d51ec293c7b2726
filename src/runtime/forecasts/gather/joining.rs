//! How many devices a day join a task: as many as were added in the last weeks, of those that it is for.

use super::Gather;
use crate::{
    filter::Filter,
    store::{DeviceFilter, NewTask, Selection, StoreError, Targets},
    task::{Membership, TaskRules},
};

/// Weeks that are looked at, each in days until now; the last first.
const WEEKS: [&str; 4] = [
    "created>=-7d",
    "created>=-14d",
    "created>=-21d",
    "created>=-28d",
];

/// Whom a task is for that is not created.
pub(super) fn targets(new: &NewTask) -> Targets {
    match &new.selection {
        Selection::Filter(filter) => Targets {
            filter: Some(filter.clone()),
            group: None,
        },
        Selection::Group(group) => Targets {
            filter: None,
            group: Some(*group),
        },
        Selection::Devices(_) | Selection::Product(_) | Selection::All => Targets::default(),
    }
}

impl Gather {
    /// So many devices a day join a task with these rules that is for those targets; `None` where nobody may.
    pub(super) async fn joining_per_day(
        &self,
        rules: &TaskRules,
        product: &str,
        targets: Option<Targets>,
    ) -> Result<Option<f64>, StoreError> {
        let Some(targets) = targets.filter(|_| rules.membership == Membership::Joining) else {
            return Ok(None);
        };
        let mut since = Vec::with_capacity(WEEKS.len());
        for text in WEEKS {
            let Ok(added) = Filter::parse(text) else {
                continue; // each of them is a filter
            };
            let filter = match targets.filter.clone() {
                Some(filter) => filter.and(added),
                None => added,
            };
            let filter = DeviceFilter {
                product: Some(product.to_owned()),
                group: targets.group,
                filter: Some(filter),
                now: self.now,
                ..DeviceFilter::default()
            };
            since.push(self.store.count_devices(&filter).await?);
        }
        Ok(Some(usual_week(&since) / 7.0))
    }
}

/// Of weeks the one with so many devices that no more than one had fewer: a whole fleet that is added on one day is no rate. `since` has
/// the devices of the last one, the last two, and so on.
fn usual_week(since: &[u64]) -> f64 {
    let before = [0].iter().chain(since);
    let mut weeks: Vec<u64> = (since.iter().zip(before))
        .map(|(until, before)| until.saturating_sub(*before))
        .collect();
    weeks.sort_unstable();
    weeks.get(1).map_or(0.0, |week| super::float(*week))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_week_is_told_by_a_filter() {
        for text in WEEKS {
            assert!(Filter::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_fleet_that_is_added_on_one_day_is_no_rate() {
        for (since, week) in [
            ([70, 140, 210, 280], 70.0),
            ([70, 140, 100_000, 100_070], 70.0),
            ([0, 0, 0, 1_000_000], 0.0),
            ([14, 14, 28, 35], 7.0),
            ([0, 0, 0, 0], 0.0),
        ] {
            assert!(
                (usual_week(&since) - week).abs() < f64::EPSILON,
                "{since:?}"
            );
        }
    }
}
