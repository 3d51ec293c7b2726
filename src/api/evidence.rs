//! `/v1/evidence`: whom a vulnerability concerns, who was reached when, and who was not and why.

pub mod archive;
pub(super) mod export;
mod sending;
mod walk;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use archive::Manifest;

use super::{
    ApiState,
    exports::{Place, Places},
    extract::{ListBody, Paging, Query},
    problem::Problem,
};
use crate::{
    access::{Caller, Scope},
    package::{CveId, Version},
    signing::SigningKey,
    store::{MendedProduct, Reach, Standing, UpgradeState, Why},
    tenant,
};
use walk::Walk;

/// So many go through the whole fleet at once.
const MAX_WALKS: usize = 2;
/// Of these for one caller.
const MAX_WALKS_EACH: usize = 1;
/// So many exports are made or sent at once.
const MAX_SENT: usize = 16;
/// Of these to one caller.
const MAX_SENT_EACH: usize = 4;
/// Devices that are looked at for one page, where few are of the standing that is asked for.
const LOOKED_AT: usize = 10_000;

/// What makes evidence, and signs it.
#[derive(Debug)]
pub struct Evidence {
    key: Option<SigningKey>,
    /// Where exports grow before they are sent.
    dir: PathBuf,
    places: Arc<Places>,
    sending: Arc<Places>,
}

impl Evidence {
    /// With the carrier's key, if there is one. Exports grow in `dir`, without a name.
    pub fn new(key: Option<SigningKey>, dir: &Path) -> Self {
        Self {
            key,
            dir: dir.to_owned(),
            places: Places::new(MAX_WALKS, MAX_WALKS_EACH),
            sending: Places::new(MAX_SENT, MAX_SENT_EACH),
        }
    }

    /// A place for going through the whole fleet. A tenant's callers never have all.
    pub(super) fn place(&self, caller: &Caller, share: usize) -> Result<Place, Problem> {
        let share = share.min(MAX_WALKS - 1);
        let what = "exports or counts of the whole fleet";
        self.places.take(caller, share, what)
    }

    /// A place for an export from its beginning until it is sent.
    pub(super) fn place_to_send(&self, caller: &Caller, share: usize) -> Result<Place, Problem> {
        self.sending.take(caller, share, "exports")
    }
}

/// What a vulnerability is to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StandingName {
    /// It runs a version that mends it.
    Mended,
    /// It runs a version below.
    Affected,
    /// It has not told what it runs, or runs a version between two that mend it.
    Unknown,
}

impl From<StandingName> for Standing {
    fn from(name: StandingName) -> Self {
        match name {
            StandingName::Mended => Self::Mended,
            StandingName::Affected => Self::Affected,
            StandingName::Unknown => Self::Unknown,
        }
    }
}

/// A product with packages that mend the vulnerability.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(super) struct MendedProductBody {
    /// Whose it is; not there where it is the tenant `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The product.
    product: String,
    /// The versions that mend it, the lowest first.
    mended_by: Vec<String>,
}

impl From<&MendedProduct> for MendedProductBody {
    fn from(product: &MendedProduct) -> Self {
        let versions = product.mending.versions().iter();
        Self {
            tenant: tenant::told(&product.product),
            product: tenant::product_name(&product.product).to_owned(),
            mended_by: versions.map(Version::to_string).collect(),
        }
    }
}

/// The first upgrade to a mending version that succeeded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReachedBody {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// The version.
    version: String,
    /// `upgraded`, or `already_current`: the device was found to run the version.
    reason: String,
    /// Its task.
    task_id: i64,
    /// The task's name.
    task_name: String,
    /// The upgrade.
    upgrade_id: i64,
}

/// The newest upgrade to a mending version.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LatestBody {
    /// Where it stands.
    #[schema(schema_with = states)]
    state: &'static str,
    /// How its last attempt ended, as of an outcome; `null` while none has.
    #[schema(required)]
    reason: Option<String>,
    /// Its task.
    task_id: i64,
    /// The task's name.
    task_name: String,
    /// The upgrade.
    upgrade_id: i64,
}

fn states() -> utoipa::openapi::Object {
    names(UpgradeState::all().map(UpgradeState::name).collect())
}

fn reasons() -> utoipa::openapi::Object {
    names(Why::ALL.map(Why::code).to_vec())
}

fn names(names: Vec<&'static str>) -> utoipa::openapi::Object {
    utoipa::openapi::Object::builder()
        .schema_type(utoipa::openapi::Type::String)
        .enum_values(Some(names))
        .build()
}

