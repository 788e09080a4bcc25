//! JSON numbers: their grammar, and whether a 64-bit float can hold them.
//!
//! Nearly every number is decided by its grammar and its length alone. Only one that may be too
//! large is computed, in the same steps as serde_json computes it, so that the verdict is the
//! same up to the last bit: significand in 64 bits (further digits only shift), times a power
//! of ten.

use super::Kind;

/// Digits of an integer without an exponent that are certainly in range.
const SAFE_DIGITS: usize = 280;

/// Powers of ten that can carry a 64-bit significand out of range.
const LARGE_POWERS: [f64; 20] = [
    1e289, 1e290, 1e291, 1e292, 1e293, 1e294, 1e295, 1e296, 1e297, 1e298, 1e299, 1e300, 1e301,
    1e302, 1e303, 1e304, 1e305, 1e306, 1e307, 1e308,
];

/// The exponent of the first of them.
const LARGE_POWERS_FROM: i32 = 289;

/// Reads the number at `at`. Gives the offset after it, or where it is wrong and how.
#[inline]
pub(super) fn scan(text: &[u8], at: usize) -> Result<(usize, Kind), (usize, &'static str)> {
    let first = at + usize::from(text.get(at) == Some(&b'-'));
    let int_end = skip_digits(text, first);
    if int_end == first || (text[first] == b'0' && int_end > first + 1) {
        return Err((first, "invalid number"));
    }
    if !matches!(text.get(int_end), Some(b'.' | b'e' | b'E')) && int_end - first <= SAFE_DIGITS {
        return Ok((int_end, Kind::Integer));
    }
    scan_float(text, first, int_end)
}

/// The rest of a number that has a fraction, an exponent or very many digits.
fn scan_float(
    text: &[u8],
    first: usize,
    int_end: usize,
) -> Result<(usize, Kind), (usize, &'static str)> {
    let mut kind = Kind::Integer;
    let mut end = int_end;
    if text.get(end) == Some(&b'.') {
        kind = Kind::Float;
        end = skip_digits(text, int_end + 1);
        if end == int_end + 1 {
            return Err((end, "invalid number"));
        }
    }
    let mantissa_end = end;
    if matches!(text.get(end), Some(b'e' | b'E')) {
        kind = Kind::Float;
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let digits = end + 1 + sign;
        end = skip_digits(text, digits);
        if end == digits {
            return Err((end, "invalid number"));
        }
    }
    let doubtful = end > mantissa_end || int_end - first > SAFE_DIGITS;
    if doubtful && !in_range(&text[first..mantissa_end], &text[mantissa_end..end]) {
        return Err((first, "number out of range"));
    }
    Ok((end, kind))
}

#[inline]
fn skip_digits(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while matches!(text.get(at), Some(b'0'..=b'9')) {
        at += 1;
    }
    at
}

/// Whether the number stays finite; `mantissa` is `123` or `123.45`, `exponent` empty or `e+67`.
fn in_range(mantissa: &[u8], exponent: &[u8]) -> bool {
    let (significand, shift) = significand(mantissa);
    let Some(given) = parse_exponent(exponent) else {
        // An exponent beyond 32 bits: zero, or as good as, unless it is positive.
        return significand == 0 || exponent.get(1) == Some(&b'-');
    };
    let power = shift.saturating_add(given);
    if significand == 0 || power < LARGE_POWERS_FROM {
        return true;
    }
    let large = LARGE_POWERS.get((power - LARGE_POWERS_FROM) as usize);
    large.is_some_and(|large| (significand as f64 * large).is_finite())
}

/// The digits as far as 64 bits hold them, and the power of ten that the rest amounts to.
fn significand(mantissa: &[u8]) -> (u64, i32) {
    let mut value = 0_u64;
    let mut power = 0_i32;
    let mut digits = mantissa.iter();
    let mut full = false;
    for &digit in digits.by_ref().take_while(|&&byte| byte != b'.') {
        match with_digit(value, digit) {
            Some(more) if !full => value = more,
            _ => {
                full = true;
                power = power.saturating_add(1);
            }
        }
    }
    // A fraction starts anew: a digit that did not fit before it is a matter of power only.
    for &digit in digits {
        let Some(more) = with_digit(value, digit) else {
            break;
        };
        value = more;
        power -= 1;
    }
    (value, power)
}

fn with_digit(value: u64, digit: u8) -> Option<u64> {
    value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
}

/// The value of `e67`, `E+67`, `e-67` or nothing; `None` beyond 32 bits.
fn parse_exponent(exponent: &[u8]) -> Option<i32> {
    let (negative, digits) = match exponent {
        [] => return Some(0),
        [_, b'-', digits @ ..] => (true, digits),
        [_, b'+', digits @ ..] | [_, digits @ ..] => (false, digits),
    };
    let mut value = 0_i32;
    for &digit in digits {
        value = value
            .checked_mul(10)?
            .checked_add(i32::from(digit - b'0'))?;
    }
    Some(if negative { -value } else { value })
}
