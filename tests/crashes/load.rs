//! A sender that numbers its events and knows which of them were acknowledged.
//!
//! Every event carries its number and a checksum over itself, so that whoever gets it can tell
//! that it was sent, and that it is as it was.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use crate::process::PATIENCE;

/// Events in a request, and bytes of one: a request is a third of the smallest segment.
pub const EVENTS: u64 = 350;
pub const LINE_BYTES: usize = 1000;

/// Posts events over one connection that is made again when it breaks.
#[derive(Default)]
pub struct Client {
    pub connection: Option<TcpStream>,
    /// Events below this were sent, or begun to be.
    pub issued: u64,
    /// Those that were answered with 200.
    pub acked: Vec<Range<u64>>,
    /// How many requests were answered otherwise.
    pub refused: u64,
    /// How long an answer may take, if not as long as anything.
    pub patience: Option<Duration>,
}

impl Client {
    pub fn new() -> Client {
        Client::default()
    }

    /// Posts the next events and waits for the answer, whose status code it gives.
    ///
    /// # Errors
    /// There was no answer: nothing is known of these events.
    pub fn post(&mut self, address: SocketAddr) -> io::Result<u16> {
        let events = self.issued..self.issued + EVENTS;
        self.issued = events.end;
        let body: String = events.clone().map(line).collect();
        let status = self.exchange(address, &body);
        match &status {
            Ok(200) => self.acked.push(events),
            Ok(_) => self.refused += 1,
            Err(_) => self.connection = None,
        }
        status
    }

    /// Posts any body; the status code of the answer.
    ///
    /// # Errors
    /// There was no answer.
    pub fn exchange(&mut self, address: SocketAddr, body: &str) -> io::Result<u16> {
        if self.connection.is_none() {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(self.patience.or(Some(PATIENCE)))?;
            self.connection = Some(stream);
        }
        let Some(stream) = &mut self.connection else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = [0; 1024];
        // Answers have no body worth reading; the head is what counts.
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&buffer[..count]),
            }
        }
        let status = std::str::from_utf8(&answer[9..12]).ok();
        let status = status.and_then(|digits| digits.parse().ok());
        status.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The event with this number: `NUMBER CRC PADDING`.
pub fn line(number: u64) -> String {
    let pad = char::from(b'a' + (number % 26) as u8);
    let pad: String = std::iter::repeat_n(pad, LINE_BYTES - 20).collect();
    let crc = crc32c::crc32c(format!("{number:010} {pad}").as_bytes());
    format!("{number:010} {crc:08x} {pad}\n")
}

/// The number of a line that is as it was sent.
pub fn number(text: &str) -> Option<u64> {
    let number: u64 = text.split(' ').next()?.parse().ok()?;
    (line(number).trim_end() == text).then_some(number)
}
