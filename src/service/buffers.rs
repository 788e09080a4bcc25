//! The buffers of sinks, as their options say: in memory, or on disk beneath `state_dir`.
//!
//! A disk buffer is a folder with the sink's name, so that it outlives every other change of
//! the configuration. It is opened here, at the start, before anything runs: what that takes
//! does not depend on how much is in it.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer::disk::{self, Durability, Settings, What};
use crate::buffer::disk_queue::{DiskQueue, Making, Submit};
use crate::buffer::memory::MemoryQueue;
use crate::buffer::storage::Storage;
use crate::config::Component;
use crate::deferred::Failure;
use crate::pipeline::letter::Vias;
use crate::pipeline::memory::Memory;
use crate::pipeline::port::Port;
use crate::pipeline::queue::{Queue, WhenFull};
use crate::pipeline::shared_options::{self, Durability as Option};
use crate::reactor::{Handle, Pool};
use crate::telemetry::events::{BufferDamaged, BufferOpened};
use crate::time::{Scheduler, WallTime};

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
}

impl Buffers {
    /// Buffers whose jobs run on the storage threads of `handle`'s reactor.
    pub fn new(handle: &Handle, storage: Arc<dyn Storage>, state_dir: &Path) -> Buffers {
        Buffers {
            storage,
            state_dir: state_dir.to_path_buf(),
            submit: submit(handle),
            new_uuid: Box::new(random_uuid),
        }
    }

    /// The way into the sink `of`.
    ///
    /// # Errors
    /// Its disk buffer cannot be opened.
    pub fn port(
        &self,
        of: &Component,
        memory: &Memory,
        vias: &Vias,
        scheduler: &Rc<dyn Scheduler>,
    ) -> Result<Rc<Port>, Failure> {
        let when_full = match of.options.word("buffer.when_full") {
            "drop_newest" => WhenFull::DropNewest,
            "drop_oldest" => WhenFull::DropOldest,
            _ => WhenFull::Block,
        };
        let capacity = of.options.size("buffer.memory");
        let memory_bytes = usize::try_from(capacity).unwrap_or(usize::MAX);
        let queue: Box<dyn Queue> = match of.options.maybe_size("buffer.disk") {
            None => Box::new(MemoryQueue::new(memory_bytes)),
            Some(size) => {
                let settings = self.settings(of, size)?;
                let opened = self.open(&of.name, &settings, scheduler.wall())?;
                Box::new(DiskQueue::new(Making {
                    name: Rc::from(&*of.name),
                    opened,
                    settings,
                    memory_bytes,
                    when_full,
                    memory: memory.clone(),
                    vias: vias.clone(),
                    scheduler: Rc::clone(scheduler),
                    submit: Rc::clone(&self.submit),
                }))
            }
        };
        let scheduler = Rc::clone(scheduler);
        Ok(Port::new(&of.name, when_full, queue, scheduler))
    }

    fn settings(&self, of: &Component, size_bytes: u64) -> Result<Settings, Failure> {
        let durability = shared_options::durability(of.options.text("buffer.durability"));
        let durability = match durability.map_err(|mistake| Failure::msg(mistake.message))? {
            Option::Commit => Durability::Commit,
            Option::Interval(interval) => Durability::Interval(interval),
            Option::Os => Durability::Os,
        };
        Ok(Settings::new(size_bytes, durability, (self.new_uuid)()))
    }

    fn open(
        &self,
        sink: &str,
        settings: &Settings,
        now: WallTime,
    ) -> Result<disk::Opened, Failure> {
        let directory = self.directory(sink).map_err(|error| {
            let path = self.state_dir.join(FOLDER).join(sink);
            Failure::msg(format!(
                "cannot open the disk buffer {}: {error}; the daemon's user must be able to \
                 write there, see `state_dir`",
                path.display()
            ))
        })?;
        let opened = disk::open(directory, *settings, now).map_err(Failure::new)?;
        let found = &opened.recovered;
        BufferOpened {
            sink,
            recovered: found.events,
            may_repeat: found.may_repeat,
            used_bytes: found.used_bytes,
            size_bytes: settings.size_bytes,
            segments_opened: found.segments_opened,
            survives: survives(settings.durability),
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
        Ok(opened)
    }

    fn directory(&self, sink: &str) -> io::Result<Arc<dyn crate::buffer::storage::Directory>> {
        let root = self.storage.root(&self.state_dir, Some(0o700))?;
        let folder = root.directory(FOLDER, Some(0o700))?;
        let directory = folder.directory(sink, Some(0o700))?;
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

/// The folder of all disk buffers, beneath `state_dir`.
pub const FOLDER: &str = "buffer";
