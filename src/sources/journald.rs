//! `journald`: the entries of the systemd journal, by `journalctl --follow`.
//!
//! `journalctl` knows the journal's files and their rotation; it runs as a command does
//! (`command.rs`) and writes the export format. An entry becomes an event with the fields that
//! a syslog message has, or with all of them.
//!
//! **Nothing is lost, and little comes twice.** Each entry has a cursor. That of the last entry
//! before which everything was acknowledged (`ack`) is kept in `sources/NAME/cursor` beneath
//! `state_dir`, written at most once a second and at the stop. After a stop nothing comes twice;
//! after a crash what was delivered since the cursor was written may. What a sink gave up on is
//! in its books and does not hold the cursor back, unless it was the stop that cut it off.

mod events;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::storage::Storage;
use crate::deferred::{Deferred, Failure, Permit, Promise};
use crate::event::{Batch, Origin};
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::facts::Facts;
use crate::pipeline::host::Host;
use crate::pipeline::intake::{Intake, Outlet};
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::part::{Delivered, Lost};
use crate::pipeline::shared_options;
use crate::protocol::journal_export::{Entries, Parser};
use crate::reactor::{CommandLine, Handle};
use crate::telemetry::events::CheckpointFailed;
use crate::time::Duration;
use crate::transport::{CloseReason, Connection, Network, Protocol};

use super::checkpoint::Checkpoint;
use super::command::{self, Plan, Reader, Runner};

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "journald",
    summary: "the entries of the systemd journal",
    options: &[
        Opt::new(
            "units",
            "only entries of these units: \"sshd.service\", \"app-*\"; without it of all",
            Kind::TEXTS,
        ),
        Opt::new(
            "matches",
            "only entries with these fields: \"_TRANSPORT=kernel\"; of one field any value will \
             do, of several fields each must be there",
            Kind::List(&Kind::Text(Some(check_match))),
        ),
        Opt::new(
            "since",
            "where the first start begins: \"now\", \"boot\" (what came since the boot), \"all\", \
             or a time as journalctl takes it; later starts go on where the former ended",
            Kind::Text(Some(check_since)),
        )
        .default("\"now\""),
        Opt::new(
            "fields",
            "\"usual\" makes events with timestamp, host, app, procid, facility, severity, \
             unit and message; \"all\" adds every other field of the entry under its name in \
             lower case",
            Kind::Word(&["usual", "all"]),
        )
        .default("\"usual\""),
        Opt::new(
            "directory",
            "the folder of the journal's files; without it the system's journal",
            Kind::Path,
        ),
        Opt::new(
            "journalctl",
            "the program; without a slash it is looked for in PATH",
            Kind::Path,
        )
        .default("\"journalctl\""),
        shared_options::MAX_MESSAGE,
    ],
    shared: &[],
    example: "[source.journal]\ntype  = \"journald\"\nunits = [\"sshd.service\"]\n",
    build: Build::Source(build),
};

fn check_match(text: &str) -> Result<(), Mistake> {
    let name = text.split_once('=').map(|(name, _)| name);
    let is_name = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        !name.is_empty() && name.bytes().all(fits)
    };
    if name.is_some_and(is_name) && !text.contains('\0') {
        return Ok(());
    }
    let mistake = Mistake::new("not a match of a field");
    Err(mistake.help("write FIELD=value, the field in capital letters: \"_TRANSPORT=kernel\""))
}

fn check_since(text: &str) -> Result<(), Mistake> {
    match text.is_empty() || text.contains('\0') {
        true => Err(Mistake::new("not a time").help("write \"now\", \"boot\", \"all\" or a time")),
        false => Ok(()),
    }
}

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    let texts = |name: &str| options.texts(name).into_iter();
    let directory = options.maybe_path("directory").map(Path::to_path_buf);
    let fixed = ["--output=export", "--follow", "--no-tail", "--quiet"].map(OsString::from);
    let directory = directory.map(|path: PathBuf| {
        let mut argument = OsString::from("--directory=");
        argument.push(path);
        argument
    });
    let units = texts("units").map(|unit| OsString::from(format!("--unit={unit}")));
    let matches = texts("matches").map(OsString::from);
    let program = options.maybe_path("journalctl");
    Ok(Box::new(Journald {
        program: program.map_or_else(|| "journalctl".into(), |path| path.as_os_str().to_owned()),
        arguments: fixed
            .into_iter()
            .chain(directory)
            .chain(units)
            .chain(matches)
            .collect(),
        since: options.text("since").to_owned(),
        has_all_fields: options.word("fields") == "all",
        max_message: options.size("max_message") as usize,
        running: None,
    }))
}

