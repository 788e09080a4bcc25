//! The JSON schema of a configuration, for editors: `marline explain --schema`.
//!
//! Draft 2020-12. It knows keys, types and words, not what only the check can see: names that
//! exist, addresses, conditions.

use serde_json::{Map, Value as Json, json};

use super::Registry;
use super::daemon::{DAEMON, PIPELINE};
use crate::pipeline::descriptor::{Descriptor, Kind, Opt, Role};

/// The schema.
pub fn schema(registry: &Registry) -> String {
    let sources: Vec<_> = registry
        .of(Role::Source)
        .iter()
        .map(|one| table(one))
        .collect();
    let sinks: Vec<_> = registry
        .of(Role::Sink)
        .iter()
        .map(|one| table(one))
        .collect();
    let steps: Vec<_> = registry
        .of(Role::Step)
        .iter()
        .map(|one| step(one))
        .collect();
    let mut pipeline = table(&PIPELINE);
    pipeline["properties"]["steps"] = json!({ "type": "array", "items": { "oneOf": steps } });
    let named = |item: Json| json!({ "type": "object", "additionalProperties": item });
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "marline",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "daemon": table(&DAEMON),
            "source": named(json!({ "oneOf": sources })),
            "pipeline": named(pipeline),
            "sink": named(json!({ "oneOf": sinks })),
        },
    });
    format!("{schema:#}\n")
}

fn table(one: &'static Descriptor) -> Json {
    let options: Vec<_> = one.all_options().collect();
    let mut table = object(&options);
    table["description"] = json!(one.summary);
    if matches!(one.role(), Role::Source | Role::Sink) {
        table["properties"]["type"] = json!({ "const": one.name });
        if let Some(required) = table["required"].as_array_mut() {
            required.push(json!("type"));
        }
    }
    table
}

fn step(one: &'static Descriptor) -> Json {
    let value = if one.takes_plain_value() {
        value(&one.options[0].kind)
    } else {
        object(&one.all_options().collect::<Vec<_>>())
    };
    json!({
        "type": "object",
        "description": one.summary,
        "properties": { one.name: value, "if": { "type": "string" } },
        "required": [one.name],
        "additionalProperties": false,
    })
}

/// A closed table; dotted names become tables in it.
fn object(options: &[&Opt]) -> Json {
    let mut root = json!({
        "type": "object", "properties": {}, "additionalProperties": false, "required": [],
    });
    for opt in options {
        insert(&mut root, opt.name, opt);
    }
    root
}

fn insert(table: &mut Json, name: &str, opt: &Opt) {
    let required = table["required"].as_array_mut().filter(|_| opt.required);
    let head = name.split('.').next().unwrap_or(name);
    if let Some(required) = required
        && !required.contains(&json!(head))
    {
        required.push(json!(head));
    }
    let Some((head, rest)) = name.split_once('.') else {
        let mut inner = value(&opt.kind);
        inner["description"] = json!(opt.doc);
        table["properties"][name] = inner;
        return;
    };
    if table["properties"].get(head).is_none() {
        table["properties"][head] = object(&[]);
    }
    insert(&mut table["properties"][head], rest, opt);
}

fn value(kind: &Kind) -> Json {
    let text = json!({ "type": "string" });
    let with_words = |base: Json, words: &[&str]| match words {
        [] => base,
        _ => json!({ "anyOf": [base, { "enum": words }] }),
    };
    match kind {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count { min, max, words } => with_words(
            json!({ "type": "integer", "minimum": min, "maximum": max }),
            words,
        ),
        Kind::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Duration { .. } | Kind::Size { .. } | Kind::Rate => text,
        Kind::Text(_) | Kind::Path | Kind::File { .. } => {
            json!({ "anyOf": [text, reference(&["env"])] })
        }
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Secret => reference(&["env", "file", "credential"]),
        Kind::Any => json!({}),
        Kind::List(item) => json!({ "type": "array", "items": value(item) }),
        Kind::Map(item) => json!({ "type": "object", "additionalProperties": value(item) }),
        Kind::Table(options) => object(&options.iter().collect::<Vec<_>>()),
        Kind::Choice(options) => {
            let mut choice = object(&options.iter().collect::<Vec<_>>());
            choice["minProperties"] = json!(1);
            choice["maxProperties"] = json!(1);
            choice
        }
        Kind::Either(kinds) => {
            json!({ "anyOf": kinds.iter().map(value).collect::<Vec<_>>() })
        }
    }
}

/// A table that names the place of a value.
fn reference(places: &[&str]) -> Json {
    let mut properties = Map::new();
    for place in places {
        properties.insert((*place).to_owned(), json!({ "type": "string" }));
    }
    json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    })
}
