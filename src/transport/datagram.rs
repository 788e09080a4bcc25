//! Datagrams over UDP and Unix sockets: received in budgets, sent or dropped, never queued.
//!
//! Datagrams are received many at a time, into slots that the sockets of a network share, moved
//! together in one chunk, and handed out as slices of it, one call each, with the sender's
//! address; a call of `turn_ends` follows the last one. One that is longer
//! than `max_bytes` is cut and marked, a zero-length one is delivered. Unlike with streams a
//! failing handler is logged and the next datagram is delivered: no datagram is to blame for
//! another. A send that would block is dropped and reported. What the network says about
//! former sends (ICMP refused) is told to `refused`, and the socket goes on.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;

use super::address::Address;
use super::adopt::Carries;
use super::chunk::{CHUNK_BYTES, Chunk};
use super::connection::{CloseReason, Peer};
use super::handover::Socket;
use super::listener::{self, ListenError};
use super::net::{BindOptions, Endpoint, Net, Received, SocketId, SocketOption};
use super::network::Network;
use crate::deferred::{Deferred, Failure};
use crate::reactor::{Handle, Handler, Progress, Token};
use crate::time::Instant;

/// What lives on a datagram socket.
pub trait Datagrams {
    /// A datagram came. A failure is logged and counts for this one only.
    fn received(&mut self, socket: &DatagramSocket, datagram: Datagram) -> Result<(), Failure>;

    /// The datagrams of this turn were delivered; called only after at least one.
    fn turn_ends(&mut self, _socket: &DatagramSocket) {}

    /// The network reports that something sent earlier did not arrive.
    fn refused(&mut self, _socket: &DatagramSocket, _error: &io::Error) {}

    /// The socket is gone. Called once, last.
    fn closed(self: Box<Self>, reason: &CloseReason);
}

/// One datagram.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Its content, at most `max_bytes` of it.
    pub bytes: Bytes,
    /// Who sent it.
    pub from: Peer,
    /// It was longer than `max_bytes`.
    pub truncated: bool,
}

/// How to receive datagrams.
#[derive(Clone, Debug)]
pub struct DatagramOptions {
    /// Of the socket.
    pub bind: BindOptions,
    /// Longer datagrams are cut; at most [`DATAGRAM_BYTES_MAX`].
    pub max_bytes: usize,
}

impl Default for DatagramOptions {
    fn default() -> Self {
        DatagramOptions {
            bind: BindOptions::default(),
            max_bytes: DATAGRAM_BYTES_MAX,
        }
    }
}

/// A datagram socket. Dropping it changes nothing; `close` ends it. One whose socket was taken
/// over by somebody else does nothing any more.
#[derive(Clone)]
pub struct DatagramSocket {
    post: Rc<Post>,
    lease: u64,
}

impl DatagramSocket {
    /// Sends to `to`, or to the dialled peer. Nothing is queued: `WouldBlock` says that the
    /// datagram was dropped, which is counted; other errors are of this datagram or of a
    /// former one.
    pub fn send(&self, payload: &[u8], to: Option<&Peer>) -> io::Result<()> {
        let post = &self.post;
        if post.token.get().is_none() || !self.is_served() {
            return Err(ErrorKind::NotConnected.into());
        }
        let sent = post
            .network
            .net()
            .send(post.socket, payload, to.map(Peer::endpoint));
        if sent.is_err() {
            post.dropped.set(post.dropped.get() + 1);
        }
        sent
    }

    /// Datagrams that were not sent.
    pub fn dropped_count(&self) -> u64 {
        self.post.dropped.get()
    }

    /// Datagrams that the kernel had no room for since the socket was ours; `None` where it does
    /// not tell. Asks the kernel, while the socket is open.
    pub fn kernel_drops(&self) -> Option<u64> {
        if !self.is_served() {
            return None;
        }
        self.post.look_at_drops();
        self.post.drops.get().map(|drops| drops.total)
    }

    /// What the kernel holds for the socket at most, in bytes; `None` where that is not what
    /// limits it (a Unix socket's sender is made to wait).
    pub fn receive_buffer_bytes(&self) -> Option<usize> {
        self.post.receive_buffer_bytes.get()
    }

