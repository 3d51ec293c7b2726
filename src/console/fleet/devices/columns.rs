//! The columns of the list, which somebody chooses.

use super::Device;
use crate::console::{fields::Fields, viewer::Viewer};

/// A column. Its name stands in addresses, and is that of its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// It is there where nothing is chosen.
    usual: bool,
    pub(super) numeric: bool,
    /// As a file has it; empty where it is not known.
    pub(super) plain: fn(&Device) -> String,
}

const fn column(name: &'static str, usual: bool, plain: fn(&Device) -> String) -> Column {
    Column {
        name,
        usual,
        numeric: false,
        plain,
    }
}

const fn numeric(name: &'static str, usual: bool, plain: fn(&Device) -> String) -> Column {
    Column {
        numeric: true,
        ..column(name, usual, plain)
    }
}

fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

const COLUMNS: [Column; 17] = [
    column("product", true, |it| it.product.clone()),
    column("version", true, |it| shown(it.version.as_ref())),
    column("last_heard", true, |it| shown(it.last_heard_at.as_ref())),
    column("cell", true, |it| {
        shown(it.coverage.as_ref().and_then(|it| it.cell_id))
    }),
    numeric("rsrp", false, |it| {
        shown(it.coverage.as_ref().and_then(|it| it.rsrp_dbm))
    }),
    numeric("sinr", false, |it| {
        shown(it.coverage.as_ref().and_then(|it| it.sinr_db))
    }),
    column("site", true, |it| shown(it.site.as_ref())),
    column("model", false, |it| shown(it.model.as_ref())),
    column("hardware", false, |it| shown(it.hardware.as_ref())),
    column("time_zone", false, |it| shown(it.time_zone.as_ref())),
    column("tags", false, |it| it.tag_lines().replace('\n', "; ")),
    column("protocol", false, |it| it.protocol.clone()),
    column("via", false, |it| shown(it.via.as_ref())),
    column("registered", false, |it| it.registered.to_string()),
    column("upgrade", true, |it| shown(it.upgrade_id)),
    column("excluded", false, |it| shown(it.exclusion_reason.as_ref())),
    column("created", false, |it| it.created_at.clone()),
];

const TENANT: Column = column("tenant", false, |it| shown(it.tenant.as_ref()));

/// All that there are.
pub(super) fn all() -> impl Iterator<Item = Column> {
    COLUMNS.into_iter().chain([TENANT])
}

/// Those that an address names, or the usual ones, in their order.
pub(super) fn chosen(query: &Fields) -> Vec<Column> {
    let named: Vec<&str> = query.all("columns").collect();
    let named: Vec<Column> = all().filter(|it| named.contains(&it.name)).collect();
    if named.is_empty() {
        all().filter(|column| column.usual).collect()
    } else {
        named
    }
}

/// What stands in a row of the page.
pub(super) struct Shown {
    pub(super) text: String,
    /// Where it leads, below the console; empty for nowhere.
    pub(super) link: String,
    pub(super) numeric: bool,
}

impl Column {
    /// As the page has it.
    pub(super) fn shown(&self, at: &Viewer, device: &Device) -> Shown {
        let plain = (self.plain)(device);
        let (link, text) = match self.name {
            _ if plain.is_empty() => (String::new(), plain),
            "cell" if at.may("get_cell") => (format!("/cells/{plain}"), plain),
            "upgrade" => (format!("/upgrades/{plain}"), plain),
            "via" => (super::super::names::page_of(&plain), plain),
            "last_heard" => (String::new(), at.ago(&plain)),
            "created" => (String::new(), at.time(&plain)),
            "registered" => (String::new(), at.word("fleet-registered", &plain)),
            "protocol" => (String::new(), at.word("fleet-protocol", &plain)),
            _ => (String::new(), plain),
        };
        Shown {
            text,
            link,
            numeric: self.numeric,
        }
    }
}
