//! Whom a task leaves out that is not created.

use std::collections::HashSet;

use super::{Gather, PART, selection::NAMED};
use crate::{
    clock::UtcMillis,
    filter::Filter,
    forecast::MOST_DEVICES,
    store::{CreateTaskError, DeviceDetail, DeviceFilter, NewTask},
};

/// Whom a task leaves out of its selection.
pub(super) struct LeftOut {
    names: HashSet<String>,
    filter: Option<Filter>,
    now: UtcMillis,
}

impl LeftOut {
    pub(super) async fn of(
        gather: &Gather,
        new: &NewTask,
        product: &str,
    ) -> Result<Self, CreateTaskError> {
        let exclude = &new.exclude;
        let mut names: HashSet<String> = exclude.devices.iter().cloned().collect();
        for part in exclude.devices.chunks(PART as usize) {
            let known = gather.store.devices_named(part).await?;
            let known: HashSet<&str> = known.iter().map(|it| it.device.endpoint.as_str()).collect();
            let unknown = part.iter().filter(|name| !known.contains(name.as_str()));
            let mut first: Vec<String> = unknown.cloned().collect();
            if !first.is_empty() {
                let count = first.len() as u64;
                first.truncate(NAMED);
                return Err(CreateTaskError::UnknownExcluded { count, first });
            }
        }
        if let Some(group) = exclude.group {
            if gather.store.group(group).await?.is_none() {
                return Err(CreateTaskError::ExcludedGroupNotFound(group));
            }
            let filter = DeviceFilter {
                product: Some(product.to_owned()),
                group: Some(group),
                now: new.created_at,
                ..DeviceFilter::default()
            };
            let mut after = None;
            loop {
                let page = gather
                    .store
                    .devices(&filter, after.as_deref(), PART)
                    .await?;
                names.extend(page.items.into_iter().map(|it| it.device.endpoint));
                after = page.next;
                if after.is_none() || names.len() > MOST_DEVICES {
                    break;
                }
            }
        }
        Ok(Self {
            names,
            filter: exclude.filter.clone(),
            now: new.created_at,
        })
    }

    pub(super) fn has(&self, detail: &DeviceDetail) -> bool {
        let matches = |filter: &Filter| filter.matches(detail, self.now);
        self.names.contains(&detail.device.endpoint) || self.filter.as_ref().is_some_and(matches)
    }
}
