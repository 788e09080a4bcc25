//! What a source makes of its frames before they are delivered: the seam between the sources that
//! know sockets and the one that knows a protocol. Not a component.
//!
//! A frame is an event of its bytes alone, unless its source reads it. Nothing is ever dropped
//! for not being readable: such an event stays raw, with a mark that says why.

use crate::event::{Batch, Origin};
use crate::pipeline::facts::Facts;

/// How a source reads what its senders send.
pub trait Reads {
    /// The reader for one sender: a connection, or who sends datagrams.
    fn sender(&self, origin: &Origin) -> Box<dyn Reading>;

    /// Adds what it has counted.
    fn add_to(&self, facts: &mut Facts);

    /// Writes it into the log, as `source`'s.
    fn log_counts(&self, source: &str);
}

/// Reads what one sender sends, in its order.
pub trait Reading {
    /// The raw events of `batch` become what they say; no event comes or goes.
    fn read(&mut self, batch: &mut Batch);
}
