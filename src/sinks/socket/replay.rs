//! What a stream keeps of the frames that the peer's kernel has acknowledged: its process may
//! not have read them, and after a reset or a time-out nobody can say.
//!
//! Frames are kept as they were written and their events are let go: the fields of events take
//! more memory than what is written of them, and memory that is not touched again soon is what a
//! fast stream pays most for.
//! As much of the stream is kept as the peer's kernel can hold, which its largest window tells:
//! what it holds lies behind what it had room for. The oldest go first, when the parts behind
//! them are enough; and always when what is kept weighs more than its share of the sink's
//! buffer, or costs more memory than that.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use bytes::Bytes;

use crate::pipeline::options::Options;
use crate::pipeline::part::{KeptPlace, Part};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// Nothing.
    Off,
    /// What the peer's kernel may hold.
    Auto,
    /// So many bytes of the stream.
    Bytes(u64),
}

impl Replay {
    /// By the option `replay`.
    pub(super) fn of(options: &Options) -> Replay {
        match (options.maybe_size("replay"), options.word("replay")) {
            (Some(bytes), _) => Replay::Bytes(bytes),
            (None, "off") => Replay::Off,
            (None, _) => Replay::Auto,
        }
    }
}

/// A part that is to be sent, or sent again.
pub(super) struct Item {
    pub(super) load: Load,
    /// So many of its events had been acknowledged when their connection was lost.
    pub(super) repeated: u64,
}

/// What is sent.
pub(super) enum Load {
    /// A part that is to be settled.
    First(Part),
    /// One that was.
    Again(Frames),
}

/// The frames that are kept, of one sink.
pub(super) struct Tail {
    replay: Replay,
    /// What may be kept, in bytes as they count in the sink's buffer.
    weight_max: usize,
    /// The largest window of the peer of this connection; 0 while none is known.
    window_bytes: Cell<u64>,
    /// Where the stream was acknowledged to when the window was last asked for.
    asked_at: Cell<u64>,
    /// Whether this connection's peer keeps anything at all that its process has not read.
    is_needed: Cell<bool>,
    kept: RefCell<VecDeque<Frames>>,
    /// Their sum.
    stream_bytes: Cell<u64>,
    weight: Cell<usize>,
    is_short_told: Cell<bool>,
}

/// The frames of one part that is kept.
pub(super) struct Frames {
    place: KeptPlace,
    pieces: Vec<Bytes>,
    /// Their length in the stream.
    bytes: u64,
}

impl Frames {
    /// What is to be written.
    pub(super) fn pieces(&self) -> Vec<Bytes> {
        self.pieces.clone()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.place.events()
    }

    fn weight(&self) -> usize {
        self.place.bytes() + ENTRY_BYTES
    }
}

impl Tail {
    /// Nothing kept yet; never more than `weight_max` bytes of the sink's buffer.
    pub(super) fn new(replay: Replay, weight_max: usize) -> Tail {
        Tail {
            replay,
            weight_max,
            window_bytes: Cell::new(0),
            asked_at: Cell::new(0),
            is_needed: Cell::new(false),
            kept: RefCell::default(),
            stream_bytes: Cell::new(0),
            weight: Cell::new(0),
            is_short_told: Cell::new(false),
        }
    }

    /// A new connection, of which nothing is known yet. `is_tcp`: what is acknowledged may be
    /// unread; of a Unix socket it was read.
    pub(super) fn begin(&self, is_tcp: bool) {
        self.is_needed.set(is_tcp && self.replay != Replay::Off);
        self.window_bytes.set(0);
        self.asked_at.set(0);
    }

    /// Whether anything is kept on this connection.
    pub(super) fn is_needed(&self) -> bool {
        self.is_needed.get()
    }

    /// Whether to ask for the peer's window, the stream being acknowledged up to `acked`: it
    /// cannot have come to matter before so much has arrived as is kept at least.
    pub(super) fn wants_window(&self, acked: u64) -> bool {
        let is_due = acked >= self.asked_at.get() + SLACK_BYTES;
        if is_due && self.is_needed() && self.replay == Replay::Auto {
            self.asked_at.set(acked);
            return true;
        }
        false
    }

    /// The peer's window is so large now; `None` where our kernel does not say, and then as much
    /// is kept as may be.
    pub(super) fn saw_window(&self, bytes: Option<u64>) {
        let largest = self.window_bytes.get();
        self.window_bytes
            .set(largest.max(bytes.unwrap_or(u64::MAX)));
    }

    /// How much of the stream is to be kept.
    fn wanted_bytes(&self) -> u64 {
        match self.replay {
            Replay::Off => 0,
            Replay::Bytes(bytes) => bytes,
            Replay::Auto => {
                let window = self.window_bytes.get();
                let more = window.saturating_add(window / 4);
                more.saturating_add(SLACK_BYTES)
            }
        }
    }

    /// Keeps a part that has arrived as `pieces` of the stream.
    pub(super) fn keep(&self, place: KeptPlace, pieces: Vec<Bytes>) {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.keep_again(Frames {
            place,
            pieces,
            bytes,
        });
    }

    /// Keeps what was sent again and has arrived.
    pub(super) fn keep_again(&self, frames: Frames) {
        self.stream_bytes
            .set(self.stream_bytes.get() + frames.bytes);
        self.weight.set(self.weight.get() + frames.weight());
        self.kept.borrow_mut().push_back(frames);
    }

    /// Lets go of what need not or may not be kept. The answer is how much is kept, the first
    /// time that this is less than the peer's kernel may hold.
    pub(super) fn trim(&self) -> Option<Short> {
        // A planted bug, for the simulator to find: nothing is there when it is needed.
        #[cfg(sim_bug = "empty_replay")]
        self.kept.take();
        let wanted = self.wanted_bytes();
        let mut short = None;
        while let Some(frames) = self.pop_spare(wanted) {
            let left = self.stream_bytes.get();
            if left < wanted.min(self.window_bytes.get()) && !self.is_short_told.replace(true) {
                short = Some(Short {
                    kept_bytes: left,
                    window_bytes: self.window_bytes.get(),
                });
            }
            drop(frames);
        }
        short
    }

    fn pop_spare(&self, wanted: u64) -> Option<Frames> {
        let is_heavy = self.weight.get() > self.weight_max;
        let stream_bytes = self.stream_bytes.get();
        let mut kept = self.kept.borrow_mut();
        let first = kept.pop_front_if(|it| is_heavy || stream_bytes - it.bytes >= wanted)?;
        self.stream_bytes.set(stream_bytes - first.bytes);
        self.weight.set(self.weight.get() - first.weight());
        Some(first)
    }

    /// Everything that is kept, oldest first, to be sent again.
    pub(super) fn take(&self) -> Vec<Item> {
        self.stream_bytes.set(0);
        self.weight.set(0);
        let kept = self.kept.take().into_iter();
        kept.map(|frames| Item {
            repeated: frames.len() as u64,
            load: Load::Again(frames),
        })
        .collect()
    }
}

/// Less is kept than the peer's kernel may hold.
pub(super) struct Short {
    pub(super) kept_bytes: u64,
    pub(super) window_bytes: u64,
}

/// Kept beyond what the windows say, which are not seen at every moment.
const SLACK_BYTES: u64 = 64 * 1024;

/// What a part costs beside its events, in bytes.
const ENTRY_BYTES: usize = 256;
