//! A simulated server for `fetch`: whoever connects is sent one text, or a part of it, or nothing.
//!
//! Each visit has a text of its own. A server ends a visit in order, resets it half way, or falls
//! silent and leaves it to the daemon's time limit. What the daemon may make of it depends on how
//! the visit has ended, which [`Outcome`] says.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use marline::sim::{Random, SimIo, SimNet, VirtualClock};
use marline::time::{Clock, Instant};
use marline::transport::{BindOptions, Endpoint, Net, SocketId};

use super::sender::pause;

/// What one server does.
#[derive(Clone)]
pub struct Serving {
    pub at: Endpoint,
    pub address: String,
    /// The longest text.
    pub bytes_max: usize,
    /// The longest piece that is written at once.
    pub piece_max: usize,
    /// The longest pause between two pieces.
    pub pause_max: Duration,
    /// Visits after which nobody waits for more of them.
    pub visits: usize,
}

/// What a server means to do with a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Sends everything and ends the stream.
    InOrder,
    /// Resets after so many bytes.
    ResetAt(usize),
    /// Sends so many bytes and then nothing more, nor an end.
    SilentAt(usize),
}

/// How a visit has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet.
    Open,
    /// Both have ended the stream, all of the text between them.
    Whole,
    /// A reset, by whomever, after the server had ended its stream: nobody knows.
    Unsure,
    /// Cut off before the server had ended it.
    Cut,
}

#[derive(Clone)]
pub struct Visit {
    socket: SocketId,
    pub text: String,
    pub manner: Manner,
    pub outcome: Outcome,
    written: usize,
    has_ended: bool,
}

pub struct Server {
    pub plan: Serving,
    id: usize,
    net: SimNet,
    io: SimIo,
    clock: VirtualClock,
    random: RefCell<Random>,
    listener: SocketId,
    pub visits: RefCell<Vec<Visit>>,
    idle: Cell<u32>,
}

impl Server {
    pub fn start(
        id: usize,
        plan: Serving,
        net: &SimNet,
        io: &SimIo,
        clock: &VirtualClock,
        random: Random,
    ) -> Rc<Server> {
        let listener = net.listen(&plan.at, &BindOptions::default()).unwrap();
        let server = Rc::new(Server {
            plan,
            id,
            net: net.clone(),
            io: io.clone(),
            clock: clock.clone(),
            random: RefCell::new(random),
            listener,
            visits: RefCell::default(),
            idle: Cell::new(0),
        });
        let first = Rc::clone(&server);
        io.plan(Instant::ZERO, move || first.step());
        server
    }

    /// Whether as many visits have ended as were planned.
    pub fn is_over(&self) -> bool {
        let visits = self.visits.borrow();
        let ended = visits.iter().filter(|it| it.outcome != Outcome::Open);
        ended.count() >= self.plan.visits
    }

    /// The end of the run: what is open is closed.
    pub fn finish(&self) {
        self.net.close(self.listener);
        for visit in self.visits.borrow_mut().iter_mut() {
            if visit.outcome == Outcome::Open {
                self.net.abort(visit.socket);
                visit.cut();
            }
        }
    }

    fn step(self: Rc<Self>) {
        let mut has_moved = self.accept();
        for visit in self.visits.borrow_mut().iter_mut() {
            if visit.outcome == Outcome::Open {
                has_moved |= self.serve(visit);
            }
        }
        let pause = pause(&self.idle, has_moved, &self.random, self.plan.pause_max);
        let at = self.clock.now() + pause;
        let io = self.io.clone();
        io.plan(at, move || self.step());
    }

    fn accept(&self) -> bool {
        let Ok((socket, _)) = self.net.accept(self.listener) else {
            return false;
        };
        let mut random = self.random.borrow_mut();
        let number = self.visits.borrow().len();
        let filler = "y\n".repeat(random.below(self.plan.bytes_max) / 2);
        let text = format!("v{}-{number}-{filler}.", self.id);
        let manner = match random.below(6) {
            0 | 1 => Manner::ResetAt(random.below(text.len())),
            2 => Manner::SilentAt(random.below(text.len())),
            _ => Manner::InOrder,
        };
        self.visits.borrow_mut().push(Visit {
            socket,
            text,
            manner,
            outcome: Outcome::Open,
            written: 0,
            has_ended: false,
        });
        true
    }

