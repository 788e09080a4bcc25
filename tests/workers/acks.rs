//! What an `http` source answers is true wherever the sink is: 200 is kept, 429 is not.
//!
//! With every owner of the sink, of its disk buffer, and of the sink of the dead letters.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    Collector, by_connection, check_once, file_sink, free_port, lines_of, name_at, pipeline, post,
    socket_sink, stop, stop_well, table, text_of, until,
};
use crate::process::Daemon;

fn http_source(more: &str) -> String {
    format!("[source.in]\ntype = \"http\"\nlisten = [\"http://127.0.0.1:0\"]\n{more}\n")
}

/// Posts from several threads, each over a connection for every request; answers what was
/// acknowledged: connection and number.
fn post_until_gone(to: SocketAddr, from: u64, life: usize) -> Vec<(usize, u64)> {
    let acked = Mutex::new(Vec::new());
    let is_over = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for sender in 0..6 {
            let (acked, is_over) = (&acked, &is_over);
            scope.spawn(move || {
                let connection = life * 10 + sender;
                let mut number = from;
                while is_over.load(Ordering::Relaxed) == 0 {
                    match post(to, &text_of(connection, number..number + 5)) {
                        Ok(200) => {
                            let mut acked = acked.lock().unwrap();
                            acked.extend((number..number + 5).map(|it| (connection, it)));
                        }
                        Ok(code) => panic!("answered {code}"),
                        Err(_) => return is_over.store(1, Ordering::Relaxed),
                    }
                    number += 5;
                }
            });
        }
    });
    acked.into_inner().unwrap()
}

/// With a disk buffer that another reactor has: what was acknowledged is there after kills.
#[test]
fn what_was_acknowledged_outlives_kills_wherever_the_buffer_is() {
    const WORKERS: usize = 3;
    for seat in 0..WORKERS {
        let away = free_port();
        let sink = name_at("sink", "disk", seat, WORKERS);
        let config = table(WORKERS, "")
            + &http_source("")
            + &pipeline("p", "in", "", &sink)
            + &socket_sink(&sink, away)
            + "buffer.disk = \"8MiB\"\n";
        let mut folder = tempfile::tempdir().unwrap();
        let mut acked = Vec::new();
        for life in 0..3 {
            let daemon = Daemon::launch_in(folder, &config, |_| {});
            daemon.wait_for("started");
            let to = daemon.try_http_address().unwrap();
            std::thread::scope(|scope| {
                let posting = scope.spawn(move || post_until_gone(to, 0, life));
                std::thread::sleep(Duration::from_millis(100 + 37 * life as u64));
                daemon.signal(Signal::SIGKILL);
                acked.extend(posting.join().unwrap());
            });
            folder = daemon.wait().folder;
        }
        assert!(acked.len() > 100, "{} events are no test", acked.len());
        let collector = Collector::on(TcpListener::bind(away).unwrap());
        let daemon = Daemon::launch_in(folder, &config, |_| {});
        until("all that was acknowledged", || {
            collector.count() >= acked.len()
        });
        stop_well(daemon);
        let came = by_connection(&collector.wait_for(0));
        for (connection, number) in acked {
            let is_there = came.get(&connection).is_some_and(|it| it.contains(&number));
            assert!(
                is_there,
                "c {connection} n {number} was acknowledged and is lost"
            );
        }
    }
}

/// A sink whose output nobody reads until the test does, and its owner.
fn stalled(workers: usize, seat: usize, source: &str, buffer: &str) -> (String, String) {
    let sink = name_at("sink", "stalled", seat, workers);
    let config = table(workers, "stop_timeout = \"1s\"")
        + &http_source(source)
        + &pipeline("p", "in", "", &sink)
        + &format!(
            "[sink.{sink}]\ntype = \"stdout\"\nencode = \"raw\"\n\
             buffer.memory = \"64KiB\"\n{buffer}\n"
        );
    (config, sink)
}

fn launch_with_pipe(config: &str) -> (Daemon, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let daemon = Daemon::launch(config, |command| {
        command.stdout(writer);
    });
    daemon.wait_for("started");
    (daemon, reader)
}

