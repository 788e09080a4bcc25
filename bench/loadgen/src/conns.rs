//! Many connections that do little: what each of them costs the subject.
//!
//! The client's side is spread over 127.0.x.1, so that ports do not run out.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::Outcome;

/// Connections from one client address.
const PER_ADDRESS: usize = 20_000;
/// How often lines that are due are sent.
const LOOK: Duration = Duration::from_millis(5);

/// Opens `count` connections, holds them for `seconds`, sends `rate` lines per second on each.
pub fn hold(to: SocketAddr, count: usize, seconds: f64, rate: f64) -> Outcome {
    let start = Instant::now();
    let opened = (0..count).map(|index| open(to, index));
    let mut streams: Vec<TcpStream> = opened.filter_map(Result::ok).collect();
    let failed = count - streams.len();
    let open_secs = start.elapsed().as_secs_f64();
    eprintln!(
        "opened {} in {open_secs:.2} s, failed {failed}",
        streams.len()
    );
    let sent = send(&mut streams, seconds, rate);
    let open = streams.len();
    println!(
        "{{\"open\":{open},\"failed\":{failed},\"open_secs\":{open_secs:.3},\"sent_lines\":{sent}}}"
    );
    Ok(())
}

fn open(to: SocketAddr, index: usize) -> std::io::Result<TcpStream> {
    let third = u8::try_from(1 + index / PER_ADDRESS).map_err(std::io::Error::other)?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, third, 1), 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Sends the lines that are due, one connection after the other.
fn send(streams: &mut [TcpStream], seconds: f64, rate: f64) -> u64 {
    let (start, mut sent) = (Instant::now(), 0);
    let per_second = rate * streams.len() as f64;
    while start.elapsed().as_secs_f64() < seconds {
        let due = (start.elapsed().as_secs_f64() * per_second) as u64;
        while sent < due {
            let index = (sent % streams.len() as u64) as usize;
            let line = format!("{sent:012} hello from connection {index} seq\n");
            // A connection that the subject has closed takes no more lines; others do.
            let _ = streams[index].write_all(line.as_bytes());
            sent += 1;
        }
        thread::sleep(LOOK);
    }
    sent
}
