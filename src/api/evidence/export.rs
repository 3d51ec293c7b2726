//! `GET /v1/evidence/export`: all of it, signed.
//!
//! The evidence grows in a file without a name before the first byte is sent: what fails meanwhile is answered as a problem, and the
//! length and the digest are known. Nothing of its size is kept in memory.

use std::{fs::File, io, path::PathBuf};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use utoipa::{IntoParams, ToSchema};

use super::{
    DeviceEvidence, EvidenceCounts, MendedProductBody,
    archive::{self, Manifest, Subject},
    concerned,
    sending::Archive,
    walk::{self, Walk},
};
use crate::{
    access::{Caller, Scope},
    api::{ApiState, exports::PATIENCE, extract::Query, problem::Problem},
    signing::SigningKey,
    store::free_bytes,
};

/// So much of the disk an export leaves to the database, bytes.
const LEFT_TO_THE_DATABASE: u64 = 256 * 1024 * 1024;

/// The form of the evidence in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum EvidenceFormat {
    /// Comma-separated values (RFC 4180), a device a row.
    #[default]
    Csv,
    /// One JSON document, a device a line.
    Json,
}

/// What to export.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct ExportParams {
    /// The vulnerability.
    #[param(
        pattern = "^CVE-[0-9]{4}-[0-9]{4,19}$",
        max_length = 28,
        example = "CVE-2026-12345"
    )]
    cve: String,
    /// The form of the evidence; `csv` when not given.
    #[serde(default)]
    #[param(inline)]
    format: EvidenceFormat,
}

/// A tar archive.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "stands in the description only")]
pub(in crate::api) struct EvidenceArchive(Vec<u8>);

/// Export whom a vulnerability concerns, signed.
///
/// A tar archive with `evidence.csv` or `evidence.json`, `manifest.json` that has its SHA-256 and the numbers, `manifest.sig` that is a
/// signature over the manifest by the carrier's key (`evidence.signing_key`), and `key.pem`, its public half. docs/evidence.md has the
/// commands that verify it. The first byte comes when all devices were looked at.
#[utoipa::path(get, path = "/v1/evidence/export", operation_id = "export_evidence", tag = "evidence", params(ExportParams),
    responses(
        (status = 200, description = "The archive", body = EvidenceArchive, content_type = "application/x-tar",
            headers(("Content-Disposition" = String, description = "The name of the file"))),
        (status = 400, description = "A parameter is missing or unknown", body = Problem),
        (status = 404, description = "No package says that it mends it", body = Problem),
        (status = 409, description = "The server has no key to sign with", body = Problem),
        (status = 422, description = "A parameter is not valid", body = Problem),
        (status = 507, description = "The server's disk is full", body = Problem),
    ))]
pub(in crate::api) async fn export(
    State(state): State<ApiState>,
    caller: Caller,
    scope: Scope,
    Query(params): Query<ExportParams>,
) -> Result<Response, Problem> {
    let Some(key) = state.evidence.key.clone() else {
        return Err(Problem::conflict(
            "no-signing-key",
            "The server has no key to sign with",
            "set evidence.signing_key to a private key, Ed25519 or P-256, and start the server again; /v1/evidence tells the same unsigned",
        ));
    };
    let at = state.now();
    let (cve, products) = concerned(&state, &scope, &params.cve).await?;
    // it is held until all is sent, the other one until all is looked at
    let share = state.config.get().tenants.max_exports;
    let sending = state.evidence.place_to_send(&caller, share)?;
    let place = state.evidence.place(&caller, share)?;
    let (cve, made_at) = (cve.to_string(), at.to_string());
    let mut growing = Growing::new(&state, params.format)?;
    growing
        .gather(&state, &cve, &made_at, Walk::new(products))
        .await?;
    let archive = growing.signed(&key, cve.clone(), made_at, at.0).await?;
    drop(place);
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_LENGTH, archive.length().to_string()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{cve}.evidence.tar\""),
        ),
    ];
    Ok((headers, archive.into_body(sending, PATIENCE)).into_response())
}

/// Evidence that is being gathered.
struct Growing {
    format: EvidenceFormat,
    /// Where the file is, of which nothing is seen there.
    dir: PathBuf,
    file: tokio::fs::File,
    sha256: Sha256,
    size_bytes: u64,
    counts: EvidenceCounts,
    products: Vec<MendedProductBody>,
}

impl Growing {
    fn new(state: &ApiState, format: EvidenceFormat) -> Result<Self, Problem> {
        let file: File = tempfile::tempfile_in(&state.evidence.dir).map_err(unwritten)?;
        Ok(Self {
            format,
            dir: state.evidence.dir.clone(),
            file: tokio::fs::File::from_std(file),
            sha256: Sha256::new(),
            size_bytes: 0,
            counts: EvidenceCounts::default(),
            products: Vec::new(),
        })
    }

