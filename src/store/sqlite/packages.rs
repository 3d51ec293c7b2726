use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore, papers, products,
    rows::{self, Columns},
    tenancy,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    ledger::{PackageId, TaskId, TaskState},
    package::{Segmentation, Version},
    store::{
        Catalog, DeletePackageError, DeletedPackage, EarlierPackage, InsertPackageError,
        InsertedPackage, NewPackage, PackageRecord, Page, PapersChange, Signatures, StoreError,
        TaskPackages, UpdatePackageError, UpdatedPackage,
    },
    tenant::TenantId,
};

#[async_trait]
impl Catalog for SqliteStore {
    async fn package(&self, id: PackageId) -> Result<Option<PackageRecord>, StoreError> {
        sqlx::query("SELECT * FROM packages WHERE id = ?")
            .bind(id.0)
            .fetch_optional(&self.readers)
            .await
            .doing("reading a package")?
            .as_ref()
            .map(papers::record)
            .transpose()
    }

    async fn insert_package(
        &self,
        new: &NewPackage,
    ) -> Result<InsertedPackage, InsertPackageError> {
        let doing = "adding a package";
        let mut tx = self.write(doing).await?;
        let rows = sqlx::query(
            "SELECT * FROM packages WHERE product = ? AND version = ? AND component IS ? AND deleted_at IS NULL \
             ORDER BY id DESC",
        )
        .bind(&new.product)
        .bind(new.version.as_str())
        .bind(new.component.as_deref())
        .fetch_all(&mut *tx)
        .await
        .doing(doing)?;
        let older = rows
            .iter()
            .map(papers::record)
            .collect::<Result<Vec<_>, _>>()?;
        vouched_for(&mut tx, new).await?;
        if let Some(current) = older.iter().find(|older| older.superseded_at.is_none())
            && is_same(&current.package, new)
        {
            tx.watch(Table::Packages, current.id.0).await.doing(doing)?;
            let record = with_papers(&mut tx, current.clone(), new)
                .await
                .doing(doing)?;
            tx.commit().await.doing(doing)?;
            return Ok(InsertedPackage {
                record,
                created: false,
            });
        }
        if let Some(differs) = earlier(&mut tx, new).await? {
            let new = Box::new(new.clone());
            return Err(InsertPackageError::Indistinct { new, differs });
        }
        supersede(&mut tx, &older, new).await?;
        let id = insert(&mut tx, new).await.doing(doing)?;
        papers::write(&mut tx, id, &new.papers, 1)
            .await
            .doing(doing)?;
        tx.made(Table::Packages, id.0);
        tx.commit().await.doing(doing)?;
        Ok(InsertedPackage {
            record: PackageRecord {
                id,
                package: new.clone(),
                superseded_at: None,
                deleted_at: None,
                revision: 1,
            },
            created: true,
        })
    }

    async fn packages(
        &self,
        tenants: Option<&[TenantId]>,
        before: Option<PackageId>,
        limit: u32,
    ) -> Result<Page<PackageRecord>, StoreError> {
        let doing = "listing packages";
        if let Some(tenants) = tenants {
            let mut found = Vec::new();
            for tenant in tenants {
                let rows = sqlx::query(
                    "SELECT * FROM packages INDEXED BY packages_of_tenant \
                     WHERE tenant = ? AND id < ? AND deleted_at IS NULL ORDER BY id DESC LIMIT ?",
                )
                .bind(tenant.as_str())
                .bind(before.map_or(i64::MAX, |id| id.0))
                .bind(rows::one_more(limit))
                .fetch_all(&self.readers)
                .await
                .doing(doing)?;
                let records = rows.iter().map(papers::record);
                found.extend(records.collect::<Result<Vec<_>, _>>()?);
            }
            return Ok(tenancy::newest(found, |package| package.id.0, limit));
        }
        let rows = sqlx::query(
            "SELECT * FROM packages WHERE id < ? AND deleted_at IS NULL ORDER BY id DESC LIMIT ?",
        )
        .bind(before.map_or(i64::MAX, |id| id.0))
        .bind(rows::one_more(limit))
        .fetch_all(&self.readers)
        .await
        .doing(doing)?;
        rows::page(&rows, limit, papers::record)
    }

    async fn find_package(
        &self,
        product: &str,
        version: Version,
        component: Option<&str>,
    ) -> Result<Option<PackageRecord>, StoreError> {
        sqlx::query(
            "SELECT * FROM packages WHERE product = ? AND version = ? AND component IS ? \
             AND superseded_at IS NULL AND deleted_at IS NULL",
        )
        .bind(product)
        .bind(version.as_str().to_owned())
        .bind(component)
        .fetch_optional(&self.readers)
        .await
        .doing("looking for a package")?
        .as_ref()
        .map(papers::record)
        .transpose()
    }

