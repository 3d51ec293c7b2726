//! Rust source as far as these tests need it: which paths it uses, which modules it declares.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const FOR_TESTS: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
/// The path itself is a string, and left out: a module so declared belongs to another tree.
const ELSEWHERE: [&str; 5] = ["#", "[", "path", "=", "]"];

/// A file, without what stands under `#[cfg(test)]`.
#[derive(Debug)]
pub(crate) struct Source {
    /// Only tests lead here.
    pub(crate) test_only: bool,
    /// How many modules it is below the crate's root.
    depth: usize,
    paths: Vec<String>,
    /// Modules in files of their own, and whether they are for tests alone.
    modules: Vec<(String, bool)>,
}

/// The file and all that its `mod` declarations lead to.
pub(crate) fn tree(start: &Path) -> BTreeMap<PathBuf, Source> {
    let mut found = BTreeMap::new();
    let mut open = vec![(start.to_owned(), false, 0)];
    while let Some((path, test_only, depth)) = open.pop() {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let source = Source::parse(&text, test_only, depth);
        for (name, for_tests) in &source.modules {
            open.push((
                module(&path, depth, name),
                test_only || *for_tests,
                depth + 1,
            ));
        }
        found.insert(path, source);
    }
    found
}

/// Where the module `name` that `parent` declares is.
fn module(parent: &Path, depth: usize, name: &str) -> PathBuf {
    let directory = if depth == 0 || parent.ends_with("mod.rs") {
        parent.parent().unwrap().to_owned()
    } else {
        parent.with_extension("")
    };
    let file = directory.join(format!("{name}.rs"));
    if file.exists() {
        file
    } else {
        directory.join(name).join("mod.rs")
    }
}

impl Source {
    fn parse(text: &str, test_only: bool, depth: usize) -> Self {
        let mut source = Self {
            test_only,
            depth,
            paths: Vec::new(),
            modules: Vec::new(),
        };
        let tokens = tokens(text);
        let mut at = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            if rest.iter().take(FOR_TESTS.len()).eq(FOR_TESTS) {
                let item = &rest[FOR_TESTS.len()..];
                let item = &item[..item_len(item)];
                source.declare(item, true);
                at += FOR_TESTS.len() + item.len();
            } else if rest.iter().take(ELSEWHERE.len()).eq(ELSEWHERE) {
                at += ELSEWHERE.len() + item_len(&rest[ELSEWHERE.len()..]);
            } else if is_word(&rest[0]) && (at == 0 || tokens[at - 1] != "::") {
                source.declare(rest, false);
                at += source.path(rest, "").max(1);
            } else {
                at += 1;
            }
        }
        source
    }

    /// Takes note of `mod name;` at the beginning, behind attributes if it is for tests.
    fn declare(&mut self, tokens: &[String], for_tests: bool) {
        let at = match tokens.iter().position(|token| token == "mod") {
            Some(at) if at == 0 || for_tests => at,
            _ => return,
        };
        if let [_, name, end, ..] = &tokens[at..]
            && end == ";"
        {
            self.modules.push((name.clone(), for_tests));
        }
    }

    /// Reads a path such as `a::b::{c, d::e}` into one path for each of its ends; tells its length.
    fn path(&mut self, tokens: &[String], above: &str) -> usize {
        let mut path = above.to_owned();
        let mut at = 0;
        loop {
            match tokens.get(at).map(String::as_str) {
                Some("{") if at > 0 => return at + self.group(&tokens[at..], &path),
                Some(word) if is_word(word) || word == "*" => {
                    path.push_str(word);
                    at += 1;
                }
                _ => break,
            }
            if tokens.get(at).is_none_or(|token| token != "::") {
                break;
            }
            path.push_str("::");
            at += 1;
        }
        // a path that goes on as generics do ends with colons
        let path = path.trim_end_matches(':');
        if at > 0 && path.contains("::") {
            self.paths.push(path.to_owned());
        }
        at
    }

    fn group(&mut self, tokens: &[String], above: &str) -> usize {
        let mut at = 1;
        loop {
            match tokens.get(at).map(String::as_str) {
                None | Some("}") => return at + 1,
                Some("as") => at += 2,
                Some(_) => at += self.path(&tokens[at..], above).max(1),
            }
        }
    }

    /// Every path of more than one name, as it is written out.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// What the file uses of its crate's `rooms`, wherever its path begins.
    pub(crate) fn imports_of_crate<'a>(
        &'a self,
        rooms: &'a [&str],
    ) -> impl Iterator<Item = &'a str> {
        self.paths().filter_map(move |path| {
            if let Some(import) = path.strip_prefix("crate::") {
                return Some(import);
            }
            let mut rest = path;
            let mut up = 0;
            while let Some(above) = rest.strip_prefix("super::") {
                rest = above;
                up += 1;
            }
            let first = rest.split("::").next().unwrap_or_default();
            (up >= self.depth && up > 0 && rooms.contains(&first)).then_some(rest)
        })
    }
}

