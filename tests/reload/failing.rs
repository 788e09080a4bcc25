//! Reloads that cannot be: all of the former configuration goes on, and the answer says why.
//!
//! After each attempt the connection that was open is used, and a new one is made.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use super::{
    Answer, Collector, check_once, free_port, named, relay, reload, reload_to, status, until,
};
use crate::process::Daemon;

#[test]
fn f_026_what_cannot_be_had_in_full_changes_nothing() {
    let (collector, listen) = (Collector::start(), free_port());
    let good = relay(listen, collector.address, "");
    let daemon = Daemon::start(&good);
    let mut sender = TcpStream::connect(listen).unwrap();
    let mut number = 0;
    let mut check = |config: &str, code: i32, words: &[&str]| {
        daemon.write_config(config);
        let Answer { text, code: found } = reload(&daemon);
        assert_eq!(found, code, "{text}");
        for word in words {
            assert!(text.contains(word), "no {word} in: {text}");
        }
        // On the connection that was open, and on a new one.
        for stream in [&mut sender, &mut TcpStream::connect(listen).unwrap()] {
            stream
                .write_all(format!("n {number}\n").as_bytes())
                .unwrap();
            number += 1;
            collector.wait_for(number);
        }
    };
    let place = "marline.toml:6:1";
    check(
        &format!("nonsense = 1\n{good}"),
        78,
        &[place, "unknown key", "nothing was reloaded"],
    );
    check("[source.in", 78, &["marline.toml:6:"]);
    // A port in use: what comes before it in the file is not opened either.
    let (taken, free) = (TcpListener::bind("127.0.0.1:0").unwrap(), free_port());
    let busy = taken.local_addr().unwrap();
    let more = format!(
        "[source.more]\ntype = \"socket\"\nlisten = [\"tcp://{free}\", \"tcp://{busy}\"]\n\
         [pipeline.more]\nfrom = [\"more\"]\nto = [\"out\", \"extra\"]\n\
         [sink.extra]\ntype = \"discard\"\n"
    );
    let words = [&*format!("tcp://{busy}"), "source.more", "in use"];
    check(&format!("{good}{more}"), 75, &words);
    until("the port is free again", || TcpListener::bind(free).is_ok());
    not_writable(&daemon, &good, &mut check);
    check_once(&collector.lines(), number as u64);
    // Everything is as if nothing had been tried.
    daemon.write_config(&good);
    let answer = reload(&daemon);
    assert_eq!(
        answer.text,
        "kept 3, changed: none, added: none, removed: none\n"
    );
    assert_eq!(daemon.stop().code(), 0);
}

/// Buffers and files that cannot be written where they should be.
fn not_writable(daemon: &Daemon, good: &str, check: &mut dyn FnMut(&str, i32, &[&str])) {
    // A disk buffer whose folder is a file.
    fs::create_dir_all(daemon.path("state/buffer")).unwrap();
    fs::write(daemon.path("state/buffer/out"), "").unwrap();
    let disk = format!("{good}buffer.disk = \"8MiB\"\n");
    check(&disk, 1, &["sink.out", "disk buffer", "buffer/out"]);
    // A file sink that cannot write where it should.
    let file = format!(
        "{good}[sink.file]\ntype = \"file\"\npath = \"/proc/none/x\"\n\
         [pipeline.file]\nfrom = [\"in\"]\nto = [\"file\"]\n"
    );
    check(&file, 1, &["sink.file", "/proc/none"]);
    fs::remove_file(daemon.path("state/buffer/out")).unwrap();
}

#[test]
fn f_037_a_config_that_is_no_file_is_a_quick_error() {
    let (collector, listen) = (Collector::start(), free_port());
    let good = relay(listen, collector.address, "");
    let daemon = Daemon::start(&good);
    let path = daemon.path("marline.toml");
    let fifo = daemon.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let huge = daemon.path("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 30).unwrap();
    let folder = daemon.folder().to_owned();
    let cases = [
        (fifo, "a fifo"),
        (folder, "a directory"),
        (huge, "larger than"),
        (daemon.path("none"), "no such file"),
    ];
    for (number, (target, words)) in cases.into_iter().enumerate() {
        fs::remove_file(&path).unwrap();
        symlink(target, &path).unwrap();
        let began = Instant::now();
        let Answer { text, code } = reload(&daemon);
        assert_eq!(code, 78, "{text}");
        assert!(text.contains(words), "{text}");
        // A second here, on a machine that does other things beside.
        assert!(began.elapsed() < Duration::from_secs(10), "{text}");
        let mut sender = TcpStream::connect(listen).unwrap();
        sender
            .write_all(format!("n {number}\n").as_bytes())
            .unwrap();
        collector.wait_for(number + 1);
    }
    assert_eq!(daemon.stop().code(), 0);
}

/// A disk buffer that was opened for a configuration that cannot be is closed: the next reload
/// finds it free, and as it was left.
#[test]
fn f_026_a_reload_that_fails_closes_the_disk_buffers_that_it_opened() {
    let (collector, listen, nowhere) = (Collector::start(), free_port(), free_port());
    let good = relay(listen, collector.address, "");
    let extra = format!(
        "{good}[pipeline.extra]\nfrom = [\"in\"]\nto = [\"extra\"]\n\
         [sink.extra]\ntype = \"socket\"\naddress = \"tcp://{nowhere}\"\n\
         encode = \"raw\"\nbuffer.disk = \"8MiB\"\n"
    );
    let daemon = Daemon::start(&extra);
    let mut sender = TcpStream::connect(listen).unwrap();
    let lines: String = (0..100).map(|number| format!("n {number}\n")).collect();
    sender.write_all(lines.as_bytes()).unwrap();
    collector.wait_for(100);
    let buffered = || named(&status(&daemon)["sinks"], "extra")["buffer"]["events"].clone();
    until("all is on the disk", || buffered() == 100);
    reload_to(&daemon, &good);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap();
    let bad = format!(
        "{extra}[source.bad]\ntype = \"socket\"\nlisten = [\"tcp://{busy}\"]\n\
         [pipeline.bad]\nfrom = [\"bad\"]\nto = [\"out\"]\n"
    );
    daemon.write_config(&bad);
    for _ in 0..5 {
        let Answer { text, code } = reload(&daemon);
        assert_eq!(code, 75, "{text}");
        assert!(text.contains("in use"), "{text}");
    }
    reload_to(&daemon, &extra);
    let opened = daemon.records("buffer_opened");
    for record in &opened[1..] {
        assert_eq!(record["recovered"], 100, "{opened:?}");
        assert_eq!(record["may_repeat"], 0, "{opened:?}");
    }
    assert_eq!(daemon.stop().code(), 0);
}
