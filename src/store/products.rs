use async_trait::async_trait;
use thiserror::Error;

use super::{CreateTaskError, PackageRecord, StoreError};
use crate::{
    clock::UtcMillis,
    signing::{KeyId, PublicKey},
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
    /// Whether its packages have to be signed.
    pub signatures: Signatures,
    /// Keys that it has.
    pub keys: u32,
    /// Counts the changes of its rules, from 1.
    pub revision: u32,
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

/// Why a product's rules were not changed.
#[derive(Debug, Error)]
pub enum UpdateProductError {
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

/// What is ruled of products, and the keys that vouch for their packages.
#[async_trait]
pub trait Products: Send + Sync + 'static {
    /// The rules of a product. One of which nothing was ever said has the usual ones.
    async fn product(&self, product: &str) -> Result<ProductRecord, StoreError>;

    /// Changes the rules of a product; with `revision`, only those that have it.
    async fn update_product(
        &self,
        product: &str,
        signatures: Signatures,
        revision: Option<u32>,
    ) -> Result<ProductRecord, UpdateProductError>;

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
