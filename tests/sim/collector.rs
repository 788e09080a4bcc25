//! A simulated collector: accepts, reads as it likes, stalls, resets, goes away and comes back.
//!
//! Before it resets or leaves it either reads what its kernel has taken, or dies over it: then
//! the daemon was told that this had arrived, and must send it again all the same.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use marline::sim::{Random, SimIo, SimNet, VirtualClock};
use marline::time::{Clock, Instant};
use marline::transport::{BindOptions, Net, SocketId};

use super::plan::Collecting;
use super::sender::idle_pause;

pub struct Collector {
    pub plan: Collecting,
    resets: Cell<bool>,
    dies_unread: Cell<bool>,
    net: SimNet,
    io: SimIo,
    clock: VirtualClock,
    random: RefCell<Random>,
    listener: Cell<Option<SocketId>>,
    open: RefCell<Vec<Open>>,
    /// Steps in a row that came to nothing.
    idle: Cell<u32>,
    /// Connections that were accepted.
    accepted: Cell<u64>,
    /// Those that have ended, in the order in which they were accepted.
    ended: RefCell<BTreeMap<u64, Connection>>,
    /// How many owners have ended: see [`Collector::end_owner`].
    owner: Cell<u64>,
    /// Connections that it has reset.
    pub reset_count: Cell<u64>,
    /// Bytes that its kernel had acknowledged and nobody read.
    pub unread_bytes: Cell<u64>,
}

struct Open {
    number: u64,
    socket: SocketId,
    connection: Connection,
}

/// One connection, from its beginning to its end.
#[derive(Clone)]
pub struct Connection {
    pub accepted_at: Instant,
    /// How many owners had ended when it was accepted.
    pub owner: u64,
    /// What was read of it.
    pub text: Vec<u8>,
    /// What its kernel had acknowledged beyond that, and nobody read.
    pub unread: Vec<u8>,
}

/// How often, per mille of its steps, it resets a connection, goes away, or stalls.
const RESETS: u16 = 4;
const LEAVES: u16 = 2;
const STALLS: u16 = 10;

impl Collector {
    pub fn start(
        plan: Collecting,
        [resets, dies_unread]: [bool; 2],
        net: &SimNet,
        io: &SimIo,
        clock: &VirtualClock,
        random: Random,
    ) -> Rc<Collector> {
        let comes_at = clock.now() + plan.comes_at;
        let collector = Rc::new(Collector {
            plan,
            resets: Cell::new(resets),
            dies_unread: Cell::new(dies_unread),
            net: net.clone(),
            io: io.clone(),
            clock: clock.clone(),
            random: RefCell::new(random),
            listener: Cell::new(None),
            open: RefCell::default(),
            idle: Cell::new(0),
            accepted: Cell::new(0),
            ended: RefCell::default(),
            owner: Cell::new(0),
            reset_count: Cell::new(0),
            unread_bytes: Cell::new(0),
        });
        let first = Rc::clone(&collector);
        io.plan(comes_at, move || first.step());
        collector
    }

    /// What each connection that has ended has brought, in the order of their beginnings.
    pub fn texts(&self) -> Vec<Vec<u8>> {
        let ended = self.ended.borrow();
        ended.values().map(|it| it.text.clone()).collect()
    }

    /// The connections that have ended, in the order of their beginnings.
    pub fn connections(&self) -> Vec<Connection> {
        self.ended.borrow().values().cloned().collect()
    }

    /// How many owners have ended.
    pub fn owner(&self) -> u64 {
        self.owner.get()
    }

    /// The sink at the other end is gone, with its process or alone: nobody sends again what is
    /// acknowledged on the connections that there are.
    pub fn end_owner(&self) {
        self.accept_all();
        self.owner.set(self.owner.get() + 1);
    }

    /// From now on it only reads.
    pub fn behave(&self) {
        self.resets.set(false);
    }

    /// From now on it reads what it has before it resets. At a stop the daemon forgets what has
    /// arrived, so who dies over it then has lost it.
    pub fn read_all(&self) {
        self.dies_unread.set(false);
    }

