//! The journal's export format, as `journalctl -o export` writes it.
//!
//! An entry is a sequence of fields and ends with an empty line. A field is `NAME=value` and a
//! newline, or, where the value is not printable text, `NAME`, a newline, the value's length
//! as 64 bits little endian, the value, and a newline
//! (<https://systemd.io/JOURNAL_EXPORT_FORMATS/>).
//!
//! However the stream is cut, the same entries come out, and memory is bounded by the limits,
//! never by a length that the stream names: a value is cut at `value_bytes_max` (that of an
//! address, `__CURSOR`, at [`ADDRESS_BYTES_MAX`] if that is more), an entry has
//! [`FIELDS_MAX`] fields and at most four times that many bytes and 64 KiB; what is more is
//! skipped exactly, and the entry is marked. An entry without its end is none.

use std::fmt;

use super::Span;

/// The most fields of an entry; the journal itself has the same limit.
pub const FIELDS_MAX: usize = 1024;
/// The longest name of a field; the journal's own are at most 64 bytes long.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest value of a field that says where the entry is (`__CURSOR`), in bytes. It is not cut
/// as others are: part of a cursor is none.
pub const ADDRESS_BYTES_MAX: usize = 1024;
/// The longest value that is believed: the journal takes at most 768 MiB.
pub const LENGTH_MAX: u64 = 1 << 30;

/// One field of an entry, as ranges of [`Entries::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name: letters, digits and underscores, if the writer keeps to the rules.
    pub name: Span,
    /// Its value, any bytes, or the first part of it.
    pub value: Span,
}

/// One entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its fields, in order; a name may come more than once.
    pub fields: Vec<Field>,
    /// Bytes of it were skipped.
    pub is_truncated: bool,
}

/// Whole entries, and the bytes that their fields lie in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Names and values.
    pub bytes: Vec<u8>,
    /// The entries, in order.
    pub list: Vec<Entry>,
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportError {
    /// A length above [`LENGTH_MAX`].
    Length(u64),
    /// Another byte than a newline behind a value.
    AfterValue(u8),
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Length(length) => {
                write!(f, "no journal: a field of {length} bytes is announced")
            }
            ExportError::AfterValue(byte) => {
                write!(f, "no journal: byte 0x{byte:02x} where a field has to end")
            }
        }
    }
}

impl std::error::Error for ExportError {}

/// Reads one stream.
#[derive(Debug)]
pub struct Parser {
    value_bytes_max: usize,
    entry_bytes_max: usize,
    state: State,
    /// Of the entry under way.
    bytes: Vec<u8>,
    entry: Entry,
    /// Where the name and the value of the field under way begin.
    name_start: usize,
    value_start: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a name, or at the start of a line.
    Name,
    /// In a value that a newline ends.
    Text,
    /// In a line that is too long to be a name.
    Skip,
    /// In a length, with so many bytes of it.
    Length(u64, u32),
    /// In a value, of which so many bytes are to come.
    Binary(u64),
    /// Behind such a value.
    AfterBinary,
    Failed(ExportError),
}

impl Parser {
    /// A parser at the start of a stream.
    pub fn new(value_bytes_max: usize) -> Parser {
        Parser {
            value_bytes_max,
            entry_bytes_max: value_bytes_max.saturating_mul(4).saturating_add(64 << 10),
            state: State::Name,
            bytes: Vec::new(),
            entry: Entry::default(),
            name_start: 0,
            value_start: 0,
        }
    }

