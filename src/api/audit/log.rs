//! `/v1/audit`.

use std::collections::{BTreeMap, VecDeque};

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{Object, Type},
};

use crate::{
    access::{Caller, Scope},
    api::{
        ApiState,
        exports::{PATIENCE, paced},
        extract::{ListBody, Paging, Query},
        problem::Problem,
    },
    audit::{Checkpoint, EntryResult, Row},
    clock::UtcMillis,
    store::{AuditFilter, StoreError},
};

/// Rows that are read at once.
const PART: u32 = 500;
/// Rows of one export.
const MAX_EXPORT: u64 = 1_000_000;
/// Longest text of a filter, bytes.
const MAX_TEXT: usize = 512;

/// Something that somebody has done, or was not let do: a row of a chain.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(in crate::api) struct AuditRowBody {
    /// Its number: the first has 1, and none is left out.
    #[schema(minimum = 1)]
    number: u64,
    /// The SHA-256 of the row before; 64 zeros in the first.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    previous: String,
    /// When it was asked for, RFC 3339; never before the row before.
    #[schema(format = DateTime)]
    at: String,
    /// Who: `admin-token`, `token:7:nightly-import`; `system`; `nobody` was not let in; `several` are many that were refused.
    #[schema(example = "token:7:nightly-import")]
    who: String,
    /// Whose matter it is; not there where it is the carrier's, or that of the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The address that it was asked from.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The name of the operation (`operationId`).
    #[schema(example = "update_device")]
    operation: String,
    /// What it is about, as it stands in paths; the kind alone where it is about many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "devices/urn:imei:1")]
    target: Option<String>,
    /// Fields that are other now, as they were. What is secret is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    before: Option<Map<String, Value>>,
    /// The same, as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    after: Option<Map<String, Value>>,
    /// How many of what, where it is about many.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    counts: BTreeMap<String, u64>,
    /// Why, if it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// What the caller calls its request (`X-Request-Id`, or `Idempotency-Key`).
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    /// What came of it.
    #[schema(schema_with = results)]
    result: String,
    /// The HTTP status, where it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The kind of problem, where it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// How often, where more than once.
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    /// When for the last time, where more than once.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<String>,
    /// The SHA-256 of all of this but itself.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    hash: String,
}

/// How far the log had come at a time, signed.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct CheckpointBody {
    /// Number of the newest row; 0: there was none.
    number: u64,
    /// Its hash.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    hash: String,
    /// When this was said.
    #[schema(format = DateTime)]
    at: String,
    /// The public key (Ed25519).
    #[schema(pattern = "^[0-9a-f]{64}$")]
    key: String,
    /// The signature (RFC 8032).
    #[schema(pattern = "^[0-9a-f]{128}$")]
    signature: String,
}

impl From<Checkpoint> for CheckpointBody {
    fn from(checkpoint: Checkpoint) -> Self {
        Self {
            number: checkpoint.number,
            hash: checkpoint.hash,
            at: checkpoint.at,
            key: checkpoint.key,
            signature: checkpoint.signature,
        }
    }
}

/// The newest row, and what the log begins behind.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct AuditHeadBody {
    /// The newest row, signed just now. Whoever keeps it elsewhere notices a log that was cut or made anew.
    head: CheckpointBody,
    /// The log begins behind this row, because older ones were removed; `null` when it begins with the first.
    #[schema(required)]
    begins_behind: Option<CheckpointBody>,
}

/// Which rows to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct ListParams {
    /// Only what this caller did.
    #[param(max_length = 512)]
    who: Option<String>,
    /// Only this operation.
    #[param(max_length = 512)]
    operation: Option<String>,
    /// Only what is about this, as `tasks/7`, or about anything of this kind, as `tasks`.
    #[param(max_length = 512)]
    target: Option<String>,
    /// Only that of which this came.
    #[param(schema_with = results)]
    result: Option<String>,
    /// Not before this time, RFC 3339.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before this time, RFC 3339.
    #[param(format = DateTime)]
    until: Option<String>,
    /// Items in the answer, 1 to 1000; 100 when not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; the first page when not given.
    cursor: Option<String>,
}

