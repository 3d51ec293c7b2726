//! The data directory: whose it is, who uses it, whether what is in it is sound.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use nix::sys::statvfs::statvfs;

use super::{Finding, Thoroughness, data_dir};
use crate::{
    clock::UtcMillis,
    server::backup::{LastBackup, hashed},
    store::{DatabaseFile, Depth, FILE_NAME, KeptContent, PACKAGES_DIRECTORY, newest_known_step},
};

const MIB: u64 = 1024 * 1024;
/// Packages of which it is told that they are damaged.
const MAX_TOLD: usize = 20;
/// A backup should not be older: that of a day, and some time to make it.
const OLD_BACKUP: Duration = Duration::from_hours(26);
/// Inodes that a server should have left.
const SCANT_FILES: u64 = 1_000;

/// The process that has the data directory's lock.
pub(super) fn server_of(dir: &Path) -> Option<u32> {
    let lock = fs::metadata(dir.join(data_dir::LOCK_FILE)).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| holder(line, lock.ino()))
}

/// Who holds the lock of a line, if it is an exclusive one on the file with this number: `1: FLOCK ADVISORY WRITE 708 00:1b:1234 0
/// EOF` (proc(5)). The device stands there in another form than `stat` gives it, so that it is not compared.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, "WRITE", process, file, ..] = words[..] else {
        return None;
    };
    let number = file.rsplit(':').next()?;
    (number.parse() == Ok(inode)).then(|| process.parse().ok())?
}

pub(super) fn directory(dir: &Path, server: Option<u32>) -> Vec<Finding> {
    const CHECK: &str = "data directory";
    let shown = dir.display();
    let Ok(metadata) = fs::metadata(dir) else {
        return vec![Finding::ok(
            CHECK,
            format!("{shown} is not there yet; the server makes it at its start"),
        )];
    };
    let mut findings = Vec::new();
    if dir.join(data_dir::HALF_RESTORED).exists() {
        findings.push(Finding::error(
            CHECK,
            format!("{shown} holds a part of a backup: a restore broke off"),
            "empty it, and restore the backup anew",
        ));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        findings.push(Finding::warning(
            CHECK,
            format!("{shown} is open to others (mode {mode:04o})"),
            format!("run chmod 700 {shown}"),
        ));
    }
    findings.extend(files(dir, metadata.uid()));
    let used = match server {
        Some(process) => format!("{shown} is used by the server with process number {process}"),
        None => format!("{shown} is used by no server"),
    };
    findings.push(Finding::ok(CHECK, used));
    findings
}

/// What others may read or write, or the server could not, because it is another user's.
fn files(dir: &Path, owner: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    let below = [dir.to_owned(), dir.join(PACKAGES_DIRECTORY)];
    let entries = below.iter().filter_map(|dir| fs::read_dir(dir).ok());
    for entry in entries.flatten().flatten() {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else {
            continue;
        };
        let shown = path.display();
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0
            && metadata.is_file()
            && entry.file_name() != super::super::LISTENING_FILE
        {
            findings.push(Finding::warning(
                "permissions",
                format!("{shown} may be read or written by others (mode {mode:04o})"),
                format!("run chmod 600 {shown}"),
            ));
        }
        if metadata.uid() != owner {
            findings.push(Finding::error(
                "permissions",
                format!(
                    "{shown} belongs to user {}, and the data directory to user {owner}",
                    metadata.uid()
                ),
                format!("run chown {owner} {shown}"),
            ));
        }
        if findings.len() >= MAX_TOLD {
            break;
        }
    }
    if findings.is_empty() && dir.exists() {
        findings.push(Finding::ok(
            "permissions",
            "the files are their owner's alone",
        ));
    }
    findings
}

pub(super) fn room(dir: &Path) -> Vec<Finding> {
    const CHECK: &str = "disk";
    let there = dir
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("."));
    let Ok(system) = statvfs(there) else {
        return vec![Finding::warning(
            CHECK,
            "the system does not tell how much room there is",
            "look at it with df",
        )];
    };
    let free = system.fragment_size() * system.blocks_available();
    let database = fs::metadata(dir.join(FILE_NAME)).map_or(0, |file| file.len());
    let told = format!(
        "{} MiB are free at {}; the database has {} MiB",
        free / MIB,
        dir.display(),
        database / MIB
    );
    let room = if free < data_dir::LEAST_ROOM_MIB * MIB {
        Finding::error(
            CHECK,
            told,
            "make room: the server does not start with less than 8 MiB, and answers 5.03 while the disk is full",
        )
    } else if free < data_dir::SCANT_ROOM_MIB * MIB {
        Finding::warning(CHECK, told, "make room before it is full")
    } else if free < database / 4 {
        Finding::warning(
            CHECK,
            told,
            "make room: the log of the database and a new form of it after an update need some",
        )
    } else {
        Finding::ok(CHECK, told)
    };
    let mut findings = vec![room];
    // file systems without a fixed number tell 0
    if system.files() > 0 && system.files_available() < SCANT_FILES {
        let told = format!(
            "only {} more files fit at {}",
            system.files_available(),
            dir.display()
        );
        findings.push(Finding::warning(CHECK, told, "remove files of others"));
    }
    findings
}

