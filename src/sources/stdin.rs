//! `stdin`: what the process is given on its standard input, as in `zcat old.gz | marline run`.
//!
//! A pipe, socket or terminal is read by the reactor; a file, which nobody can wait for, by
//! jobs, one read at a time. While the sinks are full nothing is read, and who writes waits.
//!
//! At its end the daemon stops by default, once everything that was read has come as far as the
//! source's stage (`ack`): a filter ends when its input does, and loses nothing by it. With
//! `at_end = "keep"` it goes on without this source. There is one standard input, so one such
//! source; after a reload a new one begins where the former has stopped reading.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::rc::{Rc, Weak};

use bytes::Bytes;

use crate::deferred::{Deferred, Failure, Permit, Promise};
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Claims, Descriptor, Kind, Opt};
use crate::pipeline::facts::Facts;
use crate::pipeline::host::Host;
use crate::pipeline::intake::Outlet;
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::shared_options;
use crate::protocol::{End, Framing};
use crate::reactor::{Handle, Pool};
use crate::telemetry::events::{DisplayDebug, InputEnded, InputFailed};
use crate::time::Duration;
use crate::transport::{ChunkPool, CloseReason, Connection, Network, Protocol, StandardInput};

use super::framed::{FramedInput, InputShared};

/// The option `framing` of streams without connections.
pub const FRAMING: Opt = Opt::new(
    "framing",
    "how the bytes are cut into events; \"auto\" tells octet counting and lines apart",
    Kind::Word(&[
        "lines",
        "auto",
        "nul",
        "octet_counted",
        "length_u32",
        "netstring",
    ]),
)
.default("\"lines\"");

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "stdin",
    summary: "what the process is given on its standard input",
    options: &[
        Opt::new(
            "at_end",
            "what follows the end of the input: \"stop\" stops the daemon once everything is \
             delivered, \"keep\" goes on without this source",
            Kind::Word(&["stop", "keep"]),
        )
        .default("\"stop\"")
        .claims(Claims::StandardInput),
        FRAMING,
        shared_options::MAX_MESSAGE,
    ],
    shared: &[],
    example: "[source.in]\ntype = \"stdin\"\n",
    build: Build::Source(build),
};

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    Ok(Box::new(Stdin {
        framing: options.word("framing").parse().unwrap_or(Framing::Lines),
        max_message: options.size("max_message") as usize,
        stops_at_end: options.word("at_end") == "stop",
        reader: None,
    }))
}

struct Stdin {
    framing: Framing,
    max_message: usize,
    stops_at_end: bool,
    reader: Option<Rc<Reader>>,
}

impl Source for Stdin {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let component = format!("source.{}", outlet.name());
        let host = resources.get::<Host>().clone();
        let reader = Rc::new(Reader {
            component,
            shared: InputShared::new(outlet, self.framing, self.max_message, None),
            network: resources.get::<Network>().clone(),
            stops_at_end: self.stops_at_end,
            state: RefCell::new(State::Waiting),
            host: host.clone(),
            turn: RefCell::default(),
            over: RefCell::default(),
            is_stopping: Cell::new(false),
        });
        self.reader = Some(Rc::clone(&reader));
        let began = host
            .turn_at("stdin")
            .add_callback(move |turn| reader.begin(turn));
        drop(began);
        Ok(vec!["reading standard input".to_owned()])
    }

    fn stop(&mut self) -> Deferred<()> {
        let stopped = self.reader.as_ref().map(|reader| reader.stop());
        stopped.unwrap_or_else(|| Deferred::ready(()))
    }

    fn log_counts(&self) {
        self.reader.iter().for_each(|it| it.shared.log_counts());
    }

    fn facts(&self) -> Facts {
        let facts = self.reader.as_ref().map(|reader| Facts {
            places: vec!["standard input".to_owned()],
            ..reader.shared.facts()
        });
        facts.unwrap_or_default()
    }

    fn close(&mut self) {
        self.reader.iter().for_each(|reader| reader.close());
    }
}

struct Reader {
    component: String,
    shared: Rc<InputShared>,
    network: Network,
    host: Host,
    stops_at_end: bool,
    state: RefCell<State>,
    /// Held for as long as standard input is ours.
    turn: RefCell<Option<Permit>>,
    /// Fired when nothing more will be read.
    over: RefCell<Option<Promise<()>>>,
    is_stopping: Cell<bool>,
}

enum State {
    /// For the source before us.
    Waiting,
    Stream(Connection),
    File(Rc<FileReader>),
    Over,
}

impl Reader {
    fn begin(self: &Rc<Self>, turn: Permit) {
        if self.is_stopping.get() {
            return self.over();
        }
        *self.turn.borrow_mut() = Some(turn);
        let input = self.shared.input("");
        let opened = StandardInput::open();
        let began = opened.and_then(|opened| match opened {
            StandardInput::Stream(stream) => {
                let protocol = Box::new(Stream {
                    reader: Rc::downgrade(self),
                    input,
                });
                let connection = self.network.adopt_stream(stream, protocol)?;
                Ok(State::Stream(connection))
            }
            StandardInput::File(file) => Ok(State::File(FileReader::new(self, file, input))),
        });
        match began {
            Ok(state) => {
                let file = match &state {
                    State::File(file) => Some(Rc::clone(file)),
                    _ => None,
                };
                *self.state.borrow_mut() = state;
                file.iter().for_each(FileReader::read);
            }
            Err(error) => {
                let (component, error) = (&self.component, &error);
                InputFailed { component, error }.log();
                self.over();
            }
        }
    }

