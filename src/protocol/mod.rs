//! Sans-IO framers and message parsers: bytes in, ranges out.
//!
//! A framer cuts a byte stream into frames (RFC 6587 octet counting, lines, netstrings, ...);
//! a message parser reads one frame (JSON, logfmt, access logs) into ranges of it; the
//! journal's export format is a stream of entries. Nothing here
//! knows a socket, a file, a clock or an event, and nothing here builds values.
//!
//! Invariants, all tested:
//! - the same frames, marks and counts however the stream is cut into chunks;
//! - bytes of a peer never panic, and memory is bounded by `max_message`, never by a number
//!   that the peer sent;
//! - a frame inside one chunk is a range of it; only one cut by a chunk border is copied, once;
//! - after an error nothing of the stream is ever parsed again.

mod auto;
mod body;
mod calendar;
mod carry;
pub mod clf;
mod counted;
mod datagram;
mod delimited;
mod encode;
mod frames;
pub mod journal_export;
pub mod json;
mod length_u32;
pub mod logfmt;
mod netstring;
mod octet_counted;
mod plain_lines;
mod scan;
pub mod syslog;
mod whole;

use std::fmt;
use std::str::FromStr;

pub use encode::{ENCODED_BYTES_MAX, TooLong, encode_frame, encode_frame_replacing};
pub use frames::{CHUNK_BYTES_MAX, End, FrameError, Framer, Frames, Mark, Run, Span, Uncut};
pub use octet_counted::{COUNT_DIGITS_MAX, COUNT_MAX};

/// How a byte stream is cut into frames; the values of the option `framing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Octet counting and lines told apart frame by frame; see `auto.rs`.
    Auto,
    /// Lines that end with LF or CR LF.
    Lines,
    /// Frames that end with a NUL byte.
    Nul,
    /// RFC 6587 octet counting: decimal count, space, that many bytes.
    OctetCounted,
    /// Four bytes of length, big endian, then that many bytes.
    LengthU32,
    /// `5:hello,`.
    Netstring,
    /// One chunk is one frame.
    Datagram,
    /// Everything until the end of the stream is one frame.
    Whole,
}

impl Framing {
    /// Every framing, in the order of the documentation.
    pub const ALL: [Framing; 8] = [
        Framing::Auto,
        Framing::Lines,
        Framing::Nul,
        Framing::OctetCounted,
        Framing::LengthU32,
        Framing::Netstring,
        Framing::Datagram,
        Framing::Whole,
    ];

    /// The word that names it in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Framing::Auto => "auto",
            Framing::Lines => "lines",
            Framing::Nul => "nul",
            Framing::OctetCounted => "octet_counted",
            Framing::LengthU32 => "length_u32",
            Framing::Netstring => "netstring",
            Framing::Datagram => "datagram",
            Framing::Whole => "whole",
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFraming;

impl fmt::Display for UnknownFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown framing, expected one of")?;
        for (index, framing) in Framing::ALL.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma} {framing}")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownFraming {}

impl FromStr for Framing {
    type Err = UnknownFraming;

    fn from_str(word: &str) -> Result<Self, UnknownFraming> {
        let known = Framing::ALL.into_iter();
        known
            .into_iter()
            .find(|framing| framing.as_str() == word)
            .ok_or(UnknownFraming)
    }
}

/// A fresh framer for one connection.
///
/// `max_message` bounds one frame, in bytes without its delimiter or count, and so the memory
/// that the framer holds. It must not be 0; for [`Framing::Whole`] callers pass `max_body`.
pub fn framer(kind: Framing, max_message: usize) -> Box<dyn Framer> {
    assert!(
        max_message > 0,
        "a frame limit of 0 bytes would let nothing through"
    );
    match kind {
        Framing::Auto => Box::new(auto::Auto::new(max_message)),
        Framing::Lines => Box::new(delimited::Lines::new(max_message)),
        Framing::Nul => Box::new(delimited::Nul::new(max_message)),
        Framing::OctetCounted => Box::new(octet_counted::OctetCounted::new(max_message)),
        Framing::LengthU32 => Box::new(length_u32::LengthU32::new(max_message)),
        Framing::Netstring => Box::new(netstring::Netstring::new(max_message)),
        Framing::Datagram => Box::new(datagram::Datagram::new(max_message)),
        Framing::Whole => Box::new(whole::Whole::new(max_message)),
    }
}
