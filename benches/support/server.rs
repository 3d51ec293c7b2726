//! `cellwise serve` in a process of its own, as it is shipped.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    kernel::{self, Memory},
    now, wait_for,
};

/// How long a start may take. With a million devices to load it is no matter of seconds.
const START_LIMIT: Duration = Duration::from_mins(10);

/// What a server is started with.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The program.
    pub(crate) program: PathBuf,
    /// Environment variables: `("CELLWISE_UPGRADE__DOWNLOAD_S", "5")`.
    pub(crate) settings: Vec<(&'static str, String)>,
}

impl Setup {
    /// The program that cargo has built, unless another one is named.
    pub(crate) fn new(program: Option<&Path>) -> Self {
        let program = program.unwrap_or(Path::new(env!("CARGO_BIN_EXE_cellwise")));
        assert!(program.is_file(), "there is no {}", program.display());
        Self {
            // the server starts in a directory of its own
            program: program.canonicalize().unwrap(),
            settings: vec![("CELLWISE_LOG__FILTER", "warn".into())],
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.settings.push((name, value.to_owned()));
        self
    }
}

/// A running server, until it is dropped.
pub(crate) struct Server {
    child: Child,
    setup: Setup,
    directory: tempfile::TempDir,
    coap: Option<SocketAddr>,
    coaps: Option<SocketAddr>,
    admin: SocketAddr,
    token: String,
}

impl Server {
    /// Starts one on ports of the system's choosing, with its data on the disk that cargo builds on.
    pub(crate) fn start(setup: Setup) -> Self {
        let place = env!("CARGO_TARGET_TMPDIR");
        fs::create_dir_all(place).unwrap();
        let directory = tempfile::tempdir_in(place).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut child = spawn(&setup, directory.path(), [any; 3]);
        let listening = listening(directory.path(), &mut child);
        let address = |name: &str| listening[name].as_str()?.parse().ok();
        let token = fs::read_to_string(directory.path().join("data/admin.token")).unwrap();
        Self {
            child,
            setup,
            coap: address("coap"),
            coaps: address("coaps"),
            admin: address("admin").unwrap(),
            token: format!("Bearer {}", token.trim()),
            directory,
        }
    }

    /// SIGKILL, and a new start with the same data on the same ports, which is not waited for. Returns when it began.
    pub(crate) fn kill_and_restart(&mut self) -> Instant {
        self.end();
        fs::remove_file(self.data().join("listening.json")).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let ports = [
            self.coap.unwrap_or(any),
            self.coaps.unwrap_or(any),
            self.admin,
        ];
        let begun = now();
        self.child = spawn(&self.setup, self.directory.path(), ports);
        begun
    }

