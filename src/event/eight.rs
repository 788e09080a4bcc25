//! Texts looked at eight bytes at a time, without a call: most are shorter than what a search by
//! a library takes to begin.
//!
//! A word is eight bytes, the first in its lowest byte. Answers are words with the high bit of a
//! byte set where there is a hit; a borrow can raise false ones, but only above a true one, so
//! that the lowest is always true.

/// The high bit of every byte.
pub const HIGHS: u64 = 0x8080_8080_8080_8080;

/// A one in every byte.
pub const ONES: u64 = 0x0101_0101_0101_0101;

const BLANKS: u64 = ONES * 0x20;

/// Has high bits where a byte is below 0x20, `"` or `\`, or not ASCII: with none, nothing of the
/// word has to be escaped in JSON.
#[inline(always)]
pub fn not_plain(word: u64) -> u64 {
    marks(word) & HIGHS
}

/// [`not_plain`] with other bits beside the high ones.
#[inline(always)]
fn marks(word: u64) -> u64 {
    // With one bit turned over, a quote is the smallest byte that is no control character. Bytes
    // that are not ASCII may do as they like, since they are hits.
    let low = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    word | low | backslash
}

/// The same for bytes that have to be escaped in valid UTF-8.
#[inline]
fn special(word: u64) -> u64 {
    let turned = word ^ (ONES * 2);
    let low = turned.wrapping_sub(ONES * 0x21) & !turned;
    (low | equal(word, b'\\')) & HIGHS
}

/// Has high bits where a byte is `byte`.
#[inline(always)]
pub fn equal(word: u64, byte: u8) -> u64 {
    let turned = word ^ (ONES * u64::from(byte));
    turned.wrapping_sub(ONES) & !turned & HIGHS
}

/// Whether nothing of `text` has to be escaped, and all is ASCII.
pub fn is_plain(text: &[u8]) -> bool {
    let (words, _) = text.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    // All of it, for a text that is not plain is rare.
    let all = words.fold(marks(last_word(text)), |all, word| all | marks(word));
    all & HIGHS == 0
}

/// The last eight bytes of a text; all of a shorter one, in any order and some of them twice.
#[inline]
fn last_word(text: &[u8]) -> u64 {
    if let Some(last) = text.last_chunk::<8>() {
        return u64::from_le_bytes(*last);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) | u64::from(last) << 32;
    }
    match text {
        [first, .., last] => {
            let middle = text[text.len() / 2];
            (BLANKS << 24) | u64::from(*first) | u64::from(middle) << 8 | u64::from(*last) << 16
        }
        [only] => (BLANKS << 8) | u64::from(*only),
        [] => BLANKS,
    }
}

/// The first byte that has to be escaped in valid UTF-8.
pub fn find_special(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let hits = special(u64::from_le_bytes(*word));
        if hits != 0 {
            return Some(index * 8 + first(hits));
        }
    }
    let is_special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let at = rest.iter().position(is_special)?;
    Some(text.len() - rest.len() + at)
}

/// Offset of the first of `bytes[from..end]` that is `one` or `other`. What stands behind the end
/// is looked at too, where there is something, for the sake of whole words.
#[inline(always)]
pub fn find(bytes: &[u8], from: usize, end: usize, [one, other]: [u8; 2]) -> Option<usize> {
    let mut at = from;
    while at < end
        && let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk)
    {
        let word = u64::from_le_bytes(*word);
        let hits = equal(word, one) | equal(word, other);
        if hits != 0 {
            return Some(at + first(hits)).filter(|found| *found < end);
        }
        at += 8;
    }
    let is_one = |&byte: &u8| byte == one || byte == other;
    Some(at + bytes.get(at..end)?.iter().position(is_one)?)
}

/// The byte of the lowest hit.
#[inline(always)]
pub fn first(hits: u64) -> usize {
    hits.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_wherever_it_stands() {
        for len in 0..30 {
            for at in 0..len {
                for byte in [b'a' - 1, b'a', b'a' + 1, 0, 0x7f, 0x80, 0xff, b'b' ^ 1] {
                    let mut text = vec![b'x'; len];
                    text[at] = byte;
                    text[len - 1] = b'b';
                    for (from, end) in (0..=len + 1).flat_map(|from| [(from, len), (from, at)]) {
                        let slowly = (from..end).find(|at| matches!(text[*at], b'a' | b'b'));
                        assert_eq!(
                            find(&text, from, end, [b'a', b'b']),
                            slowly,
                            "{text:?} {from}..{end}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_byte_is_plain_or_not_in_every_place() {
        for byte in 0..=0xff_u8 {
            let is_plain = matches!(byte, 0x20..=0x7f) && byte != b'"' && byte != b'\\';
            for at in 0..8 {
                let mut word = *b"~ !#[]\x7f0";
                word[at] = byte;
                assert_eq!(
                    not_plain(u64::from_le_bytes(word)) == 0,
                    is_plain,
                    "{word:?}"
                );
            }
        }
    }
}
