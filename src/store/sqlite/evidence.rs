//! The form in which a device's evidence is stored: a JSON array, one object for each version.

use serde::{Deserialize, Serialize};

use super::rows;
use crate::{
    clock::UtcMillis,
    ledger::{Evidence, FailedIn, ReportedFailure},
    package::Version,
    store::StoreError,
};

#[derive(Serialize)]
struct Written {
    version: Version,
    taken: bool,
    commanded: bool,
    claimed: bool,
    failed_in: Option<FailedIn>,
    code: Option<u8>,
    at: UtcMillis,
}

#[derive(Deserialize)]
struct Read {
    version: Version,
    taken: bool,
    commanded: bool,
    claimed: bool,
    failed_in: Option<FailedIn>,
    code: Option<u8>,
    at: UtcMillis,
}

/// `None` where there is nothing.
pub(super) fn write(evidence: &[Evidence]) -> Option<String> {
    let rows = evidence.iter().map(|it| Written {
        version: it.version,
        taken: it.taken,
        commanded: it.commanded,
        claimed: it.claimed,
        failed_in: it.failure.map(|failure| failure.failed_in),
        code: it.failure.map(|failure| failure.code.0),
        at: it.at,
    });
    (!evidence.is_empty()).then(|| super::bulk::json_list(rows))
}

pub(super) fn read(stored: Option<&str>) -> Result<Vec<Evidence>, StoreError> {
    let Some(stored) = stored else {
        return Ok(Vec::new());
    };
    let read: Vec<Read> = serde_json::from_str(stored)
        .map_err(|error| rows::unreadable("devices.evidence", format!("{stored}: {error}")))?;
    Ok(read
        .into_iter()
        .map(|it| Evidence {
            version: it.version,
            taken: it.taken,
            commanded: it.commanded,
            claimed: it.claimed,
            failure: it
                .failed_in
                .zip(it.code)
                .map(|(failed_in, code)| ReportedFailure {
                    failed_in,
                    code: pcp::ResultCode(code),
                }),
            at: it.at,
        })
        .collect())
}
