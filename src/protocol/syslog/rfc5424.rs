//! The format of RFC 5424: `<34>1 TIME HOST APP PROCID MSGID SD MSG`.
//!
//! Read in full. Tolerated beyond it: fields longer than their maxima (counted), any bytes but
//! blanks in them, an empty field (two blanks) as an absent one, a time without a zone or with up
//! to nine digits of a fraction, and a message right where structured data should be.

use super::time::{self, Time};
use super::{Format, Message, SyslogError, nonempty, structured_data, wrong};
use crate::protocol::Span;
use crate::protocol::scan::find_byte;

/// The field that stands for one that is absent.
const NIL: &[u8] = b"-";

/// What may stand before a message that is UTF-8 (RFC 5424, 6.4).
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Whether what follows the priority is version 1: `1 `, then a time or `-`. A text of RFC 3164
/// may begin with the digit as well, but not with a date behind it.
pub(super) fn begins(rest: &[u8]) -> bool {
    match rest {
        [b'1', b' ', b'-', b' ', ..] => true,
        [b'1', b' ', year @ ..] => {
            year.len() > 4 && year[..4].iter().all(u8::is_ascii_digit) && year[4] == b'-'
        }
        _ => false,
    }
}

/// Reads a message whose version is at `at`.
pub(super) fn read(text: &[u8], at: usize, message: &mut Message) -> Result<(), SyslogError> {
    message.format = Format::Rfc5424;
    let mut header = Header { text, at: at + 2 };
    message.time = header.time()?;
    message.host = header.field("the header ends before the host")?;
    message.app = header.field("the header ends before the app")?;
    message.procid = header.field("the header ends before the process id")?;
    message.msgid = header.field("the header ends before the message id")?;
    let mut at = header.at;
    match text.get(at) {
        Some(b'[') => {
            let (end, sequence) = structured_data::read(text, at)?;
            message.structured_data = Some(Span::new(at, end));
            message.sequence = sequence;
            at = end;
        }
        Some(b'-') if matches!(text.get(at + 1), None | Some(b' ')) => at += 1,
        Some(_) => {
            message.format = Format::Rfc5424NoData;
            message.message = nonempty(at, text.len());
            return Ok(());
        }
        None => return Err(wrong(at, "the header ends before the structured data")),
    }
    match text.get(at) {
        None => {}
        Some(b' ') => {
            at += 1;
            if text[at..].starts_with(BOM) {
                at += BOM.len();
            }
            message.message = nonempty(at, text.len());
        }
        Some(_) => return Err(wrong(at, "expected a blank after the structured data")),
    }
    Ok(())
}

struct Header<'a> {
    text: &'a [u8],
    /// Where the next field begins.
    at: usize,
}

impl Header<'_> {
    /// The next field as a range, up to its blank.
    #[inline(always)]
    fn token(&mut self, missing: &'static str) -> Result<(usize, usize), SyslogError> {
        let start = self.at;
        let Some(end) = find_byte(self.text, start, b' ') else {
            return Err(wrong(self.text.len(), missing));
        };
        self.at = end + 1;
        Ok((start, end))
    }

    #[inline(always)]
    fn field(&mut self, missing: &'static str) -> Result<Option<Span>, SyslogError> {
        let (start, end) = self.token(missing)?;
        let is_nil = end == start + NIL.len() && self.text[start..].starts_with(NIL);
        let absent = start == end || is_nil;
        Ok((!absent).then(|| Span::new(start, end)))
    }

    fn time(&mut self) -> Result<Option<Time>, SyslogError> {
        if let Some((time, after)) = time::usual(self.text, self.at)
            && self.text.get(after) == Some(&b' ')
        {
            self.at = after + 1;
            return Ok(Some(time));
        }
        let (start, end) = self.token("the header ends within the time")?;
        if &self.text[start..end] == NIL {
            return Ok(None);
        }
        match time::unusual(self.text, start) {
            Some((time, after)) if after == end => Ok(Some(time)),
            _ => Err(wrong(start, "this is no time")),
        }
    }
}
