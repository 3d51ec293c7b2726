//! For whom a task is that is not created, and why it could not be.

use std::collections::BTreeMap;

use super::{Gather, LeftOut, PART};
use crate::{
    ledger::PackageId,
    store::{CreateTaskError, DeviceDetail, DeviceFilter, NewTask, PackageRecord, Selection},
    task::Membership,
};

/// Names that an error tells of.
pub(super) const NAMED: usize = 5;

/// Where the next devices begin.
pub(super) enum Page {
    First,
    After(String),
    /// Of a list, those from this position on; somebody was found who is not excluded.
    Listed {
        from: usize,
        found: bool,
    },
    Last {
        found: bool,
    },
}

impl Page {
    fn found(&mut self) {
        if let Self::Listed { found, .. } | Self::Last { found } = self {
            *found = true;
        }
    }
}

impl Gather {
    /// Refuses a task that could not be created.
    pub(in crate::runtime) async fn check(&self, new: &NewTask) -> Result<(), CreateTaskError> {
        let package = self.package(new).await?;
        let out = LeftOut::of(self, new, &package.package.product).await?;
        let (mut excluded, mut left_out) = (0, 0);
        let mut after = Page::First;
        // until there is somebody
        while let Some(devices) = self.next(new, &package, &mut after).await? {
            let all = devices.len();
            let devices: Vec<_> = devices.into_iter().filter(|it| !out.has(it)).collect();
            left_out += (all - devices.len()) as u64;
            excluded += devices.iter().filter(|it| it.excluded.is_some()).count() as u64;
            let listed = matches!(new.selection, Selection::Devices(_));
            if !listed && devices.iter().any(|it| it.excluded.is_none()) {
                return Ok(());
            }
            if listed && devices.iter().any(|it| it.excluded.is_none()) {
                after.found();
            }
        }
        match after {
            Page::Last { found: true } => Ok(()),
            // others may come
            _ if new.rules.membership == Membership::Joining => Ok(()),
            _ if left_out > 0 => Err(CreateTaskError::AllLeftOut { left_out, excluded }),
            _ if excluded > 0 => Err(CreateTaskError::AllExcluded { excluded }),
            _ => Err(CreateTaskError::NoDevices {
                product: package.package.product,
            }),
        }
    }

    async fn usable(&self, id: PackageId) -> Result<PackageRecord, CreateTaskError> {
        let package = self.store.package(id).await?;
        let package = package.filter(|package| package.deleted_at.is_none());
        let package = package.ok_or(CreateTaskError::PackageNotFound(id))?;
        if let Some(at) = package.superseded_at {
            return Err(CreateTaskError::PackageSuperseded { package: id, at });
        }
        let product = self.store.product(&package.package.product).await?;
        product.signatures.vouched(package)
    }

    /// The package of a task, the first of several.
    pub(super) async fn package(&self, new: &NewTask) -> Result<PackageRecord, CreateTaskError> {
        let package = self.usable(new.package).await?;
        let mut versions = Vec::with_capacity(new.packages.packages.len());
        for (index, rule) in new.packages.packages.iter().enumerate() {
            let other = self.usable(rule.package_id).await?.package;
            if other.product != package.package.product {
                return Err(CreateTaskError::PackagesOfOtherProducts {
                    index,
                    product: other.product,
                    first: package.package.product,
                });
            }
            versions.push(other.version);
        }
        (new.packages.check_steps(&versions)).map_err(CreateTaskError::Packages)?;
        match &new.selection {
            Selection::Product(named) if *named != package.package.product => {
                return Err(CreateTaskError::OtherProduct {
                    package: package.package.product,
                    task: named.clone(),
                });
            }
            Selection::Group(group) if self.store.group(*group).await?.is_none() => {
                return Err(CreateTaskError::GroupNotFound(*group));
            }
            _ => {}
        }
        Ok(package)
    }

    /// The next devices that the task is for, those included that are excluded; `None` when there are none.
    pub(super) async fn next(
        &self,
        new: &NewTask,
        package: &PackageRecord,
        page: &mut Page,
    ) -> Result<Option<Vec<DeviceDetail>>, CreateTaskError> {
        let product = &package.package.product;
        if let Selection::Devices(names) = &new.selection {
            let (from, found) = match page {
                Page::First => (0, false),
                Page::Listed { from, found } => (*from, *found),
                _ => return Ok(None),
            };
            let part: Vec<String> = names
                .iter()
                .skip(from)
                .take(PART as usize)
                .cloned()
                .collect();
            if part.is_empty() {
                *page = Page::Last { found };
                return Ok(None);
            }
            let devices = self.store.devices_named(&part).await?;
            refuse_wrong(&part, &devices, product)?;
            *page = Page::Listed {
                from: from + part.len(),
                found,
            };
            return Ok(Some(devices));
        }
        let after = match page {
            Page::First => None,
            Page::After(after) => Some(std::mem::take(after)),
            _ => return Ok(None),
        };
        let mut filter = DeviceFilter {
            product: Some(product.clone()),
            now: new.created_at,
            ..DeviceFilter::default()
        };
        match &new.selection {
            Selection::Filter(given) => filter.filter = Some(given.clone()),
            Selection::Group(group) => filter.group = Some(*group),
            Selection::Devices(_) | Selection::Product(_) | Selection::All => {}
        }
        let found = self.store.devices(&filter, after.as_deref(), PART).await?;
        *page = match found.next {
            Some(next) => Page::After(next),
            None => Page::Last { found: false },
        };
        Ok(Some(found.items))
    }
}

/// Refuses names of devices that are not there, or of another product.
fn refuse_wrong(
    names: &[String],
    devices: &[DeviceDetail],
    product: &str,
) -> Result<(), CreateTaskError> {
    let known: BTreeMap<&str, &str> = (devices.iter())
        .map(|it| (it.device.endpoint.as_str(), it.device.product.as_str()))
        .collect();
    let some = |wrong: &dyn Fn(Option<&str>) -> bool| {
        let mut wrong: Vec<String> = (names.iter())
            .filter(|name| wrong(known.get(name.as_str()).copied()))
            .cloned()
            .collect();
        let count = wrong.len() as u64;
        wrong.truncate(NAMED);
        (count, wrong)
    };
    let (count, first) = some(&|product| product.is_none());
    if count > 0 {
        return Err(CreateTaskError::UnknownDevices { count, first });
    }
    let (count, first) = some(&|it| it.is_some_and(|it| it != product));
    if count > 0 {
        let product = product.to_owned();
        return Err(CreateTaskError::DevicesOfOtherProduct {
            product,
            count,
            first,
        });
    }
    Ok(())
}
