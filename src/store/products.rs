use std::collections::BTreeMap;

use async_trait::async_trait;
use thiserror::Error;

use super::{CreateTaskError, PackageRecord, Page, StoreError};
use crate::{
    clock::UtcMillis,
    config::{MOST_PRODUCTS, ProductChange, ProductConfig},
    signing::{KeyId, PublicKey},
    tenant::TenantId,
};

/// Keys that a product may have.
pub const MAX_PRODUCT_KEYS: u32 = 16;

/// Whether a product's packages have to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signatures {
    /// A package may come without one. A signature that comes is verified.
    #[default]
    Optional,
    /// A package without one is neither taken nor used in a new task.
    Required,
}

impl Signatures {
    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }

    /// The package, if a new task may take it: somebody vouches for it still, or nobody has to.
    ///
    /// # Errors
    /// [`CreateTaskError::PackageKeyRemoved`], [`CreateTaskError::PackageUnsigned`].
    pub fn vouched(self, package: PackageRecord) -> Result<PackageRecord, CreateTaskError> {
        let id = package.id;
        match (&package.package.papers.signature, self) {
            (None, Self::Optional) => Ok(package),
            (None, Self::Required) => Err(CreateTaskError::PackageUnsigned {
                package: id,
                product: package.package.product,
            }),
            (Some(signature), _) => match signature.key_removed_at {
                None => Ok(package),
                Some(at) => Err(CreateTaskError::PackageKeyRemoved {
                    package: id,
                    key: signature.key.clone(),
                    at,
                }),
            },
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Optional, Self::Required]
            .into_iter()
            .find(|it| it.name() == name)
    }
}

/// What is ruled of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductRecord {
    /// Whether somebody has created it. Any name is a product all the same: one that nobody has created is as usual.
    pub created: bool,
    /// Its settings.
    pub settings: ProductConfig,
    /// Whether its packages have to be signed.
    pub signatures: Signatures,
    /// Keys that it has.
    pub keys: u32,
    /// Grows with each change of its rules and settings, and does not come again when it is removed and created anew.
    pub revision: u32,
}

/// What to change about a product. What is not given stays as it is, or is as usual where it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProductUpdate {
    /// Its settings.
    pub settings: ProductChange,
    /// Whether its packages have to be signed.
    pub signatures: Option<Signatures>,
    /// So many products may its tenant have; `None`, and for `default`: as many as there may be.
    pub share: Option<u32>,
}

impl From<Signatures> for ProductUpdate {
    fn from(signatures: Signatures) -> Self {
        Self {
            signatures: Some(signatures),
            ..Self::default()
        }
    }
}

/// What names a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProductUses {
    /// Devices.
    pub devices: u64,
    /// Packages, not deleted.
    pub packages: u64,
    /// Tasks that have not ended.
    pub tasks: u64,
}

impl ProductUses {
    /// Whether anything does.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// A key that vouches for a product's packages.
#[derive(Debug, Clone)]
pub struct ProductKey {
    /// The key.
    pub key: PublicKey,
    /// What the operator calls it.
    pub name: String,
    /// When it was added.
    pub created_at: UtcMillis,
}

/// What the removal of a key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovedKey {
    /// Packages, not deleted, that it vouched for: no new task takes them.
    pub packages: u64,
}

/// Why a product was not created, changed or removed.
#[derive(Debug, Error)]
pub enum UpdateProductError {
    /// There is one of that name.
    #[error("product {0} was created before; change it, or give another name")]
    Exists(String),
    /// Nobody has created it.
    #[error("nobody has created product {0}")]
    NotFound(String),
    /// There are enough.
    #[error("there are {MOST_PRODUCTS} products already, which is the most; remove one")]
    TooMany,
    /// As many as its tenant may have.
    #[error(
        "tenant {tenant} has {share} products already, which is its share (tenants.max_products); remove one first"
    )]
    ShareTaken {
        /// The tenant.
        tenant: String,
        /// How many that is.
        share: u32,
    },
    /// Something names it.
    #[error(
        "{} devices, {} packages and {} tasks that have not ended name product {product}; give the devices another product, delete \
         the packages, and stop the tasks before", uses.devices, uses.packages, uses.tasks
    )]
    InUse {
        /// The product.
        product: String,
        /// What does.
        uses: ProductUses,
    },
    /// Somebody has changed them meanwhile.
    #[error(
        "product {product} was changed meanwhile: it has revision {revision}; look at it again"
    )]
    Changed {
        /// The product.
        product: String,
        /// Its revision.
        revision: u32,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a key was not added.
#[derive(Debug, Error)]
pub enum AddKeyError {
    /// There are enough.
    #[error("product {0} has {MAX_PRODUCT_KEYS} keys already, which is the most; remove one")]
    TooMany(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why products were not taken in. None was.
#[derive(Debug, Error)]
pub enum ImportProductsError {
    /// With those that are ruled of there would be more than may be.
    #[error(
        "with the products of the settings there would be {all} products, and {MOST_PRODUCTS} are the most: some are in the database already, \
         because of their keys or because their packages have to be signed; take {} of the others out of the settings, and start again",
        .all - MOST_PRODUCTS
    )]
    TooMany {
        /// How many there would be.
        all: usize,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Products: their settings, what is ruled of them, and the keys that vouch for their packages.
#[async_trait]
pub trait Products: Send + Sync + 'static {
    /// Creates these products, or gives those that were created these settings, unless this was done before, with whatever products.
    /// Returns whether it is done now.
    async fn import_products(
        &self,
        products: &BTreeMap<String, ProductConfig>,
    ) -> Result<bool, ImportProductsError>;

    /// The settings of all products that somebody has created.
    async fn product_settings(&self) -> Result<BTreeMap<String, ProductConfig>, StoreError>;

    /// The rules and settings of a product. One that nobody has created has the usual ones.
    async fn product(&self, product: &str) -> Result<ProductRecord, StoreError>;

    /// Products of these tenants, or of all, that somebody has created, by tenants and names, after the one with this key.
    async fn products(
        &self,
        tenants: Option<&[TenantId]>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<(String, ProductRecord)>, StoreError>;

    /// What names a product.
    async fn product_uses(&self, product: &str) -> Result<ProductUses, StoreError>;

    /// Creates a product.
    async fn create_product(
        &self,
        product: &str,
        new: &ProductUpdate,
    ) -> Result<ProductRecord, UpdateProductError>;

    /// Changes a product; with `revision`, only one that has it. One that nobody has created is created, where anything changes.
    async fn update_product(
        &self,
        product: &str,
        update: &ProductUpdate,
        revision: Option<u32>,
    ) -> Result<ProductRecord, UpdateProductError>;

    /// Removes a product that nothing names, and its keys; with `revision`, only one that has it.
    async fn remove_product(
        &self,
        product: &str,
        revision: Option<u32>,
    ) -> Result<(), UpdateProductError>;

    /// The keys of a product, ordered by their ids.
    async fn product_keys(&self, product: &str) -> Result<Vec<ProductKey>, StoreError>;

    /// Adds a key. One that is there keeps its name; returns it as it is, and whether it is new. Packages that it vouched for before
    /// it was removed are vouched for again.
    async fn add_product_key(
        &self,
        product: &str,
        key: &ProductKey,
    ) -> Result<(ProductKey, bool), AddKeyError>;

    /// Removes a key; `None` when there is no such key.
    async fn remove_product_key(
        &self,
        product: &str,
        id: &KeyId,
        now: UtcMillis,
    ) -> Result<Option<RemovedKey>, StoreError>;
}
