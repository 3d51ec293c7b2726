//! Every text is there, in every language, and nothing is that no page says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use fluent_syntax::{
    ast::{Entry, Expression, InlineExpression, Pattern, PatternElement},
    parser,
};

use super::super::texts::{CHINESE, ENGLISH, Language};

/// The texts of a language, and the arguments that each takes.
fn texts(files: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut texts = BTreeMap::new();
    for file in files {
        let resource = parser::parse(*file).unwrap();
        for entry in resource.body {
            let Entry::Message(message) = entry else {
                assert!(
                    !matches!(entry, Entry::Junk { .. } | Entry::Term(_)),
                    "{entry:?}"
                );
                continue;
            };
            let name = message.id.name.to_owned();
            let mut arguments = BTreeSet::new();
            of_pattern(&message.value.unwrap(), &mut arguments);
            let before = texts.insert(name.clone(), arguments);
            assert_eq!(before, None, "{name} is there twice");
        }
    }
    texts
}

fn of_pattern(pattern: &Pattern<&str>, arguments: &mut BTreeSet<String>) {
    for element in &pattern.elements {
        let PatternElement::Placeable { expression } = element else {
            continue;
        };
        match expression {
            Expression::Inline(inline) => of_inline(inline, arguments),
            Expression::Select { selector, variants } => {
                of_inline(selector, arguments);
                for variant in variants {
                    of_pattern(&variant.value, arguments);
                }
            }
        }
    }
}

fn of_inline(inline: &InlineExpression<&str>, arguments: &mut BTreeSet<String>) {
    match inline {
        InlineExpression::VariableReference { id } => {
            arguments.insert(id.name.to_owned());
        }
        InlineExpression::StringLiteral { .. } | InlineExpression::NumberLiteral { .. } => {}
        other => panic!("{other:?} is not used here"),
    }
}

/// The pages and what makes them.
fn sources() -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console");
    let mut places = vec![place];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    places.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|kind| kind == "rs" || kind == "html")
            {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((path, text));
            }
        }
    }
    assert!(sources.len() > 10);
    sources
}

/// What stands in quotes after one of these.
fn quoted_after<'t>(text: &'t str, before: &[&str]) -> Vec<&'t str> {
    let mut found = Vec::new();
    for before in before {
        for (at, _) in text.match_indices(before) {
            let rest = text[at + before.len()..].trim_start();
            if let Some(rest) = rest.strip_prefix('"')
                && let Some((quoted, _)) = rest.split_once('"')
            {
                found.push(quoted);
            }
        }
    }
    found
}

#[test]
fn all_languages_say_the_same_with_the_same_arguments() {
    let (english, chinese) = (texts(ENGLISH), texts(CHINESE));
    for (name, arguments) in &english {
        let other = chinese.get(name);
        let other = other.unwrap_or_else(|| panic!("{name} is missing in Chinese"));
        // what counts is not bent in Chinese, but it is told
        assert_eq!(other, arguments, "{name}");
    }
    for name in chinese.keys() {
        assert!(english.contains_key(name), "{name} is missing in English");
    }
}

#[test]
fn what_a_page_says_is_there_and_what_is_there_some_page_says() {
    let english = texts(ENGLISH);
    let sources = sources();
    let mut kinds = vec!["done".to_owned()];
    for (path, text) in &sources {
        for name in quoted_after(text, &[".t(", ".t1(", ".t2(", "at.say(", "viewer.say("]) {
            assert!(
                english.contains_key(name),
                "{}: there is no text {name}",
                path.display()
            );
        }
        // names that are put together: format!("task-ask-{name}")
        let begun = text.match_indices("-{").filter_map(|(at, _)| {
            let before = &text[..at];
            before.rfind('"').map(|from| before[from + 1..].to_owned())
        });
        kinds.extend(begun);
        kinds.extend(
            quoted_after(text, &[".word("])
                .into_iter()
                .map(str::to_owned),
        );
    }
    for name in english.keys() {
        let quoted = format!("\"{name}\"");
        let said = sources.iter().any(|(_, text)| text.contains(&quoted))
            || kinds.iter().any(|kind| {
                name.strip_prefix(&**kind)
                    .is_some_and(|rest| rest.starts_with('-'))
            });
        assert!(said, "no page says {name}");
    }
}

#[test]
fn a_browser_gets_the_language_that_it_likes_best() {
    for (accepted, language) in [
        ("", Language::English),
        ("de", Language::English),
        ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
        ("en-GB,zh;q=0.9", Language::English),
        ("en;q=0.5, zh-TW;q=0.7", Language::Chinese),
        ("zh;q=x", Language::Chinese),
        (";;,,q=1;", Language::English),
    ] {
        assert_eq!(Language::of_browser(accepted), language, "{accepted:?}");
    }
}
