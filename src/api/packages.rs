//! `/v1/packages`.

pub(super) mod papers;
mod vouching;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{Object, OneOf, Schema, Type},
};

use super::{
    ApiState,
    extract::{Fields, ListBody, Paging, Path, Query, expect_media_type, unreadable},
    problem::Problem,
    scoped,
};
use crate::{
    access::Scope,
    config::{Config, UpdateBy, check_product_name},
    ledger::PackageId,
    package::{Content, PcpOffer, Segmentation, SegmentationError, Version, check_component},
    store::{
        InsertedPackage, NewPackage, PackageRecord, Papers, ProductKey, SealedUpload, UploadError,
    },
    tenant,
};
use papers::PapersBody;

/// A software package.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PackageBody {
    /// Its number.
    id: i64,
    /// Whose it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The product whose devices it is for.
    product: String,
    /// The version that they run afterwards.
    version: String,
    /// The component of a device, or the software in it, that it is for (docs/objects.md); `null`: the device as a whole.
    #[schema(required)]
    component: Option<String>,
    /// Its size.
    size_bytes: u64,
    /// How devices can be served it.
    served_by: Vec<ServedBy>,
    /// Bytes of a segment; `null` where it is not served over PCP.
    #[schema(required)]
    segment_size: Option<u16>,
    /// Segments that a device fetches; `null` where it is not served over PCP.
    #[schema(required)]
    segment_count: Option<u16>,
    /// The versionCheckCode that devices are told; `null` where it is not served over PCP.
    #[schema(required)]
    check_code: Option<u16>,
    /// SHA-256 of the content.
    sha256: String,
    /// MD5 of the content; `null` for a while where it was uploaded before the server kept it.
    #[schema(required)]
    md5: Option<String>,
    /// When it was uploaded.
    #[schema(format = DateTime)]
    created_at: String,
    /// When other content was uploaded for its product and version.
    #[schema(required, format = DateTime)]
    superseded_at: Option<String>,
    #[serde(flatten)]
    papers: PapersBody,
    /// Counts the changes of what is said of it, from 1; the `ETag` of its answers.
    revision: u32,
}

/// A way in which devices are served a package.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ServedBy {
    /// In segments over PCP: it has 65,535 of them at most, a version of 16 characters at most, and is for the device as a whole.
    Pcp,
    /// In blocks over CoAP, to devices that are upgraded by objects 5, 9 or 33629: it has 1 GiB at most.
    Coap,
    /// As a file over HTTP or HTTPS, where the server is set to serve that.
    Http,
}

impl From<PackageRecord> for PackageBody {
    fn from(record: PackageRecord) -> Self {
        let package = record.package;
        let pcp = package.pcp.as_ref();
        let coap = package.size_bytes <= Content::MAX_BYTES;
        let served_by = [
            pcp.map(|_| ServedBy::Pcp),
            coap.then_some(ServedBy::Coap),
            Some(ServedBy::Http),
        ];
        let served_by = served_by.into_iter().flatten().collect();
        Self {
            id: record.id.0,
            tenant: tenant::told(&package.product),
            product: tenant::product_name(&package.product).to_owned(),
            version: package.version.to_string(),
            component: package.component,
            size_bytes: package.size_bytes,
            served_by,
            segment_size: pcp.map(|pcp| pcp.segmentation.segment_size()),
            segment_count: pcp.map(|pcp| pcp.segmentation.segment_count()),
            check_code: pcp.map(|pcp| pcp.check_code),
            md5: package.md5,
            sha256: package.sha256,
            created_at: package.created_at.to_string(),
            superseded_at: record.superseded_at.map(|at| at.to_string()),
            papers: package.papers.into(),
            revision: record.revision,
        }
    }
}

/// A package that was uploaded.
#[derive(Debug, Serialize, ToSchema)]
struct UploadedPackage {
    #[serde(flatten)]
    package: PackageBody,
    /// The newest package of the product before this one, whatever its version; `null` when there is none.
    #[schema(required)]
    supersedes: Option<EarlierBody>,
}

/// An earlier package.
#[derive(Debug, Serialize, ToSchema)]
struct EarlierBody {
    /// Its number.
    id: i64,
    /// Its version.
    version: String,
    /// When it was uploaded.
    #[schema(format = DateTime)]
    created_at: String,
}

