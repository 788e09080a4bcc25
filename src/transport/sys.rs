//! The real network: [`Net`] over the system calls of Linux.
//!
//! Sockets live in a table by [`SocketId`]; whoever needs the descriptor itself (a poller)
//! shares it by `Rc`, so its number is not reused while anybody may still speak of it. One
//! descriptor is held in reserve for the moment when `accept` finds none left (F-068).
//! Nothing here calls back, so a borrow may last for one system call.

mod datagrams;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrAny,
    SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::net::{
    BindOptions, Endpoint, Lookup, Net, PeerState, Received, SocketId, SocketKind, SocketOption,
};
use super::outq;
use super::unix::{self, BoundPath};
use crate::reactor::Pollable;
use crate::time::Duration;

/// The machine's network.
pub struct SysNet {
    table: RefCell<Table>,
    /// Open on /dev/null; `None` while it is lent or could not be had back.
    reserve: Cell<Option<OwnedFd>>,
    lookup: Arc<dyn Lookup>,
}

impl SysNet {
    /// A network without sockets. Takes one descriptor into reserve.
    pub fn new() -> io::Result<Self> {
        Ok(SysNet {
            table: RefCell::default(),
            reserve: Cell::new(Some(open_reserve()?)),
            lookup: Arc::new(SysLookup),
        })
    }

    /// The same with another source of names than the system's.
    pub fn with_lookup(self, lookup: Arc<dyn Lookup>) -> Self {
        SysNet { lookup, ..self }
    }

    /// Runs one system call on a socket.
    fn with<T>(
        &self,
        socket: SocketId,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        call(self.table.borrow().get(socket)?.fd.as_fd())
    }

    fn insert(&self, fd: OwnedFd, path: Option<BoundPath>) -> SocketId {
        let fd = Rc::new(fd);
        let path = path.map(Box::new);
        self.table.borrow_mut().insert(Socket { fd, path })
    }

    /// Opens, prepares and binds a socket of the kind that `at` needs.
    fn bound(
        &self,
        at: &Endpoint,
        kind: SocketType,
        options: &BindOptions,
    ) -> io::Result<(OwnedFd, Option<BoundPath>)> {
        let fd = open(family(at), kind)?;
        match at {
            Endpoint::Ip(address) => {
                prepare_ip(fd.as_fd(), address, kind, options)?;
                rustix::net::bind(&fd, address)?;
                Ok((fd, None))
            }
            Endpoint::Unix(path) => {
                let bound = unix::bind(&fd, path, kind, options.mode)?;
                Ok((fd, Some(bound)))
            }
            Endpoint::Abstract(name) => {
                rustix::net::bind(&fd, &SocketAddrUnix::new_abstract_name(name)?)?;
                Ok((fd, None))
            }
            Endpoint::Unnamed => Err(ErrorKind::InvalidInput.into()),
        }
    }
}

impl Net for SysNet {
    fn listen(&self, at: &Endpoint, options: &BindOptions) -> io::Result<SocketId> {
        let (fd, path) = self.bound(at, SocketType::STREAM, options)?;
        if at.is_ip() {
            // Accepted sockets inherit it (tcp(7)).
            sockopt::set_tcp_nodelay(&fd, true)?;
        }
        rustix::net::listen(&fd, options.backlog)?;
        Ok(self.insert(fd, path))
    }

    fn accept(&self, listener: SocketId) -> io::Result<(SocketId, Endpoint)> {
        let (fd, from) = self.with(listener, accept_on)?;
        // Had there been no descriptor to take it back with, there may be one again.
        let reserve = self.reserve.take().or_else(|| open_reserve().ok());
        self.reserve.set(reserve);
        Ok((self.insert(fd, None), from))
    }

    fn shed(&self, listener: SocketId) -> io::Result<bool> {
        drop(self.reserve.take());
        let shed = self.with(listener, accept_on);
        let met = match &shed {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(io::Error::from(error.kind())),
        };
        // Closed first: its number is what the reserve gets back.
        drop(shed);
        self.reserve.set(open_reserve().ok());
        met
    }

