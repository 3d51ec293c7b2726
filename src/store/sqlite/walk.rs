//! Devices that a filter lets through, looked for in the order of their endpoint names along the index that fits best. A
//! filter may let nobody through, so that each step looks at so many rows at most.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{
    Doing, filter_sql, groups,
    packed::{BEGIN, END, Packed},
    rows,
};
use crate::{
    filter::{Claim, Comparison, Filter, Node, Pattern, Test, TextField},
    ledger::TaskId,
    store::{DeviceFilter, GroupId, Members, StoreError},
    tenant::{self, TenantId},
};

const DOING: &str = "looking for devices";

/// Rows that a step looks at, where a filter has few comparisons.
const ROWS: u32 = 100_000;
/// Rows for each device that is wanted, which are looked at before so many as a step may: where a step ends has to be found, and as a
/// rule the devices are found sooner.
const SOON: u32 = 10;
/// Comparisons that so many rows are made for; twice as many halve the rows.
const FEW: usize = 8;
/// Rows with a tag that are sorted; where there are more, some are found soon enough along another index.
const SORTED: u32 = 20_000;

/// Devices are looked for along this.
#[derive(Debug)]
enum Path {
    /// All endpoint names.
    Names,
    Registered(bool),
    Product(String),
    ProductRegistered(String, bool),
    Model(String),
    Site(String),
    Via(String),
    /// Those of a tenant that is not the one of everything, and of this model.
    TenantModel(String, String),
    /// The same of a site.
    TenantSite(String, String),
    Tenant(String),
    /// The members of a list.
    Group(GroupId),
    /// Few devices have this tag: they are sorted.
    Tag(String, String),
}

/// A part of the devices that a filter lets through.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Endpoint names, in order.
    pub(super) endpoints: Vec<String>,
    /// Where the next part begins; `None` when there is none.
    pub(super) next: Option<String>,
}

/// The search for devices.
#[derive(Debug)]
pub(super) struct Walk {
    filter: DeviceFilter,
    path: Path,
    /// What all endpoint names begin with.
    prefix: String,
    /// Rows that a step looks at.
    rows: u32,
    /// Devices that have an upgrade in this task are passed over, and those that are excluded.
    outside: Option<TaskId>,
}

impl Walk {
    /// Chooses the path.
    pub(super) async fn of(
        conn: &mut SqliteConnection,
        filter: DeviceFilter,
    ) -> Result<Self, StoreError> {
        let mut filter = filter;
        let mut list = filter.group;
        if let Some(group) = filter.group
            && let Some(found) = groups::read(conn, group).await?
            && let Members::Matching(members) = found.members
        {
            list = None;
            // a filter goes no further than its tenant does
            let members = Filter::of_tenant(&found.tenant).and(members);
            filter.filter = Some(match filter.filter {
                Some(filter) => filter.and(members),
                None => members,
            });
        }
        let product = product(conn, &filter).await?;
        let path = match (list, rare_tag(conn, &filter).await?) {
            (Some(group), _) => Path::Group(group),
            (None, Some((key, value))) => Path::Tag(key, value),
            (None, None) => path(&filter, product),
        };
        let mut prefix = filter.prefix.clone().unwrap_or_default();
        // The longest of those that fit: others are no less true for it.
        for pattern in patterns(&filter, &TextField::Endpoint) {
            if pattern.prefix().starts_with(&prefix) {
                pattern.prefix().clone_into(&mut prefix);
            }
        }
        let comparisons = (filter.filter.as_ref()).map_or(0, |it| it.root().comparisons());
        let share = u32::try_from(1 + comparisons / FEW).unwrap_or(u32::MAX);
        Ok(Self {
            filter,
            path,
            prefix,
            rows: ROWS / share,
            outside: None,
        })
    }

    /// Looks at so many rows a step at most.
    pub(super) fn stepping(mut self, rows: u32) -> Self {
        self.rows = self.rows.min(rows);
        self
    }

    /// Looks for devices that might come to this task: those that are not in it, and not excluded.
    pub(super) fn outside(mut self, task: TaskId) -> Self {
        self.outside = Some(task);
        self
    }

