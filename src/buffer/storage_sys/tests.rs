//! What the real file system behind the seam must do, on real directories.
//!
//! Planted things (symbolic links, a fifo, a hard link, a device) stand where an attacker with
//! a file or two in the directory would put them.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;

/// A root with a directory beside it that nothing may reach.
struct Place {
    _guard: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
}

impl Place {
    fn new() -> Place {
        let guard = tempfile::tempdir().unwrap();
        let (root, outside) = (guard.path().join("root"), guard.path().join("outside"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "secret").unwrap();
        Place {
            _guard: guard,
            root,
            outside,
        }
    }

    fn open(&self) -> Arc<dyn Directory> {
        SystemStorage.root(&self.root, None).unwrap()
    }

    /// Asserts that nothing was made, changed or removed outside.
    fn assert_outside_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(&self.outside).unwrap().collect();
        assert_eq!(names.len(), 1);
        let secret = std::fs::read(self.outside.join("secret")).unwrap();
        assert_eq!(secret, b"secret");
    }
}

fn append(file: &Arc<dyn File>, text: &str) {
    let taken = file.append(&[IoSlice::new(text.as_bytes())]).unwrap();
    assert_eq!(taken, text.len());
}

fn refusal<T>(result: io::Result<T>) -> Option<Refusal> {
    Refusal::of(&result.err().expect("must be an error"))
}

fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    Errno::from_io_error(&result.err().expect("must be an error"))
}

const APPEND: Open = Open::Append(0o640);

#[test]
fn names_that_lead_out_are_refused_in_every_call() {
    let place = Place::new();
    let root = place.open();
    let bad = [
        "",
        ".",
        "..",
        "../outside/secret",
        "/etc/passwd",
        "a/../../outside/secret",
        "a//b",
        "a/",
        "a/./b",
        "a\0b",
    ];
    for name in bad {
        for open in [Open::Read, Open::Write, APPEND, Open::Create(0o600)] {
            assert_eq!(
                refusal(root.open(name, open)),
                Some(Refusal::BadName),
                "{name:?}"
            );
        }
        let made = root.directory(name, Some(0o700));
        assert_eq!(refusal(made), Some(Refusal::BadName), "{name:?}");
        assert_eq!(refusal(root.unlink(name)), Some(Refusal::BadName));
        assert_eq!(refusal(root.rename(name, "x")), Some(Refusal::BadName));
        assert_eq!(refusal(root.rename("x", name)), Some(Refusal::BadName));
        assert_eq!(refusal(root.stat(name)), Some(Refusal::BadName));
    }
    assert_eq!(root.list().unwrap(), Vec::<String>::new());
    place.assert_outside_untouched();
}

/// The kernel is the wall, not the check of names: it refuses what that check would let pass.
#[test]
fn the_kernel_confines_without_the_check_of_names() {
    let place = Place::new();
    let root = SystemDirectory(fs::open(&place.root, DIRECTORY, fs::Mode::empty()).unwrap());
    for name in ["../outside/secret", "/etc/passwd"] {
        let opened = root.beneath(name, FILE | OFlags::RDONLY, 0);
        assert_eq!(opened.err(), Some(Errno::XDEV), "{name}");
    }
    symlink("/proc/self/fd", place.root.join("fds")).unwrap();
    let magic = root.beneath("fds/0", FILE | OFlags::RDONLY, 0);
    assert_eq!(magic.err(), Some(Errno::LOOP));
}

#[test]
fn planted_symbolic_links_are_never_followed() {
    let place = Place::new();
    symlink(&place.outside, place.root.join("evil")).unwrap();
    symlink(place.outside.join("secret"), place.root.join("link")).unwrap();
    symlink(place.outside.join("new"), place.root.join("dangling")).unwrap();
    let root = place.open();
    for name in ["evil/secret", "evil/new", "link", "dangling", "evil"] {
        for open in [Open::Read, Open::Write, APPEND] {
            assert_eq!(
                errno(root.open(name, open)),
                Some(Errno::LOOP),
                "{name} {open:?}"
            );
        }
        assert!(root.open(name, Open::Create(0o600)).is_err(), "{name}");
    }
    assert!(root.directory("evil", Some(0o700)).is_err());
    assert!(root.directory("evil/deeper", Some(0o700)).is_err());
    assert!(root.unlink("evil/secret").is_err());
    assert!(root.rename("evil/secret", "here").is_err());
    append(&root.open("mine", APPEND).unwrap(), "x");
    assert!(root.rename("mine", "evil/mine").is_err());
    assert_eq!(root.stat("link").unwrap().kind, Kind::Other);
    place.assert_outside_untouched();
}

