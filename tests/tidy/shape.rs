//! Rules on the shape of one file: lengths, head, words, and what only one file may do.
//!
//! Lengths are counted in lines as an editor shows them; a file's length is its lines of
//! code: blank lines, comments and unit tests are not counted. A function may be longer where
//! a comment in it or right above it says `// long:` and why.

use super::source::{Source, word_offsets};

const FUNCTION_LINES_MAX: usize = 60;
const FILE_LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;
const HEAD_LINES_MIN: usize = 3;
const HEAD_LINES_MAX: usize = 20;

/// Files that may hold unsafe code.
pub const UNSAFE_FILES: &[&str] = &["src/transport/outq.rs"];

/// Functions too long.
pub fn function_length(source: &Source, found: &mut Vec<String>) {
    for function in source.functions() {
        let (first, last) = (
            source.line(function.span.start),
            source.line(function.span.end - 1),
        );
        let lines = last - first + 1;
        if lines > FUNCTION_LINES_MAX && !has_reason(source, first, function.span.end) {
            let place = source.place(function.span.start);
            found.push(format!("{place}: `{}` has {lines} lines", function.name));
        }
    }
}

/// Whether a comment between five lines above line `first` and byte `end` says `long:`.
fn has_reason(source: &Source, first: usize, end: usize) -> bool {
    let lines = source.comments[..end].lines().skip(first.saturating_sub(6));
    lines
        .into_iter()
        .any(|line| line.trim_start().starts_with("// long:"))
}

/// Files too long.
pub fn file_length(source: &Source, found: &mut Vec<String>) {
    let tests = if source.path.starts_with("src/") {
        source.test_spans()
    } else {
        Vec::new()
    };
    let mut at = 0;
    let mut lines = 0;
    for line in source.code.split_inclusive('\n') {
        let is_test = tests.iter().any(|span| span.contains(&at));
        lines += usize::from(!line.trim().is_empty() && !is_test);
        at += line.len();
    }
    if lines > FILE_LINES_MAX {
        found.push(format!("{}: {lines} lines of code", source.path));
    }
}

/// Lines too long.
pub fn line_length(source: &Source, found: &mut Vec<String>) {
    for (index, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            found.push(format!("{}:{}: {columns} columns", source.path, index + 1));
        }
    }
}

/// Files that do not open with what they are.
pub fn head(source: &Source, found: &mut Vec<String>) {
    let lines = source
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .count();
    let is_empty_room = source.text.lines().count() == 1;
    if !(HEAD_LINES_MIN..=HEAD_LINES_MAX).contains(&lines) && !is_empty_room {
        found.push(format!(
            "{}: {lines} lines of `//!`, not {HEAD_LINES_MIN} to {HEAD_LINES_MAX}",
            source.path
        ));
    }
}

/// Comments that put work off.
pub fn put_off(source: &Source, found: &mut Vec<String>) {
    for word in ["TODO", "FIXME", "XXX"] {
        for at in word_offsets(&source.comments, word) {
            found.push(format!("{}: {word}", source.place(at)));
        }
    }
}

/// Modules named for what nobody knows where to put.
pub fn names(source: &Source, found: &mut Vec<String>) {
    const NAMELESS: &[&str] = &[
        "util", "utils", "common", "helper", "helpers", "manager", "managers", "misc",
    ];
    let parts = source.path.trim_end_matches(".rs").split('/');
    for part in parts.filter(|part| NAMELESS.contains(part)) {
        found.push(format!(
            "{}: `{part}` is not the name of a thing",
            source.path
        ));
    }
    for name in NAMELESS {
        for at in source.words(name) {
            if source.code[..at].trim_end().ends_with("mod") {
                found.push(format!("{}: module `{name}`", source.place(at)));
            }
        }
    }
}

/// Clocks read elsewhere than in `src/time.rs`.
pub fn clocks(source: &Source, found: &mut Vec<String>) {
    const READERS: &[&str] = &[
        "Instant::now",
        "SystemTime::now",
        "Utc::now",
        "Local::now",
        "clock_gettime",
    ];
    if source.path == "src/time.rs" {
        return;
    }
    forbid(
        source,
        READERS,
        "reads a clock; only src/time.rs may",
        found,
    );
}

/// Threads started elsewhere than in the reactor's worker. Unit tests may: other threads are
/// what some of them are about.
pub fn threads(source: &Source, found: &mut Vec<String>) {
    const STARTERS: &[&str] = &["thread::spawn", "thread::Builder", "thread::scope"];
    if source.path.starts_with("src/reactor/worker") {
        return;
    }
    let mut places = Vec::new();
    forbid(
        source,
        STARTERS,
        "starts a thread; only src/reactor/worker.rs may",
        &mut places,
    );
    let tests = source.test_spans();
    let outside = |place: &String| {
        let line = place
            .split(':')
            .nth(1)
            .and_then(|line| line.parse().ok())
            .unwrap_or(0);
        !tests
            .iter()
            .any(|s| source.line(s.start) <= line && line <= source.line(s.end))
    };
    found.extend(places.into_iter().filter(outside));
}

/// The process ended elsewhere than in `src/main.rs`.
pub fn exits(source: &Source, found: &mut Vec<String>) {
    if source.path == "src/main.rs" {
        return;
    }
    forbid(
        source,
        &["process::exit", "_exit"],
        "ends the process",
        found,
    );
}

/// Unsafe code outside the list, or without its reason.
pub fn unsafe_code(source: &Source, found: &mut Vec<String>) {
    let listed = UNSAFE_FILES.contains(&source.path.as_str());
    for at in source
        .words("unsafe")
        .chain(source.words("allow(unsafe_code)"))
    {
        let line = source.line(at);
        let mut above = source.comments.lines().skip(line.saturating_sub(6)).take(6);
        let is_lint = source.code[at..].starts_with("allow");
        if !listed {
            found.push(format!("{}: unsafe code", source.place(at)));
        } else if !is_lint && !above.any(|line| line.contains("SAFETY")) {
            found.push(format!(
                "{}: unsafe without a SAFETY comment",
                source.place(at)
            ));
        }
    }
}

fn forbid(source: &Source, words: &[&str], why: &str, found: &mut Vec<String>) {
    for word in words {
        for at in source.words(word) {
            found.push(format!("{}: `{word}` {why}", source.place(at)));
        }
    }
}
