//! What a port keeps its parts in between admission and the sink: memory, or a disk.
//!
//! A [`Queue`] keeps parts in order and the books of its room. It decides which parts may go to
//! the sink (a disk queue lets none go that is not durable), and it is told when nobody needs
//! the bytes of a part any more. It calls nobody but its port, whose calls are queued for the
//! turn.

use std::fmt;
use std::rc::Rc;

use crate::deferred::Deferred;

use super::part::Part;
use super::port::Port;

/// What happens when a buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The sources wait.
    #[default]
    Block,
    /// What comes in is dropped and counted; a source that answers refuses it instead.
    DropNewest,
    /// What is oldest is dropped and counted, also where it was acknowledged.
    DropOldest,
}

/// Keeps parts in order between admission and the sink.
pub trait Queue {
    /// The port that owns this queue; called once, before anything else.
    fn attach(&self, _port: &Rc<Port>) {}

    /// Whether parts of `bytes` more may come in. An empty queue takes one part of any size:
    /// what is larger than the whole buffer must not wait for ever.
    fn fits(&self, bytes: usize) -> bool;

    /// Takes a part that [`Queue::fits`], or that must come in all the same.
    fn push(&self, part: Part);

    /// The oldest part that the sink may have.
    fn pop(&self) -> Option<Part>;

    /// Takes back a part that was popped, to be popped next.
    fn take_back(&self, part: Part);

    /// Nobody needs the bytes of a popped part any more.
    fn release(&self, released: Released);

    /// Gives up the oldest parts that the sink does not have, as dropped for [`EVICTED`], so
    /// that `bytes` fit. Says whether they do; if not, the port has room later.
    fn make_room(&self, bytes: usize) -> bool;

    /// The buffer is of another size from now on: `memory_bytes` of memory and, where it is on
    /// disk, `disk_bytes` there. What it holds beyond that stays: it is full until that is gone.
    fn resize(&self, memory_bytes: usize, disk_bytes: Option<u64>);

    /// What happens when it is full, from now on.
    fn set_when_full(&self, _when_full: WhenFull) {}

    /// Everything in it is delivered, and no more than kept by the sink for another time: it
    /// need not stay here for that.
    fn let_go_of_delivered(&self) {}

    /// Whether nothing is in it, nor with the sink.
    fn is_empty(&self) -> bool;

    /// Bytes that count against the buffer's size now.
    fn held_bytes(&self) -> u64;

    /// The buffer's size in bytes.
    fn capacity_bytes(&self) -> u64;

    /// Events in it, or with the sink, that the end of the process would lose.
    fn volatile_events(&self, port: &Port) -> u64;

    /// Gives up what the end of the process would lose, as dropped for `reason`.
    fn abandon(&self, port: &Rc<Port>, reason: &'static str);

    /// Whether parts come to the stage *durable* here.
    fn is_disk(&self) -> bool {
        false
    }

    /// Why nothing can be made durable now.
    fn failure(&self) -> Option<Rc<str>> {
        None
    }

    /// Puts everything in order for the next start; fires when that is done.
    fn close(&self) -> Deferred<()> {
        Deferred::ready(())
    }
}

/// Where a part is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The buffer.
    pub uuid: [u8; 16],
    /// The life of the buffer in which the events got their numbers.
    pub epoch: u64,
    /// The number of its first event.
    pub first_seq: u64,
    /// How many numbers it has.
    pub count: u32,
}

impl fmt::Display for Record {
    /// The same for every time these events are sent, and for no others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.uuid {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{}-{}", self.epoch, self.first_seq)
    }
}

/// What a part leaves behind.
#[derive(Clone, Copy, Debug)]
pub struct Released {
    /// Its bytes, as weighed at admission.
    pub bytes: usize,
    /// Where it is on disk.
    pub record: Option<Record>,
    /// The number of the memory that it counts in, among its port's.
    pub memory: Option<u64>,
}

/// The reason under which [`WhenFull::DropOldest`] counts.
pub const EVICTED: &str = "evicted";
/// The reason under which what found no room is counted.
pub const BUFFER_FULL: &str = "buffer_full";
/// The reason under which is counted what ends with the process.
pub const SHUTDOWN: &str = "shutdown";
