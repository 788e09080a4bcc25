//! The source `exec`: commands that end, flood, hang on and leave others behind.
//!
//! None of them may outlive the daemon's stop, or stay as a zombie, and what one prints is there
//! to the last line.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    TO_FILE, check_numbers, children, is_there, lines, lines_when, to_json_file, wait_until,
};
use crate::process::Daemon;

/// A source that runs a script, with more options.
fn script(script: &str, options: &str) -> String {
    let script = script
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!(
        "[source.in]\ntype = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n{options}\n"
    )
}

/// The number in the line `NAME NUMBER` of the output.
fn number(lines: &[String], name: &str) -> Option<u32> {
    let of = |line: &String| line.strip_prefix(name)?.trim().parse().ok();
    lines.iter().find_map(of)
}

#[test]
fn a_command_that_ends_is_started_again_with_pauses_and_its_failure_is_said_once() {
    let config = script("echo run $$; exit 3", "") + TO_FILE;
    let start = Instant::now();
    let daemon = Daemon::start(&config);
    lines_when(&daemon, "third run", |lines| lines.len() == 3);
    // 1 s and 2 s, each drawn from its upper half.
    assert!(start.elapsed() >= Duration::from_millis(1450), "no pauses");
    let ended = daemon.stop();
    let failed = ended
        .log
        .iter()
        .filter(|it| it["event"] == "command_failed");
    let failed: Vec<&Value> = failed.collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    let said = failed[0]["reason"].as_str().unwrap();
    assert!(said.contains("exit status 3"), "{said}");
    let counts = ended.log.iter().find(|it| it["event"] == "command_counts");
    assert_eq!(counts.unwrap()["failures"], 3);
}

#[test]
fn a_program_that_is_not_there_is_tried_again_and_said_once() {
    let config =
        format!("[source.in]\ntype = \"exec\"\ncommand = [\"/nowhere/at/all\"]\n{TO_FILE}");
    let daemon = Daemon::start(&config);
    let failed = daemon.wait_for("command_failed");
    assert!(
        failed["message"]
            .as_str()
            .unwrap()
            .contains("cannot be started")
    );
    std::thread::sleep(Duration::from_millis(1500));
    let ended = daemon.stop();
    let failed = ended
        .log
        .iter()
        .filter(|it| it["event"] == "command_failed");
    assert_eq!(failed.count(), 1);
}

#[test]
fn a_flood_waits_for_the_sink_and_arrives_whole_and_in_order() {
    const LINES: usize = 1_000_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = format!(
        "[source.in]\ntype = \"exec\"\ncommand = [\"seq\", \"1\", \"{LINES}\"]\nevery = \"1h\"\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n[sink.out]\ntype = \"socket\"\n\
         address = \"tcp://{address}\"\nencode = \"raw\"\nbuffer.memory = \"64KiB\"\n"
    );
    let daemon = Daemon::start(&config);
    let (peer, _) = listener.accept().unwrap();
    // It must still be there: 6.9 MB have no room in the buffers, and nobody reads.
    std::thread::sleep(Duration::from_millis(500));
    let waiting = children(daemon.id());
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_ne!(waiting[0].1, 'Z');
    let lines = BufReader::new(peer).lines().take(LINES);
    let lines: Vec<String> = lines.map(Result::unwrap).collect();
    check_numbers(&lines, LINES);
    wait_until("the end of the run", || children(daemon.id()).is_empty());
    daemon.stop();
}

#[test]
fn a_stop_ends_all_of_the_group_and_takes_its_last_words() {
    let config = script(
        "trap 'echo last words; exit 0' TERM\n(sleep 1000; echo never) & echo child $!\n\
         echo self $$\nwhile :; do sleep 0.05; done",
        "kill_after = \"20s\"",
    ) + TO_FILE;
    let daemon = Daemon::start(&config);
    let printed = lines_when(&daemon, "self", |lines| number(lines, "self").is_some());
    let [of_self, child] = ["self", "child"].map(|name| number(&printed, name).unwrap());
    assert!(is_there(of_self) && is_there(child));
    let start = Instant::now();
    let ended = daemon.stop();
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "it waited for kill_after"
    );
    assert_eq!(ended.code(), 0);
    assert!(!is_there(of_self) && !is_there(child));
    let printed = lines(&ended.folder.path().join("out.log"));
    assert_eq!(printed.last().unwrap(), "last words");
}

#[test]
fn who_ignores_sigterm_is_killed_with_its_grandchildren() {
    let config = script(
        "trap '' TERM\nsh -c 'trap \"\" TERM; echo grandchild $$; while :; do sleep 1; done' &\n\
         echo self $$\nwhile :; do sleep 1; done",
        "kill_after = \"300ms\"",
    ) + TO_FILE;
    let daemon = Daemon::start(&config);
    let printed = lines_when(&daemon, "both", |lines| lines.len() == 2);
    let pids = ["self", "grandchild"].map(|name| number(&printed, name).unwrap());
    let start = Instant::now();
    let ended = daemon.stop();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}: no patience");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(ended.code(), 0);
    for pid in pids {
        wait_until("killed", || !is_there(pid));
    }
}

#[test]
fn what_a_command_leaves_behind_in_its_group_ends_with_it() {
    let config = script(
        "sleep 1000 & echo left $!",
        "every = \"1h\"\nkill_after = \"300ms\"",
    );
    let daemon = Daemon::start(&(config + TO_FILE));
    let printed = lines_when(&daemon, "left", |lines| number(lines, "left").is_some());
    let left = number(&printed, "left").unwrap();
    wait_until("ended", || {
        !is_there(left) && children(daemon.id()).is_empty()
    });
    assert_eq!(daemon.records("command_failed").len(), 0);
    daemon.stop();
}

