//! One stream connection of the simulated network: two pipes between two ends, and no chance.
//!
//! Written bytes wait in the sender's buffer, unacknowledged, until they have arrived in the
//! receiver's buffer, which is limited too: who does not read stops who writes. A reset destroys
//! what has not arrived; what has arrived can still be read (as on Linux), then comes the error.
//! Bytes that reach an end which was closed, and a close over unread bytes, are answered by a
//! reset (RFC 9293 section 3.6.1, RFC 2525 section 2.17).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use crate::time::{Duration, Instant};

/// Bytes that a sender's buffer holds.
pub(super) const SEND_BYTES_MAX: usize = 16 * 1024;
/// Bytes that a receiver's buffer holds.
pub(super) const RECEIVE_BYTES_MAX: usize = 16 * 1024;

/// Which of the two ends: 0 dialled, 1 accepted.
pub(super) type Side = usize;

/// A connection.
pub(super) struct Link {
    pub(super) is_unix: bool,
    pub(super) ends: [End; 2],
    /// `pipes[side]` carries what `side` writes.
    pipes: [Pipe; 2],
    /// Nothing arrives before.
    pub(super) stalled_until: Instant,
}

/// One end of a connection.
#[derive(Default)]
pub(super) struct End {
    /// Its number in the registry of readiness, while it is open.
    pub(super) io: Option<u64>,
    is_closed: bool,
    /// The connection is over for this end, by a reset.
    is_dead: bool,
    /// What it has not been told yet.
    error: Option<ErrorKind>,
    /// TCP_USER_TIMEOUT: the connection dies when the peer has had no room for so long, however
    /// alive it is (Linux: tcp_probe_timer).
    pub(super) user_timeout: Option<Duration>,
}

#[derive(Default)]
struct Pipe {
    /// Written, not arrived.
    sent: VecDeque<u8>,
    /// When which of them are due, in order: instant and length.
    due: VecDeque<(Instant, usize)>,
    end: Fin,
    /// Arrived, not read.
    arrived: VecDeque<u8>,
    /// Since when something that was due has found no room.
    full_since: Option<Instant>,
    /// Unacknowledged when a reset destroyed them.
    lost_bytes: usize,
}

/// The end of a stream on its way.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    Unsent,
    Sent(Instant),
    Arrived,
}

/// What an end may notice.
#[derive(Clone, Copy, Default)]
pub(super) struct News {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) reset: bool,
}

impl Link {
    pub(super) fn new(is_unix: bool, dialler: u64) -> Link {
        let mut ends = [End::default(), End::default()];
        ends[0].io = Some(dialler);
        Link {
            is_unix,
            ends,
            pipes: Default::default(),
            stalled_until: Instant::ZERO,
        }
    }

    /// Takes the front of what has arrived; 0 is the end of the stream. Says also whether the
    /// sender, which had stopped for want of room, may go on.
    pub(super) fn read(&mut self, side: Side, into: &mut [u8]) -> io::Result<(usize, bool)> {
        let pipe = &mut self.pipes[1 - side];
        let end = &mut self.ends[side];
        if pipe.arrived.is_empty() || into.is_empty() {
            return match (end.error.take(), end.is_dead || pipe.end == Fin::Arrived) {
                (Some(error), _) => Err(error.into()),
                (None, true) => Ok((0, false)),
                (None, false) => Err(ErrorKind::WouldBlock.into()),
            };
        }
        let count = into.len().min(pipe.arrived.len());
        for (to, from) in into.iter_mut().zip(pipe.arrived.drain(..count)) {
            *to = from;
        }
        Ok((count, pipe.full_since.take().is_some()))
    }

    /// Room for a write of `side`.
    pub(super) fn room(&mut self, side: Side) -> io::Result<usize> {
        let end = &mut self.ends[side];
        if let Some(error) = end.error.take() {
            return Err(error.into());
        }
        if end.is_dead || self.pipes[side].end != Fin::Unsent {
            return Err(ErrorKind::BrokenPipe.into());
        }
        match SEND_BYTES_MAX - self.pipes[side].sent.len() {
            0 => Err(ErrorKind::WouldBlock.into()),
            room => Ok(room),
        }
    }

