//! Every page that a link leads to: it is there, nothing keeps anybody out of it, and it fits a telephone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::json;

use crate::{
    browser::{Browser, DESKTOP, SOON, TELEPHONE},
    fleet::Site,
};

/// Pages of one kind that are looked at: lists lead to hundreds.
const OF_A_KIND: usize = 2;

/// What is alike in two addresses of one kind: numbers and names of things do not count.
fn kind(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap();
    let part = |part: &str| {
        let is_name = part.contains(|c: char| c.is_ascii_digit() || c == '%') || part.len() > 24;
        if is_name {
            "*".to_owned()
        } else {
            part.to_owned()
        }
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// The addresses below the console that the page leads to.
async fn links(browser: &Browser) -> BTreeSet<String> {
    let script = "return [...document.querySelectorAll('a[href]')].filter(it => !it.hasAttribute('download')).map(it => it.href)";
    let found = browser.client.execute(script, Vec::new()).await.unwrap();
    let base = browser.base();
    let links = found.as_array().unwrap().iter();
    let links = links.filter_map(|link| link.as_str().unwrap().strip_prefix(base));
    let links = links.map(|link| link.split('#').next().unwrap().to_owned());
    links.filter(|link| !link.is_empty()).collect()
}

/// Walks from page to page, and looks at each: at barriers, or at what a script finds there that should not be.
pub(crate) async fn walk(
    browser: &Browser,
    what: &str,
    finds: Option<&str>,
) -> BTreeMap<String, usize> {
    let mut seen = BTreeSet::new();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut ahead = VecDeque::from(["/now".to_owned()]);
    let mut wrong = Vec::new();
    while let Some(path) = ahead.pop_front() {
        let looked = kinds.entry(kind(&path)).or_default();
        if *looked >= OF_A_KIND
            || path.contains(".csv")
            || path.contains("/export")
            || !seen.insert(path.clone())
        {
            continue;
        }
        *looked += 1;
        browser.go(&path).await;
        let title = browser.client.title().await.unwrap();
        let mut found = match finds {
            None => browser.barriers().await,
            Some(script) => {
                let found = browser.client.execute(script, Vec::new()).await.unwrap();
                let found = found.as_array().unwrap().iter();
                found.map(ToString::to_string).collect()
            }
        };
        let wide = browser.too_wide().await;
        if wide > 0 {
            found.push(format!("it is {wide} pixels wider than the window"));
        }
        found.extend(browser.complaints().await);
        if !browser.has("main h1").await || browser.has("main > p.problem").await {
            found.push(format!("it is no page: {}", browser.shown().await));
        }
        if !found.is_empty() {
            wrong.push(format!(
                "{what} {path} ({title}):\n  {}",
                found.join("\n  ")
            ));
        }
        ahead.extend(links(browser).await);
    }
    assert!(
        wrong.is_empty(),
        "{} pages:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    kinds
}

/// A server with something of everything.
async fn full() -> Site {
    let site = Site::new(6, &["refuse-notification=0x04=1"]).await;
    let api = &site.server.api;
    let task = json!({"package_id": site.package, "all": true, "name": "Spring <b>release</b>",
        "phases": [{"percent": 50}, {"percent": 50}], "abort": [{"percent": 90, "min_results": 5, "action": "pause"}]});
    let (status, answer) = api.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{answer}");
    for (path, body) in [
        (
            "/v1/groups",
            json!({"name": "North", "filter": "product==meter;site==north"}),
        ),
        (
            "/v1/exclusions",
            json!({"endpoints": ["meter-000005"], "reason": "on loan"}),
        ),
        (
            "/v1/homes",
            json!({"homes": [{"home": "elm-7", "name": "Elm Street 7", "zone": "Europe/Berlin",
                "people": [{"user": "mia", "role": "owner"}], "things": [{"endpoint": "meter-000004"}]}]}),
        ),
        (
            "/v1/tokens",
            json!({"name": "nightly-import", "grants": [{"role": "viewer"}]}),
        ),
        (
            "/v1/webhooks",
            json!({"url": "https://hooks.invalid/cellwise"}),
        ),
    ] {
        let (status, answer) = api.post(path, &body);
        assert!(status < 300, "{path}: {answer}");
    }
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_page_is_open_to_everybody_at_both_widths_in_both_languages() {
    let site = full().await;
    let mut kinds = BTreeMap::new();
    for (size, language, theme) in [(DESKTOP, "en", "light"), (TELEPHONE, "zh-Hans", "dark")] {
        let browser = Browser::logged_in(&site.server, size, "anna").await;
        browser.cookie("cellwise-language", language).await;
        browser.cookie("cellwise-theme", theme).await;
        for (path, name) in [
            ("/devices", "devices.png"),
            ("/cells", "cells.png"),
            ("/packages", "packages.png"),
            ("/tasks/new", "new-task.png"),
        ] {
            browser.go(path).await;
            if size == DESKTOP {
                browser.picture(name).await;
            }
        }
        kinds = walk(
            &browser,
            &format!("{language}, {theme}, {} pixels:", size.0),
            None,
        )
        .await;
    }
    // every entry of the menu, and what is behind each
    assert!(kinds.len() > 25, "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_page_works_by_the_keyboard_alone() {
    let site = Site::new(0, &[]).await;
    let browser = Browser::logged_in(&site.server, DESKTOP, "anna").await;
    browser.go("/now").await;
    // the first stop leads past the menu
    browser.keys("\u{e004}").await;
    let script = "return document.activeElement.className";
    let first = browser.client.execute(script, Vec::new()).await.unwrap();
    assert_eq!(first, "skip");
    browser.keys("\u{e007}").await;
    let script = "return document.activeElement.id";
    let focused = browser.client.execute(script, Vec::new()).await.unwrap();
    assert_eq!(focused, "main");
    browser.wait_for_text("Now", SOON).await;
}
