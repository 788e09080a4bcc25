//! What a file sink is in the middle of, without the reactor: what the next job does, and what
//! the last one changed.
//!
//! Nothing here calls anything; what is to be told or settled is handed back.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::buffer::storage::Storage;
use crate::event::{Batch, Event, Span};
use crate::pipeline::encode::{Encoder, Frame, Output};
use crate::pipeline::part::Part;
use crate::sinks::backlog::{Backlog, Pauses, Share, Trouble, Written};
use crate::time::{Duration, Instant, WallTime};

use super::compress::Compressing;
use super::files::{Files, Settings};
use super::job::{Done, Job};
use super::path::PathTemplate;
use super::trouble;

/// Why an event that no file can be made for is dropped.
pub const BAD_PATH: &str = "bad_path";

/// Between two attempts to write. Space that was freed is used again within the longest.
const PAUSES: Pauses = Pauses {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(4),
};

/// The sink between two calls.
pub struct State {
    pub(super) path: PathTemplate,
    encoder: Encoder,
    settings: Arc<Settings>,
    storage: Arc<dyn Storage>,
    files: Option<Files>,
    output: Output,
    backlog: Backlog,
    is_writing: bool,
    reopens: bool,
    compression: Compression,
    /// Files with old files that may have to be compressed.
    to_compress: BTreeSet<Arc<str>>,
    rotation_failed: bool,
}

/// Old files are compressed one at a time.
enum Compression {
    Idle,
    /// The write job opens the next old file.
    Beginning,
    /// A job on another thread is at it.
    Running,
    /// It ended; the next write job gives the file its name.
    Ended(Compressing, bool),
}

/// What the sink's owner has to do after something happened, in this order.
#[derive(Default)]
pub struct Outcome {
    /// Parts with nothing left to write.
    pub finished: Vec<Part>,
    /// What the operator must hear.
    pub notices: Vec<Notice>,
    /// To be compressed on another thread.
    pub compressing: Option<Compressing>,
}

/// What the operator must hear.
#[derive(Debug)]
pub enum Notice {
    /// Writing fails; it is tried again.
    Trouble(String),
    /// Every target was written to.
    Fine,
    /// Events were dropped because no file can be made for them.
    BadPath {
        /// How many.
        events: u64,
        /// What and why.
        text: String,
    },
    /// Something beside the writing failed: rotation, compression, finding the root.
    Warning(String),
}

impl State {
    /// A sink with nothing to do.
    pub fn new(
        path: PathTemplate,
        encoder: Encoder,
        settings: Arc<Settings>,
        storage: Arc<dyn Storage>,
        files: Files,
    ) -> State {
        State {
            path,
            encoder,
            settings,
            storage,
            files: Some(files),
            output: Output::new(),
            backlog: Backlog::new(PAUSES),
            is_writing: false,
            reopens: false,
            compression: Compression::Idle,
            to_compress: BTreeSet::new(),
            rotation_failed: false,
        }
    }

    /// Whether more parts may come.
    pub fn has_room(&self) -> bool {
        self.backlog.has_room()
    }

    /// Whether no job is under way and none is needed to clean up.
    pub fn is_quiet(&self) -> bool {
        !self.is_writing && matches!(self.compression, Compression::Idle)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.backlog.is_empty()
    }

    /// When to try again, where nothing else happens before.
    pub fn next_due(&self) -> Option<Instant> {
        if self.is_writing {
            None
        } else {
            self.backlog.next_due()
        }
    }

    /// The next job closes all files first.
    pub fn reopen(&mut self) {
        self.reopens = true;
    }

    /// Lets go of what is not written: the parts it came from.
    pub fn take_back(&mut self) -> Vec<Part> {
        self.to_compress.clear();
        self.backlog.take_back()
    }

    /// Encodes a part for its files.
    pub fn admit(&mut self, mut part: Part) -> Outcome {
        let mut groups = Groups::default();
        if self.path.is_same_for_batch() {
            self.take_whole(&part, &mut groups);
        } else {
            self.group(part.batch(), part.events(), &mut groups);
        }
        let mut outcome = Outcome::default();
        if groups.too_long > 0 {
            part.drop_some(BAD_PATH, groups.too_long);
            outcome.notices.push(Notice::BadPath {
                events: groups.too_long,
                text: "a field makes the name of a file too long".to_owned(),
            });
        }
        outcome
            .finished
            .extend(self.backlog.push(part, groups.shares));
        outcome
    }

