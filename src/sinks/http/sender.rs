//! The sink at work: gathers a request, brings it there, settles what was in it, and again.
//!
//! It is one coroutine, so what it does stands here in the order in which it happens. Parts are
//! never held by the coroutine itself but in the [`Hold`], from which [`Running::stop`] takes
//! them wherever the coroutine was; it ends at the next look at `is_stopped`.
//!
//! Bounds: one request under way, of `batch.bytes` (or one event); what is taken from the inlet
//! beyond that is one part. A refused request is made into [`ISOLATING_MAX`] others at most; a
//! request that is too large into two per event at most, and those after it are made smaller.

use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::rc::Rc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::deferred::{CancelHandle, Deferred, Failure, Promise};
use crate::http::{Budget, Client, ClientOptions, Headers, Url};
use crate::pipeline::encode::{Encoder, Output};
use crate::pipeline::intake::CONNECTION_WINDOW_BYTES;
use crate::pipeline::port::Inlet;
use crate::reactor::Handle;
use crate::reactor::worker::Pool;
use crate::telemetry::events::{EventsRefused, PostFailed, PostRecovered, PostsSmaller};
use crate::time::{Duration, Instant};
use crate::transport::{Backoff, BackoffOptions, Network};

use super::circuit::Circuit;
use super::hold::{Held, Hold, Wanted};
use super::verdict::Verdict;

/// What the options say.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) url: Url,
    pub(super) headers: Headers,
    pub(super) client: ClientOptions,
    pub(super) encoder: Encoder,
    pub(super) body_bytes_max: usize,
    pub(super) age: Duration,
    pub(super) is_gzip: bool,
    pub(super) backoff: BackoffOptions,
    pub(super) give_up: Option<Duration>,
}

/// A sink that was started.
pub(super) struct Running {
    sender: Rc<Sender>,
    work: CancelHandle,
}

impl Running {
    /// Begins to take parts and to send them.
    pub(super) fn start(network: &Network, plan: Plan, inlet: Inlet) -> Running {
        let budget = Budget::new(2 * plan.client.body.bytes_max);
        let slow = BackoffOptions {
            initial: plan.backoff.max,
            max: plan.backoff.max,
        };
        let sender = Rc::new(Sender {
            component: format!("sink.{}", inlet.name()),
            reactor: network.reactor().clone(),
            client: Client::new(network, plan.client.clone(), budget),
            body_bytes_max: Cell::new(plan.body_bytes_max),
            enough_bytes: enough_bytes(&inlet),
            backoff: RefCell::new(Backoff::new(plan.backoff, network.next_seed())),
            slow_backoff: RefCell::new(Backoff::new(slow, network.next_seed())),
            key: format!("{:016x}", network.next_seed()),
            keys: Cell::new(0),
            inlet,
            plan,
            output: RefCell::default(),
            hold: RefCell::default(),
            circuit: RefCell::default(),
            wake: RefCell::default(),
            is_draining: Cell::new(false),
            is_stopped: Cell::new(false),
        });
        let weak = Rc::downgrade(&sender);
        sender.inlet.on_ready(move || {
            if let Some(sender) = weak.upgrade() {
                sender.wake();
            }
        });
        let work = network.reactor().spawn(Rc::clone(&sender).run());
        let running = Running {
            sender,
            work: work.canceller(),
        };
        // It fails by a panic alone, which is logged when nobody hears of it.
        drop(work);
        running
    }

    /// Whatever is gathered goes without waiting for more.
    pub(super) fn drain(&self) {
        self.sender.is_draining.set(true);
        self.sender.wake();
    }

    /// Gives the request under way up, and what was not brought anywhere back.
    pub(super) fn stop(self) {
        let Running { sender, work } = self;
        sender.is_stopped.set(true);
        work.cancel();
        sender.client.close_idle();
        let left = sender.hold.borrow_mut().take_all();
        sender.inlet.give_back(left.into_iter());
    }
}