    async fn package_before(
        &self,
        product: &str,
        before: PackageId,
    ) -> Result<Option<PackageRecord>, StoreError> {
        sqlx::query(
            "SELECT * FROM packages INDEXED BY packages_of_product \
             WHERE product = ? AND id < ? AND deleted_at IS NULL ORDER BY id DESC LIMIT 1",
        )
        .bind(product)
        .bind(before.0)
        .fetch_optional(&self.readers)
        .await
        .doing("looking for the package before another")?
        .as_ref()
        .map(papers::record)
        .transpose()
    }

    async fn delete_package(
        &self,
        id: PackageId,
        now: UtcMillis,
    ) -> Result<DeletedPackage, DeletePackageError> {
        let doing = "deleting a package";
        let mut tx = self.write(doing).await?;
        tx.watch(Table::Packages, id.0).await.doing(doing)?;
        let row = sqlx::query(
            "SELECT sha256, sbom_sha256 FROM packages WHERE id = ? AND deleted_at IS NULL",
        )
        .bind(id.0)
        .fetch_optional(&mut *tx)
        .await
        .doing(doing)?;
        let Some(row) = row else {
            return Err(DeletePackageError::NotFound(id));
        };
        if let Some((task, name, state)) = user(&mut tx, id).await? {
            return Err(DeletePackageError::InUse {
                package: id,
                task,
                name,
                state,
            });
        }
        sqlx::query("UPDATE packages SET deleted_at = ? WHERE id = ?")
            .bind(now.0)
            .bind(id.0)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        sqlx::query(
            "DELETE FROM packages WHERE id = ?1 \
             AND NOT EXISTS (SELECT 1 FROM tasks WHERE package_id = ?1) \
             AND NOT EXISTS (SELECT 1 FROM task_packages WHERE package_id = ?1)",
        )
        .bind(id.0)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        let sha256: String = row.value("sha256")?;
        let mut unused_sbom: Option<String> = row.value("sbom_sha256")?;
        if let Some(sbom) = &unused_sbom
            && papers::is_file_in_use(&mut tx, sbom).await?
        {
            unused_sbom = None;
        }
        let content_in_use = papers::is_file_in_use(&mut tx, &sha256).await?;
        tx.commit().await.doing(doing)?;
        Ok(DeletedPackage {
            sha256,
            content_in_use,
            unused_sbom,
        })
    }

    async fn update_package(
        &self,
        id: PackageId,
        change: &PapersChange,
        revision: Option<u32>,
    ) -> Result<UpdatedPackage, UpdatePackageError> {
        self.change_papers(id, change, revision).await
    }

    async fn task_packages(&self, task: TaskId) -> Result<Option<TaskPackages>, StoreError> {
        self.read_task_packages(task).await
    }

    async fn packages_without_md5(
        &self,
        after: PackageId,
        limit: u32,
    ) -> Result<Vec<PackageRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM packages INDEXED BY packages_without_md5 \
             WHERE md5 IS NULL AND deleted_at IS NULL AND id > ? ORDER BY id LIMIT ?",
        )
        .bind(after.0)
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("looking for packages without an MD5")?;
        rows.iter().map(papers::record).collect()
    }

    async fn set_md5(&self, id: PackageId, md5: &str) -> Result<(), StoreError> {
        let doing = "writing the MD5 of a package";
        let mut tx = self.write(doing).await?;
        sqlx::query("UPDATE packages SET md5 = ? WHERE id = ? AND md5 IS NULL")
            .bind(md5)
            .bind(id.0)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        tx.commit().await.doing(doing)
    }

    async fn content_in_use(&self, sha256: &str) -> Result<bool, StoreError> {
        let doing = "looking for packages of a file";
        let mut reader = self.readers.acquire().await.doing(doing)?;
        papers::is_file_in_use(&mut reader, sha256).await
    }
}

/// Makes room for a new package: the older ones of its version and component are superseded, unless an unfinished task uses one.
async fn supersede(
    conn: &mut SqliteConnection,
    older: &[PackageRecord],
    new: &NewPackage,
) -> Result<(), InsertPackageError> {
    for package in older {
        if let Some((task, name, state)) = user(conn, package.id).await? {
            return Err(InsertPackageError::InUse {
                package: package.id,
                task,
                name,
                state,
            });
        }
    }
    sqlx::query(
        "UPDATE packages SET superseded_at = ? WHERE product = ? AND version = ? AND component IS ? \
         AND superseded_at IS NULL AND deleted_at IS NULL",
    )
    .bind(new.created_at.0)
    .bind(&new.product)
    .bind(new.version.as_str())
    .bind(new.component.as_deref())
    .execute(conn)
    .await
    .doing("superseding a package")?;
    Ok(())
}

