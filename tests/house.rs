//! The house rules, as a test: what no compiler checks and reviewers forget.
//!
//! It reads text only. A small scanner blanks comments and literals ([`Source::code`]); a rule looks at
//! what is left, and names every place that breaks it. An exception is a line in a table here, with its
//! reason.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// The only file with unsafe code.
const FFI: &str = "hsm/src/worker/ffi.rs";

/// Who alone may name a crate.
const FENCES: [(&str, &[&str]); 3] =
    [("cryptoki", &["hsm/"]), ("cryptoki_sys", &["hsm/"]), ("sqlx", &["src/store/", "src/audit/index/", "tests/"])];

/// What a folder must not know: arrows point one way only.
const LAYERS: [(&str, &[&str]); 11] = [
    ("hsm/src/", &["tonic", "prost", "axum", "clap", "strongroom_proto"]),
    ("proto/", &["axum", "clap", "strongroom_hsm"]),
    ("client/", &["axum", "clap", "strongroom_hsm", "strongroom"]),
    ("src/model/", &["tokio", "tonic", "prost", "axum", "clap", "strongroom_proto"]),
    ("src/access/", &["tokio", "tonic", "prost", "axum", "clap", "strongroom_proto"]),
    ("src/rotation/", &["tokio", "tonic", "prost", "axum", "clap", "strongroom_proto"]),
    ("src/bearer/", &["tonic", "prost", "axum", "clap", "strongroom_proto"]),
    ("src/audit/", &["tonic", "prost", "axum", "clap", "strongroom_proto"]),
    ("src/export/", &["tonic", "prost", "axum", "clap", "strongroom_proto"]),
    ("src/store/", &["tonic", "prost", "axum", "clap", "strongroom_proto"]),
    ("src/service/", &["tonic", "prost", "axum", "clap", "strongroom_proto"]),
];

/// What depends on the surroundings, and who may ask for it. Tests may.
const AMBIENT: [(&str, &[&str]); 4] = [
    ("env::var", &["src/config/", "src/cli/", "src/failpoint.rs", "proto/build.rs"]),
    ("env::var_os", &["src/config/", "src/cli/", "src/failpoint.rs", "client/src/settings.rs"]),
    ("env::vars", &[]),
    ("process::exit", &[]),
];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "misc", "shared_code", "util", "utils"];

/// The longest function, from its `fn` to its last brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer: file, name, why.
const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

/// How many places may look at a secret: one screen of `grep expose_secret`.
const EXPOSURES_MAX: usize = 60;

/// Names of crates, and of a table, that look like names of metrics.
const CRATES: [&str; 5] =
    ["strongroom_client", "strongroom_hsm", "strongroom_proto", "strongroom_dev", "strongroom_schema"];

