//! Products and their settings.

use std::sync::{Arc, Mutex};

use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

use super::{Answer, Api};
use crate::{
    config::{Config, ProductConfig},
    store::SqliteStore,
};

const METER: &str = "/v1/products/meter";

impl Api {
    async fn patch_product(&self, path: &str, body: &Value) -> Answer {
        self.json(Method::PATCH, path, &body.to_string()).await
    }

    fn in_effect(&self, product: &str) -> Option<ProductConfig> {
        self.state.config.get().products.get(product).copied()
    }
}

#[tokio::test]
async fn a_product_is_created_shown_listed_changed_and_removed() {
    let api = Api::new().await;
    let usual = api.get(METER).await;
    assert_eq!(usual.status, StatusCode::OK);
    assert_eq!(usual.body["created"], false);
    assert_eq!(usual.body["settings"]["check_code"], "crc");
    assert_eq!(usual.body["settings"]["awake_window_s"], Value::Null);
    assert_eq!(api.get("/v1/products").await.body["items"], json!([]));
    let body = json!({"product": "meter", "signatures": "required",
        "settings": {"awake_window_s": 10.0, "check_code": "zero", "rsrp_unit": "index", "adaptive": false}});
    let created = api.post("/v1/products", &body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    assert_eq!(created.header(header::LOCATION), METER);
    let again = api.post("/v1/products", &body).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert_eq!(again.problem(), "name-taken");
    let expected = json!({"check_code": "zero", "pad_last_segment": false, "rsrp_unit": "index", "sinr_unit": "db",
        "awake_window_s": 10, "ack_timeout_ms": null, "max_retransmit": null, "pmin_zero": false,
        "appointments": "never", "adaptive": false,
        "ota": "firmware", "ota_events": "v1", "iotda_large_downloads": false, "fixed_children": false, "per_gateway": null, "module": null,
        "update_by": "auto", "delivery": "auto", "push_max_bytes": null, "uri_scheme": null, "version_resource": null});
    assert_eq!(created.body["settings"], expected);
    // what is left out stays, what is null is as for all products
    let change = json!({"settings": {"awake_window_s": null, "appointments": "lifetime"}});
    let changed = api.patch_product(METER, &change).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_eq!(changed.body["settings"]["awake_window_s"], Value::Null);
    assert_eq!(changed.body["settings"]["appointments"], "lifetime");
    assert_eq!(changed.body["settings"]["rsrp_unit"], "index");
    assert_eq!(changed.body["signatures"], "required");
    let list = api.get("/v1/products").await.body;
    assert_eq!(list["items"], json!([changed.body]));
    let removed = api.delete(METER).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT, "{removed:?}");
    assert_eq!(api.get(METER).await.body["created"], false);
    let gone = api.delete(METER).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_change_is_in_effect_when_it_is_answered_and_in_the_database_before() {
    let api = Api::new().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let (follower, store) = (told.clone(), api.state.store.clone());
    let runtime = tokio::runtime::Handle::current();
    // whoever is told finds it in the database
    api.state.config.follow(move |config: &Arc<Config>| {
        let (store, config, told) = (store.clone(), config.clone(), follower.clone());
        let seen = runtime.spawn(async move {
            assert_eq!(store.product_settings().await.unwrap(), config.products);
        });
        told.lock().unwrap().push(seen);
    });
    let create = json!({"product": "meter", "settings": {"awake_window_s": 10}});
    api.post("/v1/products", &create).await;
    let tasks = std::mem::take(&mut *told.lock().unwrap());
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(api.in_effect("meter").unwrap().awake_window_s, Some(10));
    let change = json!({"settings": {"awake_window_s": 20}});
    api.patch_product(METER, &change).await;
    assert_eq!(api.in_effect("meter").unwrap().awake_window_s, Some(20));
    assert_eq!(told.lock().unwrap().len(), 1);
    // packages that are uploaded from now on are as it says
    let change = json!({"settings": {"check_code": "zero"}});
    api.patch_product("/v1/products/p", &change).await;
    let package = api.package().await;
    let package = api.get(&format!("/v1/packages/{package}")).await.body;
    assert_eq!(package["check_code"], 0, "{package}");
    api.delete(METER).await;
    assert_eq!(api.in_effect("meter"), None);
    // a refused change changes nothing
    let change = json!({"settings": {"check_code": "crc"}});
    let unseen = api
        .seen(Method::PATCH, "/v1/products/p", "\"99\"", &change)
        .await;
    assert_eq!(unseen.status, StatusCode::PRECONDITION_FAILED);
    let kind = api.in_effect("p").unwrap().check_code;
    assert_eq!(kind, crate::package::CheckCodeKind::Zero);
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_with_their_fields() {
    let api = Api::new().await;
    let settings = json!({"awake_window_s": 0, "ack_timeout_ms": 600_001, "max_retransmit": 11, "pmin_zero": true});
    let fields = [
        "settings.awake_window_s",
        "settings.ack_timeout_ms",
        "settings.max_retransmit",
    ];
    let create = json!({"product": "meter", "settings": settings});
    let refused = api.post("/v1/products", &create).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.fields(), fields);
    assert!(refused.detail().contains("1 to 86400"), "{refused:?}");
    let change = json!({"settings": settings});
    let refused = api.patch_product(METER, &change).await;
    assert_eq!(refused.fields(), fields);
    for (body, field) in [
        (json!({}), "settings"),
        (json!({"settings": null}), "settings"),
        (
            json!({"settings": {"rsrp_unit": "miles"}}),
            "settings.rsrp_unit",
        ),
        (
            json!({"settings": {"rsrp_unit": null}}),
            "settings.rsrp_unit",
        ),
        (json!({"settings": {"pmin_zero": 1}}), "settings.pmin_zero"),
        (
            json!({"settings": {"awake_window_s": 1.5}}),
            "settings.awake_window_s",
        ),
        (json!({"settings": {"awake": 1}}), "settings.awake"),
        (
            json!({"settings": {"update_by": "auto", "uri_scheme": "ftp"}}),
            "settings.uri_scheme",
        ),
        (
            json!({"settings": {"version_resource": "/3/0"}}),
            "settings.version_resource",
        ),
        (
            json!({"settings": {"version_resource": "/3/0/3".repeat(9)}}),
            "settings.version_resource",
        ),
        (
            json!({"settings": {"push_max_bytes": 0}}),
            "settings.push_max_bytes",
        ),
    ] {
        let refused = api.patch_product(METER, &body).await;
        assert_eq!(refused.fields(), [field], "{body}");
    }
    let long = "m".repeat(65);
    for name in ["", "a b", "\u{e4}", &long] {
        let refused = api.post("/v1/products", &json!({"product": name})).await;
        assert_eq!(refused.fields(), ["product"], "{name:?}");
    }
    assert_eq!(api.get(METER).await.body["created"], false);
    assert!(api.state.config.get().products.is_empty());
}

#[tokio::test]
async fn a_product_that_is_in_use_stays() {
    let api = Api::new().await;
    api.post("/v1/products", &json!({"product": "p"})).await;
    for endpoint in ["d0", "d1"] {
        let device = json!({"endpoint": endpoint, "product": "p", "site": endpoint});
        api.post("/v1/devices", &device).await;
    }
    let package = api.package().await;
    let task = json!({"name": "night", "package_id": package, "all": true});
    api.post("/v1/tasks", &task).await;
    let refused = api.delete("/v1/products/p").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.problem(), "product-in-use");
    let told = "2 devices, 1 packages and 1 tasks";
    assert!(refused.detail().starts_with(told), "{refused:?}");
    let shown = api.get("/v1/products/p").await.body;
    assert_eq!(
        (&shown["devices"], &shown["packages"]),
        (&json!(2), &json!(1))
    );
    // devices that somebody does not see are not counted
    let grants = json!([{"role": "viewer", "filter": "site==d1"}]);
    let (_, token) = api.token("one", grants).await;
    let shown = api.get_as(&token, "/v1/products/p").await.body;
    assert_eq!(shown["devices"], 1);
    let listed = api.get_as(&token, "/v1/products").await.body;
    assert_eq!(listed["items"][0]["devices"], Value::Null);
}

