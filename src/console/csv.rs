//! Lists as files (RFC 4180).

/// A line of a file.
pub(super) fn line<'c>(cells: impl Iterator<Item = &'c str>) -> String {
    let cells: Vec<String> = cells.map(cell).collect();
    format!("{}\r\n", cells.join(","))
}

/// A cell. A spreadsheet takes what begins with one of these for a formula, unless an apostrophe stands before it
/// (OWASP, "CSV Injection").
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let is_number = text.parse::<i64>().is_ok() && !text.starts_with('+');
    let apostrophe = if is_formula && !is_number { "'" } else { "" };
    if text.contains(['"', ',', '\r', '\n']) {
        format!("\"{apostrophe}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{apostrophe}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn a_cell_is_harmless_and_can_be_read_back() {
        for (text, expected) in [
            ("meter", "meter"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("+49", "'+49"),
            ("@a", "'@a"),
            ("-a", "'-a"),
            ("\tx", "'\tx"),
            ("-110", "-110"),
            ("=a,\"b\"", "\"'=a,\"\"b\"\"\""),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }
}
