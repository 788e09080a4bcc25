//! VRL in the pipeline: compiling programs against our function list, conditions, and turning
//! the compiler's complaints into mistakes that point into the text.
//!
//! A [`Condition`] is an expression that gives true or false. It is compiled as written; where
//! the only complaints are unhandled errors (E100, E110) it is compiled as `(C) ?? null`, so that
//! `contains(.message, "x")` needs no `!`. Null or an error at run time counts as false. An
//! assignment, and an expression that can never be a boolean, is refused when it is compiled.
//!
//! The function list is ours: without what can take exponential time (`parse_grok`,
//! `parse_groks`, `match_datadog_query`), what writes to a log of its own (`log`), and what
//! expands a peer's bytes without a limit (`decode_gzip` and its kin). Times without a zone are
//! UTC.

mod equality;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::LazyLock;

use vrl::compiler::state::{RuntimeState, TypeState};
use vrl::compiler::{self, CompilationResult, CompileConfig, Context, ExpressionError, TimeZone};
use vrl::diagnostic::{Diagnostic, DiagnosticList, Label, Note};
use vrl::parser::ast::{self, Assignment, Expr, RootExpr};
use vrl::path::OwnedTargetPath;
use vrl::value::Value;

use equality::Equality;

use super::options::Mistake;
use crate::event::{Access, Batch, Change, Event, Names, Shared};

/// What a condition says of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It gave null, no boolean, or an error: counts as false, and is counted.
    Failed(Cow<'static, str>),
}

/// A compiled condition. Not `Sync`: every reactor compiles its own.
#[derive(Debug)]
pub struct Condition {
    /// Asked first; the program where this does not know.
    equality: Option<Equality>,
    program: Program,
}

impl Condition {
    /// Compiles `text`.
    ///
    /// # Errors
    /// It is no valid VRL, assigns, or can never be true or false. The offset is in bytes of
    /// `text`.
    pub fn compile(text: &str) -> Result<Condition, Mistake> {
        if text.trim().is_empty() {
            return Err(Mistake::new("the condition is empty"));
        }
        // Where it does not parse the compiler says what is wrong.
        let tree = vrl::parser::parse(text).ok();
        tree.as_ref()
            .map_or(Ok(()), |tree| refuse_assignment(tree, text))?;
        let compiled = match compile(text, read_only()) {
            Err(list) if only_unhandled(&list) => compile_or_null(text),
            compiled => compiled,
        };
        let compiled = compiled.map_err(|list| explain(&list, text))?;
        let kind = compiled.program.final_type_info().result;
        if !kind.kind().contains_boolean() {
            let message = format!("a condition is true or false, this is {}", kind.kind());
            return Err(Mistake::new(message).help("compare it, as in `.level == \"error\"`"));
        }
        Ok(Condition {
            equality: tree.as_ref().and_then(Equality::of),
            program: Program::new(compiled),
        })
    }

    /// What it says of `event` of `batch`.
    pub fn holds(&self, batch: &Batch, event: &Event) -> Truth {
        self.holds_for(batch.shared(), event)
    }

    /// What it says of an event whose batch is being changed.
    pub fn holds_for(&self, shared: Shared<'_>, event: &Event) -> Truth {
        match self
            .equality
            .as_ref()
            .and_then(|plain| plain.holds(shared, event))
        {
            Some(true) => Truth::True,
            Some(false) => Truth::False,
            None => self.program_says(shared, event),
        }
    }

    pub(super) fn program_says(&self, shared: Shared<'_>, event: &Event) -> Truth {
        match self.program.evaluate(shared, event) {
            Ok(Value::Boolean(true)) => Truth::True,
            Ok(Value::Boolean(false)) => Truth::False,
            Ok(Value::Null) => Truth::Failed(Cow::Borrowed("the condition is null")),
            Ok(other) => {
                let kind = other.kind_str();
                Truth::Failed(format!("the condition is a {kind}, not a boolean").into())
            }
            Err(error) => Truth::Failed(error.into()),
        }
    }
}

/// A compiled VRL program with the room it runs in.
pub struct Program {
    code: compiler::Program,
    room: RefCell<Room>,
}

/// Reused from event to event.
struct Room {
    names: Names,
    variables: RuntimeState,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("info", self.code.info())
            .finish_non_exhaustive()
    }
}

