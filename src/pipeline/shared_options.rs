//! Options that several components share, by name and meaning, as groups for
//! [`super::descriptor::Descriptor::shared`].
//!
//! [`SOURCE`] and [`SINK`] belong to every source and every sink and are added by the
//! descriptor itself; the pipeline, not the component, acts on them. The other groups are for
//! components that listen or dial; they carry the same words, defaults and meanings everywhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::descriptor::{Kind, Opt};
use super::options::{Mistake, Options, Value};
use crate::time::Duration;

/// Of every source.
pub const SOURCE: &[Opt] = &[Opt::new(
    "ack",
    "when the sender gets its answer: \"received\" once every required sink has taken the \
     events over, \"durable\" once every required sink has them in its disk buffer, or delivered \
     them where it has none, \"delivered\" once every required sink has delivered them; without \
     it \"durable\" where every required sink has a disk buffer, else \"delivered\"",
    Kind::Word(&["received", "durable", "delivered"]),
)];

/// Of every sink.
pub const SINK: &[Opt] = &[
    Opt::new(
        "buffer.memory",
        "events held in memory while the sink is slow or away, in bytes as allocated; when it \
         is full the sources wait",
        Kind::Size {
            min: 64 << 10,
            max: 1 << 44,
            words: &[],
        },
    )
    .default("\"64MiB\""),
    Opt::new(
        "buffer.when_full",
        "what happens when the buffer is full: \"block\" makes the sources wait; \"drop_newest\" \
         drops what comes in, or refuses it where the sender is told; \"drop_oldest\" drops what \
         has waited longest, also where it was acknowledged",
        Kind::Word(&["block", "drop_newest", "drop_oldest"]),
    )
    .default("\"block\""),
    Opt::new(
        "buffer.disk",
        "size of a disk buffer, at least 8MiB: events are on disk before they count as \
         `durable`, and outlive the daemon and the machine's power; `buffer.memory` is then \
         what is held beside it. Without it events are held in memory alone",
        Kind::Size {
            min: 8 << 20,
            max: 1 << 50,
            words: &[],
        },
    ),
    Opt::new(
        "buffer.durability",
        "when an event counts as on disk: \"commit\" once it is synced, which a power cut does \
         not undo; \"interval:500ms\" once it is written, synced that often; \"os\" once it is \
         written, synced when the system likes. Belongs to `buffer.disk`",
        Kind::Text(Some(check_durability)),
    )
    .default("\"commit\""),
];

/// Of components that accept connections.
pub const ACCEPTING: &[Opt] = &[
    Opt::new(
        "idle_timeout",
        "a connection that sends nothing for so long is closed",
        Kind::Duration { words: &["off"] },
    )
    .default("\"off\""),
    Opt::new(
        "keepalive",
        "time between the kernel's probes of a silent TCP connection",
        Kind::Duration { words: &["off"] },
    )
    .default("\"60s\""),
    Opt::new(
        "max_connections",
        "connections open at once, over all workers; more are closed as they come, and counted",
        Kind::COUNT,
    )
    .default("65536"),
    Opt::new(
        "max_connections_per_peer",
        "connections open at once from one address; more are closed at once and counted",
        Kind::Count {
            min: 1,
            max: 1 << 24,
            words: &["off"],
        },
    )
    .default("\"off\""),
];

/// Of components that dial.
pub const DIALLING: &[Opt] = &[
    Opt::new(
        "connect_timeout",
        "limit of one attempt to connect, name look-up and all addresses included",
        Kind::DURATION,
    )
    .default("\"10s\""),
    Opt::new(
        "retry.max_delay",
        "longest pause between two attempts; pauses grow from 1 s by doubling, each drawn \
         between half and all of it",
        Kind::DURATION,
    )
    .default("\"30s\""),
    Opt::new(
        "retry.give_up",
        "attempts are given up after this time without success",
        Kind::Duration { words: &["never"] },
    )
    .default("\"never\""),
];

/// Of components that make HTTP requests; see [`header_fields`].
pub const ASKING: &[Opt] = &[
    Opt::new(
        "headers",
        "more header fields to send; a value may be a secret",
        Kind::Map(&Kind::Either(&[Kind::Secret, Kind::TEXT])),
    ),
    Opt::new(
        "auth",
        "who asks: { basic = { user = \"…\", password = { env = \"…\" } } } or { bearer = \
         { env = \"…\" } }; sent to the URL's own host and port only",
        Kind::Choice(AUTH),
    ),
];

