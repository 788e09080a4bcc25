//! The options of one component as they were resolved, and the mistakes found in them.
//!
//! [`Options`] is what `build` gets: every declared option with its value or default, typed
//! by its [`super::descriptor::Kind`], each value with the [`Place`] in the configuration that
//! it came from. A component that finds a value wrong answers with a [`Mistake`]; the
//! configuration shows it with file, line and caret.
//!
//! Getters come in pairs: `duration("x")` for an option that always has a value (required, or
//! with a default), `maybe_duration("x")` for one that may be absent or be a word such as
//! `"off"`. Asking for an option that the descriptor does not declare, or for the wrong kind,
//! is a bug in the component: it panics in debug builds and gives an empty value otherwise.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::descriptor::Opt;
use crate::time::Duration;

/// Where something stands in the configuration: which file, and the bytes of the whole value
/// or key in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Index of the file, 0 being the main one.
    pub file: u16,
    /// First byte.
    pub start: u32,
    /// One past the last byte; equal to `start` for what stands nowhere (a default).
    pub end: u32,
}

/// A value that was given wrongly: what, where in it, and what to do.
///
/// The message is one lower-case clause without a full stop that says what was found and what
/// was expected; the help is the next step ("did you mean `listen`?").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The option, where `build` found the mistake: `"address"`, `"listen.1"` (the second
    /// entry), `"headers.accept"`. Without one it is the component as a whole.
    pub option: Option<String>,
    /// First wrong byte of the text as decoded.
    pub offset: usize,
    /// Number of wrong bytes; 0 marks the whole value when the offset is 0 too, else one
    /// character.
    pub len: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Mistake {
    /// The whole value is wrong.
    pub fn new(message: impl Into<String>) -> Mistake {
        Mistake {
            option: None,
            offset: 0,
            len: 0,
            message: message.into(),
            help: None,
        }
    }

    /// It is these bytes of the text.
    pub fn at(self, offset: usize, len: usize) -> Mistake {
        Mistake {
            offset,
            len,
            ..self
        }
    }

    /// With the next step.
    pub fn help(self, help: impl Into<String>) -> Mistake {
        Mistake {
            help: Some(help.into()),
            ..self
        }
    }

    /// In the value of this option.
    pub fn of(self, option: impl Into<String>) -> Mistake {
        Mistake {
            option: Some(option.into()),
            ..self
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Mistake {}

/// A password, token or key. Shown as `<secret>` whatever prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// The secret with these bytes.
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(bytes.into())
    }

    /// The bytes, to be sent and never shown.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// So many events in so much time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Events; above zero.
    pub events: f64,
    /// In this time; above zero.
    pub per: Duration,
}

impl Rate {
    /// Events in a second.
    pub fn per_second(self) -> f64 {
        self.events / self.per.as_secs_f64()
    }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Located {
    /// The value.
    pub value: Value,
    /// Where it was given; empty for a default.
    pub place: Place,
}

/// A resolved value, by the kind of its option.
#[derive(Clone, Debug)]
pub enum Value {
    /// Of `Kind::Flag`.
    Flag(bool),
    /// Of `Kind::Count`.
    Count(u64),
    /// Of `Kind::Number`.
    Number(f64),
    /// Of `Kind::Duration`.
    Duration(Duration),
    /// Of `Kind::Size`, in bytes.
    Size(u64),
    /// Of `Kind::Rate`.
    Rate(Rate),
    /// Of `Kind::Text`.
    Text(String),
    /// Of `Kind::Word`, or a word in place of a quantity.
    Word(&'static str),
    /// Of `Kind::Path`.
    Path(PathBuf),
    /// Of `Kind::File`.
    File(FileContent),
    /// Of `Kind::Secret`; `None` where it is a credential that only the unit can read and
    /// this is a check outside it.
    Secret(Option<Secret>),
    /// Of `Kind::Any`; dates are strings.
    Any(serde_json::Value),
    /// Of `Kind::List`.
    List(Vec<Located>),
    /// Of `Kind::Map`, in the order of the file.
    Map(Vec<(String, Located)>),
    /// Of `Kind::Table` and `Kind::Choice`.
    Table(Options),
}

/// A file that was read with the configuration. The same file with another content is not
/// another option: whoever uses it takes the new content without being made anew.
#[derive(Clone, Debug)]
pub struct FileContent {
    /// Where it is.
    pub path: PathBuf,
    /// What was in it.
    pub content: Secret,
}

/// One declared option with what was found for it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The declaration.
    pub opt: &'static Opt,
    /// The value given, or else the default, or else none.
    pub value: Option<Located>,
    /// Whether the value was given.
    pub given: bool,
}

/// The options of one component (or of a table in it).
#[derive(Clone, Debug)]
pub struct Options {
    owner: Arc<str>,
    settings: Vec<Setting>,
}

impl Options {
    /// Options of `owner`, which is the component's label: `source.in`, `main.2:drop_if`.
    pub fn new(owner: impl Into<Arc<str>>, settings: Vec<Setting>) -> Options {
        Options {
            owner: owner.into(),
            settings,
        }
    }

    /// The component's label: `source.in`, `sink.out`, `main.2:drop_if`.
    pub fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    /// All declared options, in the order of the descriptor.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Whether the option was given (a default is not).
    pub fn is_set(&self, name: &str) -> bool {
        self.setting(name).is_some_and(|setting| setting.given)
    }

    /// The value given or the default, or none.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.located(name).map(|located| &located.value)
    }

    /// Like [`Options::value`], with its place.
    pub fn located(&self, name: &str) -> Option<&Located> {
        self.setting(name)?.value.as_ref()
    }

    /// The name of the option that was given, of a `Kind::Choice`.
    pub fn chosen(&self) -> &'static str {
        let given = self.settings.iter().find(|setting| setting.given);
        given.map_or("", |setting| setting.opt.name)
    }

    /// A mistake in the value of the option.
    pub fn mistake(&self, name: &str, message: impl Into<String>) -> Mistake {
        Mistake::new(message).of(name)
    }

    /// The same options, but for this one: it has `value`, or was not given and has no default.
    pub fn with(mut self, name: &str, value: Option<Value>) -> Options {
        let mut settings = self.settings.iter_mut();
        if let Some(setting) = settings.find(|setting| setting.opt.name == name) {
            setting.given = value.is_some();
            let place = Place::default();
            setting.value = value.map(|value| Located { value, place });
        }
        self
    }

    /// Whether there is such an option.
    pub fn declares(&self, name: &str) -> bool {
        let mut settings = self.settings.iter();
        settings.any(|setting| setting.opt.name == name)
    }

    fn setting(&self, name: &str) -> Option<&Setting> {
        let found = self
            .settings
            .iter()
            .find(|setting| setting.opt.name == name);
        debug_assert!(
            found.is_some(),
            "{} declares no option `{name}`",
            self.owner
        );
        found
    }
}

