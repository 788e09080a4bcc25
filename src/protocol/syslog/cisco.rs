//! What Cisco's devices put where others have a host, and the name of a message.
//!
//! ```text
//! IOS     45: router1: 000045: *Mar  1 18:48:50.483 UTC: %SYS-5-CONFIG_I: text
//! IOS XR  2341: RP/0/RSP0/CPU0:Nov 27 10:00:00.123 UTC: config[65742]: text
//! NX-OS   : 2026 Nov 27 10:00:00 UTC: %ETHPORT-5-IF_UP: text
//! AireOS  wlc1: *apfTask_1: Nov 27 10:00:00.123: %APF-6-NAME: text
//! ```
//! Message count, origin and sequence number are all optional, and so is the time, in whose place
//! there may be how long the device is up (`00:00:46:`, `1w2d:`), which is no instant. An origin
//! alone proves nothing, since `app: 2026-11-27 10:00:00 text` is a program's line: it counts
//! where a number, a mark before the time or a message's name says that this is Cisco's.

use super::time::{self, Time};
use crate::protocol::Span;

/// Most parts that end with a colon in front: a count, an origin, a sequence number.
const PARTS_MAX: usize = 3;

/// Longest part, in bytes.
const PART_BYTES_MAX: usize = 64;

/// Longest `%FACILITY-n-NAME`, in bytes.
const NAME_BYTES_MAX: usize = 96;

/// What stands before the text of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    /// The last number of the parts.
    pub sequence: Option<u64>,
    /// The origin.
    pub host: Option<Span>,
    /// When.
    pub time: Option<Time>,
    /// Where the text begins.
    pub end: usize,
}

/// A message's name, `%SYS-5-CONFIG_I: `.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// `SYS`
    pub facility: Span,
    /// `SYS-5-CONFIG_I`
    pub whole: Span,
    /// Where the text begins.
    pub end: usize,
}

/// The head of a message from Cisco at `at`; `None` where it is somebody else's.
pub(super) fn head(text: &[u8], at: usize) -> Option<Head> {
    let mut head = Head {
        end: at,
        ..Head::default()
    };
    let mut is_marked = false;
    for parts in 0..=PARTS_MAX {
        let start = head.end + usize::from(text.get(head.end) == Some(&b' '));
        let mark = matches!(text.get(start), Some(b'*' | b'.'));
        if let Some((time, end)) = time::any(text, start + usize::from(mark)) {
            is_marked |= mark;
            head.time = Some(time);
            head.end = behind_colon(text, end);
            break;
        }
        if text.get(start) == Some(&b'%') {
            head.end = start;
            break;
        }
        if let Some(end) = uptime(text, start) {
            head.end = end;
            break;
        }
        if parts == PARTS_MAX {
            return None;
        }
        head.end = part(text, start, &mut head)?;
    }
    let has_number = head.sequence.is_some() && head.time.is_some();
    (has_number || is_marked || name(text, head.end).is_some()).then_some(head)
}

/// One part that ends with a colon; gives the offset after it.
fn part(text: &[u8], start: usize, head: &mut Head) -> Option<usize> {
    let window = &text[start..text.len().min(start + PART_BYTES_MAX)];
    let len = window
        .iter()
        .position(|&byte| byte == b':' || byte <= b' ')?;
    if window[len] != b':' || len == 0 {
        return None;
    }
    let part = &window[..len];
    if part.iter().all(u8::is_ascii_digit) {
        let digits = part.iter().take(18);
        let number = digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        head.sequence = Some(number);
    } else if part[0] == b'*' {
        // The task that says so; a mark before a time was seen before.
    } else if head.host.is_none() && part.iter().all(u8::is_ascii_graphic) {
        head.host = Some(Span::new(start, start + len));
    } else {
        return None;
    }
    Some(start + len + 1)
}

/// How long a device is up at `at`, `00:00:46: ` or `1w2d: `; gives the offset after it.
fn uptime(text: &[u8], at: usize) -> Option<usize> {
    let window = &text[at..text.len().min(at + PART_BYTES_MAX)];
    let len = window.windows(2).position(|two| two == b": ")?;
    let stamp = &window[..len];
    let is_clock = matches!(stamp, [_, _, b':', _, _, b':', _, _])
        && stamp
            .iter()
            .all(|&byte| byte == b':' || byte.is_ascii_digit());
    let digits = stamp
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let is_span = match &stamp[digits..] {
        [first, rest @ .., last] if digits > 0 => {
            matches!((first, last), (b'y', b'w') | (b'w', b'd') | (b'd', b'h'))
                && !rest.is_empty()
                && rest.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    (is_clock || is_span).then_some(at + len + 2)
}

/// The offset after a colon, blanks before it and one after it; `at` where there is none.
pub(super) fn behind_colon(text: &[u8], at: usize) -> usize {
    let colon = at + usize::from(text.get(at) == Some(&b' '));
    if text.get(colon) != Some(&b':') {
        return at;
    }
    colon + 1 + usize::from(text.get(colon + 1) == Some(&b' '))
}

/// The name of a message at `at`: letters, a severity of one digit between dashes, letters.
pub(super) fn name(text: &[u8], at: usize) -> Option<Name> {
    if text.get(at) != Some(&b'%') {
        return None;
    }
    let start = at + 1;
    let window = &text[start..text.len().min(start + NAME_BYTES_MAX)];
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let len = window.iter().position(|&byte| !of_name(byte))?;
    let severity = |three: &[u8]| three[0] == b'-' && three[2] == b'-' && three[1].is_ascii_digit();
    let facility = window[..len].iter().position(|&byte| byte == b'-')?;
    let end = behind_colon(text, start + len);
    if facility == 0 || end == start + len || !window[..len].windows(3).any(severity) {
        return None;
    }
    Some(Name {
        facility: Span::new(start, start + facility),
        whole: Span::new(start, start + len),
        end,
    })
}
