//! `marline buffer cat` and `export`: the events of a buffer, oldest first.
//!
//! Both begin with the first event that is not known to be delivered. What cannot be read is
//! told on standard error, and the rest goes on; then the exit code says that there is damage.
//! A reader of standard output that goes away is no failure.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::buffer::disk::inspect::Seen;
use crate::event::codec::{Decoded, NameCache};
use crate::event::{Event, json};
use crate::pipeline::encode::{Encoder, Frame, Output};
use crate::service::cli::{answer, complain};

use super::{Buffer, CatArguments, EXIT_DAMAGED, EXIT_USAGE, Encode, Stop, listing};

/// What is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 64 << 10;

/// Prints events to standard output.
pub(super) fn cat(buffer: &Buffer, arguments: &CatArguments) -> Result<u8, Stop> {
    let encoder = match arguments.encode {
        Encode::Json => Encoder::Json,
        Encode::Raw => Encoder::Raw,
    };
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let mut out = BufWriter::with_capacity(WRITE_BYTES, io::stdout().lock());
    let mut output = Output::new();
    let read = each(buffer, limit, |_, batch, range| {
        let events = &batch.batch.events[range];
        encoder.encode(&batch.batch, events, Frame::Lines, &mut output);
        let pieces = output.take();
        pieces.iter().try_for_each(|piece| out.write_all(piece))
    })?;
    let written = read.written.and_then(|()| out.flush());
    // What is left in the buffer must not be tried again when it is dropped.
    let _ = out.into_parts();
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(Stop::io("cannot write to standard output", &error)),
        Ok(()) => Ok(read.code),
    }
}

/// Writes events to a file that there is not yet.
pub(super) fn export(buffer: &Buffer, path: &Path) -> Result<u8, Stop> {
    let failed = |error: &io::Error| {
        let what = format!("cannot write {}", path.display());
        match error.kind() {
            io::ErrorKind::AlreadyExists => Stop::new(
                EXIT_USAGE,
                format!("{what}: it exists already"),
                "name a new file",
            ),
            _ => Stop::io(what, error),
        }
    };
    // Events are nobody else's business.
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = opened.map_err(|error| failed(&error))?;
    let mut out = BufWriter::with_capacity(WRITE_BYTES, file);
    let mut line = Vec::new();
    let read = each(buffer, u64::MAX, |first_seq, decoded, range| {
        let lines = Lines::new(decoded);
        for (seq, event) in (first_seq..).zip(&decoded.batch.events[range]) {
            line.clear();
            lines.write(seq, event, &mut line);
            out.write_all(&line)?;
        }
        Ok(())
    })?;
    let written = read.written.and_then(|()| out.flush());
    let written = written.and_then(|()| out.get_ref().sync_all());
    written.map_err(|error| failed(&error))?;
    let events = read.events;
    Ok(answer(&format!("exported {events} events to {}\n", path.display())).max(read.code))
}

/// What going through a buffer came to.
struct Read {
    events: u64,
    /// The exit code, as far as the buffer is concerned.
    code: u8,
    /// Whether what takes the events has failed; then the rest was not read.
    written: io::Result<()>,
}

/// Gives `take` every batch with the range of its events that is wanted, and the number of the
/// first of them; `limit` events at most.
fn each(
    buffer: &Buffer,
    limit: u64,
    mut take: impl FnMut(u64, &Decoded, Range<usize>) -> io::Result<()>,
) -> Result<Read, Stop> {
    let inspection = buffer.look(buffer.owner().is_some())?;
    let mut read = Read {
        events: 0,
        code: 0,
        written: Ok(()),
    };
    let mut names = NameCache::new();
    for seen in inspection.walk(inspection.first_seq) {
        if read.events == limit {
            break;
        }
        let record = match seen {
            Seen::Record(record) => record,
            Seen::Finding(finding) => {
                complain(&format!("note: {}/{finding}\n", buffer.path.display()));
                if finding.what.is_alarm() {
                    read.code = EXIT_DAMAGED;
                }
                continue;
            }
        };
        let decoded = match listing::read(&record, &mut names) {
            Ok(decoded) => decoded,
            Err(what) => {
                let (first, count) = (record.first_seq, record.count);
                complain(&format!(
                    "note: {count} events from number {first} on: {what}\n"
                ));
                read.code = EXIT_DAMAGED;
                continue;
            }
        };
        // Those before were delivered.
        let done = inspection.first_seq.saturating_sub(record.first_seq);
        let count = (u64::from(record.count) - done).min(limit - read.events);
        read.events += count;
        let range = done as usize..(done + count) as usize;
        read.written = take(record.first_seq + done, &decoded, range);
        if read.written.is_err() {
            break;
        }
    }
    Ok(read)
}

/// The lines of one batch: what its events share is made once.
struct Lines<'a> {
    decoded: &'a Decoded,
    writer: json::Writer<'a>,
    /// `"%source":…,"pipeline":…,"%peer":…,"%received":…,"event":`
    shared: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(decoded: &'a Decoded) -> Lines<'a> {
        let batch = &decoded.batch;
        let received = batch.received.to_string();
        let members = [
            ("%source", &*batch.origin.source),
            ("pipeline", &*decoded.pipeline),
            ("%peer", &*batch.origin.peer),
            ("%received", &received),
        ];
        let mut shared = Vec::new();
        for (name, text) in members {
            json::write_text(name.as_bytes(), &mut shared);
            shared.push(b':');
            json::write_text(text.as_bytes(), &mut shared);
            shared.push(b',');
        }
        shared.extend_from_slice(b"\"event\":");
        Lines {
            decoded,
            writer: json::Writer::new(batch),
            shared,
        }
    }

    /// One event. Its original bytes stand beside it where its JSON does not have them: as
    /// text, or in base64 where they are no UTF-8.
    fn write(&self, seq: u64, event: &Event, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{{\"seq\":{seq},").as_bytes());
        out.extend_from_slice(&self.shared);
        self.writer.write(event, out);
        let raw = self.decoded.batch.raw(event);
        match (std::str::from_utf8(raw), event) {
            (Ok(_), Event::Raw(_)) => {}
            (Ok(_), Event::Fields(_)) => {
                out.extend_from_slice(b",\"raw\":");
                json::write_text(raw, out);
            }
            (Err(_), _) => {
                out.extend_from_slice(b",\"raw_base64\":");
                json::write_text(STANDARD.encode(raw).as_bytes(), out);
            }
        }
        out.extend_from_slice(b"}\n");
    }
}
