//! Rows of tables as the audit log shows them.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use sqlx::{
    Column, Decode, Row as _, Sqlite, SqliteConnection, Type, TypeInfo, ValueRef,
    sqlite::{SqliteRow, SqliteValueRef},
};

/// A table whose rows somebody may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    AppTokens,
    AppUsers,
    Cells,
    Deliveries,
    Devices,
    Exclusions,
    Groups,
    HomeDevices,
    HomeMembers,
    Homes,
    Offers,
    Packages,
    ProductKeys,
    Products,
    Sites,
    Tasks,
    Tenants,
    Tokens,
    Upgrades,
    Users,
    Webhooks,
}

/// How it is called in the log, and how a row is found.
const TABLES: [(Table, &str, &str); 21] = [
    (
        // whose it is says what stands for the user
        Table::AppTokens,
        "app-tokens",
        "SELECT id, mark AS user, created_by, created_at, expires_at, tenant FROM app_tokens WHERE id = CAST(? AS INTEGER)",
    ),
    (
        // by what stands for the user
        Table::AppUsers,
        "app-users",
        "SELECT before AS revoked_before, tenant FROM app_revoked WHERE mark = ?",
    ),
    (
        Table::Cells,
        "cells",
        "SELECT own_limit, closing, outage, busy_hours, note, adaptive FROM cells WHERE cell = CAST(? AS INTEGER)",
    ),
    (
        Table::Deliveries,
        "deliveries",
        "SELECT webhook_id, event_id, state, round, (SELECT w.tenant FROM webhooks w WHERE w.id = webhook_id) AS tenant \
         FROM deliveries WHERE id = CAST(? AS INTEGER)",
    ),
    (
        Table::Devices,
        "devices",
        "SELECT d.*, (SELECT json_group_object(t.key, t.value) FROM device_tags t WHERE t.device_id = d.id) AS tags, \
             (SELECT g.most FROM gateway_limits g WHERE g.endpoint = d.endpoint) AS gateway_limit \
         FROM devices d WHERE d.endpoint = ? AND d.removed = 0",
    ),
    (
        Table::Exclusions,
        "exclusions",
        "SELECT * FROM exclusions WHERE endpoint = ?",
    ),
    (
        Table::Groups,
        "groups",
        "SELECT * FROM device_groups WHERE id = CAST(? AS INTEGER) AND removed = 0",
    ),
    (
        // of a tenant, its home, and the endpoint name, with strokes between
        Table::HomeDevices,
        "home-devices",
        "SELECT h.home, i.name, i.icon, i.automatic, h.tenant FROM home_devices i CROSS JOIN homes h ON h.id = i.home_id \
         WHERE i.endpoint = substr(?1, instr(?1, '/') + instr(substr(?1, instr(?1, '/') + 1), '/') + 1) AND ?1 = h.tenant || '/' || h.home || '/' || i.endpoint",
    ),
    (
        // of a tenant, its home, and what stands for the user, with strokes between
        Table::HomeMembers,
        "home-members",
        "SELECT m.role, m.added_at, m.tenant FROM homes h JOIN home_members m ON m.home_id = h.id \
         WHERE h.tenant = substr(?1, 1, instr(?1, '/') - 1) AND m.mark = substr(?1, -32) \
         AND h.home = substr(?1, instr(?1, '/') + 1, length(?1) - instr(?1, '/') - 33)",
    ),
    (
        // of a tenant, and its name, with a stroke between
        Table::Homes,
        "homes",
        "SELECT tenant, name, zone, quiet_from, quiet_to, members, devices FROM homes \
         WHERE tenant = substr(?1, 1, instr(?1, '/') - 1) AND home = substr(?1, instr(?1, '/') + 1)",
    ),
    (
        Table::Offers,
        "offers",
        "SELECT tenant, product, package_id, task_id, terms, withdrawn_at FROM offers WHERE id = CAST(? AS INTEGER)",
    ),
    (
        Table::Packages,
        "packages",
        "SELECT * FROM packages WHERE id = CAST(? AS INTEGER) AND deleted_at IS NULL",
    ),
    (
        // of a product, and its own of 32 digits, with a stroke between
        Table::ProductKeys,
        "product-keys",
        "SELECT id, name, created_at, IIF(instr(product, '/') = 0, 'default', substr(product, 1, instr(product, '/') - 1)) AS tenant \
         FROM product_keys WHERE product = substr(?1, 1, length(?1) - 33) AND id = substr(?1, -32)",
    ),
    (
        Table::Products,
        "products",
        "SELECT settings, signatures, tenant FROM products WHERE tenant = IIF(instr(?1, '/') = 0, 'default', substr(?1, 1, instr(?1, '/') - 1)) \
         AND name = substr(?1, instr(?1, '/') + 1)",
    ),
    (
        // of a tenant, and its name, with a stroke between
        Table::Sites,
        "sites",
        "SELECT tenant, most, note FROM sites WHERE tenant = substr(?1, 1, instr(?1, '/') - 1) \
         AND name = substr(?1, instr(?1, '/') + 1) AND most IS NOT NULL",
    ),
    (
        Table::Tasks,
        "tasks",
        "SELECT * FROM tasks WHERE id = CAST(? AS INTEGER) AND hidden = 0",
    ),
    (
        Table::Tenants,
        "tenants",
        "SELECT id, name FROM tenants WHERE id = ? AND deleted_at IS NULL",
    ),
    (
        Table::Tokens,
        "tokens",
        "SELECT * FROM api_tokens WHERE id = CAST(? AS INTEGER)",
    ),
    (
        Table::Upgrades,
        "upgrades",
        "SELECT task_id, endpoint, state, attempt, not_before, outcome_reason, ended_at, unconfirmed, confirmed_for, \
             (SELECT t.tenant FROM tasks t WHERE t.id = task_id) AS tenant FROM upgrades WHERE id = CAST(? AS INTEGER)",
    ),
    (Table::Users, "users", "SELECT * FROM users WHERE name = ?"),
    (
        Table::Webhooks,
        "webhooks",
        "SELECT id, task_id, url, secret, created_at, tenant FROM webhooks WHERE id = CAST(? AS INTEGER)",
    ),
];

