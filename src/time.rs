//! Time: what the rest of the crate may know of it, and the only reader of clocks.
//!
//! An [`Instant`] is nanoseconds since the clock's own start and never goes back; a
//! [`WallTime`] is microseconds since 1970-01-01T00:00:00Z, for logs and events only, and may
//! jump. Deadlines are always instants. [`Clock`] is the seam: [`SystemClock`] here, a virtual
//! one in `sim`. [`Timers`] is all that a Deferred needs of a reactor.

use std::cell::Cell;
use std::fmt;
use std::ops::{Add, Sub};

pub use std::time::Duration;

/// A point on a monotonic clock, in nanoseconds since that clock was made.
///
/// Additions saturate: a delay of 500 years is "never", not a panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The instant at which the clock was made.
    pub const ZERO: Instant = Instant(0);
    /// Later than every deadline that can be reached (584 years).
    pub const FAR: Instant = Instant(u64::MAX);

    /// The instant `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, delay: Duration) -> Instant {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

/// Microseconds since 1970-01-01T00:00:00Z, as the system's wall clock had it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

impl WallTime {
    /// The wall time `micros` microseconds after the epoch (before it when negative).
    pub const fn from_micros(micros: i64) -> Self {
        WallTime(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// RFC 3339 in UTC with six fractional digits: `2026-11-23T18:42:00.000001Z`.
    #[inline]
    pub fn rfc3339(self) -> [u8; RFC3339_BYTES] {
        let (second, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        if LAST_SECOND.get().0 != second {
            self.keep_second(second);
        }
        // Loaded again: one place that it comes from is one copy.
        let mut text = LAST_SECOND.get().1;
        let digits = (eight_digits(micros as u32) + ASCII_ZEROS).to_le_bytes();
        text[20..26].copy_from_slice(&digits[2..]);
        text
    }

    #[cold]
    #[inline(never)]
    fn keep_second(self, second: i64) {
        LAST_SECOND.set((second, Civil::of(self).second_text()));
    }

    /// Writes what [`WallTime::rfc3339`] gives.
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.rfc3339());
    }

    /// The UTC calendar fields.
    pub fn civil(self) -> Civil {
        Civil::of(self)
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.rfc3339()).unwrap_or("?"))
    }
}

/// A UTC date and time of day. The year is clamped to 0..=9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// 0..=9999
    pub year: u32,
    /// 1..=12
    pub month: u32,
    /// 1..=31
    pub day: u32,
    /// 0..=23
    pub hour: u32,
    /// 0..=59
    pub minute: u32,
    /// 0..=59
    pub second: u32,
    /// 0..=999 999
    pub micros: u32,
}

/// What a time of RFC 3339 is long, in bytes.
pub const RFC3339_BYTES: usize = 27;

/// A time of RFC 3339 whose micros are still to be written.
type SecondText = [u8; RFC3339_BYTES];

/// A second that no time is in: they are a million times less than the least number.
const NO_SECOND: i64 = i64::MIN;

thread_local! {
    /// The second that was written last and its text: times come many in a second.
    static LAST_SECOND: Cell<(i64, SecondText)> =
        const { Cell::new((NO_SECOND, [0; RFC3339_BYTES])) };
}

impl Civil {
    fn second_text(self) -> SecondText {
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        put(&mut text[0..4], self.year);
        put(&mut text[5..7], self.month);
        put(&mut text[8..10], self.day);
        put(&mut text[11..13], self.hour);
        put(&mut text[14..16], self.minute);
        put(&mut text[17..19], self.second);
        text
    }

    /// Days to a date in the proleptic Gregorian calendar: eras of 400 years beginning on
    /// 1 March, so that the leap day is the last day of a year.
    fn of(wall: WallTime) -> Civil {
        const DAY: i64 = 86_400_000_000;
        let days = wall.0.div_euclid(DAY);
        let micros_of_day = wall.0.rem_euclid(DAY);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let seconds = micros_of_day / 1_000_000;
        Civil {
            year: year.clamp(0, 9999) as u32,
            month: month as u32,
            day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32,
            hour: (seconds / 3600) as u32,
            minute: (seconds / 60 % 60) as u32,
            second: (seconds % 60) as u32,
            micros: (micros_of_day % 1_000_000) as u32,
        }
    }
}

/// Writes `number` in decimal into all of `digits`, leading zeros kept.
fn put(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// What makes characters of [`eight_digits`].
pub const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;

/// The eight decimal digits of a number below 10^8, zeros in front: a byte for each, the first
/// in the lowest. Halves are halved, all at once.
#[inline]
pub const fn eight_digits(number: u32) -> u64 {
    debug_assert!(number < 100_000_000);
    let number = number as u64;
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    // Both factors are a little more than a power of two over the divisor, exact to below it.
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - tens * 10) << 8)
}

/// A source of time: one of the five seams to the operating system.
pub trait Clock {
    /// Now, on a clock that never goes back.
    fn now(&self) -> Instant;
    /// Now, as a calendar would have it; may jump.
    fn wall(&self) -> WallTime;
}

/// The machine's clocks: CLOCK_MONOTONIC and CLOCK_REALTIME.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose [`Instant::ZERO`] is this call.
    #[allow(clippy::new_without_default)] // a default that reads a clock would surprise
    pub fn new() -> Self {
        SystemClock {
            start: std::time::Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> WallTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let micros = match since {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        WallTime(micros)
    }
}

/// The processor time, of the process and of the system for it, that all threads of this process
/// have had so far.
pub fn process_cpu() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(spent.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(spent.tv_nsec).unwrap_or_default())
}

/// What may be asked of whoever keeps timers: enough for a Deferred's time limit.
pub trait Timers {
    /// Runs `call` once, `delay` from now, in a later turn. The answer cancels it.
    fn call_after(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Box<dyn Cancel>;
}

/// What a room below the reactor may ask of it: time, timers and a place in the next turn.
pub trait Scheduler: Timers {
    /// The reactor's idea of now.
    fn now(&self) -> Instant;
    /// The wall clock, for records and events.
    fn wall(&self) -> WallTime;
    /// Queues `call` for the turn to run: how one component tells another something without
    /// running its code inside its own.
    fn call_soon(&self, call: Box<dyn FnOnce()>);
}

/// Takes a timer back.
pub trait Cancel {
    /// The call will not be made; nothing happens where it already was.
    fn cancel(self: Box<Self>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_of_known_instants() {
        let check = |micros, text: &str| assert_eq!(WallTime(micros).to_string(), text);
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400_000_000, "2000-02-29T00:00:00.000000Z");
        check(1_795_459_319_123_456, "2026-11-23T18:41:59.123456Z");
        check(-1, "1969-12-31T23:59:59.999999Z");
        // A second again, with other micros, and back.
        check(-999_999, "1969-12-31T23:59:59.000001Z");
        check(1, "1970-01-01T00:00:00.000001Z");
        check(-1_000_000, "1969-12-31T23:59:59.000000Z");
    }

    #[test]
    fn eight_digits_are_those_of_the_number() {
        // Every four digits in either half, and what is in the other half does not matter.
        for number in (0..10_000).flat_map(|four| [four, four * 10_000, four * 10_001]) {
            let digits = (eight_digits(number) + ASCII_ZEROS).to_le_bytes();
            assert_eq!(digits, format!("{number:08}").as_bytes());
        }
    }

    #[test]
    fn instants_saturate() {
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::FAR);
        assert_eq!(Instant::ZERO.since(Instant::FAR), Duration::ZERO);
    }
}