    /// Takes the next bytes and adds every entry that they complete.
    ///
    /// # Errors
    /// It is not what it should be; nothing after that is read, and the error stays.
    pub fn push(&mut self, bytes: &[u8], entries: &mut Entries) -> Result<(), ExportError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (state, used) = match self.state {
                State::Name => self.name(rest, entries),
                State::Text => self.text(rest),
                State::Skip => match memchr::memchr(b'\n', rest) {
                    Some(end) => (State::Name, end + 1),
                    None => (State::Skip, rest.len()),
                },
                State::Length(sum, digits) => self.length(rest[0], sum, digits),
                State::Binary(left) => self.binary(rest, left),
                State::AfterBinary if rest[0] == b'\n' => {
                    self.end_field();
                    (State::Name, 1)
                }
                State::AfterBinary => (State::Failed(ExportError::AfterValue(rest[0])), 0),
                State::Failed(error) => return Err(error),
            };
            self.state = state;
            rest = &rest[used..];
        }
        match self.state {
            State::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the stream is inside an entry.
    pub fn is_inside(&self) -> bool {
        !matches!(self.state, State::Name) || !self.bytes.is_empty()
    }

    fn name(&mut self, rest: &[u8], entries: &mut Entries) -> (State, usize) {
        let held = self.bytes.len() - self.name_start;
        let Some(end) = memchr::memchr2(b'=', b'\n', rest) else {
            if held + rest.len() > NAME_BYTES_MAX {
                return (self.skip_line(), rest.len());
            }
            self.bytes.extend_from_slice(rest);
            return (State::Name, rest.len());
        };
        if held + end > NAME_BYTES_MAX || (held + end == 0 && rest[end] == b'=') {
            // From here, so that a newline is seen.
            return (self.skip_line(), end);
        }
        self.bytes.extend_from_slice(&rest[..end]);
        self.value_start = self.bytes.len();
        let state = match rest[end] {
            b'=' => State::Text,
            _ if held + end == 0 => {
                self.end_entry(entries);
                State::Name
            }
            _ => State::Length(0, 0),
        };
        (state, end + 1)
    }

    fn skip_line(&mut self) -> State {
        self.bytes.truncate(self.name_start);
        self.entry.is_truncated = true;
        State::Skip
    }

    fn text(&mut self, rest: &[u8]) -> (State, usize) {
        match memchr::memchr(b'\n', rest) {
            Some(end) => {
                self.keep(&rest[..end]);
                self.end_field();
                (State::Name, end + 1)
            }
            None => {
                self.keep(rest);
                (State::Text, rest.len())
            }
        }
    }

    fn length(&mut self, byte: u8, sum: u64, digits: u32) -> (State, usize) {
        let sum = sum | u64::from(byte) << (8 * digits);
        let state = match digits {
            7 if sum > LENGTH_MAX => State::Failed(ExportError::Length(sum)),
            7 if sum == 0 => State::AfterBinary,
            7 => State::Binary(sum),
            _ => State::Length(sum, digits + 1),
        };
        (state, 1)
    }

    fn binary(&mut self, rest: &[u8], left: u64) -> (State, usize) {
        let used = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.keep(&rest[..used]);
        match left - used as u64 {
            0 => (State::AfterBinary, used),
            left => (State::Binary(left), used),
        }
    }

    /// Adds to the value under way what there is room for.
    fn keep(&mut self, part: &[u8]) {
        let value = self.bytes.len() - self.value_start;
        let is_address = self.bytes[self.name_start..].starts_with(b"__");
        let value_bytes_max = match is_address {
            true => self.value_bytes_max.max(ADDRESS_BYTES_MAX),
            false => self.value_bytes_max,
        };
        let in_value = value_bytes_max.saturating_sub(value);
        let in_entry = self.entry_bytes_max.saturating_sub(self.bytes.len());
        let kept = part.len().min(in_value).min(in_entry);
        self.bytes.extend_from_slice(&part[..kept]);
        self.entry.is_truncated |= kept < part.len();
    }

    fn end_field(&mut self) {
        if self.entry.fields.len() < FIELDS_MAX {
            self.entry.fields.push(Field {
                name: Span::new(self.name_start, self.value_start),
                value: Span::new(self.value_start, self.bytes.len()),
            });
        } else {
            self.bytes.truncate(self.name_start);
            self.entry.is_truncated = true;
        }
        self.name_start = self.bytes.len();
    }

    fn end_entry(&mut self, entries: &mut Entries) {
        let mut entry = std::mem::take(&mut self.entry);
        let at = entries.bytes.len();
        for field in &mut entry.fields {
            field.name = moved(field.name, at);
            field.value = moved(field.value, at);
        }
        if !entry.fields.is_empty() {
            entries.bytes.extend_from_slice(&self.bytes);
            entries.list.push(entry);
        }
        self.bytes.clear();
        self.name_start = 0;
    }
}

