use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;

use super::{Finished, Running, Server, clean, identity, run, tool, wait_for};

/// A device that shares no code with the server, as a process.
#[derive(Debug)]
pub(crate) struct Device {
    endpoint: String,
    process: JoinHandle<Finished>,
}

impl Device {
    /// Starts a device in cell 1 of good coverage, unless `options` say otherwise.
    pub(crate) fn start(server: &Server, endpoint: &str, options: &[&str]) -> Self {
        Self::at(server.coap, endpoint, options)
    }

    /// The same over DTLS, with the key it was added with.
    pub(crate) fn secured(server: &Server, endpoint: &str, key: &[u8], options: &[&str]) -> Self {
        let (identity, key) = (identity(endpoint), hex::encode(key));
        let own = ["--identity", identity.as_str(), "--key", key.as_str()];
        Self::at(server.coaps(), endpoint, &[&own, options].concat())
    }

    /// A device that takes `server` for the server.
    pub(crate) fn at(server: SocketAddr, endpoint: &str, options: &[&str]) -> Self {
        Self::of_script("aiocoap_device.py", server, endpoint, options)
    }

    /// A gateway, over DTLS, with the key it was added with. The devices behind it are its options.
    pub(crate) fn gateway(server: &Server, endpoint: &str, key: &[u8], options: &[&str]) -> Self {
        let (identity, key) = (identity(endpoint), hex::encode(key));
        let own = ["--identity", identity.as_str(), "--key", key.as_str()];
        let options = [&own, options].concat();
        Self::of_script("aiocoap_gateway.py", server.coaps(), endpoint, &options)
    }

    fn of_script(script: &str, server: SocketAddr, endpoint: &str, options: &[&str]) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let script = scripts.join(script);
        let mut command = clean(Command::new(tool("python")));
        command
            .arg("-B") // leaves nothing behind beside the script
            .arg(script)
            .args(["--server", &server.to_string()])
            .args(["--endpoint", endpoint])
            .args(["--cell", "1", "--rsrp", "-90", "--sinr", "10"])
            .args(options);
        // its own limit is 120 s
        let limit = Duration::from_mins(3);
        Self {
            endpoint: endpoint.to_owned(),
            process: thread::spawn(move || run(&mut command, b"", limit)),
        }
    }

    /// One of those in `tests/mqtt`.
    pub(crate) fn over_mqtt(script: &str, endpoint: &str, options: &[&str]) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mqtt");
        let mut command = clean(Command::new(tool("python")));
        command
            .arg("-B") // leaves nothing behind beside the scripts
            .arg(scripts.join(script))
            .args(["--device", endpoint])
            .args(options);
        // its own limit is 60 s
        let limit = Duration::from_mins(2);
        Self {
            endpoint: endpoint.to_owned(),
            process: thread::spawn(move || run(&mut command, b"", limit)),
        }
    }

    /// What it went through, once it has been upgraded.
    pub(crate) fn upgraded(self) -> Vec<Value> {
        let Self { endpoint, process } = self;
        let Finished {
            status,
            stdout,
            stderr,
        } = process.join().expect("the device ends");
        assert!(
            status.success(),
            "{endpoint} ended with {status}\n{stdout}\n{stderr}"
        );
        let events = stdout.lines().map(serde_json::from_str);
        events
            .collect::<Result<_, _>>()
            .expect("JSON in every line")
    }
}

/// A device with the standard's own objects, which goes on until it is dropped: that is SIGKILL for it.
pub(crate) struct Lively {
    endpoint: String,
    process: Running,
    events: Vec<Value>,
}

impl Lively {
    pub(crate) fn start(server: SocketAddr, endpoint: &str, options: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aiocoap_firmware.py");
        let mut command = clean(Command::new(tool("python")));
        command
            .arg("-B") // leaves nothing behind beside the script
            .arg(script)
            .args(["--server", &server.to_string()])
            .args(["--endpoint", endpoint])
            .args(options);
        Self {
            endpoint: endpoint.to_owned(),
            process: Running::start(&mut command),
            events: Vec::new(),
        }
    }

    /// The first event of that name, once it has happened.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        let what = format!("{name} of {}", self.endpoint);
        wait_for(Duration::from_mins(1), &what, || {
            let found = self.events(name).into_iter().next();
            if found.is_none()
                && let Some(failed) = self.events("failed").first()
            {
                let said = self.process.has_said().join("\n");
                panic!("{}: {failed}\n{said}\n{:#?}", self.endpoint, self.events);
            }
            found
        })
    }

    /// Those of that name, up to now.
    pub(crate) fn events(&mut self, name: &str) -> Vec<Value> {
        while let Some(line) = self.process.has_printed() {
            self.events
                .push(serde_json::from_str(&line).expect("JSON in every line"));
        }
        let found = self.events.iter().filter(|event| event["event"] == name);
        found.cloned().collect()
    }
}

impl Drop for Lively {
    fn drop(&mut self) {
        if thread::panicking() {
            self.events("");
            for event in &self.events {
                println!("{}: {event}", self.endpoint);
            }
            println!("{}", self.process.has_said().join("\n"));
        }
    }
}