#[tokio::test]
async fn products_are_listed_page_by_page() {
    let api = Api::new().await;
    for name in ["c", "a", "b"] {
        api.post("/v1/products", &json!({"product": name})).await;
    }
    let first = api.get("/v1/products?limit=2").await.body;
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|it| it["product"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&first), ["a", "b"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let next = format!("/v1/products?limit=2&cursor={cursor}");
    let next = api.get(&next).await.body;
    assert_eq!(names(&next), ["c"]);
    assert_eq!(next["next_cursor"], Value::Null);
    let other = api.get("/v1/products?cursor=00").await;
    assert_eq!(other.fields(), ["cursor"]);
}

/// Each change leaves the settings in effect as the database has them, however many come at once, and none undoes what the operator gives
/// meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_at_once_leave_in_effect_what_is_in_the_database() {
    const EACH: u32 = 20;
    let api = Arc::new(Api::new().await);
    let mut changes = Vec::new();
    for who in 1..=4_u32 {
        let api = api.clone();
        changes.push(tokio::spawn(async move {
            for i in 0..EACH {
                let settings = json!({"awake_window_s": who * 1_000 + i});
                let answer = api
                    .patch_product(METER, &json!({"settings": settings}))
                    .await;
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                let other = format!("/v1/products/{who}");
                api.patch_product(&other, &json!({"settings": settings}))
                    .await;
            }
        }));
    }
    let settings = api.state.config.clone();
    let reloads = tokio::task::spawn_blocking(move || {
        for i in 1..=EACH * 5 {
            settings.change(|config| {
                let mut new = Config::default();
                new.admission.limit_good = i;
                (config.reload(&new).config, ())
            });
        }
    });
    for change in changes {
        change.await.unwrap();
    }
    reloads.await.unwrap();
    let in_effect = api.state.config.get();
    assert_eq!(in_effect.admission.limit_good, EACH * 5);
    let stored = api.state.store.product_settings().await.unwrap();
    assert_eq!((stored.len(), &in_effect.products), (5, &stored));
}

