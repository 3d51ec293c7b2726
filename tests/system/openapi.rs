//! What others make of the API's description: a tool that tries all it says, and a generator of clients.

use std::{fs, process::Command, time::Duration};

use serde_json::json;

use crate::support::{Api, Server, clean, noise, run, tool};

/// What texts of the format are made of, which no pattern describes.
const FILTERS: &str = r#"
import schemathesis
from hypothesis import strategies as st

comparison = st.sampled_from(["product==meter", "endpoint==urn:*", "version>=V1.9", "cell=in=(1,2)", "registered!=true",
    "last_heard<-7d", "created>2027-03-01T02:00:00Z", "tag.k==''", "site=out=(a,'b c')"])
filters = st.recursive(comparison, lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([";", ",", " and ", " or "]).map(lambda joint: "(" + joint.join(parts) + ")")), max_leaves=6)
schemathesis.openapi.format("rsql", filters)

# a key names one request: by chance one would come with another body, and be refused; api::tests tries what keys do
@schemathesis.hook
def before_load_schema(context, raw_schema):
    for path in raw_schema["paths"].values():
        parameters = path.get("post", {}).get("parameters", [])
        parameters[:] = [it for it in parameters if it["name"] != "Idempotency-Key"]
"#;

/// What the description has no form for: that a time has passed, which columns a list in CSV has, that a closing has a reason, what
/// is a key, a signature or a bill of materials, which `ETag` there is, that no name is in a password, that some roles have no
/// filter, what an identity provider adds to its answer, which cursors the server has sealed, who is logged in, that what is
/// refused begins at no time, and where `null` stands for what is not given. What such requests are answered is tried in
/// `api::tests`.
const CHECKS: &str = r#"
[[operations]]
include-name = ["POST /v1/tasks", "PATCH /v1/tasks/{id}", "PATCH /v1/cells/{id}", "POST /v1/cells", "POST /v1/devices",
    "POST /v1/outages", "POST /v1/tasks/{id}/approve", "POST /v1/tasks/{id}/refuse", "POST /v1/tasks/{id}/retry",
    "POST /v1/tasks/{id}/copy", "POST /v1/forecasts", "POST /v1/packages", "PUT /v1/packages/{id}/sbom",
    "POST /v1/products/{product}/keys", "POST /v1/session", "POST /v1/me/totp", "POST /v1/me/totp/confirm",
    "POST /v1/me/totp/remove", "POST /v1/users", "PATCH /v1/users/{name}", "PATCH /v1/me",
    "POST /v1/tokens", "POST /v1/tenants", "GET /v1/audit", "GET /v1/session/oidc/callback",
    "POST /v1/homes", "PUT /v1/homes/{home}", "POST /v1/offers", "PUT /v1/offers/{id}", "POST /v1/app-users/{user}/revoke",
    "POST /v1/app-tokens", "POST /v1/upgrades/{id}/confirm"]
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false

[[operations]]
include-name = ["GET /v1/devices", "GET /v1/exclusions", "GET /v1/devices/{endpoint}/upgrades", "GET /v1/upgrades", "PATCH /v1/devices/{endpoint}", "DELETE /v1/devices/{endpoint}",
    "PATCH /v1/groups/{id}", "DELETE /v1/groups/{id}", "DELETE /v1/exclusions/{endpoint}", "DELETE /v1/webhooks/{id}",
    "PATCH /v1/packages/{id}", "DELETE /v1/packages/{id}/sbom", "PUT /v1/sites/{site}", "DELETE /v1/sites/{site}", "GET /v1/sites/{site}",
    "PATCH /v1/products/{product}", "DELETE /v1/products/{product}", "PATCH /v1/tenants/{tenant}", "DELETE /v1/tenants/{tenant}",
    "DELETE /v1/homes/{home}", "GET /v1/homes/{home}", "PUT /v1/homes/{home}/members/{user}", "DELETE /v1/homes/{home}/members/{user}",
    "PUT /v1/homes/{home}/devices/{endpoint}", "DELETE /v1/homes/{home}/devices/{endpoint}", "GET /v1/app-users/{user}", "DELETE /v1/app-users/{user}"]
checks.positive_data_acceptance.enabled = false
"#;

/// A server that rations nobody.
fn patient() -> Server {
    Server::with(&[
        ("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "100000"),
        ("CELLWISE_ADMIN__FAILED_ATTEMPTS_PER_MINUTE", "1000000"),
        ("CELLWISE_DTLS__CREDENTIAL_KEY", &"5a".repeat(32)),
        ("CELLWISE_LOG__FILTER", "error"),
    ])
}

/// schemathesis with this token, and more arguments. The stream of events has no end, which it does not expect.
fn schemathesis(server: &Server, token: &str, arguments: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("filters.py"), FILTERS).unwrap();
    fs::write(directory.path().join("schemathesis.toml"), CHECKS).unwrap();
    let mut command = clean(Command::new(tool("python").with_file_name("schemathesis")));
    command
        .current_dir(directory.path())
        .env("PYTHONPATH", directory.path())
        .env("SCHEMATHESIS_HOOKS", "filters")
        .args([
            "run",
            &server.api.url("/openapi.json"),
            "--exclude-path",
            "/v1/events",
        ])
        .args(["--workers", "1", "--seed", "1"])
        .args(arguments)
        .args(["--header", &format!("Authorization: Bearer {token}")]);
    let found = run(&mut command, b"", Duration::from_mins(20));
    assert!(found.status.success(), "{}\n{}", found.stdout, found.stderr);
    assert!(server.said().is_empty(), "{}", server.said());
}

