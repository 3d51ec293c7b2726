use std::{
    io::Write,
    process::{Command, Stdio},
};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::clock::UtcMillis;

const T0: UtcMillis = UtcMillis(1_800_000_000_000);

fn entry(n: usize) -> Entry {
    Entry {
        at: T0,
        who: format!("token:{n}:import"),
        source: Some("192.0.2.1".to_owned()),
        operation: "update_device".to_owned(),
        target: Some(format!("devices/ä\"{n}\\\u{1}\u{7f}\u{10ffff}\n")),
        before: json!({"model": null, "b": [1, -2], "A": "x"})
            .as_object()
            .cloned(),
        after: json!({"rate": 0.5, "big": u64::MAX, "small": i64::MIN})
            .as_object()
            .cloned(),
        counts: [("added".to_owned(), n as u64)].into(),
        why: Some("tab\there".to_owned()),
        ..Entry::default()
    }
}

/// A chain of so many rows behind another one.
fn chain(rows: usize, behind: (u64, Hash)) -> Vec<Row> {
    let mut chain: Vec<Row> = Vec::new();
    for n in 0..rows {
        let last = chain.last().map_or(behind, |row| (row.number, row.hash));
        chain.push(link(&entry(n), last, T0));
    }
    chain
}

fn lines(rows: usize) -> Vec<String> {
    let chain = chain(rows, (0, Hash::NONE));
    chain.iter().map(Row::line).collect()
}

fn verify(lines: &[String]) -> std::result::Result<(u64, Hash), Broken> {
    let mut verifier = Verifier::from_the_beginning();
    for line in lines {
        verifier.line(line)?;
    }
    Ok(verifier.last().unwrap())
}

/// The form that is hashed: do not change.
#[test]
fn a_row_is_hashed_in_this_form() {
    let entry = Entry {
        who: "admin-token".to_owned(),
        operation: "stop_task".to_owned(),
        target: Some("tasks/7".to_owned()),
        after: json!({"state": "stopping", "rate": 0.5})
            .as_object()
            .cloned(),
        ..Entry::default()
    };
    let row = link(&entry, (0, Hash::NONE), T0);
    let zeros = "0".repeat(64);
    assert_eq!(
        row.text,
        format!(
            r#"{{"after":{{"rate":"0.5","state":"stopping"}},"at":"2027-01-15T08:00:00.000Z","number":1,"operation":"stop_task","previous":"{zeros}","result":"done","target":"tasks/7","who":"admin-token"}}"#
        )
    );
    // as Python's hashlib has it
    assert_eq!(
        row.hash.to_string(),
        "b9ea052974979aaff3e32a97bb6c48317e225ae54288e892a6b6d39742768768"
    );
}

#[test]
fn a_chain_verifies_and_may_begin_anywhere() {
    let whole = lines(5);
    let (number, hash) = verify(&whole).unwrap();
    assert_eq!(number, 5);
    let mut verifier = Verifier::from_anywhere();
    for line in &whole[2..] {
        verifier.line(line).unwrap();
    }
    assert_eq!((verifier.first(), verifier.rows()), (Some(3), 3));
    assert_eq!(verifier.last(), Some((5, hash)));
    assert_eq!(verifier.end((5, hash)), Ok(()));
    // behind a checkpoint
    let begin = chain(2, (0, Hash::NONE)).pop().unwrap();
    let mut verifier = Verifier::after(begin.number, begin.hash);
    verifier.line(&whole[2]).unwrap();
    let mut wrong = Verifier::after(begin.number, Hash::NONE);
    assert_eq!(wrong.line(&whole[2]), Err(Broken::Unlinked(3)));
}

#[test]
fn what_is_missing_at_the_end_shows_by_the_head() {
    let whole = lines(5);
    let (head, hash) = verify(&whole).unwrap();
    for kept in 0..5 {
        let mut verifier = Verifier::from_the_beginning();
        for line in &whole[..kept] {
            verifier.line(line).unwrap();
        }
        let missing = kept as u64 + 1;
        assert_eq!(
            verifier.end((head, hash)),
            Err(Broken::Truncated { missing, head })
        );
    }
    let mut other = Verifier::from_the_beginning();
    other.expect(3, Hash::NONE);
    let found: std::result::Result<Vec<()>, Broken> =
        whole.iter().map(|line| other.line(line)).collect();
    assert_eq!(found, Err(Broken::OtherThanSigned(3)));
}

