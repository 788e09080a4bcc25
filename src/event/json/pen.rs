//! The pen that JSON is written with: into a small room of its own, and from there to the output
//! in one piece.
//!
//! An event is dozens of pieces of two to twenty bytes. Appended to a vector, each takes a look
//! at the capacity and a call that copies. In the room, whose size is known, a short piece is
//! copied as a block of fixed size, beyond its end, and the next one is written over what was too
//! much. What does not fit is written around the room.
//!
//! Where a block is read beyond the end of a piece, that is within the bytes that the piece lies
//! in. A text is copied and looked at in one go; only one with something to be escaped, or that is
//! not ASCII, is written a second time, with care.

use vrl::value::Value;

use super::{write_integer, write_rest, write_value};
use crate::event::names::BLOCK_BYTES;
use crate::event::{Name, Span, eight};
use crate::time::{ASCII_ZEROS, RFC3339_BYTES, WallTime, eight_digits};

/// The room, in bytes: what most events are written in.
const ROOM_BYTES: usize = 1024;

/// A piece longer than this goes to the output by itself.
const PIECE_BYTES_MAX: usize = 256;

/// What a text of up to 16 bytes takes with its quotes.
const SHORT_TEXT_BYTES: usize = 18;

/// Where a pen writes first.
pub struct Room([u8; ROOM_BYTES]);

impl Room {
    /// A room that any number of pens may use, one after another.
    pub const fn new() -> Room {
        Room([0; ROOM_BYTES])
    }
}

/// Writes what JSON is made of.
pub struct Pen<'a> {
    room: &'a mut [u8; ROOM_BYTES],
    /// How much of the room is written, in bytes.
    at: usize,
    /// Something of the original was written as it stands.
    has_copied: bool,
    out: &'a mut Vec<u8>,
}

/// How much was written, in bytes from the start of the output.
#[derive(Clone, Copy)]
pub struct Mark(usize);

