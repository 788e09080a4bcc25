//! Sockets that change hands while they stay open: how a reload keeps its listeners.
//!
//! Every listener and datagram socket has an owner, a name that whoever opened it goes by. While
//! a handover is under way, who listens where a socket of a *leaving* owner is bound is promised
//! that socket in place of a new one. Until [`Network::commit_handover`] the old owner is served
//! as before, and [`Network::abort_handover`] leaves everything as it was. At the commit what
//! stands behind the socket is exchanged, in one go: no connection is turned away, no datagram
//! lost, and none seen by both. The old owner's handle means nothing from then on.
//!
//! A socket is kept by its place alone. Options of it that differ are set at the commit.

use std::collections::BTreeSet;
use std::rc::{Rc, Weak};

use super::address::Address;
use super::adopt::Carries;
use super::datagram::Post;
use super::listener::{self, Acceptor};
use super::net::{Endpoint, SocketId};
use super::network::Network;

/// All open sockets that one can take over.
#[derive(Default)]
pub(super) struct Places {
    places: Vec<Place>,
    made: u64,
    handover: Option<Handover>,
}

/// A socket, where it was asked for and by whom.
struct Place {
    id: u64,
    owner: Rc<str>,
    address: Address,
    socket: Socket,
    standing: Standing,
}

/// What the handover under way does with a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It was there before.
    Old,
    /// It was, and somebody gets it.
    Promised,
    /// It was opened within.
    New,
}

/// An open socket. Whoever listens keeps it alive, nobody else.
pub(super) enum Socket {
    Listener(Weak<Acceptor>),
    Datagrams(Weak<Post>),
}

/// A handover under way.
struct Handover {
    leaving: BTreeSet<String>,
    promises: Vec<Promise>,
}

/// Who gets a place, and what is to be done for that.
struct Promise {
    place: u64,
    owner: Rc<str>,
    keep: Box<dyn FnOnce()>,
}

impl Socket {
    fn is_open(&self) -> bool {
        match self {
            Socket::Listener(acceptor) => acceptor.upgrade().is_some_and(|it| it.is_open()),
            Socket::Datagrams(post) => post.upgrade().is_some_and(|it| it.is_open()),
        }
    }

    fn at(&self) -> Option<(SocketId, Endpoint)> {
        let owned = |(socket, local): (SocketId, &Endpoint)| (socket, local.clone());
        match self {
            Socket::Listener(acceptor) => acceptor.upgrade().map(|it| owned(it.socket())),
            Socket::Datagrams(post) => post.upgrade().map(|it| owned(it.socket())),
        }
    }

    fn carries(&self) -> Carries {
        match self {
            Socket::Listener(_) => Carries::Streams,
            Socket::Datagrams(_) => Carries::Datagrams,
        }
    }

    fn close(&self) {
        match self {
            Socket::Listener(acceptor) => drop(acceptor.upgrade().map(|it| it.close())),
            Socket::Datagrams(post) => drop(post.upgrade().map(|it| it.close())),
        }
    }
}

