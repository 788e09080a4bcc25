//! The source `internal`: records and counts as events, and that they do not go in circles.
//!
//! The worst case is a sink that fails while it is the one to be told so.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use super::{lines, lines_when, to_json_file};
use crate::process::Daemon;

fn events(lines: &[String]) -> Vec<Value> {
    let events = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    events.collect()
}

#[test]
fn a_record_and_the_counts_are_events() {
    let source = "[source.in]\ntype = \"internal\"\ncounts_every = \"200ms\"\n";
    let daemon = Daemon::start(&format!("{source}{}", to_json_file()));
    let has = |event: &'static str, component: &'static str| {
        move |lines: &[String]| {
            let mut events = events(lines).into_iter();
            events.any(|it| it["event"] == event && it["component"] == component)
        }
    };
    lines_when(&daemon, "start", has("started", "daemon"));
    lines_when(
        &daemon,
        "counts of a pipeline",
        has("counts", "pipeline.main"),
    );
    let lines = lines_when(&daemon, "counts of a sink", has("counts", "sink.out"));
    let events = events(&lines);
    let started = events.iter().find(|it| it["event"] == "started").unwrap();
    assert_eq!(
        (&started["level"], &started["sinks"]),
        (&"info".into(), &1.into())
    );
    assert!(started["message"].as_str().unwrap().starts_with("running"));
    assert!(started["timestamp"].as_str().unwrap().ends_with('Z'));
    let counts = |it: &&Value| it["event"] == "counts" && it["component"] == "sink.out";
    let counts = events.iter().rfind(counts).unwrap();
    let [accepted, delivered, open] =
        ["accepted", "delivered", "in_flight"].map(|name| counts[name].as_u64().unwrap());
    assert!(
        accepted >= delivered && accepted <= delivered + open + 100,
        "{counts}"
    );
    // The log has debug lines, and they are no events.
    assert!(events.iter().all(|it| it["level"] != "debug"));
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn a_failing_sink_that_is_told_of_its_failures_does_not_feed_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = format!(
        "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\nlog.level = \"debug\"\n\
         stop_timeout = \"500ms\"\n\
         [source.in]\ntype = \"internal\"\ncounts_every = \"off\"\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"down\", \"out\"]\n\
         [sink.down]\ntype = \"socket\"\naddress = \"tcp://{address}\"\n\
         retry.max_delay = \"10ms\"\n\
         [sink.out]\ntype = \"file\"\npath = \"{{folder}}/out.log\"\n"
    );
    let daemon = Daemon::start(&config);
    lines_when(&daemon, "what the sink complains of", |lines| {
        let mut events = events(lines).into_iter();
        events.any(|it| it["component"] == "sink.down" && it["level"] == "warn")
    });
    std::thread::sleep(Duration::from_secs(3));
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = daemon.wait();
    let lines = lines(&ended.folder.path().join("out.log"));
    // Some hundred attempts have failed by then.
    assert!(lines.len() < 60, "{} events:\n{lines:#?}", lines.len());
}
