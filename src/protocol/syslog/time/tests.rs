//! Times of every form, and the instants that they stand for.
//!
//! Zones are made up here: one offset, or one change from an offset to another.

use super::*;

/// A zone east of UTC by seconds; in `change` the clocks go from one offset to the other.
struct Zone {
    before: i32,
    after: i32,
    /// From and up to which local second both may be meant, or neither.
    change: (i64, i64),
}

impl LocalOffsets for Zone {
    fn offsets(&mut self, local: i64) -> Offsets {
        let (before, after) = match local {
            _ if local < self.change.0 => (self.before, self.before),
            _ if local < self.change.1 => (self.before, self.after),
            _ => (self.after, self.after),
        };
        Offsets { before, after }
    }
}

fn fixed(seconds: i32) -> Zone {
    Zone {
        before: seconds,
        after: seconds,
        change: (0, 0),
    }
}

fn shown(time: &Time) -> String {
    let year = time
        .year
        .map_or("----".to_owned(), |year| format!("{year:04}"));
    let offset = time
        .offset
        .map_or(String::new(), |offset| format!(" {offset:+}"));
    format!(
        "{year}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}{offset}",
        time.month, time.day, time.hour, time.minute, time.second, time.micros
    )
}

/// `text` up to a bar is the time, whatever follows.
fn check(text: &str, expected: &str) {
    let bar = text.find('|').expect("a bar");
    let text = text.replace('|', "");
    let found = any(text.as_bytes(), 0);
    let (time, end) = found.unwrap_or_else(|| panic!("no time: {text}"));
    assert_eq!((shown(&time).as_str(), end), (expected, bar), "{text}");
}

#[test]
fn forms_of_iso_8601() {
    check("2026-11-27T10:00:00Z|", "2026-11-27 10:00:00.000000 +0");
    check("2026-11-27t10:00:00z| h", "2026-11-27 10:00:00.000000 +0");
    check(
        "2026-11-27T10:00:00.5+01:30| h",
        "2026-11-27 10:00:00.500000 +5400",
    );
    check(
        "2026-11-27T10:00:00.123456789-0800| h",
        "2026-11-27 10:00:00.123456 -28800",
    );
    check(
        "2026-11-27T10:00:00,25+01| h",
        "2026-11-27 10:00:00.250000 +3600",
    );
    check("2026-11-27 10:00:00| host", "2026-11-27 10:00:00.000000");
    check(
        "2026-11-27 10:00:00 UTC| host",
        "2026-11-27 10:00:00.000000 +0",
    );
    check(
        "2026-11-27 10:00:00 +0200| host",
        "2026-11-27 10:00:00.000000 +7200",
    );
    check("2026-11-27 10:00:00| 2027 x", "2026-11-27 10:00:00.000000");
    check("2028-02-29T23:59:60Z|", "2028-02-29 23:59:60.000000 +0");
}

