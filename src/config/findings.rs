//! What was found wrong in a configuration, and how it is shown.
//!
//! ```text
//! error: unknown key `lisen`
//!  --> config/x.toml:4:1
//!   |
//! 4 | lisen = ["tcp://127.0.0.1:5514"]
//!   | ^^^^^ did you mean `listen`?
//! ```
//!
//! Lines and columns count from 1, columns in characters. Tabs are shown as four blanks,
//! control characters as U+FFFD, and long lines are cut around the caret.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use super::files::Files;
use crate::pipeline::options::Place;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing starts with it.
    Error,
    /// Probably not what was meant.
    Warning,
    /// Something that this check could not see.
    Note,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// One thing found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Where; none for a file that is not there.
    pub place: Option<Place>,
    /// What: one lower-case clause.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// A second place, with its words: `first defined here`.
    pub also: Option<(Place, String)>,
    /// Whether it may only follow from a syntax error (something missing, a name that is
    /// defined nowhere): then it is not shown while there are syntax errors.
    pub may_follow: bool,
}

impl Finding {
    /// With the next step.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Finding {
        self.help = Some(help.into());
        self
    }

    /// With a second place.
    pub fn also(&mut self, place: Place, words: impl Into<String>) -> &mut Finding {
        self.also = Some((place, words.into()));
        self
    }

    /// May be there only because of a syntax error.
    pub fn may_follow(&mut self) -> &mut Finding {
        self.may_follow = true;
        self
    }
}

/// A syntax error, behind which other findings may be wrong.
#[derive(Clone, Copy, Debug)]
pub struct Unsure {
    /// Where it is.
    pub place: Place,
    /// Nothing behind it is certain, not only its line.
    pub to_the_end: bool,
}

/// Most findings that are kept and shown: a file of another kind than ours has no end of them.
const FINDINGS_MAX: usize = 1000;

/// All that was found, in the order of finding.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    /// Errors beyond [`FINDINGS_MAX`].
    more: usize,
    /// Values that are not shown: they may be secrets.
    hidden: Vec<Place>,
    /// Where a finding goes that is not kept.
    spare: Option<Finding>,
}

impl Findings {
    /// Adds an error at `place`.
    pub fn error(&mut self, place: Place, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Error, Some(place), message.into())
    }

    /// Adds an error that stands at no place in a file.
    pub fn error_nowhere(&mut self, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Error, None, message.into())
    }

    /// Adds a warning at `place`.
    pub fn warning(&mut self, place: Place, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Warning, Some(place), message.into())
    }

    /// Adds a note at `place`.
    pub fn note(&mut self, place: Place, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Note, Some(place), message.into())
    }

    fn add(&mut self, severity: Severity, place: Option<Place>, message: String) -> &mut Finding {
        let (help, also) = (None, None);
        let finding = Finding {
            severity,
            place,
            message,
            help,
            also,
            may_follow: false,
        };
        if self.list.len() == FINDINGS_MAX {
            self.more += usize::from(severity == Severity::Error);
            return self.spare.insert(finding);
        }
        self.list.push(finding);
        self.list.last_mut().expect("it was pushed a line above")
    }

    /// The value at `place` is shown as asterisks wherever its line is shown.
    pub fn hide(&mut self, place: Place) {
        self.hidden.push(place);
    }

    /// Hides what the other hides.
    pub fn hide_as(&mut self, other: &Findings) {
        self.hidden.extend_from_slice(&other.hidden);
    }

    /// The number of errors.
    pub fn errors(&self) -> usize {
        self.more + self.shown_errors()
    }

    fn shown_errors(&self) -> usize {
        self.list
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.list.iter()
    }

    /// Drops what a syntax error may have caused: what stands on its line, what stands behind
    /// one that swallows the rest, and what is marked.
    pub fn without_followers(&mut self, files: &Files, syntax: &[Unsure]) {
        let line = |place: Place| {
            let file = files.get(place.file);
            (place.file, file.line_of(place.start as usize).0)
        };
        let doubtful = |place: Place| {
            syntax.iter().any(|unsure| {
                let behind = place.file == unsure.place.file && place.start > unsure.place.start;
                line(place) == line(unsure.place) || (unsure.to_the_end && behind)
            })
        };
        self.list.retain(|finding| {
            let is_syntax = syntax
                .iter()
                .any(|unsure| finding.place == Some(unsure.place));
            is_syntax || (!finding.may_follow && !finding.place.is_some_and(doubtful))
        });
    }

    /// Sorts them by place, those without one first.
    pub fn sort(&mut self) {
        self.list
            .sort_by_key(|f| f.place.map(|place| (place.file, place.start)));
    }

    /// The whole report, with the counts as its last line; empty when nothing was found.
    pub fn render(&self, files: &Files) -> String {
        let mut out = String::new();
        for finding in &self.list {
            render(finding, files, &self.hidden, &mut out);
            out.push('\n');
        }
        if self.more > 0 {
            let _ = writeln!(out, "{} more mistakes are not shown\n", self.more);
        }
        let count = |severity| self.list.iter().filter(|f| f.severity == severity).count();
        let counts = [
            (self.errors(), "mistake"),
            (count(Severity::Warning), "warning"),
        ];
        let counts: Vec<_> = counts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} {what}{}", if *n == 1 { "" } else { "s" }))
            .collect();
        if !counts.is_empty() {
            let _ = writeln!(out, "{}", counts.join(", "));
        }
        out
    }
}

