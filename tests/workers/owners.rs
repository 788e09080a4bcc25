//! What there is one of is with one reactor, whichever that is, and gets what all receive.
//!
//! Every combination of owners occurs: of a pipeline that remembers, of one behind it, of a sink.

use super::{
    Collector, DEDUPE, check_order, descriptors, file_sink, lines_of, name_at, pipeline, send_over,
    socket_sink, source, stop_well, table, text_of,
};
use crate::process::Daemon;

const CONNECTIONS: usize = 16;
const LINES: u64 = 200;

#[test]
fn a_file_is_written_by_one_wherever_that_is() {
    for workers in [2, 3, 4] {
        let names: Vec<String> = (0..workers)
            .map(|at| name_at("sink", "f", at, workers))
            .collect();
        let mut config = table(workers, "") + &source("tcp://127.0.0.1:0");
        for name in &names {
            config += &pipeline(&format!("p{name}"), "in", "", name);
            config += &file_sink(name);
        }
        let daemon = Daemon::start(&config);
        send_over(daemon.tcp_address("source.in"), CONNECTIONS, LINES);
        for name in &names {
            let path = daemon.path(&format!("{name}.log"));
            let lines = lines_of(&path, CONNECTIONS * LINES as usize);
            check_order(&lines, CONNECTIONS, LINES);
            let open = descriptors(&daemon, |it| it == path.to_str().unwrap());
            assert_eq!(open, 1, "who has {name} open with {workers} workers");
        }
        stop_well(daemon);
    }
}

#[test]
fn standard_output_is_written_by_one() {
    for seat in [0, 1, 2] {
        let name = name_at("sink", "o", seat, 3);
        let config = table(3, "")
            + &source("tcp://127.0.0.1:0")
            + &pipeline("p", "in", "", &name)
            + &format!("[sink.{name}]\ntype = \"stdout\"\nencode = \"raw\"\n");
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let file = std::fs::File::create(&out).unwrap();
        let daemon = Daemon::launch(&config, |command| {
            command.stdout(file);
        });
        daemon.wait_for("started");
        send_over(daemon.tcp_address("source.in"), CONNECTIONS, LINES);
        stop_well(daemon);
        check_order(&lines_of(&out, 0), CONNECTIONS, LINES);
    }
}

#[test]
fn a_step_that_remembers_sees_the_events_of_all() {
    for workers in [2, 3, 4] {
        for seat in 0..workers {
            let name = name_at("pipeline", "p", seat, workers);
            let collector = Collector::start();
            let config = table(workers, "")
                + &source("tcp://127.0.0.1:0")
                + &pipeline(&name, "in", DEDUPE, "out")
                + &socket_sink("out", collector.address);
            let daemon = Daemon::start(&config);
            let to = daemon.tcp_address("source.in");
            let all: Vec<_> = (0..CONNECTIONS)
                .map(|_| std::thread::spawn(move || same_lines(to)))
                .collect();
            all.into_iter().for_each(|thread| thread.join().unwrap());
            stop_well(daemon);
            let lines = collector.wait_for(LINES as usize);
            check_order(&lines, 1, LINES);
        }
    }
}

/// Sends the same as everybody else who calls this.
fn same_lines(to: std::net::SocketAddr) {
    let mut stream = std::net::TcpStream::connect(to).unwrap();
    std::io::Write::write_all(&mut stream, text_of(0, 0..LINES).as_bytes()).unwrap();
    super::close(stream);
}

