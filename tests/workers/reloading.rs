//! A reload is one of all reactors: under load nothing is lost or doubled, whatever gets another
//! owner by it, and where one of them cannot, all stay as they were.
//!
//! Names are made so that what is added and removed has every reactor for its owner in turn.

use std::net::{SocketAddr, TcpListener};

use nix::sys::signal::Signal;

use super::single::listening;
use super::{
    Collector, DEDUPE, Load, by_connection, check_once, descriptors, file_sink, free_port,
    lines_of, name_at, pipeline, reload_to, send_over, socket_sink, stop, stop_well, table,
    threads, until,
};
use crate::process::Daemon;

const WORKERS: usize = 3;

fn source_at(at: SocketAddr) -> String {
    super::source(&format!("tcp://{at}"))
}

/// Goes through `forms` in turn, under load at `stays`; what came where is `all_lines`'s to say.
fn reload_under_load(
    stays: SocketAddr,
    rounds: usize,
    form: impl Fn(usize) -> String,
    all_lines: impl Fn(&Daemon) -> Vec<String>,
    check: impl Fn(&[String], &[u64]),
) {
    let daemon = Daemon::start(&form(0));
    let loads: Vec<Load> = (0..6)
        .map(|number| match number % 2 {
            0 => Load::steady(number, stays),
            _ => Load::connects(number, stays),
        })
        .collect();
    for round in 1..=rounds {
        let sent = loads[0].sent();
        daemon.write_config(&form(round));
        let answer = super::ask(&daemon, "POST /reload");
        // A buffer that has just been closed is no reason to wait inside.
        let is_refused = answer.contains("reload again");
        assert!(
            is_refused || answer.starts_with("HTTP/1.1 200 "),
            "{answer}"
        );
        until("more is sent", || loads[0].sent() > sent + 10);
    }
    let sent: Vec<u64> = loads.into_iter().map(Load::stop).collect();
    daemon.signal(Signal::SIGTERM);
    // A daemon that has lost something is still one whose lines are to be seen.
    let all = sent.iter().sum::<u64>() as usize;
    let start = std::time::Instant::now();
    while all_lines(&daemon).len() < all && start.elapsed() < std::time::Duration::from_secs(5) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let lines = all_lines(&daemon);
    let ended = daemon.wait();
    // What was dropped says where to look, should lines be missing below.
    for record in ended.log.iter().filter(|it| is_of_a_loss(it)) {
        eprintln!("{record}");
    }
    check(&lines, &sent);
    assert_eq!(ended.code(), 0, "{:?}", ended.log.last());
}

fn is_of_a_loss(record: &serde_json::Value) -> bool {
    let dropped = record["dropped"].as_u64().unwrap_or(0);
    dropped > 0 || record["level"] == "warn" || record["level"] == "error"
}

/// Lines of the collector and of these files.
fn lines(daemon: &Daemon, collector: &Collector, files: &[&str]) -> Vec<String> {
    let mut lines = collector.wait_for(0);
    for file in files {
        lines.extend(lines_of(&daemon.path(&format!("{file}.log")), 0));
    }
    lines
}

/// Between a sink of each reactor's own, a file, and a disk buffer: the owner comes and goes.
#[test]
fn a_sink_becomes_a_file_and_a_disk_buffer_and_back() {
    for seat in 0..WORKERS {
        let (stays, collector) = (free_port(), Collector::start());
        let name = name_at("sink", "s", seat, WORKERS);
        let form = |round: usize| {
            let sink = match round % 4 {
                0 => socket_sink(&name, collector.address),
                1 | 3 => file_sink(&name),
                _ => socket_sink(&name, collector.address) + "buffer.disk = \"8MiB\"\n",
            };
            table(WORKERS, "") + &source_at(stays) + &pipeline("p", "in", "", &name) + &sink
        };
        let all = |daemon: &Daemon| lines(daemon, &collector, &[&name]);
        reload_under_load(stays, 20, form, all, check_once);
    }
}

/// A disk buffer is added and removed, and back.
#[test]
fn a_disk_buffer_comes_and_goes() {
    for seat in 0..WORKERS {
        let (stays, collector) = (free_port(), Collector::start());
        let name = name_at("sink", "s", seat, WORKERS);
        let form = |round: usize| {
            let disk = ["", "buffer.disk = \"8MiB\"\n"][round % 2];
            table(WORKERS, "")
                + &source_at(stays)
                + &pipeline("p", "in", "", &name)
                + &socket_sink(&name, collector.address)
                + disk
        };
        let all = |daemon: &Daemon| lines(daemon, &collector, &[]);
        reload_under_load(stays, 20, form, all, check_once);
    }
}