    /// Puts bytes on their way, for which there is room; they arrive at `at` and never before
    /// what was sent before. Gives the instant.
    pub(super) fn send<'a>(
        &mut self,
        side: Side,
        bytes: impl Iterator<Item = &'a u8>,
        at: Instant,
    ) -> Instant {
        let pipe = &mut self.pipes[side];
        let before = pipe.sent.len();
        pipe.sent.extend(bytes);
        let at = pipe.due.back().map_or(at, |(last, _)| at.max(*last));
        pipe.due.push_back((at, pipe.sent.len() - before));
        at
    }

    /// Puts the end of the stream on its way, behind everything else.
    pub(super) fn shut(&mut self, side: Side, at: Instant) -> io::Result<Instant> {
        if self.ends[side].is_dead {
            return Err(ErrorKind::NotConnected.into());
        }
        let pipe = &mut self.pipes[side];
        let at = pipe.due.back().map_or(at, |(last, _)| at.max(*last));
        if pipe.end == Fin::Unsent {
            pipe.end = Fin::Sent(at);
        }
        Ok(at)
    }

    /// Gives the end up in order. False: unread bytes were there, so the peer is to be reset.
    pub(super) fn close(&mut self, side: Side, at: Instant) -> bool {
        let has_unread = !self.pipes[1 - side].arrived.is_empty();
        self.leave(side);
        if has_unread {
            self.pipes[side].destroy();
            return false;
        }
        // A connection that was reset has no end of stream to send.
        let _ = self.shut(side, at);
        true
    }

    /// Gives the end up at once; the peer is to be reset.
    pub(super) fn abort(&mut self, side: Side) {
        self.leave(side);
        self.pipes[side].destroy();
    }

    fn leave(&mut self, side: Side) {
        self.ends[side].io = None;
        self.ends[side].is_closed = true;
        self.pipes[1 - side].arrived.clear();
    }

    /// A reset reaches `side`.
    pub(super) fn reset(&mut self, side: Side) -> News {
        let end = &mut self.ends[side];
        let reset = !end.is_dead && !end.is_closed;
        if !end.is_dead {
            end.is_dead = true;
            end.error = Some(ErrorKind::ConnectionReset);
        }
        self.pipes[side].destroy();
        News {
            reset,
            ..News::default()
        }
    }

    /// Lets arrive what is due. Gives the news of both ends.
    pub(super) fn deliver(&mut self, now: Instant) -> [News; 2] {
        let mut news = [News::default(); 2];
        if now < self.stalled_until {
            return news;
        }
        for side in [0, 1] {
            let has_reader = !self.ends[1 - side].is_closed;
            if !has_reader && self.pipes[side].is_due(now) {
                news[side] = self.reset(side);
                continue;
            }
            let pipe = &mut self.pipes[side];
            news[side].writable |= pipe.arrive(now);
            news[1 - side].readable |= news[side].writable | pipe.arrive_end(now);
        }
        news
    }

    /// When the patience of `side` with a peer that has no room ends.
    pub(super) fn gives_up_at(&self, side: Side) -> Option<Instant> {
        let full_since = self.pipes[side].full_since?;
        let limit = self.ends[side].user_timeout?;
        (!self.is_unix && !self.ends[side].is_closed).then(|| full_since + limit)
    }

    /// Ends the connection for `side`, which is told of a time limit.
    pub(super) fn time_out(&mut self, side: Side) -> News {
        let news = self.reset(side);
        self.ends[side].error = Some(ErrorKind::TimedOut);
        news
    }

    /// Whether bytes or an end of stream are on their way.
    pub(super) fn is_busy(&self) -> bool {
        let busy = |pipe: &Pipe| !pipe.due.is_empty() || matches!(pipe.end, Fin::Sent(_));
        self.pipes.iter().any(busy)
    }

    /// Whether nobody will ever ask for this connection again.
    pub(super) fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.is_closed)
    }

    /// What `side` has not been told of.
    pub(super) fn take_error(&mut self, side: Side) -> io::Result<()> {
        let error = self.ends[side].error.take();
        error.map_or(Ok(()), |error| Err(error.into()))
    }

    /// As [`Net::outq`](crate::transport::Net::outq).
    pub(super) fn outq(&self, side: Side) -> usize {
        let pipe = &self.pipes[side];
        let unread = if self.is_unix { pipe.arrived.len() } else { 0 };
        let end = usize::from(!self.is_unix && matches!(pipe.end, Fin::Sent(_)));
        pipe.sent.len() + pipe.lost_bytes + unread + end
    }

    /// Room in the buffer that `side` sends to; none is known of a Unix socket's.
    pub(super) fn window(&self, side: Side) -> Option<usize> {
        (!self.is_unix).then(|| RECEIVE_BYTES_MAX - self.pipes[side].arrived.len())
    }

    /// What an end that is looked at for the first time finds.
    pub(super) fn state(&self, side: Side) -> News {
        let pipe = &self.pipes[1 - side];
        News {
            readable: !pipe.arrived.is_empty() || pipe.end == Fin::Arrived,
            writable: true,
            reset: self.ends[side].is_dead,
        }
    }
}

impl Pipe {
    fn is_due(&self, now: Instant) -> bool {
        self.due.front().is_some_and(|(at, _)| *at <= now)
    }

    /// Moves what is due into the receiver's buffer, as far as there is room.
    fn arrive(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while self.is_due(now) {
            let Some((_, length)) = self.due.front_mut() else {
                break;
            };
            let count = (*length).min(RECEIVE_BYTES_MAX - self.arrived.len());
            *length -= count;
            let is_whole = *length == 0;
            self.arrived.extend(self.sent.drain(..count));
            moved |= count > 0;
            if !is_whole {
                self.full_since.get_or_insert(now);
                break;
            }
            self.due.pop_front();
        }
        moved
    }

    fn arrive_end(&mut self, now: Instant) -> bool {
        let is_due = matches!(self.end, Fin::Sent(at) if at <= now) && self.due.is_empty();
        if is_due {
            self.end = Fin::Arrived;
        }
        is_due
    }

    /// What has not arrived never will.
    fn destroy(&mut self) {
        self.lost_bytes += self.sent.len();
        self.sent.clear();
        self.due.clear();
        if matches!(self.end, Fin::Sent(_)) {
            self.end = Fin::Unsent;
        }
    }
}
