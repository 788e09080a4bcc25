//! The writer: the body of the one thread that puts records out.
//!
//! To stderr, with a plain write that may block this thread and no other, or to the journal's
//! socket. What the output refuses is counted and gone: a closed stderr or a full disk must not
//! stop the daemon, and asking again and again would only burn a processor. Where the journal
//! does not answer, its line goes to stderr with the priority in front (`sd-daemon(3)`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use rustix::event::{PollFd, PollFlags, poll};

use super::format::Format;
use super::queue::Queue;
use super::record::{Level, Record};
use crate::time::WallTime;

/// Where records go.
#[derive(Debug)]
pub enum Output {
    /// Lines to a file descriptor.
    Lines(File),
    /// Datagrams to the journal.
    Journal(Journal),
    /// There is no stderr.
    Nowhere,
}

/// The socket of `systemd-journald(8)`.
const JOURNAL: &str = "/run/systemd/journal/socket";

impl Output {
    /// The output of records in `format`.
    pub fn of(format: Format) -> Output {
        if format == Format::Journald
            && let Ok(socket) = UnixDatagram::unbound()
        {
            return Output::Journal(Journal {
                socket,
                is_there: true,
            });
        }
        let stderr = io::stderr().as_fd().try_clone_to_owned();
        stderr.map_or(Output::Nowhere, Output::lines)
    }

    /// Lines to `descriptor`.
    pub fn lines(descriptor: OwnedFd) -> Output {
        Output::Lines(File::from(descriptor))
    }

    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        match self {
            Output::Lines(file) => write_whole(file, record),
            Output::Journal(journal) => journal.write(record),
            Output::Nowhere => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// The way to the journal, and whether the last record arrived there.
///
/// The largest record, escaped, is far below what a datagram may hold, so it needs no file of
/// its own (`systemd.journal-fields(7)` has one for larger ones).
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    is_there: bool,
}

impl Journal {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let was_there = self.is_there;
        match self.socket.send_to(record, JOURNAL) {
            Ok(_) if was_there => Ok(()),
            Ok(_) => {
                self.is_there = true;
                let text = "the journal takes records again".to_owned();
                self.socket.send_to(&own(Level::Info, text), JOURNAL)?;
                Ok(())
            }
            Err(error) => {
                self.is_there = false;
                if was_there {
                    let text = format!(
                        "the journal at {JOURNAL} takes no records: {error}; they go to standard \
                         error until it does"
                    );
                    write_plain(&own(Level::Warn, text))?;
                }
                write_plain(record)
            }
        }
    }
}

/// A record of the writer's own, in the journal's form.
fn own(level: Level, text: String) -> Vec<u8> {
    let mut datagram = Vec::new();
    let record = Record::own(WallTime::default(), level, "journal", text);
    Format::Journald.write(&record, &mut datagram);
    datagram
}

/// Writes a record in the journal's form as a line: its priority and its message.
fn write_plain(datagram: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(datagram);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let priority = field("PRIORITY=").unwrap_or("6");
    let message = field("MESSAGE=").unwrap_or_default();
    let component = field("MARLINE_COMPONENT=").unwrap_or_default();
    let line = format!("<{priority}>{component}: {message}\n");
    io::stderr().write_all(line.as_bytes())
}

/// Writes what comes through `queue` until it is closed.
pub fn run(queue: &Queue, mut output: Output) {
    while let Some(records) = queue.take() {
        match &mut output {
            Output::Lines(file) => write_lines(queue, file, records.iter().map(Vec::as_slice)),
            other => {
                let lost = records
                    .iter()
                    .filter(|record| other.write(record).is_err())
                    .count();
                queue.lost(lost as u64);
            }
        }
    }
}

/// The most bytes put into one write.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Few writes for many lines, no line in two writes of which one may fail.
fn write_lines<'a>(queue: &Queue, file: &mut File, lines: impl Iterator<Item = &'a [u8]>) {
    let mut block = Vec::new();
    let mut count = 0;
    let mut put = |block: &mut Vec<u8>, count: &mut u64| {
        if write_whole(file, block).is_err() {
            queue.lost(*count);
        }
        block.clear();
        *count = 0;
    };
    for line in lines {
        if block.len() + line.len() > WRITE_BYTES_MAX {
            put(&mut block, &mut count);
        }
        block.extend_from_slice(line);
        count += 1;
    }
    put(&mut block, &mut count);
}