    async fn gather(
        &mut self,
        state: &ApiState,
        cve: &str,
        made_at: &str,
        mut walk: Walk,
    ) -> Result<(), Problem> {
        self.products = walk
            .products()
            .iter()
            .map(MendedProductBody::from)
            .collect();
        let begin = match self.format {
            EvidenceFormat::Csv => csv_rows([HEADINGS.map(str::to_owned)])?,
            EvidenceFormat::Json => {
                let products = json(&self.products)?;
                format!(
                    "{{\"cve\":\"{cve}\",\"made_at\":\"{made_at}\",\"products\":{products},\"devices\":["
                )
                .into_bytes()
            }
        };
        self.write(&begin).await?;
        while let Some(part) = walk.next(&*state.store, walk::ROWS).await? {
            let mut text = Vec::new();
            if self.format == EvidenceFormat::Csv {
                text = csv_rows(part.iter().map(row))?;
            }
            for device in &part {
                if self.format == EvidenceFormat::Json {
                    let comma = if self.counts.devices == 0 {
                        "\n"
                    } else {
                        ",\n"
                    };
                    text.extend_from_slice(comma.as_bytes());
                    text.extend_from_slice(json(device)?.as_bytes());
                }
                self.counts.add(device);
                walk.passed(device);
            }
            self.write(&text).await?;
        }
        if self.format == EvidenceFormat::Json {
            let counts = json(&self.counts)?;
            let end = format!("\n],\"counts\":{counts}}}\n");
            self.write(end.as_bytes()).await?;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if free_bytes(&self.dir).is_some_and(|room| room < LEFT_TO_THE_DATABASE) {
            return Err(unwritten(io::ErrorKind::StorageFull.into()));
        }
        self.sha256.update(bytes);
        self.size_bytes += bytes.len() as u64;
        self.file.write_all(bytes).await.map_err(unwritten)
    }

    /// The archive with all of it.
    async fn signed(
        mut self,
        key: &SigningKey,
        cve: String,
        made_at: String,
        at_ms: i64,
    ) -> Result<Archive, Problem> {
        self.file.flush().await.map_err(unwritten)?;
        self.file.rewind().await.map_err(unwritten)?;
        let name = match self.format {
            EvidenceFormat::Csv => "evidence.csv",
            EvidenceFormat::Json => "evidence.json",
        };
        let manifest = Manifest::of(Subject {
            cve,
            made_at,
            products: self.products,
            counts: self.counts,
            file: name.to_owned(),
            size_bytes: self.size_bytes,
            sha256: hex::encode(self.sha256.finalize()),
            key: key.public(),
        });
        let mut manifest =
            serde_json::to_vec_pretty(&manifest).map_err(|error| Problem::internal(&error))?;
        manifest.push(b'\n');
        let signature = (key.sign(&manifest)).map_err(|error| Problem::internal(&error))?;
        let pem = key.public().to_pem().into_bytes();
        let seconds = u64::try_from(at_ms / 1_000).unwrap_or(0);
        let mut head = Vec::new();
        for (name, content) in [
            (archive::MANIFEST, manifest),
            (archive::SIGNATURE, signature),
            (archive::KEY, pem),
        ] {
            let size = content.len() as u64;
            head.extend(archive::head(name, size, seconds).map_err(unwritten)?);
            head.extend(content);
            head.extend(archive::padding(size));
        }
        head.extend(archive::head(name, self.size_bytes, seconds).map_err(unwritten)?);
        let mut tail = archive::padding(self.size_bytes).to_vec();
        tail.extend(archive::END);
        Ok(Archive {
            head,
            file: self.file,
            size_bytes: self.size_bytes,
            tail,
        })
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what errors are mapped with"
)]
fn unwritten(error: io::Error) -> Problem {
    if error.kind() != io::ErrorKind::StorageFull {
        return Problem::internal(&error);
    }
    tracing::error!(%error, "the disk is full");
    let detail = "there is no room for the evidence; free space on the server's disk and ask again";
    Problem::new(
        axum::http::StatusCode::INSUFFICIENT_STORAGE,
        "disk-full",
        "The server's disk is full",
        detail,
    )
}

fn json(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|error| Problem::internal(&error))
}

const HEADINGS: [&str; 18] = [
    "endpoint",
    "product",
    "version",
    "standing",
    "why",
    "exclusion_reason",
    "last_heard_at",
    "reached_at",
    "reached_version",
    "reached_reason",
    "reached_task_id",
    "reached_task_name",
    "reached_upgrade_id",
    "latest_state",
    "latest_reason",
    "latest_task_id",
    "latest_task_name",
    "latest_upgrade_id",
];

/// The cells of a device. What there is not is empty.
fn row(device: &DeviceEvidence) -> [String; 18] {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let standing = crate::store::Standing::from(device.standing).name();
    let reached = device.reached.as_ref();
    let latest = device.latest.as_ref();
    [
        device.endpoint.clone(),
        match &device.tenant {
            Some(tenant) => format!("{tenant}/{}", device.product),
            None => device.product.clone(),
        },
        text(&device.version),
        standing.to_owned(),
        device.why.to_owned(),
        text(&device.exclusion_reason),
        text(&device.last_heard_at),
        reached.map(|it| it.at.clone()).unwrap_or_default(),
        reached.map(|it| it.version.clone()).unwrap_or_default(),
        reached.map(|it| it.reason.clone()).unwrap_or_default(),
        reached.map(|it| it.task_id.to_string()).unwrap_or_default(),
        reached.map(|it| it.task_name.clone()).unwrap_or_default(),
        (reached.map(|it| it.upgrade_id.to_string())).unwrap_or_default(),
        latest.map(|it| it.state.to_owned()).unwrap_or_default(),
        latest.and_then(|it| it.reason.clone()).unwrap_or_default(),
        latest.map(|it| it.task_id.to_string()).unwrap_or_default(),
        latest.map(|it| it.task_name.clone()).unwrap_or_default(),
        latest
            .map(|it| it.upgrade_id.to_string())
            .unwrap_or_default(),
    ]
}

fn csv_rows(rows: impl IntoIterator<Item = [String; 18]>) -> Result<Vec<u8>, Problem> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer
            .write_record(&row)
            .map_err(|error| Problem::internal(&error))?;
    }
    writer
        .into_inner()
        .map_err(|error| Problem::internal(error.error()))
}
