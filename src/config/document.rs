//! The document: all files of a configuration put together into its four kinds of table.
//!
//! Included files are merged table by table. A name may be defined once over all files; the
//! options of `[daemon]` may be spread over them.

use std::path::{Path, PathBuf};

use super::daemon::DAEMON;
use super::files::{FILES_MAX, File, Files};
use super::findings::{Findings, Unsure};
use super::glob;
use super::literal;
use super::resolve;
use super::suggest;
use super::tree::{self, Data, Entry, Node, SyntaxError};
use crate::pipeline::options::Place;

/// The tables of all files.
#[derive(Debug, Default)]
pub struct Document {
    /// Entries of `[daemon]`.
    pub daemon: Vec<Entry>,
    /// `[source.NAME]` in the order of the files.
    pub sources: Vec<Entry>,
    /// `[pipeline.NAME]`.
    pub pipelines: Vec<Entry>,
    /// `[sink.NAME]`.
    pub sinks: Vec<Entry>,
    /// Syntax errors.
    pub syntax: Vec<Unsure>,
    /// Kinds of table that some text was probably meant for and is not in: names of that kind
    /// may be defined after all.
    lost: Vec<&'static str>,
}

/// The four kinds of table.
const TABLES: &[&str] = &["source", "pipeline", "sink", "daemon"];

/// The longest name, in bytes: names become parts of file names.
const NAME_BYTES_MAX: usize = 64;

impl Document {
    /// Whether definitions of one of these kinds were probably lost to a mistake.
    pub fn lost(&self, kinds: &[&str]) -> bool {
        self.lost.iter().any(|kind| kinds.contains(kind))
    }

    /// Parses the main file and those it includes, which are added to `files`.
    pub fn load(main: File, files: &mut Files, findings: &mut Findings) -> Document {
        let mut document = Document::default();
        let folder = main.path.parent().unwrap_or(Path::new("")).to_owned();
        document.add(main, files, findings);
        for (pattern, place) in document.includes() {
            let place = resolve::inside(place, files.text(place));
            for path in included(&folder, &pattern, place, findings) {
                document.include(&path, place, files, findings);
            }
        }
        document
    }

    fn include(&mut self, path: &Path, place: Place, files: &mut Files, findings: &mut Findings) {
        if files.iter().any(|file| file.path == *path) {
            findings.error(place, format!("`{}` is included twice", path.display()));
            return;
        }
        if files.iter().count() >= FILES_MAX {
            findings.error(place, format!("more than {FILES_MAX} files"));
            return;
        }
        match File::read(path) {
            Ok(file) => self.add(file, files, findings),
            Err(error) => {
                findings.error(place, format!("cannot read `{}`: {error}", path.display()));
            }
        }
    }

    fn add(&mut self, file: File, files: &mut Files, findings: &mut Findings) {
        let index = files.add(file);
        let file = files.get(index);
        if let Some(at) = file.invalid_utf8 {
            let place = Place {
                file: index,
                start: at as u32,
                end: at as u32,
            };
            let finding = findings.error(place, "this is not UTF-8");
            finding.help("TOML files are UTF-8; the original bytes are shown as \u{fffd}");
        }
        let (entries, errors) = tree::parse(&file.text, index);
        self.syntax_errors(file, index, errors, findings);
        for entry in entries {
            self.top_level(entry, &file.text, findings);
        }
    }

    fn syntax_errors(
        &mut self,
        file: &File,
        index: u16,
        errors: Vec<SyntaxError>,
        findings: &mut Findings,
    ) {
        for error in super::syntax::explain(&file.text, errors) {
            let (start, end) = error.span;
            let place = Place {
                file: index,
                start: start as u32,
                end: end as u32,
            };
            self.syntax.push(Unsure {
                place,
                to_the_end: error.to_the_end,
            });
            let finding = findings.error(place, error.message);
            finding.help = error.help;
            if let Some((start, end)) = error.first {
                let first = Place {
                    file: index,
                    start: start as u32,
                    end: end as u32,
                };
                finding.also(first, "first given here");
            }
        }
    }

