//! Times of syslog messages, and the instant that they stand for.
//!
//! ```text
//! iso    2026-11-27T10:00:00.123+01:00     also with a blank in place of T, and without a zone
//! bsd    Nov 27 10:00:00    Nov  7 2026 10:00:00.123 UTC    Nov 07 10:00:00 CET 2026
//!        2026 Nov 27 10:00:00    Fri Nov 27 10:00:00 2026    *Mar  1 18:48:50.483: (Cisco)
//! ```
//! A zone is an offset, or a name that has only one meaning; any other name before a colon is
//! read and no zone. Fractions have up to nine digits, of which six count. Second 60 is read as
//! the next minute's first.

use crate::protocol::calendar::{
    DAY_SECONDS, civil_from_days, days_from_civil, month, month_days, two,
};

/// How far in the future a time without a year may lie, in days: what clocks that are set wrong
/// may be ahead. What would be further ahead is of a year before.
pub const AHEAD_DAYS_MAX: i64 = 31;

/// How many years a time without a year may lie back: 29 February of a leap year that is past,
/// over a century that has none.
pub const YEARS_BACK_MAX: i64 = 8;

/// A calendar date and a time of day; a valid one, but for a year that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Time {
    /// From 1 to 9998, where it is written.
    pub year: Option<u16>,
    /// 1..=12
    pub month: u8,
    /// 1..=31, 29 February where the year is not known.
    pub day: u8,
    /// 0..=23
    pub hour: u8,
    /// 0..=59
    pub minute: u8,
    /// 0..=60
    pub second: u8,
    /// 0..=999 999
    pub micros: u32,
    /// Seconds east of UTC, where it is written; less than a day.
    pub offset: Option<i32>,
}

/// The two offsets that a clock on the wall may have at a time: one, but for the hours when it
/// is put forward or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// Seconds east of UTC before the change.
    pub before: i32,
    /// Seconds east of UTC after it; the same where there is no change.
    pub after: i32,
}

/// A time zone.
pub trait LocalOffsets {
    /// The offsets at a local time, in seconds since 1970-01-01T00:00:00 as its clocks show it.
    fn offsets(&mut self, local_seconds: i64) -> Offsets;
}

/// Microseconds since 1970-01-01T00:00:00Z of a time that was received at `now`.
///
/// - A time without a zone is of `zone`. One that its clocks showed twice is the one nearer to
///   `now`; one that they skipped is counted on by the offset from before.
/// - A time without a year is the latest that is not more than [`AHEAD_DAYS_MAX`] days after
///   `now`. `None` where there is none in [`YEARS_BACK_MAX`] years, which no date of the calendar
///   needs.
pub fn resolve(time: &Time, now: i64, zone: &mut impl LocalOffsets) -> Option<i64> {
    if let Some(year) = time.year {
        return Some(instant(time, i64::from(year), now, zone));
    }
    let ahead = now.saturating_add(AHEAD_DAYS_MAX * DAY_SECONDS * SECOND);
    let (latest, _, _) = civil_from_days(ahead.div_euclid(DAY_SECONDS * SECOND));
    // The year of the latest instant in UTC; a zone may already have the next.
    let years = (latest - YEARS_BACK_MAX..=latest + 1).rev();
    let exists = |year: &i64| i64::from(time.day) <= month_days(*year, i64::from(time.month));
    years
        .filter(exists)
        .map(|year| instant(time, year, now, zone))
        .find(|&micros| micros <= ahead)
}

const SECOND: i64 = 1_000_000;

/// The instant of a time in that year.
fn instant(time: &Time, year: i64, now: i64, zone: &mut impl LocalOffsets) -> i64 {
    let days = days_from_civil(year, i64::from(time.month), i64::from(time.day));
    let clock = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second);
    let local = days * DAY_SECONDS + clock;
    let at = |offset: i32| (local - i64::from(offset)) * SECOND + i64::from(time.micros);
    if let Some(offset) = time.offset {
        return at(offset);
    }
    let Offsets { before, after } = zone.offsets(local);
    let (first, second) = (at(before), at(after));
    // Put back: both are instants. Put forward: neither is, and the first is the later.
    match before > after && second.abs_diff(now) < first.abs_diff(now) {
        true => second,
        false => first,
    }
}