struct Sender {
    plan: Plan,
    component: String,
    reactor: Handle,
    inlet: Inlet,
    client: Client,
    /// Lines of the request that is being gathered: of the first events in `hold`.
    output: RefCell<Output>,
    hold: RefCell<Hold>,
    /// Parts that count for so many bytes are worth a request.
    enough_bytes: usize,
    /// `batch.bytes`, or less where the server does not take that much.
    body_bytes_max: Cell<usize>,
    circuit: RefCell<Circuit>,
    backoff: RefCell<Backoff>,
    /// For what time alone does not heal.
    slow_backoff: RefCell<Backoff>,
    /// What the keys of this start begin with.
    key: String,
    keys: Cell<u64>,
    /// Fired when there is something new to look at.
    wake: RefCell<Option<Promise<()>>>,
    is_draining: Cell<bool>,
    is_stopped: Cell<bool>,
}

/// A request's body and how many events are in it.
struct Request {
    events: usize,
    body: Bytes,
}

/// What became of a request.
enum Outcome {
    Delivered,
    TooLarge(String),
    Refused(String),
    /// It failed for longer than `retry.give_up`.
    GivenUp(String),
    Stopped,
}

impl Sender {
    async fn run(self: Rc<Self>) -> Result<(), Failure> {
        while let Some(request) = self.gather().await {
            self.bring(request).await;
        }
        Ok(())
    }

    /// The next request, when there is enough for one or it is time; `None` at the end.
    async fn gather(&self) -> Option<Request> {
        let mut events = 0;
        while !self.is_stopped.get() {
            let is_full = self.fill(&mut events);
            let since = self.hold.borrow().since();
            let limit = since.map(|since| {
                let due = since + self.plan.age;
                due.since(self.reactor.now())
            });
            let is_due = limit.is_some_and(|left| left.is_zero() || self.is_draining.get());
            if events > 0 && (is_full || is_due) {
                let body = self.body();
                return Some(Request { events, body });
            }
            self.nap(limit).await;
        }
        None
    }

    /// Encodes what there is behind the first `events`; says whether that is enough.
    fn fill(&self, events: &mut usize) -> bool {
        loop {
            let wanted = Wanted {
                skip: *events,
                events_max: usize::MAX,
                bytes_max: self.body_bytes_max.get(),
            };
            *events += self.encode(&wanted);
            let (held, bytes) = {
                let hold = self.hold.borrow();
                (hold.events(), hold.bytes())
            };
            if held > *events || bytes >= self.enough_bytes {
                return true;
            }
            let Some(part) = self.inlet.next() else {
                return false;
            };
            self.hold.borrow_mut().push(part, self.reactor.now());
        }
    }

    fn encode(&self, wanted: &Wanted) -> usize {
        let hold = self.hold.borrow();
        hold.encode(&self.plan.encoder, wanted, &mut self.output.borrow_mut())
    }

    /// The lines that were encoded, in one piece.
    fn body(&self) -> Bytes {
        let mut pieces = self.output.borrow_mut().take();
        match pieces.len() {
            1 => pieces.remove(0),
            _ => pieces.concat().into(),
        }
    }

    /// Brings a request's events to an end, in as many requests as it takes.
    async fn bring(&self, request: Request) {
        let mut pieces = vec![request.events];
        let mut body = Some(request.body);
        let mut spare = ISOLATING_MAX;
        while let Some(events) = pieces.pop() {
            let body = body.take().unwrap_or_else(|| self.first(events));
            let bytes = body.len();
            match self.deliver(body).await {
                Outcome::Delivered => self.settle(events, Held::deliver),
                Outcome::TooLarge(_) if events > 1 => {
                    self.make_smaller(bytes / 2);
                    halve(events, &mut pieces);
                }
                Outcome::Refused(_) if events > 1 && spare > 1 => {
                    spare -= 2;
                    halve(events, &mut pieces);
                }
                Outcome::TooLarge(why) => self.refuse(events, &why),
                Outcome::Refused(why) | Outcome::GivenUp(why) => self.refuse(events, &why),
                Outcome::Stopped => return,
            }
        }
    }

