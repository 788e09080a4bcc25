//! A simulated collector that speaks HTTP: takes what is posted, and answers as it likes.
//!
//! It answers 200, 429 or 503, falls silent, ends or resets the connection when it has read the
//! whole request, or resets while it reads. A body counts from the moment at which it is taken
//! for good: where the answer to it is 200, on its way or lost. What it has read and not
//! answered so it has thrown away, and is owed again.
//!
//! Requests with one `Idempotency-Key` are one: a later one must have the same body, and what it
//! brings was there already.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use marline::sim::{Random, SimIo, SimNet, VirtualClock};
use marline::time::{Clock, Instant};
use marline::transport::{BindOptions, Endpoint, Net, SocketId};

use super::sender::pause;

/// One `http` sink, and who is at its other end.
#[derive(Clone)]
pub struct Receiving {
    pub name: &'static str,
    pub at: Endpoint,
    pub url: String,
    pub is_required: bool,
    /// The most that it reads at once.
    pub read_max: usize,
    pub pause_max: Duration,
    /// How many requests of a thousand go otherwise than well.
    pub fails: u16,
}

impl Receiving {
    /// At a port of this host.
    pub fn new(name: &'static str, port: u16, is_required: bool, random: &mut Random) -> Receiving {
        Receiving {
            name,
            at: Endpoint::Ip(([127, 0, 0, 1], port).into()),
            url: format!("http://127.0.0.1:{port}/in"),
            is_required,
            read_max: random.pick(&[100, 2000, 65_536]),
            pause_max: Duration::from_micros(random.pick(&[100, 2000, 30_000])),
            fails: random.pick(&[0, 100, 400]),
        }
    }

    /// Its table in the configuration.
    pub fn table(&self, buffer: &str) -> String {
        format!(
            "[sink.{}]\ntype = \"http\"\nurl = \"{}\"\nencode = \"raw\"\n\
             batch.age = \"20ms\"\nbatch.bytes = \"16KiB\"\ntimeout = \"5s\"\n\
             buffer.memory = \"{buffer}\"\nretry.max_delay = \"4s\"\n",
            self.name, self.url
        )
    }
}

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// 200.
    Taken,
    /// 200 of which the client does not see the end: the connection is reset.
    TakenUnheard,
    /// 429 with `Retry-After`.
    Busy,
    /// 503.
    Unavailable,
    /// Nothing, until the client gives up.
    Silent,
    /// A reset when everything was read.
    ResetRead,
    /// A reset after a part of it.
    ResetHalfway,
}

impl Reply {
    /// All of them; those after the first are what goes wrong.
    pub const ALL: [Reply; 7] = [
        Reply::Taken,
        Reply::TakenUnheard,
        Reply::Busy,
        Reply::Unavailable,
        Reply::Silent,
        Reply::ResetRead,
        Reply::ResetHalfway,
    ];
}

/// How often each was done.
pub type ReplyCounts = BTreeMap<Reply, u64>;

pub struct Receiver {
    pub plan: Receiving,
    net: SimNet,
    io: SimIo,
    clock: VirtualClock,
    random: RefCell<Random>,
    listener: SocketId,
    open: RefCell<Vec<Open>>,
    is_calm: Cell<bool>,
    /// Bodies that were taken, with when, in that order, one for each key.
    taken: RefCell<Vec<(Instant, Vec<u8>)>>,
    keys: RefCell<BTreeMap<String, Vec<u8>>>,
    /// The first request that is not as it has to be.
    pub complaint: RefCell<Option<String>>,
    pub counts: RefCell<ReplyCounts>,
    idle: Cell<u32>,
}

/// One connection.
struct Open {
    socket: SocketId,
    /// What has come of the request that is being read.
    request: Vec<u8>,
    reply: Reply,
    /// What is still to be written.
    answer: Vec<u8>,
    /// It reads no more, and has nothing to say.
    is_silent: bool,
}

/// What becomes of a connection after a step.
enum Next {
    Stays(Open, bool),
    Gone,
}

impl Receiver {
    pub fn start(
        plan: Receiving,
        net: &SimNet,
        io: &SimIo,
        clock: &VirtualClock,
        random: Random,
    ) -> Rc<Receiver> {
        let listener = net.listen(&plan.at, &BindOptions::default()).unwrap();
        let receiver = Rc::new(Receiver {
            plan,
            net: net.clone(),
            io: io.clone(),
            clock: clock.clone(),
            random: RefCell::new(random),
            listener,
            open: RefCell::default(),
            is_calm: Cell::new(false),
            taken: RefCell::default(),
            keys: RefCell::default(),
            complaint: RefCell::default(),
            counts: RefCell::default(),
            idle: Cell::new(0),
        });
        let first = Rc::clone(&receiver);
        io.plan(clock.now(), move || first.step());
        receiver
    }

