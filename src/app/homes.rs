//! `/app/v1/homes`: the homes of whoever asks.

use axum::{Json, extract::State};

use super::{
    bodies::{AppHome, AppHomes},
    person::Person,
    problem::Problem,
    state::AppState,
};
use crate::{
    home::{HomeKey, Role},
    store::HomeRecord,
};

/// The homes of the user.
///
/// Those that the token names, as far as they are there, or else those of which the user is a member. Up to 100.
#[utoipa::path(get, path = "/app/v1/homes", operation_id = "list_homes", tag = "homes",
    responses((status = 200, description = "The homes", body = AppHomes)))]
pub(super) async fn list_homes(
    State(state): State<AppState>,
    person: Person,
) -> Result<Json<AppHomes>, Problem> {
    let homes = match &person.homes {
        None => state.store.homes_of(&person.key).await?,
        Some(told) => {
            let mut homes = Vec::new();
            for (id, role) in told {
                let key = HomeKey {
                    tenant: person.key.tenant.clone(),
                    id: id.clone(),
                };
                homes.extend(state.store.home(&key).await?.map(|home| (home, *role)));
            }
            homes
        }
    };
    let items = homes.into_iter().map(|(home, role)| told(home, role));
    Ok(Json(AppHomes {
        items: items.collect(),
    }))
}

fn told(home: HomeRecord, role: Role) -> AppHome {
    AppHome {
        id: home.key.id.into(),
        name: home.name,
        role: role.code(),
        devices: home.devices,
        time_zone: home.zone,
    }
}
