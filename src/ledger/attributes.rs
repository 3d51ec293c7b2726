//! What an operator says of a device: what it is, where it is, and tags. Values of these types are checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use jiff::tz::TimeZoneDatabase;
use thiserror::Error;

/// Tags of a device.
pub const MAX_TAGS: usize = 32;
/// Characters of a tag's key.
pub const MAX_TAG_KEY: usize = 64;
/// Characters of a tag's value.
pub const MAX_TAG_VALUE: usize = 256;
/// What stands before a tag's key where attributes have names: `tag.KEY`.
const TAG: &str = "tag.";

/// The zones that came with the program: the answer does not depend on the machine.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// An attribute that has one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// What is sold: 1 to 64 characters.
    Model,
    /// The revision of its hardware: 1 to 64 characters.
    Hardware,
    /// Where it is: 1 to 128 characters.
    Site,
    /// The time zone there, an IANA name such as `Europe/Berlin`.
    TimeZone,
}

/// Why an attribute or a tag is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AttributeError {
    /// A text is empty, too long, or has control characters.
    #[error("{} has 1 to {} characters and no control characters", .0.name(), .0.max_chars())]
    Text(Attribute),
    /// No such zone.
    #[error("{0:?} is no IANA name of a time zone; Europe/Berlin is one")]
    TimeZone(String),
    /// Nothing may be called so.
    #[error("a tag's key has 1 to {MAX_TAG_KEY} characters out of A-Z a-z 0-9 . _ -")]
    TagKey,
    /// A value is too long, or has control characters.
    #[error(
        "the value of tag {0} has at most {MAX_TAG_VALUE} characters and no control characters"
    )]
    TagValue(String),
    /// The device would have more tags than it may.
    #[error("a device has at most {MAX_TAGS} tags, and it would be {0}")]
    TooManyTags(usize),
}

impl Attribute {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Model, Self::Hardware, Self::Site, Self::TimeZone];

    /// Its name in the API, in lists and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Hardware => "hardware",
            Self::Site => "site",
            Self::TimeZone => "time_zone",
        }
    }

    /// Characters that it may have.
    pub const fn max_chars(self) -> usize {
        match self {
            Self::Model | Self::Hardware | Self::TimeZone => 64,
            Self::Site => 128,
        }
    }

    /// The value in its canonical form.
    fn checked(self, value: String) -> Result<String, AttributeError> {
        if value.is_empty() || !is_text(&value, self.max_chars()) {
            return Err(AttributeError::Text(self));
        }
        if self != Self::TimeZone {
            return Ok(value);
        }
        let zone = ZONES.get(&value).ok().filter(|zone| !zone.is_unknown());
        match zone.as_ref().and_then(|zone| zone.iana_name()) {
            Some(name) => Ok(name.to_owned()),
            None => Err(AttributeError::TimeZone(value)),
        }
    }
}

/// The names of all time zones, in their order.
pub fn time_zones() -> impl Iterator<Item = String> {
    let names = ZONES.available().map(|name| name.as_str().to_owned());
    let names: BTreeSet<String> = names.collect();
    names.into_iter()
}

/// Whether a text has at most so many characters, and no control characters.
fn is_text(text: &str, max_chars: usize) -> bool {
    // no character has more than four bytes
    text.len() <= 4 * max_chars
        && text.chars().count() <= max_chars
        && !text.chars().any(char::is_control)
}

/// Whether a tag may have this key.
///
/// # Errors
/// [`AttributeError::TagKey`].
pub fn check_tag_key(key: &str) -> Result<(), AttributeError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=MAX_TAG_KEY).contains(&key.len()) && key.bytes().all(allowed) {
        Ok(())
    } else {
        Err(AttributeError::TagKey)
    }
}

/// What a column of a list is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeColumn {
    /// An attribute, by its [`name`](Attribute::name) in any case.
    Attribute(Attribute),
    /// The tag of that key: `tag.KEY`. The key is taken as it is written.
    Tag(String),
}

impl AttributeColumn {
    /// The column of that name; `None` when it is no attribute's.
    ///
    /// # Errors
    /// It is a tag's, and no tag may have its key.
    pub fn named(name: &str) -> Result<Option<Self>, AttributeError> {
        let prefix = name.get(..TAG.len());
        if let Some(key) = prefix
            .filter(|prefix| prefix.eq_ignore_ascii_case(TAG))
            .and_then(|_| name.get(TAG.len()..))
        {
            check_tag_key(key)?;
            return Ok(Some(Self::Tag(key.to_owned())));
        }
        let mut all = Attribute::ALL.into_iter();
        let found = all.find(|attribute| attribute.name().eq_ignore_ascii_case(name));
        Ok(found.map(Self::Attribute))
    }
}

