use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};

use super::App;

/// What the metrics tell under that name; 0 where it is not told.
fn told(app: &App, name: &str) -> u64 {
    let text = app.state.metrics.handle().render();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

fn requests(app: &App, operation: &str, status: &str) -> u64 {
    let labels = format!("{{operation=\"{operation}\",status=\"{status}\"}}");
    told(app, &format!("cellwise_app_requests_total{labels}"))
}

fn refused(app: &App, ration: &str) -> u64 {
    let name = format!("cellwise_app_refused_total{{ration=\"{ration}\"}}");
    told(app, &name)
}

#[tokio::test]
async fn requests_are_counted_by_what_they_ask_for_and_how_they_are_answered() {
    let app = App::new().await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    let owner = app.token("owner").await;
    for path in ["ours/upgrades", "ours/upgrades", "theirs/upgrades"] {
        app.get(&owner, &format!("/app/v1/homes/{path}")).await;
    }
    app.get("wrong", "/app/v1/homes").await;
    app.get(&owner, "/app/v1/nothing").await;
    assert_eq!(requests(&app, "list_home_upgrades", "2xx"), 2);
    assert_eq!(requests(&app, "list_home_upgrades", "4xx"), 1);
    assert_eq!(requests(&app, "list_homes", "4xx"), 1);
    assert_eq!(requests(&app, "none", "4xx"), 1);
    // the description, which the tests have asked for
    assert_eq!(requests(&app, "none", "2xx"), 1);
}

#[tokio::test]
async fn what_is_too_much_is_counted_by_whose_ration_it_exceeds() {
    let app = App::with(|config| {
        config.app.requests_per_user_per_second = 1;
        config.app.failed_attempts_per_minute = 1;
        config.app.max_listeners = 1;
    })
    .await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    for ration in [
        "address",
        "wrong_tokens",
        "user",
        "home",
        "starts",
        "listeners",
    ] {
        assert_eq!(refused(&app, ration), 0);
    }
    for _ in 0..2 {
        app.get("wrong", "/app/v1/homes").await;
    }
    assert_eq!(refused(&app, "wrong_tokens"), 1);
    let listen = async |user: &str| {
        let token = app.token(user).await;
        let request = Request::get("/app/v1/homes/ours/events")
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        app.send(request.body(Body::empty()).unwrap()).await
    };
    let open = listen("owner").await;
    assert_eq!(told(&app, "cellwise_app_listeners"), 1);
    let full = listen("administrator").await;
    assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused(&app, "listeners"), 1);
    drop(open);
    assert_eq!(told(&app, "cellwise_app_listeners"), 0);
    let member = app.token("member").await;
    let mut refusals = 0;
    while refusals == 0 {
        let answer = app.get(&member, "/app/v1/homes").await;
        refusals += u64::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(refused(&app, "user"), 1);
    assert_eq!(requests(&app, "list_homes", "4xx"), 3);
}

#[tokio::test]
async fn what_its_address_is_refused_is_counted_too() {
    let app = App::with(|config| config.app.requests_per_address_per_second = 1).await;
    let token = app.token("anna").await;
    let mut refusals = 0;
    while refusals == 0 {
        let answer = app.get(&token, "/app/v1/homes").await;
        refusals += u64::from(answer.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(refused(&app, "address"), 1);
    assert_eq!(requests(&app, "none", "4xx"), 1);
    assert_eq!(refused(&app, "user"), 0);
}
