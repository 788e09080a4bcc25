//! The `file` source: the real daemon follows real files that others write, rotate, cut and
//! remove, and is stopped and killed meanwhile.
//!
//! Every line has its number and a checksum; the judge sees what is missing, doubled, changed or
//! out of order. What holds for the system's telling of changes (inotify) holds for polling, so
//! tests run with both.

mod following;
mod joining;
mod killing;
mod logger;
mod logrotate;
mod packing;
mod pressing;
mod restarting;
mod rotating;
mod telling;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{Daemon, Ended, PATIENCE};

/// Who tells of changes.
pub const WATCHES: [&str; 2] = ["inotify", "poll"];

/// A folder with `log/`, which is followed, and `out.txt`, which is written.
pub struct Place {
    pub folder: TempDir,
    watch: &'static str,
    encode: &'static str,
    options: String,
}

impl Place {
    /// Follows `log/*.log*`.
    pub fn new(watch: &'static str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        Place {
            folder,
            watch,
            encode: "raw",
            options: String::new(),
        }
    }

    /// Events are written as JSON.
    pub fn in_json(mut self) -> Place {
        self.encode = "json";
        self
    }

    /// With more options of the source.
    pub fn with(mut self, options: &str) -> Place {
        self.options.push_str(options);
        self.options.push('\n');
        self
    }

    /// The configuration.
    pub fn config(&self) -> String {
        let Place {
            watch,
            encode,
            options,
            ..
        } = self;
        let paths = if options.contains("paths") {
            ""
        } else {
            "paths = [\"{folder}/log/*.log*\"]\n"
        };
        format!(
            "[source.in]\ntype = \"file\"\n{paths}watch = \"{watch}\"\npoll_interval = \"50ms\"\n\
             close_after = \"1s\"\n{options}\
             [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
             [sink.out]\ntype = \"file\"\npath = \"{{folder}}/out.txt\"\nencode = \"{encode}\"\n"
        )
    }

    /// Starts the daemon here, and waits until it is up.
    pub fn start(self) -> Running {
        let config = self.config();
        let daemon = Daemon::launch_in(self.folder, &config, |_| {});
        daemon.wait_for("started");
        Running {
            daemon,
            watch: self.watch,
            encode: self.encode,
            options: self.options,
        }
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join("log").join(name)
    }
}

/// A daemon at work.
pub struct Running {
    pub daemon: Daemon,
    watch: &'static str,
    encode: &'static str,
    options: String,
}

impl Running {
    pub fn log(&self, name: &str) -> PathBuf {
        self.daemon.path("log").join(name)
    }

    /// Waits until so many lines were written.
    pub fn wait_for_lines(&self, count: usize) {
        let out = self.daemon.path("out.txt");
        let what = format!("{count} lines");
        wait_until(&what, || {
            let has = lines(&out).len();
            (has >= count).then_some(()).ok_or(format!("{has} lines"))
        });
    }

    /// Stops it; the exit code is 0.
    pub fn stop(self) -> (Place, Ended) {
        let (place, daemon) = self.parts();
        let mut ended = daemon.stop();
        assert_eq!(ended.code(), 0);
        (place.moved(&mut ended), ended)
    }

    /// Kills it.
    pub fn kill(self) -> Place {
        let (place, daemon) = self.parts();
        daemon.signal(nix::sys::signal::Signal::SIGKILL);
        place.moved(&mut daemon.wait())
    }

    fn parts(self) -> (Place, Daemon) {
        let place = Place {
            folder: tempfile::tempdir().unwrap(),
            watch: self.watch,
            encode: self.encode,
            options: self.options,
        };
        (place, self.daemon)
    }
}

impl Place {
    /// In the folder that a daemon has left.
    fn moved(mut self, ended: &mut Ended) -> Place {
        std::mem::swap(&mut self.folder, &mut ended.folder);
        self
    }
}

impl Place {
    /// The lines that arrived.
    pub fn lines(&self) -> Vec<String> {
        lines(&self.folder.path().join("out.txt"))
    }

    /// The numbers that arrived.
    pub fn numbers(&self) -> Vec<u64> {
        let lines = self.lines();
        let number = |line: &String| {
            logger::number(line).unwrap_or_else(|| panic!("nobody wrote this: {line}"))
        };
        lines.iter().map(number).collect()
    }

    /// Every number below `count` arrived once and in its order.
    pub fn check_exact(&self, count: u64) {
        let numbers = self.numbers();
        let wrong = (0..count)
            .zip(&numbers)
            .find(|(wanted, got)| wanted != *got);
        assert_eq!(wrong, None, "of {count} lines, {} arrived", numbers.len());
        assert_eq!(numbers.len() as u64, count);
    }
}

pub fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

pub fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// Waits until `is_so`, which says how it is where it is not.
pub fn wait_until(what: &str, is_so: impl Fn() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(how) = is_so() {
        assert!(start.elapsed() < PATIENCE, "not {what}, but {how}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
