//! The names of files, from a template that events fill in.
//!
//! What stands before the first field, up to its last `/`, is the root: a directory that the
//! operator chose and that no event can leave. Beneath it a field is never more than a piece
//! of one name: all but `A-Z a-z 0-9 . _ -` is percent-encoded, `/` included; an empty or
//! absent field is `%empty`, which no value encodes to; a name that would be `.` or `..` is
//! `%2E` or `%2E%2E`. The kernel confines what is opened once more (see `buffer::storage`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::{Batch, Event};
use crate::pipeline::options::Mistake;
use crate::pipeline::template::Template;

use super::rotate;

/// The longest name of a file or directory, in bytes. What rotation adds fits behind it.
pub const NAME_BYTES_MAX: usize = 240;
/// The longest path beneath the root, in bytes.
pub const PATH_BYTES_MAX: usize = 2048;

/// A path with places that are filled in.
#[derive(Clone, Debug)]
pub struct PathTemplate {
    template: Template,
    root: PathBuf,
    /// How many bytes of what the template gives are the root, its last `/` included.
    root_bytes: usize,
}

/// The name that an event's fields give is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl PathTemplate {
    /// Compiles `text`.
    ///
    /// # Errors
    /// It is no template, has no directory of its own before the first field, or has a part
    /// that is no name.
    pub fn compile(text: &str) -> Result<PathTemplate, Mistake> {
        let template = Template::compile(text)?;
        let prefix = template.literal_prefix();
        let root_bytes = prefix.rfind('/').map_or(0, |slash| slash + 1);
        let root = &prefix[..root_bytes];
        let has_directory = !root.is_empty() && root.bytes().any(|byte| byte != b'/');
        if !template.is_literal() && !has_directory {
            return Err(
                Mistake::new("the path does not begin with a fixed directory")
                    .at(0, prefix.len().max(1))
                    .help("write one before the first field: \"/var/log/marline/{{ .host }}.log\""),
            );
        }
        check_names(text, root_bytes)?;
        let root = if root.is_empty() { "./" } else { root };
        Ok(PathTemplate {
            root: root.into(),
            root_bytes,
            template,
        })
    }

    /// Whether old files cannot be taken for current ones.
    ///
    /// # Errors
    /// The name ends in a field, or in text that the name of an old file can end in.
    pub fn check_rotation(&self) -> Result<(), Mistake> {
        let tail = self.template.literal_suffix();
        let is_safe = self.is_fixed() || tail.contains('/') || !rotate::tail_is_ambiguous(tail);
        if is_safe {
            return Ok(());
        }
        Err(
            Mistake::new("an old file could have the name of another event's file")
                .help("end the path in fixed text like `.log`, or leave `rotate` out"),
        )
    }

    /// The directory that no event leaves.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there is one file for all events.
    pub fn is_fixed(&self) -> bool {
        self.template.is_literal()
    }

    /// The name beneath the root of the one file, where there is one.
    pub fn fixed_name(&self) -> Arc<str> {
        self.template.literal_prefix()[self.root_bytes..].into()
    }

    /// Whether the events of a batch all go into one file.
    pub fn is_same_for_batch(&self) -> bool {
        self.template.is_same_for_batch()
    }

    /// The name beneath the root for `event`.
    pub fn name(&self, batch: &Batch, event: &Event) -> Result<Arc<str>, TooLong> {
        let mut path = Vec::new();
        let shared = batch.shared();
        self.template
            .render_escaped(shared, event, &mut escape, &mut path);
        // Templates and escapes are UTF-8, so nothing is replaced here.
        confine(&String::from_utf8_lossy(&path[self.root_bytes..]))
    }
}

/// Whether every part beneath the root is a name, as far as it is written out.
fn check_names(text: &str, root_bytes: usize) -> Result<(), Mistake> {
    let wrong = |message: &str, at, len| {
        Err(Mistake::new(message)
            .at(at, len)
            .help("name a file beneath a directory"))
    };
    if let Some(at) = text.find('\0') {
        return wrong("a path has no NUL", at, 1);
    }
    let mut at = root_bytes;
    // Up to the first field the template gives what is written, so the offsets agree.
    for part in text[root_bytes..].split('/') {
        match part {
            "" => return wrong("a part of the path is empty", at.saturating_sub(1), 1),
            "." | ".." => return wrong("a part of the path is no name", at, part.len()),
            _ => at += part.len() + 1,
        }
    }
    Ok(())
}

/// What stands for a field that is empty or absent.
const EMPTY: &[u8] = b"%empty";

fn escape(value: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if value.is_empty() {
        out.extend_from_slice(EMPTY);
    }
    for byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => out.push(*byte),
            other => {
                let digits = [other >> 4, other & 15].map(|digit| HEX[usize::from(digit)]);
                out.extend_from_slice(&[b'%', digits[0], digits[1]]);
            }
        }
    }
}

