//! Netstrings: `5:hello,` (D. J. Bernstein, 1997).
//!
//! The length has no leading zero but in `0:,`, the empty frame. Every deviation, and a length
//! over the limit, ends the connection at the first byte that shows it; a payload is not handed
//! out before its comma was seen.

use super::counted::{Counted, Header};
use super::frames::FrameError;

/// Cuts at netstring lengths.
pub(super) type Netstring = Counted<NetstringLength>;

/// A length under way.
#[derive(Debug, Default)]
pub(super) struct NetstringLength {
    value: u64,
    digits: u8,
}

impl Header for NetstringLength {
    const TRAILER: Option<u8> = Some(b',');

    fn read(&mut self, byte: u8, max: u32) -> Result<Option<u64>, FrameError> {
        match byte {
            b'0'..=b'9' if self.digits > 0 && self.value == 0 => Err(FrameError::LeadingZero),
            b'0'..=b'9' => {
                self.value = self.value * 10 + u64::from(byte - b'0');
                self.digits += 1;
                // Checked at every digit, so neither the value nor the digits can overflow.
                if self.value > u64::from(max) {
                    Err(FrameError::TooLong { max: max as usize })
                } else {
                    Ok(None)
                }
            }
            found if self.digits == 0 => Err(FrameError::CountStart(found)),
            b':' => Ok(Some(self.value)),
            found => Err(FrameError::AfterCount {
                expected: b':',
                found,
            }),
        }
    }

    fn bytes(&self) -> u8 {
        self.digits
    }
}
