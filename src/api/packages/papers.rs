//! What is kept beside a package's content: its parts in the answers, `PATCH /v1/packages/{id}`, and its bill of materials.

use axum::{
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::PackageBody;
use crate::{
    access::Scope,
    api::{
        ApiState,
        etag::{if_match, tagged},
        extract::{self, Fields, Path, body_problem, expect_media_type, nullable},
        problem::Problem,
        scoped,
    },
    ledger::PackageId,
    package::{CveId, SbomKind},
    store::{PackageRecord, PackageSignature, Papers, PapersChange, SbomRecord, UpdatedPackage},
};

/// CVEs that a package may name.
const MAX_CVES: usize = 200;
/// Longest notes, characters.
const MAX_NOTES: usize = 8_000;
/// Largest bill of materials, bytes.
const MAX_SBOM_BYTES: usize = 16 * 1024 * 1024;
/// Media types of bills of materials.
const SBOM_TYPES: [&str; 3] = [
    "application/json",
    "application/vnd.cyclonedx+json",
    "application/spdx+json",
];

/// A signature that was verified.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SignatureBody {
    /// The id of the key that verified it.
    key: String,
    /// What it was signed with.
    #[schema(schema_with = crate::api::products::algorithms)]
    algorithm: &'static str,
    /// When it was verified.
    #[schema(format = DateTime)]
    verified_at: String,
    /// When the key was removed from its product: no new task takes the package. `null` while the key is there.
    #[schema(required, format = DateTime)]
    key_removed_at: Option<String>,
}

impl From<PackageSignature> for SignatureBody {
    fn from(signature: PackageSignature) -> Self {
        Self {
            key: signature.key.to_string(),
            algorithm: signature.algorithm.name(),
            verified_at: signature.verified_at.to_string(),
            key_removed_at: signature.key_removed_at.map(|at| at.to_string()),
        }
    }
}

/// A bill of materials.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SbomBody {
    /// Its standard.
    #[schema(schema_with = formats)]
    format: &'static str,
    /// The version of the standard.
    #[schema(example = "1.6")]
    spec_version: String,
    /// Components (`CycloneDX`), packages (SPDX 2) or elements (SPDX 3) that it lists.
    components: u32,
    /// SHA-256 of the document.
    sha256: String,
    /// Its size.
    size_bytes: u64,
}

fn formats() -> utoipa::openapi::Object {
    utoipa::openapi::Object::builder()
        .schema_type(utoipa::openapi::Type::String)
        .enum_values(Some(["cyclonedx", "spdx"]))
        .build()
}

impl From<SbomRecord> for SbomBody {
    fn from(sbom: SbomRecord) -> Self {
        Self {
            format: sbom.kind.format.name(),
            spec_version: sbom.kind.spec_version,
            components: sbom.kind.components,
            sha256: sbom.sha256,
            size_bytes: sbom.size_bytes,
        }
    }
}

/// What is kept beside a package's content.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct PapersBody {
    /// Who vouches for it; `null` when it came without a signature.
    #[schema(required)]
    signature: Option<SignatureBody>,
    /// What it is made of, from `/v1/packages/{id}/sbom`; `null` when there is none.
    #[schema(required)]
    sbom: Option<SbomBody>,
    /// Vulnerabilities that its version mends, in order.
    cves_mended: Vec<String>,
    /// The last day on which its version is supported.
    #[schema(required, format = Date)]
    support_ends: Option<String>,
    /// What is new in it.
    #[schema(required)]
    release_notes: Option<String>,
}

impl From<Papers> for PapersBody {
    fn from(papers: Papers) -> Self {
        Self {
            signature: papers.signature.map(SignatureBody::from),
            sbom: papers.sbom.map(SbomBody::from),
            cves_mended: papers.cves_mended.iter().map(CveId::to_string).collect(),
            support_ends: papers.support_ends.map(|day| day.to_string()),
            release_notes: papers.release_notes,
        }
    }
}

/// What to change about a package. What is not given stays as it is; `null` takes it away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "not given, null, or a value")]
pub(in crate::api) struct UpdatePackage {
    /// Vulnerabilities that its version mends, up to 200, instead of those that it names.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Vec<String>>, max_items = 200, example = json!(["CVE-2026-12345"]))]
    cves_mended: Option<Option<Vec<String>>>,
    /// The last day on which its version is supported, `YYYY-MM-DD`.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, format = Date)]
    support_ends: Option<Option<String>>,
    /// What is new in it: up to 8,000 characters, no control characters but line breaks and tabs.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 8000, pattern = r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]{0,8000}$")]
    release_notes: Option<Option<String>>,
}

