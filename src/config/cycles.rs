//! Pipelines that feed themselves, found along `from`.
//!
//! Each cycle is reported once, at the name that closes it, with its path in the direction in
//! which events flow.

use super::document::Document;
use super::resolve::Resolver;
use super::tree::{Data, Entry};
use super::wiring::inside;
use crate::pipeline::options::Place;

/// Reports every cycle.
pub fn check(document: &Document, resolver: &mut Resolver<'_>) {
    let mut search = Search {
        document,
        done: Vec::new(),
        path: Vec::new(),
        resolver,
    };
    for pipeline in &document.pipelines {
        search.visit(pipeline);
    }
}

/// Depth-first search along `from`.
struct Search<'s, 'd, 'r> {
    document: &'d Document,
    done: Vec<&'d str>,
    /// The pipelines from the start of the search to the one that is visited.
    path: Vec<&'d str>,
    resolver: &'s mut Resolver<'r>,
}

impl<'d> Search<'_, 'd, '_> {
    fn visit(&mut self, pipeline: &'d Entry) {
        if self.done.contains(&pipeline.key.as_str()) {
            return;
        }
        self.path.push(&pipeline.key);
        for (feed, place) in feeds_of(pipeline) {
            if self
                .document
                .sources
                .iter()
                .any(|source| source.key == feed)
            {
                continue;
            }
            if let Some(start) = self.path.iter().position(|name| *name == feed) {
                self.report(start, place);
                continue;
            }
            if let Some(next) = self.document.pipelines.iter().find(|p| p.key == feed) {
                self.visit(next);
            }
        }
        self.path.pop();
        self.done.push(&pipeline.key);
    }

    /// The path runs against the flow: each entry reads from the one behind it.
    fn report(&mut self, start: usize, place: Place) {
        let mut flow: Vec<_> = self.path[start..].iter().rev().copied().collect();
        let message = match flow.as_slice() {
            [only] => format!("pipeline `{only}` reads from itself"),
            _ => {
                flow.insert(0, self.path[start]);
                format!(
                    "the pipelines feed each other in a cycle: {}",
                    flow.join(" -> ")
                )
            }
        };
        let place = inside(place, self.resolver);
        let finding = self.resolver.findings.error(place, message);
        finding.help("take this name out");
    }
}

/// The strings in a pipeline's `from`, with their places.
pub fn feeds_of(pipeline: &Entry) -> impl Iterator<Item = (&str, Place)> {
    let entries = match &pipeline.node.data {
        Data::Table(entries) => entries.as_slice(),
        _ => &[],
    };
    let from = entries.iter().find(|entry| entry.key == "from");
    let items = match from.map(|entry| &entry.node.data) {
        Some(Data::List(items)) => items.as_slice(),
        _ => &[],
    };
    items.iter().filter_map(|item| match &item.data {
        Data::Text(name) => Some((name.as_str(), item.place)),
        _ => None,
    })
}
