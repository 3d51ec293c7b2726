//! What is kept beside the content of packages.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    rows::{self, Columns as _},
    watched::Table,
};
use crate::{
    ledger::PackageId,
    package::{CveId, PcpOffer, SbomFormat, SbomKind, Segmentation},
    signing::{Algorithm, KeyId},
    store::{
        NewPackage, PackageRecord, PackageSignature, Papers, PapersChange, SbomRecord, StoreError,
        UpdatePackageError, UpdatedPackage,
    },
};

/// Whether a package that is not deleted has a file of this name: its content, or its bill of materials.
pub(super) const FILE_IN_USE: &str = "SELECT EXISTS (SELECT 1 FROM packages WHERE sha256 = ?1 AND deleted_at IS NULL) \
     OR EXISTS (SELECT 1 FROM packages INDEXED BY packages_by_sbom WHERE sbom_sha256 = ?1 AND deleted_at IS NULL)";

impl SqliteStore {
    pub(super) async fn change_papers(
        &self,
        id: PackageId,
        change: &PapersChange,
        revision: Option<u32>,
    ) -> Result<UpdatedPackage, UpdatePackageError> {
        let doing = "changing a package";
        let mut tx = self.write(doing).await?;
        tx.watch(Table::Packages, id.0).await.doing(doing)?;
        let row = sqlx::query("SELECT * FROM packages WHERE id = ? AND deleted_at IS NULL")
            .bind(id.0)
            .fetch_optional(&mut *tx)
            .await
            .doing(doing)?
            .ok_or(UpdatePackageError::NotFound(id))?;
        let mut record = record(&row)?;
        if revision.is_some_and(|seen| seen != record.revision) {
            return Err(UpdatePackageError::Changed {
                id,
                revision: record.revision,
            });
        }
        let before = record.package.papers.clone();
        record.package.papers = before.clone().changed(change);
        let mut unused = None;
        if record.package.papers != before {
            record.revision = record.revision.saturating_add(1);
            write(&mut tx, id, &record.package.papers, record.revision)
                .await
                .doing(doing)?;
            if let Some(old) = before.sbom
                && !is_file_in_use(&mut tx, &old.sha256).await?
            {
                unused = Some(old.sha256);
            }
        }
        tx.commit().await.doing(doing)?;
        Ok(UpdatedPackage { record, unused })
    }
}

pub(super) async fn is_file_in_use(
    conn: &mut SqliteConnection,
    sha256: &str,
) -> Result<bool, StoreError> {
    sqlx::query_scalar(FILE_IN_USE)
        .bind(sha256)
        .fetch_one(conn)
        .await
        .doing("looking for packages of a file")
}

/// Writes all of it.
pub(super) async fn write(
    conn: &mut SqliteConnection,
    id: PackageId,
    papers: &Papers,
    revision: u32,
) -> Result<(), sqlx::Error> {
    let signature = papers.signature.as_ref();
    let sbom = papers.sbom.as_ref();
    let cves = json_list(&papers.cves_mended);
    let size = sbom.map(|sbom| i64::try_from(sbom.size_bytes).unwrap_or(i64::MAX));
    sqlx::query(
        "UPDATE packages SET signature = ?, signature_key = ?, signature_algorithm = ?, signature_verified_at = ?, \
             signature_key_removed_at = ?, sbom_sha256 = ?, sbom_size_bytes = ?, sbom_format = ?, sbom_spec_version = ?, \
             sbom_components = ?, cves_mended = ?, support_ends = ?, release_notes = ?, revision = ? WHERE id = ?",
    )
    .bind(signature.map(|it| it.bytes.clone()))
    .bind(signature.map(|it| it.key.as_str()))
    .bind(signature.map(|it| it.algorithm.name()))
    .bind(signature.map(|it| it.verified_at.0))
    .bind(signature.and_then(|it| it.key_removed_at).map(|at| at.0))
    .bind(sbom.map(|it| it.sha256.as_str()))
    .bind(size)
    .bind(sbom.map(|it| it.kind.format.name()))
    .bind(sbom.map(|it| it.kind.spec_version.as_str()))
    .bind(sbom.map(|it| it.kind.components))
    .bind(&cves)
    .bind(papers.support_ends.map(|day| day.to_string()))
    .bind(papers.release_notes.as_deref())
    .bind(revision)
    .bind(id.0)
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM package_cves WHERE package_id = ?")
        .bind(id.0)
        .execute(&mut *conn)
        .await?;
    sqlx::query("INSERT INTO package_cves (cve, package_id) SELECT j.value, ? FROM json_each(?) j")
        .bind(id.0)
        .bind(&cves)
        .execute(conn)
        .await
        .map(drop)
}

