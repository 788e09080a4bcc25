//! Numbers and texts as the payload has them, and reading them from bytes nobody vouches for.
//!
//! A number is LEB128 of at most ten bytes; a signed one is folded so that small ones of either
//! sign are short. [`Reader`] never reads beyond its end and never believes a count for which
//! there are not enough bytes left.

use std::fmt;

use bytes::Bytes;

use crate::event::Span;

/// The longest number, in bytes.
pub(super) const VARINT_BYTES_MAX: usize = 10;

/// Why a payload could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is of this version, which this marline does not know.
    Version(u8),
    /// It is longer than a batch can be, in bytes.
    TooLong(usize),
    /// It is not what was written.
    Damaged {
        /// Where that was seen, in bytes from the payload's start.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Version(found) => write!(
                f,
                "the payload is of version {found}, this marline reads those up to {}: \
                 read it with the marline that wrote it",
                super::VERSION
            ),
            DecodeError::TooLong(len) => write!(f, "the payload has {len} bytes, more than 4 GiB"),
            DecodeError::Damaged { at, what } => {
                write!(f, "the payload is damaged at byte {at}: {what}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

#[inline]
pub(super) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_signed(number: i64, out: &mut Vec<u8>) {
    put_varint((number << 1 ^ number >> 63) as u64, out);
}

pub(super) fn put_text(text: &[u8], out: &mut Vec<u8>) {
    put_varint(text.len() as u64, out);
    out.extend_from_slice(text);
}

/// What is still to be read of a payload.
pub(super) struct Reader<'a> {
    payload: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a Bytes) -> Result<Reader<'a>, DecodeError> {
        match u32::try_from(payload.len()) {
            Ok(_) => Ok(Reader { payload, at: 0 }),
            Err(_) => Err(DecodeError::TooLong(payload.len())),
        }
    }

    /// How many bytes are left.
    pub(super) fn rest(&self) -> usize {
        self.payload.len() - self.at
    }

    /// That something is wrong about here.
    #[cold]
    pub(super) fn damage(&self, what: &'static str) -> DecodeError {
        DecodeError::Damaged { at: self.at, what }
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        match self.payload.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            None => Err(self.damage("it ends too early")),
        }
    }

    /// A byte of flags, none of them outside `known`.
    pub(super) fn flags(&mut self, known: u8) -> Result<u8, DecodeError> {
        let flags = self.byte()?;
        if flags & !known == 0 {
            Ok(flags)
        } else {
            Err(self.damage("an unknown flag"))
        }
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for index in 0..VARINT_BYTES_MAX {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // Of the tenth byte one bit fits into a number.
                if index + 1 == VARINT_BYTES_MAX && byte > 1 {
                    break;
                }
                return Ok(number);
            }
        }
        Err(self.damage("a number beyond 64 bits"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, DecodeError> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// How many things follow that take at least `bytes_min` bytes each.
    pub(super) fn count(&mut self, bytes_min: usize) -> Result<usize, DecodeError> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.rest() / bytes_min => Ok(count),
            _ => Err(self.damage("more things than bytes")),
        }
    }

    /// Where a text lies.
    pub(super) fn chunk(&mut self) -> Result<Span, DecodeError> {
        let len = self.count(1)?;
        let start = self.at;
        self.at += len;
        Ok(Span::new(start, self.at))
    }

    /// A text that shares the payload's buffer.
    pub(super) fn share(&mut self) -> Result<Bytes, DecodeError> {
        let payload = self.payload;
        Ok(self.chunk()?.share(payload))
    }

    /// A text of characters.
    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let payload = self.payload;
        let chunk = self.chunk()?;
        std::str::from_utf8(chunk.of(payload)).map_err(|_| self.damage("a name is not UTF-8"))
    }

    /// `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.payload[self.at..].first_chunk::<N>() {
            Some(found) => {
                self.at += N;
                Ok(*found)
            }
            None => Err(self.damage("it ends too early")),
        }
    }
}
