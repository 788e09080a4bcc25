//! A source on a reactor of this thread, with a sink that does what the test says, and peers
//! that are plain sockets. Every wait has a limit and fails loudly.
//!
//! Nothing here is of use to the daemon tests, which own a process.
#![allow(dead_code)] // not every test needs every tool

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use marline::buffer::memory::MemoryQueue;
use marline::event::Event;
use marline::pipeline::component::{Resources, Source};
use marline::pipeline::descriptor::Build;
use marline::pipeline::graph::{LabelledStep, Pipeline, Route};
use marline::pipeline::intake::Engine;
use marline::pipeline::memory::Memory;
use marline::pipeline::options::Options as SourceOptions;
use marline::pipeline::part::{Part, Stage};
use marline::pipeline::port::Port;
use marline::pipeline::queue::WhenFull;
use marline::reactor::{Options, PollerKind, Reactor, Seams};
use marline::sources;
use marline::time::Scheduler;
use marline::transport::{Network, NetworkOptions, SysNet};

/// The longest any step of a test may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the sink does with its parts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    Deliver,
    Drop,
    Hold,
}

pub struct World {
    pub reactor: Reactor,
    pub network: Network,
    pub memory: Memory,
    pub engine: Rc<Engine>,
    pub sink: Rc<Sinking>,
    pipeline: Rc<Pipeline>,
    port: Rc<Port>,
    source: Option<Box<dyn Source>>,
    pub about: Vec<String>,
}

/// The sink: what came, as text, and what it holds.
pub struct Sinking {
    pub mode: Cell<Sink>,
    pub events: RefCell<Vec<String>>,
    pub peers: RefCell<Vec<String>>,
    pub held: RefCell<Vec<Part>>,
}

impl Sinking {
    fn take(&self, part: Part) {
        let batch = part.batch();
        let text = |event: &Event| match event {
            Event::Raw(span) => {
                let bytes = &batch.bytes[span.start as usize..span.end as usize];
                String::from_utf8_lossy(bytes).into_owned()
            }
            Event::Fields(_) => panic!("the source gives raw events"),
        };
        self.events.borrow_mut().extend(part.events().map(text));
        self.peers.borrow_mut().push(batch.origin.peer.to_string());
        match self.mode.get() {
            Sink::Deliver => part.delivered(),
            Sink::Drop => part.dropped("test"),
            Sink::Hold => self.held.borrow_mut().push(part),
        }
    }

    pub fn release(&self) {
        let held = self.held.take();
        held.into_iter().for_each(Part::delivered);
    }
}

impl World {
    /// A world with one source, of the component `kind` with these options.
    pub fn new(kind: &str, options: &str) -> World {
        World::with_steps(kind, options, Vec::new())
    }

    /// The same with steps in the pipeline.
    pub fn with_steps(kind: &str, options: &str, steps: Vec<LabelledStep>) -> World {
        let seams = Seams::system(PollerKind::Epoll).unwrap();
        let reactor = Reactor::new(seams, Options::default()).unwrap();
        let handle = reactor.handle();
        let net = Rc::new(SysNet::new().unwrap());
        let network = Network::new(&handle, net, NetworkOptions::default());
        let scheduler = Rc::new(handle) as Rc<dyn Scheduler>;
        let port = Port::new(
            "out",
            WhenFull::Block,
            Box::new(MemoryQueue::new(64 << 20)),
            Rc::clone(&scheduler),
        );
        let route = Route {
            port: Rc::clone(&port),
            condition: None,
            required: true,
        };
        let pipeline = Pipeline::new("main", steps, vec![route], None);
        let memory = Memory::new(256 << 20);
        let engine = Engine::new(memory.clone(), scheduler, vec![Rc::clone(&port)]);
        let sink = Rc::new(Sinking {
            mode: Cell::new(Sink::Deliver),
            events: RefCell::default(),
            peers: RefCell::default(),
            held: RefCell::default(),
        });
        let (inlet, taker) = (port.inlet(), Rc::clone(&sink));
        port.inlet().on_ready(move || {
            while let Some(part) = inlet.next() {
                taker.take(part);
            }
        });
        let mut world = World {
            reactor,
            network,
            memory,
            engine,
            sink,
            pipeline,
            port,
            source: None,
            about: Vec::new(),
        };
        if !kind.is_empty() {
            world.start(kind, options);
        }
        world
    }

    fn start(&mut self, kind: &str, options: &str) {
        let found = sources::ALL.iter().find(|found| found.name == kind);
        let descriptor = found.unwrap();
        let options = SourceOptions::for_test(descriptor, options).unwrap();
        let Build::Source(build) = descriptor.build else {
            panic!("{kind} is no source")
        };
        let mut source = build(&options).unwrap();
        let pipelines = vec![Rc::clone(&self.pipeline)];
        let outlet = self.engine.outlet("in", Stage::Delivered, pipelines);
        let mut resources = Resources::default();
        resources.lend(self.network.clone());
        resources.lend(self.reactor.handle());
        self.about = source.start(outlet, &resources).unwrap();
        self.source = Some(source);
    }

