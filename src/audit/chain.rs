use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Entry, canonical};
use crate::clock::UtcMillis;

/// The SHA-256 of a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What stands before the first row.
    pub const NONE: Self = Self([0; 32]);

    /// 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A row of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number: the first has 1, and none is left out.
    pub number: u64,
    /// What it says, as JSON in the form that is hashed.
    pub text: String,
    /// The SHA-256 of `text`.
    pub hash: Hash,
}

impl Row {
    /// A line of an export: the row, and its hash.
    pub fn line(&self) -> String {
        let fields = self.text.strip_suffix('}').unwrap_or(&self.text);
        format!("{fields},\"hash\":\"{}\"}}", self.hash)
    }
}

/// Makes `entry` the row behind the one with this number and hash.
pub fn link(entry: &Entry, (number, previous): (u64, Hash), at: UtcMillis) -> Row {
    let number = number.saturating_add(1);
    // an entry is text, numbers and objects of them, which always have a form in JSON
    let mut row = serde_json::to_value(entry).unwrap_or_default();
    row["number"] = json!(number);
    row["previous"] = json!(previous.to_string());
    row["at"] = json!(at.to_string());
    let text = canonical(&row);
    Row {
        number,
        hash: Hash(Sha256::digest(&text).into()),
        text,
    }
}

/// Where a chain is wrong first.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Broken {
    /// A line is no row.
    #[error("line {line} is no row of an audit log: {what}")]
    NoRow {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A row does not have the hash that it says.
    #[error("row {0} was altered: its hash is another one")]
    Altered(u64),
    /// Another row was expected here.
    #[error("row {expected} is missing: row {found} stands in its place")]
    Missing {
        /// What number should come.
        expected: u64,
        /// What number comes.
        found: u64,
    },
    /// A row names another row before it than the one that stands there.
    #[error("row {0} does not follow the row before it: that one was altered, or exchanged")]
    Unlinked(u64),
    /// The newest rows are missing.
    #[error("row {missing} is missing: the log ended with row {head}")]
    Truncated {
        /// The first that is missing.
        missing: u64,
        /// The newest.
        head: u64,
    },
    /// The row that a checkpoint is of has another hash.
    #[error("row {0} is not the one that the checkpoint is of: the log was made anew")]
    OtherThanSigned(u64),
}

/// Looks at the rows of a chain in their order.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// Number and hash of the row before; `None`: whatever the first row says.
    last: Option<(u64, Hash)>,
    /// A row that has to have this hash.
    signed: Vec<(u64, Hash)>,
    lines: u64,
    first: Option<u64>,
}

impl Verifier {
    /// From the first row on.
    pub fn from_the_beginning() -> Self {
        Self::after(0, Hash::NONE)
    }

    /// From the row on that follows the one with this number and hash.
    pub fn after(number: u64, hash: Hash) -> Self {
        Self {
            last: Some((number, hash)),
            ..Self::from_anywhere()
        }
    }

    /// From whatever row comes first. What stood before it is not known.
    pub fn from_anywhere() -> Self {
        Self {
            last: None,
            signed: Vec::new(),
            lines: 0,
            first: None,
        }
    }

    /// Row `number` has to have this hash, if it comes.
    pub fn expect(&mut self, number: u64, hash: Hash) {
        self.signed.push((number, hash));
    }

    /// The next line of an export.
    ///
    /// # Errors
    /// The chain is broken here.
    pub fn line(&mut self, line: &str) -> Result<(), Broken> {
        self.lines += 1;
        let (row, hash) = self.read(line)?;
        let no_row = |what: &str| Broken::NoRow {
            line: self.lines,
            what: what.to_owned(),
        };
        let number = row["number"].as_u64().ok_or_else(|| no_row("no number"))?;
        let previous = row["previous"].as_str().and_then(Hash::parse);
        let previous = previous.ok_or_else(|| no_row("no hash of the row before"))?;
        if let Some((last, last_hash)) = self.last {
            let expected = last.saturating_add(1);
            if number != expected {
                let found = number;
                return Err(Broken::Missing { expected, found });
            }
            if previous != last_hash {
                return Err(Broken::Unlinked(number));
            }
        }
        if Sha256::digest(canonical(&row))[..] != hash.0 {
            return Err(Broken::Altered(number));
        }
        let is_other = |(signed, with): &(u64, Hash)| *signed == number && *with != hash;
        if self.signed.iter().any(is_other) {
            return Err(Broken::OtherThanSigned(number));
        }
        self.first = self.first.or(Some(number));
        self.last = Some((number, hash));
        Ok(())
    }

    /// What a line says, and its hash.
    fn read(&self, line: &str) -> Result<(Value, Hash), Broken> {
        let no_row = |what: String| Broken::NoRow {
            line: self.lines,
            what,
        };
        let mut row: Value =
            serde_json::from_str(line).map_err(|error| no_row(error.to_string()))?;
        let hash = row.as_object_mut().and_then(|row| row.remove("hash"));
        let hash = hash.as_ref().and_then(Value::as_str).and_then(Hash::parse);
        let hash = hash.ok_or_else(|| no_row("no hash".to_owned()))?;
        Ok((row, hash))
    }

    /// There are no more rows, and the newest has this number and hash.
    ///
    /// # Errors
    /// The newest rows are missing, or are others.
    pub fn end(&self, (head, hash): (u64, Hash)) -> Result<(), Broken> {
        match self.last {
            Some((last, _)) if last < head => {
                let missing = last.saturating_add(1);
                Err(Broken::Truncated { missing, head })
            }
            None if head > 0 => Err(Broken::Truncated { missing: 1, head }),
            Some((last, last_hash)) if last == head && last_hash != hash => {
                Err(Broken::OtherThanSigned(head))
            }
            _ => Ok(()),
        }
    }

    /// How many rows there were.
    pub fn rows(&self) -> u64 {
        self.lines
    }

    /// Number of the first row.
    pub fn first(&self) -> Option<u64> {
        self.first
    }

    /// Number and hash of the last row, or of what the chain begins behind.
    pub fn last(&self) -> Option<(u64, Hash)> {
        self.last
    }
}
