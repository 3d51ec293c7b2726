//! Whom a vulnerability concerns, over HTTP, and exports that others verify.

use std::{fs, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Api, Evidence, TOKEN};
use crate::{
    access::{Caller, Grant, Role, Tenants},
    api::{archive, router},
    ledger::{Change, Outcome, Success, TaskId, UpgradeId},
    package::Version,
    signing::{
        Algorithm, SigningKey,
        tests::{make_key, openssl},
    },
};

const CVE: &str = "CVE-2026-1000";

fn runs(api: &Api, endpoint: &str, version: &str) -> Change {
    Change::VersionReported {
        endpoint: endpoint.to_owned(),
        version: Version::new(version).unwrap(),
        at: api.state.now(),
    }
}

/// Package V2 of product `p` mends it, and one of product `q`. Of `p` there are d0 (reached), d1 (its upgrade has failed), d2 (it
/// waits), d3 (never heard), d4 (excluded), of `q` e0 (in no task; its name is not one for a spreadsheet).
async fn fleet() -> Api {
    let api = Api::new().await;
    let task = api.task(3).await.id();
    for (product, endpoint) in [("p", "d3"), ("p", "d4"), ("q", "=e0,'x'")] {
        let body = json!({"endpoint": endpoint, "product": product});
        let added = api.post("/v1/devices", &body).await;
        assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    }
    api.upload(&format!("product=q&version=V9&cves_mended={CVE}"), b"q")
        .await;
    let body = json!({"cves_mended": [CVE]}).to_string();
    api.json(Method::PATCH, "/v1/packages/1", &body).await;
    api.post(
        "/v1/exclusions",
        &json!({"endpoints": ["d4"], "reason": "lab"}),
    )
    .await;
    api.fail(2, task).await;
    api.commit(&[
        runs(&api, "d0", "V2"),
        runs(&api, "d1", "V1.9"),
        runs(&api, "d2", "V1.9"),
        runs(&api, "d4", "V1.9"),
        runs(&api, "=e0,'x'", "V8"),
        Change::Ended {
            upgrade: UpgradeId(1),
            task: TaskId(task),
            attempt: 1,
            outcome: Outcome::Succeeded(Success::Upgraded),
            facts: Box::default(),
            retry_at: None,
            at: api.state.now(),
        },
    ])
    .await;
    api
}

fn told(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap();
    let told = items.iter().map(|item| {
        let text = |name: &str| item[name].as_str().unwrap().to_owned();
        format!("{} {} {}", text("endpoint"), text("standing"), text("why"))
    });
    told.collect()
}

const ALL: [&str; 6] = [
    "d0 mended reached",
    "d1 affected failed",
    "d2 affected queued",
    "d3 unknown never_heard",
    "d4 affected excluded",
    "=e0,'x' affected not_in_task",
];

