//! Connects one device with a connection, its downloads and the clock.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Duration, Instant, sleep_until, timeout},
};

use super::{
    Target,
    download::{Download, Partial, Told},
    lock,
    shared::Shared,
    tls::{self, Stream},
};
use crate::mqtt::{
    Event, Link,
    device::{Connect, Device, Output, Request},
};

/// Opening a connection, or sending, takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(30);
/// Ending a connection in order takes no longer than this.
const FAREWELL: Duration = Duration::from_secs(5);
/// Enough for what a device is sent.
const PIECE: usize = 1_024;

pub(super) fn elapsed_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Drives a device until the fleet is stopped.
pub(super) async fn drive(
    device: Arc<Mutex<Device>>,
    started: Instant,
    mut stopped: watch::Receiver<bool>,
    shared: Arc<Shared>,
) {
    let mut driver = Driver {
        device,
        shared,
        started,
        line: None,
        download: None,
        partial: Partial::default(),
    };
    tokio::select! {
        _ = stopped.changed() => {}
        never = driver.run() => match never {},
    }
}

struct Line {
    stream: Box<dyn Stream>,
    link: Link,
}

impl Line {
    /// Waits for what is to be acknowledged, and says that it is over. What comes meanwhile is not heard.
    async fn end(mut self, now_ms: u64) -> io::Result<()> {
        let mut piece = [0; PIECE];
        while self.link.unacknowledged() > 0 {
            match self.stream.read(&mut piece).await? {
                0 => return Ok(()),
                len => self.link.receive(now_ms, &piece[..len]),
            }
        }
        self.link.disconnect(now_ms);
        if let Some(bytes) = self.link.take_output() {
            self.stream.write_all(&bytes).await?;
        }
        self.stream.shutdown().await
    }
}

struct Driver {
    device: Arc<Mutex<Device>>,
    shared: Arc<Shared>,
    started: Instant,
    line: Option<Line>,
    /// The download under way, which ends with this.
    download: Option<(mpsc::Receiver<Told>, JoinSet<()>)>,
    /// What is there of the package.
    partial: Partial,
}

/// What woke the driver.
enum Woken {
    Time,
    Read(io::Result<usize>),
    Told(Option<Told>),
}

