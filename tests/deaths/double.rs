//! The double of a collector: numbered frames with checksums, sent and read at full speed, and
//! what a process had read when it ended.
//!
//! Every wait is bounded. A collector that is to be killed is this program in a process of its
//! own, which runs [`collector`].

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};

use super::{Death, RUN_MAX, Worker, bounded};

/// A frame with its newline.
pub const FRAME_BYTES: u64 = 200;
const FRAME: usize = FRAME_BYTES as usize;

/// What is read or written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Number, checksum of it and of what follows, filler that depends on the number.
fn write_frame(number: u64, into: &mut Vec<u8>) {
    let begin = into.len();
    write!(into, "{number:016x} ").unwrap();
    let filler = b'a' + (number % 26) as u8;
    into.resize(begin + FRAME - 10, filler);
    let sum = crc32c::crc32c(&into[begin..]);
    writeln!(into, " {sum:08x}").unwrap();
}

/// The number of a frame that is as it was sent.
fn number_of(frame: &[u8]) -> u64 {
    let shown = || String::from_utf8_lossy(frame).into_owned();
    let (body, sum) = frame.split_at(FRAME - 10);
    let sum = std::str::from_utf8(&sum[1..9]).unwrap();
    let sum = u32::from_str_radix(sum, 16).unwrap_or_else(|_| panic!("no frame: {}", shown()));
    assert_eq!(sum, crc32c::crc32c(body), "changed: {}", shown());
    let number = std::str::from_utf8(&body[..16]).unwrap();
    u64::from_str_radix(number, 16).unwrap()
}

/// Frames on their way to the daemon, from a thread.
pub struct Sending(Worker<()>);

impl Sending {
    pub fn start(to: SocketAddr, frames: Range<u64>) -> Sending {
        let stream = TcpStream::connect(to).unwrap();
        bounded(&stream);
        Sending(std::thread::spawn(move || send(stream, frames)))
    }

    /// Waits until the daemon has taken all of them.
    pub fn join(self) {
        self.0.join().unwrap();
    }
}

fn send(mut stream: TcpStream, frames: Range<u64>) {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + FRAME);
    for number in frames {
        write_frame(number, &mut chunk);
        if chunk.len() >= CHUNK_BYTES {
            stream.write_all(&chunk).unwrap();
            chunk.clear();
        }
    }
    stream.write_all(&chunk).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    // The daemon closes when it has read it all.
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

/// The next connection.
pub fn accept(listener: &TcpListener) -> TcpStream {
    let deadline = Instant::now() + RUN_MAX;
    listener.set_nonblocking(true).unwrap();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                bounded(&stream);
                return stream;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(Instant::now() < deadline, "nobody connects");
                sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Takes a stream of frames apart, however it is cut.
struct Frames {
    rest: Vec<u8>,
    next: Option<u64>,
}

impl Frames {
    fn from(first: Option<u64>) -> Frames {
        Frames {
            rest: Vec::with_capacity(CHUNK_BYTES + FRAME),
            next: first,
        }
    }

    /// Checks that each frame is whole and follows the one before.
    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() / FRAME * FRAME;
        for frame in self.rest[..whole].chunks_exact(FRAME) {
            let number = number_of(frame);
            let expected = self.next.unwrap_or(number);
            assert_eq!(number, expected, "out of order");
            self.next = Some(number + 1);
        }
        self.rest.drain(..whole);
    }
}

/// Reads `bytes` of a stream that begins with frame 0.
pub fn read_frames(stream: &mut TcpStream, bytes: u64) -> u64 {
    let (mut frames, mut buffer) = (Frames::from(Some(0)), vec![0; CHUNK_BYTES]);
    let mut read = 0;
    while read < bytes {
        let most = buffer.len().min((bytes - read) as usize);
        let count = stream.read(&mut buffer[..most]).unwrap();
        assert!(count > 0, "the stream ended after {read} bytes");
        frames.take(&buffer[..count]);
        read += count as u64;
    }
    read
}

/// Reads on to the end of the stream, of which `before` bytes were read, whole frames.
pub fn discard_to_end(mut stream: TcpStream, before: u64) -> u64 {
    let first = Some(before / FRAME_BYTES);
    let (mut frames, mut buffer) = (Frames::from(first), vec![0; CHUNK_BYTES]);
    let mut read = 0;
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            assert!(frames.rest.is_empty(), "a frame is cut off");
            return read;
        }
        frames.take(&buffer[..count]);
        read += count as u64;
    }
}

/// Reads up to the last of `frames`; gives the number of the first.
pub fn read_rest(mut stream: TcpStream, frames: u64) -> u64 {
    let (mut seen, mut buffer) = (Frames::from(None), vec![0; CHUNK_BYTES]);
    let mut first = None;
    while seen.next != Some(frames) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(
            count > 0,
            "the stream ended before {frames}: {:?}",
            seen.next
        );
        seen.take(&buffer[..count]);
        if first.is_none() && seen.next.is_some() {
            first = Some(number_of_first(&buffer));
        }
    }
    // Gone only when the daemon has stopped, so that its last bytes are acknowledged.
    std::thread::spawn(move || stream.read(&mut buffer));
    first.unwrap()
}