/// What is uploaded.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UploadParams {
    /// The product whose devices it is for: 1 to 64 of A-Z a-z 0-9 . _ -
    #[serde(default = "default_product")]
    #[param(
        default = "default",
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9._-]{1,64}$"
    )]
    product: String,
    /// The version that devices run afterwards: 1 to 64 printable ASCII characters, 16 at most for devices that speak PCP.
    #[param(
        min_length = 1,
        max_length = 64,
        pattern = r"^[!-~]([ -~]{0,62}[!-~])?$"
    )]
    version: String,
    /// The component of a device, or the software in it, that it is for: 1 to 64 characters. Such a package is not served over PCP, and
    /// those of two components may have the same version (docs/objects.md).
    #[param(
        min_length = 1,
        max_length = 64,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,64}$"
    )]
    component: Option<String>,
    /// Bytes of a segment over PCP, 32 to 500 but not 253; 500 when not given.
    #[param(schema_with = segment_size)]
    segment_size: Option<u32>,
    /// A signature over exactly the bytes of the file by one of the product's keys, in base64.
    #[param(max_length = 1368, pattern = "^[A-Za-z0-9+/_-]{1,1368}={0,2}$")]
    signature: Option<String>,
    /// Vulnerabilities that the version mends, up to 200, with commas between them.
    #[param(
        max_length = 5800,
        pattern = "^CVE-[0-9]{4}-[0-9]{4,19}(,CVE-[0-9]{4}-[0-9]{4,19}){0,199}$",
        example = "CVE-2026-12345"
    )]
    cves_mended: Option<String>,
    /// The last day on which the version is supported, `YYYY-MM-DD`.
    #[param(format = Date)]
    support_ends: Option<String>,
}

fn segment_size() -> Schema {
    let sizes = |from: u32, to: u32| {
        Object::builder()
            .schema_type(Type::Integer)
            .minimum(Some(from))
            .maximum(Some(to))
    };
    OneOf::builder()
        .item(sizes(32, 252))
        .item(sizes(254, 500))
        .build()
        .into()
}

pub(super) fn default_product() -> String {
    "default".to_owned()
}

/// The bytes of a package file.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary, min_length = 1)]
#[expect(dead_code, reason = "stands in the description only")]
struct PackageFile(Vec<u8>);

/// The file of an upload cannot be cut into segments.
fn no_package(error: SegmentationError) -> Problem {
    let (name, detail) = match error {
        SegmentationError::Empty => (
            "empty-package",
            "the file is empty; a package has at least one byte".to_owned(),
        ),
        error => (
            "too-many-segments",
            format!(
                "{error}; use larger segments or a smaller package, serve packages over HTTP too (download.http, download.https), or \
                 say by which object the product's devices are upgraded, if it is not by PCP (update_by)"
            ),
        ),
    };
    let title = "The file cannot be a package";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, name, title, detail)
}

/// Upload a package.
///
/// The body is the file itself. The same file for the same product, version, component and segment size again
/// changes nothing and is answered 200. Other content supersedes the older package of the product,
/// version and component, unless an unfinished task uses it.
///
/// Devices resume a download by version and check code. So the first upload under a product, version and check code
/// decides for ever which content that is and how it is cut, also when the package is deleted: other content, another
/// segment size or other padding with the same check code is refused. Upload it under another version then.
///
/// A package of more segments than PCP has numbers for, or whose version has more than 16 characters, is not served over PCP. It is
/// refused where `segment_size` is given, and where the server does not serve packages over HTTP, unless it is for a component or its
/// product says that its devices are upgraded by another object than PCP's (`update_by`).
///
/// A `signature` is verified over the bytes that have come, before anything is kept. The same file again, with a signature or with
/// what it mends, gives these to the package that is there.
#[utoipa::path(post, path = "/v1/packages", operation_id = "upload_package", tag = "packages", params(UploadParams),
    request_body(content = PackageFile, content_type = "application/octet-stream",
        description = "The package file"),
    responses(
        (status = 201, description = "Uploaded", body = UploadedPackage,
            headers(("Location" = String, description = "Path of the package"), ("ETag" = String, description = "Its revision"))),
        (status = 200, description = "It was there already", body = UploadedPackage,
            headers(("Location" = String, description = "Path of the package"), ("ETag" = String, description = "Its revision"))),
        (status = 400, description = "A parameter is missing or unknown, or the body broke off",
            body = Problem),
        (status = 409, description = "An unfinished task uses the product's version with other content \
            (`package-in-use`), or devices could not tell the package from an earlier one, whose parts they may hold \
            (`package-indistinct`)",
            body = Problem),
        (status = 413, description = "The file is larger than this server takes",
            body = Problem),
        (status = 415, description = "The content type is not application/octet-stream",
            body = Problem),
        (status = 422, description = "A parameter is not valid, or the file is empty or has too many segments; the signature is not one \
            by a key of the product over this file (`bad-signature`), or the product requires one (`signature-required`)",
            body = Problem),
        (status = 507, description = "The server's disk is full",
            body = Problem),
    ))]
