//! Devices in a list of comma-separated values, as many as a fleet has: taken as they come, stored in batches.

mod columns;
mod rows;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use futures_util::StreamExt as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::{mqtt, psk, told};
use crate::{
    access::Scope,
    api::{
        ApiState,
        extract::{too_large, unreadable},
        problem::Problem,
    },
    store::{Acting, AddedDevice, NewDevice},
    tenant::TenantId,
};
use columns::{Columns, Refused};
use rows::{MAX_FIELDS, MAX_ROW_BYTES, Row, Rows};

/// Rows of a list: as many devices as a server is made for.
const MAX_ROWS: u64 = 1_000_000;
/// Bytes of a list. Half a KiB a row is more than most have; nothing of it stays in memory.
const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// Rows that are stored at once: other writers get their turn in between.
const BATCH: usize = 5_000;
/// Bytes of text that wait to be stored at most, so that long rows do not take more memory than short ones.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Rows that an answer says to be refused, and why.
const TOLD: usize = 100;

/// A list of devices, one a row.
#[derive(ToSchema)]
#[schema(value_type = String, max_length = 536_870_912,
    example = "endpoint,product,model,site,time_zone,tag.customer\nurn:imei:867723032612345,meter,M7,\"Lyon, north\",Europe/Paris,acme\n")]
#[expect(dead_code, reason = "stands in the description only")]
pub(in crate::api) struct DeviceFile(String);

/// What became of the rows of a list.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct UploadedBody {
    /// Rows behind the one with the names of columns.
    rows: u64,
    /// Devices that are new.
    added: u64,
    /// Devices that were there already, of the same product, as they were given.
    unchanged: u64,
    /// Devices that were there already, and have given attributes or tags now that they did not have.
    updated: u64,
    /// Devices that were there already, and have the given key now, and the attributes.
    keys_set: u64,
    /// Rows that were refused.
    refused_total: u64,
    /// The first 100 of them.
    #[schema(max_items = 100)]
    refused: Vec<RefusedRow>,
}

/// A row that was refused.
#[derive(Debug, Serialize, ToSchema)]
struct RefusedRow {
    /// The line on which it begins, from 1.
    #[schema(minimum = 1)]
    line: u64,
    /// The column that it is about; `null` when it is about the whole row.
    #[schema(required)]
    column: Option<String>,
    /// What is wrong with it.
    detail: String,
}

/// Whether a body is said to be a list.
pub(super) fn is_list(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let essence = kind.and_then(|kind| kind.to_str().ok()?.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/csv"))
}

/// Takes a list, and adds its devices.
pub(super) async fn receive(
    state: &ApiState,
    (scope, tenant): (&Scope, &TenantId),
    body: Body,
) -> Result<UploadedBody, Problem> {
    Acting::in_parts();
    let mut list = List {
        state,
        scope,
        tenant,
        columns: None,
        batch: Vec::new(),
        tokens: Vec::new(),
        batch_bytes: 0,
        lines: Vec::new(),
        told: UploadedBody::default(),
    };
    match list.take(body).await {
        Ok(()) => Ok(list.told),
        Err(problem) => {
            // what has been stored may register at once, whatever came behind it
            state.signals.members.changed();
            state.signals.written();
            Err(list.broken_off(problem))
        }
    }
}

/// A list on its way into the store.
struct List<'s> {
    state: &'s ApiState,
    scope: &'s Scope,
    /// Whose the devices are.
    tenant: &'s TenantId,
    columns: Option<Columns>,
    /// Devices that are not stored yet, the tokens that they are given, and their lines.
    batch: Vec<NewDevice>,
    tokens: Vec<Option<String>>,
    lines: Vec<u64>,
    batch_bytes: usize,
    told: UploadedBody,
}

