//! The buffers of sinks, as their options say: in memory, or on disk beneath `state_dir`.
//!
//! A disk buffer is a folder with the sink's name, so that it outlives every other change of
//! the configuration. It is opened before anything runs that needs it: at the start, or in a job
//! while a reload is prepared.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer::disk::{self, Durability, Opened, Settings, What};
use crate::buffer::disk_queue::{DiskQueue, Done, Making, Submit};
use crate::buffer::memory::MemoryQueue;
use crate::buffer::storage::Storage;
use crate::config::{Component, Config};
use crate::deferred::Failure;
use crate::pipeline::letter::Vias;
use crate::pipeline::memory::Memory;
use crate::pipeline::port::{Port, Relay};
use crate::pipeline::queue::{Queue, WhenFull};
use crate::pipeline::shared_options::{self, Durability as Wanted};
use crate::reactor::{Handle, Pool};
use crate::telemetry::events::{BufferDamaged, BufferOpened};
use crate::time::{Scheduler, WallTime};

use super::workers::Seat;

/// What buffers are made with.
pub struct Buffers {
    /// Where files are.
    pub storage: Arc<dyn Storage>,
    /// Disk buffers are in `buffer/` beneath it.
    pub state_dir: PathBuf,
    /// Runs the jobs of disk buffers.
    pub submit: Submit,
    /// 16 bytes that nobody else has, for a buffer that is new.
    pub new_uuid: Box<dyn Fn() -> [u8; 16]>,
    /// The reactor whose buffers they are.
    pub seat: Seat,
}

impl Buffers {
    /// Buffers whose jobs run on the storage threads of `handle`'s reactor.
    pub fn new(handle: &Handle, storage: Arc<dyn Storage>, state_dir: &Path) -> Buffers {
        Buffers {
            storage,
            state_dir: state_dir.to_path_buf(),
            submit: submit(handle),
            new_uuid: Box::new(random_uuid),
            seat: Seat::ALONE,
        }
    }

    /// For the reactor at `seat`.
    pub fn at(self, seat: Seat) -> Buffers {
        Buffers { seat, ..self }
    }

    /// What opens the disk buffer of the sink `of`, if it has one; it may block.
    ///
    /// # Errors
    /// Its options say nothing that a buffer can be.
    pub fn opening(&self, of: &Component, now: WallTime) -> Result<Option<Opening>, Failure> {
        let Some(size) = Plan::at(self.seat, of).disk_bytes else {
            return Ok(None);
        };
        Ok(Some(Opening {
            sink: Arc::clone(&of.name),
            storage: Arc::clone(&self.storage),
            state_dir: self.state_dir.clone(),
            settings: self.settings(of, size)?,
            now,
        }))
    }

    /// The way into the sink `of`, whose disk buffer, if it has one, is open.
    pub fn port(
        &self,
        of: &Component,
        opened: Option<OpenedBuffer>,
        making: &PortMaking<'_>,
    ) -> Rc<Port> {
        let plan = Plan::at(self.seat, of);
        let queue: Box<dyn Queue> = match opened {
            None => Box::new(plan.memory_queue()),
            Some(opened) => self.disk_queue(of, opened, making),
        };
        let scheduler = Rc::clone(making.scheduler);
        let port = Port::new(&of.name, plan.when_full, queue, scheduler);
        port.set_relay(plan.relay);
        port
    }

    /// The way to a pipeline that another reactor has.
    pub fn pipeline_port(&self, name: &str, making: &PortMaking<'_>) -> Rc<Port> {
        let queue = Box::new(MemoryQueue::new(RELAYED_BYTES));
        let scheduler = Rc::clone(making.scheduler);
        let port = Port::new(
            &format!("pipeline.{name}"),
            WhenFull::Block,
            queue,
            scheduler,
        );
        // How far its events come is asked of the sinks that they go to.
        port.set_relay(Some(Relay {
            is_disk: false,
            when_full: WhenFull::Block,
        }));
        port
    }