/// A getter that gives a copy, and its twin for options without a value.
macro_rules! copied {
    ($($name:ident $maybe:ident $variant:ident -> $type:ty;)*) => {$(
        #[doc = concat!("The ", stringify!($name), " of an option that always has one.")]
        pub fn $name(&self, name: &str) -> $type {
            let value = self.$maybe(name);
            debug_assert!(value.is_some(), "{}: no value for `{name}`", self.owner);
            value.unwrap_or_default()
        }

        #[doc = concat!("The ", stringify!($name), "; `None` when absent or a word.")]
        pub fn $maybe(&self, name: &str) -> Option<$type> {
            match self.value(name)? {
                Value::$variant(value) => Some(value.clone()),
                Value::Word(_) => None,
                other => self.wrong_kind(name, other),
            }
        }
    )*};
}

/// Typed getters.
impl Options {
    copied! {
        flag maybe_flag Flag -> bool;
        count maybe_count Count -> u64;
        number maybe_number Number -> f64;
        duration maybe_duration Duration -> Duration;
        size maybe_size Size -> u64;
    }

    /// The rate, where one was given.
    pub fn rate(&self, name: &str) -> Option<Rate> {
        match self.value(name)? {
            Value::Rate(rate) => Some(*rate),
            Value::Word(_) => None,
            other => self.wrong_kind(name, other),
        }
    }

    /// The text of an option that always has one.
    pub fn text(&self, name: &str) -> &str {
        let text = self.maybe_text(name);
        debug_assert!(text.is_some(), "{}: no value for `{name}`", self.owner);
        text.unwrap_or_default()
    }

    /// The text; `None` when absent or of another kind of an `Either`.
    pub fn maybe_text(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The word that was given; `""` where the value is absent or no word.
    pub fn word(&self, name: &str) -> &'static str {
        match self.value(name) {
            Some(Value::Word(word)) => word,
            _ => "",
        }
    }