/// A disk buffer with something in it is removed while its sink is away: what is on disk comes
/// first, and what came after it comes, too.
#[test]
fn what_is_on_disk_does_not_hold_up_what_comes_after_it() {
    for workers in [1, WORKERS] {
        for seat in 0..workers {
            let (stays, away) = (free_port(), free_port());
            let name = name_at("sink", "s", seat, workers);
            let form = |disk: &str| {
                table(workers, "")
                    + &source_at(stays)
                    + &pipeline("p", "in", "", &name)
                    + &socket_sink(&name, away)
                    + disk
            };
            let daemon = Daemon::start(&form("buffer.disk = \"8MiB\"\n"));
            send_over(stays, 6, 40);
            reload_to(&daemon, &form(""));
            let collector = Collector::on(TcpListener::bind(away).unwrap());
            let load = Load::steady(6, stays);
            until("more is sent", || load.sent() > 100);
            let sent = load.stop();
            let lines = collector.wait_for(240 + sent as usize);
            stop_well(daemon);
            check_once(&lines, &[40, 40, 40, 40, 40, 40, sent]);
        }
    }
}

/// A step that remembers is added to a pipeline and removed from it: it gets an owner and loses it.
#[test]
fn a_step_that_remembers_comes_and_goes() {
    for seat in 0..WORKERS {
        let (stays, collector) = (free_port(), Collector::start());
        let name = name_at("pipeline", "p", seat, WORKERS);
        let form = |round: usize| {
            let steps = ["", DEDUPE][round % 2];
            table(WORKERS, "")
                + &source_at(stays)
                + &pipeline(&name, "in", steps, "out")
                + &socket_sink("out", collector.address)
        };
        let all = |daemon: &Daemon| lines(daemon, &collector, &[]);
        reload_under_load(stays, 30, form, all, check_once);
    }
}

/// The pipeline with the owner gets another name, and with it another owner.
#[test]
fn a_pipeline_with_an_owner_gives_way_to_another() {
    for seat in 0..WORKERS {
        let (stays, collector) = (free_port(), Collector::start());
        let names = [
            name_at("pipeline", "one", seat, WORKERS),
            name_at("pipeline", "two", (seat + 1) % WORKERS, WORKERS),
        ];
        let form = |round: usize| {
            table(WORKERS, "")
                + &source_at(stays)
                + &pipeline(&names[round % 2], "in", DEDUPE, "out")
                + &socket_sink("out", collector.address)
        };
        let all = |daemon: &Daemon| lines(daemon, &collector, &[]);
        reload_under_load(stays, 30, form, all, check_once);
    }
}

/// The sink gets another name, and with it another owner; what it had is delivered.
#[test]
fn a_sink_with_an_owner_gives_way_to_another() {
    for seat in 0..WORKERS {
        let (stays, collector) = (free_port(), Collector::start());
        let names = [
            name_at("sink", "one", seat, WORKERS),
            name_at("sink", "two", (seat + 1) % WORKERS, WORKERS),
        ];
        let pipes = [
            name_at("pipeline", "p", (seat + 2) % WORKERS, WORKERS),
            "plain".to_owned(),
        ];
        let form = |round: usize| {
            let name = &names[round % 2];
            let steps = [DEDUPE, ""][round / 2 % 2];
            table(WORKERS, "")
                + &source_at(stays)
                + &pipeline(&pipes[round / 2 % 2], "in", steps, name)
                + &file_sink(name)
        };
        let all = |daemon: &Daemon| lines(daemon, &collector, &[&names[0], &names[1]]);
        reload_under_load(stays, 24, form, all, check_once);
    }
}

/// The source moves to another port and back, beside one that stays: the sockets of all
/// reactors go with it.
#[test]
fn a_source_moves_to_another_port_and_back() {
    let (stays, collector) = (free_port(), Collector::start());
    let ports = [free_port(), free_port()];
    let form = |round: usize| {
        let moved = source_at(ports[round % 2]).replace("source.in", "source.moves");
        table(WORKERS, "")
            + &source_at(stays)
            + &moved
            + &pipeline("p", "in", "", "out")
            + &pipeline("q", "moves", "", "out")
            + &socket_sink("out", collector.address)
    };
    let daemon = Daemon::start(&form(0));
    let load = Load::connects(99, stays);
    for round in 0..30 {
        reload_to(&daemon, &form(round));
        let [here, gone] = [ports[round % 2], ports[(round + 1) % 2]];
        assert_eq!(listening(here.port()), WORKERS);
        until("the former port is free", || listening(gone.port()) == 0);
        drop(TcpListener::bind(gone).unwrap());
        let before = collector.count();
        send_over(here, 6, 4);
        until("its lines", || collector.count() >= before + 24);
    }
    let sent = load.stop();
    stop_well(daemon);
    let mut came = by_connection(&collector.wait_for(30 * 24 + sent as usize));
    assert_eq!(came.remove(&99).unwrap().len() as u64, sent);
    assert_eq!(came.values().map(Vec::len).sum::<usize>(), 30 * 24);
}

