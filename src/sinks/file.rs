//! `file`: appends lines to files beneath one directory; fields may give their names.
//!
//! ```text
//! parts -> State (encode, sort by file) -> Job on a storage thread: Files (append, rotate)
//!            ^ Backlog holds the bytes until they are written | compress beside it
//! ```
//!
//! A part is delivered when the kernel has taken all of its bytes (`sync = "always"`: the
//! disk). A full or failing disk loses nothing: the bytes are kept, the sources wait, writing
//! goes on by itself at the exact byte. An event whose fields give a name that no file can
//! have is dropped and counted (`bad_path`); the others go on.

mod compress;
mod files;
mod job;
mod lane;
mod path;
mod rotate;
mod state;
mod trouble;

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::buffer::storage::{Mode, Storage};
use crate::deferred::{Deferred, Failure};
use crate::pipeline::component::{Resources, Sink};
use crate::pipeline::descriptor::{Build, Claims, Descriptor, Kind, Opt};
use crate::pipeline::encode::{ENCODE, Encoder};
use crate::pipeline::facts::Facts;
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::port::Inlet;
use crate::reactor::Handle;

use files::{Files, Settings};
use lane::Lane;
use path::PathTemplate;
use rotate::{Compression, Rotation};
use state::State;

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "file",
    summary: "lines appended to files, rotated and compressed",
    options: &[
        Opt::new(
            "path",
            "the file, with fields where it should depend on the event: \
             \"/var/log/marline/{{ .host }}.log\"; the directory before the first field is made \
             where it is missing and is never left, whatever the fields hold",
            Kind::Text(Some(check_path)),
        )
        .required()
        .claims(Claims::File),
        ENCODE,
        Opt::new(
            "framing",
            "how events are told apart: \"lines\" ends each with a newline",
            Kind::Word(&["lines"]),
        )
        .default("\"lines\""),
        Opt::new(
            "rotate.size",
            "a file that would grow beyond this is renamed to NAME.1 first, NAME.1 to NAME.2 and \
             so on; without it size does not matter",
            Kind::Size {
                min: 1 << 10,
                max: 1 << 44,
                words: &[],
            },
        ),
        Opt::new(
            "rotate.every",
            "a file is renamed with the first event written in a new hour or day of UTC; without \
             it age does not matter",
            Kind::Word(&["hour", "day"]),
        ),
        Opt::new("rotate.keep", "old files kept of each file", Kind::COUNT).default("10"),
        Opt::new(
            "rotate.compress",
            "how old files are compressed",
            Kind::Word(&["off", "gzip", "zstd"]),
        )
        .default("\"off\""),
        Opt::new(
            "mode",
            "permissions of new files, in octal; new directories may also be searched by who may \
             read",
            Kind::Text(Some(check_mode)),
        )
        .default("\"0640\""),
        Opt::new(
            "max_open_files",
            "files held open at once; the one used longest ago is closed for another",
            Kind::Count {
                min: 1,
                max: 65536,
                words: &[],
            },
        )
        .default("128"),
        Opt::new(
            "sync",
            "\"always\": an event is delivered once it is on the disk; \"off\": once the system \
             has it, which survives the end of the daemon but not that of the machine",
            Kind::Word(&["off", "always"]),
        )
        .default("\"off\""),
    ],
    shared: &[],
    example: "[sink.archive]\ntype        = \"file\"\n\
              path        = \"/var/log/marline/{{ %source }}.log\"\n\
              rotate.size = \"50MiB\"\nrotate.keep = 10\n",
    build: Build::Sink(build),
};

fn build(options: &Options) -> Result<Box<dyn Sink>, Mistake> {
    let path = PathTemplate::compile(options.text("path")).map_err(|m| m.of("path"))?;
    let rotation = rotation(options);
    if rotation.bytes.is_some() || rotation.period_micros.is_some() {
        path.check_rotation()
            .map_err(|mistake| mistake.of("path"))?;
    }
    let settings = Settings {
        root: path.root().to_owned(),
        mode: parse_mode(options.text("mode")).map_err(|mistake| mistake.of("mode"))?,
        max_open: options.count("max_open_files") as usize,
        rotation,
        syncs: options.word("sync") == "always",
    };
    Ok(Box::new(FileSink {
        place: options.text("path").to_owned(),
        path,
        encoder: Encoder::of(options)?,
        settings: Arc::new(settings),
        lane: None,
    }))
}

fn rotation(options: &Options) -> Rotation {
    const HOUR: i64 = 3_600_000_000;
    Rotation {
        bytes: options.maybe_size("rotate.size"),
        period_micros: match options.word("rotate.every") {
            "hour" => Some(HOUR),
            "day" => Some(24 * HOUR),
            _ => None,
        },
        keep: options.count("rotate.keep") as u32,
        compression: match options.word("rotate.compress") {
            "gzip" => Some(Compression::Gzip),
            "zstd" => Some(Compression::Zstd),
            _ => None,
        },
    }
}

fn check_path(text: &str) -> Result<(), Mistake> {
    PathTemplate::compile(text).map(drop)
}

fn check_mode(text: &str) -> Result<(), Mistake> {
    parse_mode(text).map(drop)
}

fn parse_mode(text: &str) -> Result<Mode, Mistake> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = Mode::from_str_radix(text, 8).ok();
    mode.filter(|mode| digits && *mode <= 0o777 && *mode & 0o200 != 0)
        .ok_or_else(|| {
            Mistake::new("not the permissions of a file that its owner can write")
                .help("three octal digits like \"0640\"")
        })
}

/// A file sink, started or not.
struct FileSink {
    /// The template of its files' paths.
    place: String,
    path: PathTemplate,
    encoder: Encoder,
    settings: Arc<Settings>,
    lane: Option<Rc<Lane>>,
}

impl Sink for FileSink {
    fn start(&mut self, inlet: Inlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let storage = Arc::clone(resources.get::<Arc<dyn Storage>>());
        let failed = |action, name, error: &io::Error| {
            Failure::msg(trouble::text(action, &self.settings.root, name, error))
        };
        let mut files = Files::new(Arc::clone(&storage), Arc::clone(&self.settings))
            .map_err(|error| failed("open", "", &error))?;
        if self.path.is_fixed() {
            let name = self.path.fixed_name();
            match files.try_open(&name) {
                Err(error) if !trouble::is_full(&error) => {
                    return Err(failed("open", &name, &error));
                }
                _ => {}
            }
        }
        let settings = Arc::clone(&self.settings);
        let state = State::new(
            self.path.clone(),
            self.encoder.clone(),
            settings,
            storage,
            files,
        );
        let handle = resources.get::<Handle>().clone();
        self.lane = Some(Lane::start(handle, inlet, state));
        Ok(vec![format!("writing {}", self.place)])
    }

    fn is_single(&self) -> bool {
        true
    }

    fn stop(&mut self) -> Deferred<()> {
        match &self.lane {
            Some(lane) => lane.stop(),
            None => Deferred::ready(()),
        }
    }

    fn reopen(&mut self) {
        if let Some(lane) = &self.lane {
            lane.reopen();
        }
    }

    fn facts(&self) -> Facts {
        Facts {
            places: vec![self.place.clone()],
            ..Facts::default()
        }
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if let Some(lane) = &self.lane {
            lane.abandon();
        }
    }
}
