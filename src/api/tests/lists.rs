//! Lists of devices (`text/csv`).

use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use serde_json::{Value, json};

use super::{super::router, Answer, Api, state};

impl Api {
    async fn list(&self, text: impl Into<Body>) -> Answer {
        self.send(
            Method::POST,
            "/v1/devices",
            Some("text/csv; charset=utf-8"),
            text.into(),
        )
        .await
    }
}

#[tokio::test]
async fn a_list_adds_devices_with_all_that_it_says() {
    let api = Api::new().await;
    let text = "\u{feff}Endpoint,product,site,TIME_ZONE,tag.Customer,identity,key\r\n\
        d0,meter,\"Lyon, \"\"north\"\"\",europe/paris,acme,one,000102030405060708090a0b0c0d0e0f\r\n\
        \r\n\
        d1,,,,,,\r\n\
        d2,valve,,,,,ffffffffffffffff";
    let answer = api.list(text).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(
        (&answer.body["rows"], &answer.body["added"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(answer.body["refused"], json!([]));
    let d0 = api.get("/v1/devices/d0").await.body;
    assert_eq!(
        (&d0["product"], &d0["psk_identity"]),
        (&json!("meter"), &json!("one"))
    );
    assert_eq!(
        (&d0["site"], &d0["time_zone"]),
        (&json!("Lyon, \"north\""), &json!("Europe/Paris"))
    );
    assert_eq!(d0["tags"], json!({"Customer": "acme"}));
    let d1 = api.get("/v1/devices/d1").await.body;
    assert_eq!(
        (&d1["product"], &d1["secure"]),
        (&json!("default"), &json!(false))
    );
    assert_eq!(api.get("/v1/devices/d2").await.body["psk_identity"], "d2");
    // again, with a field that says nothing and one that says something else
    let again = api
        .list("endpoint,product,site,tag.Customer\nd0,meter,,other\nd1,,,\n")
        .await;
    let expected = json!({"rows": 2, "added": 0, "unchanged": 1, "updated": 1, "keys_set": 0, "refused_total": 0,
        "refused": []});
    assert_eq!(again.body, expected);
    let d0 = api.get("/v1/devices/d0").await.body;
    assert_eq!(
        (&d0["site"], &d0["tags"]["Customer"]),
        (&json!("Lyon, \"north\""), &json!("other"))
    );
}

#[tokio::test]
async fn rows_that_are_wrong_are_refused_one_by_one() {
    let api = Api::new().await;
    api.post(
        "/v1/devices",
        &json!({"endpoint": "there", "product": "other"}),
    )
    .await;
    let text = b"endpoint,time_zone,key,tag.a\n\
        good,,,\n\
        a b,,,\n\
        short,,\n\
        zone,Bonn,,\n\
        key,,5e5e,\n\
        there,,,\n\
        text,,,\xff\n\
        ,,,\n\
        better,UTC,,\"x\n\
        y\"\n\
        best,UTC,,\"x, y\"\n\
        open,,,\"x\n";
    let answer = api.list(text.to_vec()).await.body;
    let refused: Vec<String> = (answer["refused"].as_array().unwrap().iter())
        .map(|it| format!("{} {} {}", it["line"], it["column"], it["detail"]))
        .collect();
    let expected = [
        "3 \"endpoint\" \"' ' is not possible",
        "4 null \"it has 3 fields, and the first line 4",
        "5 \"time_zone\" \"\\\"Bonn\\\" is no IANA name",
        "6 \"key\" \"a key has",
        "7 null \"device there is there with product",
        "8 \"tag.a\" \"it is not UTF-8",
        "9 \"endpoint\" \"an endpoint name has",
        "10 \"tag.a\" \"the value of tag a has",
        "13 \"tag.a\" \"the value of tag a has",
    ];
    assert_eq!(refused.len(), expected.len(), "{refused:#?}");
    for (refused, expected) in refused.iter().zip(expected) {
        assert!(refused.starts_with(expected), "{refused}");
        assert!(!refused.contains("5e5e"), "{refused}");
    }
    assert_eq!(
        (&answer["rows"], &answer["added"], &answer["refused_total"]),
        (&json!(11), &json!(2), &json!(9))
    );
}

#[tokio::test]
async fn the_first_line_has_to_name_the_columns() {
    let api = Api::new().await;
    for (text, expected) in [
        ("", "the list is empty"),
        ("\n\n", "the list is empty"),
        ("product\n", "there is no column endpoint"),
        ("endpoint;site\n", "there is no column \"endpoint;site\""),
        ("endpoint,note\n", "there is no column \"note\""),
        ("endpoint,site,Site\n", "column site is there twice"),
        ("endpoint,tag.a b\n", "column tag.…: a tag's key has"),
        (
            "endpoint,identity\n",
            "there is a column identity, and none",
        ),
    ] {
        let answer = api.list(text).await;
        assert_eq!(answer.fields(), ["columns"], "{text:?}");
        let detail = answer.body["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.starts_with(expected), "{detail}");
    }
    let many = format!("endpoint{}\n", ",site".repeat(300));
    assert_eq!(api.list(many).await.fields(), ["columns"]);
    let other = Body::from("endpoint\na\n");
    let other = api
        .send(Method::POST, "/v1/devices", Some("text/plain"), other)
        .await;
    assert_eq!(other.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(api.get("/v1/devices").await.body["items"], json!([]));
}

#[tokio::test]
async fn a_list_with_keys_needs_something_to_seal_them_with() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = state(dir.path(), |_| ()).await;
    state.vault = None;
    let api = Api {
        router: router(state.clone()),
        state,
        description: Value::Null,
        dir,
    };
    let answer = api.list("endpoint,key\na,\n").await;
    assert_eq!(answer.problem(), "no-credential-key");
    let answer = api.list("endpoint\na\n").await;
    assert_eq!(answer.body["added"], 1);
}

/// Parts of a body, and perhaps an error behind them.
fn parts(parts: Vec<String>, breaks_off: bool) -> Body {
    let parts = parts.into_iter().map(Ok);
    let end = breaks_off.then(|| Err(std::io::Error::other("gone")));
    Body::from_stream(futures_util::stream::iter(parts.chain(end)))
}

#[tokio::test]
async fn a_list_that_breaks_off_keeps_what_was_stored_and_may_be_sent_again() {
    let api = Api::new().await;
    let row = |i: u32| format!("d{i:05},s{i}\n");
    let rows: Vec<String> = (0..12_000).map(row).collect();
    let whole: Vec<String> = std::iter::once("endpoint,site\n".to_owned())
        .chain(rows)
        .collect();
    let answer = api.list(parts(whole.clone(), true)).await;
    assert_eq!(answer.problem(), "unreadable-body");
    assert!(
        answer.detail().ends_with(
            "the devices of 10000 rows before are stored, and the list may be sent again"
        ),
        "{}",
        answer.detail()
    );
    assert_eq!(api.get("/v1/devices/d09999").await.body["site"], "s9999");
    assert_eq!(
        api.get("/v1/devices/d10000").await.status,
        StatusCode::NOT_FOUND
    );
    let again = api.list(parts(whole, false)).await.body;
    assert_eq!(
        (&again["rows"], &again["added"], &again["unchanged"]),
        (&json!(12_000), &json!(2_000), &json!(10_000))
    );
}

#[tokio::test]
async fn so_many_refused_rows_are_told() {
    let api = Api::new().await;
    let text = format!("endpoint\n{}good\n", "a b\n".repeat(150));
    let answer = api.list(text).await;
    assert!(answer.headers.get(header::LOCATION).is_none());
    let answer = answer.body;
    assert_eq!(answer["refused"].as_array().unwrap().len(), 100);
    assert_eq!(
        (&answer["refused_total"], &answer["added"]),
        (&json!(150), &json!(1))
    );
}

#[tokio::test]
async fn a_list_has_so_many_rows_at_most() {
    let api = Api::new().await;
    let wrong = "a b\n".repeat(1_000_000);
    let answer = api.list(format!("endpoint\ngood\n{wrong}")).await;
    assert_eq!(answer.problem(), "too-large");
    assert_eq!(
        answer.detail(),
        "a list has at most 1000000 rows; send the others by themselves; the devices of 1 rows before are stored, and the \
         list may be sent again"
    );
    assert_eq!(api.get("/v1/devices/good").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_list_says_what_devices_speak_and_show_over_mqtt() {
    let api = Api::new().await;
    let text = "endpoint,key,Style,secret,token,password\n\
        m1,,iotda,topsecret1,,\n\
        m2,,ThingsPanel,,topsecret2,topsecret3\n\
        m3,,iotda,,,\n\
        m4,,,,,\n\
        m5,,,topsecret4,,\n\
        m6,,zigbee,topsecret5,,\n\
        m7,,iotda,short,,\n\
        m8,0001020304050607,iotda,topsecret6,,\n\
        m9,,thingspanel,,m1234567,\n\
        m1234567,,,,,\n\
        m10,,thingspanel,,topsecret2,\n";
    let answer = api.list(text).await.body;
    let refused: Vec<String> = (answer["refused"].as_array().unwrap().iter())
        .map(|it| format!("{} {} {}", it["line"], it["column"], it["detail"]))
        .collect();
    let expected = [
        "6 \"style\" \"it has a secret, a token or a password, and no style",
        "7 \"style\" \"it is none of iotda, thingspanel and quecthing",
        "8 \"style\" \"a secret has 8 to 128",
        "9 \"style\" \"a device that speaks MQTT has no pre-shared key",
        "10 null \"the token is taken",
        "12 null \"device m2 has the token already",
    ];
    assert_eq!(refused.len(), expected.len(), "{refused:#?}");
    for (refused, expected) in refused.iter().zip(expected) {
        assert!(refused.starts_with(expected), "{refused}");
        assert!(!refused.contains("topsecret"), "{refused}");
    }
    assert_eq!(answer["added"], 5);
    for (endpoint, protocol, mqtt) in [
        (
            "m1",
            "iotda",
            json!({"style": "iotda", "credential": "secret"}),
        ),
        (
            "m2",
            "thingspanel",
            json!({"style": "thingspanel", "credential": "token"}),
        ),
        (
            "m3",
            "iotda",
            json!({"style": "iotda", "credential": "certificate"}),
        ),
        ("m4", "lwm2m", Value::Null),
    ] {
        let device = api.get(&format!("/v1/devices/{endpoint}")).await.body;
        assert_eq!(
            (&device["protocol"], &device["mqtt"]),
            (&json!(protocol), &mqtt)
        );
    }
    let unnamed = api.list("endpoint,secret\nm1,topsecret1\n").await;
    assert!(
        unnamed.detail().contains("none that is called style"),
        "{unnamed:?}"
    );
}