/// Folders that a path in the documents may begin with.
const FOLDERS: [&str; 10] =
    ["src/", "hsm/", "proto/", "client/", "tests/", "benches/", "docs/", "softhsm-config/", ".ci/", "strongroom/v1/"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below the root with one of these endings, in order. Paths are relative, with slashes.
fn files(endings: &[&str]) -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("the tree can be read") {
            let entry = entry.expect("the tree can be read");
            let name = entry.file_name();
            let kind = entry.file_type().expect("the tree can be read");
            if kind.is_file() {
                found.push(entry.path());
            } else if kind.is_dir() && !["target", ".git", "strongroom-dev"].iter().any(|skipped| name == *skipped) {
                walk(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    let relative = |path: PathBuf| path.strip_prefix(root()).ok()?.to_str().map(str::to_owned);
    let mut found: Vec<String> = found.into_iter().filter_map(relative).collect();
    found.retain(|path| endings.iter().any(|ending| path.ends_with(ending)));
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Documents and sources that people read.
fn documents() -> Vec<(String, String)> {
    files(&[".md"]).into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// A Rust file.
struct Source {
    path: String,
    text: String,
    /// The text with every comment, string and character literal blanked; lines stay where they are.
    code: String,
    /// Lines that are compiled for tests only.
    tests: Vec<Range<usize>>,
}

impl Source {
    fn new(path: String) -> Self {
        let text = read(&path);
        let code = blank(&text);
        let tests = test_items(&code).into_iter().map(|item| item.lines).collect();
        Self { path, text, code, tests }
    }

    fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&line))
    }

    /// Lines of code outside tests that have this word, counted from 1.
    fn lines_with<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let lines = self.code.lines().zip(1..).filter(move |(line, _)| has_word(line, word));
        lines.map(|(_, number)| number).filter(|number| !self.is_test(*number))
    }
}

/// Every Rust file; those that are tests as a whole are marked so.
fn sources() -> Vec<Source> {
    let mut sources: Vec<Source> = files(&[".rs"]).into_iter().map(Source::new).collect();
    let modules: BTreeSet<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let stem = source.path.trim_end_matches(".rs");
        let belongs = |module: &String| stem == module || stem.starts_with(&format!("{module}/"));
        let is_test = ["tests/", "hsm/tests/", "proto/tests/", "client/tests/", "benches/", "hsm/benches/"]
            .iter()
            .any(|folder| source.path.starts_with(folder))
            || modules.iter().any(belongs);
        if is_test {
            source.tests = std::iter::once(0..usize::MAX).collect();
        }
    }
    sources
}

/// Modules in files of their own that are declared under `#[cfg(test)]`: their paths without `.rs`.
fn test_modules(source: &Source) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let folder = if ["mod", "lib", "main"].contains(&name) { folder.to_owned() } else { stem.to_owned() };
    let names = test_items(&source.code).into_iter().filter_map(|item| item.module);
    names.map(|module| format!("{folder}/{module}")).collect()
}

/// Blanks comments and literals.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that begins here ends; `at` itself when none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let inside_word = at > 0 && is_word(chars[at - 1]);
    match (chars[at], next(1)) {
        ('/', '/') => find(chars, at, &['\n']),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('b' | 'c', '"') if !inside_word => string_end(chars, at + 2),
        ('r', '"' | '#') if !inside_word => raw_string_end(chars, at, 1),
        ('b' | 'c', 'r') if !inside_word => raw_string_end(chars, at, 2),
        // A character, not a lifetime: it is closed after one character or after an escape.
        ('\'', '\\') => find(chars, at + 3, &['\'']) + 1,
        ('\'', _) if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn find(chars: &[char], from: usize, wanted: &[char]) -> usize {
    let found = chars.get(from..).and_then(|rest| rest.windows(wanted.len()).position(|window| window == wanted));
    found.map_or(chars.len(), |offset| from + offset)
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `prefix` is the length of `r` or `br`. A raw identifier (`r#type`) is no string.
fn raw_string_end(chars: &[char], at: usize, prefix: usize) -> usize {
    let hashes = chars[at + prefix..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + prefix + hashes) != Some(&'"') {
        return at;
    }
    let mut close = vec!['"'];
    close.extend(std::iter::repeat_n('#', hashes));
    (find(chars, at + prefix + hashes + 1, &close) + close.len()).min(chars.len())
}

fn has_word(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word))
}

/// An item under `#[cfg(test)]`.
struct TestItem {
    lines: Range<usize>,
    /// Its name if it is a module in a file of its own.
    module: Option<String>,
}

fn test_items(code: &str) -> Vec<TestItem> {
    let mut items = Vec::new();
    for attribute in ["#[cfg(test)]", "#[cfg(all(test,"] {
        for (at, _) in code.match_indices(attribute) {
            let Some(end) = item_end(code, at + attribute.len()) else { continue };
            let item = &code[at..end];
            let module = item.strip_suffix(';').and_then(|item| item.rsplit_once("mod "));
            let module = module.map(|(_, name)| name.trim().to_owned());
            items.push(TestItem { lines: line_of(code, at)..line_of(code, end) + 1, module });
        }
    }
    items
}

