//! Bodies read whole: a size, a least speed, a share of memory, at most one coding.
//!
//! A body is taken or refused as a whole; one that ends early, breaks its framing or its
//! coding gives nothing. Sizes count twice: as they come over the wire, and decoded. All bodies
//! that are read at one time share a [`Budget`], so that many senders at once cannot hold more
//! memory than it says. While the daemon's memory is used up no more is read.
//!
//! The first look at a body sends `100 Continue` where it is expected: whatever can be refused
//! by the header fields is refused before.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};

use super::alarm::Alarm;
use super::budget::{Budget, Share};
use super::gzip::{Gunzip, GunzipError};
use super::message::Headers;
use crate::reactor::Handle;
use crate::time::Duration;

/// What a body may be.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    /// Most bytes, on the wire and decoded.
    pub bytes_max: usize,
    /// The span over which the speed is judged.
    pub window: Duration,
    /// Fewest bytes that must come in each window.
    pub window_bytes_min: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        BodyLimits {
            bytes_max: 16 << 20,
            window: Duration::from_secs(30),
            window_bytes_min: 30 << 10, // 1 KiB/s
        }
    }
}

/// Why a body was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// More than so many bytes, or packed like a bomb.
    TooLarge(usize),
    /// It ended early or broke its framing; what the parser says.
    Broken(String),
    /// Not what its `Content-Encoding` says, or cut off within it.
    Undecodable,
    /// A coding that is not taken, or more than one.
    UnknownCoding(String),
    /// Too little came in a window.
    TooSlow,
    /// The bodies under way use up their budget.
    TooMany,
    /// The daemon's memory was used up for longer than a body waits for it.
    NoMemory,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge(max) => {
                write!(
                    f,
                    "the body is larger than {max} bytes, or packed too tightly; raise \
                     max_body, or send less at once"
                )
            }
            BodyError::Broken(why) => write!(f, "the body is broken or incomplete: {why}"),
            BodyError::Undecodable => f.write_str("the body is not complete, undamaged gzip"),
            BodyError::UnknownCoding(coding) => {
                write!(
                    f,
                    "content-encoding {coding:?} is not taken; send gzip or none"
                )
            }
            BodyError::TooSlow => f.write_str("the body came too slowly"),
            BodyError::TooMany => f.write_str("too many bodies are being received"),
            BodyError::NoMemory => f.write_str(
                "the memory of the daemon is used up by what its sinks have not taken yet \
                 (daemon.memory)",
            ),
        }
    }
}

impl std::error::Error for BodyError {}

/// The body of a message that is still on the wire.
pub struct Body {
    incoming: Incoming,
    coding: Result<Coding, BodyError>,
    declared_bytes: Option<u64>,
    reactor: Handle,
    /// Set once it was read to its end.
    was_read: Rc<Cell<bool>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Plain,
    Gzip,
}

impl Body {
    pub(super) fn new(incoming: Incoming, headers: &Headers, reactor: &Handle) -> Self {
        Body {
            coding: coding(headers),
            declared_bytes: incoming.size_hint().exact(),
            was_read: Rc::new(Cell::new(incoming.is_end_stream())),
            incoming,
            reactor: reactor.clone(),
        }
    }

