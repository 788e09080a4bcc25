//! Time zones: what the clocks on a wall show, for times that name none.
//!
//! The rules of all zones are compiled in, so no file is read for them. The daemon's own zone is
//! asked for once: `TZ` where it names a zone, else the one that `/etc/localtime` links to or
//! `/etc/timezone` names, else UTC.

use std::sync::OnceLock;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Tz);

/// The offset that a clock changes from, and the one that it changes to, in seconds east of UTC;
/// the same where it does not change.
pub type Change = (i32, i32);

/// For how long an answer is kept, in seconds: clocks change at full quarters of an hour.
const KEPT_SECONDS: i64 = 900;

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone(Tz::UTC);

    /// The zone of this name in the IANA database: `Europe/Berlin`.
    pub fn named(name: &str) -> Option<Zone> {
        name.parse().ok().map(Zone)
    }

    /// The daemon's own.
    pub fn local() -> Zone {
        static LOCAL: OnceLock<Zone> = OnceLock::new();
        *LOCAL.get_or_init(|| {
            let variable = std::env::var("TZ").ok();
            let named = variable.and_then(|name| Zone::named(name.trim_start_matches(':')));
            let system = || Zone::named(&iana_time_zone::get_timezone().ok()?);
            named.or_else(system).unwrap_or(Zone::UTC)
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The offsets that may be meant by a local time, in seconds as if it were of UTC. Where the
    /// clocks are put back both are; where they are put forward neither is.
    pub fn at_local(self, local_seconds: i64) -> Change {
        let Some(local) = naive(local_seconds) else {
            return (0, 0);
        };
        match self.0.offset_from_local_datetime(&local) {
            MappedLocalTime::Single(offset) => both(offset.fix().local_minus_utc()),
            MappedLocalTime::Ambiguous(first, second) => (
                first.fix().local_minus_utc(),
                second.fix().local_minus_utc(),
            ),
            // No zone is a day from UTC, and none changes twice in two days.
            MappedLocalTime::None => (
                self.at_utc(local_seconds - DAY_SECONDS),
                self.at_utc(local_seconds + DAY_SECONDS),
            ),
        }
    }

    /// The offset at an instant, in seconds since 1970-01-01T00:00:00Z.
    pub fn at_utc(self, seconds: i64) -> i32 {
        let offset = |utc| self.0.offset_from_utc_datetime(&utc);
        naive(seconds).map_or(0, |utc| offset(utc).fix().local_minus_utc())
    }
}

const DAY_SECONDS: i64 = 86_400;

fn both(offset: i32) -> Change {
    (offset, offset)
}

fn naive(seconds: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp(seconds, 0).map(|time| time.naive_utc())
}

/// A zone's last answers: most times are of the same quarter of an hour as the ones before.
#[derive(Clone, Copy, Debug)]
pub struct KeptZone {
    zone: Zone,
    local: (i64, Change),
    utc: (i64, i32),
}

impl KeptZone {
    /// Nothing is known yet.
    pub fn new(zone: Zone) -> KeptZone {
        KeptZone {
            zone,
            local: (i64::MIN, (0, 0)),
            utc: (i64::MIN, 0),
        }
    }

    /// As [`Zone::at_local`].
    pub fn at_local(&mut self, local_seconds: i64) -> Change {
        let quarter = local_seconds.div_euclid(KEPT_SECONDS);
        if self.local.0 != quarter {
            self.local = (quarter, self.zone.at_local(quarter * KEPT_SECONDS));
            let last = self
                .zone
                .at_local(quarter * KEPT_SECONDS + KEPT_SECONDS - 1);
            if last != self.local.1 {
                // History has changes at odd minutes; they are not kept.
                self.local.0 = i64::MIN;
                return self.zone.at_local(local_seconds);
            }
        }
        self.local.1
    }

    /// As [`Zone::at_utc`].
    pub fn at_utc(&mut self, seconds: i64) -> i32 {
        let quarter = seconds.div_euclid(KEPT_SECONDS);
        if self.utc.0 != quarter {
            self.utc = (quarter, self.zone.at_utc(quarter * KEPT_SECONDS));
            let last = self.zone.at_utc(quarter * KEPT_SECONDS + KEPT_SECONDS - 1);
            if last != self.utc.1 {
                self.utc.0 = i64::MIN;
                return self.zone.at_utc(seconds);
            }
        }
        self.utc.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i32 = 3600;

    fn seconds(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp()
    }

    #[test]
    fn clocks_of_berlin() {
        let mut kept = KeptZone::new(Zone::named("Europe/Berlin").unwrap());
        let mut check = |local: &str, expected: Change| {
            let local = seconds(&format!("{local}Z"));
            assert_eq!(kept.at_local(local), expected);
            assert_eq!(kept.zone.at_local(local), expected);
        };
        check("2026-01-01T00:00:00", (HOUR, HOUR));
        check("2026-03-29T01:59:59", (HOUR, HOUR));
        check("2026-03-29T02:00:00", (HOUR, 2 * HOUR));
        check("2026-03-29T02:59:59", (HOUR, 2 * HOUR));
        check("2026-03-29T03:00:00", (2 * HOUR, 2 * HOUR));
        check("2026-10-25T01:59:59", (2 * HOUR, 2 * HOUR));
        check("2026-10-25T02:30:00", (2 * HOUR, HOUR));
        check("2026-10-25T03:00:00", (HOUR, HOUR));
        // Local mean time, up to 1893-04-01.
        check("1893-03-31T12:00:00", (3208, 3208));
        assert_eq!(kept.at_utc(seconds("2026-07-01T00:00:00Z")), 2 * HOUR);
        assert_eq!(kept.at_utc(seconds("2026-12-01T00:00:00Z")), HOUR);
        assert_eq!(kept.at_utc(i64::MAX / 2), 0);
        assert_eq!(kept.at_local(i64::MIN / 2), (0, 0));
    }

    #[test]
    fn answers_that_are_kept_are_the_same() {
        for name in [
            "Asia/Kathmandu",
            "Australia/Lord_Howe",
            "America/St_Johns",
            "UTC",
        ] {
            let zone = Zone::named(name).unwrap();
            let mut kept = KeptZone::new(zone);
            let start = seconds("2026-01-01T00:00:00Z");
            for step in 0..40_000 {
                let at = start + step * 797;
                assert_eq!(kept.at_local(at), zone.at_local(at), "{name} at {at}");
                assert_eq!(kept.at_utc(at), zone.at_utc(at), "{name} at {at}");
            }
        }
        assert_eq!(Zone::named("Europe/Nowhere"), None);
        assert_eq!(Zone::UTC.name(), "UTC");
        assert!(Zone::named(Zone::local().name()).is_some());
    }
}