/// Makes every part a name, and sees to the lengths.
fn confine(path: &str) -> Result<Arc<str>, TooLong> {
    let is_long = |part: &str| part.len() > NAME_BYTES_MAX;
    if path.len() > PATH_BYTES_MAX || path.split('/').any(is_long) {
        return Err(TooLong);
    }
    if !path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Ok(path.into());
    }
    let names = path.split('/').map(|part| match part {
        "" => "%empty",
        "." => "%2E",
        ".." => "%2E%2E",
        name => name,
    });
    Ok(names.collect::<Vec<_>>().join("/").into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{Field, Fields, Key, Origin, Slot, Span, name};
    use crate::time::WallTime;

    fn batch(value: &[u8]) -> Batch {
        let origin = Origin {
            source: "in".into(),
            peer: "".into(),
        };
        let bytes = Bytes::copy_from_slice(value);
        let slot = Slot::Text(Span::new(0, bytes.len()));
        let mut batch = Batch::new(origin.into(), WallTime::default(), bytes);
        let list = vec![Field {
            key: Key::Static(name!("x")),
            slot,
        }];
        let fields = Fields {
            raw: Span::new(0, 0),
            list,
            parsed: true,
        };
        batch.events.push(Event::fielded(fields));
        batch
    }

    fn name(template: &str, value: &[u8]) -> Result<Arc<str>, TooLong> {
        let batch = batch(value);
        let path = PathTemplate::compile(template).unwrap();
        path.name(&batch, &batch.events[0])
    }

    /// The path set: what an attacker puts into a field, and the name that it becomes.
    #[test]
    fn values_are_pieces_of_one_name() {
        let check = |value: &[u8], expected: &str| {
            let found = name("/logs/{{ .x }}", value).unwrap();
            assert_eq!(&*found, expected, "{}", value.escape_ascii());
            assert!(crate::buffer::storage::is_name(&found));
            assert!(!found.contains('/'));
        };
        check(b"web-1.example", "web-1.example");
        check(b"../x", "..%2Fx");
        check(b"..", "%2E%2E");
        check(b".", "%2E");
        check(b"", "%empty");
        check(b"%empty", "%25empty");
        check(b"%2E", "%252E");
        check(b"/etc/cron.d/x", "%2Fetc%2Fcron.d%2Fx");
        check(b"a/../../x", "a%2F..%2F..%2Fx");
        check(b"..%2fx", "..%252fx");
        check(b"....//x", "....%2F%2Fx");
        check(b"a\0b", "a%00b");
        check(b"a\nb", "a%0Ab");
        check(b"~/x", "%7E%2Fx");
        check(b"-rf", "-rf");
        check(b"CON", "CON");
        check("\u{2215}".as_bytes(), "%E2%88%95");
        check(b"\xff\xfe", "%FF%FE");
        check(b"/proc/self/fd/3", "%2Fproc%2Fself%2Ffd%2F3");
        check(b".lock", ".lock");
        check(b"cursor", "cursor");
        check(b"00000000000000000000.seg", "00000000000000000000.seg");
    }

    #[test]
    fn names_are_confined_where_text_and_field_meet() {
        let check = |template: &str, value: &[u8], expected: &str| {
            assert_eq!(&*name(template, value).unwrap(), expected, "{template}");
        };
        check("/logs/.{{ .x }}/y", b".", "%2E%2E/y");
        check("/logs/{{ .x }}/{{ .x }}.log", b"..", "%2E%2E/...log");
        check("/logs/{{ .x }}{{ .x }}", b"", "%empty%empty");
        check("./{{ .x }}.log", b"a", "a.log");
        check("/logs/all.log", b"a", "all.log");
    }

    #[test]
    fn long_names_are_told() {
        let longest = vec![b'n'; NAME_BYTES_MAX];
        assert!(name("/logs/{{ .x }}", &longest).is_ok());
        for length in [NAME_BYTES_MAX + 1, 255, 256, 4096] {
            let value = vec![b'n'; length];
            assert_eq!(name("/logs/{{ .x }}", &value), Err(TooLong), "{length}");
        }
        assert_eq!(name("/logs/{{ .x }}", &[b'/'; 100]), Err(TooLong));
    }

    #[test]
    fn the_root_is_what_stands_before_the_first_field() {
        let root = |text: &str| PathTemplate::compile(text).unwrap().root().to_owned();
        assert_eq!(root("/var/log/{{ %source }}.log"), Path::new("/var/log/"));
        assert_eq!(root("/var/log/x-{{ .x }}/y"), Path::new("/var/log/"));
        assert_eq!(root("out/x.log"), Path::new("out/"));
        assert_eq!(root("x.log"), Path::new("./"));
        assert_eq!(root("/x.log"), Path::new("/"));
    }

    #[test]
    fn mistakes_point_at_what_is_wrong() {
        let check = |text: &str, wrong: &str, message: &str| {
            let mistake = PathTemplate::compile(text).unwrap_err();
            let place = &text[mistake.offset..mistake.offset + mistake.len];
            assert_eq!(place, wrong, "{text}: {mistake}");
            assert!(mistake.message.contains(message), "{text}: {mistake}");
        };
        check("{{ host }}.log", "{", "fixed directory");
        check("/{{ host }}.log", "/", "fixed directory");
        check("x{{ host }}", "x", "fixed directory");
        check("/var/log/", "/", "empty");
        check("/v/{{ a }}//b", "/", "empty");
        check("/v/{{ a }}/../b", "..", "no name");
        check("/v/..", "..", "no name");
        check("/v/a\0b", "\0", "NUL");
        check("/v/{{ a", "{{", "never closed");
    }

    #[test]
    fn rotation_wants_a_tail_that_tells_old_files_from_others() {
        let check = |text: &str| {
            PathTemplate::compile(text)
                .unwrap()
                .check_rotation()
                .is_ok()
        };
        assert!(check("/v/{{ .x }}.log") && check("/v/all") && check("/v/{{ .x }}/app"));
        assert!(!check("/v/{{ .x }}") && !check("/v/{{ .x }}.1") && !check("/v/{{ .x }}.gz"));
    }
}
