//! One URL that is polled: when, whether, and what its answers mean.
//!
//! A round is a request and the delivery of what it brought. Rounds of one URL never overlap: a
//! tick that finds one going on, or may not begin one, is skipped and counted.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::deferred::{CancelHandle, Deferred, Failure, Semaphore};
use crate::event::{Batch, Event, Origin, Span};
use crate::http::{Client, Headers, Response, Url};
use crate::pipeline::intake::{Intake, Outlet};
use crate::pipeline::part::Lost;
use crate::protocol::json;
use crate::reactor::{Handle, TimerGuard};
use crate::telemetry::events::{PollCounts, PollFailed, PollRecovered, PollSkipped};
use crate::time::{Duration, Instant};

/// What the pollers of a source share.
pub(super) struct Plan {
    reactor: Handle,
    component: String,
    every: Duration,
    start: Instant,
    split: Option<Vec<String>>,
    /// Requests under way.
    places: Semaphore,
}

impl Plan {
    pub(super) fn new(
        reactor: &Handle,
        outlet: &Outlet,
        every: Duration,
        split: Option<Vec<String>>,
    ) -> Self {
        Plan {
            component: format!("source.{}", outlet.name()),
            every,
            start: reactor.fresh(),
            split,
            places: Semaphore::new(REQUESTS_MAX),
            reactor: reactor.clone(),
        }
    }
}

/// What a poller asks for.
pub(super) struct Round {
    client: Client,
    url: Url,
    headers: Headers,
}

impl Round {
    pub(super) fn new(client: &Client, url: &Url, headers: &Headers) -> Self {
        Round {
            client: client.clone(),
            url: url.clone(),
            headers: headers.clone(),
        }
    }
}

/// One URL.
pub(super) struct Poller {
    plan: Rc<Plan>,
    round: Round,
    origin: Arc<Origin>,
    intake: Intake,
    /// Where in the period its ticks are.
    phase: Duration,
    timer: RefCell<Option<TimerGuard>>,
    state: Cell<State>,
    request: RefCell<Option<CancelHandle>>,
    /// Of the last document that was delivered.
    validators: RefCell<Validators>,
    not_before: Cell<Instant>,
    failing: RefCell<Option<Failing>>,
    counts: Counts,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// A request is under way, or what it brought is being delivered.
    Busy,
    Stopped,
}

/// What makes a request conditional (RFC 9110 section 13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Validators {
    etag: Option<Vec<u8>>,
    last_modified: Option<Vec<u8>>,
}

/// A failure that goes on.
struct Failing {
    why: String,
    rounds: u64,
}

/// What a poller counts beside the events in its pipelines' ledgers.
#[derive(Debug, Default)]
struct Counts {
    documents: Cell<u64>,
    unchanged: Cell<u64>,
    failures: Cell<u64>,
    skipped: Cell<u64>,
}

impl Poller {
    pub(super) fn new(plan: &Rc<Plan>, outlet: &Outlet, round: Round) -> Rc<Self> {
        let origin = Origin {
            source: outlet.name().as_ref().into(),
            peer: round.url.to_string().into(),
        };
        let key = format!("{} {}{}", outlet.name(), round.url, round.url.target());
        Rc::new(Poller {
            phase: share_of(plan.every, &key),
            plan: Rc::clone(plan),
            round,
            origin: Arc::new(origin),
            intake: outlet.intake(),
            timer: RefCell::default(),
            state: Cell::new(State::Idle),
            request: RefCell::default(),
            validators: RefCell::default(),
            not_before: Cell::new(Instant::ZERO),
            failing: RefCell::default(),
            counts: Counts::default(),
        })
    }

    /// Sets the first tick.
    pub(super) fn begin(self: &Rc<Self>) {
        let every = self.plan.every;
        let soon = self
            .phase
            .mul_f64((FIRST_WITHIN.as_secs_f64() / every.as_secs_f64()).min(1.0));
        self.tick_at(self.plan.start + soon);
    }

    /// Documents, answers without news, failures and rounds left out, since the start.
    pub(super) fn counts(&self) -> [u64; 4] {
        let counts = &self.counts;
        [
            counts.documents.get(),
            counts.unchanged.get(),
            counts.failures.get(),
            counts.skipped.get(),
        ]
    }