    /// The path of an option that always has one.
    pub fn path(&self, name: &str) -> &Path {
        self.maybe_path(name).unwrap_or(Path::new(""))
    }

    /// The path; `None` when absent.
    pub fn maybe_path(&self, name: &str) -> Option<&Path> {
        match self.value(name)? {
            Value::Path(path) => Some(path),
            Value::Word(_) => None,
            other => self.wrong_kind(name, other),
        }
    }

    /// The file; `None` when absent or a word.
    pub fn file(&self, name: &str) -> Option<&FileContent> {
        match self.value(name)? {
            Value::File(file) => Some(file),
            Value::Word(_) => None,
            other => self.wrong_kind(name, other),
        }
    }

    /// The secret; `None` when absent, or when this is a check that cannot read it.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        match self.value(name)? {
            Value::Secret(secret) => secret.clone(),
            other => self.wrong_kind(name, other),
        }
    }

    /// The value of `Kind::Any`; null when absent.
    pub fn any(&self, name: &str) -> &serde_json::Value {
        match self.value(name) {
            Some(Value::Any(any)) => any,
            _ => &serde_json::Value::Null,
        }
    }

    /// The entries of a list; none when absent.
    pub fn list(&self, name: &str) -> &[Located] {
        match self.value(name) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    /// The entries of a list of texts; none when absent.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        self.list(name)
            .iter()
            .filter_map(Located::as_text)
            .collect()
    }

    /// The texts of `many`, or the one of `one`: for `addresses` and `address`.
    ///
    /// # Errors
    /// Both or neither were given, or the list is empty.
    pub fn one_or_many(&self, one: &str, many: &str) -> Result<Vec<&str>, Mistake> {
        match (self.maybe_text(one), self.is_set(many)) {
            (Some(text), false) => Ok(vec![text]),
            (None, true) if self.list(many).is_empty() => {
                Err(self.mistake(many, format!("`{many}` is empty")))
            }
            (None, true) => Ok(self.texts(many)),
            (Some(_), true) => {
                let message = format!("`{one}` and `{many}` exclude each other");
                Err(self
                    .mistake(many, message)
                    .help(format!("put all of them into `{many}`")))
            }
            (None, false) => Err(Mistake::new(format!("`{one}` (or `{many}`) is missing"))),
        }
    }

    /// The entries of a map, in the order of the file; none when absent.
    pub fn map(&self, name: &str) -> &[(String, Located)] {
        match self.value(name) {
            Some(Value::Map(entries)) => entries,
            _ => &[],
        }
    }

    /// The options of a nested table or choice; `None` when absent or of another kind.
    pub fn table(&self, name: &str) -> Option<&Options> {
        match self.value(name)? {
            Value::Table(options) => Some(options),
            _ => None,
        }
    }

    /// A getter of the wrong kind: a bug of the component, loud in debug builds.
    fn wrong_kind<T>(&self, name: &str, value: &Value) -> Option<T> {
        debug_assert!(false, "{}: `{name}` is another kind: {value:?}", self.owner);
        None
    }

    /// The place of a value by the path that a [`Mistake`] names; `None` for what has none.
    pub fn place_of(&self, path: &str) -> Option<Place> {
        let matching = |setting: &&Setting| {
            let rest = path.strip_prefix(setting.opt.name);
            rest.is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('.') || setting.opt.name.is_empty()
            })
        };
        let setting = self
            .settings
            .iter()
            .filter(matching)
            .max_by_key(|s| s.opt.name.len())?;
        let located = setting.value.as_ref().filter(|_| setting.given)?;
        let rest = path[setting.opt.name.len()..].trim_start_matches('.');
        Some(located.place_of(rest))
    }
}

impl Located {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The place of the entry `path` in this value, or of the value where there is none.
    fn place_of(&self, path: &str) -> Place {
        if path.is_empty() {
            return self.place;
        }
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let inner = match &self.value {
            Value::List(items) => first.parse().ok().and_then(|index: usize| items.get(index)),
            Value::Map(entries) => entries.iter().find(|(key, _)| key == first).map(|(_, v)| v),
            Value::Table(options) => return options.place_of(path).unwrap_or(self.place),
            _ => None,
        };
        inner.map_or(self.place, |inner| inner.place_of(rest))
    }
}
