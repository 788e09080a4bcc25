//! `generate`: made-up log lines at a given rate, for the quick start and for tests.
//!
//! The lines come from a small seeded generator, so two runs with the same options make the
//! same lines but for their time. While its sinks are full the generator stands still and owes
//! nothing afterwards. Bounds: at most [`EVENTS_PER_TICK_MAX`] events a tick.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::deferred::{Deferred, Failure};
use crate::event::{Batch, Event, Origin, Span};
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::facts::Facts;
use crate::pipeline::intake::{Intake, Outlet};
use crate::pipeline::options::{Mistake, Options};
use crate::time::{Cancel, Duration, Instant, WallTime};

/// Most events made at once; a higher rate is not reached.
const EVENTS_PER_TICK_MAX: u64 = 20_000;
/// Shortest time between two batches.
const TICK_MIN: Duration = Duration::from_millis(10);

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "generate",
    summary: "made-up log lines at a given rate",
    options: &[
        Opt::new(
            "format",
            "what the lines look like",
            Kind::Word(&["syslog", "json", "access_log"]),
        )
        .default("\"syslog\""),
        Opt::new("rate", "how many lines", Kind::Rate).default("\"1/s\""),
        Opt::new(
            "count",
            "stop after so many lines; without it, never",
            Kind::COUNT,
        ),
        Opt::new("seed", "same seed, same lines", Kind::COUNT).default("1"),
    ],
    shared: &[],
    example: "[source.demo]\ntype   = \"generate\"\nformat = \"json\"\nrate   = \"10/s\"\n",
    build: Build::Source(build),
};

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    let rate = options.rate("rate").map_or(1.0, |rate| rate.per_second());
    Ok(Box::new(Generate {
        lines: Lines {
            format: options.word("format"),
            random: Random(options.count("seed") | 1 << 63),
            sequence: 0,
        },
        rate,
        left: options.maybe_count("count"),
        running: None,
    }))
}

struct Generate {
    lines: Lines,
    rate: f64,
    left: Option<u64>,
    running: Option<Rc<Running>>,
}

impl Source for Generate {
    fn start(&mut self, outlet: Outlet, _: &Resources) -> Result<Vec<String>, Failure> {
        let about = format!("making {} lines, {}/s", self.lines.format, self.rate);
        let intake = outlet.intake();
        let running = Rc::new(Running {
            origin: Arc::new(Origin {
                source: outlet.name().as_ref().into(),
                peer: "".into(),
            }),
            lines: RefCell::new(self.lines.clone()),
            rate: self.rate,
            left: Cell::new(self.left.unwrap_or(u64::MAX)),
            since: Cell::new(outlet.scheduler().now()),
            made: Cell::new(0),
            timer: RefCell::new(None),
            stopped: Cell::new(false),
            intake,
        });
        let weak = Rc::downgrade(&running);
        running.intake.on_resume(move || {
            if let Some(running) = weak.upgrade() {
                running.restart();
            }
        });
        running.restart();
        self.running = Some(running);
        Ok(vec![about])
    }

    fn facts(&self) -> Facts {
        Facts {
            places: vec![format!("{} lines, {}/s", self.lines.format, self.rate)],
            ..Facts::default()
        }
    }

    fn stop(&mut self) -> Deferred<()> {
        if let Some(running) = self.running.take() {
            running.stopped.set(true);
            if let Some(timer) = running.timer.borrow_mut().take() {
                timer.cancel();
            }
        }
        Deferred::ready(())
    }
}

/// The generator between two ticks.
struct Running {
    intake: Intake,
    origin: Arc<Origin>,
    lines: RefCell<Lines>,
    rate: f64,
    left: Cell<u64>,
    /// When the present stretch began, and how many lines it has made.
    since: Cell<Instant>,
    made: Cell<u64>,
    timer: RefCell<Option<Box<dyn Cancel>>>,
    stopped: Cell<bool>,
}

impl Running {
    /// Begins a stretch without debts.
    fn restart(self: &Rc<Self>) {
        self.since.set(self.intake.outlet().scheduler().now());
        self.made.set(0);
        self.arm();
    }

    fn arm(self: &Rc<Self>) {
        if self.stopped.get() || self.left.get() == 0 {
            return;
        }
        let running = Rc::clone(self);
        let scheduler = self.intake.outlet().scheduler();
        let timer = scheduler.call_after(self.next_delay(), Box::new(move || running.tick()));
        *self.timer.borrow_mut() = Some(timer);
    }

    fn next_delay(&self) -> Duration {
        let due = (self.made.get() + 1) as f64 / self.rate;
        let elapsed = self.elapsed().as_secs_f64();
        Duration::from_secs_f64((due - elapsed).clamp(0.0, 1e6)).max(TICK_MIN)
    }

    fn elapsed(&self) -> Duration {
        let now = self.intake.outlet().scheduler().now();
        now.since(self.since.get())
    }

