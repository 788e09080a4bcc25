//! `parse = { regex = '…' }`: named groups of a regular expression become fields.
//!
//! The engine takes time linear in the text, whatever the pattern (no backtracking). It works on
//! bytes; a group that took no part is absent.
//!
//! Where a text is ASCII, as most are, what a pattern says of other characters is of no account,
//! and the same pattern without them is a smaller program. Both are kept.

use regex::bytes::{CaptureLocations, Regex as Engine, RegexBuilder};

use super::place::Place;
use super::{List, Parser, Reason};
use crate::event::{Field, Key};
use crate::pipeline::options::Mistake;
use crate::protocol;

/// Largest compiled pattern, in bytes.
const PROGRAM_BYTES_MAX: usize = 4 << 20;

/// The parser.
pub(super) struct Regex {
    any: Program,
    /// For texts of ASCII, where the pattern can be had without Unicode.
    ascii: Option<Program>,
    /// Group number and field.
    groups: Vec<(usize, Key)>,
}

/// A compiled pattern with the room for what it finds.
struct Program {
    engine: Engine,
    locations: CaptureLocations,
}

impl Regex {
    /// Compiles the pattern.
    ///
    /// # Errors
    /// It is no regular expression, too large, or has no named group.
    pub(super) fn new(pattern: &str) -> Result<Regex, Mistake> {
        let any = Program::compile(pattern, true).map_err(|error| explain(&error))?;
        let named = any.engine.capture_names().enumerate();
        let groups: Vec<_> = named
            .filter_map(|(group, name)| Some((group, Key::named(name?))))
            .collect();
        if groups.is_empty() {
            return Err(
                Mistake::new("this pattern has no named group, so it gives no field")
                    .help("name one, as in `(?<user>\\S+)`"),
            );
        }
        Ok(Regex {
            any,
            ascii: Program::of_ascii(pattern),
            groups,
        })
    }
}

impl Program {
    /// Without `unicode`, classes, boundaries and case are those of ASCII; on a text of ASCII
    /// that is no difference.
    fn compile(pattern: &str, unicode: bool) -> Result<Program, regex::Error> {
        let mut builder = RegexBuilder::new(pattern);
        builder.size_limit(PROGRAM_BYTES_MAX).unicode(unicode);
        if pattern.starts_with('^') {
            // The engine finds out where a match is before it looks for the groups. Such a match
            // is at the start; without room for that search it is left out.
            builder.dfa_size_limit(0);
        }
        let engine = builder.build()?;
        let locations = engine.capture_locations();
        Ok(Program { engine, locations })
    }

    /// The program for texts of ASCII, where there can be one. A pattern that names another
    /// character has none: where case does not matter a long s would be an s.
    fn of_ascii(pattern: &str) -> Option<Program> {
        let mut by_number = ["\\x", "\\u", "\\U"].into_iter();
        if !pattern.is_ascii() || by_number.any(|escape| pattern.contains(escape)) {
            return None;
        }
        Program::compile(pattern, false).ok()
    }

    /// Where the groups are, if the pattern matches.
    fn read(&mut self, text: &[u8]) -> Option<&CaptureLocations> {
        self.engine.captures_read(&mut self.locations, text)?;
        Some(&self.locations)
    }
}

/// The check of the option.
pub(super) fn check(pattern: &str) -> Result<(), Mistake> {
    Regex::new(pattern).map(drop)
}

/// The engine's message without its drawing; the drawing's caret gives the offset.
fn explain(error: &regex::Error) -> Mistake {
    let regex::Error::Syntax(text) = error else {
        return Mistake::new(format!("this pattern is too large: {error}"));
    };
    let message = text.lines().find_map(|line| line.strip_prefix("error: "));
    let message = message.unwrap_or("it cannot be compiled");
    let mistake = Mistake::new(format!("this is no regular expression: {message}"));
    // The drawing indents a one-line pattern and its carets by four blanks.
    // It is the line behind the pattern, which may begin with `^` itself.
    let carets = text
        .lines()
        .nth(2)
        .filter(|line| line.trim_start().starts_with('^'));
    match carets {
        Some(line) => {
            let len = line.trim().len();
            let columns = line.len() - line.trim_start().len();
            let pattern = text.lines().nth(1).and_then(|line| line.get(4..));
            mistake.at(
                offset_of(pattern.unwrap_or(""), columns.saturating_sub(4)),
                len,
            )
        }
        None => mistake,
    }
}

/// The byte that a column, counted in characters, is.
fn offset_of(pattern: &str, column: usize) -> usize {
    let byte = pattern.char_indices().nth(column).map(|(at, _)| at);
    byte.unwrap_or(pattern.len())
}

impl Parser for Regex {
    fn parse(&mut self, place: &Place<'_>, found: &mut List<'_>) -> Result<(), Reason> {
        let text = place.bytes();
        let program = match &mut self.ascii {
            Some(ascii) if text.is_ascii() => ascii,
            _ => &mut self.any,
        };
        let locations = program.read(text).ok_or("the pattern does not match")?;
        found.reserve(self.groups.len());
        // The engine lets no two groups have one name.
        found.fill(|list| {
            for (group, key) in &self.groups {
                if let Some((start, end)) = locations.get(*group) {
                    let slot = place.text_slot(protocol::Span::new(start, end));
                    let key = key.clone();
                    list.push(Field { key, slot });
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(program: &mut Program, text: &[u8]) -> Option<Vec<Option<(usize, usize)>>> {
        let locations = program.read(text)?;
        let groups = 0..locations.len();
        Some(groups.map(|group| locations.get(group)).collect())
    }

    #[test]
    fn without_unicode_the_same_is_found_in_ascii() {
        let patterns = [
            r"(?<a>\w+)\b(?<b>\W*)",
            r"(?<a>\S+)\s+(?<b>\d+)?",
            r"(?i)(?<a>[k-s]+)(?<b>[^K]*)$",
            r"(?<a>[^ ]*) (?<b>.*)",
            r"\B(?<a>.)(?<b>[[:^alpha:]]+)",
            r"(?s-u:(?<a>.).)(?<b>[\w&&[^_]]*)",
            r"(?<a>(?u:\w)+)(?<b>[^a]*)",
        ];
        let mut texts: Vec<Vec<u8>> = (0..128).map(|byte| vec![byte]).collect();
        texts.extend((0..128).map(|byte| vec![b'k', byte, b' ', b'S', byte, b'7', 0]));
        texts.push((0..128).collect());
        texts.push(Vec::new());
        for pattern in patterns {
            let mut any = Program::compile(pattern, true).unwrap();
            let mut ascii = Program::of_ascii(pattern).unwrap();
            for text in &texts {
                let (one, two) = (found(&mut any, text), found(&mut ascii, text));
                assert_eq!(one, two, "{pattern} in {text:?}");
            }
        }
        let others = [
            r"(?<a>\p{L}+)",
            r"(?i)(?<a>[ſ])",
            r"(?i)(?<a>ſ)",
            r"(?i)(?<a>\x{17f})",
            r"(?<a>[^\x{ff}])",
        ];
        for pattern in others {
            assert!(Program::compile(pattern, true).is_ok());
            assert!(Program::of_ascii(pattern).is_none(), "{pattern}");
        }
    }
}
