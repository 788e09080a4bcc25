//! A sink that stands still holds up nobody but those who need it, and takes no more than its own.
//!
//! What it cannot take is kept, held back, or dropped and counted, as its buffer says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::{
    Collector, by_connection, check_order, file_sink, lines_of, name_at, pipeline, socket_sink,
    stop, stop_well, table, until,
};
use crate::process::Daemon;

const WORKERS: usize = 3;
const SENDERS: usize = 6;

const SOURCES: &str = "[source.slow]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
    [source.quick]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n";

/// Two sources: what one feeds stands still, what the other feeds goes on.
fn stalled(seat: usize, daemon: &str, buffer: &str) -> (String, String) {
    let sink = name_at("sink", "stalled", seat, WORKERS);
    let config = table(WORKERS, daemon)
        + SOURCES
        + &pipeline("slow", "slow", "", &sink)
        + &pipeline("quick", "quick", "", &name_at("sink", "q", seat, WORKERS))
        + &file_sink(&name_at("sink", "q", seat, WORKERS))
        + &format!(
            "[sink.{sink}]\ntype = \"stdout\"\nencode = \"raw\"\n\
             buffer.memory = \"128KiB\"\n{buffer}\n"
        );
    (config, sink)
}

/// Bytes that the daemon has in memory.
fn resident(daemon: &Daemon) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", daemon.id())).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Sends until the peer has taken no more for a while, or `limit` lines; how many went out whole.
fn send_until_stuck(stream: &mut TcpStream, connection: usize, limit: u64) -> (u64, Vec<u8>) {
    stream
        .set_write_timeout(Some(Duration::from_millis(400)))
        .unwrap();
    for number in 0..limit {
        let text = long_line(connection, number);
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(_) => return (number, rest.to_vec()),
            }
        }
    }
    (limit, Vec::new())
}

/// A connection whose kernel holds little.
fn connect(to: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    SockRef::from(&stream)
        .set_send_buffer_size(16 << 10)
        .unwrap();
    stream
}

/// A line of 200 bytes: a few fill a buffer.
fn long_line(connection: usize, number: u64) -> String {
    format!("c {connection} n {number:0190}\n")
}

/// `block`: the senders of a sink that is away and whose disk buffer is full wait, in bounded
/// memory, and nobody else does; everything comes in the end.
#[test]
fn a_sink_that_is_away_holds_up_only_its_own_and_loses_nothing() {
    const LIMIT: u64 = 400_000;
    for seat in 0..WORKERS {
        let away = super::free_port();
        let sink = name_at("sink", "disk", seat, WORKERS);
        let quick = name_at("sink", "q", seat, WORKERS);
        let config = table(WORKERS, "")
            + SOURCES
            + &pipeline("slow", "slow", "", &sink)
            + &socket_sink(&sink, away)
            + "buffer.disk = \"8MiB\"\nbuffer.memory = \"1MiB\"\n"
            + &pipeline("quick", "quick", "", &quick)
            + &file_sink(&quick);
        let daemon = Daemon::start(&config);
        let slow = daemon.tcp_address("source.slow");
        let before = resident(&daemon);
        let sending: Vec<_> = (0..SENDERS)
            .map(|connection| {
                std::thread::spawn(move || {
                    let mut stream = connect(slow);
                    let (sent, rest) = send_until_stuck(&mut stream, connection, LIMIT);
                    assert!(sent < LIMIT, "nobody was held up");
                    (stream, sent, rest)
                })
            })
            .collect();
        let to_quick = daemon.tcp_address("source.quick");
        super::send_over(to_quick, 12, 100);
        let sent: Vec<_> = sending.into_iter().map(|it| it.join().unwrap()).collect();
        super::send_over(to_quick, 12, 100);
        let path = daemon.path(&format!("{quick}.log"));
        assert_eq!(lines_of(&path, 2400).len(), 2400);
        let grown = resident(&daemon).saturating_sub(before);
        assert!(grown < 96 << 20, "{grown} bytes more");
        let collector = Collector::on(TcpListener::bind(away).unwrap());
        let mut counts = Vec::new();
        for (mut stream, mut count, rest) in sent {
            stream.set_write_timeout(None).unwrap();
            if !rest.is_empty() {
                stream.write_all(&rest).unwrap();
                count += 1;
            }
            super::close(stream);
            counts.push(count);
        }
        let lines = collector.wait_for(counts.iter().sum::<u64>() as usize);
        stop_well(daemon);
        for (connection, numbers) in by_connection(&lines) {
            let expected: Vec<u64> = (0..counts[connection]).collect();
            assert!(
                numbers == expected,
                "{}",
                super::told(&numbers, counts[connection])
            );
        }
    }
}

/// Sends so many long lines over each of several connections, which stay open.
fn send_long(to: std::net::SocketAddr, count: u64) -> Vec<TcpStream> {
    let sending: Vec<_> = (0..SENDERS)
        .map(|connection| {
            std::thread::spawn(move || {
                let mut stream = connect(to);
                let lines = (0..count).map(|number| long_line(connection, number));
                stream
                    .write_all(lines.collect::<String>().as_bytes())
                    .unwrap();
                stream
            })
        })
        .collect();
    sending.into_iter().map(|it| it.join().unwrap()).collect()
}

/// What is in the buffer would hold its senders up otherwise.
const RECEIVED: &str = "[source.slow]\nack = \"received\"";

