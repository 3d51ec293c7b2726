//! From text to the tree: a descent that goes no deeper than [`MAX_DEPTH`] parentheses.

use super::{
    Claim, Comparison, FilterError, FlagField, MAX_CHARACTERS, MAX_COMPARISONS, MAX_DEPTH,
    MAX_TAG_KEY, MAX_VALUES, Node, NumberField, Order, Pattern, Test, TextField, TimeField, Unit,
    When,
};
use crate::clock::UtcMillis;

/// What a bare value has behind a backslash only.
pub(super) const ESCAPED_BARE: fn(char) -> bool =
    |c| c.is_whitespace() || "\"'()\\;,=!<>*".contains(c);
/// The same within quotes, which are single ones where a filter is displayed.
pub(super) const ESCAPED_QUOTED: fn(char) -> bool = |c| "'\\*".contains(c);

const FIELDS: &str = "endpoint, product, model, hardware, site, time_zone, tag.KEY, version, cell, rsrp, sinr, \
     lwm2m_version, binding, protocol, via, queue_mode, registered, secure, last_heard, created, wake_every, tenant";

pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    let text: Vec<char> = text.chars().take(MAX_CHARACTERS + 1).collect();
    let mut parser = Parser {
        text: &text,
        at: 0,
        comparisons: 0,
    };
    if text.len() > MAX_CHARACTERS {
        parser.at = MAX_CHARACTERS;
        return Err(parser.error(format!("a filter has at most {MAX_CHARACTERS} characters")));
    }
    let root = parser.any(0)?;
    if parser.peek().is_some() {
        return Err(parser.error("; (and), , (or), or the end is expected"));
    }
    Ok(root)
}

struct Parser<'t> {
    text: &'t [char],
    at: usize,
    comparisons: usize,
}

/// How an attribute is compared.
#[derive(Clone, Copy)]
enum Operator {
    Equal { negated: bool },
    Ordered(Order),
    Among { negated: bool },
}

/// A value as it was written.
struct Value {
    at: usize,
    /// What is between the stars that are not escaped.
    parts: Vec<String>,
}

/// An attribute and how its values are read.
enum Field {
    Text(TextField),
    Number(NumberField),
    Flag(FlagField),
    Time(TimeField),
}

