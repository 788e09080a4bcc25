//! Pollers: who tells the reactor that a source may have become readable or writable.
//!
//! The contract, the same for all: a registered source is watched in both directions. A
//! direction is reported once and is then silent until [`Poller::rearm`], which the reactor calls
//! when the handler met `WouldBlock`; after that the next report comes when the direction is
//! ready, also when it was ready already. A report too many is harmless (the handler meets
//! `WouldBlock`), one too few is a stall. The reactor remembers what was reported, so pausing and
//! resuming a source needs no call here.
//!
//! epoll by mio is the default and edge-triggered, so `rearm` costs nothing; poll(2) and
//! select(2) mask what they reported. This file is the only user of mio.

mod poll;
mod scan;
mod select;

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;

use super::token::Token;

pub use poll::PollPoller;
pub use select::SelectPoller;

/// What a poller can watch.
#[derive(Clone, Debug)]
pub enum Pollable {
    /// A descriptor. The poller keeps its clone until `deregister`, so that the number cannot be
    /// given to another descriptor while it is watched.
    Fd(Rc<OwnedFd>),
    /// A socket of the simulated world.
    Sim(u64),
}

/// One of the two directions of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Bytes, datagrams or connections to take.
    Read,
    /// Room to write into.
    Write,
}

/// What a poller says of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Which source.
    pub token: Token,
    /// A read will probably not block; true also after an error or a hang-up.
    pub readable: bool,
    /// A write will probably not block; true also after an error.
    pub writable: bool,
    /// The peer shut its direction down, hung up, or there is an error to fetch.
    pub hangup: bool,
}

/// Ends a [`Poller::wait`] of another thread, or the next one if none is going on.
pub trait Wake: Send + Sync {
    /// Ends the wait. Many calls before a wait are as good as one.
    fn wake(&self);
}

/// One of the five seams to the operating system: readiness.
pub trait Poller {
    /// The name in the configuration and the logs.
    fn name(&self) -> &'static str;

    /// Begins to watch `source` in both directions. What is ready already is reported too.
    ///
    /// # Errors
    /// The system's refusal; a descriptor this poller cannot watch.
    fn register(&mut self, source: &Pollable, token: Token) -> io::Result<()>;

    /// Reports `direction` of `token` again from now on: its handler met `WouldBlock`.
    fn rearm(&mut self, token: Token, direction: Direction);

    /// Forgets the source. A stale token is no error.
    fn deregister(&mut self, token: Token);

    /// Waits until something is ready, `timeout` has passed (never less; `None` is for ever) or
    /// somebody woke it, and appends what is ready to `events`, at most once per token.
    ///
    /// # Errors
    /// The system's; `Interrupted` is one of them.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Readiness>) -> io::Result<()>;

    /// The door through which another thread ends a wait.
    fn waker(&self) -> Arc<dyn Wake>;
}

/// The pollers that watch real descriptors, by their names in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PollerKind {
    /// epoll(7) by mio: cost per event, not per source.
    #[default]
    Epoll,
    /// poll(2): cost per watched source.
    Poll,
    /// select(2): descriptors below 1024 only.
    Select,
}

impl PollerKind {
    /// All of them.
    pub const ALL: [PollerKind; 3] = [PollerKind::Epoll, PollerKind::Poll, PollerKind::Select];

    /// `epoll`, `poll` or `select`.
    pub const fn name(self) -> &'static str {
        match self {
            PollerKind::Epoll => "epoll",
            PollerKind::Poll => "poll",
            PollerKind::Select => "select",
        }
    }

    /// Opens a poller of this kind.
    ///
    /// # Errors
    /// The system's: mostly that no descriptor is left.
    pub fn open(self) -> io::Result<Box<dyn Poller>> {
        Ok(match self {
            PollerKind::Epoll => Box::new(EpollPoller::new()?),
            PollerKind::Poll => Box::new(PollPoller::new()?),
            PollerKind::Select => Box::new(SelectPoller::new()?),
        })
    }
}

impl FromStr for PollerKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let kind = PollerKind::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| format!("no poller `{name}`; there are epoll, poll and select"))
    }
}

impl fmt::Display for PollerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Readiness that one wait can bring; what is more comes with the next.
const EVENTS_MAX: usize = 1024;
/// Not the bits of any token: a slab does not get that large.
const WAKER: mio::Token = mio::Token(usize::MAX);

/// epoll(7), edge-triggered, by mio. A wait of less than a millisecond becomes one.
pub struct EpollPoller {
    poll: mio::Poll,
    events: mio::Events,
    waker: Arc<MioWake>,
    /// Kept so that no watched number can be given to another descriptor.
    sources: std::collections::HashMap<Token, Rc<OwnedFd>>,
}

struct MioWake(mio::Waker);

impl Wake for MioWake {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            tracing::error!(%error, "cannot wake the reactor");
        }
    }
}

impl EpollPoller {
    /// Opens the epoll descriptor and the waker's.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), WAKER)?;
        Ok(EpollPoller {
            poll,
            events: mio::Events::with_capacity(EVENTS_MAX),
            waker: Arc::new(MioWake(waker)),
            sources: std::collections::HashMap::new(),
        })
    }
}

impl Poller for EpollPoller {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn register(&mut self, source: &Pollable, token: Token) -> io::Result<()> {
        let fd = descriptor(source)?;
        let both = mio::Interest::READABLE | mio::Interest::WRITABLE;
        let number = mio::Token(token.to_bits() as usize);
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&fd.as_raw_fd()), number, both)?;
        self.sources.insert(token, fd);
        Ok(())
    }

    fn rearm(&mut self, _token: Token, _direction: Direction) {
        // Whoever met `WouldBlock` has re-armed the edge in the kernel.
    }

    fn deregister(&mut self, token: Token) {
        if let Some(fd) = self.sources.remove(&token) {
            let registry = self.poll.registry();
            if let Err(error) = registry.deregister(&mut SourceFd(&fd.as_raw_fd())) {
                tracing::error!(%error, fd = fd.as_raw_fd(), "cannot stop watching a descriptor");
            }
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Readiness>) -> io::Result<()> {
        self.poll.poll(&mut self.events, timeout)?;
        let seen = self.events.iter().filter(|event| event.token() != WAKER);
        events.extend(seen.map(|event| {
            let hangup = event.is_read_closed() || event.is_write_closed() || event.is_error();
            Readiness {
                token: Token::from_bits(event.token().0 as u64),
                readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                writable: event.is_writable() || event.is_write_closed() || event.is_error(),
                hangup,
            }
        }));
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }
}

/// The descriptor of `source`, for the pollers that know no other kind.
fn descriptor(source: &Pollable) -> io::Result<Rc<OwnedFd>> {
    match source {
        Pollable::Fd(fd) => Ok(fd.clone()),
        Pollable::Sim(_) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a simulated socket needs the simulated poller",
        )),
    }
}
