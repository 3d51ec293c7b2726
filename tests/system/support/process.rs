use std::{
    env,
    io::{BufRead as _, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::wait_for;

/// A process that has ended, and what it said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program under test.
pub(crate) fn cellwise() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_cellwise")))
}

/// Without settings of whoever runs the tests, and away from files that lie about.
pub(crate) fn clean(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CELLWISE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(env::temp_dir());
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().unwrap();
    // a process that has no use for its input may have closed it
    let _ = stdin.write_all(input);
    drop(stdin);
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let mut child = Ended(child);
    let status = wait_for(limit, &format!("the end of {command:?}"), || {
        child.0.try_wait().unwrap()
    });
    Finished {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

/// A process that does not outlive the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // fails when it has ended by itself
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that goes on until it is told to end. It does not outlive the test.
pub(crate) struct Running {
    child: Ended,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self {
            child: Ended(child),
            stdout,
            stderr,
        }
    }

    /// The next line of standard output.
    pub(crate) fn prints(&self, limit: Duration) -> String {
        let line = self.stdout.recv_timeout(limit);
        line.unwrap_or_else(|e| panic!("it prints nothing: {e}"))
    }

    /// The next line of standard output, if it is there.
    pub(crate) fn has_printed(&self) -> Option<String> {
        self.stdout.try_recv().ok()
    }

    /// What it says on standard error, if it is there.
    pub(crate) fn has_said(&self) -> Vec<String> {
        self.stderr.try_iter().collect()
    }

    /// What follows `begin` on the next line of standard error with that.
    pub(crate) fn says(&self, begin: &str, limit: Duration) -> String {
        wait_for(limit, &format!("a line with {begin:?}"), || {
            let line = self.stderr.try_recv().ok()?;
            let (_, rest) = line.split_once(begin)?;
            Some(rest.to_owned())
        })
    }

    /// Panics when it has ended.
    pub(crate) fn assert_running(&mut self) {
        assert_eq!(self.child.0.try_wait().unwrap(), None, "it has ended");
    }

    /// SIGINT, as Ctrl-C. Returns the exit status, and panics when it takes longer than `limit`.
    pub(crate) fn interrupt(&mut self, limit: Duration) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.0.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        wait_for(limit, "its end", || self.child.0.try_wait().unwrap())
    }
}

/// The lines of a stream as they come.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            // a test that has ended wants no more
            let Ok(()) = sender.send(line.unwrap_or_default()) else {
                return;
            };
        }
    });
    receiver
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Where a tool that `tests/run` installs is.
pub(crate) fn tool(name: &str) -> PathBuf {
    if name == "python" {
        // target/debug/cellwise → target/venv/bin/python
        let binary = Path::new(env!("CARGO_BIN_EXE_cellwise"));
        let target = binary.ancestors().nth(2).unwrap();
        let python = target.join("venv/bin/python");
        assert!(
            python.exists(),
            "{} is not there: tests/run makes it",
            python.display()
        );
        return python;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("{name} is not installed: tests/run does that"))
}
