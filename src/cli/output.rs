//! Results as text for people or JSON for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::Value;

/// The form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Text for people.
    #[default]
    Text,
    /// JSON for programs, one document a line.
    Json,
}

/// Writes a JSON document as a line.
pub(super) fn json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value}")
}

/// Writes rows under their headings, each column as wide as its widest cell.
pub(super) fn table<const N: usize>(
    out: &mut dyn Write,
    headings: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let width_of = |text: &str| text.chars().count();
    let mut widths = headings.map(width_of);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(width_of(cell));
        }
    }
    let mut line = |cells: [&str; N]| {
        let mut text = String::new();
        for (cell, width) in cells.into_iter().zip(widths) {
            text.push_str(cell);
            text.push_str(&" ".repeat(width + 2 - width_of(cell).min(width)));
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(headings)?;
    rows.iter()
        .try_for_each(|row| line(row.each_ref().map(String::as_str)))
}

/// The value, or a dash where there is none.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `1 device`, `2 devices`.
pub(super) fn counted(count: u64, thing: &str) -> String {
    if count == 1 {
        format!("1 {thing}")
    } else {
        format!("{count} {thing}s")
    }
}

/// What an operator should know besides the result. It goes to standard error.
pub(super) fn remark(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        let rows = [
            ["urn:imei:1".to_owned(), "ü".to_owned()],
            ["a".to_owned(), or_dash(None::<u8>)],
        ];
        table(&mut out, ["ENDPOINT", "X"], &rows).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "ENDPOINT    X\nurn:imei:1  ü\na           -\n");
    }
}