    /// All events of a part go into one file, which none of them has a say in.
    fn take_whole(&mut self, part: &Part, groups: &mut Groups) {
        let none = Event::Raw(Span::default());
        match self.path.name(part.batch(), &none) {
            _ if part.is_empty() => {}
            Ok(name) => {
                let frame = Frame::Lines;
                self.encoder.encode_part(part, frame, &mut self.output);
                groups.shares.push(Share {
                    name,
                    slices: self.output.take(),
                    events: part.len(),
                });
            }
            Err(_) => groups.too_long += part.len(),
        }
    }

    /// Sorts events by their files, keeping their order within each.
    fn group<'a, I>(&mut self, batch: &Batch, events: I, groups: &mut Groups)
    where
        I: Iterator<Item = &'a Event>,
    {
        let mut by_name: Vec<(Arc<str>, Vec<&Event>)> = Vec::new();
        for event in events {
            let Ok(name) = self.path.name(batch, event) else {
                groups.too_long += 1;
                continue;
            };
            // Neighbours mostly share a file, and a batch has few files: looked for from the end.
            match by_name.iter_mut().rev().find(|(other, _)| *other == name) {
                Some((_, events)) => events.push(event),
                None => by_name.push((name, vec![event])),
            }
        }
        for (name, events) in by_name {
            let events_len = events.len() as u64;
            let share = self.share(name, batch, events.iter().copied(), events_len);
            groups.shares.push(share);
        }
    }

