//! The source `journald`: a double of `journalctl` that numbers its entries, and the real one.
//!
//! The double keeps to the cursor it is given, as the real one does; so what comes once, twice or
//! not at all is the source's doing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{TO_FILE, check_numbers, lines, lines_when, to_json_file, wait_until};
use crate::process::Daemon;
use crate::skips::skip;

/// Prints the entries behind its cursor up to the number in the file `last`, as that grows; ends
/// after `batch` of them where there is such a file. What it was asked is in the file `calls`.
const DOUBLE: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "$@" >> calls
n=0
for argument in "$@"; do
    case $argument in --after-cursor=*) n=${argument##*=} ;; esac
done
while :; do
    last=$(cat last)
    [ -f batch ] && [ $((n + $(cat batch))) -lt "$last" ] && last=$((n + $(cat batch)))
    if [ "$n" -lt "$last" ]; then
        seq $((n + 1)) "$last" | awk '{
            printf "__CURSOR=n=%d\n__REALTIME_TIMESTAMP=1795459319000000\nPRIORITY=6\n", $1
            printf "SYSLOG_IDENTIFIER=double\nMESSAGE=%d\n\n", $1 }'
        n=$last
        [ -f batch ] && exit 1
    fi
    sleep 0.02
done
"#;

/// A folder with the double, whose journal has entries up to `last`.
fn folder(last: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journalctl");
    fs::write(&path, DOUBLE).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    grow(folder.path(), last);
    folder
}

/// The journal of the double has entries up to `last` from now on.
fn grow(folder: &Path, last: usize) {
    let aside = folder.join("last.new");
    fs::write(&aside, format!("{last}\n")).unwrap();
    fs::rename(aside, folder.join("last")).unwrap();
}

const SOURCE: &str = "[source.in]\ntype = \"journald\"\nsince = \"all\"\n\
                      journalctl = \"{folder}/journalctl\"\n";

fn launch_in(folder: TempDir, config: &str) -> Daemon {
    let daemon = Daemon::launch_in(folder, config, |_| {});
    daemon.wait_for("started");
    daemon
}

#[test]
fn a_restart_goes_on_behind_the_last_entry_and_nothing_comes_twice() {
    let config = format!("{SOURCE}units = [\"a.service\"]\nmatches = [\"_TRANSPORT=kernel\"]\n");
    let config = config + TO_FILE;
    let daemon = launch_in(folder(1000), &config);
    lines_when(&daemon, "entry 1000", |lines| lines.len() == 1000);
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    grow(ended.folder.path(), 3000);
    let daemon = launch_in(ended.folder, &config);
    let printed = lines_when(&daemon, "entry 3000", |lines| lines.len() >= 3000);
    check_numbers(&printed, 3000);
    let calls = lines(&daemon.path("calls"));
    let always = "--output=export --follow --no-tail --quiet --unit=a.service _TRANSPORT=kernel";
    let expected = [always.to_owned(), format!("{always} --after-cursor=n=1000")];
    assert_eq!(calls, expected);
    daemon.stop();
}

#[test]
fn a_journalctl_that_ends_goes_on_where_it_was() {
    let folder = folder(250);
    fs::write(folder.path().join("batch"), "100\n").unwrap();
    let daemon = launch_in(folder, &format!("{SOURCE}{TO_FILE}"));
    let printed = lines_when(&daemon, "entry 250", |lines| lines.len() >= 250);
    check_numbers(&printed, 250);
    daemon.stop();
}

#[test]
fn killed_at_any_moment_it_loses_nothing_and_repeats_what_the_checkpoint_had_not() {
    let config = format!("{SOURCE}{TO_FILE}");
    let mut folder = folder(0);
    let (mut last, mut before) = (0, 0);
    for life in 0..6 {
        let from = checkpoint(folder.path());
        let daemon = Daemon::launch_in(folder, &config, |_| {});
        daemon.wait_for("started");
        for _ in 0..20 + 13 * life {
            last += 50;
            grow(daemon.folder(), last);
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon.signal(Signal::SIGKILL);
        folder = daemon.wait().folder;
        before = check_life(folder.path(), before, from);
    }
    let from = checkpoint(folder.path());
    let daemon = launch_in(folder, &config);
    let wanted = last.to_string();
    lines_when(&daemon, "last entry", |lines| lines.last() == Some(&wanted));
    let ended = daemon.stop();
    let folder = ended.folder.path();
    check_life(folder, before, from);
    let printed = lines(&folder.join("out.log"));
    let came: BTreeSet<usize> = printed.iter().map(|line| line.parse().unwrap()).collect();
    assert!(came.into_iter().eq(1..=last), "an entry is missing");
}

/// What was written behind the first `before` lines goes on behind entry `from`, one by one. How
/// many lines there are now.
fn check_life(folder: &Path, before: usize, from: usize) -> usize {
    let printed = lines(&folder.join("out.log"));
    for (line, expected) in printed[before..].iter().zip(from + 1..) {
        assert_eq!(*line, expected.to_string(), "after line {before}");
    }
    printed.len()
}

/// The number of the entry that the checkpoint names; 0 where it names none.
fn checkpoint(folder: &Path) -> usize {
    let kept = fs::read_to_string(place_of(folder)).unwrap_or_default();
    let number = kept.trim_end().rsplit_once("n=");
    number.map_or(0, |(_, number)| number.parse().unwrap())
}

#[test]
fn what_a_stop_cuts_off_comes_again() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let down = format!(
        "[daemon]\nstate_dir = \"state\"\nlog.format = \"json\"\nstop_timeout = \"300ms\"\n{SOURCE}\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"down\"]\n[sink.down]\ntype = \"socket\"\n\
         address = \"tcp://{address}\"\n"
    );
    let daemon = launch_in(folder(500), &down);
    wait_until("entries are read", || daemon.path("calls").exists());
    std::thread::sleep(Duration::from_millis(300));
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait();
    assert_eq!(ended.code(), 1, "something was cut off");
    let daemon = launch_in(ended.folder, &format!("{SOURCE}{TO_FILE}"));
    let printed = lines_when(&daemon, "entry 500", |lines| lines.len() >= 500);
    check_numbers(&printed, 500);
    daemon.stop();
}

