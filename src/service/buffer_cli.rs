//! `marline buffer`: what lies in disk buffers, seen and moved without the daemon.
//!
//! `list | cat SINK | check SINK | export SINK --to FILE | requeue OLD --to NEW`. All but the
//! last only read, take no lock for longer than a look at it, and may be run beside the daemon
//! that owns the buffer; then they show what is surely on the disk and no more. `requeue` owns
//! both buffers while it works, so the daemon must not run.
//!
//! Exit codes: 0 good; 1 something in the buffer is damaged; 2 usage, and a buffer that there
//! is not; 74 a file or device failed (EX_IOERR); 75 a buffer is in use (EX_TEMPFAIL); 78 the
//! configuration has a mistake.

mod events;
mod listing;
mod requeue;

use std::fmt;
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};

use crate::buffer::disk::inspect::{self, Inspection};
use crate::buffer::storage::{Directory, Kind, Storage};
use crate::buffer::storage_sys::SystemStorage;
use crate::config::{Config, Environment, Purpose};

use super::buffers::FOLDER;
use super::cli::{EXIT_CONFIG, EXIT_USAGE, complain};
use super::paths::Paths;

/// The buffer has damage.
pub const EXIT_DAMAGED: u8 = 1;
/// A file or device failed (EX_IOERR).
pub const EXIT_IO: u8 = 74;
/// A buffer is in use (EX_TEMPFAIL).
pub const EXIT_IN_USE: u8 = 75;

/// What to do with disk buffers.
#[derive(Subcommand, Debug)]
pub enum BufferCommand {
    /// List all disk buffers, also those of sinks that are gone from the configuration
    List(Whereabouts),
    /// Print the events of a buffer, oldest first, as its sink would get them
    Cat(CatArguments),
    /// Go through a whole buffer and print what is wrong with it, with file and offset
    Check(OneArguments),
    /// Write the events of a buffer to a new file, a JSON object a line, with where they came from
    Export(ExportArguments),
    /// Move the events of one buffer to another one's end; marline must not run
    Requeue(RequeueArguments),
}

/// Where the state is.
#[derive(Args, Debug)]
pub struct Whereabouts {
    /// The state folder; without it, where the configuration says
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The configuration; without it /etc/marline/marline.toml, else config/marline.toml here
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// One buffer.
#[derive(Args, Debug)]
pub struct OneArguments {
    /// The name of the sink
    sink: String,
    #[command(flatten)]
    whereabouts: Whereabouts,
}

/// What is printed of which buffer.
#[derive(Args, Debug)]
pub struct CatArguments {
    #[command(flatten)]
    one: OneArguments,
    /// How many events at most
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// What is printed of an event: a JSON object, or its original bytes
    #[arg(long, value_enum, default_value = "json")]
    encode: Encode,
}

/// How an event is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Encode {
    /// As JSON.
    Json,
    /// Its original bytes.
    Raw,
}

/// Which buffer is written where.
#[derive(Args, Debug)]
pub struct ExportArguments {
    #[command(flatten)]
    one: OneArguments,
    /// The file; it must not exist yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// What is moved where.
#[derive(Args, Debug)]
pub struct RequeueArguments {
    /// The name of the sink whose buffer is emptied
    old: String,
    /// The name of the sink whose buffer gets the events
    #[arg(long, value_name = "NEW")]
    to: String,
    #[command(flatten)]
    whereabouts: Whereabouts,
}

/// Does what `command` asks for; gives the exit code.
pub fn main(command: &BufferCommand, env: Environment<'_>) -> u8 {
    let done = match command {
        BufferCommand::List(whereabouts) => {
            State::find(whereabouts, env).and_then(|state| listing::list(&state))
        }
        BufferCommand::Cat(arguments) => State::find(&arguments.one.whereabouts, env)
            .and_then(|state| events::cat(&state.open(&arguments.one.sink)?, arguments)),
        BufferCommand::Check(arguments) => State::find(&arguments.whereabouts, env)
            .and_then(|state| listing::check(&state.open(&arguments.sink)?)),
        BufferCommand::Export(arguments) => State::find(&arguments.one.whereabouts, env)
            .and_then(|state| events::export(&state.open(&arguments.one.sink)?, &arguments.to)),
        BufferCommand::Requeue(arguments) => State::find(&arguments.whereabouts, env)
            .and_then(|state| requeue::requeue(&state, &arguments.old, &arguments.to)),
    };
    done.unwrap_or_else(|stop| {
        complain(&stop.message);
        stop.code
    })
}

/// Why a command came to nothing, or not to its end.
struct Stop {
    code: u8,
    /// As it is shown.
    message: String,
}

impl Stop {
    /// A stop with a message of one sentence, and what the reader can do.
    fn new(code: u8, message: impl fmt::Display, help: &str) -> Stop {
        let message = match help {
            "" => format!("error: {message}\n"),
            help => format!("error: {message}\n  = help: {help}\n"),
        };
        Stop { code, message }
    }

