//! Devices and filters, few of whose values are distinct, so that they meet.

use std::{borrow::Cow, collections::BTreeMap};

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    clock::UtcMillis,
    filter::{
        Claim, Comparison, Facts, Filter, FlagField, Node, NumberField, Order, Pattern, Test,
        TextField, TimeField, Unit, When,
    },
    tenant,
};

pub(crate) const T0: UtcMillis = UtcMillis(1_800_000_000_000);

/// A device as a filter sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Device {
    pub(crate) endpoint: String,
    pub(crate) product: String,
    pub(crate) model: Option<String>,
    pub(crate) hardware: Option<String>,
    pub(crate) site: Option<String>,
    pub(crate) time_zone: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) version: Option<String>,
    pub(crate) via: Option<String>,
    pub(crate) cell: Option<u32>,
    pub(crate) rsrp: Option<i32>,
    pub(crate) sinr: Option<i32>,
    pub(crate) registration: Option<Registered>,
    pub(crate) secure: bool,
    pub(crate) last_heard: Option<UtcMillis>,
    pub(crate) created: UtcMillis,
    pub(crate) wake_every: Option<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct Registered {
    pub(crate) lwm2m_version: Option<&'static str>,
    pub(crate) binding: &'static str,
    pub(crate) queue_mode: bool,
}

impl Facts for Device {
    fn text(&self, field: &TextField) -> Option<Cow<'_, str>> {
        let registered = self.registration.as_ref();
        let text = match field {
            TextField::Endpoint => Some(self.endpoint.as_str()),
            TextField::Tenant => Some(tenant::owner(&self.product)),
            TextField::Product => Some(tenant::product_name(&self.product)),
            TextField::Model => self.model.as_deref(),
            TextField::Hardware => self.hardware.as_deref(),
            TextField::Site => self.site.as_deref(),
            TextField::TimeZone => self.time_zone.as_deref(),
            TextField::Version => self.version.as_deref(),
            TextField::Lwm2mVersion => registered.and_then(|it| it.lwm2m_version),
            TextField::Protocol => Some("iotda"),
            TextField::Via => self.via.as_deref(),
            TextField::Binding => {
                let queue = |it: &Registered| if it.queue_mode { "Q" } else { "" };
                return registered.map(|it| format!("{}{}", it.binding, queue(it)).into());
            }
            TextField::Tag(key) => self.tags.get(key).map(String::as_str),
        };
        text.map(Cow::Borrowed)
    }

    fn number(&self, field: NumberField) -> Option<i64> {
        match field {
            NumberField::Cell => self.cell.map(i64::from),
            NumberField::Rsrp => self.rsrp.map(i64::from),
            NumberField::Sinr => self.sinr.map(i64::from),
            NumberField::WakeEvery => self.wake_every.map(i64::from),
        }
    }

    fn flag(&self, field: FlagField) -> Option<bool> {
        match field {
            FlagField::QueueMode => self.registration.as_ref().map(|it| it.queue_mode),
            FlagField::Registered => Some(self.registration.is_some()),
            FlagField::Secure => Some(self.secure),
        }
    }

    fn time(&self, field: TimeField) -> Option<UtcMillis> {
        match field {
            TimeField::LastHeard => self.last_heard,
            TimeField::Created => Some(self.created),
        }
    }
}

const TEXTS: [&str; 22] = [
    "",
    "a",
    "b",
    "ab",
    "aab",
    "a*b",
    "a?b",
    "[ab]",
    "^a",
    "a]b",
    "'",
    "\"a b\"",
    "\\",
    "V1.9",
    "V1.10",
    "V1.010",
    "1",
    "U",
    "UQ",
    "ä",
    "\u{10FFFF}",
    "a\u{10FFFF}b",
];

pub(crate) fn text() -> impl Strategy<Value = String> {
    select(TEXTS.to_vec()).prop_map(str::to_owned)
}

fn key() -> impl Strategy<Value = String> {
    select(vec!["k", "K", "l.m"]).prop_map(str::to_owned)
}

fn time() -> impl Strategy<Value = UtcMillis> {
    (-3_i64..=1).prop_map(|hours| UtcMillis(T0.0 + hours * 3_600_000))
}

fn registered() -> impl Strategy<Value = Registered> {
    let version = option::of(select(vec!["1.0", "1.1"]));
    (version, select(vec!["U", "US"]), any::<bool>()).prop_map(
        |(lwm2m_version, binding, queue_mode)| Registered {
            lwm2m_version,
            binding,
            queue_mode,
        },
    )
}