struct Journald {
    program: OsString,
    arguments: Vec<OsString>,
    since: String,
    has_all_fields: bool,
    max_message: usize,
    running: Option<(Rc<Journal>, Rc<Runner>)>,
}

impl Source for Journald {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let name = outlet.name().to_string();
        let host = resources.get::<Host>();
        let reactor = resources.get::<Handle>();
        let storage = resources.get::<Arc<dyn Storage>>();
        let checkpoint = Checkpoint::new(reactor, storage, host.state_dir(), &name, "cursor");
        let journal = Rc::new(Journal {
            component: format!("source.{name}"),
            origin: Arc::new(Origin {
                source: name.as_str().into(),
                peer: "".into(),
            }),
            intake: outlet.intake(),
            reactor: reactor.clone(),
            since: self.since.clone(),
            has_all_fields: self.has_all_fields,
            max_message: self.max_message,
            checkpoint,
            state_folder: host.state_dir().join("sources").join(&name),
            read: RefCell::default(),
            track: RefCell::default(),
            settled: RefCell::default(),
            turn: RefCell::default(),
            counts: Counts::default(),
        });
        let plan = Plan {
            source: name.clone(),
            line: CommandLine {
                program: self.program.clone(),
                arguments: self.arguments.clone(),
                environment: command::environment(|name| std::env::var_os(name), &[]),
                directory: None,
                reads_stderr: true,
            },
            every: None,
            kill_after: KILL_AFTER,
        };
        let reader = Box::new(Output(Rc::clone(&journal)));
        let runner = Runner::new(plan, resources.get::<Network>(), reader);
        self.running = Some((Rc::clone(&journal), Rc::clone(&runner)));
        let begun = host
            .turn_at(&format!("source.{name}"))
            .add_callback(move |turn| {
                *journal.turn.borrow_mut() = Some(turn);
                let found = journal.checkpoint.read();
                found.add_both(move |found| {
                    journal.find_place(found);
                    runner.begin();
                })
            });
        drop(begun);
        let program = self.program.to_string_lossy();
        Ok(vec![format!("reading the journal by {program}")])
    }

    fn stop(&mut self) -> Deferred<()> {
        let Some((journal, runner)) = &self.running else {
            return Deferred::ready(());
        };
        let journal = Rc::clone(journal);
        runner.stop().add_both(move |_| journal.stop())
    }

    fn log_counts(&self) {
        self.running
            .iter()
            .for_each(|(_, runner)| runner.log_counts());
    }

    fn facts(&self) -> Facts {
        let Some((journal, runner)) = &self.running else {
            return Facts::default();
        };
        let counts = &journal.counts;
        let mut facts = Facts {
            places: vec!["the journal".to_owned()],
            counts: vec![
                ("bytes", counts.bytes.get()),
                ("truncated", counts.truncated.get()),
                ("failed_batches", counts.failed_batches.get()),
            ],
            ..Facts::default()
        };
        runner.add_to(&mut facts);
        facts
    }

    fn close(&mut self) {
        self.running.iter().for_each(|(_, runner)| runner.close());
    }
}

#[derive(Default)]
struct Counts {
    bytes: Cell<u64>,
    truncated: Cell<u64>,
    failed_batches: Cell<u64>,
}

/// Where in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Behind the entry with this cursor.
    After(String),
    /// At this time, in seconds since 1970.
    Since(i64),
}

/// Batches on their way, in order, and up to where they are acknowledged.
#[derive(Default)]
struct Track {
    /// Each batch's last cursor, and what became of the batch.
    batches: VecDeque<(String, Fate)>,
    /// How many batches there were before the first of them.
    before: u64,
    /// All before a batch that was cut off are settled: the cursor stays before it.
    is_cut: bool,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is on its way.
    Open,
    /// It is acknowledged, or somebody has given up on it.
    Settled,
    /// The stop cut it off: the next start wants it again.
    CutOff,
}

/// The source at work.
struct Journal {
    component: String,
    origin: Arc<Origin>,
    intake: Intake,
    reactor: Handle,
    since: String,
    has_all_fields: bool,
    max_message: usize,
    checkpoint: Rc<Checkpoint>,
    state_folder: PathBuf,
    /// Up to where entries were read; `None` before the first one, where `since` says so.
    read: RefCell<Option<Place>>,
    track: RefCell<Track>,
    settled: RefCell<Option<Promise<()>>>,
    /// Held from the reading of the checkpoint until its last writing.
    turn: RefCell<Option<Permit>>,
    counts: Counts,
}