/// A port in use: all reactors stay as they were, and nothing is held by them afterwards.
#[test]
fn a_reload_that_is_refused_leaves_all_as_it_was() {
    let (stays, collector) = (free_port(), Collector::start());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = name_at("pipeline", "p", 1, WORKERS);
    let disk = name_at("sink", "d", 2, WORKERS);
    let form = |more: &str| {
        table(WORKERS, "")
            + &source_at(stays)
            + &pipeline(&name, "in", DEDUPE, "out")
            + &socket_sink("out", collector.address)
            + more
    };
    let free = free_port();
    let bad = format!(
        "[source.free]\ntype = \"socket\"\n\
         listen = [\"tcp://{free}\", \"unix://{{folder}}/x.sock\"]\n\
         [source.taken]\ntype = \"socket\"\nlisten = [\"tcp://{}\"]\n\
         {}{}{}buffer.disk = \"8MiB\"\n",
        taken.local_addr().unwrap(),
        pipeline("bad", "taken", DEDUPE, &disk),
        pipeline("free", "free", "", &disk),
        socket_sink(&disk, collector.address),
    );
    let daemon = Daemon::start(&form(""));
    let load = Load::connects(0, stays);
    let refuse = || {
        daemon.write_config(&form(&bad));
        let answer = super::ask(&daemon, "POST /reload");
        assert!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };
    let held = || (descriptors(&daemon, |_| true), threads(&daemon).len());
    (0..5).for_each(|_| refuse());
    let quiet = std::cell::Cell::new(held());
    until("it is quiet", || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let before = quiet.replace(held());
        before.1 == quiet.get().1
    });
    let threads_before = quiet.get().1;
    (0..20).for_each(|_| refuse());
    assert_eq!(listening(free.port()), 0);
    assert!(!daemon.path("x.sock").exists());
    assert_eq!(threads(&daemon).len(), threads_before);
    let sent = load.stop();
    // The same without what was refused goes well.
    let good = bad.replace(&taken.local_addr().unwrap().to_string(), "127.0.0.1:0");
    reload_to(&daemon, &form(&good));
    reload_to(&daemon, &form(""));
    stop_well(daemon);
    check_once(&collector.wait_for(sent as usize), &[sent]);
}

/// Threads of pools that are started when there is work for them, in whichever reload.
const POOLED: usize = 4;

/// Many reloads of everything leave no descriptor and no thread behind.
#[test]
fn many_reloads_leave_nothing_behind() {
    let collector = Collector::start();
    let (stays, moves) = (free_port(), [free_port(), free_port()]);
    let form = |round: usize| {
        let moved = source_at(moves[round % 2]).replace("source.in", "source.moves");
        let other = format!("other{}", round % 2);
        let steps = [DEDUPE, ""][round % 2];
        let path = "unix://{folder}/in.sock";
        let listens = format!(
            "tcp://{stays}\", \"{}",
            [path, "udp://127.0.0.1:0"][round % 2]
        );
        table(WORKERS, "")
            + &super::source(&listens)
            + &moved
            + &pipeline("p", "in", steps, "out")
            + &pipeline("q", "moves", "", &other)
            + &socket_sink("out", collector.address)
            + &[file_sink(&other), socket_sink(&other, collector.address)][round % 2]
    };
    let daemon = Daemon::start(&form(0));
    let held = || {
        let mut last = (0, 0);
        until("it is quiet", || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let now = (descriptors(&daemon, |_| true), threads(&daemon).len());
            std::mem::replace(&mut last, now) == now
        });
        last
    };
    for round in 1..=20 {
        reload_to(&daemon, &form(round));
        send_over(stays, 3, 4);
    }
    let before = held();
    for round in 21..=60 {
        reload_to(&daemon, &form(round));
        send_over(stays, 3, 4);
    }
    let after = held();
    assert!(
        after.0 <= before.0 && after.1 <= before.1 + POOLED,
        "{before:?}, then {after:?}"
    );
    stop_well(daemon);
}

/// A stop that comes while a reload is under way wins, and loses nothing.
#[test]
fn a_stop_in_a_reload_loses_nothing() {
    for round in 0..12 {
        let (stays, collector) = (free_port(), Collector::start());
        let name = name_at("sink", "f", round % WORKERS, WORKERS);
        let form = |number: usize| {
            let moved = format!(
                "[source.moves{number}]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n"
            );
            table(WORKERS, "")
                + &source_at(stays)
                + &moved
                + &pipeline("p", "in", ["", DEDUPE][number], &name)
                + &pipeline("q", &format!("moves{number}"), "", "out")
                + &socket_sink("out", collector.address)
                + &file_sink(&name)
        };
        let daemon = Daemon::start(&form(0));
        send_over(stays, 6, 50);
        daemon.write_config(&form(1));
        daemon.signal(Signal::SIGHUP);
        std::thread::sleep(std::time::Duration::from_micros(1_500 * round as u64));
        let ended = stop(daemon);
        assert_eq!(ended.code(), 0, "{:?}", ended.log.last());
        let lines = lines_of(&ended.folder.path().join(format!("{name}.log")), 0);
        check_once(&lines, &[50; 6]);
    }
}
