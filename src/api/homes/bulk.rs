//! `POST /v1/homes`: many at once.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{QuietBody, SetHome, devices::PutDevices, members::PutMembers};
use crate::{
    access::Scope,
    api::{
        ApiState,
        extract::{self, Fields},
        problem::Problem,
        scoped,
    },
    store::{HomePut, MAX_HOMES_AT_ONCE},
};

/// Homes of which an answer says why they were refused.
const TOLD: usize = 1_000;

/// Many homes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SetHomes {
    /// The homes, 1 to 10,000.
    #[schema(min_items = 1, max_items = 10_000)]
    homes: Vec<SetNamedHome>,
}

/// A home with its name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetNamedHome {
    /// What the integrator calls it: 1 to 64 characters out of A-Z a-z 0-9 . _ ~ : @ -.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = r"^(?!\.{1,2}$)[A-Za-z0-9._~:@-]{1,64}$"
    )]
    home: String,
    /// What people call it, 1 to 100 characters.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    name: String,
    /// Its time zone, an IANA name; `UTC` when not given.
    #[schema(example = "Europe/Berlin", max_length = 64)]
    zone: Option<String>,
    /// When no upgrade begins by itself there; at no time when not given.
    quiet: Option<QuietBody>,
    /// Everybody who is in it, up to 64. They stay as they are when not given.
    people: Option<PutMembers>,
    /// All devices that are in it, up to 256. They stay as they are when not given.
    things: Option<PutDevices>,
}

impl SetNamedHome {
    /// What it is called, and how it is to be.
    fn split(self) -> (String, SetHome) {
        let set = SetHome {
            name: self.name,
            zone: self.zone,
            quiet: self.quiet,
            people: self.people,
            things: self.things,
        };
        (self.home, set)
    }
}

/// What came of many homes.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SetHomesBody {
    /// Homes that are new.
    added: usize,
    /// Homes that are other now.
    changed: usize,
    /// Homes that were so already.
    unchanged: usize,
    /// Homes that stay as they are, 1,000 at most.
    refused: Vec<RefusedHome>,
    /// How many these are.
    refused_count: usize,
}

/// A home that stays as it is.
#[derive(Debug, Serialize, ToSchema)]
struct RefusedHome {
    /// What the integrator calls it.
    home: String,
    /// Why.
    detail: String,
}

/// Add homes, or make them so: each is put, or refused, by itself.
///
/// Putting the same again changes nothing, so that what was cut off may be sent again. One that is refused does not hold up the others; what cannot
/// be read at all has the request refused as a whole.
#[utoipa::path(post, path = "/v1/homes", operation_id = "set_homes", tag = "homes", request_body = SetHomes,
    responses(
        (status = 200, description = "What came of them", body = SetHomesBody),
    ))]
pub(in crate::api) async fn set(
    State(state): State<ApiState>,
    scope: Scope,
    extract::Json(body): extract::Json<SetHomes>,
) -> Result<Json<SetHomesBody>, Problem> {
    let tenant = scoped::home(&scope)?;
    let mut fields = Fields::default();
    let fits = (1..=MAX_HOMES_AT_ONCE).contains(&body.homes.len());
    fields.check(
        "homes",
        fits,
        format!("1 to {MAX_HOMES_AT_ONCE} are possible"),
    );
    fields.finish()?;
    let mut fields = Fields::default();
    let mut known = BTreeSet::new();
    let mut homes = Vec::with_capacity(body.homes.len());
    for (at, home) in body.homes.into_iter().enumerate() {
        let place = format!("homes[{at}].");
        let (id, home) = home.split();
        homes.extend(home.read(&tenant, &id, &place, &mut fields));
        let first = known.insert(id);
        fields.check(&format!("{place}home"), first, "the home is there twice");
    }
    fields.finish()?;
    let answers = state.store.put_homes(&homes, state.now()).await?;
    let mut told = SetHomesBody {
        added: 0,
        changed: 0,
        unchanged: 0,
        refused: Vec::new(),
        refused_count: 0,
    };
    for (home, answer) in homes.iter().zip(answers) {
        match answer {
            Ok(HomePut::Added) => told.added += 1,
            Ok(HomePut::Changed) => told.changed += 1,
            Ok(HomePut::Unchanged) => told.unchanged += 1,
            Err(error) => {
                told.refused_count += 1;
                if told.refused.len() < TOLD {
                    told.refused.push(RefusedHome {
                        home: home.key.id.to_string(),
                        detail: error.to_string(),
                    });
                }
            }
        }
    }
    Ok(Json(told))
}