    fn connect(&self, to: &Endpoint) -> io::Result<SocketId> {
        let fd = open(family(to), SocketType::STREAM)?;
        if to.is_ip() {
            sockopt::set_tcp_nodelay(&fd, true)?;
        }
        match connect_to(fd.as_fd(), to) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(self.insert(fd, None)),
            Err(error) => Err(error.into()),
        }
    }

    fn connect_result(&self, socket: SocketId) -> io::Result<bool> {
        self.with(socket, |fd| {
            sockopt::socket_error(fd)??;
            let peer = match rustix::net::getpeername(fd) {
                Ok(peer) => peer,
                Err(Errno::NOTCONN) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            // A dial to a port of the ephemeral range that nobody listens on can meet itself
            // (simultaneous open, RFC 9293 section 3.5); nobody is there.
            let is_ip = peer.as_ref().is_some_and(|peer| endpoint(peer).is_ip());
            if is_ip && peer == Some(rustix::net::getsockname(fd)?) {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            Ok(true)
        })
    }

    fn read(&self, socket: SocketId, into: &mut [u8]) -> io::Result<usize> {
        self.with(socket, |fd| {
            // As recv(2) without flags does, and it reads pipes, too.
            retry(|| rustix::io::read(fd, &mut *into))
        })
    }

    fn writev(&self, socket: SocketId, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.with(socket, |fd| {
            retry(|| match slices {
                [one] => rustix::net::send(fd, one, SendFlags::NOSIGNAL),
                many => {
                    let mut control = SendAncillaryBuffer::default();
                    rustix::net::sendmsg(fd, many, &mut control, SendFlags::NOSIGNAL)
                }
            })
        })
    }

    fn shutdown_write(&self, socket: SocketId) -> io::Result<()> {
        self.with(socket, |fd| {
            or_no_socket(rustix::net::shutdown(fd, Shutdown::Write))
        })
    }

    fn take_error(&self, socket: SocketId) -> io::Result<()> {
        self.with(socket, |fd| match sockopt::socket_error(fd) {
            Ok(met) => Ok(met?),
            Err(error) => or_no_socket(Err(error)),
        })
    }

    fn outq(&self, socket: SocketId) -> io::Result<usize> {
        self.with(socket, outq::unacked)
    }

    fn peer_state(&self, socket: SocketId) -> io::Result<PeerState> {
        self.with(socket, outq::peer_state)
    }

    fn bind(&self, at: &Endpoint, options: &BindOptions) -> io::Result<SocketId> {
        let (fd, path) = self.bound(at, SocketType::DGRAM, options)?;
        if let Some(bytes) = options.receive_buffer_bytes.filter(|_| at.is_ip()) {
            set_receive_buffer(fd.as_fd(), bytes)?;
        }
        Ok(self.insert(fd, path))
    }

    fn receive_buffer(&self, socket: SocketId) -> io::Result<usize> {
        self.with(socket, |fd| Ok(receive_buffer_of(fd)?))
    }

    fn drops(&self, socket: SocketId) -> io::Result<u32> {
        self.with(socket, outq::drops)
    }

    fn dial(&self, to: &Endpoint) -> io::Result<SocketId> {
        let fd = open(family(to), SocketType::DGRAM)?;
        connect_to(fd.as_fd(), to)?;
        Ok(self.insert(fd, None))
    }

    fn recv(&self, socket: SocketId, into: &mut [u8]) -> io::Result<Received> {
        let room = into.len();
        // With TRUNC the answer is the datagram's own length (recv(2)).
        let (_, bytes, from) = self.with(socket, |fd| {
            retry(|| rustix::net::recvfrom(fd, &mut *into, RecvFlags::TRUNC))
        })?;
        Ok(Received {
            bytes: bytes.min(room),
            from: from.as_ref().map_or(Endpoint::Unnamed, endpoint),
            truncated: bytes > room,
        })
    }

    fn recv_many(
        &self,
        socket: SocketId,
        room: &mut [u8],
        slot_bytes: usize,
    ) -> io::Result<Vec<Received>> {
        if room.len() < slot_bytes * 2 {
            return Ok(vec![self.recv(socket, &mut room[..slot_bytes])?]);
        }
        self.with(socket, |fd| datagrams::receive(fd, room, slot_bytes))
    }

    fn send(&self, socket: SocketId, payload: &[u8], to: Option<&Endpoint>) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL;
        self.with(socket, |fd| {
            retry(|| match to {
                None => rustix::net::send(fd, payload, flags),
                Some(Endpoint::Ip(to)) => rustix::net::sendto(fd, payload, flags, to),
                Some(Endpoint::Unix(path)) => {
                    rustix::net::sendto(fd, payload, flags, &SocketAddrUnix::new(path)?)
                }
                Some(Endpoint::Abstract(name)) => {
                    let to = SocketAddrUnix::new_abstract_name(name)?;
                    rustix::net::sendto(fd, payload, flags, &to)
                }
                Some(Endpoint::Unnamed) => Err(Errno::DESTADDRREQ),
            })
            .map(drop)
        })
    }

    fn set(&self, socket: SocketId, option: SocketOption) -> io::Result<()> {
        self.with(socket, |fd| {
            let tcp = sockopt::socket_domain(fd)? != AddressFamily::UNIX;
            match option {
                SocketOption::NoDelay(on) if tcp => sockopt::set_tcp_nodelay(fd, on)?,
                SocketOption::AcknowledgeNow if tcp => sockopt::set_tcp_quickack(fd, true)?,
                SocketOption::Keepalive(after) if tcp => set_keepalive(fd, after)?,
                SocketOption::UserTimeout(limit) if tcp => {
                    sockopt::set_tcp_user_timeout(fd, millis(limit))?;
                }
                SocketOption::ReceiveBuffer(bytes) => set_receive_buffer(fd, bytes)?,
                SocketOption::SendBuffer(bytes) => sockopt::set_socket_send_buffer_size(fd, bytes)?,
                _ => {}
            }
            Ok(())
        })
    }

    fn local(&self, socket: SocketId) -> io::Result<Endpoint> {
        self.with(socket, |fd| Ok(endpoint(&rustix::net::getsockname(fd)?)))
    }

    fn close(&self, socket: SocketId) {
        let closed = self.table.borrow_mut().remove(socket);
        if let Some(path) = closed.and_then(|socket| socket.path) {
            path.remove();
        }
    }

    fn abort(&self, socket: SocketId) {
        // Lingering for no time at all turns the close into a reset (socket(7)). Where the
        // socket cannot, it is closed in order.
        let zero = Some(Duration::ZERO);
        let _ = self.with(socket, |fd| Ok(sockopt::set_socket_linger(fd, zero)?));
        self.close(socket);
    }

    fn pollable(&self, socket: SocketId) -> io::Result<Pollable> {
        Ok(Pollable::Fd(Rc::clone(
            &self.table.borrow().get(socket)?.fd,
        )))
    }

    fn adopt(&self, descriptor: OwnedFd) -> io::Result<(SocketId, SocketKind)> {
        rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        let kind = kind_of(descriptor.as_fd())?;
        if kind == SocketKind::TcpListener {
            sockopt::set_tcp_nodelay(&descriptor, true)?;
        }
        Ok((self.insert(descriptor, None), kind))
    }

    fn adopt_stream(&self, descriptor: OwnedFd) -> io::Result<SocketId> {
        rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(self.insert(descriptor, None))
    }

    fn take_back(&self, descriptor: OwnedFd, options: &BindOptions) -> io::Result<SocketId> {
        let (kind, local) = kind_and_local(descriptor.as_fd())?;
        let path = match local {
            Endpoint::Unix(path) => Some(unix::take_back(&path, options.mode)?),
            _ => None,
        };
        if options.reuse_port {
            sockopt::set_socket_reuseport(&descriptor, true)?;
        }
        match (kind, options.receive_buffer_bytes) {
            (SocketKind::TcpListener | SocketKind::UnixListener, _) => {
                rustix::net::listen(&descriptor, options.backlog)?;
            }
            (SocketKind::Udp, Some(bytes)) => set_receive_buffer(descriptor.as_fd(), bytes)?,
            _ => {}
        }
        let (socket, _) = self.adopt(descriptor)?;
        if let Some(entry) = self.table.borrow_mut().get_mut(socket) {
            entry.path = path.map(Box::new);
        }
        Ok(socket)
    }

    fn duplicate(&self, socket: SocketId) -> io::Result<OwnedFd> {
        self.table.borrow().get(socket)?.fd.try_clone()
    }

    fn leave_path(&self, socket: SocketId) {
        if let Some(entry) = self.table.borrow_mut().get_mut(socket) {
            entry.path = None;
        }
    }

    fn lookup(&self) -> Arc<dyn Lookup> {
        Arc::clone(&self.lookup)
    }
}