    /// No more ticks; a request under way is given up.
    pub(super) fn stop(&self) {
        self.state.set(State::Stopped);
        drop(self.timer.take());
        let request = self.request.take();
        if let Some(request) = request {
            request.cancel();
        }
        let counts = &self.counts;
        let record = PollCounts {
            component: &self.plan.component,
            url: &self.round.url,
            documents: counts.documents.get(),
            unchanged: counts.unchanged.get(),
            failures: counts.failures.get(),
            skipped: counts.skipped.get(),
        };
        record.log();
    }

    fn tick_at(self: &Rc<Self>, at: Instant) {
        let weak = Rc::downgrade(self);
        let timer = self.plan.reactor.call_at(at, move |_| {
            if let Some(poller) = weak.upgrade() {
                poller.tick(at);
            }
        });
        *self.timer.borrow_mut() = Some(timer.guard());
    }

    fn tick(self: &Rc<Self>, at: Instant) {
        let now = self.plan.reactor.now();
        self.tick_at(self.next_tick(at.max(now)));
        let may = self.state.get() == State::Idle
            && now >= self.not_before.get()
            && !self.intake.is_blocked();
        if may {
            self.ask();
        } else {
            add(&self.counts.skipped);
            let (component, url) = (&self.plan.component, &self.round.url);
            PollSkipped { component, url }.log();
        }
    }

    /// The next instant of this URL's phase that is still to come, and not so soon that the
    /// first two rounds meet.
    fn next_tick(&self, last: Instant) -> Instant {
        next_tick(self.plan.start + self.phase, self.plan.every, last)
    }

    fn ask(self: &Rc<Self>) {
        self.state.set(State::Busy);
        let (poller, other) = (Rc::clone(self), Rc::clone(self));
        let asked = self.plan.places.acquire().add_callback(move |place| {
            let answer = poller
                .round
                .client
                .get(&poller.round.url, &poller.conditional());
            answer.add_both(move |result| {
                drop(place);
                result
            })
        });
        *self.request.borrow_mut() = Some(asked.canceller());
        drop(asked.add_both(move |result| other.answered(result)));
    }

