//! The document as an owned tree of nodes with places: the only user of the TOML parser.
//!
//! [`parse`] never fails: it gives what could be made of the text, and the syntax mistakes.
//! Keys stand in the order of the file. A table written with dotted keys or in several pieces
//! is one node.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::pipeline::options::Place;

/// A value with the place of all of it.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub data: Data,
    /// From its first byte to its last, quotes and brackets included; of a `[table]` its
    /// header, of a table made by dotted keys its key.
    pub place: Place,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Data {
    /// A string, decoded.
    Text(String),
    /// A whole number; `None` where it does not fit.
    Integer(Option<i64>),
    /// A number with a fraction or exponent.
    Float(f64),
    /// `true` or `false`.
    Flag(bool),
    /// A date or time, as text.
    Date(String),
    /// An array.
    List(Vec<Node>),
    /// A table.
    Table(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key, decoded.
    pub key: String,
    /// Where it stands, quotes included.
    pub key_place: Place,
    /// Its value.
    pub node: Node,
}

impl Data {
    /// What was found, for messages: `the number 30`, `a list`, `"abc"`.
    pub fn found(&self, source: &str) -> String {
        match self {
            Data::Text(text) => format!("the string \"{}\"", shorten(text)),
            Data::Integer(_) | Data::Float(_) => format!("the number {}", shorten(source)),
            Data::Flag(flag) => format!("{flag}"),
            Data::Date(_) => format!("the date {}", shorten(source)),
            Data::List(_) => "a list".into(),
            Data::Table(_) => "a table".into(),
        }
    }
}

/// At most 40 characters, on one line.
pub fn shorten(text: &str) -> String {
    const LONGEST: usize = 40;
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.chars().count() <= LONGEST {
        return line;
    }
    let mut cut: String = line.chars().take(LONGEST - 1).collect();
    cut.push('…');
    cut
}

/// A syntax mistake as the parser reported it: its message and byte range.
pub struct SyntaxError {
    /// The parser's words.
    pub message: String,
    /// Start and end; both the length of the text where the parser gave none.
    pub span: (usize, usize),
}

/// The tree of a file's text, and what was wrong with its syntax.
pub fn parse(text: &str, file: u16) -> (Vec<Entry>, Vec<SyntaxError>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let errors = errors
        .iter()
        .map(|error| SyntaxError {
            message: error.message().to_owned(),
            span: error
                .span()
                .map_or((text.len(), text.len()), |span| (span.start, span.end)),
        })
        .collect();
    (entries(table.get_ref(), file), errors)
}

fn entries(table: &DeTable<'_>, file: u16) -> Vec<Entry> {
    let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| Entry {
        key: key.get_ref().to_string(),
        key_place: place(file, key.span()),
        node: node(value, file),
    };
    let mut all: Vec<Entry> = table.iter().map(entry).collect();
    all.sort_by_key(|entry| entry.key_place.start);
    all
}

fn node(value: &Spanned<DeValue<'_>>, file: u16) -> Node {
    let data = match value.get_ref() {
        DeValue::String(text) => Data::Text(text.to_string()),
        DeValue::Integer(number) => {
            Data::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Float(number) => Data::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Data::Flag(*flag),
        DeValue::Datetime(date) => Data::Date(date.to_string()),
        DeValue::Array(items) => Data::List(items.iter().map(|item| node(item, file)).collect()),
        DeValue::Table(table) => Data::Table(entries(table, file)),
    };
    Node {
        data,
        place: place(file, value.span()),
    }
}

/// Files are bounded to 16 MiB where they are read, so 32 bits hold every offset.
fn place(file: u16, span: std::ops::Range<usize>) -> Place {
    Place {
        file,
        start: span.start as u32,
        end: span.end as u32,
    }
}
