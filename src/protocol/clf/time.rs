//! The time of an access log, `23/Nov/2026:18:42:00 +0000`, and its way to RFC 3339.
//!
//! By hand, for this is one fixed form and the calendar is a few lines; no clock and no time zone
//! data is needed, as every line names its offset.

use super::super::calendar::{
    DAY_SECONDS, civil_from_days, days_from_civil, month, month_days, two,
};

/// Length of every time, in bytes.
pub const TIME_BYTES: usize = 26;

/// Seconds since 1970 of `23/Nov/2026:18:42:00 +0000`; `None` where it is no such time. Years
/// from 1 to 9998, so that every result can be written with four digits.
pub fn unix_seconds(time: &[u8]) -> Option<i64> {
    let (date, rest) = time.split_at_checked(11)?;
    let (clock, zone) = rest.split_at_checked(9)?;
    let (day, year) = (two(&date[..2])?, two(&date[7..9])? * 100 + two(&date[9..])?);
    let month = month(&date[3..6])?;
    let marks = [date[2], date[6], clock[0], clock[3], clock[6]];
    if marks != *b"//:::" || !(1..=9998).contains(&year) {
        return None;
    }
    let (hour, minute, second) = (two(&clock[1..3])?, two(&clock[4..6])?, two(&clock[7..])?);
    // A leap second is 60; it becomes the next minute's first.
    if !(1..=month_days(year, month)).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let local =
        days_from_civil(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    Some(local - zone_seconds(zone)?)
}

/// Appends the time as RFC 3339 in UTC with microseconds, `2026-11-23T18:42:00.000000Z`; `false`
/// and nothing appended where it is no time (see [`unix_seconds`]).
pub fn rfc3339_into(time: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(seconds) = unix_seconds(time) else {
        return false;
    };
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY_SECONDS));
    let clock = seconds.rem_euclid(DAY_SECONDS);
    two_into(year / 100, out);
    for (number, mark) in [
        (year % 100, b'-'),
        (month, b'-'),
        (day, b'T'),
        (clock / 3600, b':'),
        (clock / 60 % 60, b':'),
        (clock % 60, b'.'),
    ] {
        two_into(number, out);
        out.push(mark);
    }
    out.extend_from_slice(b"000000Z");
    true
}

/// Appends a number from 0 to 99 with two digits.
fn two_into(number: i64, out: &mut Vec<u8>) {
    out.extend([b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
}

/// ` +HHMM` in seconds.
fn zone_seconds(zone: &[u8]) -> Option<i64> {
    let [b' ', sign @ (b'+' | b'-'), digits @ ..] = zone else {
        return None;
    };
    let (hours, minutes) = digits.split_at_checked(2)?;
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let seconds = hours * 3600 + minutes * 60;
    let valid = hours <= 23 && minutes <= 59;
    valid.then_some(if *sign == b'-' { -seconds } else { seconds })
}