impl Program {
    /// Compiles a program that may change the event, but not its metadata.
    ///
    /// # Errors
    /// It is no valid VRL. The offset is in bytes of `text`.
    pub fn compile(text: &str) -> Result<Program, Mistake> {
        let mut config = CompileConfig::default();
        config.set_read_only_path(OwnedTargetPath::metadata_root(), true);
        let compiled = compile(text, config).map_err(|list| explain(&list, text))?;
        Ok(Program::new(compiled))
    }

    fn new(compiled: CompilationResult) -> Program {
        let names = Names::of(compiled.program.info());
        Program {
            code: compiled.program,
            room: RefCell::new(Room {
                names,
                variables: RuntimeState::default(),
            }),
        }
    }

    /// Runs it for its value; what it writes is forgotten.
    ///
    /// # Errors
    /// The program's own error or `abort`, in its words.
    pub fn evaluate(&self, shared: Shared<'_>, event: &Event) -> Result<Value, String> {
        self.run(shared, event, |value, _| Ok(value))
    }

    /// Runs it for what it makes of the event.
    ///
    /// # Errors
    /// The program's own error or `abort`; or it left `.` as something else than an object.
    pub fn change(&self, shared: Shared<'_>, event: &Event) -> Result<Change, String> {
        self.run(shared, event, |_, access| access.commit())
    }

    fn run<T>(
        &self,
        shared: Shared<'_>,
        event: &Event,
        finish: impl FnOnce(Value, Access<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        // Nothing that runs below can come back here: VRL functions know no pipeline.
        let room = &mut *self.room.borrow_mut();
        let mut access = Access::new(&mut room.names, shared, event);
        let mut context = Context::new(&mut access, &mut room.variables, &UTC);
        let result = match self.code.resolve(&mut context) {
            Ok(value) | Err(ExpressionError::Return { value, .. }) => finish(value, access),
            Err(error) => Err(error.to_string()),
        };
        // A variable would keep the bytes of this batch until the next event comes.
        if !room.variables.is_empty() {
            room.variables.clear();
        }
        result
    }
}

static UTC: LazyLock<TimeZone> =
    LazyLock::new(|| TimeZone::parse("UTC").expect("UTC is in every time zone database"));

/// While one lives, programs compiled on this thread cannot ask for the time or for chance:
/// in simulation the same seed gives the same run.
#[derive(Debug)]
pub struct Deterministic {
    before: bool,
}

thread_local! {
    static DETERMINISTIC: Cell<bool> = const { Cell::new(false) };
}

impl Deterministic {
    /// From now until it is dropped.
    #[must_use]
    pub fn enter() -> Deterministic {
        Deterministic {
            before: DETERMINISTIC.replace(true),
        }
    }
}

impl Drop for Deterministic {
    fn drop(&mut self) {
        DETERMINISTIC.set(self.before);
    }
}

/// Functions that marline leaves out of VRL's base library.
const LEFT_OUT: &[&str] = &[
    "decode_gzip",
    "decode_lz4",
    "decode_snappy",
    "decode_zlib",
    "decode_zstd",
    "log",
    "match_datadog_query",
    "parse_grok",
    "parse_groks",
];

/// Functions whose answer is not the same twice.
const CHANCE: &[&str] = &[
    "now",
    "random_bool",
    "random_bytes",
    "random_float",
    "random_int",
    "uuid_v4",
    "uuid_v7",
];

type Functions = Vec<Box<dyn compiler::Function>>;

fn functions_without(left_out: &[&[&str]]) -> Functions {
    let mut all = vrl::stdlib::all();
    all.retain(|function| {
        !left_out
            .iter()
            .any(|list| list.contains(&function.identifier()))
    });
    all
}

fn functions() -> &'static Functions {
    static ALL: LazyLock<Functions> = LazyLock::new(|| functions_without(&[LEFT_OUT]));
    static SAME: LazyLock<Functions> = LazyLock::new(|| functions_without(&[LEFT_OUT, CHANCE]));
    if DETERMINISTIC.get() { &SAME } else { &ALL }
}

fn read_only() -> CompileConfig {
    let mut config = CompileConfig::default();
    config.set_read_only();
    config
}

fn compile(text: &str, config: CompileConfig) -> Result<CompilationResult, DiagnosticList> {
    compiler::compile_with_state(text, functions(), &TypeState::default(), config)
}

