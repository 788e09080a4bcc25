//! TOML syntax errors in words that say what to do.
//!
//! The parser goes on after an error, and one slip may then be reported several times: per
//! line the first error counts, and what follows a list or table that was never closed is
//! left out.

use super::tree::SyntaxError;

/// A syntax error for the reader.
pub struct Explained {
    /// Start and end in the text.
    pub span: (usize, usize),
    /// What.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where the key stands that is given a second time.
    pub first: Option<(usize, usize)>,
    /// It swallows what stands behind it.
    pub to_the_end: bool,
}

/// The errors worth showing, in order.
pub fn explain(text: &str, mut errors: Vec<SyntaxError>) -> Vec<Explained> {
    errors.sort_by_key(|error| error.span);
    let mut shown: Vec<Explained> = Vec::new();
    let mut last_line = None;
    for error in errors {
        let line = text[..error.span.0.min(text.len())].matches('\n').count();
        if last_line == Some(line) {
            continue;
        }
        last_line = Some(line);
        let opened = error.message.starts_with("missing comma");
        shown.push(one(text, &error));
        if opened && never_closed(text, error.span.0) {
            break;
        }
    }
    shown
}

/// Whether the line after `at` begins a new key or table: the list before it has no end.
fn never_closed(text: &str, at: usize) -> bool {
    let rest = text[at..].trim_start();
    let first = rest.lines().next().unwrap_or_default();
    rest.is_empty()
        || first.starts_with('[')
        || first.split_once('=').is_some_and(|(key, _)| is_key(key))
}

fn is_key(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.\"' ".contains(c);
    !text.trim().is_empty() && text.chars().all(plain)
}

/// The help for a list without an end.
const CLOSE: &str = "`]` is missing here";

/// Beginning of the parser's message, our message, our help.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "unclosed table",
        "this table header is not closed",
        "its `]` is missing",
    ),
    ("unclosed array", "this list is not closed", CLOSE),
    (
        "unclosed inline table",
        "this table is not closed",
        "`}` is missing here",
    ),
    (
        "invalid basic string, expected `\"`",
        "this string is not closed",
        "`\"` is missing here",
    ),
    (
        "invalid literal string, expected `'`",
        "this string is not closed",
        "`'` is missing here",
    ),
    (
        "key with no value",
        "a key without a value",
        "`= VALUE` is missing here",
    ),
    (
        "missing escaped value",
        "this escape is unknown",
        "write `\\\\` for a backslash, or put the text into single quotes",
    ),
    (
        "missing comma",
        "a comma is missing here",
        "entries of a list are separated by `,`",
    ),
];

fn one(text: &str, error: &SyntaxError) -> Explained {
    let mut span = error.span;
    let found = text.get(span.0..span.1).unwrap_or_default();
    let (message, help) = words(text, error, found);
    let to_the_end = help.as_deref() == Some(CLOSE);
    if to_the_end {
        // Behind the last entry, not in front of what was taken for the next one.
        let end = text[..span.0].trim_end().len();
        span = (end, end);
    }
    let is_twice = error.message == "duplicate key";
    let first = if is_twice { first_of(text, span) } else { None };
    Explained {
        span,
        message,
        help,
        first,
        to_the_end,
    }
}

fn words(text: &str, error: &SyntaxError, found: &str) -> (String, Option<String>) {
    let message = error.message.as_str();
    let rest = text[error.span.0..]
        .lines()
        .next()
        .unwrap_or_default()
        .trim();
    if message.starts_with("string values must be quoted") {
        return match found {
            "" => ("a value is missing after `=`".into(), None),
            _ => (
                "a string needs quotes".into(),
                Some(format!("write \"{found}\"")),
            ),
        };
    }
    if message == "duplicate key" {
        return (format!("`{found}` is given twice"), None);
    }
    if message.starts_with("invalid unquoted key") && rest.starts_with(':') {
        let message = "expected `=` after the key, found `:`";
        return (message.into(), Some("write `KEY = VALUE`".into()));
    }
    if message.starts_with("unexpected key or value") {
        let message = format!("unexpected `{rest}` after the value");
        return (message, Some("one key to a line".into()));
    }
    let is_open = message.starts_with("missing comma") && never_closed(text, error.span.0);
    let message = if is_open { "unclosed array" } else { message };
    match KNOWN.iter().find(|(begin, ..)| message.starts_with(begin)) {
        Some((_, message, help)) => ((*message).into(), Some((*help).into())),
        None => (message.to_owned(), None),
    }
}

/// The place of a key or table that is given again at `span`: a header with the same text, or
/// the same key since the last header.
fn first_of(text: &str, span: (usize, usize)) -> Option<(usize, usize)> {
    let key = &text[span.0..span.1];
    let line_start = text[..span.0].rfind('\n').map_or(0, |at| at + 1);
    let header = text[line_start..].starts_with('[');
    let this_line = text[line_start..].lines().next()?.trim_end();
    let mut found = None;
    let mut at = 0;
    for line in text[..line_start].split_inclusive('\n') {
        let is_key = |rest: &str| rest.trim_start().starts_with('=');
        if header && line.trim_end() == this_line {
            found = Some((at + span.0 - line_start, at + span.1 - line_start));
        } else if !header && line.starts_with('[') {
            found = None;
        } else if !header && line.strip_prefix(key).is_some_and(is_key) {
            found = found.or(Some((at, at + key.len())));
        }
        at += line.len();
    }
    found
}
