//! No statement of this room costs more the more rows there are: each finds its rows by an index, and none sorts what it
//! has found. The statements are taken from the source, so that none is forgotten.

use std::{fs, path::Path};

use super::{task_devices::Part, *};
use crate::{
    audit::EntryResult,
    store::{AuditFilter, DeviceFilter},
    task::TaskRules,
    tenant::TenantId,
};

/// Tables that have ten thousand rows at most, lists that are parameters of a statement, and what a statement in a
/// statement has found, which is looked at by itself.
const SMALL: [&str; 19] = [
    "tenants",
    "products",
    "users",
    "api_tokens",
    "audit_checkpoints",
    "audit_open",
    "found",
    "w",
    "webhooks",
    "device_groups",
    "j",
    "v",
    "json_each",
    "CONSTANT",
    "sqlite_sequence",
    "sqlite_schema",
    "pragma_page_count",
    "pragma_page_size",
    "pragma_table_info",
];

/// Indexes of few rows: what is being created or deleted, what the rollout is about to forget or to stop.
const SMALL_INDEXES: [&str; 3] = ["tasks_hidden", "devices_removed", "upgrades_to_cancel"];

/// Beginnings of statements that may look at all of something, or sort it, and why.
const EXCEPTIONS: [(&str, &str); 13] = [
    (
        "INSERT INTO events (at, kind, task_id, task_name, product, version, upgrade_id",
        "sorts the list that is its parameter",
    ),
    (
        "SELECT at, attempt, kind, code, arguments FROM (",
        "turns the newest thousand lines around",
    ),
    (
        "SELECT * FROM (SELECT w.id, w.url",
        "sorts the webhooks that have something to deliver",
    ),
    (
        "UPDATE cells SET failed = MAX(failed - v.count, 0)",
        "adds up by cell the list that is its parameter",
    ),
    (
        "SELECT u.lot, COUNT(*)",
        "adds up by lot the list that is its parameter",
    ),
    (
        "SELECT e.tenant, substr(e.kind",
        "gathers by tenant the events of a minute",
    ),
    (
        "SELECT DISTINCT j.value AS endpoint",
        "sorts the devices that an error tells of",
    ),
    (
        "SELECT o.task_id, COUNT(*) AS devices",
        "gathers what it found by task",
    ),
    (
        "DELETE FROM answers WHERE key IN (SELECT key FROM (",
        "sorts those that are kept, once in a thousand requests",
    ),
    (
        "SELECT found.task_id, COUNT(*) AS waiting",
        "gathers by task the first ten thousand of a queue",
    ),
    (
        "SELECT DISTINCT sha256, size_bytes, crc FROM packages",
        "looks at all packages, once in a backup",
    ),
    (
        "UPDATE soaks SET next_at = due_at",
        "looks at all soaks, once at each start",
    ),
    (
        "INSERT INTO deliveries",
        "sorts nothing, but for each new event looks at the webhooks",
    ),
];

/// The string literals of a source text that begin like a statement.
fn statements(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code: Vec<&str> = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    for literal in code.split('"').skip(1).step_by(2) {
        let parts = literal.split("\\\n").map(str::trim_start);
        let statement: String = parts.collect();
        let verbs = ["SELECT ", "UPDATE ", "DELETE ", "INSERT "];
        if verbs.iter().any(|verb| statement.starts_with(verb)) {
            found.push(statement);
        }
    }
    found
}