    /// Says whether anything came of it.
    fn serve(&self, visit: &mut Visit) -> bool {
        match self.net.read(visit.socket, &mut [0; 16]) {
            Ok(0) => {
                // An end that crosses our last bytes does not answer for them.
                let has_all = self.net.outq(visit.socket).is_ok_and(|bytes| bytes == 0);
                match visit.has_ended && has_all {
                    true => visit.outcome = Outcome::Whole,
                    false => visit.cut(),
                }
                self.net.close(visit.socket);
                return true;
            }
            Ok(_) => panic!("the daemon has nothing to say"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                self.net.abort(visit.socket);
                visit.cut();
                return true;
            }
        }
        let end = match visit.manner {
            Manner::InOrder => visit.text.len(),
            Manner::ResetAt(bytes) | Manner::SilentAt(bytes) => bytes,
        };
        match visit.manner {
            _ if visit.written < end => self.write(visit, end),
            Manner::ResetAt(_) => {
                self.net.abort(visit.socket);
                visit.cut();
                true
            }
            Manner::InOrder if !visit.has_ended => {
                visit.has_ended = self.net.shutdown_write(visit.socket).is_ok();
                true
            }
            Manner::InOrder | Manner::SilentAt(_) => false,
        }
    }

    fn write(&self, visit: &mut Visit, end: usize) -> bool {
        let piece = self.random.borrow_mut().between(1, self.plan.piece_max);
        let piece = &visit.text.as_bytes()[visit.written..end.min(visit.written + piece)];
        // An error is read in the next step.
        let taken = self.net.writev(visit.socket, &[IoSlice::new(piece)]);
        visit.written += taken.as_ref().copied().unwrap_or(0);
        taken.is_ok()
    }
}

impl Visit {
    fn cut(&mut self) {
        self.outcome = match self.has_ended {
            true => Outcome::Unsure,
            false => Outcome::Cut,
        };
    }
}

/// How often visits were meant to go each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VisitCounts {
    in_order: u64,
    reset: u64,
    silent: u64,
    /// Those that ended well.
    whole: u64,
    /// Events marked as cut off, by a reset and by the time limit.
    marked: [u64; 2],
}

impl VisitCounts {
    /// Counts visits, and the marks in what came of them.
    pub fn of(servers: &[Rc<Server>], fetched: &[u8]) -> VisitCounts {
        let fetched = String::from_utf8_lossy(fetched);
        let marks = ["the connection was reset", "the time limit passed"];
        let marked = |reason| {
            fetched
                .matches(&format!("\"incomplete\":\"{reason}\""))
                .count() as u64
        };
        let mut counts = VisitCounts {
            marked: marks.map(marked),
            ..VisitCounts::default()
        };
        for server in servers {
            for visit in server.visits.borrow().iter() {
                counts.whole += u64::from(visit.outcome == Outcome::Whole);
                match visit.manner {
                    Manner::InOrder => counts.in_order += 1,
                    Manner::ResetAt(_) => counts.reset += 1,
                    Manner::SilentAt(_) => counts.silent += 1,
                }
            }
        }
        counts
    }

    pub fn add(&mut self, other: &VisitCounts) {
        self.in_order += other.in_order;
        self.reset += other.reset;
        self.silent += other.silent;
        self.whole += other.whole;
        let pairs = self.marked.iter_mut().zip(other.marked);
        pairs.for_each(|(count, more)| *count += more);
    }

    /// The ways that none went.
    pub fn missing(&self) -> Vec<&'static str> {
        let all = [
            ("in order", self.in_order),
            ("reset", self.reset),
            ("silent", self.silent),
            ("whole", self.whole),
            ("marked as reset", self.marked[0]),
            ("marked as too slow", self.marked[1]),
        ];
        let missing = all.iter().filter(|(_, count)| *count == 0);
        missing.map(|(name, _)| *name).collect()
    }
}

impl fmt::Display for VisitCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fetches: {} in order, {} of them whole, {} reset half way, {} never ended; {} events \
             marked as reset, {} as too slow",
            self.in_order, self.whole, self.reset, self.silent, self.marked[0], self.marked[1]
        )
    }
}
