//! `internal`: what the daemon itself says and counts, as events.
//!
//! Every log record of `level` or more important is an event with the record's fields; every
//! `counts_every` the books of each pipeline and each sink are one event each.
//!
//! **It cannot feed itself without bound.** To deliver these events may cause records, which
//! are events again: a sink that is down says so, and would be told so. Therefore debug and
//! trace, which speak of single events and connections, are never events; and of the others no
//! more become events than of a storm are written: of one kind one warning or error in ten
//! seconds and a hundred infos (`telemetry/tap.rs`). What waits is bounded, and dropped and
//! counted beyond that; nobody who logs waits.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;

use crate::deferred::{Deferred, Failure};
use crate::event::{Batch, Event, Field, Fields, Key, Name, Origin, Slot, Span, name};
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::facts::Facts;
use crate::pipeline::host::{Account, Host};
use crate::pipeline::intake::{Intake, Outlet};
use crate::pipeline::options::{Mistake, Options};
use crate::protocol::json;
use crate::reactor::{Handle, TimerGuard};
use crate::telemetry::Level;
use crate::telemetry::record::{Record, Value};
use crate::telemetry::tap::{Listener, Tap, Wake};
use crate::time::{Duration, WallTime};

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "internal",
    summary: "the daemon's own log records and counts",
    options: &[
        Opt::new(
            "level",
            "records of this level and more important ones become events; what `log.level` \
             keeps out of the log is not here either",
            Kind::Word(&["error", "warn", "info"]),
        )
        .default("\"info\""),
        Opt::new(
            "counts_every",
            "time between two events for each pipeline and each sink that hold its counts",
            Kind::Duration { words: &["off"] },
        )
        .default("\"60s\""),
    ],
    shared: &[],
    example: "[source.self]\ntype  = \"internal\"\nlevel = \"warn\"\n",
    build: Build::Source(build),
};

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    Ok(Box::new(Internal {
        level: options.word("level").parse().unwrap_or_default(),
        counts_every: options.maybe_duration("counts_every"),
        running: None,
    }))
}

struct Internal {
    level: Level,
    counts_every: Option<Duration>,
    running: Option<Rc<Running>>,
}

impl Source for Internal {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let reactor = resources.get::<Handle>().clone();
        let key = next_key();
        let tap = resources.get::<Arc<Tap>>();
        let listener = tap.listen(self.level, waker(&reactor, key));
        let running = Rc::new(Running {
            origin: Arc::new(Origin {
                source: outlet.name().as_ref().into(),
                peer: "".into(),
            }),
            intake: outlet.intake(),
            reactor,
            key,
            host: resources.get::<Host>().clone(),
            listener: RefCell::new(Some(listener)),
            counts_every: self.counts_every,
            counts_timer: RefCell::default(),
            is_asking: Cell::new(false),
            report_timer: RefCell::default(),
            records: Cell::new(0),
            dropped: Cell::new(0),
        });
        LISTENING.with_borrow_mut(|known| known.insert(key, Rc::downgrade(&running)));
        let weak = Rc::downgrade(&running);
        running.intake.on_resume(move || {
            weak.upgrade().iter().for_each(Running::take);
        });
        running.plan_counts();
        self.running = Some(running);
        let level = self.level.word();
        Ok(vec![format!("log records of level {level} and above")])
    }

    fn stop(&mut self) -> Deferred<()> {
        self.running.iter().for_each(|running| running.stop());
        Deferred::ready(())
    }

    fn facts(&self) -> Facts {
        let counts = self.running.as_ref().map(|running| {
            vec![
                ("records", running.records.get()),
                ("dropped_records", running.dropped()),
            ]
        });
        Facts {
            counts: counts.unwrap_or_default(),
            ..Facts::default()
        }
    }
}

thread_local! {
    /// The sources of this reactor by number: a call from another thread carries no more.
    static LISTENING: RefCell<HashMap<u64, Weak<Running>>> = RefCell::default();
    static KEYS: Cell<u64> = const { Cell::new(0) };
}

fn next_key() -> u64 {
    let key = KEYS.get() + 1;
    KEYS.set(key);
    key
}

