//! The file sink on real files: what its paths may be, full and failing disks, rotation,
//! reopening, stopping. And the sinks beside it: standard output and nowhere.
//!
//! Everything is real but the errors and delays that `gate` puts in front of the file system.

mod gate;
mod world;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;

use crate::skips::skip;
use world::World;

const EACCES: i32 = Errno::ACCESS.raw_os_error();

#[test]
fn lines_arrive_and_are_acknowledged_then() {
    let mut world = World::file("path = '@/logs/all.log'\nencode = 'raw'\nmode = '0604'");
    world.send_lines(&["one", "two"]);
    world.send_lines(&["three"]);
    assert_eq!(
        world.open.get(),
        2,
        "nothing is acknowledged before it is written"
    );
    world.settle();
    assert_eq!(world.read("logs/all.log"), "one\ntwo\nthree\n");
    assert_eq!((world.delivered(), world.failed.get()), (3, 0));
    let mode = std::fs::metadata(world.path("logs/all.log"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o604);
}

/// The path set of docs/FAULTS.md: what an attacker may put into a field.
#[test]
fn hostile_names_stay_beneath_the_root() {
    let mut world = World::file("path = '@/root/{{ .x }}'\nencode = 'raw'");
    std::fs::write(world.path("outside"), "untouched").unwrap();
    let long = [255, 256, 4096].map(|length| vec![b'n'; length]);
    let mut hostile: Vec<&[u8]> = vec![
        b"../x",
        b"..",
        b".",
        b"",
        b"/etc/cron.d/x",
        b"a/../../x",
        b"..%2fx",
        b"....//x",
        b"a\0b",
        b"a\nb",
        b"~/x",
        b"-rf",
        b"CON",
        "\u{2215}".as_bytes(),
        b"/proc/self/fd/3",
        b".lock",
        b"cursor",
        b"00000000000000000000.seg",
        b"a/b",
        b"../outside",
        b"good",
    ];
    let names = hostile.len();
    hostile.extend(long.iter().map(Vec::as_slice));
    let events: Vec<_> = hostile.iter().map(|value| ("line", *value)).collect();
    world.send(&events);
    world.settle();
    assert_eq!(world.names("root").len(), names);
    assert_eq!(world.dropped("bad_path"), 3, "the names that are too long");
    assert_eq!(world.delivered(), names as u64);
    assert_eq!(world.names("."), ["outside", "root"]);
    assert_eq!(world.read("outside"), "untouched");
    assert_eq!(world.read("root/..%2Foutside"), "line\n");
    assert!(world.logged("bad_path") == 1);
}

/// Planted in the target directory by somebody who may write there.
#[test]
fn planted_links_fifos_and_directories_cost_only_their_own_events() {
    let guard = tempfile::tempdir().unwrap();
    let path = |name: &str| guard.path().join(name);
    std::fs::create_dir_all(path("root/directory.log")).unwrap();
    std::fs::create_dir(path("outside")).unwrap();
    std::fs::write(path("outside/secret"), "secret").unwrap();
    symlink(path("outside"), path("root/evil")).unwrap();
    symlink(path("outside/secret"), path("root/link.log")).unwrap();
    symlink(path("outside/new"), path("root/dangling.log")).unwrap();
    std::fs::hard_link(path("outside/secret"), path("root/hard.log")).unwrap();
    let fifo = Command::new("mkfifo").arg(path("root/fifo.log")).status();
    assert!(fifo.unwrap().success());
    let text = "path = '@/root/{{ .x }}.log'\nencode = 'raw'";
    let mut world = World::within(guard, "file", text).unwrap();
    for round in ["one", "two"] {
        world.send(&[
            (round, b"link"),
            (round, b"good"),
            (round, b"dangling"),
            (round, b"hard"),
            (round, b"fifo"),
            (round, b"directory"),
            (round, b"fine"),
        ]);
        world.settle();
    }
    assert_eq!(world.read("root/good.log"), "one\ntwo\n");
    assert_eq!(world.read("root/fine.log"), "one\ntwo\n");
    assert_eq!((world.delivered(), world.dropped("bad_path")), (4, 10));
    assert_eq!(world.names("outside"), ["secret"]);
    assert_eq!(world.read("outside/secret"), "secret");
    assert_eq!(world.port.trouble(), None);
    assert_eq!(
        world.logged("bad_path"),
        1,
        "one record for a storm of them"
    );
}

/// A directory of the path is replaced by a symbolic link while the daemon runs.
#[test]
fn a_directory_replaced_by_a_link_is_not_followed() {
    let mut world =
        World::file("path = '@/root/{{ .x }}/all.log'\nencode = 'raw'\nmax_open_files = 1");
    world.send(&[("one", b"a"), ("one", b"b")]);
    world.settle();
    std::fs::create_dir(world.path("outside")).unwrap();
    std::fs::rename(world.path("root/a"), world.path("moved")).unwrap();
    symlink(world.path("outside"), world.path("root/a")).unwrap();
    world.send(&[("two", b"a"), ("two", b"b")]);
    world.settle();
    assert!(world.names("outside").is_empty());
    assert_eq!(world.read("root/b/all.log"), "one\ntwo\n");
    assert_eq!(world.dropped("bad_path"), 1);
}

/// The one file of a sink is not dropped for: the operator named it, and mends it.
#[test]
fn what_stands_in_the_way_of_the_only_file_is_told_at_the_start() {
    let guard = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(guard.path().join("logs/all.log")).unwrap();
    let refused = World::within(guard, "file", "path = '@/logs/all.log'")
        .err()
        .unwrap();
    let text = refused.text();
    assert!(
        text.contains("cannot open") && text.contains("logs/all.log: is a directory"),
        "{text}"
    );
    assert!(text.contains("remove what stands in the way"), "{text}");
    let guard = tempfile::tempdir().unwrap();
    std::fs::write(guard.path().join("logs"), "").unwrap();
    let refused = World::within(guard, "file", "path = '@/logs/{{ .x }}.log'")
        .err()
        .unwrap();
    assert!(
        refused.text().contains("not a directory"),
        "{}",
        refused.text()
    );
}

/// A file system of 256 KiB is filled, overfilled and emptied.
#[test]
fn f_039_a_full_disk_holds_the_events_and_writing_goes_on_by_itself() {
    let guard = tempfile::tempdir().unwrap();
    let disk = guard.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let Some(mounted) = Mounted::tmpfs(&disk, "256k") else {
        return skip("f_039_a_full_disk", "mounting a tmpfs needs root");
    };
    std::fs::write(disk.join("filler"), vec![0; 200 << 10]).unwrap();
    let text = "path = '@/disk/all.log'\nencode = 'raw'";
    let mut world = World::within(guard, "file", text).unwrap();
    let line = |number: usize| format!("{number:>7} {}", "x".repeat(number % 90));
    let lines: Vec<_> = (0..2000).map(line).collect();
    for lines in lines.chunks(100) {
        world.send_lines(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    }
    world.until("the disk is full", |world| world.port.trouble().is_some());
    let trouble = world.port.trouble().unwrap();
    assert!(
        trouble.contains("disk/all.log: no space left on device (free some"),
        "{trouble}"
    );
    world.run_for(Duration::from_millis(700));
    assert!(
        world.open.get() > 0,
        "what is not written is not acknowledged"
    );
    std::fs::remove_file(world.path("disk/filler")).unwrap();
    world.settle();
    let expected = lines.join("\n") + "\n";
    assert!(
        world.read("disk/all.log") == expected,
        "every line once, in order, whole"
    );
    assert_eq!((world.delivered(), world.failed.get()), (2000, 0));
    assert_eq!(world.port.trouble(), None);
    assert_eq!(
        (world.logged("sink_trouble"), world.logged("sink_recovered")),
        (1, 1)
    );
    drop(mounted);
}

#[test]
fn f_041_quotas_and_limits_are_a_full_disk() {
    for error in [Errno::DQUOT, Errno::FBIG, Errno::NOSPC] {
        passing_error_costs_nothing(error);
    }
}

#[test]
fn f_046_a_file_system_that_turns_read_only_is_waited_for() {
    passing_error_costs_nothing(Errno::ROFS);
}

#[test]
fn an_input_output_error_is_tried_again() {
    passing_error_costs_nothing(Errno::IO);
}

/// Writing fails after a piece of a line, then works again.
fn passing_error_costs_nothing(error: Errno) {
    let mut world = World::file("path = '@/all.log'\nencode = 'raw'");
    world.send_lines(&["before"]);
    world.settle();
    {
        let mut set = world.gate.set();
        set.fails = Some(("all.log", error.raw_os_error()));
        set.takes_first = 6;
    }
    world.send_lines(&["one", "two"]);
    world.until("writing fails", |world| world.port.trouble().is_some());
    world.send_lines(&["three"]);
    world.run_for(Duration::from_millis(300));
    assert_eq!((world.open.get(), world.delivered()), (2, 1), "{error:?}");
    assert_eq!(world.read("all.log"), "before\none\ntw");
    world.gate.set().fails = None;
    world.settle();
    assert_eq!(
        world.read("all.log"),
        "before\none\ntwo\nthree\n",
        "{error:?}"
    );
    assert_eq!((world.logged("sink_trouble"), world.failed.get()), (1, 0));
}

/// The limit of the process itself: the signal that comes with it ends nothing.
#[test]
fn f_041_the_signal_of_a_file_size_limit_does_not_end_the_daemon() {
    let guard = tempfile::tempdir().unwrap();
    let config = guard.path().join("marline.toml");
    let text = "[daemon]\nstate_dir = '@/state'\nstop_timeout = '1s'\nlog.format = 'json'\n\
                [source.lines]\ntype = 'generate'\nrate = '20000/s'\n\
                [pipeline.main]\nfrom = ['lines']\nto = ['disk']\n\
                [sink.disk]\ntype = 'file'\npath = '@/all.log'\n";
    std::fs::write(&config, text.replace('@', guard.path().to_str().unwrap())).unwrap();
    let log = guard.path().join("log");
    let mut daemon = Command::new("sh")
        .args([
            "-c",
            "ulimit -f 64; exec \"$0\" run --config \"$1\" 2>\"$2\"",
        ])
        .args([
            env!("CARGO_BIN_EXE_marline").as_ref(),
            config.as_path(),
            log.as_path(),
        ])
        .spawn()
        .unwrap();
    let told = |text: &String| text.contains("file too large (set rotate.size");
    let mut waits = 0;
    while !std::fs::read_to_string(&log).is_ok_and(|text| told(&text)) && waits < 200 {
        std::thread::sleep(Duration::from_millis(100));
        waits += 1;
        assert_eq!(
            daemon.try_wait().unwrap(),
            None,
            "{:?}",
            std::fs::read_to_string(&log)
        );
    }
    let text = std::fs::read_to_string(&log).unwrap();
    let alive = daemon.try_wait().unwrap().is_none();
    let _ = daemon.kill();
    let _ = daemon.wait();
    assert!(told(&text) && alive, "{text}");
}

/// F-128: one sink's disk is full; a pipeline to another sink of the same reactor goes on.
#[test]
fn f_128_a_full_disk_under_one_sink_leaves_the_others_alone() {
    let mut world = World::file("path = '@/all.log'\nencode = 'raw'");
    world.gate.set().fails = Some(("all.log", Errno::NOSPC.raw_os_error()));
    world.send_lines(&["one"]);
    world.until("the disk is full", |world| world.port.trouble().is_some());
    for _ in 0..100 {
        world.send_beside(&["two", "three"]);
    }
    world.until("the others are delivered", |world| {
        world.beside.ledger().delivered.get() == 200
    });
    assert_eq!((world.open.get(), world.delivered()), (1, 0));
    world.gate.set().fails = None;
    world.settle();
    assert_eq!(world.read("all.log"), "one\n");
}

/// An error that stays. No spin, no growth, no loss until the stop; and the stop ends.
#[test]
fn an_error_for_ever_is_waited_out_without_spinning() {
    let mut world = World::file("path = '@/all.log'\nencode = 'raw'");
    world.gate.set().fails = Some(("all.log", Errno::IO.raw_os_error()));
    world.send_lines(&["one"]);
    world.run_for(Duration::from_millis(1500));
    let attempts = world.gate.set().appends;
    assert!((2..=4).contains(&attempts), "{attempts} attempts in 1.5 s");
    assert_eq!(world.logged("sink_trouble"), 1);
    world.stop();
    assert_eq!(world.gate.set().appends, attempts + 1, "one last attempt");
    // It is back in the port, for whoever comes after the sink.
    assert_eq!(world.port.ledger().buffered.get(), 1);
    world.port.queue().abandon(&world.port, "shutdown");
    assert_eq!(world.dropped("shutdown"), 1);
    assert_eq!(world.open.get(), 0);
    world.capture.take_errors();
}

/// One file among many is in trouble: the others go on at their own pace.
#[test]
fn trouble_with_one_file_does_not_hold_the_others_up() {
    let mut world = World::file("path = '@/{{ .x }}.log'\nencode = 'raw'");
    world.gate.set().fails = Some(("bad.log", EACCES));
    for number in 0..50 {
        world.send(&[
            (&format!("{number}"), b"bad"),
            (&format!("{number}"), b"good"),
        ]);
        world.until("the good one is written", |world| {
            world.read("good.log").ends_with(&format!("{number}\n"))
        });
    }
    assert_eq!(world.open.get(), 50);
    assert!(
        world
            .port
            .trouble()
            .unwrap()
            .contains("bad.log: permission denied")
    );
    world.gate.set().fails = None;
    world.settle();
    let expected: String = (0..50).map(|number| format!("{number}\n")).collect();
    assert_eq!(world.read("bad.log"), expected);
    assert_eq!(world.read("good.log"), expected);
}

/// A write that hangs: the reactor goes on, nothing is acknowledged, and what piles up goes out
/// in one write.
#[test]
fn f_047_a_hanging_disk_blocks_nothing_but_its_own_events() {
    let mut world = World::file("path = '@/all.log'\nencode = 'raw'");
    world.gate.set().is_closed = true;
    world.send_lines(&["0"]);
    world.until("the write hangs", |world| world.gate.set().appends == 1);
    for number in 1..100 {
        world.send_lines(&[&number.to_string()]);
    }
    let start = world.handle.fresh();
    world.run_for(Duration::from_millis(100));
    let took = world.handle.fresh().since(start);
    assert!(
        took < Duration::from_millis(1000),
        "turns went on: {took:?}"
    );
    assert_eq!((world.open.get(), world.delivered()), (100, 0));
    world.gate.open();
    world.settle();
    let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
    assert_eq!(world.read("all.log"), expected);
    assert_eq!(world.gate.set().appends, 2, "what piled up is one write");
}

/// The directory goes away and comes back.
#[test]
fn f_048_a_deleted_directory_is_trouble_until_it_is_made_again_and_reopened() {
    let mut world = World::file("path = '@/root/{{ .x }}.log'\nencode = 'raw'");
    world.send(&[("one", b"a")]);
    world.settle();
    std::fs::remove_dir_all(world.path("root")).unwrap();
    world.send(&[("two", b"a")]);
    world.until("there is trouble", |world| world.port.trouble().is_some());
    let trouble = world.port.trouble().unwrap();
    assert!(
        trouble.contains("make the directory, then start again or send SIGHUP"),
        "{trouble}"
    );
    world.run_for(Duration::from_millis(300));
    std::fs::create_dir(world.path("root")).unwrap();
    world.sink.reopen();
    world.settle();
    assert_eq!(world.read("root/a.log"), "two\n");
}

#[test]
fn a_moved_file_is_closed_at_a_reopen_even_when_nothing_comes() {
    let mut world = World::file("path = '@/root/all.log'\nencode = 'raw'");
    world.send_lines(&["one"]);
    world.settle();
    std::fs::rename(world.path("root/all.log"), world.path("root/old")).unwrap();
    world.send_lines(&["two"]);
    world.settle();
    let root = world.path("root");
    assert_eq!(open_files(&root), 1);
    world.sink.reopen();
    world.until("it is closed", |_| open_files(&root) == 0);
    world.send_lines(&["three"]);
    world.settle();
    assert_eq!(world.read("root/old"), "one\ntwo\n");
    assert_eq!(world.read("root/all.log"), "three\n");
}

/// A name for every event: descriptors are bounded and every line has its file.
#[test]
fn ten_thousand_names_hold_eight_files_open() {
    let mut world = World::file("path = '@/root/{{ .x }}.log'\nencode = 'raw'\nmax_open_files = 8");
    let root = world.path("root");
    let names: Vec<_> = (0..10_000).map(|number| number.to_string()).collect();
    for names in names.chunks(500) {
        let events: Vec<_> = names
            .iter()
            .map(|name| (&name[..], name.as_bytes()))
            .collect();
        world.send(&events);
        world.settle();
        assert!(open_files(&root) <= 8);
    }
    assert_eq!(world.names("root").len(), 10_000);
    assert_eq!(world.read("root/7777.log"), "7777\n");
}

#[test]
fn stopping_does_not_wait_for_old_files_to_be_compressed() {
    let mut world = World::file(
        "path = '@/all.log'\nencode = 'raw'\nrotate.size = '1KiB'\nrotate.keep = 1000\n\
         rotate.compress = 'gzip'",
    );
    for number in 0..500 {
        world.send_lines(&[&format!("{number:0999}")]);
    }
    world.settle();
    world.stop();
    assert_eq!(world.delivered(), 500);
}

#[test]
fn files_are_rotated_compressed_and_kept_while_lines_come() {
    for (word, extension) in [("gzip", "gz"), ("zstd", "zst")] {
        let mut world = World::file(&format!(
            "path = '@/all.log'\nencode = 'raw'\nrotate.size = '4KiB'\nrotate.keep = 3\n\
             rotate.compress = '{word}'"
        ));
        for number in 0..200 {
            world.send_lines(&[&format!("{number:099}")]);
            world.settle();
        }
        world.until("the last old file is compressed", |world| {
            let names = world.names(".");
            names[1..] == [1, 2, 3].map(|number| format!("all.log.{number}.{extension}"))
        });
        let old = [3, 2, 1].map(|number| world.path(&format!("all.log.{number}.{extension}")));
        let Ok(output) = unpack(word, &old) else {
            skip(
                "files_are_rotated_compressed",
                &format!("there is no {word}"),
            );
            continue;
        };
        let all = output + &world.read("all.log");
        let first: usize = all[..99].parse().unwrap();
        let expected: String = (first..200)
            .map(|number| format!("{number:099}\n"))
            .collect();
        assert_eq!(all, expected, "what is kept has no gap");
        assert_eq!(world.delivered(), 200);
    }
}

/// Standard output, read in fits and starts: exact, and a reader that stands still is waited
/// for without a thread.
#[test]
fn standard_output_is_written_at_the_pace_of_its_reader() {
    let mut world = World::new("stdout", "encode = 'raw'").unwrap();
    let lines: Vec<_> = (0..300).map(|number| format!("line {number}")).collect();
    for line in &lines {
        world.send_lines(&[line]);
    }
    world.run_for(Duration::from_millis(100));
    assert_eq!(
        world.port.trouble().as_deref(),
        Some("nobody reads standard output")
    );
    assert_eq!(world.delivered(), 0);
    for round in 0..200 {
        world.gate.set().output_room = 1 + round % 7;
        world.run_for(Duration::from_millis(1));
    }
    world.gate.set().output_room = usize::MAX;
    world.settle();
    let expected = lines.join("\n") + "\n";
    assert_eq!(String::from_utf8_lossy(&world.gate.set().output), expected);
    assert_eq!(world.port.trouble(), None);
    world.stop();
}

#[test]
fn nowhere_takes_everything() {
    let mut world = World::new("discard", "").unwrap();
    world.send_lines(&["one", "two"]);
    world.settle();
    assert_eq!(world.delivered(), 2);
    world.stop();
}

/// How many descriptors of this process are open on something beneath `root`.
fn open_files(root: &Path) -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.starts_with(root) && target != root)
        .count()
}

fn unpack(program: &str, files: &[PathBuf]) -> std::io::Result<String> {
    let output = Command::new(program).arg("-dc").args(files).output()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout).unwrap())
}

/// A file system that is unmounted when the test ends.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, size: &str) -> Option<Mounted> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Mounted(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: the sink may still have files open here.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
