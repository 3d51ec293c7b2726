use super::*;

/// The rows of a text that comes in parts of that many bytes.
fn cut(text: &[u8], part: usize) -> Vec<(u64, Vec<String>)> {
    let mut rows = Rows::new();
    let mut found = Vec::new();
    let mut tell = |rows: &Rows, row: Row| {
        let fields = rows.fields(row);
        let fields = fields.map(|field| String::from_utf8_lossy(field).into_owned());
        found.push((row.line, fields.collect()));
    };
    for mut part in text.chunks(part) {
        while let Some(row) = rows.take(&mut part) {
            tell(&rows, row);
        }
        assert!(part.is_empty());
    }
    if let Some(row) = rows.finish() {
        tell(&rows, row);
    }
    assert_eq!(rows.finish(), None);
    found
}

fn row(line: u64, fields: &[&str]) -> (u64, Vec<String>) {
    (
        line,
        fields.iter().map(|field| (*field).to_owned()).collect(),
    )
}

#[test]
fn rows_are_the_same_however_they_come() {
    let text = "\u{feff}a,b\r\n\r\n1,\"x, \"\"y\"\"\"\r\n\n2,\"p\nq\"\n3,ü\n,\n\"\"\nlast,";
    let expected = [
        row(1, &["a", "b"]),
        row(3, &["1", "x, \"y\""]),
        row(5, &["2", "p\nq"]),
        row(7, &["3", "ü"]),
        row(8, &["", ""]),
        row(9, &[""]),
        row(10, &["last", ""]),
    ];
    for part in 1..text.len() {
        assert_eq!(cut(text.as_bytes(), part), expected, "in parts of {part}");
    }
}

#[test]
fn nothing_has_no_rows() {
    for text in ["", "\u{feff}", "\n\r\n", "\u{feff}\n"] {
        for part in 1..4 {
            assert_eq!(cut(text.as_bytes(), part), [], "{text:?}");
        }
    }
}

#[test]
fn the_beginning_of_a_mark_is_no_mark() {
    assert_eq!(cut(b"a\xEF,b\n", 1), [row(1, &["a\u{fffd}", "b"])]);
}

#[test]
fn a_row_that_is_too_long_is_passed_over() {
    let long = "x".repeat(MAX_ROW_BYTES + 1);
    let many = ",".repeat(MAX_FIELDS);
    let most = "y".repeat(MAX_ROW_BYTES);
    let text = format!("{}\n{long},b\n{many}\n{most}\n\"open\n{long}", &many[1..]);
    for part in [1_000, 65_536, text.len()] {
        let mut rows = Rows::new();
        let mut found = Vec::new();
        for mut part in text.as_bytes().chunks(part) {
            while let Some(row) = rows.take(&mut part) {
                found.push((row.line, row.too_long, rows.fields(row).len()));
            }
        }
        let last = rows.finish().unwrap();
        found.push((last.line, last.too_long, rows.fields(last).len()));
        let expected = [
            (1, false, MAX_FIELDS),
            (2, true, 0),
            (3, true, 0),
            (4, false, 1),
            (5, true, 0),
        ];
        assert_eq!(found, expected, "in parts of {part}");
    }
}
