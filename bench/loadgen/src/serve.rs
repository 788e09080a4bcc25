//! Servers: the floor of every comparison, and a server that is slow on purpose.
//!
//! Both serve each connection on a thread of its own until they are killed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::{Outcome, connect};

/// Copies what comes to `listen` on to `to`: blocking, no framing, nothing looked at. What any
/// relay costs more than this is what it does for the money.
pub fn relay(listen: &str, to: &str) -> Outcome {
    for stream in TcpListener::bind(listen)?.incoming() {
        let (stream, out) = (stream?, connect(to)?);
        thread::spawn(move || copy(stream, out));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Hands `file` to each client in chunks of `bytes`, `delay_ms` apart, and closes.
pub fn poetry(address: &str, file: &str, bytes: usize, delay_ms: u64) -> Outcome {
    let text = Arc::new(std::fs::read(file)?);
    let listener = TcpListener::bind(address)?;
    eprintln!("ready");
    for stream in listener.incoming() {
        let (mut stream, text) = (stream?, Arc::clone(&text));
        thread::spawn(move || {
            for chunk in text.chunks(bytes.max(1)) {
                if stream.write_all(chunk).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(delay_ms));
            }
        });
    }
    Ok(())
}
