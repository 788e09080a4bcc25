//! `parse = { regex = '…' }`: named groups of a regular expression become fields.
//!
//! The engine takes time linear in the text, whatever the pattern (no backtracking). It works on
//! bytes; a group that took no part is absent.

use regex::bytes::{CaptureLocations, Regex as Engine, RegexBuilder};

use super::place::Place;
use super::{List, Parser, Reason};
use crate::event::Key;
use crate::pipeline::options::Mistake;
use crate::protocol;

/// Largest compiled pattern, in bytes.
const PROGRAM_BYTES_MAX: usize = 4 << 20;

/// The parser.
pub(super) struct Regex {
    engine: Engine,
    /// Group number and field.
    groups: Vec<(usize, Key)>,
    locations: CaptureLocations,
}

impl Regex {
    /// Compiles the pattern.
    ///
    /// # Errors
    /// It is no regular expression, too large, or has no named group.
    pub(super) fn new(pattern: &str) -> Result<Regex, Mistake> {
        let engine = RegexBuilder::new(pattern)
            .size_limit(PROGRAM_BYTES_MAX)
            .build();
        let engine = engine.map_err(|error| explain(&error))?;
        let named = engine.capture_names().enumerate();
        let groups: Vec<_> = named
            .filter_map(|(group, name)| Some((group, Key::Shared(name?.into()))))
            .collect();
        if groups.is_empty() {
            return Err(
                Mistake::new("this pattern has no named group, so it gives no field")
                    .help("name one, as in `(?<user>\\S+)`"),
            );
        }
        let locations = engine.capture_locations();
        Ok(Regex {
            engine,
            groups,
            locations,
        })
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
        if self
            .engine
            .captures_read(&mut self.locations, text)
            .is_none()
        {
            return Err("the pattern does not match".into());
        }
        found.reserve(self.groups.len());
        for (group, key) in &self.groups {
            if let Some((start, end)) = self.locations.get(*group) {
                let part = protocol::Span::new(start, end);
                found.push(key.clone(), place.text_slot(part));
            }
        }
        Ok(())
    }
}