/// Calls the source `key` in a later turn of its reactor, from whatever thread logs.
fn waker(reactor: &Handle, key: u64) -> Wake {
    let remote = reactor.remote();
    Box::new(move || {
        // A reactor that has ended has no source that listens.
        let _ = remote.call(move |_| {
            let running = LISTENING.with_borrow(|known| known.get(&key).and_then(Weak::upgrade));
            running.iter().for_each(Running::take);
        });
    })
}

struct Running {
    intake: Intake,
    origin: Arc<Origin>,
    reactor: Handle,
    key: u64,
    host: Host,
    /// Gone once the source was stopped.
    listener: RefCell<Option<Listener>>,
    counts_every: Option<Duration>,
    counts_timer: RefCell<Option<TimerGuard>>,
    /// Somebody still adds the books up.
    is_asking: Cell<bool>,
    /// When the count of a storm is due.
    report_timer: RefCell<Option<TimerGuard>>,
    records: Cell<u64>,
    /// As the listener had it last.
    dropped: Cell<u64>,
}

impl Running {
    /// Delivers what has come, as far as there is room.
    fn take(self: &Rc<Self>) {
        for _ in 0..BATCHES_PER_TURN {
            if self.intake.is_blocked() {
                return;
            }
            let taken = self
                .listener
                .borrow()
                .as_ref()
                .map(|it| it.take(RECORDS_PER_BATCH));
            match taken {
                None => return,
                Some(records) if records.is_empty() => return self.wait_for_report(),
                Some(records) => {
                    self.records.set(self.records.get() + records.len() as u64);
                    self.deliver(records.iter().map(Making::record));
                }
            }
        }
        let running = Rc::clone(self);
        self.reactor.call_soon(move |_| running.take());
    }

    /// Nothing has come: what was held back is told when its time is over.
    fn wait_for_report(self: &Rc<Self>) {
        let due = self
            .listener
            .borrow()
            .as_ref()
            .and_then(Listener::next_report);
        let timer = due.map(|due| self.after(due, Running::take));
        *self.report_timer.borrow_mut() = timer;
    }

    fn plan_counts(self: &Rc<Self>) {
        let every = self.counts_every;
        let timer = every.map(|every| self.after(every, Running::tell_counts));
        *self.counts_timer.borrow_mut() = timer;
    }

    /// Where there is no room for them these counts are left out; the next ones tell as much. So
    /// they are while those before them have not come.
    fn tell_counts(self: &Rc<Self>) {
        self.plan_counts();
        if self.intake.is_blocked() || self.is_asking.replace(true) {
            return;
        }
        let weak = Rc::downgrade(self);
        drop(self.host.books().add_both(move |books| {
            if let Some(running) = weak.upgrade() {
                running.is_asking.set(false);
                // The host has complained of who does not answer.
                running.deliver_counts(&books.unwrap_or_default());
            }
        }));
    }

    fn deliver_counts(&self, books: &[Account]) {
        let is_stopped = self.listener.borrow().is_none();
        if !is_stopped && !self.intake.is_blocked() {
            let wall = self.reactor.wall();
            self.deliver(books.iter().map(|account| Making::account(account, wall)));
        }
    }

    fn deliver(&self, made: impl Iterator<Item = Making>) {
        let mut bytes = Vec::new();
        let events: Vec<Event> = made.map(|making| making.into_event(&mut bytes)).collect();
        if events.is_empty() {
            return;
        }
        let origin = Arc::clone(&self.origin);
        let mut batch = Batch::new(origin, self.reactor.wall(), Bytes::from(bytes));
        batch.events = events.into();
        // Nobody waits for the answer; a loss is in the books.
        drop(self.intake.deliver(batch).add_both(|_| ()));
    }

    fn after(self: &Rc<Self>, delay: Duration, call: fn(&Rc<Running>)) -> TimerGuard {
        let weak = Rc::downgrade(self);
        let timer = self.reactor.call_later(delay, move |_| {
            weak.upgrade().iter().for_each(call);
        });
        timer.guard()
    }

    /// Records dropped for want of room.
    fn dropped(&self) -> u64 {
        if let Some(listener) = &*self.listener.borrow() {
            self.dropped.set(listener.dropped_in_all());
        }
        self.dropped.get()
    }

    /// What was logged by now is still an event, as far as there is room.
    fn stop(self: &Rc<Self>) {
        self.take();
        self.dropped();
        drop(self.listener.take());
        drop((self.counts_timer.take(), self.report_timer.take()));
        LISTENING.with_borrow_mut(|known| known.remove(&self.key));
    }
}

