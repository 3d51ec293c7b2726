use crate::{filter::Filter, tenant::TenantId};

/// What is there for a caller. What else there is is not: it is in no list and no count, and asking for it finds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Whole,
    /// What is in one of these, which are one at least.
    Within(Vec<Part>),
}

/// A tenant, some devices, or some devices of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What belongs to it; `None`: to anybody.
    pub tenant: Option<TenantId>,
    /// Those devices that this lets through; `None`: whatever the tenant has.
    pub filter: Option<Filter>,
}

impl Part {
    /// All that belongs to a tenant.
    pub const fn of(tenant: TenantId) -> Self {
        Self {
            tenant: Some(tenant),
            filter: None,
        }
    }

    /// Whether it has anything of a tenant.
    pub fn has(&self, tenant: &str) -> bool {
        (self.tenant.as_ref()).is_none_or(|own| own.as_str() == tenant)
    }

    /// Whether nothing is in it that is not in `other`.
    fn is_in(&self, other: &Self) -> bool {
        let tenant = other.tenant.is_none() || other.tenant == self.tenant;
        tenant && (other.filter.is_none() || other.filter == self.filter)
    }

    /// Whom it lets through; `None`: everybody.
    fn to_filter(&self) -> Option<Filter> {
        let tenant = self.tenant.as_ref().map(Filter::of_tenant);
        match (tenant, self.filter.clone()) {
            (Some(tenant), Some(filter)) => Some(tenant.and(filter)),
            (tenant, filter) => tenant.or(filter),
        }
    }
}

impl Scope {
    /// What is in one of these.
    pub(super) fn of(parts: Vec<Part>) -> Self {
        let mut kept: Vec<Part> = Vec::new();
        for part in parts {
            if kept.iter().any(|wider| part.is_in(wider)) {
                continue;
            }
            kept.retain(|narrower| !narrower.is_in(&part));
            kept.push(part);
        }
        let whole = |part: &Part| part.tenant.is_none() && part.filter.is_none();
        if kept.iter().any(whole) {
            return Self::Whole;
        }
        Self::Within(kept)
    }

    /// Whom it lets through; `None`: everybody.
    pub fn filter(&self) -> Option<Filter> {
        match self {
            Self::Whole => None,
            Self::Within(parts) => Filter::any(parts.iter().filter_map(Part::to_filter).collect()),
        }
    }

    /// Those of the devices that `filter` lets through which are there; `None`: all of all.
    #[must_use]
    pub fn narrow(&self, filter: Option<Filter>) -> Option<Filter> {
        match (filter, self.filter()) {
            (Some(filter), Some(scope)) => Some(filter.and(scope)),
            (filter, scope) => filter.or(scope),
        }
    }

    /// What of it is a tenant's; `None`: nothing.
    #[must_use]
    pub fn of_tenant(&self, tenant: &TenantId) -> Option<Self> {
        let Self::Within(parts) = self else {
            return Some(Self::Within(vec![Part::of(tenant.clone())]));
        };
        let parts = parts.iter().filter(|part| part.has(tenant.as_str()));
        let parts = parts.map(|part| Part {
            tenant: Some(tenant.clone()),
            filter: part.filter.clone(),
        });
        let parts: Vec<Part> = parts.collect();
        (!parts.is_empty()).then(|| Self::of(parts))
    }

    /// Whether it has anything of a tenant.
    pub fn has(&self, tenant: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Within(parts) => parts.iter().any(|part| part.has(tenant)),
        }
    }

    /// Whether it has all of a tenant.
    pub fn has_all_of(&self, tenant: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Within(parts) => {
                (parts.iter()).any(|part| part.filter.is_none() && part.has(tenant))
            }
        }
    }

    /// The tenants of which it has all, as far as they are named one by one.
    pub fn whole(&self) -> Vec<TenantId> {
        let Self::Within(parts) = self else {
            return Vec::new();
        };
        let whole = parts.iter().filter(|part| part.filter.is_none());
        whole.filter_map(|part| part.tenant.clone()).collect()
    }

    /// The tenants that it has something of; `None`: any may be.
    pub fn tenants(&self) -> Option<Vec<TenantId>> {
        let Self::Within(parts) = self else {
            return None;
        };
        let mut tenants: Vec<TenantId> = Vec::new();
        for part in parts {
            let tenant = part.tenant.as_ref()?;
            if !tenants.contains(tenant) {
                tenants.push(tenant.clone());
            }
        }
        Some(tenants)
    }

    /// To whom belongs what is made in it, where nobody has said so; `None`: that has to be said.
    pub fn home(&self) -> Option<TenantId> {
        match self.tenants().as_deref() {
            None => Some(TenantId::default()),
            Some([only]) => Some(only.clone()),
            Some(several) => several.iter().find(|it| it.is_default()).cloned(),
        }
    }

    /// What of it is whole tenants; `None`: nothing.
    pub(super) fn whole_tenants(self) -> Option<Self> {
        let Self::Within(parts) = self else {
            return Some(self);
        };
        let mut parts = parts;
        parts.retain(|part| part.filter.is_none());
        (!parts.is_empty()).then_some(Self::Within(parts))
    }
}
