//! For which tenant something is made: asked only of who has several.

use serde::Deserialize;

use super::{listed::Listed, page::Failure, sheet::Input, viewer::Viewer};

#[derive(Deserialize)]
struct Tenant {
    id: String,
    name: String,
}

/// The tenants that a viewer has, where these are several: id and name.
pub(super) async fn several(at: &Viewer) -> Result<Vec<(String, String)>, Failure> {
    if !at.may("list_tenants") {
        return Ok(Vec::new());
    }
    let listed: Option<Listed<Tenant>> = at.look("/v1/tenants?limit=1000").await?;
    let tenants = listed.map(|listed| listed.items).unwrap_or_default();
    if tenants.len() < 2 {
        return Ok(Vec::new());
    }
    let shown = |it: Tenant| {
        if it.name == it.id {
            (it.id, it.name)
        } else {
            (it.id.clone(), format!("{} ({})", it.name, it.id))
        }
    };
    Ok(tenants.into_iter().map(shown).collect())
}

/// The input of a form that makes something, where there is a choice.
pub(super) async fn choice(at: &Viewer, chosen: &str) -> Result<Option<Input>, Failure> {
    let tenants = several(at).await?;
    if tenants.is_empty() {
        return Ok(None);
    }
    let chosen = if chosen.is_empty() { "default" } else { chosen };
    Ok(Some(
        Input::choice("tenant", at.t("of-tenant"), tenants).value(chosen),
    ))
}
