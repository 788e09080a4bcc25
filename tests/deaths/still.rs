//! A collector that is there and reads nothing, for longer than the kernel lets written data
//! stay: it is not taken for one that is gone, and nothing is sent twice.
//!
//! The suite waits a moment only; the simulator (tests/sim/standing.rs) waits an hour.

use std::net::TcpListener;
use std::thread::sleep;
use std::time::Duration;

use super::double::{FRAME_BYTES, Sending, accept, discard_to_end, read_frames, unread_when_still};
use super::{REST_BYTES, is_full, relay};

/// By then the kernel would have ended the connection, in the suite not yet.
fn pause() -> Duration {
    Duration::from_secs(if is_full() { 140 } else { 1 })
}

#[test]
fn a_collector_that_stands_still_keeps_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = relay(&[listener.local_addr().unwrap()], "auto");
    let frames = REST_BYTES / FRAME_BYTES;
    let sending = Sending::start(daemon.tcp_address("source.in"), 0..frames);
    let mut stream = accept(&listener);
    let read = read_frames(&mut stream, FRAME_BYTES * 10);
    assert!(unread_when_still(&stream) > 0);
    sleep(pause());
    let rest = std::thread::spawn(move || discard_to_end(stream, read));
    sending.join();
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.sink("out", "replayed")), (0, 0));
    assert_eq!(read + rest.join().unwrap(), frames * FRAME_BYTES);
}