/// getaddrinfo, which sorts its answer by RFC 6724.
struct SysLookup;

impl Lookup for SysLookup {
    fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut found: Vec<IpAddr> = Vec::new();
        for address in (host, 0).to_socket_addrs()? {
            if !found.contains(&address.ip()) && found.len() < ADDRESSES_MAX {
                found.push(address.ip());
            }
        }
        if found.is_empty() {
            return Err(io::Error::new(
                ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        Ok(found)
    }
}

/// The sockets by id.
#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Entry {
    generation: u32,
    socket: Option<Socket>,
}

struct Socket {
    fd: Rc<OwnedFd>,
    /// Boxed: of many sockets few have one.
    path: Option<Box<BoundPath>>,
}

// Every connection has one, idle or not: see docs/PERFORMANCE.md.
const _: () = assert!(size_of::<Entry>() <= 24, "an entry has grown");

impl Table {
    fn get(&self, id: SocketId) -> io::Result<&Socket> {
        let entry = self.entries.get(id.index as usize);
        entry
            .filter(|entry| entry.generation == id.generation)
            .and_then(|entry| entry.socket.as_ref())
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket> {
        let entry = self.entries.get_mut(id.index as usize)?;
        let is_it = entry.generation == id.generation;
        entry.socket.as_mut().filter(|_| is_it)
    }

    fn insert(&mut self, socket: Socket) -> SocketId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        debug_assert!(entry.socket.is_none());
        entry.socket = Some(socket);
        SocketId {
            index,
            generation: entry.generation,
        }
    }