const AUTH: &[Opt] = &[
    Opt::new("basic", "user and password", Kind::Table(BASIC)),
    Opt::new("bearer", "the token", Kind::Secret),
];

const BASIC: &[Opt] = &[
    Opt::new("user", "the user's name", Kind::TEXT).required(),
    Opt::new("password", "the user's password", Kind::Secret).required(),
];

/// Header fields that would break the exchange, or that the daemon means something by.
const OURS: &[&str] = &[
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "idempotency-key",
    "if-modified-since",
    "if-none-match",
    "range",
    "transfer-encoding",
    "upgrade",
];

/// Gives every header field that the options of [`ASKING`] name to `set`, which says whether it
/// may be in a message. Secrets that a check cannot read are left out.
///
/// # Errors
/// A field cannot be sent, or is the daemon's own.
pub fn header_fields(
    options: &Options,
    mut set: impl FnMut(&str, &[u8]) -> bool,
) -> Result<(), Mistake> {
    for (name, value) in options.map("headers") {
        let wrong = |message: &str| Mistake::new(message).of(format!("headers.{name}"));
        if OURS.contains(&name.to_lowercase().as_str()) {
            return Err(wrong("this header field is set by the daemon itself"));
        }
        let is_sent = match &value.value {
            Value::Secret(None) => true,
            Value::Secret(Some(secret)) => set(name, secret.reveal()),
            _ => set(name, value.as_text().unwrap_or_default().as_bytes()),
        };
        if !is_sent {
            return Err(wrong(
                "not a header field: a name or value has a wrong character",
            ));
        }
    }
    match authorization(options) {
        Some(value) if !set("authorization", &value) => {
            Err(options.mistake("auth", "the secret has a character that cannot be sent"))
        }
        _ => Ok(()),
    }
}

/// `Authorization` (RFC 7617, RFC 6750); none where a check cannot read the secret.
fn authorization(options: &Options) -> Option<Vec<u8>> {
    let auth = options.table("auth")?;
    if auth.chosen() == "bearer" {
        let token = auth.secret("bearer")?;
        return Some([b"Bearer ", token.reveal()].concat());
    }
    let basic = auth.table("basic")?;
    let password = basic.secret("password")?;
    let pair = [basic.text("user").as_bytes(), b":", password.reveal()].concat();
    Some(format!("Basic {}", STANDARD.encode(pair)).into_bytes())
}

/// The largest message of a framed input.
pub const MAX_MESSAGE: Opt = Opt::new(
    "max_message",
    "longest message, in bytes; of a longer one the first part is kept and marked `truncated`",
    Kind::Size {
        min: 16,
        max: 1 << 30,
        words: &[],
    },
)
.default("\"64KiB\"");

/// When an event counts as on disk: the meaning of `buffer.durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once it is synced.
    Commit,
    /// Once it is written; it is synced within so long.
    Interval(Duration),
    /// Once it is written.
    Os,
}

/// Reads `buffer.durability`.
///
/// # Errors
/// It is none of the three, or the interval is none from 1 ms to 1 h.
pub fn durability(text: &str) -> Result<Durability, Mistake> {
    let wrong = || {
        Mistake::new("not a durability")
            .help("write \"commit\", \"interval:500ms\" or \"os\"; the interval is from 1ms to 1h")
    };
    match text {
        "commit" => return Ok(Durability::Commit),
        "os" => return Ok(Durability::Os),
        _ => {}
    }
    let interval = text.strip_prefix("interval:").ok_or_else(wrong)?;
    let digits = interval.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &interval[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match number.checked_mul(unit) {
        Some(millis @ 1..=3_600_000) => Ok(Durability::Interval(Duration::from_millis(millis))),
        _ => Err(wrong()),
    }
}

fn check_durability(text: &str) -> Result<(), Mistake> {
    durability(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durabilities_are_words_and_intervals() {
        let millis = |number| Ok(Durability::Interval(Duration::from_millis(number)));
        let check = |text, expected: Result<Durability, ()>| {
            assert_eq!(durability(text).map_err(drop), expected, "{text}");
        };
        check("commit", Ok(Durability::Commit));
        check("os", Ok(Durability::Os));
        check("interval:500ms", millis(500));
        check("interval:2s", millis(2_000));
        check("interval:1h", millis(3_600_000));
        for text in [
            "",
            "Commit",
            "interval",
            "interval:",
            "interval:0s",
            "interval:2",
            "interval:s",
            "interval:-1s",
            "interval:61m",
            "interval:99999999999999999999s",
            "interval: 1s",
        ] {
            check(text, Err(()));
        }
    }
}
