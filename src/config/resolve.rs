//! From nodes to [`Options`]: every key is closed, every value is of its option's kind.
//!
//! The [`Resolver`] goes on after a mistake, so that one run finds them all; what it answers
//! is `None` where something in it was wrong. It knows descriptors only, no component.

use std::path::PathBuf;

use super::claims::Claim;
use super::files::{self, Files};
use super::findings::Findings;
use super::literal;
use super::quantity;
use super::secret::{self, Environment, Wrong};
use super::suggest;
use super::tree::{Data, Entry, Node, shorten};
use crate::pipeline::descriptor::{Claims, Kind, Opt, VALUE};
use crate::pipeline::options::{
    FileContent, Located, Mistake, Options, Place, Secret, Setting, Value,
};

/// Whether a check may meet credentials that it cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The daemon is about to start.
    Run,
    /// Somebody wants to know whether it would.
    Check,
}

/// Resolves values and collects what is wrong with them.
pub struct Resolver<'a> {
    /// The sources of all places.
    pub files: &'a Files,
    /// Where secrets and environment values come from.
    pub env: Environment<'a>,
    /// What for.
    pub purpose: Purpose,
    /// What was found so far.
    pub findings: Findings,
    /// What values take for themselves alone.
    pub claims: Vec<Claim>,
}

impl<'a> Resolver<'a> {
    /// Nothing resolved yet.
    pub fn new(files: &'a Files, env: Environment<'a>, purpose: Purpose) -> Resolver<'a> {
        let (findings, claims) = (Findings::default(), Vec::new());
        Resolver {
            files,
            env,
            purpose,
            findings,
            claims,
        }
    }
}

/// A declared option that was given.
pub struct Given<'t> {
    /// Its declaration.
    pub opt: &'static Opt,
    /// The place of its (last) key.
    pub key: Place,
    /// Its value.
    pub node: &'t Node,
}

/// The keys of one table while they are matched with the declared options.
struct Keys<'d, 't> {
    declared: &'d [&'static Opt],
    given: Vec<Given<'t>>,
    meant: Vec<&'static str>,
}