#[test]
fn what_is_no_row_is_told_with_its_line() {
    for line in [
        "",
        "{",
        "[]",
        "7",
        "{}",
        "{\"hash\":\"00\"}",
        &"[".repeat(100_000),
    ] {
        let mut verifier = Verifier::from_anywhere();
        let broken = verifier.line(line);
        assert!(
            matches!(broken, Err(Broken::NoRow { line: 1, .. })),
            "{broken:?}"
        );
    }
}

proptest! {
    #[test]
    fn whatever_is_done_to_a_chain_is_found(rows in 3_usize..12, at in any::<prop::sample::Index>(), with in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let whole = lines(rows);
        let head = verify(&whole).unwrap();
        let (at, with) = (at.index(rows), with.index(rows));
        let found = |lines: &[String]| {
            let mut verifier = Verifier::from_the_beginning();
            lines.iter().try_for_each(|line| verifier.line(line))?;
            verifier.end(head)
        };
        prop_assert_eq!(found(&whole), Ok(()));

        let mut removed = whole.clone();
        removed.remove(at);
        let expected = at as u64 + 1;
        let missing = if at + 1 == rows {
            Broken::Truncated { missing: expected, head: rows as u64 }
        } else {
            Broken::Missing { expected, found: expected + 1 }
        };
        prop_assert_eq!(found(&removed), Err(missing));

        if at != with {
            let mut swapped = whole.clone();
            swapped.swap(at, with);
            let first = at.min(with) as u64 + 1;
            let found_in = at.max(with) as u64 + 1;
            prop_assert_eq!(found(&swapped), Err(Broken::Missing { expected: first, found: found_in }));
        }

        let mut doubled = whole.clone();
        doubled.insert(at, whole[with].clone());
        prop_assert!(found(&doubled).is_err());

        // any bit of a line
        let mut bytes = whole[at].clone().into_bytes();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(line) = String::from_utf8(bytes) {
            let same = serde_json::from_str::<Value>(&line).ok() == serde_json::from_str(&whole[at]).ok();
            let mut altered = whole.clone();
            altered[at] = line;
            prop_assert!(same || found(&altered).is_err());
        }
    }

    #[test]
    fn the_form_says_all_of_a_value(text in "\\PC*|[\\x00-\\x7f]*", number in any::<i64>()) {
        let value = json!({"text": text, &*text: number, "list": [null, true, {"x": text}]});
        let form = canonical(&value);
        prop_assert_eq!(serde_json::from_str::<Value>(&form).unwrap(), value);
    }
}