#[tokio::test]
async fn each_device_says_whether_it_was_reached_and_why_not() {
    let api = fleet().await;
    let page = api.get(&format!("/v1/evidence?cve={CVE}")).await.body;
    assert_eq!(told(&page), ALL);
    assert_eq!(page["next_cursor"], Value::Null);
    assert_eq!(
        page["products"],
        json!([{"product": "p", "mended_by": ["V2"]}, {"product": "q", "mended_by": ["V9"]}])
    );
    let [reached, failed, _, never, excluded, _] = &page["items"].as_array().unwrap()[..] else {
        panic!("{page}");
    };
    assert_eq!(reached["reached"]["task_id"], 1);
    assert_eq!(reached["reached"]["task_name"], "night");
    assert_eq!(reached["reached"]["version"], "V2");
    assert!(reached["reached"]["at"].is_string());
    assert_eq!(failed["latest"]["reason"], "device_not_heard");
    assert_eq!(
        (&never["version"], &never["latest"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(excluded["exclusion_reason"], "lab");
    let counted = api.get(&format!("/v1/evidence/count?cve={CVE}")).await;
    let expected = json!({"devices": 6, "mended": 1, "affected": 4, "unknown": 1,
        "why": {"reached": 1, "failed": 1, "queued": 1, "never_heard": 1, "excluded": 1, "not_in_task": 1}});
    assert_eq!(counted.body["counts"], expected);
}

#[tokio::test]
async fn pages_of_every_length_and_standing_follow_each_other() {
    let api = fleet().await;
    for standing in [
        "",
        "&standing=mended",
        "&standing=affected",
        "&standing=unknown",
    ] {
        let word = standing.rsplit('=').next().unwrap();
        let expected: Vec<&str> = (ALL.into_iter())
            .filter(|line| standing.is_empty() || line.contains(word))
            .collect();
        for limit in 1..=7 {
            let path = format!("/v1/evidence?cve={CVE}&limit={limit}{standing}");
            let mut seen = Vec::new();
            let mut cursor = String::new();
            loop {
                let page = api.get(&format!("{path}{cursor}")).await.body;
                seen.extend(told(&page));
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(seen, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn what_nobody_mends_is_not_there() {
    let api = fleet().await;
    for path in ["/v1/evidence", "/v1/evidence/count", "/v1/evidence/export"] {
        for (query, status) in [
            ("", 400),
            ("?cve=x", 422),
            ("?cve=CVE-2026-1000&cve=CVE-2026-1000", 400),
            ("?cve=CVE-2026-1000&x=1", 400),
        ] {
            if path.ends_with("export") && status == 422 {
                continue; // it has no key
            }
            let refused = api.get(&format!("{path}{query}")).await;
            assert_eq!(refused.status.as_u16(), status, "{path}{query}");
        }
    }
    for path in ["/v1/evidence", "/v1/evidence/count"] {
        let refused = api.get(&format!("{path}?cve=CVE-2026-9999")).await;
        assert_eq!(refused.problem(), "not-found");
    }
    for query in ["limit=0", "cursor=x", "cursor=65766964656e636520"] {
        let refused = api.get(&format!("/v1/evidence?cve={CVE}&{query}")).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
    }
    let refused = api.get(&format!("/v1/evidence/export?cve={CVE}")).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.problem(), "no-signing-key");
}

async fn export(api: &Api, format: &str) -> Vec<u8> {
    let path = format!("/v1/evidence/export?cve={CVE}&format={format}");
    let request = Request::get(&path).header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    let request = request.body(Body::empty()).unwrap();
    let response = api.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/x-tar"
    );
    let length = response.headers()[header::CONTENT_LENGTH].to_str().unwrap();
    let length: usize = length.parse().unwrap();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert_eq!(bytes.len(), length);
    bytes.to_vec()
}

/// With the programs alone that docs/evidence.md names.
#[tokio::test]
async fn an_export_is_verified_by_tar_and_openssl() {
    let mut api = fleet().await;
    for (algorithm, verify) in [
        (
            Algorithm::Ed25519,
            "pkeyutl -verify -pubin -inkey carrier.pub.pem -rawin -in manifest.json -sigfile manifest.sig",
        ),
        (
            Algorithm::EcdsaP256,
            "dgst -sha256 -verify carrier.pub.pem -signature manifest.sig manifest.json",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let key = make_key(dir.path(), "carrier", algorithm);
        let private = SigningKey::from_pem(&fs::read(dir.path().join("carrier.pem")).unwrap());
        let evidence = Evidence::new(Some(private.unwrap()), api.dir.path());
        api.state.evidence = Arc::new(evidence);
        api.router = router(api.state.clone());
        for format in ["csv", "json"] {
            let tar = export(&api, format).await;
            fs::write(dir.path().join("evidence.tar"), &tar).unwrap();
            let unpacked = std::process::Command::new("tar")
                .args(["xf", "evidence.tar"])
                .current_dir(dir.path())
                .status();
            assert!(unpacked.unwrap().success());
            openssl(dir.path(), verify);
            let name = format!("evidence.{format}");
            let digest = openssl(dir.path(), &format!("dgst -sha256 -r {name}"));
            let manifest = fs::read(dir.path().join("manifest.json")).unwrap();
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            let sha256 = manifest["sha256"].as_str().unwrap();
            assert!(String::from_utf8(digest).unwrap().starts_with(sha256));
            assert_eq!(
                (&manifest["cve"], &manifest["file"]),
                (&json!(CVE), &json!(name))
            );
            assert_eq!(manifest["counts"]["devices"], 6);
            let pem = fs::read_to_string(dir.path().join("key.pem")).unwrap();
            assert_eq!(pem, key.to_pem());
            let text = fs::read_to_string(dir.path().join(&name)).unwrap();
            if format == "csv" {
                let mut rows = csv::Reader::from_reader(text.as_bytes());
                let lines: Vec<String> = (rows.records())
                    .map(|row| row.unwrap())
                    .map(|row| format!("{} {} {}", &row[0], &row[3], &row[4]))
                    .collect();
                assert_eq!(lines, ALL);
            } else {
                let document: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(told(&json!({"items": document["devices"]})), ALL);
                assert_eq!(document["counts"], manifest["counts"]);
            }
            forged(&tar, &key);
        }
    }
}

/// What is changed anywhere in an archive is found.
fn forged(tar: &[u8], key: &crate::signing::PublicKey) {
    let manifest = archive::verify(tar, key).unwrap();
    assert_eq!(manifest.numbers(), [6, 1, 4, 1]);
    let dir = tempfile::tempdir().unwrap();
    let other = make_key(dir.path(), "other", Algorithm::Ed25519);
    let refused = archive::verify(tar, &other).unwrap_err().to_string();
    assert!(refused.contains(key.id().as_str()), "{refused}");
    let place = |text: &str| {
        let found = tar.windows(text.len()).position(|it| it == text.as_bytes());
        found.unwrap()
    };
    let reached = place("reached");
    let last = tar.windows(2).rposition(|it| it == b"d3").unwrap();
    for at in [place("\"mended\": 1") + 10, reached, last] {
        let mut wrong = tar.to_owned();
        wrong[at] ^= 1;
        assert!(archive::verify(&wrong[..], key).is_err(), "at {at}");
    }
    for length in [0, 100, 512, 1_024, tar.len() - 2_048] {
        assert!(archive::verify(&tar[..length], key).is_err(), "{length}");
    }
    let mut more = tar[..tar.len() - 1_024].to_owned();
    more.extend(&tar[..1_024]);
    assert!(archive::verify(&more[..], key).is_err());
    not_plain(tar, key);
}

/// What others would unpack to something else is refused, although all the bytes are those that were signed.
fn not_plain(tar: &[u8], key: &crate::signing::PublicKey) {
    let magic = |at: usize| tar.get(at + 257..at + 262) == Some(b"ustar");
    let heads: Vec<usize> = (0..tar.len())
        .step_by(512)
        .filter(|at| magic(*at))
        .collect();
    assert_eq!(heads.len(), 4);
    for at in heads {
        let forged = |change: &dyn Fn(&mut tar::Header)| {
            let mut wrong = tar.to_owned();
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&tar[at..at + 512]);
            change(&mut header);
            header.set_cksum();
            wrong[at..at + 512].copy_from_slice(header.as_bytes());
            archive::verify(&wrong[..], key)
        };
        assert!(forged(&|_| {}).is_ok());
        for kind in *b"1234567SKLxg" {
            let refused = forged(&|header| header.set_entry_type(tar::EntryType::new(kind)));
            let refused = refused.unwrap_err();
            assert!(
                matches!(refused, archive::VerifyError::Form(_)),
                "{refused}"
            );
        }
        // of GNU's form, in which a size may stand otherwise
        let gnu = forged(&|header| header.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0"));
        assert!(matches!(gnu, Err(archive::VerifyError::Form(_))));
    }
}

#[tokio::test]
async fn so_many_go_through_the_fleet_at_once() {
    let api = fleet().await;
    // a caller has one place, and there are two
    let token = |id, name: &str| Caller::api_token(id, name.to_owned(), Vec::new());
    let place = |caller: &Caller| api.state.evidence.place(caller, 4).ok();
    let own = place(&Caller::admin_token()).unwrap();
    let refused = api.get(&format!("/v1/evidence/count?cve={CVE}")).await;
    assert_eq!(refused.problem(), "too-many-exports");
    assert!(
        refused.body["detail"]
            .to_string()
            .contains("admin-token has 1")
    );
    drop(own);
    let places = [token(7, "anna"), token(8, "berta")].map(|it| place(&it).unwrap());
    let refused = api.get(&format!("/v1/evidence/count?cve={CVE}")).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.problem(), "too-many-exports");
    drop(places);
    // what is sent still keeps nobody from looking, and is bounded too
    let sent: Vec<_> = (0..20)
        .filter_map(|caller| {
            let caller = token(caller % 10, "t");
            api.state.evidence.place_to_send(&caller, 16).ok()
        })
        .collect();
    assert_eq!(sent.len(), 16);
    drop(sent);
    let anna = token(7, "anna");
    let take = || api.state.evidence.place_to_send(&anna, 16).ok();
    let own: Vec<_> = std::iter::from_fn(take).collect();
    assert_eq!(own.len(), 4);
    let counted = api.get(&format!("/v1/evidence/count?cve={CVE}")).await;
    assert_eq!(counted.status, StatusCode::OK);
    // callers of one tenant leave a place to others
    let of_acme = |name: &str| {
        let grant = Grant {
            tenant: Tenants::One("acme".parse().unwrap()),
            ..Grant::of(Role::Viewer)
        };
        Caller::api_token(9, name.to_owned(), vec![grant])
    };
    let theirs = place(&of_acme("a")).unwrap();
    assert!(place(&of_acme("b")).is_none());
    let others = place(&anna).unwrap();
    drop((theirs, others));
}