/// Where the item that begins at `from` ends: after its braces, or after its semicolon.
fn item_end(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (offset, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return Some(from + offset + 1),
            '{' if depth == 0 => return braces_end(code, from + offset),
            _ => {}
        }
    }
    None
}

fn braces_end(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (offset, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(open + offset + 1),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Every function with a body: its name, first line and number of lines.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(end) = item_end(code, at) else { continue };
        if name.is_empty() || !code[..end].ends_with('}') {
            continue;
        }
        let first = line_of(code, at);
        found.push((name, first, line_of(code, end) - first + 1));
    }
    found
}

/// Fails with every fault on a line of its own.
fn none(rule: &str, faults: impl IntoIterator<Item = String>) {
    let faults: Vec<String> = faults.into_iter().collect();
    let mut list = String::new();
    for fault in &faults {
        write!(list, "\n  {fault}").expect("a string takes everything");
    }
    assert!(faults.is_empty(), "{rule}:{list}");
}

fn starts_with_any(path: &str, folders: &[&str]) -> bool {
    folders.iter().any(|folder| path.starts_with(folder))
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//! "));
    none("a file opens with `//!`: what it is, promises, and must not know", silent.map(|source| source.path));
}

#[test]
fn crates_are_named_behind_their_fence_only() {
    let mut faults = Vec::new();
    for source in sources() {
        let lines = |word: &str| -> Vec<usize> {
            let lines = source.code.lines().zip(1..).filter(|(line, _)| has_word(line, word));
            lines.map(|(_, number)| number).collect()
        };
        for (name, folders) in FENCES.iter().filter(|(_, folders)| !starts_with_any(&source.path, folders)) {
            faults.extend(
                lines(name).into_iter().map(|line| format!("{}:{line}: {name} is for {folders:?}", source.path)),
            );
        }
        for (folder, names) in LAYERS.iter().filter(|(folder, _)| source.path.starts_with(folder)) {
            let found = names.iter().flat_map(|name| lines(name).into_iter().map(move |line| (name, line)));
            faults.extend(found.map(|(name, line)| format!("{}:{line}: {folder} must not know {name}", source.path)));
        }
    }
    none("a crate on the wrong side of a fence", faults);
}

#[test]
fn only_the_boundary_depends_on_pkcs11() {
    let mut faults = Vec::new();
    for path in files(&["Cargo.toml"]).into_iter().filter(|path| path != "hsm/Cargo.toml") {
        let manifest = read(&path);
        let lines = manifest.lines().zip(1..).filter(|(line, _)| line.trim_start().starts_with("cryptoki"));
        faults.extend(lines.map(|(_, number)| format!("{path}:{number}")));
    }
    none("only hsm/Cargo.toml names cryptoki", faults);
}

#[test]
fn unsafe_code_is_in_one_file() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.path != FFI) {
        let lines = source.code.lines().zip(1..).filter(|(line, _)| has_word(line, "unsafe"));
        faults.extend(lines.map(|(_, number)| format!("{}:{number}", source.path)));
    }
    none("`unsafe` outside of the FFI module", faults);
}

#[test]
fn the_surroundings_are_asked_at_the_rim_only() {
    let mut faults = Vec::new();
    for source in sources() {
        for (what, _) in AMBIENT.iter().filter(|(_, folders)| !starts_with_any(&source.path, folders)) {
            faults.extend(source.lines_with(what).map(|line| format!("{}:{line}: {what}", source.path)));
        }
    }
    none("environment and exit belong to the rim (config, cli)", faults);
}