pub(super) async fn upload(
    State(state): State<ApiState>,
    scope: Scope,
    Query(mut params): Query<UploadParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    expect_media_type(&headers, "application/octet-stream")?;
    let product = scoped::product_key(&scope, &params.product).unwrap_or_default();
    let without_pcp = may_do_without_pcp(&state.config.get(), &params, &product);
    let checked = check(&params, without_pcp)?;
    params.product = scoped::product_key(&scope, &params.product)?;
    let keys = vouching::keys(&state, &params.product, params.signature.is_some()).await?;
    let max_bytes = state.config.get().admin.max_package_bytes;
    let announced_bytes = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced_bytes.is_some_and(|bytes| bytes > max_bytes) {
        return Err(UploadError::TooLarge { max_bytes }.into());
    }
    let sealed = receive(&state, body, max_bytes).await?;
    let inserted = add(&state, params, checked, keys, sealed).await?;
    state.signals.written();
    let status = if inserted.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let record = inserted.record;
    let location = format!("/v1/packages/{}", record.id.0);
    let tag = format!("\"{}\"", record.revision);
    // whoever uploads again after an error finds the package there
    let earlier = (state.store)
        .package_before(&record.package.product, record.id)
        .await?;
    let body = Json(UploadedPackage {
        package: record.into(),
        supersedes: earlier.map(|earlier| EarlierBody {
            id: earlier.id.0,
            version: earlier.package.version.to_string(),
            created_at: earlier.package.created_at.to_string(),
        }),
    });
    let headers = [(header::LOCATION, location), (header::ETAG, tag)];
    Ok((status, headers, body).into_response())
}

/// Whether a package need not be served over PCP: it is over HTTP, or in blocks to devices that are upgraded by another object.
fn may_do_without_pcp(config: &Config, params: &UploadParams, product: &str) -> bool {
    let product = config.products.get(product);
    let by = product.map_or(UpdateBy::Auto, |product| product.update_by);
    let by_others = !matches!(by, UpdateBy::Auto | UpdateBy::Pcp);
    params.segment_size.is_none()
        && (config.download.is_on() || params.component.is_some() || by_others)
}

/// What an upload says of its file.
struct Checked {
    version: Version,
    without_pcp: bool,
    /// `None` where devices that speak PCP could not be told it.
    pcp_version: Option<pcp::Version>,
    signature: Option<Vec<u8>>,
    papers: Papers,
}

/// Checks what can be checked before the file is there. Unless it is served otherwise, devices have to be able to speak PCP of it.
fn check(params: &UploadParams, without_pcp: bool) -> Result<Checked, Problem> {
    let mut fields = Fields::default();
    fields.take("product", check_product_name(&params.product));
    let version = fields.take("version", Version::new(&params.version));
    let pcp_version = match pcp::Version::new(&params.version) {
        _ if params.component.is_some() => None,
        Err(_) if without_pcp => None,
        told => version.and_then(|_| fields.take("version", told)),
    };
    if let Some(component) = &params.component {
        fields.take("component", check_component(component));
        let problem = "a package for a component is not served over PCP, and has no segments";
        fields.check("segment_size", params.segment_size.is_none(), problem);
    }
    fields.take(
        "segment_size",
        Segmentation::choose(1, params.segment_size, false),
    );
    let signature = (params.signature.as_deref()).map(vouching::parse);
    let signature = signature.and_then(|signature| fields.take("signature", signature));
    let cves = params.cves_mended.iter().flat_map(|list| list.split(','));
    let papers = Papers {
        cves_mended: papers::parse_cves(&mut fields, cves),
        support_ends: (params.support_ends.as_deref())
            .and_then(|day| papers::parse_day(&mut fields, day)),
        ..Papers::default()
    };
    fields.finish()?;
    let version = version.ok_or_else(|| Problem::field("version", "it is not valid"))?;
    Ok(Checked {
        version,
        without_pcp,
        pcp_version,
        signature,
        papers,
    })
}