    /// The body of a request of the first `events`.
    fn first(&self, events: usize) -> Bytes {
        let wanted = Wanted {
            skip: 0,
            events_max: events,
            bytes_max: usize::MAX,
        };
        let encoded = self.encode(&wanted);
        debug_assert_eq!(encoded, events, "a piece is part of what is held");
        self.body()
    }

    /// Makes the request until it has an outcome.
    async fn deliver(&self, body: Bytes) -> Outcome {
        let mut headers = self.plan.headers.clone();
        headers.set("idempotency-key", self.key_of(&body).as_bytes());
        let body = self.coded(body, &mut headers).await;
        let begin = self.reactor.now();
        while !self.is_stopped.get() {
            let url = &self.plan.url;
            let answer = self.client.post(url, &headers, body.clone()).await;
            if self.is_stopped.get() {
                break;
            }
            let outcome = match Verdict::of(answer, self.reactor.wall()) {
                Verdict::Delivered => Outcome::Delivered,
                Verdict::TooLarge { why } => Outcome::TooLarge(why),
                Verdict::Refused { why, excerpt } => Outcome::Refused(sentence(&why, &excerpt)),
                verdict => {
                    let Some(why) = self.waits_after(verdict, begin).await else {
                        continue;
                    };
                    return why;
                }
            };
            self.works();
            return outcome;
        }
        Outcome::Stopped
    }

    /// After a failure: waits for the next attempt, or says why there is none.
    async fn waits_after(&self, verdict: Verdict, begin: Instant) -> Option<Outcome> {
        let now = self.reactor.now();
        let failure = self.judge(verdict);
        let spent = now.since(begin);
        if let Some(limit) = self.plan.give_up.filter(|limit| spent >= *limit) {
            self.fails(&failure, Duration::ZERO);
            let why = format!("given up after {limit:?}: {}", failure.why);
            return Some(Outcome::GivenUp(why));
        }
        let left = self.plan.give_up.map(|limit| limit.saturating_sub(spent));
        let pause = left.map_or(failure.pause, |left| failure.pause.min(left));
        self.fails(&failure, pause);
        let until = now + pause;
        loop {
            let left = until.since(self.reactor.now());
            if self.is_stopped.get() {
                return Some(Outcome::Stopped);
            }
            if left.is_zero() {
                return None;
            }
            self.nap(Some(left)).await;
        }
    }

    /// How long to wait after a failure, and what to say of it. A server that names a time is
    /// left alone for that and the back-off's own, so that not all come back at once (F-109).
    fn judge(&self, verdict: Verdict) -> Failed {
        match verdict {
            Verdict::Misdirected {
                why,
                excerpt,
                advice,
            } => Failed {
                pause: self.slow_backoff.borrow_mut().delay(),
                why,
                excerpt,
                advice,
            },
            Verdict::Again {
                why,
                excerpt,
                asked,
            } => Failed {
                pause: asked.unwrap_or_default() + self.backoff.borrow_mut().delay(),
                why,
                excerpt,
                advice: "",
            },
            // The others have ended the request.
            _ => Failed::default(),
        }
    }

    fn fails(&self, failure: &Failed, pause: Duration) {
        self.inlet.ledger().retries.add(1);
        let now = self.reactor.now();
        let is_news = self.circuit.borrow_mut().failed(now, pause, &failure.why);
        let trouble = self.circuit.borrow().trouble(now);
        self.inlet.set_trouble(trouble.as_deref());
        self.inlet.tries_again_in(pause);
        let record = PostFailed {
            component: &self.component,
            url: &self.plan.url,
            why: &failure.why,
            excerpt: &failure.excerpt,
            advice: failure.advice,
            retry_in: pause,
            is_news,
        };
        record.log();
    }

    fn works(&self) {
        self.backoff.borrow_mut().reset();
        let over = self.circuit.borrow_mut().works();
        let Some(outage) = over else { return };
        self.inlet.set_trouble(None);
        let record = PostRecovered {
            component: &self.component,
            url: &self.plan.url,
            failures: outage.attempts,
            after: self.reactor.now().since(outage.since),
        };
        record.log();
    }

