//! What somebody at home starts, continues and cancels.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};

use super::{
    bodies::{
        AppCancelled, AppStart, AppStartOne, AppStarted, AppStarts, SeenEntry, StartDevice,
        StartMany,
    },
    figures::{self, Ration},
    person::Inside,
    problem::Problem,
    rations::StartRations,
    state::AppState,
    upgrades::{self, DevicePath},
    view::no_such_device,
};
use crate::{
    api::{self, Path},
    home::{ErrorCode, MAX_HOME_DEVICES, MAX_STARTED, OfferId, Refusal},
    package::Version,
    store::{NewStart, StartError, Started, Starter, StoreError, Wanted},
};

/// Characters of a device's name, at most.
const MAX_NAME: usize = 128;

/// Start the upgrades of one device.
///
/// Of several each leads on from the one before; all are started, or none. What was seen is compared with what there is (409,
/// `offer-changed`, with that in `now`). Where the signal is weaker than the offer asks for (409, code 5005), the start waits ten
/// minutes for `continue` or `cancel`. What was started before goes on, and is answered as `again`.
#[utoipa::path(post, path = "/app/v1/homes/{home}/devices/{device}/start", operation_id = "start_device_upgrades", tag = "acts",
    params(DevicePath), request_body = StartDevice,
    responses(
        (status = 202, description = "They begin when it is their turn", body = AppStart),
        (status = 409, description = "Nothing was started: the code says why", body = Problem),
    ))]
pub(super) async fn start_device_upgrades(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
    headers: HeaderMap,
    api::Json(body): api::Json<StartDevice>,
) -> Result<(StatusCode, Json<AppStart>), Problem> {
    let wanted = wanted(&body.entries, "")?;
    let came = start(&state, &inside, &path.device, wanted, &headers).await;
    said(&state, &inside); // what is refused over a weak signal is told, too
    let started = came?;
    let device = path.device;
    Ok((StatusCode::ACCEPTED, Json(AppStart { device, started })))
}

/// Start the upgrades of many devices.
///
/// Each is answered for itself, as it would be alone. A user may start a whole home at once, and then as many devices in a second as may
/// be asked for.
#[utoipa::path(post, path = "/app/v1/homes/{home}/start", operation_id = "start_home_upgrades", tag = "acts",
    params(("home" = String, Path, description = "The home")), request_body = StartMany,
    responses((status = 207, description = "What came of each", body = AppStarts)))]
pub(super) async fn start_home_upgrades(
    State(state): State<AppState>,
    inside: Inside,
    Extension(rations): Extension<Arc<StartRations>>,
    headers: HeaderMap,
    api::Json(body): api::Json<StartMany>,
) -> Result<(StatusCode, Json<AppStarts>), Problem> {
    let count = body.devices.len();
    if !(1..=MAX_HOME_DEVICES).contains(&count) {
        let what = format!("1 to {MAX_HOME_DEVICES} are possible");
        return Err(Problem::field("devices", what));
    }
    let mut all = Vec::with_capacity(count);
    for (at, one) in body.devices.iter().enumerate() {
        if !(1..=MAX_NAME).contains(&one.device.chars().count()) {
            let field = format!("devices[{at}].device");
            let what = format!("1 to {MAX_NAME} characters are possible");
            return Err(Problem::field(&field, what));
        }
        all.push(wanted(&one.entries, &format!("devices[{at}]."))?);
    }
    if let Err(wait_s) = rations.check(&inside.home, &inside.person.key.id, count) {
        figures::refused(&state.metrics, Ration::Starts);
        let why = "too many devices were started, by this user or in this home";
        return Err(Problem::too_many(why, wait_s));
    }
    let here = devices_in(&state, &inside).await?;
    let mut named = HashSet::new();
    let mut items = Vec::with_capacity(body.devices.len());
    for (one, wanted) in body.devices.into_iter().zip(all) {
        let is_first = named.insert(one.device.clone());
        let came = match (is_first, here.contains(&one.device)) {
            (false, _) => Err(of_refusal(&Refusal::NamedTwice)),
            (true, false) => Err(no_such_device()),
            (true, true) => start(&state, &inside, &one.device, wanted, &headers).await,
        };
        let (status, started, problem) = match came {
            Ok(started) => (StatusCode::ACCEPTED.as_u16(), started, None),
            Err(problem) => {
                let told = serde_json::to_value(&problem).unwrap_or_default();
                (problem.status(), Vec::new(), Some(told))
            }
        };
        items.push(AppStartOne {
            device: one.device,
            status,
            started,
            problem,
        });
    }
    said(&state, &inside);
    Ok((StatusCode::MULTI_STATUS, Json(AppStarts { items })))
}

/// The devices of the home.
async fn devices_in(state: &AppState, inside: &Inside) -> Result<HashSet<String>, StoreError> {
    let devices = (state.store)
        .home_devices(&inside.home, None, state.now())
        .await?;
    Ok(devices.into_iter().map(|it| it.here.endpoint).collect())
}

