//! What belongs to one tenant is not there for another, and whoever has one alone has no word of it.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{Answer, Api, TOKEN, events::Stream, users::PASSWORD};
use crate::{
    access::{OPERATIONS, Operation, Permission, Reach},
    api::events::{MAX_STREAMS_OF_ONE, MAX_STREAMS_OF_TENANT},
};

/// A carrier with one thing of each kind, whose names all have `foreign` in them; and the tenant `acme` with an administrator that has
/// every role on it.
struct World {
    api: Api,
    acme: String,
    /// The carrier's task for all of its devices, and the upgrade of the first.
    task: i64,
    upgrade: i64,
    package: i64,
    group: i64,
    webhook: i64,
    token: i64,
    forecast: i64,
    offer: i64,
}

const CVE: &str = "CVE-2026-12345";
const DEVICES: [&str; 2] = ["foreign0", "foreign1"];

fn roles_on(tenant: &str) -> Value {
    let roles = ["viewer", "operator", "approver", "administrator", "auditor"];
    json!(roles.map(|role| json!({"role": role, "tenant": tenant})))
}

impl World {
    async fn new() -> Self {
        let api = Api::new().await;
        let query = format!("product=foreign-p&version=V2&cves_mended={CVE}");
        let package = api.upload(&query, &[7; 1_200]).await.id();
        for endpoint in DEVICES {
            let device = json!({"endpoint": endpoint, "product": "foreign-p",
                "psk": {"identity": format!("id-{endpoint}"), "key": "00112233445566778899aabbccddeeff"}});
            let added = api.post("/v1/devices", &device).await;
            assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
        }
        let post = async |path: &str, body: Value| {
            let made = api.post(path, &body).await;
            assert!(made.status.is_success(), "{path}: {made:?}");
            made.id()
        };
        let task =
            json!({"name": "foreign-task", "package_id": package, "all": true, "approval": true});
        let forecast = post("/v1/forecasts", task.clone()).await;
        let task = post("/v1/tasks", task).await;
        let group = post(
            "/v1/groups",
            json!({"name": "foreign-group", "devices": DEVICES}),
        )
        .await;
        let site = json!({"limit": 3}).to_string();
        let site = api
            .ask(TOKEN, Method::PUT, "/v1/sites/foreign-site", &site)
            .await;
        assert_eq!(site.status, StatusCode::OK, "{site:?}");
        let home = json!({"name": "foreign", "people": [{"user": "foreign-anna", "role": "owner"}],
            "things": [{"endpoint": "foreign1"}]});
        let home = api
            .ask(
                TOKEN,
                Method::PUT,
                "/v1/homes/foreign-home",
                &home.to_string(),
            )
            .await;
        assert_eq!(home.status, StatusCode::OK, "{home:?}");
        let offer = post("/v1/offers", offer_of(package)).await;
        let webhook = json!({"url": "https://1.1.1.1/foreign"});
        let webhook = match api.post("/v1/webhooks", &webhook).await {
            made if made.status == StatusCode::CREATED => made.id(),
            refused => panic!("{refused:?}"),
        };
        let (token, _) = api
            .token("foreign-token", json!([{"role": "viewer"}]))
            .await;
        let user =
            json!({"name": "foreign-user", "password": PASSWORD, "grants": [{"role": "viewer"}]});
        post("/v1/users", user).await;
        let excluded = json!({"endpoints": ["foreign1"], "reason": "foreign"});
        api.post("/v1/exclusions", &excluded).await;
        let upgrades = api.get(&format!("/v1/tasks/{task}/upgrades")).await;
        let upgrade = upgrades.body["items"][0]["id"].as_i64().unwrap();
        let added = api.post("/v1/tenants", &json!({"id": "acme"})).await;
        assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
        let (_, acme) = api.token("acme-all", roles_on("acme")).await;
        Self {
            api,
            acme,
            task,
            upgrade,
            package,
            group,
            webhook,
            token,
            forecast,
            offer,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.api.get_as(&self.acme, path).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.api.post_as(&self.acme, path, body).await
    }

    /// A package, devices and a task of acme's own. Gives the task.
    async fn furnish(&self) -> i64 {
        let upload = Request::builder()
            .method(Method::POST)
            .uri("/v1/packages?product=p&version=V2")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.acme))
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Body::from(vec![9; 1_200]))
            .unwrap();
        let package = self.api.call(upload).await;
        assert_eq!(package.status, StatusCode::CREATED, "{package:?}");
        assert_eq!(
            (&package.body["product"], &package.body["tenant"]),
            (&json!("p"), &json!("acme"))
        );
        let devices = ["a0", "a1"].map(|endpoint| json!({"endpoint": endpoint, "product": "p"}));
        let added = self.post("/v1/devices", &json!({"devices": devices})).await;
        assert_eq!(added.body["added"], 2, "{added:?}");
        let task =
            json!({"name": "ours", "package_id": package.id(), "product": "p", "approval": true});
        let task = self.post("/v1/tasks", &task).await;
        assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
        assert_eq!(
            (&task.body["total"], &task.body["product"]),
            (&json!(2), &json!("p"))
        );
        task.id()
    }

    /// The path of an operation, on what is the carrier's.
    fn path(&self, path: &str) -> String {
        let id = match path {
            path if path.starts_with("/v1/tasks") => self.task,
            path if path.starts_with("/v1/upgrades") => self.upgrade,
            path if path.starts_with("/v1/packages") => self.package,
            path if path.starts_with("/v1/groups") => self.group,
            path if path.starts_with("/v1/webhooks") => self.webhook,
            path if path.starts_with("/v1/tokens") => self.token,
            path if path.starts_with("/v1/forecasts") => self.forecast,
            path if path.starts_with("/v1/offers") => self.offer,
            _ => 1,
        };
        let path = path
            .replace("{id}", &id.to_string())
            .replace("{delivery}", "1")
            .replace("{endpoint}", "foreign1")
            .replace("{name}", "foreign-user")
            .replace("{product}", "foreign-p")
            .replace("{site}", "foreign-site")
            .replace("{home}", "foreign-home")
            .replace("{user}", "foreign-anna")
            .replace("{key}", &"0".repeat(32))
            .replace("{tenant}", "default");
        if path.starts_with("/v1/evidence") {
            return format!("{path}?cve={CVE}");
        }
        path
    }

    /// What is asked of an operation, besides its path: what it would do to what is the carrier's.
    fn body(&self, operation: &str) -> Value {
        match operation {
            "add_device" => json!({"endpoint": "foreign0", "product": "p"}),
            "add_exclusions" => json!({"endpoints": ["foreign0"], "reason": "r"}),
            "add_group" => json!({"name": "g", "devices": ["foreign0"]}),
            "add_product_key" => json!({"pem": "none"}),
            "add_token" => {
                json!({"name": "t", "grants": [{"role": "viewer", "tenant": "default"}]})
            }
            "add_user" => {
                json!({"name": "u", "password": PASSWORD, "grants": [{"role": "viewer", "tenant": "*"}]})
            }
            "add_webhook" => json!({"url": "https://1.1.1.1/", "task_id": self.task}),
            "approve_task" => json!({"by": "anna"}),
            "refuse_task" => json!({"by": "anna", "note": "no"}),
            "create_task" | "forecast_task" => {
                json!({"name": "n", "package_id": self.package, "all": true})
            }
            "publish_offer" => offer_of(self.package),
            "set_home_member" => json!({"role": "owner"}),
            "set_homes" => json!({"homes": [{"home": "h", "name": "ours"}]}),
            "set_site" => json!({"limit": 0}),
            "update_offer" => offer_of(self.package)["terms"].take(),
            "update_device" => json!({"site": "s"}),
            "update_group" => json!({"name": "mine"}),
            "update_package" => json!({"release_notes": "mine"}),
            "update_product" => json!({"signatures": "required"}),
            "update_task" => json!({"priority": 7}),
            "update_user" => json!({"grants": [{"role": "viewer"}]}),
            _ => json!({}),
        }
    }
}

