//! A browser, and what a test does with it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use cellwise::clock::SystemClock;
use fantoccini::{
    Client, ClientBuilder, Locator,
    elements::Element,
    wd::{Capabilities, TimeoutConfiguration, WebDriverCompatibleCommand},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Server;

/// For whatever a page does by itself.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// For devices to be upgraded.
pub(crate) const LONG: Duration = Duration::from_mins(3);

/// The widths that pages are looked at with.
pub(crate) const DESKTOP: (u32, u32) = (1_280, 900);
pub(crate) const TELEPHONE: (u32, u32) = (390, 844);

/// Somebody before a browser of its own.
pub(crate) struct Browser {
    pub(crate) client: Client,
    /// The console's address: `http://127.0.0.1:8080/console`.
    base: String,
    driver: Child,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // with it goes the browser
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Where `tests/run` puts what it installs.
fn target() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap().to_owned()
}

/// axe-core, to be run in a page.
fn axe() -> String {
    let path = target().join("node/node_modules/axe-core/axe.min.js");
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; tests/run installs it", path.display()))
}

impl Browser {
    /// Opens a browser for the console of a server.
    pub(crate) async fn open(server: &Server, size: (u32, u32)) -> Self {
        let (driver, port) = start_driver();
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--lang=en-US",
        ];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.push(format!("--window-size={},{}", size.0, size.1));
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {
                "args": arguments,
                // a window is never as narrow as a telephone
                "mobileEmulation": {
                    "deviceMetrics": { "width": size.0, "height": size.1, "pixelRatio": 1.0, "mobile": false, "touch": false }
                },
            },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(wanted) = wanted else {
            unreachable!()
        };
        let wanted: Capabilities = wanted;
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(wanted)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        let patience = TimeoutConfiguration::new(Some(SOON), Some(SOON), Some(Duration::ZERO));
        client.update_timeouts(patience).await.unwrap();
        Self {
            client,
            base: server.api.url("/console"),
            driver,
            _profile: profile,
        }
    }

    /// The same, logged in.
    pub(crate) async fn logged_in(server: &Server, size: (u32, u32), name: &str) -> Self {
        let browser = Self::open(server, size).await;
        browser.log_in(name).await;
        browser
    }

    /// Logs in by the form.
    pub(crate) async fn log_in(&self, name: &str) {
        self.go("/login").await;
        self.fill("input[name=name]", name).await;
        self.fill("input[name=password]", PASSWORD).await;
        self.click("form.stack button").await;
        self.wait_for("header.top").await;
    }

    /// Goes to a page: `/tasks`.
    pub(crate) async fn go(&self, path: &str) {
        let address = format!("{}{path}", self.base);
        self.client.goto(&address).await.unwrap();
    }

    /// Where it is, below the console.
    pub(crate) async fn path(&self) -> String {
        let address = self.client.current_url().await.unwrap().to_string();
        address
            .strip_prefix(&self.base)
            .unwrap_or(&address)
            .to_owned()
    }

    /// Whether there is one.
    pub(crate) async fn has(&self, selector: &str) -> bool {
        let found = self.client.find_all(Locator::Css(selector)).await;
        !found.unwrap().is_empty()
    }

    /// The first element that a selector finds, once it is there.
    pub(crate) async fn wait_for(&self, selector: &str) -> Element {
        let wait = self.client.wait().at_most(SOON);
        match wait.for_element(Locator::Css(selector)).await {
            Ok(element) => element,
            Err(error) => panic!("{selector}: {error}; {}", self.shown().await),
        }
    }

    /// Waits until the page shows a text.
    pub(crate) async fn wait_for_text(&self, text: &str, limit: Duration) {
        let clock = SystemClock::start();
        let began = clock.now().instant;
        loop {
            let shown = self.shown().await;
            if shown.contains(text) {
                return;
            }
            let waited = clock.now().instant.since(began);
            assert!(waited < limit, "{text:?} did not come: {shown}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the page shows, as text; empty while it is changing.
    pub(crate) async fn shown(&self) -> String {
        let script = "return document.body ? document.body.innerText : ''";
        let shown = self.client.execute(script, Vec::new()).await;
        shown
            .ok()
            .and_then(|it| it.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = self.wait_for(selector).await;
        element
            .click()
            .await
            .unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Clicks what has this text: a link or a button.
    pub(crate) async fn click_text(&self, text: &str) {
        let path =
            format!("//a[normalize-space()={text:?}] | //button[normalize-space()={text:?}]");
        match self.client.find(Locator::XPath(&path)).await {
            Ok(element) => element.click().await.unwrap(),
            Err(error) => panic!("{text}: {error}; {}", self.shown().await),
        }
    }

    /// Enters something instead of what stands there.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        let element = self.wait_for(selector).await;
        element.clear().await.unwrap();
        element.send_keys(text).await.unwrap();
    }

    /// The console's address.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Presses keys, wherever the focus is.
    pub(crate) async fn keys(&self, keys: &str) {
        let focused = self.client.active_element().await.unwrap();
        focused.send_keys(keys).await.unwrap();
    }

    /// Sets a cookie of what somebody has chosen.
    pub(crate) async fn cookie(&self, name: &str, value: &str) {
        let script = "document.cookie = `${arguments[0]}=${arguments[1]}; Path=/`";
        let arguments = vec![name.into(), value.into()];
        self.client.execute(script, arguments).await.unwrap();
    }

    /// Chooses by the value.
    pub(crate) async fn choose(&self, selector: &str, value: &str) {
        let element = self.wait_for(selector).await;
        element.select_by_value(value).await.unwrap();
    }

    /// A picture of the page, as large as it is, in the directory of the build; with `CELLWISE_SCREENSHOTS` in `docs/screenshots` too.
    pub(crate) async fn picture(&self, name: &str) {
        // what was there at the first look may be painted still
        let painted =
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))";
        self.client
            .execute_async(painted, Vec::new())
            .await
            .unwrap();
        let picture = self.client.screenshot().await.unwrap();
        let place = target().join("screenshots");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(name), &picture).unwrap();
        if std::env::var_os("CELLWISE_SCREENSHOTS").is_some() {
            let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/screenshots");
            fs::create_dir_all(&docs).unwrap();
            fs::write(docs.join(name), &picture).unwrap();
        }
    }

    /// What keeps somebody out of the page that is shown: WCAG 2.2 at the levels A and AA, as far as axe-core finds it.
    pub(crate) async fn barriers(&self) -> Vec<String> {
        // the page's own scripts are bound by its policy, what the driver runs is not
        self.client.execute(&axe(), Vec::new()).await.unwrap();
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
                .then(found => done(found.violations.map(it => it.id + ': ' + it.nodes.map(node => node.html + ' ' +
                    node.any.map(any => any.message).join(', ')).join(' | '))), error => done(['axe failed: ' + error]));";
        let found = self.client.execute_async(script, Vec::new()).await.unwrap();
        let found = found.as_array().unwrap();
        found
            .iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect()
    }

    /// By how many pixels the page is wider than its window.
    pub(crate) async fn too_wide(&self) -> i64 {
        let script =
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.client
            .execute(script, Vec::new())
            .await
            .unwrap()
            .as_i64()
            .unwrap()
    }

    /// What the browser has complained of since it was asked last: scripts that failed, what the policy forbids, files that are missing.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let entries = self.client.issue_cmd(Log).await.unwrap();
        let entries = entries.as_array().unwrap().iter();
        // advice is no complaint
        let entries = entries.filter(|entry| entry["level"] != "DEBUG" && entry["level"] != "INFO");
        let said = entries.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned());
        said.collect()
    }
}

/// The log of a page, which `WebDriver` itself does not know.
#[derive(Debug)]
struct Log;

impl WebDriverCompatibleCommand for Log {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (
            http::Method::POST,
            Some(json!({"type": "browser"}).to_string()),
        )
    }
}

/// The password of every user of these tests.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A driver on a port that it has chosen.
fn start_driver() -> (Child, u16) {
    // one whose port somebody else takes in that moment ends at once
    for _ in 0..5 {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver: {error}; tests/run installs it"));
        let (said, hears) = mpsc::channel();
        let stdout = BufReader::new(driver.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, port)) = line.split_once("successfully on port ")
                    && let Ok(port) = port.trim_end_matches('.').parse()
                {
                    let _ = said.send(port);
                }
            }
        });
        match hears.recv_timeout(SOON) {
            Ok(port) => return (driver, port),
            Err(mpsc::RecvTimeoutError::Disconnected) => drop(driver.wait()),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("chromedriver does not say its port"),
        }
    }
    panic!("chromedriver ends whenever it is started");
}
