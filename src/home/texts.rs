//! One text in several languages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Languages of one text at most.
pub const MAX_LANGUAGES: usize = 20;
/// Characters of the longest text.
pub const MAX_TEXT: usize = 2_000;
/// Characters of the longest tag of a language (RFC 5646 §4.4.1 expects 35).
const MAX_TAG: usize = 35;
/// Parts of an `Accept-Language` that are looked at.
const MAX_RANGES: usize = 20;
/// Bytes of an `Accept-Language` that are looked at.
const MAX_HEADER: usize = 500;
/// The language that is taken where none fits, if it is there.
const FALLBACK: &str = "en";

/// A text for people, by language. It may be empty: then there is nothing to say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Texts(BTreeMap<String, String>);

/// What is wrong with a text in several languages.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextsError {
    /// There are too many.
    #[error("{0} languages; at most {MAX_LANGUAGES} are possible")]
    TooMany(usize),
    /// It is no tag of a language.
    #[error("{0:?} is no language; write a tag of BCP 47, such as de, pt-BR or zh-Hans")]
    NoTag(String),
    /// It is there twice, in another case.
    #[error("language {0:?} is there twice")]
    Twice(String),
    /// It is too long, empty, or has control characters besides line breaks.
    #[error(
        "the text in {0:?} has to have 1 to {MAX_TEXT} characters, and no control characters but line breaks"
    )]
    Text(String),
}

impl Texts {
    /// These texts, by their tags (BCP 47), in whatever case they are written.
    ///
    /// # Errors
    ///
    /// What is wrong with the first that cannot be.
    pub fn new<'t>(
        texts: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Result<Self, TextsError> {
        let mut by_tag = BTreeMap::new();
        for (tag, text) in texts {
            let canonical = canonical(tag).ok_or_else(|| TextsError::NoTag(clipped(tag)))?;
            let count = text.chars().take(MAX_TEXT + 1).count();
            let control = |c: char| c.is_control() && c != '\n';
            if !(1..=MAX_TEXT).contains(&count)
                || text.chars().any(control)
                || text.trim().is_empty()
            {
                return Err(TextsError::Text(canonical));
            }
            if by_tag.insert(canonical.clone(), text.to_owned()).is_some() {
                return Err(TextsError::Twice(canonical));
            }
            if by_tag.len() > MAX_LANGUAGES {
                return Err(TextsError::TooMany(by_tag.len()));
            }
        }
        Ok(Self(by_tag))
    }

    /// There is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each with the tag of its language, in the order of the tags.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        (self.0.iter()).map(|(tag, text)| (tag.as_str(), text.as_str()))
    }

    /// The text for who accepts these languages (RFC 9110 §12.5.4), with its tag: by look-up (RFC 4647 §3.4), the most wanted first.
    /// Where none fits it is the English one, or else the first. `None` where there is none at all.
    pub fn pick(&self, accept_language: Option<&str>) -> Option<(&str, &str)> {
        let wanted = accept_language.map(ranges).unwrap_or_default();
        let found = wanted.iter().find_map(|range| self.look_up(range));
        found
            .or_else(|| self.look_up(FALLBACK))
            .or_else(|| self.all().next())
    }

    /// The text in the language of a range, or in that of the range without its last parts, or in a variety of it.
    fn look_up(&self, range: &str) -> Option<(&str, &str)> {
        if range == "*" {
            return None; // whatever there is
        }
        let mut rest = range;
        loop {
            let same = self.all().find(|(tag, _)| tag.eq_ignore_ascii_case(rest));
            if same.is_some() {
                return same;
            }
            let Some((shorter, _)) = rest.rsplit_once('-') else {
                break;
            };
            // a single letter or digit belongs to what follows it
            rest = match shorter.rsplit_once('-') {
                Some((before, single)) if single.len() == 1 => before,
                _ => shorter,
            };
        }
        let variety = |tag: &str| {
            let language = tag.split('-').next().unwrap_or_default();
            language.eq_ignore_ascii_case(rest)
        };
        self.all().find(|(tag, _)| variety(tag))
    }
}

/// The ranges of an `Accept-Language` that are accepted at all, the most wanted first; those that are wanted alike as they stand.
fn ranges(header: &str) -> Vec<&str> {
    let end = (0..=MAX_HEADER.min(header.len())).rev();
    let end = end.into_iter().find(|end| header.is_char_boundary(*end));
    let header = &header[..end.unwrap_or_default()];
    let mut found: Vec<(u16, &str)> = Vec::new();
    for part in header.split(',').take(MAX_RANGES) {
        let mut pieces = part.split(';');
        let range = pieces.next().unwrap_or_default().trim();
        let quality = pieces.find_map(|piece| piece.trim().strip_prefix("q="));
        let quality = quality.map_or(Some(1_000), thousandths);
        let fits = range == "*" || canonical(range).is_some();
        if let Some(quality) = quality.filter(|quality| *quality > 0 && fits) {
            found.push((quality, range));
        }
    }
    found.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    found.into_iter().map(|(_, range)| range).collect()
}

/// A quality in thousandths: `0.8` is 800.
fn thousandths(text: &str) -> Option<u16> {
    let value: f64 = text.trim().parse().ok()?;
    if !(0.0..=1.0).contains(&value) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 1000"
    )]
    let thousandths = (value * 1_000.0).round() as u16;
    Some(thousandths)
}

/// A tag as RFC 5646 §2.1.1 writes it: the language in small letters, a script with a capital, a region in capitals.
fn canonical(tag: &str) -> Option<String> {
    let fits = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if tag.len() > MAX_TAG || !tag.split('-').all(fits) {
        return None;
    }
    let language = tag.split('-').next()?;
    if !(2..=8).contains(&language.len()) || !language.bytes().all(|it| it.is_ascii_alphabetic()) {
        return None;
    }
    let mut parts = Vec::new();
    let mut singleton = false;
    for (at, part) in tag.split('-').enumerate() {
        let lower = part.to_ascii_lowercase();
        parts.push(match part.len() {
            _ if at == 0 || singleton => lower,
            2 => part.to_ascii_uppercase(),
            4 if part.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                lower[..1].to_ascii_uppercase() + &lower[1..]
            }
            _ => lower,
        });
        singleton |= part.len() == 1;
    }
    Some(parts.join("-"))
}

fn clipped(text: &str) -> String {
    text.chars().take(40).collect()
}
