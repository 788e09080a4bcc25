//! A log record: what one call of a `tracing` macro said, with every value bounded.
//!
//! Values are cut to [`VALUE_BYTES_MAX`] while they are printed, so that a megabyte from a
//! peer is never built up; the message, `error` and `report` may be longer,
//! [`TEXT_BYTES_MAX`]. A value whose own formatting fails or panics becomes [`UNPRINTABLE`] and
//! the rest of the record stays. Escaping is the format's business, not done here.

use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use tracing::field::{Field, Visit};

use crate::time::WallTime;

/// The most bytes of one field's value.
pub const VALUE_BYTES_MAX: usize = 256;
/// The most bytes of the message and of the fields `error` and `report`.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The most fields of one record; more are left out.
pub const FIELDS_MAX: usize = 32;
/// Stands for a value that could not be printed.
pub const UNPRINTABLE: &str = "<unprintable>";

/// How important a record is, most important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Something is lost or broken.
    Error,
    /// Something is wrong and the daemon goes on.
    Warn,
    /// What an operator wants to read on a good day.
    #[default]
    Info,
    /// Single connections, retries, requests.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The words of the config, in the order of the variants.
    pub const WORDS: [&'static str; 5] = ["error", "warn", "info", "debug", "trace"];

    /// The word of the config.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// syslog's severity number (RFC 5424, table 2).
    pub fn severity(self) -> u8 {
        match self {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        }
    }
}

impl From<&tracing::Level> for Level {
    fn from(level: &tracing::Level) -> Self {
        match *level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        }
    }
}

/// No level has this name.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;
    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        use Level::{Debug, Error, Info, Trace, Warn};
        let levels = [Error, Warn, Info, Debug, Trace];
        let found = levels.into_iter().find(|level| level.word() == word);
        found.ok_or(UnknownLevel)
    }
}

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text, cut, not yet escaped.
    Text(String),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A fraction.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Int(number) => number.fmt(f),
            Value::Uint(number) => number.fmt(f),
            Value::Float(number) => number.fmt(f),
            Value::Bool(yes) => yes.fmt(f),
        }
    }
}

/// One log record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When it was logged.
    pub time: WallTime,
    /// How important it is.
    pub level: Level,
    /// Whose it is: `source.syslog`, `daemon`, or the room of the code that logged it.
    pub component: String,
    /// The stable name of what happened, in snake_case; empty where the code gave none.
    pub event: String,
    /// One sentence for a person.
    pub message: String,
    /// Everything else, in the order in which it was given.
    pub fields: Vec<(&'static str, Value)>,
    /// Where in the code it comes from; with component and kind the key of a storm.
    pub callsite: usize,
}

impl Record {
    /// A record of telemetry itself.
    pub fn own(time: WallTime, level: Level, event: &str, message: String) -> Record {
        Record {
            time,
            level,
            component: "log".to_owned(),
            event: event.to_owned(),
            message,
            fields: Vec::new(),
            callsite: 0,
        }
    }

    /// The value of the field `name`.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let found = self.fields.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| value)
    }

    fn put(&mut self, name: &'static str, value: Value) {
        let text = match (name, value) {
            ("component" | "event" | "message", value) => value.to_string(),
            (_, value) => {
                if self.fields.len() < FIELDS_MAX {
                    self.fields.push((name, value));
                }
                return;
            }
        };
        match name {
            "component" => self.component = text,
            "event" => self.event = text,
            _ => self.message = text,
        }
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        let name = field.name();
        self.put(name, Value::Text(cut(value, limit(name))));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        self.put(name, Value::Text(print(value, limit(name))));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::Uint(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::Bool(value));
    }
}

fn limit(field: &str) -> usize {
    match field {
        "message" | "error" | "report" => TEXT_BYTES_MAX,
        _ => VALUE_BYTES_MAX,
    }
}

/// At most `limit` bytes of `text`, with `…` in place of what was left out.
pub fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(ELLIPSIS.len_utf8());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at));
    format!("{}{ELLIPSIS}", &text[..end.unwrap_or(0)])
}

const ELLIPSIS: char = '…';

/// What `value` prints, cut; a substitute where printing fails or panics.
fn print(value: &dyn fmt::Debug, limit: usize) -> String {
    let mut text = Bounded {
        text: String::new(),
        limit,
    };
    // Unwind safety: the half-written text is thrown away.
    let printed = catch_unwind(AssertUnwindSafe(|| write!(text, "{value:?}")));
    match printed {
        Ok(Ok(())) => cut(&text.text, limit),
        _ => UNPRINTABLE.to_owned(),
    }
}

/// Text that stops growing one piece after its limit, without telling the printer.
struct Bounded {
    text: String,
    limit: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.text.len() <= self.limit {
            let room = self.limit + 1 - self.text.len();
            let end = (0..=piece.len().min(room + 3))
                .rev()
                .find(|at| piece.is_char_boundary(*at));
            self.text.push_str(&piece[..end.unwrap_or(0)]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_at_a_character() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "lo…");
        assert_eq!(cut("äöüäöü", 8), "äö…");
        assert_eq!(cut("äöüäöü", 9), "äöü…");
        assert_eq!(
            print(&format_args!("{}", "x".repeat(1 << 20)), 256).len(),
            256
        );
    }

    #[test]
    fn c_424_what_cannot_be_printed_has_a_substitute() {
        struct Panics;
        impl fmt::Debug for Panics {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("in Debug")
            }
        }
        struct Fails;
        impl fmt::Debug for Fails {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                Err(fmt::Error)
            }
        }
        assert_eq!(print(&Panics, 256), UNPRINTABLE);
        assert_eq!(print(&Fails, 256), UNPRINTABLE);
    }

    #[test]
    fn levels_have_words() {
        for word in Level::WORDS {
            assert_eq!(word.parse::<Level>().map(Level::word), Ok(word));
        }
        assert_eq!("INFO".parse::<Level>(), Err(UnknownLevel));
    }
}