    /// The `http` source on a free port.
    pub fn http(options: &str) -> World {
        World::new(
            "http",
            &format!("listen = [\"tcp://127.0.0.1:0\"]\n{options}"),
        )
    }

    pub fn address(&self) -> SocketAddr {
        let line = &self.about[0];
        let address = line.strip_prefix("listening on ");
        let address = address.and_then(|url| url.split_once("://"));
        let (_, address) = address.unwrap_or_else(|| panic!("{line}"));
        address.parse().unwrap()
    }

    pub fn source(&mut self) -> &mut dyn Source {
        &mut **self.source.as_mut().unwrap()
    }

    pub fn events(&self) -> Vec<String> {
        self.sink.events.borrow().clone()
    }

    pub fn turn(&mut self) {
        self.reactor.turn(Some(Duration::from_millis(2))).unwrap();
    }

    /// Takes turns until `done`.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&World) -> bool) {
        let limit = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < limit, "waited too long for: {what}");
            self.turn();
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn();
        }
    }

    /// Every event that came in is in the books, and nothing is left anywhere.
    pub fn settled(&self) {
        let (pipeline, sink) = (self.pipeline.ledger(), self.port.ledger());
        assert!(pipeline.balances(), "{pipeline:?}");
        assert!(sink.balances(), "{sink:?}");
        assert!(self.engine.is_drained());
    }

    pub fn connect(&mut self) -> Client {
        Client::to(self.address())
    }

    /// Sends `request` on a connection of its own; the answer, and whether the connection was
    /// closed after it.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect();
        client.send(self, request.as_ref());
        client.answer(self)
    }

    pub fn post(&mut self, body: impl AsRef<[u8]>) -> Answer {
        let request = post(body.as_ref(), "");
        self.ask(request)
    }
}

/// A POST of `body` with more header lines.
pub fn post(body: &[u8], headers: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// A response as a client saw it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn has(&self, line: &str) -> bool {
        let line = line.to_lowercase();
        self.head.to_lowercase().split("\r\n").any(|it| it == line)
    }

    pub fn closes(&self) -> bool {
        self.has("connection: close")
    }
}

/// A peer.
pub struct Client {
    stream: TcpStream,
    got: Vec<u8>,
    pub is_closed: bool,
}

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        Client {
            stream,
            got: Vec::new(),
            is_closed: false,
        }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes all, or until the server has closed.
    pub fn send(&mut self, world: &mut World, mut bytes: &[u8]) {
        let limit = Instant::now() + PATIENCE;
        while !bytes.is_empty() && !self.is_closed {
            assert!(Instant::now() < limit, "nobody reads what the peer writes");
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => world.turn(),
                Err(_) => return,
            }
            self.look();
        }
    }

    /// Takes what has come.
    pub fn look(&mut self) {
        let mut buffer = [0; 65_536];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.is_closed = true,
                Ok(bytes) => self.got.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.is_closed = true,
            }
        }
    }

    /// The next response, `100 Continue` included.
    pub fn answer(&mut self, world: &mut World) -> Answer {
        let limit = Instant::now() + PATIENCE;
        loop {
            self.look();
            if let Some(answer) = self.take() {
                return answer;
            }
            let got = String::from_utf8_lossy(&self.got);
            assert!(!self.is_closed, "closed without an answer; got {got:?}");
            assert!(Instant::now() < limit, "no answer; got {got:?}");
            world.turn();
        }
    }

    /// Takes turns for a while; true when nothing has come.
    pub fn hears_nothing(&mut self, world: &mut World) -> bool {
        world.run_for(Duration::from_millis(50));
        self.look();
        self.got.is_empty() && !self.is_closed
    }

    /// Takes turns until the server has closed; true when nothing came before.
    pub fn closes_silently(&mut self, world: &mut World) -> bool {
        let limit = Instant::now() + PATIENCE;
        while !self.is_closed {
            assert!(Instant::now() < limit, "the connection stays open");
            world.turn();
            self.look();
        }
        self.got.is_empty()
    }

    /// All that comes until the server closes.
    pub fn rest(&mut self, world: &mut World) -> String {
        self.closes_silently(world);
        String::from_utf8(std::mem::take(&mut self.got)).unwrap()
    }

    fn take(&mut self) -> Option<Answer> {
        let end = self.got.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(self.got[..end].to_vec()).unwrap();
        let length = head.to_lowercase().split("\r\n").find_map(|line| {
            let value = line.strip_prefix("content-length: ")?;
            value.parse::<usize>().ok()
        });
        let length = length.unwrap_or(0);
        let whole = end + 4 + length;
        let body = self.got.get(end + 4..whole)?;
        let answer = Answer {
            status: head[9..12].parse().unwrap(),
            body: String::from_utf8_lossy(body).into_owned(),
            head,
        };
        self.got.drain(..whole);
        Some(answer)
    }
}
