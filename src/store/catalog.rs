use async_trait::async_trait;

use super::{
    DeletePackageError, DeletedPackage, InsertPackageError, InsertedPackage, NewPackage,
    PackageRecord, Page, PapersChange, StoreError, TaskPackages, UpdatePackageError,
    UpdatedPackage,
};
use crate::{
    clock::UtcMillis,
    ledger::{PackageId, TaskId},
    package::Version,
    tenant::TenantId,
};

/// The packages.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Adds a package whose file is durable already.
    ///
    /// The same product, version, component, content and cut again gives the row that is there. Otherwise the new
    /// row supersedes the older one of that product, version and component, unless an unfinished task uses it. Under one
    /// product, version and check code there is one content in one cut for ever, also when its package is
    /// gone: all else is refused.
    ///
    /// Papers that come with the same package replace what was there of them. A package without a signature is refused where the
    /// product requires one, and one whose key the product does not have any more always.
    async fn insert_package(&self, new: &NewPackage)
    -> Result<InsertedPackage, InsertPackageError>;

    /// A package, deleted ones included: a running upgrade stays on the package it began with.
    async fn package(&self, id: PackageId) -> Result<Option<PackageRecord>, StoreError>;

    /// Packages of these tenants, or of all, that are not deleted, newest first, with numbers below `before`.
    async fn packages(
        &self,
        tenants: Option<&[TenantId]>,
        before: Option<PackageId>,
        limit: u32,
    ) -> Result<Page<PackageRecord>, StoreError>;

    /// The newest package of that product, version and component that is neither superseded nor deleted.
    async fn find_package(
        &self,
        product: &str,
        version: Version,
        component: Option<&str>,
    ) -> Result<Option<PackageRecord>, StoreError>;

    /// The newest package of a product that is not deleted and has a number below `before`.
    async fn package_before(
        &self,
        product: &str,
        before: PackageId,
    ) -> Result<Option<PackageRecord>, StoreError>;

    /// Deletes a package that no unfinished task uses. Its row stays while an ended task refers to it.
    async fn delete_package(
        &self,
        id: PackageId,
        now: UtcMillis,
    ) -> Result<DeletedPackage, DeletePackageError>;

    /// Changes what is kept beside the content; with `revision`, only where the package has it. A file that is named has to be
    /// durable already.
    async fn update_package(
        &self,
        id: PackageId,
        change: &PapersChange,
        revision: Option<u32>,
    ) -> Result<UpdatedPackage, UpdatePackageError>;

    /// The packages of a task, and for whom they are; `None` when there is no such task.
    async fn task_packages(&self, task: TaskId) -> Result<Option<TaskPackages>, StoreError>;

    /// Packages that are not deleted and whose MD5 is not known: they were uploaded before it was kept.
    /// In the order of their numbers, after this one.
    async fn packages_without_md5(
        &self,
        after: PackageId,
        limit: u32,
    ) -> Result<Vec<PackageRecord>, StoreError>;

    /// Writes down the MD5 of a package's content, where it is not known.
    async fn set_md5(&self, id: PackageId, md5: &str) -> Result<(), StoreError>;

    /// Whether a package that is not deleted has this content, or a bill of materials with it.
    async fn content_in_use(&self, sha256: &str) -> Result<bool, StoreError>;
}
