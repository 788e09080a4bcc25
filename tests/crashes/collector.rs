//! A collector on a port of its own that is away until it is told to listen.
//!
//! The port is bound from the start, so nobody else has it meanwhile; who connects before it
//! listens is refused. It lives through both lives of the daemon and keeps what came in order.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::load;

/// What a collector that stands still has room for, in bytes.
const STANDING_BYTES: usize = 256 << 10;

/// What came, in order.
#[derive(Default)]
pub struct Received {
    pub numbers: Vec<u64>,
    /// Lines that nobody sent like this. The last one of a connection may be cut off.
    pub strange: Vec<String>,
}

/// Bound from the start, so that the port is its own; listening when it is told.
pub struct Collector {
    socket: Socket,
    port: u16,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Received>,
    seen: Mutex<std::collections::HashSet<u64>>,
    is_over: AtomicBool,
    /// Microseconds after each line.
    pause_micros: AtomicU64,
    /// Whoever has read so many lines reads no more, if it is not zero ...
    stands_after: AtomicU64,
    /// ... and resets its connection when told.
    is_dead: AtomicBool,
    count: AtomicU64,
    open: AtomicU64,
    readers: Mutex<Vec<JoinHandle<()>>>,
}

impl Collector {
    pub fn new() -> Collector {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        Collector {
            socket,
            port,
            shared: Arc::default(),
            thread: Mutex::new(None),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Takes connections from now on.
    pub fn listen(&self) {
        let mut thread = self.thread.lock().unwrap();
        if thread.is_some() {
            return;
        }
        self.socket.listen(16).unwrap();
        let listener = TcpListener::from(self.socket.try_clone().unwrap());
        let shared = Arc::clone(&self.shared);
        *thread = Some(std::thread::spawn(move || shared.accept(&listener)));
    }

    /// Reads so slowly from now on.
    pub fn pause_after_each_line(&self, pause: Duration) {
        let micros = pause.as_micros() as u64;
        self.shared.pause_micros.store(micros, Ordering::Relaxed);
    }

    /// Reads so many lines, then stands still with a small window until [`Collector::die`].
    /// To be called before it listens.
    pub fn stand_after(&self, lines: u64) {
        self.socket.set_recv_buffer_size(STANDING_BYTES).unwrap();
        self.shared.stands_after.store(lines, Ordering::Relaxed);
    }

    /// What stands still ends with a reset: what its kernel holds is read by nobody. Who
    /// connects from now on is read to the end.
    pub fn die(&self) {
        self.shared.is_dead.store(true, Ordering::Relaxed);
    }

    /// What came and what did not, for whoever waits in vain.
    pub fn told(&self, events: &[Range<u64>]) -> String {
        let seen = self.shared.seen.lock().unwrap();
        let received = self.shared.received.lock().unwrap();
        let events = events.iter().flat_map(Clone::clone);
        let missing: Vec<u64> = events.filter(|number| !seen.contains(number)).collect();
        format!(
            "{} lines came, {} of them strange; {} are missing, from {:?} to {:?}",
            received.numbers.len(),
            received.strange.len(),
            missing.len(),
            missing.first(),
            missing.last()
        )
    }

    /// Whether all connections so far have ended.
    pub fn is_idle(&self) -> bool {
        self.shared.open.load(Ordering::Relaxed) == 0
    }

    /// Lines that were read so far.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Whether all these events have come.
    pub fn has_all(&self, events: &[Range<u64>]) -> bool {
        let seen = self.shared.seen.lock().unwrap();
        let mut events = events.iter().rev().flat_map(|range| range.clone().rev());
        events.all(|number| seen.contains(&number))
    }

    /// Takes no more, waits until its connections have ended, and answers what came.
    pub fn end(self) -> Received {
        self.shared.is_over.store(true, Ordering::Relaxed);
        // Whoever waits for a connection gets one.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
        let readers = std::mem::take(&mut *self.shared.readers.lock().unwrap());
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        std::mem::take(&mut *self.shared.received.lock().unwrap())
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().map_while(Result::ok) {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let shared = Arc::clone(self);
            shared.open.fetch_add(1, Ordering::Relaxed);
            let read = move || {
                shared.read(stream);
                shared.open.fetch_sub(1, Ordering::Relaxed);
            };
            let reader = std::thread::spawn(read);
            self.readers.lock().unwrap().push(reader);
        }
    }

    /// Where it is to stand still, it does; answers whether the connection is over.
    fn stands(&self) -> bool {
        let after = self.stands_after.load(Ordering::Relaxed);
        if after == 0 || self.count.load(Ordering::Relaxed) < after {
            return false;
        }
        // Once it is over, nobody waits for the death of what never died.
        while !self.is_dead.load(Ordering::Relaxed) && !self.is_over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.stands_after.store(0, Ordering::Relaxed);
        true
    }

    fn read(&self, stream: TcpStream) {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut reader = BufReader::new(stream);
        let mut text = String::new();
        loop {
            if self.stands() {
                let stream = SockRef::from(reader.get_ref());
                return stream.set_linger(Some(Duration::ZERO)).unwrap();
            }
            text.clear();
            match reader.read_line(&mut text) {
                Ok(0) | Err(_) => return,
                Ok(_) if !text.ends_with('\n') => return,
                Ok(_) => {}
            }
            let pause = self.pause_micros.load(Ordering::Relaxed);
            if pause > 0 {
                std::thread::sleep(Duration::from_micros(pause));
            }
            self.count.fetch_add(1, Ordering::Relaxed);
            let mut received = self.received.lock().unwrap();
            match load::number(text.trim_end()) {
                Some(number) => {
                    received.numbers.push(number);
                    self.seen.lock().unwrap().insert(number);
                }
                None => received.strange.push(text.clone()),
            }
        }
    }
}