async fn receive(state: &ApiState, body: Body, max_bytes: u64) -> Result<SealedUpload, Problem> {
    let mut upload = state.files.upload(max_bytes).await?;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| unreadable(&error))?;
        upload.write(&chunk).await?;
    }
    Ok(upload.seal().await?)
}

/// The file first, durably, then the row.
async fn add(
    state: &ApiState,
    params: UploadParams,
    checked: Checked,
    keys: Vec<ProductKey>,
    sealed: SealedUpload,
) -> Result<InsertedPackage, Problem> {
    let config = state.config.get();
    let product = config.products.get(&params.product).copied();
    let product = product.unwrap_or_default();
    let content = sealed.content().clone();
    let segmentation = match Segmentation::choose(
        content.size_bytes,
        params.segment_size,
        product.pad_last_segment,
    ) {
        Ok(segmentation) => Some(segmentation),
        // whoever names a segment's size wants it served over PCP
        Err(SegmentationError::TooManySegments { .. })
            if checked.without_pcp
                && (config.download.is_on() || content.size_bytes <= Content::MAX_BYTES) =>
        {
            None
        }
        Err(error) => return Err(no_package(error)),
    };
    let pcp = (checked.pcp_version.zip(segmentation)).map(|(version, segmentation)| PcpOffer {
        version,
        check_code: product.check_code.apply(content.crc),
        segmentation,
    });
    // one file at a time is in memory
    let _kept = state.files.lock().await;
    let mut papers = checked.papers;
    if let Some(bytes) = checked.signature {
        let signature = vouching::verified(state, &params.product, keys, bytes, &sealed).await?;
        papers.signature = Some(signature);
    }
    let new = NewPackage {
        product: params.product,
        version: checked.version,
        component: params.component,
        sha256: content.sha256.clone(),
        crc: content.crc,
        size_bytes: content.size_bytes,
        md5: Some(content.md5),
        pcp,
        created_at: state.now(),
        papers,
    };
    sealed.publish(&state.files).await?;
    let inserted = state.store.insert_package(&new).await;
    if inserted.is_err()
        && !state
            .store
            .content_in_use(&content.sha256)
            .await
            .unwrap_or(true)
    {
        state.files.remove(&content.sha256).await?;
    }
    Ok(inserted?)
}

/// List packages, newest first.
#[utoipa::path(get, path = "/v1/packages", operation_id = "list_packages", tag = "packages", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<PackageBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<PackageBody>>, Problem> {
    let before = paging.after::<i64>("packages")?.map(PackageId);
    let tenants = scope.tenants();
    let page = (state.store)
        .packages(tenants.as_deref(), before, paging.limit()?)
        .await?;
    let body = ListBody::new(page, "packages", |package| package.id.0, PackageBody::from);
    Ok(Json(body))
}

/// A package.
#[utoipa::path(get, path = "/v1/packages/{id}", operation_id = "get_package", tag = "packages",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The package", body = PackageBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such package", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    papers::find(&state, &scope, id).await.map(papers::shown)
}

/// Delete a package.
///
/// Refused while an unfinished task uses it. Ended tasks keep telling which package they used.
#[utoipa::path(delete, path = "/v1/packages/{id}", operation_id = "delete_package", tag = "packages",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is no such package", body = Problem),
        (status = 409, description = "An unfinished task uses it", body = Problem),
    ))]
pub(super) async fn delete(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    scoped::package(&state, &scope, id).await?;
    let _kept = state.files.lock().await;
    let deleted = state
        .store
        .delete_package(PackageId(id), state.now())
        .await?;
    if !deleted.content_in_use {
        state.files.remove(&deleted.sha256).await?;
    }
    if let Some(sbom) = &deleted.unused_sbom {
        state.files.remove(sbom).await?;
    }
    state.signals.written();
    Ok(StatusCode::NO_CONTENT)
}