    /// The header fields, with what makes the request conditional.
    fn conditional(&self) -> Headers {
        let mut headers = self.round.headers.clone();
        let validators = self.validators.borrow();
        let fields = [
            ("if-none-match", &validators.etag),
            ("if-modified-since", &validators.last_modified),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                headers.set(name, value);
            }
        }
        headers
    }

    /// The request is over.
    fn answered(self: &Rc<Self>, result: Result<Response, Failure>) {
        drop(self.request.take());
        if self.state.get() == State::Stopped {
            return;
        }
        let taken = match result {
            Ok(answer) => self.take(answer),
            Err(failure) => Err(failure.text()),
        };
        match taken {
            Ok(None) => {
                self.state.set(State::Idle);
                self.works();
            }
            Ok(Some((batch, validators))) => {
                add(&self.counts.documents);
                self.works();
                self.deliver(batch, validators);
            }
            Err(why) => {
                self.state.set(State::Idle);
                self.fails(why);
            }
        }
    }

    /// What an answer brings: events, or nothing new.
    fn take(&self, answer: Response) -> Result<Option<(Batch, Validators)>, String> {
        let now = self.plan.reactor.now();
        let wall = self.plan.reactor.wall();
        let is_conditional = *self.validators.borrow() != Validators::default();
        match answer.status {
            200 => {}
            204 => return Ok(None),
            304 if is_conditional => {
                add(&self.counts.unchanged);
                return Ok(None);
            }
            304 => return Err("304 in answer to a request without condition".into()),
            status => {
                if let Some(pause) = answer.retry_after(wall, RETRY_AFTER_MAX) {
                    self.not_before.set(now + pause);
                }
                return Err(format!("the server answered {status}"));
            }
        }
        let value = |name: &str| answer.headers.get(name).map(<[u8]>::to_vec);
        let validators = Validators {
            etag: value("etag"),
            last_modified: value("last-modified"),
        };
        let events = self.events(&answer.body)?;
        let mut batch = Batch::new(Arc::clone(&self.origin), wall, answer.body);
        batch.events = events.into();
        Ok(Some((batch, validators)))
    }

    fn events(&self, document: &[u8]) -> Result<Vec<Event>, String> {
        let Some(split) = &self.plan.split else {
            let all = Event::Raw(Span::new(0, document.len()));
            return Ok(Vec::from_iter((!document.is_empty()).then_some(all)));
        };
        let path: Vec<&str> = split.iter().map(String::as_str).collect();
        let elements = json::elements(document, &path)
            .map_err(|error| format!("the document cannot be split: {error}"))?;
        let event = |span: crate::protocol::Span| {
            Event::Raw(Span {
                start: span.start,
                end: span.end,
            })
        };
        Ok(elements.into_iter().map(event).collect())
    }

    /// The round is over when the delivery is: the document counts as known only then.
    fn deliver(self: &Rc<Self>, batch: Batch, validators: Validators) {
        let poller = Rc::clone(self);
        let settle = move |is_delivered: bool| {
            if is_delivered {
                *poller.validators.borrow_mut() = validators;
            }
            if poller.state.get() == State::Busy {
                poller.state.set(State::Idle);
            }
        };
        if batch.events.is_empty() {
            return settle(true);
        }
        // A failure is in the books of the sink that gave up; the document is asked for again,
        // unless events in it would be refused again.
        let delivered: Deferred<()> = self
            .intake
            .deliver(batch)
            .add_both(move |result| settle(result.map_or_else(|f| is_for_good(&f), |_| true)));
        drop(delivered);
    }

    fn works(&self) {
        let Some(Failing { rounds, .. }) = self.failing.take() else {
            return;
        };
        let record = PollRecovered {
            component: &self.plan.component,
            url: &self.round.url,
            failures: rounds,
        };
        record.log();
    }

    fn fails(&self, why: String) {
        add(&self.counts.failures);
        let mut failing = self.failing.borrow_mut();
        let rounds = failing.as_ref().map_or(0, |failing| failing.rounds) + 1;
        let is_news = failing.as_ref().is_none_or(|failing| failing.why != why);
        if is_news {
            let record = PollFailed {
                component: &self.plan.component,
                url: &self.round.url,
                why: &why,
                failures: rounds,
            };
            record.log();
        }
        *failing = Some(Failing { why, rounds });
    }
}

fn is_for_good(failure: &Failure) -> bool {
    let lost = failure.downcast_ref::<Lost>();
    lost.is_some_and(|lost| lost.is_for_good)
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// A part of `whole` that depends on `key` alone (FNV-1a, 64 bits; spread, not secrecy).
fn share_of(whole: Duration, key: &str) -> Duration {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The high half mixes best; a finer phase than 1 in 4 billion is of no use.
    whole
        .mul_f64((hash >> 32) as f64 / f64::from(u32::MAX))
        .min(whole)
}

/// The first instant `base + n * every` that is at least half a period after `last`.
fn next_tick(base: Instant, every: Duration, last: Instant) -> Instant {
    let earliest = last + every / 2;
    let ahead = earliest.since(base).as_nanos();
    let periods = ahead.div_ceil(every.as_nanos().max(1));
    let nanos = periods.saturating_mul(every.as_nanos());
    base + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The first round begins within this time, or within the period where that is shorter.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// The longest pause that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Requests of one source at a time; more wait for their turn.
const REQUESTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_118_phases_are_stable_and_spread_over_the_period() {
        let every = Duration::from_secs(60);
        let phases: Vec<_> = (0..1000)
            .map(|n| share_of(every, &format!("status http://h{n}/")))
            .collect();
        assert_eq!(phases[7], share_of(every, "status http://h7/"));
        for second in (0..60).step_by(10) {
            let from = Duration::from_secs(second);
            let to = from + Duration::from_secs(10);
            let count = phases.iter().filter(|p| **p >= from && **p < to).count();
            assert!((100..250).contains(&count), "{count} at {second} s");
        }
    }

    #[test]
    fn ticks_keep_their_phase() {
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let every = Duration::from_secs(10);
        let check = |last, next| assert_eq!(next_tick(at(7), every, at(last)), at(next));
        check(0, 7); // the first round was at once
        check(4, 17); // so soon before the phase that a period is left out
        check(7, 17);
        check(17, 27);
    }
}
