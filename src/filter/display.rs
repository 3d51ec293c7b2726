//! A filter's canonical text: as short as it can be written.

use std::fmt::{self, Display, Write as _};

use super::{
    Claim, Comparison, FlagField, Node, NumberField, Order, Pattern, Test, TextField, TimeField,
    Unit, When,
    parse::{ESCAPED_BARE, ESCAPED_QUOTED},
};

impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(nodes) => list(f, nodes, ';', |node, f| match node {
                Self::Any(_) => write!(f, "({node})"),
                node => node.fmt(f),
            }),
            Self::Any(nodes) => list(f, nodes, ',', Display::fmt),
            Self::One(comparison) => comparison.fmt(f),
        }
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: &i64, f: &mut fmt::Formatter<'_>| value.fmt(f);
        let time = |when: &When, f: &mut fmt::Formatter<'_>| when.fmt(f);
        match &self.claim {
            Claim::Text(field, claim) => {
                field.fmt(f)?;
                test(
                    f,
                    self.negated,
                    claim,
                    |text, f| value(f, &[text]),
                    Display::fmt,
                )
            }
            Claim::Number(field, claim) => {
                f.write_str(field.name())?;
                test(f, self.negated, claim, number, number)
            }
            Claim::Flag(field, expected) => {
                write!(f, "{}{}{expected}", field.name(), equal(self.negated))
            }
            Claim::Time(field, claim) => {
                f.write_str(field.name())?;
                test(f, self.negated, claim, time, time)
            }
        }
    }
}

const fn equal(negated: bool) -> &'static str {
    if negated { "!=" } else { "==" }
}

fn test<V, E>(
    f: &mut fmt::Formatter<'_>,
    negated: bool,
    test: &Test<V, E>,
    show: impl Fn(&V, &mut fmt::Formatter<'_>) -> fmt::Result,
    show_equal: impl Fn(&E, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    match test {
        Test::Equal(value) => {
            f.write_str(equal(negated))?;
            show_equal(value, f)
        }
        Test::Ordered(order, value) => {
            f.write_str(order.sign())?;
            show(value, f)
        }
        Test::Among(values) => {
            f.write_str(if negated { "=out=(" } else { "=in=(" })?;
            list(f, values, ',', show)?;
            f.write_char(')')
        }
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    separator: char,
    show: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_char(separator)?;
        }
        show(item, f)?;
    }
    Ok(())
}

impl Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.parts().iter().map(String::as_str).collect();
        value(f, &parts)
    }
}

/// Writes parts with stars between them, bare or in quotes, whichever is shorter.
fn value(f: &mut fmt::Formatter<'_>, parts: &[impl AsRef<str>]) -> fmt::Result {
    let count = |set: fn(char) -> bool| {
        let parts = parts.iter();
        parts
            .flat_map(|part| part.as_ref().chars())
            .filter(|c| set(*c))
            .count()
    };
    let empty = parts.len() == 1 && parts.iter().all(|part| part.as_ref().is_empty());
    let bare = !empty && count(ESCAPED_BARE) <= 2 + count(ESCAPED_QUOTED);
    let escapes = if bare { ESCAPED_BARE } else { ESCAPED_QUOTED };
    let quote = if bare { "" } else { "'" };
    f.write_str(quote)?;
    list(f, parts, '*', |part, f| {
        for c in part.as_ref().chars() {
            if escapes(c) {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        Ok(())
    })?;
    f.write_str(quote)
}

impl Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => match jiff::Timestamp::from_millisecond(at.0) {
                Ok(time) => time.fmt(f),
                Err(_) => at.fmt(f), // what was read as a time has a form as one
            },
            Self::Ago(count, unit) => {
                let letter = Unit::ALL.into_iter().find(|(_, it)| it == unit);
                write!(f, "-{count}{}", letter.map_or('s', |(letter, _)| letter))
            }
        }
    }
}

impl Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sign())
    }
}

impl Display for TextField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endpoint => "endpoint",
            Self::Tenant => "tenant",
            Self::Product => "product",
            Self::Model => "model",
            Self::Hardware => "hardware",
            Self::Site => "site",
            Self::TimeZone => "time_zone",
            Self::Version => "version",
            Self::Lwm2mVersion => "lwm2m_version",
            Self::Binding => "binding",
            Self::Protocol => "protocol",
            Self::Via => "via",
            Self::Tag(key) => return write!(f, "tag.{key}"),
        })
    }
}

impl NumberField {
    /// Its name in filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cell => "cell",
            Self::Rsrp => "rsrp",
            Self::Sinr => "sinr",
            Self::WakeEvery => "wake_every",
        }
    }
}

impl FlagField {
    /// Its name in filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueMode => "queue_mode",
            Self::Registered => "registered",
            Self::Secure => "secure",
        }
    }
}

impl TimeField {
    /// Its name in filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LastHeard => "last_heard",
            Self::Created => "created",
        }
    }
}