    fn top_level(&mut self, entry: Entry, text: &str, findings: &mut Findings) {
        let (kind, into) = match entry.key.as_str() {
            "source" => ("source", &mut self.sources),
            "pipeline" => ("pipeline", &mut self.pipelines),
            "sink" => ("sink", &mut self.sinks),
            "daemon" => return self.daemon_table(entry, findings),
            _ => return self.lost.extend(unknown_table(&entry, findings)),
        };
        let Data::Table(named) = entry.node.data else {
            let help = format!("write [{kind}.NAME]");
            findings
                .error(entry.key_place, format!("a {kind} needs a name"))
                .help(help);
            return self.lost.push(kind);
        };
        let nameless = named
            .iter()
            .find(|one| !matches!(one.node.data, Data::Table(_)));
        if let Some(first) = nameless {
            let message = format!("`{}` stands in no [{kind}.NAME] table", first.key);
            let help = format!("a {kind} has a name: write [{kind}.NAME]");
            findings.error(first.key_place, message).help(help);
            self.lost.push(kind);
        }
        for one in named {
            define(into, one, kind, text, findings);
        }
    }

    fn daemon_table(&mut self, entry: Entry, findings: &mut Findings) {
        let Data::Table(entries) = entry.node.data else {
            let finding = findings.error(entry.key_place, "`daemon` is a table");
            finding.help("write [daemon]");
            return;
        };
        for one in entries {
            if one.key_place.file > 0 && one.key == "include" {
                let message = "an included file cannot include others";
                findings
                    .error(one.key_place, message)
                    .help("move it into the main file");
                continue;
            }
            self.daemon.push(one);
        }
    }

    /// The strings of `daemon.include`; whatever else stands there is found when the options
    /// of the daemon are resolved.
    fn includes(&self) -> Vec<(String, Place)> {
        let include = self.daemon.iter().find(|entry| entry.key == "include");
        let Some(Node {
            data: Data::List(items),
            ..
        }) = include.map(|entry| &entry.node)
        else {
            return Vec::new();
        };
        let text = |node: &Node| match &node.data {
            Data::Text(text) => Some((text.clone(), node.place)),
            _ => None,
        };
        items.iter().filter_map(text).collect()
    }
}

fn define(into: &mut Vec<Entry>, entry: Entry, kind: &str, text: &str, findings: &mut Findings) {
    if !matches!(entry.node.data, Data::Table(_)) {
        return;
    }
    let name = &entry.key;
    if let Some(place) = strange_name(&entry, text) {
        let message = format!("`{}` is no name for a {kind}", tree::shorten(name));
        let help = format!("letters, digits, `_` and `-`, at most {NAME_BYTES_MAX} of them");
        findings.error(place, message).help(help);
        return;
    }
    if let Some(first) = into.iter().find(|known| known.key == *name) {
        let finding = findings.error(entry.key_place, format!("{kind} `{name}` is defined twice"));
        finding.also(first.key_place, "first defined here");
        return;
    }
    into.push(entry);
}

/// The place in `text` of what a name cannot have, if it has that.
fn strange_name(entry: &Entry, text: &str) -> Option<Place> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let place = entry.key_place;
    if entry.key.is_empty() || entry.key.len() > NAME_BYTES_MAX {
        return Some(place);
    }
    let (at, strange) = entry.key.char_indices().find(|(_, c)| !plain(*c))?;
    let token = text.get(place.start as usize..place.end as usize)?;
    let start = place.start + literal::source_offset(token, at) as u32;
    Some(Place {
        start,
        end: start + strange.len_utf8() as u32,
        ..place
    })
}

/// Reports it, and answers which kind of table was probably meant.
fn unknown_table(entry: &Entry, findings: &mut Findings) -> Option<&'static str> {
    let key = &entry.key;
    let what = match &entry.node.data {
        Data::Table(_) => "table",
        Data::List(items) if items.iter().any(|item| matches!(item.data, Data::Table(_))) => {
            "table"
        }
        _ => "key",
    };
    let near = suggest::nearest(key, TABLES.iter().copied());
    let setting = suggest::nearest(key, DAEMON.all_options().map(|opt| opt.name));
    let help = match (near, setting) {
        (Some("daemon"), _) => "did you mean `[daemon]`?".to_owned(),
        (Some(near), _) => format!("did you mean `[{near}.NAME]`?"),
        (None, Some(setting)) => format!("did you mean `{setting}` in [daemon]?"),
        (None, None) => {
            "tables are [source.NAME], [pipeline.NAME], [sink.NAME] and [daemon]".to_owned()
        }
    };
    findings
        .error(entry.key_place, format!("unknown {what} `{key}`"))
        .help(help);
    near
}

/// The files that an entry of `daemon.include` names, sorted.
fn included(folder: &Path, pattern: &str, place: Place, findings: &mut Findings) -> Vec<PathBuf> {
    match glob::expand(folder, pattern) {
        Ok(paths) => paths,
        Err(error) => {
            findings.error(place, format!("cannot read `{pattern}`: {error}"));
            Vec::new()
        }
    }
}
