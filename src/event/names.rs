//! Names that marline gives itself: of fields, and of what severities and facilities are called.
//!
//! They come with every event, so each has its JSON made in advance, of one length for all: a
//! block is copied in two moves, where a piece of any length takes a call. Nothing in a name is
//! to be escaped; that is checked where it is made, for most of them by the compiler.

use std::fmt;
use std::ops::Deref;

/// The longest name that has its JSON in a block, in bytes.
pub const BLOCK_NAME_BYTES_MAX: usize = BLOCK_BYTES - 4;

/// A comma, quotes and a colon around a name.
pub(super) const BLOCK_BYTES: usize = 32;

/// A name; used as the text that it is.
pub struct Name {
    text: &'static str,
    /// `,"name":` and anything behind it; blanks for a name that is too long.
    block: [u8; BLOCK_BYTES],
}

impl Name {
    /// The name that `text` is.
    ///
    /// # Panics
    /// When there is something in it that is not ASCII or has to be escaped in JSON.
    pub const fn new(text: &'static str) -> Name {
        let bytes = text.as_bytes();
        let mut block = [b' '; BLOCK_BYTES];
        let mut at = 0;
        while at < bytes.len() {
            let is_plain = matches!(bytes[at], b' '..=0x7f) && !matches!(bytes[at], b'"' | b'\\');
            assert!(is_plain, "a name with bytes that have to be escaped");
            if bytes.len() <= BLOCK_NAME_BYTES_MAX {
                block[2 + at] = bytes[at];
            }
            at += 1;
        }
        if bytes.len() <= BLOCK_NAME_BYTES_MAX {
            block[0] = b',';
            block[1] = b'"';
            block[2 + at] = b'"';
            block[3 + at] = b':';
        }
        Name { text, block }
    }

    /// The names that `texts` are.
    ///
    /// # Panics
    /// As [`Name::new`] does.
    pub const fn all<const COUNT: usize>(texts: [&'static str; COUNT]) -> [Name; COUNT] {
        let mut names = [const { Name::new("") }; COUNT];
        let mut at = 0;
        while at < COUNT {
            names[at] = Name::new(texts[at]);
            at += 1;
        }
        names
    }

    /// The text.
    pub const fn as_str(&self) -> &'static str {
        self.text
    }

    /// `,"name":` with anything behind it, unless it is too long.
    #[inline]
    pub(super) fn block(&self) -> Option<&[u8; BLOCK_BYTES]> {
        (self.text.len() <= BLOCK_NAME_BYTES_MAX).then_some(&self.block)
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.text
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// A [`Name`] of a literal, made when marline is built: `name!("host")`.
macro_rules! name {
    ($text:literal) => {
        const { &$crate::event::Name::new($text) }
    };
}
pub(crate) use name;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_begins_with_the_name_as_json_has_it() {
        for len in 0..40 {
            let text: &'static str = Box::leak("abcdefgh".repeat(5)[..len].into());
            let name = Name::new(text);
            match name.block() {
                Some(block) => {
                    assert!(
                        block.starts_with(format!(",\"{text}\":").as_bytes()),
                        "{text}"
                    );
                }
                None => assert!(len > BLOCK_NAME_BYTES_MAX),
            }
            assert_eq!(&*name, text);
        }
        let both = Name::all(["a", "b"]);
        assert_eq!([both[0].as_str(), both[1].as_str()], ["a", "b"]);
    }

    #[test]
    #[should_panic(expected = "have to be escaped")]
    fn a_name_with_a_quote_is_none() {
        Name::new("a\"b");
    }
}
