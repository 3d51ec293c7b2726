//! Attributes and tags, as they are given and shown.

use std::collections::BTreeMap;

use utoipa::openapi::{
    Object, ObjectBuilder,
    schema::{AdditionalProperties, SchemaType, Type},
};

use crate::{
    api::extract::Fields,
    ledger::{Attribute, AttributesChange, MAX_TAG_VALUE, MAX_TAGS},
};

/// What is given of a device's attributes.
#[expect(clippy::option_option, reason = "these are three cases")]
pub(super) struct Given {
    /// In the order of [`Attribute::ALL`]; `Some(None)` takes the value away.
    pub(super) attributes: [Option<Option<String>>; 4],
    /// `None` takes the tag away.
    pub(super) tags: BTreeMap<String, Option<String>>,
}

impl Given {
    /// What is set, where nothing can be taken away.
    pub(super) fn set(
        attributes: [Option<String>; 4],
        tags: Option<BTreeMap<String, String>>,
    ) -> Self {
        let tags = tags.into_iter().flatten();
        Self {
            attributes: attributes.map(|value| value.map(Some)),
            tags: tags.map(|(key, value)| (key, Some(value))).collect(),
        }
    }

    /// Notes what is wrong; `prefix` stands before the names of the fields.
    pub(super) fn check(self, fields: &mut Fields, prefix: &str) -> AttributesChange {
        let mut change = AttributesChange::default();
        for (attribute, value) in Attribute::ALL.into_iter().zip(self.attributes) {
            if let Some(value) = value {
                let field = format!("{prefix}{}", attribute.name());
                fields.take(&field, change.set(attribute, value));
            }
        }
        for (key, value) in self.tags {
            // one error is enough: there may be thousands
            let taken = change.set_tag(&key, value);
            if fields.take(&format!("{prefix}tags"), taken).is_none() {
                break;
            }
        }
        change
    }
}

fn nullable(of: Type, is: bool) -> SchemaType {
    if is {
        SchemaType::from_iter([of, Type::Null])
    } else {
        SchemaType::new(of)
    }
}

fn zone(may_be_null: bool) -> Object {
    ObjectBuilder::new()
        .schema_type(nullable(Type::String, may_be_null))
        .description(Some(
            "The time zone there, an IANA name. The server has the zones in itself, and does not read those of its machine.",
        ))
        .max_length(Some(64))
        .examples(["Europe/Berlin"])
        .build()
}

pub(super) fn time_zone() -> Object {
    zone(false)
}

pub(super) fn time_zone_or_null() -> Object {
    zone(true)
}

fn values(may_be_null: bool, what: &str) -> Object {
    let value = ObjectBuilder::new()
        .schema_type(nullable(Type::String, may_be_null))
        .max_length(Some(MAX_TAG_VALUE))
        .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]{0,256}$"));
    let key = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[A-Za-z0-9._-]{1,64}$"));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(what))
        .property_names(Some(key))
        .additional_properties(Some(AdditionalProperties::from(value)))
        .max_properties(Some(if may_be_null { 2 * MAX_TAGS } else { MAX_TAGS }))
        .examples([serde_json::json!({"customer": "north", "batch": "2026-03"})])
        .build()
}

pub(super) fn tags() -> Object {
    values(
        false,
        "Up to 32 tags. A key has 1 to 64 of A-Z a-z 0-9 . _ -, a value up to 256 characters without control characters.",
    )
}

pub(super) fn tag_changes() -> Object {
    values(
        true,
        "Sets these tags, or takes those away that are `null`; the others stay. A device has up to 32.",
    )
}