    /// A queue over a disk buffer that is open.
    pub fn disk_queue(
        &self,
        of: &Component,
        opened: OpenedBuffer,
        making: &PortMaking<'_>,
    ) -> Box<dyn Queue> {
        let plan = Plan::at(self.seat, of);
        Box::new(DiskQueue::new(Making {
            name: Rc::from(&*of.name),
            opened: opened.opened,
            settings: opened.settings,
            memory_bytes: plan.memory_bytes,
            when_full: plan.when_full,
            memory: making.memory.clone(),
            vias: making.vias.clone(),
            scheduler: Rc::clone(making.scheduler),
            submit: Rc::clone(&self.submit),
        }))
    }

    /// Closes a disk buffer that nobody wants, in a job; then calls `closed`.
    pub fn give_up(&self, opened: OpenedBuffer, closed: impl FnOnce() + 'static) {
        let job = Box::new(move || Done::Closed(opened.close()));
        (self.submit)("disk buffer end", job, Box::new(move |_| closed()));
    }

    fn settings(&self, of: &Component, size_bytes: u64) -> Result<Settings, Failure> {
        let durability = shared_options::durability(of.options.text("buffer.durability"));
        let durability = match durability.map_err(|mistake| Failure::msg(mistake.message))? {
            Wanted::Commit => Durability::Commit,
            Wanted::Interval(interval) => Durability::Interval(interval),
            Wanted::Os => Durability::Os,
        };
        Ok(Settings::new(size_bytes, durability, (self.new_uuid)()))
    }

    /// The names of the folders of disk buffers that no sink of `config` has. Blocks.
    pub fn orphans(&self, config: &Config) -> Vec<String> {
        let list = || -> io::Result<Vec<String>> {
            let root = self.storage.root(&self.state_dir, None)?;
            root.directory(FOLDER, None)?.list()
        };
        // Where there is no such folder there are no orphans.
        let mut names = list().unwrap_or_default();
        let has_buffer = |name: &str| {
            let mut sinks = config.sinks.iter();
            sinks.any(|sink| *sink.name == *name && Plan::of(sink).disk_bytes.is_some())
        };
        names.retain(|name| !has_buffer(name));
        names.sort();
        names
    }
}

/// What ports are made with, beside their buffers.
pub struct PortMaking<'a> {
    /// The budget in which payloads count.
    pub memory: &'a Memory,
    /// The pipelines, for events that are read back.
    pub vias: &'a Vias,
    /// Timers.
    pub scheduler: &'a Rc<dyn Scheduler>,
}

/// What the options of a sink say of its buffer.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What happens when it is full.
    pub when_full: WhenFull,
    /// In memory, in bytes.
    pub memory_bytes: usize,
    /// On disk, in bytes.
    pub disk_bytes: Option<u64>,
    /// The sink is with another reactor.
    pub relay: Option<Relay>,
}

impl Plan {
    /// The plan of the sink `of`.
    pub fn of(of: &Component) -> Plan {
        let when_full = match of.options.word("buffer.when_full") {
            "drop_newest" => WhenFull::DropNewest,
            "drop_oldest" => WhenFull::DropOldest,
            _ => WhenFull::Block,
        };
        let memory_bytes = of.options.size("buffer.memory");
        Plan {
            when_full,
            memory_bytes: usize::try_from(memory_bytes).unwrap_or(usize::MAX),
            disk_bytes: of.options.maybe_size("buffer.disk"),
            relay: None,
        }
    }

    /// The plan of what the reactor at `seat` has of the sink `of`: where each of them has a
    /// buffer, they share the memory that it may take. What is to be done when it is full is for
    /// the reactor to say that has the sink.
    pub fn at(seat: Seat, of: &Component) -> Plan {
        let mut plan = Plan::of(of);
        if seat.elsewhere_sink(of).is_some() {
            let is_disk = plan.disk_bytes.take().is_some();
            let when_full = std::mem::replace(&mut plan.when_full, WhenFull::Block);
            plan.relay = Some(Relay { is_disk, when_full });
        }
        if plan.relay.is_some() || !of.is_single {
            plan.memory_bytes = (plan.memory_bytes / seat.count).max(1);
        }
        plan
    }

    /// A buffer in memory.
    pub fn memory_queue(&self) -> MemoryQueue {
        MemoryQueue::new(self.memory_bytes)
    }
}

/// Opens a disk buffer. What that takes does not depend on how much is in it.
pub struct Opening {
    sink: Arc<str>,
    storage: Arc<dyn Storage>,
    state_dir: PathBuf,
    settings: Settings,
    now: WallTime,
}