impl Resolver<'_> {
    /// The options `declared` out of the entries of a table. `whole` is where something that
    /// is missing is shown.
    pub fn options(
        &mut self,
        owner: &str,
        declared: &[&'static Opt],
        entries: &[Entry],
        whole: Place,
    ) -> Option<Options> {
        let before = self.findings.errors();
        let (given, meant) = self.keys(declared, entries);
        let settings = declared.iter().map(|opt| {
            let given = given.iter().find(|given| std::ptr::eq(given.opt, *opt));
            let whole = (!meant.contains(&opt.name)).then_some(whole);
            self.setting(owner, opt, given.map(|given| given.node), whole)
        });
        let settings: Vec<_> = settings.collect();
        (self.findings.errors() == before).then(|| Options::new(owner, settings))
    }

    /// The one option of a step that takes a plain value.
    pub fn plain_value(&mut self, owner: &str, opt: &'static Opt, node: &Node) -> Option<Options> {
        debug_assert_eq!(opt.name, VALUE);
        let before = self.findings.errors();
        let setting = self.setting(owner, opt, Some(node), Some(node.place));
        (self.findings.errors() == before).then(|| Options::new(owner, vec![setting]))
    }

    fn setting(
        &mut self,
        owner: &str,
        opt: &'static Opt,
        node: Option<&Node>,
        whole: Option<Place>,
    ) -> Setting {
        let Some(node) = node else {
            if let (true, Some(whole)) = (opt.required, whole) {
                let message = format!("`{}` is missing", opt.name);
                let help = format!("it takes {}", opt.kind.expected());
                self.findings.error(whole, message).help(help).may_follow();
            }
            return Setting {
                opt,
                value: default_of(owner, opt),
                given: false,
            };
        };
        let value = self.value(owner, &opt.kind, node);
        if let (Some(located), Some(test)) = (&value, opt.test)
            && let Err(mistake) = test(&located.value)
        {
            self.mistake(located.place, &mistake);
        }
        if let Some(located) = &value {
            self.claim(owner, opt, located);
        }
        Setting {
            opt,
            value,
            given: true,
        }
    }

    /// Notes what the value takes for itself alone.
    fn claim(&mut self, owner: &str, opt: &Opt, located: &Located) {
        if opt.claims == Claims::Nothing {
            return;
        }
        let items = match &located.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(located),
        };
        for item in items {
            let text = match &item.value {
                Value::Text(text) => text.clone(),
                Value::Path(path) => path.to_string_lossy().into_owned(),
                _ => continue,
            };
            let place = inside(item.place, self.files.text(item.place));
            self.claims.push(Claim {
                claims: opt.claims,
                text,
                owner: owner.to_owned(),
                place,
            });
        }
    }

    /// Notes that the component at `place` reads standard input, where one of its options says so.
    pub fn claim_standard_input(&mut self, owner: &str, declared: &[&Opt], place: Place) {
        let claims = Claims::StandardInput;
        if declared.iter().any(|opt| opt.claims == claims) {
            self.claims.push(Claim {
                claims,
                text: "standard input".to_owned(),
                owner: owner.to_owned(),
                place,
            });
        }
    }

    /// The declared options among the entries, dotted names put together; others are errors.
    /// The second list names the options that those others were probably meant to be.
    pub fn keys<'t>(
        &mut self,
        declared: &[&'static Opt],
        entries: &'t [Entry],
    ) -> (Vec<Given<'t>>, Vec<&'static str>) {
        let mut keys = Keys {
            declared,
            given: Vec::new(),
            meant: Vec::new(),
        };
        self.keys_below("", entries, &mut keys);
        (keys.given, keys.meant)
    }

    fn keys_below<'t>(&mut self, prefix: &str, entries: &'t [Entry], keys: &mut Keys<'_, 't>) {
        for entry in entries {
            let name = format!("{prefix}{}", entry.key);
            if let Some(opt) = keys.declared.iter().find(|opt| opt.name == name) {
                self.given(opt, entry, keys);
                continue;
            }
            let group = format!("{name}.");
            let members = keys.declared.iter().map(|opt| opt.name);
            let members: Vec<_> = members.filter(|n| n.starts_with(&group)).collect();
            match &entry.node.data {
                Data::Table(inner) if !members.is_empty() => self.keys_below(&group, inner, keys),
                _ if !members.is_empty() => {
                    let message = format!("`{name}` is a group of options");
                    let help = format!("write {}", members.join(", "));
                    self.findings.error(entry.key_place, message).help(help);
                }
                _ => self.unknown_key(&name, entry, keys),
            }
        }
    }

    fn given<'t>(&mut self, opt: &'static Opt, entry: &'t Entry, keys: &mut Keys<'_, 't>) {
        if let Some(first) = keys.given.iter().find(|given| std::ptr::eq(given.opt, opt)) {
            let message = format!("`{}` is given twice", opt.name);
            let finding = self.findings.error(entry.key_place, message);
            finding.also(first.key, "first given here");
            return;
        }
        keys.given.push(Given {
            opt,
            key: entry.key_place,
            node: &entry.node,
        });
    }

    fn unknown_key(&mut self, name: &str, entry: &Entry, keys: &mut Keys<'_, '_>) {
        let known: Vec<_> = keys.declared.iter().map(|opt| opt.name).collect();
        let last = |full: &&&'static str| full.rsplit('.').next() == Some(entry.key.as_str());
        let near = known.iter().find(last).copied();
        let near = near.or_else(|| suggest::nearest(name, known.iter().copied()));
        keys.meant.extend(near);
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys: {}", known.join(", ")),
        };
        self.findings
            .error(entry.key_place, format!("unknown key `{name}`"))
            .help(help);
    }

    /// The value of `node`, if it is of `kind`.
    fn value(&mut self, owner: &str, kind: &Kind, node: &Node) -> Option<Located> {
        let value = match kind {
            Kind::List(item) => self.list(owner, kind, item, node)?,
            Kind::Map(item) => self.map(owner, kind, item, node)?,
            Kind::Table(opts) => {
                let Data::Table(entries) = &node.data else {
                    return self.wrong_type(kind, node);
                };
                let opts: Vec<&'static Opt> = opts.iter().collect();
                Value::Table(self.options(owner, &opts, entries, node.place)?)
            }
            Kind::Choice(opts) => self.choice(owner, kind, opts, node)?,
            Kind::Either(kinds) => return self.either(owner, kind, kinds, node),
            Kind::Secret => Value::Secret(self.secret(node)?),
            Kind::Any => Value::Any(any(node)),
            _ => return self.scalar(kind, node),
        };
        Some(Located {
            value,
            place: node.place,
        })
    }

    fn list(&mut self, owner: &str, kind: &Kind, item: &Kind, node: &Node) -> Option<Value> {
        let Data::List(nodes) = &node.data else {
            return self.wrong_type(kind, node);
        };
        let items: Vec<_> = nodes
            .iter()
            .map(|node| self.value(owner, item, node))
            .collect();
        items
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .map(Value::List)
    }

    fn map(&mut self, owner: &str, kind: &Kind, item: &Kind, node: &Node) -> Option<Value> {
        let Data::Table(entries) = &node.data else {
            return self.wrong_type(kind, node);
        };
        let pair = |entry: &Entry| Some((entry.key.clone(), self.value(owner, item, &entry.node)?));
        let pairs: Vec<_> = entries.iter().map(pair).collect();
        pairs
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .map(Value::Map)
    }

    fn choice(
        &mut self,
        owner: &str,
        kind: &Kind,
        opts: &'static [Opt],
        node: &Node,
    ) -> Option<Value> {
        let Data::Table(entries) = &node.data else {
            return self.wrong_type(kind, node);
        };
        let declared: Vec<&'static Opt> = opts.iter().collect();
        let options = self.options(owner, &declared, entries, node.place)?;
        let mut given = options.settings().iter().filter(|setting| setting.given);
        match (given.next(), given.next()) {
            (Some(_), None) => {}
            (None, _) => {
                let message = format!("expected {}, found an empty table", kind.expected());
                self.findings.error(node.place, message);
                return None;
            }
            (Some(_), Some(_)) => {
                let message = format!("expected only one of {}", kind.expected());
                let second = entries.get(1).map_or(node.place, |entry| entry.key_place);
                self.findings.error(second, message);
                return None;
            }
        }
        Some(Value::Table(options))
    }

    /// The first kind that takes the value wins; if none does, the mistakes are those of the
    /// last one that takes a node of this shape.
    fn either(&mut self, owner: &str, kind: &Kind, kinds: &[Kind], node: &Node) -> Option<Located> {
        let shaped: Vec<_> = kinds.iter().filter(|kind| takes(kind, node)).collect();
        let Some((last, firsts)) = shaped.split_last() else {
            return self.wrong_type(kind, node);
        };
        for kind in firsts {
            let outer = std::mem::take(&mut self.findings);
            let value = self.value(owner, kind, node);
            let inner = std::mem::replace(&mut self.findings, outer);
            self.findings.hide_as(&inner);
            if let (Some(value), 0) = (value, inner.errors()) {
                return Some(value);
            }
        }
        self.value(owner, last, node)
    }

    /// A value that stands alone: a string, number or boolean.
    fn scalar(&mut self, kind: &Kind, node: &Node) -> Option<Located> {
        let may_be_env = matches!(kind, Kind::Text(_) | Kind::Path | Kind::File { .. });
        let from_env = may_be_env && secret::is_reference(node);
        let env_text = if from_env {
            Some(self.environment(node)?)
        } else {
            None
        };
        let resolved = match (&node.data, &env_text) {
            (_, Some(text)) | (Data::Text(text), None) => text_value(kind, text),
            (Data::Integer(Some(number)), None) => number_value(kind, *number as f64),
            (Data::Integer(None), None) => Some(Err(Mistake::new("the number is too large"))),
            (Data::Float(number), None) => number_value(kind, *number),
            (Data::Flag(flag), None) if matches!(kind, Kind::Flag) => Some(Ok(Value::Flag(*flag))),
            _ => None,
        };
        match resolved {
            Some(Ok(value)) => {
                self.warn_of_readers(kind, &value, node.place);
                let place = node.place;
                Some(Located { value, place })
            }
            Some(Err(mistake)) => {
                self.mistake(node.place, &mistake);
                None
            }
            None => self.wrong_type(kind, node),
        }
    }

    /// A key that everybody can read is no secret.
    fn warn_of_readers(&mut self, kind: &Kind, value: &Value, place: Place) {
        if let (Kind::File { is_private, .. }, Value::File(file)) = (kind, value)
            && *is_private
            && files::is_readable_by_all(&file.path)
        {
            let place = inside(place, self.files.text(place));
            let message = "every user of this machine can read this key";
            let help = format!("chmod o-rwx {}", file.path.display());
            self.findings.warning(place, message).help(help);
        }
    }

    /// A text from the environment. Files and credentials are for secrets only.
    fn environment(&mut self, node: &Node) -> Option<String> {
        if let Data::Table(entries) = &node.data
            && let Some(other) = entries.iter().find(|entry| entry.key != "env")
        {
            let message = format!("`{}` is for secrets, and this value is none", other.key);
            self.findings
                .error(other.key_place, message)
                .help("use { env = \"NAME\" }");
            return None;
        }
        let read = secret::read(node, self.files, self.env);
        let text = read.map(|secret| String::from_utf8(secret.reveal().to_vec()));
        match text {
            Ok(Ok(text)) => Some(text),
            Ok(Err(_)) => {
                self.findings
                    .error(node.place, "the environment variable is not UTF-8");
                None
            }
            Err(wrong) => {
                self.wrong(wrong);
                None
            }
        }
    }

    /// `Some(None)` is a credential that this check cannot read.
    fn secret(&mut self, node: &Node) -> Option<Option<Secret>> {
        match secret::read(node, self.files, self.env) {
            Ok(secret) => Some(Some(secret)),
            Err(wrong) if wrong.outside_unit && self.purpose == Purpose::Check => {
                let finding = self.findings.note(wrong.place, wrong.message);
                finding.help("it was not checked");
                Some(None)
            }
            Err(wrong) => {
                self.wrong(wrong);
                None
            }
        }
    }

    fn wrong(&mut self, wrong: Wrong) {
        if wrong.hide {
            self.findings.hide(wrong.place);
        }
        let finding = self.findings.error(wrong.place, wrong.message);
        finding.help = wrong.help;
    }

    fn wrong_type<T>(&mut self, kind: &Kind, node: &Node) -> Option<T> {
        let source = self.files.text(node.place);
        let found = node.data.found(source);
        let message = format!("expected {}, found {found}", kind.expected());
        let fix = fix(kind, node, source);
        self.findings.error(node.place, message).help = fix.map(|fix| format!("write {fix}"));
        None
    }

    /// Reports a component's mistake in the value at `place`.
    pub fn mistake(&mut self, place: Place, mistake: &Mistake) {
        let narrow = narrow(place, self.files.text(place), mistake);
        let finding = self.findings.error(narrow, mistake.message.clone());
        finding.help.clone_from(&mistake.help);
    }
}