/// Whether the product takes a package that is vouched for so.
async fn vouched_for(
    conn: &mut SqliteConnection,
    new: &NewPackage,
) -> Result<(), InsertPackageError> {
    match &new.papers.signature {
        Some(signature) => {
            if products::has_key(conn, &new.product, &signature.key).await? {
                return Ok(());
            }
            Err(InsertPackageError::KeyRemoved {
                product: new.product.clone(),
                key: signature.key.clone(),
            })
        }
        None => match products::read(conn, &new.product).await?.signatures {
            Signatures::Optional => Ok(()),
            Signatures::Required => Err(InsertPackageError::Unsigned(new.product.clone())),
        },
    }
}

/// The same package comes again, and brings papers.
async fn with_papers(
    conn: &mut SqliteConnection,
    mut record: PackageRecord,
    new: &NewPackage,
) -> Result<PackageRecord, sqlx::Error> {
    let before = record.package.papers.clone();
    record.package.papers = before.clone().with(&new.papers);
    if record.package.papers != before {
        record.revision = record.revision.saturating_add(1);
        papers::write(conn, record.id, &record.package.papers, record.revision).await?;
    }
    Ok(record)
}

/// Whether devices would be sent the very same.
fn is_same(a: &NewPackage, b: &NewPackage) -> bool {
    a.sha256 == b.sha256 && a.pcp == b.pcp
}

/// What a package had that was uploaded before under the same product, version and check code, if that is not the same.
async fn earlier(
    conn: &mut SqliteConnection,
    new: &NewPackage,
) -> Result<Option<EarlierPackage>, StoreError> {
    let Some(pcp) = &new.pcp else {
        return Ok(None); // devices tell content by its digest
    };
    let doing = "looking for the package that a check code stands for";
    let row = sqlx::query(
        "SELECT sha256, segment_size, pad_last FROM package_identities \
         WHERE product = ? AND version = ? AND check_code = ?",
    )
    .bind(&new.product)
    .bind(new.version.as_str())
    .bind(pcp.check_code)
    .fetch_optional(conn)
    .await
    .doing(doing)?;
    let Some(row) = row else { return Ok(None) };
    let sha256: String = row.value("sha256")?;
    let segment_size = row.int("segment_size")?;
    let pad_last = row.value("pad_last")?;
    Ok(if sha256 != new.sha256 {
        Some(EarlierPackage::OtherContent)
    } else if segment_size != pcp.segmentation.segment_size() {
        Some(EarlierPackage::SegmentSize(segment_size))
    } else if pad_last != pcp.segmentation.pad_last() {
        Some(EarlierPackage::Padding(pad_last))
    } else {
        None
    })
}

async fn insert(conn: &mut SqliteConnection, new: &NewPackage) -> Result<PackageId, sqlx::Error> {
    if let Some(pcp) = &new.pcp {
        sqlx::query(
            "INSERT INTO package_identities (product, version, check_code, sha256, segment_size, pad_last) \
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(&new.product)
        .bind(new.version.as_str())
        .bind(pcp.check_code)
        .bind(&new.sha256)
        .bind(pcp.segmentation.segment_size())
        .bind(pcp.segmentation.pad_last())
        .execute(&mut *conn)
        .await?;
    }
    let cut = new.pcp.as_ref().map(|pcp| &pcp.segmentation);
    sqlx::query_scalar(
        "INSERT INTO packages (product, version, sha256, md5, size_bytes, segment_size, pad_last, crc, \
             check_code, created_at, component) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(&new.product)
    .bind(new.version.as_str())
    .bind(&new.sha256)
    .bind(new.md5.as_deref())
    .bind(i64::try_from(new.size_bytes).unwrap_or(i64::MAX))
    // 0: it is not served over PCP
    .bind(cut.map_or(0, Segmentation::segment_size))
    .bind(cut.is_some_and(Segmentation::pad_last))
    .bind(new.crc)
    .bind(new.pcp.as_ref().map_or(0, |pcp| pcp.check_code))
    .bind(new.created_at.0)
    .bind(new.component.as_deref())
    .fetch_one(conn)
    .await
    .map(PackageId)
}

/// An unfinished task that uses the package.
async fn user(
    conn: &mut SqliteConnection,
    package: PackageId,
) -> Result<Option<(TaskId, String, TaskState)>, StoreError> {
    const ALONE: &str = "SELECT id, name, state FROM tasks WHERE package_id = ? \
         AND state IN ('scheduled', 'running', 'stopping') LIMIT 1";
    const OF_SEVERAL: &str = "SELECT t.id, t.name, t.state FROM task_packages u CROSS JOIN tasks t ON t.id = u.task_id \
         WHERE u.package_id = ? AND t.state IN ('scheduled', 'running', 'stopping') LIMIT 1";
    for statement in [ALONE, OF_SEVERAL] {
        let row = sqlx::query(statement)
            .bind(package.0)
            .fetch_optional(&mut *conn)
            .await
            .doing("looking for tasks that use a package")?;
        if let Some(row) = row {
            let state = rows::task_state(row.value("state")?)?;
            return Ok(Some((TaskId(row.int("id")?), row.value("name")?, state)));
        }
    }
    Ok(None)
}
