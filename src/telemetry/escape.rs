//! Escaping: no byte of a peer may move a cursor, end a line or turn the text around.
//!
//! Escaped are C0 and C1 control characters, DEL, the line and paragraph separators and the
//! characters that set the direction of text: `\n`, `\t`, `\x1b`, `\u202e`. What is quoted has
//! its quotes and backslashes escaped too. Both directions are lossless but for bytes that are
//! no UTF-8, which [`Quoted`] shows as `\xff`.

use std::fmt::{self, Write};

use super::record::VALUE_BYTES_MAX;

/// Whether `c` may not reach a terminal or a line-based file as it is.
pub fn is_hostile(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}'
        | '\u{200e}' | '\u{200f}' | '\u{061c}'
        | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Appends `text` with hostile characters escaped.
pub fn plain(text: &str, out: &mut String) {
    for c in text.chars() {
        if is_hostile(c) {
            escape(c, out);
        } else {
            out.push(c);
        }
    }
}

/// Appends `text` in double quotes.
pub fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_hostile(c) => escape(c, out),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends `text` as a value of logfmt: bare where that is unambiguous, else quoted.
pub fn value(text: &str, out: &mut String) {
    let is_bare = |c: char| !matches!(c, ' ' | '=' | '"' | '\\') && !is_hostile(c);
    if !text.is_empty() && text.chars().all(is_bare) {
        out.push_str(text);
    } else {
        quoted(text, out);
    }
}

/// Appends `text` as a JSON string (RFC 8259, section 7), hostile characters as `\u`.
pub fn json(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_hostile(c) => {
                write!(out, "\\u{:04x}", c as u32).expect("writing to a String cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn escape(c: char, out: &mut String) {
    let written = match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        c if (c as u32) < 0x80 => write!(out, "\\x{:02x}", c as u32),
        c => write!(out, "\\u{:04x}", c as u32),
    };
    written.expect("writing to a String cannot fail");
}

/// Bytes of a peer, for use in a message or an error: quoted, escaped, at most
/// [`VALUE_BYTES_MAX`] bytes of them, then `…`.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(VALUE_BYTES_MAX)];
        f.write_char('"')?;
        for chunk in shown.utf8_chunks() {
            let mut text = String::with_capacity(chunk.valid().len());
            quoted(chunk.valid(), &mut text);
            f.write_str(&text[1..text.len() - 1])?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_char('"')?;
        if shown.len() < self.0.len() {
            f.write_char('…')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(escape: fn(&str, &mut String), text: &str) -> String {
        let mut out = String::new();
        escape(text, &mut out);
        out
    }

    #[test]
    fn terminals_are_left_alone() {
        let hostile = "\x1b]0;pwn\x07\x1b[2J\r\n<0>forged\u{202e}\u{9b}2J\x7f\u{2028}";
        for escape in [plain, quoted, value, json] {
            let text = by(escape, hostile);
            assert!(!text.chars().any(is_hostile), "{text}");
        }
        assert_eq!(by(plain, "a\x1b[2J\r\n"), "a\\x1b[2J\\r\\n");
        assert_eq!(by(plain, "\u{202e}\u{9b}"), "\\u202e\\u009b");
    }

    #[test]
    fn values_are_quoted_where_needed() {
        let check = |text, expected: &str| assert_eq!(by(value, text), expected);
        check("tcp://127.0.0.1:5514", "tcp://127.0.0.1:5514");
        check("", "\"\"");
        check("two words", "\"two words\"");
        check("a=b", "\"a=b\"");
        check("say \"no\" \\", "\"say \\\"no\\\" \\\\\"");
    }

    #[test]
    fn json_is_json() {
        let text = "é \"\\ \u{0} \u{1b} \n \u{2028} 😀";
        let parsed: String = serde_json::from_str(&by(json, text)).expect("a JSON string");
        assert_eq!(parsed, text);
    }

    #[test]
    fn quoted_bytes_are_bounded() {
        assert_eq!(Quoted(b"a\xff\"\n").to_string(), "\"a\\xff\\\"\\n\"");
        let long = Quoted(&[b'x'; 1 << 20]).to_string();
        assert_eq!(long.len(), VALUE_BYTES_MAX + 2 + '…'.len_utf8());
    }
}
