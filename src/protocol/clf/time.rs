//! The time of an access log, `23/Nov/2026:18:42:00 +0000`, and its way to RFC 3339.
//!
//! By hand, for this is one fixed form and the calendar is a few lines; no clock and no time zone
//! data is needed, as every line names its offset.

/// Seconds since 1970 of `23/Nov/2026:18:42:00 +0000`; `None` where it is no such time. Years
/// from 1 to 9998, so that every result can be written with four digits.
pub fn unix_seconds(time: &[u8]) -> Option<i64> {
    let (date, rest) = time.split_at_checked(11)?;
    let (clock, zone) = rest.split_at_checked(9)?;
    let (day, year) = (two(&date[..2])?, two(&date[7..9])? * 100 + two(&date[9..])?);
    let month = MONTHS
        .iter()
        .position(|name| name.as_bytes() == &date[3..6])? as i64
        + 1;
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

const DAY_SECONDS: i64 = 86_400;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Two decimal digits.
fn two(digits: &[u8]) -> Option<i64> {
    match digits {
        [high @ b'0'..=b'9', low @ b'0'..=b'9'] => {
            Some(i64::from(high - b'0') * 10 + i64::from(low - b'0'))
        }
        _ => None,
    }
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

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, by the proleptic Gregorian calendar. Years are counted from March, so
/// that the leap day is the last of its year (after H. Hinnant, "chrono-compatible date
/// algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let leaps = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}