#[test]
fn forms_of_the_bsd_time() {
    check("Oct 11 22:14:15| h", "-----10-11 22:14:15.000000");
    for day in ["Oct  1", "Oct 1", "Oct 01"] {
        check(&format!("{day} 22:14:15|"), "-----10-01 22:14:15.000000");
    }
    check("Oct 11 2026 22:14:15| h", "2026-10-11 22:14:15.000000");
    check("Oct 11 22:14:15 2026| h", "2026-10-11 22:14:15.000000");
    check("Oct 11 22:14:15| 2026x h", "-----10-11 22:14:15.000000");
    check("2026 Oct 11 22:14:15| h", "2026-10-11 22:14:15.000000");
    check("Sun Oct 11 22:14:15 2026| h", "2026-10-11 22:14:15.000000");
    check(
        "Mar  1 18:48:50.483 UTC|: x",
        "-----03-01 18:48:50.483000 +0",
    );
    check("Mar  1 18:48:50.483 IST|: x", "-----03-01 18:48:50.483000");
    check(
        "Mar  1 18:48:50 EST|: x",
        "-----03-01 18:48:50.000000 -18000",
    );
    check("Mar  1 18:48:50| EST x", "-----03-01 18:48:50.000000");
    check("Mar  1 18:48:50 GMT| x", "-----03-01 18:48:50.000000 +0");
    check(
        "Aug 24 05:34:00 CST 1987| h",
        "1987-08-24 05:34:00.000000 -21600",
    );
    check(
        "1990 Oct 22 10:52:01 TZ-6| h",
        "1990-10-22 10:52:01.000000 -21600",
    );
    check(
        "Oct 22 10:52:01+02:00| h",
        "-----10-22 10:52:01.000000 +7200",
    );
    check(
        "Oct 22 10:52:01 -0130| h",
        "-----10-22 10:52:01.000000 -5400",
    );
    check("Feb 29 10:52:01| 2027 h", "-----02-29 10:52:01.000000");
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "O",
        "Oct",
        "Oct 11",
        "Oct 11 22:14:1",
        "Oct 11 22:14:15x",
        "Oct 0 22:14:15",
        "Oct 32 22:14:15",
        "Feb 30 22:14:15",
        "Oct   1 22:14:15",
        "Oct 111 22:14:15",
        "oct 11 22:14:15",
        "Oct 11 24:14:15",
        "Oct 11 22:60:15",
        "Oct 11 22:14:61",
        "Oct 11 22:14:15.1234567890",
        "Feb 29 2026 22:14:15",
        "2026-02-29T22:14:15Z",
        "2026-13-01T22:14:15Z",
        "2026-00-01T22:14:15Z",
        "0000-01-01T22:14:15Z",
        "9999-01-01T22:14:15Z",
        "2026-01-01T22:14:15+2400",
        "2026-01-01T22:14:15+1",
        "2026-01-01",
        "2026-01-01T",
        "2026 01 01 22:14:15",
        "*Mar  1 18:48:50",
    ] {
        assert_eq!(any(text.as_bytes(), 0), None, "{text}");
    }
}

/// Microseconds of a time of ISO 8601 with its zone.
fn micros(text: &str) -> i64 {
    let (time, _) = iso(text.as_bytes(), 0).expect(text);
    assert!(time.offset.is_some(), "{text} names no zone");
    resolve(&time, 0, &mut fixed(0)).expect("a year")
}

fn check_instant(text: &str, now: &str, zone: &mut Zone, expected: &str) {
    let (time, _) = any(text.as_bytes(), 0).expect(text);
    let found = resolve(&time, micros(now), zone).expect(text);
    assert_eq!(found, micros(expected), "{text}, received at {now}");
}

#[test]
fn instants_of_full_times() {
    assert_eq!(micros("1970-01-01T00:00:00Z"), 0);
    assert_eq!(micros("2026-11-23T18:41:59.123456Z"), 1_795_459_319_123_456);
    assert_eq!(
        micros("2003-08-24T05:14:15.000003-07:00"),
        1_061_727_255_000_003
    );
    assert_eq!(
        micros("2026-06-30T23:59:60Z"),
        micros("2026-07-01T00:00:00Z")
    );
    let mut zone = fixed(7200);
    check_instant(
        "2026-07-01T10:00:00",
        "2026-01-01T00:00:00Z",
        &mut zone,
        "2026-07-01T08:00:00Z",
    );
}

#[test]
fn a_missing_year_is_the_latest_that_is_not_a_month_ahead() {
    let check = |text, now, expected| check_instant(text, now, &mut fixed(0), expected);
    check(
        "Nov 27 10:00:00",
        "2026-11-27T10:00:05Z",
        "2026-11-27T10:00:00Z",
    );
    check(
        "Dec 31 23:59:59",
        "2027-01-01T00:00:01Z",
        "2026-12-31T23:59:59Z",
    );
    check(
        "Jan  1 00:00:01",
        "2026-12-31T23:59:59Z",
        "2027-01-01T00:00:01Z",
    );
    check(
        "Jan 31 23:59:58",
        "2026-12-31T23:59:59Z",
        "2027-01-31T23:59:58Z",
    );
    check(
        "Feb  1 00:00:00",
        "2026-12-31T23:59:59Z",
        "2026-02-01T00:00:00Z",
    );
    check(
        "Nov 28 00:00:00",
        "2026-10-28T00:00:00Z",
        "2026-11-28T00:00:00Z",
    );
    check(
        "Nov 28 00:00:01",
        "2026-10-28T00:00:00Z",
        "2025-11-28T00:00:01Z",
    );
}