/// A time that is being read.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// Reads a time at `at` in any of the forms but a Cisco mark; gives the offset after it.
pub(super) fn any(text: &[u8], at: usize) -> Option<(Time, usize)> {
    match text.get(at)? {
        b'0'..=b'9' => match text.get(at + 4)? {
            b'-' => iso(text, at),
            _ => year_first(text, at),
        },
        b'A'..=b'Z' => bsd(text, at, None),
        _ => None,
    }
}

/// `2026-11-27T10:00:00`, with a fraction and a zone where they follow.
fn iso(text: &[u8], at: usize) -> Option<(Time, usize)> {
    usual(text, at).or_else(|| unusual(text, at))
}

/// `2026-11-27T10:00:00.123+01:00`, as nearly all write it: with a `T` and a zone, and so without a
/// blank. What is not of this form may be a time nevertheless, which [`unusual`] reads.
#[inline]
pub(super) fn usual(text: &[u8], at: usize) -> Option<(Time, usize)> {
    let (stamp, rest) = text.get(at..)?.split_first_chunk::<19>()?;
    let [century, _, year, _, _, month, _, _] = numbers(stamp, 0, *b"0000-00-")?;
    let [day, _, _, hour, _, _, minute, _] = numbers(stamp, 8, *b"00T00:00")?;
    let [.., second, _] = numbers(stamp, 11, *b"00:00:00")?;
    let mut time = Time {
        year: Some(u16::from(century) * 100 + u16::from(year)),
        month,
        day,
        hour,
        minute,
        second,
        micros: 0,
        offset: Some(0),
    };
    if !is_valid(&time) {
        return None;
    }
    let mut len = stamp.len();
    if let Some(b'.') = rest.first() {
        let (micros, digits) = fraction(&rest[1..]).filter(|&(_, digits)| digits > 0)?;
        time.micros = micros;
        len += 1 + digits;
    }
    match text.get(at + len)? {
        b'Z' => len += 1,
        _ => {
            let (offset, bytes) = numeric(&text[at + len..])?;
            time.offset = Some(offset);
            len += bytes;
        }
    }
    ends(&text[at + len..]).then_some((time, at + len))
}

/// The numbers of two digits that stand where `form` has `00`, each in the place of its first
/// digit; `None` where there are no digits or where what else `form` has is missing.
///
/// All eight bytes are one word: what differs from the form is a digit's value, or has to be 0.
/// To these values is added what brings those that are too large to their highest bit. In words no
/// byte carries into the next, for 99 fits into one.
#[inline(always)]
fn numbers(text: &[u8; 19], at: usize, form: [u8; 8]) -> Option<[u8; 8]> {
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(*text[at..].first_chunk()?);
    let most = form.map(|mark| if mark == b'0' { 0x80 - 10 } else { 0x80 - 1 });
    let digits = word ^ u64::from_le_bytes(form);
    let sums = (digits & !HIGHS) + u64::from_le_bytes(most);
    if (sums | digits) & HIGHS != 0 {
        return None;
    }
    Some((digits * 10 + (digits >> 8)).to_le_bytes())
}

/// A time of ISO 8601 in any of the forms that are tolerated.
pub(super) fn unusual(text: &[u8], at: usize) -> Option<(Time, usize)> {
    let date = text.get(at..at + 11)?;
    let year = two(&date[..2])? * 100 + two(&date[2..4])?;
    let (month, day) = (two(&date[5..7])?, two(&date[8..10])?);
    if date[4] != b'-' || date[7] != b'-' || !matches!(date[10], b'T' | b't' | b' ') {
        return None;
    }
    let mut reader = Reader { text, at: at + 11 };
    let time = reader.clock(Some(year), month, day)?;
    reader.finish(time)
}

/// `2026 Nov 27 10:00:00`.
fn year_first(text: &[u8], at: usize) -> Option<(Time, usize)> {
    let year = year_at(text, at)?;
    match text.get(at + 4)? {
        b' ' => bsd(text, at + 5, Some(year)),
        _ => None,
    }
}