    /// Receives nothing more until `resume`; the kernel's buffer fills, then it drops.
    pub fn pause(&self) {
        if !self.is_served() {
            return;
        }
        self.post.paused.set(true);
        self.interest(Handle::remove_reader);
    }

    /// Receives on.
    pub fn resume(&self) {
        if self.is_served() {
            self.post.resume();
        }
    }

    /// Whether the socket is still this owner's.
    fn is_served(&self) -> bool {
        self.post.lease.get() == self.lease
    }

    /// Closes the socket; `closed` is called later in the turn.
    pub fn close(&self) {
        if self.is_served() {
            self.post.close();
        }
    }

    /// Receives what has arrived by now, then closes.
    pub fn drain(&self) {
        if !self.is_served() {
            return;
        }
        self.post.draining.set(true);
        if let Some(token) = self.post.token.get() {
            self.post.network.reactor().look_again(token);
        }
    }

    /// Where it is bound; the port is the real one.
    pub fn local_address(&self) -> &Endpoint {
        &self.post.local
    }

    fn interest(&self, change: fn(&Handle, Token)) {
        if let Some(token) = self.post.token.get() {
            change(self.post.network.reactor(), token);
        }
    }
}

impl fmt::Debug for DatagramSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatagramSocket({})", self.local_address())
    }
}

/// Binds the sockets that `address` means; all of them or none.
pub(super) fn bind(
    network: &Network,
    address: &Address,
    options: &DatagramOptions,
    mut make: impl FnMut() -> Box<dyn Datagrams>,
) -> Result<Vec<DatagramSocket>, ListenError> {
    let error = |cause| ListenError::new(address, cause);
    if network
        .siblings_at(address)
        .is_some_and(|it| !it.is_first())
    {
        return Ok(Vec::new());
    }
    let promised = network.promised_datagrams(address);
    if !promised.is_empty() {
        let mut keep = |(place, post)| Post::promise(network, place, &post, options, make());
        return Ok(promised.into_iter().map(&mut keep).collect());
    }
    let ids = match address {
        Address::Systemd(name) => inherited(network, name),
        _ => open(network, address, &options.bind),
    };
    let ids = ids.map_err(error)?;
    let sockets: io::Result<Vec<DatagramSocket>> = ids
        .iter()
        .map(|id| Post::start(network, *id, options, make()))
        .collect();
    let sockets = sockets.map_err(|cause| {
        ids.iter().for_each(|id| network.close_bound(*id));
        error(cause)
    })?;
    for socket in &sockets {
        let post = Rc::downgrade(&socket.post);
        network.note(address, Socket::Datagrams(post));
    }
    Ok(sockets)
}

