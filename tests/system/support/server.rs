use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Api, cellwise, wait_for};

/// `cellwise serve` in a directory of its own, on ports of the system's choosing, until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    directory: TempDir,
    /// Where devices send to.
    pub(crate) coap: SocketAddr,
    /// What operators use.
    pub(crate) api: Api,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// With settings of the test, as environment variables: `("CELLWISE_UPGRADE__DOWNLOAD_S", "5")`.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let log = File::create(directory.path().join("log")).unwrap();
        let mut child = cellwise()
            .arg("serve")
            .current_dir(directory.path())
            .env("CELLWISE_DATA_DIR", &data)
            .env("CELLWISE_COAP__LISTEN", "127.0.0.1:0")
            .env("CELLWISE_ADMIN__LISTEN", "127.0.0.1:0")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let (coap, admin) = wait_for(Duration::from_secs(30), "the server's readiness", || {
            if let Some(status) = child.try_wait().unwrap() {
                let said = fs::read_to_string(directory.path().join("log")).unwrap();
                panic!("the server ended with {status}:\n{said}");
            }
            let listening = fs::read(data.join("listening.json")).ok()?;
            let listening: Value = serde_json::from_slice(&listening).ok()?;
            let address = |name: &str| listening[name].as_str()?.parse::<SocketAddr>().ok();
            Some((address("coap")?, address("admin")?))
        });
        let token = fs::read_to_string(data.join("admin.token")).unwrap();
        Self {
            child,
            directory,
            coap,
            api: Api::new(admin, token.trim()),
        }
    }

    pub(crate) fn coap_uri(&self, path: &str) -> String {
        format!("coap://{}/{path}", self.coap)
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