    /// Up to `limit` devices after `after`: fewer, and more to come, when enough rows were looked at.
    pub(super) async fn find(
        &self,
        conn: &mut SqliteConnection,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Found, StoreError> {
        let few = limit.saturating_mul(SOON);
        if few < self.rows {
            let end = self.end(conn, after, few).await?;
            let all = end.is_none();
            let (found, full) = self.find_until(conn, after, end, limit).await?;
            if all || full {
                return Ok(found);
            }
        }
        let end = self.end(conn, after, self.rows).await?;
        let (found, _) = self.find_until(conn, after, end, limit).await?;
        Ok(found)
    }

    /// Up to `limit` devices after `after` up to `end`, and whether there are more of these.
    async fn find_until(
        &self,
        conn: &mut SqliteConnection,
        after: Option<&str>,
        end: Option<String>,
        limit: u32,
    ) -> Result<(Found, bool), StoreError> {
        let mut query = self.find_statement(after, end.as_deref(), limit);
        let packed = Packed::fetch(query.build().persistent(false), conn, DOING).await?;
        let mut endpoints: Vec<String> = packed.texts().map(str::to_owned).collect();
        let more = endpoints.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if more {
            endpoints.pop();
        }
        let next = if more { endpoints.last().cloned() } else { end };
        Ok((Found { endpoints, next }, more))
    }

    /// How many there are after `after`, as far as rows were looked at, and where to go on.
    pub(super) async fn count(
        &self,
        conn: &mut SqliteConnection,
        after: Option<&str>,
    ) -> Result<(u64, Option<String>), StoreError> {
        let end = self.end(conn, after, self.rows).await?;
        let mut query = QueryBuilder::new("SELECT COUNT(*)");
        self.push_from(&mut query);
        self.push_bounds(&mut query, after, end.as_deref());
        self.push_conditions(&mut query);
        let count: i64 = (query.build_query_scalar().persistent(false))
            .fetch_one(conn)
            .await
            .doing(DOING)?;
        Ok((count.unsigned_abs(), end))
    }

    /// The last endpoint name that a step of so many rows looks at; `None` when it looks at all that are left.
    async fn end(
        &self,
        conn: &mut SqliteConnection,
        after: Option<&str>,
        rows: u32,
    ) -> Result<Option<String>, StoreError> {
        if let Path::Tag(..) = self.path {
            return Ok(None);
        }
        let mut query = self.end_statement(after, rows);
        (query.build_query_scalar().fetch_optional(conn).await).doing(DOING)
    }

    pub(super) fn end_statement(&self, after: Option<&str>, rows: u32) -> QueryBuilder<Sqlite> {
        let mut query = QueryBuilder::new("SELECT ");
        query.push(self.name());
        self.push_from(&mut query);
        self.push_bounds(&mut query, after, None);
        query
            .push(" ORDER BY ")
            .push(self.name())
            .push(" LIMIT 1 OFFSET ")
            .push_bind(rows.saturating_sub(1));
        query
    }

    pub(super) fn find_statement(
        &self,
        after: Option<&str>,
        end: Option<&str>,
        limit: u32,
    ) -> QueryBuilder<Sqlite> {
        let mut query = QueryBuilder::new(BEGIN);
        query.push("SELECT ").push(self.name()).push(" AS line");
        self.push_from(&mut query);
        self.push_bounds(&mut query, after, end);
        self.push_conditions(&mut query);
        query
            .push(" ORDER BY ")
            .push(self.name())
            .push(" LIMIT ")
            .push_bind(rows::one_more(limit))
            .push(END);
        query
    }

    /// The column of the index that has the endpoint names.
    const fn name(&self) -> &'static str {
        match self.path {
            Path::Group(_) => "m.endpoint",
            _ => "d.endpoint",
        }
    }