/// Lets others go on so many times.
async fn yields(times: u32) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// Nobody waits for the answer any more: what was stored is in effect all the same, and in the audit log.
#[tokio::test]
async fn a_change_whose_caller_is_gone_comes_to_its_end() {
    let api = Api::new().await;
    let turn = api.state.products.clone().lock_owned().await;
    let create = json!({"product": "meter", "settings": {"awake_window_s": 10}});
    let before = Arc::strong_count(&api.state.products);
    let mut turns = 100;
    // until one has come so far that it waits for its turn, and goes on doing so
    while Arc::strong_count(&api.state.products) == before {
        tokio::select! {
            biased;
            answer = api.post("/v1/products", &create) => panic!("{answer:?}"),
            () = yields(turns) => {}
        }
        turns *= 2;
    }
    assert_eq!(api.in_effect("meter"), None);
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    api.state.config.follow(move |config| {
        let _ = told.send(config.products.len());
    });
    drop(turn);
    assert_eq!(heard.recv().await, Some(1));
    assert_eq!(api.in_effect("meter").unwrap().awake_window_s, Some(10));
    let rows = api.get("/v1/audit?operation=create_product").await.body;
    assert_eq!(rows["items"].as_array().unwrap().len(), 1, "{rows}");
}

/// A change of which nobody knows whether it was stored, because the database cannot even be read then.
#[tokio::test]
async fn what_is_stored_comes_into_effect_once_the_database_can_be_read() {
    let api = Api::new().await;
    let change = |seconds: u64| json!({"settings": {"awake_window_s": seconds}});
    api.patch_product(METER, &change(10)).await;
    let options = SqliteConnectOptions::new().filename(api.dir.path().join("cellwise.db"));
    let mut database = options.connect().await.unwrap();
    let mut run = async |statements: &'static str| {
        let ran = sqlx::raw_sql(statements).execute(&mut database).await;
        ran.unwrap();
    };
    run("UPDATE products SET settings = json_set(settings, '$.awake_window_s', 'x')").await;
    let to = change(20).to_string();
    let failed = api.json(Method::PATCH, METER, &to).await;
    assert!(failed.status.is_server_error(), "{failed:?}");
    assert_eq!(api.in_effect("meter").unwrap().awake_window_s, Some(10));
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    api.state.config.follow(move |config| {
        let _ = told.send(config.products["meter"].awake_window_s);
    });
    // it was stored
    run("UPDATE products SET settings = json_set(settings, '$.awake_window_s', 30)").await;
    assert_eq!(heard.recv().await, Some(Some(30)));
    assert!(!*api.state.products.lock().await);
}

#[tokio::test]
async fn the_audit_log_has_the_settings_before_and_after() {
    let api = Api::new().await;
    let change = |seconds: u64| json!({"settings": {"awake_window_s": seconds}});
    api.patch_product(METER, &change(10)).await;
    api.patch_product(METER, &change(20)).await;
    api.patch_product(METER, &change(20)).await;
    api.delete(METER).await;
    let rows = api.get("/v1/audit?target=products/meter").await.body;
    let rows = rows["items"].as_array().unwrap();
    let window = |row: &Value, when: &str| row[when]["settings"]["awake_window_s"].clone();
    let changes: Vec<_> = (rows.iter().rev())
        .map(|row| (window(row, "before"), window(row, "after")))
        .collect();
    let none = Value::Null;
    let expected = [
        (none.clone(), json!(10)),
        (json!(10), json!(20)),
        (none.clone(), none.clone()),
        (json!(20), none),
    ];
    assert_eq!(changes, expected, "{rows:?}");
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let api = Api::new().await;
    let create = json!({"product": "meter", "settings": {"awake_window_s": 10}});
    api.post("/v1/products", &create).await;
    let store = SqliteStore::open(api.dir.path()).await.unwrap();
    let stored = crate::store::Products::product_settings(&store).await;
    let window = stored.unwrap()["meter"].awake_window_s;
    assert_eq!(window, Some(10));
}
