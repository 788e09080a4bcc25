//! Streams of the simulated network: dialling, accepting, and bytes on their way.
//!
//! A dial over IP is answered after a latency; one to a Unix path at once. The dialled end can
//! write before the other is accepted, as with any backlog. Whatever is due at an instant is
//! delivered by an event of that instant; a read that makes room plans the next one.

use std::io::{self, ErrorKind, IoSlice};

use rustix::io::Errno;

use super::link::{Link, Side};
use super::{Inner, Kind, Socket, State, Waiting, is_meant};
use crate::sim::faults::Fault;
use crate::time::Duration;
use crate::transport::{Endpoint, SocketId};

impl Inner {
    pub(super) fn connect(&self, to: &Endpoint) -> io::Result<SocketId> {
        if !to.is_ip() {
            return self.connect_unix(to);
        }
        let id = self.insert(self.unbound(to), Kind::Dialling(None));
        if !self.faults.strike(Fault::ConnectUnanswered) {
            let to = to.clone();
            self.plan(self.now() + self.latency(), move |net| net.answer(id, &to));
        }
        Ok(id)
    }

    fn connect_unix(&self, to: &Endpoint) -> io::Result<SocketId> {
        let listener = self.listener(to).ok_or(ErrorKind::ConnectionRefused)?;
        if self.is_crowded(listener) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let id = self.insert(Endpoint::Unnamed, Kind::Dialling(None));
        self.establish(id, listener);
        Ok(id)
    }

    /// The dial has reached the other machine.
    fn answer(&self, dialler: SocketId, to: &Endpoint) {
        let refused = self.faults.strike(Fault::ConnectRefused);
        let Some(listener) = self.listener(to).filter(|_| !refused) else {
            return self.refuse(dialler);
        };
        if self.is_crowded(listener) {
            // The dial is dropped unseen and sent again, as a SYN is.
            let to = to.clone();
            return self.plan(self.now() + RETRY, move |net| net.answer(dialler, &to));
        }
        self.establish(dialler, listener);
    }

    fn refuse(&self, dialler: SocketId) {
        if let Ok(socket) = self.state.borrow_mut().sockets.get(dialler) {
            socket.kind = Kind::Dialling(Some(ErrorKind::ConnectionRefused));
            self.io.set_hangup(socket.io);
        }
    }

    fn establish(&self, dialler: SocketId, listener: SocketId) {
        let mut state = self.state.borrow_mut();
        let Ok(socket) = state.sockets.get(dialler) else {
            return; // given up meanwhile
        };
        let (from, io) = (socket.local.clone(), socket.io);
        let user_timeout = socket.user_timeout;
        let is_unix = !from.is_ip();
        let number = state.links_made;
        state.links_made += 1;
        let mut link = Link::new(is_unix, io);
        let ready_at = match self.faults.strike(Fault::AcceptDelayed) && !is_unix {
            true => self.now() + self.span(super::LATENCY_MAX, ACCEPT_DELAY_MAX),
            false => self.now(),
        };
        link.stalled_until = ready_at;
        link.ends[0].user_timeout = user_timeout;
        state.links.insert(number, link);
        if let Ok(socket) = state.sockets.get(dialler) {
            socket.kind = Kind::Stream(number, 0);
        }
        if let Ok(listener) = state.sockets.get(listener) {
            let ready = listener.io;
            self.plan(ready_at, move |net| net.io.set_readable(ready));
            if let Kind::Listener(backlog) = &mut listener.kind {
                let link = number;
                backlog.waiting.push_back(Waiting {
                    link,
                    from,
                    ready_at,
                });
            }
        }
        self.io.set_writable(io);
        self.plan(ready_at, move |net| net.deliver(number));
    }

