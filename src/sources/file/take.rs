//! What the answers of a job change: a file is identified, goes on, comes to its end, or fails.
//! Not a component.
//!
//! A file is known again by its inode and beginning, else by its content alone, else it is new.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::buffer::storage::{File, Metadata};
use crate::deferred::Failure;
use crate::event::{Batch, Event, Events};
use crate::pipeline::part::{Delivered, Lost};
use crate::protocol::Uncut;
use crate::telemetry::events::{FileFollowed, FileReadable, FileTruncated, FileUnreadable};
use crate::time::{Duration, Instant, WallTime};
use crate::transport::CHUNK_BYTES;

use super::family::log_of;
use super::follow::{Follow, Start};
use super::job::Told;
use super::join::Piece;
use super::lines::{Cut, Lines};
use super::position::{HEAD_BYTES, Position, Print, Remembered};
use super::progress::{Fired, Progress};
use super::tail::{Candidate, Reading, Stage, Tail, Trouble};
use crate::sources::framed::{event_span, mark_of};

/// Before a file that cannot be read is tried again, at first and at most.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A file that is not ready is not looked at more often.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// How often, `close_after` apart, a copy waits for the file that it was made of to be cut.
const COPY_WAITS_MAX: u32 = 2;

/// Bytes that were taken and are to be delivered.
pub struct Taken {
    metadata: Metadata,
    cut: Option<Cut>,
    /// There may be more.
    is_full: bool,
    /// The number of the ask that this is the answer to.
    asked: u64,
}

impl Follow {
    /// An answer about `tail`. What it gave to deliver is for [`Follow::hand_over`].
    pub(super) fn take(
        &self,
        tail: &Rc<Tail>,
        told: io::Result<(Arc<dyn File>, Told)>,
    ) -> Option<Taken> {
        if tail.is_closed.get() {
            return None;
        }
        let (file, told) = match told {
            Ok(told) => told,
            Err(error) => {
                self.fails(tail, &error);
                return None;
            }
        };
        self.works(tail);
        self.keep_open(tail, file);
        match told {
            Told::Head {
                metadata,
                bytes,
                watch,
                unwatched,
            } => {
                if let Some(watch) = watch {
                    tail.watch.set(Some(watch));
                    self.by_watch.borrow_mut().insert(watch, tail.id);
                }
                if let Some(why) = unwatched {
                    self.fall_back(&why);
                }
                self.identify(tail, &metadata, &bytes);
            }
            Told::Same(is_same) => self.compared(tail, is_same),
            Told::Anew(metadata) => self.begin_anew(tail, &metadata),
            Told::Bytes {
                metadata,
                head,
                bytes,
            } => return Some(self.read(tail, metadata, head, bytes)),
            Told::Unpacked {
                metadata,
                unpacker,
                bytes,
            } => {
                *tail.unpacker.borrow_mut() = Some(unpacker);
                let head = match &*tail.stage.borrow() {
                    Stage::Reading(reading) => reading.lines.head,
                    Stage::New | Stage::Comparing(_) => return None,
                };
                return Some(self.read(tail, metadata, head, bytes));
            }
        }
        None
    }

    fn keep_open(&self, tail: &Tail, file: Arc<dyn File>) {
        let before = tail.file.borrow_mut().replace(file);
        if before.is_none() {
            let open = &self.counts.open_files;
            open.set(open.get() + 1);
        }
    }

    /// Closes it until it is its turn, where more files are open than may be.
    pub(super) fn spare(&self, tail: &Tail) {
        let is_over = self.counts.open_files.get() > self.settings.open_max as u64;
        if is_over && tail.is_matched.get() {
            self.let_go(tail);
        }
    }

    fn let_go(&self, tail: &Tail) {
        if tail.file.borrow_mut().take().is_some() {
            let open = &self.counts.open_files;
            open.set(open.get() - 1);
        }
    }