#[test]
fn leap_days_without_a_year_and_zones_that_are_in_the_next() {
    let check = |text, now, expected| check_instant(text, now, &mut fixed(0), expected);
    check(
        "Feb 29 12:00:00",
        "2028-03-01T00:00:00Z",
        "2028-02-29T12:00:00Z",
    );
    check(
        "Feb 29 12:00:00",
        "2027-02-28T00:00:00Z",
        "2024-02-29T12:00:00Z",
    );
    check(
        "Feb 29 12:00:00",
        "2103-02-28T00:00:00Z",
        "2096-02-29T12:00:00Z",
    );
    // A zone may be in the next year already.
    let mut east = fixed(12 * 3600);
    check_instant(
        "Jan  1 05:00:00",
        "2026-12-31T17:00:00Z",
        &mut east,
        "2026-12-31T17:00:00Z",
    );
    check_instant(
        "Jan 31 05:00:00",
        "2026-11-30T00:00:00Z",
        &mut east,
        "2026-01-30T17:00:00Z",
    );
}

#[test]
fn clocks_put_forward_and_back() {
    let local = |text: &str| micros(&format!("{text}Z")) / SECOND;
    // Clocks go from 02:00 to 03:00; and back from 03:00 to 02:00.
    let mut forward = Zone {
        before: 3600,
        after: 7200,
        change: (local("2026-03-29T02:00:00"), local("2026-03-29T03:00:00")),
    };
    let mut back = Zone {
        before: 7200,
        after: 3600,
        change: (local("2026-10-25T02:00:00"), local("2026-10-25T03:00:00")),
    };
    let mut check = |text, now, expected| check_instant(text, now, &mut forward, expected);
    check(
        "2026-03-29T01:59:59",
        "2026-03-29T01:00:00Z",
        "2026-03-29T00:59:59Z",
    );
    check(
        "2026-03-29T02:30:00",
        "2026-03-29T01:30:00Z",
        "2026-03-29T01:30:00Z",
    );
    check(
        "2026-03-29T03:00:00",
        "2026-03-29T01:00:00Z",
        "2026-03-29T01:00:00Z",
    );
    let mut check = |text, now, expected| check_instant(text, now, &mut back, expected);
    check(
        "Oct 25 02:30:00",
        "2026-10-25T00:30:05Z",
        "2026-10-25T00:30:00Z",
    );
    check(
        "Oct 25 02:30:00",
        "2026-10-25T01:30:05Z",
        "2026-10-25T01:30:00Z",
    );
    check(
        "Oct 25 03:00:00",
        "2026-10-25T02:00:05Z",
        "2026-10-25T02:00:00Z",
    );
}

/// The usual form is read at fixed places: as the other way reads it, or not at all.
#[test]
fn the_usual_form_is_read_as_any_other() {
    let mut read = 0;
    let mut check = |text: &[u8]| {
        let context = String::from_utf8_lossy(text).into_owned();
        let found = usual(text, 0);
        if found.is_some() {
            assert_eq!(found, unusual(text, 0), "{context}");
            read += 1;
        }
    };
    for time in [
        "2026-11-27T10:00:00Z",
        "2024-02-29T23:59:60.123Z x",
        "2023-02-29T00:00:00Z x",
        "0001-01-31T00:00:00.123456789+01:00 ",
        "9999-12-31T00:00:00-23:59: x",
        "2000-04-31T00:00:00.1234567890Z",
        "2026-11-27T10:00:00.Z x",
        "2026-11-27T10:00:00.5-0130 x",
        "2026-11-27T10:00:00+01 x",
        "2026-11-27T10:00:00 x",
    ] {
        for cut in 0..=time.len() {
            check(&time.as_bytes()[..cut]);
        }
        for at in 0..time.len() {
            // Any byte in any place, its neighbours in the alphabet and its highest bit.
            for byte in 0..=255 {
                let mut text = time.as_bytes().to_vec();
                text[at] = byte;
                check(&text);
            }
        }
    }
    assert!(read > 1000, "{read} of the usual form");
}
