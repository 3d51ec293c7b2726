//! `/v1/offers`: what is offered to end users.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ApiState, etag,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    problem::Problem,
    scoped,
    tasks::{parse_time, standing::StandingTask},
};
use crate::{
    access::{Caller, Scope},
    home::{
        Channel, Conditions, MAX_FROM, MAX_STAGES, OfferError, OfferId, OfferMode, OfferStage,
        OfferTerms, OfferTexts, Texts, UpgradeKind,
    },
    package::Version,
    store::{NewOffer, OfferRecord},
    tenant,
};

/// On which terms something is offered.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OfferTermsBody {
    /// Which part of the device is upgraded: 0 main module, 1 Bluetooth, 2 GPRS, 3 Zigbee, 5 433 MHz, 6 NB-IoT, 9 MCU, 10 to 19
    /// extensions.
    #[serde(deserialize_with = "extract::whole")]
    #[schema(value_type = u8, minimum = 0, maximum = 19, example = 6)]
    channel: u8,
    /// How much an application urges: 0 it reminds, 2 the device is not to be used without, 3 it shows it to who asks.
    #[serde(deserialize_with = "extract::whole")]
    #[schema(value_type = u8, minimum = 0, maximum = 3, example = 0)]
    kind: u8,
    /// What is upgraded at once: 0 one channel, 1 the product as a whole; 0 when not given.
    #[serde(default, deserialize_with = "extract::whole")]
    #[schema(value_type = u8, minimum = 0, maximum = 1, default = 0)]
    mode: u8,
    /// Whether the device can be controlled meanwhile; not, when not given.
    #[serde(default)]
    controllable: bool,
    /// To how many of a hundred homes it is visible, 1 to 100; to all when not given. Who sees it sees it with a larger share too.
    #[serde(default = "all", deserialize_with = "extract::whole")]
    #[schema(value_type = u8, minimum = 1, maximum = 100, default = 100)]
    percent: u8,
    /// From when on it is visible to more homes, 10 times at most: each is later than the one before and has more percent, the first more
    /// than `percent`. A home that sees it goes on seeing it.
    #[serde(default)]
    #[schema(max_items = 10, default = json!([]))]
    stages: Vec<OfferStageBody>,
    /// What has to be true of a device.
    #[serde(default)]
    #[schema(default = json!({}))]
    conditions: OfferConditionsBody,
    /// What is told of it, by language.
    texts: OfferTextsBody,
}

const fn all() -> u8 {
    100
}

/// From when on an offer is visible to more homes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OfferStageBody {
    /// From then on, RFC 3339.
    #[schema(format = DateTime, example = "2027-03-08T00:00:00Z")]
    from: String,
    /// To how many of a hundred homes.
    #[serde(deserialize_with = "extract::whole")]
    #[schema(value_type = u8, minimum = 2, maximum = 100, example = 50)]
    percent: u8,
}

/// What has to be true of a device before it is upgraded.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct OfferConditionsBody {
    /// It runs one of these versions, 50 at most; any where there are none.
    #[schema(max_items = 50, example = json!(["V1.0", "V1.1"]))]
    from: Vec<String>,
    /// Its battery has so many percent, as its tag `battery` says. One without that tag is not upgraded.
    #[serde(deserialize_with = "extract::optional_whole")]
    #[schema(minimum = 1, maximum = 100)]
    battery_percent: Option<u8>,
    /// Its signal (RSRP) was so strong when it was measured last, dBm. Below it the user is asked.
    #[serde(deserialize_with = "extract::optional_whole")]
    #[schema(minimum = -156, maximum = -44)]
    rsrp_dbm: Option<i32>,
}

/// Texts by the tags of their languages (BCP 47), 20 at most, each of 1 to 2,000 characters.
type ByLanguage = BTreeMap<String, String>;

/// What is told of an offer, by language. A user reads what its application accepts (`Accept-Language`), or English, or the first.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct OfferTextsBody {
    /// What the channel is called.
    #[schema(value_type = BTreeMap<String, String>)]
    channel: ByLanguage,
    /// What is new, in one language at least.
    #[schema(value_type = BTreeMap<String, String>, example = json!({"en": "Saves power.", "de": "Spart Strom."}))]
    description: ByLanguage,
    /// While it is waited for the device.
    #[schema(value_type = BTreeMap<String, String>)]
    waiting: ByLanguage,
    /// While it is upgraded.
    #[schema(value_type = BTreeMap<String, String>)]
    upgrading: ByLanguage,
    /// Why it cannot be upgraded now, where a condition is not met.
    #[schema(value_type = BTreeMap<String, String>)]
    remind: ByLanguage,
}

/// Something to be offered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishOffer {
    /// On which terms.
    terms: OfferTermsBody,
    /// The task in which devices are upgraded whose users start that: the package, and by which rules.
    task: StandingTask,
}

