//! `file`: follows files that others write, line by line, over rotations and restarts.
//!
//! ```text
//! walks (patterns) and changes (inotify) -> Follow -> jobs on storage threads -> lines
//!     -> batches -> deliveries -> Progress -> checkpoints on disk
//! ```
//!
//! What is remembered of a file moves when its events were acknowledged, and never before: a
//! restart goes on exactly there, and a kill repeats what was on its way and what was
//! acknowledged in the last moments. Nothing blocks the reactor, and an idle source that is told
//! of changes makes no system call. Bounds: [`pattern::FILES_MAX`] files, one chunk of each of
//! [`job::ASKS_MAX`] files being read, the windows of the intake, `max_message` held of a line.

mod family;
mod follow;
mod job;
mod join;
mod lines;
mod pattern;
mod position;
mod progress;
mod scan;
mod slots;
mod store;
mod tail;
mod take;
mod unpack;
mod watch;

use std::rc::Rc;
use std::sync::Arc;

use regex::bytes::Regex;

use crate::buffer::storage::Storage;
use crate::deferred::{Deferred, Failure};
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::facts::Facts;
use crate::pipeline::intake::Outlet;
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::shared_options;
use crate::protocol::Framing;
use crate::reactor::Handle;
use crate::transport::Network;

use super::framed::InputShared;
use follow::{Follow, Settings, Start, Watch};
use join::Rules;
use pattern::Patterns;

pub use store::Checkpoints;

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "file",
    summary: "lines of files that others write, as they come, over rotations and restarts",
    options: &[
        Opt::new(
            "paths",
            "which files: paths in which `*`, `?` and `[a-z]` match within a name and `**` any \
             directories; files that come later are found",
            Kind::List(&Kind::Text(Some(pattern::check))),
        )
        .required(),
        Opt::new(
            "exclude",
            "which of them not: patterns of whole paths, or of names where there is no `/`",
            Kind::List(&Kind::Text(Some(check_exclude))),
        ),
        Opt::new(
            "start",
            "where files are begun when the daemon starts: \"checkpoint\" where they were \
             acknowledged up to, and a file that nothing is remembered of at its beginning; \
             \"end\" likewise, but such a file at its end; \"beginning\" all of them at their \
             beginning, whatever is remembered. Files that come later are read whole",
            Kind::Word(&["checkpoint", "end", "beginning"]),
        )
        .default("\"checkpoint\""),
        Opt::new(
            "watch",
            "who tells of changes: \"auto\" the system (inotify), and where it cannot, or a file \
             system does not tell (NFS, SMB, FUSE, overlay), nobody; \"inotify\" the system on \
             every file system; \"poll\" nobody. Where nobody does, files are looked at every \
             `poll_interval`",
            Kind::Word(&["auto", "inotify", "poll"]),
        )
        .default("\"auto\""),
        Opt::new(
            "poll_interval",
            "how often files are looked at where nobody tells of changes",
            Kind::DURATION,
        )
        .default("\"1s\""),
        Opt::new(
            "close_after",
            "a file that was renamed out of `paths` or removed is read until it has not grown \
             for so long",
            Kind::DURATION,
        )
        .default("\"5s\""),
        Opt::new(
            "max_open_files",
            "files held open at once; more are opened when they change, and closed",
            Kind::Count {
                min: 1,
                max: 65536,
                words: &[],
            },
        )
        .default("512"),
        shared_options::MAX_MESSAGE,
        Opt::new(
            "multiline",
            "which lines are one event: { start = 'regex' } a line that matches begins one, \
             { continue = 'regex' } a line that matches belongs to the one before",
            Kind::Table(MULTILINE),
        ),
    ],
    shared: &[],
    example: "[source.app]\ntype  = \"file\"\npaths = [\"/var/log/app/*.log\"]\n",
    build: Build::Source(build),
};

const MULTILINE: &[Opt] = &[
    Opt::new(
        "start",
        "a line that matches begins an event",
        Kind::Text(Some(check_regex)),
    ),
    Opt::new(
        "continue",
        "a line that matches belongs to the event before",
        Kind::Text(Some(check_regex)),
    ),
    Opt::new(
        "max_lines",
        "lines of one event; the next one begins another. `max_message` bounds it, too",
        Kind::COUNT,
    )
    .default("500"),
    Opt::new(
        "timeout",
        "an event is complete when no line has come for so long",
        Kind::DURATION,
    )
    .default("\"2s\""),
];

