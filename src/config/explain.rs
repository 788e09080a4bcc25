//! Descriptors shown to the user: `marline list`, `marline explain NAME`, and the text of
//! `config/reference.toml`.
//!
//! Everything here is made of descriptors alone, so that nothing can be forgotten when a
//! component is added.

use std::fmt::Write;

use super::Registry;
use super::suggest;
use crate::pipeline::descriptor::{Descriptor, Kind, Opt, Role, VALUE};

/// Columns of explanations.
const WIDTH: usize = 80;

/// All components with their one-line summaries.
pub fn list(registry: &Registry) -> String {
    let mut out = String::new();
    let widest = registry.all().map(|one| one.name.len()).max().unwrap_or(0);
    for role in [Role::Source, Role::Step, Role::Sink] {
        let _ = writeln!(out, "{}s:", role.word());
        for one in registry.of(role) {
            let _ = writeln!(out, "  {:widest$}  {}", one.name, one.summary);
        }
        out.push('\n');
    }
    out.push_str("`marline explain NAME` shows the options of one.\n");
    out
}

/// The options, defaults and example of what is called `name`: a component (`socket`, or
/// `sink.socket` where a name has two roles), `pipeline`, `daemon`, or an option.
///
/// # Errors
/// Nothing is called so; the text suggests what may have been meant.
pub fn explain(name: &str, registry: &Registry) -> Result<String, String> {
    let is_named = |one: &&Descriptor| {
        one.name == name || name.split_once('.') == Some((one.role().word(), one.name))
    };
    let found: Vec<_> = registry.all().filter(is_named).map(component).collect();
    if !found.is_empty() {
        return Ok(found.join("\n"));
    }
    let with_option: Vec<_> = registry
        .all()
        .filter_map(|one| Some((one, one.all_options().find(|opt| opt.name == name)?)))
        .collect();
    if name != VALUE && !with_option.is_empty() {
        return Ok(option(name, &with_option));
    }
    Err(unknown(name, registry))
}

fn unknown(name: &str, registry: &Registry) -> String {
    let names = registry.all().map(|one| one.name);
    let options: Vec<_> = registry
        .all()
        .flat_map(Descriptor::all_options)
        .map(|opt| opt.name)
        .collect();
    let near = suggest::nearest(name, names.chain(options.iter().copied())).or_else(|| {
        let last = |option: &&str| option.rsplit('.').next() == Some(name);
        options.iter().copied().find(last)
    });
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`marline list` shows all components".to_owned(),
    };
    format!("nothing is called `{name}`: {help}")
}

fn component(one: &'static Descriptor) -> String {
    let mut out = String::new();
    let (name, role) = (one.name, one.role().word());
    let kind = if name == role {
        String::new()
    } else {
        format!(" ({role})")
    };
    let _ = writeln!(out, "{name}{kind}: {}\n", one.summary);
    if one.takes_plain_value() {
        let _ = writeln!(out, "takes {}", one.options[0].kind.expected());
        wrap(one.options[0].doc, "  ", &mut out);
    } else {
        out.push_str("options:\n");
        if matches!(one.role(), Role::Source | Role::Sink) {
            let _ = writeln!(out, "  type = \"{name}\"");
        }
        for opt in one.all_options() {
            describe(opt, "  ", &mut out);
        }
    }
    if one.role() == Role::Step {
        out.push_str("\nbeside it: if = 'CONDITION', for only some of the events\n");
    }
    let _ = writeln!(out, "\nexample:");
    for line in one.example.trim().lines() {
        let _ = writeln!(out, "{}", format!("  {line}").trim_end());
    }
    out
}

/// `name = default    kind`, and the doc under it.
fn describe(opt: &Opt, indent: &str, out: &mut String) {
    let _ = match (opt.default, opt.required) {
        (Some(default), _) => writeln!(out, "{indent}{} = {default}", opt.name),
        (None, true) => writeln!(out, "{indent}{} (required)", opt.name),
        (None, false) => writeln!(out, "{indent}{}", opt.name),
    };
    let deeper = format!("{indent}    ");
    wrap(
        &format!("{}: {}", expected(&opt.kind), opt.doc),
        &deeper,
        out,
    );
    for inner in inner_options(&opt.kind) {
        describe(inner, &deeper, out);
    }
}

