/// A text in which stars stand for any characters, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What is before, between and behind the stars: at least one part. Only the first and the last may be empty.
    parts: Vec<String>,
}

impl Pattern {
    /// Of the parts between stars.
    pub(super) fn new(parts: Vec<String>) -> Self {
        let last = parts.len().saturating_sub(1);
        let parts = parts.into_iter().enumerate();
        let kept = parts.filter(|(at, part)| *at == 0 || *at == last || !part.is_empty());
        let mut parts: Vec<String> = kept.map(|(_, part)| part).collect();
        if parts.is_empty() {
            parts.push(String::new());
        }
        Self { parts }
    }

    /// The text, where there is no star.
    pub fn exact(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }

    /// What is before, between and behind the stars.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// What every text begins with that it matches.
    pub fn prefix(&self) -> &str {
        self.parts.first().map_or("", String::as_str)
    }

    /// Whether a text is of this form.
    pub fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.parts.as_slice() else {
            return self.exact() == Some(text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in middle {
            let Some((_, behind)) = rest.split_once(part.as_str()) else {
                return false;
            };
            rest = behind;
        }
        rest.ends_with(last.as_str())
    }
}
