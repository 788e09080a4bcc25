//! Descriptors: what a component says about itself, once, as a constant.
//!
//! From the [`Descriptor`] come the checking of the configuration, `marline list`, `marline
//! explain NAME`, `config/reference.toml`, the JSON schema and the tests that loop over the
//! registry. This file holds the words in which a component declares its options; what the
//! options of one component were found to be is in [`super::options`].
//!
//! Invariants: option names are unique within a descriptor (its shared groups included) and no
//! name is a dotted prefix of another; every default is the TOML text of a value of the
//! option's kind; `build` is pure, so it may run for a check, and again for every reactor.

use super::component::{Sink, Source};
use super::options::{Mistake, Options, Value};
use super::shared_options;
use super::step::Step;

/// One component (or the daemon, or a pipeline): its name, options, example and constructor.
pub struct Descriptor {
    /// The word for `type`, or the key of a step: lower case, digits, `_`.
    pub name: &'static str,
    /// One line for `marline list`: lower case, no full stop.
    pub summary: &'static str,
    /// The component's own options. A step with the one option [`VALUE`] takes a plain value
    /// (`{ drop_if = '…' }`), any other step a table of its options.
    pub options: &'static [Opt],
    /// Groups of options that several components share.
    pub shared: &'static [&'static [Opt]],
    /// A complete TOML snippet that passes the check: a table, or one step.
    pub example: &'static str,
    /// The role, and for components how one is made from its options.
    pub build: Build,
}

/// The name of the option that is the whole value of a step.
pub const VALUE: &str = "";

impl Descriptor {
    /// All options: own ones first, then the shared groups in their order, then those that
    /// every component of the role has.
    pub fn all_options(&self) -> impl Iterator<Item = &'static Opt> {
        let common = match self.role() {
            Role::Source => shared_options::SOURCE,
            Role::Sink => shared_options::SINK,
            Role::Step | Role::Pipeline | Role::Daemon => &[],
        };
        let (own, shared) = (self.options, self.shared);
        let shared = shared.iter().flat_map(|group| group.iter());
        own.iter().chain(shared).chain(common)
    }

    /// What this is a descriptor of.
    pub fn role(&self) -> Role {
        match self.build {
            Build::Source(_) => Role::Source,
            Build::Step(_) => Role::Step,
            Build::Sink(_) => Role::Sink,
            Build::Pipeline => Role::Pipeline,
            Build::Daemon => Role::Daemon,
        }
    }

    /// Whether this is a step whose value stands directly behind its key.
    pub fn takes_plain_value(&self) -> bool {
        matches!(self.options, [only] if only.name == VALUE)
    }
}

/// What a descriptor describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A `[source.NAME]`.
    Source,
    /// An entry of `steps` of a pipeline.
    Step,
    /// A `[sink.NAME]`.
    Sink,
    /// A `[pipeline.NAME]`.
    Pipeline,
    /// The `[daemon]`.
    Daemon,
}

impl Role {
    /// The word of messages and of the table's first key.
    pub fn word(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Step => "step",
            Role::Sink => "sink",
            Role::Pipeline => "pipeline",
            Role::Daemon => "daemon",
        }
    }
}

/// A source as built.
pub type AnySource = Box<dyn Source>;
/// A step as built.
pub type AnyStep = Box<dyn Step>;
/// A sink as built.
pub type AnySink = Box<dyn Sink>;

/// How a component is made. Nothing is bound, dialled, locked or created here.
pub enum Build {
    /// A source.
    Source(fn(&Options) -> Result<AnySource, Mistake>),
    /// A step.
    Step(fn(&Options) -> Result<AnyStep, Mistake>),
    /// A sink.
    Sink(fn(&Options) -> Result<AnySink, Mistake>),
    /// The wiring: made by the service, not from here.
    Pipeline,
    /// The daemon's own settings.
    Daemon,
}

