//! The job of the poetry clients: several slow servers at once, one dying half way, one never
//! answering.
//!
//! The servers are threads of the test; their pace is what a real slow server would have.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::peers::Collector;
use crate::process::{Daemon, PATIENCE};

/// Serves one connection, on a thread of its own.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            serve(stream);
        }
    });
    address
}

fn poem(number: usize) -> String {
    format!("poem {number}, first line\nsecond line\n")
}

/// Sends its poem in pieces over about `time`.
fn slow_poet(number: usize, time: Duration) -> SocketAddr {
    server(move |mut stream| {
        let text = poem(number);
        let pieces: Vec<_> = text.as_bytes().chunks(4).collect();
        for piece in &pieces {
            std::thread::sleep(time / pieces.len() as u32);
            if stream.write_all(piece).is_err() {
                return;
            }
        }
    })
}

fn config(poets: &[SocketAddr], timeout: &str, collector: &Collector) -> String {
    let addresses: Vec<_> = poets
        .iter()
        .map(|poet| format!("\"tcp://{poet}\""))
        .collect();
    format!(
        "[source.poets]\ntype = \"fetch\"\naddresses = [{}]\ntimeout = \"{timeout}\"\n\
         [pipeline.main]\nfrom = [\"poets\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"socket\"\naddress = \"tcp://{}\"\n",
        addresses.join(", "),
        collector.address
    )
}

#[test]
fn many_slow_servers_take_as_long_as_the_slowest() {
    let collector = Collector::start();
    let slow = Duration::from_millis(700);
    let poets: Vec<_> = (0..20).map(|number| slow_poet(number, slow)).collect();
    let began = Instant::now();
    let daemon = Daemon::start(&config(&poets, "30s", &collector));
    let lines = collector.lines(20);
    let took = began.elapsed();
    // One after another they would take fourteen seconds.
    assert!(took < slow * 10, "took {took:?}");
    for number in 0..20 {
        let whole = lines.iter().filter(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["message"] == poem(number) && event.get("incomplete").is_none()
        });
        assert_eq!(whole.count(), 1, "poem {number}");
    }
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn what_is_cut_off_is_never_passed_off_as_whole() {
    let collector = Collector::start();
    let dying = server(|mut stream| {
        stream.write_all(b"half of a po").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    });
    let stuck = server(|mut stream| {
        stream.write_all(b"it was a dark and").unwrap();
        std::thread::sleep(Duration::from_secs(30));
    });
    let (gave_up, given_up) = channel();
    let silent = server(move |mut stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ended = stream.read(&mut [0]);
        let _ = gave_up.send(matches!(ended, Ok(0)));
    });
    let good = slow_poet(1, Duration::from_millis(100));
    let daemon = Daemon::start(&config(&[dying, stuck, silent, good], "2s", &collector));
    let events: Vec<serde_json::Value> = collector
        .lines(3)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let reason = |text: &str| {
        let event = events
            .iter()
            .find(|event| event["message"] == text)
            .expect(text);
        event
            .get("incomplete")
            .and_then(|reason| reason.as_str())
            .map(str::to_owned)
    };
    assert_eq!(reason("half of a po").unwrap(), "the connection was reset");
    assert_eq!(
        reason("it was a dark and").unwrap(),
        "the time limit passed"
    );
    assert_eq!(reason(&poem(1)), None);
    assert_eq!(
        given_up.recv_timeout(PATIENCE),
        Ok(true),
        "the silent one is left"
    );
    let ended = daemon.stop();
    assert_eq!((ended.code(), ended.source("poets", "incomplete")), (0, 2));
}
