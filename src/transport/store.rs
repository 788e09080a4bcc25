//! Sockets that outlive the process: systemd's file descriptor store (sd_notify(3), FDSTORE).
//!
//! Once all is bound, every listener and bound datagram socket of a component is given to the
//! service manager, under a name made of its transport and a hash of its address. While the
//! daemon is down the kernel goes on queueing connections and datagrams there; the next process
//! gets the sockets with its environment and takes back those it would bind (`Network::open`).
//! What it has no use for is closed and removed from the store, as is what a reload closes.
//!
//! Not stored: sockets of `systemd:NAME` (a socket unit holds them), ports that the system chose,
//! and what belongs to no component, such as the admin socket. A stop cannot know whether a start
//! follows: what is stored stays, and so does its path.
//!
//! Messages are sent without waiting; while systemd's queue is full they are tried again.

use std::collections::{HashMap, VecDeque};
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

use super::adopt::Carries;
use super::net::{BindOptions, Endpoint, SocketId, SocketKind};
use super::network::Network;
use super::{siblings, sys};
use crate::reactor::{Handle, Pollable};
use crate::time::Duration;

/// Sockets that are stored where systemd does not say for how many there is room (before its
/// version 254): as many as marline.service asks for.
const STORED_MAX: usize = 512;
/// How soon a message is sent again that systemd had no room for.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// How often; after ten seconds the sockets are not stored.
const TRIES_MAX: u32 = 100;
/// How long a start waits until systemd has closed the sockets that are in its way.
const BARRIER_MAX: Duration = Duration::from_secs(5);

/// The store of the service manager, if there is one.
#[derive(Debug, Default)]
pub struct FdStore {
    manager: Option<Manager>,
    room: usize,
}

impl FdStore {
    /// What NOTIFY_SOCKET and FDSTORE (the room; since systemd 254) say of it.
    pub fn from_environment() -> FdStore {
        let room = env::var("FDSTORE").ok();
        FdStore::at(env::var_os("NOTIFY_SOCKET"), room.as_deref())
    }

    fn at(address: Option<OsString>, room: Option<&str>) -> FdStore {
        let room = room.map_or(STORED_MAX, |room| room.parse().unwrap_or(0));
        let manager = address.filter(|_| room > 0).map(Manager::at);
        let manager = manager.transpose().unwrap_or_else(|error| {
            tracing::warn!(
                event = "socket_store_unavailable",
                component = "daemon",
                %error,
                "cannot speak to the service manager; sockets are not kept over a restart"
            );
            None
        });
        FdStore { manager, room }
    }
}

/// Where the service manager listens.
#[derive(Debug)]
struct Manager {
    socket: OwnedFd,
    address: SocketAddrUnix,
}

impl Manager {
    fn at(address: OsString) -> io::Result<Manager> {
        let address = match Endpoint::of_path(Path::new(&address)) {
            Endpoint::Abstract(name) => SocketAddrUnix::new_abstract_name(&name)?,
            _ => SocketAddrUnix::new(Path::new(&address))?,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(Manager { socket, address })
    }

    fn send(&self, message: &Message) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = message.descriptor.as_ref().map(|it| [it.as_fd()]);
        if let Some(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let text = [IoSlice::new(message.text.as_bytes())];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg_addr(&self.socket, &self.address, &text, &mut control, flags)?;
        Ok(())
    }
}

/// Something that systemd is to be told.
struct Message {
    text: String,
    descriptor: Option<Rc<OwnedFd>>,
    /// The socket that this stores.
    stores: Option<SocketId>,
}

impl Message {
    fn store(name: &str, socket: SocketId, descriptor: Rc<OwnedFd>) -> Message {
        Message {
            text: format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n"),
            descriptor: Some(descriptor),
            stores: Some(socket),
        }
    }

    fn remove(name: &str) -> Message {
        Message {
            text: format!("FDSTOREREMOVE=1\nFDNAME={name}\n"),
            descriptor: None,
            stores: None,
        }
    }
}

/// Whether closing a socket takes it out of the store.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Not all is bound yet; if that fails, the next start needs what there is.
    #[default]
    Starting,
    Running,
    Stopping,
}