/// The program that docs/audit.md gives to whoever does not trust this one.
#[test]
fn somebody_elses_program_verifies_an_export() {
    let docs = include_str!("../../docs/audit.md");
    let begin = docs.find("```python\n").unwrap() + "```python\n".len();
    let program = &docs[begin..];
    let program = &program[..program.find("```").unwrap()];
    let run = |lines: &[String]| {
        let mut python = Command::new("python3")
            .args(["-c", program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let text = lines.join(
            "
",
        );
        let mut input = python.stdin.take().unwrap();
        let _ = input.write_all(text.as_bytes()); // it may have seen enough
        drop(input);
        python.wait_with_output().unwrap()
    };
    let whole = lines(20);
    let (number, hash) = verify(&whole).unwrap();
    let good = run(&whole);
    let said = String::from_utf8(good.stdout).unwrap();
    assert!(
        good.status.success(),
        "{}",
        String::from_utf8_lossy(&good.stderr)
    );
    assert_eq!(said.trim(), format!("ok: row {number}, {hash}"));
    let mut altered = whole.clone();
    altered[7] = altered[7].replace("192.0.2.1", "192.0.2.2");
    let bad = run(&altered);
    assert!(!bad.status.success());
    let said = String::from_utf8(bad.stderr).unwrap();
    assert!(said.contains("row 8"), "{said}");
}

#[test]
fn a_checkpoint_is_of_its_key() {
    let key = Key::of_seed(&[7; 32]).unwrap();
    let hash = Hash([9; 32]);
    let signed = key.sign((12, hash), T0).unwrap();
    assert_eq!(signed.check(None), Ok((12, hash)));
    assert_eq!(signed.check(Some(key.public())), Ok((12, hash)));
    let other = Key::of_seed(&[8; 32]).unwrap();
    assert_eq!(
        signed.check(Some(other.public())),
        Err(CheckpointError::OtherKey)
    );
    let changes: [fn(&mut Checkpoint); 5] = [
        |it| it.number += 1,
        |it| it.hash.replace_range(..2, "00"),
        |it| it.at.push('0'),
        |it| it.signature.replace_range(..2, "zz"),
        |it| it.signature = "00".repeat(64),
    ];
    for change in changes {
        let mut changed = signed.clone();
        change(&mut changed);
        assert!(changed.check(None).is_err(), "{changed:?}");
    }
    // signed by whoever has made a key of his own
    let forged = other.sign((12, hash), T0).unwrap();
    assert!(forged.check(None).is_ok());
    assert_eq!(
        forged.check(Some(key.public())),
        Err(CheckpointError::OtherKey)
    );
}

#[test]
fn what_is_too_long_is_left_out_and_says_so() {
    let fields = |value: Value| value.as_object().cloned().unwrap();
    let short = fields(json!({"a": "b"}));
    assert_eq!(cut(short.clone()), short);
    let long = fields(json!({"a": "b", "rules": "x".repeat(5_000)}));
    assert_eq!(
        json!(cut(long)),
        json!({"a": "b", "rules": {"cut_bytes": 5_002}})
    );
    let many: Map<String, Value> = (0..5_000).map(|n| (n.to_string(), json!(n))).collect();
    let cut = cut(many);
    assert!(cut["cut_bytes"].as_u64().unwrap() > 50_000);
    assert_eq!(cut.len(), 1);
}

fn refused(who: &str, at_s: u64) -> Entry {
    Entry {
        at: T0 + std::time::Duration::from_secs(at_s),
        who: who.to_owned(),
        operation: "stop_task".to_owned(),
        target: Some("tasks/7".to_owned()),
        result: EntryResult::Refused,
        status: Some(403),
        ..Entry::default()
    }
}

fn at(seconds: u64) -> UtcMillis {
    T0 + std::time::Duration::from_secs(seconds)
}

#[test]
fn the_first_refusal_is_told_at_once_and_the_others_within_a_minute() {
    let mut folded = Refused::default();
    folded.note(refused("a", 0), None);
    let first = folded.due(at(1));
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].times, &*first[0].who), (None, "a"));
    for second in 2..59 {
        folded.note(refused("a", second), None);
        assert_eq!(folded.due(at(second)), []);
    }
    let others = folded.due(at(60));
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].times, Some(57));
    assert_eq!(others[0].last_at, Some(at(58).to_string()));
    assert_eq!(folded.due(at(61)), []);
    // another caller, another reason, and another network are told apart
    for (who, status, network) in [
        ("a", 403, None),
        ("b", 403, None),
        ("a", 404, None),
        ("a", 403, Some("x")),
    ] {
        let entry = Entry {
            status: Some(status),
            ..refused(who, 70)
        };
        folded.note(entry, network.map(str::to_owned));
    }
    assert_eq!(folded.due(at(71)).len(), 4);
    // what is not told when the server stops is told then
    folded.note(refused("a", 72), None);
    assert_eq!(folded.all().len(), 1);
    assert_eq!(folded.all(), []);
}

#[test]
fn a_flood_of_refusals_is_a_bounded_number_of_rows() {
    let mut folded = Refused::default();
    let (mut rows, mut times) = (0, 0);
    let mut take = |entries: Vec<Entry>| {
        rows += entries.len();
        times += entries
            .iter()
            .map(|entry| entry.times.unwrap_or(1))
            .sum::<u64>();
    };
    // an hour of it, each time somebody else
    for n in 0..100_000_u64 {
        let second = n * 3_600 / 100_000;
        folded.note(
            refused(&format!("token:{n}:x"), second),
            Some(n.to_string()),
        );
        if n % 28 == 0 {
            take(folded.due(at(second)));
        }
    }
    take(folded.all());
    assert_eq!(times, 100_000, "none is forgotten");
    assert!(rows < 300 + 60 * 20 + 60 * 3 + 400, "{rows} rows");
}
