//! A simulated sender that waits for answers: posts its requests in turn, each until it gets a 200.
//!
//! It keeps its connection while that lasts, and sends again what was not acknowledged, on a new
//! one where it must. Its lines carry their sender, their number and a checksum, so that the
//! judge knows each for what it is.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use marline::sim::{Random, SimIo, SimNet, SimStorage, VirtualClock};
use marline::time::{Clock, Instant};
use marline::transport::{Endpoint, Net, SocketId};

use super::super::sender::pause;

/// One sender.
#[derive(Clone)]
pub struct Posting {
    /// The lines of each request.
    pub requests: Vec<Vec<Vec<u8>>>,
    pub begins_at: Duration,
    /// The longest pause between two steps.
    pub pause_max: Duration,
    /// The longest piece that is written at once.
    pub piece_max: usize,
}

/// What has become of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fate {
    /// How often its first byte was sent.
    pub attempts: u64,
    /// In which life of the daemon the attempt began that was acknowledged.
    pub acked_in: Option<u64>,
    /// When that attempt began, and when it was acknowledged.
    pub acked_between: Option<(Instant, Instant)>,
}

pub struct Poster {
    pub plan: Posting,
    /// Where the daemon may listen; the next is dialled where one has failed.
    to: [Endpoint; 2],
    dials: Cell<usize>,
    net: SimNet,
    io: SimIo,
    clock: VirtualClock,
    /// Says which life it is.
    storage: SimStorage,
    random: RefCell<Random>,
    state: RefCell<State>,
    /// The request that it is at.
    current: Cell<usize>,
    fates: RefCell<Vec<Fate>>,
    /// Answers that were neither 200 nor "later".
    pub refusals: RefCell<Vec<String>>,
    idle: Cell<u32>,
}

enum State {
    Idle,
    Dialling(SocketId, Instant),
    Ready(SocketId),
    Asking(Asking),
    Over,
}

/// A request on its way, or its answer.
struct Asking {
    socket: SocketId,
    text: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
    /// In which life it was begun.
    life: u64,
    began_at: Instant,
    /// Nobody waits longer.
    until: Instant,
}

/// How long a dial, and how long an answer may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_PATIENCE: Duration = Duration::from_secs(40);
/// Before a request that failed is sent again.
const RETRY_MAX: Duration = Duration::from_millis(500);

/// Where and on what a poster works.
pub struct Outside<'a> {
    pub to: [Endpoint; 2],
    pub net: &'a SimNet,
    pub io: &'a SimIo,
    pub clock: &'a VirtualClock,
    pub storage: &'a SimStorage,
}

impl Poster {
    pub fn start(plan: Posting, outside: Outside<'_>, random: Random) -> Rc<Poster> {
        let begins_at = outside.clock.now() + plan.begins_at;
        let fates = vec![Fate::default(); plan.requests.len()];
        let poster = Rc::new(Poster {
            plan,
            to: outside.to,
            dials: Cell::new(0),
            net: outside.net.clone(),
            io: outside.io.clone(),
            clock: outside.clock.clone(),
            storage: outside.storage.clone(),
            random: RefCell::new(random),
            state: RefCell::new(State::Idle),
            current: Cell::new(0),
            fates: RefCell::new(fates),
            refusals: RefCell::default(),
            idle: Cell::new(0),
        });
        let first = Rc::clone(&poster);
        poster.io.plan(begins_at, move || first.step());
        poster
    }

    /// Whether everything is acknowledged.
    pub fn is_over(&self) -> bool {
        matches!(*self.state.borrow(), State::Over)
    }

    /// What has become of each request by now.
    pub fn fates(&self) -> Vec<Fate> {
        self.fates.borrow().clone()
    }

    /// Where it is, for whoever wonders.
    pub fn shown(&self) -> String {
        let state = match &*self.state.borrow() {
            State::Idle => "idle",
            State::Dialling(..) => "dialling",
            State::Ready(_) => "ready",
            State::Asking(asking) if asking.written < asking.text.len() => "writing",
            State::Asking(_) => "waiting for an answer",
            State::Over => "over",
        };
        format!("{state} at request {}", self.current.get())
    }

    fn step(self: Rc<Self>) {
        let state = self.state.replace(State::Idle);
        let (next, has_moved, extra) = match state {
            State::Idle => (self.dial(), true, Duration::ZERO),
            State::Dialling(socket, until) => self.look(socket, until),
            State::Ready(socket) => (self.begin(socket), true, Duration::ZERO),
            State::Asking(asking) => self.ask(asking),
            State::Over => return,
        };
        let is_over = matches!(next, State::Over);
        self.state.replace(next);
        if is_over {
            return;
        }
        let pause = pause(&self.idle, has_moved, &self.random, self.plan.pause_max);
        let at = self.clock.now() + pause + extra;
        let io = self.io.clone();
        io.plan(at, move || self.step());
    }

    fn dial(&self) -> State {
        let until = self.clock.now() + DIAL_PATIENCE;
        match self.net.connect(&self.to[self.dials.get() % self.to.len()]) {
            Ok(socket) => State::Dialling(socket, until),
            Err(_) => {
                self.dials.set(self.dials.get() + 1);
                State::Idle
            }
        }
    }