#[test]
fn what_is_no_plain_file_is_refused_at_once() {
    let place = Place::new();
    let status = std::process::Command::new("mkfifo")
        .arg(place.root.join("fifo"))
        .status();
    assert!(status.unwrap().success());
    std::fs::create_dir(place.root.join("directory")).unwrap();
    std::fs::hard_link(place.outside.join("secret"), place.root.join("hard")).unwrap();
    let root = place.open();
    assert_eq!(
        refusal(root.open("fifo", Open::Read)),
        Some(Refusal::NotAFile)
    );
    assert_eq!(errno(root.open("fifo", APPEND)), Some(Errno::NXIO));
    assert_eq!(errno(root.open("directory", APPEND)), Some(Errno::ISDIR));
    assert_eq!(
        errno(root.open("directory", Open::Read)),
        Some(Errno::ISDIR)
    );
    for open in [Open::Read, Open::Write, APPEND] {
        assert_eq!(
            refusal(root.open("hard", open)),
            Some(Refusal::SeveralNames)
        );
    }
    place.assert_outside_untouched();
}

/// A fifo with a reader opens without waiting, and must still be refused.
#[test]
fn a_fifo_with_a_reader_is_refused_too() {
    let place = Place::new();
    let path = place.root.join("fifo");
    let status = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(status.unwrap().success());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let _reader = fs::open(&path, flags, fs::Mode::empty()).unwrap();
    let opened = place.open().open("fifo", APPEND);
    assert_eq!(refusal(opened), Some(Refusal::NotAFile));
}

#[test]
fn f_111_appending_after_a_truncation_leaves_no_hole() {
    let place = Place::new();
    let file = place.open().open("log", APPEND).unwrap();
    append(&file, "before\n");
    let path = place.root.join("log");
    std::fs::write(&path, "").unwrap();
    append(&file, "after\n");
    assert_eq!(std::fs::read(&path).unwrap(), b"after\n");
}