    /// From now on it takes everything.
    pub fn behave(&self) {
        self.is_calm.set(true);
    }

    /// The end of the run.
    pub fn finish(&self) {
        self.net.close(self.listener);
        for open in self.open.take() {
            self.net.close(open.socket);
        }
    }

    /// What was taken, with when.
    pub fn texts(&self) -> Vec<(Instant, Vec<u8>)> {
        self.taken.borrow().clone()
    }

    fn step(self: Rc<Self>) {
        let mut has_moved = false;
        while let Ok((socket, _)) = self.net.accept(self.listener) {
            has_moved = true;
            let open = Open {
                socket,
                request: Vec::new(),
                reply: self.draw(),
                answer: Vec::new(),
                is_silent: false,
            };
            self.open.borrow_mut().push(open);
        }
        for open in self.open.take() {
            match self.serve(open) {
                Next::Stays(open, moved) => {
                    has_moved |= moved;
                    self.open.borrow_mut().push(open);
                }
                Next::Gone => has_moved = true,
            }
        }
        let pause = pause(&self.idle, has_moved, &self.random, self.plan.pause_max);
        let at = self.clock.now() + pause;
        let io = self.io.clone();
        io.plan(at, move || self.step());
    }

    fn draw(&self) -> Reply {
        let mut random = self.random.borrow_mut();
        match !self.is_calm.get() && random.chance(self.plan.fails) {
            true => random.pick(&Reply::ALL[1..]),
            false => Reply::Taken,
        }
    }

    fn serve(&self, mut open: Open) -> Next {
        if !open.answer.is_empty() {
            return self.write(open);
        }
        let most = self.random.borrow_mut().between(1, self.plan.read_max);
        let mut buffer = vec![0; most];
        match self.net.read(open.socket, &mut buffer) {
            Ok(count) if count > 0 => open.request.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Stays(open, false),
            Ok(_) | Err(_) => {
                self.net.close(open.socket);
                return Next::Gone;
            }
        }
        if open.reply == Reply::ResetHalfway && open.request.len() > HALFWAY_BYTES {
            return self.reset(&open);
        }
        match Request::parse(&open.request) {
            Some(request) if !open.is_silent => {
                open.request.clear();
                self.decide(open, request)
            }
            _ => Next::Stays(open, true),
        }
    }

    fn reset(&self, open: &Open) -> Next {
        self.count(open.reply);
        self.net.abort(open.socket);
        Next::Gone
    }

    fn count(&self, reply: Reply) {
        *self.counts.borrow_mut().entry(reply).or_default() += 1;
    }

    /// The whole request has come.
    fn decide(&self, mut open: Open, request: Request) -> Next {
        let answer = match open.reply {
            Reply::ResetRead | Reply::ResetHalfway => return self.reset(&open),
            Reply::Silent => {
                self.count(open.reply);
                open.is_silent = true;
                return Next::Stays(open, true);
            }
            Reply::Taken | Reply::TakenUnheard => {
                self.take(request);
                "200 OK\r\n"
            }
            Reply::Busy => "429 Too Many Requests\r\nretry-after: 1\r\n",
            Reply::Unavailable => "503 Service Unavailable\r\n",
        };
        if open.reply == Reply::TakenUnheard {
            return self.reset(&open);
        }
        self.count(open.reply);
        open.answer = format!("HTTP/1.1 {answer}content-length: 0\r\n\r\n").into_bytes();
        open.reply = self.draw();
        Next::Stays(open, true)
    }

    fn take(&self, request: Request) {
        let mut keys = self.keys.borrow_mut();
        let Some(before) = keys.get(&request.key) else {
            keys.insert(request.key, request.body.clone());
            let now = self.clock.now();
            self.taken.borrow_mut().push((now, request.body));
            return;
        };
        if *before != request.body || request.key.is_empty() {
            let text = format!("two bodies have the key {:?}", request.key);
            self.complaint.borrow_mut().get_or_insert(text);
        }
    }

    fn write(&self, mut open: Open) -> Next {
        match self.net.writev(open.socket, &[IoSlice::new(&open.answer)]) {
            Ok(count) => {
                open.answer.drain(..count);
                Next::Stays(open, true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Next::Stays(open, false),
            Err(_) => {
                self.net.close(open.socket);
                Next::Gone
            }
        }
    }
}

/// So much it reads before it resets half way.
const HALFWAY_BYTES: usize = 100;

/// What matters of a request.
struct Request {
    key: String,
    body: Vec<u8>,
}

impl Request {
    /// `None` while it is not complete.
    fn parse(bytes: &[u8]) -> Option<Request> {
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(':'));
            let found = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_owned())
        };
        let length = field("content-length").expect("a body has a length");
        let length: usize = length.parse().expect("a length is a number");
        let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
        let key = field("idempotency-key").unwrap_or_default();
        Some(Request { key, body })
    }
}
