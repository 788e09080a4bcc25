//! The structure rules of the crate, read off its sources as text.
//!
//! Each test is one rule: first it proves on planted snippets that it can see what it forbids
//! and lets pass what is lawful, then it goes over the tree and lists every violation with its
//! place. The rules themselves are in `tests/tidy/`; the tables that say who may do what are
//! at the head of `imports.rs` and `shape.rs`. Nothing of the crate is called.
#![allow(clippy::unwrap_used)]

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use source::Source;

type Rule = fn(&Source, &mut Vec<String>);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file of the package, read once.
fn tree() -> &'static [Source] {
    static TREE: OnceLock<Vec<Source>> = OnceLock::new();
    TREE.get_or_init(|| {
        let folders = ["src", "tests", "benches", "fuzz", "bench"];
        let paths = folders
            .iter()
            .flat_map(|folder| source::files(&root(), folder, ".rs"));
        paths.map(|path| Source::new(&path, &read(&path))).collect()
    })
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn violations(rule: Rule, source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    rule(source, &mut found);
    found
}

/// Proves that `rule` finds one violation in each of `bad` and none in `good`.
fn prove(rule: Rule, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    for (path, text) in bad {
        let found = violations(rule, &Source::new(path, text));
        assert_eq!(found.len(), 1, "planted in {path}: {text}\nfound {found:?}");
    }
    for (path, text) in good {
        let found = violations(rule, &Source::new(path, text));
        assert!(
            found.is_empty(),
            "lawful in {path}: {text}\nfound {found:?}"
        );
    }
}

/// Goes over the files whose path starts with one of `folders`.
fn hold(rule: Rule, folders: &[&str]) {
    let files = tree()
        .iter()
        .filter(|file| folders.iter().any(|f| file.path.starts_with(f)));
    report(files.flat_map(|file| violations(rule, file)).collect());
}

fn report(found: Vec<String>) {
    assert!(
        found.is_empty(),
        "{} violations:\n  {}",
        found.len(),
        found.join("\n  ")
    );
}

#[test]
fn rooms_import_by_the_table() {
    let bad = [
        ("src/time.rs", "use crate::reactor::Handle;"),
        ("src/event/json.rs", "fn a() { crate::telemetry::b() }"),
        (
            "src/config/mod.rs",
            "use crate::{pipeline::{descriptor::Opt, graph::Graph}};",
        ),
        (
            "src/buffer/disk.rs",
            "use crate::reactor::{worker::Pool, Handle};",
        ),
        ("src/sources/mod.rs", "use super::sinks::list;"),
        (
            "src/sources/tcp.rs",
            "mod a { use super::super::super::sinks::list; }",
        ),
        ("src/reactor/turn.rs", "use crate::sim::Clock;"),
        ("src/attic/mod.rs", "fn a() {}"),
    ];
    let good = [
        (
            "src/deferred/mod.rs",
            "use crate::time::{Duration, Instant};",
        ),
        (
            "src/buffer/disk.rs",
            "use crate::{event::Batch, reactor::worker::Pool};",
        ),
        (
            "src/time.rs",
            "// crate::reactor\nconst A: &str = \"crate::reactor\";",
        ),
        (
            "src/sources/tcp.rs",
            "use super::listen; use super::super::pipeline::Outlet;",
        ),
        (
            "src/pipeline/graph.rs",
            "#[cfg(test)] mod tests { use crate::sim::Clock; }",
        ),
        ("src/main.rs", "use marline::service;"),
    ];
    prove(imports::imports, &bad, &good);
    hold(imports::imports, &["src/"]);
}

#[test]
fn crates_stay_in_their_rooms() {
    let bad = [
        ("src/transport/tcp.rs", "use mio::net::TcpStream;"),
        ("src/sinks/http.rs", "fn a() -> hyper::Result<()> { b() }"),
        ("src/pipeline/graph.rs", "use vrl::value::Value;"),
    ];
    let good = [
        ("src/reactor/poller/epoll.rs", "use mio::Poll;"),
        (
            "src/service/mod.rs",
            "use crate::config::toml::read; // toml::de",
        ),
    ];
    prove(imports::confined, &bad, &good);
    hold(imports::confined, &["src/"]);
}