fn open(network: &Network, address: &Address, options: &BindOptions) -> io::Result<Vec<SocketId>> {
    if address.is_datagram() == Some(false) {
        let text = "a byte stream carries no datagrams";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    let endpoints = listener::endpoints(address)?;
    endpoints
        .iter()
        .map(|at| network.open(at, Carries::Datagrams, options))
        .collect()
}

fn inherited(network: &Network, name: &str) -> io::Result<Vec<SocketId>> {
    let sockets = network.take_inherited(name, Carries::Datagrams)?;
    if sockets.is_empty() {
        return Err(listener::nothing_inherited(network, name));
    }
    Ok(sockets.into_iter().map(|(id, _)| id).collect())
}

/// A socket that speaks with one peer.
pub(super) fn dial(
    network: &Network,
    address: &Address,
    options: DatagramOptions,
    datagrams: Box<dyn Datagrams>,
) -> Deferred<DatagramSocket> {
    let open = |network: &Network, to: &Endpoint, options: &DatagramOptions, datagrams| {
        let started = network
            .net()
            .dial(to)
            .and_then(|id| Post::start(network, id, options, datagrams));
        started.map_err(|error| Failure::new(error).context(format!("cannot dial {to}")))
    };
    if let Some(path) = address.path() {
        let to = Endpoint::of_path(path);
        return Deferred::from_result(open(network, &to, &options, datagrams));
    }
    let Some((host, port)) = address.host_port() else {
        return Deferred::failed(Failure::msg(format!("{address} cannot be dialled")));
    };
    let network = network.clone();
    network
        .resolver()
        .resolve(host)
        .add_callback(move |addresses| {
            let first = addresses
                .first()
                .ok_or_else(|| Failure::msg("no address"))?;
            let to = Endpoint::Ip(SocketAddr::new(*first, port));
            open(&network, &to, &options, datagrams)
        })
}

/// One open datagram socket, whoever it serves.
pub(super) struct Post {
    network: Network,
    socket: SocketId,
    local: Endpoint,
    /// Which [`DatagramSocket`] it serves, and the number of the last one that was made.
    lease: Cell<u64>,
    leases: Cell<u64>,
    max_bytes: Cell<usize>,
    /// How many datagrams the next call makes room for.
    expected: Cell<usize>,
    /// `None` once it is closed.
    token: Cell<Option<Token>>,
    paused: Cell<bool>,
    draining: Cell<bool>,
    dropped: Cell<u64>,
    /// `None` where the kernel does not tell.
    drops: Cell<Option<Drops>>,
    receive_buffer_bytes: Cell<Option<usize>>,
    /// Absent while it runs, and after the end.
    datagrams: RefCell<Option<Box<dyn Datagrams>>>,
    complaint_after: Cell<Instant>,
    complaints_left_out: Cell<u64>,
}

/// The kernel's drops at one socket: its counter has 32 bits, and may have begun before us.
#[derive(Clone, Copy)]
struct Drops {
    last: u32,
    total: u64,
}

impl Drops {
    fn seen(self, now: u32) -> Drops {
        Drops {
            last: now,
            total: self.total + u64::from(now.wrapping_sub(self.last)),
        }
    }
}

impl Post {
    fn start(
        network: &Network,
        socket: SocketId,
        options: &DatagramOptions,
        datagrams: Box<dyn Datagrams>,
    ) -> io::Result<DatagramSocket> {
        let net = network.net();
        let local = net.local(socket)?;
        let receive_buffer_bytes = grow_receive_buffer(net, socket, &local, &options.bind)?;
        let drops = net.drops(socket).ok().filter(|_| local.is_ip());
        let post = Rc::new(Post {
            network: network.clone(),
            socket,
            local,
            lease: Cell::new(0),
            leases: Cell::new(0),
            max_bytes: Cell::new(options.max_bytes.clamp(1, DATAGRAM_BYTES_MAX)),
            expected: Cell::new(SLOTS_MIN),
            token: Cell::new(None),
            paused: Cell::new(false),
            draining: Cell::new(false),
            dropped: Cell::new(0),
            drops: Cell::new(drops.map(|last| Drops { last, total: 0 })),
            receive_buffer_bytes: Cell::new(receive_buffer_bytes),
            datagrams: RefCell::new(Some(datagrams)),
            complaint_after: Cell::new(Instant::ZERO),
            complaints_left_out: Cell::new(0),
        });
        let pollable = network.net().pollable(socket)?;
        let handler = Box::new(PostHandler(Rc::clone(&post)));
        let token = network.reactor().register(pollable, handler)?;
        post.token.set(Some(token));
        network.reactor().add_reader(token);
        Ok(DatagramSocket { post, lease: 0 })
    }

    /// A socket that is to be served from the commit of the handover on.
    fn promise(
        network: &Network,
        place: u64,
        post: &Rc<Post>,
        options: &DatagramOptions,
        datagrams: Box<dyn Datagrams>,
    ) -> DatagramSocket {
        let lease = post.leases.get() + 1;
        post.leases.set(lease);
        let post = Rc::clone(post);
        let (kept, options) = (Rc::clone(&post), options.clone());
        network.keep(place, move || kept.serve(lease, &options, datagrams));
        DatagramSocket { post, lease }
    }

    /// Whatever comes from now on is the new owner's.
    fn serve(&self, lease: u64, options: &DatagramOptions, datagrams: Box<dyn Datagrams>) {
        let max_bytes = options.max_bytes.clamp(1, DATAGRAM_BYTES_MAX);
        self.max_bytes.set(max_bytes);
        if let Some(asked) = options
            .bind
            .receive_buffer_bytes
            .filter(|_| self.local.is_ip())
        {
            let net = self.network.net();
            let set = net.set(self.socket, SocketOption::ReceiveBuffer(asked));
            if let Err(error) = set {
                self.complain(&format!("its receive buffer cannot be set: {error}"));
            }
            let granted = net.receive_buffer(self.socket).ok();
            self.receive_buffer_bytes.set(granted);
        }
        self.look_at_drops();
        let drops = self.drops.get();
        self.drops
            .set(drops.map(|drops| Drops { total: 0, ..drops }));
        self.lease.set(lease);
        let former = self.datagrams.replace(Some(datagrams));
        if let Some(former) = former {
            former.closed(&CloseReason::Local);
        }
        self.resume();
    }

    /// The socket, and where it is bound.
    pub(super) fn socket(&self) -> (SocketId, &Endpoint) {
        (self.socket, &self.local)
    }

    pub(super) fn is_open(&self) -> bool {
        self.token.get().is_some()
    }

    fn resume(&self) {
        if let Some(token) = self.token.get()
            && self.paused.replace(false)
        {
            self.network.reactor().add_reader(token);
        }
    }

    pub(super) fn close(&self) {
        if let Some(token) = self.token.take() {
            let reactor = self.network.reactor();
            reactor.lose(token, Failure::msg("the socket was closed"));
        }
    }

    /// Receives and hands out what is there, as far as the turn's budget reaches, and leaves the
    /// rest for the next turn.
    fn receive_some(self: &Rc<Self>) -> Progress {
        let mut left = DATAGRAMS_PER_TURN;
        let mut inbox = self.network.inbox().take();
        let mut parcel = Parcel::new(&self.network);
        let mut progress = Progress::More;
        while left > 0 && self.token.get().is_some() {
            match self.receive_into(&mut inbox) {
                Ok(received) => {
                    left = left.saturating_sub(received.len());
                    for (one, slot) in received.into_iter().zip(inbox.chunks(self.max_bytes.get()))
                    {
                        if let Some((all, batch)) = parcel.add(&self.network, one, slot) {
                            self.deliver(&all, batch);
                            left = 0;
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    progress = Progress::Blocked;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => {
                    // Errors of former sends; each is reported once and is then gone.
                    self.tell(|datagrams, socket| {
                        datagrams.refused(socket, &error);
                        Ok(())
                    });
                    break;
                }
            }
        }
        self.network.inbox().set(inbox);
        let (all, batch) = parcel.close();
        self.deliver(&all, batch);
        if self.draining.get() && matches!(progress, Progress::Blocked) {
            self.close();
        }
        progress
    }

    /// One call, for as many as the last ones lead to expect.
    fn receive_into(&self, inbox: &mut Vec<u8>) -> io::Result<Vec<Received>> {
        let slot_bytes = self.max_bytes.get();
        let slots = match self.local.is_ip() {
            true => self.expected.get(),
            false => 1,
        };
        if inbox.len() < slots * slot_bytes {
            // From the system, which gives it page by page as it is written to.
            *inbox = vec![0; SLOTS_MAX * DATAGRAM_BYTES_MAX];
        }
        let room = &mut inbox[..slots * slot_bytes];
        let received = self
            .network
            .net()
            .recv_many(self.socket, room, slot_bytes)?;
        let next = match received.len() {
            all if all == slots => slots * 2,
            few if few < slots / 4 => slots / 2,
            _ => slots,
        };
        self.expected.set(next.clamp(SLOTS_MIN, SLOTS_MAX));
        Ok(received)
    }

    fn deliver(self: &Rc<Self>, all: &Bytes, batch: Vec<(usize, Received)>) {
        if batch.is_empty() {
            return;
        }
        for (start, received) in batch {
            let datagram = Datagram {
                bytes: all.slice(start..start + received.bytes),
                from: Peer::new(received.from),
                truncated: received.truncated,
            };
            self.tell(|datagrams, socket| datagrams.received(socket, datagram));
        }
        self.tell(|datagrams, socket| {
            datagrams.turn_ends(socket);
            Ok(())
        });
    }

    /// Runs the handler, out of its place meanwhile; a failure or a panic is logged.
    fn tell(
        self: &Rc<Self>,
        call: impl FnOnce(&mut dyn Datagrams, &DatagramSocket) -> Result<(), Failure>,
    ) {
        if self.token.get().is_none() {
            return;
        }
        let Some(mut datagrams) = self.datagrams.take() else {
            return;
        };
        let socket = DatagramSocket {
            post: Rc::clone(self),
            lease: self.lease.get(),
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&mut *datagrams, &socket)));
        *self.datagrams.borrow_mut() = Some(datagrams);
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => self.complain(&failure.to_string()),
            Err(_) => self.complain("it panicked"),
        }
    }

    fn complain(&self, why: &str) {
        let now = self.network.reactor().now();
        if now < self.complaint_after.get() {
            self.complaints_left_out
                .set(self.complaints_left_out.get() + 1);
            return;
        }
        self.complaint_after
            .set(now + crate::time::Duration::from_secs(10));
        let left_out = self.complaints_left_out.take();
        let address = &self.local;
        let text = "the handler of a datagram failed";
        tracing::warn!(event = "datagram_failed", %address, why, left_out, "{text}");
    }

    fn look_at_drops(&self) {
        let (known, now) = (self.drops.get(), self.network.net().drops(self.socket));
        if let (Some(known), Ok(now)) = (known, now) {
            self.drops.set(Some(known.seen(now)));
        }
    }

    /// Told once by the reactor; a loss that did not begin with `close` is its shutdown.
    fn lost(&self) {
        let reason = match self.token.take() {
            Some(_) => CloseReason::Aborted,
            None => CloseReason::Local,
        };
        self.look_at_drops();
        self.network.close_bound(self.socket);
        let datagrams = self.datagrams.take();
        if let Some(datagrams) = datagrams {
            datagrams.closed(&reason);
        }
    }
}

/// Asks for the buffer where the socket was not made with it, because it was handed over; gives
/// what there is then.
fn grow_receive_buffer(
    net: &dyn Net,
    socket: SocketId,
    local: &Endpoint,
    options: &BindOptions,
) -> io::Result<Option<usize>> {
    if !local.is_ip() {
        return Ok(None);
    }
    let asked = options.receive_buffer_bytes.unwrap_or(0);
    if net.receive_buffer(socket)? < asked {
        net.set(socket, SocketOption::ReceiveBuffer(asked))?;
    }
    net.receive_buffer(socket).map(Some)
}

/// Datagrams side by side in one chunk.
struct Parcel {
    chunk: Chunk,
    filled: usize,
    /// Each with where it begins.
    batch: Vec<(usize, Received)>,
}

impl Parcel {
    fn new(network: &Network) -> Parcel {
        Parcel {
            chunk: network.chunks().lend(),
            filled: 0,
            batch: Vec::new(),
        }
    }

    /// Takes one that lies in `slot`. Where there is no room for it, what was there before comes
    /// out.
    fn add(
        &mut self,
        network: &Network,
        one: Received,
        slot: &[u8],
    ) -> Option<(Bytes, Vec<(usize, Received)>)> {
        let has_room = self.filled + one.bytes <= CHUNK_BYTES;
        let full = (!has_room).then(|| std::mem::replace(self, Parcel::new(network)).close());
        let end = self.filled + one.bytes;
        self.chunk[self.filled..end].copy_from_slice(&slot[..one.bytes]);
        self.batch.push((self.filled, one));
        self.filled = end;
        full
    }

    fn close(self) -> (Bytes, Vec<(usize, Received)>) {
        (self.chunk.keep(self.filled), self.batch)
    }
}

struct PostHandler(Rc<Post>);

impl Handler for PostHandler {
    fn readable(&mut self, _reactor: &Handle) -> Progress {
        self.0.receive_some()
    }

    fn writable(&mut self, _reactor: &Handle) -> Progress {
        Progress::Blocked
    }

    fn lost(self: Box<Self>, _reason: Failure, _reactor: &Handle) {
        self.0.lost();
    }
}

/// The longest datagram that UDP over IPv4 carries is 65 507 bytes; a Unix one may be longer.
pub const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Datagrams delivered by one socket in one turn.
const DATAGRAMS_PER_TURN: usize = 1024;

/// Datagrams that one system call brings: the fewest that there is room for, and the most. A
/// turn goes beyond its budget by the most at most.
const SLOTS_MIN: usize = 4;
const SLOTS_MAX: usize = 64;