    fn share<'a>(
        &mut self,
        name: Arc<str>,
        batch: &Batch,
        events: impl Iterator<Item = &'a Event> + Clone,
        events_len: u64,
    ) -> Share {
        self.encoder
            .encode(batch, events, Frame::Lines, &mut self.output);
        let slices = self.output.take();
        Share {
            name,
            slices,
            events: events_len,
        }
    }

    /// The next job, if there is something to do and no other is under way. With `now` absent
    /// nothing waits for its pause to end.
    pub fn next_job(&mut self, now: Option<Instant>, wall: WallTime) -> Option<Job> {
        if self.is_writing {
            return None;
        }
        let writes = self.backlog.take_writes(now);
        let compressed = self.take_compressed();
        let is_idle = matches!(self.compression, Compression::Idle);
        let to_compress = if is_idle {
            self.to_compress.first().cloned()
        } else {
            None
        };
        let has_work =
            self.reopens || compressed.is_some() || to_compress.is_some() || !writes.is_empty();
        if !has_work {
            return None;
        }
        if to_compress.is_some() {
            self.compression = Compression::Beginning;
        }
        self.is_writing = true;
        Some(Job {
            files: self.files.take(),
            storage: Arc::clone(&self.storage),
            settings: Arc::clone(&self.settings),
            now: wall,
            reopens: std::mem::take(&mut self.reopens),
            compressed,
            writes,
            to_compress,
        })
    }

    fn take_compressed(&mut self) -> Option<(Compressing, bool)> {
        match std::mem::replace(&mut self.compression, Compression::Idle) {
            Compression::Ended(compressing, is_complete) => Some((compressing, is_complete)),
            other => {
                self.compression = other;
                None
            }
        }
    }

    /// A job came back.
    pub fn job_done(&mut self, done: Done, now: Instant) -> Outcome {
        self.is_writing = false;
        self.files = done.files;
        let mut outcome = Outcome::default();
        if let Some(error) = done.reopen_error {
            let text = trouble::text("open", &self.settings.root, "", &error);
            outcome.notices.push(Notice::Warning(text));
        }
        self.note_compression(done.compressing, &mut outcome);
        let mut first_trouble = None;
        for written in done.written {
            let trouble = self.note_written(written, now, &mut outcome);
            first_trouble = first_trouble.or(trouble);
        }
        // A target that waits for its next attempt is still in trouble.
        match first_trouble {
            Some(text) => outcome.notices.push(Notice::Trouble(text)),
            None if !self.backlog.has_failures() => outcome.notices.push(Notice::Fine),
            None => {}
        }
        outcome
    }

    /// A job was lost: refused, or it panicked.
    pub fn job_lost(&mut self, reason: &str, now: Instant) -> Outcome {
        self.is_writing = false;
        if matches!(self.compression, Compression::Beginning) {
            self.compression = Compression::Idle;
        }
        self.to_compress.clear();
        self.backlog.forget_jobs(now);
        let text = format!(
            "cannot write beneath {}: {reason}",
            self.settings.root.display()
        );
        Outcome {
            notices: vec![Notice::Trouble(text)],
            ..Outcome::default()
        }
    }

    /// The compression on the other thread has ended.
    pub fn compressed(&mut self, compressing: Compressing, result: &io::Result<()>) -> Outcome {
        let mut outcome = Outcome::default();
        match result {
            Ok(()) => {}
            // The sink stops. Nothing is begun any more, or stopping would never end.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.to_compress.clear(),
            Err(error) => {
                self.to_compress.remove(&compressing.name);
                outcome
                    .notices
                    .push(self.compression_warning(&compressing.name, error));
            }
        }
        self.compression = Compression::Ended(compressing, result.is_ok());
        outcome
    }

    /// The thread that compressed was lost, with the open files.
    pub fn compression_lost(&mut self, reason: &str) -> Outcome {
        self.compression = Compression::Idle;
        self.to_compress.clear();
        let text = format!("cannot compress old files: {reason}");
        Outcome {
            notices: vec![Notice::Warning(text)],
            ..Outcome::default()
        }
    }

    fn note_compression(&mut self, begun: io::Result<Option<Compressing>>, outcome: &mut Outcome) {
        let was_begun = matches!(self.compression, Compression::Beginning);
        if was_begun {
            self.compression = Compression::Idle;
        }
        match begun {
            Ok(Some(compressing)) => {
                self.compression = Compression::Running;
                outcome.compressing = Some(compressing);
            }
            Ok(None) if was_begun => drop(self.to_compress.pop_first()),
            Ok(None) => {}
            Err(error) => {
                let name = self.to_compress.pop_first().unwrap_or_else(|| "".into());
                outcome
                    .notices
                    .push(self.compression_warning(&name, &error));
            }
        }
    }

    fn compression_warning(&self, name: &str, error: &io::Error) -> Notice {
        let action = "compress an old file of";
        Notice::Warning(trouble::text(action, &self.settings.root, name, error))
    }

    /// Answers the text of what went wrong and will be tried again.
    fn note_written(
        &mut self,
        written: Written,
        now: Instant,
        outcome: &mut Outcome,
    ) -> Option<String> {
        outcome.finished.extend(self.backlog.settle(&written, now));
        let (name, root) = (&written.name, &self.settings.root);
        if written.rotated && self.settings.rotation.compression.is_some() {
            self.to_compress.insert(Arc::clone(name));
        }
        if let Some(error) = &written.rotation_error
            && !self.rotation_failed
        {
            let text = trouble::text("rotate", root, name, error);
            outcome.notices.push(Notice::Warning(text));
        }
        self.rotation_failed = written.rotation_error.is_some();
        let text = match written.error? {
            Trouble::Opening(error) if !self.path.is_fixed() && trouble::is_bad_name(&error) => {
                let (events, finished) = self.backlog.drop_target(name, BAD_PATH);
                outcome.finished.extend(finished);
                let text = trouble::text("open", root, name, &error);
                outcome.notices.push(Notice::BadPath { events, text });
                return None;
            }
            Trouble::Root(error) => trouble::text("open", root, "", &error),
            Trouble::Opening(error) => trouble::text("open", root, name, &error),
            Trouble::Writing(error) => trouble::text("write to", root, name, &error),
        };
        Some(text)
    }
}

/// A part's events by their files.
#[derive(Default)]
struct Groups {
    shares: Vec<Share>,
    too_long: u64,
}
