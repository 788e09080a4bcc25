//! What the daemon says at its start: where it listens, how to try it, what it has no room for.
//!
//! The hints are compared whole: somebody will paste them.

use std::process::{Command, Stdio};

use crate::process::Daemon;

/// The lines about components, with `PORT` for the ports that the system chose.
fn about(daemon: &Daemon) -> Vec<String> {
    let started = daemon.records("component_started");
    let text = |record: &serde_json::Value, name: &str| record[name].as_str().unwrap().to_owned();
    started
        .iter()
        .map(|record| {
            let mut message = text(record, "message");
            for prefix in ["127.0.0.1:", "[::1]:", "-P "] {
                let Some((before, port)) = message.split_once(prefix) else {
                    continue;
                };
                let behind = port.trim_start_matches(|c: char| c.is_ascii_digit());
                message = format!("{before}{prefix}PORT{behind}");
            }
            let folder = daemon.folder().to_str().unwrap();
            let message = message.replace(folder, "FOLDER");
            format!("{}: {message}", text(record, "component"))
        })
        .collect()
}

#[test]
fn the_start_says_where_it_listens_and_how_to_try_it() {
    let daemon = Daemon::start(
        "[source.lines]\ntype = \"socket\"\n\
         listen = [\"tcp://127.0.0.1:0\", \"udp://[::1]:0\", \"unix://{folder}/lines\"]\n\
         [source.web]\ntype = \"http\"\nlisten = [\"tcp://127.0.0.1:0\", \"unix://{folder}/web\"]\n\
         [pipeline.main]\nfrom = [\"lines\", \"web\"]\nto = [\"out\"]\n\
         [sink.out]\ntype = \"discard\"\n",
    );
    let expected = [
        "source.lines: listening on tcp://127.0.0.1:PORT",
        "source.lines: try it: logger -n 127.0.0.1 -P PORT -T hello",
        "source.lines: listening on udp://[::1]:PORT",
        "source.lines: try it: logger -n ::1 -P PORT -d hello",
        "source.lines: listening on unix://FOLDER/lines",
        "source.web: listening on http://127.0.0.1:PORT",
        "source.web: try it: curl -d hello http://127.0.0.1:PORT/",
        "source.web: listening for HTTP on unix://FOLDER/web",
    ];
    let about = about(&daemon);
    let of_sources: Vec<_> = about
        .iter()
        .filter(|line| line.starts_with("source"))
        .collect();
    assert_eq!(of_sources, expected.iter().collect::<Vec<_>>());
    daemon.stop();
}

/// Starts a daemon whose sources have these lines, where `ulimit` was called like this before.
fn limited(ulimits: &str, sources: &[&str]) -> Daemon {
    let mut config = String::from("[daemon]\nlog.format = \"json\"\n");
    let mut names = Vec::new();
    for (index, extra) in sources.iter().enumerate() {
        config += &format!(
            "[source.s{index}]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n{extra}\n"
        );
        names.push(format!("\"s{index}\""));
    }
    let names = names.join(", ");
    config += &format!("[pipeline.main]\nfrom = [{names}]\nto = [\"out\"]\n");
    config += "[sink.out]\ntype = \"discard\"\n";
    let daemon = Daemon::launch(&config, |command| {
        let marline = std::mem::replace(command, Command::new("sh"));
        command.args(["-c", &format!("{ulimits}; exec \"$0\" \"$@\"")]);
        command.arg(marline.get_program()).args(marline.get_args());
        command.current_dir(marline.get_current_dir().unwrap());
        command.stderr(Stdio::piped());
    });
    daemon.wait_for("started");
    daemon
}

/// The soft limit of open descriptors that the daemon has by now.
fn descriptors_max(daemon: &Daemon) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let mut lines = limits.lines();
    let line = lines
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn promised_connections_that_there_is_no_room_for_are_one_warning() {
    let daemon = limited(
        "ulimit -n 1000",
        &["max_connections = 700", "max_connections = 800"],
    );
    let said = daemon.records("few_descriptors");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["level"], "warn");
    // Beside the connections: two listeners, a sink, and a reserve.
    assert_eq!(
        said[0]["message"],
        "room for 932 connections, not for the 1500 of all max_connections: 1568 descriptors \
         would be needed and 1000 may be open; raise LimitNOFILE= in the unit (ulimit -n in a \
         shell), or lower max_connections"
    );
    daemon.stop();
}

#[test]
fn default_limits_of_connections_are_no_promise() {
    let daemon = limited("ulimit -n 1000", &["max_connections = 800", ""]);
    let said = daemon.records("few_descriptors");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["level"], "info");
    assert_eq!(said[0]["connections"], 800 + 65_536);
    daemon.stop();
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one_where_that_helps() {
    let daemon = limited(
        "ulimit -Sn 256; ulimit -Hn 2000",
        &["max_connections = 1900"],
    );
    assert!(daemon.records("few_descriptors").is_empty());
    assert_eq!(descriptors_max(&daemon), 2000);
    daemon.stop();
    let daemon = limited(
        "ulimit -Sn 256; ulimit -Hn 2000",
        &["max_connections = 100"],
    );
    assert_eq!(descriptors_max(&daemon), 256, "it was enough");
    daemon.stop();
}
