//! From an offset in a decoded TOML string back to the byte in the source that it came from.
//!
//! A mistake in a condition or an address is found in the decoded text, but the caret belongs
//! under the source, where a string has quotes, escapes (`\"` is two bytes for one), perhaps
//! a newline after the opening quotes that does not count, and line-ending backslashes.

/// The byte in `source` (a string token, quotes included) where byte `offset` of its decoded
/// text begins. An offset at or past the end gives the closing quote.
pub fn source_offset(source: &str, offset: usize) -> usize {
    let Opening {
        skip,
        close,
        escapes,
    } = Opening::of(source);
    let end = source.len().saturating_sub(close).max(skip);
    if !escapes {
        return source.floor_char_boundary((skip + offset).min(end));
    }
    let (mut at, mut decoded) = (skip, 0);
    while at < end {
        let step = Step::next(&source[at..end]);
        // A step without text (a line-ending backslash) is never where a mistake is.
        if step.text > 0 && offset < decoded + step.text {
            return at;
        }
        decoded += step.text;
        at += step.source;
    }
    end
}

/// How a string token begins and ends.
struct Opening {
    /// Bytes before the text: quotes, and the newline right behind triple quotes.
    skip: usize,
    /// Bytes of the closing quotes.
    close: usize,
    /// Whether a backslash means something.
    escapes: bool,
}

impl Opening {
    fn of(source: &str) -> Opening {
        let escapes = source.starts_with('"');
        let triple = source.starts_with("\"\"\"") || source.starts_with("'''");
        let quotes = match (triple, source.starts_with(['"', '\''])) {
            (true, _) => 3,
            (false, quoted) => usize::from(quoted),
        };
        let (quote, text) = source.split_at(quotes);
        let newline = match text {
            _ if !triple => 0,
            _ if text.starts_with("\r\n") => 2,
            _ => usize::from(text.starts_with('\n')),
        };
        // A string that was never closed has no quotes to leave out.
        let close = if text.ends_with(quote) { quotes } else { 0 };
        Opening {
            skip: quotes + newline,
            close,
            escapes,
        }
    }
}

/// One character or escape of a basic string: its bytes in the source and when decoded.
struct Step {
    source: usize,
    text: usize,
}

impl Step {
    fn next(rest: &str) -> Step {
        let mut chars = rest.chars();
        let first = chars.next().map_or(1, char::len_utf8);
        if !rest.starts_with('\\') {
            return Step {
                source: first,
                text: first,
            };
        }
        match chars.next() {
            Some('x') => Step::unicode(rest, 2),
            Some('u') => Step::unicode(rest, 4),
            Some('U') => Step::unicode(rest, 8),
            Some(space) if space.is_whitespace() => {
                let kept = rest[1..].trim_start_matches([' ', '\t', '\r', '\n']);
                Step {
                    source: rest.len() - kept.len(),
                    text: 0,
                }
            }
            Some(escaped) => Step {
                source: 1 + escaped.len_utf8(),
                text: 1,
            },
            None => Step { source: 1, text: 1 },
        }
    }

    /// `\xHH`, `\uHHHH`, `\UHHHHHHHH`.
    fn unicode(rest: &str, digits: usize) -> Step {
        let end = (2 + digits).min(rest.len());
        let code = rest
            .get(2..end)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let text = code.and_then(char::from_u32).map_or(1, char::len_utf8);
        Step { source: end, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_string_maps_back() {
        // (source token, decoded offset, what the source has there)
        let check = |source: &str, offset: usize, rest: &str| {
            assert_eq!(
                &source[source_offset(source, offset)..],
                rest,
                "{source} at {offset}"
            );
        };
        check(r#""abc""#, 1, r#"bc""#);
        check("'a\\b'", 2, "b'");
        check(r#""a\"b""#, 2, r#"b""#);
        check(r#""a\"b""#, 1, r#"\"b""#);
        check("\"\\u00e9b\"", 2, "b\"");
        check("\"\\u00e9b\"", 1, "\\u00e9b\"");
        check("\"\\x41b\"", 1, "b\"");
        check("\"\\U0001F600b\"", 4, "b\"");
        check("\"ét\"", 2, "t\"");
        check("'''\nabc'''", 0, "abc'''");
        check("\"\"\"\r\na\\tb\"\"\"", 2, "b\"\"\"");
        check("\"\"\"a\\\n   b\"\"\"", 1, "b\"\"\"");
        check("\"abc\"", 3, "\"");
        check("\"abc\"", 99, "\"");
        check("socket", 2, "cket");
        check("\"sté", 9, "");
        check("'sté", 9, "");
        check("\"", 0, "");
        check("'''", 3, "");
    }

    #[test]
    fn agrees_with_the_parser_on_every_character() {
        let source = "\"\"\"\nx\\\"é\\u00e9\\t\\\n  y\\\\\\U0001F600z\"\"\"";
        let (entries, errors) = crate::config::tree::parse(&format!("k = {source}"), 0);
        assert!(errors.is_empty());
        let crate::config::tree::Data::Text(text) = &entries[0].node.data else {
            panic!("a string");
        };
        for (offset, c) in text.char_indices() {
            let rest = &source[source_offset(source, offset)..];
            assert!(
                rest.starts_with(c) || rest.starts_with('\\'),
                "{c} at {offset}: {rest}"
            );
        }
        assert_eq!(source_offset(source, text.len()), source.len() - 3);
    }
}
