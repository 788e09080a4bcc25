//! RFC 6587 section 3.4.1, octet counting: `MSG-LEN SP SYSLOG-MSG`.
//!
//! `MSG-LEN = NONZERO-DIGIT *DIGIT`. The message follows at once, and after it the next count:
//! there is no delimiter to find the way back by, so every deviation ends the connection. A
//! message over the limit is cut to its first part and the rest is skipped exactly.

use super::counted::{Counted, Header};
use super::frames::FrameError;

/// Largest count accepted: what 32 bits can express. Nobody sends larger messages, and a larger
/// number is the mark of a wrapped or forged count.
pub const COUNT_MAX: u64 = u32::MAX as u64;

/// Most digits a count can have.
pub const COUNT_DIGITS_MAX: u8 = 10;

/// Cuts at octet counts.
pub(super) type OctetCounted = Counted<OctetCount>;

/// A count under way.
#[derive(Debug, Default)]
pub(super) struct OctetCount {
    value: u64,
    digits: u8,
}

impl Header for OctetCount {
    const TRAILER: Option<u8> = None;

    fn read(&mut self, byte: u8, _max: u32) -> Result<Option<u64>, FrameError> {
        match byte {
            // RFC 6587 asks for NONZERO-DIGIT first.
            b'0' if self.digits == 0 => Err(FrameError::LeadingZero),
            b'0'..=b'9' if self.digits == COUNT_DIGITS_MAX => Err(FrameError::CountTooLarge),
            b'0'..=b'9' => {
                self.value = self.value * 10 + u64::from(byte - b'0');
                self.digits += 1;
                Ok(None)
            }
            found if self.digits == 0 => Err(FrameError::CountStart(found)),
            b' ' if self.value > COUNT_MAX => Err(FrameError::CountTooLarge),
            b' ' => Ok(Some(self.value)),
            found => Err(FrameError::AfterCount {
                expected: b' ',
                found,
            }),
        }
    }

    fn bytes(&self) -> u8 {
        self.digits
    }
}