/// Writes all of `bytes`. A stderr that somebody made non-blocking is waited for: what it
/// shares with a terminal's other users is no reason to lose half a line.
fn write_whole(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(file, PollFlags::OUT)];
                poll(&mut ready, None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether stderr is the stream that systemd made for this unit: `JOURNAL_STREAM` has its
/// device and inode (`systemd.exec(5)`).
pub fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::telemetry::layer::Observer;
    use crate::telemetry::record::{FIELDS_MAX, TEXT_BYTES_MAX, VALUE_BYTES_MAX, Value};
    use crate::time::{Duration, SystemClock};

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn the_largest_record_is_one_datagram() {
        // A control character is the longest when it is escaped.
        let long = |bytes| "\u{1}".repeat(bytes);
        let text = long(TEXT_BYTES_MAX);
        let mut record = Record::own(WallTime::default(), Level::Info, "large", text.clone());
        record.fields = vec![("value", Value::Text(long(VALUE_BYTES_MAX))); FIELDS_MAX];
        record.fields[0].1 = Value::Text(text.clone());
        record.fields[1].1 = Value::Text(text);
        let mut datagram = Vec::new();
        Format::Journald.write(&record, &mut datagram);
        let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
        let sent = ours.send(&datagram).expect("it is not too large");
        let mut got = vec![0; 1 << 20];
        assert_eq!(theirs.recv(&mut got).expect("it has come"), sent);
        assert_eq!(got[..sent], datagram);
    }

    fn started() -> (Arc<Queue>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let queue = Arc::new(Queue::new(Format::Logfmt, Box::new(SystemClock::new())));
        let of_writer = Arc::clone(&queue);
        thread::spawn(move || run(&of_writer, Output::lines(ours.into())));
        (queue, theirs)
    }

    fn say(queue: &Queue, text: &str) {
        let record = Record::own(WallTime::default(), Level::Debug, "said", text.to_owned());
        queue.observe(&record).expect("never fails");
    }

    #[test]
    fn flush_waits_for_the_last_line() {
        let (queue, reader) = started();
        say(&queue, "first");
        say(&queue, "last");
        assert!(queue.flush(LIMIT));
        queue.close();
        let lines = BufReader::new(reader).lines().take(2);
        let lines: Vec<String> = lines.map(|line| line.expect("text")).collect();
        assert!(lines[0].ends_with("message=first"), "{lines:?}");
        assert!(lines[1].ends_with("message=last"), "{lines:?}");
    }

    #[test]
    fn f_127_a_full_output_blocks_nobody_and_is_counted() {
        let (queue, reader) = started();
        let text = "x".repeat(1000);
        for _ in 0..4000 {
            say(&queue, &text);
        }
        assert!(!queue.flush(Duration::from_millis(10)), "nobody reads");
        let dropped = queue.dropped_in_all();
        assert!(dropped > 0);
        let of_reader = Arc::clone(&queue);
        let counted = thread::spawn(move || {
            let lines = BufReader::new(reader)
                .lines()
                .map(|line| line.expect("text"));
            // The writer may have made room once while the queue was being filled: then the
            // first count is a part, and another follows.
            let mut counted = 0;
            for line in lines.filter(|line| line.contains("event=log_dropped")) {
                let (_, count) = line.split_once("count=").expect("a count");
                let digits = count.split(' ').next().expect("digits");
                counted += digits.parse::<u64>().expect("a number");
                if counted >= dropped {
                    break;
                }
            }
            of_reader.close();
            counted
        });
        assert_eq!(counted.join().expect("no panic"), dropped);
    }

    #[test]
    fn f_127_a_closed_output_ends_nothing() {
        let (queue, reader) = started();
        drop(reader);
        for number in 0..10 {
            say(&queue, "into the void");
            assert!(queue.flush(LIMIT));
            assert!(queue.dropped_in_all() > number);
        }
    }
}