impl Journal {
    /// The first run begins where the last daemon ended, or where `since` says.
    fn find_place(&self, found: Result<Option<Vec<u8>>, Failure>) {
        let found = found.and_then(|bytes| bytes.map(|bytes| Place::parse(&bytes)).transpose());
        match found {
            Ok(Some(place)) => return drop(self.read.replace(Some(place))),
            Ok(None) => {}
            Err(failure) => {
                let (component, folder) = (&self.component, self.state_folder.display());
                CheckpointFailed {
                    component,
                    folder: &folder,
                    error: &failure,
                }
                .log();
            }
        }
        if self.since == "now" {
            // Kept as well, so that nothing is lost that comes before the first cursor.
            let place = Place::Since(self.reactor.wall().as_micros().div_euclid(1_000_000));
            self.checkpoint.set(place.written());
            *self.read.borrow_mut() = Some(place);
        }
    }

    fn deliver(self: &Rc<Self>, entries: Entries) {
        let truncated = entries
            .list
            .iter()
            .filter(|entry| entry.is_truncated)
            .count();
        add(&self.counts.truncated, truncated as u64);
        let made = events::make(entries, self.has_all_fields);
        let origin = Arc::clone(&self.origin);
        let mut batch = Batch::new(origin, self.reactor.wall(), made.bytes);
        batch.events = made.events.into();
        let number = self.begin_batch(made.cursor);
        let journal = Rc::clone(self);
        let delivered = self.intake.deliver(batch);
        drop(delivered.add_both(move |result| journal.settle(number, &result)));
    }

    /// A batch is on its way; answers its number.
    fn begin_batch(&self, cursor: Option<String>) -> u64 {
        if let Some(cursor) = &cursor {
            *self.read.borrow_mut() = Some(Place::After(cursor.clone()));
        }
        let mut track = self.track.borrow_mut();
        track
            .batches
            .push_back((cursor.unwrap_or_default(), Fate::Open));
        track.before + track.batches.len() as u64 - 1
    }

    fn settle(&self, number: u64, result: &Result<Delivered, Failure>) {
        let mut track = self.track.borrow_mut();
        let fate = match result {
            Err(failure) if is_cut_off(failure) => Fate::CutOff,
            _ => Fate::Settled,
        };
        add(&self.counts.failed_batches, u64::from(result.is_err()));
        let reached = track.settle(number, fate);
        let is_empty = track.batches.is_empty();
        drop(track);
        if let Some(cursor) = reached {
            self.checkpoint.set(Place::After(cursor).written());
        }
        if is_empty {
            let promise = self.settled.take();
            promise.map(|promise| promise.callback(()));
        }
    }

    /// Nothing more is read: writes the cursor of what is acknowledged, then of the rest.
    fn stop(self: &Rc<Self>) -> Deferred<()> {
        let journal = Rc::clone(self);
        let settled = self.checkpoint.flush().add_both(move |_| {
            let (promise, settled) = Deferred::new();
            if journal.track.borrow().batches.is_empty() {
                promise.callback(());
            } else {
                *journal.settled.borrow_mut() = Some(promise);
            }
            settled
        });
        let journal = Rc::clone(self);
        settled.add_both(move |_| {
            journal.checkpoint.flush().add_both(move |_| {
                drop(journal.turn.take());
            })
        })
    }
}

impl Track {
    /// What became of the batch `number`: the cursor up to which all are settled, where that has
    /// moved.
    fn settle(&mut self, number: u64, fate: Fate) -> Option<String> {
        let index = usize::try_from(number - self.before).ok()?;
        if let Some(batch) = self.batches.get_mut(index) {
            batch.1 = fate;
        }
        let mut reached = None;
        while let Some((cursor, fate)) = self.batches.pop_front_if(|(_, fate)| *fate != Fate::Open)
        {
            self.before += 1;
            self.is_cut |= fate == Fate::CutOff;
            if !self.is_cut && !cursor.is_empty() {
                reached = Some(cursor);
            }
        }
        reached
    }
}

/// Whether the events will be wanted again at the next start: nobody has given up on them.
fn is_cut_off(failure: &Failure) -> bool {
    let lost = failure.downcast_ref::<Lost>();
    lost.is_none_or(|lost| lost.reason == "shutdown")
}

