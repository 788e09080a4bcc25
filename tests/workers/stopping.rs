//! All reactors drain, and end together.
//!
//! What was handed over when the others had drained already is drained, too; what is lost at the
//! limit is counted wherever it is.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::{
    Collector, DEDUPE, check_order, file_sink, free_port, lines_of, name_at, pipeline, post,
    socket_sink, source, stop, stop_well, table, text_of,
};
use crate::process::Daemon;

const CONNECTIONS: usize = 12;

/// Everything that senders have handed over by the time of the stop is delivered, over whichever
/// reactors it has to go.
#[test]
fn a_stop_under_load_loses_nothing() {
    for workers in [2, 3, 4] {
        let (own, on_disk) = (Collector::start(), Collector::start());
        let file = name_at("sink", "f", workers - 1, workers);
        let disk = name_at("sink", "d", 1, workers);
        let remembers = name_at("pipeline", "r", 0, workers);
        let second = name_at("pipeline", "s", workers - 1, workers);
        let last = name_at("sink", "l", 0, workers);
        let config = table(workers, "")
            + &source("tcp://127.0.0.1:0")
            + &pipeline("own", "in", "", "own")
            + &socket_sink("own", own.address)
            + &pipeline("f", "in", "", &file)
            + &file_sink(&file)
            + &pipeline("d", "in", "", &disk)
            + &socket_sink(&disk, on_disk.address)
            + "buffer.disk = \"16MiB\"\n"
            + &pipeline(&remembers, "in", DEDUPE, "own")
            + &pipeline(&second, &remembers, DEDUPE, &last)
            + &file_sink(&last);
        let daemon = Daemon::start(&config);
        let to = daemon.tcp_address("source.in");
        let mut streams: Vec<_> = (0..CONNECTIONS)
            .map(|_| TcpStream::connect(to).unwrap())
            .collect();
        let mut count = 0;
        for _ in 0..60 {
            for (connection, stream) in streams.iter_mut().enumerate() {
                let text = text_of(connection, count..count + 50);
                stream.write_all(text.as_bytes()).unwrap();
            }
            count += 50;
        }
        let ended = stop_well(daemon);
        assert!(
            ended.took < Duration::from_secs(10),
            "took {:?}",
            ended.took
        );
        let all = CONNECTIONS * count as usize;
        check_order(&on_disk.wait_for(all), CONNECTIONS, count);
        let path = |name: &str| ended.folder.path().join(format!("{name}.log"));
        check_order(&lines_of(&path(&file), 0), CONNECTIONS, count);
        check_order(&lines_of(&path(&last), 0), CONNECTIONS, count);
        // It gets each by two ways.
        assert_eq!(own.wait_for(2 * all).len(), 2 * all);
    }
}

/// With its sink down and its events in memory the daemon waits for `stop_timeout`, then says
/// what it lost, wherever that is.
#[test]
fn a_stop_with_a_dead_sink_ends_at_the_limit_and_says_what_was_lost() {
    const WORKERS: usize = 3;
    let config = table(WORKERS, "stop_timeout = \"1s\"")
        + &source("tcp://127.0.0.1:0")
        + &pipeline("p", "in", "", "out")
        + &socket_sink("out", free_port());
    let daemon = Daemon::start(&config);
    let to = daemon.tcp_address("source.in");
    let streams: Vec<_> = (0..CONNECTIONS)
        .map(|connection| {
            let mut stream = TcpStream::connect(to).unwrap();
            stream
                .write_all(text_of(connection, 0..10).as_bytes())
                .unwrap();
            stream
        })
        .collect();
    let ended = stop(daemon);
    drop(streams);
    assert_eq!(ended.code(), 1, "{:?}", ended.log.last());
    assert!(ended.took < Duration::from_secs(6), "took {:?}", ended.took);
    let last = ended.log.last().unwrap().to_string();
    assert!(
        last.contains(&format!("{} events", CONNECTIONS * 10)),
        "{last}"
    );
}

/// The loss is on one reactor alone, and not on the first.
#[test]
fn a_loss_of_another_reactor_than_the_first_is_said() {
    const WORKERS: usize = 3;
    for seat in 0..WORKERS {
        let source = name_at("source", "run", seat, WORKERS);
        let config = table(WORKERS, "stop_timeout = \"1s\"")
            + &format!(
                "[source.{source}]\ntype = \"exec\"\n\
                 command = [\"sh\", \"-c\", \"echo c 0 n 0; exec sleep 60\"]\n"
            )
            + &pipeline("p", &source, "", "out")
            + &pipeline("seen", &source, "", "seen")
            + &file_sink("seen")
            + &socket_sink("out", free_port());
        let daemon = Daemon::start(&config);
        lines_of(&daemon.path("seen.log"), 1);
        let ended = stop(daemon);
        assert_eq!(ended.code(), 1, "owner {seat}: {:?}", ended.log.last());
        let last = ended.log.last().unwrap().to_string();
        assert!(last.contains("1 events"), "{last}");
    }
}

/// What is in a disk buffer of any owner is no loss.
#[test]
fn what_is_on_disk_waits_there_for_the_next_start() {
    const WORKERS: usize = 3;
    for seat in 0..WORKERS {
        let sink = name_at("sink", "d", seat, WORKERS);
        let away = free_port();
        let config = table(WORKERS, "stop_timeout = \"1s\"")
            + "[source.in]\ntype = \"http\"\nlisten = [\"http://127.0.0.1:0\"]\n"
            + &pipeline("p", "in", "", &sink)
            + &socket_sink(&sink, away)
            + "buffer.disk = \"8MiB\"\n";
        let daemon = Daemon::start(&config);
        let to = daemon.try_http_address().unwrap();
        for connection in 0..CONNECTIONS {
            assert_eq!(post(to, &text_of(connection, 0..10)).unwrap(), 200);
        }
        let ended = stop_well(daemon);
        let collector = Collector::on(std::net::TcpListener::bind(away).unwrap());
        let daemon = Daemon::launch_in(ended.folder, &config, |_| {});
        check_order(&collector.wait_for(CONNECTIONS * 10), CONNECTIONS, 10);
        stop_well(daemon);
    }
}