/// How many tokens an item has: to its semicolon, or to the end of its braces.
fn item_len(tokens: &[String]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            "}" if depth == 1 => return at + 1,
            ")" | "]" | "}" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c == '_' || c.is_alphanumeric())
}

/// Words, `::`, and single characters; comments and the contents of strings are left out.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment_len(rest)
        } else if let Some(len) = string_len(rest).or_else(|| char_len(rest)) {
            len
        } else {
            let len = if is_word(rest) {
                let end = |c: char| c != '_' && !c.is_alphanumeric();
                rest.find(end).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                tokens.push(rest[..len].to_owned());
            }
            len
        };
        rest = &rest[len..];
    }
    tokens
}

fn block_comment_len(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Of a string, plain or raw, of characters or of bytes.
fn string_len(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"]
        .into_iter()
        .find(|prefix| text.starts_with(prefix))
        .filter(|prefix| text[prefix.len()..].starts_with(['"', '#']))
        .unwrap_or_default();
    let rest = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let quoted = rest[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let inner = quoted.find(&end)?;
        return Some(prefix.len() + hashes + 1 + inner + end.len());
    }
    let quoted = rest.strip_prefix('"')?;
    let mut escaped = false;
    let end = quoted.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some(prefix.len() + 1 + end + 1)
}

/// Of a character; a lifetime is none.
fn char_len(text: &str) -> Option<usize> {
    let quoted = text.strip_prefix('\'')?;
    let mut chars = quoted.char_indices();
    let (_, first) = chars.next()?;
    let (after, second) = chars.next()?;
    if first == '\\' {
        let (end, _) = chars.find(|(_, c)| *c == '\'')?;
        return Some(1 + end + 1);
    }
    (second == '\'').then_some(1 + after + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        Source::parse(text, false, 1).paths
    }

    #[test]
    fn writes_grouped_imports_out() {
        assert_eq!(
            paths("use a::{b, c::{d, self}, e as f, g::*}; fn h() { i::j(k, l) }"),
            ["a::b", "a::c::d", "a::c::self", "a::e", "a::g::*", "i::j"]
        );
    }

    #[test]
    fn leaves_comments_strings_and_tests_out() {
        let text = "// a::b\n/* c::d /* e::f */ */ let g: &'static str = \"h::i \\\" j::k\"; \
            let l = r#\"m::n\"#; let o = ('\"', '\\'', p::q); \
            #[cfg(test)] mod tests { use r::s; fn t() { u::v() } } w::x";
        assert_eq!(paths(text), ["p::q", "w::x"]);
    }

    #[test]
    fn knows_which_modules_are_for_tests() {
        let source = Source::parse("mod a; pub mod b; #[cfg(test)] mod c; mod d {}", false, 0);
        let expected = [("a", false), ("b", false), ("c", true)];
        assert_eq!(
            source.modules,
            expected.map(|(name, test)| (name.to_owned(), test))
        );
    }

    #[test]
    fn leaves_modules_of_other_trees_to_those() {
        let text = "mod a; #[path = \"../b.rs\"] pub mod b; mod c;";
        let source = Source::parse(text, false, 0);
        let expected = [("a", false), ("c", false)];
        assert_eq!(
            source.modules,
            expected.map(|(name, test)| (name.to_owned(), test))
        );
    }

    #[test]
    fn finds_the_ways_up_to_the_root() {
        let source = Source::parse("use super::{store, x}; use crate::api::y;", false, 1);
        let imports: Vec<&str> = source.imports_of_crate(&["store", "api"]).collect();
        assert_eq!(imports, ["store", "api::y"]);
        let deeper = Source::parse("use super::store; use super::super::api;", false, 2);
        let imports: Vec<&str> = deeper.imports_of_crate(&["store", "api"]).collect();
        assert_eq!(imports, ["api"]);
    }
}
