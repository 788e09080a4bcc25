//! Syslog messages: RFC 5424, RFC 3164, and what devices send in its place, told apart by
//! themselves, as ranges of the text and without an allocation.
//!
//! ```text
//! <165>1 2003-10-11T22:14:15.003Z host app 1 ID47 [a@1 x="y"] text      rfc5424.rs
//! <34>Oct 11 22:14:15 mymachine su[7]: text                             rfc3164.rs
//! <189>45: router1: *Mar  1 18:48:50.483 UTC: %SYS-5-CONFIG_I: text     cisco.rs
//! ```
//!
//! What is not there is absent: a message without a priority gets none (RFC 3164, 4.3.3, has a
//! relay make one up). What is wrong only in its form is read and counted; a priority that is
//! none, a broken RFC 5424 header, and a text that has neither a priority nor a time in front
//! are refused with a reason. CR, LF and NUL at the end belong to the transport.
//!
//! A time may lack its year and its zone: [`resolve`] finds the instant, given now and a zone.

mod cisco;
mod priority;
mod rfc3164;
mod rfc5424;
mod structured_data;
mod time;

use std::fmt;

pub use priority::{FACILITIES, PRIORITY_MAX, Priority, SEVERITIES};
pub use time::{AHEAD_DAYS_MAX, LocalOffsets, Offsets, Time, YEARS_BACK_MAX, resolve};

use super::frames::{CHUNK_BYTES_MAX, Span};
use super::octet_counted::COUNT_DIGITS_MAX;

/// Longest HOSTNAME of RFC 5424, in bytes.
pub const HOST_BYTES_MAX: usize = 255;
/// Longest APP-NAME of RFC 5424, in bytes.
pub const APP_BYTES_MAX: usize = 48;
/// Longest PROCID of RFC 5424, in bytes.
pub const PROCID_BYTES_MAX: usize = 128;
/// Longest MSGID of RFC 5424, in bytes.
pub const MSGID_BYTES_MAX: usize = 32;

/// What a message turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// RFC 5424.
    #[default]
    Rfc5424,
    /// RFC 5424 whose structured data is missing, not even `-`.
    Rfc5424NoData,
    /// RFC 3164: priority, time, host.
    Rfc3164,
    /// As RFC 3164, with a time of ISO 8601.
    Rfc3164Iso,
    /// As RFC 3164 without a host, as programs write to `/dev/log`.
    Rfc3164NoHost,
    /// A priority and no time: a tag and text, or text alone.
    Rfc3164NoTime,
    /// As RFC 3164 without a priority, as in files of `/var/log`.
    Rfc3164NoPriority,
    /// Cisco's: a sequence number or a time mark in front, or a `%FACILITY-n-NAME:`.
    Cisco,
}

impl Format {
    /// Every format, in the order of their codes.
    pub const ALL: [Format; 8] = [
        Format::Rfc5424,
        Format::Rfc5424NoData,
        Format::Rfc3164,
        Format::Rfc3164Iso,
        Format::Rfc3164NoHost,
        Format::Rfc3164NoTime,
        Format::Rfc3164NoPriority,
        Format::Cisco,
    ];

    /// Its name in tables and counts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Rfc5424 => "rfc5424",
            Format::Rfc5424NoData => "rfc5424_no_data",
            Format::Rfc3164 => "rfc3164",
            Format::Rfc3164Iso => "rfc3164_iso",
            Format::Rfc3164NoHost => "rfc3164_no_host",
            Format::Rfc3164NoTime => "rfc3164_no_time",
            Format::Rfc3164NoPriority => "rfc3164_no_priority",
            Format::Cisco => "cisco",
        }
    }
}

/// A message; ranges are of the text that was read, and none is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub format: Format,
    /// Facility and severity.
    pub priority: Option<Priority>,
    /// When it was made; year and zone may be missing.
    pub time: Option<Time>,
    /// Where: a name or an address, as it is written.
    pub host: Option<Span>,
    /// APP-NAME, the tag without its process id, or the facility of a Cisco message.
    pub app: Option<Span>,
    /// PROCID, or what stands in brackets behind the tag.
    pub procid: Option<Span>,
    /// MSGID, or `SYS-5-CONFIG_I` of a Cisco message.
    pub msgid: Option<Span>,
    /// All elements, with their brackets and escapes.
    pub structured_data: Option<Span>,
    /// The text, without byte order mark.
    pub message: Option<Span>,
    /// `meta sequenceId` of the structured data, or Cisco's sequence number.
    pub sequence: Option<u64>,
    /// How many fields are longer than RFC 5424 allows; they are whole nevertheless.
    pub overlong: u8,
}