#[test]
fn functions_are_short() {
    let long = format!("fn long() {{\n{}}}", "    step();\n".repeat(59));
    let fits = format!("fn fits() {{\n{}}}", "    step();\n".repeat(58));
    let nested = format!("impl A {{\n{fits}\n{fits}\n}}\nfn none(a: fn(u8) -> u8);");
    let reason = format!("// long: a table.\n{long}");
    let with_where = long.replace("long()", "long<T, const N: usize>(a: T) -> B<T> where T: C");
    let bad = [
        ("src/a.rs", long.as_str()),
        ("src/a.rs", with_where.as_str()),
    ];
    let good = [
        ("src/a.rs", fits.as_str()),
        ("src/a.rs", &nested),
        ("src/a.rs", &reason),
    ];
    prove(shape::function_length, &bad, &good);
    hold(
        shape::function_length,
        &["src/", "tests/", "benches/", "fuzz/", "bench/"],
    );
}

#[test]
fn files_are_short() {
    let fits = "a();\n// why\n\n".repeat(600);
    let long = format!("{fits}b();\n");
    let tests = format!("{fits}#[cfg(test)]\nmod tests {{\n b();\n}}\n");
    prove(
        shape::file_length,
        &[("src/a.rs", &long)],
        &[("src/a.rs", &fits), ("src/a.rs", &tests)],
    );
    hold(
        shape::file_length,
        &["src/", "tests/", "benches/", "fuzz/", "bench/"],
    );
}

#[test]
fn lines_are_short() {
    let (fits, long) = ("é".repeat(100), "é".repeat(101));
    prove(
        shape::line_length,
        &[("src/a.rs", &long)],
        &[("src/a.rs", &fits)],
    );
    hold(
        shape::line_length,
        &["src/", "tests/", "benches/", "fuzz/", "bench/"],
    );
}

#[test]
fn files_say_what_they_are() {
    let bad = [
        ("src/a.rs", "//! A.\n//! B.\nfn c() {}"),
        ("src/a.rs", &*"//! A.\n".repeat(21)),
    ];
    // A room that nothing has moved into yet is one line.
    prove(
        shape::head,
        &bad,
        &[
            ("src/a.rs", "//! A.\n//!\n//! B.\n"),
            ("src/a.rs", "//! A.\n"),
        ],
    );
    hold(
        shape::head,
        &["src/", "tests/", "benches/", "fuzz/", "bench/"],
    );
}

#[test]
fn nothing_is_put_off() {
    let bad = [("src/a.rs", "// TODO: later"), ("src/a.rs", "/* FIXME */")];
    prove(
        shape::put_off,
        &bad,
        &[("src/a.rs", "const TODO: &str = \"// TODO\"; // TODOS")],
    );
    hold(
        shape::put_off,
        &["src/", "tests/", "benches/", "fuzz/", "bench/"],
    );
}

#[test]
fn modules_have_names() {
    let bad = [
        ("src/reactor/utils.rs", ""),
        ("src/a.rs", "mod helpers { }"),
    ];
    prove(shape::names, &bad, &[("src/a.rs", "let common = 1;")]);
    hold(
        shape::names,
        &["src/", "tests/", "benches/", "fuzz/", "bench/"],
    );
}

#[test]
fn one_file_reads_clocks() {
    let bad = [
        ("src/a.rs", "let a = std::time::Instant::now();"),
        ("src/a.rs", "let a = chrono::Utc::now();"),
    ];
    let good = [
        ("src/time.rs", "Instant::now()"),
        ("src/a.rs", "// Instant::now"),
    ];
    prove(shape::clocks, &bad, &good);
    hold(shape::clocks, &["src/"]);
}

#[test]
fn one_file_starts_threads() {
    let bad = [(
        "src/a.rs",
        "fn a() {\n std::thread::spawn(f);\n}\n#[cfg(test)]\nmod t {\n}\n",
    )];
    let good = [
        ("src/reactor/worker.rs", "thread::Builder::new()"),
        (
            "src/a.rs",
            "#[cfg(test)]\nmod tests {\n fn a() { thread::spawn(f); }\n}\n",
        ),
    ];
    prove(shape::threads, &bad, &good);
    hold(shape::threads, &["src/"]);
}

#[test]
fn one_file_ends_the_process() {
    let bad = [("src/service/mod.rs", "std::process::exit(1)")];
    prove(
        shape::exits,
        &bad,
        &[("src/main.rs", "std::process::exit(0)")],
    );
    hold(shape::exits, &["src/"]);
}

#[test]
fn unsafe_code_is_listed() {
    let bad = [
        ("src/a.rs", "fn a() { unsafe { b() } }"),
        ("src/transport/outq.rs", "fn a() { unsafe { b() } }"),
        ("src/b.rs", "#![allow(unsafe_code)]"),
    ];
    let good = [(
        "src/transport/outq.rs",
        "// SAFETY: b is pure.\nunsafe { b() }",
    )];
    prove(shape::unsafe_code, &bad, &good);
    hold(shape::unsafe_code, &["src/", "tests/", "benches/"]);
}

