//! The format of RFC 3164, `<34>Oct 11 22:14:15 host tag[7]: text`, and what is sent in its name.
//!
//! The RFC describes what was seen, so nothing is an error here but a text without a priority and
//! without a time. Where parts are missing, what is left is told apart by its signs:
//!
//! - the first word after the time is the host, unless it ends as a tag does (`su:`, `app[7]`) or
//!   has bytes that no name or address has; then there is none; one blank too many before it
//!   (Junos) means nothing;
//! - a tag is a word before a colon and a blank, with a process id in brackets or without; a
//!   colon in the middle of a word (`a::b`, `http://`) ends no tag, and with digits in brackets it
//!   needs no colon;
//! - what is neither is text, from its first byte on.

use super::cisco;
use super::time;
use super::{Format, Message, SyslogError, nonempty, wrong};
use crate::protocol::Span;

/// Longest tag and longest process id that are looked for, in bytes.
const TAG_BYTES_MAX: usize = 255;

/// How AIX passes a message on: the host follows.
const FORWARDED: &[u8] = b"Message forwarded from ";

/// What follows the host in messages of Windows that an agent sends in Snare's form.
const SNARE: &[u8] = b"\tMSWinEventLog\t";

/// What a program's repeated message becomes, without a host and a tag.
const REPEATED: &[u8] = b"last message repeated ";

/// Reads what is behind the priority, which ends at `at`.
pub(super) fn read(text: &[u8], at: usize, message: &mut Message) -> Result<(), SyslogError> {
    // ASA and NX-OS have a colon here, others a blank.
    let start = cisco::behind_colon(text, at);
    let start = start + usize::from(text.get(start) == Some(&b' '));
    if let Some((time, end)) = time::any(text, start) {
        message.time = Some(time);
        message.format = match text[start] {
            b'0'..=b'9' if text[start + 4] == b'-' => Format::Rfc3164Iso,
            _ => Format::Rfc3164,
        };
        after_time(text, end, message);
    } else if message.priority.is_some() {
        without_time(text, at, start, message);
    } else {
        return Err(wrong(0, "neither a priority nor a time"));
    }
    if message.priority.is_none() {
        message.format = Format::Rfc3164NoPriority;
    }
    Ok(())
}

fn without_time(text: &[u8], at: usize, start: usize, message: &mut Message) {
    if let Some(head) = cisco::head(text, start) {
        message.format = Format::Cisco;
        message.time = head.time;
        message.host = head.host;
        message.sequence = head.sequence;
        return content(text, head.end, message);
    }
    message.format = Format::Rfc3164NoTime;
    content(text, at, message);
}

fn after_time(text: &[u8], end: usize, message: &mut Message) {
    let at = match text.get(end) {
        // Cisco's times end with a colon, and what follows is no host.
        Some(b':') => {
            message.format = Format::Cisco;
            return content(text, cisco::behind_colon(text, end), message);
        }
        Some(_) => end + 1 + usize::from(text.get(end + 1) == Some(&b' ')),
        None => end,
    };
    // Firepower leaves out its name, and not the colon behind it.
    let nameless = cisco::behind_colon(text, at);
    if cisco::name(text, nameless).is_some() {
        return content(text, nameless, message);
    }
    let (host, at) = host(text, at);
    message.host = host;
    if host.is_none() && message.format == Format::Rfc3164 {
        message.format = Format::Rfc3164NoHost;
    }
    content(text, at, message);
}

/// The host at `at`, and where the tag and the text begin.
fn host(text: &[u8], at: usize) -> (Option<Span>, usize) {
    let rest = &text[at..];
    let Some(len) = rest.iter().position(|&byte| byte <= b' ') else {
        return (None, at);
    };
    if rest[len] != b' ' && !rest[len..].starts_with(SNARE) {
        return (None, at);
    }
    let (word, next) = (&rest[..len], at + len + 1);
    match word {
        b"-" => return (None, next),
        b"Message" if rest.starts_with(FORWARDED) => {
            let start = at + FORWARDED.len();
            let found = text[start..]
                .iter()
                .position(|&byte| byte == b' ' || byte == b':');
            if let Some(len) = found.filter(|&len| len > 0) {
                let end = start + len;
                let next = cisco::behind_colon(text, end);
                let next = next + usize::from(next == end);
                return (Some(Span::new(start, end)), next);
            }
        }
        b"last" if rest.starts_with(REPEATED) => return (None, at),
        [inner @ .., b':'] if is_host(inner) && cisco::name(text, next).is_some() => {
            return (Some(Span::new(at, at + len - 1)), next);
        }
        _ => {}
    }
    if !is_host(word) || (word.ends_with(b":") && !word.ends_with(b"::")) {
        return (None, at);
    }
    // ASA parts its host by a blank and a colon.
    (
        Some(Span::new(at, at + len)),
        cisco::behind_colon(text, next),
    )
}