/// What is expected, with the limits.
fn expected(kind: &Kind) -> String {
    let base = kind.expected();
    match kind {
        Kind::Count { min, max, .. } if *max < u64::from(u32::MAX) => {
            format!("{base}, {min} to {max}")
        }
        Kind::Number { min, max } => format!("{base}, {min} to {max}"),
        Kind::Size { min, max, .. } if *min > 1 => {
            let show = super::quantity::show_size;
            format!("{base}, {} to {}", show(*min), show(*max))
        }
        _ => base,
    }
}

/// The options of tables within a value.
fn inner_options(kind: &Kind) -> Vec<&'static Opt> {
    match kind {
        Kind::Table(options) | Kind::Choice(options) => options.iter().collect(),
        Kind::List(item) | Kind::Map(item) => inner_options(item),
        Kind::Either(kinds) => kinds.iter().flat_map(inner_options).collect(),
        _ => Vec::new(),
    }
}

fn option(name: &str, users: &[(&'static Descriptor, &'static Opt)]) -> String {
    let mut out = String::new();
    let mut shown: Vec<&'static Opt> = Vec::new();
    for (_, opt) in users {
        let same = |known: &&'static Opt| known.doc == opt.doc && known.default == opt.default;
        if shown.iter().any(same) {
            continue;
        }
        let of = users.iter().filter(|(_, other)| same(other));
        let of: Vec<_> = of
            .map(|(one, _)| format!("{} {}", one.role().word(), one.name))
            .collect();
        describe(opt, "", &mut out);
        wrap(&format!("of {}", of.join(", ")), "    ", &mut out);
        shown.push(opt);
    }
    debug_assert!(!out.is_empty(), "{name} has users");
    out
}

/// The text of `config/reference.toml`: every option of everything, as comments.
pub fn reference(registry: &Registry) -> String {
    let mut out = String::from(
        "# Every option of everything, made by `marline explain --reference`: do not edit.\n\
         #\n\
         # Lines with one `#` are settings with their defaults; `…` stands where there is none.\n\
         # Lines with `##` explain. Keys are closed: what is not here is an error.\n",
    );
    for one in registry.all() {
        out.push('\n');
        reference_of(one, &mut out);
    }
    out
}

fn reference_of(one: &'static Descriptor, out: &mut String) {
    let role = one.role();
    let title = if one.name == role.word() {
        one.name.to_owned()
    } else {
        format!("{} {}", role.word(), one.name)
    };
    let _ = writeln!(out, "## {title}: {}", one.summary);
    for line in one.example.trim().lines() {
        let _ = writeln!(out, "{}", format!("##   {line}").trim_end());
    }
    match role {
        Role::Daemon => out.push_str("# [daemon]\n"),
        Role::Step => {}
        _ => {
            let _ = writeln!(out, "# [{}.NAME]", role.word());
        }
    }
    if matches!(role, Role::Source | Role::Sink) {
        let _ = writeln!(out, "# type = \"{}\"", one.name);
    }
    let prefix = if role == Role::Step { one.name } else { "" };
    for opt in one.all_options() {
        reference_option(prefix, opt, out);
    }
}

fn reference_option(prefix: &str, opt: &Opt, out: &mut String) {
    let name = match (prefix, opt.name) {
        ("", name) => name.to_owned(),
        (step, VALUE) => step.to_owned(),
        (step, name) => format!("{step}.{name}"),
    };
    let needed = if opt.required { "; required" } else { "" };
    wrap(
        &format!("{}{needed}: {}", expected(&opt.kind), opt.doc),
        "##   ",
        out,
    );
    let _ = writeln!(out, "# {name} = {}", opt.default.unwrap_or("…"));
    for inner in inner_options(&opt.kind) {
        let needed = if inner.required { "; required" } else { "" };
        let default = inner
            .default
            .map(|text| format!(", {text} by default"))
            .unwrap_or_default();
        let text = format!(
            "{{ {} }}: {}{needed}{default}: {}",
            inner.name,
            expected(&inner.kind),
            inner.doc
        );
        wrap(&text, "##     ", out);
    }
}

/// Writes `text` in lines of at most [`WIDTH`] columns, each behind `indent`.
fn wrap(text: &str, indent: &str, out: &mut String) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{indent}{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{indent}{line}");
}