/// Something that is offered.
fn offer_of(package: i64) -> Value {
    json!({"terms": {"channel": 6, "kind": 0, "texts": {"description": {"en": "new"}}},
        "task": {"name": "foreign-task-offered", "package_id": package}})
}

/// What is answered where the path names nothing of the carrier's, or what is the caller's own.
fn expected(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "add_device" => "device-exists",
        "add_exclusions" | "add_group" => "unknown-devices",
        "add_product_key" | "add_token" | "add_user" | "create_product" | "issue_app_token"
        | "set_home" | "set_site" => "invalid-field",
        "add_webhook" | "create_task" | "publish_offer" | "forecast_task" | "count_evidence"
        | "export_evidence" | "list_evidence" => "not-found",
        // it says nothing of a version
        "upload_package" => "bad-parameter",
        _ => return None,
    })
}

/// An operation that keeps to the tenants of its caller. The stream has a test of its own.
fn keeps(operation: &Operation) -> bool {
    let open = matches!(operation.needs, Permission::Open | Permission::Own);
    operation.reach != Reach::Whole && !open && operation.name != "stream_events"
}

/// Complete by construction: every operation that keeps to tenants is tried by a caller of another tenant with every role.
#[tokio::test]
async fn nothing_of_another_tenant_is_there_for_any_operation() {
    let world = World::new().await;
    let api = &world.api;
    let mut tried = 0;
    for (path, item) in api.description["paths"].as_object().unwrap() {
        for (method, described) in item.as_object().unwrap() {
            let name = described["operationId"].as_str().unwrap_or_default();
            let Some(operation) = Operation::named(name).filter(|it| keeps(it)) else {
                continue;
            };
            tried += 1;
            let named = world.path(path);
            let method: Method = method.to_uppercase().parse().unwrap();
            let body = match name {
                "upload_package" => String::new(),
                name => world.body(name).to_string(),
            };
            let answer = api.ask(&world.acme, method.clone(), &named, &body).await;
            let text = answer.body.to_string();
            if let Some(problem) = expected(name) {
                // an export needs a key first, which this server does not have
                let signing = name == "export_evidence" && answer.problem() == "no-signing-key";
                assert!(signing || answer.problem() == problem, "{name}: {answer:?}");
            } else if path.starts_with("/v1/products") {
                // products have a name of their own for each tenant
                assert!(
                    matches!(answer.status.as_u16(), 200 | 404),
                    "{name}: {answer:?}"
                );
            } else if path.starts_with("/v1/app-users") {
                // users are known by their names alone, each tenant's by its own
                assert!(answer.status.is_success(), "{name}: {answer:?}");
                assert!(!text.contains("foreign-home"), "{name}: {text}");
            } else if path.contains('{') {
                assert_eq!(answer.problem(), "not-found", "{name}: {answer:?}");
            } else {
                assert_eq!(answer.status, StatusCode::OK, "{name}: {answer:?}");
                assert!(!text.contains("foreign"), "{name}: {text}");
            }
            for hidden in ["id-foreign", "foreign-p\"", "foreign-task", "foreign-group"] {
                let own = path.starts_with("/v1/products") && hidden.starts_with("foreign-p");
                assert!(own || !text.contains(hidden), "{name}: {text}");
            }
            if method == Method::GET && operation.needs == Permission::Read {
                let there = api.get(&named).await.status;
                assert!(
                    there.is_success() || matches!(name, "export_evidence" | "get_sbom"),
                    "{name}: {there}"
                );
            }
        }
    }
    assert_eq!(tried, OPERATIONS.iter().filter(|it| keeps(it)).count());
    // and nothing has happened to it
    let task = api.get(&format!("/v1/tasks/{}", world.task)).await.body;
    assert_eq!(
        (&task["state"], &task["priority"]),
        (&json!("awaiting_approval"), &json!(5))
    );
    assert_eq!(task["counts"]["pending"], 2);
    assert_eq!(api.get("/v1/devices/count").await.body["count"], 2);
    assert_eq!(
        api.get("/v1/products/foreign-p").await.body["signatures"],
        "optional"
    );
    let home = api.get("/v1/homes/foreign-home").await.body;
    assert_eq!((&home["members"], &home["devices"]), (&json!(1), &json!(1)));
    let offer = api.get(&format!("/v1/offers/{}", world.offer)).await.body;
    assert_eq!(
        (&offer["revision"], &offer["withdrawn_at"]),
        (&json!(1), &Value::Null)
    );
    let package = api
        .get(&format!("/v1/packages/{}", world.package))
        .await
        .body;
    assert_eq!(package["release_notes"], Value::Null);
    for path in ["/v1/exclusions", "/v1/groups", "/v1/webhooks", "/v1/users"] {
        assert_eq!(
            api.get(path).await.body["items"].as_array().unwrap().len(),
            1,
            "{path}"
        );
    }
    // what is everybody's matter is not its own
    for path in [
        "/v1/cells",
        "/v1/devices/unknown",
        "/v1/audit/export",
        "/v1/audit/head",
        "/v1/settings",
    ] {
        assert_eq!(world.get(path).await.problem(), "forbidden", "{path}");
    }
    assert_eq!(
        world
            .post("/v1/tenants", &json!({"id": "more"}))
            .await
            .problem(),
        "forbidden"
    );
}