/// Why a text is not a syslog message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyslogError {
    /// Offset in bytes of what is wrong.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for SyslogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

impl std::error::Error for SyslogError {}

fn wrong(offset: usize, what: &'static str) -> SyslogError {
    SyslogError { offset, what }
}

/// Reads one message.
///
/// # Errors
/// It is empty, its priority is none, its RFC 5424 header is broken, or it has neither a priority
/// nor a time.
pub fn parse(text: &[u8]) -> Result<Message, SyslogError> {
    let mut message = Message::default();
    parse_into(text, &mut message)?;
    Ok(message)
}

/// As [`parse`], in the place of the message before: a message is large to be moved about. After
/// an error there is nothing of use in it.
///
/// # Errors
/// As [`parse`].
pub fn parse_into(text: &[u8], message: &mut Message) -> Result<(), SyslogError> {
    *message = Message::default();
    if text.len() > CHUNK_BYTES_MAX {
        return Err(wrong(CHUNK_BYTES_MAX, "text is longer than 4 GiB"));
    }
    let text = trimmed(text);
    let at = match text.first() {
        Some(b'<') => {
            let (priority, at) = priority::read(text)?;
            message.priority = Some(priority);
            at
        }
        Some(_) => 0,
        None => return Err(wrong(0, "the message is empty")),
    };
    if at > 0 && rfc5424::begins(&text[at..]) {
        rfc5424::read(text, at, message)?;
    } else {
        rfc3164::read(text, at, message)?;
    }
    message.overlong = overlong(message);
    Ok(())
}

/// How many bytes of `text` are an octet count (RFC 6587, 3.4.1) of exactly the message behind it,
/// with a line end of two bytes at most that was cut off before.
/// Some senders write one into datagrams, where it says nothing that the datagram does not.
pub fn count_bytes(text: &[u8]) -> usize {
    if !matches!(text.first(), Some(b'1'..=b'9')) {
        return 0;
    }
    let digits = text.iter().take(COUNT_DIGITS_MAX as usize + 1);
    let digits = digits.take_while(|byte| byte.is_ascii_digit()).count();
    let number = text[..digits].iter();
    let number = number.fold(0, |n: u64, digit| n * 10 + u64::from(digit - b'0'));
    match &text[digits..] {
        [b' ', message @ ..] if message.first() == Some(&b'<') => {
            let cut_bytes = number.checked_sub(message.len() as u64);
            let is_it = matches!(cut_bytes, Some(0..=2));
            if is_it { digits + 1 } else { 0 }
        }
        _ => 0,
    }
}

/// The text without what transports and C programs leave at its end.
fn trimmed(text: &[u8]) -> &[u8] {
    let mut text = text;
    while let [rest @ .., b'\r' | b'\n' | 0] = text {
        text = rest;
    }
    text
}

fn overlong(message: &Message) -> u8 {
    let beyond = |span: Option<Span>, max| u8::from(span.is_some_and(|span| span.len() > max));
    beyond(message.host, HOST_BYTES_MAX)
        + beyond(message.app, APP_BYTES_MAX)
        + beyond(message.procid, PROCID_BYTES_MAX)
        + beyond(message.msgid, MSGID_BYTES_MAX)
}

/// A range that is absent where it is empty.
fn nonempty(start: usize, end: usize) -> Option<Span> {
    (start < end).then(|| Span::new(start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_listed_in_the_order_of_their_codes() {
        for (index, format) in Format::ALL.into_iter().enumerate() {
            assert_eq!(format as usize, index, "{format:?}");
        }
    }

    #[test]
    fn a_count_is_one_of_the_message_behind_it_and_nothing_else() {
        let check = |text: &str, expected| assert_eq!(count_bytes(text.as_bytes()), expected);
        check("8 <34>a b\n", 2);
        check("10 <34>a: bcd", 3);
        check("7 <34>a b\n", 0);
        check("8 <34>a b", 2);
        check("9 <34>a b", 2);
        check("10 <34>a b", 0);
        check("08 <34>a b\n", 0);
        check("5 hello", 0);
        check("12345678901 <34>a", 0);
        check("2026 <34>x", 0);
        check("7", 0);
        check("", 0);
    }
}
