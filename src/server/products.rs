//! Products are in the database. Settings name them for the first start.

use std::{collections::BTreeMap, path::Path};

use crate::{
    config::{Config, ProductConfig, not_obeyed},
    store::{DatabaseFile, FILE_NAME, ImportProductsError, OpenError, Store},
};

/// The settings with the products that are in the database, which takes in those of the settings at the first start. What the settings
/// say otherwise is told.
pub(super) async fn with_stored(
    config: Config,
    store: &dyn Store,
) -> Result<Config, ImportProductsError> {
    let told = config.products.len();
    if store.import_products(&config.products).await? && told > 0 {
        tracing::info!(
            products = told,
            "the products of the settings are in the database from now on, which alone counts: change them with `cellwise product set`, and \
             take them out of the settings"
        );
    }
    let products = store.product_settings().await?;
    tell(&not_obeyed(&config.products, &products));
    Ok(Config { products, ..config })
}

/// Says in the log what of the settings is not obeyed.
pub(super) fn tell(not_obeyed: &[String]) {
    for sentence in not_obeyed {
        tracing::warn!("{sentence}");
    }
}

/// The products in the database of a data directory, whether a server uses it or not. `None` where the first start is still to come, which
/// takes in those of the settings.
///
/// # Errors
/// The database cannot be read.
pub async fn stored_products(
    dir: &Path,
) -> Result<Option<BTreeMap<String, ProductConfig>>, OpenError> {
    let path = dir.join(FILE_NAME);
    if !path.exists() {
        return Ok(None);
    }
    // a reader beside a server needs the files beside the database, and makes none without one
    let used = path.with_extension("db-wal").exists();
    let mut database = if used {
        DatabaseFile::open(&path).await?
    } else {
        DatabaseFile::open_unused(&path).await?
    };
    let products = database.products().await;
    database.close().await;
    products
}

#[cfg(test)]
mod tests;
