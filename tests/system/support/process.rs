use std::{
    env,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
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