/// Positive and negative cases, examples, boundaries, chains of requests.
#[test]
fn schemathesis_finds_nothing() {
    let server = patient();
    schemathesis(&server, server.api.token(), &["--max-examples", "25"]);
}

/// What a role may not do is refused as the description says, and what it may do is done so.
#[test]
fn schemathesis_finds_nothing_with_any_role() {
    let server = patient();
    for role in ["viewer", "operator", "approver", "administrator", "auditor"] {
        let body = json!({"name": role, "grants": [{"role": role}]});
        let (status, added) = server.api.post("/v1/tokens", &body);
        assert_eq!(status, 201, "{added}");
        let token = added["token"].as_str().unwrap();
        // an administrator might revoke the token that it has
        let few = ["--max-examples", "5", "--phases", "examples,fuzzing"];
        let own = ["--exclude-operation-id", "revoke_token"];
        schemathesis(&server, token, &[&few[..], &own].concat());
        let (status, me) = Api::new(server.admin(), token).get("/v1/me");
        assert_eq!(status, 200, "{role} did not keep its token: {me}");
    }
}

const CLIENT: &str = r#"
import sys
from generated import AuthenticatedClient
from generated.api.access import add_login_link
from generated.api.devices import add_device, list_devices
from generated.api.operations import get_settings
from generated.api.packages import list_packages
from generated.api.tasks import create_task
from generated.models import AddOneDevice, CreateTaskForAll, OfferEvent, UpgradeEvent, TaskEvent

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2], raise_on_unexpected_status=True)
device = add_device.sync(client=client, body=AddOneDevice(endpoint="urn:imei:1", product="meter"))
assert device.endpoint == "urn:imei:1", device
devices = list_devices.sync(client=client, product="meter")
assert [item.endpoint for item in devices.items] == ["urn:imei:1"], devices
package = list_packages.sync(client=client).items[0]
task = create_task.sync(client=client, body=CreateTaskForAll(name="night", package_id=package.id, all_=True))
assert task.counts.to_dict() == {"pending": 1} or task.id == 1, task
refused = create_task.sync_detailed(client=client, body=CreateTaskForAll(name="night", package_id=99, all_=True))
assert refused.status_code == 404 and refused.parsed.type_.value == "urn:cellwise:problem:not-found", refused

event = UpgradeEvent.from_dict({"id": "evt_1_1", "type": "upgrade.succeeded", "timestamp": "2027-03-01T02:14:09.120Z",
    "data": {"task_id": 7, "task_name": "n", "product": "meter", "version": "V2.0", "state": "succeeded", "upgrade_id": 1,
             "endpoint": "urn:imei:1", "attempts": 1, "reason": "upgraded", "detail": "upgraded", "cell": None,
             "started_at": None, "home": None, "app": None}})
assert event.data.endpoint == "urn:imei:1" and event.type_.value == "upgrade.succeeded"
event = OfferEvent.from_dict({"id": "evt_2_2", "type": "offer.visible", "timestamp": "2027-03-01T02:14:09.120Z",
    "data": {"task_id": 7, "task_name": "n", "product": "meter", "version": "V2.0", "state": "visible", "home": "h1",
             "offer": 1, "devices": 2}})
assert event.data.devices == 2 and event.type_.value == "offer.visible", event

settings = {item.name: item.value for item in get_settings.sync(client=client).items}
assert settings["data_dir"] and settings["admin.requests_per_second"] > 0, settings
refused = add_login_link.sync_detailed("nobody", client=client)
assert refused.status_code == 404 and refused.parsed.type_.value == "urn:cellwise:problem:not-found", refused
print("works")
"#;

#[test]
fn a_generated_client_works() {
    let server = Server::start();
    server.api.upload("meter", "V2.0", &noise(3, 4_000));
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // it forgets an import where a body has several types
    let mut description: serde_json::Value =
        serde_json::from_str(&server.api.text("/openapi.json")).unwrap();
    for path in ["/v1/devices", "/v1/cells"] {
        let content = &mut description["paths"][path]["post"]["requestBody"]["content"];
        let types = content.as_object_mut().unwrap();
        if types.len() > 1 {
            types.remove("text/csv");
        }
    }
    fs::write(at("openapi.json"), description.to_string()).unwrap();
    let python = tool("python");
    // it knows no lists of comma-separated values, and no archives
    fs::write(
        at("config.yml"),
        "content_type_overrides:\n  text/csv: application/octet-stream\n  application/x-tar: application/octet-stream\n  application/x-ndjson: application/octet-stream\n",
    )
    .unwrap();
    let mut generate = clean(Command::new(python.with_file_name("openapi-python-client")));
    // it tidies what it has generated with a tool that pip puts beside it
    let beside = python.parent().unwrap().display().to_string();
    generate.env(
        "PATH",
        format!("{beside}:{}", std::env::var("PATH").unwrap()),
    );
    generate.current_dir(directory.path()).args([
        "generate",
        "--path",
        "openapi.json",
        "--meta",
        "none",
        "--output-path",
        "generated",
        "--config",
        "config.yml",
        "--fail-on-warning",
    ]);
    let generated = run(&mut generate, b"", Duration::from_mins(2));
    assert!(
        generated.status.success(),
        "{}\n{}",
        generated.stdout,
        generated.stderr
    );
    fs::write(at("client.py"), CLIENT).unwrap();
    let mut client = clean(Command::new(python));
    client.current_dir(directory.path()).args([
        "client.py",
        &server.api.url(""),
        server.api.token(),
    ]);
    let ended = run(&mut client, b"", Duration::from_mins(1));
    assert!(
        ended.stdout.contains("works"),
        "{}\n{}",
        ended.stdout,
        ended.stderr
    );
}
