use std::{net::SocketAddr, time::Duration};

use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{super::router, Api, state};
use crate::{
    ledger::{
        Announced, Binding, Change, Coverage, CoverageReading, CoverageSource, Happened,
        Lwm2mVersion, QueueMode, Registration, Stage, StageChange, UpgradeId,
    },
    strangers::Refusal,
};

#[tokio::test]
async fn a_device_is_added_once() {
    let api = Api::new().await;
    let body = json!({"endpoint": "urn:imei:867723032612345", "product": "meter"});
    let added = api.post("/v1/devices", &body).await;
    assert_eq!(added.status, StatusCode::CREATED);
    assert_eq!(
        added.header(header::LOCATION),
        "/v1/devices/urn:imei:867723032612345"
    );
    assert_eq!(added.body["registered"], false);
    for field in [
        "registration",
        "last_heard_at",
        "version",
        "coverage",
        "upgrade_id",
    ] {
        assert_eq!(added.body[field], Value::Null, "{field}");
    }
    let again = api.post("/v1/devices", &body).await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &added.body));
    let other = json!({"endpoint": "urn:imei:867723032612345"});
    let other = api.post("/v1/devices", &other).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    assert_eq!(other.problem(), "device-exists");
}

#[tokio::test]
async fn many_devices_are_added_in_one_call() {
    let api = Api::new().await;
    api.post("/v1/devices", &json!({"endpoint": "a", "product": "p"}))
        .await;
    let body = json!({"devices": [
        {"endpoint": "a"},
        {"endpoint": "b"},
        {"endpoint": "b"},
        {"endpoint": "c", "product": "q"},
    ]});
    let answer = api.post("/v1/devices", &body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        (&answer.body["added"], &answer.body["unchanged"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(answer.body["refused"][0]["field"], "devices[0]");
    let all: Vec<Value> = (0..10_001)
        .map(|i| json!({"endpoint": format!("x{i}")}))
        .collect();
    let many = api.post("/v1/devices", &json!({"devices": all})).await;
    assert_eq!(many.fields(), ["devices"]);
    let most = api.post("/v1/devices", &json!({"devices": all[1..]})).await;
    assert_eq!(most.body["added"], 10_000);
}

#[tokio::test]
async fn names_of_devices_and_products_are_checked() {
    let api = Api::new().await;
    for bad in [
        "", " ", "a b", "a/b", "a?b", "a#b", "a&b", "a%b", "a\nb", "a\0", "ä", "a\"b", "<a>",
        "a\\b", ".", "..",
    ] {
        let answer = api.post("/v1/devices", &json!({"endpoint": bad})).await;
        assert_eq!(answer.fields(), ["endpoint"], "{bad:?}");
        let many = json!({"devices": [{"endpoint": "ok"}, {"endpoint": bad}]});
        let answer = api.post("/v1/devices", &many).await;
        assert_eq!(answer.fields(), ["devices[1].endpoint"], "{bad:?}");
    }
    let long = "a".repeat(129);
    assert_eq!(
        api.post("/v1/devices", &json!({"endpoint": long}))
            .await
            .fields(),
        ["endpoint"]
    );
    for good in [
        "a",
        "urn:imei:867723032612345",
        "urn:dev:ops:00-11_b.c~!$'()*+,;=@",
        &long[1..],
    ] {
        let answer = api.post("/v1/devices", &json!({"endpoint": good})).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{good}");
        let path = answer.header(header::LOCATION).to_owned();
        assert_eq!(api.get(&path).await.body["endpoint"], good);
        let encoded: Vec<String> = good.bytes().map(|b| format!("%{b:02X}")).collect();
        let encoded = encoded.concat();
        let encoded = api.get(&format!("/v1/devices/{encoded}")).await;
        assert_eq!(encoded.body["endpoint"], good);
    }
    for bad in ["", "a b", "ä", "a/b"] {
        let answer = api
            .post("/v1/devices", &json!({"endpoint": "z", "product": bad}))
            .await;
        assert_eq!(answer.fields(), ["product"], "{bad:?}");
    }
}

#[tokio::test]
async fn one_or_many_but_not_both() {
    let api = Api::new().await;
    for (body, field) in [
        (json!({}), "endpoint"),
        (json!({"product": "p"}), "endpoint"),
        (json!({"endpoint": "a", "devices": []}), "endpoint"),
        (json!({"devices": []}), "devices"),
        (
            json!({"devices": [{"endpoint": "a"}], "product": "p"}),
            "product",
        ),
        (
            json!({"devices": [{"endpoint": "a", "extra": 1}]}),
            "devices[0].extra",
        ),
        (json!({"devices": [{"product": "a"}]}), "devices[0]"),
        (json!({"devices": "a"}), "devices"),
    ] {
        let answer = api.post("/v1/devices", &body).await;
        assert_eq!(answer.fields(), [field], "{body}");
    }
    assert_eq!(api.get("/v1/devices").await.body["items"], json!([]));
}

#[tokio::test]
async fn shows_registration_and_coverage() {
    let api = Api::new().await;
    let at = api.state.now();
    let registration = Registration {
        message_id: None,
        location: "1".to_owned(),
        peer: "192.0.2.7:5683"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into(),
        lifetime_s: 86_400,
        expires_at: at,
        registered_at: at,
        queue_mode: QueueMode::On,
        lwm2m_version: Some(Lwm2mVersion::V1_1),
        binding: Binding::parse(b"US"),
        announced: Some(Box::new(Announced {
            objects: "</3/0>,</4>;ver=1.3".to_owned(),
            root_path: Some("/lwm2m".to_owned()),
        })),
    };
    let coverage = Coverage {
        cell: Some(51_234),
        rsrp_dbm: Some(-101),
        sinr_db: None,
    };
    api.commit(&[
        Change::Registered {
            endpoint: "wild one/ü".to_owned(),
            registration,
            wake_ups: None,
            at,
        },
        Change::CoverageReported {
            endpoint: "wild one/ü".to_owned(),
            reading: CoverageReading { coverage, at },
            source: CoverageSource::Object,
        },
        Change::VersionReported {
            endpoint: "wild one/ü".to_owned(),
            version: crate::package::Version::new("V1").unwrap(),
            at,
        },
    ])
    .await;
    let device = api.get("/v1/devices/wild%20one%2F%C3%BC").await.body;
    assert_eq!(device["product"], "default");
    assert_eq!(device["registered"], true);
    assert_eq!(device["registration"]["peer"], "192.0.2.7:5683");
    assert_eq!(device["registration"]["lifetime_seconds"], 86_400);
    assert_eq!(device["registration"]["queue_mode"], true);
    assert_eq!(device["registration"]["lwm2m_version"], "1.1");
    assert_eq!(device["registration"]["binding"], "USQ");
    assert_eq!(device["registration"]["objects"], "</3/0>,</4>;ver=1.3");
    assert_eq!(device["registration"]["root_path"], "/lwm2m");
    assert_eq!(device["registration"]["expires_at"], at.to_string());
    assert_eq!(device["version"], "V1");
    assert_eq!(
        device["coverage"],
        json!({"cell_id": 51_234, "rsrp_dbm": -101, "sinr_db": null, "measured_at": at.to_string(),
            "source": "object"})
    );
    assert_eq!(device["last_heard_at"], at.to_string());
    let removed = api.delete("/v1/devices/wild%20one%2F%C3%BC").await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn lists_by_product_registration_and_beginning() {
    let api = Api::new().await;
    let body = json!({"devices": [
        {"endpoint": "a1", "product": "p"}, {"endpoint": "a2", "product": "q"}, {"endpoint": "b1", "product": "p"},
    ]});
    api.post("/v1/devices", &body).await;
    for (query, expected) in [
        ("product=p", "a1 b1"),
        ("q=a", "a1 a2"),
        ("q=a&product=q", "a2"),
        ("registered=false", "a1 a2 b1"),
        ("registered=true", ""),
        ("q=%25", ""),
    ] {
        let answer = api.get(&format!("/v1/devices?{query}")).await;
        let items = answer.body["items"].as_array().unwrap();
        let names: Vec<_> = items
            .iter()
            .map(|i| i["endpoint"].as_str().unwrap())
            .collect();
        assert_eq!(names.join(" "), expected, "{query}");
    }
    let wrong = api.get("/v1/devices?registered=maybe").await;
    assert_eq!(wrong.problem(), "bad-parameter");
}

#[tokio::test]
async fn a_device_gets_another_product() {
    let api = Api::new().await;
    api.post("/v1/devices", &json!({"endpoint": "a"})).await;
    let patch = async |path: &str, body: &str| api.json(Method::PATCH, path, body).await;
    let changed = patch("/v1/devices/a", "{\"product\":\"meter\"}").await;
    assert_eq!(changed.body["product"], "meter");
    let unknown = patch("/v1/devices/b", "{\"product\":\"meter\"}").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(
        patch("/v1/devices/a", "{\"product\":\"\"}").await.fields(),
        ["product"]
    );
    assert_eq!(
        patch("/v1/devices/a", "{}").await.problem(),
        "invalid-field"
    );
}

#[tokio::test]
async fn a_removed_device_is_gone_and_its_upgrade_failed() {
    let api = Api::new().await;
    let task = api.task(1).await.id();
    assert_eq!(
        api.delete("/v1/devices/d0").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        api.get("/v1/devices/d0").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        api.delete("/v1/devices/d0").await.status,
        StatusCode::NOT_FOUND
    );
    let upgrades = api.get(&format!("/v1/tasks/{task}/upgrades")).await.body;
    assert_eq!(upgrades["items"][0]["outcome"]["reason"], "device_removed");
    assert_eq!(
        api.get(&format!("/v1/tasks/{task}")).await.body["state"],
        "finished"
    );
}

const KEY: &str = "000102030405060708090a0b0c0d0e0f";

#[tokio::test]
async fn keys_are_taken_and_never_given_back() {
    let api = Api::new().await;
    let body = json!({"endpoint": "d0", "psk": {"key": KEY}});
    let added = api.post("/v1/devices", &body).await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    assert_eq!(added.body["secure"], true);
    assert_eq!(added.body["psk_identity"], "d0");
    let many = json!({"devices": [
        {"endpoint": "d1", "psk": {"identity": "one", "key": KEY}},
        {"endpoint": "d0", "psk": {"key": KEY}},
        {"endpoint": "d2", "psk": {"identity": "one", "key": KEY}},
        {"endpoint": "d3"},
    ]});
    let many = api.post("/v1/devices", &many).await;
    assert_eq!(
        (&many.body["added"], &many.body["keys_set"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(many.body["refused"][0]["field"], "devices[2].psk");
    let taken = api
        .json(
            Method::PATCH,
            "/v1/devices/d3",
            &format!(r#"{{"psk": {{"identity": "one", "key": "{KEY}"}}}}"#),
        )
        .await;
    assert_eq!(taken.problem(), "identity-taken");
    let set = api
        .json(
            Method::PATCH,
            "/v1/devices/d3",
            &format!(r#"{{"psk": {{"key": "{KEY}"}}, "product": "p"}}"#),
        )
        .await;
    assert_eq!(
        (&set.body["secure"], &set.body["psk_identity"]),
        (&json!(true), &json!("d3"))
    );
    let unset = api
        .json(
            Method::PATCH,
            "/v1/devices/d3",
            r#"{"psk": null, "secure": false}"#,
        )
        .await;
    assert_eq!(
        (&unset.body["secure"], &unset.body["psk_identity"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(unset.body["product"], "p");
    // neither in an answer nor in the database
    let list = api.get("/v1/devices").await;
    assert!(!list.body.to_string().contains(KEY));
    let raw = hex::decode(KEY).unwrap();
    for name in ["cellwise.db", "cellwise.db-wal"] {
        let bytes = std::fs::read(api.dir.path().join(name)).unwrap_or_default();
        assert!(
            !bytes.windows(raw.len()).any(|window| window == raw),
            "{name}"
        );
        assert!(
            !bytes
                .windows(KEY.len())
                .any(|window| window == KEY.as_bytes())
        );
    }
}

#[tokio::test]
async fn keys_that_do_not_do_are_refused() {
    let api = Api::new().await;
    let long = "ab".repeat(65);
    for key in ["", "00", "00010203040506", "xyz", &long, &KEY[1..]] {
        let refused = api
            .post(
                "/v1/devices",
                &json!({"endpoint": "d0", "psk": {"key": key}}),
            )
            .await;
        assert_eq!(refused.fields(), ["psk"], "{key}");
        assert!(
            key.is_empty() || !refused.body.to_string().contains(key),
            "{key}"
        );
    }
    // what is given in a key's place may be one
    for psk in [
        json!(KEY),
        json!([KEY]),
        json!({"kee": KEY}),
        json!({"identity": [KEY], "key": KEY}),
    ] {
        let body = json!({"endpoint": "d0", "psk": psk});
        let refused = api.post("/v1/devices", &body).await;
        assert!(refused.status.is_client_error(), "{psk}");
        assert!(!refused.body.to_string().contains(KEY), "{}", refused.body);
    }
    let name = "x".repeat(129);
    for identity in ["", "a\u{0}b", &name] {
        let body = json!({"endpoint": "d0", "psk": {"identity": identity, "key": KEY}});
        assert_eq!(
            api.post("/v1/devices", &body).await.fields(),
            ["psk"],
            "{identity:?}"
        );
    }
    let nothing = api.json(Method::PATCH, "/v1/devices/d0", "{}").await;
    assert_eq!(nothing.fields(), ["product"]);
    let dir = tempfile::tempdir().unwrap();
    let mut state = state(dir.path(), |_| ()).await;
    state.vault = None;
    let bare = Api {
        router: router(state.clone()),
        state,
        description: Value::Null,
        dir,
    };
    let refused = bare
        .post(
            "/v1/devices",
            &json!({"endpoint": "d0", "psk": {"key": KEY}}),
        )
        .await;
    assert_eq!(refused.problem(), "no-credential-key");
}

#[tokio::test]
async fn who_was_refused_is_listed_until_it_is_added() {
    let api = Api::new().await;
    let empty = api.get("/v1/devices/unknown").await;
    assert_eq!(empty.body, json!({"items": []}));
    let from = "192.0.2.7:5683".parse().unwrap();
    let refused = |name: &str, refusal| {
        api.state.strangers.refused(name.as_bytes(), refusal, from);
    };
    refused("d0", Refusal::UnknownEndpoint);
    refused("id-1", Refusal::WrongKey);
    refused("d0", Refusal::UnknownEndpoint);
    let listed = api.get("/v1/devices/unknown").await.body;
    let items = listed["items"].as_array().unwrap();
    let told = |it: &Value| json!([it["name"], it["reason"], it["address"], it["count"]]);
    let told: Vec<Value> = items.iter().map(told).collect();
    assert_eq!(
        told,
        [
            json!(["d0", "unknown_endpoint", "192.0.2.7:5683", 2]),
            json!(["id-1", "wrong_key", "192.0.2.7:5683", 1]),
        ]
    );
    api.post("/v1/devices", &json!({"endpoint": "d0"})).await;
    let listed = api.get("/v1/devices/unknown").await.body;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let psk = json!({"psk": {"identity": "id-1", "key": "00".repeat(16)}}).to_string();
    let patched = api.json(Method::PATCH, "/v1/devices/d0", &psk).await;
    assert_eq!(patched.status, StatusCode::OK, "{patched:?}");
    let listed = api.get("/v1/devices/unknown").await.body;
    assert_eq!(listed["items"], json!([]));
}

#[tokio::test]
async fn a_device_that_is_called_like_a_list_is_reached_with_an_escape() {
    let api = Api::new().await;
    for (name, path, list) in [
        ("unknown", "/v1/devices/%75nknown", json!({"items": []})),
        ("count", "/v1/devices/%63ount", json!({"count": 1})),
    ] {
        let added = api.post("/v1/devices", &json!({"endpoint": name})).await;
        assert_eq!(added.header(header::LOCATION), path);
        assert_eq!(api.get(path).await.body["endpoint"], name);
        assert_eq!(api.get(&format!("/v1/devices/{name}")).await.body, list);
        let product = json!({"product": "p"}).to_string();
        let patched = api.json(Method::PATCH, path, &product).await;
        assert_eq!(patched.body["product"], "p");
        assert_eq!(api.delete(path).await.status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn heard_last_is_when_it_was_heard_or_said_to_be_stored() {
    let mut api = Api::new().await;
    let task = api.task(3).await.id();
    let now = api.state.now();
    let ago = |seconds| now.before(Duration::from_secs(seconds));
    let registered = |endpoint: &str| Change::Registered {
        endpoint: endpoint.to_owned(),
        registration: Registration {
            message_id: None,
            location: endpoint.to_owned(),
            peer: "192.0.2.7:5683".parse::<SocketAddr>().unwrap().into(),
            lifetime_s: 86_400,
            expires_at: now + Duration::from_hours(24),
            registered_at: ago(50_000),
            queue_mode: QueueMode::Off,
            lwm2m_version: None,
            binding: Binding::default(),
            announced: None,
        },
        wake_ups: None,
        at: ago(50_000),
    };
    let waits = |upgrade| Change::Stage {
        upgrade: UpgradeId(upgrade),
        attempt: 1,
        change: StageChange {
            stage: Stage::WaitingForDevice,
            entered_at: now,
            deadline_at: now,
            queued_at: None,
            slot_deadline_at: None,
            cell: None,
            cell_limit: None,
            confirmed: false,
            download_errors: 0,
        },
        line: Some(crate::ledger::Line::sentence("begun")),
        at: now,
    };
    api.commit(&[
        registered("d0"),
        registered("d1"),
        waits(1),
        waits(2),
        waits(3),
    ])
    .await;
    api.hear([("d0", ago(600))]);
    let expected = [
        (json!("d0"), json!(ago(600).to_string()), json!(false)),
        (json!("d1"), json!(ago(50_000).to_string()), json!(true)),
        (json!("d2"), Value::Null, json!(true)),
    ];
    let told = |device: &Value| {
        let field = |name: &str| device[name].clone();
        (
            field("endpoint"),
            field("last_heard_at"),
            field("last_heard_is_stored"),
        )
    };
    let list = api.get("/v1/devices").await.body;
    let listed: Vec<_> = list["items"].as_array().unwrap().iter().map(told).collect();
    assert_eq!(listed, expected);
    for (number, expected) in expected.iter().enumerate() {
        let device = api.get(&format!("/v1/devices/d{number}")).await.body;
        assert_eq!(told(&device), *expected);
    }
    let list = api.get(&format!("/v1/tasks/{task}/upgrades")).await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
    for (upgrade, expected) in [
        (1, "registered, heard 10 min ago; 0 s left"),
        (
            2,
            "registered, heard 13 h ago, as far as is stored; 0 s left",
        ),
        (3, "not registered, never heard; 0 s left"),
    ] {
        let shown = api.get(&format!("/v1/upgrades/{upgrade}")).await.body;
        assert_eq!(shown["waiting_for"], expected);
    }
}

#[tokio::test]
async fn a_device_behind_a_gateway_says_what_it_waits_for() {
    let api = Api::new().await;
    api.task(1).await;
    let gateway = json!({"endpoint": "gw-1", "mqtt": {"style": "iotda", "certificate": true}});
    api.post("/v1/devices", &gateway).await;
    let behind = json!({"mqtt": {"style": "iotda", "gateway": true}, "via": "gw-1"});
    let behind = behind.to_string();
    let behind = api.json(Method::PATCH, "/v1/devices/d0", &behind).await;
    assert_eq!(behind.status, StatusCode::OK, "{behind:?}");
    let now = api.state.now();
    let gateway = Some("gw-1".to_owned());
    let waits = async |happened: Happened| {
        let begins = Change::Stage {
            upgrade: UpgradeId(1),
            attempt: 1,
            change: StageChange {
                stage: Stage::WaitingForDevice,
                entered_at: now,
                deadline_at: now,
                queued_at: None,
                slot_deadline_at: None,
                cell: None,
                cell_limit: None,
                confirmed: false,
                download_errors: 0,
            },
            line: Some(Box::new(happened.into())),
            at: now,
        };
        api.commit(&[begins]).await;
        api.get("/v1/upgrades/1").await.body["waiting_for"].clone()
    };
    let reached = "reached through its gateway, never heard; 0 s left";
    assert_eq!(waits(Happened::Connected).await, reached);
    let offline = Happened::GatewayOffline {
        gateway: gateway.clone(),
    };
    assert_eq!(
        waits(offline).await,
        format!("gateway gw-1 was offline; {reached}")
    );
    let away = Happened::ChildOffline { gateway };
    assert_eq!(
        waits(away).await,
        format!("gateway gw-1 says that it is offline; {reached}")
    );
}

#[tokio::test]
async fn a_device_s_upgrades_are_listed_also_when_it_is_gone() {
    let api = Api::new().await;
    let first = api.task(2).await;
    let body = json!({"name": "again", "package_id": first.body["package_id"], "devices": ["d1"]});
    let second = api.post("/v1/tasks", &body).await;
    api.fail(2, first.id()).await;
    let path = "/v1/devices/d1/upgrades";
    let list = api.get(&format!("{path}?limit=1")).await.body;
    let newest = &list["items"][0];
    assert_eq!(newest["id"], 3);
    assert_eq!(newest["task_id"], second.id());
    assert_eq!(newest["task_name"], "again");
    assert_eq!(newest["version"], "V2");
    assert_eq!(newest["state"], "pending");
    let cursor = list["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("{path}?cursor={cursor}")).await.body;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest["items"][0]["outcome"]["reason"], "device_not_heard");
    assert_eq!(rest["next_cursor"], Value::Null);
    assert_eq!(
        api.delete("/v1/devices/d1").await.status,
        StatusCode::NO_CONTENT
    );
    let list = api.get(path).await.body;
    assert_eq!(list["items"][0]["outcome"]["reason"], "device_removed");
    // nobody's, and those of one that has the name of a list
    let nobody = api.get("/v1/devices/nobody/upgrades").await;
    assert_eq!(
        (nobody.status, nobody.problem()),
        (StatusCode::NOT_FOUND, "not-found")
    );
    api.post("/v1/devices", &json!({"endpoint": "unknown"}))
        .await;
    for path in [
        "/v1/devices/unknown/upgrades",
        "/v1/devices/%75nknown/upgrades",
    ] {
        assert_eq!(api.get(path).await.body["items"], json!([]));
    }
    for wrong in ["limit=0", "cursor=00"] {
        let refused = api.get(&format!("{path}?{wrong}")).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn devices_are_listed_and_counted_by_a_filter() {
    let api = Api::new().await;
    let devices = json!({"devices": [
        {"endpoint": "a1", "product": "p"},
        {"endpoint": "a2", "product": "q"},
        {"endpoint": "b", "product": "p"},
    ]});
    api.post("/v1/devices", &devices).await;
    let names = async |query: &str| {
        let answer = api.get(&format!("/v1/devices?{query}")).await;
        let items = answer.body["items"].as_array().unwrap().clone();
        let names = items.iter().map(|item| item["endpoint"].as_str().unwrap());
        let names: Vec<String> = names.map(str::to_owned).collect();
        let count = api.get(&format!("/v1/devices/count?{query}")).await;
        assert_eq!(count.body, json!({"count": names.len()}), "{query}");
        names
    };
    assert_eq!(names("filter=endpoint==a*").await, ["a1", "a2"]);
    assert_eq!(names("filter=endpoint==a*&product=p").await, ["a1"]);
    assert_eq!(
        names("filter=product%3D%3Dp%20or%20endpoint==a2")
            .await
            .len(),
        3
    );
    assert_eq!(
        names("filter=created%3E-1h&q=b&registered=false").await,
        ["b"]
    );
    let first = api.get("/v1/devices?filter=product==p&limit=1").await;
    assert_eq!(first.body["items"][0]["endpoint"], "a1");
    let cursor = first.body["next_cursor"].as_str().unwrap();
    let next = api
        .get(&format!(
            "/v1/devices?filter=product==p&limit=1&cursor={cursor}"
        ))
        .await;
    assert_eq!(next.body["items"][0]["endpoint"], "b");
    assert_eq!(next.body["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_faulty_filter_is_told_with_its_place() {
    let api = Api::new().await;
    for path in ["/v1/devices", "/v1/devices/count"] {
        let answer = api
            .get(&format!("{path}?filter=product==p;cell==abc"))
            .await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(answer.fields(), ["filter"]);
        let detail = "filter: at character 18: a whole number is expected for cell";
        assert!(answer.detail().starts_with(detail), "{answer:?}");
    }
}

#[tokio::test]
async fn what_devices_show_over_mqtt_is_taken_and_never_shown() {
    let api = Api::new().await;
    let body = json!({"endpoint": "d0", "mqtt": {"style": "iotda", "secret": "topsecret0"}});
    let added = api.post("/v1/devices", &body).await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    assert_eq!(added.body["protocol"], "iotda");
    let shown = json!({"style": "iotda", "credential": "secret"});
    assert_eq!(added.body["mqtt"], shown);
    assert_eq!(added.body["secure"], false);
    let many = json!({"devices": [
        {"endpoint": "d1", "mqtt": {"style": "thingspanel", "token": "topsecret1", "password": "topsecret2"}},
        {"endpoint": "d2", "mqtt": {"style": "thingspanel", "token": "topsecret1"}},
        {"endpoint": "d0", "mqtt": {"style": "thingspanel", "certificate": true}},
        {"endpoint": "d3"},
    ]});
    let many = api.post("/v1/devices", &many).await;
    assert_eq!(many.body["added"], 2);
    assert_eq!(many.body["refused"][0]["field"], "devices[1].mqtt");
    assert_eq!(many.body["refused"][1]["field"], "devices[2].mqtt");
    let patch = async |device: &str, body: &str| {
        let path = format!("/v1/devices/{device}");
        api.json(Method::PATCH, &path, body).await
    };
    let taken = patch(
        "d3",
        r#"{"mqtt": {"style": "thingspanel", "token": "topsecret1"}}"#,
    )
    .await;
    assert_eq!(taken.problem(), "identity-taken");
    let set = patch("d3", r#"{"mqtt": {"style": "iotda", "certificate": true}}"#).await;
    assert_eq!(set.body["mqtt"]["credential"], "certificate");
    let unset = patch("d3", r#"{"mqtt": null}"#).await;
    assert_eq!(
        (&unset.body["protocol"], &unset.body["mqtt"]),
        (&json!("lwm2m"), &Value::Null)
    );
    for (mqtt, credential) in [
        (
            r#"{"style": "quecthing", "secret": "topsecret3"}"#,
            "secret",
        ),
        (r#"{"style": "quecthing", "token": "topsecret4"}"#, "token"),
        (
            r#"{"style": "quecthing", "certificate": true}"#,
            "certificate",
        ),
    ] {
        let set = patch("d3", &format!(r#"{{"mqtt": {mqtt}}}"#)).await;
        let shown = json!({"style": "quecthing", "credential": credential});
        assert_eq!(
            (&set.body["protocol"], &set.body["mqtt"]),
            (&json!("quecthing"), &shown)
        );
    }
    let filtered = api.get("/v1/devices?filter=protocol==quecthing").await;
    assert_eq!(filtered.body["items"][0]["endpoint"], "d3");
    let filtered = api.get("/v1/devices?filter=protocol==thingspanel").await;
    assert_eq!(filtered.body["items"][0]["endpoint"], "d1");
    let list = api.get("/v1/devices").await;
    assert!(!list.body.to_string().contains("topsecret"));
    for file in std::fs::read_dir(api.dir.path()).unwrap() {
        let file = file.unwrap().path();
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes.windows(9).any(|it| it == b"topsecret");
        assert!(!found, "{}", file.display());
    }
}

#[tokio::test]
async fn what_cannot_be_shown_over_mqtt_is_refused_without_telling_it() {
    let api = Api::new().await;
    for (mqtt, endpoint) in [
        (json!({"style": "iotda"}), "d0"),
        (json!({"style": "iotda", "secret": "short"}), "d0"),
        (json!({"style": "iotda", "secret": "with a space"}), "d0"),
        (json!({"style": "iotda", "token": "topsecret"}), "d0"),
        (
            json!({"style": "iotda", "secret": "topsecret", "certificate": true}),
            "d0",
        ),
        (
            json!({"style": "iotda", "secret": "topsecret", "password": "topsecret"}),
            "d0",
        ),
        (json!({"style": "thingspanel", "secret": "topsecret"}), "d0"),
        (
            json!({"style": "thingspanel", "token": "topsecret/+"}),
            "d0",
        ),
        (json!({"style": "thingspanel", "certificate": false}), "d0"),
        (json!({"style": "quecthing"}), "d0"),
        (json!({"style": "quecthing", "gateway": true}), "d0"),
        (
            json!({"style": "quecthing", "secret": "topsecret", "token": "topsecret"}),
            "d0",
        ),
        (
            json!({"style": "quecthing", "secret": "topsecret", "password": "topsecret"}),
            "d0",
        ),
        (json!({"style": "iotda", "secret": "topsecret"}), "d+0"),
    ] {
        let body = json!({"endpoint": endpoint, "mqtt": mqtt});
        let refused = api.post("/v1/devices", &body).await;
        assert_eq!(refused.problem(), "invalid-field", "{mqtt}");
        assert!(!refused.body.to_string().contains("topsecret"));
    }
    let both = json!({"endpoint": "d0", "psk": {"key": KEY},
        "mqtt": {"style": "iotda", "secret": "topsecret"}});
    assert_eq!(
        api.post("/v1/devices", &both).await.problem(),
        "invalid-field"
    );
    let other = json!({"endpoint": "d0", "mqtt": {"style": "topsecret", "secret": 7}});
    let refused = api.post("/v1/devices", &other).await;
    assert!(
        !refused.body.to_string().contains("topsecret"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn devices_are_reached_through_gateways() {
    let api = Api::new().await;
    let many = json!({"devices": [
        {"endpoint": "gw-1", "mqtt": {"style": "iotda", "certificate": true}},
        {"endpoint": "c1", "mqtt": {"style": "iotda", "gateway": true}, "via": "gw-1"},
        {"endpoint": "c2", "mqtt": {"style": "iotda", "gateway": true}},
        {"endpoint": "c3", "mqtt": {"style": "iotda", "gateway": true}, "via": "nobody"},
    ]});
    let many = api.post("/v1/devices", &many).await;
    assert_eq!(many.body["added"], 3, "{many:?}");
    assert_eq!(many.body["refused"][0]["field"], "devices[3].via");
    let c1 = api.get("/v1/devices/c1").await.body;
    assert_eq!(c1["via"], "gw-1");
    assert_eq!(c1["mqtt"]["credential"], "gateway");
    let gateway = api.get("/v1/devices/gw-1").await.body;
    assert_eq!(gateway["children"], json!({"total": 1, "first": ["c1"]}));
    let patch = async |endpoint: &str, body: &str| {
        let path = format!("/v1/devices/{endpoint}");
        api.json(Method::PATCH, &path, body).await
    };
    let set = patch("c2", r#"{"via": "gw-1"}"#).await;
    assert_eq!(
        (set.status, &set.body["via"]),
        (StatusCode::OK, &json!("gw-1"))
    );
    let listed = api.get("/v1/devices?filter=via%3D%3Dgw-1").await.body;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    let refused = patch("gw-1", r#"{"via": "gw-1"}"#).await;
    assert_eq!(refused.problem(), "gateway-refused");
    let kept = api.delete("/v1/devices/gw-1").await;
    assert_eq!(
        (kept.status, kept.problem()),
        (StatusCode::CONFLICT, "gateway-in-use")
    );
    let alone = json!({"endpoint": "c4", "mqtt": {"style": "iotda", "gateway": true}, "via": "c1"});
    assert_eq!(
        api.post("/v1/devices", &alone).await.problem(),
        "gateway-refused"
    );
    for (body, field) in [
        (
            json!({"endpoint": "d", "mqtt": {"style": "thingspanel", "gateway": true}}),
            "mqtt",
        ),
        (
            json!({"endpoint": "d", "mqtt": {"style": "iotda", "gateway": true, "secret": "topsecret"}}),
            "mqtt",
        ),
        (json!({"endpoint": "d", "via": "a b"}), "via"),
    ] {
        let refused = api.post("/v1/devices", &body).await;
        assert_eq!(refused.body["errors"][0]["field"], field, "{refused:?}");
    }
    let unset = patch("c2", r#"{"via": null}"#).await;
    assert_eq!(unset.body["via"], Value::Null);
}

#[tokio::test]
async fn one_gateway_has_a_limit_of_its_own() {
    let api = Api::new().await;
    let gateway = json!({"endpoint": "gw-1", "mqtt": {"style": "iotda", "certificate": true}});
    let added = api.post("/v1/devices", &gateway).await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    let url = "/v1/devices/gw-1";
    assert_eq!(api.get(url).await.body["gateway_limit"], Value::Null);
    let patch = async |body: Value| api.json(Method::PATCH, url, &body.to_string()).await;
    let set = patch(json!({"gateway_limit": 2})).await;
    assert_eq!(
        (set.status, &set.body["gateway_limit"]),
        (StatusCode::OK, &json!(2))
    );
    // it stays with what is changed otherwise
    let other = patch(json!({"site": "north"})).await;
    assert_eq!(other.body["gateway_limit"], 2);
    let listed = api.get("/v1/devices").await.body;
    assert_eq!(listed["items"][0]["gateway_limit"], 2);
    for wrong in [json!(0), json!(1_000_001)] {
        let refused = patch(json!({"gateway_limit": wrong})).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.body["errors"][0]["field"], "gateway_limit");
    }
    let unset = patch(json!({"gateway_limit": null})).await;
    assert_eq!(unset.body["gateway_limit"], Value::Null);
    // the audit log has both
    let log = api.get("/v1/audit?target=devices%2Fgw-1").await.body;
    let change = |at: usize| {
        let entry = &log["items"][at];
        (
            &entry["before"]["gateway_limit"],
            &entry["after"]["gateway_limit"],
        )
    };
    assert_eq!(change(0), (&json!(2), &Value::Null), "{log}");
    assert_eq!(change(2), (&Value::Null, &json!(2)), "{log}");
}

#[tokio::test]
async fn a_token_that_is_another_device_s_name_is_refused() {
    let api = Api::new().await;
    let token = |endpoint: &str, token: &str| json!({"endpoint": endpoint, "mqtt": {"style": "thingspanel", "token": token}});
    api.post("/v1/devices", &json!({"endpoint": "pump-0001"}))
        .await;
    let refused = api.post("/v1/devices", &token("d1", "pump-0001")).await;
    assert_eq!(refused.problem(), "identity-taken");
    assert_eq!(
        api.get("/v1/devices/d1").await.status,
        StatusCode::NOT_FOUND
    );
    // its own name says nothing of another one; what is no name may be a token
    let many = json!({"devices": [
        token("pump-0002", "pump-0002"), token("d2", "pump-0003"), token("pump-0003", "to-ken-3?"), token("d4", "pump-0001"),
        token("d5", "free-token"),
    ]});
    let many = api.post("/v1/devices", &many).await.body;
    assert_eq!(many["added"], 3);
    let refused: Vec<&Value> = (many["refused"].as_array().unwrap().iter())
        .map(|it| &it["field"])
        .collect();
    assert_eq!(refused, ["devices[1].mqtt", "devices[3].mqtt"]);
    assert!(!many["refused"].to_string().contains("pump"));
    let patched = api
        .json(
            Method::PATCH,
            "/v1/devices/d5",
            r#"{"mqtt": {"style": "thingspanel", "token": "pump-0003"}}"#,
        )
        .await;
    assert_eq!(patched.problem(), "identity-taken");
    // nor may a name that connects be another one's token
    let named = json!({"endpoint": "free-token", "mqtt": {"style": "iotda", "certificate": true}});
    let refused = api.post("/v1/devices", &named).await;
    assert_eq!(refused.problem(), "identity-taken");
    assert!(!refused.body.to_string().contains("d5"), "{refused:?}");
    let named = api
        .post("/v1/devices", &json!({"endpoint": "free-token"}))
        .await;
    assert_eq!(named.status, StatusCode::CREATED, "{named:?}");
    let patched = api
        .json(
            Method::PATCH,
            "/v1/devices/free-token",
            r#"{"mqtt": {"style": "iotda", "certificate": true}}"#,
        )
        .await;
    assert_eq!(patched.problem(), "identity-taken");
    let own = api
        .post("/v1/devices", &token("pump-0002", "pump-0002"))
        .await;
    assert_eq!(own.status, StatusCode::OK, "{own:?}");
}

#[tokio::test]
async fn a_gateway_is_shown_to_whoever_sees_it() {
    let api = Api::new().await;
    let devices = json!({"devices": [
        {"endpoint": "gw-1", "site": "south", "mqtt": {"style": "iotda", "certificate": true}},
        {"endpoint": "c1", "site": "north", "mqtt": {"style": "iotda", "gateway": true}, "via": "gw-1"},
    ]});
    assert_eq!(api.post("/v1/devices", &devices).await.body["added"], 2);
    for (name, filter, via) in [
        ("north", "site==north", Value::Null),
        ("both", "site=in=(north,south)", json!("gw-1")),
    ] {
        let grants = json!([{"role": "operator", "filter": filter}]);
        let (_, token) = api.token(name, grants).await;
        let shown = api.get_as(&token, "/v1/devices/c1").await.body;
        assert_eq!(shown["via"], via, "{name}");
        let listed = api.get_as(&token, "/v1/devices?q=c1").await.body;
        assert_eq!(listed["items"][0]["via"], via, "{name}");
    }
    // how many are reached through it is told by its own answer alone
    let grants = json!([{"role": "operator", "filter": "site==south"}]);
    let (_, south) = api.token("south", grants).await;
    let kept = api
        .ask(&south, Method::DELETE, "/v1/devices/gw-1", "")
        .await;
    assert_eq!(kept.problem(), "gateway-in-use");
    assert!(!kept.body["detail"].as_str().unwrap().starts_with('1'));
}

#[tokio::test]
async fn how_a_device_is_connected_over_mqtt_is_shown() {
    let mut api = Api::new().await;
    for endpoint in ["mqtt-1", "mqtt-2"] {
        let body =
            json!({"endpoint": endpoint, "mqtt": {"style": "iotda", "secret": "topsecret0"}});
        api.post("/v1/devices", &body).await;
    }
    let since = api.state.now().before(Duration::from_mins(5));
    api.hear([("mqtt-1", since)]);
    let connected = json!({
        "since": since.to_string(), "peer": "192.0.2.7:50000", "version": "3.1.1", "client_id": "meter-7_0_0_2026113009",
    });
    let one = api.get("/v1/devices/mqtt-1").await.body;
    assert_eq!(one["connected"], connected);
    let list = api.get("/v1/devices").await.body;
    assert_eq!(list["items"][0]["connected"], connected);
    assert_eq!(list["items"][1]["connected"], Value::Null);
}
