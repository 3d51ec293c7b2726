//! What a caller sees and does whose grants are narrowed to some devices.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Api, TOKEN, events::Stream};
use crate::{
    access::{OPERATIONS, Operation, Permission, Reach},
    home::OfferId,
    store::conformance::home_events,
};

/// Devices `in0` and `in1` in the north, `out0` and `out1` in the south; a task of the carrier's for all of them, whose upgrades are
/// 1 to 4 in the order of the devices' names; somebody who is granted the north; and a task of this one, for all that it sees.
struct World {
    api: Api,
    north: String,
    theirs: i64,
    ours: i64,
}

impl World {
    async fn new() -> Self {
        let api = Api::new().await;
        api.package().await;
        let device = |endpoint: &str, site: &str| json!({"endpoint": endpoint, "product": "p", "site": site});
        let devices = json!({"devices": [
            device("in0", "north"), device("in1", "north"), device("out0", "south"), device("out1", "south"),
        ]});
        let added = api.post("/v1/devices", &devices).await;
        assert_eq!(added.status, StatusCode::OK, "{added:?}");
        let theirs = json!({"name": "theirs", "package_id": 1, "all": true, "approval": true});
        let theirs = api.post("/v1/tasks", &theirs).await.id();
        let grants = json!([
            {"role": "operator", "filter": "site==north"},
            {"role": "approver", "filter": "site==north"},
        ]);
        let (_, north) = api.token("north", grants).await;
        let ours = json!({"name": "ours", "package_id": 1, "all": true});
        let ours = api.post_as(&north, "/v1/tasks", &ours).await;
        assert_eq!(ours.status, StatusCode::CREATED, "{ours:?}");
        Self {
            ours: ours.id(),
            api,
            north,
            theirs,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.api.get_as(&self.north, path).await
    }

    async fn create(&self, body: Value) -> Answer {
        let mut task = json!({"name": "more", "package_id": 1});
        let (fields, given) = (task.as_object_mut().unwrap(), body);
        fields.extend(given.as_object().unwrap().clone());
        self.api.post_as(&self.north, "/v1/tasks", &task).await
    }

    /// The number of an upgrade of a device, in the carrier's task.
    async fn upgrade(&self, endpoint: &str) -> i64 {
        let path = format!("/v1/tasks/{}/upgrades", self.theirs);
        let upgrades = self.api.get(&path).await;
        let items = upgrades.body["items"].as_array().unwrap();
        let found = items.iter().find(|item| item["endpoint"] == endpoint);
        found.unwrap()["id"].as_i64().unwrap()
    }
}

fn endpoints(list: &Answer) -> Vec<&str> {
    assert_eq!(list.status, StatusCode::OK, "{list:?}");
    let items = list.body["items"].as_array().unwrap();
    (items.iter())
        .map(|item| item["endpoint"].as_str().unwrap())
        .collect()
}

/// What is asked of each operation, besides its path.
fn body(operation: &str) -> Value {
    match operation {
        "update_device" => json!({"site": "north"}),
        "update_task" => json!({"priority": 7}),
        "approve_task" => json!({"by": "anna"}),
        "refuse_task" => json!({"by": "anna", "note": "no"}),
        "add_exclusions" => json!({"endpoints": ["in0", "out0"], "reason": "test"}),
        "create_task" => json!({"name": "n", "package_id": 1, "devices": ["in0", "out0"]}),
        _ => json!({}),
    }
}

/// Whether an operation keeps to devices. Packages and products have none; the stream has a test of its own.
fn concerns_devices(operation: &Operation) -> bool {
    let apart = [
        "list_packages",
        "get_package",
        "get_sbom",
        "get_product",
        "list_product_keys",
        "list_products",
        "stream_events",
    ]
    .contains(&operation.name);
    let own = matches!(operation.needs, Permission::Open | Permission::Own);
    operation.reach == Reach::Scoped && !own && !apart
}

/// Every operation that says that it keeps to the devices of its caller is tried on others.
#[tokio::test]
async fn what_is_outside_is_not_there_for_any_operation() {
    let world = World::new().await;
    let api = &world.api;
    let upgrade = world.upgrade("out0").await;
    let excluded = json!({"endpoints": ["in1", "out1"], "reason": "loan"});
    api.post("/v1/exclusions", &excluded).await;
    let mut tried = 0;
    for (path, item) in api.description["paths"].as_object().unwrap() {
        for (method, described) in item.as_object().unwrap() {
            let name = described["operationId"].as_str().unwrap_or_default();
            let Some(operation) = Operation::named(name) else {
                continue;
            };
            if !concerns_devices(operation) {
                continue;
            }
            tried += 1;
            let id = if path.contains("/upgrades/{id}") {
                upgrade
            } else {
                world.theirs
            };
            let endpoint = if path.contains("exclusions") {
                "out1"
            } else {
                "out0"
            };
            let path = path
                .replace("{id}", &id.to_string())
                .replace("{endpoint}", endpoint);
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = api
                .ask(&world.north, method.clone(), &path, &body(name).to_string())
                .await;
            if matches!(name, "add_exclusions" | "create_task") {
                assert_eq!(answer.problem(), "unknown-devices", "{name}: {answer:?}");
                assert!(answer.detail().contains("out0") && !answer.detail().contains("in0"));
            } else if described.to_string().contains("\"in\":\"path\"") {
                assert_eq!(answer.problem(), "not-found", "{name}: {answer:?}");
            } else {
                assert_eq!(answer.status, StatusCode::OK, "{name}: {answer:?}");
                let text = answer.body.to_string();
                assert!(
                    !text.contains("out0") && !text.contains("out1"),
                    "{name}: {text}"
                );
                assert!(!text.contains("theirs") || name != "list_tasks", "{text}");
            }
            if method == Method::GET {
                let there = api.get(&path).await;
                assert_eq!(there.status, StatusCode::OK, "{name}: {there:?}");
            }
        }
    }
    let scoped = OPERATIONS.iter().filter(|it| concerns_devices(it));
    assert_eq!(tried, scoped.count());
    // and nothing has happened to it
    assert_eq!(api.get("/v1/devices/out0").await.body["site"], "south");
    let theirs = api.get(&format!("/v1/tasks/{}", world.theirs)).await;
    assert_eq!(theirs.body["state"], "awaiting_approval");
    assert_eq!(theirs.body["counts"]["pending"], 4);
    assert_eq!(endpoints(&api.get("/v1/exclusions").await), ["in1", "out1"]);
    assert_eq!(endpoints(&world.get("/v1/exclusions").await), ["in1"]);
}

#[tokio::test]
async fn lists_and_counts_have_what_is_inside() {
    let world = World::new().await;
    assert_eq!(endpoints(&world.get("/v1/devices").await), ["in0", "in1"]);
    let paged = world.get("/v1/devices?limit=1&filter=endpoint!=x").await;
    assert_eq!(endpoints(&paged), ["in0"]);
    let count = async |query: &str| {
        let path = format!("/v1/devices/count{query}");
        world.get(&path).await.body["count"].as_u64().unwrap()
    };
    assert_eq!(count("").await, 2);
    assert_eq!(count("?filter=endpoint==out0,endpoint==in0").await, 1);
    assert_eq!(count("?q=out").await, 0);
    let group = json!({"name": "all", "filter": "endpoint==*"});
    let group = world.api.post("/v1/groups", &group).await.id();
    let asked = world.get(&format!("/v1/devices?group={group}")).await;
    assert_eq!(asked.problem(), "not-found");
    // those of the carrier's task that concern it, and its own
    let newest = world.get("/v1/upgrades").await;
    assert_eq!(endpoints(&newest), ["in1", "in0", "in1", "in0"]);
    assert_eq!(world.get("/v1/devices/in0").await.body["site"], "north");
    let upgrade = world.upgrade("in0").await;
    let shown = world.get(&format!("/v1/upgrades/{upgrade}")).await;
    assert_eq!(shown.body["endpoint"], "in0");
    let cancelled = world
        .api
        .post_as(
            &world.north,
            &format!("/v1/upgrades/{upgrade}/cancel"),
            &json!({}),
        )
        .await;
    assert_eq!(cancelled.status, StatusCode::OK);
    // what concerns the whole is not for it
    for path in [
        "/v1/cells",
        "/v1/groups",
        "/v1/devices/unknown",
        "/v1/webhooks",
    ] {
        assert_eq!(world.get(path).await.problem(), "forbidden", "{path}");
    }
}

#[tokio::test]
async fn a_device_that_is_moved_out_is_gone() {
    let world = World::new().await;
    let moved = world
        .api
        .ask(
            &world.north,
            Method::PATCH,
            "/v1/devices/in0",
            r#"{"site":"south"}"#,
        )
        .await;
    assert_eq!(moved.status, StatusCode::OK, "{moved:?}");
    assert_eq!(world.get("/v1/devices/in0").await.problem(), "not-found");
    let upgrades = world
        .get(&format!("/v1/tasks/{}/upgrades", world.ours))
        .await;
    assert_eq!(endpoints(&upgrades), ["in1"]);
}

#[tokio::test]
async fn a_task_is_cut_to_what_its_maker_sees() {
    let world = World::new().await;
    let ours = world.get(&format!("/v1/tasks/{}", world.ours)).await;
    assert_eq!(ours.body["total"], 2);
    assert_eq!(ours.body["targets"]["filter"], "site==north");
    for selection in [
        json!({"product": "p"}),
        json!({"filter": "endpoint==*"}),
        json!({"all": true, "membership": "joining"}),
        json!({"devices": ["in0", "in1"]}),
    ] {
        let task = world.create(selection.clone()).await;
        assert_eq!(task.body["total"], 2, "{selection}: {task:?}");
        assert_eq!(task.body["overlaps"], Value::Null);
        let targets = &task.body["targets"]["filter"];
        assert!(targets.is_null() || targets.as_str().unwrap().contains("site==north"));
        // a copy is cut as well, whoever makes it
        let copy = format!("/v1/tasks/{}/copy", task.id());
        for token in [&*world.north, super::TOKEN] {
            let copy = world.api.post_as(token, &copy, &json!({})).await;
            assert_eq!(copy.body["total"], 2, "{selection}: {copy:?}");
        }
    }
    let outside = world.create(json!({"filter": "site==south"})).await;
    assert_eq!(outside.problem(), "no-devices");
    let group = json!({"name": "all", "filter": "endpoint==*"});
    let group = world.api.post("/v1/groups", &group).await.id();
    let of_group = world.create(json!({"group": group})).await;
    assert_eq!(of_group.problem(), "not-found");
    let exclude = json!({"all": true, "exclude": {"devices": ["out0"]}});
    assert_eq!(world.create(exclude).await.problem(), "unknown-devices");
    let exclude = json!({"all": true, "exclude": {"group": group}});
    assert_eq!(world.create(exclude).await.problem(), "not-found");
    let long = vec!["site==north"; 100].join(",");
    let long = world.create(json!({"filter": long})).await;
    assert_eq!(long.fields(), ["filter"]);
}

#[tokio::test]
async fn a_task_is_there_for_whoever_is_granted_the_same() {
    let world = World::new().await;
    let api = &world.api;
    let path = format!("/v1/tasks/{}", world.ours);
    for (name, filter, there) in [
        ("colleague", "site==north", true),
        ("other", "site==south", false),
        ("wider", "site==north,site==south", false),
    ] {
        let grants = json!([{"role": "viewer", "filter": filter}]);
        let (_, token) = api.token(name, grants).await;
        let asked = api.get_as(&token, &path).await;
        assert_eq!(asked.status == StatusCode::OK, there, "{name}: {asked:?}");
        let list = api.get_as(&token, "/v1/tasks").await;
        let listed = list.body["items"].as_array().unwrap().len();
        assert_eq!(listed, usize::from(there), "{name}");
    }
    let grants = json!([
        {"role": "viewer", "filter": "site==south"},
        {"role": "viewer", "filter": "site==north"},
    ]);
    let (_, both) = api.token("both", grants).await;
    assert_eq!(api.get_as(&both, &path).await.status, StatusCode::OK);
    assert_eq!(api.get(&path).await.status, StatusCode::OK);
    // pages go on to the end
    for _ in 0..4 {
        world.create(json!({"all": true})).await;
    }
    let mut seen = Vec::new();
    let mut path = "/v1/tasks?limit=2".to_owned();
    loop {
        let page = api.get_as(&both, &path).await.body;
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["id"].as_i64().unwrap()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/tasks?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted_by(|a, b| a > b) && !seen.contains(&world.theirs));
}

#[tokio::test]
async fn the_queue_of_a_cell_is_not_told() {
    let world = World::new().await;
    let api = &world.api;
    for endpoint in ["out0", "out1", "in0"] {
        let upgrade = world.upgrade(endpoint).await;
        api.queue_up(upgrade, api.state.now()).await;
    }
    let path = format!("/v1/upgrades/{}", world.upgrade("in0").await);
    let all = api.get(&path).await;
    let waits = all.body["waiting_for"].as_str().unwrap();
    assert!(waits.contains("2 wait before it"), "{waits}");
    let some = world.get(&path).await;
    let waits = some.body["waiting_for"].as_str().unwrap();
    assert!(waits.starts_with("a slot in cell 7; "), "{waits}");
    assert_eq!(some.body["share"], Value::Null);
}

#[tokio::test]
async fn cursors_name_no_device_that_is_outside() {
    let world = World::new().await;
    let api = &world.api;
    let foreign = |n| format!("foreign{n:02}");
    let devices: Vec<Value> = (0..30)
        .map(|n| json!({"endpoint": foreign(n), "product": "p", "site": "south"}))
        .collect();
    api.post("/v1/devices", &json!({"devices": devices})).await;
    let mut excluded: Vec<String> = (0..30).map(foreign).collect();
    excluded.push("in1".to_owned());
    let excluded = json!({"endpoints": excluded, "reason": "loan"});
    api.post("/v1/exclusions", &excluded).await;
    for (list, inside, most_pages) in [
        // of those that are excluded outside nothing is heard, not even how many
        ("/v1/exclusions?limit=7", vec!["in1"], 1),
        ("/v1/devices?limit=1", vec!["in0", "in1"], 3),
    ] {
        let (mut seen, mut pages, mut path) = (Vec::new(), 0, list.to_owned());
        loop {
            let page = world.get(&path).await;
            seen.extend(endpoints(&page).iter().map(|&name| name.to_owned()));
            pages += 1;
            let Some(cursor) = page.body["next_cursor"].as_str() else {
                break;
            };
            let shown = hex::decode(cursor).unwrap();
            for text in [String::from_utf8_lossy(&shown), cursor.into()] {
                assert!(!text.contains("foreign") && !text.contains("out"), "{text}");
            }
            path = format!("{list}&cursor={cursor}");
        }
        assert_eq!(seen, inside, "{list}");
        assert!(pages <= most_pages, "{list}: {pages}");
    }
    // nobody makes one for a name
    for list in ["devices", "exclusions"] {
        let made = hex::encode(format!("{list} in0"));
        let made = world.get(&format!("/v1/{list}?cursor={made}")).await;
        assert_eq!(made.fields(), ["cursor"]);
    }
}

#[tokio::test]
async fn events_tell_of_what_is_inside() {
    let world = World::new().await;
    let api = &world.api;
    for endpoint in ["out0", "in0", "out1"] {
        api.fail(world.upgrade(endpoint).await, world.theirs).await;
    }
    for task in [world.theirs, world.ours] {
        api.post(&format!("/v1/tasks/{task}/stop"), &json!({}))
            .await;
    }
    let path = "/v1/events?after=0";
    let mut all = Stream::open(api, path, None).await.unwrap();
    let mut some = Stream::open_as(api, &world.north, path, None)
        .await
        .unwrap();
    let mut told = Vec::new();
    // three failures, what waited in both tasks, and the ends of both
    for _ in 0..8 {
        told.push(all.event().await);
    }
    let about = |data: &Value| {
        let endpoint = data["data"]["endpoint"].as_str();
        endpoint.map(str::to_owned)
    };
    let outside = |(_, _, data): &&(String, String, Value)| match about(data) {
        Some(endpoint) => endpoint.starts_with("out"),
        None => data["data"]["task_id"] == world.theirs,
    };
    let inside: Vec<_> = told.iter().filter(|event| !outside(event)).collect();
    assert!(
        inside.len() == 5 && told.iter().filter(outside).count() == 3,
        "{told:?}"
    );
    for expected in inside {
        assert_eq!(some.event().await, *expected);
    }
}

#[tokio::test]
async fn events_tell_nothing_of_homes_to_who_is_granted_some_devices() {
    let world = World::new().await;
    let api = &world.api;
    let home = json!({"name": "ours", "things": [{"endpoint": "in0"}]}).to_string();
    let put = api.ask(TOKEN, Method::PUT, "/v1/homes/h1", &home);
    assert_eq!(put.await.status, StatusCode::OK);
    let offer = json!({
        "terms": {
            "channel": 6, "kind": 0, "percent": 100, "conditions": {"rsrp_dbm": -110},
            "texts": {"description": {"en": "Saves power."}},
        },
        "task": {"name": "offer", "package_id": 1},
    });
    let offer = api.post("/v1/offers", &offer).await;
    assert_eq!(offer.status, StatusCode::CREATED, "{offer:?}");
    let store = &*api.state.store;
    let told = store.tell_of_offers(9, api.state.now()).await;
    assert_eq!(told.unwrap(), Some(1));
    home_events::start_waits(store, "in0", OfferId(offer.id())).await;
    api.fail(world.upgrade("in0").await, world.theirs).await;
    let path = "/v1/events?after=0";
    let mut all = Stream::open(api, path, None).await.unwrap();
    let (_, kind, sees) = all.event().await;
    assert_eq!(
        (&*kind, &sees["data"]["home"], &sees["data"]["offer"]),
        ("offer.visible", &json!("h1"), &json!(offer.id()))
    );
    let (_, kind, waits) = all.event().await;
    assert_eq!(
        (&*kind, &waits["data"]["home"]),
        ("start.waiting", &json!("h1"))
    );
    let (_, kind, failed) = all.event().await;
    assert_eq!(
        (&*kind, &failed["data"]["home"]),
        ("upgrade.failed", &json!("h1"))
    );
    assert_eq!(failed["data"]["app"]["status_name"], "failed");
    let some = Stream::open_as(api, &world.north, path, None).await;
    let (_, kind, told) = some.unwrap().event().await;
    assert_eq!(
        (&*kind, &told["data"]["endpoint"]),
        ("upgrade.failed", &json!("in0"))
    );
    assert_eq!(
        (&told["data"]["home"], &told["data"]["app"]),
        (&Value::Null, &Value::Null)
    );
    let whole = json!([{"role": "viewer", "tenant": "default"}]);
    let (_, whole) = api.token("whole", whole).await;
    let own = Stream::open_as(api, &whole, path, None).await;
    assert_eq!(own.unwrap().event().await.2, sees);
}