#[test]
fn the_first_start_begins_now_and_a_damaged_checkpoint_is_said() {
    let config = SOURCE.replace("since = \"all\"\n", "") + TO_FILE;
    let daemon = launch_in(folder(0), &config);
    let calls = daemon.path("calls");
    wait_until("it runs", || !lines(&calls).is_empty());
    let ended = daemon.stop();
    let place = ended.folder.path().join("state/sources/in/cursor");
    let kept = fs::read_to_string(&place).unwrap();
    assert!(kept.starts_with("marline journald 1\nsince "), "{kept:?}");
    let since = kept.rsplit_once(' ').unwrap().1.trim().to_owned();
    let daemon = launch_in(ended.folder, &config);
    wait_until("it runs again", || lines(&calls_of(&daemon)).len() == 2);
    let called = lines(&calls_of(&daemon));
    assert!(
        called
            .iter()
            .all(|call| call.ends_with(&format!("--since=@{since}"))),
        "{called:?}"
    );
    let ended = daemon.stop();
    fs::write(place_of(ended.folder.path()), "garbage").unwrap();
    let daemon = launch_in(ended.folder, &config);
    daemon.wait_for("checkpoint_failed");
    wait_until("it runs all the same", || {
        lines(&calls_of(&daemon)).len() == 3
    });
    daemon.stop();
}

fn calls_of(daemon: &Daemon) -> std::path::PathBuf {
    daemon.path("calls")
}

fn place_of(folder: &Path) -> std::path::PathBuf {
    folder.join("state/sources/in/cursor")
}

#[test]
fn the_real_journalctl_reads_a_real_journal() {
    const NAME: &str = "the_real_journalctl_reads_a_real_journal";
    const REMOTE: &str = "/lib/systemd/systemd-journal-remote";
    if !Path::new(REMOTE).exists()
        || Command::new("journalctl")
            .arg("--version")
            .output()
            .is_err()
    {
        return skip(NAME, "no journalctl or no systemd-journal-remote");
    }
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    fs::write(&export, exported()).unwrap();
    let journal = folder.path().join("journal");
    fs::create_dir(&journal).unwrap();
    let output = Command::new(REMOTE)
        .arg("-o")
        .arg(journal.join("test.journal"))
        .arg(&export)
        .output()
        .unwrap();
    if !output.status.success() {
        return skip(NAME, "systemd-journal-remote cannot write a journal here");
    }
    let config = "[source.in]\ntype = \"journald\"\nsince = \"all\"\nfields = \"all\"\n\
                  directory = \"{folder}/journal\"\n\
                  matches = [\"SYSLOG_IDENTIFIER=marline-test\"]\n";
    let config = config.to_owned() + &to_json_file();
    let daemon = launch_in(folder, &config);
    let printed = lines_when(&daemon, "all entries", |lines| lines.len() >= 100);
    let events: Vec<Value> = printed
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (event, number) in events.iter().zip(1..) {
        assert_eq!(event["message"], format!("entry {number}\nof two lines"));
        assert_eq!(
            (&event["severity"], &event["host"]),
            (&"warning".into(), &"web-01".into())
        );
        assert_eq!(event["extra_field"], number.to_string());
        let time = format!("2026-11-23T18:41:59.{number:06}Z");
        assert_eq!(event["timestamp"], time);
    }
    assert_eq!(events.len(), 100);
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    // From its cursor there is nothing new.
    let daemon = launch_in(ended.folder, &config);
    daemon.wait_for("command_started");
    std::thread::sleep(Duration::from_millis(500));
    let ended = daemon.stop();
    assert_eq!(ended.pipeline("main", "received"), 0);
}

/// A hundred entries in the export format, each of two lines.
fn exported() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 1..=100_u64 {
        let head = format!(
            "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={number}\n\
             _BOOT_ID=0123456789abcdef0123456789abcdef\n_HOSTNAME=web-01\nPRIORITY=4\n\
             SYSLOG_IDENTIFIER=marline-test\nEXTRA_FIELD={number}\nMESSAGE\n",
            1_795_459_319_000_000 + number
        );
        let message = format!("entry {number}\nof two lines");
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&(message.len() as u64).to_le_bytes());
        bytes.extend_from_slice(message.as_bytes());
        bytes.extend_from_slice(b"\n\n");
    }
    bytes
}