/// The numbers in order, each once.
pub(super) fn parse_cves<'t>(
    fields: &mut Fields,
    texts: impl IntoIterator<Item = &'t str>,
) -> Vec<CveId> {
    let mut cves = Vec::new();
    for text in texts {
        if cves.len() == MAX_CVES {
            let detail = format!("a package names at most {MAX_CVES} CVEs");
            fields.check("cves_mended", false, detail);
            break;
        }
        match CveId::new(text) {
            Ok(cve) => cves.push(cve),
            Err(error) => {
                fields.check("cves_mended", false, error);
                break;
            }
        }
    }
    cves.sort_unstable();
    cves.dedup();
    cves
}

/// A day, as RFC 3339 writes it (§5.6, full-date).
pub(super) fn parse_day(fields: &mut Fields, text: &str) -> Option<Date> {
    let plain = text.len() == 10 && text.bytes().all(|it| it.is_ascii_digit() || it == b'-');
    let day = text.parse::<Date>().ok().filter(|_| plain);
    fields.check(
        "support_ends",
        day.is_some(),
        "a day is written as 2031-12-31",
    );
    day
}

fn parse(body: UpdatePackage) -> Result<PapersChange, Problem> {
    let mut fields = Fields::default();
    let cves_mended = body.cves_mended.map(|cves| {
        let cves = cves.unwrap_or_default();
        parse_cves(&mut fields, cves.iter().map(String::as_str))
    });
    let support_ends =
        (body.support_ends).map(|day| day.and_then(|text| parse_day(&mut fields, &text)));
    if let Some(Some(notes)) = &body.release_notes {
        let control = |it: char| it.is_control() && !['\n', '\t'].contains(&it);
        fields.check(
            "release_notes",
            notes.chars().count() <= MAX_NOTES && !notes.chars().any(control),
            format!(
                "notes have at most {MAX_NOTES} characters, and no control characters but line breaks (\\n) and tabs"
            ),
        );
    }
    fields.finish()?;
    Ok(PapersChange {
        sbom: None,
        cves_mended,
        support_ends,
        release_notes: body.release_notes,
    })
}

/// A package, with the `ETag` of its papers.
pub(super) fn shown(record: PackageRecord) -> Response {
    tagged(record.revision.into(), PackageBody::from(record))
}

/// Changes a package, and removes a file that nobody refers to any more.
async fn change(
    state: &ApiState,
    id: i64,
    change: &PapersChange,
    seen: Option<u32>,
) -> Result<PackageRecord, Problem> {
    let UpdatedPackage { record, unused } = (state.store)
        .update_package(PackageId(id), change, seen)
        .await?;
    if let Some(unused) = unused
        && let Err(error) = state.files.remove(&unused).await
    {
        // it is done, and the next start removes the file
        tracing::warn!(%error, "a bill of materials that nobody refers to stays");
    }
    Ok(record)
}

/// Change what is said of a package.
///
/// Its content, its version and its signature stay. With `If-Match` it is changed only if nobody has changed it since.
#[utoipa::path(patch, path = "/v1/packages/{id}", operation_id = "update_package", tag = "packages",
    request_body = UpdatePackage,
    params(("id" = i64, Path, description = "Its number"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 200, description = "The package", body = PackageBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such package", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
        (status = 422, description = "A field is not valid", body = Problem),
    ))]
pub(in crate::api) async fn update(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<UpdatePackage>,
) -> Result<Response, Problem> {
    let seen = if_match(&headers)?;
    scoped::package(&state, &scope, id).await?;
    let papers = parse(body)?;
    let _kept = state.files.lock().await;
    change(&state, id, &papers, seen).await.map(shown)
}

/// A package that is there, and not deleted.
pub(super) async fn find(
    state: &ApiState,
    scope: &Scope,
    id: i64,
) -> Result<PackageRecord, Problem> {
    let package = scoped::package(state, scope, id).await?;
    if package.deleted_at.is_some() {
        return Err(Problem::not_found(format!("there is no package {id}")));
    }
    Ok(package)
}

/// Whether the caller has seen the bill of materials that there is, as `If-Match` says: by the `ETag` of the document, or by that of the
/// package. `*` asks for any (RFC 9110 §13.1.1).
fn check_seen(headers: &HeaderMap, record: &PackageRecord) -> Result<(), Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let (Some(value), another) = (values.next(), values.next()) else {
        return Ok(());
    };
    let document = record.package.papers.sbom.as_ref();
    let tag = value.to_str().unwrap_or_default().trim();
    let seen = if another.is_some() {
        None
    } else if tag == "*" {
        Some(document.is_some())
    } else {
        let name = tag.trim_matches('"');
        if name.len() == 64 && name.bytes().all(|it| it.is_ascii_hexdigit()) {
            Some(document.is_some_and(|sbom| sbom.sha256 == name))
        } else {
            name.parse::<u32>().ok().map(|seen| seen == record.revision)
        }
    };
    match seen {
        Some(true) => Ok(()),
        Some(false) => Err(Problem::changed_meanwhile(
            "the bill of materials, or the package, is another one than the caller has seen; read it again",
        )),
        None => Err(Problem::field(
            "If-Match",
            "give one ETag as it was answered: that of the document, or that of the package",
        )),
    }
}