fn results() -> Object {
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(EntryResult::ALL.map(EntryResult::name)))
        .build()
}

impl ListParams {
    fn filter(self) -> Result<(AuditFilter, Paging), Problem> {
        for (name, text) in [
            ("who", &self.who),
            ("operation", &self.operation),
            ("target", &self.target),
        ] {
            let length = text.as_ref().map_or(0, String::len);
            if length > MAX_TEXT || text.as_ref().is_some_and(|text| text.contains('\0')) {
                let detail = format!("it has at most {MAX_TEXT} bytes, and none that is zero");
                return Err(Problem::field(name, detail));
            }
        }
        let result = self.result.map(|name| {
            let known = EntryResult::ALL.into_iter().find(|it| it.name() == name);
            known.ok_or_else(|| Problem::field("result", format!("{name:?} is no result")))
        });
        let filter = AuditFilter {
            tenants: None,
            who: self.who,
            operation: self.operation,
            target: self.target,
            result: result.transpose()?,
            since: self.since.map(|at| time("since", &at)).transpose()?,
            until: self.until.map(|at| time("until", &at)).transpose()?,
        };
        Ok((filter, Paging::new(self.limit, self.cursor)))
    }
}

fn time(field: &str, text: &str) -> Result<UtcMillis, Problem> {
    let at = text.parse::<jiff::Timestamp>().map_err(|error| {
        let detail = format!("not a time of the form 2027-03-01T00:00:00Z: {error}");
        Problem::field(field, detail)
    })?;
    Ok(UtcMillis(at.as_millisecond()))
}

fn body(row: &Row) -> Result<AuditRowBody, Problem> {
    serde_json::from_str(&row.line()).map_err(|error| {
        Problem::from(StoreError::Unreadable {
            what: format!("audit.row {}: {error}", row.number),
        })
    })
}

/// List who has changed what, newest first.
///
/// What was refused is there within seconds; what was refused often is one row, with `times`.
#[utoipa::path(get, path = "/v1/audit", operation_id = "list_audit", tag = "audit", params(ListParams),
    responses(
        (status = 200, description = "A page", body = ListBody<AuditRowBody>),
        (status = 422, description = "A parameter is not valid", body = Problem),
    ))]
pub(in crate::api) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(params): Query<ListParams>,
) -> Result<Json<ListBody<AuditRowBody>>, Problem> {
    let (mut filter, paging) = params.filter()?;
    filter.tenants = scope.tenants();
    let before = paging.after::<i64>("audit")?;
    let before = before.map(|before| before.max(0).unsigned_abs());
    let page = state.store.audit(&filter, before, paging.limit()?).await?;
    let last = page.items.last().filter(|_| page.more);
    let next = last.map(|row| row.number.cast_signed());
    let rows: Vec<_> = page.items.iter().map(body).collect::<Result<_, _>>()?;
    Ok(Json(ListBody::after(rows, "audit", next)))
}

/// What to export.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct ExportParams {
    /// Only rows behind the one with this number.
    #[param(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    after: Option<u64>,
    /// So many rows at most, 1 to 1,000,000; 1,000,000 when not given.
    #[param(minimum = 1, maximum = 1_000_000)]
    limit: Option<u64>,
}

/// Export the log, oldest first: a row in each line.
///
/// The hash of a row is the SHA-256 of the line without `hash`, written with the fields in the order of their names and without
/// white space. docs/audit.md has a program that checks it.
#[utoipa::path(get, path = "/v1/audit/export", operation_id = "export_audit", tag = "audit", params(ExportParams),
    responses(
        (status = 200, description = "The rows, as far as there were any when it was asked for", body = String,
            content_type = "application/x-ndjson"),
        (status = 400, description = "A parameter is unknown or not a number", body = Problem),
        (status = 422, description = "A parameter is out of range", body = Problem),
    ))]