impl Parser<'_> {
    fn error(&self, reason: impl Into<String>) -> FilterError {
        error_at(self.at, reason)
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        while self.text.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Passes over a text, if it is the next.
    fn take(&mut self, expected: &str) -> bool {
        let mut rest = self.text[self.at..].iter();
        let found = expected.chars().all(|c| rest.next() == Some(&c));
        if found {
            self.at = self.text.len() - rest.len();
        }
        found
    }

    /// Passes over a sign or a word that joins comparisons, if it is the next.
    fn joint(&mut self, sign: char, word: &str) -> bool {
        if self.peek() == Some(sign) {
            self.at += 1;
            return true;
        }
        let rest = &self.text[self.at..];
        let is_word = rest.len() >= word.len()
            && word
                .chars()
                .zip(rest)
                .all(|(a, b)| a.eq_ignore_ascii_case(b))
            && (rest.get(word.len())).is_none_or(|c| c.is_whitespace() || *c == '(');
        if is_word {
            self.at += word.len();
        }
        is_word
    }

    fn any(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.all(depth)?];
        while self.joint(',', "or") {
            nodes.push(self.all(depth)?);
        }
        Ok(Node::any(nodes))
    }

    fn all(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut nodes = vec![self.one(depth)?];
        while self.joint(';', "and") {
            nodes.push(self.one(depth)?);
        }
        Ok(Node::all(nodes))
    }

    fn one(&mut self, depth: usize) -> Result<Node, FilterError> {
        if self.peek() != Some('(') {
            return self.comparison().map(Node::One);
        }
        if depth == MAX_DEPTH {
            return Err(self.error(format!("at most {MAX_DEPTH} parentheses are in each other")));
        }
        self.at += 1;
        let inner = self.any(depth + 1)?;
        if self.peek() != Some(')') {
            return Err(self.error("; (and), , (or) or ) is expected"));
        }
        self.at += 1;
        Ok(inner)
    }

    fn comparison(&mut self) -> Result<Comparison, FilterError> {
        if self.comparisons == MAX_COMPARISONS {
            return Err(self.error(format!(
                "a filter has at most {MAX_COMPARISONS} comparisons"
            )));
        }
        self.comparisons += 1;
        let field = self.field()?;
        self.peek();
        let operator_at = self.at;
        let operator = self.operator()?;
        let negated = match operator {
            Operator::Equal { negated } | Operator::Among { negated } => negated,
            Operator::Ordered(_) => false,
        };
        let claim = match field {
            Field::Text(field) => {
                let test = self.test(operator, Value::text, |value| Ok(value.pattern()))?;
                Claim::Text(field, test)
            }
            Field::Number(field) => {
                let read = |value: Value| value.number(field);
                Claim::Number(field, self.test(operator, read, read)?)
            }
            Field::Time(field) => {
                let read = |value: Value| value.time(field);
                Claim::Time(field, self.test(operator, read, read)?)
            }
            Field::Flag(field) if matches!(operator, Operator::Equal { .. }) => {
                Claim::Flag(field, self.value()?.flag(field)?)
            }
            Field::Flag(field) => {
                let reason = format!("{} is compared by == or !=", field.name());
                return Err(error_at(operator_at, reason));
            }
        };
        Ok(Comparison { negated, claim })
    }

    fn field(&mut self) -> Result<Field, FilterError> {
        self.peek();
        let start = self.at;
        let rest = &self.text[start..];
        let in_name = |c: &&char| c.is_ascii_alphanumeric() || "._-".contains(**c);
        let name: String = rest.iter().take_while(in_name).collect();
        if name.is_empty() {
            return Err(self.error("a comparison is expected, such as product==meter"));
        }
        self.at += name.len();
        if let Some(key) = name.strip_prefix("tag.") {
            return if (1..=MAX_TAG_KEY).contains(&key.len()) {
                Ok(Field::Text(TextField::Tag(key.to_owned())))
            } else {
                let reason = format!("the key of a tag has 1 to {MAX_TAG_KEY} characters");
                Err(error_at(start + "tag.".len(), reason))
            };
        }
        Ok(match name.as_str() {
            "endpoint" => Field::Text(TextField::Endpoint),
            "tenant" => Field::Text(TextField::Tenant),
            "product" => Field::Text(TextField::Product),
            "model" => Field::Text(TextField::Model),
            "hardware" => Field::Text(TextField::Hardware),
            "site" => Field::Text(TextField::Site),
            "time_zone" => Field::Text(TextField::TimeZone),
            "version" => Field::Text(TextField::Version),
            "lwm2m_version" => Field::Text(TextField::Lwm2mVersion),
            "binding" => Field::Text(TextField::Binding),
            "protocol" => Field::Text(TextField::Protocol),
            "via" => Field::Text(TextField::Via),
            "cell" => Field::Number(NumberField::Cell),
            "rsrp" => Field::Number(NumberField::Rsrp),
            "sinr" => Field::Number(NumberField::Sinr),
            "wake_every" => Field::Number(NumberField::WakeEvery),
            "queue_mode" => Field::Flag(FlagField::QueueMode),
            "registered" => Field::Flag(FlagField::Registered),
            "secure" => Field::Flag(FlagField::Secure),
            "last_heard" => Field::Time(TimeField::LastHeard),
            "created" => Field::Time(TimeField::Created),
            _ => {
                let reason = format!("a field is expected, one of {FIELDS}");
                return Err(error_at(start, reason));
            }
        })
    }

    fn operator(&mut self) -> Result<Operator, FilterError> {
        const NAMED: [(&str, Operator); 8] = [
            ("==", Operator::Equal { negated: false }),
            ("!=", Operator::Equal { negated: true }),
            ("=in=", Operator::Among { negated: false }),
            ("=out=", Operator::Among { negated: true }),
            ("=lt=", Operator::Ordered(Order::Below)),
            ("=le=", Operator::Ordered(Order::AtMost)),
            ("=gt=", Operator::Ordered(Order::Above)),
            ("=ge=", Operator::Ordered(Order::AtLeast)),
        ];
        if let Some((_, operator)) = NAMED.into_iter().find(|(name, _)| self.take(name)) {
            return Ok(operator);
        }
        let order = Order::ALL.into_iter().find(|order| self.take(order.sign()));
        order.map(Operator::Ordered).ok_or_else(|| {
            self.error("a comparison is expected: ==, !=, <, <=, >, >=, =in= or =out=")
        })
    }

    fn test<V, E>(
        &mut self,
        operator: Operator,
        read: impl Fn(Value) -> Result<V, FilterError>,
        read_equal: impl Fn(Value) -> Result<E, FilterError>,
    ) -> Result<Test<V, E>, FilterError> {
        match operator {
            Operator::Equal { .. } => Ok(Test::Equal(read_equal(self.value()?)?)),
            Operator::Ordered(order) => Ok(Test::Ordered(order, read(self.value()?)?)),
            Operator::Among { .. } => self.list(read).map(Test::Among),
        }
    }

    fn list<V>(
        &mut self,
        read: impl Fn(Value) -> Result<V, FilterError>,
    ) -> Result<Vec<V>, FilterError> {
        if self.peek() != Some('(') {
            return Err(self.error("a list is expected, such as (a,b)"));
        }
        self.at += 1;
        let mut values = Vec::new();
        loop {
            if values.len() == MAX_VALUES {
                return Err(self.error(format!("a list has at most {MAX_VALUES} values")));
            }
            values.push(read(self.value()?)?);
            match self.peek() {
                Some(',') => self.at += 1,
                Some(')') => break,
                _ => return Err(self.error(", or ) is expected")),
            }
        }
        self.at += 1;
        Ok(values)
    }

    fn value(&mut self) -> Result<Value, FilterError> {
        let quote = self.peek().filter(|c| matches!(c, '\'' | '"'));
        let at = self.at;
        self.at += usize::from(quote.is_some());
        let mut parts = vec![String::new()];
        loop {
            let Some(mut c) = self.text.get(self.at).copied() else {
                match quote {
                    Some(quote) => return Err(self.error(format!("{quote} is expected"))),
                    None => break,
                }
            };
            if Some(c) == quote {
                self.at += 1;
                break;
            }
            if c == '*' {
                self.at += 1;
                parts.push(String::new());
                continue;
            }
            if c == '\\' {
                self.at += 1;
                let escaped = self.text.get(self.at).copied();
                c = escaped.ok_or_else(|| self.error("a character is expected behind \\"))?;
            } else if quote.is_none() && ESCAPED_BARE(c) {
                break;
            }
            if !is_possible(c) {
                return Err(self.error("a character is expected that texts may have"));
            }
            self.at += 1;
            if let Some(part) = parts.last_mut() {
                part.push(c);
            }
        }
        if self.at == at {
            let reason =
                "a value is expected; other characters than letters, digits and -._~:@ need quotes";
            return Err(self.error(reason));
        }
        Ok(Value { at, parts })
    }
}

