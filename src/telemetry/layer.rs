//! The `tracing` layer: events become records and are shown to every observer.
//!
//! A record's level is compared with its component's: the longest entry of the table that is
//! the component or a whole part of its beginning (`source` covers `source.syslog`). Code of
//! other crates never gets below `warn`. A component that is not named by a field is the room
//! of the code.
//!
//! An observer that fails or panics does not keep a record from the others, who are told; one
//! that logs is not heard, so that nothing goes round in circles.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::Context;

use super::record::{Level, Record};
use crate::time::Clock;

/// Someone who wants every record.
pub trait Observer: Send + Sync {
    /// Takes a record; must not wait. An error is reported to the other observers.
    fn observe(&self, record: &Record) -> Result<(), String>;
}

/// Which records are wanted.
#[derive(Clone, Debug)]
pub struct Levels {
    default: Level,
    /// By component, longest first.
    by_component: Vec<(String, Level)>,
}

impl Levels {
    /// `default`, but for the components listed.
    pub fn new(default: Level, mut by_component: Vec<(String, Level)>) -> Levels {
        by_component.sort_by_key(|(component, _)| std::cmp::Reverse(component.len()));
        Levels {
            default,
            by_component,
        }
    }

    /// Whether a record of `component` at `level` is wanted.
    pub fn wants(&self, component: &str, level: Level) -> bool {
        let covers = |prefix: &str| {
            let rest = component.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let found = self.by_component.iter().find(|(prefix, _)| covers(prefix));
        level <= found.map_or(self.default, |(_, level)| *level)
    }

    /// The least important level that anybody wants.
    pub fn widest(&self) -> Level {
        let levels = self.by_component.iter().map(|(_, level)| *level);
        levels.fold(self.default, Level::max)
    }
}

/// The levels in force. They may change at any time.
#[derive(Clone, Debug)]
pub struct LevelSwitch(Arc<RwLock<Levels>>);

impl LevelSwitch {
    /// A switch that stands at `levels`.
    pub fn new(levels: Levels) -> LevelSwitch {
        LevelSwitch(Arc::new(RwLock::new(levels)))
    }

    /// These are in force from now on.
    pub fn set(&self, levels: Levels) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = levels;
        // What is not wanted is known by its callsite, and asked for once.
        tracing::callsite::rebuild_interest_cache();
    }

