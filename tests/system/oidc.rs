//! Log-ins by an identity provider that others have made (oidc-provider-mock, on Authlib).

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::OpenOptionsExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Server, clean, tool};

/// A provider on a port that the system chooses, until its input ends.
const PROVIDER: &str = r#"
import sys
from datetime import timedelta
from oidc_provider_mock import User, run_server_in_thread

import os
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
users = [User(sub="anna", claims={"preferred_username": "anna", "groups": ["meters", "others"]}),
    User(sub="berta", claims={"groups": ["others"]}), User(sub="clara")]
with run_server_in_thread(user_claims=users, require_nonce=True, access_token_max_age=timedelta(seconds=int(sys.argv[1]))) as server:
    print(server.server_port, flush=True)
    sys.stdin.read()
"#;

struct Provider {
    child: Child,
    issuer: String,
}

impl Provider {
    /// Whose tokens last for so many seconds.
    fn start(lasts_s: i64) -> Self {
        let mut command = clean(Command::new(tool("python")));
        let mut child = command
            .args(["-c", PROVIDER, &lasts_s.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut port).unwrap();
        let issuer = format!("http://localhost:{}", port.trim());
        Self { child, issuer }
    }

    fn stop(&mut self) {
        let _ = self.child.kill(); // fails when it has ended
        let _ = self.child.wait();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A browser: it keeps cookies of the server, and goes where it is told when the test says so.
struct Browser {
    agent: ureq::Agent,
    server: String,
    cookies: Vec<(String, String)>,
}

struct Page {
    status: u16,
    location: Option<String>,
    body: Value,
}

impl Browser {
    fn new(server: &Server) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        Self {
            agent: config.into(),
            server: server.api.url(""),
            cookies: Vec::new(),
        }
    }

    fn read(&mut self, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Page {
        let mut response = response.unwrap();
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let location = header("location");
        for cookie in response.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = cookie.split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        let body = response.body_mut().read_to_string().unwrap();
        Page {
            status: response.status().as_u16(),
            location,
            body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
        }
    }

    /// A page of the server.
    fn get(&mut self, path: &str) -> Page {
        let cookies: Vec<String> = (self.cookies.iter())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = self.agent.get(format!("{}{path}", self.server));
        let response = request.header("cookie", cookies.join("; ")).call();
        self.read(response)
    }

    /// What is filled in at the provider, and the path of the server to which that leads back.
    fn fill_in(&mut self, at: &str, form: &[(&str, &str)]) -> String {
        let response = self.agent.post(at).send_form(form.iter().copied());
        let page = self.read(response);
        let back = page.location.unwrap_or_else(|| panic!("{}", page.body));
        back.strip_prefix("http://127.0.0.1:1").unwrap().to_owned()
    }

    /// The way to the provider and back.
    fn log_in(&mut self, user: &str) -> Page {
        let at = self.get("/v1/session/oidc").location.unwrap();
        let back = self.fill_in(&at, &[("sub", user)]);
        self.get(&back)
    }
}

fn problem(page: &Page) -> &str {
    let kind = page.body["type"].as_str();
    kind.unwrap_or_else(|| panic!("{}", page.body))
        .rsplit(':')
        .next()
        .unwrap()
}

fn server(issuer: &str, directory: &tempfile::TempDir) -> Server {
    let secret = directory.path().join("secret");
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&secret)
        .unwrap();
    fs::write(&secret, "the secret of the client\n").unwrap();
    Server::with(&[
        ("CELLWISE_ADMIN__PUBLIC_URL", "http://127.0.0.1:1"),
        ("CELLWISE_OIDC__ISSUER", issuer),
        ("CELLWISE_OIDC__CLIENT_ID", "cellwise"),
        (
            "CELLWISE_OIDC__CLIENT_SECRET_FILE",
            secret.to_str().unwrap(),
        ),
        (
            "CELLWISE_OIDC__GRANTS",
            r#"[{group = "meters", role = "operator", filter = "site==north*"}, {group = "auditors", role = "auditor"}]"#,
        ),
    ])
}

#[test]
fn people_of_an_identity_provider_log_in() {
    let directory = tempfile::tempdir().unwrap();
    let mut provider = Provider::start(3_600);
    let mut server = server(&provider.issuer, &directory);
    let mut anna = Browser::new(&server);
    let page = anna.log_in("anna");
    assert_eq!(page.status, 200, "{}", page.body);
    let me = anna.get("/v1/me").body;
    assert_eq!(me["who"], "user:1:anna");
    let north = json!([{"role": "operator", "filter": "site==north*"}]);
    assert_eq!(me["grants"], north);
    let (status, user) = server.api.get("/v1/users/anna");
    assert_eq!(status, 200);
    assert_eq!(user["identity"]["issuer"], json!(provider.issuer));

    // an answer that comes twice, with the state of before and with one of now
    let mut browser = Browser::new(&server);
    let at = browser.get("/v1/session/oidc").location.unwrap();
    let back = browser.fill_in(&at, &[("sub", "anna")]);
    let before = browser.cookies.clone();
    assert_eq!(browser.get(&back).status, 200);
    browser.cookies = before;
    let again = browser.get(&back);
    assert_eq!((again.status, problem(&again)), (403, "log-in-refused"));
    let code = back
        .split(['?', '&'])
        .find(|it| it.starts_with("code="))
        .unwrap();
    let at = browser.get("/v1/session/oidc").location.unwrap();
    let state = at
        .split(['?', '&'])
        .find(|it| it.starts_with("state="))
        .unwrap();
    let replayed = browser.get(&format!("/v1/session/oidc/callback?{code}&{state}"));
    assert_eq!(
        (replayed.status, problem(&replayed)),
        (403, "log-in-refused")
    );
    let detail = replayed.body["detail"].as_str().unwrap();
    assert!(detail.contains("invalid_grant"), "{detail}");

    // who is in no group that is granted anything, or in none
    for (user, words) in [("berta", "others"), ("clara", "tells no group")] {
        let page = Browser::new(&server).log_in(user);
        assert_eq!((page.status, problem(&page)), (403, "no-grants"));
        let detail = page.body["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail}");
    }

    // who changes their mind, and another browser's answer
    let mut browser = Browser::new(&server);
    let at = browser.get("/v1/session/oidc").location.unwrap();
    let denied = browser.fill_in(&at, &[("action", "deny")]);
    let state = at
        .split(['?', '&'])
        .find(|it| it.starts_with("state="))
        .unwrap();
    let denied = browser.get(&format!("{denied}&{state}"));
    assert_eq!((denied.status, problem(&denied)), (403, "log-in-refused"));
    let at = browser.get("/v1/session/oidc").location.unwrap();
    let back = browser.fill_in(&at, &[("sub", "anna")]);
    let other = Browser::new(&server).get(&back);
    assert_eq!((other.status, problem(&other)), (403, "log-in-refused"));

    // the provider goes away: in mid-way, and before the server starts
    provider.stop();
    let down = browser.get(&back);
    assert_eq!(
        (down.status, problem(&down)),
        (503, "identity-provider-unavailable")
    );
    server.kill_and_restart();
    let down = Browser::new(&server).get("/v1/session/oidc");
    assert_eq!(
        (down.status, problem(&down)),
        (503, "identity-provider-unavailable")
    );
    // who is logged in stays so
    assert_eq!(anna.get("/v1/me").body["who"], "user:1:anna");
}

#[test]
fn a_token_that_has_expired_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let provider = Provider::start(-120);
    let server = server(&provider.issuer, &directory);
    let page = Browser::new(&server).log_in("anna");
    assert_eq!((page.status, problem(&page)), (403, "log-in-refused"));
    let detail = page.body["detail"].as_str().unwrap();
    assert!(detail.contains("xpired"), "{detail}");
}