#[test]
fn no_run_is_left_as_a_zombie() {
    let config = script("echo run", "every = \"20ms\"") + TO_FILE;
    let daemon = Daemon::start(&config);
    lines_when(&daemon, "fifty runs", |lines| lines.len() >= 50);
    // One may just have ended.
    wait_until("reaped", || {
        children(daemon.id()).iter().all(|(_, state)| *state != 'Z')
    });
    let daemon_id = daemon.id();
    assert!(children(daemon_id).len() <= 1);
    daemon.stop();
}

#[test]
fn a_run_that_is_not_over_is_not_started_twice() {
    let config = script(
        "if mkdir running; then echo alone; sleep 0.5; rmdir running; else echo twice; fi",
        "every = \"100ms\"\ndirectory = \"{folder}\"",
    ) + TO_FILE;
    let daemon = Daemon::start(&config);
    lines_when(&daemon, "third run", |lines| lines.len() >= 3);
    let ended = daemon.stop();
    let printed = lines(&ended.folder.path().join("out.log"));
    assert!(printed.iter().all(|line| line == "alone"), "{printed:?}");
    let counts = ended.log.iter().find(|it| it["event"] == "command_counts");
    assert!(counts.unwrap()["skipped"].as_u64().unwrap() >= 3);
}

#[test]
fn standard_error_is_logged_or_becomes_events() {
    let text = "echo out; echo err >&2; sleep 1000";
    let daemon = Daemon::start(&(script(text, "") + TO_FILE));
    let said = daemon.wait_for("command_said");
    assert_eq!(
        (&said["message"], &said["component"]),
        (&"err".into(), &"source.in".into())
    );
    lines_when(&daemon, "out", |lines| lines == ["out"]);
    daemon.stop();
    let config = script(text, "stderr = \"events\"") + &to_json_file();
    let daemon = Daemon::start(&config);
    let lines = lines_when(&daemon, "both", |lines| lines.len() == 2);
    let streams: Vec<(Value, Value)> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|event| (event["message"].clone(), event["stream"].clone()))
        .collect();
    assert!(
        streams.contains(&("out".into(), Value::Null)),
        "{streams:?}"
    );
    assert!(
        streams.contains(&("err".into(), "stderr".into())),
        "{streams:?}"
    );
    let ended = daemon.stop();
    assert!(!ended.log.iter().any(|it| it["event"] == "command_said"));
}

#[test]
fn the_environment_is_what_the_config_says_and_no_secret_is_shown() {
    let options = "env = { PLAIN = \"p\", TOKEN = { env = \"MARLINE_TEST_SECRET\" } }";
    let config = script("env; ls -l /proc/self/fd", options) + TO_FILE;
    let daemon = Daemon::launch(&config, |command| {
        command
            .env("MARLINE_TEST_SECRET", "s3cr3t")
            .env("OTHER", "not for it");
    });
    let printed = lines_when(&daemon, "the environment", |lines| {
        lines.iter().any(|line| line.starts_with("TOKEN="))
    });
    assert!(printed.contains(&"TOKEN=s3cr3t".to_owned()));
    assert!(printed.contains(&"PLAIN=p".to_owned()));
    let foreign = |line: &&String| line.starts_with("OTHER=") || line.starts_with("MARLINE_TEST");
    assert_eq!(printed.iter().find(foreign), None);
    // Sockets and the poller's descriptors are the daemon's alone.
    let leaked = |line: &&String| line.contains("anon_inode") || line.contains("socket:");
    assert_eq!(printed.iter().find(leaked), None);
    let ended = daemon.stop();
    let log: String = ended.log.iter().map(Value::to_string).collect();
    assert!(!log.contains("s3cr3t"));
}

#[test]
fn who_outlives_a_killed_daemon_ends_at_its_next_write() {
    let config = script("echo self $$; while :; do echo x; sleep 0.05; done", "") + TO_FILE;
    let daemon = Daemon::start(&config);
    let printed = lines_when(&daemon, "self", |lines| number(lines, "self").is_some());
    let pid = number(&printed, "self").unwrap();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    wait_until(
        "ended by SIGPIPE",
        || !matches!(super::state_and_parent(pid), Some((state, _)) if state != 'Z'),
    );
}

#[test]
fn a_changed_command_takes_the_place_of_the_former_which_ends_first() {
    let of = |word: &str| {
        let text = format!(
            "trap 'sleep 0.3; echo end {word}; exit 0' TERM; echo begin {word} $$; \
             while :; do sleep 0.02; done"
        );
        script(&text, "") + TO_FILE
    };
    let daemon = Daemon::start(&of("one"));
    lines_when(&daemon, "first command", |lines| lines.len() == 1);
    daemon.write_config(&of("two"));
    daemon.signal(Signal::SIGHUP);
    let printed = lines_when(&daemon, "second command", |lines| lines.len() == 3);
    assert!(printed[1].starts_with("end one"), "{printed:?}");
    assert!(printed[2].starts_with("begin two"), "{printed:?}");
    assert_eq!(children(daemon.id()).len(), 1);
    // What has not changed goes on.
    daemon.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(600));
    let ended = daemon.stop();
    let printed = lines(&ended.folder.path().join("out.log"));
    assert_eq!(printed.len(), 4, "{printed:?}");
}