    /// A file or device failed.
    fn io(what: impl fmt::Display, error: &io::Error) -> Stop {
        Stop::new(EXIT_IO, format_args!("{what}: {error}"), "")
    }
}

/// The state folder, and the configuration where there is one.
struct State {
    folder: PathBuf,
    config: Option<Config>,
}

/// One buffer's folder.
struct Buffer {
    sink: String,
    path: PathBuf,
    directory: Arc<dyn Directory>,
}

impl Buffer {
    /// Who owns the buffer now, as its note says. Nobody waits for the lock, and it is not kept.
    fn owner(&self) -> Option<String> {
        let path = self.path.join("LOCK");
        let file = std::fs::File::open(&path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {
                let note = std::fs::read_to_string(&path).unwrap_or_default();
                Some(note.trim().to_owned())
                    .filter(|note| !note.is_empty())
                    .or_else(|| Some("another process".to_owned()))
            }
            _ => None,
        }
    }

    fn look(&self, is_in_use: bool) -> Result<Inspection, Stop> {
        let found = inspect::look(self.directory.clone(), is_in_use);
        found.map_err(|error| Stop::io(format_args!("cannot read {}", self.path.display()), &error))
    }
}

impl State {
    /// A named folder needs no configuration, and is read together with a named one only.
    fn find(whereabouts: &Whereabouts, env: Environment<'_>) -> Result<State, Stop> {
        if let (Some(folder), None) = (&whereabouts.state_dir, &whereabouts.config) {
            return Ok(State {
                folder: folder.clone(),
                config: None,
            });
        }
        let silent = |code| Stop {
            code,
            message: String::new(),
        };
        let loaded = super::cli::load(whereabouts.config.clone(), env, Purpose::Check);
        let (_, loaded) = loaded.map_err(silent)?;
        let Some(daemon) = loaded.daemon else {
            let mut message = loaded.report;
            message.push_str("  = help: --state-dir DIR does without the configuration\n");
            return Err(Stop {
                code: EXIT_CONFIG,
                message,
            });
        };
        if loaded.config.is_none() {
            // Where the state is, is known; which sinks there are, is not.
            complain(&loaded.report);
        }
        let folder = whereabouts.state_dir.clone().unwrap_or_else(|| {
            let is_root = nix::unistd::geteuid().is_root();
            Paths::of(&daemon, env, is_root).state_dir
        });
        Ok(State {
            folder,
            config: loaded.config.map(|(config, _)| config),
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FOLDER)
    }

    /// The folder of all buffers; `None` where there never was one.
    fn buffers(&self) -> Result<Option<Arc<dyn Directory>>, Stop> {
        let path = self.path();
        match SystemStorage.root(&path, None) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot_open(&path, &error)),
        }
    }

    /// The names of all buffers, in order.
    fn names(&self) -> Result<Vec<String>, Stop> {
        let Some(buffers) = self.buffers()? else {
            return Ok(Vec::new());
        };
        let failed = |error| cannot_open(&self.path(), &error);
        let mut names = buffers.list().map_err(failed)?;
        names.retain(|name| {
            let stat = buffers.stat(name);
            stat.is_ok_and(|stat| stat.kind == Kind::Directory)
        });
        names.sort_unstable();
        Ok(names)
    }

    /// The buffer of one sink.
    fn open(&self, sink: &str) -> Result<Buffer, Stop> {
        let names = self.names()?;
        let Some(buffers) = self
            .buffers()?
            .filter(|_| names.iter().any(|name| name == sink))
        else {
            return Err(self.no_such(sink, &names));
        };
        let path = self.path().join(sink);
        match buffers.directory(sink, None) {
            Ok(directory) => Ok(Buffer {
                sink: sink.to_owned(),
                path,
                directory,
            }),
            Err(error) => Err(cannot_open(&path, &error)),
        }
    }

    fn no_such(&self, sink: &str, names: &[String]) -> Stop {
        let path = self.path();
        let message = format!("no disk buffer of a sink `{sink}` is in {}", path.display());
        let help = match names {
            [] => "there is none at all; --state-dir DIR looks elsewhere".to_owned(),
            names => format!("there is {}", names.join(", ")),
        };
        Stop::new(EXIT_USAGE, message, &help)
    }

    /// Whether the configuration has a sink of this name; `None` without a configuration.
    fn has_sink(&self, name: &str) -> Option<bool> {
        let sinks = &self.config.as_ref()?.sinks;
        Some(sinks.iter().any(|sink| &*sink.name == name))
    }
}

fn cannot_open(path: &Path, error: &io::Error) -> Stop {
    Stop::io(format_args!("cannot open {}", path.display()), error)
}