/// `Nov 27 10:00:00`, with a day of the week before it, and a year before or after the clock.
fn bsd(text: &[u8], at: usize, year: Option<i64>) -> Option<(Time, usize)> {
    let mut at = at;
    let weekday = matches!(
        text.get(at..at + 4)?,
        b"Mon " | b"Tue " | b"Wed " | b"Thu " | b"Fri " | b"Sat " | b"Sun "
    );
    if weekday {
        at += 4;
    }
    let month = month(text.get(at..at + 3)?)?;
    if text.get(at + 3) != Some(&b' ') {
        return None;
    }
    at += 4;
    if text.get(at) == Some(&b' ') {
        at += 1;
    }
    let digit = |at: usize| text.get(at).filter(|byte| byte.is_ascii_digit());
    let mut day = i64::from(digit(at)? - b'0');
    at += 1;
    if let Some(second) = digit(at) {
        day = day * 10 + i64::from(second - b'0');
        at += 1;
    }
    if text.get(at) != Some(&b' ') {
        return None;
    }
    at += 1;
    let mut year = year;
    if year.is_none()
        && text.get(at + 4) == Some(&b' ')
        && let Some(found) = year_at(text, at)
    {
        year = Some(found);
        at += 5;
    }
    let mut reader = Reader { text, at };
    let time = reader.clock(year, month, day)?;
    reader.finish(time)
}

/// A year of four digits, of this or the last century.
fn year_at(text: &[u8], at: usize) -> Option<i64> {
    let digits = text.get(at..at + 4)?;
    let year = two(&digits[..2])? * 100 + two(&digits[2..])?;
    (1900..2100).contains(&year).then_some(year)
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// `10:00:00` with a fraction, checked together with the date.
    fn clock(&mut self, year: Option<i64>, month: i64, day: i64) -> Option<Time> {
        let clock = self.text.get(self.at..self.at + 8)?;
        let (hour, minute) = (two(&clock[..2])?, two(&clock[3..5])?);
        let second = two(&clock[6..])?;
        let mut time = Time {
            year: year.map(|year| year as u16),
            month: month as u8,
            day: day as u8,
            hour: hour as u8,
            minute: minute as u8,
            second: second as u8,
            micros: 0,
            offset: None,
        };
        if clock[2] != b':' || clock[5] != b':' || !is_valid(&time) {
            return None;
        }
        self.at += 8;
        if matches!(self.peek(0), Some(b'.' | b',')) {
            let (micros, digits) = fraction(&self.text[self.at + 1..])?;
            time.micros = micros;
            // A mark without digits is none: it stays.
            self.at += if digits > 0 { 1 + digits } else { 0 };
        }
        Some(time)
    }

    /// Zone and year behind the clock; see [`ends`].
    fn finish(mut self, mut time: Time) -> Option<(Time, usize)> {
        match self.peek(0) {
            Some(b'Z' | b'z') => {
                time.offset = Some(0);
                self.at += 1;
            }
            Some(b'+' | b'-') => time.offset = Some(self.numeric()?),
            _ => {}
        }
        if self.peek(0) == Some(b' ') {
            self.behind_blank(&mut time);
        }
        ends(&self.text[self.at..]).then_some((time, self.at))
    }

    /// `+01:00`, `+0100` or `+01` in seconds.
    fn numeric(&mut self) -> Option<i32> {
        let (offset, len) = numeric(self.text.get(self.at..)?)?;
        self.at += len;
        Some(offset)
    }

    /// A zone and a year that a blank parts from the clock. What else stands there is the host's.
    fn behind_blank(&mut self, time: &mut Time) {
        let rest = &self.text[self.at + 1..];
        match rest.first() {
            Some(b'+' | b'-') if time.offset.is_none() => {
                if let Some((offset, len)) = numeric(rest)
                    && ends(&rest[len..])
                {
                    time.offset = Some(offset);
                    self.at += 1 + len;
                }
            }
            Some(b'A'..=b'Z') if time.offset.is_none() => self.named(time),
            _ => {}
        }
        self.year_behind(time);
    }

    fn year_behind(&mut self, time: &mut Time) {
        if time.year.is_some() || self.peek(0) != Some(b' ') {
            return;
        }
        let exists = |year: &i64| i64::from(time.day) <= month_days(*year, i64::from(time.month));
        if let Some(year) = year_at(self.text, self.at + 1).filter(exists)
            && ends(&self.text[self.at + 5..])
        {
            time.year = Some(year as u16);
            self.at += 5;
        }
    }

    /// The name of a zone: `UTC` and `GMT` anywhere, others only where no host can stand, before
    /// a colon or a year; and the `TZ-6` of RFC 3164, 5.4, example 4.
    fn named(&mut self, time: &mut Time) {
        let rest = &self.text[self.at + 1..];
        let letters = rest.iter().take(6).take_while(|b| b.is_ascii_uppercase());
        let len = letters.count();
        let name = &rest[..len];
        match rest.get(len) {
            Some(b'+' | b'-') if name == b"TZ" => {
                if let Some((offset, digits)) = hours(&rest[2..])
                    && ends(&rest[2 + digits..])
                {
                    time.offset = Some(offset);
                    self.at += 3 + digits;
                }
            }
            Some(b':') if (1..=5).contains(&len) && ends(&rest[len..]) => {
                time.offset = zone(name);
                self.at += 1 + len;
            }
            Some(b' ') | None if matches!(name, b"UTC" | b"GMT") => {
                time.offset = Some(0);
                self.at += 1 + len;
            }
            Some(b' ') if (2..=5).contains(&len) && time.year.is_none() => {
                let year = year_at(self.text, self.at + 2 + len);
                if year.is_some() && ends(&rest[len + 5..]) {
                    time.offset = zone(name);
                    self.at += 1 + len;
                }
            }
            _ => {}
        }
    }
}

