//! A collector on a port of its own that is away until it is told to listen.
//!
//! The port is bound from the start, so nobody else has it meanwhile; who connects before it
//! listens is refused. It lives through both lives of the daemon and keeps what came in order.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::load;

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
            let reader = std::thread::spawn(move || shared.read(stream));
            self.readers.lock().unwrap().push(reader);
        }
    }

    fn read(&self, stream: TcpStream) {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut reader = BufReader::new(stream);
        let mut text = String::new();
        loop {
            text.clear();
            match reader.read_line(&mut text) {
                Ok(0) | Err(_) => return,
                Ok(_) if !text.ends_with('\n') => return,
                Ok(_) => {}
            }
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