/// Whether a word can be a name or an address: `host.example`, `192.0.2.1`, `2001:db8::1`,
/// `[::1]`, `user@host/relay`.
fn is_host(word: &[u8]) -> bool {
    let inner = match word {
        // What programs write in brackets first is as a rule no address: `[error]`.
        [b'[', inner @ .., b']'] if is_address(inner) => inner,
        inner => inner,
    };
    let starts = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    inner.first().is_some_and(starts)
        && inner.iter().all(|&byte| {
            byte.is_ascii_alphanumeric()
                || byte >= 0x80
                || matches!(byte, b'.' | b'-' | b'_' | b':' | b'/' | b'@' | b'%')
        })
}

/// Whether it has the bytes of an address of IP, with its zone: `192.0.2.1`, `fe80::1%eth0`.
fn is_address(inner: &[u8]) -> bool {
    let address = inner.split(|&byte| byte == b'%').next().unwrap_or_default();
    let of_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    address.iter().all(of_address) && address.iter().any(|byte| !byte.is_ascii_hexdigit())
}

/// The tag and the text.
fn content(text: &[u8], at: usize, message: &mut Message) {
    if let Some(name) = cisco::name(text, at) {
        message.format = Format::Cisco;
        message.app = Some(name.facility);
        message.msgid = Some(name.whole);
        message.message = nonempty(name.end, text.len());
        return;
    }
    let end = match tag(text, at) {
        Some(tag) => {
            message.app = Some(tag.app);
            message.procid = tag.procid;
            tag.end
        }
        None => at,
    };
    message.message = nonempty(end, text.len());
}

struct Tag {
    app: Span,
    procid: Option<Span>,
    /// Where the text begins.
    end: usize,
}

fn tag(text: &[u8], at: usize) -> Option<Tag> {
    let window = &text[at..text.len().min(at + TAG_BYTES_MAX + 1)];
    let len = window.iter().position(|&byte| !IN_TAG[usize::from(byte)])?;
    if len == 0 {
        return None;
    }
    let app = Span::new(at, at + len);
    let end = at + len;
    match text[end] {
        b':' => {
            let end = end_of_tag(text, end + 1)?;
            Some(Tag {
                app,
                procid: None,
                end,
            })
        }
        // What is left of a name in brackets that was cut in front (GDM's, as PAM logs it).
        b']' if text.get(end + 1) == Some(&b':') => {
            let end = end_of_tag(text, end + 2)?;
            Some(Tag {
                app,
                procid: None,
                end,
            })
        }
        b'[' => {
            let start = end + 1;
            let window = &text[start..text.len().min(start + TAG_BYTES_MAX + 1)];
            let ends = |&byte: &u8| byte == b']' || byte <= b' ';
            let len = window.iter().position(ends)?;
            let end = start + len + 1;
            let is_number = window[..len].iter().all(u8::is_ascii_digit);
            let end = match (window[len], text.get(end)) {
                (b']', Some(b':')) => end + 1 + usize::from(text.get(end + 1) == Some(&b' ')),
                (b']', Some(b' ')) if is_number => end + 1,
                (b']', None) => end,
                _ => return None,
            };
            Some(Tag {
                app,
                procid: nonempty(start, start + len),
                end,
            })
        }
        _ => None,
    }
}

/// Where the text begins after the colon of a tag, which a blank or the end follows.
fn end_of_tag(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at) {
        None => Some(at),
        Some(b' ' | b'\t') => Some(at + 1),
        Some(_) => None,
    }
}

/// The bytes of a tag: graphic ones but those that end it or that texts in JSON, XML and of
/// `key=value` begin with.
const IN_TAG: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 256 {
        table[byte] = !matches!(
            byte as u8,
            b':' | b'[' | b']' | b'"' | b'=' | b'{' | b'}' | b'<' | b'>' | b',' | b';' | 0x7f
        );
        byte += 1;
    }
    table
};
