//! What sources share that listen: sockets, connections, and how they stop. Not a component.
//!
//! One source serves every transport: TCP and Unix streams are framed, each datagram is an
//! event of its own. A connection whose sinks are full, or whose window is used up, is not read
//! until they have room; what the kernel holds for it then stops its sender. At a stop what has
//! arrived by then is still taken, then the connection is closed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use crate::deferred::{Deferred, Failure, Promise, join_all};
use crate::pipeline::addresses;
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Claims, Kind, Opt};
use crate::pipeline::facts::Facts;
use crate::pipeline::intake::Outlet;
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::tls as pipeline_tls;
use crate::protocol::Framing;
use crate::telemetry::events::{ConnectionOpened, ConnectionRefused, ReceiveBuffer};
use crate::time::{Cancel, Duration};
use crate::transport::tls::{ServerSpec, ServerTls};
use crate::transport::{
    Accept, Address, BindOptions, Carries, CloseReason, Connection, ConnectionId,
    ConnectionOptions, DatagramOptions, DatagramSocket, Datagrams, Endpoint, Limits, ListenOptions,
    Listener, Network, Peer, Protocol, Refusal,
};

use super::datagrams::DatagramInput;
use super::framed::{FramedInput, InputShared};
use super::reading::Reads;

/// The option `listen`.
pub const LISTEN: Opt = Opt::new(
    "listen",
    "where to listen: tcp://, tls://, udp://, unix://, unixgram:// or systemd:NAME",
    addresses::LISTEN,
)
.required()
.claims(Claims::Listener);

/// The option `framing`.
pub const FRAMING: Opt = Opt::new(
    "framing",
    "how a stream is cut into events; \"auto\" tells octet counting and lines apart for \
     each, and takes a datagram as one event",
    Kind::Word(&[
        "auto",
        "lines",
        "nul",
        "octet_counted",
        "length_u32",
        "netstring",
        "datagram",
    ]),
)
.default("\"auto\"");

/// The option `receive_buffer`.
pub const RECEIVE_BUFFER: Opt = Opt::new(
    "receive_buffer",
    "what the kernel is asked to hold for each UDP socket while the daemon is busy, in \
     bytes; the start says where it grants less (sysctl net.core.rmem_max)",
    Kind::Size {
        min: 4 << 10,
        max: 1 << 30,
        words: &[],
    },
)
.default("\"8MiB\"");

/// Where a source listens, and how: what it was configured to.
pub struct Listening {
    addresses: Vec<Address>,
    /// How streams are cut.
    framing: Framing,
    /// The longest frame, in bytes.
    max_message: usize,
    receive_buffer_bytes: usize,
    connection: ConnectionOptions,
    limits: Rc<Limits>,
    tls: Option<ServerSpec>,
}

/// What listens.
struct Receiver {
    tls: Option<Rc<ServerTls>>,
    shared: Rc<Shared>,
    /// Each with the scheme of its address.
    listeners: Vec<(&'static str, Listener)>,
    datagrams: Vec<DatagramSocket>,
}

impl Listening {
    /// By the options [`LISTEN`], [`FRAMING`], [`RECEIVE_BUFFER`], `max_message` and those of
    /// components that accept connections.
    ///
    /// # Errors
    /// An address is none.
    pub fn of(options: &Options) -> Result<Listening, Mistake> {
        let addresses = options.texts("listen");
        let addresses = addresses.into_iter().map(addresses::parse);
        let addresses: Vec<Address> = addresses
            .collect::<Result<_, _>>()
            .map_err(|e| e.of("listen"))?;
        let framing = options.word("framing");
        let per_peer = options.maybe_count("max_connections_per_peer");
        Ok(Listening {
            tls: pipeline_tls::listening(options, &addresses, false)?,
            addresses,
            framing: framing.parse().unwrap_or(Framing::Auto),
            max_message: options.size("max_message") as usize,
            receive_buffer_bytes: options.size("receive_buffer") as usize,
            connection: ConnectionOptions {
                idle_timeout: options.maybe_duration("idle_timeout"),
                keepalive: options.maybe_duration("keepalive"),
                ..ConnectionOptions::default()
            },
            limits: Limits::new(
                options.count("max_connections") as usize,
                per_peer.map(|max| max as usize),
            ),
        })
    }

    /// The source that listens so, with its frames read by `reads`, if by anybody.
    pub fn source(self, reads: Option<Box<dyn Reads>>) -> Box<dyn Source> {
        Box::new(ListeningSource {
            listening: self,
            reads,
            receiver: None,
        })
    }