/// An event that is being made: its text, which is its original bytes, and its other fields.
struct Making {
    text: String,
    time: WallTime,
    level: Level,
    component: String,
    event: String,
    rest: Vec<(&'static str, Made)>,
}

/// A field's value on its way into the batch.
enum Made {
    Text(String),
    Integer(i64),
    /// JSON text.
    Json(Vec<u8>),
}

impl Making {
    fn record(record: &Record) -> Making {
        let made = |value: &Value| match value {
            Value::Text(text) => Made::Text(text.clone()),
            Value::Int(number) => Made::Integer(*number),
            Value::Uint(number) => integer(*number),
            Value::Float(number) if number.is_finite() => Made::Json(number.to_string().into()),
            Value::Float(number) => Made::Text(number.to_string()),
            Value::Bool(yes) => Made::Json(yes.to_string().into()),
        };
        let rest = record.fields.iter();
        Making {
            text: record.message.clone(),
            time: record.time,
            level: record.level,
            component: record.component.clone(),
            event: record.event.clone(),
            rest: rest.map(|(name, value)| (*name, made(value))).collect(),
        }
    }

    fn account(account: &Account, time: WallTime) -> Making {
        let counts = account.counts.iter();
        let mut rest: Vec<_> = counts
            .map(|(name, count)| (*name, integer(*count)))
            .collect();
        for (name, tally) in account.parts.iter().filter(|(_, tally)| !tally.is_empty()) {
            let mut object = vec![b'{'];
            for (part, count) in tally {
                json::string_into(part.as_bytes(), &mut object);
                object.extend_from_slice(format!(":{count},").as_bytes());
            }
            // In place of the last comma.
            object.pop();
            object.push(b'}');
            rest.push((*name, Made::Json(object)));
        }
        Making {
            text: "counts".to_owned(),
            time,
            level: Level::Info,
            component: account.component.clone(),
            event: "counts".to_owned(),
            rest,
        }
    }

    fn into_event(self, bytes: &mut Vec<u8>) -> Event {
        let mut put = |text: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(text);
            Span::new(start, bytes.len())
        };
        let raw = put(self.text.as_bytes());
        let mut list = vec![
            field(name!("timestamp"), Slot::Time(self.time)),
            field(
                name!("level"),
                Slot::Text(put(self.level.word().as_bytes())),
            ),
            field(
                name!("component"),
                Slot::Text(put(self.component.as_bytes())),
            ),
        ];
        if !self.event.is_empty() {
            list.push(field(
                name!("event"),
                Slot::Text(put(self.event.as_bytes())),
            ));
        }
        list.push(field(name!("message"), Slot::Text(raw)));
        for (name, made) in self.rest {
            // No key here is a span of bytes.
            let is_there = |field: &Field| field.key.of(&[]) == name.as_bytes();
            if list.iter().any(is_there) {
                continue;
            }
            let slot = match made {
                Made::Text(text) => Slot::Text(put(text.as_bytes())),
                Made::Integer(number) => Slot::Integer(number),
                Made::Json(text) => Slot::Json(put(&text)),
            };
            let key = Key::named(name);
            list.push(Field { key, slot });
        }
        Event::fielded(Fields {
            raw,
            list,
            parsed: true,
        })
    }
}

fn field(name: &'static Name, slot: Slot) -> Field {
    let key = Key::Static(name);
    Field { key, slot }
}

