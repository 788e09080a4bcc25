//! The sink at work: gathers a request, brings it there, settles what was in it, and again.
//!
//! It is one coroutine, so what it does stands here in the order in which it happens. Parts are
//! never held by the coroutine itself but in the [`Hold`], from which [`Running::stop`] takes
//! them wherever the coroutine was; it ends at the next look at the [`Pulse`].
//!
//! Bounds: one request under way, of `batch.bytes` (or one event); what is taken from the inlet
//! beyond that is one part. A refused request is made into [`ISOLATING_MAX`] others at most; a
//! request that is too large into two per event at most, and those after it are made smaller.

use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;

use bytes::Bytes;

use crate::deferred::{CancelHandle, Failure};
use crate::pipeline::encode::Output;
use crate::pipeline::intake::CONNECTION_WINDOW_BYTES;
use crate::pipeline::port::Inlet;
use crate::reactor::Handle;
use crate::telemetry::events::{EventsRefused, PostsSmaller};
use crate::transport::Network;
use crate::transport::tls::CertificateFacts;

use super::Plan;
use super::hold::{Held, Hold, Wanted};
use super::poster::{Outcome, Poster};
use super::pulse::Pulse;

/// A sink that was started.
pub(super) struct Running {
    sender: Rc<Sender>,
    work: CancelHandle,
}

impl Running {
    /// Begins to take parts and to send them.
    pub(super) fn start(network: &Network, plan: Rc<Plan>, inlet: Inlet) -> Running {
        let reactor = network.reactor();
        let pulse = Rc::new(Pulse::new(reactor));
        let waker = Rc::downgrade(&pulse);
        inlet.on_ready(move || {
            if let Some(pulse) = waker.upgrade() {
                pulse.wake();
            }
        });
        let sender = Rc::new(Sender {
            component: format!("sink.{}", inlet.name()),
            reactor: reactor.clone(),
            poster: Poster::new(network, &plan, &inlet, &pulse),
            enough_bytes: enough_bytes(&inlet),
            body_bytes_max: Cell::new(plan.body_bytes_max),
            output: RefCell::default(),
            hold: RefCell::default(),
            plan,
            inlet,
            pulse,
        });
        let work = reactor.spawn(Rc::clone(&sender).run());
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
        self.sender.pulse.drain();
    }

    /// Connections that are open.
    pub(super) fn connections(&self) -> u64 {
        self.sender.poster.connections()
    }

    /// The certificate that the server is shown.
    pub(super) fn certificates(&self) -> Vec<CertificateFacts> {
        self.sender.poster.certificates()
    }

    /// What was counted since the start.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("requests", self.sender.poster.requests())]
    }

    /// Gives the request under way up, and what was not brought anywhere back.
    pub(super) fn stop(self) {
        let Running { sender, work } = self;
        sender.pulse.stop();
        work.cancel();
        sender.poster.close_idle();
        let left = sender.hold.borrow_mut().take_all();
        sender.inlet.give_back(left.into_iter());
    }
}

struct Sender {
    plan: Rc<Plan>,
    component: String,
    reactor: Handle,
    inlet: Inlet,
    poster: Poster,
    pulse: Rc<Pulse>,
    /// Lines of the request that is being gathered: of the first events in `hold`.
    output: RefCell<Output>,
    hold: RefCell<Hold>,
    /// Parts that count for so many bytes are worth a request.
    enough_bytes: usize,
    /// `batch.bytes`, or less where the server does not take that much.
    body_bytes_max: Cell<usize>,
}

/// A request's body and how many events are in it.
struct Request {
    events: usize,
    body: Bytes,
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
        while !self.pulse.is_stopped() {
            let is_full = self.fill(&mut events);
            let since = self.hold.borrow().since();
            let left = since.map(|since| {
                let due = since + self.plan.age;
                due.since(self.reactor.now())
            });
            let is_due = left.is_some_and(|left| left.is_zero()) || self.pulse.is_draining();
            if events > 0 && (is_full || is_due) {
                let body = self.body();
                return Some(Request { events, body });
            }
            self.pulse.nap(left).await;
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
            let (bytes, key) = (body.len(), self.key_of(&body));
            match self.poster.post(body, key).await {
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

    /// Where the events are on disk: a key that the same body has after a restart, too, and no
    /// other. Not even the rest of the same part may look the same to a server that leaves out
    /// what it knows.
    fn key_of(&self, body: &Bytes) -> Option<String> {
        let (record, left) = self.hold.borrow().first()?;
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Some(format!("{record}-{left}-{:016x}", hasher.finish()))
    }

    /// Settles the first `events`; with no borrow held, since it calls those who wait for it.
    fn settle(&self, mut events: usize, settle: impl Fn(Held, usize) -> Option<Held>) {
        while events > 0 {
            let popped = self.hold.borrow_mut().pop();
            let Some(held) = popped else { return };
            let settled = events.min(held.left());
            events -= settled;
            if let Some(rest) = settle(held, settled) {
                self.hold.borrow_mut().put_back(rest);
            }
        }
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
            let record = PostsSmaller {
                component,
                url,
                bytes_max,
            };
            record.log();
        }
    }
}

/// Half of what a sender can have under way: one that waits for room must not wait for
/// `batch.age`, too.
fn enough_bytes(inlet: &Inlet) -> usize {
    let capacity = usize::try_from(inlet.capacity_bytes()).unwrap_or(usize::MAX);
    capacity.min(CONNECTION_WINDOW_BYTES) / 2
}

/// The two halves of the first piece, the first of them on top.
fn halve(events: usize, pieces: &mut Vec<usize>) {
    let first = events / 2;
    pieces.extend([events - first, first]);
}

/// Requests that are made of one that was refused, to find out for which events: enough for
/// some five of a thousand. What is then still refused together goes to the dead letters
/// together.
const ISOLATING_MAX: usize = 128;

/// Requests are not made smaller than this because one was too large.
const BODY_BYTES_MIN: usize = 16 << 10;
