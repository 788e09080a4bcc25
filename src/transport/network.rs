//! The network as components use it: everything of this room goes through a [`Network`].
//!
//! One per reactor, cheap to clone. It holds what connections share: the reactor, the [`Net`]
//! behind the seam, the read chunks, the resolver, and the sockets that systemd handed over.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::address::Address;
use super::adopt::{Carries, Inherited};
use super::chunk::{ChunkPool, Meter};
use super::client::{Client, ClientOptions, Dialler};
use super::connection::{Connection, ConnectionId, Peer, Protocol};
use super::connector::{self, ConnectOptions};
use super::datagram::{self, DatagramOptions, DatagramSocket, Datagrams};
use super::handover::Places;
use super::listener::{self, Accept, ListenError, ListenOptions, Listener};
use super::net::{Endpoint, Net, SocketId};
use super::resolver::Resolver;
use super::siblings::Siblings;
use super::store::{FdStore, Store};
use super::stream::{Setting, Stream, StreamParts};
use super::tls;
use crate::deferred::Deferred;
use crate::reactor::Handle;

/// Listens, dials, resolves.
#[derive(Clone)]
pub struct Network {
    inner: Rc<Inner>,
    /// Whose the sockets are that are opened through this handle.
    owner: Rc<str>,
    /// Whether each of the siblings opens them.
    is_shared: bool,
}

struct Inner {
    reactor: Handle,
    net: Rc<dyn Net>,
    chunks: ChunkPool,
    inbox: Cell<Vec<u8>>,
    resolver: Resolver,
    inherited: RefCell<Inherited>,
    places: RefCell<Places>,
    store: RefCell<Store>,
    siblings: Option<Siblings>,
    tls: Rc<tls::Store>,
    connections: Cell<u64>,
    seed: Cell<u64>,
}

/// What a network is made of, beside the reactor and the seam.
#[derive(Default)]
pub struct NetworkOptions {
    /// Counts what received bytes occupy.
    pub meter: Option<Arc<dyn Meter>>,
    /// Where jitter starts from.
    pub seed: u64,
    /// Sockets that were handed over at start.
    pub inherited: Inherited,
    /// Keeps sockets while the process is down.
    pub store: FdStore,
    /// Which one it is of the networks of this process, where there are several.
    pub siblings: Option<Siblings>,
}

impl Network {
    /// A network of `reactor` over `net`.
    pub fn new(reactor: &Handle, net: Rc<dyn Net>, mut options: NetworkOptions) -> Self {
        let returned = options.inherited.take_stored();
        Network {
            inner: Rc::new(Inner {
                reactor: reactor.clone(),
                resolver: Resolver::new(reactor.clone(), net.lookup()),
                net,
                chunks: ChunkPool::new(options.meter),
                inbox: Cell::default(),
                inherited: RefCell::new(options.inherited),
                connections: Cell::new(0),
                seed: Cell::new(options.seed),
                places: RefCell::default(),
                store: RefCell::new(Store::new(options.store, returned)),
                siblings: options.siblings,
                tls: Rc::default(),
            }),
            owner: "".into(),
            is_shared: false,
        }
    }

    /// The same network, for `owner`: whose sockets are its own is what a handover goes by.
    pub fn owned_by(&self, owner: &str) -> Network {
        Network {
            inner: Rc::clone(&self.inner),
            owner: owner.into(),
            is_shared: false,
        }
    }

    /// As [`Network::owned_by`], for what is there once for each sibling: they share the places
    /// where it listens, and the limits of its connections.
    pub fn shared_by(&self, owner: &str) -> Network {
        Network {
            is_shared: true,
            ..self.owned_by(owner)
        }
    }

    /// Which sibling this is, where places are shared.
    pub(super) fn siblings(&self) -> Option<&Siblings> {
        self.inner.siblings.as_ref().filter(|_| self.is_shared)
    }

    /// What the siblings have not taken of what was bound for them is closed.
    pub(super) fn withdraw_offers(&self) {
        if let Some(siblings) = self.inner.siblings.as_ref().filter(|it| it.is_first()) {
            siblings.withdraw_offers();
        }
    }

    /// The siblings, where `address` can be bound once for all of them.
    pub(super) fn siblings_at(&self, address: &Address) -> Option<&Siblings> {
        let is_ip = address.host_port().is_some();
        self.siblings().filter(|_| !is_ip)
    }

    pub(super) fn owner(&self) -> &Rc<str> {
        &self.owner
    }

    pub(super) fn places(&self) -> &RefCell<Places> {
        &self.inner.places
    }

    pub(super) fn store(&self) -> &RefCell<Store> {
        &self.inner.store
    }