/// How old the newest whole backup is, where there is something to make one of.
pub(super) fn backup(dir: &Path, now: UtcMillis) -> Option<Finding> {
    const CHECK: &str = "backup";
    const MAKE: &str = "make one with cellwise backup, and let the timer do it from now on (docs/backups.md); ignore this where the \
         data directory is backed up in another way";
    if !dir.join(FILE_NAME).exists() {
        return None;
    }
    let Some(last) = LastBackup::of(dir) else {
        return Some(Finding::warning(CHECK, "no backup is known", MAKE));
    };
    let told = format!(
        "the newest whole backup is of {}, in {}",
        last.at,
        last.path.display()
    );
    Some(if now.since(last.at) > OLD_BACKUP {
        Finding::warning(CHECK, told, MAKE)
    } else {
        Finding::ok(CHECK, told)
    })
}

/// What is found in the database and of the packages' files, and the newest time that is stored.
pub(super) async fn stored(
    dir: &Path,
    server: Option<u32>,
    thoroughness: Thoroughness,
) -> (Vec<Finding>, Option<UtcMillis>) {
    const CHECK: &str = "database";
    let path = dir.join(FILE_NAME);
    if !path.exists() {
        return (vec![Finding::ok(CHECK, "there is none yet")], None);
    }
    match database(&path, server, thoroughness).await {
        Ok((mut findings, contents, newest)) => {
            findings.extend(packages(&dir.join(PACKAGES_DIRECTORY), &contents));
            (findings, newest)
        }
        Err(error) => {
            let advice =
                "restore a backup into an empty data directory (docs/backups.md), if it is damaged";
            (vec![Finding::error(CHECK, error.to_string(), advice)], None)
        }
    }
}

type Stored = (Vec<Finding>, Vec<KeptContent>, Option<UtcMillis>);

async fn database(
    path: &Path,
    server: Option<u32>,
    thoroughness: Thoroughness,
) -> Result<Stored, crate::store::OpenError> {
    const CHECK: &str = "database";
    let log = path.with_extension("db-wal");
    let unused = server.is_none() && !log.exists();
    let mut database = if unused {
        DatabaseFile::open_unused(path).await?
    } else {
        DatabaseFile::open(path).await?
    };
    let depth = if thoroughness.whole {
        Depth::Whole
    } else {
        Depth::Quick
    };
    let problems = database.problems(depth).await?;
    let (step, known) = (database.step().await?, newest_known_step());
    let mut findings: Vec<Finding> = problems
        .iter()
        .map(|problem| Finding::error(CHECK, problem, "stop the server, and restore a backup into an empty data directory (docs/backups.md)"))
        .collect();
    if findings.is_empty() {
        let how = if thoroughness.whole {
            "as a whole"
        } else {
            "quickly; --whole checks indexes too"
        };
        findings.push(Finding::ok(
            CHECK,
            format!("it is sound (checked {how}), of form {step}"),
        ));
    }
    if step < known {
        let told =
            format!("it is of form {step}; this version brings it to {known} at the next start");
        findings.push(Finding::warning(
            CHECK,
            told,
            "make a backup before: an older version cannot go on with it then",
        ));
    }
    // a database of long before has no webhooks; the server brings it to its form first
    if step >= known {
        findings.extend(secrets(database.open_secrets().await?));
    }
    let newest = database.newest_time_ms().await?.map(UtcMillis);
    let contents = database.contents().await?;
    database.close().await;
    Ok((findings, contents, newest))
}

/// Secrets that whoever reads the database, or a copy of it, has.
fn secrets(open: u64) -> Option<Finding> {
    let told = format!("the secrets of {open} webhooks are stored as they are");
    let advice = "set a credential key (dtls.credential_key): the next start seals them; backups of before keep them as they are";
    (open > 0).then(|| Finding::warning("secrets", told, advice))
}

/// Whether every package's file is what was uploaded.
fn packages(dir: &Path, contents: &[KeptContent]) -> Vec<Finding> {
    const CHECK: &str = "packages";
    let mut findings = Vec::new();
    for content in contents {
        let path = dir.join(&content.sha256);
        let told = match hashed(&path) {
            Ok(found) if found.is(content) => continue,
            Ok(_) => format!("{} is damaged: it is not what was uploaded", path.display()),
            Err(error) => error.to_string(),
        };
        findings.push(Finding::error(
            CHECK,
            told,
            "delete the package and upload it again",
        ));
        if findings.len() >= MAX_TOLD {
            break;
        }
    }
    if findings.is_empty() {
        let told = format!("the files of all {} are what was uploaded", contents.len());
        findings.push(Finding::ok(CHECK, told));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_read() {
        let line = "3: FLOCK  ADVISORY  WRITE 708 fe:00:1234 0 EOF";
        assert_eq!(holder(line, 1_234), Some(708));
        assert_eq!(holder(line, 234), None);
        for other in [
            "3: -> FLOCK ADVISORY WRITE 708 fe:00:1234 0 EOF",
            "3: POSIX  ADVISORY  WRITE 708 fe:00:1234 0 EOF",
            "3: FLOCK  ADVISORY  READ 708 fe:00:1234 0 EOF",
            "",
        ] {
            assert_eq!(holder(other, 1_234), None, "{other}");
        }
    }
}
