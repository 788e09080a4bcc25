//! Who tells a file source of changes, and what it does about them. Not a component.
//!
//! The watcher's descriptor is a source of the reactor. After something was told it is left
//! alone for [`TELL_PAUSE`], so that a writer of single lines does not wake the daemon for each
//! of them. Where nobody tells, the source walks every `poll_interval`.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::buffer::watcher::{Change, WatchId, Watcher};
use crate::deferred::Failure;
use crate::reactor::{Handle, Handler, Pollable, Progress, TimerGuard, Token};
use crate::telemetry::events::FilesPolled;
use crate::time::Duration;

use super::follow::{Follow, Watch};

/// For so long nobody listens after something was told.
const TELL_PAUSE: Duration = Duration::from_millis(10);

/// The watcher of one source.
#[derive(Default)]
pub struct Telling {
    watcher: RefCell<Option<(Arc<dyn Watcher>, Rc<OwnedFd>)>>,
    token: Cell<Option<Token>>,
    pause: RefCell<Option<TimerGuard>>,
}

impl Telling {
    /// The watcher and its descriptor. No borrow is held: whoever asks may end the telling.
    fn opened(&self) -> Option<(Arc<dyn Watcher>, Rc<OwnedFd>)> {
        self.watcher.borrow().clone()
    }
}

/// Listens to the watcher.
struct Listener(Weak<Follow>);

impl Handler for Listener {
    fn readable(&mut self, _reactor: &Handle) -> Progress {
        if let Some(follow) = self.0.upgrade() {
            follow.listen();
        }
        Progress::Blocked
    }

    fn writable(&mut self, _reactor: &Handle) -> Progress {
        Progress::Blocked
    }

    fn lost(self: Box<Self>, reason: Failure, _reactor: &Handle) {
        if let Some(follow) = self.0.upgrade().filter(|it| !it.is_stopped.get()) {
            follow.telling.token.set(None);
            follow.fall_back(&reason.text());
        }
    }
}

impl Follow {
    /// Opens the watcher, or says why there is none.
    pub(super) fn begin_telling(&self) {
        if self.settings.watch == Watch::Poll {
            return;
        }
        let opened = self.storage.watcher().and_then(|watcher| {
            let fd = watcher.descriptor()?;
            Ok((watcher, Rc::new(fd)))
        });
        match opened {
            Ok((watcher, fd)) => {
                self.desk.borrow_mut().watcher = Some(Arc::clone(&watcher));
                *self.telling.watcher.borrow_mut() = Some((watcher, fd));
                self.register();
            }
            Err(error) => self.say_polled(&format!("changes are not told of: {error}")),
        }
    }

    fn register(&self) {
        let Some((_, fd)) = self.telling.opened() else {
            return;
        };
        let listener = Box::new(Listener(self.this.clone()));
        match self.handle.register(Pollable::Fd(fd), listener) {
            Ok(token) => {
                self.telling.token.set(Some(token));
                self.handle.add_reader(token);
            }
            Err(error) => self.fall_back(&format!("cannot wait for changes: {error}")),
        }
    }

    /// Nothing is told any more.
    pub(super) fn end_telling(&self) {
        drop(self.telling.pause.take());
        if let Some(token) = self.telling.token.take() {
            self.handle.deregister(token);
        }
        drop(self.telling.watcher.take());
        self.desk.borrow_mut().watcher = None;
    }

    /// From now on files are looked at again and again.
    pub(super) fn fall_back(&self, why: &str) {
        if self.telling.watcher.borrow().is_none() {
            return;
        }
        self.end_telling();
        self.directories.borrow_mut().clear();
        self.by_watch.borrow_mut().clear();
        let tails = self.tails.borrow();
        tails.values().for_each(|tail| tail.watch.set(None));
        drop(tails);
        self.say_polled(why);
        self.request_scan();
    }

    fn say_polled(&self, why: &str) {
        let component = &self.component;
        FilesPolled { component, why }.log();
    }

    /// Hears all that there is, and then nothing for a while.
    fn listen(&self) {
        let Some((watcher, _)) = self.telling.opened() else {
            return;
        };
        let mut changes = Vec::new();
        let heard = watcher.changes(&mut changes);
        self.changed(changes);
        if let Err(error) = heard {
            return self.fall_back(&format!("changes cannot be read: {error}"));
        }
        if let Some(token) = self.telling.token.take() {
            self.handle.deregister(token);
        }
        let weak = self.this.clone();
        let timer = self.handle.call_later(TELL_PAUSE, move |_| {
            let Some(follow) = weak.upgrade() else { return };
            drop(follow.telling.pause.take());
            follow.register();
        });
        *self.telling.pause.borrow_mut() = Some(timer.guard());
    }

    fn changed(&self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::File(watch) => self.look_by(watch),
                Change::Name(watch, name) => {
                    let patterns = &self.settings.patterns;
                    let is_known = self.directories.borrow().contains_key(&watch);
                    if !is_known || name.is_none_or(|name| patterns.concerns(&name)) {
                        self.request_scan();
                    }
                }
                Change::Ended(watch) => {
                    let file = self.by_watch.borrow_mut().remove(&watch);
                    match file.and_then(|id| self.tail(id)) {
                        Some(tail) => tail.watch.set(None),
                        None => self.request_scan(),
                    }
                }
                Change::Overflow => {
                    let tails: Vec<_> = self.tails.borrow().values().cloned().collect();
                    tails.iter().for_each(|tail| self.look(tail));
                    self.request_scan();
                }
            }
        }
    }

    fn look_by(&self, watch: WatchId) {
        let id = self.by_watch.borrow().get(&watch).copied();
        if let Some(tail) = id.and_then(|id| self.tail(id)) {
            self.look(&tail);
        }
    }
}
