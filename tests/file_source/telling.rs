//! Who tells of changes goes wrong: it cannot be waited for, cannot be read, leaves things out.
//!
//! The watcher is the test's own, at the seam; the files and the reactor are real.

use std::cell::RefCell;
use std::fs::File as RealFile;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use marline::buffer::storage::{Directory, File, Mode, Storage};
use marline::buffer::storage_sys::SystemStorage;
use marline::buffer::watcher::{Change, WatchId, Watcher};
use marline::pipeline::component::Resources;
use marline::pipeline::memory::Memory;
use marline::reactor::{Options, PollerKind, Reactor, Seams};
use marline::service::assembly::{Daemon, World};
use marline::service::workers::Crew;
use marline::sim::{FaultPlan, Random};
use marline::sources::file::Checkpoints;
use marline::transport::{Network, NetworkOptions};

use super::logger::line;
use super::{Place, append, lines};
use crate::process::PATIENCE;
use crate::sim::world::{Outside, buffers_on, load};

/// What its watcher does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It has a descriptor that nobody can wait for.
    NoWaiting,
    /// It has something to tell that cannot be read.
    NoReading,
    /// It tells that it left out everything, whenever something was to tell.
    Overflow,
}

struct Teller {
    fault: Fault,
    near: UnixStream,
    next: AtomicI32,
}

impl Teller {
    fn watch(&self) -> WatchId {
        WatchId(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Watcher for Teller {
    fn descriptor(&self) -> io::Result<OwnedFd> {
        match self.fault {
            Fault::NoWaiting => Ok(RealFile::open("/etc/passwd")?.into()),
            _ => Ok(self.near.try_clone()?.into()),
        }
    }

    fn watch_directory(&self, path: &Path) -> io::Result<WatchId> {
        std::fs::read_dir(path)?;
        Ok(self.watch())
    }

    fn watch_file(&self, _file: &dyn File) -> io::Result<WatchId> {
        Ok(self.watch())
    }

    fn forget(&self, _watch: WatchId) {}

    fn changes(&self, changes: &mut Vec<Change>) -> io::Result<bool> {
        if self.fault == Fault::NoReading {
            return Err(io::Error::other("it is broken"));
        }
        if matches!((&self.near).read(&mut [0; 64]), Ok(1..)) {
            changes.push(Change::Overflow);
        }
        Ok(false)
    }

    fn is_reliable(&self, _path: &Path) -> io::Result<bool> {
        Ok(true)
    }
}

/// The system's storage with that watcher.
struct Told(Arc<Teller>);

impl Storage for Told {
    fn root(&self, path: &Path, make: Option<Mode>) -> io::Result<Arc<dyn Directory>> {
        SystemStorage.root(path, make)
    }
    fn standard_output(&self) -> Arc<dyn File> {
        SystemStorage.standard_output()
    }
    fn reader(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        SystemStorage.reader(path)
    }
    fn watcher(&self) -> io::Result<Arc<dyn Watcher>> {
        Ok(Arc::clone(&self.0) as Arc<dyn Watcher>)
    }
}

/// A file that grows, and one that comes, are read by a source whose watcher does that.
fn check(fault: Fault) {
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let next = AtomicI32::new(1);
    let storage: Arc<dyn Storage> = Arc::new(Told(Arc::new(Teller { fault, near, next })));
    let place = Place::new("inotify");
    append(&place.log("a.log"), &line(0));
    let folder = place.folder.path();
    let config = place.config().replace("{folder}", folder.to_str().unwrap());
    let (config, parts) = load(&config).unwrap();

    let seams = Seams::system(PollerKind::Epoll).unwrap();
    let mut reactor = Reactor::new(seams, Options::default()).unwrap();
    let handle = reactor.handle();
    let outside = Outside::new(FaultPlan::quiet(), &mut Random::new(1));
    let mut resources = Resources::default();
    let net = Rc::new(outside.net.clone());
    resources.lend(Network::new(&handle, net, NetworkOptions::default()));
    resources.lend(handle.clone());
    resources.lend::<Arc<dyn Storage>>(Arc::clone(&storage));
    let state = folder.join("state");
    resources.lend(Checkpoints::new(&handle, Arc::clone(&storage), &state));
    let world = World {
        memory: Memory::new(64 << 20),
        scheduler: Rc::new(handle.clone()),
        buffers: buffers_on(&handle, storage, 1),
        resources: RefCell::new(resources),
        crew: Crew::alone(),
    };
    let daemon = Daemon::new(config, parts, world).unwrap();
    daemon.start().map_err(|it| it.failure).unwrap();
    let out = folder.join("out.txt");
    let mut wait_for = |count: usize| {
        let begun = Instant::now();
        while lines(&out).len() < count {
            assert!(begun.elapsed() < PATIENCE, "no line {count}");
            reactor.turn(Some(Duration::from_millis(10))).unwrap();
        }
    };
    if fault == Fault::NoReading {
        far.write_all(b"!").unwrap();
    }
    wait_for(1);
    append(&place.log("a.log"), &line(1));
    far.write_all(b"!").unwrap();
    wait_for(2);
    append(&place.log("b.log"), &line(2));
    far.write_all(b"!").unwrap();
    wait_for(3);
    place.check_exact(3);
    outside.io.end();
}

#[test]
fn where_it_cannot_be_waited_for_one_looks() {
    check(Fault::NoWaiting);
}

#[test]
fn where_it_cannot_be_read_one_looks() {
    check(Fault::NoReading);
}

#[test]
fn after_an_overflow_everything_is_looked_at() {
    check(Fault::Overflow);
}
