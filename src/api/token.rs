//! The operator's token: made at the first start, kept in a file that only its owner may read.

use std::{
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::vault::{SecretFileError, create_secret, read_secret};

/// Name of the token's file in the data directory.
pub const TOKEN_FILE: &str = "admin.token";

/// What every token of the API begins with, so that whoever looks for secrets where none should be finds it.
pub(super) const PREFIX: &str = "cw_";

const RANDOM_BYTES: usize = 32;
const MIN_LEN: usize = 32;
const MAX_LEN: usize = 512;

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// No randomness.
    #[error("the system does not give what is needed to choose a token: {0}")]
    Random(io::Error),
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
        if let Some(content) = read_secret(&path)? {
            return read(&path, &content);
        }
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random)
            .map_err(|error| TokenError::Random(io::Error::other(error)))?;
        let token = hex::encode(random);
        if !create_secret(&path, &token)? {
            // another process was first: its token counts
            return read(&path, &read_secret(&path)?.unwrap_or_default());
        }
        tracing::info!(
            "the token of the admin API was made: it is in {}",
            path.display()
        );
        Ok(Self::of(&token))
    }

    /// What is wrong with the token in `data_dir`, if there is one. Nothing is written.
    pub fn unfit(data_dir: &Path) -> Option<TokenError> {
        let path = data_dir.join(TOKEN_FILE);
        match read_secret(&path) {
            Ok(content) => read(&path, &content?).err(),
            Err(error) => Some(error.into()),
        }
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

fn read(path: &Path, content: &[u8]) -> Result<TokenHash, TokenError> {
    std::str::from_utf8(content)
        .ok()
        .map(str::trim)
        .filter(|token| is_token(token))
        .map(TokenHash::of)
        .ok_or_else(|| TokenError::Garbage {
            path: path.to_owned(),
        })
}

/// Whether the text can stand in an `Authorization: Bearer` header (RFC 6750 §2.1) and is long enough.
fn is_token(text: &str) -> bool {
    (MIN_LEN..=MAX_LEN).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

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