    fn tick(self: Rc<Self>) {
        self.timer.borrow_mut().take();
        if self.stopped.get() {
            return;
        }
        let due = (self.elapsed().as_secs_f64() * self.rate) as u64;
        let events = due.saturating_sub(self.made.get());
        let events = events.min(EVENTS_PER_TICK_MAX).min(self.left.get());
        self.made.set(due);
        self.left.set(self.left.get() - events);
        if events > 0 {
            let wall = self.intake.outlet().scheduler().wall();
            let batch = self.lines.borrow_mut().batch(events, &self.origin, wall);
            // Whoever made the lines up has nobody to answer to; a loss is in the books.
            drop(self.intake.deliver(batch).add_both(|_| ()));
        }
        if !self.intake.is_blocked() {
            self.arm();
        }
    }
}

/// Makes lines.
#[derive(Clone)]
struct Lines {
    format: &'static str,
    random: Random,
    sequence: u64,
}

impl Lines {
    fn batch(&mut self, events: u64, origin: &Arc<Origin>, wall: WallTime) -> Batch {
        let mut text = Vec::with_capacity(events as usize * 200);
        let mut spans = Vec::with_capacity(events as usize);
        for _ in 0..events {
            let start = text.len();
            self.line(wall, &mut text);
            spans.push(Event::Raw(Span::new(start, text.len())));
            text.push(b'\n');
        }
        let mut batch = Batch::new(Arc::clone(origin), wall, Bytes::from(text));
        batch.events = spans.into();
        batch
    }

    fn line(&mut self, wall: WallTime, text: &mut Vec<u8>) {
        let sequence = self.sequence;
        self.sequence += 1;
        let host = self.random.pick(HOSTS);
        let app = self.random.pick(APPS);
        // Writing to a Vec cannot fail.
        let _ = match self.format {
            "json" => {
                let (level, words) = (self.random.pick(LEVELS), self.words());
                write!(
                    text,
                    "{{\"ts\":\"{wall}\",\"seq\":{sequence},\"level\":\"{level}\",\
                     \"host\":\"{host}\",\"app\":\"{app}\",\"message\":\"{words}\"}}"
                )
            }
            "access_log" => self.access_line(sequence, wall, text),
            _ => {
                let (priority, words) = (128 + self.random.below(8), self.words());
                write!(
                    text,
                    "<{priority}>1 {wall} {host} {app} {} - [meta seq=\"{sequence}\"] {words}",
                    100 + self.random.below(30_000)
                )
            }
        };
    }

    fn access_line(
        &mut self,
        sequence: u64,
        wall: WallTime,
        text: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let date = wall.civil();
        let month = MONTHS[date.month as usize - 1];
        let (host, path) = (self.random.below(250) + 1, self.random.pick(PATHS));
        let (status, size) = (self.random.pick(STATUSES), self.random.below(100_000));
        write!(
            text,
            "192.0.2.{host} - - [{:02}/{month}/{}:{:02}:{:02}:{:02} +0000] \"GET {path} HTTP/1.1\" \
             {status} {size} \"-\" \"marline/{sequence}\"",
            date.day, date.year, date.hour, date.minute, date.second
        )
    }

    fn words(&mut self) -> String {
        let count = 4 + self.random.below(8);
        let mut words = String::new();
        for index in 0..count {
            if index > 0 {
                words.push(' ');
            }
            words.push_str(self.random.pick(WORDS));
        }
        words
    }
}

/// So many lines of `format`, one of the option's words, each with its newline: for who wants
/// the lines without the source. The same every time, but for `wall`.
pub fn text(format: &'static str, lines: u64, wall: WallTime) -> Bytes {
    let mut made = Lines {
        format,
        random: Random(1 << 63),
        sequence: 0,
    };
    let origin = Origin {
        source: "".into(),
        peer: "".into(),
    };
    made.batch(lines, &Arc::new(origin), wall).bytes
}

/// xorshift64 (Marsaglia 2003); never zero. Good enough for made-up words.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len() as u64) as usize]
    }
}

const HOSTS: &[&str] = &["web-01", "web-02", "db-01", "edge-1.example.net"];
const APPS: &[&str] = &["sshd", "nginx", "postgres", "cron", "billing"];
const LEVELS: &[&str] = &["debug", "info", "info", "info", "warning", "error"];
const PATHS: &[&str] = &["/", "/index.html", "/api/v1/orders?limit=50", "/healthz"];
const STATUSES: &[&str] = &["200", "200", "200", "304", "404", "500"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WORDS: &[&str] = &[
    "connection",
    "accepted",
    "session",
    "opened",
    "timeout",
    "upstream",
    "cache",
    "miss",
    "retry",
    "disk",
    "above",
    "threshold",
    "request",
    "completed",
    "worker",
    "restarted",
];