/// Of a row of `packages`.
fn read(row: &SqliteRow) -> Result<Papers, StoreError> {
    let cves: String = row.value("cves_mended")?;
    let cves: Vec<CveId> = serde_json::from_str(&cves)
        .map_err(|error| rows::unreadable("packages.cves_mended", error))?;
    let support_ends: Option<String> = row.value("support_ends")?;
    let support_ends = support_ends.map(|text| {
        let day = text.parse();
        day.map_err(|error| rows::unreadable("packages.support_ends", error))
    });
    Ok(Papers {
        signature: signature(row)?,
        sbom: sbom(row)?,
        cves_mended: cves,
        support_ends: support_ends.transpose()?,
        release_notes: row.value("release_notes")?,
    })
}

fn signature(row: &SqliteRow) -> Result<Option<PackageSignature>, StoreError> {
    let Some(bytes) = row.value::<Option<Vec<u8>>>("signature")? else {
        return Ok(None);
    };
    let key: String = row.value("signature_key")?;
    let algorithm: String = row.value("signature_algorithm")?;
    Ok(Some(PackageSignature {
        key: KeyId::new(&key).ok_or_else(|| rows::unreadable("packages.signature_key", &key))?,
        algorithm: Algorithm::named(&algorithm)
            .ok_or_else(|| rows::unreadable("packages.signature_algorithm", &algorithm))?,
        bytes,
        verified_at: row.time("signature_verified_at")?,
        key_removed_at: row.maybe_time("signature_key_removed_at")?,
    }))
}

fn sbom(row: &SqliteRow) -> Result<Option<SbomRecord>, StoreError> {
    let Some(sha256) = row.value("sbom_sha256")? else {
        return Ok(None);
    };
    let format: String = row.value("sbom_format")?;
    Ok(Some(SbomRecord {
        kind: SbomKind {
            format: SbomFormat::named(&format)
                .ok_or_else(|| rows::unreadable("packages.sbom_format", &format))?,
            spec_version: row.value("sbom_spec_version")?,
            components: row.int("sbom_components")?,
        },
        sha256,
        size_bytes: row.int("sbom_size_bytes")?,
    }))
}

/// A row of `packages`.
pub(super) fn record(row: &SqliteRow) -> Result<PackageRecord, StoreError> {
    let version = row.version("version")?;
    let size_bytes = row.int("size_bytes")?;
    let pcp = match row.int("segment_size")? {
        0 => None,
        segment_size => Some(PcpOffer {
            version: pcp::Version::new(version.as_str())
                .map_err(|error| rows::unreadable("packages.version", error))?,
            check_code: row.int("check_code")?,
            segmentation: Segmentation::exact(size_bytes, segment_size, row.value("pad_last")?)
                .map_err(|error| rows::unreadable("packages.segment_size", error))?,
        }),
    };
    Ok(PackageRecord {
        id: PackageId(row.int("id")?),
        package: NewPackage {
            product: row.value("product")?,
            version,
            component: row.value("component")?,
            sha256: row.value("sha256")?,
            crc: row.int("crc")?,
            size_bytes,
            md5: row.value("md5")?,
            pcp,
            created_at: row.time("created_at")?,
            papers: read(row)?,
        },
        superseded_at: row.maybe_time("superseded_at")?,
        deleted_at: row.maybe_time("deleted_at")?,
        revision: row.int("revision")?,
    })
}
