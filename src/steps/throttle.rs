//! `throttle`: drops the events beyond a rate, for all together or for each value of a key.
//!
//! A token bucket: it holds up to `burst` events and fills at the rate. A bucket that is full
//! again is the same as none and is forgotten. At most `max_keys` are kept; while there are that
//! many, all further keys share one, so that a peer who invents keys throttles himself.

use std::collections::HashMap;

use super::identity::{self, Identity};
use crate::event::{Batch, Event, Shared};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt, VALUE};
use crate::pipeline::options::{Mistake, Options, Rate};
use crate::pipeline::step::{Step, StepReport};

/// The step.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "throttle",
    summary: "drops the events beyond a rate",
    options: &[Opt::new(
        VALUE,
        "events let through, as in \"100/s\"; as a table with `rate`, `key`, `burst` and \
         `max_keys`",
        Kind::Either(&[Kind::Rate, Kind::Table(TABLE)]),
    )
    .required()],
    shared: &[],
    example: "{ throttle = { rate = \"100/s\", key = \"host\" } }",
    build: Build::Step(build),
};

const TABLE: &[Opt] = &[
    Opt::new("rate", "events let through", Kind::Rate).required(),
    Opt::new(
        "key",
        "field or metadata; each of its values has the rate for itself: `host`, `%peer`",
        Kind::Text(Some(identity::check)),
    ),
    Opt::new(
        "burst",
        "events let through at once after a pause; without it as many as the rate names",
        Kind::COUNT,
    ),
    Opt::new(
        "max_keys",
        "values told apart at once; further ones share one rate",
        Kind::COUNT,
    )
    .default("65536"),
];

const KEYS_MAX: u64 = 65_536;

fn build(options: &Options) -> Result<Box<dyn Step>, Mistake> {
    let table = options.table(VALUE);
    let rate = table.map_or_else(|| options.rate(VALUE), |table| table.rate("rate"));
    let Some(rate) = rate else {
        return Err(options.mistake(VALUE, "the rate is missing"));
    };
    let key = table.and_then(|table| table.maybe_text("key"));
    let identity = key.map(|key| Identity::of(&[key]).map_err(|mistake| mistake.of("key")));
    let burst = table.and_then(|table| table.maybe_count("burst"));
    let max_keys = table.map(|table| table.count("max_keys"));
    Ok(Box::new(Throttle {
        limit: Limit::new(rate, burst),
        identity: identity.transpose()?,
        max_keys: max_keys.unwrap_or(KEYS_MAX) as usize,
        buckets: HashMap::new(),
        common: Bucket::default(),
        sweep_at: 0,
    }))
}

/// The rate in the form that buckets are counted in.
#[derive(Clone, Copy)]
struct Limit {
    /// Nanoseconds for one event.
    cost: f64,
    /// Nanoseconds that a full bucket holds.
    burst: f64,
}

impl Limit {
    fn new(rate: Rate, burst: Option<u64>) -> Limit {
        let cost = 1e9 / rate.per_second();
        let events = burst.map_or(rate.events, |burst| burst as f64).max(1.0);
        Limit {
            cost,
            burst: cost * events,
        }
    }
}

/// How empty a bucket was when it was last used; the default is a full one.
#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Nanoseconds of filling that are owed.
    owed: f64,
    /// When that was, in nanoseconds.
    at: u64,
}

impl Bucket {
    fn owed_at(&self, now: u64) -> f64 {
        (self.owed - now.saturating_sub(self.at) as f64).max(0.0)
    }

    fn take(&mut self, limit: Limit, now: u64) -> bool {
        let owed = self.owed_at(now);
        let allowed = owed + limit.cost <= limit.burst * (1.0 + f64::EPSILON);
        self.owed = if allowed { owed + limit.cost } else { owed };
        self.at = now;
        allowed
    }
}

struct Throttle {
    limit: Limit,
    identity: Option<Identity>,
    max_keys: usize,
    buckets: HashMap<u128, Bucket>,
    /// Of all events where there is no key, else of the keys beyond `max_keys`.
    common: Bucket,
    /// Not before this time, in nanoseconds, is it worth looking for full buckets.
    sweep_at: u64,
}

impl Throttle {
    fn allows(&mut self, shared: Shared<'_>, event: &Event, now: u64) -> bool {
        let Some(identity) = &mut self.identity else {
            return self.common.take(self.limit, now);
        };
        let key = identity.identify(shared, event);
        if self.buckets.len() >= self.max_keys && !self.buckets.contains_key(&key) {
            self.sweep(now);
            if self.buckets.len() >= self.max_keys {
                return self.common.take(self.limit, now);
            }
        }
        self.buckets.entry(key).or_default().take(self.limit, now)
    }

    /// Forgets full buckets, at most once in the time that one takes to fill.
    fn sweep(&mut self, now: u64) {
        if now < self.sweep_at {
            return;
        }
        self.buckets.retain(|_, bucket| bucket.owed_at(now) > 0.0);
        self.sweep_at = now.saturating_add(self.limit.burst as u64);
    }
}

impl Step for Throttle {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let now = report.now.as_nanos();
        let before = batch.events.len();
        let (shared, events) = batch.split();
        events.retain(|event| self.allows(shared, event, now));
        report.filtered += (before - batch.events.len()) as u64;
    }

    fn remembers(&self) -> bool {
        true
    }
}