fn moved(span: Span, by: usize) -> Span {
    Span::new(span.start as usize + by, span.end as usize + by)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shown(entries: &Entries) -> Vec<Vec<(String, String)>> {
        let text = |span: Span| String::from_utf8_lossy(span.of(&entries.bytes)).into_owned();
        let fields = |entry: &Entry| {
            let fields = entry.fields.iter();
            fields
                .map(|field| (text(field.name), text(field.value)))
                .collect()
        };
        entries.list.iter().map(fields).collect()
    }

    fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        fields.iter().map(owned).collect()
    }

    const STREAM: &[u8] = b"__CURSOR=s=1;i=2\nMESSAGE=a=b\n\nMESSAGE\n\x04\0\0\0\0\0\0\0x\ny\n\n\n\
                            EMPTY=\nNONE\n\0\0\0\0\0\0\0\0\n\n\n";

    #[test]
    fn the_same_entries_however_the_stream_is_cut() {
        let expected = vec![
            pairs(&[("__CURSOR", "s=1;i=2"), ("MESSAGE", "a=b")]),
            pairs(&[("MESSAGE", "x\ny\n")]),
            pairs(&[("EMPTY", ""), ("NONE", "")]),
        ];
        for first in 0..=STREAM.len() {
            for second in first..=STREAM.len() {
                let mut parser = Parser::new(100);
                let mut entries = Entries::default();
                for part in [&STREAM[..first], &STREAM[first..second], &STREAM[second..]] {
                    parser.push(part, &mut entries).unwrap();
                }
                assert_eq!(shown(&entries), expected, "cut at {first} and {second}");
                assert!(!parser.is_inside());
            }
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_said() {
        let mut parser = Parser::new(3);
        let mut entries = Entries::default();
        let long = format!(
            "A=1234\nB\n\x05\0\0\0\0\0\0\056789\n{}=x\nC=ok\n\n",
            "N".repeat(300)
        );
        parser.push(long.as_bytes(), &mut entries).unwrap();
        let expected = pairs(&[("A", "123"), ("B", "567"), ("C", "ok")]);
        assert_eq!(shown(&entries), [expected]);
        assert!(entries.list[0].is_truncated);
        let fields = "F=1\n".repeat(FIELDS_MAX + 5) + "\nA=1\n\n";
        let mut entries = Entries::default();
        parser.push(fields.as_bytes(), &mut entries).unwrap();
        assert_eq!(entries.list[0].fields.len(), FIELDS_MAX);
        assert!(entries.list[0].is_truncated && !entries.list[1].is_truncated);
    }

    #[test]
    fn the_address_of_an_entry_is_whole_however_short_values_are_cut() {
        let cursor = format!("s={0};i=4b1;b={0};m=1;t=5f;x=1", "0a".repeat(16));
        let mut parser = Parser::new(16);
        let mut entries = Entries::default();
        let stream = format!("__CURSOR={cursor}\nMESSAGE=short\n\n");
        parser.push(stream.as_bytes(), &mut entries).unwrap();
        let expected = pairs(&[("__CURSOR", &cursor), ("MESSAGE", "short")]);
        assert_eq!(shown(&entries), [expected]);
        assert!(!entries.list[0].is_truncated);
        let long = format!("__CURSOR={}\n\n", "x".repeat(2 * ADDRESS_BYTES_MAX));
        let mut entries = Entries::default();
        parser.push(long.as_bytes(), &mut entries).unwrap();
        assert_eq!(entries.list[0].fields[0].value.len(), ADDRESS_BYTES_MAX);
        assert!(entries.list[0].is_truncated);
    }

    #[test]
    fn what_is_no_journal_is_not_read_on() {
        let check = |stream: &[u8], error| {
            let mut parser = Parser::new(100);
            let mut entries = Entries::default();
            assert_eq!(parser.push(stream, &mut entries), Err(error));
            assert_eq!(parser.push(b"A=1\n\n", &mut entries), Err(error));
            assert_eq!(entries.list, []);
        };
        check(b"A\n\0\0\0\0\0\0\0\x01", ExportError::Length(1 << 56));
        check(b"A\n\x01\0\0\0\0\0\0\0xy", ExportError::AfterValue(b'y'));
    }
}
