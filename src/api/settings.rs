//! `GET /v1/settings`: with what the server runs.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, schema::SchemaType},
};

use super::{ApiState, problem::Problem};
use crate::config::{Config, DEMO_CREDENTIAL_KEY};

/// The settings that hold a secret itself. Others name a file that does.
const SECRETS: [&str; 1] = ["dtls.credential_key"];

/// A setting in effect.
#[derive(Debug, Serialize, ToSchema)]
struct SettingBody {
    /// Its name: sections and name with dots between them.
    #[schema(example = "admin.requests_per_second")]
    name: String,
    /// Its value, as the settings file has it. Of a secret `set`, or `null` where there is none.
    #[schema(schema_with = any_value)]
    value: Value,
}

fn any_value() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .build()
}

/// The settings in effect.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettingsBody {
    /// All of them but those of products (`GET /v1/products`), ordered by their names.
    items: Vec<SettingBody>,
}

/// The settings in effect.
///
/// Those of the file and of the environment, and what is usual for all others, as `cellwise check-config` prints them. What was read again
/// without a restart is shown as it was read. Secrets are not shown.
#[utoipa::path(get, path = "/v1/settings", operation_id = "get_settings", tag = "operations",
    responses(
        (status = 200, description = "The settings", body = SettingsBody),
    ))]
pub(super) async fn get(State(state): State<ApiState>) -> Result<Json<SettingsBody>, Problem> {
    let items = shown(&state.config.get()).map_err(|error| Problem::internal(&error))?;
    Ok(Json(SettingsBody { items }))
}

fn shown(config: &Config) -> Result<Vec<SettingBody>, serde_json::Error> {
    let mut items = Vec::new();
    let Value::Object(mut sections) = serde_json::to_value(config)? else {
        return Ok(items);
    };
    // the database has those
    sections.remove("products");
    add("", Value::Object(sections), &mut items);
    items.sort_by(|a, b| a.name.cmp(&b.name));
    for item in &mut items {
        if SECRETS.contains(&item.name.as_str()) {
            // that of the demo stands for none, and everybody knows it
            let key = &config.dtls.credential_key.0;
            let set = !key.is_empty() && key != DEMO_CREDENTIAL_KEY;
            item.value = if set { "set".into() } else { Value::Null };
        }
    }
    Ok(items)
}

/// Adds what stands in a section, and in those within it.
fn add(name: &str, value: Value, items: &mut Vec<SettingBody>) {
    match value {
        Value::Object(section) => {
            for (below, value) in section {
                let name = match name {
                    "" => below,
                    above => format!("{above}.{below}"),
                };
                add(&name, value, items);
            }
        }
        value => items.push(SettingBody {
            name: name.to_owned(),
            value,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, DEMO_CREDENTIAL_KEY, shown};
    use crate::config::{ProductConfig, SecretText};

    #[test]
    fn every_setting_is_shown_and_no_secret() {
        let mut config = Config::default();
        let product = ProductConfig::default();
        config.products.insert("meter".to_owned(), product);
        for (key, told) in [
            ("", serde_json::Value::Null),
            (DEMO_CREDENTIAL_KEY, serde_json::Value::Null),
            ("5e".repeat(32).as_str(), "set".into()),
        ] {
            config.dtls.credential_key = SecretText(key.to_owned());
            let items = shown(&config).unwrap();
            let value = |name: &str| {
                let found = items.iter().find(|item| item.name == name);
                found.map(|item| item.value.clone())
            };
            assert_eq!(value("dtls.credential_key"), Some(told));
            assert_eq!(value("admin.requests_per_second"), Some(200.into()));
            assert_eq!(value("data_dir"), Some("cellwise-data".into()));
            assert_eq!(value("shards"), Some(0.into()));
            assert!(items.iter().all(|item| !item.name.starts_with("products")));
            // a secret that is added to the settings is added to SECRETS
            let text = format!("{items:?}");
            assert!(!text.contains("not shown") && !text.contains(DEMO_CREDENTIAL_KEY));
            assert!(key.is_empty() || !text.contains(key));
        }
    }
}
