use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use serde_json::{Value, json};

use super::{Answer, Api};
use crate::{clock::UtcMillis, store::LimitChange};

impl Api {
    async fn patch_cell(&self, cell: u32, body: &Value) -> Answer {
        let path = format!("/v1/cells/{cell}");
        self.json(Method::PATCH, &path, &body.to_string()).await
    }

    async fn import(&self, rows: &str) -> Answer {
        let body = Body::from(rows.to_owned());
        self.send(Method::POST, "/v1/cells", Some("text/csv"), body)
            .await
    }
}

#[tokio::test]
async fn a_cell_gets_rules_before_any_device_was_there() {
    let api = Api::new().await;
    assert_eq!(api.get("/v1/cells/51").await.status, StatusCode::NOT_FOUND);
    let body = json!({
        "limit": 5,
        "note": "at the depot",
        "adaptive": true,
        "busy_hours": [{"days": ["mon"], "from": "17:00", "to": "20:00", "zone": "Europe/Berlin", "limit": 2}],
    });
    let answer = api.patch_cell(51, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.body, api.get("/v1/cells/51").await.body);
    for field in ["limit", "note", "adaptive", "busy_hours"] {
        assert_eq!(answer.body[field], body[field]);
    }
    let closed = json!({"closed_until": "2999-01-01T00:00:00Z", "reason": "mast works"});
    let answer = api.patch_cell(51, &closed).await;
    assert_eq!(answer.body["closed"]["reason"], "mast works");
    assert_eq!(answer.body["closed"]["until"], "2999-01-01T00:00:00.000Z");
    assert_eq!(answer.body["limit_now"], 0);
    assert_eq!(answer.body["limited_by"], "closed");
    let open = json!({
        "closed_until": null, "limit": null, "note": null, "adaptive": null, "busy_hours": null,
    });
    let answer = api.patch_cell(51, &open).await;
    assert_eq!(answer.body["limited_by"], "coverage");
    for field in [
        "limit",
        "limit_now",
        "note",
        "adaptive",
        "crowded",
        "closed",
    ] {
        assert_eq!(answer.body[field], Value::Null, "{field}");
    }
    assert_eq!(answer.body["busy_hours"], json!([]));
    assert_eq!(api.get("/v1/cells").await.body["items"][0]["cell_id"], 51);
}

