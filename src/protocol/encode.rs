//! Frames for sending: the inverse of the framers.
//!
//! A payload must not be able to forge a frame. The counted framings carry any bytes; the
//! delimited ones replace each delimiter inside the payload by a space and count it. One
//! delimiter at the very end of a payload (a line end of a message that was octet counted, for
//! instance) is the frame's own and is not doubled.

use std::fmt;

use memchr::memchr_iter;

use super::Framing;

/// Largest payload that is encoded, in bytes; far over any `max_message` or `max_body`, and
/// expressible in every prefix.
pub const ENCODED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A payload over [`ENCODED_BYTES_MAX`]: nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Its length in bytes.
    pub bytes: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "frame of {} bytes is longer than {ENCODED_BYTES_MAX}",
            self.bytes
        )
    }
}

impl std::error::Error for TooLong {}

/// Appends `payload` to `out` as one frame; see [`encode_frame_replacing`].
pub fn encode_frame(kind: Framing, payload: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
    encode_frame_replacing(kind, payload, out).map(|_replaced| ())
}

/// Appends `payload` to `out` as one frame and gives the number of delimiters inside it that
/// were replaced by a space. `Auto` encodes as lines; `Datagram` and `Whole` add nothing.
pub fn encode_frame_replacing(
    kind: Framing,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<usize, TooLong> {
    if payload.len() > ENCODED_BYTES_MAX {
        return Err(TooLong {
            bytes: payload.len(),
        });
    }
    match kind {
        Framing::Auto | Framing::Lines => return Ok(delimit(b'\n', payload, out)),
        Framing::Nul => return Ok(delimit(0, payload, out)),
        // RFC 6587 has no empty message: its count starts with a nonzero digit.
        Framing::OctetCounted if payload.is_empty() => {}
        Framing::OctetCounted => {
            push_decimal(payload.len(), out);
            out.push(b' ');
            out.extend_from_slice(payload);
        }
        Framing::LengthU32 => {
            let length = u32::try_from(payload.len()).expect("the limit fits into 32 bits");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(payload);
        }
        Framing::Netstring => {
            push_decimal(payload.len(), out);
            out.push(b':');
            out.extend_from_slice(payload);
            out.push(b',');
        }
        Framing::Datagram | Framing::Whole => out.extend_from_slice(payload),
    }
    Ok(0)
}

/// Appends the payload and the delimiter; gives the number of delimiters replaced.
fn delimit(delimiter: u8, payload: &[u8], out: &mut Vec<u8>) -> usize {
    let payload = payload.strip_suffix(&[delimiter]).unwrap_or(payload);
    let start = out.len();
    out.reserve(payload.len() + 1);
    out.extend_from_slice(payload);
    let mut replaced = 0;
    for inside in memchr_iter(delimiter, payload) {
        out[start + inside] = b' ';
        replaced += 1;
    }
    out.push(delimiter);
    replaced
}

/// Appends a number in decimal digits, without an allocation.
fn push_decimal(number: usize, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    let mut rest = number;
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}
