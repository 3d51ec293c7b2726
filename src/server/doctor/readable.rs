//! Whether the server's user may read the files that the settings name. Whoever looks is often root, who reads everything.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use super::Finding;
use crate::config::Config;

const CHECK: &str = "files";
const READ: u32 = 0o4;
const SEARCH: u32 = 0o1;

/// A user and the groups that it is in.
#[derive(Debug)]
struct User {
    number: u32,
    name: String,
    groups: Vec<u32>,
}

/// Those that the user of the data directory may not read, by their mode. Nothing where that is root, or nobody yet.
pub(super) fn all(config: &Config, server: Option<u32>) -> Vec<Finding> {
    let Ok(owner) = fs::metadata(&config.data_dir) else {
        return Vec::new();
    };
    if owner.uid() == 0 {
        return Vec::new();
    }
    let database = |path| fs::read_to_string(path).unwrap_or_default();
    let user = User::of(&owner, &database("/etc/passwd"), &database("/etc/group"));
    let unreadable = named(config)
        .into_iter()
        .filter(|(_, path)| !user.reads(path));
    unreadable
        .map(|(setting, path)| finding(setting, path, &user, server))
        .collect()
}

fn finding(setting: &str, path: &Path, user: &User, server: Option<u32>) -> Finding {
    let told = format!(
        "{setting} {}: the server's user {} may not read it, by its mode or that of a directory above it",
        path.display(),
        user.name
    );
    let advice = format!(
        "run chgrp {} {path} && chmod 0640 {path}; the credential key and the key that signs evidence belong to that user alone \
         (chown, chmod 0600)",
        user.name,
        path = path.display()
    );
    match server {
        None => Finding::error(CHECK, told, advice),
        // it has read them, or is permitted to in another way, as by an access list
        Some(_) => Finding::warning(CHECK, told, advice),
    }
}

/// Files that are there, and the settings that name them.
fn named(config: &Config) -> Vec<(&'static str, &Path)> {
    let dtls = &config.dtls;
    let mut files = vec![
        ("admin.tls_certificate", &*config.admin.tls_certificate),
        ("admin.tls_key", &*config.admin.tls_key),
        ("evidence.signing_key", &*config.evidence.signing_key),
    ];
    let (download, mqtt) = (&config.download, &config.mqtt);
    if download.https {
        files.extend([
            ("download.tls_certificate", &*download.tls_certificate),
            ("download.tls_key", &*download.tls_key),
        ]);
    }
    if config.app.enabled {
        files.extend([
            ("app.tls_certificate", &*config.app.tls_certificate),
            ("app.tls_key", &*config.app.tls_key),
            ("app.jwks_file", &*config.app.jwks_file),
            ("app.ca_file", &*config.app.ca_file),
        ]);
    }
    if mqtt.tls {
        files.extend([
            ("mqtt.tls_certificate", &*mqtt.tls_certificate),
            ("mqtt.tls_key", &*mqtt.tls_key),
            ("mqtt.client_ca_file", &*mqtt.client_ca_file),
        ]);
    }
    if mqtt.is_by_broker() {
        let broker = &mqtt.broker;
        files.extend([
            ("mqtt.broker.ca_file", &*broker.ca_file),
            (
                "mqtt.broker.client_certificate",
                &*broker.client_certificate,
            ),
            ("mqtt.broker.client_key", &*broker.client_key),
            ("mqtt.broker.password_file", &*broker.password_file),
        ]);
    }
    if dtls.enabled {
        files.extend([
            ("dtls.credential_key_file", &*dtls.credential_key_file),
            ("dtls.certificate_file", &*dtls.certificate_file),
            ("dtls.private_key_file", &*dtls.private_key_file),
            ("dtls.client_ca_file", &*dtls.client_ca_file),
        ]);
    }
    // one that is missing is told among the settings
    files.retain(|(_, path)| path.exists());
    files
}

impl User {
    /// The owner, with what passwd(5) and group(5) say of it.
    fn of(owner: &Metadata, passwd: &str, group: &str) -> Self {
        let number = owner.uid();
        let mut user = Self {
            number,
            name: number.to_string(),
            groups: vec![owner.gid()],
        };
        let entries = |text: &str| -> Vec<Vec<String>> {
            let fields = |line: &str| line.split(':').map(str::to_owned).collect();
            text.lines().map(fields).collect()
        };
        for entry in entries(passwd) {
            if let [name, _, uid, gid, ..] = &entry[..]
                && uid.parse() == Ok(number)
            {
                user.name.clone_from(name);
                user.groups.extend(gid.parse::<u32>());
                break;
            }
        }
        for entry in entries(group) {
            if let [_, _, gid, members, ..] = &entry[..]
                && members.split(',').any(|member| member == user.name)
            {
                user.groups.extend(gid.parse::<u32>());
            }
        }
        user
    }

    /// Whether the file's mode permits it, and those of the directories above.
    fn reads(&self, path: &Path) -> bool {
        let Ok(path) = fs::canonicalize(path) else {
            return true; // nothing is known
        };
        let permits = |path: &Path, wanted| match fs::metadata(path) {
            Ok(metadata) => self.may(&metadata, wanted),
            Err(_) => true,
        };
        let mut above = path.ancestors().skip(1);
        permits(&path, READ) && above.all(|dir| permits(dir, SEARCH))
    }

    fn may(&self, metadata: &Metadata, wanted: u32) -> bool {
        let mode = metadata.mode();
        let class = if metadata.uid() == self.number {
            mode >> 6
        } else if self.groups.contains(&metadata.gid()) {
            mode >> 3
        } else {
            mode
        };
        class & wanted != 0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_read_by_its_owner_its_group_or_all() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = dir.path().join("admin.key");
        fs::write(&file, "").unwrap();
        let owner = fs::metadata(&file).unwrap();
        let (owns, group) = (owner.uid(), owner.gid());
        let stranger = User {
            number: owns + 1,
            name: "cellwise".to_owned(),
            groups: vec![group + 1],
        };
        let member = User {
            number: owns + 1,
            name: "cellwise".to_owned(),
            groups: vec![group + 1, group],
        };
        let itself = User {
            number: owns,
            name: "root".to_owned(),
            groups: Vec::new(),
        };
        for (mode, expected) in [
            (0o600, [true, false, false]),
            (0o640, [true, true, false]),
            (0o604, [true, false, true]),
            (0o044, [false, true, true]),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let read = [&itself, &member, &stranger].map(|user| user.reads(&file));
            assert_eq!(read, expected, "{mode:o}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(itself.reads(&file) && !stranger.reads(&file));
    }

    #[test]
    fn a_user_has_the_groups_that_name_it() {
        let dir = tempfile::tempdir().unwrap();
        let owner = fs::metadata(dir.path()).unwrap();
        let passwd = format!(
            "broken\nother:x:{}:7::/:/bin/sh\ncellwise:x:{}:997:Cellwise:/var/lib/cellwise:/usr/sbin/nologin\n",
            owner.uid() + 1,
            owner.uid()
        );
        let group = "ssl-cert:x:110:postgres,cellwise\nadm:x:4:cellwise2\n:::\n";
        let user = User::of(&owner, &passwd, group);
        assert_eq!(user.name, "cellwise");
        assert_eq!(user.groups, [owner.gid(), 997, 110]);
    }
}