    /// Which file it is, by what it begins with.
    fn identify(&self, tail: &Rc<Tail>, metadata: &Metadata, head: &[u8]) {
        tail.note(metadata);
        if tail.packing.is_some() && metadata.bytes > 0 {
            let quiet = self.quiet_for(metadata);
            if head.is_empty() || quiet < self.settings.close_after {
                // It is being written.
                return self.wait_for(tail, self.settings.close_after.saturating_sub(quiet));
            }
        }
        if head.is_empty() {
            return self.at_end(tail, metadata, true, tail.asked.get());
        }
        if self.ignores_checkpoints() {
            return self.begin_file(tail, Print::of(head));
        }
        let is_it = |progress: &Progress| {
            let position = progress.delivered();
            progress.inode() == tail.inode && position.head.begins(head)
        };
        if let Some(progress) = self.store.find(is_it) {
            progress.is_claimed.set(true);
            return self.compare(tail, progress.delivered(), progress, true);
        }
        let head = Print::of(head);
        match self.store.find_content(head) {
            Some((progress, position)) if usize::from(head.len) == HEAD_BYTES => {
                if self.is_being_copied(tail, &progress, position) {
                    return self.wait_for(tail, self.settings.close_after);
                }
                self.compare(tail, position, progress, false);
            }
            _ => self.begin_file(tail, head),
        }
    }