#[tokio::test]
async fn a_tenant_has_what_it_makes_and_says_nothing_of_it() {
    let world = World::new().await;
    let api = &world.api;
    let task = world.furnish().await;
    let names = async |token: &str, path: &str, field: &str| -> Vec<String> {
        let list = api.get_as(token, path).await;
        assert_eq!(list.status, StatusCode::OK, "{path}: {list:?}");
        let items = list.body["items"].as_array().unwrap();
        items
            .iter()
            .map(|it| it[field].as_str().unwrap().to_owned())
            .collect()
    };
    let grants = json!([{"role": "viewer", "tenant": "default"}, {"role": "administrator", "tenant": "default"}]);
    let (_, home) = api.token("home", grants).await;
    let group = world
        .post(
            "/v1/groups",
            &json!({"name": "foreign-group", "filter": "endpoint==*"}),
        )
        .await;
    assert_eq!(
        (&group.body["members"], &group.body["tenant"]),
        (&json!(2), &json!("acme"))
    );
    let hook = json!({"url": "https://1.1.1.1/a"});
    let hook = world.post("/v1/webhooks", &hook).await;
    assert_eq!(hook.body["tenant"], "acme");
    let made =
        json!({"name": "colleague", "grants": [{"role": "operator", "filter": "site==north"}]});
    let made = world.post("/v1/tokens", &made).await;
    assert_eq!(made.body["grants"][0]["tenant"], "acme");
    for (path, field, ours, theirs) in [
        (
            "/v1/devices",
            "endpoint",
            vec!["a0", "a1"],
            DEVICES.to_vec(),
        ),
        (
            "/v1/devices?product=p",
            "endpoint",
            vec!["a0", "a1"],
            vec![],
        ),
        (
            "/v1/devices?filter=product==p",
            "endpoint",
            vec!["a0", "a1"],
            vec![],
        ),
        ("/v1/packages", "product", vec!["p"], vec!["foreign-p"]),
        (
            "/v1/tasks",
            "name",
            vec!["ours"],
            vec!["foreign-task-offered", "foreign-task"],
        ),
        (
            "/v1/groups",
            "name",
            vec!["foreign-group"],
            vec!["foreign-group"],
        ),
        ("/v1/webhooks", "url", vec!["https://1.1.1.1/a"], vec![]),
        (
            "/v1/tokens",
            "name",
            vec!["acme-all", "colleague"],
            vec!["home"],
        ),
        ("/v1/tenants", "id", vec!["acme"], vec!["default"]),
        (
            "/v1/upgrades",
            "endpoint",
            vec!["a1", "a0"],
            vec!["foreign1", "foreign0"],
        ),
    ] {
        assert_eq!(names(&world.acme, path, field).await, ours, "{path}");
        assert_eq!(names(&home, path, field).await, theirs, "{path}");
        // whoever is granted everything sees both, or one that it names
        let of_acme = format!(
            "{path}{}tenant=acme",
            if path.contains('?') { "&" } else { "?" }
        );
        assert_eq!(names(TOKEN, &of_acme, field).await, ours, "{of_acme}");
    }
    assert_eq!(
        api.get("/v1/devices").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    let filtered = names(TOKEN, "/v1/devices?filter=tenant==acme", "endpoint").await;
    assert_eq!(filtered, ["a0", "a1"]);
    for path in [
        "/v1/devices/a0".to_owned(),
        format!("/v1/tasks/{task}"),
        format!("/v1/groups/{}", group.id()),
        format!("/v1/webhooks/{}", hook.id()),
        format!("/v1/tokens/{}", made.id()),
        "/v1/tenants/acme".to_owned(),
        "/v1/devices/a0/upgrades".to_owned(),
    ] {
        assert_eq!(world.get(&path).await.status, StatusCode::OK, "{path}");
        assert_eq!(api.get(&path).await.status, StatusCode::OK, "{path}");
        assert_eq!(
            api.get_as(&home, &path).await.problem(),
            "not-found",
            "{path}"
        );
        let of_default = format!("{path}?tenant=default");
        assert_eq!(api.get(&of_default).await.problem(), "not-found", "{path}");
    }
    // pages of what is there for a caller go on to its end
    let first = world.get("/v1/tokens?limit=1").await.body;
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = names(
        &world.acme,
        &format!("/v1/tokens?limit=1&cursor={cursor}"),
        "name",
    )
    .await;
    assert_eq!(rest, ["colleague"]);
    // nobody is told of a tenant where there is one alone
    let device = api.get("/v1/devices/foreign0").await;
    assert!(!device.body.to_string().contains("tenant"), "{device:?}");
    assert_eq!(api.get("/v1/devices/a0").await.body["tenant"], "acme");
}

#[tokio::test]
async fn names_that_another_tenant_has_are_taken_and_no_more_is_said() {
    let world = World::new().await;
    world.furnish().await;
    let psk =
        |identity: &str| json!({"identity": identity, "key": "00112233445566778899aabbccddeeff"});
    let taken = world
        .post(
            "/v1/devices",
            &json!({"endpoint": "foreign0", "product": "foreign-p"}),
        )
        .await;
    assert_eq!(taken.problem(), "device-exists");
    assert!(!taken.detail().contains("product"), "{taken:?}");
    let other = json!({"endpoint": "a9", "product": "p", "psk": psk("id-foreign0")});
    let taken = world.post("/v1/devices", &other).await;
    assert_eq!(taken.problem(), "identity-taken");
    assert!(!taken.body.to_string().contains("foreign0 "), "{taken:?}");
    let many =
        json!({"devices": [{"endpoint": "foreign0"}, other, {"endpoint": "a3", "product": "p"}]});
    let many = world.post("/v1/devices", &many).await;
    assert_eq!(
        (
            &many.body["added"],
            many.body["refused"].as_array().unwrap().len()
        ),
        (&json!(1), 2)
    );
    assert!(!many.body.to_string().contains("foreign-p"), "{many:?}");
    let changed = json!({"psk": psk("id-foreign0")}).to_string();
    let changed = world
        .api
        .ask(&world.acme, Method::PATCH, "/v1/devices/a0", &changed)
        .await;
    assert_eq!(changed.problem(), "identity-taken");
    assert!(!changed.detail().contains("device foreign0"), "{changed:?}");
    let csv = |rows: &str| {
        Request::builder()
            .method(Method::POST)
            .uri("/v1/devices")
            .header(header::AUTHORIZATION, format!("Bearer {}", world.acme))
            .header(header::CONTENT_TYPE, "text/csv")
            .body(Body::from(format!("endpoint,product\n{rows}")))
            .unwrap()
    };
    let listed = world.api.call(csv("foreign0,p\na4,p\n")).await;
    assert_eq!(
        (&listed.body["added"], &listed.body["refused_total"]),
        (&json!(1), &json!(1))
    );
    assert!(!listed.body.to_string().contains("foreign-p"), "{listed:?}");
    assert_eq!(world.api.get("/v1/devices/a4").await.body["tenant"], "acme");
    // whoever sees both is told
    let told = world
        .api
        .post("/v1/devices?tenant=default", &json!({"endpoint": "a4"}))
        .await;
    assert_eq!(told.problem(), "device-exists");
    let told = world
        .api
        .post("/v1/devices", &json!({"endpoint": "a4"}))
        .await;
    assert!(told.detail().contains("of tenant acme"), "{told:?}");
}

#[tokio::test]
async fn a_tenant_s_administrator_grants_no_more_than_it_has() {
    let world = World::new().await;
    let api = &world.api;
    for (grant, field) in [
        (json!({"role": "viewer", "tenant": "*"}), "grants[0].tenant"),
        (
            json!({"role": "viewer", "tenant": "default"}),
            "grants[0].tenant",
        ),
        (
            json!({"role": "viewer", "tenant": "nobody"}),
            "grants[0].tenant",
        ),
        (json!({"role": "viewer", "tenant": "A"}), "grants[0].tenant"),
    ] {
        let body = json!({"name": "t", "grants": [grant]});
        assert_eq!(
            world.post("/v1/tokens", &body).await.fields(),
            [field],
            "{body}"
        );
    }
    let unknown = json!({"name": "t", "grants": [{"role": "viewer", "tenant": "nobody"}]});
    assert_eq!(
        api.post("/v1/tokens", &unknown).await.fields(),
        ["grants[0].tenant"]
    );
    let user = json!({"name": "berta", "password": PASSWORD, "grants": [{"role": "operator"}]});
    let user = world.post("/v1/users", &user).await;
    assert_eq!(
        user.body["grants"],
        json!([{"role": "operator", "tenant": "acme", "filter": null}])
    );
    // somebody who has more is not there for it
    let both =
        json!([{"role": "viewer", "tenant": "acme"}, {"role": "viewer", "tenant": "default"}]);
    let (id, both) = api.token("both", both).await;
    assert_eq!(
        world.get(&format!("/v1/tokens/{id}")).await.problem(),
        "not-found"
    );
    let tenants = api.get_as(&both, "/v1/tenants").await.body;
    assert_eq!(tenants["items"].as_array().unwrap().len(), 2);
    let device = api
        .post_as(&both, "/v1/devices", &json!({"endpoint": "x"}))
        .await;
    assert_eq!(device.problem(), "forbidden");
    // what a grant says where it says nothing stays as it was before there were tenants
    let usual = json!([{"role": "viewer"}, {"role": "operator", "filter": "site==north"}]);
    let (id, usual) = api.token("usual", usual.clone()).await;
    let shown = api.get(&format!("/v1/tokens/{id}")).await.body;
    assert_eq!(
        shown["grants"],
        json!([{"role": "viewer", "filter": null}, {"role": "operator", "filter": "site==north"}])
    );
    let me = api.get_as(&usual, "/v1/me").await.body;
    assert_eq!(me["grants"], shown["grants"]);
}

#[tokio::test]
async fn a_caller_of_several_tenants_names_one() {
    let world = World::new().await;
    let api = &world.api;
    api.post("/v1/tenants", &json!({"id": "zeta"})).await;
    let grants =
        json!([{"role": "operator", "tenant": "acme"}, {"role": "operator", "tenant": "zeta"}]);
    let (_, both) = api.token("both", grants).await;
    let device = json!({"endpoint": "x"});
    assert_eq!(
        api.post_as(&both, "/v1/devices", &device).await.fields(),
        ["tenant"]
    );
    let added = api.post_as(&both, "/v1/devices?tenant=zeta", &device).await;
    assert_eq!(
        (added.status, &added.body["tenant"]),
        (StatusCode::CREATED, &json!("zeta"))
    );
    assert_eq!(
        api.get_as(&both, "/v1/devices/x").await.status,
        StatusCode::OK
    );
    assert_eq!(
        api.get_as(&both, "/v1/devices/x?tenant=acme")
            .await
            .problem(),
        "not-found"
    );
    for (query, problem) in [
        ("?tenant=default", "not-found"),
        ("?tenant=nobody", "not-found"),
        ("?tenant=", "not-found"),
        ("?tenant=acme&tenant=zeta", "invalid-field"),
        ("?tenant=acme&page=2", "bad-parameter"),
    ] {
        let asked = api.get_as(&both, &format!("/v1/devices{query}")).await;
        assert_eq!(asked.problem(), problem, "{query}: {asked:?}");
    }
    // the carrier makes things for the tenant default where it names none
    let added = api.post("/v1/devices", &json!({"endpoint": "y"})).await;
    assert_eq!(added.body.get("tenant"), None, "{added:?}");
    // a key stands for a request for one tenant
    let keyed = async |tenant: &str| {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v1/groups?tenant={tenant}"))
            .header(header::AUTHORIZATION, format!("Bearer {both}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", "k")
            .body(Body::from(r#"{"name": "g"}"#))
            .unwrap();
        api.call(request).await
    };
    assert_eq!(keyed("acme").await.status, StatusCode::CREATED);
    assert_eq!(keyed("zeta").await.fields(), ["Idempotency-Key"]);
}

#[tokio::test]
async fn events_and_the_audit_log_tell_of_what_is_the_tenant_s() {
    let world = World::new().await;
    let api = &world.api;
    let ours = world.furnish().await;
    for task in [world.task, ours] {
        api.post(&format!("/v1/tasks/{task}/stop"), &json!({}))
            .await;
    }
    let path = "/v1/events?after=0";
    let mut all = Stream::open(api, path, None).await.unwrap();
    let mut some = Stream::open_as(api, &world.acme, path, None).await.unwrap();
    let mut told = Vec::new();
    // what waited in both tasks, and both
    for _ in 0..6 {
        told.push(all.event().await);
    }
    let is_ours = |(_, _, data): &&(String, String, Value)| data["data"]["task_id"] == ours;
    let inside: Vec<_> = told.iter().filter(is_ours).collect();
    assert_eq!(inside.len(), 3, "{told:?}");
    for expected in inside {
        assert_eq!(expected.2["data"]["tenant"], "acme");
        assert_eq!(expected.2["data"]["product"], "p");
        assert_eq!(some.event().await, *expected);
    }
    // rows of its own callers, and of the carrier about what is its own
    let rows = world.get("/v1/audit?limit=1000").await.body;
    let rows = rows["items"].as_array().unwrap();
    let operations: Vec<_> = rows
        .iter()
        .map(|row| row["operation"].as_str().unwrap())
        .collect();
    assert_eq!(
        operations,
        ["stop_task", "create_task", "add_device", "upload_package"]
    );
    assert!(rows.iter().all(|row| row["tenant"] == "acme"), "{rows:?}");
    assert!(!json!(rows).to_string().contains("foreign"));
    let all = api.get("/v1/audit?limit=1000").await.body;
    assert!(all["items"].as_array().unwrap().len() > rows.len());
    assert!(!all.to_string().contains(r#""tenant":"default""#));
}

#[tokio::test]
async fn the_carrier_gives_a_device_to_another_tenant() {
    let world = World::new().await;
    let api = &world.api;
    world.furnish().await;
    let give = async |token: &str, endpoint: &str, to: &str| {
        let path = format!("/v1/devices/{endpoint}");
        let body = json!({"tenant": to}).to_string();
        api.ask(token, Method::PATCH, &path, &body).await
    };
    assert_eq!(
        give(&world.acme, "a0", "default").await.fields(),
        ["tenant"]
    );
    assert_eq!(give(TOKEN, "a0", "nobody").await.fields(), ["tenant"]);
    let busy = give(TOKEN, "foreign0", "acme").await;
    assert_eq!(busy.problem(), "upgrade-running");
    api.post(&format!("/v1/tasks/{}/stop", world.task), &json!({}))
        .await;
    let given = give(TOKEN, "foreign0", "acme").await;
    assert_eq!(
        (&given.body["tenant"], &given.body["product"]),
        (&json!("acme"), &json!("foreign-p"))
    );
    assert_eq!(
        world.get("/v1/devices/foreign0").await.status,
        StatusCode::OK
    );
    // what was done with it before is the other's
    let upgrades = world.get("/v1/devices/foreign0/upgrades").await.body;
    assert_eq!(upgrades["items"], json!([]));
    let upgrade = format!("/v1/upgrades/{}", world.upgrade);
    assert_eq!(world.get(&upgrade).await.problem(), "not-found");
    assert_eq!(api.get(&upgrade).await.status, StatusCode::OK);
    let newest = world.get("/v1/upgrades").await.body.to_string();
    assert!(!newest.contains("foreign"), "{newest}");
}

#[tokio::test]
async fn what_was_done_with_a_device_that_is_gone_is_its_tenant_s_still() {
    let world = World::new().await;
    let task = world.furnish().await;
    let upgrades = world.get(&format!("/v1/tasks/{task}/upgrades")).await;
    let upgrade = upgrades.body["items"][0]["id"].as_i64().unwrap();
    let removed = world.api.delete("/v1/devices/a0").await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    let (_, home) = world.api.token("home", roles_on("default")).await;
    for path in [
        format!("/v1/tasks/{task}/upgrades"),
        format!("/v1/upgrades/{upgrade}"),
        "/v1/devices/a0/upgrades".to_owned(),
        "/v1/upgrades".to_owned(),
    ] {
        let seen = world.get(&path).await;
        assert!(seen.body.to_string().contains("\"a0\""), "{path}: {seen:?}");
        let others = world.api.get_as(&home, &path).await;
        assert!(
            !others.body.to_string().contains("\"endpoint\":\"a0\""),
            "{path}: {others:?}"
        );
    }
}

#[tokio::test]
async fn tenants_are_added_changed_and_deleted() {
    let api = Api::new().await;
    let list = api.get("/v1/tenants").await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    for (body, field) in [
        (json!({"id": "Acme"}), "id"),
        (json!({"id": ""}), "id"),
        (json!({"id": "a", "name": ""}), "name"),
    ] {
        assert!(
            api.post("/v1/tenants", &body)
                .await
                .fields()
                .contains(&field),
            "{body}"
        );
    }
    let added = api
        .post("/v1/tenants", &json!({"id": "acme", "name": "Acme Ltd"}))
        .await;
    assert_eq!(added.header(header::LOCATION), "/v1/tenants/acme");
    assert_eq!(added.header(header::ETAG), "\"1\"");
    let again = api.post("/v1/tenants", &json!({"id": "acme"})).await;
    assert_eq!(again.problem(), "name-taken");
    let renamed = api
        .json(Method::PATCH, "/v1/tenants/acme", r#"{"name": "Acme"}"#)
        .await;
    assert_eq!(
        (&renamed.body["name"], &renamed.body["revision"]),
        (&json!("Acme"), &json!(2))
    );
    api.post("/v1/devices?tenant=acme", &json!({"endpoint": "a"}))
        .await;
    let full = api.delete("/v1/tenants/acme").await;
    assert_eq!(full.problem(), "tenant-in-use");
    assert!(full.detail().contains("devices"));
    assert_eq!(
        api.delete("/v1/tenants/default").await.problem(),
        "tenant-in-use"
    );
    assert_eq!(
        api.delete("/v1/tenants/nobody").await.problem(),
        "not-found"
    );
    api.post("/v1/tenants", &json!({"id": "zeta"})).await;
    assert_eq!(
        api.delete("/v1/tenants/zeta").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(api.get("/v1/tenants/zeta").await.problem(), "not-found");
    assert_eq!(
        api.get("/v1/devices?tenant=zeta").await.problem(),
        "not-found"
    );
}

#[tokio::test]
async fn what_is_others_ends_no_page_and_is_in_no_cursor() {
    let world = World::new().await;
    let task = world.furnish().await;
    let again = json!({"name": "foreign-again", "package_id": world.package, "all": true, "approval": true});
    let made = world.api.post("/v1/tasks", &again).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let excluded = json!({"endpoints": ["a0", "a1"], "reason": "loan"});
    world.post("/v1/exclusions", &excluded).await;
    for list in ["/v1/upgrades", "/v1/exclusions", "/v1/devices/a0/upgrades"] {
        let all = world.get(&format!("{list}?limit=1000")).await.body;
        let all = all["items"].as_array().unwrap().clone();
        let (mut found, mut path) = (Vec::new(), format!("{list}?limit=1"));
        loop {
            let page = world.get(&path).await.body;
            let items = page["items"].as_array().unwrap();
            assert_eq!(items.len(), 1, "{path}: {page}");
            found.extend(items.iter().cloned());
            let Some(cursor) = page["next_cursor"].as_str() else {
                break;
            };
            let name = list.rsplit('/').next().unwrap();
            assert!(cursor.len() > 312, "{name}: {cursor}");
            path = format!("{list}?limit=1&cursor={cursor}");
        }
        assert_eq!(found, all, "{list}");
        let text = json!(found).to_string();
        assert!(
            text.contains("\"a0\"") && !text.contains("foreign"),
            "{text}"
        );
    }
    let plain = hex::encode(format!("newest-upgrades {task}"));
    let refused = world.get(&format!("/v1/upgrades?cursor={plain}")).await;
    assert_eq!(refused.fields(), ["cursor"]);
}

#[tokio::test]
async fn an_approver_of_one_tenant_is_none_for_others() {
    let world = World::new().await;
    let path = format!("/v1/tasks/{}/approve", world.task);
    let approval = json!({"by": "anna", "note": "seen"});
    // acme has an approver, and default has none besides the token in the file
    let approved = world.api.post(&path, &approval).await;
    assert_eq!(approved.status, StatusCode::OK, "{approved:?}");
}

#[tokio::test]
async fn callers_do_not_hear_of_each_other_s_keys() {
    let world = World::new().await;
    let (_, home) = world.api.token("home", roles_on("default")).await;
    let add = async |token: &str, name: &str| {
        let request = Request::post("/v1/groups")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", "nightly")
            .body(Body::from(json!({"name": name, "devices": []}).to_string()))
            .unwrap();
        world.api.call(request).await
    };
    let ours = add(&world.acme, "ours").await;
    assert_eq!(ours.status, StatusCode::CREATED, "{ours:?}");
    for (token, name) in [(&*home, "theirs"), (TOKEN, "carrier's")] {
        let theirs = add(token, name).await;
        assert_eq!(theirs.status, StatusCode::CREATED, "{theirs:?}");
        assert_eq!(add(token, name).await.id(), theirs.id());
    }
    assert_eq!(add(&world.acme, "ours").await.id(), ours.id());
    assert_eq!(
        add(&world.acme, "other").await.fields(),
        ["Idempotency-Key"]
    );
}

#[tokio::test]
async fn one_tenant_leaves_streams_to_others() {
    let world = World::new().await;
    let viewer = json!([{"role": "viewer", "tenant": "acme"}]);
    let mut open = Vec::new();
    for n in 0..MAX_STREAMS_OF_TENANT / MAX_STREAMS_OF_ONE {
        let (_, token) = world.api.token(&format!("v{n}"), viewer.clone()).await;
        for _ in 0..MAX_STREAMS_OF_ONE {
            let stream = Stream::open_as(&world.api, &token, "/v1/events", None).await;
            open.push(stream.unwrap());
        }
    }
    let another = Stream::open_as(&world.api, &world.acme, "/v1/events", None).await;
    let refused = another.err().unwrap();
    assert!(refused.detail().contains("acme have 16"), "{refused:?}");
    let (_, home) = world.api.token("home", roles_on("default")).await;
    for token in [&*home, TOKEN] {
        let stream = Stream::open_as(&world.api, token, "/v1/events", None).await;
        open.push(stream.unwrap());
    }
}

#[tokio::test]
async fn whoever_is_granted_a_tenant_twice_has_what_it_makes() {
    let world = World::new().await;
    let task = world.furnish().await;
    let package = world.get("/v1/packages").await.body["items"][0]["id"].clone();
    let device = json!({"endpoint": "s0", "product": "p", "site": "a"});
    world.post("/v1/devices", &device).await;
    let grants = json!([
        {"role": "operator", "tenant": "*", "filter": "site==a"},
        {"role": "operator", "tenant": "acme", "filter": "site==b"},
    ]);
    let (_, both) = world.api.token("both", grants).await;
    let new = json!({"name": "theirs", "package_id": package, "all": true});
    let made = world.api.post_as(&both, "/v1/tasks", &new).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let path = format!("/v1/tasks/{}", made.id());
    let seen = world.api.get_as(&both, &path).await;
    assert_eq!(seen.status, StatusCode::OK, "{seen:?}");
    let path = format!("/v1/tasks/{task}");
    let others = world.api.get_as(&both, &path).await;
    assert_eq!(others.problem(), "not-found");
    // a webhook for a task has the tenant of the task
    let grants = json!([
        {"role": "administrator", "tenant": "default"},
        {"role": "administrator", "tenant": "acme"},
        {"role": "viewer", "tenant": "acme"},
    ]);
    let (_, two) = world.api.token("two", grants).await;
    let webhook = json!({"url": "https://1.1.1.1/", "task_id": task});
    let added = world.api.post_as(&two, "/v1/webhooks", &webhook).await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    assert_eq!(added.body["tenant"], "acme");
}
