//! Telemetry: structured log records, from any thread to one writer thread.
//!
//! Code logs through `tracing`, best by a struct of [`events`]. [`layer`] turns each event into
//! a [`Record`](record::Record) with bounded values, checks its component's level and shows it
//! to every [`Observer`](layer::Observer). The daemon's observer is a [`queue`]: it holds back
//! storms, formats ([`format`](mod@format)) and queues; a thread writes to stderr or to the
//! journal ([`writer`]).
//!
//! Nobody who logs ever waits: a full queue drops the record and counts it, and the count is
//! logged when there is room again. No byte of a peer reaches a terminal or a line border
//! unescaped. An idle writer sleeps without a time limit. [`last_errors`] remembers what each
//! component complained of last; a [`tap`] lets the
//! records through that become events.
//!
//! Not here: counters of events (`pipeline` keeps its ledgers), metrics, and the start of the
//! writer's thread, which the caller passes in.

pub mod capture;
pub mod escape;
pub mod events;
pub mod format;
pub mod last_errors;
pub mod layer;
pub mod queue;
pub mod record;
mod storm;
pub mod tap;
pub mod writer;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use crate::time::{Duration, SystemClock};

pub use escape::Quoted;
pub use format::Format;
pub use last_errors::{Complaint, LastErrors};
pub use record::Level;

use layer::{Layer, LevelSwitch, Levels};
use queue::Queue;
use tap::Tap;
use writer::Output;

/// What `daemon.log` says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `None`: text for a terminal, native fields where stderr is the journal, JSON otherwise.
    pub format: Option<Format>,
    /// The least important level that is written.
    pub level: Level,
    /// Exceptions by component (`source.syslog`), which also cover what is below one (`source`).
    pub levels: Vec<(String, Level)>,
}

/// Why logging could not be set up.
#[derive(Debug)]
pub enum InitError {
    /// This process has a subscriber already.
    AlreadySet,
    /// The writer's thread did not start.
    Thread(io::Error),
}

impl std::fmt::Display for InitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InitError::AlreadySet => f.write_str("logging is already set up in this process"),
            InitError::Thread(error) => write!(f, "cannot start the log writer: {error}"),
        }
    }
}

impl std::error::Error for InitError {}

/// Sets up logging for the process, once. `spawn` starts a named thread.
///
/// What is logged before this call is lost; what is logged after the guard is dropped is
/// still written as long as the process lives.
pub fn init<F>(options: Options, spawn: F) -> Result<Guard, InitError>
where
    F: FnOnce(&'static str, Box<dyn FnOnce() + Send>) -> io::Result<()>,
{
    let format = match options.format {
        None => default_format(),
        Some(Format::Human { .. }) => human(),
        Some(format) => format,
    };
    let queue = Arc::new(Queue::new(format, Box::new(SystemClock::new())));
    let output = Output::of(format);
    let of_writer = Arc::clone(&queue);
    let body = Box::new(move || writer::run(&of_writer, output));
    spawn("log", body).map_err(InitError::Thread)?;
    let levels = LevelSwitch::new(Levels::new(options.level, options.levels));
    let last_errors = Arc::<LastErrors>::default();
    let tap = Arc::<Tap>::default();
    let observers: Vec<Arc<dyn layer::Observer>> =
        vec![queue.clone(), last_errors.clone(), tap.clone()];
    let layer = Layer::new(levels.clone(), Box::new(SystemClock::new()), observers);
    tracing::subscriber::set_global_default(Registry::default().with(layer))
        .map_err(|_| InitError::AlreadySet)?;
    Ok(Guard {
        queue,
        last_errors,
        tap,
        levels,
    })
}

fn default_format() -> Format {
    if writer::stderr_is_journal() {
        Format::Journald
    } else if io::stderr().is_terminal() {
        human()
    } else {
        Format::Json
    }
}

/// Colours only where a person sees them and has not asked for none (no-color.org).
fn human() -> Format {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Format::Human {
        colour: io::stderr().is_terminal() && !no_colour,
    }
}

/// Writes what is queued before the process ends.
#[derive(Debug)]
pub struct Guard {
    queue: Arc<Queue>,
    last_errors: Arc<LastErrors>,
    tap: Arc<Tap>,
    levels: LevelSwitch,
}

/// How long a dropped guard waits for the writer.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

impl Guard {
    /// Waits at most `limit` until everything logged so far is written. False: something is
    /// left, because what reads our stderr does not.
    pub fn flush(&self, limit: Duration) -> bool {
        self.queue.flush(limit)
    }

    /// What each component complained of last.
    pub fn last_errors(&self) -> Arc<LastErrors> {
        Arc::clone(&self.last_errors)
    }

    /// Records as they come.
    pub fn tap(&self) -> Arc<Tap> {
        Arc::clone(&self.tap)
    }

    /// Changes what is written.
    pub fn levels(&self) -> LevelSwitch {
        self.levels.clone()
    }

    /// Records dropped so far because the queue was full or the output failed.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped_in_all()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.flush(FLUSH_LIMIT);
    }
}
