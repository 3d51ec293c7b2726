//! The listener for downloads, in a process of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use cellwise::{
    clock::{SystemClock, UtcMillis},
    config::{Config, DownloadConfig, Settings},
    download::{Downloads, DownloadsSetup},
    grants::{Grant, Grants, Token, Way},
    ledger::{DeviceId, PackageId, TaskId, UpgradeId},
    store::PackageFiles,
    telemetry::Metrics,
    tls::{Tls, TlsFiles},
};

pub(crate) struct Ours {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
}

impl Ours {
    pub(crate) fn start(dir: &Path, slow: u32) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--serve")
            .arg(dir)
            .args(["--slow", &slow.to_string()])
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = || lines.next().unwrap().unwrap().parse().unwrap();
        let (http, https) = (address(), address());
        Self { child, http, https }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn http_url(&self, device: u32) -> String {
        format!("http://{}/t/{}/x", self.http, token(device).as_str())
    }

    pub(crate) fn https_url(&self, device: u32) -> String {
        format!("https://{}/t/{}/x", self.https, token(device).as_str())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // it ends then
        let _ = self.child.wait();
    }
}

pub(crate) fn token(device: u32) -> Token {
    Token::new(&format!("benchmark-of-downloads-{device}")).unwrap()
}

/// Bounds that are in nobody's way.
fn settings(devices: u32) -> Config {
    let mut config = Config::default();
    config.download.max_connections = devices + 100;
    config.download.max_connections_per_address = 100_000;
    config.download.max_downloads_per_address = 1_000_000;
    config.download.idle_timeout_s = 3_600;
    config
}

/// Until the standard input ends.
pub(crate) fn serve(dir: &Path, devices: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tls = TlsFiles::of_downloads(&DownloadConfig {
        https: true,
        tls_certificate: dir.join("server.pem"),
        tls_key: dir.join("server.key"),
        ..DownloadConfig::default()
    });
    let tls = Tls::of(tls.as_ref()).unwrap();
    let files = runtime.block_on(PackageFiles::open(dir)).unwrap();
    let stored = runtime.block_on(async {
        let mut upload = files.upload(u64::MAX).await.unwrap();
        for part in fs::read(dir.join("package.bin")).unwrap().chunks(1 << 20) {
            upload.write(part).await.unwrap();
        }
        upload.seal().await.unwrap().publish(&files).await.unwrap()
    });
    let grants = Arc::new(Grants::default());
    for device in 0..devices {
        grants.grant(Grant {
            token: token(device),
            way: Way::Path,
            device: DeviceId::from_bytes(u64::from(device).to_be_bytes()),
            upgrade: UpgradeId(device.into()),
            task: TaskId(1),
            package: PackageId(1),
            sha256: stored.sha256.clone(),
            size_bytes: stored.size_bytes,
            file_name: "package.bin".to_owned(),
            expires_at: UtcMillis(i64::MAX),
            already_contiguous: 0,
            begun: true,
        });
    }
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (http, https) = (listen(), listen());
    println!(
        "{}\n{}",
        http.local_addr().unwrap(),
        https.local_addr().unwrap()
    );
    std::io::stdout().flush().unwrap();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let (_downloads, run) = Downloads::start(DownloadsSetup {
        listeners: vec![(http, None), (https, tls)],
        grants,
        files,
        settings: Settings::new(Arc::new(settings(devices))),
        clock: SystemClock::start(),
        metrics: Arc::new(Metrics::new().unwrap()),
        stop: stopping,
    })
    .unwrap();
    let running = runtime.spawn(run);
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line); // its end
    stop.send(true).unwrap();
    runtime.block_on(running).unwrap();
}
