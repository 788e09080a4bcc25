//! `exec`: the lines, or other frames, that a command prints.
//!
//! The command is a list, the program first; no shell looks at it, so nothing in it means more
//! than it says. It runs always, and is started again when it ends, or at every tick (`every`).
//! How it runs, waits and ends is in `command.rs`; its environment is its own (`env`).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use crate::deferred::{Deferred, Failure};
use crate::event::{Batch, Key, Slot, into_fields, name};
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::facts::Facts;
use crate::pipeline::host::Host;
use crate::pipeline::intake::Outlet;
use crate::pipeline::options::{Mistake, Options, Value};
use crate::pipeline::shared_options;
use crate::protocol::Framing;
use crate::reactor::CommandLine;
use crate::time::Duration;
use crate::transport::{CloseReason, Connection, Network, Protocol};

use super::command::{self, Plan, Reader, Runner};
use super::framed::{FramedInput, InputShared};
use super::reading::Reading;
use super::stdin::FRAMING;

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "exec",
    summary: "what a command prints",
    options: &[
        Opt::new(
            "command",
            "the program and its arguments; a program without a slash is looked for in PATH. No \
             shell is asked",
            Kind::TEXTS,
        )
        .required()
        .test(check_command),
        Opt::new(
            "every",
            "time between two starts; a run that is still going on then is left alone, and the \
             start left out. Without it the command is to run always, and is started again when \
             it ends, after 1 s, then twice as long each time up to 30 s",
            Kind::DURATION,
        ),
        Opt::new(
            "stderr",
            "what becomes of the lines on standard error: \"log\" puts them into the daemon's \
             log, 100 in ten seconds at most, \"events\" makes events of them with the field \
             `stream` = \"stderr\", \"drop\" throws them away",
            Kind::Word(&["log", "events", "drop"]),
        )
        .default("\"log\""),
        FRAMING,
        shared_options::MAX_MESSAGE,
        Opt::new(
            "env",
            "environment variables of the command; a value may be a secret. Beside them it has \
             only the daemon's PATH, HOME, USER, LOGNAME, LANG, LC_ALL, TZ and TMPDIR",
            Kind::Map(&Kind::Either(&[Kind::Secret, Kind::TEXT])),
        )
        .test(check_env),
        Opt::new(
            "directory",
            "where the command runs; without it where the daemon does",
            Kind::Path,
        ),
        KILL_AFTER,
    ],
    shared: &[],
    example: "[source.disks]\ntype    = \"exec\"\ncommand = [\"df\", \"--output=pcent,target\"]\n\
              every   = \"60s\"\n",
    build: Build::Source(build),
};

/// The option `kill_after`.
pub const KILL_AFTER: Opt = Opt::new(
    "kill_after",
    "how long the command, and whatever it has started in its process group, may take to end \
     after SIGTERM; then SIGKILL follows",
    Kind::DURATION,
)
.default("\"5s\"");

fn check_command(value: &Value) -> Result<(), Mistake> {
    let Value::List(words) = value else {
        return Ok(());
    };
    let words = words.iter().map(|word| word.as_text().unwrap_or_default());
    let words: Vec<&str> = words.collect();
    match words.first() {
        None | Some(&"") => {
            let mistake = Mistake::new("there is no program");
            Err(mistake.help("write the program first, then its arguments: [\"df\", \"-h\"]"))
        }
        Some(_) if words.iter().any(|word| word.contains('\0')) => {
            Err(Mistake::new("an argument cannot hold a NUL character"))
        }
        Some(_) => Ok(()),
    }
}

