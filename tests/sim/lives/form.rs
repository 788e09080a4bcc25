//! What the configuration says between two reloads: which source is where and what, which form
//! each sink has, whether there is a sink beside them.
//!
//! A reload goes from one form to any other, so a source is replaced with another option, in
//! another place, by one of another type, or gets a second one beside it; a sink likewise. Nobody
//! is left without a way in: every form has an `http` source at one of the two places.

use std::collections::BTreeMap;
use std::fmt;

use marline::sim::Random;

/// Where the daemon listens: at one of them at least.
pub const HTTP_IN: &str = "127.0.0.1:8080";
pub const HTTP_IN_TOO: &str = "127.0.0.1:8081";

/// What the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub web: Web,
    /// Of each sink, by name.
    pub ways: BTreeMap<&'static str, Way>,
    /// There is one more sink, which everything goes to as well.
    pub has_beside: bool,
}

/// The sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Web {
    #[default]
    Plain,
    /// With another option.
    Tuned,
    /// In the other place.
    Moved,
    /// With a second one in the other place.
    Doubled,
    /// The two have exchanged their places.
    Swapped,
    /// Of another type, and for another pipeline; the second one does its work.
    Retyped,
}

/// The form of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    #[default]
    Plain,
    /// With another option.
    Tuned,
    /// In another place.
    Moved,
    /// Of another type, in another place.
    Retyped,
}

impl Web {
    const ALL: [Web; 6] = [
        Web::Plain,
        Web::Tuned,
        Web::Moved,
        Web::Doubled,
        Web::Swapped,
        Web::Retyped,
    ];

    /// The tables of the sources.
    pub fn tables(self) -> String {
        let web = |place: &str| http("web", place);
        let too = |place: &str| http("too", place);
        match self {
            Web::Plain => web(HTTP_IN),
            Web::Tuned => web(HTTP_IN) + "busy_timeout = \"4s\"\n",
            Web::Moved => web(HTTP_IN_TOO),
            Web::Doubled => web(HTTP_IN) + &too(HTTP_IN_TOO),
            Web::Swapped => web(HTTP_IN_TOO) + &too(HTTP_IN),
            Web::Retyped => {
                let socket = format!(
                    "[source.web]\ntype = \"socket\"\nframing = \"lines\"\n\
                     listen = [\"tcp://{HTTP_IN}\"]\n\
                     [pipeline.void]\nfrom = [\"web\"]\nto = [\"void\"]\n\
                     [sink.void]\ntype = \"discard\"\n"
                );
                socket + &too(HTTP_IN_TOO)
            }
        }
    }

    /// Where the pipeline that is judged reads from.
    pub fn from(self) -> &'static str {
        match self {
            Web::Plain | Web::Tuned | Web::Moved => "\"web\"",
            Web::Doubled | Web::Swapped => "\"web\", \"too\"",
            Web::Retyped => "\"too\"",
        }
    }
}

fn http(name: &str, place: &str) -> String {
    format!("[source.{name}]\ntype = \"http\"\nlisten = [\"tcp://{place}\"]\n")
}

impl Way {
    pub const ALL: [Way; 4] = [Way::Plain, Way::Tuned, Way::Moved, Way::Retyped];
}

impl Form {
    /// Any form; `names` are the sinks, with how many of the ways each has.
    pub fn new(names: &[(&'static str, usize)], random: &mut Random) -> Form {
        let way = |random: &mut Random, most: usize| match random.chance(500) {
            true => Way::Plain,
            false => random.pick(&Way::ALL[..most]),
        };
        Form {
            web: random.pick(&Web::ALL),
            ways: names
                .iter()
                .map(|(name, most)| (*name, way(random, *most)))
                .collect(),
            has_beside: random.chance(300),
        }
    }

    /// How the sink `name` is.
    pub fn way(&self, name: &str) -> Way {
        self.ways.get(name).copied().unwrap_or_default()
    }

    /// Whether going over to `next` replaces the sink `name`.
    pub fn replaces(&self, next: &Form, name: &str) -> bool {
        self.way(name) != next.way(name)
    }
}

/// How often reloads have done what.
#[derive(Clone, Debug, Default)]
pub struct FormCounts {
    sources: BTreeMap<Web, u64>,
    sinks: BTreeMap<Way, u64>,
    added: u64,
    removed: u64,
    /// Reloads that were refused, and left everything as it was.
    pub refused: u64,
}

impl FormCounts {
    /// A reload has gone from one form to the next.
    pub fn note(&mut self, from: &Form, to: &Form) {
        if from.web != to.web {
            *self.sources.entry(to.web).or_default() += 1;
        }
        for (name, way) in &to.ways {
            if from.replaces(to, name) {
                *self.sinks.entry(*way).or_default() += 1;
            }
        }
        self.added += u64::from(!from.has_beside && to.has_beside);
        self.removed += u64::from(from.has_beside && !to.has_beside);
    }

    /// How often a source or a sink has become another.
    pub fn replaced(&self) -> u64 {
        self.sources.values().sum::<u64>() + self.sinks.values().sum::<u64>()
    }

    pub fn add(&mut self, other: &FormCounts) {
        for (web, count) in &other.sources {
            *self.sources.entry(*web).or_default() += count;
        }
        for (way, count) in &other.sinks {
            *self.sinks.entry(*way).or_default() += count;
        }
        self.added += other.added;
        self.removed += other.removed;
        self.refused += other.refused;
    }

    /// What no reload has done.
    pub fn missing(&self) -> Vec<String> {
        let sources = Web::ALL.iter().filter(|it| !self.sources.contains_key(it));
        let sinks = Way::ALL.iter().filter(|it| !self.sinks.contains_key(it));
        let sources = sources.map(|web| format!("a source becomes {web:?}"));
        let mut missing: Vec<String> = sources.collect();
        missing.extend(sinks.map(|way| format!("a sink becomes {way:?}")));
        let counts = [
            (self.added, "a sink is added"),
            (self.removed, "a sink is removed"),
            (self.refused, "a reload is refused"),
        ];
        let never = counts.into_iter().filter(|(count, _)| *count == 0);
        missing.extend(never.map(|(_, what)| what.to_owned()));
        missing
    }
}

impl fmt::Display for FormCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "reloads: sources {:?}, sinks {:?}, {} sinks added, {} removed, {} refused",
            self.sources, self.sinks, self.added, self.removed, self.refused
        )
    }
}