    /// Names the index: the database knows less of what fits.
    fn push_from(&self, query: &mut QueryBuilder<Sqlite>) {
        match &self.path {
            Path::Names => query.push(" FROM devices d INDEXED BY sqlite_autoindex_devices_1 WHERE TRUE"),
            Path::Registered(registered) => query
                .push(" FROM devices d INDEXED BY devices_by_registered WHERE d.registered = ")
                .push_bind(*registered),
            Path::Product(product) => query
                .push(" FROM devices d INDEXED BY devices_by_product WHERE d.removed = 0 AND d.product = ")
                .push_bind(product.clone()),
            Path::ProductRegistered(product, registered) => query
                .push(" FROM devices d INDEXED BY devices_by_product_registered WHERE d.product = ")
                .push_bind(product.clone())
                .push(" AND d.registered = ")
                .push_bind(*registered),
            Path::Model(model) => query
                .push(" FROM devices d INDEXED BY devices_by_model WHERE d.model = ")
                .push_bind(model.clone()),
            Path::Site(site) => query
                .push(" FROM devices d INDEXED BY devices_by_site WHERE d.site = ")
                .push_bind(site.clone()),
            Path::Via(gateway) => query
                .push(" FROM devices d INDEXED BY devices_by_gateway WHERE d.via = ")
                .push_bind(gateway.clone()),
            Path::TenantModel(tenant, model) => query
                .push(
                    " FROM devices d INDEXED BY devices_of_tenant_by_model WHERE d.tenant <> 'default' AND d.tenant = ",
                )
                .push_bind(tenant.clone())
                .push(" AND d.model = ")
                .push_bind(model.clone()),
            Path::TenantSite(tenant, site) => query
                .push(
                    " FROM devices d INDEXED BY devices_of_tenant_by_site WHERE d.tenant <> 'default' AND d.tenant = ",
                )
                .push_bind(tenant.clone())
                .push(" AND d.site = ")
                .push_bind(site.clone()),
            Path::Tenant(tenant) => query
                .push(" FROM devices d INDEXED BY devices_by_tenant WHERE d.tenant = ")
                .push_bind(tenant.clone()),
            Path::Group(group) => query
                .push(
                    " FROM group_members m CROSS JOIN devices d ON d.endpoint = m.endpoint WHERE m.group_id = ",
                )
                .push_bind(group.0),
            Path::Tag(key, value) => query
                .push(
                    " FROM device_tags t INDEXED BY device_tags_by_value CROSS JOIN devices d ON d.id = t.device_id \
                     WHERE t.key = ",
                )
                .push_bind(key.clone())
                .push(" AND t.value = ")
                .push_bind(value.clone()),
        };
    }

    /// One lower end alone: of two, the database looks for the first and passes over what lies before the other.
    fn push_bounds(
        &self,
        query: &mut QueryBuilder<Sqlite>,
        after: Option<&str>,
        end: Option<&str>,
    ) {
        let after = after.unwrap_or_default();
        let from = if *self.prefix > *after { " >= " } else { " > " };
        query.push(" AND ").push(self.name()).push(from);
        query.push_bind(self.prefix.as_str().max(after).to_owned());
        if let Some(end) = end {
            query.push(" AND ").push(self.name()).push(" <= ");
            query.push_bind(end.to_owned());
        } else if let Some(end) = behind(&self.prefix) {
            query.push(" AND ").push(self.name()).push(" < ");
            query.push_bind(end);
        }
    }

    fn push_conditions(&self, query: &mut QueryBuilder<Sqlite>) {
        query.push(" AND d.removed = 0");
        if let Some(product) = &self.filter.product {
            query.push(" AND d.product = ").push_bind(product.clone());
        }
        if let Some(registered) = self.filter.registered {
            query.push(" AND d.registered = ").push_bind(registered);
        }
        if let Some(filter) = &self.filter.filter {
            query.push(" AND ");
            filter_sql::push(query, filter, self.filter.now);
        }
        if let Some(task) = self.outside {
            query
                .push(
                    " AND NOT EXISTS (SELECT 1 FROM upgrades u INDEXED BY upgrades_of_device \
                     WHERE u.endpoint = d.endpoint AND u.task_id = ",
                )
                .push_bind(task.0)
                .push(
                    ") AND NOT EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = d.endpoint)",
                );
        }
    }
}

