//! The journal's native protocol against a real socket where journald has its own.
//!
//! The daemon runs in a mount namespace in which a folder of the test's stands in the place of
//! journald's, with the daemon's stderr announced as the journal's stream, as systemd does it.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::process::{Daemon, PATIENCE};
use crate::skips::skip;

const CONFIG: &str = "[daemon]\nstate_dir = \"state\"\n\
     [source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:0\"]\n\
     [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
     [sink.out]\ntype = \"discard\"\n";

/// Runs the rest of its arguments where `$0` is journald's folder.
const INSIDE: &str = "set -e; mount -t tmpfs none /run; mkdir -p /run/systemd/journal; \
     mount --bind \"$0\" /run/systemd/journal; \
     JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); export JOURNAL_STREAM; exec \"$@\"";

fn inside(folder: &Path) -> Command {
    let mut command = Command::new("unshare");
    let how = if nix::unistd::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    command.args([how, "sh", "-c", INSIDE]).arg(folder);
    command
}

/// Whether this machine lets the test make its own journald; a recorded skip where not.
fn is_possible(test: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let output = inside(folder.path()).arg("true").output();
    let is_possible = output.is_ok_and(|output| output.status.success());
    if !is_possible {
        skip(test, "no mount namespace can be made here");
    }
    is_possible
}

fn launch(journal: &Path) -> Daemon {
    Daemon::launch(CONFIG, |command| {
        let marline = std::mem::replace(command, inside(journal));
        command.arg(marline.get_program()).args(marline.get_args());
        command.current_dir(marline.get_current_dir().unwrap());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
    })
}

fn listen(folder: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(folder.join("socket")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next record, taken apart as `systemd.journal-fields(7)` says.
fn record(socket: &UnixDatagram) -> BTreeMap<String, String> {
    let mut datagram = vec![0; 1 << 16];
    let length = socket.recv(&mut datagram).expect("a record comes");
    let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let field = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let is_good = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        assert!(
            !name.is_empty() && name.len() <= 64 && name.chars().all(is_good),
            "{line}"
        );
        (name.to_owned(), value.to_owned())
    };
    text.lines().map(field).collect()
}

fn record_of(socket: &UnixDatagram, event: &str) -> BTreeMap<String, String> {
    let mut records = std::iter::repeat_with(|| record(socket)).take(100);
    let found = records.find(|record| record.get("MARLINE_EVENT").is_some_and(|e| e == event));
    found.unwrap_or_else(|| panic!("no {event}"))
}

#[test]
fn under_systemd_the_journal_gets_native_fields() {
    if !is_possible("under_systemd_the_journal_gets_native_fields") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = listen(folder.path());
    let daemon = launch(folder.path());
    let first = record(&socket);
    assert!(first["MESSAGE"].starts_with("marline "), "{first:?}");
    assert_eq!(first["PRIORITY"], "6");
    assert_eq!(first["SYSLOG_IDENTIFIER"], "marline");
    assert_eq!(first["MARLINE_COMPONENT"], "daemon");
    assert_eq!(first["MARLINE_EVENT"], "starting");
    assert!(
        first["MARLINE_CONFIG"].ends_with("marline.toml"),
        "{first:?}"
    );
    record_of(&socket, "started");
    daemon.signal(Signal::SIGTERM);
    let counts = record_of(&socket, "pipeline_counts");
    assert_eq!(
        (&*counts["MARLINE_PIPELINE"], &*counts["MARLINE_RECEIVED"]),
        ("main", "0")
    );
    let ended = daemon.wait();
    assert_eq!(ended.code(), 0);
    assert!(ended.log.is_empty(), "nothing comes twice: {:?}", ended.log);
}

#[test]
fn a_journal_that_is_away_is_replaced_by_stderr_which_says_so() {
    if !is_possible("a_journal_that_is_away_is_replaced_by_stderr_which_says_so") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let daemon = launch(folder.path());
    let running = daemon.wait_until("a line without the journal", |record| {
        record
            .as_str()
            .is_some_and(|line| line.starts_with("<6>daemon: running after"))
    });
    let socket = listen(folder.path());
    daemon.signal(Signal::SIGUSR2);
    assert_eq!(record(&socket)["MARLINE_EVENT"], "source_counts");
    assert_eq!(
        record(&socket)["MESSAGE"],
        "the journal takes records again"
    );
    record_of(&socket, "sink_counts");
    daemon.signal(Signal::SIGTERM);
    let ended = daemon.wait();
    assert_eq!(ended.code(), 0);
    let notice = "<4>log: the journal at /run/systemd/journal/socket takes no records: No such \
                  file or directory (os error 2); they go to standard error until it does";
    assert_eq!(ended.log[0], notice);
    let starting = ended.log[1].as_str().unwrap();
    assert!(starting.starts_with("<6>daemon: marline "), "{starting}");
    assert_eq!(
        ended.log.last(),
        Some(&running),
        "and then only the journal"
    );
}