    fn remove(&mut self, id: SocketId) -> Option<Socket> {
        let entry = self.entries.get_mut(id.index as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let socket = entry.socket.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(socket)
    }
}

/// Opens a socket that does not block and is not inherited by children.
fn open(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family, kind, flags, None)?)
}

fn open_reserve() -> io::Result<OwnedFd> {
    Ok(std::fs::File::open("/dev/null")?.into())
}

fn accept_on(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Endpoint)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (fd, from) = retry(|| rustix::net::acceptfrom_with(listener, flags))?;
    Ok((fd, from.as_ref().map_or(Endpoint::Unnamed, endpoint)))
}

fn connect_to(fd: BorrowedFd<'_>, to: &Endpoint) -> Result<(), Errno> {
    match to {
        Endpoint::Ip(address) => rustix::net::connect(fd, address),
        Endpoint::Unix(path) => rustix::net::connect(fd, &SocketAddrUnix::new(path)?),
        Endpoint::Abstract(name) => {
            rustix::net::connect(fd, &SocketAddrUnix::new_abstract_name(name)?)
        }
        Endpoint::Unnamed => Err(Errno::DESTADDRREQ),
    }
}

fn prepare_ip(
    fd: BorrowedFd<'_>,
    address: &SocketAddr,
    kind: SocketType,
    options: &BindOptions,
) -> io::Result<()> {
    if address.is_ipv6() {
        // `[::]` is every IPv6 address and no other, so that it stands beside `0.0.0.0`.
        sockopt::set_ipv6_v6only(fd, true)?;
    }
    if kind == SocketType::STREAM {
        // Binds although connections of a former listener are in TIME_WAIT (socket(7)).
        sockopt::set_socket_reuseaddr(fd, true)?;
    }
    if options.reuse_port {
        sockopt::set_socket_reuseport(fd, true)?;
    }
    if options.free_bind {
        sockopt::set_ip_freebind(fd, true)?;
    }
    Ok(())
}

/// Asks for a receive buffer; past the system's limit where we may (CAP_NET_ADMIN). The system
/// grants what it grants without a word.
fn set_receive_buffer(fd: BorrowedFd<'_>, bytes: usize) -> Result<(), Errno> {
    sockopt::set_socket_recv_buffer_size(fd, bytes)?;
    if receive_buffer_of(fd)? < bytes {
        // Not allowed to most: what was granted above is kept then.
        let _ = sockopt::set_socket_recv_buffer_size_force(fd, bytes);
    }
    Ok(())
}