/// Something that is offered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OfferBody {
    /// Its number, which no other offer ever has.
    id: i64,
    /// Whose it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The product whose devices it is for.
    product: String,
    /// The package.
    package_id: i64,
    /// The version to which it leads.
    version: String,
    /// Bytes of the package.
    size_bytes: u64,
    /// SHA-256 of the package.
    sha256: String,
    /// MD5 of the package; `null` where that is not known.
    #[schema(required)]
    md5: Option<String>,
    /// Its standing task: `/v1/tasks/{id}` tells how many have started it, and what became of them.
    task_id: i64,
    /// On which terms.
    terms: OfferTermsBody,
    /// When it was published.
    #[schema(format = DateTime)]
    published_at: String,
    /// When it was withdrawn.
    #[schema(required, format = DateTime)]
    withdrawn_at: Option<String>,
    /// Counts its changes, from 1: the `ETag` of the offer.
    revision: i64,
}

impl From<OfferRecord> for OfferBody {
    fn from(offer: OfferRecord) -> Self {
        Self {
            id: offer.id.0,
            tenant: tenant::told(&offer.product),
            product: tenant::product_name(&offer.product).to_owned(),
            package_id: offer.package.0,
            version: offer.version.to_string(),
            size_bytes: offer.size_bytes,
            sha256: offer.sha256,
            md5: offer.md5,
            task_id: offer.task.0,
            terms: offer.terms.into(),
            published_at: offer.published_at.to_string(),
            withdrawn_at: offer.withdrawn_at.map(|at| at.to_string()),
            revision: offer.revision,
        }
    }
}

impl From<OfferTerms> for OfferTermsBody {
    fn from(terms: OfferTerms) -> Self {
        let conditions = terms.conditions;
        let texts = |texts: &Texts| {
            let all = texts.all();
            all.map(|(tag, text)| (tag.to_owned(), text.to_owned()))
                .collect()
        };
        Self {
            channel: terms.channel.number(),
            kind: terms.kind.number(),
            mode: terms.mode.number(),
            controllable: terms.controllable,
            percent: terms.percent,
            stages: (terms.stages.iter())
                .map(|stage| OfferStageBody {
                    from: stage.from.to_string(),
                    percent: stage.percent,
                })
                .collect(),
            conditions: OfferConditionsBody {
                from: conditions.from.iter().map(Version::to_string).collect(),
                battery_percent: conditions.battery_percent,
                rsrp_dbm: conditions.rsrp_dbm,
            },
            texts: OfferTextsBody {
                channel: texts(&terms.texts.channel),
                description: texts(&terms.texts.description),
                waiting: texts(&terms.texts.waiting),
                upgrading: texts(&terms.texts.upgrading),
                remind: texts(&terms.texts.remind),
            },
        }
    }
}

impl OfferTermsBody {
    /// The terms, or what is wrong with them: each with its field, below `place`.
    fn read(self, place: &str) -> Result<OfferTerms, Problem> {
        let mut fields = Fields::default();
        let field = |name: &str| format!("{place}{name}");
        let channel = Channel::new(self.channel).ok_or(OfferError::Channel);
        let channel = fields.take(&field("channel"), channel);
        let kind = UpgradeKind::from_number(self.kind).ok_or("0, 2 and 3 are possible");
        let kind = fields.take(&field("kind"), kind);
        let mode = OfferMode::from_number(self.mode).ok_or("0 and 1 are possible");
        let mode = fields.take(&field("mode"), mode);
        let mut from = Vec::new();
        for (at, text) in self.conditions.from.iter().take(MAX_FROM + 1).enumerate() {
            let place = field(&format!("conditions.from[{at}]"));
            from.extend(fields.take(&place, text.parse::<Version>()));
        }
        let stages = read_stages(&self.stages, place, &mut fields);
        let mut texts = |name: &str, texts: &ByLanguage| {
            let texts = texts
                .iter()
                .map(|(tag, text)| (tag.as_str(), text.as_str()));
            let place = field(&format!("texts.{name}"));
            fields.take(&place, Texts::new(texts)).unwrap_or_default()
        };
        let texts = OfferTexts {
            channel: texts("channel", &self.texts.channel),
            description: texts("description", &self.texts.description),
            waiting: texts("waiting", &self.texts.waiting),
            upgrading: texts("upgrading", &self.texts.upgrading),
            remind: texts("remind", &self.texts.remind),
        };
        fields.finish()?;
        let (Some(channel), Some(kind), Some(mode)) = (channel, kind, mode) else {
            return Err(Problem::field(&field("channel"), OfferError::Channel));
        };
        let terms = OfferTerms {
            channel,
            kind,
            mode,
            controllable: self.controllable,
            percent: self.percent,
            stages,
            conditions: Conditions {
                from,
                battery_percent: self.conditions.battery_percent,
                rsrp_dbm: self.conditions.rsrp_dbm,
            },
            texts,
        };
        let mut fields = Fields::default();
        for error in terms.check() {
            fields.check(&field(error.field()), false, error);
        }
        fields.finish()?;
        Ok(terms)
    }
}

