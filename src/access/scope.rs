use crate::filter::Filter;

/// Which devices are there for a caller. Others are not: they are in no list and no count, and asking for one finds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Whole,
    /// Those that one of these lets through, which are one at least.
    Within(Vec<Filter>),
}

impl Scope {
    /// Whom it lets through; `None`: everybody.
    pub fn filter(&self) -> Option<Filter> {
        match self {
            Self::Whole => None,
            Self::Within(filters) => Filter::any(filters.clone()),
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
}
