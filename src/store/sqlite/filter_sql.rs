//! A filter as a condition of the database, with the answers of [`Filter::matches`]. Its values are bound, and never stand in
//! the text of a statement.

use sqlx::{Encode, QueryBuilder, Sqlite, Type};

use crate::{
    clock::UtcMillis,
    filter::{
        Claim, Comparison, Filter, FlagField, Node, NumberField, Order, Pattern, Test, TextField,
        TimeField,
    },
};

/// The collation that is the order of [`crate::package::natural_cmp`].
pub(super) const NATURAL: &str = "by_numbers";

/// Appends the condition that `devices d` has to meet.
pub(super) fn push(query: &mut QueryBuilder<Sqlite>, filter: &Filter, now: UtcMillis) {
    node(query, filter.root(), now);
}

fn node(query: &mut QueryBuilder<Sqlite>, of: &Node, now: UtcMillis) {
    let (nodes, joint) = match of {
        Node::All(nodes) => (nodes, " AND "),
        Node::Any(nodes) => (nodes, " OR "),
        Node::One(one) => return comparison(query, one, now),
    };
    for (at, inner) in nodes.iter().enumerate() {
        query.push(if at == 0 { "(" } else { joint });
        node(query, inner, now);
    }
    query.push(")");
}

/// Of what is not there a claim is NULL, which is not true.
fn comparison(query: &mut QueryBuilder<Sqlite>, of: &Comparison, now: UtcMillis) {
    query.push("(");
    match &of.claim {
        Claim::Text(TextField::Tag(key), claim) => {
            query
                .push("EXISTS (SELECT 1 FROM device_tags g WHERE g.device_id = d.id AND g.key = ")
                .push_bind(key.clone())
                .push(" AND ");
            text(query, "g.value", claim);
            query.push(")");
        }
        Claim::Text(field, claim) => text(query, text_column(field), claim),
        Claim::Number(field, claim) => {
            test(
                query,
                number_column(*field),
                claim,
                |value| *value,
                |query, column, value| {
                    query.push(column).push(" = ").push_bind(*value);
                },
            );
        }
        Claim::Flag(field, expected) => {
            query
                .push(flag_column(*field))
                .push(" = ")
                .push_bind(*expected);
        }
        Claim::Time(field, claim) => {
            let millis = |when: &crate::filter::When| when.resolve(now).0;
            test(
                query,
                time_column(*field),
                claim,
                millis,
                |query, column, when| {
                    query.push(column).push(" = ").push_bind(millis(when));
                },
            );
        }
    }
    query.push(if of.negated { ") IS NOT TRUE" } else { ")" });
}

fn text(query: &mut QueryBuilder<Sqlite>, column: &'static str, claim: &Test<String, Pattern>) {
    test(query, column, claim, String::clone, equal);
    if let Test::Ordered(..) = claim {
        query.push(" COLLATE ").push(NATURAL);
    }
}

fn test<V, E, B>(
    query: &mut QueryBuilder<Sqlite>,
    column: &'static str,
    test: &Test<V, E>,
    bound: impl Fn(&V) -> B,
    equal: impl Fn(&mut QueryBuilder<Sqlite>, &'static str, &E),
) where
    B: for<'q> Encode<'q, Sqlite> + Type<Sqlite>,
{
    match test {
        Test::Equal(value) => equal(query, column, value),
        Test::Ordered(order, value) => {
            let sign = match order {
                Order::Below => " < ",
                Order::AtMost => " <= ",
                Order::Above => " > ",
                Order::AtLeast => " >= ",
            };
            query.push(column).push(sign).push_bind(bound(value));
        }
        Test::Among(values) => {
            query.push(column).push(" IN (");
            let mut list = query.separated(", ");
            for value in values {
                list.push_bind(bound(value));
            }
            query.push(")");
        }
    }
}

fn equal(query: &mut QueryBuilder<Sqlite>, column: &'static str, pattern: &Pattern) {
    query.push(column);
    match pattern.exact() {
        Some(text) => query.push(" = ").push_bind(text.to_owned()),
        None => query.push(" GLOB ").push_bind(glob(pattern)),
    };
}

/// The pattern in the database's language of wildcards, which tells upper case from lower case.
fn glob(pattern: &Pattern) -> String {
    let mut glob = String::new();
    for (at, part) in pattern.parts().iter().enumerate() {
        if at > 0 {
            glob.push('*');
        }
        for c in part.chars() {
            if matches!(c, '*' | '?' | '[') {
                glob.extend(['[', c, ']']);
            } else {
                glob.push(c);
            }
        }
    }
    glob
}

fn text_column(field: &TextField) -> &'static str {
    match field {
        TextField::Endpoint => "d.endpoint",
        TextField::Tenant => "d.tenant",
        TextField::Product => "d.product_name",
        TextField::Model => "d.model",
        TextField::Hardware => "d.hardware",
        TextField::Site => "d.site",
        TextField::TimeZone => "d.time_zone",
        TextField::Version => "d.version",
        TextField::Lwm2mVersion => "d.reg_lwm2m_version",
        // as it is shown; registrations from before it was noted are shown with UDP
        TextField::Binding => {
            "IIF(d.registered, COALESCE(d.reg_binding, 'U') || IIF(d.reg_queue_mode, 'Q', ''), NULL)"
        }
        TextField::Protocol => "d.protocol",
        TextField::Via => "d.via",
        // a row of its own
        TextField::Tag(_) => "g.value",
    }
}

const fn number_column(field: NumberField) -> &'static str {
    match field {
        NumberField::Cell => "d.coverage_cell",
        NumberField::Rsrp => "d.coverage_rsrp_dbm",
        NumberField::Sinr => "d.coverage_sinr_db",
        // 0 before the second time
        NumberField::WakeEvery => "NULLIF(d.wake_ups ->> '$.period_s', 0)",
    }
}

const fn flag_column(field: FlagField) -> &'static str {
    match field {
        FlagField::QueueMode => "d.reg_queue_mode",
        FlagField::Registered => "d.registered",
        FlagField::Secure => "d.secure",
    }
}

const fn time_column(field: TimeField) -> &'static str {
    match field {
        TimeField::LastHeard => "d.last_heard_at",
        TimeField::Created => "d.created_at",
    }
}