/// A disk buffer that is open.
pub struct OpenedBuffer {
    /// Whose it is.
    pub sink: Arc<str>,
    opened: Opened,
    settings: Settings,
}

impl OpenedBuffer {
    /// As [`OpenedBuffer::close`]; where that fails the next start repeats more than it must.
    pub fn leave(self) {
        let _ = self.close();
    }

    /// Leaves it as it was found. Blocks.
    fn close(self) -> Result<(), String> {
        let Opened {
            writer,
            keeper,
            recovered,
            ..
        } = self.opened;
        let written = writer.close().map_err(|error| error.to_string());
        let (first_seq, next_seq) = (recovered.first_seq, recovered.next_seq);
        let kept = match recovered.may_repeat {
            0 => keeper.close(first_seq, next_seq),
            _ => keeper.leave(first_seq, next_seq),
        };
        written.and(kept.map_err(|error| error.to_string()))
    }
}

impl Opening {
    /// Whose buffer it opens.
    pub fn sink(&self) -> &Arc<str> {
        &self.sink
    }

    /// Opens it, and says what was in it. Blocks.
    ///
    /// # Errors
    /// It cannot be made, is somebody else's, or is of no known format.
    pub fn run(self) -> Result<OpenedBuffer, Failure> {
        let directory = self.directory().map_err(|error| {
            let path = self.state_dir.join(FOLDER).join(&*self.sink);
            Failure::msg(format!(
                "cannot open the disk buffer {}: {error}; the daemon's user must be able to \
                 write there, see `state_dir`",
                path.display()
            ))
        })?;
        let opened = disk::open(directory, self.settings, self.now).map_err(Failure::new)?;
        let (sink, found) = (&*self.sink, &opened.recovered);
        BufferOpened {
            sink,
            recovered: found.events,
            may_repeat: found.may_repeat,
            used_bytes: found.used_bytes,
            size_bytes: self.settings.size_bytes,
            segments_opened: found.segments_opened,
            survives: survives(self.settings.durability),
        }
        .log();
        // A buffer that was never delivered from has no cursor, and has lost none.
        let is_young = |what: &What| *what == What::CursorMissing && found.first_seq == 0;
        for finding in found.findings.iter().filter(|it| !is_young(&it.what)) {
            BufferDamaged {
                sink,
                what: finding,
                is_alarm: finding.what.is_alarm(),
            }
            .log();
        }
        Ok(OpenedBuffer {
            sink: self.sink,
            opened,
            settings: self.settings,
        })
    }

    fn directory(&self) -> io::Result<Arc<dyn crate::buffer::storage::Directory>> {
        let root = self.storage.root(&self.state_dir, Some(0o700))?;
        let folder = root.directory(FOLDER, Some(0o700))?;
        let directory = folder.directory(&self.sink, Some(0o700))?;
        // The folder is there after a power cut if anything in it is.
        folder.sync()?;
        root.sync()?;
        Ok(directory)
    }
}

/// What an acknowledgement is worth.
fn survives(durability: Durability) -> &'static str {
    match durability {
        Durability::Commit => "a crash and a power cut",
        Durability::Interval(_) => "a crash; a power cut costs up to `buffer.durability`",
        Durability::Os => "a crash; a power cut costs what the system had not written",
    }
}

/// Runs jobs on the storage threads of disk buffers.
pub fn submit(handle: &Handle) -> Submit {
    let handle = handle.clone();
    Rc::new(move |label, job, then| {
        let ended = handle.defer_to_thread(Pool::Buffer, label, move || Ok(job()));
        drop(ended.add_both(move |done| then(done.ok())));
    })
}

/// The hash keys of the standard library come from the system's generator.
pub(super) fn random_uuid() -> [u8; 16] {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let half = || RandomState::new().build_hasher().finish().to_le_bytes();
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&half());
    uuid[8..].copy_from_slice(&half());
    uuid
}

/// What waits to be handed over to a pipeline that another reactor has, in bytes.
const RELAYED_BYTES: usize = 4 << 20;

/// The folder of all disk buffers, beneath `state_dir`.
pub const FOLDER: &str = "buffer";
