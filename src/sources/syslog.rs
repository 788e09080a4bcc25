//! `syslog`: messages of RFC 5424, RFC 3164 and what devices send, over every transport.
//!
//! It listens as `socket` does (RFC 6587 over streams, RFC 5426 over UDP, local sockets) and reads
//! each message by itself, so senders of all dialects may share a port. Nothing is dropped for
//! being no syslog: it stays raw, marked `parse_error`, and is counted. Which dialects each sender
//! speaks is in the status, for a bounded number of senders.

mod dialects;
mod sequence;

use std::cell::Cell;
use std::rc::Rc;

use crate::event::zone::Zone;
use crate::event::{Batch, Origin, Span};
use crate::pipeline::component::Source;
use crate::pipeline::descriptor::{Build, Descriptor};
use crate::pipeline::facts::Facts;
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::shared_options;
use crate::pipeline::tls::LISTENING_TLS;
use crate::protocol::syslog;
use crate::steps::parse::syslog::{Reader, TIMEZONE, timezone};
use crate::telemetry::events::SyslogCounts;

use super::listening::{FRAMING, LISTEN, Listening, RECEIVE_BUFFER};
use super::reading::{Reading, Reads};
use dialects::{Dialects, Row};
use sequence::{Sequences, Step};

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "syslog",
    summary: "syslog of all dialects (RFC 5424, RFC 3164, devices) over TCP, TLS, UDP, Unix",
    options: &[
        LISTEN,
        FRAMING,
        TIMEZONE,
        shared_options::MAX_MESSAGE,
        RECEIVE_BUFFER,
    ],
    shared: &[shared_options::ACCEPTING, LISTENING_TLS],
    example: "[source.syslog]\ntype   = \"syslog\"\n\
              listen = [\"tcp://127.0.0.1:5514\", \"udp://127.0.0.1:5514\"]\n",
    build: Build::Source(build),
};

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    Ok(Listening::of(options)?.source(Some(reads(options))))
}

/// How the frames of a source with these options are read.
pub fn reads(options: &Options) -> Box<dyn Reads> {
    Box::new(Syslog(Rc::new(Shared {
        zone: timezone(options),
        dialects: Dialects::default(),
        counts: Counts::default(),
    })))
}

/// What all senders of a source share.
struct Shared {
    zone: Zone,
    dialects: Dialects,
    counts: Counts,
}

/// Counts beside the dialects.
#[derive(Default)]
struct Counts {
    /// Messages that are no syslog.
    unparsed: Cell<u64>,
    /// Messages with a field longer than RFC 5424 allows.
    overlong: Cell<u64>,
    /// Messages that were not there when one with a later number came.
    missing: Cell<u64>,
    /// Messages that came after one with a later number, or again.
    late: Cell<u64>,
    /// Senders that began to count anew.
    restarts: Cell<u64>,
}

struct Syslog(Rc<Shared>);

impl Reads for Syslog {
    fn sender(&self, origin: &Origin) -> Box<dyn Reading> {
        Box::new(Sender {
            reader: Reader::new(self.0.zone),
            row: self.0.dialects.row(origin.host()),
            sequences: Sequences::default(),
            shared: Rc::clone(&self.0),
        })
    }

    fn add_to(&self, facts: &mut Facts) {
        let counts = &self.0.counts;
        facts.counts.extend([
            ("unparsed", counts.unparsed.get()),
            ("overlong", counts.overlong.get()),
            ("sequence_missing", counts.missing.get()),
            ("sequence_late", counts.late.get()),
            ("sequence_restarts", counts.restarts.get()),
        ]);
        facts.dialects = self.0.dialects.facts();
    }

    fn log_counts(&self, source: &str) {
        let counts = &self.0.counts;
        let record = SyslogCounts {
            source,
            dialects: &self.0.dialects.totals(),
            unparsed: counts.unparsed.get(),
            overlong: counts.overlong.get(),
            sequence_missing: counts.missing.get(),
            sequence_late: counts.late.get(),
            sequence_restarts: counts.restarts.get(),
        };
        record.log();
    }
}

/// One connection, or one sender of datagrams.
struct Sender {
    reader: Reader,
    row: Rc<Row>,
    sequences: Sequences,
    shared: Rc<Shared>,
}

impl Reading for Sender {
    fn read(&mut self, batch: &mut Batch) {
        self.reader.received_at(batch.received.as_micros());
        let counts = &self.shared.counts;
        for event in &mut batch.events {
            let whole = event.raw();
            let count = syslog::count_bytes(whole.of(&batch.bytes));
            let raw = Span::new(whole.start as usize + count, whole.end as usize);
            let (read, message) = self.reader.event(&batch.bytes, raw);
            *event = read;
            let Ok(message) = message else {
                self.row.count_unparsed();
                add(&counts.unparsed, 1);
                continue;
            };
            self.row.count(message.format);
            add(&counts.overlong, u64::from(message.overlong > 0));
            if let Some(number) = message.sequence {
                let text = raw.of(&batch.bytes);
                let host = message.host.map_or(&[][..], |span| span.of(text));
                match self.sequences.step(host, number) {
                    Step::Next => {}
                    Step::Missing(messages) => add(&counts.missing, messages),
                    // Not taken off what is missing: whoever watches a count that goes down
                    // takes that for a new beginning.
                    Step::Late => add(&counts.late, 1),
                    Step::Restart => add(&counts.restarts, 1),
                }
            }
        }
    }
}

fn add(count: &Cell<u64>, amount: u64) {
    count.set(count.get() + amount);
}
