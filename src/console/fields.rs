//! What a form has sent.

use super::calls::Leave;

/// The fields of a form, in their order. A field may be there several times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(pub(super) Vec<(String, String)>);

/// What goes with every form, and is not what somebody has entered.
const OF_THE_PAGE: [&str; 3] = ["csrf", "once", "etag"];
/// A field of this name stands for one that has to be entered again.
pub(super) const AGAIN: &str = "enter-again";
/// What is not put into a page again.
const SECRET: [&str; 5] = ["password", "old_password", "code", "key", "secret"];

impl Fields {
    /// The fields of a body of the type `application/x-www-form-urlencoded`, or of a query.
    pub(super) fn parse(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body);
        Self(pairs.into_owned().collect())
    }

    /// What stands in a field, without the blanks around it; empty where there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// As [`get`](Self::get); `None` where nothing was entered.
    pub(super) fn some(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    /// Everything that stands in fields of this name.
    pub(super) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        let named = self.0.iter().filter(move |(field, _)| field == name);
        named.map(|(_, value)| value.trim())
    }

    /// Whether a box was ticked.
    pub(super) fn ticked(&self, name: &str) -> bool {
        self.some(name).is_some()
    }

    /// What goes with the change that the form is for.
    pub(super) fn leave(&self) -> Leave {
        Leave {
            csrf: self.get("csrf").to_owned(),
            once: self.get("once").to_owned(),
            etag: self.get("etag").to_owned(),
        }
    }

    /// What somebody has entered, and may be shown again.
    pub(super) fn entered(&self) -> Self {
        let told = |name: &str| !OF_THE_PAGE.contains(&name) && !SECRET.contains(&name);
        let entered = self.0.iter().filter(|(name, _)| told(name));
        Self(entered.cloned().collect())
    }

    /// What is kept while somebody logs in: what was entered, of which version of a thing it was, and of secrets that they were there
    /// ([`AGAIN`]).
    pub(super) fn kept(&self) -> Self {
        let of_session = |name: &str| matches!(name, "csrf" | "once" | AGAIN);
        let entered = self.0.iter().filter(|(name, _)| !of_session(name));
        let kept = entered.filter_map(|(name, value)| match SECRET.contains(&name.as_str()) {
            false => Some((name.clone(), value.clone())),
            true if value.is_empty() => None,
            true => Some((AGAIN.to_owned(), name.clone())),
        });
        Self(kept.collect())
    }

    /// The same as a query.
    pub(super) fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.0);
        query.finish()
    }
}

/// A part of a path, or a value in a query, of any text.
pub(super) fn encode(text: &str) -> String {
    // a blank is %20 in a path as well as in a query
    form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}