/// What is known of a device that the vulnerability may concern.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeviceEvidence {
    /// The endpoint name.
    endpoint: String,
    /// Whose it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Its product.
    product: String,
    /// What it told last that it runs.
    #[schema(required)]
    version: Option<String>,
    /// What the vulnerability is to it, by its version.
    standing: StandingName,
    /// How it came to be mended, or why it is not (docs/evidence.md).
    #[schema(schema_with = reasons)]
    why: &'static str,
    /// Why it is excluded from upgrades, while it is.
    #[schema(required)]
    exclusion_reason: Option<String>,
    /// When it was heard last, as it is stored.
    #[schema(required, format = DateTime)]
    last_heard_at: Option<String>,
    /// Its first upgrade to a mending version that succeeded.
    #[schema(required)]
    reached: Option<ReachedBody>,
    /// Its newest upgrade to a mending version.
    #[schema(required)]
    latest: Option<LatestBody>,
}

impl DeviceEvidence {
    fn new(product: &MendedProduct, reach: Reach) -> Self {
        let (standing, why) = reach.judge(&product.mending);
        Self {
            endpoint: reach.endpoint,
            tenant: tenant::told(&product.product),
            product: tenant::product_name(&product.product).to_owned(),
            version: reach.version.map(|version| version.to_string()),
            standing: match standing {
                Standing::Mended => StandingName::Mended,
                Standing::Affected => StandingName::Affected,
                Standing::Unknown => StandingName::Unknown,
            },
            why: why.code(),
            exclusion_reason: reach.excluded,
            last_heard_at: reach.last_heard_at.map(|at| at.to_string()),
            reached: reach.reached.map(|reached| ReachedBody {
                at: reached.at.to_string(),
                version: reached.version.to_string(),
                reason: reached.reason,
                task_id: reached.task.0,
                task_name: reached.task_name,
                upgrade_id: reached.upgrade.0,
            }),
            latest: reach.latest.map(|latest| LatestBody {
                state: latest.state.name(),
                reason: latest.reason,
                task_id: latest.task.0,
                task_name: latest.task_name,
                upgrade_id: latest.upgrade.0,
            }),
        }
    }
}

/// How many devices there are of each standing, and of each reason.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub(super) struct EvidenceCounts {
    /// Devices of the products that the vulnerability concerns.
    devices: u64,
    /// Those that run a version which mends it.
    mended: u64,
    /// Those that run a version below.
    affected: u64,
    /// Those of which nobody knows.
    unknown: u64,
    /// Devices by the code of `why`. Codes of which there is none are left out.
    why: BTreeMap<String, u64>,
}

impl EvidenceCounts {
    fn add(&mut self, device: &DeviceEvidence) {
        self.devices += 1;
        *match device.standing {
            StandingName::Mended => &mut self.mended,
            StandingName::Affected => &mut self.affected,
            StandingName::Unknown => &mut self.unknown,
        } += 1;
        *self.why.entry(device.why.to_owned()).or_default() += 1;
    }
}

/// Which vulnerability.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CountEvidenceParams {
    /// The vulnerability.
    #[param(
        pattern = "^CVE-[0-9]{4}-[0-9]{4,19}$",
        max_length = 28,
        example = "CVE-2026-12345"
    )]
    cve: String,
}

/// Which devices to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EvidenceParams {
    /// The vulnerability.
    #[param(
        pattern = "^CVE-[0-9]{4}-[0-9]{4,19}$",
        max_length = 28,
        example = "CVE-2026-12345"
    )]
    cve: String,
    /// Only devices to which it is this.
    #[param(inline)]
    standing: Option<StandingName>,
    /// Items in the answer, 1 to 1000; 100 when not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; the first page when not given.
    cursor: Option<String>,
}

/// A page of devices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EvidenceBody {
    /// The vulnerability.
    cve: String,
    /// When this was looked at.
    #[schema(format = DateTime)]
    at: String,
    /// The products that have packages which mend it, and their versions.
    products: Vec<MendedProductBody>,
    #[serde(flatten)]
    list: ListBody<DeviceEvidence>,
}

/// How many devices there are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EvidenceCountBody {
    /// The vulnerability.
    cve: String,
    /// When counting began.
    #[schema(format = DateTime)]
    at: String,
    /// The products that have packages which mend it, and their versions.
    products: Vec<MendedProductBody>,
    /// The numbers.
    counts: EvidenceCounts,
}