/// Compiles `text` so that an error is null. A block, where brackets would be swallowed by a
/// comment at the end; its complaints, if any, are those of the text as written.
fn compile_or_null(text: &str) -> Result<CompilationResult, DiagnosticList> {
    compile(&format!("({text}) ?? null"), read_only())
        .or_else(|_| compile(&format!("{{ {text}\n}} ?? null"), read_only()))
        .or_else(|_| compile(text, read_only()))
}

/// Whether all that is wrong are errors that nobody handles.
fn only_unhandled(list: &DiagnosticList) -> bool {
    let mut problems = list.iter().filter(|diagnostic| diagnostic.is_problem());
    problems.all(|diagnostic| matches!(diagnostic.code, 100 | 110))
}

/// An assignment in the place of the answer is a comparison that lacks a `=`.
fn refuse_assignment(tree: &ast::Program, text: &str) -> Result<(), Mistake> {
    for root in &tree.0 {
        let RootExpr::Expr(expression) = root.inner() else {
            continue;
        };
        let Expr::Assignment(assignment) = expression.inner() else {
            continue;
        };
        let (before, after) = match assignment.inner() {
            Assignment::Single { target, expr, .. } => (target.end(), expr.start()),
            Assignment::Infallible { err, expr, .. } => (err.end(), expr.start()),
        };
        let sign = text
            .get(before..after)
            .and_then(|between| between.find('='));
        return Err(Mistake::new("a condition cannot assign")
            .at(before + sign.unwrap_or(0), 1)
            .help("did you mean `==`?"));
    }
    Ok(())
}

/// The first complaint as a mistake in `text`.
fn explain(list: &DiagnosticList, text: &str) -> Mistake {
    let Some(first) = list.iter().find(|diagnostic| diagnostic.is_problem()) else {
        return Mistake::new("this is no valid VRL");
    };
    let primary = first
        .labels
        .iter()
        .find(|label| label.primary)
        .or(first.labels.first());
    let (offset, len) = primary.map_or((0, 0), |label| place(label, text));
    let found = &text[offset..offset + len];
    let message = match primary.map(|label| label.message.trim()) {
        // The parser's token names mean nothing to who wrote the text.
        _ if first.code == UNEXPECTED_TOKEN => format!("`{found}` is not expected here"),
        Some(label) if !label.is_empty() && !first.message.contains(label) => {
            format!("{}: {label}", first.message)
        }
        _ => first.message.clone(),
    };
    let message = format!("{} (VRL E{:03})", tidy(&message), first.code);
    let mistake = Mistake::new(message).at(offset, len);
    match advice(first, found) {
        Some(help) => mistake.help(help),
        None => mistake,
    }
}

/// A label's bytes of `text`, on character borders.
fn place(label: &Label, text: &str) -> (usize, usize) {
    let start = text.floor_char_boundary(label.span.start());
    let end = text.floor_char_boundary(label.span.end().max(start));
    (start, end - start)
}

/// The next step: ours for what a newcomer to VRL runs into, else the compiler's.
fn advice(diagnostic: &Diagnostic, word: &str) -> Option<String> {
    match diagnostic.code {
        UNDEFINED_VARIABLE if word != "null" => {
            return Some(format!("a field is written with a dot: `.{word}`"));
        }
        UNDEFINED_FUNCTION if LEFT_OUT.contains(&word) => {
            return Some(format!("marline has no `{word}`, because it has no bounds"));
        }
        UNEXPECTED_TOKEN if word != "'" => {
            return Some(
                "what stands before it is not complete, or has a sign too many".to_owned(),
            );
        }
        UNEXPECTED_END => return Some("something is missing behind it".to_owned()),
        READ_ONLY if word.starts_with('.') => {
            return Some("a condition cannot assign: did you mean `==`?".to_owned());
        }
        _ => {}
    }
    if word == "'" {
        return Some("a text is written in double quotes: \"debug\"".to_owned());
    }
    let hint = diagnostic.notes.iter().find_map(|note| match note {
        Note::Hint(hint) => Some(hint.clone()),
        _ => None,
    });
    let beside = diagnostic.labels.iter().filter(|label| !label.primary);
    let beside = beside.map(|label| label.message.trim());
    let helpful = |message: &&str| !message.is_empty() && !message.starts_with("expected one of");
    hint.or_else(|| beside.filter(helpful).map(str::to_owned).next())
        .map(|help| tidy(&help))
}

const UNDEFINED_FUNCTION: usize = 105;
const UNEXPECTED_TOKEN: usize = 203;
const UNEXPECTED_END: usize = 204;
const READ_ONLY: usize = 315;
const UNDEFINED_VARIABLE: usize = 701;

