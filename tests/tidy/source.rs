//! A source file as the rules see it: its text, its code alone, its comments alone.
//!
//! [`Source::code`] has the length and lines of the text, with every comment and the inside
//! of every literal blanked, so that a rule that looks for a word finds code and nothing else.
//! This is a lexer for well-formed Rust (the compiler has seen it), not a parser: functions
//! and modules are found by their keyword and their braces.

use std::fs;
use std::ops::Range;
use std::path::Path;

/// One `.rs` file, or a planted snippet that pretends to be one.
pub struct Source {
    /// Path from the package's root, with `/`.
    pub path: String,
    /// The file as it is.
    pub text: String,
    /// The text with comments and the inside of literals blanked.
    pub code: String,
    /// The text with everything but comments blanked.
    pub comments: String,
}

/// A function with a body.
pub struct Function {
    /// Its name.
    pub name: String,
    /// From `fn` to the closing brace.
    pub span: Range<usize>,
}

impl Source {
    /// Reads `text` as the file at `path`.
    pub fn new(path: &str, text: &str) -> Source {
        let (code, comments) = split(text);
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            comments,
        }
    }

    /// The room of `src/` that the file is in: `time`, `reactor`, …; `None` for lib.rs, main.rs
    /// and what is outside `src/`.
    pub fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let room = inside.split('/').next()?.trim_end_matches(".rs");
        (!matches!(room, "lib" | "main")).then_some(room)
    }

    /// The number of the line that holds byte `at`, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }

    /// `path:line`, for a violation.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.line(at))
    }

    /// Offsets in the code at which `word` stands with no identifier character on either side.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        word_offsets(&self.code, word)
    }

    /// The bodies of `#[cfg(test)]` modules; the whole file where it is such a module itself.
    pub fn test_spans(&self) -> Vec<Range<usize>> {
        let is_test_file = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        if !self.path.starts_with("src/") || is_test_file {
            return std::iter::once(0..self.code.len()).collect();
        }
        let attribute = "#[cfg(test)]";
        let marks = self.code.match_indices(attribute);
        marks
            .filter_map(|(at, _)| {
                let rest = at + attribute.len();
                let open = rest + self.code[rest..].find(['{', ';'])?;
                (self.code.as_bytes()[open] == b'{').then(|| at..closing(&self.code, open) + 1)
            })
            .collect()
    }

    /// Whether byte `at` belongs to a test.
    pub fn is_test(&self, at: usize) -> bool {
        self.test_spans().iter().any(|span| span.contains(&at))
    }

    /// All functions that have a body, nested ones too.
    pub fn functions(&self) -> Vec<Function> {
        self.words("fn")
            .filter_map(|at| self.function(at))
            .collect()
    }

    fn function(&self, at: usize) -> Option<Function> {
        let rest = self.code[at + 2..].trim_start();
        let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
        if name.is_empty() {
            return None; // the type `fn(u8) -> u8`
        }
        let mut depth = 0;
        for (offset, byte) in self.code.bytes().enumerate().skip(at) {
            match byte {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth -= 1,
                b';' if depth == 0 => return None,
                b'{' if depth == 0 => {
                    let span = at..closing(&self.code, offset) + 1;
                    return Some(Function { name, span });
                }
                _ => {}
            }
        }
        None
    }

    /// The `(offset, name)` of every `mod name;` whose body is another file.
    pub fn child_modules(&self) -> Vec<(usize, String)> {
        let named = self.words("mod").filter_map(|at| {
            let rest = self.code[at + 3..].trim_start();
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            let after = rest[name.len()..].trim_start();
            (!name.is_empty() && after.starts_with(';')).then_some((at, name))
        });
        named.collect()
    }
}

/// Offsets at which `word` stands in `code` with no identifier character on either side.
pub fn word_offsets<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = code[..*at].chars().next_back();
            let after = code[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
}

/// Whether `c` can be part of an identifier.
pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The offset of the brace that closes the one at `open`; the end where there is none.
pub fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    code.len().saturating_sub(1)
}

/// Every file below `root/folder` whose name ends in `ending`, in order of its path.
pub fn files(root: &Path, folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root.join(&folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{folder}/{name}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && name != "target" => folders.push(path),
                Ok(kind) if kind.is_file() && name.ends_with(ending) => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Splits `text` into its code and its comments, each as long as the text.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut code = blank(text);
    let mut comments = blank(text);
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"//") || bytes[at..].starts_with(b"/*") {
            let end = comment_end(bytes, at);
            comments[at..end].copy_from_slice(&bytes[at..end]);
            at = end;
        } else if let Some((inside, end)) = literal(text, at) {
            code[at..inside.start].copy_from_slice(&bytes[at..inside.start]);
            code[inside.end..end].copy_from_slice(&bytes[inside.end..end]);
            at = end;
        } else {
            let next = at + text[at..].chars().next().map_or(1, char::len_utf8);
            code[at..next].copy_from_slice(&bytes[at..next]);
            at = next;
        }
    }
    let text_of = |bytes| String::from_utf8(bytes).expect("whole characters were copied");
    (text_of(code), text_of(comments))
}

fn blank(text: &str) -> Vec<u8> {
    let keep_lines = |byte| if byte == b'\n' { b'\n' } else { b' ' };
    text.bytes().map(keep_lines).collect()
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    if bytes[start + 1] == b'/' {
        let length = bytes[start..].iter().position(|byte| *byte == b'\n');
        return length.map_or(bytes.len(), |length| start + length);
    }
    let (mut depth, mut at) = (1, start + 2);
    while at < bytes.len() && depth > 0 {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

/// The literal that starts at `at`: the range between its quotes, and its end.
fn literal(text: &str, at: usize) -> Option<(Range<usize>, usize)> {
    let rest = &text[at..];
    if rest.starts_with('\'') {
        return character(text, at);
    }
    if rest.starts_with('"') {
        return Some(string(text, at + 1));
    }
    if text[..at].chars().next_back().is_some_and(is_word) {
        return None;
    }
    let prefix = ["br", "cr", "r", "b", "c"];
    let prefix = prefix.iter().find(|prefix| rest.starts_with(**prefix))?;
    let after = &rest[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let open = at + prefix.len() + hashes + 1;
    if prefix.ends_with('r') && after[hashes..].starts_with('"') {
        let close = format!("\"{}", "#".repeat(hashes));
        let end = open + text[open..].find(&close)?;
        return Some((open..end, end + close.len()));
    }
    match after.chars().next() {
        Some('"') => Some(string(text, open)),
        Some('\'') => character(text, at + prefix.len()),
        _ => None,
    }
}

fn string(text: &str, open: usize) -> (Range<usize>, usize) {
    let bytes = text.as_bytes();
    let mut at = open;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    let at = at.min(bytes.len());
    (open..at, (at + 1).min(bytes.len()))
}

/// A character literal; a lifetime is none.
fn character(text: &str, at: usize) -> Option<(Range<usize>, usize)> {
    let open = at + 1;
    let first = text[open..].chars().next()?;
    let close = if first == '\\' {
        open + 2 + text[open + 2..].find('\'')?
    } else {
        open + first.len_utf8()
    };
    text[close..]
        .starts_with('\'')
        .then_some((open..close, close + 1))
}
