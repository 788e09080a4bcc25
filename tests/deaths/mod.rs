//! Collectors that die behind a real daemon at full speed: by a reset, at the end of their
//! stream, frozen and killed, or with their host; and one that only stands still.
//!
//! Numbered, checksummed frames go in. The first connection to the collector ends after so many
//! bytes, the second reads the rest. What the first process read and where the second connection
//! begins say, frame by frame, what was lost and what came twice.
//! `MARLINE_DEATHS=full cargo test --test main deaths:: -- --nocapture --test-threads=1` runs
//! them at 400 MB, and waits out the time limits of the kernel; the suite runs a tenth of it.

#![allow(clippy::print_stdout)] // the table of results is what one looks at

mod double;
mod gone;
mod still;

use std::fmt;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::process::{Daemon, Ended};
use double::{
    FRAME_BYTES, Frozen, Sending, accept, discard_to_end, read_frames, read_rest, unread_when_still,
};

/// Bytes that the first connection's process reads at full speed.
fn first_bytes() -> u64 {
    if is_full() { 400_000_000 } else { 40_000_000 }
}

fn is_full() -> bool {
    std::env::var_os("MARLINE_DEATHS").is_some_and(|value| value == "full")
}

/// Bytes that follow: more than all buffers on the way hold, so that the dying collector's
/// kernel is full.
const REST_BYTES: u64 = 96_000_000;

/// No run takes longer than this, the kernel's time limits aside.
const RUN_MAX: Duration = Duration::from_secs(120);

/// What the first connection's end left behind.
struct Death {
    /// Bytes that the process had read.
    read_bytes: u64,
    /// Bytes that its kernel had acknowledged and the process not read.
    unread_bytes: u64,
}

/// What came of a run.
struct Outcome {
    how: &'static str,
    replay: &'static str,
    death: Death,
    /// Frames that no process has read.
    lost: u64,
    /// Frames that two have.
    doubled: u64,
    /// Frames that the daemon says it sent again although they were acknowledged.
    replayed: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "deaths: {} replay={}: read {} bytes, {} unread in the kernel; {} frames lost, {} \
             doubled, {} sent again ({} bytes)",
            self.how,
            self.replay,
            self.death.read_bytes,
            self.death.unread_bytes,
            self.lost,
            self.doubled,
            self.replayed,
            self.replayed * FRAME_BYTES
        )
    }
}

impl Outcome {
    /// `begin` is the first frame of the second connection.
    fn new(
        how: &'static str,
        replay: &'static str,
        death: Death,
        begin: u64,
        ended: &Ended,
    ) -> Outcome {
        let read = death.read_bytes / FRAME_BYTES;
        let outcome = Outcome {
            how,
            replay,
            death,
            lost: begin.saturating_sub(read),
            doubled: read.saturating_sub(begin),
            replayed: ended.sink("out", "replayed"),
        };
        println!("{outcome}");
        outcome
    }

    /// Nothing is lost with `auto`, and no more doubled than was kept; without a replay exactly
    /// what the kernel held is lost. The frame that the process had read a part of is sent
    /// again whole, where the rest of it was not acknowledged.
    fn check(&self) {
        let acked = (self.death.read_bytes + self.death.unread_bytes) / FRAME_BYTES;
        let held = acked - self.death.read_bytes / FRAME_BYTES;
        if self.replay == "off" {
            assert_eq!((self.lost, self.doubled, self.replayed), (held, 0, 0));
            return;
        }
        assert_eq!(self.lost, 0, "frames are lost");
        assert_eq!(
            self.replayed,
            self.doubled + held,
            "what is said is what came"
        );
        assert!(self.replayed * FRAME_BYTES <= KEPT_BYTES_MAX);
    }
}

/// Half of the buffer, which is larger than what a kernel may hold (net.ipv4.tcp_rmem).
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// A relay to the first of `to` that answers.
fn relay(to: &[SocketAddr], replay: &str) -> Daemon {
    let to: Vec<String> = to.iter().map(|at| format!("\"tcp://{at}\"")).collect();
    Daemon::start(&format!(
        "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\nmemory = \"1GiB\"\n\
         [source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
         framing = \"lines\"\nack = \"received\"\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddresses = [{}]\nencode = \"raw\"\n\
         buffer.memory = \"128MiB\"\nconnect_timeout = \"1s\"\n\
         retry.max_delay = \"1s\"\nreplay = \"{replay}\"\n",
        to.join(", ")
    ))
}