#[test]
fn nothing_is_left_for_later() {
    // Written in two halves, or this file would break its own rule.
    let words = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X"), concat!("HA", "CK")];
    let phrase = concat!("for", " now");
    let mut faults = Vec::new();
    for path in files(&[".rs", ".proto", ".sql", ".toml", ".sh", ".md", "Makefile", ".ci/run"]) {
        for (line, number) in read(&path).lines().zip(1..) {
            let found = words.iter().any(|word| has_word(line, word)) || has_word(&line.to_lowercase(), phrase);
            if found {
                faults.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    for source in sources() {
        for name in [concat!("to", "do!"), concat!("unimple", "mented!")] {
            let lines = source.code.lines().zip(1..).filter(|(line, _)| line.contains(name));
            faults.extend(lines.map(|(_, number)| format!("{}:{number}: {name}", source.path)));
        }
    }
    none("something was left for later", faults);
}

#[test]
fn every_module_has_a_name_that_says_something() {
    let mut faults = Vec::new();
    for source in sources() {
        let parts = source.path.trim_end_matches(".rs").split('/');
        faults.extend(parts.filter(|part| EMPTY_NAMES.contains(part)).map(|_| source.path.clone()));
        for name in EMPTY_NAMES {
            faults.extend(source.lines_with(name).filter_map(|number| {
                let line = source.code.lines().nth(number - 1)?;
                has_word(line, "mod").then(|| format!("{}:{number}: mod {name}", source.path))
            }));
        }
    }
    none("a module is named for its noun", faults);
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        for (name, line, lines) in functions(&source.code) {
            if lines <= FUNCTION_LINES_MAX || source.is_test(line) {
                continue;
            }
            match LONG_FUNCTIONS.iter().position(|(path, function, _)| *path == source.path && *function == name) {
                Some(exception) => drop(used.insert(exception)),
                None => faults.push(format!("{}:{line}: {name} has {lines} lines", source.path)),
            }
        }
    }
    let unused = (0..LONG_FUNCTIONS.len()).filter(|exception| !used.contains(exception));
    faults.extend(unused.map(|exception| format!("{:?} is no exception any more", LONG_FUNCTIONS[exception])));
    none("a function has at most 70 lines", faults);
}

#[test]
fn secrets_are_looked_at_in_few_places() {
    let mut places = Vec::new();
    for source in sources() {
        for name in ["expose_secret", "into_exposed"] {
            places.extend(source.lines_with(name).map(|line| format!("{}:{line}", source.path)));
        }
    }
    assert!(places.len() <= EXPOSURES_MAX, "{} places, more than a screen: {places:#?}", places.len());
}

#[test]
fn everything_in_the_wire_contract_is_explained() {
    let mut faults = Vec::new();
    for path in files(&[".proto"]) {
        let text = read(&path);
        let mut before = "";
        for (line, number) in text.lines().map(str::trim).zip(1..) {
            if is_declaration(line) && !before.starts_with("//") && !before.ends_with("*/") {
                faults.push(format!("{path}:{number}: {line}"));
            }
            before = line;
        }
    }
    none("a declaration without a comment above it", faults);
}

fn is_declaration(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    if ["service", "rpc", "message", "enum", "oneof"].contains(&first) {
        return true;
    }
    // A field or an enum's value: `name = 1;`, with options perhaps.
    let Some((_, number)) = line.split_once(" = ") else { return false };
    let is_statement = ["//", "option ", "syntax ", "package ", "import "].iter().any(|start| line.starts_with(start));
    !is_statement && number.starts_with(|c: char| c.is_ascii_digit())
}

/// Words of a text that begin so and go on with `[A-Za-z0-9_]`.
fn words_beginning<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(prefix).filter(move |(at, _)| !text[..*at].ends_with(is_word)).map(move |(at, _)| {
        let rest = &text[at..];
        let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
        word.trim_end_matches('_')
    })
}

/// All text of the program itself, without its tests.
fn program() -> String {
    let of_program = |path: &String| starts_with_any(path, &["src/", "hsm/src/", "client/src/"]);
    files(&[".rs"]).into_iter().filter(of_program).map(|path| read(&path)).collect()
}

#[test]
fn what_the_documents_name_exists_in_the_program() {
    let program = program();
    let quoted: BTreeSet<&str> =
        words_beginning(&program, "strongroom_").filter(|name| program.contains(&format!("\"{name}\""))).collect();
    let variables: BTreeSet<&str> = words_beginning(&program, "STRONGROOM_").collect();
    let mut faults = Vec::new();
    for (path, text) in documents() {
        let metrics = words_beginning(&text, "strongroom_").filter(|name| !CRATES.contains(name));
        faults.extend(metrics.filter(|name| !quoted.contains(name)).map(|name| format!("{path}: metric {name}")));
        let named = words_beginning(&text, "STRONGROOM_").filter(|name| !variables.contains(name));
        faults.extend(named.map(|name| format!("{path}: variable {name}")));
    }
    none("the documents name what does not exist", faults);
}

#[test]
fn every_metric_is_explained_to_operators() {
    let program = program();
    let running = read("docs/running.md");
    let explained: BTreeSet<&str> = words_beginning(&running, "strongroom_").collect();
    let made = words_beginning(&program, "strongroom_").filter(|name| program.contains(&format!("\"{name}\"")));
    let made: BTreeSet<&str> = made.filter(|name| !CRATES.contains(name)).collect();
    none("docs/running.md leaves out", made.difference(&explained).map(|name| (*name).to_owned()));
}

#[test]
fn links_and_paths_in_the_documents_lead_somewhere() {
    let mut faults = Vec::new();
    for (path, text) in documents() {
        let folder = root().join(&path).parent().expect("a file is in a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                faults.push(format!("{path}: link {target}"));
            }
        }
        let quoted = text.split('`').skip(1).step_by(2).filter(|quoted| starts_with_any(quoted, &FOLDERS));
        faults.extend(quoted.filter(|quoted| !leads_somewhere(quoted)).map(|quoted| format!("{path}: {quoted}")));
    }
    none("the documents point at what is not there", faults);
}