/// One option. Made with [`Opt::new`] and the `const` methods:
///
/// ```
/// use marline::pipeline::descriptor::{Kind, Opt};
/// const EVERY: Opt = Opt::new("every", "time between two rounds", Kind::DURATION).required();
/// const KEEP: Opt = Opt::new("rotate.keep", "old files kept", Kind::COUNT).default("10");
/// assert!(EVERY.required && KEEP.default == Some("10"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// The key; dots group options (`retry.max_delay`). [`VALUE`] for a step's plain value.
    pub name: &'static str,
    /// What it does, its unit and limits: one or two sentences, lower case, no full stop.
    pub doc: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// TOML text of the value that counts where none is given.
    pub default: Option<&'static str>,
    /// Without it the component cannot be.
    pub required: bool,
    /// What the value takes for itself alone, if anything.
    pub claims: Claims,
    /// A last test of the resolved value.
    pub test: Option<Test>,
}

impl Opt {
    /// An option that may be left out and has no default.
    pub const fn new(name: &'static str, doc: &'static str, kind: Kind) -> Opt {
        let claims = Claims::Nothing;
        Opt {
            name,
            doc,
            kind,
            default: None,
            required: false,
            claims,
            test: None,
        }
    }

    /// With this default (TOML text: `"\"30s\""`, `"1"`).
    pub const fn default(self, text: &'static str) -> Opt {
        Opt {
            default: Some(text),
            ..self
        }
    }

    /// Must be given.
    pub const fn required(self) -> Opt {
        Opt {
            required: true,
            ..self
        }
    }

    /// No two components may give the same value (see [`Claims`]).
    pub const fn claims(self, claims: Claims) -> Opt {
        Opt { claims, ..self }
    }

    /// A given value must pass `test` too, after it was found to be of the kind.
    pub const fn test(self, test: Test) -> Opt {
        Opt {
            test: Some(test),
            ..self
        }
    }
}

/// What an option's value takes for itself: a second taker is a mistake that points at both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claims {
    /// Nothing; the same value may be used anywhere.
    Nothing,
    /// An address to listen on: `0.0.0.0` takes the port on every address.
    Listener,
    /// A file that only one writer may have.
    File,
    /// Standard input: whatever the option's value, its component is the only reader.
    StandardInput,
}

/// A component's own test of a text (an address, a pattern, a condition, a template). The
/// mistake's offset counts bytes of the text as decoded.
pub type Check = fn(&str) -> Result<(), Mistake>;

/// A component's own test of a resolved value.
pub type Test = fn(&Value) -> Result<(), Mistake>;

