//! poll(2): every system has it, the cost is per watched source.
//!
//! A direction that was reported is masked until re-armed. A source with both directions masked
//! is handed over all the same, with nothing asked for: the kernel reports errors and hang-ups
//! unasked, and a reset must be noticed while reading is paused (F-081). They last, so the
//! kernel would report them in every pass: once told, such a source is left out until re-armed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::scan::{EventWake, Watched, Watchlist};
use super::{Direction, Pollable, Poller, Readiness, Wake, descriptor};
use crate::reactor::token::Token;

/// The poller `poll`. Times are exact to the nanosecond (ppoll).
pub struct PollPoller {
    watched: Watchlist,
    waker: Arc<EventWake>,
}

impl PollPoller {
    /// Opens the waker's descriptor; poll itself needs none.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(PollPoller {
            watched: Watchlist::default(),
            waker: EventWake::new()?,
        })
    }
}

impl Poller for PollPoller {
    fn name(&self) -> &'static str {
        "poll"
    }

    fn register(&mut self, source: &Pollable, token: Token) -> io::Result<()> {
        self.watched.add(token, descriptor(source)?);
        Ok(())
    }

    fn rearm(&mut self, token: Token, direction: Direction) {
        self.watched.rearm(token, direction);
    }

    fn deregister(&mut self, token: Token) {
        self.watched.remove(token);
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Readiness>) -> io::Result<()> {
        let flags = answers(&self.watched.entries, &self.waker, timeout)?;
        if !flags[0].is_empty() {
            self.waker.quiet();
        }
        let asked = self.watched.entries.iter_mut().filter(|it| it.has_news());
        for (watched, flags) in asked.zip(&flags[1..]) {
            if flags.is_empty() {
                continue;
            }
            let failed = flags.intersects(PollFlags::ERR | PollFlags::NVAL);
            let ended = flags.intersects(PollFlags::HUP | PollFlags::RDHUP);
            // The peer's end of stream does not come unasked; a reset may follow it.
            watched.hangup_told |= failed || flags.contains(PollFlags::HUP);
            events.push(watched.report(
                flags.intersects(PollFlags::IN | PollFlags::PRI) || ended || failed,
                flags.intersects(PollFlags::OUT | PollFlags::HUP) || failed,
                ended || failed,
            ));
        }
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }
}

/// Calls poll and gives what it said of the waker and of each entry that may have news.
fn answers(
    entries: &[Watched],
    waker: &EventWake,
    timeout: Option<Duration>,
) -> io::Result<Vec<PollFlags>> {
    let mut fds = Vec::with_capacity(entries.len() + 1);
    fds.push(PollFd::new(waker.fd(), PollFlags::IN));
    for watched in entries.iter().filter(|it| it.has_news()) {
        let mut wanted = PollFlags::empty();
        if watched.read {
            wanted |= PollFlags::IN | PollFlags::RDHUP;
        }
        if watched.write {
            wanted |= PollFlags::OUT;
        }
        fds.push(PollFd::new(&*watched.fd, wanted));
    }
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    rustix::event::poll(&mut fds, timeout.as_ref())?;
    Ok(fds.iter().map(PollFd::revents).collect())
}