/// What is stored, and what has come back.
#[derive(Default)]
pub(super) struct Store {
    manager: Option<Manager>,
    room: usize,
    phase: Phase,
    /// What a former process stored and nobody has asked for.
    returned: Vec<(String, OwnedFd)>,
    /// Open sockets that are in the store, by their names there.
    stored: HashMap<SocketId, String>,
    unsent: VecDeque<Message>,
    tries: u32,
    is_retrying: bool,
}

impl Store {
    pub(super) fn new(store: FdStore, returned: Vec<(String, OwnedFd)>) -> Store {
        Store {
            manager: store.manager,
            room: store.room,
            returned,
            ..Store::default()
        }
    }

    fn say(&mut self, message: Message) {
        if self.manager.is_some() {
            self.unsent.push_back(message);
        }
    }

    /// Sends what there is to send, in order, until systemd has no room.
    fn flush(&mut self) {
        let Some(manager) = &self.manager else {
            return;
        };
        while let Some(message) = self.unsent.front() {
            match manager.send(message) {
                Ok(()) => self.tries = 0,
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::TOOMANYREFS)
                    if self.tries < TRIES_MAX =>
                {
                    return;
                }
                Err(error) => {
                    let socket = message.stores;
                    socket.map(|socket| self.stored.remove(&socket));
                    tracing::warn!(
                        event = "socket_not_stored",
                        component = "daemon",
                        message = message.text.replace('\n', " "),
                        %error,
                        "the service manager cannot be told; a restart will leave a gap here"
                    );
                }
            }
            self.unsent.pop_front();
        }
    }

    /// Whether the store keeps the socket that is about to be closed.
    fn keeps(&mut self, socket: SocketId) -> bool {
        if self.phase != Phase::Running {
            return self.stored.contains_key(&socket);
        }
        if let Some(name) = self.stored.remove(&socket) {
            self.say(Message::remove(&name));
        }
        false
    }

    /// Sockets that came back and that nobody can bind beside `at`.
    fn take_overlapping(&mut self, at: &Endpoint, carries: Carries) -> Vec<(String, OwnedFd)> {
        let overlaps = |(_, socket): &mut (String, OwnedFd)| {
            let Ok((kind, local)) = sys::kind_and_local(socket.as_fd()) else {
                return false;
            };
            kind_carries(kind) == carries
                && match (at, &local) {
                    (Endpoint::Ip(one), Endpoint::Ip(other)) => one.port() == other.port(),
                    (one, other) => one == other,
                }
        };
        self.returned.extract_if(.., overlaps).collect()
    }
}

fn kind_carries(kind: SocketKind) -> Carries {
    match kind {
        SocketKind::TcpListener | SocketKind::UnixListener => Carries::Streams,
        SocketKind::Udp | SocketKind::UnixDatagram => Carries::Datagrams,
    }
}

/// The name in the store of a socket that is bound there; `None` where there is no way back to
/// it. A path counts with what lies there: a socket whose path is gone, or somebody else's now,
/// is of no use to anybody.
fn name_of(carries: Carries, local: &Endpoint) -> Option<String> {
    let (transport, address) = match (local, carries) {
        (Endpoint::Ip(at), Carries::Streams) => ("tcp", at.to_string().into_bytes()),
        (Endpoint::Ip(at), Carries::Datagrams) => ("udp", at.to_string().into_bytes()),
        (Endpoint::Unix(path), _) => {
            let there = std::fs::symlink_metadata(path).ok()?;
            let mut address = path.as_os_str().as_bytes().to_vec();
            address.extend(there.dev().to_le_bytes());
            address.extend(there.ino().to_le_bytes());
            (unix_transport(carries), address)
        }
        (Endpoint::Abstract(name), _) => (unix_transport(carries), [b"@", name.as_ref()].concat()),
        (Endpoint::Unnamed, _) => return None,
    };
    Some(format!("{PREFIX}{transport}.{:016x}", fnv(&address)))
}

fn unix_transport(carries: Carries) -> &'static str {
    match carries {
        Carries::Streams => "unix",
        Carries::Datagrams => "unixgram",
    }
}

const PREFIX: &str = "marline.";