/// Columns of source text shown, and of a caret line before its help goes on a line of its own.
const COLUMNS_MAX: usize = 100;

fn render(finding: &Finding, files: &Files, hidden: &[Place], out: &mut String) {
    let _ = writeln!(out, "{}: {}", finding.severity.word(), finding.message);
    let help = finding.help.as_deref();
    let Some(place) = finding.place else {
        if let Some(help) = help {
            let _ = writeln!(out, "  = help: {help}");
        }
        return;
    };
    let number = |place: Place| files.get(place.file).line_of(place.start as usize).0;
    let widest = number(place).max(finding.also.as_ref().map_or(0, |(also, _)| number(*also)));
    let gutter = widest.to_string().len();
    let excerpt = Excerpt {
        files,
        hidden,
        gutter,
        arrow: "-->",
        mark: '^',
    };
    let shown = excerpt.render(place, help, out);
    if let Some((also, words)) = &finding.also {
        let second = Excerpt {
            arrow: ":::",
            mark: '-',
            ..excerpt
        };
        second.render(*also, Some(words), out);
    }
    if let (Some(help), false) = (help, shown) {
        let _ = writeln!(out, "{:gutter$} = help: {help}", "");
    }
}

/// How one place is shown.
#[derive(Clone, Copy)]
struct Excerpt<'a> {
    files: &'a Files,
    hidden: &'a [Place],
    /// Width of the line numbers.
    gutter: usize,
    arrow: &'a str,
    mark: char,
}

impl Excerpt<'_> {
    /// Writes file:line:column, the line and the marks with `words` behind them; answers
    /// whether the words found room there.
    fn render(&self, place: Place, words: Option<&str>, out: &mut String) -> bool {
        let gutter = self.gutter;
        let file = self.files.get(place.file);
        let (number, range) = file.line_of(place.start as usize);
        // Whole characters, whatever the offsets that a component found.
        let start = (place.start as usize).clamp(range.start, range.end);
        let start = file.text.floor_char_boundary(start);
        let end = file
            .text
            .ceil_char_boundary((place.end as usize).clamp(start, range.end));
        let column = file.text[range.start..start].chars().count() + 1;
        let path = file.path.display();
        let _ = writeln!(out, "{:gutter$}{} {path}:{number}:{column}", "", self.arrow);
        let text = masked(
            &file.text[range.clone()],
            place.file,
            range.start,
            self.hidden,
        );
        let line = Line::cut(&text, start - range.start, end - range.start);
        let _ = writeln!(out, "{:gutter$} |", "");
        let _ = writeln!(out, "{number:>gutter$} | {}", line.text);
        let marks: String = std::iter::repeat_n(self.mark, line.marks).collect();
        let before = line.before;
        let fits =
            |words: &str| !words.contains('\n') && before + line.marks + width(words) < COLUMNS_MAX;
        match words {
            Some(words) if fits(words) || self.mark == '-' => {
                let _ = writeln!(out, "{:gutter$} | {:before$}{marks} {words}", "", "");
                true
            }
            _ => {
                let _ = writeln!(out, "{:gutter$} | {:before$}{marks}", "", "");
                false
            }
        }
    }
}