impl<'a> Pen<'a> {
    /// A pen whose writing is appended to `out`, all of it only by [`Pen::finish`].
    #[inline]
    pub fn new(room: &'a mut Room, out: &'a mut Vec<u8>) -> Pen<'a> {
        Pen {
            room: &mut room.0,
            at: 0,
            has_copied: false,
            out,
        }
    }

    /// Appends what is written to the output. Says whether a [`Pen::piece`] was among it.
    #[inline]
    pub fn finish(mut self) -> bool {
        self.spill();
        self.has_copied
    }

    fn spill(&mut self) {
        self.out.extend_from_slice(&self.room[..self.at]);
        self.at = 0;
    }

    #[cold]
    #[inline(never)]
    fn spill_early(&mut self) {
        self.spill();
    }

    /// The output, with all that is written.
    #[inline(never)]
    fn written(&mut self) -> &mut Vec<u8> {
        self.spill();
        self.out
    }

    /// The next bytes of the room.
    #[inline(always)]
    fn next<const COUNT: usize>(&mut self) -> &mut [u8; COUNT] {
        if self.at > ROOM_BYTES - COUNT {
            self.spill_early();
            self.at = 0;
        }
        let next = self.room[self.at..].first_chunk_mut();
        next.expect("there is so much room")
    }

    /// Where the pen is.
    pub fn mark(&self) -> Mark {
        Mark(self.out.len() + self.at)
    }

    /// Takes back what was written since `mark`.
    pub fn back_to(&mut self, Mark(len): Mark) {
        self.spill();
        self.out.truncate(len);
    }

    /// One byte.
    #[inline(always)]
    pub fn byte(&mut self, byte: u8) {
        *self.next() = [byte];
        self.at += 1;
    }

    /// `separator`, and a name with quotes and a colon.
    #[inline(always)]
    pub fn name(&mut self, separator: u8, name: &Name) {
        let Some(block) = name.block() else {
            return self.long_name(separator, name);
        };
        let next = self.next::<BLOCK_BYTES>();
        *next = *block;
        next[0] = separator;
        self.at += name.len() + 4;
    }

    #[cold]
    #[inline(never)]
    fn long_name(&mut self, separator: u8, name: &Name) {
        self.byte(separator);
        self.text_of(name.as_bytes());
        self.byte(b':');
    }

    /// A name as a text.
    #[inline(always)]
    pub fn word(&mut self, word: &Name) {
        match word.block() {
            Some([_, block @ ..]) => {
                let next = self.next();
                *next = *block;
                self.at += word.len() + 2;
            }
            None => self.text_of(word.as_bytes()),
        }
    }

    /// The text that `span` of `bytes` is, with its quotes.
    #[inline]
    pub fn text(&mut self, bytes: &[u8], span: Span) {
        self.quote(&bytes[span.start as usize..], span.len());
    }

    /// A text with its quotes.
    pub fn text_of(&mut self, text: &[u8]) {
        self.quote(text, text.len());
    }

    /// The first `len` of `bytes` as a text.
    ///
    /// What is rare is called last, in functions of its own: what is left needs no stack.
    fn quote(&mut self, bytes: &[u8], len: usize) {
        let text = &bytes[..len];
        if len > 16 {
            return self.quote_long(text);
        }
        if self.at > ROOM_BYTES - SHORT_TEXT_BYTES {
            return self.quote_later(bytes, len);
        }
        if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
            self.quote_two_words(text, *first, *last);
        } else if let Some(word) = bytes.first_chunk() {
            self.quote_one_word(text, *word);
        } else {
            self.quote_padded(text);
        }
    }

    /// The next bytes of the room, which are known to be there.
    #[inline(always)]
    fn next_of_short_text(&mut self) -> Option<&mut [u8; SHORT_TEXT_BYTES]> {
        self.room.get_mut(self.at..)?.first_chunk_mut()
    }

    /// A text of less than eight bytes, with which `word` begins.
    #[inline(always)]
    fn quote_one_word(&mut self, text: &[u8], word: [u8; 8]) {
        let len = text.len() % 8;
        let hits = eight::not_plain(u64::from_le_bytes(word));
        // Hits of the text's own bytes.
        if hits & (eight::HIGHS >> 8 >> (56 - 8 * len)) != 0 {
            return self.quote_with_care(text);
        }
        if let Some(next) = self.next_of_short_text() {
            next[0] = b'"';
            next[1..9].copy_from_slice(&word);
            next[len + 1] = b'"';
            self.at += len + 2;
        }
    }

    /// A text of 8 to 16 bytes, which begins and ends with these.
    #[inline(never)]
    fn quote_two_words(&mut self, text: &[u8], first: [u8; 8], last: [u8; 8]) {
        let hits = [first, last].map(|word| eight::not_plain(u64::from_le_bytes(word)));
        if hits[0] | hits[1] != 0 {
            return self.quote_with_care(text);
        }
        let len = text.len().clamp(8, 16);
        if let Some(next) = self.next_of_short_text() {
            next[0] = b'"';
            next[1..9].copy_from_slice(&first);
            next[len - 7..len + 1].copy_from_slice(&last);
            next[len + 1] = b'"';
            self.at += len + 2;
        }
    }

    /// A short text, after the room was made that it needs.
    #[cold]
    #[inline(never)]
    fn quote_later(&mut self, bytes: &[u8], len: usize) {
        self.spill();
        self.quote(bytes, len);
    }

    /// A text of less than eight bytes where there are none behind it.
    #[cold]
    #[inline(never)]
    fn quote_padded(&mut self, text: &[u8]) {
        let mut bytes = [0; 8];
        bytes[..text.len()].copy_from_slice(text);
        self.quote(&bytes, text.len());
    }

    #[inline(never)]
    fn quote_long(&mut self, text: &[u8]) {
        if !eight::is_plain(text) {
            return self.quote_with_care(text);
        }
        if self.at + text.len() + 2 > ROOM_BYTES {
            let out = self.written();
            out.push(b'"');
            out.extend_from_slice(text);
            out.push(b'"');
            return;
        }
        self.byte(b'"');
        self.copy_here(text);
        self.byte(b'"');
    }

    /// A text with bytes that are not ASCII or have to be escaped.
    #[cold]
    #[inline(never)]
    fn quote_with_care(&mut self, text: &[u8]) {
        let out = self.written();
        out.push(b'"');
        write_rest(text, out);
        out.push(b'"');
    }

    /// Some bytes, as they stand.
    #[inline(always)]
    pub fn bytes<const COUNT: usize>(&mut self, bytes: [u8; COUNT]) {
        *self.next() = bytes;
        self.at += COUNT;
    }

    /// What `bytes` are from `from` up to one that `ends` has a hit for, or that is not plain, as
    /// they stand. Answers where that is; `None` where the bytes end within a word of it.
    #[inline(always)]
    pub fn until(&mut self, bytes: &[u8], from: usize, ends: impl Fn(u64) -> u64) -> Option<usize> {
        let mut at = from;
        loop {
            let block = bytes.get(at..)?.first_chunk()?;
            *self.next() = *block;
            let word = u64::from_le_bytes(*block);
            let hits = eight::not_plain(word) | ends(word);
            if hits != 0 {
                let count = eight::first(hits);
                self.at += count;
                return Some(at + count);
            }
            self.at += block.len();
            at += block.len();
        }
    }

    /// What `span` of `bytes` is, as it stands.
    #[inline]
    pub fn piece(&mut self, bytes: &[u8], span: Span) {
        self.has_copied = true;
        let piece = span.of(bytes);
        match bytes[span.start as usize..].first_chunk() {
            Some(block) if piece.len() <= BLOCK_BYTES => {
                let next = self.next::<BLOCK_BYTES>();
                *next = *block;
                self.at += piece.len();
            }
            _ => self.copy(piece),
        }
    }

    /// What `piece` is, as it stands.
    pub fn copy(&mut self, piece: &[u8]) {
        if piece.len() > PIECE_BYTES_MAX {
            return self.written().extend_from_slice(piece);
        }
        if self.at + piece.len() > ROOM_BYTES {
            self.spill();
        }
        self.copy_here(piece);
    }

    /// What `piece` is; there is room for it.
    #[inline(always)]
    fn copy_here(&mut self, piece: &[u8]) {
        let end = self.at + piece.len();
        self.room[self.at..end].copy_from_slice(piece);
        self.at = end;
    }

    /// The end of an object or a list whose next member would have begun with `separator`: where
    /// there was none yet, `open` comes first.
    #[inline]
    pub fn close(&mut self, separator: u8) {
        if separator == b'{' {
            self.byte(b'{');
        }
        self.byte(b'}');
    }

    /// A number.
    #[inline]
    pub fn integer(&mut self, number: i64) {
        match u32::try_from(number) {
            Ok(digit @ 0..10) => self.byte(b'0' + digit as u8),
            Ok(number @ 0..100_000_000) => {
                let digits = eight_digits(number);
                let zeros = digits.trailing_zeros() / 8;
                *self.next() = ((digits + ASCII_ZEROS) >> (8 * zeros)).to_le_bytes();
                self.at += 8 - zeros as usize;
            }
            _ => write_integer(number, self.written()),
        }
    }

    /// A time as a text.
    #[inline]
    pub fn time(&mut self, time: WallTime) {
        let next = self.next::<{ RFC3339_BYTES + 2 }>();
        next[0] = b'"';
        next[1..=RFC3339_BYTES].copy_from_slice(&time.rfc3339());
        next[RFC3339_BYTES + 1] = b'"';
        self.at += RFC3339_BYTES + 2;
    }

    /// A value of any kind.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Bytes(text) => self.text_of(text),
            _ => write_value(value, self.written()),
        }
    }
}