    pub(super) fn accept(&self, listener: SocketId) -> io::Result<(SocketId, Endpoint)> {
        let io = self.state.borrow_mut().sockets.get(listener)?.io;
        self.cry_wolf(io);
        if self.has_waiting(listener)? && self.faults.strike(Fault::AcceptRefused) {
            return Err(Errno::MFILE.into());
        }
        let waiting = self.take_waiting(listener)?;
        let waiting = waiting.ok_or(ErrorKind::WouldBlock)?;
        // Not where bytes have arrived: their sender was told that we have them.
        if !self.has_bytes(waiting.link) && self.faults.strike(Fault::AcceptAborted) {
            self.cut(waiting.link);
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let io = self.io.open();
        let mut state = self.state.borrow_mut();
        let local = state.sockets.get(listener)?.local.clone();
        let link = state.links.get_mut(&waiting.link);
        let link = link.ok_or(ErrorKind::ConnectionAborted)?;
        link.ends[1].io = Some(io);
        self.tell(Some(io), link.state(1));
        let kind = Kind::Stream(waiting.link, 1);
        let id = state.sockets.insert(Socket {
            io,
            local,
            kind,
            user_timeout: None,
        });
        Ok((id, waiting.from))
    }

    fn has_bytes(&self, number: u64) -> bool {
        let state = self.state.borrow();
        let link = state.links.get(&number);
        link.is_some_and(|link| link.state(1).readable)
    }

    fn has_waiting(&self, listener: SocketId) -> io::Result<bool> {
        let now = self.now();
        match &self.state.borrow_mut().sockets.get(listener)?.kind {
            Kind::Listener(backlog) => Ok(backlog.waiting.iter().any(|it| it.ready_at <= now)),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    /// The first who may be accepted by now.
    pub(super) fn take_waiting(&self, listener: SocketId) -> io::Result<Option<Waiting>> {
        let now = self.now();
        match &mut self.state.borrow_mut().sockets.get(listener)?.kind {
            Kind::Listener(backlog) => {
                let mut waiting = backlog.waiting.iter();
                let index = waiting.position(|it| it.ready_at <= now);
                Ok(index.and_then(|index| backlog.waiting.remove(index)))
            }
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn read(&self, id: SocketId, into: &mut [u8]) -> io::Result<usize> {
        let (io, number) = self.stream(id)?;
        self.cry_wolf(io);
        let most = self.part_of(into.len(), Fault::PartialRead);
        // A part of a large buffer is hardly ever less than what is there.
        let most = if most < into.len() {
            most % 512 + 1
        } else {
            most
        };
        let most = most.min(into.len());
        let (count, made_room) =
            self.with_link(id, |link, side| link.read(side, &mut into[..most]))?;
        if made_room {
            self.plan(self.now() + self.latency(), move |net| net.deliver(number));
        }
        Ok(count)
    }

    pub(super) fn write(&self, id: SocketId, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (io, number) = self.stream(id)?;
        self.cry_wolf(io);
        let room = self.with_link(id, |link, side| link.room(side))?;
        if self.faults.strike(Fault::WriteBlocked) {
            let at = self.now() + self.latency();
            self.plan(at, move |net| net.io.set_writable(io));
            return Err(ErrorKind::WouldBlock.into());
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let count = self.part_of(offered.min(room), Fault::PartialWrite);
        let bytes = slices.iter().flat_map(|slice| slice.iter()).take(count);
        let at = self.now() + self.latency();
        let at = self.with_link(id, |link, side| {
            let at = if link.is_unix { self.now() } else { at };
            Ok(link.send(side, bytes, at))
        })?;
        self.plan(at, move |net| net.deliver(number));
        Ok(count)
    }

    pub(super) fn shut(&self, id: SocketId) -> io::Result<()> {
        let (_, number) = self.stream(id)?;
        let at = self.now() + self.latency();
        let at = self.with_link(id, |link, side| link.shut(side, at))?;
        self.plan(at, move |net| net.deliver(number));
        Ok(())
    }

    pub(super) fn take_error(&self, id: SocketId) -> io::Result<()> {
        match &mut self.state.borrow_mut().sockets.get(id)?.kind {
            Kind::Dialling(outcome) => {
                let error = outcome.take();
                return error.map_or(Ok(()), |error| Err(error.into()));
            }
            Kind::Post(post) => return post.take_error(),
            Kind::Listener(_) => return Ok(()),
            Kind::Stream(..) => {}
        }
        self.with_link(id, |link, side| link.take_error(side))
    }

    /// An end is given up, in order or at once.
    pub(super) fn leave(&self, number: u64, side: Side, in_order: bool) {
        let at = self.now() + self.latency();
        let mut state = self.state.borrow_mut();
        let Some(link) = state.links.get_mut(&number) else {
            return;
        };
        let ends_well = if in_order {
            link.close(side, at)
        } else {
            link.abort(side);
            false
        };
        let is_unix = link.is_unix;
        drop(state);
        if ends_well {
            self.plan(at, move |net| net.deliver(number));
        } else if is_unix {
            // Within one machine both ends know at once.
            self.reset(number, 1 - side);
        } else {
            self.plan(at, move |net| net.reset(number, 1 - side));
        }
    }

    /// What is due at a connection arrives, unless something goes wrong just now.
    fn deliver(&self, number: u64) {
        let mut state = self.state.borrow_mut();
        let Some(link) = state.links.get_mut(&number) else {
            return;
        };
        if !link.is_unix && link.is_busy() {
            if self.faults.strike(Fault::Reset) {
                drop(state);
                return self.cut(number);
            }
            if self.faults.strike(Fault::Stall) {
                link.stalled_until = self.now() + self.span(STALL_MIN, STALL_MAX);
                self.plan(link.stalled_until, move |net| net.deliver(number));
            }
        }
        let news = link.deliver(self.now());
        for side in [0, 1] {
            if let Some(at) = link.gives_up_at(side) {
                self.plan(at, move |net| net.give_up(number, side));
            }
        }
        for (end, news) in link.ends.iter().zip(news) {
            self.tell(end.io, news);
        }
        if link.is_over() && !link.is_busy() {
            state.links.remove(&number);
        }
    }

    /// An end whose peer has had no room for too long gives up; the peer sees a reset.
    fn give_up(&self, number: u64, side: Side) {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        let link = state.links.get_mut(&number);
        let overdue = |link: &&mut Link| link.gives_up_at(side).is_some_and(|at| at <= now);
        if let Some(link) = link.filter(overdue) {
            let news = link.time_out(side);
            self.tell(link.ends[side].io, news);
            drop(state);
            self.reset(number, 1 - side);
        }
    }

    /// Both ends of a connection see a reset.
    pub(super) fn cut(&self, number: u64) {
        self.reset(number, 0);
        self.reset(number, 1);
    }

    fn reset(&self, number: u64, side: Side) {
        let mut state = self.state.borrow_mut();
        let Some(link) = state.links.get_mut(&number) else {
            return;
        };
        let news = link.reset(side);
        self.tell(link.ends[side].io, news);
        if link.is_over() && !link.is_busy() {
            state.links.remove(&number);
        }
    }

    /// The registered number and the connection of a stream.
    fn stream(&self, id: SocketId) -> io::Result<(u64, u64)> {
        let mut state = self.state.borrow_mut();
        let socket = state.sockets.get(id)?;
        match socket.kind {
            Kind::Stream(link, _) => Ok((socket.io, link)),
            Kind::Dialling(_) => Err(ErrorKind::NotConnected.into()),
            Kind::Listener(_) | Kind::Post(_) => Err(ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn with_link<T>(
        &self,
        id: SocketId,
        call: impl FnOnce(&mut Link, Side) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.borrow_mut();
        let State { sockets, links, .. } = &mut *state;
        let Kind::Stream(number, side) = sockets.get(id)?.kind else {
            return Err(ErrorKind::NotConnected.into());
        };
        let link = links.get_mut(&number).ok_or(ErrorKind::NotConnected)?;
        call(link, side)
    }

    fn listener(&self, to: &Endpoint) -> Option<SocketId> {
        self.state
            .borrow_mut()
            .sockets
            .find(|socket| matches!(socket.kind, Kind::Listener(_)) && is_meant(&socket.local, to))
    }

    fn is_crowded(&self, listener: SocketId) -> bool {
        match self.state.borrow_mut().sockets.get(listener) {
            Ok(Socket {
                kind: Kind::Listener(backlog),
                ..
            }) => backlog.waiting.len() >= backlog.connections_max,
            _ => false,
        }
    }
}

/// How long a dial to a full backlog waits for its next try (RFC 6298 section 2.1).
const RETRY: Duration = Duration::from_secs(1);

/// The longest that [`Fault::AcceptDelayed`] keeps a connection from being accepted.
const ACCEPT_DELAY_MAX: Duration = Duration::from_secs(2);

/// How long [`Fault::Stall`] lasts.
const STALL_MIN: Duration = Duration::from_millis(100);
const STALL_MAX: Duration = Duration::from_secs(20);
