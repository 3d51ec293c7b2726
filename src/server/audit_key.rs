//! What checkpoints of the audit log are signed with: made at the first start, kept in a file that only its owner may read.

use std::{io, path::Path};

use super::StartError;
use crate::{
    audit::Key,
    vault::{create_secret, read_secret},
};

/// Name of the key's file in the data directory.
const FILE: &str = "audit.key";

/// The key in `data_dir`; one is made when there is none.
pub(super) fn load_or_create(data_dir: &Path) -> Result<Key, StartError> {
    let path = data_dir.join(FILE);
    let error = |source| StartError::DataDir {
        path: path.clone(),
        source,
    };
    let mut found = read_secret(&path)?;
    if found.is_none() {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|failed| error(io::Error::other(failed)))?;
        create_secret(&path, &hex::encode(seed))?;
        // another process may have been first: its key counts
        found = read_secret(&path)?;
    }
    let key = seed(&found.unwrap_or_default()).and_then(|seed| {
        let key = Key::of_seed(&seed);
        key.map_err(io::Error::other)
    });
    key.map_err(error)
}

fn seed(content: &[u8]) -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    hex::decode_to_slice(content.trim_ascii(), &mut seed)
        .map_err(|_| io::Error::other("it holds no key of 64 hexadecimal digits"))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_key_is_made_once_that_only_the_owner_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let bits = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(bits, 0o600);
        let again = load_or_create(dir.path()).unwrap();
        assert_eq!(first.public(), again.public());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = load_or_create(dir.path()).unwrap_err();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(load_or_create(dir.path()).is_err());
    }
}
