//! Products are created, changed and removed: first in the database, then in what is in effect.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::time::sleep;
use utoipa::ToSchema;

use super::{ProductBody, SignaturesName, UpdateProductSettings, key_of};
use crate::{
    access::Scope,
    api::{
        ApiState, etag,
        extract::{self, Fields, Path},
        problem::Problem,
    },
    config::{Config, check_product_name},
    store::{Acting, ProductRecord, ProductUpdate, Store, UpdateProductError},
};

/// Between two attempts to find out what is stored.
const AGAIN_AFTER: Duration = if cfg!(test) {
    Duration::from_millis(10)
} else {
    Duration::from_secs(5)
};

/// What becomes of a product.
#[derive(Debug)]
enum Change {
    Create(ProductUpdate),
    /// Only if it has this revision, where one is given; as the next.
    Update(ProductUpdate, Option<u32>),
    Remove(Option<u32>),
}

impl Change {
    /// The product as it is then; `None`: it was removed.
    async fn store(
        &self,
        store: &dyn Store,
        product: &str,
    ) -> Result<Option<ProductRecord>, UpdateProductError> {
        match self {
            Self::Create(new) => store.create_product(product, new).await.map(Some),
            Self::Update(update, seen) => {
                let updated = store.update_product(product, update, *seen).await;
                updated.map(Some)
            }
            Self::Remove(seen) => store.remove_product(product, *seen).await.map(|()| None),
        }
    }
}

/// Stores a change and puts it into effect, one after the other, and also when nobody waits for it any more: what is in effect is what was
/// stored last.
async fn to_its_end(
    state: ApiState,
    product: String,
    change: Change,
) -> Result<Option<ProductRecord>, Problem> {
    let work = async move {
        let mut alone = state.products.lock().await;
        let stored = change.store(&*state.store, &product).await;
        match &stored {
            Ok(record) => {
                let created = record.filter(|record| record.created);
                put_into_effect(&state, |config| {
                    match created {
                        Some(record) => config.products.insert(product, record.settings),
                        None => config.products.remove(&product),
                    };
                });
            }
            // it may have been stored all the same
            Err(UpdateProductError::Store(_)) => {
                if !read_again(&state).await && !*alone {
                    *alone = true;
                    tokio::spawn(read_until_known(state.clone()));
                }
            }
            Err(_) => {}
        }
        drop(alone);
        // whoever has the answer finds devices treated by it
        state.heard.caught_up().await;
        Ok(stored?)
    };
    let work = match Acting::current() {
        Some(acting) => tokio::spawn(async move { acting.scope(work).await }),
        None => tokio::spawn(work),
    };
    work.await
        .unwrap_or_else(|error| Err(Problem::internal(&error)))
}

/// Puts into effect what is stored. Returns whether it is known.
async fn read_again(state: &ApiState) -> bool {
    match state.store.product_settings().await {
        Ok(products) => {
            put_into_effect(state, |config| config.products = products);
            true
        }
        Err(error) => {
            tracing::error!(
                %error,
                "the settings of products that are in effect may be others than those that are stored: they are read again until that works"
            );
            false
        }
    }
}

/// Reads what is stored again and again, in between changes, until it is in effect.
async fn read_until_known(state: ApiState) {
    loop {
        sleep(AGAIN_AFTER).await;
        if *state.stop.borrow() {
            return;
        }
        let mut under_way = state.products.lock().await;
        if read_again(&state).await {
            *under_way = false;
            return;
        }
    }
}

/// The product as a change leaves it that does not remove it.
async fn changed(state: ApiState, product: &str, change: Change) -> Result<ProductRecord, Problem> {
    let record = to_its_end(state, product.to_owned(), change).await?;
    record.ok_or_else(|| Problem::not_found(format!("product {product} was removed")))
}

fn put_into_effect(state: &ApiState, change: impl FnOnce(&mut Config)) {
    state.config.change(|config| {
        let mut config = config.clone();
        change(&mut config);
        (config, ())
    });
    state.signals.written();
}

/// A product to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct CreateProduct {
    /// Its name. Devices may name it already.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9._-]{1,64}$",
        example = "water-meter-3"
    )]
    product: String,
    /// Whether its packages have to be signed; `optional` when not given.
    #[serde(default)]
    signatures: Option<SignaturesName>,
    /// Its settings; those that are not given are as usual.
    #[serde(default)]
    settings: UpdateProductSettings,
}