/// Columns that are the server's own, and no matter of whoever changes something.
const INTERNAL: [&str; 16] = [
    // whose matter it is says the row of the log
    TENANT,
    "product_name",
    "revision",
    "changed_by",
    "hidden",
    "removed",
    "joining",
    "evidence",
    "wake_ups",
    "appointment",
    "resumed_with",
    "last_used_at",
    "last_login_at",
    "totp_step",
    "failing_since",
    "reg_location",
];
/// The column of whose it is.
const TENANT: &str = "tenant";
/// What columns of secrets have in their names.
const SECRET: [&str; 7] = [
    "secret", "passw", "hash", "sealed", "totp", "csrf", "recovery",
];

/// The column of addresses of which the origin alone is shown.
const ADDRESS: &str = "url";

impl Table {
    pub(super) fn number(self) -> usize {
        let at = TABLES.iter().position(|(table, ..)| *table == self);
        at.unwrap_or_default() // each has its line, as a test says
    }

    pub(super) fn of(number: usize) -> Self {
        TABLES[number.min(TABLES.len() - 1)].0
    }

    /// How it is called in the log.
    pub(super) fn name(self) -> &'static str {
        TABLES[self.number()].1
    }

    /// A row as it is now, and whose it is. Of what is secret there is a digest, for [`difference`].
    pub(super) async fn read(
        self,
        conn: &mut SqliteConnection,
        key: &str,
    ) -> Result<(Fields, Option<String>), sqlx::Error> {
        let statement = TABLES[self.number()].2;
        let row = sqlx::query(statement)
            .bind(key)
            .fetch_optional(conn)
            .await?;
        let tenant = match &row {
            Some(row) if row.columns().iter().any(|column| column.name() == TENANT) => {
                row.try_get(TENANT)?
            }
            _ => None,
        };
        Ok((row.as_ref().map(fields).transpose()?, tenant))
    }
}

/// What stands for a secret until it is compared.
const DIGEST: &str = "\u{0}";
/// What is shown of a secret.
const NOT_SHOWN: &str = "(not shown)";
/// What is shown of a secret that is another one now.
const CHANGED: &str = "(changed)";

