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

fn one(text: &str, error: &SyntaxError) -> Explained {
    let (start, end) = error.span;
    let found = text.get(start..end).unwrap_or_default();
    let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
    let rest = text[start..line_end].trim();
    let message = error.message.as_str();
    let (message, help): (String, Option<String>) = match message {
        m if m.starts_with("string values must be quoted") && found.is_empty() => {
            ("a value is missing after `=`".into(), None)
        }
        m if m.starts_with("string values must be quoted") => (
            "a string needs quotes".into(),
            Some(format!("write \"{found}\"")),
        ),
        m if m.starts_with("missing comma") && never_closed(text, start) => (
            "this list is not closed".into(),
            Some("`]` is missing here".into()),
        ),
        m if m.starts_with("missing comma") => (
            "a comma is missing here".into(),
            Some("entries of a list are separated by `,`".into()),
        ),
        m if m.starts_with("unclosed table") => (
            "this table header is not closed".into(),
            Some("`]` is missing here".into()),
        ),
        m if m.starts_with("unclosed array") => (
            "this list is not closed".into(),
            Some("`]` is missing here".into()),
        ),
        m if m.starts_with("unclosed inline table") => (
            "this table is not closed".into(),
            Some("`}` is missing here".into()),
        ),
        m if m.starts_with("invalid basic string, expected `\"`")
            || m.starts_with("invalid literal string, expected `'`") =>
        {
            let quote = if m.contains("basic") { '"' } else { '\'' };
            (
                "this string is not closed".into(),
                Some(format!("`{quote}` is missing here")),
            )
        }
        m if m.starts_with("key with no value") => (
            "a key without a value".into(),
            Some("`= VALUE` is missing here".into()),
        ),
        m if m.starts_with("missing escaped value") => (
            "this escape is unknown".into(),
            Some("write `\\\\` for a backslash, or put the text into single quotes".into()),
        ),
        "duplicate key" => (format!("`{found}` is given twice"), None),
        m if m.starts_with("unexpected key or value") => (
            format!("unexpected `{rest}` after the value"),
            Some("one key to a line".into()),
        ),
        other => (other.to_owned(), None),
    };
    Explained {
        span: (start, end),
        message,
        help,
    }
}