/// Texts have no control characters. The others are told apart by programs and not by databases.
fn is_possible(c: char) -> bool {
    !c.is_control() && !('\u{FFFD}'..='\u{FFFF}').contains(&c)
}

fn error_at(at: usize, reason: impl Into<String>) -> FilterError {
    FilterError {
        position: at + 1,
        reason: reason.into(),
    }
}

impl Value {
    fn error(&self, reason: impl Into<String>) -> FilterError {
        error_at(self.at, reason)
    }

    fn pattern(self) -> Pattern {
        Pattern::new(self.parts)
    }

    fn text(mut self) -> Result<String, FilterError> {
        match self.parts.pop() {
            Some(text) if self.parts.is_empty() => Ok(text),
            _ => Err(self.error("* is possible with == and != only; \\* stands for a star")),
        }
    }

    fn number(self, field: NumberField) -> Result<i64, FilterError> {
        let range = match field {
            NumberField::Cell | NumberField::WakeEvery => 0..=i64::from(u32::MAX),
            NumberField::Rsrp | NumberField::Sinr => i64::from(i32::MIN)..=i64::from(i32::MAX),
        };
        let number = match self.parts.as_slice() {
            [text] if !text.starts_with('+') => text.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (name, from, to) = (field.name(), range.start(), range.end());
            self.error(format!(
                "a whole number is expected for {name}, {from} to {to}"
            ))
        })
    }

    fn flag(self, field: FlagField) -> Result<bool, FilterError> {
        let flag = match self.parts.as_slice() {
            [text] => text.to_ascii_lowercase().parse().ok(),
            _ => None,
        };
        flag.ok_or_else(|| self.error(format!("true or false is expected for {}", field.name())))
    }

    fn time(self, field: TimeField) -> Result<When, FilterError> {
        let when = match self.parts.as_slice() {
            [text] => ago(text).or_else(|| at(text)),
            _ => None,
        };
        when.ok_or_else(|| {
            self.error(format!(
                "a time is expected for {}, such as 2027-03-01T02:00:00Z (RFC 3339), or how long ago: -7d, with the units s, m, \
                 h, d and w",
                field.name()
            ))
        })
    }
}

/// How long ago: `-7d`.
fn ago(text: &str) -> Option<When> {
    let text = text.strip_prefix('-')?;
    let (at, last) = text.char_indices().next_back()?;
    let (_, unit) = Unit::ALL.into_iter().find(|(letter, _)| *letter == last)?;
    let digits = &text[..at];
    let count = digits.parse().ok().filter(|_| !digits.starts_with('+'))?;
    Some(When::Ago(count, unit))
}

/// A time of RFC 3339, which is no shorter than in UTC without a fraction.
fn at(text: &str) -> Option<When> {
    let shortest = "2027-03-01T02:00:00Z".len();
    let time: jiff::Timestamp = text.parse().ok().filter(|_| text.len() >= shortest)?;
    Some(When::At(UtcMillis(time.as_millisecond())))
}
