//! End users' homes, and what is offered to them.

use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Answer, Api, TOKEN};

impl Api {
    async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(TOKEN, Method::PUT, path, &body.to_string()).await
    }

    async fn devices(&self, endpoints: &[&str]) {
        let devices = endpoints
            .iter()
            .map(|it| json!({"endpoint": it, "product": "p"}));
        let devices: Vec<Value> = devices.collect();
        let added = self.post("/v1/devices", &json!({"devices": devices})).await;
        assert_eq!(added.status, StatusCode::OK, "{added:?}");
    }
}

fn offer(package: i64) -> Value {
    json!({
        "terms": {
            "channel": 6, "kind": 0, "percent": 20, "stages": [],
            "conditions": {"from": ["V1"], "rsrp_dbm": -115},
            "texts": {"description": {"en": "Saves power.", "pt-br": "Poupa energia."}},
        },
        "task": {"name": "Locks", "package_id": package, "retry": {"attempts": 2, "interval_seconds": 60}},
    })
}

#[tokio::test]
async fn a_home_is_put_and_shown_with_who_and_what_is_in_it() {
    let api = Api::new().await;
    api.devices(&["d0", "d1"]).await;
    assert_eq!(api.get("/v1/homes/h1").await.problem(), "not-found");
    let body = json!({
        "name": "Baker Street", "zone": "Europe/London", "quiet": {"from": "22:00", "to": "06:30"},
        "people": [{"user": "auth0|anna", "role": "owner"}], "things": [{"endpoint": "d0", "name": "door"}],
    });
    let put = api.put("/v1/homes/h1", body.clone()).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    assert_eq!(put.body["quiet"], json!({"from": "22:00", "to": "06:30"}));
    assert_eq!(put.body["people"][0]["user"], "auth0|anna");
    assert_eq!(put.body["things"][0]["name"], "door");
    let tag = put.header(header::ETAG).to_owned();
    assert_eq!(
        api.put("/v1/homes/h1", body).await.header(header::ETAG),
        tag
    );
    let member = api
        .put("/v1/homes/h1/members/ben", json!({"role": "member"}))
        .await;
    assert_eq!(member.body["role"], "member", "{member:?}");
    let device = api
        .put("/v1/homes/h1/devices/d1", json!({"icon": "lamp"}))
        .await;
    assert_eq!(device.body["icon"], "lamp", "{device:?}");
    let shown = api.get("/v1/homes/h1").await.body;
    assert_eq!(
        (&shown["members"], &shown["devices"]),
        (&json!(2), &json!(2))
    );
    for path in [
        "/v1/homes/h1/members/ben",
        "/v1/homes/h1/devices/d1",
        "/v1/homes/h1",
    ] {
        assert_eq!(
            api.delete(path).await.status,
            StatusCode::NO_CONTENT,
            "{path}"
        );
        assert_eq!(api.delete(path).await.problem(), "not-found", "{path}");
    }
}