/// `path`, or `path::function`, which is how a promise names its test.
fn leads_somewhere(quoted: &str) -> bool {
    let (path, function) = quoted.split_once("::").map_or((quoted, None), |(path, name)| (path, Some(name)));
    // A pattern or a placeholder is not one file.
    if path.contains(['*', '{', ' ', '<', '$']) {
        return true;
    }
    let full = [root().join(path), root().join("proto").join(path)].into_iter().find(|full| full.exists());
    match (full, function) {
        (Some(full), Some(name)) => fs::read_to_string(full).is_ok_and(|text| text.contains(&format!("fn {name}("))),
        (full, None) => full.is_some(),
        (None, Some(_)) => false,
    }
}

#[test]
fn the_scanner_blanks_comments_and_literals_only() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"x \\\" y\") + 1", "f(        ) + 1"),
        ("r#\"a \" b\"# c", "           c"),
        ("br\"\\\" c", "      c"),
        ("r#type", "r#type"),
        ("'a' '\\'' 'static <'a>", "         'static <'a>"),
        ("b'\\\\' x", "b     x"),
        ("bar\"s\"", "bar   "),
    ];
    for (text, code) in cases {
        assert_eq!(blank(text), code, "{text}");
    }
}

#[test]
fn the_scanner_finds_functions_and_tests() {
    let code = blank(
        "fn a() -> [u8; 2] {\n  { }\n}\ntrait T { fn b(); }\ntype F = fn (u8);\n\
         #[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod t {\n fn c() {}\n}\nfn d() {}",
    );
    let names: Vec<(String, usize, usize)> = functions(&code);
    assert_eq!(names, [("a".into(), 1, 3), ("c".into(), 10, 1), ("d".into(), 12, 1)]);
    let items = test_items(&code);
    assert_eq!(items.iter().map(|item| item.module.as_deref()).collect::<Vec<_>>(), [Some("tests"), None]);
    assert_eq!(items[1].lines, 8..12);
}