    /// There is nothing more to read: at the end of the input, or because we stop.
    fn ended(self: &Rc<Self>, is_at_end: bool) {
        self.over();
        if !is_at_end || self.is_stopping.get() {
            return;
        }
        let stops = self.stops_at_end;
        let component = &self.component;
        InputEnded { component, stops }.log();
        if stops {
            let host = self.host.clone();
            let settled = self.shared.settled();
            drop(settled.add_both(move |_| host.stop("standard input has ended")));
        }
    }

    fn over(&self) {
        self.state.replace(State::Over);
        drop(self.turn.take());
        let promise = self.over.take();
        promise.map(|promise| promise.callback(()));
    }

    fn stop(&self) -> Deferred<()> {
        self.is_stopping.set(true);
        let (promise, deferred) = Deferred::new();
        *self.over.borrow_mut() = Some(promise);
        let idle = match &*self.state.borrow() {
            State::Stream(connection) => return draining(connection, deferred),
            // What is being read at this moment is still delivered.
            State::File(file) if file.is_reading.get() => return deferred,
            State::File(file) => Some(Rc::clone(file)),
            State::Waiting | State::Over => None,
        };
        idle.iter().for_each(|file| file.cut());
        self.over();
        deferred
    }

    fn close(&self) {
        if let State::Stream(connection) = &*self.state.borrow() {
            connection.abort();
        }
    }
}

fn draining(connection: &Connection, over: Deferred<()>) -> Deferred<()> {
    connection.drain(DRAIN_LIMIT);
    over
}

/// How long a writer that never pauses is read on after a stop was asked for.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// A pipe, socket or terminal.
struct Stream {
    reader: Weak<Reader>,
    input: FramedInput,
}

impl Protocol for Stream {
    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        self.input.receive(connection, bytes)
    }

    fn eof(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.input.end(connection);
        Ok(())
    }

    fn closed(mut self: Box<Self>, reason: &CloseReason) {
        let has_ended = self.input.close(reason);
        let Some(reader) = self.reader.upgrade() else {
            return;
        };
        let is_fault = matches!(reason, CloseReason::Handler(_) | CloseReason::Reset(_));
        if is_fault {
            let component = &reader.component;
            InputFailed {
                component,
                error: reason,
            }
            .log();
        }
        reader.ended(has_ended || is_fault);
    }
}

/// A file, read by one job after the other.
struct FileReader {
    reader: Weak<Reader>,
    reactor: Handle,
    chunks: ChunkPool,
    input: RefCell<FramedInput>,
    /// `None` while a job has it.
    file: RefCell<Option<File>>,
    is_reading: Cell<bool>,
}

impl FileReader {
    fn new(reader: &Rc<Reader>, file: File, input: FramedInput) -> Rc<Self> {
        let this = Rc::new(FileReader {
            reader: Rc::downgrade(reader),
            reactor: reader.network.reactor().clone(),
            chunks: reader.network.chunks().clone(),
            input: RefCell::new(input),
            file: RefCell::new(Some(file)),
            is_reading: Cell::new(false),
        });
        let weak = Rc::downgrade(&this);
        this.input.borrow().on_resume(move || {
            weak.upgrade().iter().for_each(FileReader::read);
        });
        this
    }

    /// Reads the next chunk, unless one is being read or there is no room.
    fn read(self: &Rc<Self>) {
        if self.is_reading.get() {
            return;
        }
        let Some(mut file) = self.file.take() else {
            return;
        };
        self.is_reading.set(true);
        let mut chunk = self.chunks.lend();
        let job = move || {
            let read = loop {
                match file.read(&mut chunk) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            Ok((file, read.map(|bytes| chunk.keep(bytes))))
        };
        let this = Rc::clone(self);
        let read = self
            .reactor
            .defer_to_thread(Pool::Disk, "standard input", job);
        drop(read.add_both(move |result| this.was_read(result)));
    }

    fn was_read(self: &Rc<Self>, result: Result<(File, std::io::Result<Bytes>), Failure>) {
        self.is_reading.set(false);
        let Some(reader) = self.reader.upgrade() else {
            return;
        };
        let bytes = match result {
            Ok((file, Ok(bytes))) => {
                *self.file.borrow_mut() = Some(file);
                bytes
            }
            Ok((_, Err(error))) => return self.failed(&reader, &error),
            Err(failure) => return self.failed(&reader, &failure),
        };
        if bytes.is_empty() {
            self.input.borrow_mut().finish(End::Clean);
            return reader.ended(true);
        }
        let pushed = self.input.borrow_mut().push(bytes);
        if let Err(error) = pushed {
            return self.failed(&reader, &error);
        }
        if reader.is_stopping.get() {
            self.cut();
            return reader.ended(false);
        }
        let is_blocked = self.input.borrow().is_blocked();
        if !is_blocked {
            // In the next turn: whoever else has something to say comes first.
            let this = Rc::clone(self);
            self.reactor.call_soon(move |_| this.read());
        }
    }

    /// Reads no more, though there is more.
    fn cut(&self) {
        let end = End::Cut("the daemon stopped");
        self.input.borrow_mut().finish(end);
    }

    fn failed(&self, reader: &Rc<Reader>, error: &dyn DisplayDebug) {
        self.input.borrow_mut().finish(End::Cut("the input failed"));
        let component = &reader.component;
        InputFailed { component, error }.log();
        reader.ended(true);
    }
}
