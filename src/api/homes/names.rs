//! What homes and what is in them are called.

use crate::{
    access::Scope,
    api::{extract::Fields, problem::Problem, scoped},
    home::HomeKey,
};

/// A text has to have 1 to `most` characters, something to see, and nothing that controls.
pub(super) fn check_text(fields: &mut Fields, field: &str, text: &str, most: usize) {
    let count = text.chars().take(most + 1).count();
    let fits = (1..=most).contains(&count)
        && !text.chars().any(char::is_control)
        && !text.trim().is_empty();
    let detail = format!("it has to have 1 to {most} characters, and no control characters");
    fields.check(field, fits, detail);
}

/// The home of that name of the tenant that the request is for.
pub(super) fn key(scope: &Scope, id: &str) -> Result<HomeKey, Problem> {
    let id = id.parse();
    Ok(HomeKey {
        tenant: scoped::home(scope)?,
        id: id.map_err(|error| Problem::field("home", error))?,
    })
}

pub(super) fn no_home(key: &HomeKey) -> Problem {
    Problem::not_found(format!("there is no home {:?}", key.id.as_str()))
}