fn check_exclude(text: &str) -> Result<(), Mistake> {
    Patterns::new(&[], &[text]).map(drop)
}

fn check_regex(text: &str) -> Result<(), Mistake> {
    regex(text).map(drop)
}

fn regex(text: &str) -> Result<Regex, Mistake> {
    Regex::new(text).map_err(|error| Mistake::new(format!("not a regular expression: {error}")))
}

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    let (paths, exclude) = (options.texts("paths"), options.texts("exclude"));
    if paths.is_empty() {
        return Err(options.mistake("paths", "`paths` is empty"));
    }
    let patterns = Patterns::new(&paths, &exclude).map_err(|mistake| mistake.of("paths"))?;
    Ok(Box::new(FileSource {
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
        patterns: Arc::new(patterns),
        options: options.clone(),
        rules: rules(options)?,
        follow: None,
    }))
}

fn rules(options: &Options) -> Result<Option<Rules>, Mistake> {
    let Some(table) = options.table("multiline") else {
        return Ok(None);
    };
    let compiled = |name: &str| table.maybe_text(name).map(regex).transpose();
    let wrong = |mistake: Mistake| mistake.of("multiline");
    let rules = Rules {
        starts: compiled("start").map_err(wrong)?,
        continues: compiled("continue").map_err(wrong)?,
        lines_max: table.count("max_lines") as usize,
        bytes_max: options.size("max_message") as usize,
    };
    if rules.starts.is_none() && rules.continues.is_none() {
        let mistake = options.mistake("multiline", "it does not say which lines are one event");
        return Err(mistake.help("give it `start`, `continue` or both"));
    }
    Ok(Some(rules))
}

/// A file source, started or not.
struct FileSource {
    paths: Vec<String>,
    patterns: Arc<Patterns>,
    options: Options,
    rules: Option<Rules>,
    follow: Option<Rc<Follow>>,
}

impl FileSource {
    fn settings(&self) -> Settings {
        let options = &self.options;
        let table = options.table("multiline");
        Settings {
            patterns: Arc::clone(&self.patterns),
            start: match options.word("start") {
                "beginning" => Start::Beginning,
                "end" => Start::End,
                _ => Start::Checkpoint,
            },
            watch: match options.word("watch") {
                "inotify" => Watch::Inotify,
                "poll" => Watch::Poll,
                _ => Watch::Auto,
            },
            poll_interval: options.duration("poll_interval"),
            close_after: options.duration("close_after"),
            open_max: options.count("max_open_files") as usize,
            max_bytes: options.size("max_message") as usize,
            rules: self.rules.clone(),
            join_timeout: table.map_or_else(Default::default, |table| table.duration("timeout")),
        }
    }
}

impl Source for FileSource {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let handle = resources.get::<Handle>();
        let storage = Arc::clone(resources.get::<Arc<dyn Storage>>());
        let chunks = resources.get::<Network>().chunks().clone();
        let store = resources.get::<Checkpoints>().store(outlet.name())?;
        let settings = self.settings();
        let input = InputShared::new(outlet, Framing::Lines, settings.max_bytes, None);
        let follow = Follow::new(handle, settings, input, store, storage, chunks);
        follow.begin();
        self.follow = Some(follow);
        let line = |path: &String| format!("following {path}");
        Ok(self.paths.iter().map(line).collect())
    }

    fn stop(&mut self) -> Deferred<()> {
        match &self.follow {
            Some(follow) => follow.stop(),
            None => Deferred::ready(()),
        }
    }

    fn log_counts(&self) {
        if let Some(follow) = &self.follow {
            follow.log_counts();
        }
    }

    fn facts(&self) -> Facts {
        let facts = self.follow.as_ref().map(|follow| follow.facts());
        Facts {
            places: self.paths.clone(),
            ..facts.unwrap_or_default()
        }
    }

    fn peers(&self, most: usize) -> Vec<String> {
        let files = self.follow.as_ref().map(|follow| follow.files(most));
        files.unwrap_or_default()
    }
}