impl Place {
    fn written(&self) -> Vec<u8> {
        match self {
            Place::After(cursor) => format!("{HEAD}\ncursor {cursor}\n"),
            Place::Since(seconds) => format!("{HEAD}\nsince {seconds}\n"),
        }
        .into_bytes()
    }

    fn parse(bytes: &[u8]) -> Result<Place, Failure> {
        let parsed = || {
            let text = std::str::from_utf8(bytes).ok()?;
            let line = text
                .strip_prefix(HEAD)?
                .strip_prefix('\n')?
                .strip_suffix('\n')?;
            let (word, value) = line.split_once(' ')?;
            let is_plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
            match word {
                "cursor" if is_plain => Some(Place::After(value.to_owned())),
                "since" => Some(Place::Since(value.parse().ok()?)),
                _ => None,
            }
        };
        parsed().ok_or_else(|| Failure::msg("it is damaged; `since` says where to begin"))
    }

    fn argument(&self) -> OsString {
        match self {
            Place::After(cursor) => format!("--after-cursor={cursor}").into(),
            Place::Since(seconds) => format!("--since=@{seconds}").into(),
        }
    }
}

/// The first line of the checkpoint.
const HEAD: &str = "marline journald 1";

/// Reads what `journalctl` writes.
struct Output(Rc<Journal>);

impl Reader for Output {
    fn arguments(&self) -> Vec<OsString> {
        let place = self.0.read.borrow();
        let argument = match (&*place, self.0.since.as_str()) {
            (Some(place), _) => place.argument(),
            (None, "all") => return Vec::new(),
            (None, "boot") => "--boot".into(),
            (None, since) => format!("--since={since}").into(),
        };
        vec![argument]
    }

    fn stdout(&self) -> Box<dyn Protocol> {
        Box::new(Run {
            journal: Rc::clone(&self.0),
            parser: Parser::new(self.0.max_message),
        })
    }
}

/// One run of `journalctl`.
struct Run {
    journal: Rc<Journal>,
    parser: Parser,
}

impl Protocol for Run {
    fn connected(&mut self, connection: &Connection) -> Result<(), Failure> {
        let resumed = connection.clone();
        self.journal.intake.on_resume(move || resumed.resume());
        Ok(())
    }

    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        add(&self.journal.counts.bytes, bytes.len() as u64);
        let mut entries = Entries::default();
        let pushed = self.parser.push(&bytes, &mut entries);
        if !entries.list.is_empty() {
            self.journal.deliver(entries);
        }
        if self.journal.intake.is_blocked() {
            connection.pause();
        }
        Ok(pushed?)
    }

    fn closed(self: Box<Self>, _reason: &CloseReason) {
        // Part of an entry is read again by the next run: its cursor has not been passed.
    }
}

/// `journalctl` ends at SIGTERM, if it ends at all.
const KILL_AFTER: Duration = Duration::from_secs(5);

fn add(count: &Cell<u64>, amount: u64) {
    count.set(count.get() + amount);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_damage_is_seen() {
        for place in [
            Place::After("s=a;i=1".to_owned()),
            Place::Since(1_795_459_319),
        ] {
            assert_eq!(Place::parse(&place.written()).unwrap(), place);
        }
        let whole = Place::After("s=a;i=1".to_owned()).written();
        for length in 0..whole.len() {
            assert!(Place::parse(&whole[..length]).is_err(), "{length}");
        }
        assert!(Place::parse(b"marline journald 1\ncursor a b\n").is_err());
    }

    #[test]
    fn the_cursor_moves_in_order_and_not_past_what_was_cut_off() {
        let mut track = Track::default();
        for cursor in ["a", "b", "", "d"] {
            track.batches.push_back((cursor.to_owned(), Fate::Open));
        }
        assert_eq!(track.settle(1, Fate::Settled), None);
        assert_eq!(track.settle(0, Fate::Settled).as_deref(), Some("b"));
        assert_eq!(track.settle(2, Fate::CutOff), None);
        assert_eq!(track.settle(3, Fate::Settled), None);
        assert!(track.batches.is_empty());
    }

    #[test]
    fn what_was_delivered_before_the_cut_does_not_come_again() {
        let mut track = Track::default();
        for cursor in ["a", "b", "c"] {
            track.batches.push_back((cursor.to_owned(), Fate::Open));
        }
        assert_eq!(track.settle(1, Fate::CutOff), None);
        assert_eq!(track.settle(0, Fate::Settled).as_deref(), Some("a"));
        assert_eq!(track.settle(2, Fate::Settled), None);
    }
}