pub(in crate::api) async fn export(
    State(state): State<ApiState>,
    caller: Caller,
    Query(params): Query<ExportParams>,
) -> Result<Response, Problem> {
    let limit = params.limit.unwrap_or(MAX_EXPORT);
    if !(1..=MAX_EXPORT).contains(&limit) {
        let detail = format!("{limit} is out of range: 1 to {MAX_EXPORT} are possible");
        return Err(Problem::field("limit", detail));
    }
    if params
        .after
        .is_some_and(|after| i64::try_from(after).is_err())
    {
        let detail = "rows have no such numbers: give that of a row";
        return Err(Problem::field("after", detail));
    }
    let place = state.audit_exports.place(&caller)?;
    let export = Export {
        until: state.store.audit_head().await?.number,
        after: params.after.unwrap_or(0),
        begun: false,
        left: limit,
        state,
    };
    // sent by a task, so that a client that takes nothing loses its place
    let parts = stream::try_unfold(export, async |mut export| {
        let part = export.part().await?;
        Ok::<_, StoreError>(part.map(|part| (part, export)))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, paced(parts, place, PATIENCE)).into_response())
}

/// How far an export is.
struct Export {
    state: ApiState,
    /// Number of the row that was read last.
    after: u64,
    /// Whether rows were read.
    begun: bool,
    /// Number of the last row that it has.
    until: u64,
    left: u64,
}

impl Export {
    /// The next rows; `None` behind the last.
    async fn part(&mut self) -> Result<Option<Bytes>, StoreError> {
        let limit = u32::try_from(self.left).unwrap_or(u32::MAX).min(PART);
        if limit == 0 || self.after >= self.until {
            return Ok(None);
        }
        let rows = self.state.store.audit_after(self.after, limit).await?;
        if self.begun {
            self.goes_on_with(&rows).await?;
        }
        self.begun = true;
        let mut rows = VecDeque::from(rows);
        rows.retain(|row| row.number <= self.until);
        let Some(last) = rows.back() else {
            return Ok(None);
        };
        self.after = last.number;
        self.left = self.left.saturating_sub(rows.len() as u64);
        let lines: String = rows.iter().map(|row| row.line() + "\n").collect();
        Ok(Some(lines.into()))
    }

    /// What follows may have been removed for its age meanwhile: an export with a hole is none. A row that is missing for another
    /// reason shows to whoever verifies the export.
    async fn goes_on_with(&self, rows: &[Row]) -> Result<(), StoreError> {
        let next = self.after.saturating_add(1);
        if rows.first().is_some_and(|row| row.number == next) {
            return Ok(());
        }
        let begin = self.state.store.audit_beginning().await?;
        if begin.is_none_or(|checkpoint| checkpoint.number < next) {
            return Ok(());
        }
        Err(StoreError::Unreadable {
            what: format!("audit row {next}: it was removed for its age during an export"),
        })
    }
}

/// The newest row, signed, and what the log begins behind.
#[utoipa::path(get, path = "/v1/audit/head", operation_id = "get_audit_head", tag = "audit",
    responses(
        (status = 200, description = "The newest row", body = AuditHeadBody),
    ))]
pub(in crate::api) async fn head(
    State(state): State<ApiState>,
) -> Result<Json<AuditHeadBody>, Problem> {
    let head = state.store.audit_head().await?;
    let signed = state
        .trail
        .key()
        .sign((head.number, head.hash), &state.now());
    let signed = signed.map_err(|error| Problem::internal(&error))?;
    let begins_behind = state.store.audit_beginning().await?;
    Ok(Json(AuditHeadBody {
        head: signed.into(),
        begins_behind: begins_behind.map(CheckpointBody::from),
    }))
}