    fn end(&mut self) {
        let _ = self.child.kill(); // fails when it has ended by itself
        let _ = self.child.wait();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where devices are heard that do not encrypt.
    pub(crate) fn coap(&self) -> SocketAddrV4 {
        match self.coap {
            Some(SocketAddr::V4(address)) => address,
            other => panic!("the server listens at {other:?}, not at an IPv4 address"),
        }
    }

    /// Where devices are heard that encrypt.
    pub(crate) fn coaps(&self) -> SocketAddr {
        self.coaps.unwrap()
    }

    /// Seconds of CPU time that it has taken so far.
    pub(crate) fn cpu(&self) -> f64 {
        kernel::cpu(self.pid())
    }

    pub(crate) fn memory(&self) -> Memory {
        kernel::memory(self.pid())
    }

    /// Its memory once that has stopped changing: what is freed goes back to the system after a while.
    pub(crate) fn memory_at_rest(&self) -> Memory {
        const PAUSE: Duration = Duration::from_millis(500);
        const LOOKS: usize = 20;
        let mut memory = self.memory();
        let mut alike = 0;
        for _ in 0..LOOKS {
            thread::sleep(PAUSE);
            let next = self.memory();
            let change = next.resident.abs_diff(memory.resident);
            alike = if change < 64 << 10 { alike + 1 } else { 0 };
            memory = next;
            if alike == 4 {
                break;
            }
        }
        memory
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Value {
        let kind = if body.starts_with(b"{") {
            "json"
        } else {
            "octet-stream"
        };
        let request = ureq::post(format!("http://{}{path}", self.admin))
            .header("authorization", &self.token)
            .header("content-type", format!("application/{kind}"));
        request.send(body).unwrap().body_mut().read_json().unwrap()
    }

    /// Where operators are.
    #[allow(dead_code, reason = "not every benchmark needs it")]
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    #[allow(dead_code, reason = "not every benchmark needs it")]
    pub(crate) fn put(&self, path: &str, body: &[u8]) {
        let request = ureq::put(format!("http://{}{path}", self.admin))
            .header("authorization", &self.token)
            .header("content-type", "application/json");
        request.send(body).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.reader().get(path)
    }

    /// Reads from the admin API, on any thread.
    pub(crate) fn reader(&self) -> Reader {
        Reader {
            agent: ureq::Agent::new_with_defaults(),
            base: format!("http://{}", self.admin),
            token: self.token.clone(),
        }
    }

    /// Whether it says that it is ready. `false` also while nobody answers.
    pub(crate) fn is_ready(&self) -> bool {
        ureq::get(format!("http://{}/readyz", self.admin))
            .call()
            .is_ok()
    }

    /// Its figures by their names, those with labels left out; `None` while nobody answers.
    pub(crate) fn metrics(&self) -> Option<BTreeMap<String, f64>> {
        let mut response = ureq::get(format!("http://{}/metrics", self.admin))
            .call()
            .ok()?;
        let text = response.body_mut().read_to_string().ok()?;
        let figures = text.lines().filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Some(figures.collect())
    }

    /// Waits until everything that it was told is on disk.
    pub(crate) fn wait_until_committed(&self) {
        // figures are published once a second: what they say twice is true
        let mut empty = 0;
        wait_for(START_LIMIT, "the last commit", || {
            let metrics = self.metrics()?;
            let waiting = metrics.get("cellwise_changes_uncommitted");
            empty = match waiting {
                Some(0.0) | None => empty + 1,
                Some(_) => 0,
            };
            thread::sleep(Duration::from_millis(600));
            (empty == 3).then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads from the admin API with connections of its own.
pub(crate) struct Reader {
    agent: ureq::Agent,
    base: String,
    token: String,
}

impl Reader {
    pub(crate) fn get(&self, path: &str) -> Value {
        let request = self.agent.get(format!("{}{path}", self.base));
        let request = request.header("authorization", &self.token);
        request.call().unwrap().body_mut().read_json().unwrap()
    }
}

fn spawn(setup: &Setup, directory: &Path, [coap, coaps, admin]: [SocketAddr; 3]) -> Child {
    let mut command = Command::new(&setup.program);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CELLWISE_") {
            command.env_remove(name); // settings of whoever measures
        }
    }
    let secured = (setup.settings.iter()).any(|(name, _)| *name == "CELLWISE_DTLS__ENABLED");
    if secured {
        command.env("CELLWISE_DTLS__LISTEN", coaps.to_string());
    }
    command
        .arg("serve")
        .current_dir(directory)
        .env("CELLWISE_DATA_DIR", directory.join("data"))
        .env("CELLWISE_COAP__LISTEN", coap.to_string())
        .env("CELLWISE_ADMIN__LISTEN", admin.to_string())
        .envs(setup.settings.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        // what is printed here is for whoever measures
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", setup.program.display()))
}

/// What the server says where it listens, once it does.
fn listening(directory: &Path, child: &mut Child) -> Value {
    let path = directory.join("data/listening.json");
    wait_for(START_LIMIT, "the server's readiness", || {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "the server ended with {ended:?}");
        serde_json::from_slice(&fs::read(&path).ok()?).ok()
    })
}
