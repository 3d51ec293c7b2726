//! Role × route × own home, another home, and none: of every route that there is.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, App};
use crate::{
    app::routes::{Needs, ROUTES, Route},
    home::{Action, Role},
};

/// Every route of the description: its name, its method, and its path.
fn described(app: &App) -> Vec<(String, Method, String)> {
    let paths = app.description()["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(|(method, operation)| {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            let method = method.to_uppercase().parse().unwrap();
            (name, method, path.clone())
        })
    });
    routes.collect()
}

/// A body that is understood, where a route takes one.
fn body(name: &str) -> Option<Value> {
    let entries = json!([{"offer": 1, "target_version": "V9"}]);
    match name {
        "start_device_upgrades" => Some(json!({ "entries": entries })),
        "start_home_upgrades" => Some(json!({"devices": [{"device": "d1", "entries": entries}]})),
        "confirm_device_plan" | "refuse_device_plan" => Some(json!({"upgrade": 1})),
        "set_device_automatic" => Some(json!({"automatic": false})),
        _ => None,
    }
}

async fn call(app: &App, route: &(String, Method, String), token: &str, home: &str) -> Answer {
    let (name, method, path) = route;
    let path = path.replace("{home}", home).replace("{device}", "d1");
    if name == "stream_home_events" {
        // it has no end: whoever is let in has the head of the answer at once
        app.stop();
    }
    app.call(method.clone(), &path, Some(token), body(name).as_ref())
        .await
}

#[tokio::test]
async fn every_route_has_an_entry_in_the_table_and_every_entry_a_route() {
    let app = App::new().await;
    let mut names: Vec<String> = described(&app).into_iter().map(|(name, ..)| name).collect();
    names.sort();
    let listed: Vec<&str> = ROUTES.iter().map(|route| route.name).collect();
    assert_eq!(names, listed);
    // what is in a home names it in its path
    for (name, _, path) in described(&app) {
        let in_a_home = matches!(Route::named(&name).unwrap().needs, Needs::Home(_));
        assert_eq!(
            path.starts_with("/app/v1/homes/{home}/"),
            in_a_home,
            "{path}"
        );
    }
}

#[tokio::test]
async fn each_role_does_in_its_home_what_the_table_says_and_nothing_in_another() {
    let app = App::new().await;
    app.devices(&["d1", "d2"]).await;
    app.home("ours", &["d1"]).await;
    let theirs = crate::store::PutHome {
        key: super::key("theirs"),
        name: "Theirs".to_owned(),
        zone: "UTC".to_owned(),
        quiet: None,
        members: None,
        devices: None,
    };
    app.state
        .store
        .put_home(&theirs, None, app.now())
        .await
        .unwrap();
    let acme = crate::store::NewTenant {
        id: "acme".parse().unwrap(),
        name: "Acme".to_owned(),
        created_at: app.now(),
    };
    app.state.store.add_tenant(&acme).await.unwrap();
    let stranger = app.token("stranger").await;
    let other_tenant = app.token_of("acme", "owner").await;
    for role in Role::ALL {
        let token = app.token(role.name()).await;
        for route in described(&app) {
            let Needs::Home(action) = Route::named(&route.0).unwrap().needs else {
                continue;
            };
            let answer = call(&app, &route, &token, "ours").await;
            let permitted = role.may(action);
            let forbidden = answer.status == StatusCode::FORBIDDEN;
            assert_eq!(!forbidden, permitted, "{role:?} {route:?}: {answer:?}");
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED);
            if forbidden {
                assert_eq!(answer.problem(), "forbidden");
            }
            // theirs, and none at all
            for home in ["theirs", "nowhere", "%20", "a%2Fb"] {
                let answer = call(&app, &route, &token, home).await;
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{route:?} {home}");
            }
        }
    }
    for token in [stranger, other_tenant] {
        for route in described(&app) {
            if Route::named(&route.0).unwrap().needs == Needs::User {
                continue;
            }
            let answer = call(&app, &route, &token, "ours").await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{route:?}");
        }
    }
}

/// Whoever is not in a home cannot tell it from one that is not there, on no route.
#[tokio::test]
async fn a_home_of_others_is_answered_like_none() {
    let app = App::new().await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    let stranger = app.token("stranger").await;
    let mut words = BTreeMap::new();
    for route in described(&app) {
        if Route::named(&route.0).unwrap().needs == Needs::User {
            continue;
        }
        for home in ["ours", "nowhere"] {
            let mut answer = call(&app, &route, &stranger, home).await;
            assert_eq!(answer.code(), 5099);
            // the path that was asked for
            answer.body.as_object_mut().unwrap().remove("instance");
            let told = (answer.status.as_u16(), answer.body.to_string());
            *words.entry(told).or_insert(0) += 1;
        }
    }
    assert_eq!(words.len(), 1, "{words:?}");
}

#[test]
fn members_look_and_owners_and_administrators_act() {
    for route in ROUTES {
        let Needs::Home(action) = route.needs else {
            continue;
        };
        assert!(Role::Owner.may(action) && Role::Administrator.may(action));
        assert_eq!(
            Role::Member.may(action),
            action == Action::Read,
            "{route:?}"
        );
    }
}

#[tokio::test]
async fn nothing_is_open_without_a_token_but_the_description() {
    let app = App::new().await;
    for (_, method, path) in described(&app) {
        for token in [None, Some("wrong"), Some("a.b.c"), Some("")] {
            let answer = app.call(method.clone(), &path, token, None).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(answer.problem(), "unauthorized");
            assert!(answer.headers.contains_key("www-authenticate"));
        }
    }
    // nor is an operator's token one
    let answer = app.get(crate::api::tests::TOKEN, "/app/v1/homes").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