/// One line.
fn tidy(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use bytes::Bytes;

    use crate::event::{Field, Fields, Key, Origin, Slot, Span};
    use crate::time::WallTime;

    fn batch(text: &str, events: Vec<Event>) -> Batch {
        let origin = Origin {
            source: "in".into(),
            peer: "127.0.0.1:5000".into(),
        };
        let received = WallTime::from_micros(1_795_459_319_123_456);
        let mut batch = Batch::new(
            Arc::new(origin),
            received,
            Bytes::copy_from_slice(text.as_bytes()),
        );
        batch.events = events.into();
        batch
    }

    /// A value that stayed would keep a chunk of the memory budget until the next event comes,
    /// which may never come where that chunk is the whole budget.
    #[test]
    fn nothing_of_an_event_is_kept_once_a_program_has_run() {
        let programs = [
            r#"line = .message; contains(string!(line), "x")"#,
            "value = .; value.message == 1",
            r#"string!(.message) + "z""#,
            ".new = .message",
        ];
        for text in programs {
            let program = Program::compile(text).unwrap();
            let batch = batch("x and more", vec![Event::Raw(Span::new(0, 10))]);
            let _ = program.evaluate(batch.shared(), &batch.events[0]);
            drop(program.change(batch.shared(), &batch.events[0]));
            let bytes = batch.bytes;
            drop(batch.events);
            assert!(bytes.is_unique(), "{text}");
        }
    }

    /// An event with the JSON fields `a`, `n`, `o`, `s`.
    fn fielded() -> Batch {
        let text = r#"1{"x":[1,2,{"y":"deep"}]}"error"null"#;
        let at = |start, end| Slot::Json(Span::new(start, end));
        let list = [
            ("a", at(0, 1)),
            ("o", at(1, 25)),
            ("s", at(25, 32)),
            ("n", at(32, 36)),
        ];
        let list = list.map(|(key, slot)| Field {
            key: Key::named(key),
            slot,
        });
        let fields = Fields {
            raw: Span::new(0, text.len()),
            list: list.into(),
            parsed: true,
        };
        batch(text, vec![Event::fielded(fields)])
    }

    #[test]
    fn conditions_see_fields_paths_and_metadata() {
        let fielded = fielded();
        let raw = batch("hello world", vec![Event::Raw(Span::new(0, 11))]);
        let check = |batch: &Batch, text: &str, expected: Truth| {
            let condition = Condition::compile(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            // Twice: what the first run left behind must not show in the second.
            for _ in 0..2 {
                assert_eq!(condition.holds(batch, &batch.events[0]), expected, "{text}");
            }
        };
        for text in [
            ".s == \"error\"",
            ".a == 1 && .s != \"x\"",
            ".a > 0",
            ".o.x[2].y == \"deep\"",
            ".o.x[-1].y == \"deep\"",
            ".o == {\"x\": [1, 2, {\"y\": \"deep\"}]}",
            "is_null(.n) && exists(.n) && !exists(.nowhere)",
            "length(.) == 4",
            "keys(.) == [\"a\", \"n\", \"o\", \"s\"]",
            "upcase(.s) == \"ERROR\" # a comment",
            "%source == \"in\" && %peer == \"127.0.0.1:5000\"",
            "%received < t'2030-01-01T00:00:00Z' && %received > t'2026-01-01T00:00:00Z'",
            "unnest(.o.x) != []  ?? false",
            "starts_with(.s, \"err\")",
            "is_string(.s) && is_integer(.a)",
        ] {
            check(&fielded, text, Truth::True);
        }
        check(&raw, ".message == \"hello world\"", Truth::True);
        check(&raw, "contains(.message, \"wor\")", Truth::True);
        check(&raw, ". == {\"message\": \"hello world\"}", Truth::True);
        check(&raw, "exists(.level)", Truth::False);
        check(&fielded, "exists(.message)", Truth::False);
        check(&fielded, ".s == \"debug\"", Truth::False);
    }

    #[test]
    fn null_errors_and_other_values_are_failures() {
        let batch = fielded();
        let check = |text: &str, reason: &str| {
            let condition = Condition::compile(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            match condition.holds(&batch, &batch.events[0]) {
                Truth::Failed(found) => assert!(found.contains(reason), "{text}: {found}"),
                other => panic!("{text}: {other:?}"),
            }
        };
        check(".nowhere", "null");
        check(".s", "not a boolean");
        check(".s > 3", "null");
        check("contains(.a, \"x\")", "null");
        check("contains!(.a, \"x\")", "string");
    }

    #[test]
    fn mistakes_point_into_the_text() {
        let check = |text: &str, wrong: &str, message: &str, help: &str| {
            let mistake = Condition::compile(text).map(drop).unwrap_err();
            let place = &text[mistake.offset..mistake.offset + mistake.len];
            assert_eq!(place, wrong, "{text}: {mistake}");
            assert!(mistake.message.contains(message), "{text}: {mistake}");
            let found = mistake.help.unwrap_or_default();
            assert!(found.contains(help), "{text}: help {found}");
        };
        check(".a = \"x\"", "=", "cannot assign", "did you mean `==`?");
        check("ok = true", "=", "cannot assign", "did you mean `==`?");
        check("%source = \"x\"", "=", "cannot assign", "`==`");
        check(".b == 1; .a |= {}", "=", "cannot assign", "`==`");
        check(
            "if .b == 1 { .a = true } else { false }",
            ".a =",
            "read-only",
            "",
        );
        check(
            "contain(.a, \"x\")",
            "contain",
            "undefined function",
            "contains",
        );
        check(
            "level == \"debug\"",
            "level",
            "undefined variable",
            "`.level`",
        );
        check(
            "parse_grok(.a, \"x\")",
            "parse_grok",
            "undefined",
            "no `parse_grok`",
        );
        check("1 + 2", "", "true or false", "compare it");
        check("upcase!(.a)", "", "this is string", "compare it");
        check("  ", "", "empty", "");
        check(".a ==", "", "unexpected end", "");
        check(".\"ä\" == 'x'", "'", "not expected here", "double quotes");
        check("match(.a, r'(')", "r'('", "regular expression", "");
        check("del(.a) == 1", "del(.a)", "read-only", "cannot be deleted");
        check("starts_with(.a, 5)", "5", "integer", "substring");
    }

    #[test]
    fn simulation_has_no_chance() {
        let text = "now() > t'2020-01-01T00:00:00Z'";
        assert!(Condition::compile(text).is_ok());
        let guard = Deterministic::enter();
        assert!(Condition::compile(text).is_err());
        assert!(Condition::compile("contains(.a, \"x\")").is_ok());
        drop(guard);
        assert!(Condition::compile(text).is_ok());
    }

    #[test]
    fn programs_change_an_event_or_nothing() {
        let batch = fielded();
        let change = |text: &str| {
            let program = Program::compile(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let mut event = batch.events[0].clone();
            let change = program.change(batch.shared(), &event)?;
            change.apply(&mut event, &batch.bytes);
            let mut out = Vec::new();
            crate::event::json::Writer::new(&batch).write(&event, &mut out);
            Ok::<_, String>(String::from_utf8(out).unwrap())
        };
        let check = |text: &str, expected: &str| assert_eq!(change(text).unwrap(), expected);
        check(
            "1",
            r#"{"a":1,"o":{"x":[1,2,{"y":"deep"}]},"s":"error","n":null}"#,
        );
        check("del(.o); .a = 2", r#"{"a":2,"s":"error","n":null}"#);
        check(
            "del(.o.x[1]); .n = .o",
            r#"{"a":1,"o":{"x":[1,{"y":"deep"}]},"s":"error","n":{"x":[1,{"y":"deep"}]}}"#,
        );
        check(". = {\"k\": .s}", r#"{"k":"error"}"#);
        check(".k = .; del(.)", "{}");
        check(
            ".o.new.deep = %source; del(.s); .s2 = length(.)",
            r#"{"a":1,"o":{"new":{"deep":"in"},"x":[1,2,{"y":"deep"}]},"n":null,"s2":3}"#,
        );
        check(
            "if .a == 1 { .o = . }; .z = 1; return null",
            concat!(
                r#"{"a":1,"o":{"a":1,"n":null,"o":{"x":[1,2,{"y":"deep"}]},"s":"error"},"#,
                r#""s":"error","n":null,"z":1}"#
            ),
        );
        assert!(
            change(".a = 5; .b = to_int!(.s)")
                .unwrap_err()
                .contains("integer")
        );
        assert!(
            change(".a = 5; abort \"enough\"")
                .unwrap_err()
                .contains("enough")
        );
        assert!(change(". = [1]").unwrap_err().contains("array"));
        assert!(Program::compile("%source = \"x\"").is_err());
    }
}
