//! What tokens and users have in common: names, grants, and who of them is there for a caller.

use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::{Object, Type},
};

use super::{ApiState, extract::Fields};
use crate::{
    access::{Grant, MAX_GRANTS, Role, Scope, Tenants, check_grants},
    filter::Filter,
    store::{Page, StoreError},
};

const MAX_NAME: usize = 64;

/// A role, for all devices or for some.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantBody {
    /// What for: `viewer` reads; `operator` has to do with devices, packages, tasks, groups, exclusions, upgrades and forecasts;
    /// `approver` answers for tasks that somebody else has made; `administrator` has to do with users, tokens, webhooks and cells,
    /// and reads who did what; `auditor` reads who did what. Each of them reads.
    #[schema(schema_with = role)]
    role: Role,
    /// On this tenant, or on all of them: `*`. When not given, on all, and with a filter on `default`; a caller that has one tenant
    /// gives grants on that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        pattern = r"^(\*|[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)$",
        example = "acme"
    )]
    tenant: Option<String>,
    /// For those devices only that this lets through: RSQL, up to 4,096 characters (docs/fleet-and-filters.md). Others are not there
    /// for the caller. `null`: all. For `viewer`, `operator` and `approver`.
    #[serde(default)]
    #[schema(
        required = false,
        max_length = 4096,
        format = "rsql",
        example = "site==north*"
    )]
    filter: Option<String>,
}

fn role() -> Object {
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(Role::ALL.map(Role::name)))
        .build()
}

impl From<&Grant> for GrantBody {
    fn from(grant: &Grant) -> Self {
        Self {
            role: grant.role,
            tenant: (grant.tenant != Tenants::usual(grant.filter.as_ref()))
                .then(|| grant.tenant.clone().into()),
            filter: grant.filter.as_ref().map(Filter::to_string),
        }
    }
}

/// Checks the name of a token or of a user.
pub(super) fn check_name(fields: &mut Fields, name: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    fields.check(
        "name",
        (1..=MAX_NAME).contains(&name.len())
            && name.chars().all(plain)
            && !matches!(name, "." | ".."),
        format!(
            "a name has 1 to {MAX_NAME} characters out of A-Z a-z 0-9 . _ -, and is not . or .."
        ),
    );
}

/// The tenants that a grant is on. Nobody grants what it is not granted itself.
async fn tenants_of(
    (state, scope): (&ApiState, &Scope),
    named: Option<&str>,
    filter: Option<&Filter>,
) -> Result<Result<Tenants, String>, StoreError> {
    let tenants = match named.map(|named| Tenants::try_from(named.to_owned())) {
        Some(Ok(tenants)) => tenants,
        Some(Err(error)) => return Ok(Err(format!("{error}; * stands for all"))),
        None if *scope == Scope::Whole => return Ok(Ok(Tenants::usual(filter))),
        None => match scope.tenants().as_deref() {
            Some([only]) => Tenants::One(only.clone()),
            _ => return Ok(Err("name the tenant that the grant is on".to_owned())),
        },
    };
    let known = match &tenants {
        Tenants::All if *scope != Scope::Whole => {
            let detail = "the caller is not granted all tenants, and cannot grant them";
            return Ok(Err(detail.to_owned()));
        }
        Tenants::All => true,
        Tenants::One(tenant) => {
            scope.has_all_of(tenant.as_str()) && state.store.tenant(tenant).await?.is_some()
        }
    };
    Ok(if known {
        Ok(tenants)
    } else {
        Err(format!(
            "there is no tenant {:?}",
            named.unwrap_or_default()
        ))
    })
}

/// Whether somebody with these grants is there for a caller: nothing is granted on a tenant that the caller does not have.
pub(super) fn manages(scope: &Scope, grants: &[Grant]) -> bool {
    let has = |grant: &Grant| (grant.tenant.one()).is_some_and(|it| scope.has_all_of(it.as_str()));
    *scope == Scope::Whole || grants.iter().all(has)
}

/// What is granted; what is wrong goes to `fields`.
pub(super) async fn read_grants(
    granter: (&ApiState, &Scope),
    given: &[GrantBody],
    fields: &mut Fields,
) -> Result<Vec<Grant>, StoreError> {
    let mut grants = Vec::new();
    for (at, grant) in given.iter().enumerate().take(MAX_GRANTS + 1) {
        let filter = match grant.filter.as_deref().map(Filter::parse) {
            Some(filter) => fields
                .take(&format!("grants[{at}].filter"), filter)
                .map(Some),
            None => Some(None),
        };
        let named = grant.tenant.as_deref();
        let tenant = tenants_of(granter, named, filter.as_ref().and_then(Option::as_ref)).await?;
        let tenant = fields.take(&format!("grants[{at}].tenant"), tenant);
        grants.extend(filter.zip(tenant).map(|(filter, tenant)| Grant {
            role: grant.role,
            tenant,
            filter,
        }));
    }
    if grants.len() == given.len().min(MAX_GRANTS + 1)
        && let Err((at, error)) = check_grants(&grants)
    {
        let field = at.map_or("grants".to_owned(), |at| format!("grants[{at}].filter"));
        fields.check(&field, false, error);
    }
    Ok(grants)
}

/// Those of a list who are there for a caller: what is not there leaves no gap in a page.
pub(super) struct Gathered<R> {
    found: Vec<R>,
    limit: usize,
    /// The number of the last that was looked at.
    pub(super) after: Option<i64>,
}

impl<R> Gathered<R> {
    /// None yet of a page that begins behind a number.
    pub(super) fn behind(after: Option<i64>, limit: u32) -> Self {
        Self {
            found: Vec::new(),
            limit: limit as usize,
            after,
        }
    }

    /// Takes those that are there. Returns whether more have to be read.
    pub(super) fn take(
        &mut self,
        page: Page<R>,
        number: impl Fn(&R) -> i64,
        is_there: impl Fn(&R) -> bool,
    ) -> bool {
        self.after = page.items.last().map(number);
        self.found.extend(page.items.into_iter().filter(is_there));
        page.more && self.found.len() <= self.limit
    }

    /// The page, and behind which number the next begins.
    pub(super) fn page(mut self, number: impl Fn(&R) -> i64) -> (Vec<R>, Option<i64>) {
        let more = self.found.len() > self.limit;
        self.found.truncate(self.limit);
        let next = self.found.last().filter(|_| more).map(number);
        (self.found, next)
    }
}