/// Posts large bodies, one after the other from several threads, until `count` of them were
/// refused with 429 and none is taken any more.
fn post_until_full(to: SocketAddr, senders: usize) -> (u64, u64) {
    let (taken, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for sender in 0..senders {
            let (taken, refused) = (&taken, &refused);
            scope.spawn(move || {
                let line = format!("c {sender} n 0{}\n", " ".repeat(20_000));
                for _ in 0..40 {
                    let code = post(to, &line).unwrap();
                    let count = if code == 200 { taken } else { refused };
                    assert!(code == 200 || code == 429, "{code}");
                    count.fetch_add(1, Ordering::Relaxed);
                    if code == 429 {
                        return;
                    }
                }
            });
        }
    });
    (taken.into_inner(), refused.into_inner())
}

/// 429 comes from the buffer of the owner, over whichever reactor one asks.
#[test]
fn a_full_buffer_is_answered_with_429_wherever_it_is() {
    const WORKERS: usize = 3;
    const SENDERS: usize = 12;
    for (seat, source, buffer) in [
        (0, "ack = \"received\"\nbusy_timeout = \"300ms\"", ""),
        (1, "ack = \"received\"\nbusy_timeout = \"300ms\"", ""),
        (2, "busy_timeout = \"300ms\"\nack = \"received\"", ""),
    ] {
        let (config, _) = stalled(WORKERS, seat, source, buffer);
        let (daemon, reader) = launch_with_pipe(&config);
        let to = daemon.try_http_address().unwrap();
        let (_, refused) = post_until_full(to, SENDERS);
        assert_eq!(refused, SENDERS as u64, "everybody is refused in the end");
        let reading = std::thread::spawn(move || {
            use std::io::Read;
            let mut reader = reader;
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            text
        });
        until("there is room again", || {
            post(to, "c 99 n 0\n").unwrap() == 200
        });
        stop_well(daemon);
        let text = String::from_utf8(reading.join().unwrap()).unwrap();
        assert!(text.contains("c 99 n 0\n"));
    }
}

/// `drop_newest` refuses what has no room where the sender is told, and keeps what was taken.
#[test]
fn drop_newest_is_answered_with_429_wherever_the_buffer_is() {
    const WORKERS: usize = 3;
    for seat in 0..WORKERS {
        for ack in ["received", "delivered"] {
            let buffer = "buffer.when_full = \"drop_newest\"";
            let source = format!("ack = \"{ack}\"");
            let (config, _) = stalled(WORKERS, seat, &source, buffer);
            let (daemon, mut reader) = launch_with_pipe(&config);
            let to = daemon.try_http_address().unwrap();
            // More than the pipe, the sink and the buffer hold, from many at a time.
            let codes: Vec<u16> = std::thread::scope(|scope| {
                let all = (0..40).map(|sender| {
                    let line = format!("c {sender} n 0{}\n", " ".repeat(20_000));
                    scope.spawn(move || post(to, &line).unwrap())
                });
                let all: Vec<_> = all.collect();
                let reading = scope.spawn(|| {
                    // Those that wait for the delivery need somebody who reads at last.
                    std::thread::sleep(Duration::from_millis(500));
                    let mut text = Vec::new();
                    let mut chunk = [0; 4096];
                    use std::io::Read;
                    loop {
                        let count = reader.read(&mut chunk).unwrap();
                        text.extend_from_slice(&chunk[..count]);
                        if text.ends_with(b"c 99 n 0\n") || count == 0 {
                            return text;
                        }
                    }
                });
                let codes = all.into_iter().map(|it| it.join().unwrap()).collect();
                until("there is room again", || {
                    post(to, "c 99 n 0\n").unwrap() == 200
                });
                let text = String::from_utf8(reading.join().unwrap()).unwrap();
                let came = text
                    .lines()
                    .filter(|line| !line.starts_with("c 99"))
                    .count();
                let codes: Vec<u16> = codes;
                let taken = codes.iter().filter(|it| **it == 200).count();
                assert_eq!(came, taken, "owner {seat}, ack {ack}: {codes:?}");
                codes
            });
            assert!(codes.contains(&429), "owner {seat}, ack {ack}: {codes:?}");
            assert!(codes.iter().all(|it| [200, 429].contains(it)), "{codes:?}");
            stop_well(daemon);
        }
    }
}

