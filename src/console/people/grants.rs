//! What somebody is granted: a role, on a tenant or on all, for all devices or for some.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::{
    fields::Fields,
    page::Failure,
    sheet::{Group, Input},
    tenants,
    viewer::Viewer,
};
use crate::access::{MAX_GRANTS, Role};

/// Empty rows of a form beside those that are filled.
const FURTHER: usize = 2;

/// A grant.
#[derive(Debug, Deserialize)]
pub(in crate::console) struct Grant {
    role: String,
    tenant: Option<String>,
    filter: Option<String>,
}

/// A sentence for each.
pub(in crate::console) fn told(at: &Viewer, grants: &[Grant]) -> Vec<String> {
    let told = |grant: &Grant| {
        let role = at.word("role", &grant.role);
        // a grant with a filter is on the tenant `default` when it names none, as the API has it
        let tenant = grant.tenant.as_deref().filter(|tenant| *tenant != "*");
        match (tenant, grant.filter.as_deref()) {
            (None, None) => role,
            (Some(tenant), None) => at.t2("grant-on", "role", role, "tenant", tenant),
            (None, Some(filter)) => at.t2("grant-for", "role", role, "filter", filter),
            (Some(tenant), Some(filter)) => {
                let said = [("tenant", tenant), ("filter", filter)];
                let mut said = said.map(|(name, value)| (name, value.into())).to_vec();
                said.push(("role", role.into()));
                at.say("grant-on-for", &said)
            }
        }
    };
    grants.iter().map(told).collect()
}

/// The same as a form sends them: a row each.
pub(super) fn entered(grants: &[Grant]) -> Vec<(String, String)> {
    let row = |grant: &Grant| {
        let (tenant, filter) = (grant.tenant.clone(), grant.filter.clone());
        [
            ("role".to_owned(), grant.role.clone()),
            ("on".to_owned(), tenant.unwrap_or_default()),
            ("filter".to_owned(), filter.unwrap_or_default()),
        ]
    };
    grants.iter().flat_map(row).collect()
}

/// The rows of a form.
fn rows(fields: &Fields) -> Vec<[&str; 3]> {
    let mut tenants = fields.all("on");
    let mut filters = fields.all("filter");
    let rows = fields.all("role").take(MAX_GRANTS + FURTHER).map(|role| {
        let tenant = tenants.next().unwrap_or_default();
        [role, tenant, filters.next().unwrap_or_default()]
    });
    rows.filter(|row| !row[0].is_empty()).collect()
}

/// The inputs, with what was entered, and empty ones for more.
pub(super) async fn groups(at: &Viewer, entered: &Fields) -> Result<Vec<Group>, Failure> {
    let mut roles = vec![(String::new(), at.t("grant-none"))];
    roles.extend(Role::ALL.map(|role| {
        let name = role.name();
        (name.to_owned(), at.word("role", name))
    }));
    let mut on = vec![(String::new(), at.t("grant-usual-tenant"))];
    on.push(("*".to_owned(), at.t("grant-all-tenants")));
    on.extend(tenants::several(at).await?);
    let mut rows = rows(entered);
    let shown = (rows.len() + FURTHER).min(MAX_GRANTS).max(rows.len());
    rows.resize(shown, [""; 3]);
    let group = |(i, [role, tenant, filter]): (usize, [&str; 3])| {
        let mut on = on.clone();
        if !on.iter().any(|(known, _)| known == tenant) {
            on.push((tenant.to_owned(), tenant.to_owned()));
        }
        Group {
            legend: at.t1("grant-number", "number", i + 1),
            inputs: vec![
                Input::choice("role", at.t("grant-role"), roles.clone()).value(role),
                Input::choice("on", at.t("of-tenant"), on).value(tenant),
                Input::line("filter", at.t("grant-filter"))
                    .value(filter)
                    .hint(at.t("grant-filter-hint")),
            ],
        }
    };
    Ok(rows.into_iter().enumerate().map(group).collect())
}

/// What a form grants, as the API takes it.
pub(super) fn read(fields: &Fields) -> Value {
    let grant = |[role, tenant, filter]: [&str; 3]| {
        let mut grant = Map::new();
        grant.insert("role".to_owned(), role.into());
        for (name, value) in [("tenant", tenant), ("filter", filter)] {
            if !value.is_empty() {
                grant.insert(name.to_owned(), value.into());
            }
        }
        Value::Object(grant)
    };
    rows(fields).into_iter().map(grant).collect()
}