/// The part of `place` that a mistake in its decoded text marks. Mistakes without a range mark
/// the whole value; where that is a string, what is within its quotes.
fn narrow(place: Place, source: &str, mistake: &Mistake) -> Place {
    if !source.starts_with(['"', '\'']) {
        return place;
    }
    if mistake.offset == 0 && mistake.len == 0 {
        return inside(place, source);
    }
    let first = literal::source_offset(source, mistake.offset);
    let after = literal::source_offset(source, mistake.offset + mistake.len.max(1));
    let start = place.start + first as u32;
    Place {
        start,
        end: (place.start + after as u32).max(start),
        ..place
    }
}

/// The place of a string without its quotes; an empty one has only those.
pub fn inside(place: Place, source: &str) -> Place {
    let first = literal::source_offset(source, 0) as u32;
    let last = literal::source_offset(source, source.len()) as u32;
    if !source.starts_with(['"', '\'']) || first >= last {
        return place;
    }
    Place {
        start: place.start + first,
        end: place.start + last,
        ..place
    }
}

/// Whether a node of this shape can be of the kind at all.
fn takes(kind: &Kind, node: &Node) -> bool {
    match (kind, &node.data) {
        (Kind::Any, _) => true,
        (Kind::Either(kinds), _) => kinds.iter().any(|kind| takes(kind, node)),
        (Kind::Flag, data) => matches!(data, Data::Flag(_)),
        (Kind::List(_), data) => matches!(data, Data::List(_)),
        (Kind::Text(_) | Kind::Path | Kind::File { .. }, Data::Table(_)) => {
            secret::is_reference(node)
        }
        (Kind::Map(_) | Kind::Table(_) | Kind::Choice(_) | Kind::Secret, data) => {
            matches!(data, Data::Table(_))
        }
        (Kind::Number { .. }, data) => matches!(data, Data::Integer(_) | Data::Float(_)),
        (Kind::Count { words, .. }, data) => match data {
            Data::Integer(_) => true,
            Data::Text(_) => !words.is_empty(),
            _ => false,
        },
        // The rest are strings; a bare number for a quantity gets its own fix.
        (Kind::Duration { .. } | Kind::Size { .. } | Kind::Rate, Data::Integer(_)) => true,
        (_, data) => matches!(data, Data::Text(_)),
    }
}