#[tokio::test]
async fn rules_that_cannot_be_are_refused() {
    let api = Api::new().await;
    let busy = |limit: u32| json!({"from": "17:00", "to": "20:00", "zone": "UTC", "limit": limit});
    let until = "2999-01-01T00:00:00Z";
    for (body, field) in [
        (json!({}), "limit"),
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 1_001}), "limit"),
        (json!({"limit": "5"}), "limit"),
        (
            json!({"closed_until": "2020-01-01T00:00:00Z", "reason": "a"}),
            "closed_until",
        ),
        (
            json!({"closed_until": "tomorrow", "reason": "a"}),
            "closed_until",
        ),
        (json!({"closed_until": until}), "reason"),
        (json!({"closed_until": until, "reason": ""}), "reason"),
        (
            json!({"closed_until": until, "reason": "a".repeat(201)}),
            "reason",
        ),
        (
            json!({"closed_until": until, "reason": "a\u{1b}[2J"}),
            "reason",
        ),
        (json!({"closed_until": null, "reason": "a"}), "reason"),
        (json!({"reason": "a"}), "reason"),
        (json!({"note": "a".repeat(1_001)}), "note"),
        (json!({"busy_hours": [busy(0)]}), "busy_hours[0]"),
        (json!({"busy_hours": vec![busy(1); 21]}), "busy_hours"),
        (json!({"closed": true}), "closed"),
    ] {
        let answer = api.patch_cell(51, &body).await;
        assert_eq!(answer.fields(), [field], "{body}: {answer:?}");
    }
    assert_eq!(api.get("/v1/cells/51").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn many_cells_are_changed_by_rows_all_or_none() {
    let api = Api::new().await;
    let answer = api.import("cell,limit\n51,5\n52,x\n").await;
    assert_eq!(answer.fields(), ["line 3, limit"]);
    assert_eq!(api.get("/v1/cells/51").await.status, StatusCode::NOT_FOUND);
    let rows =
        "cell,limit,closed_until,reason,note\n51,5,,,\n52,,further_notice,\"mast, works\",\n";
    let answer = api.import(rows).await;
    assert_eq!(
        (answer.status, &answer.body["changed"]),
        (StatusCode::OK, &json!(2))
    );
    let cell = api.get("/v1/cells/52").await.body;
    assert_eq!(cell["closed"]["reason"], "mast, works");
    assert_eq!(cell["closed"]["until"], Value::Null);
    let answer = api.json(Method::POST, "/v1/cells", "{}").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn the_network_tells_of_outages_and_the_operator_has_the_last_word() {
    let api = Api::new().await;
    let works = json!({"closed_until": "further_notice", "reason": "works"});
    api.patch_cell(51, &works).await;
    let outage = json!({"cells": [51, 52, 52], "closed_until": "2999-01-01T00:00:00Z", "reason": "mast down"});
    let answer = api.post("/v1/outages", &outage).await;
    assert_eq!(
        (answer.status, &answer.body["cells"]),
        (StatusCode::OK, &json!(2))
    );
    let limited_by = async |cell: u32| {
        let path = format!("/v1/cells/{cell}");
        api.get(&path).await.body["limited_by"].clone()
    };
    assert_eq!(limited_by(51).await, "closed");
    assert_eq!(limited_by(52).await, "outage");
    let over = json!({"cells": [51, 52], "over": true});
    assert_eq!(api.post("/v1/outages", &over).await.status, StatusCode::OK);
    assert_eq!(limited_by(51).await, "closed");
    assert_eq!(limited_by(52).await, "coverage");
    api.post("/v1/outages", &outage).await;
    api.patch_cell(52, &json!({"closed_until": null})).await;
    assert_eq!(limited_by(52).await, "coverage");
    for (body, fields) in [
        (json!({"cells": [], "over": true}), vec!["cells"]),
        (
            json!({"cells": [1], "over": true, "reason": "a"}),
            vec!["reason"],
        ),
        (json!({"cells": [1]}), vec!["closed_until", "reason"]),
        (
            json!({"cells": [1], "closed_until": "further_notice", "reason": ""}),
            vec!["reason"],
        ),
    ] {
        let answer = api.post("/v1/outages", &body).await;
        assert_eq!(answer.fields(), fields, "{body}");
    }
}

#[tokio::test]
async fn each_change_of_a_crowded_cells_limit_is_told_with_its_reason() {
    let api = Api::new().await;
    let none = api.get("/v1/cells/7/limits").await;
    assert_eq!(none.status, StatusCode::OK);
    assert_eq!(none.body, json!({"points": []}));
    let change = |at, before, most, percent| LimitChange {
        cell: 7,
        at: UtcMillis(at),
        most,
        before,
        percent,
    };
    let fall = change(1_800_000_000_000, None, Some(35), 420);
    let end = change(1_800_000_060_000, Some(49), None, 210);
    api.state
        .store
        .add_limit_changes(&[fall, end])
        .await
        .unwrap();
    let told = api.get("/v1/cells/7/limits").await.body;
    let [fall, end] = told["points"].as_array().unwrap().as_slice() else {
        panic!("{told}");
    };
    assert_eq!(fall["at"], "2027-01-15T08:00:00.000Z");
    assert_eq!(
        (&fall["before"], &fall["limit"]),
        (&Value::Null, &json!(35))
    );
    assert_eq!(fall["percent"], 420);
    let detail = fall["detail"].as_str().unwrap();
    assert!(
        detail.contains("420 %") && detail.contains("35 devices"),
        "{detail}"
    );
    assert_eq!((&end["before"], &end["limit"]), (&json!(49), &Value::Null));
    let other = api.get("/v1/cells/8/limits").await;
    assert_eq!(other.body, json!({"points": []}));
}

#[tokio::test]
async fn the_cells_that_are_closed_are_listed_by_pages() {
    let api = Api::new().await;
    for cell in [1, 2, 3, 4] {
        let rules = match cell {
            2 => json!({"limit": 5}),
            _ => json!({"closed_until": "further_notice", "reason": "mast works"}),
        };
        let path = format!("/v1/cells/{cell}");
        let changed = api.json(Method::PATCH, &path, &rules.to_string()).await;
        assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    }
    let opened = json!({"closed_until": null}).to_string();
    api.json(Method::PATCH, "/v1/cells/4", &opened).await;
    let outage = json!({"cells": [5], "closed_until": "2099-01-01T00:00:00Z", "reason": "storm"});
    api.post("/v1/outages", &outage).await;
    let (mut found, mut path) = (Vec::new(), "/v1/cells?closed=true&limit=2".to_owned());
    loop {
        let page = api.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        let items = page.body["items"].as_array().unwrap();
        found.extend(items.iter().map(|it| it["cell_id"].as_i64().unwrap()));
        let Some(cursor) = page.body["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/cells?closed=true&limit=2&cursor={cursor}");
    }
    assert_eq!(found, [1, 3, 5]);
    let all = api.get("/v1/cells").await;
    assert_eq!(all.body["items"].as_array().unwrap().len(), 5, "{all:?}");
}
