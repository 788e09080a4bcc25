//! What is logged of certificates.
//!
//! Each has one line at the start, at a reload, and once a day; the subject is ours, from a file
//! of the configuration, and short.

use super::DisplayDebug;

/// A certificate is in use, for so much longer.
#[derive(Debug)]
pub struct CertificateSeen<'a> {
    /// Its file.
    pub path: &'a dyn DisplayDebug,
    /// Whose it is, short.
    pub subject: &'a str,
    /// Its serial number.
    pub serial: &'a str,
    /// When it ends.
    pub not_after: &'a dyn DisplayDebug,
    /// Whole days until then; negative once it has ended.
    pub days_left: i64,
}

impl CertificateSeen<'_> {
    /// Logs it: a warning in its last month, an error in its last week.
    pub fn log(&self) {
        let CertificateSeen {
            path,
            subject,
            serial,
            not_after,
            days_left,
        } = self;
        let text = match days_left {
            ..0 => format!("the certificate {path} ended on {not_after}: peers refuse it"),
            _ => format!("the certificate {path} is valid for {days_left} more days"),
        };
        // The path tells one complaint from another where the same ones are counted only.
        let reason = path.to_string();
        if *days_left < ERROR_DAYS {
            tracing::error!(component = "daemon", event = "certificate", path = %path, subject,
                serial, not_after = %not_after, days_left, reason, "{text}; renew it and reload");
        } else if *days_left < WARNING_DAYS {
            tracing::warn!(component = "daemon", event = "certificate", path = %path, subject,
                serial, not_after = %not_after, days_left, reason, "{text}; renew it and reload");
        } else {
            tracing::info!(component = "daemon", event = "certificate", path = %path, subject,
                serial, not_after = %not_after, days_left, "{text}");
        }
    }
}

/// From so many days before its end a certificate is a warning, and an error.
const WARNING_DAYS: i64 = 30;
const ERROR_DAYS: i64 = 7;
