//! Lines of which only the number is needed: a chunk of them is looked at in one pass, a vector
//! of bytes at a time, and nobody stops at a newline.
//!
//! Whoever only passes lines on never asks where each one begins; finding that out costs four
//! times as much as to see that all of them are usual lines, and to count them.

use fearless_simd::{Level, Simd, dispatch, prelude::*};
use memchr::memrchr;

/// How many lines `text` is, when all of them are plain: not empty, no longer than `max` bytes,
/// each ended by one LF and without a CR anywhere; and, where `counted`, none that might begin
/// with an octet count. `text` begins with a line, whose own beginning is not looked at for a
/// count, and ends with LF. `None` where it takes a closer look.
pub(super) fn count(text: &[u8], max: usize, counted: bool) -> Option<usize> {
    debug_assert!(text.ends_with(b"\n"));
    if text.first() == Some(&b'\n') || !all_fit(text, max) {
        return None;
    }
    let seen = dispatch!(Level::new(), simd => look(simd, text));
    let may_be_counted = counted && seen.digit_first && seen.blank_bracket;
    (!seen.unusual && !may_be_counted).then_some(seen.lines)
}

/// What there is in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// How many LF.
    lines: usize,
    /// A CR, or an LF right behind another.
    unusual: bool,
    /// A line, not the first, that begins with a digit from 1 to 9.
    digit_first: bool,
    /// ` <`, which an octet count of a syslog message ends with.
    blank_bracket: bool,
}

/// Compares every byte and the one behind it, a vector of each at a time.
#[inline(always)] // to be compiled once for each kind of processor
fn look<S: Simd>(simd: S, text: &[u8]) -> Seen {
    let [newline, cr, blank, bracket, one, eight] =
        [b'\n', b'\r', b' ', b'<', b'1', 8].map(|byte| S::u8s::splat(simd, byte));
    let width = S::u8s::LEN;
    let whole = text.len().saturating_sub(1) / width * width;
    let never = newline.simd_eq(cr);
    let (mut unusual, mut digit_first, mut blank_bracket) = (never, never, never);
    let mut lines = 0;
    let pairs = text[..whole].chunks_exact(width);
    for (here, next) in pairs.zip(text[1.min(text.len())..].chunks_exact(width)) {
        let here = S::u8s::from_slice(simd, here);
        let next = S::u8s::from_slice(simd, next);
        let ends = here.simd_eq(newline);
        unusual |= here.simd_eq(cr) | (ends & next.simd_eq(newline));
        digit_first |= ends & (next - one).simd_le(eight);
        blank_bracket |= here.simd_eq(blank) & next.simd_eq(bracket);
        lines += ends.to_bitmask().count_ones() as usize;
    }
    let rest = look_at_each(&text[whole..]);
    Seen {
        lines: lines + rest.lines,
        unusual: unusual.any_true() || rest.unusual,
        digit_first: digit_first.any_true() || rest.digit_first,
        blank_bracket: blank_bracket.any_true() || rest.blank_bracket,
    }
}

/// The same, byte by byte.
fn look_at_each(text: &[u8]) -> Seen {
    let mut seen = Seen::default();
    for (at, byte) in text.iter().enumerate() {
        let next = text.get(at + 1);
        match byte {
            b'\n' => {
                seen.lines += 1;
                seen.unusual |= next == Some(&b'\n');
                seen.digit_first |= matches!(next, Some(b'1'..=b'9'));
            }
            b'\r' => seen.unusual = true,
            b' ' => seen.blank_bracket |= next == Some(&b'<'),
            _ => {}
        }
    }
    seen
}

/// Whether no line is longer than `max` bytes: from one line's end to the last one within reach,
/// not from line to line.
fn all_fit(text: &[u8], max: usize) -> bool {
    let mut at = 0;
    while text.len() - at > max {
        // A line of `max` bytes and its LF.
        let within = &text[at..text.len().min(at + max + 1)];
        match memrchr(b'\n', within) {
            Some(end) => at += end + 1,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the letter.
    fn slowly(text: &[u8], max: usize, counted: bool) -> Option<usize> {
        let lines: Vec<&[u8]> = text[..text.len() - 1]
            .split(|byte| *byte == b'\n')
            .collect();
        let is_plain = |line: &&[u8]| (1..=max).contains(&line.len()) && !line.contains(&b'\r');
        let bracket = text.windows(2).any(|pair| pair == b" <");
        let digit = lines[1..]
            .iter()
            .any(|line| matches!(line.first(), Some(b'1'..=b'9')));
        let plain = lines.iter().all(is_plain) && !(counted && bracket && digit);
        plain.then_some(lines.len())
    }

    /// A generator of numbers that is the same in every run (Knuth's MMIX).
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
            self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }
    }

    #[test]
    fn what_is_unusual_is_seen_wherever_it_stands() {
        for length in 2..200 {
            let mut text = vec![b'a'; length];
            text[length - 1] = b'\n';
            if length > 9 {
                text[length / 2] = b'\n';
            }
            for at in 0..length - 1 {
                for put in ["\n", "\r", "\n\n", "\n7", "\n0", " <", "\n8 <"] {
                    let mut text = text.clone();
                    let end = (at + put.len()).min(length - 1);
                    text[at..end].copy_from_slice(&put.as_bytes()[..end - at]);
                    for counted in [false, true] {
                        let found = count(&text, length, counted);
                        assert_eq!(found, slowly(&text, length, counted), "{text:?} {counted}");
                    }
                }
            }
        }
    }

    #[test]
    fn it_is_the_same_as_line_by_line() {
        let mut random = Random(7);
        let mut plain = 0;
        for _ in 0..5_000 {
            // Mostly letters, so that many a text is plain.
            let usual = b"abcdefgh....\n\n";
            let rare = b"\r\n 1<";
            let length = 1 + random.below(400);
            let mut text: Vec<u8> = (0..length)
                .map(|_| match random.below(150) {
                    0 => rare[random.below(rare.len() as u64) as usize],
                    _ => usual[random.below(usual.len() as u64) as usize],
                })
                .collect();
            text.dedup_by(|next, before| *before == b'\n' && *next == b'\n');
            text.push(b'x');
            text.push(b'\n');
            let (max, counted) = (1 + random.below(60) as usize, random.below(2) == 0);
            let expected = slowly(&text, max, counted);
            assert_eq!(
                count(&text, max, counted),
                expected,
                "{text:?} {max} {counted}"
            );
            plain += usize::from(expected.is_some());
        }
        assert!((500..4_500).contains(&plain), "{plain} of 5000 were plain");
    }

    #[test]
    fn a_line_may_be_as_long_as_it_may() {
        let text = |lengths: &[usize]| {
            let lines = lengths.iter().map(|&length| "y".repeat(length) + "\n");
            lines.collect::<String>().into_bytes()
        };
        for (lengths, fits) in [
            (&[10, 10, 10][..], true),
            (&[1, 10, 9, 10], true),
            (&[11, 1], false),
            (&[1, 11], false),
            (&[10, 11, 10], false),
        ] {
            let text = text(lengths);
            assert_eq!(
                count(&text, 10, true),
                fits.then_some(lengths.len()),
                "{lengths:?}"
            );
        }
    }
}