    /// Listens for streams at `address`: one listener, or as many as systemd handed over under
    /// that name. Bound when this returns; the first connection comes in a later turn.
    pub fn listen(
        &self,
        address: &Address,
        options: ListenOptions,
        accept: Rc<dyn Accept>,
    ) -> Result<Vec<Listener>, ListenError> {
        listener::listen(self, address, options, accept)
    }

    /// Connects a stream to `address`, over all addresses its name has. Fires in a later turn:
    /// with the connection, whose protocol has been told first, or with a
    /// [`ConnectError`](super::ConnectError) that lists every attempt; the protocol is then
    /// dropped untold. Cancelling gives the attempts up.
    pub fn connect(
        &self,
        address: &Address,
        options: ConnectOptions,
        protocol: Box<dyn Protocol>,
    ) -> Deferred<Connection> {
        connector::connect(self, address, options, protocol)
    }

    /// Binds datagram sockets at `address`; `make` gives each its protocol.
    pub fn bind_datagrams(
        &self,
        address: &Address,
        options: &DatagramOptions,
        make: impl FnMut() -> Box<dyn Datagrams>,
    ) -> Result<Vec<DatagramSocket>, ListenError> {
        datagram::bind(self, address, options, make)
    }

    /// A datagram socket that sends to `address`, the first that its name has, and hears from
    /// there only.
    pub fn dial_datagrams(
        &self,
        address: &Address,
        options: DatagramOptions,
        datagrams: Box<dyn Datagrams>,
    ) -> Deferred<DatagramSocket> {
        datagram::dial(self, address, options, datagrams)
    }

    /// Reads a byte stream that was opened by somebody else: a pipe, a terminal. There is
    /// nobody to write to at its other end. The protocol is told before this returns.
    ///
    /// # Errors
    /// It cannot be waited for, or no descriptor is left; the protocol is dropped untold.
    pub fn adopt_stream(
        &self,
        stream: OwnedFd,
        protocol: Box<dyn Protocol>,
    ) -> io::Result<Connection> {
        let socket = self.net().adopt_stream(stream)?;
        let setting = Rc::new(Setting {
            network: self.clone(),
            options: Rc::default(),
        });
        Stream::open(StreamParts {
            setting,
            socket,
            peer: Peer::new(Endpoint::Unnamed),
            protocol,
            permit: None,
            secure: None,
            is_accepted: false,
        })
    }

    /// A connection that is made again whenever it is lost; not started yet.
    pub fn client(&self, options: ClientOptions, dialler: Rc<dyn Dialler>) -> Client {
        Client::new(self.clone(), options, dialler)
    }

    /// The certificates, keys and authorities of all TLS sessions here.
    pub fn tls(&self) -> &Rc<tls::Store> {
        &self.inner.tls
    }

    /// The reactor that everything here runs on.
    pub fn reactor(&self) -> &Handle {
        &self.inner.reactor
    }

    /// Looks names up.
    pub fn resolver(&self) -> &Resolver {
        &self.inner.resolver
    }

    /// Slots that datagrams are received into; whoever takes them gives them back.
    pub(super) fn inbox(&self) -> &Cell<Vec<u8>> {
        &self.inner.inbox
    }

    /// The pool that sockets are read into.
    pub fn chunks(&self) -> &ChunkPool {
        &self.inner.chunks
    }

    pub(super) fn net(&self) -> &dyn Net {
        &*self.inner.net
    }

    /// Whether a socket that carries `what` was handed over under `name`.
    pub fn has_inherited(&self, name: &str, what: Carries) -> bool {
        self.inner.inherited.borrow().has(name, what)
    }

    /// The sockets of one kind that were handed over under `name`. They are duplicates: a source
    /// that goes and comes back finds its sockets again.
    pub(super) fn take_inherited(
        &self,
        name: &str,
        what: Carries,
    ) -> io::Result<Vec<(SocketId, super::SocketKind)>> {
        let sockets = self.inner.inherited.borrow().lend(name, what)?;
        sockets
            .into_iter()
            .map(|socket| self.net().adopt(socket))
            .collect()
    }

    /// The names of the sockets that were handed over.
    pub fn unit_sockets(&self) -> Vec<String> {
        self.inner.inherited.borrow().names()
    }

    pub(super) fn next_connection_id(&self) -> ConnectionId {
        let id = self.inner.connections.get() + 1;
        self.inner.connections.set(id);
        ConnectionId(id)
    }

    /// A seed nobody else was given.
    pub fn next_seed(&self) -> u64 {
        let seed = self.inner.seed.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.inner.seed.set(seed);
        seed
    }
}