    fn now(&self) -> RwLockReadGuard<'_, Levels> {
        // Nothing that can panic runs under the lock.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows records to observers.
pub struct Layer {
    levels: LevelSwitch,
    clock: Box<dyn Clock + Send + Sync>,
    observers: Vec<Arc<dyn Observer>>,
}

thread_local! {
    /// Set while this thread is inside the layer.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The name of this crate at the head of a `tracing` target.
const OURS: &str = "marline";

impl Layer {
    /// A layer in front of `observers`.
    pub fn new(
        levels: LevelSwitch,
        clock: Box<dyn Clock + Send + Sync>,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Layer {
        Layer {
            levels,
            clock,
            observers,
        }
    }

    fn handle(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut record = Record {
            time: self.clock.wall(),
            level: Level::from(metadata.level()),
            component: room(metadata.target()).to_owned(),
            event: String::new(),
            message: String::new(),
            fields: Vec::new(),
            callsite: std::ptr::from_ref(metadata).addr(),
        };
        event.record(&mut record);
        if self.levels.now().wants(&record.component, record.level) {
            self.show(&record);
        }
    }

    fn show(&self, record: &Record) {
        let mut faults = Vec::new();
        for (index, observer) in self.observers.iter().enumerate() {
            if let Err(fault) = observe(observer.as_ref(), record) {
                faults.push((index, fault));
            }
        }
        for (failed, fault) in faults {
            let text = format!("a log observer failed: {fault}");
            let report = Record::own(record.time, Level::Error, "log_observer_failed", text);
            let others = self
                .observers
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != failed);
            for (_, other) in others {
                // A fault on a fault has nobody left to hear of it.
                let _ = observe(other.as_ref(), &report);
            }
        }
    }
}

fn observe(observer: &dyn Observer, record: &Record) -> Result<(), String> {
    // Unwind safety: observers hold their state behind locks and atomics.
    catch_unwind(AssertUnwindSafe(|| observer.observe(record)))
        .unwrap_or_else(|_| Err("it panicked".to_owned()))
}

/// `marline::transport::tcp` is of `transport`; other crates go by their own name.
fn room(target: &str) -> &str {
    let mut parts = target.split("::");
    match (parts.next(), parts.next()) {
        (Some(OURS), Some(room)) => room,
        (Some(OURS), None) => "daemon",
        (first, _) => first.unwrap_or(target),
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Layer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = Level::from(metadata.level());
        let is_ours = metadata.target().starts_with(OURS);
        level <= self.levels.now().widest() && (is_ours || level <= Level::Warn)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.levels.now().widest() {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // A thread that is being torn down has no flag any more; its records are lost.
        if INSIDE
            .try_with(|inside| inside.replace(true))
            .unwrap_or(true)
        {
            return;
        }
        // Unwind safety: a record half made is thrown away with the call.
        let _ = catch_unwind(AssertUnwindSafe(|| self.handle(event)));
        let _ = INSIDE.try_with(|inside| inside.set(false));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::time::SystemClock;

    #[derive(Default)]
    struct Seen(Mutex<Vec<Record>>);

    impl Observer for Seen {
        fn observe(&self, record: &Record) -> Result<(), String> {
            tracing::error!("an observer that logs is not heard");
            self.0.lock().expect("no panic inside").push(record.clone());
            Ok(())
        }
    }

    impl Seen {
        fn messages(&self) -> Vec<String> {
            let records = self.0.lock().expect("no panic inside");
            records
                .iter()
                .map(|record| record.message.clone())
                .collect()
        }
    }

    struct Broken(bool);

    impl Observer for Broken {
        fn observe(&self, _: &Record) -> Result<(), String> {
            assert!(!self.0, "by a bug");
            Err("disk full".to_owned())
        }
    }

    fn with(levels: Levels, observers: Vec<Arc<dyn Observer>>, log: impl FnOnce()) {
        let layer = Layer::new(
            LevelSwitch::new(levels),
            Box::new(SystemClock::new()),
            observers,
        );
        tracing::subscriber::with_default(Registry::default().with(layer), log);
    }

    #[test]
    fn c_423_a_broken_observer_harms_no_other() {
        for panics in [false, true] {
            let seen = Arc::new(Seen::default());
            let levels = Levels::new(Level::Info, Vec::new());
            with(levels, vec![Arc::new(Broken(panics)), seen.clone()], || {
                tracing::info!("hello");
            });
            let fault = if panics { "it panicked" } else { "disk full" };
            let report = format!("a log observer failed: {fault}");
            assert_eq!(seen.messages(), ["hello".to_owned(), report]);
        }
    }

    #[test]
    fn levels_go_by_component() {
        let seen = Arc::new(Seen::default());
        let by_component = vec![
            ("source".to_owned(), Level::Error),
            ("source.syslog".to_owned(), Level::Debug),
        ];
        with(
            Levels::new(Level::Info, by_component),
            vec![seen.clone()],
            || {
                tracing::debug!(component = "source.syslog", "1 in");
                tracing::debug!(component = "source.syslog.tcp", "2 in");
                tracing::warn!(component = "source.other", "3 out");
                tracing::info!(component = "sourcerer", "4 in");
                tracing::debug!(component = "sink.a", "5 out");
                tracing::trace!(component = "source.syslog", "6 out");
                tracing::info!(target: "hyper::proto", "7 out");
                tracing::warn!(target: "hyper::proto", "8 in");
            },
        );
        assert_eq!(seen.messages(), ["1 in", "2 in", "4 in", "8 in"]);
    }

    #[test]
    fn c_424_a_record_with_a_bad_field_is_still_a_record() {
        struct Panics;
        impl std::fmt::Display for Panics {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                panic!("in Display")
            }
        }
        let seen = Arc::new(Seen::default());
        with(
            Levels::new(Level::Info, Vec::new()),
            vec![seen.clone()],
            || {
                tracing::info!(bad = %Panics, good = 1, "hello");
                tracing::info!("hello {}", Panics);
            },
        );
        let records = seen.0.lock().expect("no panic inside");
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].message, "hello");
        assert_eq!(records[0].component, "telemetry");
        assert_eq!(records[0].fields[0].1.to_string(), "<unprintable>");
        assert_eq!(records[0].fields[1].1.to_string(), "1");
        assert_eq!(records[1].message, "<unprintable>");
    }
}