impl List<'_> {
    async fn take(&mut self, body: Body) -> Result<(), Problem> {
        let mut rows = Rows::new();
        let mut chunks = body.into_data_stream();
        let mut bytes = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| unreadable(&error))?;
            bytes += chunk.len() as u64;
            if bytes > MAX_BYTES {
                let detail = format!("a list has at most {MAX_BYTES} bytes; send it in parts");
                return Err(self.too_much(detail).await);
            }
            let mut rest = &*chunk;
            while let Some(row) = rows.take(&mut rest) {
                self.row(&rows, row).await?;
            }
        }
        if let Some(row) = rows.finish() {
            self.row(&rows, row).await?;
        }
        if self.columns.is_none() {
            let detail = "the list is empty; its first line names the columns";
            return Err(Problem::field("columns", detail));
        }
        self.store().await?;
        self.state.signals.members.changed();
        (self.state.signals)
            .devices_written(super::ENGINE_KNOWS_WITHIN)
            .await;
        Ok(())
    }

    async fn row(&mut self, rows: &Rows, row: Row) -> Result<(), Problem> {
        let Some(columns) = &self.columns else {
            let wrong = |detail: String| Problem::field("columns", detail);
            if row.too_long {
                let detail =
                    format!("the first line has more than {MAX_FIELDS} columns, or too many bytes");
                return Err(wrong(detail));
            }
            let columns = Columns::named(rows.fields(row)).map_err(wrong)?;
            if columns.have_keys() {
                psk::check_vault(self.state)?;
            }
            self.columns = Some(columns);
            return Ok(());
        };
        if self.told.rows == MAX_ROWS {
            let detail =
                format!("a list has at most {MAX_ROWS} rows; send the others by themselves");
            return Err(self.too_much(detail).await);
        }
        self.told.rows += 1;
        if row.too_long {
            let detail = format!(
                "the row has more than {MAX_FIELDS} fields or {MAX_ROW_BYTES} bytes; is a quotation mark not closed?"
            );
            self.refuse(row.line, Refused::row(detail));
            return Ok(());
        }
        match columns.device(rows.fields(row), self.state) {
            Ok((mut device, token)) => {
                device.product = self.tenant.product_key(&device.product);
                self.batch_bytes += rows.fields(row).map(<[u8]>::len).sum::<usize>();
                self.batch.push(device);
                self.tokens.push(token);
                self.lines.push(row.line);
            }
            Err(refused) => self.refuse(row.line, refused),
        }
        if self.batch.len() >= BATCH || self.batch_bytes >= BATCH_BYTES {
            self.store().await?;
            self.state.signals.members.changed();
            self.state.signals.written();
        }
        Ok(())
    }

    fn refuse(&mut self, line: u64, refused: Refused) {
        self.told.refused_total += 1;
        if self.told.refused.len() < TOLD {
            self.told.refused.push(RefusedRow {
                line,
                column: refused.column,
                detail: refused.detail,
            });
        }
    }

    /// Stores what waits for it.
    async fn store(&mut self) -> Result<(), Problem> {
        let devices = std::mem::take(&mut self.batch);
        let tokens = std::mem::take(&mut self.tokens);
        let lines = std::mem::take(&mut self.lines);
        self.batch_bytes = 0;
        if devices.is_empty() {
            return Ok(());
        }
        let mut answers = mqtt::add(self.state, &devices, &tokens).await?;
        told::hide_others(self.state, self.scope, &mut answers).await?;
        self.state.strangers.forget(told::names(&devices));
        for ((device, line), added) in devices.iter().zip(lines).zip(answers) {
            match &added {
                AddedDevice::Added => self.told.added += 1,
                AddedDevice::Unchanged => self.told.unchanged += 1,
                AddedDevice::Updated => self.told.updated += 1,
                AddedDevice::KeySet => self.told.keys_set += 1,
                AddedDevice::IdentityTaken { .. }
                | AddedDevice::TokenTaken(_)
                | AddedDevice::OtherProduct(_)
                | AddedDevice::OtherProtocol(_)
                | AddedDevice::Via(_)
                | AddedDevice::Attributes(_) => {}
            }
            if let Some((_, detail)) = told::refusal(&device.endpoint, &added) {
                self.refuse(line, Refused::row(detail));
            }
        }
        // those that the database refused come behind those that were wrong by themselves
        self.told.refused.sort_by_key(|refused| refused.line);
        Ok(())
    }

    /// Stores what came before the list became too large.
    async fn too_much(&mut self, detail: String) -> Problem {
        match self.store().await {
            Ok(()) => too_large(detail),
            Err(problem) => problem,
        }
    }

    /// Says what was stored before the problem.
    fn broken_off(&self, mut problem: Problem) -> Problem {
        let told = &self.told;
        let stored = told.added + told.unchanged + told.updated + told.keys_set;
        if stored > 0 {
            problem.detail = format!(
                "{}; the devices of {stored} rows before are stored, and the list may be sent again",
                problem.detail
            )
            .into();
        }
        problem
    }
}
