//! The bytes of one write, as slices, with a position and an eye for line ends.
//!
//! Slices are cut anywhere: a line may span several, and a newline may be a slice of its own.
//! The first byte is always the start of a line, so a write that broke off can be split into
//! whole lines and the piece of a line.

use std::io::IoSlice;

use bytes::Bytes;

use crate::buffer::storage::SLICES_MAX;

/// Slices and how many of their bytes are done.
pub struct Lines<'a> {
    slices: &'a [Bytes],
    /// The slice that the position is in; all before it are done.
    index: usize,
    /// Bytes done of that slice.
    offset: usize,
    position: usize,
    total: usize,
}

impl<'a> Lines<'a> {
    /// Nothing done yet.
    pub fn new(slices: &'a [Bytes]) -> Self {
        Lines {
            slices,
            index: 0,
            offset: 0,
            position: 0,
            total: slices.iter().map(Bytes::len).sum(),
        }
    }

    /// Bytes done.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether all is done.
    pub fn is_done(&self) -> bool {
        self.position == self.total
    }

    /// `bytes` more are done.
    pub fn advance(&mut self, bytes: usize) {
        self.position = (self.position + bytes).min(self.total);
        let mut left = bytes;
        while let Some(slice) = self.slices.get(self.index) {
            let here = slice.len() - self.offset;
            if left < here {
                self.offset += left;
                return;
            }
            left -= here;
            self.index += 1;
            self.offset = 0;
        }
    }

    /// Goes back to `position`: what came after it is not done after all.
    pub fn rewind(&mut self, position: usize) {
        (self.index, self.offset, self.position) = (0, 0, 0);
        self.advance(position);
    }

    /// The slices of the next `bytes` bytes, as many as one call takes.
    pub fn next(&self, bytes: usize) -> Vec<IoSlice<'a>> {
        let mut left = bytes;
        let mut list = Vec::with_capacity((self.slices.len() - self.index).min(SLICES_MAX));
        for slice in self.rest() {
            if left == 0 || list.len() == SLICES_MAX {
                break;
            }
            let taken = &slice[..slice.len().min(left)];
            left -= taken.len();
            if !taken.is_empty() {
                list.push(IoSlice::new(taken));
            }
        }
        list
    }

    /// Bytes from the position to the end of its line, the newline included; to the end of all
    /// where there is none.
    pub fn line_bytes(&self) -> usize {
        let mut before = 0;
        for slice in self.rest() {
            match memchr::memchr(b'\n', slice) {
                Some(at) => return before + at + 1,
                None => before += slice.len(),
            }
        }
        before
    }

    /// Bytes from the position to the end of the last line that ends within `bytes`; 0 where
    /// none does.
    pub fn lines_within(&self, bytes: usize) -> usize {
        let (mut before, mut end) = (0, 0);
        for slice in self.rest() {
            let seen = &slice[..slice.len().min(bytes - before)];
            if let Some(at) = memchr::memrchr(b'\n', seen) {
                end = before + at + 1;
            }
            before += seen.len();
            if before == bytes {
                break;
            }
        }
        end
    }

    /// How many of the bytes done belong to whole lines; the others are a piece of a line.
    pub fn whole_bytes(&self) -> usize {
        if self.is_done() {
            return self.total;
        }
        let done = self.slices[..self.index].iter().map(|slice| &slice[..]);
        let current = &self.slices[self.index][..self.offset];
        let mut end = self.position;
        for slice in done.chain([current]).rev() {
            match memchr::memrchr(b'\n', slice) {
                Some(at) => return end - (slice.len() - at - 1),
                None => end -= slice.len(),
            }
        }
        0
    }

    fn rest(&self) -> impl Iterator<Item = &'a [u8]> {
        let slices: &'a [Bytes] = self.slices;
        let first = self.offset;
        let rest = slices[self.index..].iter().enumerate();
        rest.map(move |(index, slice)| &slice[if index == 0 { first } else { 0 }..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` cut after every `|`.
    fn slices(text: &'static str) -> Vec<Bytes> {
        let cut = text
            .split('|')
            .map(|part| Bytes::from_static(part.as_bytes()));
        cut.collect()
    }

    #[test]
    fn whole_lines_and_pieces_are_told_apart_at_every_byte() {
        let slices = slices("ab|\n|cd\nef|g\n||h\n");
        let all = slices.concat();
        for done in 0..=all.len() {
            let mut lines = Lines::new(&slices);
            lines.advance(done);
            let whole = all[..done].iter().rposition(|byte| *byte == b'\n');
            assert_eq!(lines.whole_bytes(), whole.map_or(0, |at| at + 1), "{done}");
            assert_eq!(lines.position(), done);
            let line = all[done..].iter().position(|byte| *byte == b'\n');
            assert_eq!(lines.line_bytes(), line.map_or(0, |at| at + 1), "{done}");
        }
    }

    #[test]
    fn what_fits_ends_with_a_line() {
        let slices = slices("ab|\n|cd\nef|g\n");
        let lines = Lines::new(&slices);
        let check = |bytes, expected| assert_eq!(lines.lines_within(bytes), expected, "{bytes}");
        check(0, 0);
        check(2, 0);
        check(3, 3);
        check(5, 3);
        check(6, 6);
        check(9, 6);
        check(10, 10);
        check(99, 10);
    }

    #[test]
    fn slices_to_write_start_at_the_position_and_keep_their_limit() {
        let slices = slices("ab||cd|ef");
        let mut lines = Lines::new(&slices);
        lines.advance(1);
        let text = |lines: &Lines<'_>, bytes| -> Vec<u8> {
            lines
                .next(bytes)
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect()
        };
        assert_eq!(text(&lines, 3), b"bcd");
        lines.advance(4);
        assert_eq!(text(&lines, 99), b"f");
        lines.rewind(3);
        assert_eq!(text(&lines, 99), b"def");
        lines.advance(3);
        assert!(lines.is_done() && lines.next(9).is_empty());
    }
}