/// What a sink refuses for good, and what a step fails on, goes to the sink of the dead letters,
/// whichever reactors have the pipeline, the sink and that sink.
#[test]
fn dead_letters_find_their_sink_from_every_owner() {
    const WORKERS: usize = 3;
    let refusing = refusing_server();
    let mut config = table(WORKERS, "") + &http_source("");
    let mut letters = Vec::new();
    for seat in 0..WORKERS {
        for to in 0..WORKERS {
            let letter = name_at("sink", &format!("letters{seat}{to}x"), to, WORKERS);
            let sink = name_at("sink", &format!("refused{seat}{to}x"), seat, WORKERS);
            config += &format!(
                "[pipeline.p{seat}{to}]\nfrom = [\"in\"]\nto = [\"{sink}\"]\n\
                 errors_to = \"{letter}\"\n\
                 [sink.{sink}]\ntype = \"http\"\nurl = \"http://{refusing}/\"\n\
                 encode = \"raw\"\nbuffer.disk = \"8MiB\"\n"
            );
            config += &file_sink(&letter);
            letters.push(letter);
        }
    }
    let daemon = Daemon::start(&config);
    let to = daemon.try_http_address().unwrap();
    let posting: Vec<_> = (0..8)
        .map(|sender| {
            std::thread::spawn(move || {
                for round in 0..5 {
                    let body = text_of(sender, round * 5..(round + 1) * 5);
                    assert_eq!(post(to, &body).unwrap(), 200);
                }
            })
        })
        .collect();
    posting
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    for letter in &letters {
        let lines = lines_of(&daemon.path(&format!("{letter}.log")), 8 * 25);
        check_once(&lines, &[25; 8]);
    }
    stop(daemon);
}

/// Dead letters that find no room at another reactor by the time of the stop: the events that
/// they were stay on disk, and are there at the next start.
#[test]
fn dead_letters_that_found_no_room_stay_on_disk() {
    for workers in [1, 3] {
        for seat in 0..workers {
            let refusing = refusing_server();
            let letters = name_at("sink", "letters", (seat + 1) % workers, workers);
            let sink = name_at("sink", "refused", seat, workers);
            let config = table(workers, "stop_timeout = \"1s\"")
                + &http_source("ack = \"durable\"\nbusy_timeout = \"300ms\"")
                + &format!(
                    "[pipeline.p]\nfrom = [\"in\"]\nto = [\"{sink}\"]\nerrors_to = \"{letters}\"\n\
                     [sink.{sink}]\ntype = \"http\"\nurl = \"http://{refusing}/\"\n\
                     encode = \"raw\"\nbuffer.disk = \"8MiB\"\nbatch.bytes = \"1KiB\"\n\
                     [sink.{letters}]\ntype = \"stdout\"\nencode = \"raw\"\n\
                     buffer.memory = \"64KiB\"\n"
                );
            let (daemon, reader) = launch_with_pipe(&config);
            let to = daemon.try_http_address().unwrap();
            let pad = " ".repeat(20_000);
            let is_taken = |number: &u64| {
                let code = post(to, &format!("c 0 n {number} {pad}\n")).unwrap();
                assert!([200, 429].contains(&code), "{code}");
                code == 200
            };
            let taken: Vec<u64> = (0..20).take_while(is_taken).collect();
            assert!(taken.len() > 3, "{taken:?} are no test");
            let ended = stop(daemon);
            let text = read_on(reader);
            let (reader, writer) = std::io::pipe().unwrap();
            let daemon = Daemon::launch_in(ended.folder, &config, |command| {
                command.stdout(writer);
            });
            let more = read_on(reader);
            let is_there = |number: &u64| {
                let line = format!("c 0 n {number} ");
                text.lock().unwrap().contains(&line) || more.lock().unwrap().contains(&line)
            };
            until("all that was acknowledged", || taken.iter().all(is_there));
            stop(daemon);
        }
    }
}

/// What comes out of the pipe, read as it comes.
fn read_on(mut reader: std::io::PipeReader) -> Arc<Mutex<String>> {
    let text = Arc::<Mutex<String>>::default();
    let kept = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut chunk = [0; 64 << 10];
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            let chunk = String::from_utf8_lossy(&chunk[..count]);
            kept.lock().unwrap().push_str(&chunk);
        }
    });
    text
}

/// A server that refuses everything for good.
fn refusing_server() -> SocketAddr {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                loop {
                    let mut length = 0;
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        let line = line.trim_end().to_lowercase();
                        if let Some(value) = line.strip_prefix("content-length: ") {
                            length = value.parse().unwrap();
                        }
                        if line.is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    if reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