    /// Listens; the frames go to `input`. Answers what it listens to, a line each.
    ///
    /// # Errors
    /// An address cannot be bound; then none is.
    fn start(
        &self,
        input: Rc<InputShared>,
        network: &Network,
    ) -> Result<(Receiver, Vec<String>), Failure> {
        let shared = Rc::new(Shared {
            component: format!("source.{}", input.outlet().name()),
            input,
            connections: RefCell::default(),
            handshakes: Cell::new(0),
            emptied: RefCell::default(),
            patience: RefCell::default(),
            is_stopping: Cell::new(false),
            is_over: Cell::new(false),
        });
        let tls = self.tls.clone();
        let mut receiver = Receiver {
            tls: tls.map(|spec| ServerTls::new(network.tls(), spec)),
            shared,
            listeners: Vec::new(),
            datagrams: Vec::new(),
        };
        let mut about = Vec::new();
        for address in &self.addresses {
            match self.bind(network, address, &mut receiver) {
                Ok(lines) => about.extend(lines),
                Err(failure) => {
                    receiver.close_sockets();
                    return Err(failure);
                }
            }
        }
        Ok((receiver, about))
    }

    /// Binds one address; an inherited name may stand for listeners and datagram sockets.
    fn bind(
        &self,
        network: &Network,
        address: &Address,
        receiver: &mut Receiver,
    ) -> Result<Vec<String>, Failure> {
        let mut about = Vec::new();
        let of_kind = |what| match address {
            Address::Systemd(name) => network.has_inherited(name, what),
            _ => (address.is_datagram() == Some(true)) == (what == Carries::Datagrams),
        };
        if of_kind(Carries::Datagrams) {
            let options = DatagramOptions {
                bind: BindOptions {
                    receive_buffer_bytes: Some(self.receive_buffer_bytes),
                    ..BindOptions::default()
                },
                ..DatagramOptions::default()
            };
            let shared = Rc::clone(&receiver.shared.input);
            let inputs = || DatagramInput::new(&shared) as Box<dyn Datagrams>;
            for socket in network.bind_datagrams(address, &options, inputs)? {
                about.push(line(address, socket.local_address()));
                about.extend(hint(socket.local_address(), "-d"));
                self.say_what_was_granted(&receiver.shared.component, &socket);
                receiver.shared.input.losses().watch(&socket);
                receiver.datagrams.push(socket);
            }
        }
        // An inherited name that nobody handed over is refused here, with what there is.
        if of_kind(Carries::Streams) || about.is_empty() {
            let options = ListenOptions {
                bind: BindOptions::default(),
                connection: self.connection.clone(),
                limits: Some(Rc::clone(&self.limits)),
                tls: receiver.tls.clone(),
            };
            receiver.shared.input.losses().limited_by(&self.limits);
            let accept = Rc::new(Door(Rc::clone(&receiver.shared)));
            for listener in network.listen(address, options, accept)? {
                about.push(line(address, listener.local_address()));
                if !matches!(address, Address::Tls { .. }) {
                    about.extend(hint(listener.local_address(), "-T"));
                }
                receiver.listeners.push((address.scheme(), listener));
            }
        }
        Ok(about)
    }

    /// Only of sockets whose buffer is the kernel's to limit: a Unix socket has none.
    fn say_what_was_granted(&self, component: &str, socket: &DatagramSocket) {
        if let Some(granted_bytes) = socket.receive_buffer_bytes() {
            let record = ReceiveBuffer {
                component,
                address: socket.local_address(),
                asked_bytes: self.receive_buffer_bytes as u64,
                granted_bytes: granted_bytes as u64,
            };
            record.log();
        }
    }
}

/// A source that listens. How it has its frames read is all that tells one from another.
struct ListeningSource {
    listening: Listening,
    /// Until the start.
    reads: Option<Box<dyn Reads>>,
    receiver: Option<Receiver>,
}

impl Source for ListeningSource {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let (framing, max_message) = (self.listening.framing, self.listening.max_message);
        let input = InputShared::new(outlet, framing, max_message, self.reads.take());
        let network = resources.get::<Network>();
        let (receiver, about) = self.listening.start(input, network)?;
        self.receiver = Some(receiver);
        Ok(about)
    }

    fn is_single(&self) -> bool {
        false
    }

