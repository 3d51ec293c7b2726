//! `/v1/products`: the settings of products, whether their packages have to be signed, and by whom.

pub(super) mod changes;
mod settings;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiState,
    etag::tagged,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    problem::Problem,
    scoped,
};
use crate::{
    access::Scope,
    config::check_product_name,
    signing::{Algorithm, KeyId, PublicKey},
    store::{DeviceFilter, ProductKey, ProductRecord, Signatures},
    tenant,
};
use settings::{ProductSettingsBody, UpdateProductSettings};

const MAX_NAME: usize = 200;

/// Whether packages have to be signed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SignaturesName {
    /// A package may come without a signature. One that comes is verified.
    Optional,
    /// A package without a signature is neither taken nor used in a new task.
    Required,
}

impl From<SignaturesName> for Signatures {
    fn from(name: SignaturesName) -> Self {
        match name {
            SignaturesName::Optional => Self::Optional,
            SignaturesName::Required => Self::Required,
        }
    }
}

impl From<Signatures> for SignaturesName {
    fn from(signatures: Signatures) -> Self {
        match signatures {
            Signatures::Optional => Self::Optional,
            Signatures::Required => Self::Required,
        }
    }
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProductBody {
    /// Whose it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Its name.
    product: String,
    /// Whether somebody has created it. Any name is a product all the same, with the usual settings.
    created: bool,
    /// Whether its packages have to be signed.
    signatures: SignaturesName,
    /// Its settings.
    settings: ProductSettingsBody,
    /// Keys that vouch for its packages.
    keys: u32,
    /// Devices that name it, of those that the caller sees; `null` in lists and in answers to changes, because counting takes time.
    #[schema(required)]
    devices: Option<u64>,
    /// Its packages that are not deleted; `null` as for `devices`.
    #[schema(required)]
    packages: Option<u64>,
    /// Grows with each change; the `ETag` of this answer.
    revision: u32,
}

impl ProductBody {
    fn new(key: &str, record: &ProductRecord) -> Self {
        Self {
            tenant: tenant::told(key),
            product: tenant::product_name(key).to_owned(),
            created: record.created,
            signatures: record.signatures.into(),
            settings: record.settings.into(),
            keys: record.keys,
            devices: None,
            packages: None,
            revision: record.revision,
        }
    }
}

/// A key that vouches for a product's packages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProductKeyBody {
    /// The first 32 hexadecimal digits of the SHA-256 of the key's `SubjectPublicKeyInfo` in DER.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    id: String,
    /// What the operator calls it.
    name: String,
    /// What it signs with.
    #[schema(schema_with = algorithms)]
    algorithm: &'static str,
    /// The key in PEM.
    pem: String,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
}

pub(super) fn algorithms() -> utoipa::openapi::Object {
    utoipa::openapi::Object::builder()
        .schema_type(utoipa::openapi::Type::String)
        .enum_values(Some(Algorithm::ALL.map(Algorithm::name)))
        .build()
}

impl From<ProductKey> for ProductKeyBody {
    fn from(key: ProductKey) -> Self {
        Self {
            id: key.key.id().to_string(),
            name: key.name,
            algorithm: key.key.algorithm().name(),
            pem: key.key.to_pem(),
            created_at: key.created_at.to_string(),
        }
    }
}

/// The keys of a product: 16 at most.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProductKeysBody {
    /// The keys, ordered by their ids.
    items: Vec<ProductKeyBody>,
}

/// A key to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddProductKey {
    /// The public key in PEM (`-----BEGIN PUBLIC KEY-----`): Ed25519, ECDSA on P-256, or RSA with 2,048 to 8,192 bits, which signs by
    /// PSS.
    #[schema(max_length = 8192)]
    pem: String,
    /// What to call it, up to 200 characters.
    #[serde(default)]
    #[schema(
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{0,200}$",
        example = "Release signing 2027"
    )]
    name: String,
}

/// The removal of a key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RemovedKeyBody {
    /// Packages, not deleted, that it vouched for: no new task takes them until they are uploaded again with a signature by another
    /// key. Tasks that are there go on.
    packages: u64,
}

/// The key of the product that a caller calls so.
fn key_of(scope: &Scope, product: &str) -> Result<String, Problem> {
    check_product_name(product).map_err(|error| Problem::field("product", error))?;
    scoped::product_key(scope, product)
}

/// List the products that somebody has created, by their names.
#[utoipa::path(get, path = "/v1/products", operation_id = "list_products", tag = "products", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<ProductBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<ProductBody>>, Problem> {
    let after = paging.after::<String>("products")?;
    let tenants = scope.tenants();
    let page = (state.store).products(tenants.as_deref(), after.as_deref(), paging.limit()?);
    let name = |(key, _): &(String, ProductRecord)| key.clone();
    let body = |(key, record): (String, ProductRecord)| ProductBody::new(&key, &record);
    Ok(Json(ListBody::new(page.await?, "products", name, body)))
}