/// Pipelines that remember, with every owner, in front of pipelines that remember, with every
/// owner, in front of files, with every owner.
#[test]
fn every_way_from_owner_to_owner_keeps_all_in_order() {
    const WORKERS: usize = 3;
    let mut config = table(WORKERS, "") + &source("tcp://127.0.0.1:0");
    let mut files = Vec::new();
    for first in 0..WORKERS {
        let one = name_at("pipeline", &format!("a{first}x"), first, WORKERS);
        let none = name_at("sink", &format!("s{first}x"), first, WORKERS);
        config += &pipeline(&one, "in", DEDUPE, &none);
        config += &file_sink(&none);
        files.push(none);
        for second in 0..WORKERS {
            let two = name_at("pipeline", &format!("b{first}{second}x"), second, WORKERS);
            let plain = format!("plain{first}{second}");
            let sinks = (0..WORKERS)
                .map(|third| name_at("sink", &format!("f{first}{second}{third}x"), third, WORKERS));
            let sinks: Vec<String> = sinks.collect();
            config += &pipeline(&two, &one, DEDUPE, &sinks.join("\", \""));
            let unkept = name_at("sink", &format!("g{first}{second}x"), second, WORKERS);
            config += &pipeline(&plain, &one, "", &unkept);
            sinks
                .iter()
                .chain([&unkept])
                .for_each(|name| config += &file_sink(name));
            files.extend(sinks);
            files.push(unkept);
        }
    }
    let daemon = Daemon::start(&config);
    send_over(daemon.tcp_address("source.in"), CONNECTIONS, LINES);
    let ended = stop_well(daemon);
    for name in files {
        let path = ended.folder.path().join(format!("{name}.log"));
        check_order(&lines_of(&path, 0), CONNECTIONS, LINES);
    }
}

/// One command, one follower of a file, and one reader of standard input, wherever they are.
#[test]
fn what_reads_something_is_there_once() {
    const WORKERS: usize = 3;
    let mut config = table(WORKERS, "");
    let mut sinks = Vec::new();
    for seat in 0..WORKERS {
        let (run, follow) = (format!("run{seat}x"), format!("follow{seat}x"));
        let (run, follow) = (
            name_at("source", &run, seat, WORKERS),
            name_at("source", &follow, (seat + 1) % WORKERS, WORKERS),
        );
        let text = format!("echo c 0 n 0; echo started >> {{folder}}/{run}.runs; exec sleep 60");
        config += &format!(
            "[source.{run}]\ntype = \"exec\"\ncommand = [\"sh\", \"-c\", \"{text}\"]\n\
             [source.{follow}]\ntype = \"file\"\npaths = [\"{{folder}}/{follow}.in\"]\n\
             start = \"beginning\"\n"
        );
        for name in [run, follow] {
            let sink = name_at("sink", &format!("to{name}x"), (seat + 2) % WORKERS, WORKERS);
            config += &pipeline(&format!("p{name}"), &name, "", &sink);
            config += &file_sink(&sink);
            sinks.push((name, sink));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, _) in sinks.iter().filter(|it| it.0.starts_with("follow")) {
        let path = folder.path().join(format!("{name}.in"));
        std::fs::write(path, text_of(0, 0..LINES)).unwrap();
    }
    let daemon = Daemon::launch_in(folder, &config, |_| {});
    daemon.wait_for("started");
    for (name, sink) in &sinks {
        let is_file = name.starts_with("follow");
        let count = if is_file { LINES } else { 1 };
        let lines = lines_of(&daemon.path(&format!("{sink}.log")), count as usize);
        check_order(&lines, 1, count);
        if !is_file {
            let runs = lines_of(&daemon.path(&format!("{name}.runs")), 1);
            assert_eq!(runs.len(), 1, "{name} was started more than once");
        }
    }
    let ended = stop_well(daemon);
    for (name, sink) in sinks {
        let count = if name.starts_with("follow") { LINES } else { 1 };
        check_order(
            &lines_of(&ended.folder.path().join(format!("{sink}.log")), 0),
            1,
            count,
        );
    }
}

/// The end of standard input stops all reactors, also where another one than the first reads it.
#[test]
fn the_end_of_standard_input_stops_all() {
    const WORKERS: usize = 3;
    for seat in 0..WORKERS {
        let name = name_at("source", "in", seat, WORKERS);
        let sink = name_at("sink", "f", (seat + 1) % WORKERS, WORKERS);
        let config = table(WORKERS, "")
            + &format!("[source.{name}]\ntype = \"stdin\"\n")
            + &pipeline("p", &name, "", &sink)
            + &file_sink(&sink);
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input");
        std::fs::write(&input, text_of(0, 0..LINES)).unwrap();
        let input = std::fs::File::open(input).unwrap();
        let daemon = Daemon::launch_in(folder, &config, |command| {
            command.stdin(input);
        });
        let ended = daemon.wait();
        assert_eq!(ended.code(), 0, "{:?}", ended.log.last());
        let path = ended.folder.path().join(format!("{sink}.log"));
        check_order(&lines_of(&path, 0), 1, LINES);
    }
}