    fn stop(&mut self) -> Deferred<()> {
        let stopped = self.receiver.as_ref().map(Receiver::stop);
        stopped.unwrap_or_else(|| Deferred::ready(()))
    }

    fn log_counts(&self) {
        self.receiver.iter().for_each(Receiver::log_counts);
    }

    fn facts(&self) -> Facts {
        let facts = self.receiver.as_ref().map(Receiver::facts);
        facts.unwrap_or_default()
    }

    fn peers(&self, most: usize) -> Vec<String> {
        let peers = self.receiver.as_ref().map(|it| it.peers(most));
        peers.unwrap_or_default()
    }

    fn close(&mut self) {
        self.receiver.iter().for_each(Receiver::close);
    }
}

/// Where a socket is really bound, as an address one can copy.
fn line(address: &Address, local: &Endpoint) -> String {
    format!("listening on {}://{local}", address.scheme())
}

/// How to see that it works, where one can see it from here; `transport` is logger's option.
fn hint(local: &Endpoint, transport: &str) -> Option<String> {
    let address = local.from_here()?;
    let (ip, port) = (address.ip(), address.port());
    Some(format!(
        "try it: logger -n {ip} -P {port} {transport} hello"
    ))
}

/// Where a socket is bound, as an address, by the scheme of its family.
fn place(local: &Endpoint, ip: &str, unix: &str) -> String {
    let scheme = if local.is_ip() { ip } else { unix };
    format!("{scheme}://{local}")
}

impl Receiver {
    /// Writes the counts so far into the log.
    pub fn log_counts(&self) {
        self.shared.input.log_counts();
    }

    /// The counts so far and where it listens, for `marline status`.
    pub fn facts(&self) -> Facts {
        let mut facts = self.shared.input.facts();
        let listeners = self.listeners.iter();
        let listeners = listeners.map(|(scheme, listener)| {
            let ip = if *scheme == "tls" { "tls" } else { "tcp" };
            place(listener.local_address(), ip, "unix")
        });
        let datagrams = self.datagrams.iter().map(DatagramSocket::local_address);
        facts.certificates = self
            .tls
            .as_ref()
            .map_or_else(Vec::new, |tls| tls.certificates());
        facts.places = listeners
            .chain(datagrams.map(|at| place(at, "udp", "unixgram")))
            .collect();
        facts
    }

    /// The peers of at most `most` open connections, as addresses.
    pub fn peers(&self, most: usize) -> Vec<String> {
        let open = self.shared.connections.borrow();
        let peers = open
            .values()
            .map(|connection| connection.peer().to_string());
        peers.take(most).collect()
    }

    /// Closes everything, whatever is still on its way.
    pub fn close(&self) {
        self.close_sockets();
        self.shared.is_over.set(true);
        self.shared.each_connection(Connection::abort);
        self.shared.look_if_empty();
    }

    fn close_sockets(&self) {
        self.listeners
            .iter()
            .for_each(|(_, listener)| drop(listener.stop()));
        self.datagrams.iter().for_each(DatagramSocket::close);
    }

    /// What has arrived is taken, then everything is closed. Fires when it is.
    pub fn stop(&self) -> Deferred<()> {
        self.shared.input.losses().stop();
        self.shared.is_stopping.set(true);
        let listeners = self.listeners.iter();
        let stopped: Vec<_> = listeners.map(|(_, listener)| listener.stop()).collect();
        self.datagrams.iter().for_each(DatagramSocket::drain);
        let shared = Rc::clone(&self.shared);
        join_all(stopped).add_both(move |_| shared.drain_connections())
    }
}

/// What the listeners and connections of a source share.
struct Shared {
    component: String,
    input: Rc<InputShared>,
    /// In the order of their coming, so that a drain takes them in an order, too.
    connections: RefCell<BTreeMap<ConnectionId, Connection>>,
    /// Connections that were let in and do not stand yet: there is TLS to be agreed on.
    handshakes: Cell<usize>,
    /// Fired when the last connection has gone.
    emptied: RefCell<Option<Promise<()>>>,
    /// Ends the wait for handshakes.
    patience: RefCell<Option<Box<dyn Cancel>>>,
    /// What stands is drained, and what comes to stand.
    is_stopping: Cell<bool>,
    /// What comes to stand now comes too late.
    is_over: Cell<bool>,
}

impl Shared {
    fn each_connection(&self, call: impl Fn(&Connection)) {
        let open: Vec<_> = self.connections.borrow().values().cloned().collect();
        open.iter().for_each(call);
    }

