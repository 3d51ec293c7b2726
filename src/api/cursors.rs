//! Cursors of lists that are ordered by endpoint name. A page may end at a device that its reader does not see, so that they are sealed.

use super::{extract::Paging, problem::Problem};
use crate::vault::{KEY_BYTES, Vault};

/// Bytes that a name is filled up to before it is sealed, so that a cursor does not tell how long it is: the longest endpoint name.
const NAME_BYTES: usize = 128;
/// What a name is filled up with; it is in no endpoint name.
const FILLING: char = '\0';

/// Digits of a cursor behind the name of its list, in hexadecimal: nonce, name and tag of AES-256-GCM.
pub(super) const SEALED: &str = "[0-9a-f]{312}";

/// Seals and opens cursors.
#[derive(Debug, Clone)]
pub struct Cursors(Vault);

impl Cursors {
    /// Cursors under this key. It is kept, so that a list goes on after a restart.
    pub const fn new(key: [u8; KEY_BYTES]) -> Self {
        Self(Vault::new(key))
    }

    /// The cursor of the list named `list` whose next page starts after `name`.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub(super) fn seal(&self, list: &str, name: &str) -> Result<String, Problem> {
        let mut filled = name.to_owned();
        while filled.len() < NAME_BYTES {
            filled.push(FILLING);
        }
        let sealed = (self.0.seal(&purpose(list), filled.as_bytes()))
            .map_err(|error| Problem::internal(&error))?;
        Ok(hex::encode(format!("{list} ")) + &hex::encode(sealed))
    }

    /// The name after which the page begins.
    ///
    /// # Errors
    /// The cursor is of another list, or not one of this server's.
    pub(super) fn after(&self, paging: &Paging, list: &str) -> Result<Option<String>, Problem> {
        let Some(cursor) = paging.cursor() else {
            return Ok(None);
        };
        let name = self.open(list, cursor);
        name.map(Some).ok_or_else(Paging::no_cursor)
    }

    fn open(&self, list: &str, cursor: &str) -> Option<String> {
        let sealed = cursor.strip_prefix(&hex::encode(format!("{list} ")))?;
        let filled = self.0.open(&purpose(list), &hex::decode(sealed).ok()?)?;
        let filled = String::from_utf8(filled).ok()?;
        Some(filled.trim_end_matches(FILLING).to_owned())
    }
}

fn purpose(list: &str) -> String {
    format!("cursor of {list}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_opened_for_its_list_and_tells_nothing() {
        let cursors = Cursors::new([7; KEY_BYTES]);
        let longest = "e".repeat(NAME_BYTES);
        for name in ["a", "urn:imei:867723032612345", &longest] {
            let cursor = cursors.seal("devices", name).unwrap();
            assert_eq!(cursor.len(), 2 * "devices ".len() + 312);
            let shown = hex::decode(&cursor).unwrap();
            assert!(name.len() == 1 || !shown.windows(name.len()).any(|it| it == name.as_bytes()));
            assert_eq!(cursors.open("devices", &cursor).unwrap(), name);
            assert_eq!(cursors.open("exclusions", &cursor), None);
            let moved = cursor.replacen(&hex::encode("devices "), &hex::encode("exclusions "), 1);
            assert_eq!(cursors.open("exclusions", &moved), None);
            let others = Cursors::new([8; KEY_BYTES]);
            assert_eq!(others.open("devices", &cursor), None);
        }
        let plain = hex::encode("devices a");
        for none in ["", "zz", &*plain, &hex::encode("devices ")] {
            assert_eq!(cursors.open("devices", none), None, "{none}");
        }
    }
}
