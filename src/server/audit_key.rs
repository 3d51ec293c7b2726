//! What checkpoints of the audit log are signed with: made at the first start, kept in a file that only its owner may read.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::StartError;
use crate::audit::Key;

/// Name of the key's file in the data directory.
const FILE: &str = "audit.key";

/// The key in `data_dir`; one is made when there is none.
pub(super) fn load_or_create(data_dir: &Path) -> Result<Key, StartError> {
    let path = data_dir.join(FILE);
    let error = |source| StartError::DataDir {
        path: path.clone(),
        source,
    };
    let seed = match fs::symlink_metadata(&path) {
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => create(data_dir, &path),
        Err(unreadable) => Err(unreadable),
        Ok(_) => load(&path),
    };
    let seed = seed.map_err(error)?;
    let key = Key::of_seed(&seed).map_err(io::Error::other);
    key.map_err(error)
}

fn load(path: &Path) -> io::Result<[u8; 32]> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let what = format!("others may read or write it (mode {mode:04o}); run chmod 600 on it");
        return Err(io::Error::other(what));
    }
    let text = fs::read_to_string(path)?;
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed)
        .map_err(|_| io::Error::other("it holds no key of 64 hexadecimal digits"))?;
    Ok(seed)
}

fn create(data_dir: &Path, path: &Path) -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    // written under another name first, mode 0600, so that no crash leaves half a key
    let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
    writeln!(file, "{}", hex::encode(seed))?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    fs::File::open(data_dir)?.sync_all()?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_that_only_the_owner_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
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