/// Counts end far below the largest integer that an event can hold.
fn integer(count: u64) -> Made {
    Made::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Records that become one batch.
const RECORDS_PER_BATCH: usize = 256;

/// Batches that are delivered in one turn.
const BATCHES_PER_TURN: usize = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::deferred::Promise;
    use crate::event::json::Writer;
    use crate::pipeline::intake::Engine;
    use crate::pipeline::ledger::Tally;
    use crate::pipeline::memory::Memory;
    use crate::pipeline::part::Stage;
    use crate::reactor::{self, PoolSizes, Reactor, Seams, Threads};
    use crate::sim::{SimIo, SimPoller, VirtualClock};

    fn shown(making: Making) -> serde_json::Value {
        let mut bytes = Vec::new();
        let event = making.into_event(&mut bytes);
        let origin = Arc::new(Origin {
            source: "self".into(),
            peer: "".into(),
        });
        let batch = Batch::new(origin, WallTime::default(), bytes.into());
        let mut text = Vec::new();
        Writer::new(&batch).write(&event, &mut text);
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn a_record_is_an_event_with_its_fields() {
        let time = WallTime::from_micros(1);
        let text = "no \"route\"".to_owned();
        let mut record = Record::own(time, Level::Warn, "sink_failed", text);
        record.component = "sink.out".to_owned();
        record.fields = vec![
            ("failures", Value::Uint(3)),
            ("share", Value::Float(0.5)),
            ("is_new", Value::Bool(true)),
            ("level", Value::Text("never twice".to_owned())),
        ];
        let expected = serde_json::json!({
            "timestamp": "1970-01-01T00:00:00.000001Z", "level": "warn",
            "component": "sink.out", "event": "sink_failed", "message": "no \"route\"",
            "failures": 3, "share": 0.5, "is_new": true,
        });
        assert_eq!(shown(Making::record(&record)), expected);
    }

    #[test]
    fn an_account_is_an_event_with_its_counts() {
        let account = Account {
            component: "pipeline.main".to_owned(),
            counts: vec![("received", 3), ("filtered", 2)],
            parts: vec![
                ("filtered_by", Tally::from([("main.1:drop_if".into(), 2)])),
                ("dropped_by", Tally::new()),
            ],
        };
        let expected = serde_json::json!({
            "timestamp": "1970-01-01T00:00:00.000000Z", "level": "info",
            "component": "pipeline.main", "event": "counts", "message": "counts",
            "received": 3, "filtered": 2, "filtered_by": { "main.1:drop_if": 2 },
        });
        let made = Making::account(&account, WallTime::default());
        assert_eq!(shown(made), expected);
    }

    fn reactor() -> (Reactor, VirtualClock) {
        let clock = VirtualClock::new();
        let seams = Seams {
            clock: Rc::new(clock.clone()),
            poller: Box::new(SimPoller::new(clock.clone(), SimIo::new())),
            worker: Rc::new(Threads::new(PoolSizes::default())),
        };
        let reactor = Reactor::new(seams, reactor::Options::default()).unwrap();
        (reactor, clock)
    }

    fn books() -> Vec<Account> {
        let account = |component: &str| Account {
            component: component.to_owned(),
            counts: vec![("received", 3)],
            parts: Vec::new(),
        };
        vec![account("pipeline.main"), account("sink.out")]
    }

    #[test]
    fn books_that_take_their_time_are_asked_for_once_and_told_until_the_stop() {
        let (mut reactor, clock) = reactor();
        let handle = reactor.handle();
        let engine = Engine::new(Memory::new(1 << 20), Rc::new(handle.clone()), Vec::new());
        let host = Host::default();
        let asked: Rc<RefCell<Vec<Promise<Vec<Account>>>>> = Rc::default();
        let asking = Rc::clone(&asked);
        host.set_books(move || {
            let (promise, deferred) = Deferred::new();
            asking.borrow_mut().push(promise);
            deferred
        });
        let mut resources = Resources::default();
        resources.lend(handle);
        resources.lend(host);
        resources.lend(Arc::new(Tap::default()));
        let mut source = Internal {
            level: Level::Error,
            counts_every: Some(Duration::from_secs(1)),
            running: None,
        };
        let outlet = engine.outlet("self", Stage::Received, Vec::new());
        source.start(outlet, &resources).unwrap();
        let mut pass = |seconds| {
            clock
                .drive(&mut reactor, Duration::from_secs(seconds))
                .unwrap();
            (asked.borrow().len(), engine.flows()[0].received_events)
        };
        assert_eq!(
            pass(10),
            (1, 0),
            "nobody is asked again before there is an answer"
        );
        let answer = || asked.borrow_mut().pop().unwrap();
        answer().callback(books());
        assert_eq!(pass(0), (0, 2));
        assert_eq!(pass(1), (1, 2));
        answer().errback(Failure::msg("too late"));
        assert_eq!(pass(1), (1, 2), "no answer is no reason not to ask again");
        let last = answer();
        drop(source.stop());
        last.callback(books());
        assert_eq!(
            pass(5),
            (0, 2),
            "what comes after the stop is not delivered"
        );
    }
}