fn sources() -> Vec<String> {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sqlite");
    let mut found = Vec::new();
    for directory in [room.clone(), room.join("commit")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            if is_source && path.file_name().is_some_and(|name| name != "tests.rs") {
                found.extend(statements(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

/// The lists of devices, which are put together.
fn lists_of_devices() -> Vec<String> {
    let mut found = Vec::new();
    let options = |set: bool| set.then(|| "p".to_owned());
    for bits in 0..16 {
        let filter = DeviceFilter {
            product: options(bits & 1 != 0),
            registered: (bits & 2 != 0).then_some(true),
            prefix: options(bits & 4 != 0),
            ..DeviceFilter::default()
        };
        let after = (bits & 8 != 0).then_some("q");
        let query = device_rows::list(&filter, after, 100);
        found.push(query.sql().as_str().to_owned());
    }
    found
}

/// The lists of the audit log.
fn lists_of_audit() -> Vec<String> {
    let word = |set: bool| set.then(|| "w".to_owned());
    let time = |set: bool| set.then_some(UtcMillis(0));
    let bits = 0..128_u32;
    let filters = bits.map(|bits| AuditFilter {
        who: word(bits & 1 != 0),
        operation: word(bits & 2 != 0),
        target: word(bits & 4 != 0).map(|word| if bits & 64 == 0 { word } else { word + "/1" }),
        result: (bits & 8 != 0).then_some(EntryResult::Done),
        since: time(bits & 16 != 0),
        until: time(bits & 32 != 0),
        ..AuditFilter::default()
    });
    let tenants = [None, Some(TenantId::default())];
    let lists = filters.flat_map(|filter| {
        tenants.clone().map(|tenant| {
            audit::list(&filter, tenant.as_ref(), Some(7), 100)
                .sql()
                .as_str()
                .to_owned()
        })
    });
    lists.collect()
}

/// The devices of a task that is created, with its filters.
fn devices_of_tasks() -> Vec<String> {
    let rules = r#"{"phases": [{"filter": "site==a,tag.k==b"}, {"filter": "version<V2"}, {"count": 1}], "stratified": true}"#;
    let by_attributes: TaskRules = serde_json::from_str(rules).unwrap();
    let mut found = Vec::new();
    for rules in [TaskRules::default(), by_attributes] {
        for part in [Part::Listed("[]"), Part::Behind("d")] {
            let query = task_devices::statement((&rules, UtcMillis(0)), "p", part);
            found.push(query.sql().as_str().to_owned());
        }
    }
    found
}

/// How a statement is carried out; `None` when it is only a piece of one. One that names an index that it cannot use is none that runs.
pub(super) async fn plan(
    conn: &mut sqlx::SqliteConnection,
    statement: &str,
) -> Option<Vec<String>> {
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let found = sqlx::query_as(explain).fetch_all(conn).await;
    if let Err(error) = &found {
        assert!(
            !error.to_string().contains("no query solution"),
            "{statement}: {error}"
        );
    }
    let plan: Vec<(i64, i64, i64, String)> = found.ok()?;
    Some(plan.into_iter().map(|(.., line)| line).collect())
}

/// What is wrong with the way in which a statement is carried out; `None` when it is only a piece of one.
pub(super) async fn offences(
    conn: &mut sqlx::SqliteConnection,
    statement: &str,
) -> Option<Vec<String>> {
    let lines = plan(conn, statement).await?.into_iter();
    let offends = |line: &String| {
        let mut words = line.split(' ');
        match words.next() {
            Some("SCAN") => {
                words.next().is_none_or(|table| !SMALL.contains(&table))
                    && words
                        .next_back()
                        .is_none_or(|index| !SMALL_INDEXES.contains(&index))
            }
            _ => line.contains("TEMP B-TREE"),
        }
    };
    Some(lines.filter(offends).collect())
}

#[tokio::test]
async fn every_statement_finds_its_rows_by_an_index() {
    let (store, _dir) = open().await;
    let mut conn = store.writer.acquire().await.unwrap();
    let mut planned = 0;
    let mut wrong = Vec::new();
    let written = [
        attributes::OF_DEVICES,
        exclusions::LIST,
        device_rows::NAMED,
        device_rows::ONE,
        device_rows::RESTORE,
        device_rows::RESTORE_BUSY,
        event_rows::DELIVERIES,
        event_rows::DELIVERIES_IN_STATE,
        event_rows::DUE,
        event_rows::EVENTS,
        event_rows::EVENTS_OF_TASK,
        event_rows::LAST_DUE,
        papers::FILE_IN_USE,
        reach::REACH,
        soaks::DUE,
        soaks::OF_DEVICES,
        task_lists::ALL,
        task_lists::OF_TENANT,
        task_lists::UNFINISHED,
        task_lists::UNFINISHED_OF_TENANT,
        task_lists::UNFINISHED_WITHIN,
        task_lists::WITHIN,
        upgrade_rows::LIST,
        upgrade_rows::LIST_IN_STATE,
        upgrade_rows::NEWEST,
        upgrade_rows::NEWEST_IN_CELL,
        upgrade_rows::OF_DEVICE,
        upgrade_rows::ONE,
        upgrade_rows::RESTORE,
        upgrade_rows::DUE,
        upgrades::CELLS,
        upgrades::CLOSED_CELLS,
    ]
    .map(str::to_owned);
    for statement in &written {
        let whole = plan(&mut conn, statement).await.is_some();
        assert!(whole, "it is no statement: {statement}");
    }
    let statements = sources().into_iter().chain(lists_of_devices());
    let statements = statements.chain(lists_of_audit());
    let statements = statements.chain(devices_of_tasks());
    for statement in statements.chain(written) {
        let Some(offences) = offences(&mut conn, &statement).await else {
            continue;
        };
        planned += 1;
        let excused = EXCEPTIONS
            .iter()
            .any(|(beginning, _)| statement.starts_with(beginning));
        if !offences.is_empty() && !excused {
            wrong.push(format!("{statement}\n    {offences:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(planned > 80, "{planned} statements were found");
}
