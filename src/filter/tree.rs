//! What a filter consists of.

use std::{borrow::Cow, cmp::Ordering, time::Duration};

use super::Pattern;
use crate::{clock::UtcMillis, package::natural_cmp};

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// All of these hold: two at least, none of which is of this kind.
    All(Vec<Self>),
    /// One of these holds: two at least, none of which is of this kind.
    Any(Vec<Self>),
    /// One comparison.
    One(Comparison),
}

/// A comparison of an attribute with a value, or with several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// It holds when what it claims does not (`!=` and `=out=`). Orders are never negated.
    pub negated: bool,
    /// What it claims of the attribute. It is false of an attribute that the device does not have.
    pub claim: Claim,
}

/// What a comparison claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Of a text. Equality knows wildcards; orders are those of [`natural_cmp`].
    Text(TextField, Test<String, Pattern>),
    /// Of a number.
    Number(NumberField, Test<i64>),
    /// That something is, or is not.
    Flag(FlagField, bool),
    /// Of a time.
    Time(TimeField, Test<When>),
}

/// How a value is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test<V, E = V> {
    /// It is equal.
    Equal(E),
    /// It is in this order to that.
    Ordered(Order, V),
    /// It is one of these, which are one at least.
    Among(Vec<V>),
}

/// An order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

/// An attribute that is text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextField {
    /// The endpoint name.
    Endpoint,
    /// Whose it is.
    Tenant,
    /// The product, as its tenant calls it.
    Product,
    /// The model.
    Model,
    /// The revision of the hardware.
    Hardware,
    /// The site.
    Site,
    /// The time zone, an IANA name.
    TimeZone,
    /// The version that the device reported last.
    Version,
    /// The version of LwM2M that its registration tells.
    Lwm2mVersion,
    /// The transports of its registration, and `Q` when it sleeps: `UQ`.
    Binding,
    /// What the device speaks: `lwm2m`, `iotda`, `thingspanel` or `quecthing`.
    Protocol,
    /// The gateway through which it is reached.
    Via,
    /// The tag with this key.
    Tag(String),
}

/// An attribute that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberField {
    /// The cell of its last report.
    Cell,
    /// Its RSRP, dBm.
    Rsrp,
    /// Its SINR, dB.
    Sinr,
    /// How often it wakes up by itself, seconds.
    WakeEvery,
}

/// An attribute that is true or false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagField {
    /// It sleeps; absent where it is not registered.
    QueueMode,
    /// It is registered.
    Registered,
    /// It is refused where nothing is encrypted.
    Secure,
}

/// An attribute that is a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeField {
    /// When it was heard last.
    LastHeard,
    /// When it was added.
    Created,
}

/// A time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// A time.
    At(UtcMillis),
    /// So many units before now.
    Ago(u32, Unit),
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `s`
    Second,
    /// `m`
    Minute,
    /// `h`
    Hour,
    /// `d`: 24 hours
    Day,
    /// `w`: 7 days
    Week,
}

/// A device, as far as filters ask. `None` where it does not have the attribute.
pub trait Facts {
    /// A text.
    fn text(&self, field: &TextField) -> Option<Cow<'_, str>>;
    /// A number.
    fn number(&self, field: NumberField) -> Option<i64>;
    /// True or false.
    fn flag(&self, field: FlagField) -> Option<bool>;
    /// A time.
    fn time(&self, field: TimeField) -> Option<UtcMillis>;
}

impl Node {
    /// All of these, which are one at least.
    pub(super) fn all(nodes: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Self::All(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        Self::only(flat).unwrap_or_else(Self::All)
    }

    /// One of these, which are one at least.
    pub(super) fn any(nodes: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Self::Any(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        Self::only(flat).unwrap_or_else(Self::Any)
    }

    /// How many comparisons there are.
    pub fn comparisons(&self) -> usize {
        match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().map(Self::comparisons).sum(),
            Self::One(_) => 1,
        }
    }

    fn only(mut nodes: Vec<Self>) -> Result<Self, Vec<Self>> {
        if nodes.len() == 1 {
            nodes.pop().ok_or(nodes)
        } else {
            Err(nodes)
        }
    }

    pub(super) fn holds(&self, device: &impl Facts, now: UtcMillis) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.holds(device, now)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(device, now)),
            Self::One(one) => one.claim.holds(device, now) != one.negated,
        }
    }
}

impl Claim {
    fn holds(&self, device: &impl Facts, now: UtcMillis) -> bool {
        match self {
            Self::Text(field, test) => device.text(field).is_some_and(|it| match test {
                Test::Equal(pattern) => pattern.matches(&it),
                Test::Ordered(order, than) => order.holds(natural_cmp(&it, than)),
                Test::Among(values) => values.iter().any(|value| *value == it),
            }),
            Self::Number(field, test) => {
                (device.number(*field)).is_some_and(|it| test.holds(|value| it.cmp(value)))
            }
            Self::Flag(field, expected) => device.flag(*field) == Some(*expected),
            Self::Time(field, test) => (device.time(*field))
                .is_some_and(|it| test.holds(|when| it.cmp(&when.resolve(now)))),
        }
    }
}

impl<V> Test<V> {
    fn holds(&self, compare: impl Fn(&V) -> Ordering) -> bool {
        match self {
            Self::Equal(value) => compare(value).is_eq(),
            Self::Ordered(order, value) => order.holds(compare(value)),
            Self::Among(values) => values.iter().any(|value| compare(value).is_eq()),
        }
    }
}

impl Order {
    /// Every order, the longest signs first.
    pub(super) const ALL: [Self; 4] = [Self::AtMost, Self::AtLeast, Self::Below, Self::Above];

    /// Its sign.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::AtLeast => ">=",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Below => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Above => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

impl When {
    /// The time it is, at `now`.
    pub fn resolve(self, now: UtcMillis) -> UtcMillis {
        match self {
            Self::At(at) => at,
            Self::Ago(count, unit) => {
                now.before(Duration::from_secs(u64::from(count) * unit.seconds()))
            }
        }
    }
}

impl Unit {
    /// Every unit, and its letter.
    pub(super) const ALL: [(char, Self); 5] = [
        ('s', Self::Second),
        ('m', Self::Minute),
        ('h', Self::Hour),
        ('d', Self::Day),
        ('w', Self::Week),
    ];

    const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
        }
    }
}
