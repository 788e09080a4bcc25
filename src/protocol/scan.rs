//! Where a byte is in a text, for the short fields of messages.
//!
//! Fields of log lines are a few bytes long: a call of `memchr` costs more than to look at them
//! here, eight bytes at a time. What is not in the first [`NEAR_BYTES`] is left to `memchr`, which
//! is the faster the longer it runs.
//!
//! A word is eight bytes, the first of them in its lowest bits. [`zeros`] is exact for the first
//! zero byte only ("Bit Twiddling Hacks", S. E. Anderson), and no more is asked of it.

use memchr::{memchr, memchr2};

/// A byte in all places of a word.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The highest bit of each byte of a word.
const HIGHS: u64 = 0x80 * ONES;

/// Bytes of a word.
const WORD_BYTES: usize = 8;

/// How far is looked here.
const NEAR_BYTES: usize = 4 * WORD_BYTES;

/// The offset in `text` of the first `byte` at `from` or behind it; `from` is at most the length.
#[inline(always)]
pub(super) fn find_byte(text: &[u8], from: usize, byte: u8) -> Option<usize> {
    find(
        text,
        from,
        |word| zeros(word ^ (ONES * u64::from(byte))),
        |rest| memchr(byte, rest),
    )
}

/// The offset in `text` of the first `one` or `other` at `from` or behind it; `from` is at most
/// the length.
#[inline(always)]
pub(super) fn find_either(text: &[u8], from: usize, one: u8, other: u8) -> Option<usize> {
    find(
        text,
        from,
        |word| zeros(word ^ (ONES * u64::from(one))) | zeros(word ^ (ONES * u64::from(other))),
        |rest| memchr2(one, other, rest),
    )
}

/// The offset in `text` of the first byte at `from` or behind it that `set` has; `from` is at most
/// the length.
#[inline(always)]
pub(super) fn find_any(text: &[u8], from: usize, set: &[bool; 256]) -> Option<usize> {
    let is_of_set = |&byte: &u8| set[usize::from(byte)];
    let mut rest = &text[from..];
    // The length of a word is known, so that nobody asks at every byte whether it is the last.
    while let Some((word, behind)) = rest.split_first_chunk::<WORD_BYTES>() {
        if let Some(offset) = word.iter().position(is_of_set) {
            return Some(text.len() - rest.len() + offset);
        }
        rest = behind;
    }
    let offset = rest.iter().position(is_of_set)?;
    Some(text.len() - rest.len() + offset)
}

#[inline(always)]
fn find(
    text: &[u8],
    from: usize,
    near: impl Fn(u64) -> u64,
    far: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    let mut rest = &text[from..];
    while let Some((word, behind)) = rest.split_first_chunk::<WORD_BYTES>() {
        let found = near(u64::from_le_bytes(*word));
        if found != 0 {
            let at = text.len() - rest.len();
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        rest = behind;
        if text.len() - rest.len() >= from + NEAR_BYTES {
            break;
        }
    }
    far(rest).map(|offset| text.len() - rest.len() + offset)
}

/// The highest bit of the first byte of a word that is zero, and perhaps of later ones; 0 where
/// none is.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has `=` and `;`.
    static EITHER: [bool; 256] = {
        let mut set = [false; 256];
        set[b'=' as usize] = true;
        set[b';' as usize] = true;
        set
    };

    /// Looks for `=` and `;` from every offset of `text`, and compares with the slow way.
    fn check(text: &[u8]) {
        for from in 0..=text.len() {
            let slow = |is: fn(&u8) -> bool| {
                let found = text[from..].iter().position(is);
                found.map(|offset| from + offset)
            };
            let context = || format!("{text:?} from {from}");
            let one = slow(|&byte| byte == b'=');
            assert_eq!(find_byte(text, from, b'='), one, "{}", context());
            let either = slow(|&byte| byte == b'=' || byte == b';');
            assert_eq!(find_either(text, from, b'=', b';'), either, "{}", context());
            assert_eq!(find_either(text, from, b';', b'='), either, "{}", context());
            assert_eq!(find_any(text, from, &EITHER), either, "{}", context());
        }
    }

    #[test]
    fn bytes_are_found_at_every_offset_of_texts_of_every_length() {
        // Neighbours of what is looked for, and what differs from it in the highest bit, are what
        // arithmetic on whole words takes for it.
        for filler in [b'a', 0, 0xff, b'=' - 1, b'=' + 1, b'=' | 0x80, b';' | 0x80] {
            for len in 0..=NEAR_BYTES + 2 * WORD_BYTES {
                let mut text = vec![filler; len];
                check(&text);
                for at in 0..len {
                    text[at] = b'=';
                    check(&text);
                    text[len - 1 - at] = b';';
                    check(&text);
                    text.fill(filler);
                }
            }
        }
    }

    #[test]
    fn of_many_the_first_is_found() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..2000 {
            let text = std::array::from_fn::<u8, 24, _>(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                b"=;<:>\xbd\xbb\x00ab"[(state >> 33) as usize % 10]
            });
            check(&text);
        }
    }
}
