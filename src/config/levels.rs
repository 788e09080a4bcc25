//! The keys of `daemon.log.levels`: ids of components, or rooms of the crate.
//!
//! A level for something that does not exist would do nothing, and its author would wait for
//! log records in vain.

use super::document::Document;
use super::resolve::{Resolver, inside};
use super::suggest;
use super::tree::{Data, Entry};

/// What logs without being configured by name, and what stands for all of a kind.
const ROOMS: &[&str] = &[
    "daemon",
    "deferred",
    "reactor",
    "transport",
    "http",
    "buffer",
    "service",
    "telemetry",
    "source",
    "pipeline",
    "sink",
];

/// Reports keys that name nothing.
pub fn check(document: &Document, resolver: &mut Resolver<'_>) {
    let mut known: Vec<String> = ROOMS.iter().map(|room| (*room).to_owned()).collect();
    let kinds = [
        ("source", &document.sources),
        ("pipeline", &document.pipelines),
        ("sink", &document.sinks),
    ];
    for (kind, entries) in kinds {
        known.extend(entries.iter().map(|entry| format!("{kind}.{}", entry.key)));
    }
    let logs = below(&document.daemon, "log");
    for entry in logs.flat_map(|log| below(log, "levels")).flatten() {
        let place = inside(entry.key_place, resolver.files.text(entry.key_place));
        if let Data::Table(inner) = &entry.node.data {
            let id = inner.first().map_or("NAME", |inner| inner.key.as_str());
            let help = format!("write log.levels.\"{}.{id}\"", entry.key);
            resolver
                .findings
                .error(place, "a name with a dot needs quotes")
                .help(help);
            continue;
        }
        if known.contains(&entry.key) {
            continue;
        }
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        let help = match suggest::nearest(&entry.key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known names: {}", known.join(", ")),
        };
        let message = format!("nothing called `{}` writes to the log", entry.key);
        resolver
            .findings
            .error(place, message)
            .help(help)
            .may_follow();
    }
}

/// The entries of all tables with that key.
fn below<'e>(entries: &'e [Entry], key: &'e str) -> impl Iterator<Item = &'e [Entry]> {
    let named = entries.iter().filter(move |entry| entry.key == key);
    named.filter_map(|entry| match &entry.node.data {
        Data::Table(inner) => Some(inner.as_slice()),
        _ => None,
    })
}