/// The kernel doubles what is set, for its own overhead, and tells the double (socket(7)).
fn receive_buffer_of(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    Ok(sockopt::socket_recv_buffer_size(fd)? / 2)
}

fn set_keepalive(fd: BorrowedFd<'_>, after: Option<Duration>) -> Result<(), Errno> {
    sockopt::set_socket_keepalive(fd, after.is_some())?;
    if let Some(after) = after {
        // tcp(7): whole seconds, at least one. Four probes within another half of the time.
        let idle = after.max(Duration::from_secs(1));
        sockopt::set_tcp_keepidle(fd, idle)?;
        sockopt::set_tcp_keepintvl(fd, (idle / 8).max(Duration::from_secs(1)))?;
        sockopt::set_tcp_keepcnt(fd, 4)?;
    }
    Ok(())
}

/// Milliseconds of a limit; 0 is none (tcp(7)).
fn millis(limit: Option<Duration>) -> u32 {
    let whole = |limit: Duration| u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    limit.map_or(0, |limit| whole(limit).max(1))
}

fn family(of: &Endpoint) -> AddressFamily {
    match of {
        Endpoint::Ip(SocketAddr::V4(_)) => AddressFamily::INET,
        Endpoint::Ip(SocketAddr::V6(_)) => AddressFamily::INET6,
        _ => AddressFamily::UNIX,
    }
}

fn endpoint(address: &SocketAddrAny) -> Endpoint {
    if let Ok(ip) = SocketAddr::try_from(address.clone()) {
        return Endpoint::Ip(ip);
    }
    let Ok(unix) = SocketAddrUnix::try_from(address.clone()) else {
        return Endpoint::Unnamed;
    };
    match (unix.path_bytes(), unix.abstract_name()) {
        (Some(path), _) => Endpoint::Unix(unix::path_of(path)),
        (None, Some(name)) => Endpoint::Abstract(name.into()),
        (None, None) => Endpoint::Unnamed,
    }
}

/// What a bound socket is, and where.
pub(super) fn kind_and_local(fd: BorrowedFd<'_>) -> io::Result<(SocketKind, Endpoint)> {
    let local = endpoint(&rustix::net::getsockname(fd)?);
    Ok((kind_of(fd)?, local))
}

fn kind_of(fd: BorrowedFd<'_>) -> io::Result<SocketKind> {
    let unix = sockopt::socket_domain(fd)? == AddressFamily::UNIX;
    let kind = sockopt::socket_type(fd)?;
    let listens = kind == SocketType::STREAM && sockopt::socket_acceptconn(fd)?;
    match (unix, kind) {
        (false, SocketType::STREAM) if listens => Ok(SocketKind::TcpListener),
        (true, SocketType::STREAM) if listens => Ok(SocketKind::UnixListener),
        (false, SocketType::DGRAM) => Ok(SocketKind::Udp),
        (true, SocketType::DGRAM) => Ok(SocketKind::UnixDatagram),
        _ => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "neither a listening stream socket nor a datagram socket",
        )),
    }
}

/// What only sockets have, a pipe does without.
fn or_no_socket(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Err(Errno::NOTSOCK) => Ok(()),
        done => Ok(done?),
    }
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Addresses of one name that are used; a name may have thousands (F-107).
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_id_never_names_the_next_socket() {
        let net = SysNet::new().unwrap();
        let at = Endpoint::Ip("127.0.0.1:0".parse().unwrap());
        let first = net.listen(&at, &BindOptions::default()).unwrap();
        net.close(first);
        let second = net.listen(&at, &BindOptions::default()).unwrap();
        assert_eq!(first.index, second.index);
        assert_eq!(net.local(first).unwrap_err().kind(), ErrorKind::NotFound);
        net.close(first);
        assert!(net.local(second).is_ok());
    }

    #[test]
    fn a_limit_below_a_millisecond_is_not_turned_into_none() {
        assert_eq!(millis(Some(Duration::from_micros(1))), 1);
        assert_eq!((millis(None), millis(Some(Duration::MAX))), (0, u32::MAX));
    }
}