impl Driver {
    async fn run(&mut self) -> std::convert::Infallible {
        let now_ms = self.now_ms();
        lock(&self.device).start(now_ms);
        let mut piece = [0; PIECE];
        loop {
            self.carry_out().await;
            self.flush().await;
            let blocked = lock(&self.device).is_blocked();
            let next_ms = self.next_ms(blocked);
            let time = async {
                match next_ms {
                    Some(at_ms) => {
                        sleep_until(self.started + Duration::from_millis(at_ms)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let read = async {
                match &mut self.line {
                    Some(line) if !blocked => line.stream.read(&mut piece).await,
                    _ => std::future::pending().await,
                }
            };
            let told = async {
                match &mut self.download {
                    Some((told, _)) => told.recv().await,
                    None => std::future::pending().await,
                }
            };
            let woken = tokio::select! {
                () = time => Woken::Time,
                read = read => Woken::Read(read),
                told = told => Woken::Told(told),
            };
            match woken {
                Woken::Time => self.timeout(blocked),
                Woken::Read(Ok(len @ 1..)) => self.receive(&piece[..len]),
                Woken::Read(Ok(0)) => self.hang_up(None),
                Woken::Read(Err(error)) => self.hang_up(Some(error.to_string())),
                Woken::Told(told) => self.told(told),
            }
        }
    }

    fn now_ms(&self) -> u64 {
        elapsed_ms(self.started)
    }

    fn next_ms(&self, blocked: bool) -> Option<u64> {
        let link = self.line.as_ref().filter(|_| !blocked);
        let link_ms = link.and_then(|line| line.link.poll_timeout());
        let device_ms = lock(&self.device).poll_timeout();
        [link_ms, device_ms].into_iter().flatten().min()
    }

    fn timeout(&mut self, blocked: bool) {
        let now_ms = self.now_ms();
        if let Some(line) = self.line.as_mut().filter(|_| !blocked) {
            line.link.handle_timeout(now_ms);
            self.events();
        }
        lock(&self.device).handle_timeout(now_ms);
    }

    fn receive(&mut self, bytes: &[u8]) {
        let now_ms = self.now_ms();
        if let Some(line) = &mut self.line {
            line.link.receive(now_ms, bytes);
        }
        self.events();
    }

    fn events(&mut self) {
        let now_ms = self.now_ms();
        while let Some(event) = self.line.as_mut().and_then(|line| line.link.poll_event()) {
            let mut device = lock(&self.device);
            match event {
                Event::Connected => device.connected(now_ms),
                Event::Subscribed(accepted) => device.subscribed(now_ms, accepted),
                Event::Message { topic, payload } => device.message(now_ms, &topic, &payload),
                Event::Refused(code) => {
                    device.refused(now_ms, code);
                    self.line = None;
                }
                Event::Broken(why) => {
                    drop(device);
                    self.hang_up(Some(why));
                }
            }
        }
    }

    fn hang_up(&mut self, error: Option<String>) {
        self.line = None;
        if let Some(error) = error {
            self.shared.note(error);
        }
        let now_ms = self.now_ms();
        lock(&self.device).disconnected(now_ms);
    }

    fn told(&mut self, told: Option<Told>) {
        let now_ms = self.now_ms();
        let mut device = lock(&self.device);
        match told {
            Some(Told::Progress { received, size }) => device.downloading(now_ms, received, size),
            Some(Told::Ended(result)) => {
                self.download = None;
                match result {
                    Ok(fetched) => device.downloaded(now_ms, &fetched),
                    Err(failure) => device.download_failed(now_ms, &failure),
                }
            }
            // a download always says how it ended
            None => self.download = None,
        }
    }

    async fn carry_out(&mut self) {
        loop {
            let output = lock(&self.device).poll_output();
            let now_ms = self.now_ms();
            match output {
                None => return,
                Some(Output::Connect(connect)) => self.connect(&connect).await,
                Some(Output::Disconnect { orderly }) => {
                    // what was said before is sent, if it can be
                    self.flush().await;
                    if let Some(line) = self.line.take().filter(|_| orderly) {
                        // whoever cannot say so breaks off
                        let _ = timeout(FAREWELL, line.end(now_ms)).await;
                    }
                }
                Some(Output::Subscribe { topic, qos }) => {
                    if let Some(line) = &mut self.line {
                        line.link.subscribe(now_ms, &topic, qos);
                    }
                }
                Some(Output::Publish {
                    topic,
                    payload,
                    qos,
                }) => {
                    if let Some(line) = &mut self.line {
                        line.link.publish(now_ms, &topic, payload, qos);
                    }
                }
                Some(Output::Download(request)) => self.download(request),
                // what is there is kept
                Some(Output::StopDownload) => self.download = None,
            }
        }
    }

    async fn connect(&mut self, connect: &Connect) {
        let Target {
            host,
            port,
            tls,
            authorities,
        } = &self.shared.target;
        let tls = tls.then_some(authorities);
        let opened = timeout(PATIENCE, tls::connect(host, *port, tls)).await;
        match opened.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(stream) => {
                let link = Link::open(self.now_ms(), connect);
                self.line = Some(Line { stream, link });
            }
            Err(error) => self.hang_up(Some(format!("connecting to {host}:{port}: {error}"))),
        }
    }

    async fn flush(&mut self) {
        let Some(Line { stream, link }) = &mut self.line else {
            return;
        };
        let Some(bytes) = link.take_output() else {
            return;
        };
        let write = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        let sent = timeout(PATIENCE, write).await;
        if let Err(error) = sent.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            self.hang_up(Some(error.to_string()));
        }
    }

    fn download(&mut self, request: Request) {
        let (tell, told) = mpsc::channel(1);
        let shared = Arc::clone(&self.shared);
        let partial = self.partial.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let shared = &*shared;
            let download = Download {
                shared,
                request,
                partial,
                tell,
            };
            download.run().await;
        });
        self.download = Some((told, task));
    }
}