/// The value that a string is for this kind; `None` where no string is.
fn text_value(kind: &Kind, text: &str) -> Option<Result<Value, Mistake>> {
    let whole = |mistake: Mistake| mistake.at(0, text.len());
    Some(match kind {
        Kind::Text(None) => Ok(Value::Text(text.to_owned())),
        Kind::Text(Some(check)) => check(text).map(|()| Value::Text(text.to_owned())),
        Kind::Path if text.is_empty() => Err(Mistake::new("the path is empty")),
        Kind::Path => Ok(Value::Path(text.into())),
        Kind::File { words, .. } => word(words, text).map_or_else(|| file(text), Ok),
        Kind::Word(words) => word(words, text).ok_or_else(|| {
            let found = shorten(text);
            let mistake = Mistake::new(format!("expected {}, found \"{found}\"", kind.expected()));
            near_word(whole(mistake), words, text)
        }),
        Kind::Duration { words } => word(words, text)
            .map_or_else(|| quantity::duration(text).map(Value::Duration), Ok)
            .map_err(|mistake| near_word(mistake, words, text)),
        Kind::Size { min, max, words } => word(words, text)
            .map_or_else(|| quantity::size(text, *min, *max).map(Value::Size), Ok)
            .map_err(|mistake| near_word(mistake, words, text)),
        Kind::Rate => quantity::rate(text).map(Value::Rate),
        Kind::Count { words, .. } if !words.is_empty() => word(words, text).ok_or_else(|| {
            let mistake = Mistake::new(format!("expected {}, found \"{text}\"", kind.expected()));
            near_word(whole(mistake), words, text)
        }),
        _ => return None,
    })
}