/// The files that `mod` lines lead to from `from`, itself included.
fn reachable(from: &str, files: &[Source], seen: &mut BTreeSet<String>) {
    let Some(file) = files.iter().find(|file| file.path == from) else {
        return;
    };
    seen.insert(from.to_owned());
    let folder = Path::new(from).parent().unwrap().to_str().unwrap();
    let stem = Path::new(from).file_stem().unwrap().to_str().unwrap();
    let is_root = matches!(stem, "lib" | "main" | "mod") || folder == "tests";
    let below = if is_root {
        folder.to_owned()
    } else {
        format!("{folder}/{stem}")
    };
    for (at, name) in file.child_modules() {
        let line_above = file.text[..at]
            .lines()
            .rev()
            .find(|line| line.contains("#[path"));
        let named = line_above.filter(|_| file.code[..at].trim_end().ends_with(']'));
        let named = named.and_then(|line| line.split('"').nth(1));
        let candidates = match named {
            Some(path) => vec![format!("{folder}/{path}")],
            None => vec![
                format!("{below}/{name}.rs"),
                format!("{below}/{name}/mod.rs"),
            ],
        };
        for path in candidates {
            if !seen.contains(&path) {
                reachable(&path, files, seen);
            }
        }
    }
}

fn dead(files: &[Source]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    for entry in [
        "src/lib.rs",
        "src/main.rs",
        "tests/main.rs",
        "tests/tidy.rs",
    ] {
        reachable(entry, files, &mut seen);
    }
    let ours = |file: &&Source| file.path.starts_with("src/") || file.path.starts_with("tests/");
    let all = files.iter().filter(ours).map(|file| file.path.clone());
    all.filter(|path| !seen.contains(path)).collect()
}

#[test]
fn every_file_is_compiled() {
    let plant = [
        ("src/lib.rs", "pub mod a;"),
        ("src/a/mod.rs", "mod b; mod c { mod d; }"),
        ("src/a/b.rs", "#[path = \"e.rs\"] mod x;"),
        ("src/a/e.rs", ""),
        ("src/a/dead.rs", "mod dead2;"),
    ];
    let plant: Vec<Source> = plant
        .iter()
        .map(|(path, text)| Source::new(path, text))
        .collect();
    assert_eq!(dead(&plant), ["src/a/dead.rs"]);
    report(dead(tree()));
}

#[test]
fn conformance_lines_have_proofs() {
    let plant = [
        Source::new(
            "tests/a.rs",
            "#[test] fn c_001_a() {} #[test] fn c_003_c_009_b() {}",
        ),
        Source::new(
            "src/b.rs",
            "/// C-004: does not compile.\n/// ```compile_fail\nfn c() {}",
        ),
    ];
    let document = "| C-001 | = | A. | test |\n| C-002 | = | B. | test |\n\
                    | C-003 | = | C. | – for a reason |\n| C-004 | = | D. | test |\n\
                    | C-005 | = | E. | later |\n";
    let found = documents::proofs('C', "A.md", document, &plant);
    assert_eq!(found.len(), 3, "{found:?}");

    let document = read("docs/CONFORMANCE.md");
    report(documents::proofs(
        'C',
        "docs/CONFORMANCE.md",
        &document,
        tree(),
    ));
}

#[test]
fn fault_lines_have_proofs() {
    let document = read("docs/FAULTS.md");
    report(documents::proofs('F', "docs/FAULTS.md", &document, tree()));
}

#[test]
fn the_import_table_is_documented() {
    let document = read("docs/ARCHITECTURE.md");
    let rows = imports::IMPORTS.iter().map(|(room, allowed)| {
        let names = match *allowed {
            [] => "nothing".to_owned(),
            ["*"] if *room == "sim" => "everything".to_owned(),
            ["*"] => "everything but `sim`".to_owned(),
            names => names
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        format!("| `{room}` | {names} |")
    });
    let lacks = rows.filter(|row| !document.lines().any(|line| line == row));
    report(
        lacks
            .map(|row| format!("docs/ARCHITECTURE.md: no {row}"))
            .collect(),
    );
}

#[test]
fn import_table_lists_the_rooms() {
    let of_tree: BTreeSet<&str> = tree().iter().filter_map(Source::room).collect();
    let of_table: BTreeSet<&str> = imports::IMPORTS.iter().map(|(room, _)| *room).collect();
    assert_eq!(of_tree, of_table);
}