/// The number that the first frame of a stream begins with; a first read of less than a frame
/// does not happen behind a sender that writes many at once.
fn number_of_first(buffer: &[u8]) -> u64 {
    number_of(&buffer[..FRAME])
}

/// What the kernel holds of a stream that nobody reads, once no more comes.
pub fn unread_when_still(stream: &TcpStream) -> u64 {
    when_still(|| rustix::io::ioctl_fionread(stream).unwrap())
}

/// A number, once it has been the same for a while.
fn when_still(look: impl Fn() -> u64) -> u64 {
    let deadline = Instant::now() + RUN_MAX;
    let (mut last, mut since) = (look(), Instant::now());
    while since.elapsed() < STILL {
        assert!(Instant::now() < deadline, "never still");
        sleep(Duration::from_millis(10));
        let now = look();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// Several times what a busy machine may keep a thread waiting.
const STILL: Duration = Duration::from_millis(500);

/// How a process of its own is to collect: so many bytes, from the listener that is its standard
/// input or bound at an address, and then stand still.
const COLLECT: &str = "MARLINE_TEST_COLLECT";

/// A collector that is a process.
pub struct Frozen {
    child: Child,
    address: SocketAddr,
    bytes: u64,
}

impl Frozen {
    /// One that stops itself by SIGSTOP when it has read so many bytes.
    pub fn start(listener: TcpListener, bytes: u64) -> Frozen {
        let address = listener.local_addr().unwrap();
        let mut child = command(&[], &format!("{bytes} freeze"));
        child.stdin(Stdio::from(OwnedFd::from(listener)));
        Frozen {
            child: child.spawn().unwrap(),
            address,
            bytes,
        }
    }

    /// Kills it once it is stopped and its kernel takes no more.
    pub fn kill_when_still(mut self) -> Death {
        let deadline = Instant::now() + RUN_MAX;
        while state_of(self.child.id()) != 'T' {
            assert!(Instant::now() < deadline, "it does not stop");
            sleep(Duration::from_millis(10));
        }
        let port = self.address.port();
        let unread_bytes = when_still(|| unread_at(port));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Death {
            read_bytes: self.bytes,
            unread_bytes,
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Both fail where the process has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The letter of a process's state, proc_pid_stat(5).
fn state_of(process: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, after) = stat.rsplit_once(") ").unwrap();
    after.chars().next().unwrap()
}

/// The receive queue of the connection that was accepted at a local port, proc_pid_net(5).
fn unread_at(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let mut queues = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_it = fields.next()?.ends_with(&local);
        let is_open = fields.nth(1)? == "01";
        let queue = fields.next()?.split_once(':')?.1;
        let bytes = u64::from_str_radix(queue, 16).ok()?;
        (is_it && is_open).then_some(bytes)
    });
    queues.next().expect("the connection is there")
}

/// A command that collects as `how` says, run by `within`.
pub fn command(within: &[&str], how: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut words = within
        .iter()
        .map(std::ffi::OsString::from)
        .collect::<Vec<_>>();
    words.push(this.into());
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["--exact", "deaths::double::collector", "--nocapture"])
        .env(COLLECT, how)
        .stdout(Stdio::piped());
    command
}

/// What a collecting process says behind `start`.
pub fn answer(says: &mut impl BufRead, start: &str) -> String {
    let lines = says.lines().map(Result::unwrap);
    let mut found = lines.filter_map(|line| line.strip_prefix(start).map(str::to_owned));
    found.next().expect("the collector has ended")
}

/// The answers of a process.
pub fn answers(child: &mut Child) -> BufReader<impl Read + use<>> {
    BufReader::new(child.stdout.take().unwrap())
}

/// The body of a collecting process; in the suite itself it has nothing to do.
#[test]
fn collector() {
    let Some(how) = std::env::var_os(COLLECT) else {
        return;
    };
    let how = how.into_string().unwrap();
    let (bytes, what) = how.split_once(' ').unwrap();
    let listener = match what {
        "freeze" => TcpListener::from(listener_of_stdin()),
        at => TcpListener::bind(at).unwrap(),
    };
    println!("listening {}", listener.local_addr().unwrap());
    let mut stream = accept(&listener);
    let read = read_frames(&mut stream, bytes.parse().unwrap());
    if what == "freeze" {
        raise(Signal::SIGSTOP).unwrap();
        return;
    }
    println!("read {read}");
    println!("unread {}", unread_when_still(&stream));
    sleep(RUN_MAX);
}

fn listener_of_stdin() -> OwnedFd {
    let stdin = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned();
    stdin.unwrap()
}