async fn start(
    state: &AppState,
    inside: &Inside,
    device: &str,
    wanted: Vec<Wanted>,
    headers: &HeaderMap,
) -> Result<Vec<AppStarted>, Problem> {
    let new = NewStart {
        home: inside.home.clone(),
        endpoint: device.to_owned(),
        wanted,
        by: Starter::User(inside.person.key.id.clone()),
        now: state.now(),
    };
    match state.store.start(&new).await {
        Ok(started) => Ok(told(started)),
        Err(error) => {
            let problem = of_error(error);
            if !problem.is_about_change() {
                return Err(problem);
            }
            // what there is now, so that nobody has to ask for it
            let now = upgrades::device(state, inside, device, headers).await?;
            Err(problem.with_now(serde_json::to_value(now).unwrap_or_default()))
        }
    }
}

/// The entries as they are wanted. Fields are told with `below` before them.
fn wanted(seen: &[SeenEntry], below: &str) -> Result<Vec<Wanted>, Problem> {
    if !(1..=MAX_STARTED).contains(&seen.len()) {
        let what = format!("1 to {MAX_STARTED} are possible");
        return Err(Problem::field(&format!("{below}entries"), what));
    }
    let mut wanted: Vec<Wanted> = Vec::with_capacity(seen.len());
    for (at, entry) in seen.iter().enumerate() {
        let version = |field: &str, text: &str| {
            Version::new(text).map_err(|error| {
                let field = format!("{below}entries[{at}].{field}");
                Problem::field(&field, error)
            })
        };
        let offer = OfferId(entry.offer);
        if wanted.iter().any(|it| it.offer == offer) {
            let field = format!("{below}entries[{at}].offer");
            return Err(Problem::field(
                &field,
                "it is named twice; name each offer once",
            ));
        }
        let current = entry.current_version.as_deref();
        let current = current.map(|text| version("current_version", text));
        wanted.push(Wanted {
            offer,
            target: Some(version("target_version", &entry.target_version)?),
            current: current.transpose()?,
        });
    }
    Ok(wanted)
}

/// Go on over a weak signal.
///
/// Starts what waits for that word, within ten minutes of its start.
#[utoipa::path(post, path = "/app/v1/homes/{home}/devices/{device}/continue", operation_id = "continue_device_start", tag = "acts",
    params(DevicePath),
    responses(
        (status = 202, description = "It begins when it is its turn", body = AppStart),
        (status = 409, description = "Nothing waits for that word", body = Problem),
    ))]
pub(super) async fn continue_device_start(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
) -> Result<(StatusCode, Json<AppStart>), Problem> {
    let user = &inside.person.key.id;
    let started = (state.store)
        .continue_start(&inside.home, &path.device, user, state.now())
        .await
        .map_err(of_error)?;
    said(&state, &inside);
    let started = told(started);
    let device = path.device;
    Ok((StatusCode::ACCEPTED, Json(AppStart { device, started })))
}

/// Cancel what has not begun.
///
/// What waits for the device to wake up, or for its turn, and what waits for a word over a weak signal. What the device is transferring
/// or installing cannot be cancelled (409).
#[utoipa::path(post, path = "/app/v1/homes/{home}/devices/{device}/cancel", operation_id = "cancel_device_upgrade", tag = "acts",
    params(DevicePath),
    responses(
        (status = 200, description = "What was cancelled", body = AppCancelled),
        (status = 409, description = "It has begun, or there is nothing to cancel", body = Problem),
    ))]
pub(super) async fn cancel_device_upgrade(
    State(state): State<AppState>,
    inside: Inside,
    Path(path): Path<DevicePath>,
) -> Result<Json<AppCancelled>, Problem> {
    let user = &inside.person.key.id;
    let cancelled = (state.store)
        .cancel_start(&inside.home, &path.device, user, state.now())
        .await
        .map_err(of_error)?;
    said(&state, &inside);
    Ok(Json(AppCancelled {
        device: path.device,
        upgrades: cancelled.upgrades.iter().map(|it| it.0).collect(),
        waited: cancelled.waited,
    }))
}

/// Lets whoever follows look at once: the rollout, and who listens to the home.
pub(super) fn said(state: &AppState, inside: &Inside) {
    state.signals.written();
    state.listeners.hint(&inside.home);
}

fn told(started: Vec<Started>) -> Vec<AppStarted> {
    let started = started.into_iter().map(|it| AppStarted {
        offer: it.offer.0,
        upgrade: it.upgrade.0,
        again: it.again,
    });
    started.collect()
}

/// Why nothing was done, as an application is told.
pub(super) fn of_error(error: StartError) -> Problem {
    match error {
        StartError::NotFound { .. } => no_such_device(),
        StartError::Refused { refusal, .. } => of_refusal(&refusal),
        StartError::Store(error) => Problem::from(error).with_code(ErrorCode::NotStarted.number()),
    }
}

fn of_refusal(refusal: &Refusal) -> Problem {
    let (name, title) = match refusal {
        Refusal::Stale => ("offer-changed", "There is something else now"),
        Refusal::NothingWaits | Refusal::TooLate => ("not-waiting", "Nothing waits for that"),
        _ => ("upgrade-refused", "It is not to be upgraded now"),
    };
    Problem::conflict(name, title, refusal).with_code(refusal.code().number())
}