    /// Told when the body has been read to its end.
    pub(super) fn was_read(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.was_read)
    }

    /// What the header fields alone forbid.
    pub fn check(&self, limits: &BodyLimits) -> Result<(), BodyError> {
        self.coding.clone()?;
        match self.declared_bytes {
            Some(bytes) if bytes > limits.bytes_max as u64 => {
                Err(BodyError::TooLarge(limits.bytes_max))
            }
            _ => Ok(()),
        }
    }

    /// Reads and decodes all of it.
    pub async fn read(
        mut self,
        limits: &BodyLimits,
        budget: &Rc<Budget>,
    ) -> Result<Bytes, BodyError> {
        self.check(limits)?;
        let share = Share::new(budget);
        let mut collector = Collector::new(self.coding.clone()?, limits.bytes_max, share);
        let mut alarm = Alarm::new(&self.reactor);
        alarm.set(limits.window);
        let mut window_bytes = 0;
        while let Some(step) = self.step(&alarm).await {
            match step {
                Step::Data(bytes) => {
                    if budget.is_room_full() {
                        self.wait_for_room(budget).await?;
                        // The pause was ours: the sender's speed is judged from here.
                        alarm.set(limits.window);
                        window_bytes = 0;
                    }
                    window_bytes += bytes.len();
                    collector.push(&bytes)?;
                }
                Step::Trailers => {}
                Step::Failed(why) => return Err(BodyError::Broken(why)),
                Step::WindowOver if window_bytes < limits.window_bytes_min => {
                    return Err(BodyError::TooSlow);
                }
                Step::WindowOver => {
                    window_bytes = 0;
                    alarm.set(limits.window);
                }
            }
        }
        let wire_bytes = collector.wire_bytes as u64;
        if self
            .declared_bytes
            .is_some_and(|declared| declared != wire_bytes)
        {
            let why = format!("it ended after {wire_bytes} bytes");
            return Err(BodyError::Broken(why));
        }
        self.was_read.set(true);
        collector.finish()
    }

    /// Reads nothing until there is memory again: what comes stays with the sender.
    async fn wait_for_room(&self, budget: &Budget) -> Result<(), BodyError> {
        let until = self.reactor.now() + budget.patience();
        let mut alarm = Alarm::new(&self.reactor);
        while budget.is_room_full() {
            let left = until.since(self.reactor.now());
            if left.is_zero() {
                return Err(BodyError::NoMemory);
            }
            alarm.set(left.min(ROOM_RETRY));
            poll_fn(|context| alarm.poll(context)).await;
        }
        Ok(())
    }

    async fn step(&mut self, alarm: &Alarm) -> Option<Step> {
        poll_fn(|context| {
            let polled = Pin::new(&mut self.incoming).poll_frame(context);
            match polled {
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Step::Failed(reason(&error)))),
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.into_data().map_or(Step::Trailers, Step::Data);
                    Poll::Ready(Some(data))
                }
                Poll::Pending => alarm.poll(context).map(|()| Some(Step::WindowOver)),
            }
        })
        .await
    }
}

/// What the next look at a body gave.
enum Step {
    Data(Bytes),
    Trailers,
    Failed(String),
    WindowOver,
}

/// An error of hyper with its causes.
pub(super) fn reason(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The one coding a body may have (RFC 9110 section 8.4.1; `x-gzip` means the same).
fn coding(headers: &Headers) -> Result<Coding, BodyError> {
    let named = headers.list("content-encoding");
    match named.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["identity"] => Ok(Coding::Plain),
        ["gzip" | "x-gzip"] => Ok(Coding::Gzip),
        _ => Err(BodyError::UnknownCoding(named.join(", "))),
    }
}

/// What has come of a body.
struct Collector {
    decoder: Decoder,
    wire_bytes: usize,
    bytes_max: usize,
    share: Share,
}

enum Decoder {
    Plain(Vec<u8>),
    Gzip(Box<Gunzip>),
}

impl Collector {
    fn new(coding: Coding, bytes_max: usize, share: Share) -> Self {
        let decoder = match coding {
            Coding::Plain => Decoder::Plain(Vec::new()),
            Coding::Gzip => Decoder::Gzip(Box::new(Gunzip::new(bytes_max))),
        };
        Collector {
            decoder,
            wire_bytes: 0,
            bytes_max,
            share,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.wire_bytes += bytes.len();
        if self.wire_bytes > self.bytes_max {
            return Err(BodyError::TooLarge(self.bytes_max));
        }
        match &mut self.decoder {
            Decoder::Plain(output) => {
                output.extend_from_slice(bytes);
                self.share.grow_to(output.len(), output.capacity())?;
            }
            Decoder::Gzip(gunzip) => {
                let pushed = gunzip.push(bytes);
                pushed.map_err(|error| undecodable(error, self.bytes_max))?;
                let bytes = gunzip.output_bytes();
                self.share.grow_to(bytes, gunzip.allocated_bytes())?;
            }
        }
        Ok(())
    }

    /// The content in a buffer of its exact size.
    fn finish(self) -> Result<Bytes, BodyError> {
        let output = match self.decoder {
            Decoder::Plain(output) => output,
            Decoder::Gzip(gunzip) => gunzip
                .finish()
                .map_err(|error| undecodable(error, self.bytes_max))?,
        };
        Ok(self.share.settle(output))
    }
}

/// How often a body that waits for memory looks again: memory is given back wherever the last
/// holder of some bytes is, which nobody announces.
const ROOM_RETRY: Duration = Duration::from_millis(20);

fn undecodable(error: GunzipError, bytes_max: usize) -> BodyError {
    match error {
        GunzipError::TooLarge => BodyError::TooLarge(bytes_max),
        GunzipError::Damaged => BodyError::Undecodable,
    }
}