/// The attributes and tags of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// [`Attribute::Model`].
    pub model: Option<String>,
    /// [`Attribute::Hardware`].
    pub hardware: Option<String>,
    /// [`Attribute::Site`].
    pub site: Option<String>,
    /// [`Attribute::TimeZone`].
    pub time_zone: Option<String>,
    /// Up to [`MAX_TAGS`] values by their keys.
    pub tags: BTreeMap<String, String>,
}

/// What of a device's attributes a change has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttributesChanged {
    /// An attribute.
    pub attributes: bool,
    /// A tag.
    pub tags: bool,
}

impl AttributesChanged {
    /// Anything.
    pub const fn any(self) -> bool {
        self.attributes || self.tags
    }
}

impl Attributes {
    fn value_mut(&mut self, attribute: Attribute) -> &mut Option<String> {
        match attribute {
            Attribute::Model => &mut self.model,
            Attribute::Hardware => &mut self.hardware,
            Attribute::Site => &mut self.site,
            Attribute::TimeZone => &mut self.time_zone,
        }
    }

    /// Applies a change. One that is refused changes nothing.
    ///
    /// # Errors
    /// [`AttributeError::TooManyTags`].
    pub fn apply(
        &mut self,
        change: &AttributesChange,
    ) -> Result<AttributesChanged, AttributeError> {
        let mut changed = AttributesChanged::default();
        let more = (change.tags.iter())
            .filter(|(key, value)| value.is_some() && !self.tags.contains_key(*key));
        let fewer = (change.tags.iter())
            .filter(|(key, value)| value.is_none() && self.tags.contains_key(*key));
        let count = self.tags.len() + more.count() - fewer.count();
        // whoever has too many, from elsewhere, may still lose some
        if count > MAX_TAGS && count > self.tags.len() {
            return Err(AttributeError::TooManyTags(count));
        }
        for (key, value) in &change.tags {
            changed.tags |= match value {
                Some(value) => self.tags.insert(key.clone(), value.clone()).as_ref() != Some(value),
                None => self.tags.remove(key).is_some(),
            };
        }
        for (attribute, given) in Attribute::ALL.into_iter().zip(&change.attributes) {
            let value = self.value_mut(attribute);
            if let Some(given) = given
                && given != value
            {
                value.clone_from(given);
                changed.attributes = true;
            }
        }
        Ok(changed)
    }
}

/// What to change about a device's attributes. What is not given stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::option_option, reason = "these are three cases")]
pub struct AttributesChange {
    /// In the order of [`Attribute::ALL`]; `Some(None)` takes the value away.
    attributes: [Option<Option<String>>; 4],
    /// `None` takes the tag away.
    tags: BTreeMap<String, Option<String>>,
}

impl AttributesChange {
    /// Sets an attribute, or takes it away.
    ///
    /// # Errors
    /// The value is not possible.
    pub fn set(
        &mut self,
        attribute: Attribute,
        value: Option<String>,
    ) -> Result<(), AttributeError> {
        let value = value.map(|value| attribute.checked(value)).transpose()?;
        for (other, given) in Attribute::ALL.into_iter().zip(&mut self.attributes) {
            if other == attribute {
                *given = Some(value);
                break;
            }
        }
        Ok(())
    }

    /// Sets a tag, or takes it away.
    ///
    /// # Errors
    /// Key or value are not possible, or more tags are set, or taken away, than a device may have.
    pub fn set_tag(&mut self, key: &str, value: Option<String>) -> Result<(), AttributeError> {
        check_tag_key(key)?;
        if let Some(value) = &value
            && !is_text(value, MAX_TAG_VALUE)
        {
            return Err(AttributeError::TagValue(key.to_owned()));
        }
        let alike = (self.tags.iter())
            .filter(|(other, given)| *other != key && given.is_some() == value.is_some());
        let count = alike.count() + 1;
        if count > MAX_TAGS {
            return Err(AttributeError::TooManyTags(count));
        }
        self.tags.insert(key.to_owned(), value);
        Ok(())
    }

    /// Sets what a column of a list holds.
    ///
    /// # Errors
    /// As [`set`](Self::set) and [`set_tag`](Self::set_tag).
    pub fn set_column(
        &mut self,
        column: &AttributeColumn,
        value: String,
    ) -> Result<(), AttributeError> {
        match column {
            AttributeColumn::Attribute(attribute) => self.set(*attribute, Some(value)),
            AttributeColumn::Tag(key) => self.set_tag(key, Some(value)),
        }
    }

    /// Nothing is given.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.attributes.iter().all(Option::is_none)
    }

    /// The tags that are set, or taken away (`None`).
    pub const fn tags(&self) -> &BTreeMap<String, Option<String>> {
        &self.tags
    }
}

#[cfg(test)]
mod tests;
