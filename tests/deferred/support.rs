//! What the tests of the `deferred` room share: records of calls, producers that count their
//! cancellations, timers that are turned by hand, a log that can be read, and a small stack to
//! run in.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use marline::deferred::{Deferred, Failure};
use marline::time::{Cancel, Duration, Timers};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// An error of the tests' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oops(pub u32);

impl fmt::Display for Oops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oops {}", self.0)
    }
}

impl std::error::Error for Oops {}

/// Another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ouch;

impl fmt::Display for Ouch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ouch")
    }
}

impl std::error::Error for Ouch {}

/// A list of what happened, in order.
#[derive(Debug)]
pub struct Record<T>(Rc<RefCell<Vec<T>>>);

impl<T> Clone for Record<T> {
    fn clone(&self) -> Self {
        Record(self.0.clone())
    }
}

impl<T: 'static> Record<T> {
    pub fn new() -> Self {
        Record(Rc::default())
    }

    pub fn push(&self, entry: T) {
        self.0.borrow_mut().push(entry);
    }

    pub fn take(&self) -> Vec<T> {
        self.0.take()
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Records the result of `deferred` as the last link of its chain.
    pub fn watch<U: 'static>(
        &self,
        deferred: Deferred<U>,
        note: impl Fn(Result<U, Failure>) -> T + 'static,
    ) {
        let record = self.clone();
        deferred.add_both(move |result| record.push(note(result)));
    }
}

/// The value of a Deferred that has one.
#[track_caller]
pub fn value<T>(deferred: Deferred<T>) -> T {
    let result = deferred.now_or_pending().expect("unfired");
    result.unwrap_or_else(|failure| panic!("failed: {failure:?}"))
}

/// The failure of a Deferred that has one.
#[track_caller]
pub fn failure<T>(deferred: Deferred<T>) -> Failure {
    match deferred.now_or_pending().expect("unfired") {
        Ok(_) => panic!("resolved"),
        Err(failure) => failure,
    }
}

/// A Deferred that counts how often it is cancelled.
pub fn counted<T>() -> (marline::deferred::Promise<T>, Deferred<T>, Rc<Cell<u32>>) {
    let count = Rc::new(Cell::new(0));
    let counter = count.clone();
    let (promise, deferred) = Deferred::with_canceller(move |_| counter.set(counter.get() + 1));
    (promise, deferred, count)
}

/// Timers that run when a test says so.
#[derive(Clone, Default)]
pub struct HandTimers(Rc<Timeline>);

#[derive(Default)]
struct Timeline {
    now: Cell<Duration>,
    made: Cell<u64>,
    calls: RefCell<Vec<Timed>>,
}

struct Timed {
    at: Duration,
    id: u64,
    call: Box<dyn FnOnce()>,
}

struct HandTimer(Rc<Timeline>, u64);

impl HandTimers {
    /// Turns the time on, with a call at each deadline, earliest first.
    pub fn advance(&self, by: Duration) {
        let end = self.0.now.get() + by;
        while let Some(next) = self.0.take_due(end) {
            self.0.now.set(next.at);
            (next.call)();
        }
        self.0.now.set(end);
    }

    pub fn seconds(&self, seconds: f64) {
        self.advance(Duration::from_secs_f64(seconds));
    }

    pub fn pending(&self) -> usize {
        self.0.calls.borrow().len()
    }
}

impl Timeline {
    fn take_due(&self, end: Duration) -> Option<Timed> {
        let mut calls = self.calls.borrow_mut();
        let due = calls.iter().enumerate().filter(|(_, call)| call.at <= end);
        let (index, _) = due.min_by_key(|(_, call)| (call.at, call.id))?;
        Some(calls.remove(index))
    }
}

impl Timers for HandTimers {
    fn call_after(&self, delay: Duration, call: Box<dyn FnOnce()>) -> Box<dyn Cancel> {
        let id = self.0.made.get();
        self.0.made.set(id + 1);
        let at = self.0.now.get() + delay;
        self.0.calls.borrow_mut().push(Timed { at, id, call });
        Box::new(HandTimer(self.0.clone(), id))
    }
}

impl Cancel for HandTimer {
    fn cancel(self: Box<Self>) {
        self.0.calls.borrow_mut().retain(|call| call.id != self.1);
    }
}

/// Runs `test` on a thread with a stack of 256 KiB.
pub fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(256 * 1024);
    thread.spawn(test).unwrap().join().unwrap();
}

/// A log line.
#[derive(Clone, Debug)]
pub struct Line {
    pub level: Level,
    pub text: String,
}

/// What is logged on this thread while `test` runs.
pub fn logged(test: impl FnOnce()) -> Vec<Line> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::with_default(Reader(lines.clone()), test);
    let lines = lines.lock().unwrap();
    lines.clone()
}

/// The lines about unhandled failures, and any other error.
pub fn errors(test: impl FnOnce()) -> Vec<String> {
    let lines = logged(test).into_iter();
    let errors = lines.filter(|line| line.level == Level::ERROR);
    errors.map(|line| line.text).collect()
}

struct Reader(Arc<Mutex<Vec<Line>>>);

impl Subscriber for Reader {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let level = *event.metadata().level();
        self.0.lock().unwrap().push(Line {
            level,
            text: text.0,
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}
