//! With what the server runs.

use serde::Deserialize;
use serde_json::Value;

use super::{
    page::Paged,
    sheet::{Block, Cell, Sheet, Table, columns},
    viewer::Viewer,
};

#[derive(Debug, Deserialize)]
struct Settings {
    items: Vec<Setting>,
}

#[derive(Debug, Deserialize)]
struct Setting {
    name: String,
    value: Value,
}

/// The page.
pub(super) async fn show(viewer: Viewer) -> Paged {
    let at = &viewer;
    let settings: Settings = at.get("/v1/settings").await?;
    let rows = settings.items.into_iter().map(|it| {
        let value = match it.value {
            Value::Null => Cell::Text(at.t("setting-none")),
            Value::String(text) => Cell::Code(text),
            other => Cell::Code(other.to_string()),
        };
        vec![Cell::Code(it.name), value]
    });
    let table = Table {
        id: "settings",
        label: at.t("menu-settings"),
        columns: columns(at, &["setting-name", "setting-value"]),
        rows: rows.collect(),
        none: String::new(),
        renews: false,
    };
    Ok(Sheet::new(at, at.t("menu-settings"))
        .block(Block::Sentence("hint", at.t("settings-hint")))
        .block(Block::Table(table))
        .page())
}