fn check_env(value: &Value) -> Result<(), Mistake> {
    let Value::Map(entries) = value else {
        return Ok(());
    };
    let is_wrong = |name: &str| name.is_empty() || name.contains(['=', '\0']);
    match entries.iter().find(|(name, _)| is_wrong(name)) {
        None => Ok(()),
        Some((name, _)) => Err(Mistake::new(format!(
            "`{name}` is not the name of a variable"
        ))),
    }
}

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    let mut words = options.texts("command").into_iter().map(OsString::from);
    let env = options.map("env").iter().map(|(name, value)| {
        let value = match &value.value {
            Value::Secret(secret) => secret.as_ref().map_or(&[][..], |it| it.reveal()).to_vec(),
            _ => value.as_text().unwrap_or_default().as_bytes().to_vec(),
        };
        (OsString::from(name), OsString::from_vec(value))
    });
    let stderr = options.word("stderr");
    Ok(Box::new(Exec {
        program: words.next().unwrap_or_default(),
        arguments: words.collect(),
        env: env.collect(),
        directory: options.maybe_path("directory").map(Path::to_path_buf),
        every: options.maybe_duration("every"),
        kill_after: options.duration("kill_after"),
        stderr,
        framing: options.word("framing").parse().unwrap_or(Framing::Lines),
        max_message: options.size("max_message") as usize,
        running: None,
    }))
}

struct Exec {
    program: OsString,
    arguments: Vec<OsString>,
    /// May hold secrets.
    env: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    every: Option<Duration>,
    kill_after: Duration,
    stderr: &'static str,
    framing: Framing,
    max_message: usize,
    running: Option<(Rc<InputShared>, Rc<Runner>)>,
}

impl Source for Exec {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let place = format!("source.{}", outlet.name());
        let source = outlet.name().to_string();
        let shared = InputShared::new(outlet, self.framing, self.max_message, None);
        let reader = Output {
            shared: Rc::clone(&shared),
            has_stderr: self.stderr == "events",
        };
        let plan = Plan {
            source,
            line: CommandLine {
                program: self.program.clone(),
                arguments: self.arguments.clone(),
                environment: command::environment(|name| std::env::var_os(name), &self.env),
                directory: self.directory.clone(),
                reads_stderr: self.stderr != "drop",
            },
            every: self.every,
            kill_after: self.kill_after,
        };
        let network = resources.get::<Network>();
        let runner = Runner::new(plan, network, Box::new(reader));
        self.running = Some((shared, Rc::clone(&runner)));
        let host = resources.get::<Host>();
        runner.begin_at(host.turn_at(&place));
        let how_often = match self.every {
            None => "always".to_owned(),
            Some(every) => format!("every {every:?}"),
        };
        Ok(vec![format!("running {} {how_often}", self.shown())])
    }

    fn stop(&mut self) -> Deferred<()> {
        let stopped = self.running.as_ref().map(|(_, runner)| runner.stop());
        stopped.unwrap_or_else(|| Deferred::ready(()))
    }

    fn log_counts(&self) {
        if let Some((shared, runner)) = &self.running {
            shared.log_counts();
            runner.log_counts();
        }
    }

    fn facts(&self) -> Facts {
        let Some((shared, runner)) = &self.running else {
            return Facts::default();
        };
        let mut facts = shared.facts();
        facts.places = vec![self.shown()];
        runner.add_to(&mut facts);
        facts
    }

    fn close(&mut self) {
        self.running.iter().for_each(|(_, runner)| runner.close());
    }
}

impl Exec {
    /// The program; arguments may be anybody's business.
    fn shown(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}

/// Makes events of what the command prints.
struct Output {
    shared: Rc<InputShared>,
    has_stderr: bool,
}

impl Reader for Output {
    fn stdout(&self) -> Box<dyn Protocol> {
        Box::new(Stream(self.shared.input("")))
    }

    fn stderr(&self) -> Option<Box<dyn Protocol>> {
        let input = || self.shared.input("").read_by(Box::new(Stderr));
        self.has_stderr
            .then(|| Box::new(Stream(input())) as Box<dyn Protocol>)
    }
}

/// The frames of one pipe.
struct Stream(FramedInput);

impl Protocol for Stream {
    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        self.0.receive(connection, bytes)
    }

    fn eof(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.0.end(connection);
        Ok(())
    }

    fn closed(mut self: Box<Self>, reason: &CloseReason) {
        self.0.close(reason);
    }
}

/// Says of events that they come from standard error.
struct Stderr;

impl Reading for Stderr {
    fn read(&mut self, batch: &mut Batch) {
        for event in &mut batch.events {
            let (stream, stderr) = (Key::Static(name!("stream")), Slot::Word(name!("stderr")));
            into_fields(event).set(&batch.bytes, stream, stderr);
        }
    }
}