/// Whether a former process can have given this name; `marline.socket`, a unit's own, is none.
pub(super) fn is_stored_name(name: &str) -> bool {
    let parts = name.strip_prefix(PREFIX).and_then(|it| it.split_once('.'));
    parts.is_some_and(|(transport, hash)| {
        matches!(transport, "tcp" | "udp" | "unix" | "unixgram")
            && hash.len() == 16
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// FNV-1a with 64 bits: the same in every version, which std's hashes do not promise. That names
/// differ is all that matters; what comes back is compared with its address, too.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Network {
    /// Opens a listener or a datagram socket: the one that a former process stored, if there is
    /// one, or another. One that came back and is only in the way (`127.0.0.1:514` of
    /// `0.0.0.0:514`) is given up.
    pub(super) fn open(
        &self,
        at: &Endpoint,
        carries: Carries,
        options: &BindOptions,
    ) -> io::Result<SocketId> {
        if let Some(socket) = self.take_back(at, carries, options) {
            return Ok(socket);
        }
        let open = || match self.siblings() {
            Some(siblings) => siblings.bind(self.net(), self.owner(), at, carries, options),
            None => siblings::open(self.net(), at, carries, options),
        };
        match open() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && self.clear(at, carries) => open(),
            opened => opened,
        }
    }

    fn take_back(
        &self,
        at: &Endpoint,
        carries: Carries,
        options: &BindOptions,
    ) -> Option<SocketId> {
        let mut store = self.store().borrow_mut();
        if store.returned.is_empty() {
            return None;
        }
        let name = name_of(carries, at)?;
        let is_it = |(of, socket): &(String, OwnedFd)| {
            let there = sys::kind_and_local(socket.as_fd());
            *of == name && there.is_ok_and(|(kind, to)| kind_carries(kind) == carries && to == *at)
        };
        let index = store.returned.iter().position(is_it)?;
        // The duplicate is what is used; the other one stays to be given up if that fails.
        let duplicate = store.returned[index].1.try_clone();
        let options = BindOptions {
            reuse_port: self.siblings().is_some(),
            ..options.clone()
        };
        match duplicate.and_then(|socket| self.net().take_back(socket, &options)) {
            Ok(socket) => {
                store.returned.swap_remove(index);
                store.stored.insert(socket, name);
                tracing::info!(
                    event = "socket_taken_back",
                    component = &**self.owner(),
                    "{at} was kept open since the last stop"
                );
                Some(socket)
            }
            Err(error) => {
                tracing::warn!(
                    event = "socket_not_taken_back",
                    component = &**self.owner(),
                    %error,
                    "{at} was kept open since the last stop, but cannot be used; it is bound anew"
                );
                None
            }
        }
    }

    /// Gives up what came back and is in the way of `at`, and waits until systemd has closed it,
    /// too. Only while the daemon starts, for later nothing is left of what came back.
    fn clear(&self, at: &Endpoint, carries: Carries) -> bool {
        let mut store = self.store().borrow_mut();
        let gone = store.take_overlapping(at, carries);
        for (name, _) in &gone {
            give_up(&mut store, name);
        }
        if gone.is_empty() {
            return false;
        }
        drop(gone);
        if let Err(error) = wait_for_manager(&mut store, self.reactor()) {
            tracing::warn!(
                event = "socket_store_slow",
                component = "daemon",
                %error,
                "the service manager has not said that it closed what is in the way of {at}"
            );
        }
        true
    }

    /// All is bound: it is stored, and what came back and nobody wants is given up. From now on
    /// what is closed is taken out of the store.
    pub fn settle_store(&self) {
        let mut store = self.store().borrow_mut();
        if store.phase != Phase::Starting {
            return;
        }
        store.phase = Phase::Running;
        for (name, socket) in std::mem::take(&mut store.returned) {
            give_up(&mut store, &name);
            drop(socket);
        }
        drop(store);
        self.store_open();
    }

    /// The daemon stops: what is stored stays where it is, for the next start.
    pub fn keep_stored(&self) {
        self.store().borrow_mut().phase = Phase::Stopping;
    }

    /// Stores what is open and not stored yet.
    pub(super) fn store_open(&self) {
        let open = self.places().borrow().to_store();
        let mut store = self.store().borrow_mut();
        if store.phase != Phase::Running || store.manager.is_none() {
            return;
        }
        for (socket, carries, local) in open {
            if store.stored.contains_key(&socket) {
                continue;
            }
            if store.stored.len() >= store.room {
                tracing::warn!(
                    event = "socket_not_stored",
                    component = "daemon",
                    room = store.room,
                    "{local} is not kept over a restart: raise FileDescriptorStoreMax= of the unit"
                );
                continue;
            }
            let name = name_of(carries, &local);
            // Sockets of a simulated network have no descriptor.
            if let (Some(name), Ok(Pollable::Fd(fd))) = (name, self.net().pollable(socket)) {
                store.say(Message::store(&name, socket, fd));
                store.stored.insert(socket, name);
            }
        }
        drop(store);
        self.tell_manager();
    }

    /// Closes a listener or a datagram socket, here and, unless the daemon stops, in the store.
    pub(super) fn close_bound(&self, socket: SocketId) {
        let stays = self.store().borrow_mut().keeps(socket);
        if stays {
            self.net().leave_path(socket);
        }
        self.tell_manager();
        self.net().close(socket);
    }

    /// Sends what there is for systemd, now or as soon as it has room.
    fn tell_manager(&self) {
        let mut store = self.store().borrow_mut();
        store.flush();
        if store.unsent.is_empty() || store.is_retrying {
            return;
        }
        store.is_retrying = true;
        let network = self.clone();
        let _ = self.reactor().call_later(RETRY_AFTER, move |_| {
            let mut store = network.store().borrow_mut();
            store.is_retrying = false;
            store.tries += 1;
            drop(store);
            network.tell_manager();
        });
    }
}

fn give_up(store: &mut Store, name: &str) {
    tracing::info!(
        event = "stored_socket_closed",
        component = "daemon",
        name,
        "a socket that was kept open since the last stop is not listened on any more"
    );
    store.say(Message::remove(name));
}

/// Waits until systemd has done what it was told: it closes what comes with BARRIER=1 then.
fn wait_for_manager(store: &mut Store, reactor: &Handle) -> io::Result<()> {
    if store.manager.is_none() {
        return Ok(());
    }
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    store.say(Message {
        text: "BARRIER=1\n".to_owned(),
        descriptor: Some(Rc::new(theirs)),
        stores: None,
    });
    let began = reactor.fresh();
    while reactor.fresh().since(began) < BARRIER_MAX {
        store.flush();
        let step = Timespec {
            tv_sec: 0,
            tv_nsec: BARRIER_STEP_NANOS,
        };
        let mut descriptors = [PollFd::new(&ours, PollFlags::IN)];
        match poll(&mut descriptors, Some(&step)) {
            Ok(0) | Err(Errno::INTR) => {}
            met => return Ok(met.map(drop)?),
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// How long it waits before it tries again to send what systemd had no room for.
const BARRIER_STEP_NANOS: i64 = 10_000_000;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(carries: Carries, at: &str) -> String {
        name_of(carries, &Endpoint::Ip(at.parse().unwrap())).unwrap()
    }

    #[test]
    fn names_are_what_systemd_takes_and_tell_places_apart() {
        let tcp = name(Carries::Streams, "[::1]:514");
        assert!(tcp.is_ascii() && tcp.len() <= 255 && !tcp.contains(':'));
        assert!(is_stored_name(&tcp), "{tcp}");
        assert_ne!(tcp, name(Carries::Datagrams, "[::1]:514"));
        assert_ne!(tcp, name(Carries::Streams, "[::1]:515"));
        // Written down, for what one version stores another one takes back.
        assert_eq!(
            name(Carries::Datagrams, "127.0.0.1:514"),
            "marline.udp.374304899e4cb69e"
        );
        for other in [
            "marline.socket",
            "marline.tcp.socket",
            "syslog",
            "marline.tls.0",
        ] {
            assert!(!is_stored_name(other), "{other}");
        }
    }

    #[test]
    fn a_path_is_named_with_what_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let at = Endpoint::Unix(path.clone());
        assert_eq!(name_of(Carries::Streams, &at), None);
        let first = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let name = name_of(Carries::Streams, &at);
        assert_eq!(name, name_of(Carries::Streams, &at));
        std::fs::rename(&path, folder.path().join("aside")).unwrap();
        let second = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_ne!(name, name_of(Carries::Streams, &at));
        drop((first, second));
    }

    #[test]
    fn there_is_a_store_only_where_the_manager_has_room() {
        let there = || Some(OsString::from("/run/systemd/notify"));
        assert!(FdStore::at(None, Some("512")).manager.is_none());
        assert!(FdStore::at(there(), Some("0")).manager.is_none());
        let store = FdStore::at(there(), Some("7"));
        assert!(store.manager.is_some() && store.room == 7);
        assert_eq!(FdStore::at(there(), None).room, STORED_MAX);
    }
}