fn fields(row: &SqliteRow) -> Result<Map<String, Value>, sqlx::Error> {
    let mut fields = Map::new();
    for column in row.columns() {
        let name = column.name();
        if INTERNAL.contains(&name) {
            continue;
        }
        let value = row.try_get_raw(column.ordinal())?;
        let value = shown(name, value).map_err(sqlx::Error::Decode)?;
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    }
    Ok(fields)
}

fn shown(
    name: &str,
    value: SqliteValueRef<'_>,
) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
        value: SqliteValueRef<'r>,
    ) -> Result<T, Box<dyn std::error::Error + Send + Sync>> {
        T::decode(value)
    }
    if value.is_null() {
        return Ok(Value::Null);
    }
    let secret = SECRET.iter().any(|word| name.contains(word));
    let digest = |bytes: &[u8]| json!(format!("{DIGEST}{}", hex::encode(Sha256::digest(bytes))));
    let kind = value.type_info().name().to_owned();
    Ok(match kind.as_str() {
        "INTEGER" | "BOOLEAN" if !secret => json!(get::<i64>(value)?),
        "REAL" if !secret => json!(get::<f64>(value)?.to_string()),
        "TEXT" if name == ADDRESS => json!(origin(&get::<String>(value)?)),
        "TEXT" if !secret => text(get::<String>(value)?),
        _ => digest(&get::<Vec<u8>>(value)?),
    })
}

/// What is stored as JSON is shown as such.
fn text(value: String) -> Value {
    if value.starts_with(['{', '[']) {
        return serde_json::from_str(&value).unwrap_or(Value::String(value));
    }
    Value::String(value)
}

/// Where a URL leads to (RFC 6454 §4). What else is in it may be a secret.
fn origin(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return NOT_SHOWN.to_owned();
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// A row; `None`: it is not there.
type Fields = Option<Map<String, Value>>;

/// What of a row is other than before: as it was, and as it is.
pub(super) fn difference(before: Fields, after: Fields) -> (Fields, Fields) {
    let (Some(before), Some(after)) = (&before, &after) else {
        let hidden = |fields: Map<String, Value>| {
            let fields = fields.into_iter();
            fields
                .map(|(name, value)| (name, hide(value, NOT_SHOWN)))
                .collect()
        };
        return (before.map(hidden), after.map(hidden));
    };
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let (mut was, mut is) = (Map::new(), Map::new());
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if old != new {
            let value =
                |value: Option<&Value>, word| hide(value.cloned().unwrap_or_default(), word);
            was.insert(name.clone(), value(old, NOT_SHOWN));
            is.insert(name.clone(), value(new, CHANGED));
        }
    }
    (Some(was), Some(is))
}

fn hide(value: Value, word: &str) -> Value {
    match &value {
        Value::String(text) if text.starts_with(DIGEST) => json!(word),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_is_found_by_its_number() {
        for (table, name, _) in TABLES {
            assert_eq!(Table::of(table.number()), table);
            assert_eq!(table.name(), name);
        }
    }

    #[test]
    fn of_a_url_the_origin_alone_is_shown() {
        for (url, expected) in [
            (
                "https://a.example/hook/s3cret?t=s3cret#s3cret",
                "https://a.example",
            ),
            (
                "https://u:s3cret@a.example:8443/x",
                "https://a.example:8443",
            ),
            ("http://[::1]:9?s3cret", "http://[::1]:9"),
            ("http://a@s3cret@b", "http://b"),
            ("s3cret", NOT_SHOWN),
        ] {
            assert_eq!(origin(url), expected);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let row = |secret: &str, n: u64| {
            let secret = format!("{DIGEST}{secret}");
            let row = json!({"secret": secret, "n": n, "same": true});
            row.as_object().cloned()
        };
        let (was, is) = difference(row("a", 1), row("b", 2));
        assert_eq!(json!(was), json!({"secret": NOT_SHOWN, "n": 1}));
        assert_eq!(json!(is), json!({"secret": CHANGED, "n": 2}));
        let (was, is) = difference(row("a", 1), None);
        assert_eq!(
            json!(was),
            json!({"secret": NOT_SHOWN, "n": 1, "same": true})
        );
        assert_eq!(is, None);
        let (was, is) = difference(row("a", 1), row("a", 1));
        assert_eq!((json!(was), json!(is)), (json!({}), json!({})));
    }
}
