//! What poll(2) and select(2) have in common: a list of descriptors that is handed over at each
//! wait, with a mask per direction, and a waker that is one more descriptor in it.
//!
//! A mask is set by a report and taken back by `rearm`; that makes level-triggered calls behave
//! like edges.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use rustix::event::EventfdFlags;

use super::{Direction, Readiness, Wake};
use crate::reactor::token::Token;

/// A watched descriptor and which of its directions may be reported.
pub(super) struct Watched {
    pub(super) token: Token,
    pub(super) fd: Rc<OwnedFd>,
    pub(super) read: bool,
    pub(super) write: bool,
    /// A hang-up or an error that lasts was told and nothing was re-armed since.
    pub(super) hangup_told: bool,
}

impl Watched {
    /// Whether a report of this source would say something new.
    pub(super) fn has_news(&self) -> bool {
        self.read || self.write || !self.hangup_told
    }

    /// What is left of a report when masked directions are silent; masks what is reported.
    pub(super) fn report(&mut self, readable: bool, writable: bool, hangup: bool) -> Readiness {
        let seen = Readiness {
            token: self.token,
            readable: self.read && readable,
            writable: self.write && writable,
            hangup,
        };
        self.read &= !seen.readable;
        self.write &= !seen.writable;
        seen
    }
}

/// The watched descriptors, in no order, each found by its token.
#[derive(Default)]
pub(super) struct Watchlist {
    pub(super) entries: Vec<Watched>,
    positions: HashMap<Token, usize>,
}

impl Watchlist {
    pub(super) fn add(&mut self, token: Token, fd: Rc<OwnedFd>) {
        self.positions.insert(token, self.entries.len());
        self.entries.push(Watched {
            token,
            fd,
            read: true,
            write: true,
            hangup_told: false,
        });
    }

    pub(super) fn remove(&mut self, token: Token) {
        let Some(position) = self.positions.remove(&token) else {
            return;
        };
        self.entries.swap_remove(position);
        if let Some(moved) = self.entries.get(position) {
            self.positions.insert(moved.token, position);
        }
    }

    pub(super) fn rearm(&mut self, token: Token, direction: Direction) {
        let Some(&position) = self.positions.get(&token) else {
            return;
        };
        let watched = &mut self.entries[position];
        watched.hangup_told = false;
        match direction {
            Direction::Read => watched.read = true,
            Direction::Write => watched.write = true,
        }
    }
}

/// An eventfd: readable once somebody wrote to it.
pub(super) struct EventWake(OwnedFd);

impl EventWake {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Arc::new(EventWake(rustix::event::eventfd(0, flags)?)))
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Makes the descriptor unreadable again.
    pub(super) fn quiet(&self) {
        // An error means that there was nothing to read, which is what is wanted.
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}

impl Wake for EventWake {
    fn wake(&self) {
        match rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
            // A full counter is as awake as can be.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => tracing::error!(%error, "cannot wake the reactor"),
        }
    }
}