/// The vulnerability, and the products that have packages which mend it. One that no package mends is not there: an empty list would
/// be taken for nobody being affected.
async fn concerned(
    state: &ApiState,
    scope: &Scope,
    cve: &str,
) -> Result<(CveId, Vec<MendedProduct>), Problem> {
    let cve = CveId::new(cve).map_err(|error| Problem::field("cve", error))?;
    let mut products = state.store.mended_products(&cve).await?;
    products.retain(|product| scope.has_all_of(tenant::owner(&product.product)));
    if products.is_empty() {
        return Err(Problem::not_found(format!(
            "no package says that it mends {cve}: whom it concerns is not known; name it in cves_mended of a package"
        )));
    }
    Ok((cve, products))
}

/// List whom a vulnerability concerns.
///
/// All devices of the products that have a package which mends it (`cves_mended`), ordered by product and endpoint name: what it is to
/// them by the version that they tell, who was reached when and by which task, and who was not and why. With `standing`, pages may be
/// short, or empty, although others follow: at most 10,000 devices are looked at for one.
#[utoipa::path(get, path = "/v1/evidence", operation_id = "list_evidence", tag = "evidence", params(EvidenceParams),
    responses(
        (status = 200, description = "A page", body = EvidenceBody),
        (status = 400, description = "A parameter is missing or unknown", body = Problem),
        (status = 404, description = "No package says that it mends it", body = Problem),
        (status = 422, description = "A parameter is not valid", body = Problem),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(params): Query<EvidenceParams>,
) -> Result<Json<EvidenceBody>, Problem> {
    let paging = Paging::new(params.limit, params.cursor);
    let limit = usize::try_from(paging.limit()?).unwrap_or(usize::MAX);
    let after = paging.after::<String>("evidence")?;
    let at = state.now();
    let (cve, products) = concerned(&state, &scope, &params.cve).await?;
    let mut walk = Walk::new(products);
    if let Some(after) = &after {
        walk.go_behind(after)?;
    }
    let named = walk
        .products()
        .iter()
        .map(MendedProductBody::from)
        .collect();
    let mut items = Vec::new();
    let mut looked_at = 0;
    while items.len() < limit && looked_at < LOOKED_AT {
        let wanted = u32::try_from(limit - items.len()).unwrap_or(u32::MAX);
        let rows = if params.standing.is_some() {
            walk::ROWS
        } else {
            wanted
        };
        let Some(part) = walk.next(&*state.store, rows).await? else {
            break;
        };
        looked_at += part.len();
        for device in part {
            if items.len() == limit {
                break;
            }
            walk.passed(&device);
            if params
                .standing
                .is_none_or(|standing| standing == device.standing)
            {
                items.push(device);
            }
        }
    }
    Ok(Json(EvidenceBody {
        cve: cve.to_string(),
        at: at.to_string(),
        products: named,
        list: ListBody::after(items, "evidence", walk.place()),
    }))
}

/// Count whom a vulnerability concerns.
///
/// All devices are looked at, in parts: of a million this takes a while (docs/evidence.md). Devices that change meanwhile are counted as
/// they were or as they are.
#[utoipa::path(get, path = "/v1/evidence/count", operation_id = "count_evidence", tag = "evidence", params(CountEvidenceParams),
    responses(
        (status = 200, description = "The numbers", body = EvidenceCountBody),
        (status = 400, description = "A parameter is missing or unknown", body = Problem),
        (status = 404, description = "No package says that it mends it", body = Problem),
        (status = 422, description = "A parameter is not valid", body = Problem),
    ))]
pub(super) async fn count(
    State(state): State<ApiState>,
    caller: Caller,
    scope: Scope,
    Query(params): Query<CountEvidenceParams>,
) -> Result<Json<EvidenceCountBody>, Problem> {
    let at = state.now();
    let (cve, products) = concerned(&state, &scope, &params.cve).await?;
    let share = state.config.get().tenants.max_exports;
    let _place = state.evidence.place(&caller, share)?;
    let mut walk = Walk::new(products);
    let mut counts = EvidenceCounts::default();
    while let Some(part) = walk.next(&*state.store, walk::ROWS).await? {
        for device in &part {
            counts.add(device);
            walk.passed(device);
        }
    }
    Ok(Json(EvidenceCountBody {
        cve: cve.to_string(),
        at: at.to_string(),
        products: walk
            .products()
            .iter()
            .map(MendedProductBody::from)
            .collect(),
        counts,
    }))
}