/// The key of the product that all devices have which the filter lets through; `None`: they may have several, or it is not known.
async fn product(
    conn: &mut SqliteConnection,
    filter: &DeviceFilter,
) -> Result<Option<String>, StoreError> {
    if filter.product.is_some() {
        return Ok(filter.product.clone());
    }
    let Some(name) = exact(filter, &TextField::Product) else {
        return Ok(None);
    };
    if let Some(tenant) = exact(filter, &TextField::Tenant) {
        let tenant = tenant.parse::<TenantId>().ok();
        return Ok(tenant.map(|tenant| tenant.product_key(name)));
    }
    let keys: Vec<String> = sqlx::query_scalar(
        "SELECT p.key FROM (SELECT IIF(id = 'default', ?1, id || '/' || ?1) AS key FROM tenants) p \
         WHERE EXISTS (SELECT 1 FROM devices d INDEXED BY devices_by_product WHERE d.product = p.key AND d.removed = 0) LIMIT 2",
    )
    .bind(name)
    .fetch_all(conn)
    .await
    .doing(DOING)?;
    Ok(match keys.as_slice() {
        [] => Some(name.to_owned()),
        [only] => Some(only.clone()),
        _ => None,
    })
}

/// The path along an index that ends with the endpoint name.
fn path(filter: &DeviceFilter, product: Option<String>) -> Path {
    let equal = |field| exact(filter, &field).map(str::to_owned);
    if let Some(gateway) = equal(TextField::Via) {
        return Path::Via(gateway);
    }
    let tenant = equal(TextField::Tenant);
    // the indexes of tenants leave that one out
    let narrow = tenant.clone().filter(|tenant| tenant != tenant::DEFAULT);
    if let Some(site) = equal(TextField::Site) {
        return match narrow {
            Some(tenant) => Path::TenantSite(tenant, site),
            None => Path::Site(site),
        };
    }
    if let Some(model) = equal(TextField::Model) {
        return match narrow {
            Some(tenant) => Path::TenantModel(tenant, model),
            None => Path::Model(model),
        };
    }
    let registered = filter.registered.or_else(|| registered(filter));
    match (product, tenant, registered) {
        (Some(product), _, Some(registered)) => Path::ProductRegistered(product, registered),
        (Some(product), _, None) => Path::Product(product),
        (None, Some(tenant), _) => Path::Tenant(tenant),
        (None, None, Some(registered)) => Path::Registered(registered),
        (None, None, None) => Path::Names,
    }
}

/// A tag that every device has which the filter lets through, if few have it.
async fn rare_tag(
    conn: &mut SqliteConnection,
    filter: &DeviceFilter,
) -> Result<Option<(String, String)>, StoreError> {
    for comparison in comparisons(filter) {
        if let Claim::Text(TextField::Tag(key), Test::Equal(pattern)) = &comparison.claim
            && let Some(value) = pattern.exact()
        {
            let rows: u32 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM (SELECT 1 FROM device_tags WHERE key = ? AND value = ? LIMIT ?) AS found",
            )
            .bind(key)
            .bind(value)
            .bind(SORTED + 1)
            .fetch_one(&mut *conn)
            .await
            .doing(DOING)?;
            if rows <= SORTED {
                return Ok(Some((key.clone(), value.to_owned())));
            }
        }
    }
    Ok(None)
}

/// The comparisons that hold of every device which the filter lets through.
fn comparisons(filter: &DeviceFilter) -> impl Iterator<Item = &Comparison> {
    let conditions = filter.filter.iter().flat_map(Filter::conditions);
    conditions.filter_map(|node| match node {
        Node::One(comparison) if !comparison.negated => Some(comparison),
        _ => None,
    })
}

/// What a text is equal to.
fn patterns<'f>(
    filter: &'f DeviceFilter,
    field: &'f TextField,
) -> impl Iterator<Item = &'f Pattern> {
    comparisons(filter).filter_map(move |comparison| match &comparison.claim {
        Claim::Text(it, Test::Equal(pattern)) if it == field => Some(pattern),
        _ => None,
    })
}

fn exact<'f>(filter: &'f DeviceFilter, field: &'f TextField) -> Option<&'f str> {
    patterns(filter, field).find_map(Pattern::exact)
}

fn registered(filter: &DeviceFilter) -> Option<bool> {
    comparisons(filter).find_map(|comparison| match comparison.claim {
        Claim::Flag(crate::filter::FlagField::Registered, expected) => Some(expected),
        _ => None,
    })
}

/// The first text behind all that begin so; `None` when there is none.
fn behind(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // the next character, and no surrogate
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}