/// Whether both mean the same place. What cannot be listened on means none.
fn is_same(one: &Address, other: &Address) -> bool {
    let is_inherited = |address: &Address| matches!(address, Address::Systemd(_));
    if is_inherited(one) || is_inherited(other) {
        return one == other;
    }
    match (listener::endpoints(one), listener::endpoints(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

impl Places {
    /// What a restart would open again: sockets of components, at places of their choice.
    pub(super) fn to_store(&self) -> Vec<(SocketId, Carries, Endpoint)> {
        let is_stored = |place: &&Place| {
            let is_chosen = match &place.address {
                Address::Systemd(_) => false,
                address => address.host_port().is_none_or(|(_, port)| port != 0),
            };
            is_chosen && !place.owner.is_empty() && place.socket.is_open()
        };
        let places = self.places.iter().filter(is_stored);
        let of = |place: &Place| {
            let (socket, local) = place.socket.at()?;
            Some((socket, place.socket.carries(), local))
        };
        places.filter_map(of).collect()
    }

    fn forget_closed(&mut self) {
        self.places.retain(|place| place.socket.is_open());
    }

    /// Promises `owner` the places that are open for `address` already; an inherited name may
    /// stand for several. Nobody is promised anything while no handover is under way.
    fn promise(&mut self, owner: &str, address: &Address, carries: Carries) -> Vec<(u64, &Socket)> {
        let Some(handover) = &self.handover else {
            return Vec::new();
        };
        let is_free = |place: &&mut Place| {
            place.standing == Standing::Old
                && handover.leaving.contains(&*place.owner)
                && place.socket.carries() == carries
                && place.socket.is_open()
                && is_same(&place.address, address)
        };
        let mut free: Vec<&mut Place> = self.places.iter_mut().filter(is_free).collect();
        // Port 0 is the same place for many: each takes its own again.
        free.sort_by_key(|place| *place.owner != *owner);
        if !matches!(address, Address::Systemd(_)) {
            free.truncate(1);
        }
        let promised = free.into_iter().map(|place| {
            place.standing = Standing::Promised;
            (place.id, &place.socket)
        });
        promised.collect()
    }
}

impl Network {
    /// From now on the sockets of these owners are there to be taken over.
    pub fn begin_handover(&self, leaving: impl IntoIterator<Item = String>) {
        let mut places = self.places().borrow_mut();
        places.forget_closed();
        let handover = Handover {
            leaving: leaving.into_iter().collect(),
            promises: Vec::new(),
        };
        places.handover = Some(handover);
    }

    /// What was promised is given.
    pub fn commit_handover(&self) {
        let promises = {
            let mut places = self.places().borrow_mut();
            let promises = places.handover.take().map(|handover| handover.promises);
            let promises = promises.unwrap_or_default();
            for place in &mut places.places {
                place.standing = Standing::Old;
                let promise = promises.iter().find(|promise| promise.place == place.id);
                if let Some(promise) = promise {
                    place.owner = Rc::clone(&promise.owner);
                }
            }
            promises
        };
        promises.into_iter().for_each(|promise| (promise.keep)());
        self.store_open();
    }

    /// Nothing that was promised is given, and what was opened meanwhile is closed, unheard.
    pub fn abort_handover(&self) {
        let opened = {
            let mut places = self.places().borrow_mut();
            places.handover = None;
            let is_new = |place: &mut Place| place.standing == Standing::New;
            let opened: Vec<Place> = places.places.extract_if(.., is_new).collect();
            for place in &mut places.places {
                place.standing = Standing::Old;
            }
            opened
        };
        opened.iter().for_each(|place| place.socket.close());
        self.withdraw_offers();
    }

    /// A socket was opened for `address`.
    pub(super) fn note(&self, address: &Address, socket: Socket) {
        let mut places = self.places().borrow_mut();
        places.forget_closed();
        places.made += 1;
        let standing = match places.handover {
            Some(_) => Standing::New,
            None => Standing::Old,
        };
        let place = Place {
            id: places.made,
            owner: Rc::clone(self.owner()),
            address: address.clone(),
            socket,
            standing,
        };
        places.places.push(place);
        drop(places);
        if standing == Standing::Old {
            self.store_open();
        }
    }

    /// The listeners for `address` that stay open and are promised to this owner: each with the
    /// number by which [`Network::keep`] says what is to be done.
    pub(super) fn promised_listeners(&self, address: &Address) -> Vec<(u64, Rc<Acceptor>)> {
        let mut places = self.places().borrow_mut();
        let promised = places.promise(self.owner(), address, Carries::Streams);
        let listener = |(id, socket): (u64, &Socket)| match socket {
            Socket::Listener(acceptor) => Some((id, acceptor.upgrade()?)),
            Socket::Datagrams(_) => None,
        };
        promised.into_iter().filter_map(listener).collect()
    }

    /// As [`Network::promised_listeners`], of datagram sockets.
    pub(super) fn promised_datagrams(&self, address: &Address) -> Vec<(u64, Rc<Post>)> {
        let mut places = self.places().borrow_mut();
        let promised = places.promise(self.owner(), address, Carries::Datagrams);
        let post = |(id, socket): (u64, &Socket)| match socket {
            Socket::Datagrams(post) => Some((id, post.upgrade()?)),
            Socket::Listener(_) => None,
        };
        promised.into_iter().filter_map(post).collect()
    }

    /// At the commit, `keep` exchanges what stands behind the place.
    pub(super) fn keep(&self, place: u64, keep: impl FnOnce() + 'static) {
        let mut places = self.places().borrow_mut();
        let owner = Rc::clone(self.owner());
        if let Some(handover) = &mut places.handover {
            let keep = Box::new(keep);
            handover.promises.push(Promise { place, owner, keep });
        }
    }
}