/// Its endpoint is any of the texts that are not empty.
pub(crate) fn device() -> impl Strategy<Value = Device> {
    let owner = select(vec!["", "", "a/", "ab/"]);
    let product = (owner, text()).prop_map(|(owner, name)| format!("{owner}{name}"));
    let texts = (text(), product, vec(option::of(text()), 6));
    let numbers = (
        option::of(0_u32..3),
        option::of(-2_i32..2),
        option::of(-2_i32..2),
        option::of(1_u32..4),
    );
    let times = (option::of(time()), time());
    let tags = proptest::collection::btree_map(key(), text(), 0..3);
    let rest = (option::of(registered()), any::<bool>(), tags);
    (texts, numbers, times, rest).prop_map(|(texts, numbers, times, rest)| {
        let (endpoint, product, mut more) = texts;
        let mut next = || more.pop().flatten();
        Device {
            endpoint: format!("{endpoint}."),
            product,
            model: next(),
            hardware: next(),
            site: next(),
            time_zone: next(),
            version: next(),
            via: next(),
            cell: numbers.0,
            rsrp: numbers.1,
            sinr: numbers.2,
            wake_every: numbers.3,
            last_heard: times.0,
            created: times.1,
            registration: rest.0,
            secure: rest.1,
            tags: rest.2,
        }
    })
}

fn order() -> impl Strategy<Value = Order> {
    select(Order::ALL.to_vec())
}

fn tests<V: std::fmt::Debug + Clone, E: std::fmt::Debug>(
    value: impl Strategy<Value = V> + Clone + 'static,
    equal: impl Strategy<Value = E> + 'static,
) -> impl Strategy<Value = (bool, Test<V, E>)> {
    prop_oneof![
        (any::<bool>(), equal.prop_map(Test::Equal)),
        (
            Just(false),
            (order(), value.clone()).prop_map(|(order, value)| Test::Ordered(order, value))
        ),
        (any::<bool>(), vec(value, 1..4).prop_map(Test::Among)),
    ]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        text().prop_map(|text| Pattern::new(vec![text])),
        vec(text(), 2..4).prop_map(Pattern::new),
        select(vec!["a", "", "V1.", "a\u{10FFFF}", "\u{10FFFF}"])
            .prop_map(|prefix| Pattern::new(vec![prefix.to_owned(), String::new()])),
    ]
}

fn when() -> impl Strategy<Value = When> + Clone {
    let units = Unit::ALL.map(|(_, unit)| unit).to_vec();
    prop_oneof![
        time().boxed().prop_map(When::At),
        (0_u32..4, select(units)).prop_map(|(count, unit)| When::Ago(count, unit)),
        (any::<u32>(), Just(Unit::Week)).prop_map(|(count, unit)| When::Ago(count, unit)),
    ]
    .boxed()
}

fn text_field() -> impl Strategy<Value = TextField> {
    prop_oneof![
        3 => select(vec![
            TextField::Endpoint, TextField::Tenant, TextField::Product, TextField::Model, TextField::Hardware, TextField::Site,
            TextField::TimeZone, TextField::Version, TextField::Lwm2mVersion, TextField::Binding, TextField::Protocol,
        ]),
        1 => key().prop_map(TextField::Tag),
    ]
}

fn comparison() -> impl Strategy<Value = Comparison> {
    use NumberField::{Cell, Rsrp, Sinr, WakeEvery};
    let number = select(vec![Cell, Rsrp, Sinr, WakeEvery]);
    let flag = select(vec![
        FlagField::QueueMode,
        FlagField::Registered,
        FlagField::Secure,
    ]);
    let times = select(vec![TimeField::LastHeard, TimeField::Created]);
    let small = (0_i64..3).boxed();
    prop_oneof![
        4 => (text_field(), tests(text().boxed(), pattern()))
            .prop_map(|(field, (negated, test))| Comparison { negated, claim: Claim::Text(field, test) }),
        2 => (number, tests(small.clone(), small))
            .prop_map(|(field, (negated, test))| Comparison { negated, claim: Claim::Number(field, test) }),
        1 => (flag, any::<bool>(), any::<bool>())
            .prop_map(|(field, negated, expected)| Comparison { negated, claim: Claim::Flag(field, expected) }),
        1 => (times, tests(when(), when()))
            .prop_map(|(field, (negated, test))| Comparison { negated, claim: Claim::Time(field, test) }),
    ]
}

pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    let one = comparison().prop_map(Node::One);
    let tree = one.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(Node::all),
            vec(inner, 1..4).prop_map(Node::any)
        ]
    });
    tree.prop_map(|root| Filter { root })
}
