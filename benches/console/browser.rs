//! As much of a browser as costs little: a session, pages that are read, streams that wait.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use serde_json::json;

use crate::support::server::Server;

const PASSWORD: &str = "correct horse battery";

/// A session.
pub(crate) struct Browser {
    agent: ureq::Agent,
    address: SocketAddr,
    cookie: String,
}

impl Browser {
    /// Adds a user, and logs in.
    pub(crate) fn log_in(server: &Server, name: &str) -> Self {
        let grants = ["viewer", "operator", "administrator"].map(|role| json!({"role": role}));
        let user = json!({"name": name, "password": PASSWORD, "grants": grants});
        server.post("/v1/users", user.to_string().as_bytes());
        let config = ureq::Agent::config_builder()
            .max_redirects(0)
            .timeout_global(Some(Duration::from_mins(2)))
            .build();
        let agent: ureq::Agent = config.into();
        let address = server.admin();
        let form = format!("name={name}&password={}", PASSWORD.replace(' ', "+"));
        let answer = agent
            .post(format!("http://{address}/console/login"))
            .header("content-type", "application/x-www-form-urlencoded")
            .send(form.as_bytes())
            .unwrap();
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        Self {
            cookie: cookie.split(';').next().unwrap().to_owned(),
            agent,
            address,
        }
    }

    /// Reads a page; it has to be there.
    pub(crate) fn get(&self, path: &str) {
        let request = self.agent.get(format!("http://{}{path}", self.address));
        let mut answer = request.header("cookie", &self.cookie).call().unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let page = answer.body_mut().read_to_string().unwrap();
        assert!(page.contains("<main"), "{path}: {page}");
    }
}

/// A page that waits for news.
pub(crate) struct Stream(BufReader<TcpStream>);

impl Stream {
    pub(crate) fn open(browser: &Browser) -> Self {
        let mut stream = TcpStream::connect(browser.address).unwrap();
        let patience = Some(Duration::from_secs(1));
        stream.set_read_timeout(patience).unwrap();
        let cookie = &browser.cookie;
        let request =
            format!("GET /console/live HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut stream = Self(BufReader::new(stream));
        while stream.line().is_none_or(|line| line != "event: open") {}
        stream
    }

    /// The next line; `None`: none came within a second.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => panic!("the server has ended a stream"),
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(error) => panic!("a stream has failed: {error}"),
        }
    }
}

/// Shows a page, and reads it anew whenever it is told to.
pub(crate) fn keep_open(browser: &Browser, number: usize, stop: &AtomicBool, renewed: &AtomicU64) {
    const PAGES: [&str; 4] = ["/now", "/tasks", "/tasks/1", "/tasks/1/upgrades"];
    let path = format!("/console{}", PAGES[number % PAGES.len()]);
    let mut stream = Stream::open(browser);
    while !stop.load(Ordering::Relaxed) {
        if stream.line().is_some_and(|line| line == "event: changed") {
            browser.get(&path);
            renewed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
