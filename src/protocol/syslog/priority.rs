//! The priority in angle brackets, and the names of its two halves.
//!
//! The grammar of RFC 5424, 6.2.1, for both formats: one to three digits, at most 191. RFC 3164
//! forbids a leading zero, which says nothing about what is meant, so it is read.

use super::{SyslogError, wrong};

/// Facility times eight, plus severity: 0 to 191.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Priority(u8);

/// The largest priority: facility 23, severity 7.
pub const PRIORITY_MAX: u8 = 191;

/// The keywords of the severities, in order of their codes (RFC 5424, table 2).
pub const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

/// The keywords of the facilities, in order of their codes (RFC 5424, table 1).
pub const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

impl Priority {
    /// The priority of this number; `None` beyond [`PRIORITY_MAX`].
    pub const fn new(number: u8) -> Option<Priority> {
        if number <= PRIORITY_MAX {
            Some(Priority(number))
        } else {
            None
        }
    }

    /// The number between the brackets.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The code of the facility, 0 to 23.
    pub const fn facility(self) -> u8 {
        self.0 / 8
    }

    /// The code of the severity, 0 to 7; the smaller, the worse.
    pub const fn severity(self) -> u8 {
        self.0 % 8
    }

    /// The keyword of the facility.
    pub const fn facility_name(self) -> &'static str {
        FACILITIES[self.facility() as usize]
    }

    /// The keyword of the severity.
    pub const fn severity_name(self) -> &'static str {
        SEVERITIES[self.severity() as usize]
    }
}

/// Reads `<34>` at the start of `text`, which begins with the bracket; gives the offset after it.
pub(super) fn read(text: &[u8]) -> Result<(Priority, usize), SyslogError> {
    let mut number = 0u16;
    let mut at = 1;
    while let Some(&digit @ b'0'..=b'9') = text.get(at) {
        if at > 3 {
            return Err(wrong(1, "a priority has at most three digits"));
        }
        number = number * 10 + u16::from(digit - b'0');
        at += 1;
    }
    if at == 1 {
        return Err(wrong(1, "expected a priority in digits"));
    }
    if text.get(at) != Some(&b'>') {
        return Err(wrong(at, "expected `>` after the priority"));
    }
    let priority = u8::try_from(number).ok().and_then(Priority::new);
    let priority = priority.ok_or(wrong(1, "the priority is beyond 191"))?;
    Ok((priority, at + 1))
}