/// What to change about a product. What is not given stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct UpdateProduct {
    /// Whether its packages have to be signed.
    signatures: Option<SignaturesName>,
    /// Its settings.
    settings: Option<UpdateProductSettings>,
}

/// Create a product.
///
/// Any name is a product, without this too: one that nobody has created has the usual settings, and its packages need no signature. Its
/// settings hold at once for the devices that name it.
#[utoipa::path(post, path = "/v1/products", operation_id = "create_product", tag = "products", request_body = CreateProduct,
    responses(
        (status = 201, description = "Created", body = ProductBody,
            headers(("Location" = String, description = "Path of the product"), ("ETag" = String, description = "Its revision"))),
        (status = 409, description = "It was created before, or there are 1,000 products, or too many of the tenant", body = Problem),
        (status = 422, description = "A field is not valid", body = Problem),
    ))]
pub(in crate::api) async fn create(
    State(state): State<ApiState>,
    scope: Scope,
    extract::Json(body): extract::Json<CreateProduct>,
) -> Result<Response, Problem> {
    let mut fields = Fields::default();
    let product = body.product;
    fields.take("product", check_product_name(&product));
    let new = ProductUpdate {
        settings: body.settings.checked(&mut fields),
        signatures: body.signatures.map(Into::into),
        share: Some(state.config.get().tenants.max_products),
    };
    fields.finish()?;
    let key = key_of(&scope, &product)?;
    let record = changed(state, &key, Change::Create(new)).await?;
    let location = format!("/v1/products/{product}");
    let tag = etag::tag(record.revision.into());
    let body = Json(ProductBody::new(&key, &record));
    let headers = [(header::LOCATION, location), tag];
    Ok((StatusCode::CREATED, headers, body).into_response())
}

/// Change a product.
///
/// What is given takes the place of what is there. Settings hold at once: for an upgrade that runs from its next step on. With `signatures`
/// `required`, packages that came without one stay, and no new task takes them until they are uploaded again with one. A product that
/// nobody has created is created. With `If-Match` it is changed only if nobody has changed it since.
#[utoipa::path(patch, path = "/v1/products/{product}", operation_id = "update_product", tag = "products",
    request_body = UpdateProduct,
    params(("product" = String, Path, description = "The product", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 200, description = "The product", body = ProductBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 409, description = "It would be created, and there are 1,000 products, or too many of the tenant", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
        (status = 422, description = "A field is not valid", body = Problem),
    ))]
pub(in crate::api) async fn update(
    State(state): State<ApiState>,
    scope: Scope,
    Path(product): Path<String>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<UpdateProduct>,
) -> Result<Response, Problem> {
    let key = key_of(&scope, &product)?;
    let mut fields = Fields::default();
    let given = body.signatures.is_some() || body.settings.is_some();
    fields.check("settings", given, "give settings or signatures");
    let settings = body.settings.unwrap_or_default();
    let update = ProductUpdate {
        settings: settings.checked(&mut fields),
        signatures: body.signatures.map(Into::into),
        share: Some(state.config.get().tenants.max_products),
    };
    fields.finish()?;
    let seen = etag::if_match(&headers)?;
    let record = changed(state, &key, Change::Update(update, seen)).await?;
    let body = ProductBody::new(&key, &record);
    Ok(etag::tagged(record.revision.into(), body))
}

/// Remove a product, and the keys that vouch for its packages.
///
/// Nothing may name it: no device, no package that is not deleted, no task that has not ended. From then on it is as one that nobody has
/// created. With `If-Match` it is removed only if nobody has changed it since.
#[utoipa::path(delete, path = "/v1/products/{product}", operation_id = "remove_product", tag = "products",
    params(("product" = String, Path, description = "The product", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "Nobody has created it", body = Problem),
        (status = 409, description = "Devices, packages or tasks name it; the detail says how many", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
        (status = 422, description = "This is no name of a product", body = Problem),
    ))]
pub(in crate::api) async fn remove(
    State(state): State<ApiState>,
    scope: Scope,
    Path(product): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let key = key_of(&scope, &product)?;
    let seen = etag::if_match(&headers)?;
    to_its_end(state, key, Change::Remove(seen)).await?;
    Ok(StatusCode::NO_CONTENT)
}
