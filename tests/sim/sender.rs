//! A simulated sender: connects, writes its lines in pieces, ends in order or with a reset.
//!
//! It is an actor of the world: each step is a planned event, and says when the next one is.
//! What it may expect of the daemon depends on how it ended, which [`Fate`] says.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::time::Duration;

use marline::sim::{Random, SimIo, SimNet, VirtualClock};
use marline::time::{Clock, Instant};
use marline::transport::{Net, SocketId};

use super::plan::Sending;

/// How a sender's connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Not yet; the daemon's kernel has so many bytes.
    Open(usize),
    /// The daemon has taken everything and ended its stream too.
    Clean,
    /// A reset, by whomever, or it never came about.
    Broken,
    /// Datagrams: nobody knows.
    Sent,
}

pub struct Sender {
    pub plan: Sending,
    text: Vec<u8>,
    net: SimNet,
    io: SimIo,
    clock: VirtualClock,
    random: RefCell<Random>,
    state: Cell<State>,
    written: Cell<usize>,
    resets: Cell<bool>,
    /// Steps in a row that came to nothing.
    idle: Cell<u32>,
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    Dialling(SocketId, Instant),
    Writing(SocketId),
    /// Everything is written and the end of stream too.
    Ending(SocketId),
    Over(Fate),
}

/// How long a dial may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Sender {
    pub fn start(
        plan: Sending,
        net: &SimNet,
        io: &SimIo,
        clock: &VirtualClock,
        random: Random,
    ) -> Rc<Sender> {
        let mut text: Vec<u8> = plan
            .lines
            .iter()
            .flat_map(|line| with_newline(line))
            .collect();
        if plan.is_cut_short {
            text.pop();
        }
        let begins_at = clock.now() + plan.begins_at;
        let sender = Rc::new(Sender {
            plan,
            text,
            net: net.clone(),
            io: io.clone(),
            clock: clock.clone(),
            random: RefCell::new(random),
            state: Cell::new(State::Idle),
            written: Cell::new(0),
            resets: Cell::new(true),
            idle: Cell::new(0),
        });
        let first = Rc::clone(&sender);
        io.plan(begins_at, move || first.step());
        sender
    }

    /// Whether there is nothing more to come of it.
    pub fn is_over(&self) -> bool {
        matches!(self.state.get(), State::Over(_))
    }

    /// What has become of the connection by now.
    pub fn fate(&self) -> Fate {
        match self.state.get() {
            State::Over(fate) => fate,
            State::Writing(socket) | State::Ending(socket) => {
                if self.net.take_error(socket).is_err() {
                    self.end(socket, Fate::Broken);
                    return Fate::Broken;
                }
                let unacked = self.net.outq(socket).unwrap_or(usize::MAX);
                Fate::Open(self.written.get().saturating_sub(unacked))
            }
            State::Idle | State::Dialling(..) => Fate::Open(0),
        }
    }

    /// From now on it does not reset its connection.
    pub fn behave(&self) {
        self.resets.set(false);
    }

    fn resets_at(&self) -> Option<usize> {
        self.plan.resets_at.filter(|_| self.resets.get())
    }

    /// Stops where it is.
    pub fn give_up(&self) {
        match self.state.get() {
            State::Dialling(socket, _) | State::Writing(socket) | State::Ending(socket) => {
                self.end(socket, Fate::Broken);
            }
            State::Idle => self.state.set(State::Over(Fate::Broken)),
            State::Over(_) => {}
        }
    }

    fn end(&self, socket: SocketId, fate: Fate) {
        self.state.set(State::Over(fate));
        match fate {
            Fate::Clean | Fate::Sent => self.net.close(socket),
            Fate::Broken | Fate::Open(_) => self.net.abort(socket),
        }
    }

    fn step(self: Rc<Self>) {
        let before = self.written.get();
        match self.state.get() {
            State::Idle if self.plan.is_datagram => self.send_datagram(),
            State::Idle => self.dial(),
            State::Dialling(socket, until) => self.look(socket, until),
            State::Writing(socket) if self.plan.is_datagram => self.send_next(socket),
            State::Writing(socket) => self.write(socket),
            State::Ending(socket) => self.read_end(socket),
            State::Over(_) => return,
        }
        let has_moved = self.written.get() > before;
        let pause = pause(&self.idle, has_moved, &self.random, self.plan.pause_max);
        let at = self.clock.now() + pause;
        let io = self.io.clone();
        io.plan(at, move || self.step());
    }

    fn dial(&self) {
        let until = self.clock.now() + PATIENCE;
        match self.net.connect(&self.plan.to) {
            Ok(socket) => self.state.set(State::Dialling(socket, until)),
            Err(_) => self.state.set(State::Over(Fate::Broken)),
        }
    }

    fn look(&self, socket: SocketId, until: Instant) {
        match self.net.connect_result(socket) {
            Ok(true) => self.state.set(State::Writing(socket)),
            Ok(false) if self.clock.now() < until => {}
            Ok(false) | Err(_) => self.end(socket, Fate::Broken),
        }
    }

    fn write(&self, socket: SocketId) {
        let written = self.written.get();
        let end = self.resets_at().unwrap_or(self.text.len());
        if written == end {
            return self.finish(socket);
        }
        let piece = self.random.borrow_mut().between(1, self.plan.piece_max);
        let piece = &self.text[written..end.min(written + piece)];
        match self.net.writev(socket, &[IoSlice::new(piece)]) {
            Ok(count) => self.written.set(written + count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.end(socket, Fate::Broken),
        }
    }

    fn finish(&self, socket: SocketId) {
        if self.resets_at().is_some() {
            return self.end(socket, Fate::Broken);
        }
        match self.net.shutdown_write(socket) {
            Ok(()) => self.state.set(State::Ending(socket)),
            Err(_) => self.end(socket, Fate::Broken),
        }
    }

    fn read_end(&self, socket: SocketId) {
        match self.net.read(socket, &mut [0; 16]) {
            Ok(0) => self.end(socket, Fate::Clean),
            Ok(_) => panic!("the daemon has nothing to say"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.end(socket, Fate::Broken),
        }
    }

    fn send_datagram(&self) {
        let socket = self.net.dial(&self.plan.to).unwrap();
        self.state.set(State::Writing(socket));
    }

    fn send_next(&self, socket: SocketId) {
        let Some(line) = self.plan.lines.get(self.written.get()) else {
            return self.end(socket, Fate::Sent);
        };
        // An error is that of a datagram before.
        if self.net.send(socket, line, None).is_ok() {
            self.written.set(self.written.get() + 1);
        }
    }
}

/// How long a peer pauses until its next step: at random, and longer while it has nothing to do.
pub fn pause(
    idle: &Cell<u32>,
    has_moved: bool,
    random: &RefCell<Random>,
    max: Duration,
) -> Duration {
    random.borrow_mut().span(Duration::ZERO, max) + idle_pause(idle, has_moved)
}

/// Who has nothing to do looks less often, up to every 16 ms; `idle` counts such steps in a row.
pub fn idle_pause(idle: &Cell<u32>, has_moved: bool) -> Duration {
    idle.set(if has_moved { 0 } else { idle.get() + 1 });
    Duration::from_micros(1 << idle.get().min(14))
}

fn with_newline(line: &[u8]) -> Vec<u8> {
    [line, b"\n"].concat()
}
