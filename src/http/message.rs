//! Requests, responses and headers as the rest of the crate sees them: plain types.
//!
//! hyper has checked the syntax; names compare without regard to case. Values are bytes: a
//! header may carry what is not UTF-8.

use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use hyper::header::{HeaderName, HeaderValue};

use super::body::Body;
use crate::time::{Duration, WallTime};

/// The header fields of one message, in the order of first appearance.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub(super) hyper::HeaderMap);

impl Headers {
    /// The first value of the field.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(HeaderValue::as_bytes)
    }

    /// The first value of the field, where it is visible ASCII.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    /// How often the field occurs.
    pub fn count(&self, name: &str) -> usize {
        self.0.get_all(name).iter().count()
    }

    /// All values of the field as one comma-separated list, lower case; what is not ASCII is
    /// replaced, and so matches nothing.
    pub fn list(&self, name: &str) -> Vec<String> {
        let values = self.0.get_all(name).iter();
        let texts = values.map(|value| String::from_utf8_lossy(value.as_bytes()).to_lowercase());
        let items = texts.flat_map(|text| {
            let items = text.split(',').map(|item| item.trim().to_owned());
            items.collect::<Vec<_>>()
        });
        items.filter(|item| !item.is_empty()).collect()
    }

    /// Sets the field to this one value; says whether both are allowed in a message.
    pub fn set(&mut self, name: &str, value: &[u8]) -> bool {
        let name = HeaderName::from_bytes(name.as_bytes());
        match (name, HeaderValue::from_bytes(value)) {
            (Ok(name), Ok(value)) => {
                self.0.insert(name, value);
                true
            }
            _ => false,
        }
    }
}

/// A request that a server received; its body is still on the wire.
pub struct Request {
    /// `POST`, `PUT`, …; as sent.
    pub method: String,
    /// Path and query as sent, beginning with `/` (or `*`).
    pub path: String,
    /// The header fields.
    pub headers: Headers,
    /// What follows them.
    pub body: Body,
    /// Who sent it: `127.0.0.1:5000`, or the path of a Unix socket.
    pub peer: Arc<str>,
}

/// A response, whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code, 100..=999.
    pub status: u16,
    /// The header fields; the framing ones are added when it is sent.
    pub headers: Headers,
    /// The content, decoded.
    pub body: Bytes,
}

impl Response {
    /// A response without content.
    pub fn new(status: u16) -> Self {
        Response {
            status,
            headers: Headers::default(),
            body: Bytes::new(),
        }
    }

    /// The usual words for the status: `Not Found`; none for one that has none.
    pub fn phrase(&self) -> &'static str {
        let status = hyper::StatusCode::from_u16(self.status);
        status.map_or("", |status| status.canonical_reason().unwrap_or_default())
    }

    /// How long the server asks to be left alone (RFC 9110 section 10.2.3), at `wall`; at most
    /// `max`, since its clock may be wrong.
    pub fn retry_after(&self, wall: WallTime, max: Duration) -> Option<Duration> {
        let text = self.headers.text("retry-after")?.trim();
        let pause = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let date = DateTime::parse_from_rfc2822(text).ok()?;
                let micros = date.timestamp_micros().saturating_sub(wall.as_micros());
                Duration::from_micros(u64::try_from(micros).unwrap_or(0))
            }
        };
        Some(pause.min(max))
    }

    /// With this header field.
    ///
    /// # Panics
    /// In debug builds, when the field is not allowed in a message.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        let was_set = self.headers.set(name, value.as_bytes());
        debug_assert!(was_set, "{name}: {value:?} is no header field");
        self
    }

    /// With a line of text that says why, for whoever reads it with their own eyes.
    pub fn because(self, why: &str) -> Self {
        let body = Bytes::from(format!("{why}\n"));
        Response { body, ..self }.with("content-type", "text/plain; charset=utf-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_119_pauses_are_bounded_whatever_the_server_says() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let wall = WallTime::from_micros(784_111_777_000_000);
        let max = Duration::from_secs(3600);
        let check = |text: &str, expected: Option<u64>| {
            let response = Response::new(503).with("retry-after", text);
            let pause = response.retry_after(wall, max);
            assert_eq!(pause, expected.map(Duration::from_secs), "{text}");
        };
        check("120", Some(120));
        check("99999999", Some(3600));
        check("Sun, 06 Nov 1994 08:50:37 GMT", Some(60));
        check("Sun, 06 Nov 1994 08:40:37 GMT", Some(0));
        check("Sat, 06 Nov 2094 08:50:37 GMT", Some(3600));
        check("soon", None);
        check("-1", None);
    }
}
