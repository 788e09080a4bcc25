//! Sources: descriptors and simulated sockets with the handlers that serve them.
//!
//! A slot remembers two things per direction: *interest* (the component wants calls) and *ready*
//! (the poller reported it and no handler has met `WouldBlock` since). A call is due where both
//! are set. So a source that was paused when its edge came is served when it resumes, without a
//! system call, and "level-triggered in meaning" holds on an edge-triggered poller.
//!
//! While a handler runs it is out of its slot; whether it goes back depends on whether its token
//! is still good. A handler is told of its loss once, in a later step, never from within itself.

use std::io;
use std::panic::Location;

use super::core::{Notice, Place};
use super::handle::Handle;
use super::poller::{Direction, Pollable, Readiness};
use super::token::{Slab, Token};
use crate::deferred::Failure;

/// What sits in a slot: both directions of one socket, or a listener.
pub trait Handler {
    /// Something can be read: read until `WouldBlock`, or stop before and say so.
    fn readable(&mut self, reactor: &Handle) -> Progress;

    /// Something can be written: write until `WouldBlock`, or stop before and say so.
    fn writable(&mut self, reactor: &Handle) -> Progress;

    /// The peer hung up or there is an error, and reading is paused. Who reads learns it there.
    /// A hint, for who wants to give up early: select(2) cannot tell.
    fn hangup(&mut self, _reactor: &Handle) -> Progress {
        Progress::Blocked
    }

    /// The source has been taken from the reactor: by `lose`, by a `Dead` or a panic of its own,
    /// or because the reactor shuts down. Called once, last.
    fn lost(self: Box<Self>, reason: Failure, reactor: &Handle);

    /// Asked in debug builds when write interest is kept after `writable`: is there something to
    /// write? Interest without output burns the processor.
    fn has_output(&self) -> bool {
        true
    }
}

/// How far a handler got.
#[derive(Debug)]
pub enum Progress {
    /// It met `WouldBlock`: the poller will say when there is more.
    Blocked,
    /// It stopped before (budget, pause, one datagram): it is called again, interest permitting.
    More,
    /// The source is finished: the reactor drops it and tells it of its loss.
    Dead(Failure),
}

/// Everything registered.
#[derive(Default)]
pub(super) struct Sources {
    slab: Slab<Source>,
    /// The one whose handler is being run.
    running: Option<Token>,
    /// Why it was lost meanwhile, if it was.
    running_lost: Option<Failure>,
}

struct Source {
    /// Absent while it runs.
    handler: Option<Box<dyn Handler>>,
    interest: Directions,
    ready: Directions,
    hangup: bool,
    /// It is on the ready list.
    listed: bool,
    /// The reactor's own (signals): not shown and not closed.
    internal: bool,
    registered_at: &'static Location<'static>,
}

// Every connection has one, idle or not: see docs/PERFORMANCE.md.
const _: () = assert!(size_of::<Source>() <= 32, "a slot has grown");

#[derive(Clone, Copy, Default)]
struct Directions {
    read: bool,
    write: bool,
}

