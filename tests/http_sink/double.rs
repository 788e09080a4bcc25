//! A server that does what a script says: any status, and any way to break an exchange.
//!
//! The script sees each request whole, or, as [`Double::with_early`], its head before the body
//! is read. What was asked is kept, with the status that was answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::PATIENCE;

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Of all requests.
    pub number: usize,
    /// Which connection.
    pub connection: usize,
    /// Of the requests on this connection.
    pub on_connection: usize,
    /// Lower case.
    pub head: String,
    pub body: Vec<u8>,
    pub at: Instant,
    /// 0 where there was none.
    pub answered: u16,
}

impl Asked {
    /// A header field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        let mut lines = self.head.split("\r\n");
        lines.find_map(|line| line.strip_prefix(&prefix))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }
}

/// What goes over the wire in answer, and what becomes of the connection.
#[derive(Clone)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
    Reset,
    /// Silence for as long as the client bears it.
    Hang,
    /// The bytes again and again.
    Repeat,
}

pub fn status(status: u16) -> Reply {
    with(status, "", "")
}

/// With more header lines, each with its end, and a body.
pub fn with(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    raw(
        &format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{body}"),
        Then::Keep,
    )
}

pub fn raw(text: &str, then: Then) -> Reply {
    Reply {
        bytes: text.as_bytes().to_vec(),
        then,
    }
}

type Script = dyn Fn(&Asked) -> Reply + Send + Sync;
type Early = dyn Fn(&Asked) -> Option<Reply> + Send + Sync;

struct Server {
    asked: Mutex<Vec<Asked>>,
    script: Box<Script>,
    early: Box<Early>,
}

pub struct Double {
    pub address: SocketAddr,
    server: Arc<Server>,
}

impl Double {
    pub fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Double {
        Double::with_early(|_| None, script)
    }

    /// `early` may answer by the head alone: the body is not read then.
    pub fn with_early(
        early: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Double {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(Server {
            asked: Mutex::default(),
            script: Box::new(script),
            early: Box::new(early),
        });
        let shared = Arc::clone(&server);
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let server = Arc::clone(&shared);
                std::thread::spawn(move || server.serve(stream, connection));
            }
        });
        Double { address, server }
    }

    /// Every request so far, in order of arrival.
    pub fn asked(&self) -> Vec<Asked> {
        self.server.asked.lock().unwrap().clone()
    }

    /// The lines of the requests that were answered 2xx.
    pub fn accepted(&self) -> Vec<String> {
        let asked = self.asked();
        let taken = asked
            .iter()
            .filter(|asked| (200..300).contains(&asked.answered));
        taken.flat_map(Asked::lines).collect()
    }

    /// Waits until so many requests have come.
    pub fn wait_for(&self, count: usize) -> Vec<Asked> {
        let start = Instant::now();
        loop {
            let asked = self.asked();
            if asked.len() >= count {
                return asked;
            }
            let number = asked.len();
            assert!(start.elapsed() < PATIENCE, "{number} of {count} requests");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Server {
    fn serve(&self, mut stream: TcpStream, connection: usize) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for on_connection in 0.. {
            let Some(head) = head(&mut stream) else {
                return;
            };
            let mut asked = Asked {
                number: 0,
                connection,
                on_connection,
                head,
                body: Vec::new(),
                at: Instant::now(),
                answered: 0,
            };
            let early = self.note(&mut asked, |asked| (self.early)(asked));
            let reply = match early {
                Some(reply) => reply,
                None => {
                    let length = asked.field("content-length").unwrap().parse().unwrap();
                    asked.body = vec![0; length];
                    if stream.read_exact(&mut asked.body).is_err() {
                        return;
                    }
                    let reply = (self.script)(&asked);
                    self.keep(&asked, &reply);
                    reply
                }
            };
            if !answer(&mut stream, &reply) {
                return;
            }
        }
    }

    /// Gives the request its number.
    fn note<T>(&self, asked: &mut Asked, call: impl FnOnce(&Asked) -> T) -> T {
        let mut all = self.asked.lock().unwrap();
        asked.number = all.len();
        all.push(asked.clone());
        drop(all);
        call(asked)
    }

    fn keep(&self, asked: &Asked, reply: &Reply) {
        let mut all = self.asked.lock().unwrap();
        let kept = &mut all[asked.number];
        kept.body.clone_from(&asked.body);
        let code = reply.bytes.get(9..12);
        let code = code.and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        if reply.then == Then::Keep || reply.then == Then::Close {
            kept.answered = code.unwrap_or(0);
        }
    }
}

/// Answers; says whether the connection goes on.
fn answer(stream: &mut TcpStream, reply: &Reply) -> bool {
    // The client may have hung up in the middle of a hostile answer.
    let written = stream.write_all(&reply.bytes);
    match reply.then {
        Then::Keep => written.is_ok(),
        Then::Close => false,
        Then::Hang => {
            let _ = stream.read(&mut [0; 1]);
            false
        }
        Then::Repeat => {
            while stream.write_all(&reply.bytes).is_ok() {}
            false
        }
        Then::Reset => {
            std::thread::sleep(Duration::from_millis(20));
            let socket = socket2::SockRef::from(&*stream);
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            false
        }
    }
}

fn head(stream: &mut TcpStream) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap().to_lowercase())
}
