//! Who may import whom: the rooms of the crate, and the crates that one room keeps to itself.
//!
//! Both tables are the contract of `docs/ARCHITECTURE.md`. A room is a folder or file right
//! under `src/`. An entry of the import table is a path: `reactor::worker` opens that module
//! of the reactor alone. Unit tests may import `sim` as well. Paths written by `super::` are
//! followed out of the room, so that they are no way around the table.

use super::source::{Source, closing, is_word, word_offsets};

/// Room, and what it may import of the crate. `*` is everything.
pub const IMPORTS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("deferred", &["time"]),
    ("protocol", &[]),
    ("event", &["time"]),
    ("telemetry", &["time"]),
    ("reactor", &["time", "deferred", "telemetry"]),
    ("transport", &["reactor", "deferred", "time", "telemetry"]),
    (
        "http",
        &["transport", "reactor", "deferred", "time", "telemetry"],
    ),
    // Addresses and TLS stand in the options of sources and sinks alike; their text form, and
    // the proof that files are what they should be, does no IO.
    (
        "pipeline",
        &[
            "event",
            "deferred",
            "time",
            "telemetry",
            "transport::address",
            "transport::tls",
        ],
    ),
    ("steps", &["pipeline", "event", "protocol", "telemetry"]),
    (
        "buffer",
        &[
            "reactor::worker",
            "event",
            "pipeline",
            "deferred",
            "telemetry",
            "time",
        ],
    ),
    ("sources", SOURCES),
    ("sinks", COMPONENTS),
    (
        "config",
        &[
            "pipeline::descriptor",
            "pipeline::options",
            "pipeline::addresses",
            "telemetry",
        ],
    ),
    ("service", &["*"]),
    ("sim", &["*"]),
];

/// What sources may import: all below them, never each other, nor sinks.
const SOURCES: &[&str] = &[
    "time",
    "deferred",
    "protocol",
    "event",
    "telemetry",
    "reactor",
    "transport",
    "http",
    "pipeline",
    "steps::parse",
    "buffer",
];

/// What sinks may import.
const COMPONENTS: &[&str] = &[
    "time",
    "deferred",
    "protocol",
    "event",
    "telemetry",
    "reactor",
    "transport",
    "http",
    "pipeline",
    "buffer",
];

/// Crate, and the files that may name it (a folder ends in `/`).
pub const CONFINED: &[(&str, &[&str])] = &[
    ("mio", &["src/reactor/poller.rs", "src/reactor/poller/"]),
    ("rustls", &["src/transport/tls"]),
    ("rustls_native_certs", &["src/transport/tls"]),
    ("x509_cert", &["src/transport/tls"]),
    ("hyper", &["src/http/"]),
    ("http_body_util", &["src/http/"]),
    (
        "vrl",
        &[
            "src/event/",
            "src/pipeline/condition",
            "src/pipeline/template.rs",
            "src/steps/",
        ],
    ),
    ("toml", &["src/config/"]),
];

/// Imports that the table does not allow.
pub fn imports(source: &Source, found: &mut Vec<String>) {
    let Some(room) = source.room() else { return };
    let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == room) else {
        found.push(format!(
            "{}: `{room}` is not in the import table",
            source.path
        ));
        return;
    };
    for (at, path) in crate_paths(source) {
        let target = path.split("::").next().unwrap_or_default();
        let is_room = IMPORTS.iter().any(|(name, _)| *name == target);
        let by_test = target == "sim" && source.is_test(at);
        let is_allowed = allowed.iter().any(|allowed| {
            *allowed == "*" || path == *allowed || path.starts_with(&format!("{allowed}::"))
        });
        let from_sim = target == "sim" && room != "sim";
        if is_room && target != room && (from_sim || !is_allowed) && !by_test {
            found.push(format!(
                "{}: {room} may not import `{path}`",
                source.place(at)
            ));
        }
    }
}

/// Crates named outside the files that keep them.
pub fn confined(source: &Source, found: &mut Vec<String>) {
    for (name, homes) in CONFINED {
        if homes.iter().any(|home| source.path.starts_with(home)) {
            continue;
        }
        for at in source.words(name) {
            let before = source.code[..at].trim_end();
            let after = source.code[at + name.len()..].trim_start();
            let is_path = after.starts_with("::") && !before.ends_with("::");
            let is_use = before.ends_with("use") || before.ends_with("extern crate");
            if is_path || is_use {
                found.push(format!("{}: `{name}` is for {homes:?}", source.place(at)));
            }
        }
    }
}

/// Every path of the crate that the file names, from the crate's root, with its place.
fn crate_paths(source: &Source) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for at in source.words("crate") {
        let is_root = !source.code[..at].ends_with("::");
        if let Some(rest) = source.code[at + 5..].strip_prefix("::").filter(|_| is_root) {
            expand(rest, "", &mut |path| paths.push((at, path)));
        }
    }
    let mut after_last = 0;
    for at in source.words("super") {
        if at < after_last {
            continue;
        }
        let mut rest = at;
        let mut levels = 0;
        while source.code[rest..].starts_with("super::") {
            rest += "super::".len();
            levels += 1;
        }
        after_last = rest;
        if levels > 0 && levels >= depth(source, at) {
            expand(&source.code[rest..], "", &mut |path| paths.push((at, path)));
        }
    }
    paths
}

/// How many modules byte `at` is below the crate's root.
fn depth(source: &Source, at: usize) -> usize {
    let inside = source
        .path
        .trim_start_matches("src/")
        .trim_end_matches(".rs");
    let of_file = inside.trim_end_matches("/mod").split('/').count();
    let inline = word_offsets(&source.code, "mod").filter(|start| {
        let Some(end) = source.code[*start..].find(['{', ';']) else {
            return false;
        };
        let open = start + end;
        let is_body = source.code.as_bytes()[open] == b'{';
        is_body && open < at && at < closing(&source.code, open)
    });
    of_file + inline.count()
}

/// Calls `found` with each path of the use tree at the start of `tree`: `a::{b, c::d}` has two.
/// Answers how many bytes the tree has.
fn expand(tree: &str, prefix: &str, found: &mut dyn FnMut(String)) -> usize {
    let start = tree.len() - tree.trim_start().len();
    if let Some(group) = tree[start..].strip_prefix('{') {
        let mut at = start + 1;
        while !group.is_empty() && at < tree.len() && !tree[at..].trim_start().starts_with('}') {
            at += expand(&tree[at..], prefix, found);
            at += tree[at..].find([',', '}']).unwrap_or(tree.len() - at);
            at += usize::from(tree[at..].starts_with(','));
        }
        return (at + 1).min(tree.len());
    }
    let word: String = tree[start..]
        .chars()
        .take_while(|c| is_word(*c) || *c == '*')
        .collect();
    let end = start + word.len();
    let path = if prefix.is_empty() {
        word
    } else {
        format!("{prefix}::{word}")
    };
    match tree[end..].strip_prefix("::") {
        Some(rest) if !rest.starts_with('<') => end + 2 + expand(rest, &path, found),
        _ => {
            found(path);
            end
        }
    }
}