/// The line that begins at byte `start` of the file, hidden values replaced by as many bytes.
fn masked(line: &str, file: u16, start: usize, hidden: &[Place]) -> String {
    let mut bytes = line.as_bytes().to_vec();
    for place in hidden.iter().filter(|place| place.file == file) {
        let first = (place.start as usize)
            .saturating_sub(start)
            .min(bytes.len());
        let last = (place.end as usize).saturating_sub(start).min(bytes.len());
        bytes[first..last].fill(b'*');
    }
    // Values begin and end on whole characters, so what is left is UTF-8.
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A source line as shown, and where the marks go under it, in columns.
struct Line {
    text: String,
    before: usize,
    marks: usize,
}

impl Line {
    /// Shows `line` with bytes `start..end` marked, cut to [`COLUMNS_MAX`] around `start`.
    fn cut(line: &str, start: usize, end: usize) -> Line {
        let before = shown(&line[..start]);
        let marked = shown(&line[start..end]);
        let after = shown(&line[end..]);
        let all = width(&before) + width(&marked) + width(&after);
        let before = if all > COLUMNS_MAX && width(&before) > COLUMNS_MAX / 2 {
            format!("…{}", last_columns(&before, COLUMNS_MAX / 3))
        } else {
            before
        };
        let room = COLUMNS_MAX.saturating_sub(width(&before));
        let all = format!("{marked}{after}");
        let (text, was_cut) = first_columns(&all, room);
        let marks = width(&marked).min(width(&text)).max(1);
        let tail = if was_cut { "…" } else { "" };
        let columns = width(&before);
        Line {
            text: format!("{before}{text}{tail}").trim_end().into(),
            before: columns,
            marks,
        }
    }
}

/// The text with tabs and control characters replaced.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push_str("    "),
            // Direction marks could show another line than the one that is checked.
            c if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Columns on a terminal.
fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

fn first_columns(text: &str, room: usize) -> (String, bool) {
    let mut columns = 0;
    for (at, c) in text.char_indices() {
        columns += c.width().unwrap_or(0);
        if columns > room {
            return (text[..at].to_owned(), true);
        }
    }
    (text.to_owned(), false)
}

fn last_columns(text: &str, room: usize) -> &str {
    let mut columns = 0;
    for (at, c) in text.char_indices().rev() {
        columns += c.width().unwrap_or(0);
        if columns > room {
            return &text[at + c.len_utf8()..];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::files::File;

    /// The report of one error over `text[start..end]`.
    fn report(text: &str, start: usize, end: usize, help: Option<&str>) -> String {
        let mut files = Files::default();
        files.add(File::new(Path::new("x.toml"), text.into()));
        let mut findings = Findings::default();
        let place = Place {
            file: 0,
            start: start as u32,
            end: end as u32,
        };
        findings.error(place, "wrong").help = help.map(str::to_owned);
        findings.render(&files)
    }

    #[test]
    fn the_caret_stands_under_the_first_wrong_character() {
        let check = |text: &str, start, end, line: &str, marks: &str| {
            let report = report(text, start, end, None);
            let lines: Vec<_> = report.lines().collect();
            assert_eq!((lines[3], lines[4]), (line, marks));
        };
        check("a = 1\nb = 2\n", 6, 7, "2 | b = 2", "  | ^");
        check("\tb = 2", 1, 2, "1 |     b = 2", "  |     ^");
        check(
            "k = \"日本x\"",
            11,
            12,
            "1 | k = \"日本x\"",
            "  |          ^",
        );
        check(
            "k = \"e\u{301}x\"",
            8,
            9,
            "1 | k = \"e\u{301}x\"",
            "  |       ^",
        );
        check("k = \u{1b}[31m", 4, 5, "1 | k = \u{fffd}[31m", "  |     ^");
        check("abc", 3, 3, "1 | abc", "  |    ^");
        check("a\nb = '''\nc\n'''", 6, 15, "2 | b = '''", "  |     ^^^");
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = format!("{}WRONG{}", "a".repeat(500), "b".repeat(500));
        let report = report(&text, 500, 505, Some("do better"));
        let lines: Vec<_> = report.lines().collect();
        assert!(lines[1].ends_with("x.toml:1:501"), "{report}");
        assert!(
            width(lines[3]) < 110 && lines[3].contains("aWRONGb"),
            "{report}"
        );
        let caret = width(&lines[4][..lines[4].find('^').unwrap()]);
        let wrong = width(&lines[3][..lines[3].find('W').unwrap()]);
        assert_eq!(caret, wrong, "{report}");
        assert!(lines[4].ends_with("^^^^^ do better"), "{report}");
    }

    #[test]
    fn there_is_an_end_to_what_is_shown() {
        let mut files = Files::default();
        files.add(File::new(Path::new("x.toml"), b"a = 1".to_vec()));
        let mut findings = Findings::default();
        for _ in 0..FINDINGS_MAX + 5 {
            findings.error(Place::default(), "wrong").help("do better");
        }
        let report = findings.render(&files);
        assert_eq!(report.matches("error: wrong").count(), FINDINGS_MAX);
        let tail = "\n5 more mistakes are not shown\n\n1005 mistakes\n";
        assert!(report.ends_with(tail), "{}", &report[report.len() - 200..]);
    }

    #[test]
    fn long_help_goes_on_its_own_line() {
        let report = report("a = 1", 0, 1, Some(&"x".repeat(120)));
        assert!(report.contains("\n  = help: xxx"), "{report}");
        assert!(report.ends_with("\n1 mistake\n"), "{report}");
    }
}