fn read_stages(stages: &[OfferStageBody], place: &str, fields: &mut Fields) -> Vec<OfferStage> {
    let mut read = Vec::new();
    for (at, stage) in stages.iter().take(MAX_STAGES + 1).enumerate() {
        let field = format!("{place}stages[{at}].from");
        let from = fields.take(&field, parse_time(&stage.from));
        let percent = stage.percent;
        read.extend(from.map(|from| OfferStage { from, percent }));
    }
    read
}

/// Publish an offer: a package for a product, which users of applications may start at home.
///
/// Its standing task has no device until somebody starts one, and does not end while the offer stands. What the task says holds for what is
/// started: windows, budgets, rates, limits of cells and sites.
#[utoipa::path(post, path = "/v1/offers", operation_id = "publish_offer", tag = "homes", request_body = PublishOffer,
    responses(
        (status = 201, description = "Published", body = OfferBody,
            headers(("Location" = String, description = "Path of the offer"), ("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such package", body = Problem),
        (status = 409, description = "There is a newer package of that version, or too many offers stand", body = Problem),
    ))]
pub(super) async fn publish(
    State(state): State<ApiState>,
    scope: Scope,
    caller: Caller,
    extract::Json(body): extract::Json<PublishOffer>,
) -> Result<Response, Problem> {
    let tenant = scoped::home(&scope)?;
    let terms = body.terms.read("terms.")?;
    let task = body.task.read(&state, &scope, caller.who()).await?;
    let new = NewOffer {
        tenant,
        terms,
        task,
    };
    let offer = state.store.publish_offer(&new).await?;
    state.signals.written();
    let headers = [
        (header::LOCATION, format!("/v1/offers/{}", offer.id.0)),
        etag::tag(offer.revision),
    ];
    let body = Json(OfferBody::from(offer));
    Ok((StatusCode::CREATED, headers, body).into_response())
}

/// Which offers are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct OffersParams {
    /// Items in the answer, 1 to 1000; 100 when not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; the first page when not given.
    cursor: Option<String>,
    /// `true`: without those that were withdrawn.
    standing: Option<bool>,
}

/// List offers, newest first.
#[utoipa::path(get, path = "/v1/offers", operation_id = "list_offers", tag = "homes", params(OffersParams),
    responses(
        (status = 200, description = "A page", body = ListBody<OfferBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(params): Query<OffersParams>,
) -> Result<Json<ListBody<OfferBody>>, Problem> {
    let paging = Paging::new(params.limit, params.cursor);
    let before = paging.after::<i64>("offers")?.map(OfferId);
    let standing = params.standing.unwrap_or_default();
    let tenants = scope.tenants();
    let page = (state.store)
        .offers(tenants.as_deref(), standing, before, paging.limit()?)
        .await?;
    let body = ListBody::new(page, "offers", |offer| offer.id.0, OfferBody::from);
    Ok(Json(body))
}

/// An offer.
#[utoipa::path(get, path = "/v1/offers/{id}", operation_id = "get_offer", tag = "homes",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The offer", body = OfferBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such offer", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let offer = state
        .store
        .offer(&scoped::home(&scope)?, OfferId(id))
        .await?;
    let offer = offer.ok_or_else(|| Problem::not_found(format!("there is no offer {id}")))?;
    Ok(etag::tagged(offer.revision, OfferBody::from(offer)))
}

/// Have an offer stand on other terms: more homes, other texts, other conditions.
///
/// What was started goes on. How its task is run is changed there (`PATCH /v1/tasks/{id}`).
#[utoipa::path(put, path = "/v1/offers/{id}", operation_id = "update_offer", tag = "homes", request_body = OfferTermsBody,
    params(("id" = i64, Path, description = "Its number"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 200, description = "The offer", body = OfferBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such offer", body = Problem),
        (status = 409, description = "It was withdrawn", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn update(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<OfferTermsBody>,
) -> Result<Response, Problem> {
    let tenant = scoped::home(&scope)?;
    let seen = etag::if_match(&headers)?;
    let terms = body.read("")?;
    let offer = (state.store)
        .change_offer(&tenant, OfferId(id), &terms, seen)
        .await?;
    Ok(etag::tagged(offer.revision, OfferBody::from(offer)))
}

/// Withdraw an offer.
///
/// Nobody sees it any more, and nothing of it starts. What has not begun is cancelled; upgrades that hold a slot go on to their end.
#[utoipa::path(delete, path = "/v1/offers/{id}", operation_id = "withdraw_offer", tag = "homes",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The offer", body = OfferBody),
        (status = 404, description = "There is no such offer", body = Problem),
    ))]
pub(super) async fn withdraw(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Json<OfferBody>, Problem> {
    let tenant = scoped::home(&scope)?;
    let offer = (state.store)
        .withdraw_offer(&tenant, OfferId(id), state.now())
        .await?;
    state.signals.written();
    Ok(Json(offer.into()))
}
