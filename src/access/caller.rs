use crate::tenant::TenantId;

use super::{Grant, Operation, Part, Permission, Reach, Role, Scope};

/// What [`Caller::who`] says of the token in the file.
pub const ADMIN_TOKEN: &str = "admin-token";

/// What stands for all callers, where there were too many to name each.
pub const ANYBODY: &str = "anybody";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    kind: CallerKind,
    grants: Vec<Grant>,
}

/// What somebody is let in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerKind {
    /// The token in the server's data directory.
    AdminToken,
    /// A token of the API.
    ApiToken {
        /// Its number.
        id: i64,
        /// Its name.
        name: String,
    },
    /// A password.
    User {
        /// The user's number.
        id: i64,
        /// The user's name.
        name: String,
    },
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The operation is missing from the table.
    Unlisted,
    /// No grant has a role that permits it.
    Role(Permission),
    /// The roles would do, but their grants are for a tenant, or narrowed to some devices, and the operation concerns more.
    Narrowed,
}

impl Caller {
    /// Whoever can read the file in the server's data directory: everything, on everything.
    pub fn admin_token() -> Self {
        Self {
            kind: CallerKind::AdminToken,
            grants: Role::ALL.map(Grant::of).to_vec(),
        }
    }

    /// A token of the API.
    pub fn api_token(id: i64, name: String, grants: Vec<Grant>) -> Self {
        Self {
            kind: CallerKind::ApiToken { id, name },
            grants,
        }
    }

    /// Somebody who has logged in.
    pub fn user(id: i64, name: String, grants: Vec<Grant>) -> Self {
        Self {
            kind: CallerKind::User { id, name },
            grants,
        }
    }

    /// What it is let in with.
    pub fn kind(&self) -> &CallerKind {
        &self.kind
    }

    /// What it is granted.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Who it is, in a word that stays the same and is nobody else's: `admin-token`, `token:7:nightly-import`, `user:5:anna`. Tasks and records
    /// of what was done name it.
    pub fn who(&self) -> String {
        match &self.kind {
            CallerKind::AdminToken => ADMIN_TOKEN.to_owned(),
            CallerKind::ApiToken { id, name } => format!("token:{id}:{name}"),
            CallerKind::User { id, name } => format!("user:{id}:{name}"),
        }
    }

    /// The tenant on which it is granted whatever it is granted; `None`: there are several, or it is granted something on all.
    pub fn tenant(&self) -> Option<&TenantId> {
        let mut tenants = self.grants.iter().map(|grant| grant.tenant.one());
        let first = tenants.next()??;
        tenants.all(|tenant| tenant == Some(first)).then_some(first)
    }

    /// Within what it may do what needs `permission`; `None`: within nothing.
    pub fn scope(&self, permission: Permission) -> Option<Scope> {
        let permitting = |grant: &&Grant| grant.role.permits(permission);
        let grants: Vec<&Grant> = self.grants.iter().filter(permitting).collect();
        if grants.is_empty() {
            return None;
        }
        let parts = grants.into_iter().map(|grant| Part {
            tenant: grant.tenant.one().cloned(),
            filter: grant.filter.clone(),
        });
        Some(Scope::of(parts.collect()))
    }

    /// Within what an operation is carried out for it.
    ///
    /// # Errors
    /// Why it is not.
    pub fn admit(&self, operation: Option<&Operation>) -> Result<Scope, Refusal> {
        let operation = operation.ok_or(Refusal::Unlisted)?;
        let scope = self.scope(operation.needs);
        let scope = scope.ok_or(Refusal::Role(operation.needs))?;
        match operation.reach {
            Reach::Scoped => Ok(scope),
            Reach::Tenant => scope.whole_tenants().ok_or(Refusal::Narrowed),
            Reach::Whole if scope == Scope::Whole => Ok(scope),
            Reach::Whole => Err(Refusal::Narrowed),
        }
    }

    /// Whether it may answer for a task that `maker` has made, and that `changers` have changed since: nobody answers for a task of its
    /// own, nor for its own change. The token in the file does as long as there is nobody else who could (`others`), so that an
    /// installation with this token alone can use approvals.
    pub fn may_answer_for(&self, maker: &str, changers: &[String], others: bool) -> bool {
        let who = self.who();
        let changed = changers.iter().any(|it| *it == who || it == ANYBODY);
        let own = maker == who || changed;
        !own || (self.kind == CallerKind::AdminToken && !others)
    }
}
