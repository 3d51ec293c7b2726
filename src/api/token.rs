//! The operator's token: made at the first start, kept in a file that only its owner may read.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Name of the token's file in the data directory.
pub const TOKEN_FILE: &str = "admin.token";

const RANDOM_BYTES: usize = 32;
const MIN_LEN: usize = 32;
const MAX_LEN: usize = 512;

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Others on this machine may read it.
    #[error(
        "{path} may be read or written by others (mode {mode:04o}): delete it to have a new token made, \
         or run chmod 600 {path}"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It does not hold a token.
    #[error(
        "{path} holds no token ({MIN_LEN} to {MAX_LEN} characters out of A-Z a-z 0-9 - . _ ~ + / =): \
         delete it to have a new one made"
    )]
    Garbage {
        /// The file.
        path: PathBuf,
    },
}

/// The SHA-256 digest of the token. Requests are compared with it in constant time.
#[derive(Clone)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The token in `data_dir`; makes one of 32 random bytes (64 hexadecimal digits, mode 0600) when
    /// there is none.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, TokenError> {
        let path = data_dir.join(TOKEN_FILE);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(data_dir, &path),
            Err(error) => Err(file_error("read", &path)(error)),
            Ok(_) => load(&path),
        }
    }

    /// What is wrong with the token in `data_dir`, if there is one. Nothing is written.
    pub fn unfit(data_dir: &Path) -> Option<TokenError> {
        let path = data_dir.join(TOKEN_FILE);
        fs::symlink_metadata(&path).ok()?;
        load(&path).err()
    }

    /// The digest of `token`.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// The digest.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `token` is the one.
    pub fn is(&self, token: &str) -> bool {
        self.0.ct_eq(&Self::of(token).0).into()
    }
}

impl std::fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHash")
    }
}

fn load(path: &Path) -> Result<TokenHash, TokenError> {
    let metadata = fs::metadata(path).map_err(file_error("read", path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    let content = fs::read(path).map_err(file_error("read", path))?;
    std::str::from_utf8(&content)
        .ok()
        .map(str::trim)
        .filter(|token| is_token(token))
        .map(TokenHash::of)
        .ok_or_else(|| TokenError::Garbage {
            path: path.to_owned(),
        })
}

fn create(data_dir: &Path, path: &Path) -> Result<TokenHash, TokenError> {
    let error = |doing| file_error(doing, path);
    fs::create_dir_all(data_dir).map_err(error("create the directory of"))?;
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)
        .map_err(io::Error::other)
        .map_err(error("choose a token for"))?;
    let token = hex::encode(random);
    // Written under another name first, mode 0600, so that no crash leaves half a token.
    let mut file = tempfile::NamedTempFile::new_in(data_dir).map_err(error("create"))?;
    writeln!(file, "{token}").map_err(error("write"))?;
    file.as_file().sync_all().map_err(error("sync"))?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        // another process was first: its token counts
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => return load(path),
        Err(refused) => return Err(error("create")(refused.error)),
    }
    fs::File::open(data_dir)
        .and_then(|dir| dir.sync_all())
        .map_err(error("sync the directory of"))?;
    tracing::info!(
        "the token of the admin API was made: it is in {}",
        path.display()
    );
    Ok(TokenHash::of(&token))
}

/// Whether the text can stand in an `Authorization: Bearer` header (RFC 6750 §2.1) and is long enough.
fn is_token(text: &str) -> bool {
    (MIN_LEN..=MAX_LEN).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte))
}

fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TokenError {
    let path = path.to_owned();
    move |source| TokenError::File {
        doing,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, content: &str, mode: u32) {
        let path = dir.join(TOKEN_FILE);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn makes_a_token_once_that_only_the_owner_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let made = TokenHash::load_or_create(dir.path()).unwrap();
        let path = dir.path().join(TOKEN_FILE);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 64);
        let loaded = TokenHash::load_or_create(dir.path()).unwrap();
        assert!(made.is(text.trim()) && loaded.is(text.trim()));
        assert!(!made.is(&text) && !made.is(""));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn refuses_a_file_that_others_may_read() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o602] {
            write(dir.path(), &"a".repeat(64), mode);
            let refused = TokenHash::load_or_create(dir.path()).unwrap_err();
            assert!(refused.to_string().contains("chmod 600"), "{refused}");
        }
        write(dir.path(), &"a".repeat(64), 0o400);
        assert!(TokenHash::load_or_create(dir.path()).is_ok());
    }

    #[test]
    fn refuses_a_file_without_a_token() {
        let dir = tempfile::tempdir().unwrap();
        for content in [
            "",
            "\n",
            "short",
            &"ä".repeat(40),
            &"a b".repeat(20),
            &"a".repeat(513),
        ] {
            write(dir.path(), content, 0o600);
            let refused = TokenHash::load_or_create(dir.path()).unwrap_err();
            assert!(matches!(refused, TokenError::Garbage { .. }), "{content:?}");
        }
    }
}