    /// The end of the run: everything is closed and read.
    pub fn finish(&self) {
        let resets = self.reset_count.get();
        self.leave();
        self.reset_count.set(resets);
    }

    fn chance(&self, per_mille: u16) -> bool {
        self.random.borrow_mut().chance(per_mille)
    }

    fn step(self: Rc<Self>) {
        let mut pause = self
            .random
            .borrow_mut()
            .span(Duration::ZERO, self.plan.pause_max);
        if self.listener.get().is_none() {
            let options = BindOptions::default();
            self.listener
                .set(self.net.listen(&self.plan.at, &options).ok());
        }
        self.accept_all();
        let has_moved = self.read_some();
        pause += idle_pause(&self.idle, has_moved);
        if self.resets.get() && self.chance(RESETS) {
            self.reset_one();
        }
        if self.resets.get() && self.chance(LEAVES) && self.leave() {
            pause += self
                .random
                .borrow_mut()
                .span(Duration::ZERO, Duration::from_secs(3));
        }
        if self.chance(STALLS) {
            pause += self
                .random
                .borrow_mut()
                .span(Duration::ZERO, Duration::from_secs(2));
        }
        let at = self.clock.now() + pause;
        let io = self.io.clone();
        io.plan(at, move || self.step());
    }

    /// Says whether nobody is left to be accepted.
    fn accept_all(&self) -> bool {
        let Some(listener) = self.listener.get() else {
            return true;
        };
        for _ in 0..100 {
            match self.net.accept(listener) {
                Ok((socket, _)) => {
                    let number = self.accepted.get();
                    self.accepted.set(number + 1);
                    let open = Open {
                        number,
                        socket,
                        connection: Connection {
                            accepted_at: self.clock.now(),
                            owner: self.owner.get(),
                            text: Vec::new(),
                            unread: Vec::new(),
                        },
                    };
                    self.open.borrow_mut().push(open);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => {}
            }
        }
        false
    }

    /// Says whether anything came.
    fn read_some(&self) -> bool {
        let mut has_moved = false;
        let open = self.open.take();
        for mut open in open {
            let most = self.random.borrow_mut().between(1, self.plan.read_max);
            let mut buffer = vec![0; most];
            match self.net.read(open.socket, &mut buffer) {
                Ok(count) if count > 0 => {
                    has_moved = true;
                    open.connection.text.extend(&buffer[..count]);
                    self.open.borrow_mut().push(open);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.open.borrow_mut().push(open);
                }
                // The end of the stream, or a reset.
                Ok(_) | Err(_) => {
                    self.net.close(open.socket);
                    self.keep(open);
                }
            }
        }
        has_moved
    }

    fn keep(&self, open: Open) {
        self.ended.borrow_mut().insert(open.number, open.connection);
    }

    fn reset_one(&self) {
        let count = self.open.borrow().len();
        if count > 0 {
            let index = self.random.borrow_mut().below(count);
            let open = self.open.borrow_mut().remove(index);
            self.drop_connection(open);
        }
    }

    /// Resets, having read what has arrived or not.
    fn drop_connection(&self, mut open: Open) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = self.net.read(open.socket, &mut buffer) {
            if self.dies_unread.get() {
                open.connection.unread.extend(&buffer[..count]);
                self.unread_bytes
                    .set(self.unread_bytes.get() + count as u64);
            } else {
                open.connection.text.extend(&buffer[..count]);
            }
        }
        self.net.abort(open.socket);
        self.keep(open);
        self.reset_count.set(self.reset_count.get() + 1);
    }

    /// Resets everybody and listens no more; not while somebody cannot be accepted.
    fn leave(&self) -> bool {
        if !self.accept_all() {
            return false;
        }
        let open = self.open.take();
        open.into_iter().for_each(|open| self.drop_connection(open));
        if let Some(listener) = self.listener.take() {
            self.net.close(listener);
        }
        true
    }
}