#[tokio::test]
async fn many_homes_are_put_each_by_itself() {
    let api = Api::new().await;
    api.devices(&["d0"]).await;
    let homes = json!({"homes": [
        {"home": "h1", "name": "a", "things": [{"endpoint": "d0"}]},
        {"home": "h2", "name": "b", "things": [{"endpoint": "d0"}]},
        {"home": "h3", "name": "c"},
    ]});
    for (added, unchanged) in [(2, 0), (0, 2)] {
        let put = api.post("/v1/homes", &homes).await.body;
        assert_eq!(
            (&put["added"], &put["unchanged"]),
            (&json!(added), &json!(unchanged)),
            "{put}"
        );
        assert_eq!(
            (&put["refused"][0]["home"], &put["refused_count"]),
            (&json!("h2"), &json!(1))
        );
    }
    let first = api.get("/v1/homes?limit=1").await.body;
    assert_eq!(first["items"][0]["home"], "h3");
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("/v1/homes?cursor={cursor}")).await.body;
    assert_eq!(
        (&rest["items"][0]["home"], &rest["next_cursor"]),
        (&json!("h1"), &Value::Null)
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_home_is_told() {
    let api = Api::new().await;
    api.devices(&["d0"]).await;
    for (path, body, field) in [
        ("/v1/homes/a%2Fb", json!({"name": "a"}), "home"),
        ("/v1/homes/a", json!({"name": " "}), "name"),
        (
            "/v1/homes/a",
            json!({"name": "a", "zone": "Mars/Olympus"}),
            "zone",
        ),
        (
            "/v1/homes/a",
            json!({"name": "a", "quiet": {"from": "22:00", "to": "22:00"}}),
            "quiet",
        ),
        (
            "/v1/homes/a",
            json!({"name": "a", "people": [{"user": "x", "role": "owner"}, {"user": "x", "role": "member"}]}),
            "people[1].user",
        ),
        (
            "/v1/homes/a",
            json!({"name": "a", "things": [{"endpoint": "a b"}]}),
            "things[0].endpoint",
        ),
        (
            "/v1/homes/a/members/a%20b",
            json!({"role": "owner"}),
            "user",
        ),
    ] {
        assert_eq!(api.put(path, body).await.fields(), [field], "{path}");
    }
    let twice = json!({"homes": [{"home": "a", "name": "a"}, {"home": "a", "name": "a"}]});
    assert_eq!(
        api.post("/v1/homes", &twice).await.fields(),
        ["homes[1].home"]
    );
    let unknown = api
        .put(
            "/v1/homes/a",
            json!({"name": "a", "things": [{"endpoint": "d9"}]}),
        )
        .await;
    assert_eq!(unknown.problem(), "unknown-devices");
    api.put(
        "/v1/homes/a",
        json!({"name": "a", "things": [{"endpoint": "d0"}]}),
    )
    .await;
    api.put("/v1/homes/b", json!({"name": "b"})).await;
    let elsewhere = api.put("/v1/homes/b/devices/d0", json!({})).await;
    assert_eq!(elsewhere.problem(), "device-elsewhere");
}

#[tokio::test]
async fn an_offer_is_published_changed_and_withdrawn() {
    let api = Api::new().await;
    let package = api.package().await;
    let published = api.post("/v1/offers", &offer(package)).await;
    assert_eq!(published.status, StatusCode::CREATED, "{published:?}");
    assert_eq!(published.header(header::LOCATION), "/v1/offers/1");
    let texts = &published.body["terms"]["texts"]["description"];
    assert_eq!(
        texts,
        &json!({"en": "Saves power.", "pt-BR": "Poupa energia."})
    );
    assert_eq!(published.body["terms"]["mode"], 0);
    let task = api.get("/v1/tasks/1").await.body;
    assert_eq!(
        (&task["state"], &task["membership"]),
        (&json!("running"), &json!("joining"))
    );
    assert_eq!(
        (&task["total"], &task["targets"]),
        (&json!(0), &Value::Null)
    );
    let mut terms = offer(package)["terms"].take();
    terms["stages"] = json!([{"from": "2027-03-08T01:00:00+01:00", "percent": 100}]);
    let changed = api.put("/v1/offers/1", terms.clone()).await;
    let stages = json!([{"from": "2027-03-08T00:00:00.000Z", "percent": 100}]);
    assert_eq!(changed.body["terms"]["stages"], stages, "{changed:?}");
    terms["stages"] = json!([]);
    terms["percent"] = json!(100);
    let changed = api.put("/v1/offers/1", terms.clone()).await;
    assert_eq!(
        (&changed.body["terms"]["percent"], &changed.body["revision"]),
        (&json!(100), &json!(3))
    );
    assert_eq!(api.get("/v1/offers/1").await.header(header::ETAG), "\"3\"");
    let withdrawn = api.delete("/v1/offers/1").await;
    assert!(withdrawn.body["withdrawn_at"].is_string(), "{withdrawn:?}");
    assert_eq!(api.get("/v1/tasks/1").await.body["state"], "stopped");
    assert_eq!(
        api.put("/v1/offers/1", terms).await.problem(),
        "offer-withdrawn"
    );
    assert_eq!(api.get("/v1/offers").await.body["items"][0]["id"], 1);
    assert_eq!(
        api.get("/v1/offers?standing=true").await.body["items"],
        json!([])
    );
    assert_eq!(api.get("/v1/offers/2").await.problem(), "not-found");
}

#[tokio::test]
async fn what_is_wrong_with_an_offer_is_told() {
    let api = Api::new().await;
    let package = api.package().await;
    for (pointer, value, field) in [
        ("/terms/channel", json!(4), "terms.channel"),
        ("/terms/kind", json!(1), "terms.kind"),
        ("/terms/percent", json!(0), "terms.percent"),
        (
            "/terms/stages",
            json!([{"from": "2027-03-08", "percent": 50}]),
            "terms.stages[0].from",
        ),
        (
            "/terms/stages",
            json!([{"from": "2027-03-08T00:00:00Z", "percent": 20}]),
            "terms.stages",
        ),
        (
            "/terms/conditions/rsrp_dbm",
            json!(-20),
            "terms.conditions.rsrp_dbm",
        ),
        (
            "/terms/conditions/from",
            json!([""]),
            "terms.conditions.from[0]",
        ),
        (
            "/terms/texts/description",
            json!({}),
            "terms.texts.description",
        ),
        (
            "/terms/texts/description",
            json!({"e_n": "x"}),
            "terms.texts.description",
        ),
        ("/task/name", json!(""), "task.name"),
        ("/task/retry/attempts", json!(1_000), "task.retry.attempts"),
    ] {
        let mut body = offer(package);
        *body.pointer_mut(pointer).unwrap() = value;
        assert_eq!(
            api.post("/v1/offers", &body).await.fields(),
            [field],
            "{pointer}"
        );
    }
    assert_eq!(
        api.post("/v1/offers", &offer(99)).await.problem(),
        "not-found"
    );
}

#[tokio::test]
async fn what_is_kept_of_a_user_is_told_and_deleted() {
    let api = Api::new().await;
    api.put(
        "/v1/homes/h1",
        json!({"name": "a", "people": [{"user": "anna", "role": "owner"}]}),
    )
    .await;
    let issued = api
        .post(
            "/v1/app-tokens",
            &json!({"user": "anna", "lifetime_seconds": 60}),
        )
        .await;
    assert_eq!(issued.status, StatusCode::CREATED, "{issued:?}");
    assert!(issued.body["token"].as_str().unwrap().starts_with("cwu_"));
    let export = api.get("/v1/app-users/anna").await.body;
    assert_eq!(
        (&export["homes"][0]["home"], &export["homes"][0]["role"]),
        (&json!("h1"), &json!("owner"))
    );
    assert_eq!(export["tokens"].as_array().unwrap().len(), 1);
    assert_eq!(export["pseudonym"].as_str().unwrap().len(), 32);
    let ahead = json!({"before": "2999-01-01T00:00:00Z"});
    assert_eq!(
        api.post("/v1/app-users/anna/revoke", &ahead).await.fields(),
        ["before"]
    );
    let revoked = api.post("/v1/app-users/anna/revoke", &json!({})).await;
    assert!(revoked.body["revoked_before"].is_string(), "{revoked:?}");
    assert_eq!(
        api.delete("/v1/app-users/anna").await.status,
        StatusCode::NO_CONTENT
    );
    let export = api.get("/v1/app-users/anna").await.body;
    assert_eq!(
        (&export["homes"], &export["tokens"]),
        (&json!([]), &json!([]))
    );
    let long = json!({"user": "anna", "lifetime_seconds": 86_401});
    assert_eq!(
        api.post("/v1/app-tokens", &long).await.fields(),
        ["lifetime_seconds"]
    );
    // no row of the audit log names the user
    let rows = api.get("/v1/audit").await.body.to_string();
    assert!(!rows.contains("anna"), "{rows}");
}