    /// Settles the first `events`; with no borrow held, since it calls those who wait for it.
    fn settle(&self, mut events: usize, settle: impl Fn(Held, usize) -> Option<Held>) {
        while events > 0 {
            let Some(held) = self.pop() else { return };
            let settled = events.min(held.left());
            events -= settled;
            if let Some(rest) = settle(held, settled) {
                self.hold.borrow_mut().put_back(rest);
            }
        }
    }

    fn pop(&self) -> Option<Held> {
        self.hold.borrow_mut().pop()
    }

    fn refuse(&self, events: usize, why: &str) {
        let record = EventsRefused {
            component: &self.component,
            url: &self.plan.url,
            events: events as u64,
            why,
        };
        record.log();
        self.settle(events, |held, events| held.refuse(events, why));
    }

    /// The server does not take requests as large as they were.
    fn make_smaller(&self, bytes: usize) {
        let bytes_max = bytes.max(BODY_BYTES_MIN);
        if bytes_max < self.body_bytes_max.get() {
            self.body_bytes_max.set(bytes_max);
            let (component, url) = (&self.component, &self.plan.url);
            PostsSmaller {
                component,
                url,
                bytes_max,
            }
            .log();
        }
    }

    /// The body as it goes over the wire. Packing takes too long for the reactor's thread; where
    /// no thread can be had the body goes as it is.
    async fn coded(&self, body: Bytes, headers: &mut Headers) -> Bytes {
        if !self.plan.is_gzip {
            return body;
        }
        let plain = body.clone();
        let pack = move || {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(&plain)?;
            Ok(Bytes::from(packed.finish()?))
        };
        let packed = self
            .reactor
            .defer_to_thread(Pool::General, "compress a request", pack);
        match packed.await {
            Ok(packed) => {
                headers.set("content-encoding", b"gzip");
                packed
            }
            Err(_) => body,
        }
    }

    /// A key that no two bodies have, over all starts. Where the events are on disk the same
    /// body has the same key after a restart, too.
    fn key_of(&self, body: &Bytes) -> String {
        if let Some((record, left)) = self.hold.borrow().first() {
            let mut hasher = DefaultHasher::new();
            body.hash(&mut hasher);
            return format!("{record}-{left}-{:016x}", hasher.finish());
        }
        let number = self.keys.get();
        self.keys.set(number + 1);
        format!("{}-{number}", self.key)
    }

    /// Waits until something is new, for `limit` at most.
    async fn nap(&self, limit: Option<Duration>) {
        let (promise, woken) = Deferred::new();
        *self.wake.borrow_mut() = Some(promise);
        let woken = match limit {
            Some(limit) => woken.timeout(limit, &self.reactor),
            None => woken,
        };
        // Woken, late or cancelled: whoever waits looks at what is the case.
        drop(woken.await);
    }

    fn wake(&self) {
        let promise = self.wake.borrow_mut().take();
        promise.map(|promise| promise.callback(()));
    }
}

/// Half of what a sender can have under way: one that waits for room must not wait for
/// `batch.age`, too.
fn enough_bytes(inlet: &Inlet) -> usize {
    let capacity = usize::try_from(inlet.capacity_bytes()).unwrap_or(usize::MAX);
    capacity.min(CONNECTION_WINDOW_BYTES) / 2
}

/// A failure that time, or an operator, will end.
#[derive(Default)]
struct Failed {
    pause: Duration,
    why: String,
    excerpt: String,
    advice: &'static str,
}

/// The two halves of the first piece, the first of them on top.
fn halve(events: usize, pieces: &mut Vec<usize>) {
    let first = events / 2;
    pieces.extend([events - first, first]);
}

/// What is wrong, in the server's words too where it has any.
fn sentence(why: &str, excerpt: &str) -> String {
    match excerpt {
        "" => why.to_owned(),
        _ => format!("{why}: {excerpt}"),
    }
}

/// Requests that are made of one that was refused, to find out for which events: enough for
/// some five of a thousand. What is then still refused together goes to the dead letters
/// together.
const ISOLATING_MAX: usize = 128;

/// Requests are not made smaller than this because one was too large.
const BODY_BYTES_MIN: usize = 16 << 10;
