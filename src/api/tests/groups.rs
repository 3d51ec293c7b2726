use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Answer, Api};

async fn devices(api: &Api) {
    let devices = json!({"devices": [
        {"endpoint": "a", "product": "p"},
        {"endpoint": "b", "product": "p"},
        {"endpoint": "c", "product": "q"},
    ]});
    api.post("/v1/devices", &devices).await;
}

async fn patch(api: &Api, path: &str, body: Value) -> Answer {
    api.json(Method::PATCH, path, &body.to_string()).await
}

#[tokio::test]
async fn a_group_of_either_kind_is_added_shown_and_listed() {
    let api = Api::new().await;
    devices(&api).await;
    let list = json!({"name": "pilot", "devices": ["a", "c", "a"]});
    let list = api.post("/v1/groups", &list).await;
    assert_eq!(list.status, StatusCode::CREATED);
    assert_eq!(list.header(header::LOCATION), "/v1/groups/1");
    assert_eq!(
        (&list.body["members"], &list.body["filter"]),
        (&json!(2), &Value::Null)
    );
    let filter = json!({"name": "meters", "filter": "product == \"p\" "});
    let filter = api.post("/v1/groups", &filter).await;
    assert_eq!(
        (&filter.body["members"], &filter.body["filter"]),
        (&json!(2), &json!("product==p"))
    );
    for group in [&list, &filter] {
        let path = group.header(header::LOCATION);
        assert_eq!(api.get(path).await.body, group.body);
    }
    let page = api.get("/v1/groups?limit=1").await.body;
    assert_eq!(page["items"][0]["name"], "meters");
    assert_eq!(page["items"][0]["members"], Value::Null);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = api.get(&format!("/v1/groups?cursor={cursor}")).await.body;
    assert_eq!(
        (&page["items"][0], &page["next_cursor"]),
        (&list.body, &Value::Null)
    );
    for (query, count) in [
        ("group=1", 2),
        ("group=2", 2),
        ("group=1&filter=product==p", 1),
        ("group=2&q=b", 1),
    ] {
        let listed = api.get(&format!("/v1/devices?{query}")).await.body;
        assert_eq!(listed["items"].as_array().unwrap().len(), count, "{query}");
        let counted = api.get(&format!("/v1/devices/count?{query}")).await.body;
        assert_eq!(counted, json!({"count": count}), "{query}");
    }
    for path in [
        "/v1/groups/7",
        "/v1/devices?group=7",
        "/v1/devices/count?group=7",
    ] {
        let answer = api.get(path).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (StatusCode::NOT_FOUND, "not-found"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_makes_no_group_is_refused() {
    let api = Api::new().await;
    devices(&api).await;
    let many: Vec<String> = (0..10_001).map(|i| i.to_string()).collect();
    for (body, field) in [
        (json!({"name": ""}), "name"),
        (json!({"name": "a\nb"}), "name"),
        (json!({"name": "x".repeat(201)}), "name"),
        (json!({"name": "x", "filter": "site=="}), "filter"),
        (
            json!({"name": "x", "filter": "site==a", "devices": []}),
            "filter",
        ),
        (json!({"name": "x", "devices": many}), "devices"),
    ] {
        assert_eq!(
            api.post("/v1/groups", &body).await.fields(),
            [field],
            "{body:?}"
        );
    }
    let unknown = api
        .post("/v1/groups", &json!({"name": "x", "devices": ["a", "z"]}))
        .await;
    assert_eq!(
        (unknown.status, unknown.problem()),
        (StatusCode::CONFLICT, "unknown-devices")
    );
    api.post("/v1/groups", &json!({"name": "x"})).await;
    let taken = api.post("/v1/groups", &json!({"name": "x"})).await;
    assert_eq!(
        (taken.status, taken.problem()),
        (StatusCode::CONFLICT, "name-taken")
    );
    for (body, field) in [
        (json!({}), "name"),
        (json!({"add": many}), "add"),
        (json!({"filter": "!"}), "filter"),
    ] {
        assert_eq!(patch(&api, "/v1/groups/1", body).await.fields(), [field]);
    }
    let other = patch(&api, "/v1/groups/1", json!({"filter": "site==a"})).await;
    assert_eq!(
        (other.status, other.problem()),
        (StatusCode::CONFLICT, "other-kind-of-group")
    );
    let nowhere = patch(&api, "/v1/groups/7", json!({"name": "y"})).await;
    assert_eq!(nowhere.problem(), "not-found");
}

#[tokio::test]
async fn a_group_is_upgraded_and_removed_when_that_has_ended() {
    let api = Api::new().await;
    devices(&api).await;
    let package = api.package().await;
    api.post(
        "/v1/groups",
        &json!({"name": "pilot", "devices": ["a", "c"]}),
    )
    .await;
    let changed = patch(
        &api,
        "/v1/groups/1",
        json!({"add": ["b"], "remove": ["a"], "name": "second"}),
    )
    .await;
    assert_eq!(
        (&changed.body["members"], &changed.body["name"]),
        (&json!(2), &json!("second"))
    );
    let create = async |who: Value| {
        let mut body = json!({"name": "night", "package_id": package});
        body.as_object_mut()
            .unwrap()
            .extend(who.as_object().unwrap().clone());
        api.post("/v1/tasks", &body).await
    };
    let task = create(json!({"group": 1})).await;
    assert_eq!(
        (task.status, &task.body["total"]),
        (StatusCode::CREATED, &json!(1))
    );
    let used = api.delete("/v1/groups/1").await;
    assert_eq!(
        (used.status, used.problem()),
        (StatusCode::CONFLICT, "group-in-use")
    );
    assert!(used.detail().contains("task 1 (\"night\")"), "{used:?}");
    let filtered = create(json!({"filter": "endpoint!=a"})).await;
    assert_eq!(filtered.body["total"], 1);
    let nobody = create(json!({"filter": "product==q"})).await;
    assert_eq!(
        (nobody.status, nobody.problem()),
        (StatusCode::CONFLICT, "no-devices")
    );
    let unknown = create(json!({"group": 7})).await;
    assert_eq!(
        (unknown.status, unknown.problem()),
        (StatusCode::NOT_FOUND, "not-found")
    );
    assert_eq!(
        create(json!({"filter": "cell==x"})).await.fields(),
        ["filter"]
    );
    for two in [
        json!({"filter": "cell==1", "all": true}),
        json!({"group": 1, "devices": ["a"]}),
    ] {
        assert_eq!(create(two).await.fields(), ["devices"]);
    }
    api.post("/v1/tasks/1/stop", &json!({})).await;
    assert_eq!(
        api.delete("/v1/groups/1").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        api.delete("/v1/groups/1").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(api.get("/v1/devices/b").await.status, StatusCode::OK);
}