fn check_rest(lines: &[String]) {
    for (connection, numbers) in by_connection(lines) {
        let is_in_order = numbers.windows(2).all(|it| it[0] < it[1]);
        assert!(is_in_order, "connection {connection}");
    }
}

/// `drop_newest`: nobody waits, and all that was sent came or was counted.
#[test]
fn what_finds_no_room_is_counted_exactly() {
    const LINES: u64 = 4_000;
    for seat in 0..WORKERS {
        let (config, sink) = stalled(seat, "", "buffer.when_full = \"drop_newest\"");
        let config = config.replacen("[source.slow]", RECEIVED, 1);
        let (mut reader, writer) = std::io::pipe().unwrap();
        let daemon = Daemon::launch(&config, |command| {
            command.stdout(writer);
        });
        daemon.wait_for("started");
        let streams = send_long(daemon.tcp_address("source.slow"), LINES);
        let all = SENDERS as u64 * LINES;
        until("all is accepted", || {
            count(&daemon, &sink, "accepted") == all
        });
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        streams.into_iter().for_each(super::close);
        let ended = stop_well(daemon);
        let lines = reading.join().unwrap();
        check_rest(&lines);
        let dropped = ended.sink(&sink, "dropped");
        assert!(dropped > 0, "owner {seat}: nothing had to be dropped");
        assert_eq!(lines.len() as u64 + dropped, all, "owner {seat}");
        assert_eq!(ended.sink(&sink, "delivered"), lines.len() as u64);
    }
}

/// `drop_oldest`: nobody waits, what came last is there, and all the rest was counted.
#[test]
fn what_has_waited_longest_is_counted_exactly() {
    const LINES: u64 = 12_000;
    for seat in 0..WORKERS {
        let away = super::free_port();
        let sink = name_at("sink", "disk", seat, WORKERS);
        let config = table(WORKERS, "")
            + &SOURCES.replacen("[source.slow]", RECEIVED, 1)
            + &pipeline("slow", "slow", "", &sink)
            + &pipeline("quick", "quick", "", &sink)
            + &socket_sink(&sink, away)
            + "buffer.disk = \"8MiB\"\nbuffer.when_full = \"drop_oldest\"\n";
        let daemon = Daemon::start(&config);
        let streams = send_long(daemon.tcp_address("source.slow"), LINES);
        let all = SENDERS as u64 * LINES;
        until("all is accepted", || {
            count(&daemon, &sink, "accepted") == all
        });
        streams.into_iter().for_each(super::close);
        let collector = Collector::on(TcpListener::bind(away).unwrap());
        until("all is delivered or dropped", || {
            count(&daemon, &sink, "buffered") + count(&daemon, &sink, "in_flight") == 0
        });
        let ended = stop_well(daemon);
        let (dropped, came) = (ended.sink(&sink, "dropped"), ended.sink(&sink, "delivered"));
        assert!(dropped > 0, "owner {seat}: nothing had to be dropped");
        assert_eq!(came + dropped, all, "owner {seat}");
        let lines = collector.wait_for(came as usize);
        assert_eq!(lines.len() as u64, came, "owner {seat}");
        check_rest(&lines);
        let last = by_connection(&lines);
        assert!(last.values().any(|it| it.last() == Some(&(LINES - 1))));
    }
}

/// A count of the sink, in its books of all reactors.
fn count(daemon: &Daemon, sink: &str, what: &str) -> u64 {
    let answer = super::ask(daemon, "GET /status");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
    let report: serde_json::Value = serde_json::from_str(body).unwrap();
    let sinks = report["sinks"].as_array().unwrap();
    let found = sinks.iter().find(|it| it["name"] == sink).unwrap();
    found["ledger"][what].as_u64().unwrap()
}

/// A collector that is away, behind a disk buffer of any owner, gets everything when it is back.
#[test]
fn what_waits_on_disk_comes_when_the_sink_is_back() {
    for seat in 0..WORKERS {
        let away = super::free_port();
        let sink = name_at("sink", "disk", seat, WORKERS);
        let config = table(WORKERS, "")
            + &super::source("tcp://127.0.0.1:0")
            + &pipeline("p", "in", "", &sink)
            + &socket_sink(&sink, away)
            + "buffer.disk = \"64MiB\"\n";
        let daemon = Daemon::start(&config);
        let to = daemon.tcp_address("source.in");
        super::send_over(to, 12, 2_000);
        let collector = Collector::on(TcpListener::bind(away).unwrap());
        check_order(&collector.wait_for(12 * 2_000), 12, 2_000);
        stop_well(daemon);
    }
}

/// A pipeline whose sink is dead stands still; its loss at the stop is what was taken and is not
/// delivered.
#[test]
fn a_dead_sink_of_another_reactor_is_told_at_the_stop() {
    for seat in 0..WORKERS {
        let (config, _) = stalled(seat, "stop_timeout = \"1s\"", "");
        let (reader, writer) = std::io::pipe().unwrap();
        let daemon = Daemon::launch(&config, |command| {
            command.stdout(writer);
        });
        daemon.wait_for("started");
        let slow = daemon.tcp_address("source.slow");
        let streams: Vec<_> = (0..SENDERS)
            .map(|connection| {
                let mut stream = connect(slow);
                send_until_stuck(&mut stream, connection, 40_000);
                stream
            })
            .collect();
        let ended = stop(daemon);
        drop((streams, reader));
        assert_eq!(ended.code(), 1, "owner {seat}: {:?}", ended.log.last());
        assert!(ended.took < Duration::from_secs(6), "took {:?}", ended.took);
    }
}