/// The content of the file at that path.
fn file(path: &str) -> Result<Value, Mistake> {
    let path = PathBuf::from(path);
    let content = files::read_regular(&path, files::FILE_BYTES_MAX).map_err(|error| {
        let message = format!("cannot read `{}`: {error}", path.display());
        Mistake::new(message).help("the daemon's user must be able to read it")
    })?;
    let content = Secret::new(&content);
    Ok(Value::File(FileContent { path, content }))
}

fn word(words: &[&'static str], text: &str) -> Option<Value> {
    words
        .iter()
        .find(|word| **word == text)
        .map(|word| Value::Word(word))
}

/// A text that is near a word gets the word as help.
fn near_word(mistake: Mistake, words: &[&str], text: &str) -> Mistake {
    match suggest::nearest(text, words.iter().copied()) {
        Some(near) => mistake.help(format!("did you mean \"{near}\"?")),
        None => mistake,
    }
}

/// The value that a number is for this kind; `None` where no number is.
fn number_value(kind: &Kind, number: f64) -> Option<Result<Value, Mistake>> {
    let range = |min: f64, max: f64, value: Value| {
        if (min..=max).contains(&number) {
            return Ok(value);
        }
        let side = if number < min {
            format!("at least {min}")
        } else {
            format!("at most {max}")
        };
        Err(Mistake::new(format!("{number} is out of range")).help(side))
    };
    match kind {
        Kind::Count { min, max, .. } if number.fract() == 0.0 => {
            Some(range(*min as f64, *max as f64, Value::Count(number as u64)))
        }
        Kind::Number { min, max } => Some(range(*min, *max, Value::Number(number))),
        _ => None,
    }
}

/// How the value would be written rightly, where that can be guessed.
fn fix(kind: &Kind, node: &Node, source: &str) -> Option<String> {
    match (kind, &node.data) {
        (Kind::Duration { .. }, Data::Integer(_) | Data::Float(_)) => {
            Some(format!("\"{source}s\""))
        }
        (Kind::Size { .. }, Data::Integer(Some(bytes))) => {
            let bytes = u64::try_from(*bytes).ok()?;
            Some(format!("\"{}\"", quantity::show_size(bytes)))
        }
        (Kind::Rate, Data::Integer(_) | Data::Float(_)) => Some(format!("\"{source}/s\"")),
        (
            Kind::Text(_) | Kind::Path | Kind::File { .. },
            Data::Integer(_) | Data::Float(_) | Data::Flag(_),
        ) => Some(format!("\"{source}\"")),
        (Kind::Count { .. } | Kind::Number { .. }, Data::Text(text)) => text
            .trim()
            .parse::<f64>()
            .ok()
            .map(|_| text.trim().to_owned()),
        (Kind::Flag, Data::Text(text)) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some("true".into()),
            "false" | "no" | "off" | "0" => Some("false".into()),
            _ => None,
        },
        (Kind::List(_), Data::Text(_)) => Some(format!("[{source}]")),
        (Kind::Either(kinds), _) => kinds.iter().find_map(|kind| fix(kind, node, source)),
        _ => None,
    }
}

