//! What the end of a request means for the events in it (F-101).
//!
//! | answer | verdict |
//! |---|---|
//! | 2xx, whole | delivered |
//! | 408, 425, 429, 5xx; none, broken, cut off, too late | again, with back-off |
//! | 3xx; 401, 402, 403, 404, 405, 407, 410, 415, 421, 426 | again, slowly: a matter of config |
//! | 413 | too large: in halves |
//! | any other 4xx | refused: these events will never be taken |
//!
//! The last but two is never taken for a fault of the events: a wrong path or an expired token
//! would otherwise empty the whole buffer into the dead letters. 1xx is read over by the client.

use crate::deferred::Failure;
use crate::http::Response;
use crate::telemetry::escape::is_hostile;
use crate::time::{Duration, WallTime};

/// The meaning of an answer, or of none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The events have arrived.
    Delivered,
    /// It says nothing about these events: the request is made again.
    Failed(Failed),
    /// The request was too large.
    TooLarge(String),
    /// The destination will never take (some of) these events.
    Refused(String),
}

/// Why a request is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// The same for the same fault.
    pub(super) why: String,
    /// What the server says about it in its own words; may be empty.
    pub(super) excerpt: String,
    pub(super) cure: Cure,
}

/// What will help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Time: so much, where the server says.
    Time(Option<Duration>),
    /// Somebody who looks at this: who is asked, or who asks, is wrong.
    Config(&'static str),
}

impl Verdict {
    /// Judges the end of a request at `wall`.
    pub(super) fn of(answer: Result<Response, Failure>, wall: WallTime) -> Verdict {
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                return Verdict::Failed(Failed {
                    why: failure.text(),
                    excerpt: String::new(),
                    cure: Cure::Time(None),
                });
            }
        };
        let why = format!("answered {} {}", answer.status, answer.phrase());
        let (why, excerpt) = (why.trim_end().to_owned(), excerpt(&answer.body));
        match class(answer.status) {
            Class::Taken => Verdict::Delivered,
            Class::TooLarge => Verdict::TooLarge(sentence(&why, &excerpt)),
            Class::Refused => Verdict::Refused(sentence(&why, &excerpt)),
            Class::Again => Verdict::Failed(Failed {
                why,
                excerpt,
                cure: Cure::Time(answer.retry_after(wall, RETRY_AFTER_MAX)),
            }),
            Class::Misdirected(advice) => Verdict::Failed(Failed {
                why,
                excerpt,
                cure: Cure::Config(advice),
            }),
        }
    }
}

enum Class {
    Taken,
    Again,
    Misdirected(&'static str),
    TooLarge,
    Refused,
}

fn class(status: u16) -> Class {
    match (status, advice(status)) {
        (_, Some(advice)) => Class::Misdirected(advice),
        (200..=299, _) => Class::Taken,
        (413, _) => Class::TooLarge,
        (408 | 425 | 429, _) => Class::Again,
        (400..=499, _) => Class::Refused,
        // 5xx, and what no standard knows.
        _ => Class::Again,
    }
}

/// What is wrong, in the server's words too where it has any.
pub(super) fn sentence(why: &str, excerpt: &str) -> String {
    match excerpt {
        "" => why.to_owned(),
        _ => format!("{why}: {excerpt}"),
    }
}

/// What to look at, for a status that says nothing about the events.
fn advice(status: u16) -> Option<&'static str> {
    Some(match status {
        300..=399 => "redirects are not followed with events: set `url` to the place itself",
        401 | 407 => "check `auth`",
        402 | 403 => "check `auth`, and what this user may do there",
        404 | 405 | 410 => "check the path of `url`",
        415 => "check `encode`, `compress` and the content-type in `headers`",
        421 => "check the host of `url`",
        426 => "the server wants another protocol; check `url`",
        _ => return None,
    })
}

/// The beginning of a body as one line that is safe to show.
fn excerpt(body: &[u8]) -> String {
    let head = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES)]);
    let shown = |c: char| if is_hostile(c) { ' ' } else { c };
    let line: String = head.chars().map(shown).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What is shown of a body.
const EXCERPT_BYTES: usize = 200;

/// The longest pause that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: WallTime = WallTime::from_micros(0);

    #[test]
    fn f_101_each_status_has_its_class() {
        let check = |statuses: &[u16], expected: fn(&Verdict) -> bool| {
            for status in statuses {
                let found = Verdict::of(Ok(Response::new(*status)), WALL);
                assert!(expected(&found), "{status}: {found:?}");
            }
        };
        let again = |it: &Verdict| matches!(it, Verdict::Failed(it) if it.cure == Cure::Time(None));
        let misdirected =
            |it: &Verdict| matches!(it, Verdict::Failed(it) if matches!(it.cure, Cure::Config(_)));
        check(&[200, 201, 202, 204, 207, 299], |it| {
            *it == Verdict::Delivered
        });
        check(&[408, 425, 429, 500, 502, 503, 504, 599], again);
        check(&[101, 199, 600, 999], again);
        check(&[301, 304, 307, 401, 402, 403, 404, 405], misdirected);
        check(&[407, 410, 415, 421, 426], misdirected);
        check(&[413], |it| matches!(it, Verdict::TooLarge(_)));
        check(&[400, 406, 409, 411, 414, 418, 422, 431, 451, 499], |it| {
            matches!(it, Verdict::Refused(_))
        });
    }

    #[test]
    fn a_pause_that_the_server_asks_for_is_bounded() {
        let check = |status: u16, text: &str, expected: Option<u64>| {
            let answer = Response::new(status).with("retry-after", text);
            let Verdict::Failed(failed) = Verdict::of(Ok(answer), WALL) else {
                panic!("{status} is tried again");
            };
            let expected = Cure::Time(expected.map(Duration::from_secs));
            assert_eq!(failed.cure, expected, "{status} {text}");
        };
        check(429, "7", Some(7));
        check(503, "86400", Some(300));
        check(500, "now", None);
    }

    #[test]
    fn what_a_server_says_is_one_short_line() {
        let check = |body: &[u8], expected: &str| assert_eq!(excerpt(body), expected);
        check(b"no such index\n", "no such index");
        check(b"a\r\n\x1b[31mb\xff", "a [31mb\u{fffd}");
        check("x\u{202e}y".as_bytes(), "x y");
        check(&[b'x'; 1000], &"x".repeat(EXCERPT_BYTES));
        check("é".repeat(1000).as_bytes(), &"é".repeat(100));
        check(b"", "");
    }
}
