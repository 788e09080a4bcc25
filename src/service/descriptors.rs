//! The limit of open descriptors (RLIMIT_NOFILE), and whether it lets in all the connections
//! that the configuration does.
//!
//! The soft limit is raised to the hard one where that is needed. What is still missing is said
//! once, at the start: connections beyond it would be turned away one by one later. A limit
//! that the configuration gives is a promise, and a warning where it cannot be kept; a default
//! is not.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::{Component, Config};
use crate::pipeline::options::{Options, Setting, Value};
use crate::telemetry::events::FewDescriptors;

/// What the daemon holds beside connections and files: standard streams, pollers, wakers,
/// state, name resolution, one spare for when there is no other.
const RESERVE: u64 = 64;
/// Of a sink: the connection it has, and the next one while that one is being closed.
const PER_SINK: u64 = 2;
/// A descriptor that select(2) cannot watch (FD_SETSIZE).
const SELECT_MAX: u64 = 1024;

/// How many descriptors the configuration may come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Need {
    /// For connections of sources whose limit is given.
    promised: u64,
    /// For connections of sources whose limit is the default.
    by_default: u64,
    /// For everything else.
    own: u64,
}

impl Need {
    fn of(config: &Config) -> Need {
        let mut need = Need {
            own: RESERVE,
            ..Need::default()
        };
        for source in &config.sources {
            need.add_source(source);
        }
        for sink in &config.sinks {
            let files = count(&sink.options, "max_open_files").map_or(0, |(files, _)| files);
            need.own = need.own.saturating_add(PER_SINK + files);
        }
        need
    }

    fn add_source(&mut self, source: &Component) {
        // Each address that is listened on or dialled.
        let addresses = ["listen", "addresses", "urls"];
        let settings = source.options.settings().iter();
        let lists = settings.filter(|setting| addresses.contains(&setting.opt.name));
        let own: usize = lists.map(entries).sum();
        self.own = self.own.saturating_add(own as u64);
        match count(&source.options, "max_connections") {
            Some((most, true)) => self.promised = self.promised.saturating_add(most),
            Some((most, false)) => self.by_default = self.by_default.saturating_add(most),
            None => {}
        }
    }

    fn total(self) -> u64 {
        self.promised
            .saturating_add(self.by_default)
            .saturating_add(self.own)
    }

    /// What there is to say where `limit` descriptors may be open; `advice` is how to get more.
    fn judge(self, limit: u64, advice: &'static str) -> Option<FewDescriptors> {
        (self.total() > limit).then(|| FewDescriptors {
            advice,
            connections: self.promised.saturating_add(self.by_default),
            needed: self.total(),
            limit,
            possible: limit.saturating_sub(self.own),
            is_promised: self.promised.saturating_add(self.own) > limit,
        })
    }
}

/// An option that not every component declares, and whether it was given.
fn count(options: &Options, name: &str) -> Option<(u64, bool)> {
    let mut settings = options.settings().iter();
    let setting = settings.find(|setting| setting.opt.name == name)?;
    match setting.value.as_ref()?.value {
        Value::Count(count) => Some((count, setting.given)),
        _ => None,
    }
}

fn entries(setting: &Setting) -> usize {
    match setting.value.as_ref().map(|located| &located.value) {
        Some(Value::List(list)) => list.len(),
        _ => 0,
    }
}

/// Raises the limit as far as it is needed and possible; what is missing then is logged.
pub(super) fn check(config: &Config) {
    let need = Need::of(config);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let mut limit = soft;
    // It may be forbidden to do so (a seccomp filter); then the limit stays what it is.
    if need.total() > soft && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        limit = hard;
    }
    let mut advice = "raise LimitNOFILE= in the unit (ulimit -n in a shell)";
    if config.daemon.word("poller") == "select" && limit > SELECT_MAX {
        limit = SELECT_MAX;
        advice = "choose another daemon.poller than select";
    }
    if let Some(few) = need.judge(limit, advice) {
        few.log();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need {
        promised: 1000,
        by_default: 65_536,
        own: 100,
    };

    #[test]
    fn what_fits_is_not_worth_a_word() {
        assert!(NEED.judge(66_636, "").is_none());
        assert!(NEED.judge(66_635, "").is_some());
    }

    #[test]
    fn only_what_was_given_is_a_promise() {
        let few = NEED.judge(1100, "").expect("65 536 more do not fit");
        assert!(!few.is_promised);
        assert_eq!((few.needed, few.limit, few.possible), (66_636, 1100, 1000));
        let few = NEED.judge(1099, "").expect("one too few");
        assert!(few.is_promised);
        let few = NEED.judge(10, "").expect("not even for itself");
        assert_eq!(few.possible, 0);
    }
}
