//! `marline bench`: what it prints, what it counts, and how it refuses.
//!
//! How fast anything is, is nobody's promise here: that every line which was made is found again
//! is. It must leave nothing behind, and use nothing that a running daemon has.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Standard output, standard error and exit code of `marline bench`, run in `folder`.
fn bench(folder: &Path, arguments: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marline"));
    command.args(["bench", "--seconds", "0.05"]);
    let output = command.args(arguments).current_dir(folder).output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (text(output.stdout), text(output.stderr), code)
}

/// The measurements of a run with `--json`.
fn measurements(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let (out, err, code) = bench(folder, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{out}{err}");
    let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn count(measurement: &Value, path: &str) -> u64 {
    let found = measurement.pointer(path).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no {path} in {measurement}"))
}

/// The lines that were made are exactly those that were settled and that the books have.
fn assert_accounted(measurement: &Value) {
    let of = |name: &str| count(measurement, &format!("/lines/{name}"));
    assert!(of("sent") > 0, "{measurement}");
    assert_eq!(of("sent"), of("settled"), "{measurement}");
    assert_eq!(
        of("sent"),
        of("delivered") + of("filtered"),
        "{measurement}"
    );
    assert_eq!(measurement["lines"]["failed"], serde_json::json!({}));
    assert!(count(measurement, "/latency_ns/lines") > 0, "{measurement}");
}

#[test]
fn the_built_in_pipelines_are_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let (out, err, code) = bench(folder.path(), &["--workers", "1"]);
    assert_eq!((err.as_str(), code), ("", 0), "{out}");
    let mut lines = out.lines();
    assert!(lines.next().unwrap().starts_with("PIPELINE "), "{out}");
    for pipeline in ["raw", "syslog", "json", "apache"] {
        let row = lines.next().unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells[..2], [pipeline, "1"], "{out}");
    }
    assert!(out.contains("Left out: "), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
}

#[test]
fn every_line_that_was_made_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    for workers in ["1", "2"] {
        let all = measurements(folder.path(), &["--workers", workers]);
        assert_eq!(all.len(), 4);
        for measurement in &all {
            assert_accounted(measurement);
            assert_eq!(measurement["workers"].to_string(), workers);
        }
        // The condition drops some of what it is asked about, and the others drop nothing.
        let filtered = all.iter().map(|it| count(it, "/lines/filtered") > 0);
        assert_eq!(filtered.collect::<Vec<_>>(), [false, false, true, false]);
    }
}

#[test]
fn one_kind_of_lines_is_one_measurement_by_default_for_one_worker_and_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let all = measurements(folder.path(), &["--corpus", "json"]);
    let cores = std::thread::available_parallelism().unwrap().get();
    let workers: Vec<u64> = all.iter().map(|it| count(it, "/workers")).collect();
    let expected = if cores == 1 {
        vec![1]
    } else {
        vec![1, cores as u64]
    };
    assert_eq!(workers, expected);
    assert!(all.iter().all(|it| it["speedup"].as_f64().unwrap() > 0.0));
}

const CONFIG: &str = r#"
[daemon]
state_dir = "state"

[source.network]
type   = "syslog"
listen = ["tcp://127.0.0.1:5514"]

[source.web]
type   = "http"
listen = ["tcp://127.0.0.1:8686"]

[pipeline.messages]
from  = ["network"]
steps = [{ keep_if = '.severity != "debug"' }]
to    = ["archive"]

[pipeline.objects]
from  = ["web"]
steps = [{ parse = "json" }, { dedupe = { fields = ["seq"], window = "1s" } }]
to    = ["archive"]

[sink.archive]
type        = "file"
path        = "out/all.log"
buffer.disk = "16MiB"
"#;

#[test]
fn a_pipeline_of_a_configuration_is_measured_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.toml"), CONFIG).unwrap();
    for (pipeline, corpus) in [("messages", "syslog"), ("objects", "json")] {
        // `objects` is with one reactor: the other hands its lines over.
        for workers in ["1", "2"] {
            let chosen = ["--config", "m.toml", "--pipeline", pipeline];
            let arguments = [&chosen[..], &["--workers", workers]].concat();
            let all = measurements(folder.path(), &arguments);
            assert_eq!(all.len(), 1);
            assert_eq!(all[0]["pipeline"], pipeline);
            assert_eq!(all[0]["corpus"], corpus);
            assert_accounted(&all[0]);
            assert!(count(&all[0], "/lines/filtered") > 0);
        }
    }
    let left = std::fs::read_dir(folder.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["m.toml"]);
}

#[test]
fn what_was_put_in_place_of_what_is_said_and_lines_of_no_use_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.toml"), CONFIG).unwrap();
    let chosen = ["--config", "m.toml", "--pipeline", "objects"];
    let arguments = [&chosen[..], &["--workers", "1", "--corpus", "apache"]].concat();
    let (out, _, code) = bench(folder.path(), &arguments);
    assert_eq!(code, 0);
    let first = out.lines().next().unwrap();
    assert!(first.contains("(web) made-up apache lines"), "{out}");
    assert!(
        first.contains("(archive) what encodes as they would"),
        "{out}"
    );
    assert!(
        out.contains("objects.1:parse could make nothing of "),
        "{out}"
    );
}

#[test]
fn mistakes_are_shown_as_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("m.toml", CONFIG);
    write("bad.toml", &CONFIG.replace("keep_if", "kep_if"));
    let check = |arguments: &[&str], code: i32, words: &str| {
        let (out, err, found) = bench(folder.path(), arguments);
        assert_eq!((out.as_str(), found), ("", code), "{err}");
        assert!(err.contains(words), "{err}");
    };
    check(&["--config", "bad.toml"], 78, "unknown step `kep_if`");
    check(&["--config", "none.toml"], 78, "none.toml");
    let several = "name one of the pipelines with --pipeline: messages, objects";
    check(&["--config", "m.toml"], 2, several);
    let unknown = "there is no pipeline `x`, only: messages, objects";
    check(&["--config", "m.toml", "--pipeline", "x"], 2, unknown);
    check(&["--pipeline", "x"], 2, "--config");
    check(&["--workers", "0"], 2, "expected 1 to 1024, or auto");
    check(&["--corpus", "xml"], 2, "raw, syslog, json, apache");
}