    /// A client may send right behind its last word of the handshake, which for it is complete:
    /// what has arrived so is taken, too. Handshakes are waited for as long as anything else.
    fn drain_connections(self: &Rc<Self>) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        *self.emptied.borrow_mut() = Some(promise);
        self.each_connection(|connection| connection.drain(DRAIN_LIMIT));
        if self.handshakes.get() > 0 {
            let shared = Rc::downgrade(self);
            let give_up = move || {
                if let Some(shared) = shared.upgrade() {
                    shared.is_over.set(true);
                    shared.look_if_empty();
                }
            };
            let scheduler = self.input.outlet().scheduler();
            let timer = scheduler.call_after(DRAIN_LIMIT, Box::new(give_up));
            *self.patience.borrow_mut() = Some(timer);
        }
        self.look_if_empty();
        deferred
    }

    fn forget(&self, connection: ConnectionId) {
        self.connections.borrow_mut().remove(&connection);
        self.look_if_empty();
    }

    fn look_if_empty(&self) {
        let waits = self.handshakes.get() > 0 && !self.is_over.get();
        if waits || !self.connections.borrow().is_empty() {
            return;
        }
        let promise = self.emptied.borrow_mut().take();
        if let Some(promise) = promise {
            self.is_over.set(true);
            let timer = self.patience.borrow_mut().take();
            if let Some(timer) = timer {
                timer.cancel();
            }
            promise.callback(());
        }
    }
}

/// A connection that does not stand yet, counted.
struct Handshake(Rc<Shared>);

impl Handshake {
    fn of(shared: &Rc<Shared>) -> Handshake {
        shared.handshakes.set(shared.handshakes.get() + 1);
        Handshake(Rc::clone(shared))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshakes.set(self.0.handshakes.get() - 1);
        self.0.look_if_empty();
    }
}

/// How long a sender that never pauses is read on after a stop was asked for.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// Lets connections in: what the listeners share.
struct Door(Rc<Shared>);

impl Accept for Door {
    fn accepted(&self, peer: &Peer) -> Option<Box<dyn Protocol>> {
        let component = &self.0.component;
        ConnectionOpened { component, peer }.log();
        Some(Box::new(Lines {
            shared: Rc::clone(&self.0),
            input: self.0.input.input(&peer.to_string()),
            standing: Standing::Awaited(Handshake::of(&self.0)),
        }))
    }

    fn refused(&self, peer: &Peer, why: Refusal) -> Option<Box<dyn Protocol>> {
        let reason = why.option();
        self.0.input.may_have_lost();
        let component = &self.0.component;
        ConnectionRefused {
            component,
            peer,
            reason,
        }
        .log();
        None
    }
}

/// One connection.
struct Lines {
    shared: Rc<Shared>,
    input: FramedInput,
    standing: Standing,
}

// What a connection costs that does nothing: see docs/PERFORMANCE.md.
const _: () = assert!(size_of::<Lines>() <= 104, "a connection has grown");

/// How far a connection has come.
enum Standing {
    /// It does not stand yet.
    Awaited(Handshake),
    /// It is among those of the source.
    Open(ConnectionId),
    /// It came to stand when it was too late.
    Refused,
}

impl Protocol for Lines {
    fn connected(&mut self, connection: &Connection) -> Result<(), Failure> {
        let handshake = match std::mem::replace(&mut self.standing, Standing::Refused) {
            Standing::Awaited(handshake) => Some(handshake),
            Standing::Open(_) | Standing::Refused => None,
        };
        if self.shared.is_over.get() {
            // Its handshake took until after the stop: nothing of it was taken.
            connection.close();
            return Ok(());
        }
        self.standing = Standing::Open(connection.id());
        let mut open = self.shared.connections.borrow_mut();
        open.insert(connection.id(), connection.clone());
        drop(open);
        if self.shared.is_stopping.get() {
            connection.drain(DRAIN_LIMIT);
        }
        drop(handshake);
        Ok(())
    }

    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        self.input.receive(connection, bytes)
    }

    fn eof(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.input.end(connection);
        Ok(())
    }

    fn closed(mut self: Box<Self>, reason: &CloseReason) {
        self.input.close(reason);
        if let Standing::Open(id) = self.standing {
            self.shared.forget(id);
        }
        reason.log_of_accepted(&self.shared.component, &self.input.peer());
    }
}
