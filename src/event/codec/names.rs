//! What payload after payload has in common is made once: origins, names, regexes.
//!
//! A backlog of millions of events comes from a few sources through a few pipelines. The cache
//! is of fixed size: a name has one place, given by its hash, and who comes later takes it. So a
//! payload full of names costs allocations, as it would without the cache, and nothing grows.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use crate::event::Origin;

/// Places for names, for those of fields, and for origins.
const NAMES: usize = 256;
const KEYS: usize = 256;
const ORIGINS: usize = 256;

/// The longest text that is kept, in bytes: the cache holds at most 384 KiB.
const TEXT_BYTES_MAX: usize = 512;

/// Different regexes within one payload; events carry those that stand in a program.
const REGEXES_MAX: usize = 16;
/// The longest regex that is compiled again, in bytes.
const REGEX_TEXT_BYTES_MAX: usize = 4096;
/// What one may take compiled, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Names that were met in payloads read before.
pub struct NameCache {
    names: Box<[Option<Arc<str>>]>,
    keys: Box<[Option<Arc<String>>]>,
    origins: Box<[Option<Arc<Origin>>]>,
    /// With what became of each; `None` where it did not compile.
    regexes: Vec<(Box<str>, Option<Arc<Regex>>)>,
}

impl Default for NameCache {
    fn default() -> Self {
        NameCache {
            names: vec![None; NAMES].into_boxed_slice(),
            keys: vec![None; KEYS].into_boxed_slice(),
            origins: vec![None; ORIGINS].into_boxed_slice(),
            regexes: Vec::new(),
        }
    }
}

impl fmt::Debug for NameCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameCache")
    }
}

impl NameCache {
    /// A cache that knows nothing yet.
    pub fn new() -> NameCache {
        NameCache::default()
    }

    /// A payload begins: regexes of those before may go.
    pub(super) fn begin(&mut self) {
        if self.regexes.len() == REGEXES_MAX {
            self.regexes.clear();
        }
    }

    pub(super) fn name(&mut self, text: &str) -> Arc<str> {
        if text.len() > TEXT_BYTES_MAX {
            return Arc::from(text);
        }
        let place = &mut self.names[place(text, NAMES)];
        match place {
            Some(known) if **known == *text => Arc::clone(known),
            _ => Arc::clone(place.insert(Arc::from(text))),
        }
    }

    /// The name of a field.
    pub(super) fn key(&mut self, text: &str) -> Arc<String> {
        if text.len() > TEXT_BYTES_MAX {
            return Arc::new(text.to_owned());
        }
        let place = &mut self.keys[place(text, KEYS)];
        match place {
            Some(known) if **known == *text => Arc::clone(known),
            _ => Arc::clone(place.insert(Arc::new(text.to_owned()))),
        }
    }

    pub(super) fn origin(&mut self, source: &str, peer: &str) -> Arc<Origin> {
        let place = place(&(source, peer), ORIGINS);
        if let Some(known) = &self.origins[place]
            && *known.source == *source
            && *known.peer == *peer
        {
            return Arc::clone(known);
        }
        let origin = Arc::new(Origin {
            source: self.name(source),
            peer: Arc::from(peer),
        });
        if source.len() + peer.len() <= TEXT_BYTES_MAX {
            self.origins[place] = Some(Arc::clone(&origin));
        }
        origin
    }

    /// The regex of this text, unless it is beyond the bounds or none at all.
    pub(super) fn regex(&mut self, text: &str) -> Option<Arc<Regex>> {
        if let Some((_, known)) = self.regexes.iter().find(|(known, _)| **known == *text) {
            return known.clone();
        }
        if text.len() > REGEX_TEXT_BYTES_MAX || self.regexes.len() == REGEXES_MAX {
            return None;
        }
        let compiled = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
        let regex = compiled.ok().map(Arc::new);
        self.regexes.push((text.into(), regex.clone()));
        regex
    }
}

fn place(key: &(impl Hash + ?Sized), places: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    (hasher.finish() % places as u64) as usize
}