    fn look(&self, socket: SocketId, until: Instant) -> (State, bool, Duration) {
        match self.net.connect_result(socket) {
            Ok(true) => (State::Ready(socket), true, Duration::ZERO),
            Ok(false) if self.clock.now() < until => {
                (State::Dialling(socket, until), false, Duration::ZERO)
            }
            Ok(false) | Err(_) => self.again(socket),
        }
    }

    /// Gives a connection up, and tries another one later.
    fn again(&self, socket: SocketId) -> (State, bool, Duration) {
        self.net.abort(socket);
        self.dials.set(self.dials.get() + 1);
        (State::Idle, false, self.retry_pause())
    }

    fn retry_pause(&self) -> Duration {
        let mut random = self.random.borrow_mut();
        random.span(Duration::ZERO, RETRY_MAX)
    }

    fn begin(&self, socket: SocketId) -> State {
        let Some(lines) = self.plan.requests.get(self.current.get()) else {
            self.net.close(socket);
            return State::Over;
        };
        let body: Vec<u8> = lines
            .iter()
            .flat_map(|it| [it, &b"\n"[..]].concat())
            .collect();
        let head = format!(
            "POST /in HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        State::Asking(Asking {
            socket,
            text: [head.as_bytes(), &body].concat(),
            written: 0,
            answer: Vec::new(),
            life: self.storage.life(),
            began_at: self.clock.now(),
            until: self.clock.now() + ANSWER_PATIENCE,
        })
    }

    fn ask(&self, mut asking: Asking) -> (State, bool, Duration) {
        if self.clock.now() >= asking.until {
            return self.again(asking.socket);
        }
        let moved = match asking.written < asking.text.len() {
            true => self.write(&mut asking),
            false => self.read(&mut asking),
        };
        match moved {
            Err(ErrorKind::WouldBlock) => (State::Asking(asking), false, Duration::ZERO),
            Err(_) => self.again(asking.socket),
            Ok(()) => match Answer::parse(&asking.answer) {
                Some(answer) => self.heed(&asking, answer),
                None => (State::Asking(asking), true, Duration::ZERO),
            },
        }
    }

    fn write(&self, asking: &mut Asking) -> Result<(), ErrorKind> {
        let piece = self.random.borrow_mut().between(1, self.plan.piece_max);
        let end = asking.text.len().min(asking.written + piece);
        let piece = IoSlice::new(&asking.text[asking.written..end]);
        let taken = self.net.writev(asking.socket, &[piece]);
        let taken = taken.map_err(|error| error.kind())?;
        if asking.written == 0 && taken > 0 {
            self.fates.borrow_mut()[self.current.get()].attempts += 1;
        }
        asking.written += taken;
        Ok(())
    }

    fn read(&self, asking: &mut Asking) -> Result<(), ErrorKind> {
        let mut buffer = [0; 512];
        match self.net.read(asking.socket, &mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof),
            Ok(count) => {
                asking.answer.extend(&buffer[..count]);
                Ok(())
            }
            Err(error) => Err(error.kind()),
        }
    }

    fn heed(&self, asking: &Asking, answer: Answer) -> (State, bool, Duration) {
        let current = self.current.get();
        let pause = match answer.status {
            200 => {
                let fate = &mut self.fates.borrow_mut()[current];
                fate.acked_in = Some(asking.life);
                fate.acked_between = Some((asking.began_at, self.clock.now()));
                self.current.set(current + 1);
                Duration::ZERO
            }
            // No room, a sink that gave up, a stop, or a body that stalled on its way.
            429 | 503 | 408 => self.retry_pause(),
            status => {
                let text = format!("request {current} was answered {status}");
                self.refusals.borrow_mut().push(text);
                self.retry_pause()
            }
        };
        if answer.closes {
            self.net.close(asking.socket);
            return (State::Idle, true, pause);
        }
        (State::Ready(asking.socket), true, pause)
    }
}

/// What was answered, as far as it matters here.
struct Answer {
    status: u16,
    closes: bool,
}

impl Answer {
    /// `None` while it is not complete.
    fn parse(bytes: &[u8]) -> Option<Answer> {
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let length = field("content-length").map_or(0, |it| it.parse().unwrap());
        if body.len() < length {
            return None;
        }
        Some(Answer {
            status: head.split(' ').nth(1)?.parse().ok()?,
            closes: field("connection") == Some("close"),
        })
    }
}

/// Line `number` of a sender, with its checksum.
pub fn line(sender: usize, number: usize, filler: &str) -> Vec<u8> {
    let text = format!("p{sender}-{number}-{filler}-");
    let sum = crc32c::crc32c(text.as_bytes());
    format!("{text}{sum:08x}").into_bytes()
}

/// The sender and the number of a line whose checksum is right.
pub fn parse(line: &[u8]) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(line).ok()?;
    let (start, sum) = text.split_at_checked(text.len().checked_sub(8)?)?;
    if format!("{:08x}", crc32c::crc32c(start.as_bytes())) != sum {
        return None;
    }
    let mut parts = start.strip_prefix('p')?.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
