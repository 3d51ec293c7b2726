use std::{
    fs::{self, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{Api, cellwise, wait_for};

/// The devices' keys are stored with it.
const CREDENTIAL_KEY: &str = "6a7c1de0f39b44852a6d7790c15be83f2db1a4965ce70218f3944d6b8aa0be17";

/// Further ports, by their names in `listening.json`, with their settings.
const OF_MQTT: [(&str, &str); 4] = [
    ("mqtt", "CELLWISE_MQTT__TCP_LISTEN"),
    ("mqtts", "CELLWISE_MQTT__TLS_LISTEN"),
    ("download_http", "CELLWISE_DOWNLOAD__HTTP_LISTEN"),
    ("download_https", "CELLWISE_DOWNLOAD__HTTPS_LISTEN"),
];

/// `cellwise serve` in a directory of its own, on ports of the system's choosing, until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    directory: TempDir,
    settings: Vec<(String, String)>,
    /// Where devices send to; port 0 when the plain port is closed.
    pub(crate) coap: SocketAddr,
    coaps: Option<SocketAddr>,
    admin: SocketAddr,
    /// What operators use.
    pub(crate) api: Api,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With DTLS, and more settings.
    pub(crate) fn secured(settings: &[(&str, &str)]) -> Self {
        let own = [
            ("CELLWISE_DTLS__ENABLED", "true"),
            ("CELLWISE_DTLS__CREDENTIAL_KEY", CREDENTIAL_KEY),
        ];
        Self::with(&[&own, settings].concat())
    }

    /// With settings of the test, as environment variables: `("CELLWISE_UPGRADE__DOWNLOAD_S", "5")`.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings: Vec<(String, String)> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (child, coap, coaps, admin) = spawn(&directory, [any; 3], &settings);
        let token = fs::read_to_string(directory.path().join("data/admin.token")).unwrap();
        Self {
            child,
            directory,
            settings,
            coap,
            coaps,
            admin,
            api: Api::new(admin, token.trim()),
        }
    }

    /// SIGKILL, and a new start with the same data on the same ports.
    pub(crate) fn kill_and_restart(&mut self) {
        let listening: Vec<_> = OF_MQTT
            .iter()
            .filter_map(|(name, setting)| Some((*setting, self.listening(name)?.to_string())))
            .collect();
        for (setting, address) in listening {
            self.settings.retain(|(name, _)| name != setting);
            self.settings.push((setting.to_owned(), address));
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        fs::remove_file(self.data_dir().join("listening.json")).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let ports = [self.coap, self.coaps.unwrap_or(any), self.admin];
        let (child, ..) = spawn(&self.directory, ports, &self.settings);
        self.child = child;
    }

    /// SIGKILL, the loss of its data directory, which `restore` makes anew, and a new start on the same ports.
    pub(crate) fn kill_and_restore(&mut self, restore: impl FnOnce(&Path)) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        fs::remove_dir_all(self.data_dir()).unwrap();
        restore(&self.data_dir());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let ports = [self.coap, self.coaps.unwrap_or(any), self.admin];
        let (child, ..) = spawn(&self.directory, ports, &self.settings);
        self.child = child;
    }

    /// SIGHUP.
    pub(crate) fn reload(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGHUP).unwrap();
    }

    /// SIGTERM. Returns the exit status, and panics when it takes longer than `limit`.
    pub(crate) fn terminate(&mut self, limit: Duration) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        wait_for(limit, "the server's end", || self.child.try_wait().unwrap())
    }

    /// Where it listens for this, by its name in `listening.json`.
    pub(crate) fn listening(&self, name: &str) -> Option<SocketAddr> {
        let listening = fs::read(self.data_dir().join("listening.json")).unwrap();
        let listening: Value = serde_json::from_slice(&listening).unwrap();
        listening[name].as_str()?.parse().ok()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where operators reach it.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn coap_uri(&self, path: &str) -> String {
        format!("coap://{}/{path}", self.coap)
    }

    /// Where devices that encrypt send to.
    pub(crate) fn coaps(&self) -> SocketAddr {
        self.coaps.expect("a server with DTLS")
    }

    pub(crate) fn coaps_uri(&self, path: &str) -> String {
        format!("coaps://{}/{path}", self.coaps())
    }

    /// What it has logged so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap()
    }

    /// Number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that the process has in use.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.expect("the kernel tells a process's memory") * 1024
    }

    /// Panics when the process has ended.
    pub(crate) fn assert_running(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the server has ended");
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

/// Starts the program and waits until it listens.
fn spawn(
    directory: &TempDir,
    [coap, coaps, admin]: [SocketAddr; 3],
    settings: &[(String, String)],
) -> (Child, SocketAddr, Option<SocketAddr>, SocketAddr) {
    let data = directory.path().join("data");
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.path().join("log"))
        .unwrap();
    let mut child = cellwise()
        .arg("serve")
        .current_dir(directory.path())
        .env("CELLWISE_DATA_DIR", &data)
        .env("CELLWISE_COAP__LISTEN", coap.to_string())
        .env("CELLWISE_DTLS__LISTEN", coaps.to_string())
        .env("CELLWISE_ADMIN__LISTEN", admin.to_string())
        .envs(settings.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let (coap, coaps, admin) = wait_for(Duration::from_secs(30), "the server's readiness", || {
        if let Some(status) = child.try_wait().unwrap() {
            let said = fs::read_to_string(directory.path().join("log")).unwrap();
            panic!("the server ended with {status}:\n{said}");
        }
        let listening = fs::read(data.join("listening.json")).ok()?;
        let listening: Value = serde_json::from_slice(&listening).ok()?;
        let address = |name: &str| listening[name].as_str()?.parse::<SocketAddr>().ok();
        Some((address("coap"), address("coaps"), address("admin")?))
    });
    let closed = SocketAddr::from(([127, 0, 0, 1], 0));
    (child, coap.unwrap_or(closed), coaps, admin)
}

impl Drop for Server {
    fn drop(&mut self) {
        // fails when it has ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let said = fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            println!("the server's last words:\n{}", last.join("\n"));
        }
    }
}