/// Which values an option takes, and what its getter in [`Options`] gives.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number between the two, or one of the words.
    Count {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// Words in place of a number: `"off"`, `"auto"`.
        words: &'static [&'static str],
    },
    /// A number with or without a fraction, between the two.
    Number {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
    /// A time span as a string, `"30s"`, `"1h30m"`; longer than zero, at most ten years; or
    /// one of the words.
    Duration {
        /// Words in place of a duration: `"off"`, `"never"`.
        words: &'static [&'static str],
    },
    /// An amount of bytes as a string, `"64KiB"`, `"1GiB"`; or one of the words.
    Size {
        /// Smallest, in bytes.
        min: u64,
        /// Largest, in bytes.
        max: u64,
        /// Words in place of a size: `"auto"`.
        words: &'static [&'static str],
    },
    /// Events in a span of time as a string, `"500/s"`, `"10/m"`, `"0.5/s"`.
    Rate,
    /// A string, tested by the component where it has a test. `{ env = "NAME" }` in its place
    /// takes it from the environment.
    Text(Option<Check>),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A file path, not empty. `{ env = "NAME" }` in its place takes it from the environment.
    Path,
    /// A file whose content belongs to the configuration: it is read with it, and again with
    /// each reload. Or one of the words.
    File {
        /// Words in place of a path: `"system"`.
        words: &'static [&'static str],
        /// Whether nobody else should be able to read it.
        is_private: bool,
    },
    /// `{ env = "NAME" }`, `{ file = "PATH" }` or `{ credential = "NAME" }`.
    Secret,
    /// Any TOML value.
    Any,
    /// A list of values of one kind.
    List(&'static Kind),
    /// A table with keys that the user chooses.
    Map(&'static Kind),
    /// A table with these keys.
    Table(&'static [Opt]),
    /// A table with exactly one of these keys: `{ regex = '…' }`, `{ template = "…" }`.
    Choice(&'static [Opt]),
    /// A value of one of these kinds.
    Either(&'static [Kind]),
}

impl Kind {
    /// Any text.
    pub const TEXT: Kind = Kind::Text(None);
    /// A whole number from 1 up.
    pub const COUNT: Kind = Kind::Count {
        min: 1,
        max: u32::MAX as u64,
        words: &[],
    };
    /// A duration without words.
    pub const DURATION: Kind = Kind::Duration { words: &[] };
    /// A size from one byte to 16 TiB.
    pub const SIZE: Kind = Kind::Size {
        min: 1,
        max: 1 << 44,
        words: &[],
    };
    /// A list of texts.
    pub const TEXTS: Kind = Kind::List(&Kind::TEXT);

    /// What is expected, with an example, for messages: `a duration like "30s"`.
    pub fn expected(&self) -> String {
        match self {
            Kind::Flag => "true or false".into(),
            Kind::Count { words, .. } => or_words("a whole number", words),
            Kind::Number { .. } => "a number".into(),
            Kind::Duration { words } => or_words("a duration like \"30s\"", words),
            Kind::Size { words, .. } => or_words("a size like \"64KiB\"", words),
            Kind::Rate => "a rate like \"500/s\"".into(),
            Kind::Text(_) => "a string".into(),
            Kind::Word(words) => match words {
                [only] => format!("\"{only}\""),
                _ => format!("one of {}", quoted_list(words)),
            },
            Kind::Path => "a path".into(),
            Kind::File { words, .. } => or_words("the path of a file", words),
            Kind::Secret => "a secret like { env = \"TOKEN\" }".into(),
            Kind::Any => "a value".into(),
            Kind::List(item) => format!("a list of {}", item.plural()),
            Kind::Map(item) => format!("a table of {}", item.plural()),
            Kind::Table(_) => "a table".into(),
            Kind::Choice(options) => {
                let shapes: Vec<_> = options
                    .iter()
                    .map(|o| format!("{{ {} = … }}", o.name))
                    .collect();
                shapes.join(" or ")
            }
            Kind::Either(kinds) => {
                let all: Vec<_> = kinds.iter().map(Kind::expected).collect();
                all.join(" or ")
            }
        }
    }

    /// Several of them, for `a list of …`.
    fn plural(&self) -> String {
        match self {
            Kind::Flag => "booleans".into(),
            Kind::Count { .. } | Kind::Number { .. } => "numbers".into(),
            Kind::Duration { .. } => "durations".into(),
            Kind::Size { .. } => "sizes".into(),
            Kind::Rate => "rates".into(),
            Kind::Text(_) => "strings".into(),
            Kind::Path | Kind::File { .. } => "paths".into(),
            Kind::Secret => "secrets".into(),
            Kind::Any => "values".into(),
            Kind::List(_) => "lists".into(),
            Kind::Map(_) | Kind::Table(_) | Kind::Choice(_) => "tables".into(),
            Kind::Word(words) => format!("words out of {}", quoted_list(words)),
            Kind::Either(kinds) => {
                let all: Vec<_> = kinds.iter().map(Kind::plural).collect();
                all.join(" or ")
            }
        }
    }
}

/// `what`, or `what or "off"`.
fn or_words(what: &str, words: &[&str]) -> String {
    match words {
        [] => what.to_owned(),
        _ => format!("{what} or {}", quoted_list(words)),
    }
}

/// `"a", "b", "c"`.
pub fn quoted_list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_say_what_they_expect() {
        let check = |kind: Kind, text: &str| assert_eq!(kind.expected(), text);
        check(Kind::DURATION, "a duration like \"30s\"");
        check(
            Kind::Duration { words: &["off"] },
            "a duration like \"30s\" or \"off\"",
        );
        check(Kind::TEXTS, "a list of strings");
        check(Kind::Word(&["lines", "nul"]), "one of \"lines\", \"nul\"");
        const PARSE: Kind = Kind::Either(&[
            Kind::Word(&["json"]),
            Kind::Choice(&[Opt::new("regex", "a pattern", Kind::TEXT)]),
        ]);
        check(PARSE, "\"json\" or { regex = … }");
    }
}