fn any(node: &Node) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.data {
        Data::Text(text) | Data::Date(text) => Json::String(text.clone()),
        Data::Integer(number) => number.map_or(Json::Null, Json::from),
        Data::Float(number) => Json::from(*number),
        Data::Flag(flag) => Json::Bool(*flag),
        Data::List(items) => Json::Array(items.iter().map(any).collect()),
        Data::Table(entries) => Json::Object(
            entries
                .iter()
                .map(|e| (e.key.clone(), any(&e.node)))
                .collect(),
        ),
    }
}

/// The default of an option, from its TOML text.
fn default_of(owner: &str, opt: &'static Opt) -> Option<Located> {
    let text = format!("default = {}", opt.default?);
    let mut files = Files::default();
    files.add(super::files::File::new(
        std::path::Path::new("default"),
        text.clone().into(),
    ));
    let (entries, errors) = super::tree::parse(&text, 0);
    let mut resolver = Resolver::new(&files, &|_| None, Purpose::Check);
    let value = entries
        .first()
        .and_then(|entry| resolver.value(owner, &opt.kind, &entry.node));
    debug_assert!(
        errors.is_empty() && value.is_some(),
        "{owner}: default of `{}`",
        opt.name
    );
    value.map(|located| Located {
        place: Place::default(),
        ..located
    })
}