/// A product: its settings, its rules, and how much names it.
///
/// A product is any name: one that nobody has created has the usual settings and rules. Its devices are counted: of a million this may take
/// a second.
#[utoipa::path(get, path = "/v1/products/{product}", operation_id = "get_product", tag = "products",
    params(("product" = String, Path, description = "The product", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")),
    responses(
        (status = 200, description = "The product", body = ProductBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 422, description = "This is no name of a product", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(product): Path<String>,
) -> Result<Response, Problem> {
    let product_key = key_of(&scope, &product)?;
    let record = state.store.product(&product_key).await?;
    let uses = state.store.product_uses(&product_key).await?;
    let devices = match scope.filter() {
        None => uses.devices,
        Some(filter) => {
            let filter = DeviceFilter {
                product: Some(product_key.clone()),
                filter: Some(filter),
                now: state.now(),
                ..DeviceFilter::default()
            };
            state.store.count_devices(&filter).await?
        }
    };
    let body = ProductBody {
        devices: Some(devices),
        packages: Some(uses.packages),
        ..ProductBody::new(&product_key, &record)
    };
    Ok(tagged(record.revision.into(), body))
}

/// The keys that vouch for a product's packages.
#[utoipa::path(get, path = "/v1/products/{product}/keys", operation_id = "list_product_keys", tag = "products",
    params(("product" = String, Path, description = "The product", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")),
    responses(
        (status = 200, description = "The keys", body = ProductKeysBody),
        (status = 422, description = "This is no name of a product", body = Problem),
    ))]
pub(super) async fn keys(
    State(state): State<ApiState>,
    scope: Scope,
    Path(product): Path<String>,
) -> Result<Json<ProductKeysBody>, Problem> {
    let product_key = key_of(&scope, &product)?;
    let keys = state.store.product_keys(&product_key).await?;
    let items = keys.into_iter().map(ProductKeyBody::from).collect();
    Ok(Json(ProductKeysBody { items }))
}

/// Add a key that vouches for a product's packages.
///
/// A key that is there already stays as it is, and is answered 200. Packages for which it vouched before it was removed are usable
/// again.
#[utoipa::path(post, path = "/v1/products/{product}/keys", operation_id = "add_product_key", tag = "products",
    request_body = AddProductKey,
    params(("product" = String, Path, description = "The product", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")),
    responses(
        (status = 201, description = "Added", body = ProductKeyBody),
        (status = 200, description = "It was there already", body = ProductKeyBody),
        (status = 409, description = "The product has 16 keys already", body = Problem),
        (status = 422, description = "It is no public key of a kind that is possible, or a field is not valid", body = Problem),
    ))]
pub(super) async fn add_key(
    State(state): State<ApiState>,
    scope: Scope,
    Path(product): Path<String>,
    extract::Json(body): extract::Json<AddProductKey>,
) -> Result<Response, Problem> {
    let product_key = key_of(&scope, &product)?;
    let mut fields = Fields::default();
    let key = fields.take("pem", PublicKey::from_pem(&body.pem));
    fields.check(
        "name",
        body.name.chars().count() <= MAX_NAME && !body.name.chars().any(char::is_control),
        format!("a name has at most {MAX_NAME} characters and no control characters"),
    );
    fields.finish()?;
    let key = key.ok_or_else(|| Problem::field("pem", "it is not valid"))?;
    let new = ProductKey {
        key,
        name: body.name,
        created_at: state.now(),
    };
    let (key, created) = state.store.add_product_key(&product_key, &new).await?;
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(ProductKeyBody::from(key))).into_response())
}

/// Remove a key of a product.
///
/// Packages for which it vouched stay, and no new task takes them until they are uploaded again with a signature by another key: the
/// answer says how many. Tasks that are there go on: stop them if the key is not to be trusted.
#[utoipa::path(delete, path = "/v1/products/{product}/keys/{key}", operation_id = "remove_product_key", tag = "products",
    params(("product" = String, Path, description = "The product", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
        ("key" = String, Path, description = "The key's id", pattern = "^[0-9a-f]{32}$")),
    responses(
        (status = 200, description = "Removed", body = RemovedKeyBody),
        (status = 404, description = "The product has no such key", body = Problem),
        (status = 422, description = "This is no name of a product", body = Problem),
    ))]
pub(super) async fn remove_key(
    State(state): State<ApiState>,
    scope: Scope,
    Path((product, key)): Path<(String, String)>,
) -> Result<Json<RemovedKeyBody>, Problem> {
    let product_key = key_of(&scope, &product)?;
    let unknown = || Problem::not_found(format!("product {product} has no key {key:?}"));
    let id = KeyId::new(&key).ok_or_else(unknown)?;
    let removed = (state.store)
        .remove_product_key(&product_key, &id, state.now())
        .await?
        .ok_or_else(unknown)?;
    Ok(Json(RemovedKeyBody {
        packages: removed.packages,
    }))
}