#[test]
fn modes_are_as_asked_whatever_the_umask() {
    let place = Place::new();
    let root = place.open();
    root.open("log", Open::Append(0o666)).unwrap();
    root.open("new", Open::Create(0o606)).unwrap();
    root.directory("deep/er", Some(0o777)).unwrap();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(place.root.join(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!(mode("log"), 0o666);
    assert_eq!(mode("new"), 0o606);
    assert_eq!((mode("deep"), mode("deep/er")), (0o777, 0o777));
    // A file that is there already keeps the mode that somebody gave it.
    std::fs::set_permissions(
        place.root.join("log"),
        std::fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    root.open("log", Open::Append(0o666)).unwrap();
    assert_eq!(mode("log"), 0o600);
}

#[test]
fn files_are_read_written_cut_renamed_and_removed() {
    let place = Place::new();
    let root = place.open();
    assert_eq!(errno(root.open("f", Open::Read)), Some(Errno::NOENT));
    let file = root.open("f", Open::Create(0o600)).unwrap();
    assert_eq!(
        errno(root.open("f", Open::Create(0o600))),
        Some(Errno::EXIST)
    );
    assert_eq!(file.write_at(b"0123456789", 0).unwrap(), 10);
    assert_eq!(file.write_at(b"ab", 4).unwrap(), 2);
    file.truncate(8).unwrap();
    file.sync().unwrap();
    let mut buffer = [0; 16];
    assert_eq!(file.read_at(&mut buffer, 2).unwrap(), 6);
    assert_eq!(&buffer[..6], b"23ab67");
    assert_eq!(file.read_at(&mut buffer, 8).unwrap(), 0);

    let before = file.metadata().unwrap();
    assert_eq!(
        (before.kind, before.bytes, before.links),
        (Kind::File, 8, 1)
    );
    let sub = root.directory("sub", Some(0o755)).unwrap();
    root.rename("f", "sub/g").unwrap();
    assert_eq!(sub.stat("g").unwrap().inode, before.inode);
    assert_eq!(sub.list().unwrap(), ["g"]);
    sub.sync().unwrap();
    sub.unlink("g").unwrap();
    assert_eq!(file.metadata().unwrap().links, 0);
    assert_eq!(errno(sub.unlink("g")), Some(Errno::NOENT));
    assert!(root.free_bytes().unwrap() > 0);
}

#[test]
fn what_was_modified_is_dated_by_the_system() {
    let place = Place::new();
    let file = place.open().open("f", APPEND).unwrap();
    append(&file, "x");
    let seconds = std::fs::metadata(place.root.join("f")).unwrap().mtime();
    let micros = file.metadata().unwrap().modified_micros;
    assert_eq!(micros.div_euclid(1_000_000), seconds);
}

#[test]
fn a_root_is_made_with_its_parents_when_asked() {
    let place = Place::new();
    let deep = place.root.join("a/b");
    assert_eq!(errno(SystemStorage.root(&deep, None)), Some(Errno::NOENT));
    SystemStorage.root(&deep, Some(0o750)).unwrap();
    let mode = std::fs::metadata(&deep).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    std::fs::write(place.root.join("file"), "").unwrap();
    let blocked = SystemStorage.root(&place.root.join("file/c"), Some(0o750));
    assert_eq!(errno(blocked), Some(Errno::NOTDIR));
}

/// F-048: the directory is held, not its path.
#[test]
fn f_048_a_moved_root_is_followed_and_the_old_path_left_alone() {
    let place = Place::new();
    let root = place.open();
    let moved = place.root.with_file_name("moved");
    std::fs::rename(&place.root, &moved).unwrap();
    std::fs::create_dir(&place.root).unwrap();
    append(&root.open("log", APPEND).unwrap(), "x");
    assert!(moved.join("log").exists() && !place.root.join("log").exists());

    std::fs::remove_dir_all(&moved).unwrap();
    assert_eq!(errno(root.open("log", APPEND)), Some(Errno::NOENT));
}

#[test]
fn long_names_and_long_lists_have_their_limits() {
    let place = Place::new();
    let root = place.open();
    root.open(&"n".repeat(255), APPEND).unwrap();
    let long = root.open(&"n".repeat(256), APPEND);
    assert_eq!(errno(long), Some(Errno::NAMETOOLONG));
    let slices = vec![IoSlice::new(b"x"); SLICES_MAX + 7];
    let file = root.open("many", APPEND).unwrap();
    assert_eq!(file.append(&slices).unwrap(), SLICES_MAX);
}

/// F-049: a lock has one holder, and says who it is.
#[test]
fn f_049_a_locked_file_is_refused_to_the_second_who_asks() {
    let place = Place::new();
    let root = place.open();
    let lock = root.lock("LOCK", b"pid 1\n").unwrap();
    let second = root.lock("LOCK", b"pid 2\n").err().unwrap();
    assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
    let note = std::fs::read(place.root.join("LOCK")).unwrap();
    assert_eq!(note, b"pid 1\n");
    drop(lock);
    drop(root.lock("LOCK", b"3").unwrap());
    assert_eq!(std::fs::read(place.root.join("LOCK")).unwrap(), b"3");
}

#[test]
fn allocated_space_reads_as_zeros_and_keeps_what_was_written() {
    let place = Place::new();
    let file = place.open().open("f", Open::Create(0o600)).unwrap();
    file.write_at(b"ab", 0).unwrap();
    match file.allocate(8192) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
        other => other.unwrap(),
    }
    let metadata = std::fs::metadata(place.root.join("f")).unwrap();
    assert_eq!((metadata.len(), metadata.blocks() >= 16), (8192, true));
    let mut buffer = [9; 4];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 4);
    assert_eq!(buffer, *b"ab\0\0");
}
