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

/// Where records go.
#[derive(Debug)]
pub enum Output {
    /// Lines to a file descriptor.
    Lines(File),
    /// Datagrams to the journal.
    Journal(UnixDatagram),
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
            return Output::Journal(socket);
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
            Output::Journal(socket) => match socket.send_to(record, JOURNAL) {
                Ok(_) => Ok(()),
                Err(_) => write_plain(record),
            },
            Output::Nowhere => Err(io::ErrorKind::NotConnected.into()),
        }
    }
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
    use crate::telemetry::record::{Level, Record};
    use crate::time::{Duration, SystemClock, WallTime};

    const LIMIT: Duration = Duration::from_secs(10);

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