    /// For how long the file has not been changed.
    fn quiet_for(&self, metadata: &Metadata) -> Duration {
        let micros = self.handle.wall().as_micros() - metadata.modified_micros;
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// The file is looked at again after a while, and not before.
    fn wait_for(&self, tail: &Tail, pause: Duration) {
        let at = self.handle.now() + pause.max(WAIT_MIN);
        tail.not_before.set(Some(at));
        self.let_go(tail);
        self.next_packed(tail.id);
        self.release_followers(tail, u64::MAX);
        self.remind(tail, at);
    }

    /// Whether the file may be a copy that is being made of one that is followed and will be
    /// cut then, as logrotate's `copytruncate` does. A name without an addition is no copy's.
    fn is_being_copied(&self, tail: &Tail, of: &Rc<Progress>, position: Position) -> bool {
        let path = tail.path.borrow();
        let is_cut = of.delivered() != position;
        if is_cut || !of.is_claimed.get() || log_of(&path) == &**path {
            return false;
        }
        tail.waits.set(tail.waits.get() + 1);
        tail.waits.get() <= COPY_WAITS_MAX
    }

    /// Whether a place that is remembered is one of this file.
    fn compare(
        &self,
        tail: &Rc<Tail>,
        position: Position,
        progress: Rc<Progress>,
        is_by_inode: bool,
    ) {
        if is_by_inode && position.is_done {
            let lines = Lines::new(position, self.settings.max_bytes, None);
            *tail.stage.borrow_mut() = Stage::Reading(Reading { lines, progress });
            return self.is_done(tail);
        }
        *tail.stage.borrow_mut() = Stage::Comparing(Candidate {
            progress,
            position,
            is_by_inode,
        });
        self.look(tail);
    }

    /// A compressed file was read to its end, now or once.
    fn is_done(&self, tail: &Tail) {
        tail.is_done.set(true);
        drop(tail.unpacker.take());
        self.let_go(tail);
        self.release_followers(tail, u64::MAX);
        self.next_packed(tail.id);
    }

    /// A source that takes over from one before it goes on in any case.
    fn ignores_checkpoints(&self) -> bool {
        self.settings.start == Start::Beginning && !self.is_successor.get()
    }

    fn compared(&self, tail: &Rc<Tail>, is_same: bool) {
        let candidate = match tail.stage.replace(Stage::New) {
            Stage::Comparing(candidate) => candidate,
            other => {
                tail.stage.replace(other);
                return;
            }
        };
        let Candidate {
            progress, position, ..
        } = candidate;
        match (candidate.is_by_inode, is_same) {
            (true, true) => self.follow(tail, progress, true),
            (true, false) => {
                // The same inode and beginning, and yet another file: it was written anew.
                progress.is_seen(tail.inode, self.now_seconds());
                progress.skip_to(Position {
                    head: position.head,
                    ..Position::default()
                });
                self.follow(tail, progress, false);
            }
            (false, true) => {
                let progress = self.remember(tail, position);
                self.follow(tail, progress, true);
            }
            (false, false) => self.begin_file(tail, position.head),
        }
    }

    /// A file that nothing is remembered of.
    fn begin_file(&self, tail: &Rc<Tail>, head: Print) {
        // One that is shorter by now was written anew, and is new as a whole.
        let end = tail.end_at_start.get().unwrap_or(0);
        let is_old = end > 0 && end <= tail.size_bytes.get();
        let at_end = self.settings.start == Start::End && is_old;
        if at_end && tail.packing.is_some() {
            let progress = self.remember(
                tail,
                Position {
                    head,
                    is_done: true,
                    ..Position::default()
                },
            );
            return self.compare(tail, progress.delivered(), progress, true);
        }
        // The last byte says whether the end is that of a line.
        let offset = if at_end { end - 1 } else { 0 };
        let position = Position {
            offset,
            head,
            is_inside: at_end,
            ..Position::default()
        };
        let progress = self.remember(tail, position);
        self.follow(tail, progress, false);
    }

    /// New books for the file.
    fn remember(&self, tail: &Tail, position: Position) -> Rc<Progress> {
        let progress = self.store.add(&Remembered {
            inode: tail.inode,
            position,
            seen_seconds: self.now_seconds(),
        });
        progress.is_claimed.set(true);
        self.store.note(&progress);
        progress
    }

    fn follow(&self, tail: &Rc<Tail>, progress: Rc<Progress>, is_known: bool) {
        progress.is_seen(tail.inode, self.now_seconds());
        let position = progress.delivered();
        let settings = &self.settings;
        let lines = Lines::new(position, settings.max_bytes, settings.rules.as_ref());
        FileFollowed {
            component: &self.component,
            path: &tail.shown(),
            offset: position.offset,
            is_known,
        }
        .log();
        self.store.note(&progress);
        *tail.stage.borrow_mut() = Stage::Reading(Reading { lines, progress });
        self.look(tail);
    }

    /// The file was cut: what is held of it is an event, and it is read from its beginning.
    fn begin_anew(&self, tail: &Rc<Tail>, metadata: &Metadata) {
        let lost_bytes = tail.behind_bytes();
        tail.note(metadata);
        self.finish(tail);
        let progress = match &mut *tail.stage.borrow_mut() {
            Stage::Reading(reading) => {
                reading.lines.restart();
                Rc::clone(&reading.progress)
            }
            Stage::New | Stage::Comparing(_) => return,
        };
        progress.is_cut();
        if progress.skip_to(Position::default()) {
            self.store.note(&progress);
        }
        let counts = &self.counts;
        counts.truncations.set(counts.truncations.get() + 1);
        counts.lost_bytes.set(counts.lost_bytes.get() + lost_bytes);
        FileTruncated {
            component: &self.component,
            path: &tail.shown(),
            lost_bytes,
        }
        .log();
        self.look(tail);
    }

    /// Takes the next bytes.
    fn read(&self, tail: &Rc<Tail>, metadata: Metadata, head: Print, bytes: Bytes) -> Taken {
        tail.note(&metadata);
        let count = bytes.len();
        self.input.count_bytes(count);
        let mut frames = self.frames.take();
        let cut = match &mut *tail.stage.borrow_mut() {
            Stage::Reading(reading) => {
                reading.lines.head = head;
                (count > 0).then(|| reading.lines.push(bytes, &mut frames))
            }
            Stage::New | Stage::Comparing(_) => None,
        };
        self.input.count(&frames);
        frames.clear();
        self.frames.replace(frames);
        let is_full = count == CHUNK_BYTES;
        if is_full && !tail.intake.is_blocked() {
            // The next chunk is read while this one is delivered.
            self.look(tail);
        }
        Taken {
            metadata,
            cut,
            is_full,
            asked: tail.asked.get(),
        }
    }

    /// Delivers what was taken, and sees where the file is then.
    pub(super) fn hand_over(&self, tail: &Rc<Tail>, taken: Taken) {
        let is_quiet = taken.cut.is_none();
        if let Some(cut) = taken.cut {
            tail.close_at.set(None);
            self.deliver(tail, cut);
            self.time_open_event(tail);
        }
        if tail.intake.is_blocked() {
            tail.is_blocked.set(true);
            self.spare(tail);
        } else if !taken.is_full && tail.packing.is_some() {
            self.unpacked(tail);
        } else if !taken.is_full {
            self.at_end(tail, &taken.metadata, is_quiet, taken.asked);
        }
    }

    /// A compressed file has come to its end.
    fn unpacked(&self, tail: &Rc<Tail>) {
        self.finish(tail);
        let progress = match &*tail.stage.borrow() {
            Stage::Reading(reading) => Rc::clone(&reading.progress),
            Stage::New | Stage::Comparing(_) => return,
        };
        let end = Position {
            is_done: true,
            ..progress.delivered()
        };
        if progress.skip_to(end) {
            self.store.note(&progress);
        }
        self.is_done(tail);
        if !tail.is_matched.get() {
            self.close(tail);
        }
    }

    /// Hands the events over; what is acknowledged moves with their deliveries.
    fn deliver(&self, tail: &Rc<Tail>, cut: Cut) {
        let progress = match &*tail.stage.borrow() {
            Stage::Reading(reading) => Rc::clone(&reading.progress),
            Stage::New | Stage::Comparing(_) => return,
        };
        if cut.pieces.is_empty() {
            let has_moved = cut.position.is_some_and(|there| progress.skip_to(there));
            if has_moved {
                self.store.note(&progress);
            }
            return;
        }
        let position = cut.position.unwrap_or(progress.delivered());
        let stretch = progress.send(position, cut.pieces.len() as u32);
        let received = self.input.wall();
        for piece in cut.pieces {
            let batch = batch(tail, piece, received);
            let Some(follow) = self.this.upgrade() else {
                return;
            };
            let progress = Rc::clone(&progress);
            self.open_batches.set(self.open_batches.get() + 1);
            let fired = move |result| follow.fired(&progress, stretch, &result);
            self.input.deliver_then(&tail.intake, batch, fired);
        }
    }

    fn fired(&self, progress: &Progress, stretch: u64, result: &Result<Delivered, Failure>) {
        self.open_batches.set(self.open_batches.get() - 1);
        let is_for_good = |failure: &Failure| {
            let lost = failure.downcast_ref::<Lost>();
            lost.is_some_and(|lost| lost.is_for_good)
        };
        // What a sink gave up while all goes on is in its books; what fails because the daemon
        // stops, and no other source has the checkpoints by then, is there for the next start.
        let is_end = self.is_stopped.get() && !self.store.is_held();
        let how = match result {
            Err(failure) if is_end && !is_for_good(failure) => Fired::Again,
            _ => Fired::Settled,
        };
        if progress.fired(stretch, how) {
            self.store.note(progress);
        }
        self.check_stopped();
    }

    /// Delivers what is held of a file that will not go on.
    fn finish(&self, tail: &Rc<Tail>) {
        let mut frames = self.frames.take();
        let cut = match &mut *tail.stage.borrow_mut() {
            Stage::Reading(reading) if reading.lines.holds() => {
                Some(reading.lines.finish(&mut frames))
            }
            _ => None,
        };
        self.input.count(&frames);
        frames.clear();
        self.frames.replace(frames);
        if let Some(cut) = cut {
            self.deliver(tail, cut);
        }
        tail.flush_at.set(None);
    }

    fn time_open_event(&self, tail: &Tail) {
        let is_open = match &*tail.stage.borrow() {
            Stage::Reading(reading) => reading.lines.has_open_event(),
            Stage::New | Stage::Comparing(_) => false,
        };
        if !is_open {
            return tail.flush_at.set(None);
        }
        let at = self.handle.now() + self.settings.join_timeout;
        if tail.flush_at.replace(Some(at)).is_none() {
            self.remind(tail, at);
        }
    }

    /// There was nothing more to read at ask number `asked`; nothing had come since the one
    /// before where `is_quiet`.
    fn at_end(&self, tail: &Rc<Tail>, metadata: &Metadata, is_quiet: bool, asked: u64) {
        self.release_followers(tail, asked);
        self.next_packed(tail.id);
        let is_leaving = !tail.is_matched.get() || metadata.links == 0;
        if !is_leaving {
            return self.spare(tail);
        }
        let now = self.handle.now();
        match tail.close_at.get() {
            Some(at) if at <= now && is_quiet => self.close(tail),
            Some(at) if at > now => {}
            _ => {
                let at = now + self.settings.close_after;
                tail.close_at.set(Some(at));
                self.remind(tail, at);
            }
        }
    }

    /// Who waits for the end of `tail`, since before ask number `asked`, may be read.
    fn release_followers(&self, tail: &Tail, asked: u64) {
        let mut waiting = tail.followers.borrow_mut();
        let released: Vec<_> = waiting
            .extract_if(.., |(since, _)| *since < asked)
            .collect();
        drop(waiting);
        for follower in released.iter().filter_map(|(_, weak)| weak.upgrade()) {
            follower.after.take();
            self.look(&follower);
        }
    }

    /// Something is due for the file.
    pub(super) fn is_due(&self, tail: &Rc<Tail>, now: Instant) {
        match tail.flush_at.get() {
            // What goes on with it may be there, and only not read yet.
            Some(at) if at <= now && tail.is_behind() => {
                let at = now + self.settings.join_timeout.max(WAIT_MIN);
                tail.flush_at.set(Some(at));
                self.remind(tail, at);
            }
            Some(at) if at <= now => self.flush(tail),
            Some(at) => self.remind(tail, at),
            None => {}
        }
        let retry = tail.trouble.borrow().as_ref().map(|it| it.retry_at);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let is_waiting = is_due(tail.not_before.get());
        if is_waiting {
            tail.not_before.set(None);
        }
        if is_waiting || is_due(retry) || is_due(tail.close_at.get()) {
            self.look(tail);
        }
    }

    fn flush(&self, tail: &Rc<Tail>) {
        tail.flush_at.set(None);
        let cut = match &mut *tail.stage.borrow_mut() {
            Stage::Reading(reading) => reading.lines.flush(),
            Stage::New | Stage::Comparing(_) => return,
        };
        self.deliver(tail, cut);
    }

    /// The file is gone, and read to its end.
    pub(super) fn close(&self, tail: &Rc<Tail>) {
        self.finish(tail);
        if let Stage::Reading(reading) = &*tail.stage.borrow() {
            reading.progress.is_claimed.set(false);
        }
        tail.is_closed.set(true);
        self.next_packed(tail.id);
        self.let_go(tail);
        self.works(tail);
        self.release_followers(tail, u64::MAX);
        if let Some(watch) = tail.watch.take() {
            self.by_watch.borrow_mut().remove(&watch);
            if let Some(watcher) = &self.desk.borrow().watcher {
                watcher.forget(watch);
            }
        }
        self.tails.borrow_mut().remove(&tail.id);
        let mut by_inode = self.by_inode.borrow_mut();
        if by_inode.get(&tail.inode) == Some(&tail.id) {
            by_inode.remove(&tail.inode);
        }
        self.by_path.borrow_mut().retain(|_, id| *id != tail.id);
    }

    /// It cannot be read; that is tried again, after longer and longer pauses.
    pub(super) fn fails(&self, tail: &Rc<Tail>, error: &io::Error) {
        self.let_go(tail);
        self.next_packed(tail.id);
        if error.kind() == io::ErrorKind::NotFound {
            // Nothing can be had of it under this name; a walk finds where it went.
            if !tail.is_matched.get() || !tail.is_reading() {
                self.close(tail);
            }
            return self.request_scan();
        }
        let now = self.handle.now();
        let mut trouble = tail.trouble.borrow_mut();
        let pause = match &*trouble {
            Some(trouble) => (trouble.pause * 2).min(RETRY_MAX),
            None => {
                let unreadable = &self.counts.unreadable;
                unreadable.set(unreadable.get() + 1);
                FileUnreadable {
                    component: &self.component,
                    path: &tail.shown(),
                    why: error,
                }
                .log();
                RETRY_MIN
            }
        };
        let retry_at = now + pause;
        *trouble = Some(Trouble { retry_at, pause });
        drop(trouble);
        self.release_followers(tail, u64::MAX);
        self.remind(tail, retry_at);
    }

    fn works(&self, tail: &Tail) {
        if tail.trouble.take().is_none() {
            return;
        }
        let unreadable = &self.counts.unreadable;
        unreadable.set(unreadable.get() - 1);
        FileReadable {
            component: &self.component,
            path: &tail.shown(),
        }
        .log();
    }
}

/// The events of `piece`.
fn batch(tail: &Tail, piece: Piece, received: WallTime) -> Batch {
    let mut batch = Batch::new(Arc::clone(&tail.origin), received, piece.bytes);
    batch.events = match piece.uncut {
        Some(Uncut { span, count }) => Events::uncut(batch.bytes.clone(), event_span(span), count),
        None => {
            let spans = piece.spans.iter().copied();
            spans.map(|span| Event::Raw(event_span(span))).collect()
        }
    };
    batch.lines = piece.lines;
    for (index, mark) in piece.marks {
        let (name, reason) = mark_of(mark);
        batch.events[index].mark(&batch.bytes, name, reason);
    }
    batch
}
