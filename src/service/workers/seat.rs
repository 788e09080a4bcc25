//! Which of the daemon's reactors one is, and which of them has what there is one of.
//!
//! A function of the name and of how many reactors there are, and of nothing else: all of them
//! agree without a word, over reloads, too.

use crate::config::{Component, Pipeline};

/// One of the daemon's reactors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Which one, from 0 up. The first also has the signals, the admin socket and the metrics.
    pub index: usize,
    /// How many there are; at least one.
    pub count: usize,
}

impl Seat {
    /// The only one.
    pub const ALONE: Seat = Seat { index: 0, count: 1 };

    /// Whether there is no other one.
    pub fn is_alone(self) -> bool {
        self.count == 1
    }

    /// The seat that has the one thing called `label` (`sink.archive`). By the name alone, so
    /// that a reload moves nothing; the same in every version, and in no path.
    pub fn owner_of(self, label: &str) -> usize {
        crc32c::crc32c(label.as_bytes()) as usize % self.count
    }

    /// Whether the source `of` is here.
    pub fn has_source(self, of: &Component) -> bool {
        !of.is_single || self.owner_of(&format!("source.{}", of.name)) == self.index
    }

    /// The other seat that has the sink `of`, if it is not here.
    pub fn elsewhere_sink(self, of: &Component) -> Option<usize> {
        self.other(of.is_single, &format!("sink.{}", of.name))
    }

    /// The other seat that has the pipeline `of`, if it is not here.
    pub fn elsewhere_pipeline(self, of: &Pipeline) -> Option<usize> {
        self.other(of.is_single, &format!("pipeline.{}", of.name))
    }

    fn other(self, is_single: bool, label: &str) -> Option<usize> {
        let owner = self.owner_of(label);
        (is_single && owner != self.index).then_some(owner)
    }
}