/// One run: the first connection dies as `die` has it, the second reads the rest.
fn run(
    how: &'static str,
    replay: &'static str,
    die: impl FnOnce(TcpListener, u64) -> Death,
) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = relay(&[listener.local_addr().unwrap()], replay);
    let frames = (first_bytes() + REST_BYTES) / FRAME_BYTES;
    let sending = Sending::start(daemon.tcp_address("source.in"), 0..frames);
    let death = die(listener.try_clone().unwrap(), first_bytes());
    let second = accept(&listener);
    let begin = read_rest(second, frames);
    sending.join();
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.sink("out", "delivered"), frames);
    Outcome::new(how, replay, death, begin, &ended)
}

/// Stops reading in the middle of a frame, has its kernel filled, and resets.
fn reset(listener: TcpListener, bytes: u64) -> Death {
    let mut stream = accept(&listener);
    let read_bytes = read_frames(&mut stream, bytes + FRAME_BYTES / 3);
    let unread_bytes = unread_when_still(&stream);
    let linger = Some(Duration::ZERO);
    socket2::SockRef::from(&stream).set_linger(linger).unwrap();
    drop(stream);
    Death {
        read_bytes,
        unread_bytes,
    }
}

/// Ends its stream at full speed and reads on to the end.
fn end(listener: TcpListener, bytes: u64) -> Death {
    let mut stream = accept(&listener);
    let read_bytes = read_frames(&mut stream, bytes);
    stream.shutdown(Shutdown::Write).unwrap();
    Death {
        read_bytes: read_bytes + discard_to_end(stream, read_bytes),
        unread_bytes: 0,
    }
}

fn frozen(listener: TcpListener, bytes: u64) -> Death {
    let process = Frozen::start(listener, bytes + FRAME_BYTES / 3);
    process.kill_when_still()
}

#[test]
fn f_104_a_collector_that_resets_loses_what_its_kernel_held_and_gets_it_again() {
    for replay in ["auto", "off"] {
        let outcome = run("reset", replay, reset);
        assert!(outcome.death.unread_bytes > 0);
        outcome.check();
    }
}

#[test]
fn a_collector_that_freezes_and_is_killed_loses_what_its_kernel_held_and_gets_it_again() {
    for replay in ["auto", "off"] {
        let outcome = run("freeze", replay, frozen);
        assert!(outcome.death.unread_bytes > 0);
        outcome.check();
    }
}

#[test]
fn a_collector_that_ends_its_stream_has_read_all_and_gets_nothing_again() {
    for replay in ["auto", "off"] {
        let outcome = run("end of stream", replay, end);
        let of_it = (outcome.lost, outcome.doubled, outcome.replayed);
        assert_eq!(of_it, (0, 0, 0));
    }
}

/// A collector that exits when it has read everything: the end of its stream is seen although
/// nothing is written, and the next frames go to the next connection.
#[test]
fn a_collector_that_exits_while_nothing_is_sent_loses_nothing() {
    for replay in ["auto", "off"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let daemon = relay(&[listener.local_addr().unwrap()], replay);
        let source = daemon.tcp_address("source.in");
        let first = first_bytes() / FRAME_BYTES;
        let sending = Sending::start(source, 0..first);
        let mut stream = accept(&listener);
        let read_bytes = read_frames(&mut stream, first * FRAME_BYTES);
        sending.join();
        drop(stream);
        let mut second = accept(&listener);
        second
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let silence = std::io::Read::read(&mut second, &mut [0]).unwrap_err();
        assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock, "sent again");
        Sending::start(source, first..first + 1000).join();
        let begin = read_rest(second, first + 1000);
        let death = Death {
            read_bytes,
            unread_bytes: 0,
        };
        let outcome = Outcome::new("exit", replay, death, begin, &daemon.stop());
        let of_it = (outcome.lost, outcome.doubled, outcome.replayed);
        assert_eq!(of_it, (0, 0, 0));
    }
}

/// A size in place of `auto`: the end of what was acknowledged comes again, and no more than
/// was asked for, the part that this begins in, and one that was acknowledged in part.
#[test]
fn a_size_bounds_what_is_sent_again() {
    let outcome = run("reset", "64KiB", reset);
    let bytes = outcome.replayed * FRAME_BYTES;
    assert!(
        (64 << 10..=(64 << 10) + 2 * PART_BYTES_MAX).contains(&bytes),
        "{bytes}"
    );
    let acked = (outcome.death.read_bytes + outcome.death.unread_bytes) / FRAME_BYTES;
    let read = outcome.death.read_bytes / FRAME_BYTES;
    assert_eq!(
        outcome.lost,
        (acked - outcome.replayed).saturating_sub(read)
    );
}

/// A part is what was read at once, and a frame that two reads share.
const PART_BYTES_MAX: u64 = (256 << 10) + FRAME_BYTES;

/// A thread that must not outlive its test by much.
type Worker<T> = JoinHandle<T>;

fn bounded(stream: &TcpStream) {
    stream.set_read_timeout(Some(RUN_MAX)).unwrap();
    stream.set_write_timeout(Some(RUN_MAX)).unwrap();
}