impl Directions {
    fn of(&mut self, direction: Direction) -> &mut bool {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

impl Source {
    fn is_due(&self) -> bool {
        (self.interest.read && self.ready.read)
            || (self.interest.write && self.ready.write)
            || (self.hangup && !self.interest.read)
    }
}

impl Default for Slab<Source> {
    fn default() -> Self {
        Slab::new()
    }
}

impl Sources {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Marks the source as listed if it has something to do and is not listed yet.
    fn must_list(&mut self, token: Token) -> bool {
        let Some(source) = self.slab.get_mut(token) else {
            return false;
        };
        let list = source.is_due() && !source.listed;
        source.listed |= list;
        list
    }

    /// Takes the handler out for its dispatch.
    fn take(&mut self, token: Token) -> Option<(Box<dyn Handler>, &'static Location<'static>)> {
        let source = self.slab.get_mut(token)?;
        source.listed = false;
        if !source.is_due() {
            return None;
        }
        let handler = source.handler.take()?;
        self.running = Some(token);
        Some((handler, source.registered_at))
    }

    /// Which call of the running handler is due next, each asked for once in this order.
    fn is_call_due(&mut self, token: Token, call: Call) -> bool {
        let Some(source) = self.slab.get_mut(token) else {
            return false;
        };
        match call {
            Call::Readable => source.interest.read && source.ready.read,
            Call::Writable => source.interest.write && source.ready.write,
            Call::Hangup => std::mem::take(&mut source.hangup) && !source.interest.read,
        }
    }
}

/// The calls of a dispatch, in their order.
#[derive(Clone, Copy)]
enum Call {
    Readable,
    Writable,
    Hangup,
}

/// What a dispatch came to.
enum Outcome {
    Alive,
    Dead(Failure),
}

impl Handle {
    /// Begins to watch `source`, with no interest yet: see [`add_reader`](Self::add_reader).
    ///
    /// # Errors
    /// The poller's: a descriptor it cannot watch, a limit of the system.
    #[track_caller]
    pub fn register(&self, source: Pollable, handler: Box<dyn Handler>) -> io::Result<Token> {
        self.register_as(&source, handler, false, Location::caller())
    }

    pub(super) fn register_as(
        &self,
        pollable: &Pollable,
        handler: Box<dyn Handler>,
        internal: bool,
        registered_at: &'static Location<'static>,
    ) -> io::Result<Token> {
        if self.has_ended() {
            return Err(io::Error::other("the reactor has ended"));
        }
        let token = self.core.sources.borrow_mut().slab.insert(Source {
            handler: Some(handler),
            interest: Directions::default(),
            ready: Directions::default(),
            hangup: false,
            listed: false,
            internal,
            registered_at,
        });
        let watched = self.core.poller.borrow_mut().register(pollable, token);
        if let Err(error) = watched {
            let source = self.core.sources.borrow_mut().slab.remove(token);
            drop(source);
            return Err(error);
        }
        Ok(token)
    }

    /// Forgets the source and drops its handler (after its dispatch, when it is running);
    /// `lost` is not called. False when the token is stale.
    pub fn deregister(&self, token: Token) -> bool {
        self.unregister(token).is_some()
    }

    /// Forgets the source and calls its handler's `lost` once, later in this turn.
    pub fn lose(&self, token: Token, reason: Failure) {
        let Some(source) = self.unregister(token) else {
            return;
        };
        if let Some(handler) = source.handler {
            self.notify(Notice::Lost(handler, reason, source.registered_at));
            return;
        }
        let mut sources = self.core.sources.borrow_mut();
        debug_assert_eq!(sources.running, Some(token));
        sources.running_lost = Some(reason);
    }

    fn unregister(&self, token: Token) -> Option<Source> {
        let source = self.core.sources.borrow_mut().slab.remove(token)?;
        self.core.poller.borrow_mut().deregister(token);
        Some(source)
    }

    /// Calls `readable` whenever there is something to read. Nothing happens when it is a reader
    /// already, or the token is stale.
    pub fn add_reader(&self, token: Token) {
        self.set_interest(token, Direction::Read, true);
    }

    /// Calls `readable` no more; what arrives meanwhile is remembered.
    pub fn remove_reader(&self, token: Token) {
        self.set_interest(token, Direction::Read, false);
    }

    /// Calls `writable` whenever there is room to write. Keep it only while there is output.
    pub fn add_writer(&self, token: Token) {
        self.set_interest(token, Direction::Write, true);
    }

    /// Calls `writable` no more.
    pub fn remove_writer(&self, token: Token) {
        self.set_interest(token, Direction::Write, false);
    }

    fn set_interest(&self, token: Token, direction: Direction, wanted: bool) {
        let listed = {
            let mut sources = self.core.sources.borrow_mut();
            if let Some(source) = sources.slab.get_mut(token) {
                *source.interest.of(direction) = wanted;
            }
            wanted && sources.must_list(token)
        };
        if listed {
            self.core.ready.borrow_mut().push(token);
        }
    }

    /// Calls `readable` once more although nothing was reported, as soon as the source is a
    /// reader: for who must know that there is nothing left.
    pub fn look_again(&self, token: Token) {
        self.note_readiness(Readiness {
            token,
            readable: true,
            writable: false,
            hangup: false,
        });
    }

    /// Where each source was registered, without the reactor's own: what is left, for who asks.
    pub fn source_places(&self) -> Vec<&'static Location<'static>> {
        let sources = self.core.sources.borrow();
        let users = sources.slab.iter().filter(|(_, source)| !source.internal);
        users.map(|(_, source)| source.registered_at).collect()
    }

    /// The sources that have read interest, without the reactor's own.
    pub fn readers(&self) -> Vec<Token> {
        self.interested(Direction::Read)
    }

    /// The sources that have write interest, without the reactor's own.
    pub fn writers(&self) -> Vec<Token> {
        self.interested(Direction::Write)
    }

    fn interested(&self, direction: Direction) -> Vec<Token> {
        let sources = self.core.sources.borrow();
        let users = sources.slab.iter().filter(|(_, source)| !source.internal);
        users
            .filter(|(_, source)| *source.interest.clone().of(direction))
            .map(|(token, _)| token)
            .collect()
    }

    /// Forgets all sources but the reactor's own and gives back their handlers, except that of
    /// the caller when a handler calls it (it is dropped after its dispatch).
    pub fn remove_all(&self) -> Vec<Box<dyn Handler>> {
        let removed = self.remove_where(|source| !source.internal);
        let handlers = removed.into_iter().filter_map(|source| source.handler);
        handlers.collect()
    }

    /// Tells every source of its loss, now; for shutdown, outside of any dispatch.
    pub(super) fn lose_all(&self, reason: &Failure) {
        for source in self.remove_where(|source| !source.internal) {
            if let Some(handler) = source.handler {
                let place = Place {
                    kind: "lost",
                    at: source.registered_at,
                };
                // Logged by `enter`; the others are told all the same.
                let _ = self.enter(place, |reactor| handler.lost(reason.clone(), reactor));
            }
        }
    }

    /// Forgets all sources, the reactor's own too.
    pub(super) fn remove_everything(&self) -> Vec<Box<dyn Handler>> {
        self.core.ready.borrow_mut().clear();
        let removed = self.remove_where(|_| true);
        let handlers = removed.into_iter().filter_map(|source| source.handler);
        handlers.collect()
    }

    fn remove_where(&self, chosen: impl Fn(&Source) -> bool) -> Vec<Source> {
        let tokens: Vec<Token> = {
            let sources = self.core.sources.borrow();
            let chosen = sources.slab.iter().filter(|(_, source)| chosen(source));
            chosen.map(|(token, _)| token).collect()
        };
        tokens
            .into_iter()
            .filter_map(|token| self.unregister(token))
            .collect()
    }

    /// Writes down what the poller reported; a stale token is none of ours any more.
    pub(super) fn note_readiness(&self, event: Readiness) {
        let listed = {
            let mut sources = self.core.sources.borrow_mut();
            let Some(source) = sources.slab.get_mut(event.token) else {
                return;
            };
            source.ready.read |= event.readable;
            source.ready.write |= event.writable;
            source.hangup |= event.hangup;
            sources.must_list(event.token)
        };
        if listed {
            self.core.ready.borrow_mut().push(event.token);
        }
    }

    /// A source has read so many bytes. When those of one turn are enough, the sources that were
    /// not served yet keep their place at the head of the list and are the first of the next
    /// turn: what was read is to be written while it lies in the processor's cache, and a
    /// thousand fast senders are not to delay a turn by what all of them sent.
    pub fn count_read(&self, bytes: usize) {
        let left = self.core.readable_bytes.get();
        self.core.readable_bytes.set(left.saturating_sub(bytes));
    }

    /// Serves the sources that were on the ready list when the step began, until
    /// [`READ_BYTES_PER_TURN`] have been read.
    pub(super) fn serve_sources(&self) {
        self.core.readable_bytes.set(READ_BYTES_PER_TURN);
        let count = self.core.ready.borrow().len();
        for _ in 0..count {
            if self.core.readable_bytes.get() == 0 {
                break;
            }
            let next = self.core.ready.borrow_mut().pop();
            if let Some(token) = next {
                self.serve(token);
            }
        }
    }

    /// Takes the handler out, runs it, and puts it back unless its token went stale.
    fn serve(&self, token: Token) {
        let taken = self.core.sources.borrow_mut().take(token);
        let Some((mut handler, at)) = taken else {
            return;
        };
        let place = Place { kind: "source", at };
        let outcome = self.enter(place, |reactor| reactor.run_due(token, &mut *handler));
        match outcome {
            Ok(Outcome::Alive) => self.put_back(token, handler, at),
            Ok(Outcome::Dead(reason)) | Err(reason) => {
                self.put_back(token, handler, at);
                self.lose(token, reason);
            }
        }
    }

    /// Makes the calls that are due: first what it reads, then, if that did not close it, what
    /// it writes.
    fn run_due(&self, token: Token, handler: &mut dyn Handler) -> Outcome {
        for call in [Call::Readable, Call::Writable, Call::Hangup] {
            if !self.core.sources.borrow_mut().is_call_due(token, call) {
                continue;
            }
            let progress = match call {
                Call::Readable => handler.readable(self),
                Call::Writable => handler.writable(self),
                Call::Hangup => handler.hangup(self),
            };
            match (progress, call) {
                (Progress::Dead(reason), _) => return Outcome::Dead(reason),
                (Progress::Blocked, Call::Readable) => self.blocked(token, Direction::Read),
                (Progress::Blocked, Call::Writable) => self.blocked(token, Direction::Write),
                (Progress::More, _) | (Progress::Blocked, Call::Hangup) => {}
            }
            if cfg!(debug_assertions) && matches!(call, Call::Writable) {
                self.check_output(token, handler);
            }
        }
        Outcome::Alive
    }

    /// The handler met `WouldBlock`: whatever the poller says from now on is news.
    fn blocked(&self, token: Token, direction: Direction) {
        if let Some(source) = self.core.sources.borrow_mut().slab.get_mut(token) {
            *source.ready.of(direction) = false;
            self.core.poller.borrow_mut().rearm(token, direction);
        }
    }

    fn check_output(&self, token: Token, handler: &dyn Handler) {
        let mut sources = self.core.sources.borrow_mut();
        let keeps = sources
            .slab
            .get_mut(token)
            .is_some_and(|it| it.interest.write);
        drop(sources);
        debug_assert!(
            !keeps || handler.has_output(),
            "write interest is kept with nothing to write"
        );
    }

    fn put_back(&self, token: Token, handler: Box<dyn Handler>, at: &'static Location<'static>) {
        let (stale, lost, list) = {
            let mut sources = self.core.sources.borrow_mut();
            sources.running = None;
            let lost = sources.running_lost.take();
            let stale = match sources.slab.get_mut(token) {
                Some(source) => {
                    source.handler = Some(handler);
                    None
                }
                None => Some(handler),
            };
            (stale, lost, sources.must_list(token))
        };
        if list {
            self.core.ready.borrow_mut().push(token);
        }
        if let (Some(handler), Some(reason)) = (stale, lost) {
            self.notify(Notice::Lost(handler, reason, at));
        }
    }
}

/// What all sources together may read in one turn, in bytes: two full reads.
const READ_BYTES_PER_TURN: usize = 512 * 1024;