/// Whether it is a date and a time of day.
#[inline]
fn is_valid(time: &Time) -> bool {
    // Without a year 29 February is a date: 2000 had one.
    let (year, month, day) = (time.year.unwrap_or(2000), time.month, time.day);
    // No month is shorter than 28 days: the calendar is asked only for what is later.
    let in_month = || i64::from(day) <= month_days(year.into(), month.into());
    (1..=9998).contains(&year)
        && (1..=12).contains(&month)
        && ((1..=28).contains(&day) || (day > 28 && in_month()))
        && time.hour <= 23
        && time.minute <= 59
        && time.second <= 60
}

/// The digits of a fraction at the start of `text`, in microseconds, and how many they are, which
/// may be none; more than nine are no fraction.
#[inline]
fn fraction(text: &[u8]) -> Option<(u32, usize)> {
    const SCALE: [u32; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    let (mut micros, mut digits) = (0, 0);
    while let Some(digit @ b'0'..=b'9') = text.get(digits) {
        if digits == 9 {
            return None;
        }
        if digits < 6 {
            micros = micros * 10 + u32::from(digit - b'0');
        }
        digits += 1;
    }
    Some((micros * SCALE[digits.min(6)], digits))
}

/// Whether a time may end before this: a blank, or a colon that is no part of an address, as in
/// `10:00:00 2001:db8::1`.
fn ends(rest: &[u8]) -> bool {
    matches!(rest, [] | [b' ', ..] | [b':'] | [b':', b' ', ..])
}

/// `+01:00`, `+0100` or `+01` in seconds, and its length.
fn numeric(text: &[u8]) -> Option<(i32, usize)> {
    let sign = match text.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = two(text.get(1..3)?)?;
    let colon = usize::from(text.get(3) == Some(&b':'));
    let minutes = text.get(3 + colon..5 + colon).and_then(two);
    let (minutes, len) = match minutes {
        Some(minutes) => (minutes, 5 + colon),
        // `+01: text` is an offset of hours before a colon.
        None => (0, 3),
    };
    let valid = hours <= 23 && minutes <= 59;
    valid.then_some((sign * (hours * 3600 + minutes * 60) as i32, len))
}

/// A sign and one or two digits of hours, in seconds, and their length.
fn hours(text: &[u8]) -> Option<(i32, usize)> {
    let sign = if text.first()? == &b'-' { -1 } else { 1 };
    let digits = text[1..].iter().take_while(|byte| byte.is_ascii_digit());
    let len = digits.count();
    if !(1..=2).contains(&len) {
        return None;
    }
    let number = text[1..=len].iter();
    let number = number.fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    (number <= 23).then_some((sign * number * 3600, 1 + len))
}

/// Seconds east of UTC of a zone's short name: the ones of RFC 2822, 4.3, Europe's, and others
/// that mean one thing. `None` for what means several, such as IST.
fn zone(name: &[u8]) -> Option<i32> {
    let hours = match name {
        b"Z" | b"UTC" | b"GMT" | b"WET" => 0,
        b"CET" | b"WEST" => 1,
        b"CEST" | b"EET" => 2,
        b"EEST" | b"MSK" => 3,
        b"HKT" => 8,
        b"JST" | b"KST" => 9,
        b"AEST" => 10,
        b"AEDT" => 11,
        b"NZST" => 12,
        b"NZDT" => 13,
        b"EDT" => -4,
        b"EST" | b"CDT" => -5,
        b"CST" | b"MDT" => -6,
        b"MST" | b"PDT" => -7,
        b"PST" => -8,
        _ => return None,
    };
    Some(hours * 3600)
}

#[cfg(test)]
mod tests;
