//! select(2): the oldest; its sets have room for descriptors below 1024 only.
//!
//! It does not report a hang-up by itself: a closed peer makes the descriptor readable, and the
//! read says the rest.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::select::{FD_SETSIZE, FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike};

use super::scan::{EventWake, Watchlist};
use super::{Direction, Pollable, Poller, Readiness, Wake, descriptor};
use crate::reactor::token::Token;

/// The poller `select`. Times are rounded up to microseconds.
pub struct SelectPoller {
    watched: Watchlist,
    waker: Arc<EventWake>,
}

impl SelectPoller {
    /// Opens the waker's descriptor.
    ///
    /// # Errors
    /// The system's; that descriptor may be too high already.
    pub fn new() -> io::Result<Self> {
        let waker = EventWake::new()?;
        check_number(waker.fd().as_raw_fd())?;
        Ok(SelectPoller {
            watched: Watchlist::default(),
            waker,
        })
    }
}

impl Poller for SelectPoller {
    fn name(&self) -> &'static str {
        "select"
    }

    fn register(&mut self, source: &Pollable, token: Token) -> io::Result<()> {
        let fd = descriptor(source)?;
        check_number(fd.as_raw_fd())?;
        self.watched.add(token, fd);
        Ok(())
    }

    fn rearm(&mut self, token: Token, direction: Direction) {
        self.watched.rearm(token, direction);
    }

    fn deregister(&mut self, token: Token) {
        self.watched.remove(token);
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Readiness>) -> io::Result<()> {
        let mut timeout = timeout.map(microseconds);
        let (mut reads, mut writes) = (FdSet::new(), FdSet::new());
        reads.insert(self.waker.fd().as_fd());
        for watched in &self.watched.entries {
            if watched.read {
                reads.insert(watched.fd.as_fd());
            }
            if watched.write {
                writes.insert(watched.fd.as_fd());
            }
        }
        let highest = self
            .watched
            .entries
            .iter()
            .map(|it| it.fd.as_raw_fd())
            .max();
        let end = highest.unwrap_or(0).max(self.waker.fd().as_raw_fd()) + 1;
        select(end, &mut reads, &mut writes, None, timeout.as_mut())?;
        let woken = reads.contains(self.waker.fd().as_fd());
        let seen: Vec<(bool, bool)> = self
            .watched
            .entries
            .iter()
            .map(|it| {
                (
                    reads.contains(it.fd.as_fd()),
                    writes.contains(it.fd.as_fd()),
                )
            })
            .collect();
        if woken {
            self.waker.quiet();
        }
        for (watched, (readable, writable)) in self.watched.entries.iter_mut().zip(seen) {
            if readable || writable {
                events.push(watched.report(readable, writable, false));
            }
        }
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }
}

/// Rounded up, so that no timer is early.
fn microseconds(timeout: Duration) -> TimeVal {
    let micros = timeout.as_nanos().div_ceil(1000);
    TimeVal::microseconds(i64::try_from(micros).unwrap_or(i64::MAX))
}

fn check_number(fd: RawFd) -> io::Result<()> {
    if usize::try_from(fd).is_ok_and(|fd| fd < FD_SETSIZE) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "the poller `select` cannot watch descriptor {fd}: it ends at {}; \
             set daemon.poller to \"epoll\" or \"poll\"",
            FD_SETSIZE - 1
        ),
    ))
}