/// The bill of materials of a package, as it was given.
#[utoipa::path(get, path = "/v1/packages/{id}/sbom", operation_id = "get_sbom", tag = "packages",
    params(("id" = i64, Path, description = "The package's number")),
    responses(
        (status = 200, description = "The document", body = Object, content_type = "application/json",
            headers(("ETag" = String, description = "The SHA-256 of the document"))),
        (status = 404, description = "There is no such package, or it has none", body = Problem),
    ))]
pub(in crate::api) async fn get_sbom(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let package = find(&state, &scope, id).await?.package;
    let sbom = (package.papers.sbom)
        .ok_or_else(|| Problem::not_found(format!("package {id} has no bill of materials")))?;
    let document = (state.files)
        .read_named(&sbom.sha256, sbom.size_bytes)
        .await
        .map_err(|error| Problem::internal(&error))?;
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::ETAG, format!("\"{}\"", sbom.sha256)),
    ];
    Ok((headers, document).into_response())
}

/// Give a package a bill of materials.
///
/// The body is the document: `CycloneDX` or SPDX, as JSON, 16 MiB at most. It is kept as it is, in place of one that the package has.
/// That it is what it says is checked; what it lists is not.
#[utoipa::path(put, path = "/v1/packages/{id}/sbom", operation_id = "set_sbom", tag = "packages",
    params(("id" = i64, Path, description = "The package's number"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the document that the caller has seen, or of the package; `*`: \
            there has to be one")),
    request_body(content = Object, content_type = "application/json", description = "The document"),
    responses(
        (status = 200, description = "The package", body = PackageBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 400, description = "The body broke off", body = Problem),
        (status = 404, description = "There is no such package", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
        (status = 413, description = "The document is larger than 16 MiB", body = Problem),
        (status = 415, description = "The content type is none of JSON", body = Problem),
        (status = 422, description = "It is no bill of materials in a form that is known", body = Problem),
        (status = 507, description = "The server's disk is full", body = Problem),
    ))]
pub(in crate::api) async fn set_sbom(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if !SBOM_TYPES[1..]
        .iter()
        .any(|kind| expect_media_type(&headers, kind).is_ok())
    {
        expect_media_type(&headers, SBOM_TYPES[0])?;
    }
    check_seen(&headers, &find(&state, &scope, id).await?)?; // before the document is read
    let document = to_bytes(body, MAX_SBOM_BYTES)
        .await
        .map_err(|error| body_problem(&error, "a bill of materials", MAX_SBOM_BYTES))?;
    let read = document.clone();
    let kind = spawn_blocking(move || SbomKind::of(&read))
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(|error| Problem::field("body", error))?;
    let mut upload = state.files.upload(MAX_SBOM_BYTES as u64).await?;
    upload.write(&document).await?;
    drop(document);
    let sealed = upload.seal().await?;
    let _kept = state.files.lock().await;
    let found = find(&state, &scope, id).await?;
    check_seen(&headers, &found)?;
    let content = sealed.publish(&state.files).await?;
    let sbom = SbomRecord {
        kind,
        sha256: content.sha256.clone(),
        size_bytes: content.size_bytes,
    };
    let papers = PapersChange {
        sbom: Some(Some(sbom)),
        ..PapersChange::default()
    };
    let seen = headers.get(header::IF_MATCH).map(|_| found.revision);
    let changed = change(&state, id, &papers, seen).await;
    if changed.is_err() && !(state.store.content_in_use(&content.sha256).await).unwrap_or(true) {
        state.files.remove(&content.sha256).await?;
    }
    changed.map(shown)
}

/// Take a package's bill of materials away.
#[utoipa::path(delete, path = "/v1/packages/{id}/sbom", operation_id = "remove_sbom", tag = "packages",
    params(("id" = i64, Path, description = "The package's number"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the document that the caller has seen, or of the package")),
    responses(
        (status = 204, description = "Taken away"),
        (status = 404, description = "There is no such package, or it has none", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(in crate::api) async fn remove_sbom(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let _kept = state.files.lock().await;
    let found = find(&state, &scope, id).await?;
    check_seen(&headers, &found)?;
    if found.package.papers.sbom.is_none() {
        return Err(Problem::not_found(format!(
            "package {id} has no bill of materials"
        )));
    }
    let papers = PapersChange {
        sbom: Some(None),
        ..PapersChange::default()
    };
    let seen = headers.get(header::IF_MATCH).map(|_| found.revision);
    change(&state, id, &papers, seen).await?;
    Ok(StatusCode::NO_CONTENT)
}
